//! The loopback device: what is sent comes back by this CPU's backlog. It has no queue.
//!
//! linux: drivers/net/loopback.c. Key type: [`Loopback`]. Contexts: BH; start as a module.

use stack::kernel::context::{BhCx, TaskCx};
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::device::DeviceSpec;
use stack::net::core::dev::{
    LinkStats, NetDevice, NetDeviceOps, NetdevFeatures, NetdevQueue, dev_open, netif_rx,
    register_netdevice, unregister_netdevice,
};
use stack::net::core::skbuff::{Skb, SkbList, kfree_skb, skb_orphan_frags_rx};
use stack::net::ethernet::eth::eth_type_trans;
use stack::net::net_namespace::register_pernet_device;
use stack::walk;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uapi::errno::Errno;
use uapi::if_::IFF_LOOPBACK;
use uapi::if_arp::ARPHRD_LOOPBACK;
use uapi::if_ether::ETH_HLEN;

/// A large MTU: nothing is ever cut on its way to this machine.
const MTU: u32 = 65_536;

/// The driver.
#[derive(Debug, Default)]
pub struct Loopback {
    packets: AtomicU64,
    bytes: AtomicU64,
}

/// Registers `lo` in the first namespace, and brings it up there; each other one gets its own, which is down.
///
/// # Errors
/// EEXIST if there is a device of that name.
///
/// linux: drivers/net/loopback.c:loopback_net_ops
pub fn loopback_init(cx: &mut TaskCx) -> Result<(), Errno> {
    register_pernet_device(cx, loopback_net_init)?;
    let t = cx.tables();
    dev_open(cx, t.net.dev_by_name("lo").ok_or(Errno::ENODEV)?)
}

/// Registers `lo` in the task's namespace. It gets 127.0.0.1/8 when it goes up.
///
/// linux: drivers/net/loopback.c:loopback_net_init
fn loopback_net_init(cx: &mut TaskCx) -> Result<(), Errno> {
    let spec = DeviceSpec {
        name: "lo".to_owned(),
        addr: [0; 6],
        mtu: MTU,
        flags: IFF_LOOPBACK,
        kind: ARPHRD_LOOPBACK,
        features: NetdevFeatures::HW_CSUM
            | NetdevFeatures::SG
            | NetdevFeatures::TSO
            | NetdevFeatures::GSO_UDP_L4
            | NetdevFeatures::RXCSUM
            | NetdevFeatures::LLTX
            | NetdevFeatures::LOOPBACK,
        hw_features: NetdevFeatures::TSO | NetdevFeatures::GSO_UDP_L4,
        tx_queues: 1,
        tx_queue_len: 0,
    };
    register_netdevice(cx, NetDevice::new(spec, Arc::new(Loopback::default()), None)).map(drop)
}

impl NetDeviceOps for Loopback {
    fn ndo_open(&self, _cx: &mut TaskCx, _dev: &Arc<NetDevice>) -> Result<(), Errno> {
        Ok(())
    }

    fn ndo_stop(&self, _cx: &mut TaskCx, _dev: &Arc<NetDevice>) {}

    fn ndo_start_xmit(
        &self,
        cx: &mut BhCx<'_>,
        dev: &Arc<NetDevice>,
        _queue: u16,
        skb: Skb,
    ) -> Result<(), Skb> {
        let mut list = cx.skb_list();
        list.push(skb);
        self.loopback_xmit(cx, dev, &mut list);
        cx.free_skb_list(list);
        Ok(())
    }

    fn ndo_start_xmit_list(
        &self,
        cx: &mut BhCx<'_>,
        dev: &Arc<NetDevice>,
        _txq: &NetdevQueue,
        list: &mut SkbList,
    ) {
        self.loopback_xmit(cx, dev, list);
    }

    fn ndo_change_mtu(&self, _cx: &mut TaskCx, mtu: u32) -> Result<(), Errno> {
        if (68..=MTU).contains(&mtu) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    fn dellink(&self, cx: &mut TaskCx, dev: &Arc<NetDevice>) -> bool {
        unregister_netdevice(cx, dev);
        true
    }

    fn ndo_get_stats64(&self) -> LinkStats {
        let (packets, bytes) =
            (self.packets.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed));
        LinkStats {
            rx_packets: packets,
            rx_bytes: bytes,
            tx_packets: packets,
            tx_bytes: bytes,
            ..LinkStats::default()
        }
    }
}

impl Loopback {
    /// Turns packets round: from their sender's charge to this CPU's backlog.
    ///
    /// linux: drivers/net/loopback.c:loopback_xmit
    fn loopback_xmit(&self, cx: &mut BhCx<'_>, dev: &NetDevice, list: &mut SkbList) {
        walk!(cx, list, loopback_xmit);
        list.skb_orphan(cx);
        let _protocol = eth_type_trans(cx, list, dev);
        let (mut packets, mut bytes) = (0, 0);
        list.each_alone(cx, |cx, mut skb| {
            let len = skb.len() as u64 + ETH_HLEN as u64;
            // When it was to leave is not when it came.
            skb.clear_tstamp();
            if !skb_orphan_frags_rx(cx, &mut skb) {
                return kfree_skb(cx, skb, DropReason::NoMem);
            }
            if netif_rx(cx, skb) {
                packets += 1;
                bytes += len;
            }
        });
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
