//! Options of a packet that leaves.
//!
//! linux: net/ipv4/ip_options.c (`ip_options_build`). Context: BH.
//! DIVERGES: a packet is made without options, and they are put in between afterwards: packets without any pay nothing
//! for those that have some.

use super::{IpOptionsRcu, OptFlags};
use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{Skb, kfree_skb, skb_cow_head};
use crate::net::ipv4::ip_output::LL_RESERVED;
use klib::checksum::ip_fast_csum;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::ip::{IP_HDR_LEN, IpHdr};
use zerocopy::FromBytes;

/// Options that packets get, and where these go in the end, whatever hops are before.
#[derive(Clone, Debug)]
pub(crate) struct IpTarget {
    /// The options.
    pub opt: Arc<IpOptionsRcu>,
    /// The end of their way.
    pub daddr: u32,
}

impl IpTarget {
    /// Octets of the options.
    pub(crate) fn len(&self) -> usize {
        self.opt.len()
    }

    /// Where a packet goes first.
    pub(crate) fn first_hop(&self) -> u32 {
        self.opt.first_hop(self.daddr)
    }

    /// Each hop is to be on a link of the one before.
    pub(crate) fn is_strictroute(&self) -> bool {
        self.opt.is_strictroute()
    }

    /// What these options leave of an MTU for the rest of a packet.
    pub(crate) fn rest_of(&self, mtu: u32) -> u32 {
        mtu.saturating_sub(self.len() as u32)
    }
}

/// Milliseconds since midnight UT.
///
/// linux: net/ipv4/af_inet.c:inet_current_timestamp
pub(crate) fn inet_current_timestamp(cx: &BhCx<'_>) -> u32 {
    (cx.m.ktime_get_real() / 1_000_000 % 86_400_000) as u32
}

/// Puts options behind the header of a packet, whose data begins with it and which has none.
///
/// # Errors
/// ENOBUFS without memory; the packet is as before.
///
/// linux: net/ipv4/ip_options.c:ip_options_build
#[cold]
#[inline(never)]
pub(crate) fn ip_options_build(
    cx: &mut BhCx<'_>,
    skb: &mut Skb,
    target: &IpTarget,
) -> Result<(), Errno> {
    walk!(cx, skb, ip_options_build => target.len() as u64);
    let IpTarget { opt, daddr } = target;
    let len = opt.len();
    if len == 0 {
        return Ok(());
    }
    if !skb_cow_head(cx, skb, LL_RESERVED + len) {
        return Err(Errno::ENOBUFS);
    }
    let time = inet_current_timestamp(cx);
    skb.skb_push(len).ok_or(Errno::ENOBUFS)?;
    skb.reset_network_header();
    let header = skb.data_mut().and_then(|data| data.get_mut(..IP_HDR_LEN + len));
    let header = header.ok_or(Errno::ENOBUFS)?;
    header.copy_within(len.., 0);
    header[IP_HDR_LEN..].copy_from_slice(opt.data());
    fill_in(header, opt, (*daddr, time));
    let Ok((iph, _)) = IpHdr::mut_from_prefix(header) else { return Err(Errno::ENOBUFS) };
    iph.set_ihl(IP_HDR_LEN + len);
    // That of one which devices cut, and that is longer than the field tells, is zero.
    let total =
        if iph.tot_len.get() == 0 { None } else { iph.tot_len.get().checked_add(len as u16) };
    iph.tot_len.set(total.unwrap_or(0));
    iph.check.set(0);
    let check = ip_fast_csum(header);
    header[10..12].copy_from_slice(&check.to_be_bytes());
    Ok(())
}

/// The same for a packet that may have none to get; without memory for them it ends.
///
/// # Errors
/// ENOBUFS.
#[inline]
pub(crate) fn with_options(
    cx: &mut BhCx<'_>,
    skb: Skb,
    target: Option<&IpTarget>,
) -> Result<Skb, Errno> {
    match target {
        None => Ok(skb),
        Some(target) => add(cx, skb, target),
    }
}

#[cold]
fn add(cx: &mut BhCx<'_>, mut skb: Skb, target: &IpTarget) -> Result<Skb, Errno> {
    match ip_options_build(cx, &mut skb, target) {
        Ok(()) => Ok(skb),
        Err(error) => {
            kfree_skb(cx, skb, DropReason::NoMem);
            Err(error)
        }
    }
}

/// The end of the source route, our address and the time.
fn fill_in(header: &mut [u8], opt: &IpOptionsRcu, (daddr, time): (u32, u32)) {
    let IpOptionsRcu { opt, .. } = opt;
    let source = header[12..16].first_chunk().map_or(0, |addr| u32::from_be_bytes(*addr));
    if opt.srr != 0 {
        let len = header[usize::from(opt.srr) + 1];
        put(header, opt.srr, (len + 1, 4), daddr);
    }
    let pointer = |place: u8| header[usize::from(place) + 2];
    let (rr, ts) = (pointer(opt.rr), pointer(opt.ts));
    if opt.flags.contains(OptFlags::RR_NEEDADDR) {
        put(header, opt.rr, (rr, 4), source);
    }
    if opt.flags.contains(OptFlags::TS_NEEDADDR) {
        put(header, opt.ts, (ts, 8), source);
    }
    if opt.flags.contains(OptFlags::TS_NEEDTIME) {
        put(header, opt.ts, (ts, 4), time);
    }
}

/// Writes a word so many octets before the place that a pointer of an option names.
fn put(header: &mut [u8], option: u8, (pointer, before): (u8, u8), word: u32) {
    // Pointers count from one.
    let at = (usize::from(option) + usize::from(pointer)).saturating_sub(1 + usize::from(before));
    if let Some(room) = header.get_mut(at..at + 4) {
        room.copy_from_slice(&word.to_be_bytes());
    }
}
