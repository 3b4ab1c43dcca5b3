//! Packet sockets: frames as devices have them, seen and sent by programs.
//!
//! linux: net/packet/af_packet.c, net/packet/internal.h. Key types: [`PacketSock`], [`PacketHook`],
//! [`PacketFanout`]. Parts: `rcv` (from the device to the queue), `recv` (reading), `snd` (sending), `options`,
//! `mclist` (what a device receives on a socket's account), `fanout` (groups), `ring` (receive rings), `proc`.
//! Contexts: each part says. Locks: `class::Rtnl` for whatever a socket is hooked to; then `class::Sock`.
//! Invariants: a socket that runs has its hook in the tables, or is in a group that has; what it changed at a
//! device is undone when it is closed or the device goes.
//! DIVERGES: no `SOCK_PACKET`, no `PACKET_VNET_HDR`, no `PACKET_TX_TIMESTAMP` of its own: ESOCKTNOSUPPORT,
//! ENOPROTOOPT.

mod fanout;
mod mclist;
mod options;
mod proc;
mod rcv;
mod recv;
mod ring;
mod snd;

pub use fanout::PacketFanout;
pub use proc::packet_seq_show;
pub use rcv::{PacketHook, PacketSkbCb};
pub use ring::{
    BlockPacket, PacketBlocks, PacketRing, RingBlock, RingFrame, RingMap, Tpacket3Hdr,
    TpacketBlockDesc, TpacketHdr, packet_mmap,
};

use crate::kernel::context::TaskCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::net::core::dev::device::NetdevEvent;
use crate::net::core::dev::rx::dev_remove_pack;
use crate::net::core::dev::{
    DevId, NetDevice, NetTables, PacketFunc, PacketTap, PacketType, dev_add_pack,
};
use crate::net::core::sock::{Proto, Sock, sk_purge, sk_recvmsg, sock_no_accept, sock_no_listen};
use crate::net::ipv4::af_inet::{Peer, ProtoOps, inet_ioctl, sock_no_mmap};
use crate::net::packet::af_packet::fanout::{FanoutList, Rollover};
use crate::net::packet::af_packet::mclist::PacketMclist;
use crate::net::packet::af_packet::ring::RxRing;
use std::sync::atomic::AtomicU16;
use std::sync::{Arc, Weak};
use std::task::Poll;
use uapi::errno::Errno;
use uapi::if_packet::{SockaddrLl, TPACKET_V3};
use uapi::poll::{POLLIN, POLLRDNORM};
use uapi::socket::{AF_PACKET, SOCK_DGRAM, SOCK_RAW, SOL_PACKET, Sockaddr};

/// A packet socket's own part.
///
/// linux: net/packet/internal.h:packet_sock
#[derive(Debug, Default)]
pub struct PacketSock {
    /// The ethertype it sees, in host order; 0: none.
    num: u16,
    /// The device it is bound to; `None`: all.
    dev: Option<Arc<NetDevice>>,
    /// That as `getsockname` tells it: -1 when the device has gone.
    ifindex: i32,
    /// Its hook, while that is in the tables.
    hook: Weak<PacketHook>,
    /// It sees packets.
    running: bool,
    /// Packets for it since this was read last, those that were lost not among them.
    tp_packets: u32,
    /// Those that were lost.
    tp_drops: u32,
    /// `PACKET_AUXDATA`.
    auxdata: bool,
    /// `PACKET_ORIGDEV`: remembered, as no device here stands for another.
    origdev: bool,
    /// `PACKET_LOSS`.
    loss: bool,
    /// `PACKET_IGNORE_OUTGOING`.
    ignore_outgoing: bool,
    /// `PACKET_QDISC_BYPASS`: remembered.
    qdisc_bypass: bool,
    /// `PACKET_COPY_THRESH`.
    copy_thresh: i32,
    /// `PACKET_TIMESTAMP`: which clock; there is only one.
    tp_tstamp: i32,
    /// `PACKET_VERSION`.
    tp_version: i32,
    /// `PACKET_RESERVE`.
    tp_reserve: u32,
    /// Its receive ring.
    rx_ring: Option<RxRing>,
    /// What devices receive on its account.
    mclist: Vec<PacketMclist>,
    /// Its group.
    fanout: Option<Arc<PacketFanout>>,
    /// How it goes over to others when it is full.
    rollover: Option<Rollover>,
}

impl PacketSock {
    /// `PACKET_STATISTICS`: what came since it was read last, and is counted anew from now on.
    fn take_statistics(&mut self) -> Vec<u8> {
        let drops = std::mem::take(&mut self.tp_drops);
        let packets = std::mem::take(&mut self.tp_packets).wrapping_add(drops);
        let freezes = match &mut self.rx_ring {
            Some(ring) => ring.take_freezes(),
            None => (self.tp_version == TPACKET_V3).then_some(0),
        };
        let counts = [packets, drops].into_iter().chain(freezes);
        counts.flat_map(u32::to_ne_bytes).collect()
    }

    /// A value of an option that can't be changed while there is a ring.
    fn without_ring<T>(&self, value: T) -> Result<T, Errno> {
        if self.rx_ring.is_none() { Ok(value) } else { Err(Errno::EBUSY) }
    }

    /// The device it is bound to.
    fn dev_id(&self) -> Option<DevId> {
        self.dev.as_ref().map(|dev| dev.ifindex)
    }
}

/// The packet sockets of a namespace.
///
/// linux: include/net/netns/packet.h:netns_packet
#[derive(Debug, Default)]
pub struct NetnsPacket {
    sklist: SpinLock<Vec<Arc<Sock>>, class::PortHash>,
    fanout_list: FanoutList,
    /// Where the search for a group's number begins.
    fanout_next_id: AtomicU16,
}

impl NetnsPacket {
    /// All of them, in the order in which they were made.
    pub fn all_socks(&self) -> Vec<Arc<Sock>> {
        self.sklist.lock().clone()
    }
}

/// The functions of packet sockets' protocol.
///
/// linux: net/packet/af_packet.c:packet_proto
pub static PACKET_PROT: Proto = packet_proto(SOCK_RAW);

/// The same for datagrams, which come and go without their link header.
pub static PACKET_DGRAM_PROT: Proto = packet_proto(SOCK_DGRAM);

const fn packet_proto(kind: i32) -> Proto {
    Proto {
        name: "PACKET",
        family: AF_PACKET,
        kind: (kind, 0),
        level: SOL_PACKET,
        sendmsg: snd::packet_sendmsg,
        recvmsg: recv::packet_recvmsg,
        connect: |_, _, _| Err(Errno::EOPNOTSUPP),
        disconnect: |_, _| Err(Errno::EOPNOTSUPP),
        get_port: |_, _, _| Err(Errno::EOPNOTSUPP),
        unhash: |_, _| (),
        close: packet_release,
        backlog_rcv: rcv::packet_backlog_rcv,
        release_cb: None,
        setsockopt: options::packet_setsockopt,
        getsockopt: options::packet_getsockopt,
    }
}

/// What calls on a packet socket do.
///
/// linux: net/packet/af_packet.c:packet_ops
pub static PACKET_OPS: ProtoOps = ProtoOps {
    bind: packet_bind,
    connect: |_, _, _, _| Poll::Ready(Err(Errno::EOPNOTSUPP)),
    getname: packet_getname,
    poll: packet_poll,
    shutdown: |_, _, _| Err(Errno::EOPNOTSUPP),
    listen: sock_no_listen,
    accept: sock_no_accept,
    sendmsg: snd::packet_sendmsg,
    recvmsg: sk_recvmsg,
    ioctl: inet_ioctl,
    setsockopt: |cx, sk, name, value| (sk.sk_prot.setsockopt)(cx, sk, name, value),
    getsockopt: |cx, sk, name, room| (sk.sk_prot.getsockopt)(cx, sk, name, room),
    mmap: sock_no_mmap,
};

/// A new packet socket. `protocol` is an ethertype in network order; it sees such packets at once, of all devices.
///
/// # Errors
/// ESOCKTNOSUPPORT for another type than raw or datagram.
///
/// linux: net/packet/af_packet.c:packet_create
pub(crate) fn packet_create(
    cx: &mut TaskCx,
    kind: i32,
    protocol: i32,
) -> Result<(Arc<Sock>, &'static ProtoOps), Errno> {
    if ![SOCK_RAW, SOCK_DGRAM].contains(&kind) {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    // The upper half of what the caller says is not looked at, as in Linux.
    let num = u16::from_be(protocol as u16);
    let sk = Sock::new(cx, if kind == SOCK_RAW { &PACKET_PROT } else { &PACKET_DGRAM_PROT });
    let own = PacketSock { num, ..PacketSock::default() };
    sk.state().rare_mut().packet = Some(Box::new(own));
    let m = Arc::clone(cx.machine());
    let _rtnl = m.rtnl.lock();
    if num != 0 {
        register_prot_hook(cx, &sk);
    }
    sk.net.packet.sklist.lock().push(Arc::clone(&sk));
    Ok((sk, &PACKET_OPS))
}

/// Lets a socket see packets: its hook goes into the tables, or it into its group. Under `class::Rtnl`.
///
/// linux: net/packet/af_packet.c:register_prot_hook
fn register_prot_hook(cx: &mut TaskCx, sk: &Arc<Sock>) {
    let hook = Arc::new(PacketHook::new(sk));
    let (kind, dev, fanout) = {
        let mut state = sk.state();
        let Some(po) = state.packet().filter(|po| !po.running) else { return };
        po.running = true;
        if po.fanout.is_none() {
            po.hook = Arc::downgrade(&hook);
        }
        hook.set_ignore_outgoing(po.ignore_outgoing);
        (po.num, po.dev_id(), po.fanout.clone())
    };
    match fanout {
        Some(fanout) => fanout.__fanout_link(cx, sk),
        None => dev_add_pack(cx, PacketType { kind, dev, func: PacketFunc::Tap(hook) }),
    }
}

/// The poll mask: a ring is readable while the frame that was filled last is the reader's.
///
/// linux: net/packet/af_packet.c:packet_poll
fn packet_poll(sk: &Arc<Sock>) -> u32 {
    let mut mask = sk.datagram_poll();
    let mut state = sk.state();
    let ring = state.packet().and_then(|po| po.rx_ring.as_ref());
    if ring.is_some_and(RxRing::readable) {
        mask |= (POLLIN | POLLRDNORM) as u32;
    }
    mask
}

/// The same as below; true when it saw packets.
///
/// linux: net/packet/af_packet.c:unregister_prot_hook
fn unregister_prot_hook(cx: &mut TaskCx, sk: &Arc<Sock>) -> bool {
    let running = sk.state().packet().is_some_and(|po| po.running);
    __unregister_prot_hook(cx, sk);
    running
}

/// It sees no more; on return no CPU shows it any. Under `class::Rtnl`.
///
/// linux: net/packet/af_packet.c:__unregister_prot_hook
fn __unregister_prot_hook(cx: &mut TaskCx, sk: &Arc<Sock>) {
    let (hook, fanout) = {
        let mut state = sk.state();
        let Some(po) = state.packet().filter(|po| po.running) else { return };
        po.running = false;
        (std::mem::take(&mut po.hook), po.fanout.clone())
    };
    if let Some(fanout) = fanout {
        fanout.__fanout_unlink(cx, sk);
    } else if let Some(hook) = hook.upgrade() {
        dev_remove_pack(cx, &(hook as Arc<dyn PacketTap>));
    }
}

/// Binds to a device and an ethertype; 0 is any device, and the ethertype there was.
///
/// # Errors
/// EINVAL for a short address, one of another family, or in a group; ENODEV. A device that is down is none: it is
/// ENETDOWN, pending.
///
/// linux: net/packet/af_packet.c:packet_bind
fn packet_bind(cx: &mut TaskCx, sk: &Arc<Sock>, name: &[u8]) -> Result<(), Errno> {
    let to = SockaddrLl::from_bytes(name)?;
    let m = Arc::clone(cx.machine());
    let _rtnl = m.rtnl.lock();
    packet_do_bind(cx, sk, &to)
}

/// linux: net/packet/af_packet.c:packet_do_bind
fn packet_do_bind(cx: &mut TaskCx, sk: &Arc<Sock>, to: &SockaddrLl) -> Result<(), Errno> {
    let tables = cx.tables();
    let (proto, before) = {
        let mut state = sk.state();
        let po = state.packet().ok_or(Errno::EBADF)?;
        if po.fanout.is_some() {
            return Err(Errno::EINVAL);
        }
        let proto = if to.protocol == 0 { po.num } else { to.protocol };
        (proto, (po.num, po.dev_id()))
    };
    let dev = match to.ifindex {
        0 => None,
        index => Some(dev_get_by_index(&tables.net, index).ok_or(Errno::ENODEV)?),
    };
    let now = (proto, dev.map(|dev| dev.ifindex));
    if before == now {
        return Ok(());
    }
    __unregister_prot_hook(cx, sk);
    {
        let mut state = sk.state();
        let po = state.packet().ok_or(Errno::EBADF)?;
        (po.num, po.dev) = (proto, dev.map(Arc::clone));
        po.ifindex = dev.map_or(0, |dev| dev.ifindex.0.into());
    }
    if proto == 0 {
        return Ok(());
    }
    if dev.is_none_or(|dev| dev.up()) {
        register_prot_hook(cx, sk);
    } else {
        report(cx, sk, Errno::ENETDOWN);
    }
    Ok(())
}

fn report(cx: &mut TaskCx, sk: &Arc<Sock>, error: Errno) {
    cx.local_bh_disable(|bh| sk.state().sk_error_report(bh, Some(error)));
}

/// The device with an index as user space says it.
///
/// linux: net/core/dev.c:dev_get_by_index
fn dev_get_by_index(t: &NetTables, index: i32) -> Option<&Arc<NetDevice>> {
    t.dev(DevId(u16::try_from(index).ok()?))
}

/// What it is bound to.
///
/// linux: net/packet/af_packet.c:packet_getname
fn packet_getname(sk: &Sock, peer: Peer) -> Result<Sockaddr, Errno> {
    if peer != Peer::No {
        return Err(Errno::EOPNOTSUPP);
    }
    let mut state = sk.state();
    let po = state.packet().ok_or(Errno::EBADF)?;
    let mut name = SockaddrLl { protocol: po.num, ifindex: po.ifindex, ..SockaddrLl::default() };
    if let Some(dev) = &po.dev {
        (name.hatype, name.halen) = (dev.kind, ADDR_LEN as u8);
        name.addr[..ADDR_LEN].copy_from_slice(&dev.dev_addr());
    }
    Ok(Sockaddr::Ll(name))
}

/// A device comes up, goes down or away: sockets bound to it hear of it.
///
/// linux: net/packet/af_packet.c:packet_notifier
pub(crate) fn packet_notifier(cx: &mut TaskCx, dev: &Arc<NetDevice>, event: NetdevEvent) {
    let net = cx.net();
    for sk in net.packet.all_socks() {
        if event == NetdevEvent::Unregister {
            mclist::packet_dev_mclist_delete(cx, &sk, dev);
        }
        let Some((running, num)) = sk
            .state()
            .packet()
            .filter(|po| po.dev_id() == Some(dev.ifindex))
            .map(|po| (po.running, po.num))
        else {
            continue;
        };
        match event {
            NetdevEvent::Up if num != 0 => register_prot_hook(cx, &sk),
            NetdevEvent::Up => (),
            NetdevEvent::Down | NetdevEvent::Unregister if running => {
                __unregister_prot_hook(cx, &sk);
                report(cx, &sk, Errno::ENETDOWN);
            }
            NetdevEvent::Down | NetdevEvent::Unregister => (),
        }
        if event == NetdevEvent::Unregister
            && let Some(po) = sk.state().packet()
        {
            (po.ifindex, po.dev) = (-1, None);
        }
    }
}

/// The last descriptor is closed: its hook leaves the tables, the devices are as before, and what it had queued is
/// freed.
///
/// linux: net/packet/af_packet.c:packet_release
fn packet_release(cx: &mut TaskCx, sk: &Arc<Sock>) {
    let m = Arc::clone(cx.machine());
    {
        let _rtnl = m.rtnl.lock();
        sk.net.packet.sklist.lock().retain(|other| !Arc::ptr_eq(other, sk));
        __unregister_prot_hook(cx, sk);
        mclist::packet_flush_mclist(cx, sk);
        fanout::fanout_release(sk);
    }
    sk_purge(cx, sk);
}

/// Link addresses of devices are that long, of Ethernet and loopback.
const ADDR_LEN: usize = 6;
