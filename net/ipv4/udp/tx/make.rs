//! A message becomes a packet. Context: BH.
//!
//! linux: net/ipv4/udp.c (`udp_send_skb`), net/ipv4/ip_output.c (`ip_make_skb`).

use super::fragments::{fits_mtu, make_fragments};
use super::gso::{gso_of_message, make_segments};
use super::{Csum, Plan, copy_from_iter, iov_length};
use crate::kernel::context::BhCx;
use crate::net::core::skbuff::{Cb, IpSummed, Skb};
use crate::net::core::sock::Sock;
use crate::net::core::timestamping::sock_tx_timestamp;
use crate::net::ipv4::InetSkbParm;
use crate::net::ipv4::ip_options::with_options;
use crate::net::ipv4::ip_output::{ip_make_skb, ip_sk_use_pmtu};
use klib::checksum::{csum_add, csum_fold, csum_partial};
use std::io::IoSlice;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::net_tstamp::SOF_TIMESTAMPING_TX_RECORD_MASK;
use uapi::udp::UdpHdr;
use zerocopy::IntoBytes;

/// Makes a datagram of `len` bytes that `getfrag` writes. It has no route and nobody is charged.
#[inline(always)]
pub(super) fn make_datagram(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    plan: &Plan,
    len: usize,
    getfrag: impl FnOnce(&mut [u8]) -> Result<(), Errno>,
) -> Result<Skb, Errno> {
    let send = &plan.send;
    let mut skb = ip_make_skb(cx, &plan.make, len, |parts| {
        if send.connected {
            parts.iph.id.set(sk.next_ident());
        }
        let ulen = (size_of::<UdpHdr>() + len) as u16;
        parts.transport.len.set(ulen);
        getfrag(parts.payload)?;
        let pseudo = csum_add(plan.pseudo, ulen.into());
        parts.transport.check.set(match plan.csum {
            Csum::None => 0,
            // The device adds the sum over the rest to that of the pseudo header.
            Csum::Partial => !csum_fold(pseudo),
            Csum::Software => udp_csum(pseudo, parts.transport, parts.payload),
        });
        Ok(())
    })?;
    finish(cx, sk, &mut skb, plan, plan.csum);
    Ok(skb)
}

/// Makes the packet of a message that may be more than a datagram: segments, or one that is to be cut.
#[inline(never)]
pub(super) fn make_odd(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    plan: &Plan,
    payload: &[IoSlice<'_>],
) -> Result<Skb, Errno> {
    let len = iov_length(payload);
    let made = if gso_of_message(plan, len)? {
        make_segments(cx, sk, plan, payload)
    } else if !fits_mtu(plan, len) {
        make_fragments(cx, sk, plan, payload)
    } else {
        make_datagram(cx, sk, plan, len, |to| copy_from_iter(payload, to))
    };
    made.and_then(|skb| with_options(cx, skb, plan.target.as_ref()))
}

/// What is known of a datagram beside its octets.
#[inline(always)]
pub(super) fn finish(cx: &mut BhCx<'_>, sk: &Arc<Sock>, skb: &mut Skb, plan: &Plan, csum: Csum) {
    let send = &plan.send;
    if csum == Csum::Partial {
        skb.ip_summed = IpSummed::Partial;
        skb.csum_start = skb.transport_header;
        skb.csum_offset = 6;
    }
    skb.priority = send.priority;
    skb.mark = send.flow.mark;
    if send.tsflags & SOF_TIMESTAMPING_TX_RECORD_MASK != 0 {
        sock_tx_timestamp(cx, sk, skb, (send.tsflags, send.ts_opt_id));
    }
    if plan.noted {
        let (mc_loop, dev_mtu) = (send.mc_loop, !ip_sk_use_pmtu(send.pmtudisc));
        skb.cb = Cb::Inet(InetSkbParm { mc_loop, dev_mtu, ..InetSkbParm::default() });
    }
}

/// The checksum of a datagram whose device can't fill it in; `pseudo`: the sum over the pseudo
/// header.
///
/// linux: include/net/udp.h:udp_csum
fn udp_csum(pseudo: u32, header: &UdpHdr, payload: &[u8]) -> u16 {
    // RFC 768: zero says "no checksum", so a computed zero goes out as all ones.
    match csum_fold(csum_partial(payload, csum_partial(header.as_bytes(), pseudo))) {
        0 => 0xffff,
        check => check,
    }
}
