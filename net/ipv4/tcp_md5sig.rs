//! Signatures of segments (RFC 2385): both peers know a key, and take no segment without it.
//!
//! linux: net/ipv4/tcp_ipv4.c (`tcp_md5_do_add`, `tcp_v4_md5_hash_skb`), net/ipv4/tcp.c (`tcp_inbound_hash`). Key type:
//! [`TcpMd5sigKey`]. Contexts: options by tasks; BH, under the socket's lock where it says so. Invariants: keys lie
//! under the socket's lock and are bounded by `net.core.optmem_max`; a request and a TIME_WAIT have a copy of their
//! peer's; no key is shown.
//! DIVERGES: a reset of no socket's is signed by the listener at the port that the segment came to; Linux looks at the
//! one that it came from. A handshake goes on with the key of its SYN.

use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{SkBuff, Skb};
use crate::net::core::sock::{Sock, SockState};
use crate::net::ipv4::tcp::TcpSk;
use crate::net::ipv4::tcp_input::each_option;
use md5::{Digest, Md5};
use std::fmt;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::ip::{IPPROTO_TCP, IpHdr};
use uapi::snmp::LinuxMib;
use uapi::socket::AF_INET;
use uapi::tcp::{
    TCP_MD5SIG_EXT, TCP_MD5SIG_FLAG_IFINDEX, TCP_MD5SIG_FLAG_PREFIX, TCP_MD5SIG_LEN,
    TCP_MD5SIG_MAXKEYLEN, TCPOLEN_MD5SIG, TCPOPT_MD5SIG, TcpHdr,
};
use zerocopy::{FromBytes, IntoBytes};

/// Octets of the option with its padding.
pub(crate) const TCPOLEN_MD5SIG_ALIGNED: usize = 20;
/// What a key is charged with, as in Linux.
const KEY_SIZE: usize = 136;

/// A signature.
type Signature = [u8; 16];

/// A key for the peers of a network.
///
/// linux: include/net/tcp.h:tcp_md5sig_key
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct TcpMd5sigKey {
    addr: u32,
    prefixlen: u8,
    key: Box<[u8]>,
}

impl fmt::Debug for TcpMd5sigKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addr = std::net::Ipv4Addr::from(self.addr);
        write!(f, "TcpMd5sigKey({addr}/{})", self.prefixlen)
    }
}

impl TcpMd5sigKey {
    fn serves(&self, addr: u32) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefixlen)).unwrap_or(0);
        (self.addr ^ addr) & mask == 0
    }

    /// The signature of a segment of `len` octets between two addresses: over the pseudo header, the header without
    /// options and checksum, the data, the key (RFC 2385 section 2.0).
    ///
    /// linux: net/ipv4/tcp_ipv4.c:tcp_v4_md5_hash_skb
    pub(crate) fn sign<'a>(
        &self,
        (saddr, daddr): (u32, u32),
        th: &TcpHdr,
        len: usize,
        data: impl Iterator<Item = &'a [u8]>,
    ) -> Signature {
        let mut md5 = Md5::new();
        md5.update([saddr.to_be_bytes(), daddr.to_be_bytes()].concat());
        md5.update([0, IPPROTO_TCP, (len >> 8) as u8, len as u8]);
        md5.update(TcpHdr { check: 0.into(), ..*th }.as_bytes());
        data.for_each(|part| md5.update(part));
        md5.update(&self.key);
        md5.finalize().into()
    }

    /// Of a segment in a packet whose data begins with the TCP header.
    fn sign_skb(&self, addrs: (u32, u32), skb: &SkBuff) -> Option<Signature> {
        let (th, _) = TcpHdr::read_from_prefix(skb.data()).ok()?;
        let mut skip = th.doff();
        let data = skb.parts().map(move |part| {
            let cut = skip.min(part.len());
            skip -= cut;
            &part[cut..]
        });
        Some(self.sign(addrs, &th, skb.len(), data))
    }
}

impl SockState {
    /// The key for a peer: that of the smallest network, the latest of several.
    ///
    /// linux: net/ipv4/tcp_ipv4.c:__tcp_md5_do_lookup
    pub(crate) fn tcp_md5_do_lookup(&self, addr: u32) -> Option<&TcpMd5sigKey> {
        let keys = self.rare()?.md5sig_info.iter();
        keys.filter(|key| key.serves(addr)).max_by_key(|key| key.prefixlen)
    }

    /// A key more, in place of one for the same network.
    fn tcp_md5_do_add(&mut self, new: TcpMd5sigKey, optmem_max: u32) -> Result<(), Errno> {
        let rare = self.rare_mut();
        let same = |key: &&mut TcpMd5sigKey| (key.addr, key.prefixlen) == (new.addr, new.prefixlen);
        if let Some(old) = rare.md5sig_info.iter_mut().find(same) {
            *old = new;
            return Ok(());
        }
        if !rare.sock_kmalloc(KEY_SIZE, optmem_max) {
            return Err(Errno::ENOMEM);
        }
        rare.md5sig_info.push(new);
        Ok(())
    }

    fn tcp_md5_do_del(&mut self, addr: u32, prefixlen: u8) -> Result<(), Errno> {
        let rare = self.rare_mut();
        let same = |key: &TcpMd5sigKey| (key.addr, key.prefixlen) == (addr, prefixlen);
        let at = rare.md5sig_info.iter().position(same).ok_or(Errno::ENOENT)?;
        rare.md5sig_info.remove(at);
        rare.sock_kfree(KEY_SIZE);
        Ok(())
    }
}

/// Adds a key, or takes one away: the bytes of a `tcp_md5sig`.
///
/// # Errors
/// EINVAL for one too short, a peer of another family, a key or a network too long, a device that is no router of its
/// own; ENOENT for a key to be taken away that is not there; ENOMEM for too many.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_parse_md5_keys
pub(crate) fn tcp_v4_parse_md5_keys(
    cx: &BhCx<'_>,
    sk: &mut TcpSk<'_>,
    (name, value): (i32, &[u8]),
) -> Result<(), Errno> {
    const ADDR: usize = 128;
    let cmd = value.get(..TCP_MD5SIG_LEN).ok_or(Errno::EINVAL)?;
    let family = u16::from_ne_bytes([cmd[0], cmd[1]]);
    if i32::from(family) != AF_INET {
        return Err(Errno::EINVAL);
    }
    let addr = u32::from_be_bytes([cmd[4], cmd[5], cmd[6], cmd[7]]);
    let extended = |flag| name == TCP_MD5SIG_EXT && cmd[ADDR] & flag != 0;
    let prefixlen = if extended(TCP_MD5SIG_FLAG_PREFIX) { cmd[ADDR + 1] } else { 32 };
    let ifindex = i32::from_ne_bytes([cmd[132], cmd[133], cmd[134], cmd[135]]);
    // There are no devices that have tables of their own.
    if prefixlen > 32 || ifindex != 0 && extended(TCP_MD5SIG_FLAG_IFINDEX) {
        return Err(Errno::EINVAL);
    }
    match usize::from(u16::from_ne_bytes([cmd[ADDR + 2], cmd[ADDR + 3]])) {
        0 => {
            sk.st.tcp_md5_do_del(addr, prefixlen)?;
            let left = sk.st.rare().is_some_and(|rare| !rare.md5sig_info.is_empty());
            sk.tp.md5 = left;
            Ok(())
        }
        TCP_MD5SIG_TOO_LONG.. => Err(Errno::EINVAL),
        len => {
            let key = cmd[ADDR + 8..][..len].into();
            let key = TcpMd5sigKey { addr, prefixlen, key };
            sk.st.tcp_md5_do_add(key, cx.t.net.sysctl.optmem_max)?;
            sk.tp.md5 = true;
            Ok(())
        }
    }
}

/// A key can't be as long as that.
const TCP_MD5SIG_TOO_LONG: usize = TCP_MD5SIG_MAXKEYLEN + 1;

/// A connection that a listener accepts has its key for that peer, alone.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_md5_key_copy
pub(crate) fn tcp_md5_key_copy(cx: &BhCx<'_>, sk: &mut TcpSk<'_>, from: &TcpMd5sigKey) -> bool {
    let key = TcpMd5sigKey { addr: sk.st.inet.daddr, prefixlen: 32, key: from.key.clone() };
    let copied = sk.st.tcp_md5_do_add(key, cx.t.net.sysctl.optmem_max).is_ok();
    sk.tp.md5 = copied;
    copied
}

/// The signature that a segment has.
///
/// # Errors
/// It has several.
fn signature_of(skb: &SkBuff) -> Result<Option<Signature>, DropReason> {
    let Ok((th, rest)) = TcpHdr::ref_from_prefix(skb.data()) else { return Ok(None) };
    let len = th.doff().saturating_sub(size_of::<TcpHdr>());
    let options = rest.get(..len).unwrap_or(&[]);
    // Hardly a segment is signed, and each is asked: most have no room for it.
    if options.len() < TCPOLEN_MD5SIG.into() || !options.contains(&TCPOPT_MD5SIG) {
        return Ok(None);
    }
    let options = each_option(options);
    let mut signatures =
        options.filter(|(kind, value)| *kind == TCPOPT_MD5SIG && value.len() == 16);
    let first = signatures.next().and_then(|(_, value)| value.try_into().ok());
    if signatures.next().is_some() { Err(DropReason::TcpAuthHdr) } else { Ok(first) }
}

/// A segment, whose packet's data begins with the TCP header, is signed as it must be: with the key of its peer, or
/// not at all.
///
/// # Errors
/// Why it is not to be taken.
///
/// linux: net/ipv4/tcp.c:tcp_inbound_hash, tcp_inbound_md5_hash
#[cold]
pub(crate) fn tcp_inbound_md5_hash(
    cx: &mut BhCx<'_>,
    key: Option<&TcpMd5sigKey>,
    skb: &SkBuff,
) -> Result<(), DropReason> {
    let (reason, mib) = match (key, signature_of(skb)?) {
        (None, None) => return Ok(()),
        (Some(_), None) => (DropReason::TcpMd5NotFound, LinuxMib::TCPMD5NotFound),
        (None, Some(_)) => (DropReason::TcpMd5Unexpected, LinuxMib::TCPMD5Unexpected),
        (Some(key), Some(theirs)) if signed(key, skb, &theirs) => return Ok(()),
        (Some(_), Some(_)) => (DropReason::TcpMd5Failure, LinuxMib::TCPMD5Failure),
    };
    cx.count(mib);
    Err(reason)
}

/// The same of a socket's segment, by its source.
#[cold]
pub(crate) fn tcp_inbound_hash(
    cx: &mut BhCx<'_>,
    st: &SockState,
    skb: &SkBuff,
) -> Result<(), DropReason> {
    let peer = skb.network::<IpHdr>().map_or(0, |iph| iph.saddr.get());
    tcp_inbound_md5_hash(cx, st.tcp_md5_do_lookup(peer), skb)
}

/// It is the signature of this key. How long that takes says nothing of where they differ.
fn signed(key: &TcpMd5sigKey, skb: &SkBuff, theirs: &Signature) -> bool {
    let addrs = skb.network::<IpHdr>().map(|iph| (iph.saddr.get(), iph.daddr.get()));
    let Some(ours) = addrs.and_then(|addrs| key.sign_skb(addrs, skb)) else { return false };
    let differ = ours.iter().zip(theirs).fold(0, |differ, (a, b)| differ | (a ^ b));
    std::hint::black_box(differ) == 0
}

/// Whether a segment of nobody's is signed by a listener's key, which then signs the answer: `Ok(None)`, it is not
/// signed at all.
///
/// # Errors
/// It is, and not by such a key: it gets no answer.
pub(crate) fn key_of_stranger(
    skb: &SkBuff,
    listener: impl FnOnce() -> Option<Arc<Sock>>,
) -> Result<Option<TcpMd5sigKey>, DropReason> {
    let Some(theirs) = signature_of(skb)? else { return Ok(None) };
    let peer = skb.network::<IpHdr>().map_or(0, |iph| iph.saddr.get());
    let key = listener().and_then(|sk| sk.state().tcp_md5_do_lookup(peer).cloned());
    key.filter(|key| signed(key, skb, &theirs)).map(Some).ok_or(DropReason::TcpMd5Failure)
}

/// Signs a segment that is complete but for its checksum, in the place that its options keep for that.
#[cold]
pub(crate) fn calc_md5_hash(sk: &TcpSk<'_>, skb: &mut Skb) {
    const PLACE: usize = size_of::<TcpHdr>() + 4;
    let addrs = (sk.st.inet.saddr, sk.st.inet.daddr);
    let key = sk.st.tcp_md5_do_lookup(addrs.1);
    let signature = key.and_then(|key| key.sign_skb(addrs, skb));
    if let Some(signature) = signature
        && let Some(place) = skb.data_mut().and_then(|data| data.get_mut(PLACE - 2..PLACE + 16))
        && place[..2] == [TCPOPT_MD5SIG, TCPOLEN_MD5SIG]
    {
        place[2..].copy_from_slice(&signature);
    }
}

#[cfg(test)]
mod tests;
