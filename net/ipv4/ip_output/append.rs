//! Datagrams longer than the MTU: made in the pieces in which they leave.
//!
//! linux: net/ipv4/ip_output.c (`__ip_append_data`, `__ip_make_skb`). Context: BH.
//! Invariant: what is made here is cut by putting headers in front ([`super::fragment`]), unless the MTU is another by then.

use super::{IpMakeSkb, LL_RESERVED, ip_select_ident, parts};
use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{Skb, alloc_skb, kfree_skb};
use klib::checksum::ip_fast_csum;
use uapi::errno::Errno;
use uapi::if_ether::ETH_P_IP;
use uapi::ip::{IP_DF, IpHdr};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Makes a datagram that is to be cut: its IP header, its transport header as it is, and `length` octets behind them,
/// which `getfrag` writes piece by piece, told where each begins. `ident`: its identification, if the sender sets it
/// itself. The data begins with the IP header. It has no route.
///
/// # Errors
/// EMSGSIZE over 65,535 octets, or when the MTU has no room for a piece; ENOBUFS without memory; those of `getfrag`.
///
/// linux: net/ipv4/ip_output.c:ip_append_data
#[cold]
#[inline(never)]
pub(crate) fn ip_append_data<T>(
    cx: &mut BhCx<'_>,
    make: &IpMakeSkb<T>,
    (length, ident): (usize, Option<u16>),
    getfrag: &mut dyn FnMut(usize, &mut [u8]) -> Result<(), Errno>,
) -> Result<Skb, Errno>
where
    T: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned,
{
    const HLEN: usize = size_of::<IpHdr>();
    let total = HLEN + size_of::<T>() + length;
    // Octets of payload in each piece but the last.
    let space = (make.mtu as usize).saturating_sub(HLEN) & !7;
    if total > 65_535 || space < 8 || space < size_of::<T>() {
        return Err(Errno::EMSGSIZE);
    }
    let first = length.min(space - size_of::<T>());
    let mut skb = head(cx, make, (first, total), ident, getfrag)?;
    cx.watch(&mut skb);
    walk!(cx, skb, ip_make_skb);
    let mut at = first;
    while at < length {
        let len = space.min(length - at);
        match piece(cx, len, |to| getfrag(at, to)) {
            Ok(frag) => {
                skb.len += frag.len;
                skb.data_len += frag.len;
                skb.truesize += frag.truesize;
                skb.frag_list.get_or_insert_with(|| cx.skb_list()).push(frag);
            }
            Err(error) => {
                kfree_skb(cx, skb, DropReason::UcopyFault);
                return Err(error);
            }
        }
        at += len;
    }
    Ok(skb)
}

/// The first piece, whose header is that of all.
fn head<T>(
    cx: &mut BhCx<'_>,
    make: &IpMakeSkb<T>,
    (first, total): (usize, usize),
    ident: Option<u16>,
    getfrag: &mut dyn FnMut(usize, &mut [u8]) -> Result<(), Errno>,
) -> Result<Skb, Errno>
where
    T: FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned,
{
    let room = size_of::<IpHdr>() + size_of::<T>() + first;
    let mut skb = alloc_skb(cx, LL_RESERVED + room).ok_or(Errno::ENOBUFS)?;
    skb.network_header = LL_RESERVED as u16;
    skb.transport_header = (LL_RESERVED + size_of::<IpHdr>()) as u16;
    skb.protocol = ETH_P_IP;
    let filled = match skb.skb_open(LL_RESERVED, room).and_then(|room| parts(room, make)) {
        Some(parts) => {
            let iph = parts.iph;
            // What may be cut here may be cut on its way.
            iph.frag_off.set(iph.frag_off.get() & !IP_DF);
            iph.id.set(ident.unwrap_or_else(|| ip_select_ident(cx, iph)));
            iph.tot_len.set(total as u16);
            iph.check.set(0);
            let check = ip_fast_csum(iph.as_bytes());
            iph.check.set(check);
            getfrag(0, parts.payload)
        }
        None => Err(Errno::ENOBUFS),
    };
    match filled {
        Ok(()) => Ok(skb),
        Err(error) => {
            kfree_skb(cx, skb, DropReason::UcopyFault);
            Err(error)
        }
    }
}

/// Another piece, with room in front for its headers.
fn piece(
    cx: &mut BhCx<'_>,
    len: usize,
    fill: impl FnOnce(&mut [u8]) -> Result<(), Errno>,
) -> Result<Skb, Errno> {
    const FRONT: usize = LL_RESERVED + size_of::<IpHdr>();
    let mut frag = alloc_skb(cx, FRONT + len).ok_or(Errno::ENOBUFS)?;
    let filled = frag.skb_open(FRONT, len).ok_or(Errno::ENOBUFS).and_then(fill);
    if let Err(error) = filled {
        kfree_skb(cx, frag, DropReason::UcopyFault);
        return Err(error);
    }
    Ok(frag)
}
