//! Marks of congestion in IP's header (RFC 3168).
//!
//! linux: include/net/inet_ecn.h. Contexts: any.

use crate::net::core::skbuff::SkBuff;
use klib::checksum::csum_replace2;
use uapi::if_ether::ETH_P_IP;
use uapi::ip::{INET_ECN_CE, INET_ECN_MASK, INET_ECN_NOT_ECT, IpHdr};
use zerocopy::FromBytes;

/// Marks a packet whose ends understand that; false where they do not, or where its header is a clone's.
///
/// linux: include/net/inet_ecn.h:INET_ECN_set_ce
#[doc(alias = "INET_ECN_set_ce")]
pub fn inet_ecn_set_ce(skb: &mut SkBuff) -> bool {
    let Ok(at) = usize::try_from(skb.network_offset()) else { return false };
    if skb.protocol != ETH_P_IP {
        return false;
    }
    let header = skb.data_mut().and_then(|data| data.get_mut(at..));
    let Some(Ok((iph, _))) = header.map(IpHdr::mut_from_prefix) else { return false };
    let (old, ecn) = (iph.tos, iph.tos & INET_ECN_MASK);
    if ecn == INET_ECN_NOT_ECT {
        return false;
    }
    iph.tos |= INET_ECN_CE;
    let words = [old, iph.tos].map(|tos| u16::from_be_bytes([iph.version_ihl, tos]));
    iph.check.set(csum_replace2(iph.check.get(), words[0], words[1]));
    true
}
