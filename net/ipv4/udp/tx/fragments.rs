//! Datagrams longer than the MTU. Context: BH.
//!
//! linux: net/ipv4/udp.c (`udp_send_skb`), net/ipv4/ip_output.c (`ip_make_skb`).

use super::make::finish;
use super::{Csum, HEADERS, Plan};
use crate::kernel::context::BhCx;
use crate::net::core::skbuff::{Skb, skb_truesize};
use crate::net::core::sock::Sock;
use crate::net::ipv4::ip_output::ip_append_data;
use klib::checksum::{csum_add, csum_fold};
use std::io::IoSlice;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::ip::IpHdr;
use uapi::udp::UdpHdr;
use zerocopy::FromBytes;

/// A datagram of `len` octets needs no cutting.
#[inline(always)]
pub(super) fn fits_mtu(plan: &Plan, len: usize) -> bool {
    HEADERS + len <= plan.make.mtu as usize
}

/// The send buffer has room for a datagram's fragments: each but the first needs it to hold no more than twice of what
/// it may, whatever there was before the first.
///
/// linux: net/ipv4/ip_output.c:__ip_append_data
#[cold]
pub(super) fn has_room(sk: &Sock, plan: &Plan, len: usize) -> bool {
    let space = (plan.make.mtu as usize).saturating_sub(size_of::<IpHdr>()) & !7;
    let pieces = (size_of::<UdpHdr>() + len).div_ceil(space.max(8));
    let before_the_last = pieces.saturating_sub(1) * skb_truesize(space);
    sk.wmem_alloc() + before_the_last <= 2 * sk.sndbuf()
}

/// Makes a datagram that is to be cut on its way out. Its sum is computed here: no device sums what it gets in pieces.
#[cold]
#[inline(never)]
pub(super) fn make_fragments(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    plan: &Plan,
    payload: &[IoSlice<'_>],
) -> Result<Skb, Errno> {
    let len: usize = payload.iter().map(|part| part.len()).sum();
    let ident = plan.send.connected.then(|| sk.next_ident());
    let mut left = Iov { parts: payload, at: 0 };
    let mut skb = ip_append_data(cx, &plan.make, (len, ident), &mut |_, to| {
        left.copy(to);
        Ok(())
    })?;
    let ulen = (size_of::<UdpHdr>() + len) as u16;
    set(&mut skb, |udph| udph.len.set(ulen));
    if plan.csum != Csum::None {
        let pseudo = csum_add(plan.pseudo, ulen.into());
        let check = match csum_fold(skb.skb_checksum(size_of::<IpHdr>(), pseudo)) {
            // RFC 768: zero says "no checksum", so a computed zero goes out as all ones.
            0 => 0xffff,
            check => check,
        };
        set(&mut skb, |udph| udph.check.set(check));
    }
    finish(cx, sk, &mut skb, plan, Csum::Software);
    Ok(skb)
}

/// Changes the header, which lies behind that of IP.
fn set(skb: &mut Skb, change: impl FnOnce(&mut UdpHdr)) {
    let behind = skb.data_mut().and_then(|data| data.get_mut(size_of::<IpHdr>()..));
    if let Some((udph, _)) = behind.and_then(|udp| UdpHdr::mut_from_prefix(udp).ok()) {
        change(udph);
    }
}

/// A message that is copied piece by piece.
struct Iov<'a> {
    parts: &'a [IoSlice<'a>],
    /// Octets of the first part that were copied.
    at: usize,
}

impl Iov<'_> {
    fn copy(&mut self, mut to: &mut [u8]) {
        while let [part, others @ ..] = self.parts
            && !to.is_empty()
        {
            let from = &part[self.at..];
            let here = from.len().min(to.len());
            let (room, rest) = to.split_at_mut(here);
            room.copy_from_slice(&from[..here]);
            to = rest;
            self.at += here;
            if self.at == part.len() {
                (self.parts, self.at) = (others, 0);
            }
        }
    }
}
