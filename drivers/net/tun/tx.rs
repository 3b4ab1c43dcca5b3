//! Packets to the host: their header, their parts, and what the TAP says of them.
//!
//! linux: drivers/net/tun.c. Context: BH, by whoever runs the queue's qdisc.

use super::{TapFault, TapPort, TunFile, Wants, add};
use crate::net::virtio_net::virtio_net_hdr;
use crate::net::wire::vnet_of;
use crate::net::wire_port::VnetMeta;
use stack::kernel::context::BhCx;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::{Carrier, NetDevice};
use stack::net::core::skbuff::{IpSummed, Skb, consume_skb, kfree_skb};
use stack::walk;
use std::sync::atomic::Ordering;
use uapi::virtio_net::VirtioNetHdrMrgRxbuf;
use zerocopy::IntoBytes;

/// What the host has to know of a packet that leaves; `None` when its checksum lies outside it.
///
/// linux: include/linux/virtio_net.h:virtio_net_hdr_from_skb
fn tun_header(skb: &Skb) -> Option<VirtioNetHdrMrgRxbuf> {
    let vnet = match skb.ip_summed {
        IpSummed::Partial => vnet_of(skb).filter(|vnet| vnet.csum_start.is_some())?,
        IpSummed::Unnecessary => VnetMeta { data_valid: true, ..VnetMeta::default() },
        IpSummed::None | IpSummed::Complete => VnetMeta::default(),
    };
    virtio_net_hdr(&vnet, skb.len())
}

/// Parts a packet has without asking for memory: its head and a few pages.
const FEW_PARTS: usize = 8;

fn tun_write(port: &dyn TapPort, hdr: &[u8], skb: &Skb) -> Result<(), TapFault> {
    let mut few: [&[u8]; FEW_PARTS] = [&[]; FEW_PARTS];
    let mut parts = skb.parts();
    let mut count = 0;
    for (slot, part) in few.iter_mut().zip(&mut parts) {
        *slot = part;
        count += 1;
    }
    match parts.next() {
        None => port.write_frame(hdr, &few[..count]),
        Some(next) => {
            let all: Vec<&[u8]> = few.into_iter().chain([next]).chain(parts).collect();
            port.write_frame(hdr, &all)
        }
    }
}

/// Gives a packet to the host. A TAP without room stops the queue, and the packet goes back to it.
///
/// linux: drivers/net/tun.c:tun_net_xmit
pub(super) fn tun_net_xmit(
    cx: &mut BhCx<'_>,
    tun: &TunFile,
    dev: &NetDevice,
    skb: Skb,
) -> Result<(), Skb> {
    walk!(cx, skb, tun_net_xmit);
    let Some(hdr) = tun_header(&skb) else {
        add(&tun.stats.tx_errors, 1);
        kfree_skb(cx, skb, DropReason::SkbCsum);
        return Ok(());
    };
    let reason = match tun_write(&*tun.port, hdr.as_bytes(), &skb) {
        Ok(()) => {
            add(&tun.stats.tx_packets, 1);
            add(&tun.stats.tx_bytes, skb.len());
            consume_skb(cx, skb);
            return Ok(());
        }
        Err(TapFault::WouldBlock) => {
            // In this order: the interrupt must find the queue stopped and the flag set.
            dev.netif_stop_subqueue(tun.queue_index);
            tun.tx_waiting.store(true, Ordering::SeqCst);
            tun.port.irq_unmask(Wants::FramesAndRoom);
            return Err(skb);
        }
        Err(fault @ (TapFault::LinkDown | TapFault::Gone)) => {
            add(&tun.stats.tx_dropped, 1);
            dev.set_carrier(Carrier::Off);
            // It may have come up since, and its interrupt have passed before we said it is down.
            if fault == TapFault::LinkDown && tun.port.link_up() {
                dev.set_carrier(Carrier::On);
            }
            DropReason::DevReady
        }
        Err(TapFault::Other) => {
            add(&tun.stats.tx_errors, 1);
            DropReason::DevHdr
        }
    };
    kfree_skb(cx, skb, reason);
    Ok(())
}
