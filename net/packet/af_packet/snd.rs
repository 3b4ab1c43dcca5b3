//! From a program to a device. Context: task, with one BH section a packet.
//!
//! linux: net/packet/af_packet.c (`packet_snd`).

use super::dev_get_by_index;
use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::{NetDevice, dev_queue_xmit};
use crate::net::core::skbuff::{Skb, alloc_skb, kfree_skb};
use crate::net::core::sock::Sock;
use crate::net::ethernet::eth::eth_header;
use crate::net::ipv4::ip_output::LL_RESERVED;
use crate::net::ipv4::ip_sockglue::{IpcmCookie, sock_cmsg_send};
use crate::net::socket::{MsgSend, SendBatch, Sent, Wait};
use std::sync::Arc;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::if_::{IFF_LOOPBACK, IFF_NOARP};
use uapi::if_arp::ARPHRD_ETHER;
use uapi::if_ether::{ETH_HLEN, ETH_P_8021Q, ETH_P_ALL, EthHdr};
use uapi::if_packet::{SLL_ADDR, SOCKADDR_LL_LEN, SockaddrLl};
use uapi::poll::POLLOUT;
use uapi::socket::SOCK_RAW;

/// Octets of a tag of a virtual LAN.
const VLAN_HLEN: usize = 4;
/// Ethertypes that stand for a frame of 802.3: its header has the length.
const ETH_P_802_3: u16 = 1;
const ETH_P_802_2: u16 = 4;

/// Why a message was not sent.
pub(super) enum Stop {
    Error(Errno),
    /// The send buffer is full.
    NoRoom,
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Self::Error(error)
    }
}

/// Where a frame goes.
pub(super) struct Way {
    pub(super) dev: Arc<NetDevice>,
    pub(super) protocol: u16,
    /// The link address of a datagram socket's peer, if it is given.
    pub(super) daddr: Option<[u8; 6]>,
    pub(super) priority: u32,
    pub(super) mark: u32,
}

/// Sends frames: of a raw socket with their link header, of a datagram socket without.
///
/// # Errors
/// EINVAL for a short address, or a frame shorter than its header; ENXIO without a device; ENETDOWN; EMSGSIZE;
/// ENOBUFS for one that was dropped; EAGAIN; the pending error.
///
/// linux: net/packet/af_packet.c:packet_sendmsg
pub(super) fn packet_sendmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &SendBatch<'_>,
    wait: &mut Wait,
) -> Poll<Result<Sent, Errno>> {
    walk!(cx, packet_sendmsg);
    let mut sent = Sent::default();
    for (msg, flags) in batch.iter() {
        match cx.local_bh_disable(|bh| packet_snd(bh, sk, msg)) {
            Ok(len) => sent.add(len),
            Err(Stop::Error(error)) if sent.messages == 0 => return Poll::Ready(Err(error)),
            Err(Stop::NoRoom) if sent.messages == 0 => {
                return wait.for_event(cx, sk, POLLOUT as u32, flags, |state| {
                    state.err.is_some() || sk.sock_wspace(0)
                });
            }
            Err(Stop::Error(error)) => {
                sent.stop = Some(error);
                break;
            }
            Err(Stop::NoRoom) => break,
        }
    }
    Poll::Ready(Ok(sent))
}

/// Sends one.
///
/// linux: net/packet/af_packet.c:packet_snd
fn packet_snd(cx: &mut BhCx<'_>, sk: &Arc<Sock>, msg: &MsgSend<'_>) -> Result<usize, Stop> {
    walk!(cx, packet_snd);
    let way = packet_way(cx, sk, msg)?;
    let len: usize = msg.iov.iter().map(|part| part.len()).sum();
    let reserve = if sk.sk_type() == SOCK_RAW { ETH_HLEN } else { 0 };
    let most = way.dev.mtu() + reserve;
    if len > most + VLAN_HLEN {
        return Err(Errno::EMSGSIZE.into());
    }
    sock_alloc_send(sk)?;
    let mut skb = packet_alloc_skb(cx, len)?;
    if let Some(mut to) = skb.data_mut() {
        for part in msg.iov {
            let (here, rest) = to.split_at_mut(part.len().min(to.len()));
            here.copy_from_slice(&part[..here.len()]);
            to = rest;
        }
    }
    if let Err(error) = packet_fill(sk, &mut skb, &way) {
        kfree_skb(cx, skb, DropReason::DevHdr);
        return Err(error.into());
    }
    if len > most && !packet_extra_vlan_len_allowed(&way.dev, &skb) {
        kfree_skb(cx, skb, DropReason::PktTooBig);
        return Err(Errno::EMSGSIZE.into());
    }
    packet_xmit(cx, sk, skb, &way)?;
    Ok(len)
}

/// Where a message goes: by its address, or by what the socket is bound to.
fn packet_way(cx: &BhCx<'_>, sk: &Arc<Sock>, msg: &MsgSend<'_>) -> Result<Way, Errno> {
    let t = cx.t;
    let (bound, num, priority, mark, tsflags) = {
        let mut state = sk.state();
        let (priority, mark) = (state.opts.priority, state.opts.mark);
        let po = state.packet().ok_or(Errno::EBADF)?;
        (po.dev.clone(), po.num, priority, mark, sk.tsflags())
    };
    let (dev, protocol, daddr) = match msg.name {
        None => (bound, num, None),
        Some(name) => {
            let to = SockaddrLl::from_bytes_any(name)?;
            let whole = SLL_ADDR + usize::from(to.halen);
            if name.len() < SOCKADDR_LL_LEN.max(whole) {
                return Err(Errno::EINVAL);
            }
            let dev = dev_get_by_index(&t.net, to.ifindex).map(Arc::clone);
            (dev, to.protocol, to.addr.first_chunk().copied())
        }
    };
    let dev = dev.ok_or(Errno::ENXIO)?;
    if !dev.up() {
        return Err(Errno::ENETDOWN);
    }
    let mut ipc = IpcmCookie { tsflags, ..IpcmCookie::default() };
    sock_cmsg_send(msg.control, &mut ipc)?;
    let (priority, mark) = (ipc.priority.unwrap_or(priority), ipc.mark.unwrap_or(mark));
    Ok(Way { dev, protocol, daddr, priority, mark })
}

/// Room in the send buffer; here the sender meets the pending error.
///
/// linux: net/core/sock.c:sock_alloc_send_pskb
pub(super) fn sock_alloc_send(sk: &Arc<Sock>) -> Result<(), Stop> {
    sk.state().sock_error()?;
    if sk.sock_wspace(0) { Ok(()) } else { Err(Stop::NoRoom) }
}

/// A packet of `len` octets, with room for a link header in front.
///
/// linux: net/packet/af_packet.c:packet_alloc_skb
pub(super) fn packet_alloc_skb(cx: &mut BhCx<'_>, len: usize) -> Result<Skb, Errno> {
    let mut skb = alloc_skb(cx, LL_RESERVED + len).ok_or(Errno::ENOBUFS)?;
    if skb.skb_open(LL_RESERVED, len).is_none() {
        kfree_skb(cx, skb, DropReason::NoMem);
        return Err(Errno::ENOBUFS);
    }
    Ok(skb)
}

/// Gives a frame its link header, or looks at the one it has; and says what is in it.
pub(super) fn packet_fill(sk: &Sock, skb: &mut Skb, way: &Way) -> Result<(), Errno> {
    skb.dev = Some(way.dev.ifindex);
    (skb.priority, skb.mark, skb.protocol) = (way.priority, way.mark, way.protocol);
    if sk.sk_type() == SOCK_RAW {
        if skb.len() < ETH_HLEN {
            return Err(Errno::EINVAL);
        }
        skb.reset_mac_header();
        packet_parse_headers(skb);
    } else {
        skb.reset_network_header();
        dev_hard_header(skb, way)?;
        skb.reset_mac_header();
    }
    skb.transport_header = skb.network_header;
    Ok(())
}

/// linux: include/linux/netdevice.h:dev_hard_header, net/ethernet/eth.c:eth_header
fn dev_hard_header(skb: &mut Skb, way: &Way) -> Result<(), Errno> {
    let silent = way.dev.has_flag(IFF_LOOPBACK) || way.dev.has_flag(IFF_NOARP);
    let daddr = match way.daddr {
        Some(daddr) => daddr,
        None if silent => [0; 6],
        None => return Err(Errno::EINVAL),
    };
    let length = matches!(way.protocol, ETH_P_802_3 | ETH_P_802_2);
    let proto = if length { skb.len() as u16 } else { way.protocol };
    if eth_header(skb, proto, way.dev.dev_addr(), daddr) { Ok(()) } else { Err(Errno::EINVAL) }
}

/// What a raw frame carries, where its sender does not say; its network header lies behind the link header.
///
/// linux: net/packet/af_packet.c:packet_parse_headers
fn packet_parse_headers(skb: &mut Skb) {
    skb.network_header = skb.headroom() as u16 + ETH_HLEN as u16;
    if skb.protocol == 0 || skb.protocol == ETH_P_ALL {
        skb.protocol = skb.front::<EthHdr>().map_or(0, |header| header.h_proto.get());
    }
}

/// It has a tag, which the MTU does not count.
///
/// linux: net/packet/af_packet.c:packet_extra_vlan_len_allowed
fn packet_extra_vlan_len_allowed(dev: &NetDevice, skb: &Skb) -> bool {
    let tagged = |header: &EthHdr| header.h_proto.get() == ETH_P_8021Q;
    dev.kind == ARPHRD_ETHER && skb.mac::<EthHdr>().is_some_and(tagged)
}

/// Charges the sender and gives the frame to its device.
///
/// linux: net/packet/af_packet.c:packet_xmit
pub(super) fn packet_xmit(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    mut skb: Skb,
    way: &Way,
) -> Result<(), Errno> {
    cx.watch(&mut skb);
    walk!(cx, skb, packet_xmit);
    let truesize = skb.truesize as usize;
    let mut list = cx.skb_list();
    list.push(skb);
    sk.skb_set_owner_w(cx, &mut list, truesize);
    let lost = dev_queue_xmit(cx, &mut list, &way.dev);
    cx.free_skb_list(list);
    lost.of_one().errno()
}
