//! From a device to a socket's queue. Context: BH.
//!
//! linux: net/packet/af_packet.c. Key types: [`PacketHook`], [`PacketSkbCb`]. Locks: the socket's, as
//! `class::TapSock`.

use super::ADDR_LEN;
use super::ring::tpacket_rcv;
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::{NetDevice, PacketTap};
use crate::net::core::filter::{BpfProg, SkbFrom};
use crate::net::core::skbuff::{Cb, PktType, SkBuff, Skb, consume_skb, kfree_skb};
use crate::net::core::sock::{Sock, SockLocked};
use crate::net::ipv4::inet_hashtables::CmsgFlags;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use uapi::if_ether::EthHdr;
use uapi::socket::SOCK_RAW;
use zerocopy::native_endian::{U16, U32};

/// What a queued packet tells its reader: where it came in, from whom, how long it was.
///
/// linux: net/packet/internal.h:packet_skb_cb
// Without alignment, so that it makes no packet larger.
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketSkbCb {
    /// Octets before the filter cut it.
    pub(super) origlen: U32,
    /// The device.
    pub(super) ifindex: U16,
    /// `ARPHRD_*`.
    pub(super) hatype: U16,
    /// The source address of the link.
    pub(super) addr: [u8; ADDR_LEN],
}

/// A packet socket as the tables have it.
///
/// linux: net/packet/internal.h:packet_sock (`prot_hook`)
pub struct PacketHook {
    sk: Arc<Sock>,
    ignore_outgoing: AtomicBool,
}

impl fmt::Debug for PacketHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PacketHook({:?})", self.sk)
    }
}

impl PacketHook {
    pub(super) fn new(sk: &Arc<Sock>) -> Self {
        Self { sk: Arc::clone(sk), ignore_outgoing: AtomicBool::new(false) }
    }

    pub(super) fn set_ignore_outgoing(&self, ignore: bool) {
        self.ignore_outgoing.store(ignore, Ordering::Relaxed);
    }
}

impl PacketTap for PacketHook {
    fn packet_rcv(&self, cx: &mut BhCx<'_>, skb: Skb, dev: &Arc<NetDevice>) {
        rcv(cx, &self.sk, skb, dev);
    }

    fn skb_loop_sk(&self, sk: &Arc<Sock>) -> bool {
        Arc::ptr_eq(&self.sk, sk)
    }

    fn ignore_outgoing(&self) -> bool {
        self.ignore_outgoing.load(Ordering::Relaxed)
    }
}

/// Where the data of a raw socket's packet begins, the link header, or of a datagram socket's, the network header.
/// False for one that has not all of that.
fn begin_where_the_socket_does(sk: &Sock, skb: &mut Skb) -> bool {
    if sk.sk_type() == SOCK_RAW {
        match usize::try_from(-skb.mac_offset()) {
            Ok(pulled) => skb.skb_unpull(pulled),
            Err(_) => false,
        }
    } else if skb.pkt_type == PktType::Outgoing {
        usize::try_from(skb.network_offset()).is_ok_and(|front| skb.skb_pull(front))
    } else {
        true
    }
}

/// The source address in a link header.
///
/// linux: net/ethernet/eth.c:eth_header_parse
fn eth_header_parse(skb: &SkBuff) -> [u8; ADDR_LEN] {
    skb.mac::<EthHdr>().map_or([0; ADDR_LEN], |header| header.h_source)
}

/// A packet that a socket is to have.
pub(super) struct Begun {
    pub(super) skb: Skb,
    /// Octets before the filter cut it.
    pub(super) origlen: usize,
    /// The source address of the link.
    pub(super) addr: [u8; ADDR_LEN],
}

/// Has a packet begin where the socket's do, and cut to what its filter wants; `None`: it ended.
pub(super) fn begin(
    cx: &mut BhCx<'_>,
    sk: &Sock,
    mut skb: Skb,
    program: Option<&BpfProg>,
) -> Option<Begun> {
    // It was seen on its way out.
    if skb.pkt_type == PktType::Loopback {
        consume_skb(cx, skb);
        return None;
    }
    if !begin_where_the_socket_does(sk, &mut skb) {
        kfree_skb(cx, skb, DropReason::HdrTrunc);
        return None;
    }
    let origlen = skb.len();
    let addr = eth_header_parse(&skb);
    let wanted = program
        .map_or(Ok(()), |program| program.sk_filter_trim_cap(cx, &mut skb, (SkbFrom::Data, 0)));
    // What a capture does not ask for is not lost.
    if wanted.is_err() {
        consume_skb(cx, skb);
        return None;
    }
    if let Some(dst) = skb.dst.take() {
        cx.cpu.routes.give_back(dst);
    }
    Some(Begun { skb, origlen, addr })
}

/// Shows a packet to a socket: into its ring, if it has one, else into its queue.
pub(super) fn rcv(cx: &mut BhCx<'_>, sk: &Arc<Sock>, skb: Skb, dev: &Arc<NetDevice>) {
    let (ring, program) = {
        let mut state = sk.state_of_tap();
        let ring = state.packet().is_some_and(|po| po.rx_ring.is_some());
        (ring, state.filter().cloned())
    };
    let receive = if ring { tpacket_rcv } else { packet_rcv };
    receive(cx, sk, (skb, program.as_ref()), dev);
}

/// Queues a packet for a socket that sees it, cut to what its filter wants; counts what it has no room for.
///
/// linux: net/packet/af_packet.c:packet_rcv
fn packet_rcv(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    (skb, program): (Skb, Option<&BpfProg>),
    dev: &Arc<NetDevice>,
) {
    walk!(cx, skb, packet_rcv);
    let Some(Begun { mut skb, origlen, addr }) = begin(cx, sk, skb, program) else { return };
    let cb = PacketSkbCb {
        origlen: (origlen as u32).into(),
        ifindex: dev.ifindex.0.into(),
        hatype: dev.kind.into(),
        addr,
    };
    let mut state = sk.state_of_tap();
    let full = state.rmem_alloc >= state.opts.rcvbuf as usize;
    let (drops, timed) = (state.drops, state.inet.cmsg_flags.intersects(CmsgFlags::TIMED));
    let Some(po) = state.packet() else {
        drop(state);
        return kfree_skb(cx, skb, DropReason::SocketClose);
    };
    if full {
        po.tp_drops = po.tp_drops.wrapping_add(1);
        state.drops = drops.wrapping_add(1);
        drop(state);
        return kfree_skb(cx, skb, DropReason::SocketRcvbuff);
    }
    po.tp_packets = po.tp_packets.wrapping_add(1);
    // The packets that the socket had lost by then; nobody asks for a priority any more.
    skb.priority = drops;
    skb.cb = Cb::Packet(cb);
    skb.dev = None;
    if timed {
        skb.set_tstamp(Ktime(cx.m.ktime_get_real()));
    } else {
        skb.clear_tstamp();
    }
    state.rmem_alloc += skb.truesize as usize;
    state.receive_queue.skb_queue_tail(skb);
    state.sk_data_ready(cx);
}

/// No task owns a packet socket, so nothing is left to its backlog.
pub(super) fn packet_backlog_rcv(cx: &mut BhCx<'_>, _: &Arc<Sock>, _: &mut SockLocked, skb: Skb) {
    kfree_skb(cx, skb, DropReason::NotSpecified);
}
