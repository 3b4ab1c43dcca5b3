//! A pair of Ethernet devices: what one sends the other receives, in whatever namespace of the machine that is.
//!
//! linux: drivers/net/veth.c. Key type: [`Veth`]. Contexts: BH; making and ending as a task. No lock, no queue.
//! Invariant: of a packet that crosses, the other side sees what a wire would bring it: octets, and where its
//! segments and sums are still to be made. Who sent it is no more charged with it.

use stack::kernel::context::{BhCx, TaskCx};
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::device::DeviceSpec;
use stack::net::core::dev::{
    Carrier, LinkStats, NetDevice, NetDeviceOps, NetdevFeatures, NetdevQueue, netif_rx,
    register_netdevice, unregister_netdevice,
};
use stack::net::core::skbuff::{Skb, SkbList, skb_orphan_frags_rx};
use stack::net::ethernet::eth::{eth_random_addr, eth_type_trans};
use stack::net::net_namespace::NetId;
use stack::walk;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use uapi::errno::Errno;
use uapi::if_::{IFF_BROADCAST, IFF_MULTICAST};
use uapi::if_arp::ARPHRD_ETHER;
use uapi::if_ether::ETH_HLEN;

/// Octets of a frame beyond the MTU that still pass: its header, and a VLAN's tag.
const BEYOND_MTU: usize = ETH_HLEN + 4;

/// The driver, of one device of the two.
#[derive(Debug, Default)]
pub struct Veth {
    peer: OnceLock<Weak<NetDevice>>,
    /// What it sends is what the other one receives.
    tx: Arc<Count>,
    rx: Arc<Count>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Count {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Count {
    fn add(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One of the two devices to be made: where, and its name, or a pattern with `%d`.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// The namespace.
    pub net: NetId,
    /// The name.
    pub name: &'a str,
}

/// Makes two devices that are each other's peer. They are down.
///
/// # Errors
/// ESRCH for a namespace that there is not, EEXIST for a name that is taken; then there is none of them.
///
/// linux: drivers/net/veth.c:veth_newlink
pub fn veth_newlink(cx: &mut TaskCx, ends: [VethEnd<'_>; 2]) -> Result<[Arc<NetDevice>; 2], Errno> {
    let [there, back] = <[Arc<Count>; 2]>::default();
    let driver = |tx: &Arc<Count>, rx: &Arc<Count>| {
        Arc::new(Veth { tx: Arc::clone(tx), rx: Arc::clone(rx), ..Veth::default() })
    };
    let drivers = [driver(&there, &back), driver(&back, &there)];
    // Both namespaces stay until each device has its peer.
    cx.with_net(ends[0].net, |cx| {
        let first = register_end(cx, ends[0].name, &drivers[0])?;
        let second = cx.with_net(ends[1].net, |cx| {
            let second = register_end(cx, ends[1].name, &drivers[1])?;
            for (driver, peer) in drivers.iter().zip([&second, &first]) {
                let _first_time = driver.peer.set(Arc::downgrade(peer));
            }
            Ok(second)
        });
        let second = second.flatten();
        Ok([Arc::clone(&first), second.inspect_err(|_| unregister_netdevice(cx, &first))?])
    })?
}

/// Registers one of the two in the task's namespace.
///
/// linux: drivers/net/veth.c:veth_setup
fn register_end(cx: &mut TaskCx, name: &str, driver: &Arc<Veth>) -> Result<Arc<NetDevice>, Errno> {
    let offloads = NetdevFeatures::HW_CSUM
        | NetdevFeatures::SG
        | NetdevFeatures::TSO
        | NetdevFeatures::GSO_UDP_L4
        | NetdevFeatures::RXCSUM;
    let spec = DeviceSpec {
        name: name.to_owned(),
        addr: eth_random_addr(cx),
        mtu: 1500,
        flags: IFF_BROADCAST | IFF_MULTICAST,
        kind: ARPHRD_ETHER,
        features: offloads | NetdevFeatures::LLTX,
        hw_features: offloads,
        tx_queues: 1,
        tx_queue_len: 0,
    };
    let dev = NetDevice::new(spec, Arc::clone(driver) as Arc<dyn NetDeviceOps>, None);
    dev.set_carrier(Carrier::Off);
    register_netdevice(cx, dev)
}

impl Veth {
    fn peer(&self) -> Option<Arc<NetDevice>> {
        self.peer.get()?.upgrade()
    }

    /// Hands packets to the other device, whose packets wait in this CPU's backlog.
    ///
    /// linux: drivers/net/veth.c:veth_xmit
    fn veth_xmit(&self, cx: &mut BhCx<'_>, list: &mut SkbList) {
        walk!(cx, list, veth_xmit);
        let before = list.len();
        list.skb_orphan(cx);
        let Some(peer) = self.peer().filter(|peer| peer.up()) else {
            self.dropped.fetch_add(before as u64, Ordering::Relaxed);
            list.pass(cx, |_, _| Err(DropReason::DevReady));
            return;
        };
        let most = peer.mtu() + BEYOND_MTU;
        list.pass(cx, |cx, skb| __dev_forward_skb(cx, skb, most));
        let _protocol = eth_type_trans(cx, list, &peer);
        let (mut packets, mut bytes) = (0, 0);
        list.each_alone(cx, |cx, skb| {
            let len = (skb.len() + ETH_HLEN) as u64;
            if netif_rx(cx, skb) {
                packets += 1;
                bytes += len;
            }
        });
        self.tx.add(packets, bytes);
        self.dropped.fetch_add(before as u64 - packets, Ordering::Relaxed);
    }
}

/// A packet of a device may come in at another of `most` octets, and has nothing more of where it was.
///
/// linux: net/core/dev.c:__dev_forward_skb
fn __dev_forward_skb(cx: &mut BhCx<'_>, skb: &mut Skb, most: usize) -> Result<(), DropReason> {
    // What a device would cut into segments fits.
    if skb.len() > most && skb.gso.size == 0 {
        return Err(DropReason::PktTooBig);
    }
    if !skb_orphan_frags_rx(cx, skb) {
        return Err(DropReason::NoMem);
    }
    skb.skb_scrub_packet();
    Ok(())
}

impl NetDeviceOps for Veth {
    /// linux: drivers/net/veth.c:veth_open
    fn ndo_open(&self, _cx: &mut TaskCx, dev: &Arc<NetDevice>) -> Result<(), Errno> {
        let peer = self.peer().ok_or(Errno::ENOTCONN)?;
        if peer.up() {
            dev.set_carrier(Carrier::On);
            peer.set_carrier(Carrier::On);
        }
        Ok(())
    }

    /// linux: drivers/net/veth.c:veth_close
    fn ndo_stop(&self, _cx: &mut TaskCx, dev: &Arc<NetDevice>) {
        dev.set_carrier(Carrier::Off);
        if let Some(peer) = self.peer() {
            peer.set_carrier(Carrier::Off);
        }
    }

    fn ndo_start_xmit(
        &self,
        cx: &mut BhCx<'_>,
        _dev: &Arc<NetDevice>,
        _queue: u16,
        skb: Skb,
    ) -> Result<(), Skb> {
        let mut list = cx.skb_list();
        list.push(skb);
        self.veth_xmit(cx, &mut list);
        cx.free_skb_list(list);
        Ok(())
    }

    fn ndo_start_xmit_list(
        &self,
        cx: &mut BhCx<'_>,
        _dev: &Arc<NetDevice>,
        _txq: &NetdevQueue,
        list: &mut SkbList,
    ) {
        self.veth_xmit(cx, list);
    }

    fn ndo_change_mtu(&self, _cx: &mut TaskCx, mtu: u32) -> Result<(), Errno> {
        if (68..=65_535).contains(&mtu) { Ok(()) } else { Err(Errno::EINVAL) }
    }

    /// linux: drivers/net/veth.c:veth_get_stats64
    fn ndo_get_stats64(&self) -> LinkStats {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        LinkStats {
            rx_packets: of(&self.rx.packets),
            rx_bytes: of(&self.rx.bytes),
            tx_packets: of(&self.tx.packets),
            tx_bytes: of(&self.tx.bytes),
            tx_dropped: of(&self.dropped),
            ..LinkStats::default()
        }
    }

    /// The other device goes with it.
    ///
    /// linux: drivers/net/veth.c:veth_dellink
    fn dellink(&self, cx: &mut TaskCx, dev: &Arc<NetDevice>) -> bool {
        let peer = self.peer();
        unregister_netdevice(cx, dev);
        if let Some(peer) = peer {
            unregister_netdevice(cx, &peer);
        }
        true
    }
}
