//! Messages that are cut into datagrams (`UDP_SEGMENT`): one packet down to where it is cut. Context: BH.
//!
//! linux: net/ipv4/udp.c (`udp_send_skb`).

use super::make::finish;
use super::{Csum, Plan};
use crate::kernel::context::BhCx;
use crate::net::core::gso::gso_of;
use crate::net::core::skbuff::{GsoType, Skb};
use crate::net::core::sock::Sock;
use crate::net::ipv4::ip_output::ip_make_skb_paged;
use klib::checksum::{csum_add, csum_fold};
use std::io::IoSlice;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::ip::IpHdr;
use uapi::udp::{UDP_MAX_SEGMENTS, UdpHdr};

/// A message of `len` octets becomes several datagrams.
///
/// # Errors
/// EMSGSIZE: one of them is longer than the MTU; EINVAL: they would be more than 128, or the socket wants no
/// checksums (`SO_NO_CHECK`).
///
/// linux: net/ipv4/udp.c:udp_send_skb
#[inline(always)]
pub(super) fn gso_of_message(plan: &Plan, len: usize) -> Result<bool, Errno> {
    if plan.send.gso_size == 0 { Ok(false) } else { check(plan, len) }
}

#[inline(never)]
fn check(plan: &Plan, len: usize) -> Result<bool, Errno> {
    let size = usize::from(plan.send.gso_size);
    let headers = size_of::<IpHdr>() + size_of::<UdpHdr>();
    if headers + len.min(size) > plan.make.mtu as usize {
        return Err(Errno::EMSGSIZE);
    }
    if len > size * UDP_MAX_SEGMENTS || plan.send.no_check {
        return Err(Errno::EINVAL);
    }
    Ok(len > size)
}

/// Makes the packet that they are until they are cut: its payload lies in pages, which they share then.
#[inline(never)]
pub(super) fn make_segments(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    plan: &Plan,
    payload: &[IoSlice<'_>],
) -> Result<Skb, Errno> {
    let len = payload.iter().map(|part| part.len()).sum();
    let gso = gso_of(GsoType::UdpL4, len, plan.send.gso_size);
    let mut skb = ip_make_skb_paged(cx, &plan.make, payload, |parts| {
        if plan.send.connected {
            parts.iph.id.set(sk.next_idents(gso.segs));
        }
        let ulen = (size_of::<UdpHdr>() + len) as u16;
        parts.transport.len.set(ulen);
        // Whoever cuts it has each datagram summed.
        parts.transport.check.set(!csum_fold(csum_add(plan.pseudo, ulen.into())));
        Ok(())
    })?;
    skb.gso = gso;
    finish(cx, sk, &mut skb, plan, Csum::Partial);
    Ok(skb)
}
