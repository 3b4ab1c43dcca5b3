//! Raw sockets out: a payload behind a header of ours, or a datagram whole. Context: task, with one BH section a
//! message.
//!
//! linux: net/ipv4/raw.c (`raw_sendmsg`).

use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::tx::NetXmit;
use crate::net::core::dst::{Dst, dst_confirm_neigh, dst_output, skb_dst};
use crate::net::core::skbuff::{Cb, Skb, SkbList, alloc_skb, kfree_skb};
use crate::net::core::sock::{SEND_SHUTDOWN, Sock};
use crate::net::ipv4::InetSkbParm;
use crate::net::ipv4::icmp::icmp_out_count;
use crate::net::ipv4::ip_options::{IpTarget, with_options};
use crate::net::ipv4::ip_output::{
    IpMakeSkb, LL_RESERVED, Parts, ip_make_skb, ip_make_skb_paged, ip_select_ident, ip_send_skb,
    ip_sk_ignore_df,
};
use crate::net::ipv4::ip_sockglue::{IpcmCookie, ip_cmsg_send, ip_local_error};
use crate::net::ipv4::route::{Flow4, IP_MAX_MTU, RTO_ONLINK, ip_route_output_flow};
use crate::net::netfilter::{NF_HOOK_LIST, NfInetHook};
use crate::net::socket::{MsgSend, SendBatch, Sent, Wait};
use klib::checksum::ip_fast_csum;
use std::sync::Arc;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::icmp::ICMP_HDR_LEN;
use uapi::if_ether::ETH_P_IP;
use uapi::in_::{
    IP_PMTUDISC_DONT, IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT, SockaddrIn, ipv4_is_multicast,
};
use uapi::ip::{INET_DSCP_MASK, IP_DF, IPPROTO_ICMP, IpHdr};
use uapi::poll::POLLOUT;
use uapi::snmp::IpMib;
use uapi::socket::{AF_UNSPEC, MSG_CONFIRM, MSG_DONTROUTE, MSG_MORE, MSG_OOB, MSG_PROBE};

/// Why a message was not sent.
pub(in crate::net::ipv4) enum Stop {
    Error(Errno),
    /// The send buffer is full.
    NoRoom,
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Self::Error(error)
    }
}

/// How a message goes.
pub(in crate::net::ipv4) struct Plan {
    pub(in crate::net::ipv4) flow: Flow4,
    pub(in crate::net::ipv4) ipc: IpcmCookie,
    hdrincl: bool,
    recverr: bool,
    pub(in crate::net::ipv4) broadcast: bool,
    pub(in crate::net::ipv4) connected: bool,
    pub(in crate::net::ipv4) df: bool,
    /// What is longer than the MTU is cut.
    pub(in crate::net::ipv4) ignore_df: bool,
    pub(in crate::net::ipv4) ttl: u8,
    mc_loop: bool,
    priority: u32,
    /// Its options.
    target: Option<IpTarget>,
}

impl Plan {
    /// What its options leave of an MTU.
    pub(in crate::net::ipv4) fn rest_of(&self, mtu: u32) -> u32 {
        self.target.as_ref().map_or(mtu, |target| target.rest_of(mtu))
    }

    /// Gives a packet its options.
    pub(in crate::net::ipv4) fn with_options(
        &self,
        cx: &mut BhCx<'_>,
        skb: Skb,
    ) -> Result<Skb, Errno> {
        with_options(cx, skb, self.target.as_ref())
    }

    /// It has a source route, to nobody in particular.
    pub(in crate::net::ipv4) fn leads_nowhere(&self) -> bool {
        self.target.as_ref().is_some_and(|target| target.opt.opt.srr != 0 && target.daddr == 0)
    }
}

/// Sends datagrams.
///
/// # Errors
/// EMSGSIZE over 65,535 octets or the MTU; EOPNOTSUPP for `MSG_OOB` and `MSG_MORE`; EDESTADDRREQ without a peer;
/// EINVAL, EAFNOSUPPORT for the address, EINVAL for a header that is none; EFAULT for ICMP of less than two octets;
/// EACCES for a broadcast without `SO_BROADCAST`; EPIPE after shutdown; EAGAIN; those of routing; the pending error.
///
/// linux: net/ipv4/raw.c:raw_sendmsg
pub(super) fn raw_sendmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &SendBatch<'_>,
    wait: &mut Wait,
) -> Poll<Result<Sent, Errno>> {
    walk!(cx, raw_sendmsg);
    send_each(cx, sk, batch, wait, send_one)
}

/// Sends one message, in a BH section.
pub(in crate::net::ipv4) type SendOne =
    fn(&mut BhCx<'_>, &Arc<Sock>, &MsgSend<'_>, i32) -> Result<usize, Stop>;

/// Sends messages in order, as many as go; for the first it waits until there is room.
pub(in crate::net::ipv4) fn send_each(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &SendBatch<'_>,
    wait: &mut Wait,
    send_one: SendOne,
) -> Poll<Result<Sent, Errno>> {
    let mut sent = Sent::default();
    for (msg, flags) in batch.iter() {
        match cx.local_bh_disable(|bh| send_one(bh, sk, msg, flags)) {
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

fn send_one(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    msg: &MsgSend<'_>,
    flags: i32,
) -> Result<usize, Stop> {
    let len: usize = msg.iov.iter().map(|part| part.len()).sum();
    if len > 0xffff {
        return Err(Errno::EMSGSIZE.into());
    }
    if flags & (MSG_OOB | MSG_MORE) != 0 {
        return Err(Errno::EOPNOTSUPP.into());
    }
    let to = msg.name.map(parse_name).transpose()?;
    let plan = plan(cx, sk, to, (msg, flags))?;
    // Whoever writes the header writes the options.
    if plan.target.is_some() && plan.hdrincl || plan.leads_nowhere() {
        return Err(Errno::EINVAL.into());
    }
    // The type and code of ICMP are looked at for the route.
    if !plan.hdrincl && sk.sk_protocol() == u16::from(IPPROTO_ICMP) && len < 2 {
        return Err(Errno::EFAULT.into());
    }
    let dst = ip_route_output_flow(cx, &plan.flow)?;
    match send_by(cx, sk, &plan, (&dst, flags), (msg, len)) {
        Ok(None) => {
            cx.cpu.routes.give_back(dst);
            Ok(len)
        }
        Ok(Some(skb)) => {
            transmit(cx, sk, &plan, skb, dst)?;
            Ok(len)
        }
        Err(stop) => {
            cx.cpu.routes.give_back(dst);
            Err(stop)
        }
    }
}

/// Where a message to `to` (`None`: the peer) goes and by what: the socket's options and control data.
pub(in crate::net::ipv4) fn plan(
    cx: &BhCx<'_>,
    sk: &Arc<Sock>,
    to: Option<u32>,
    (msg, flags): (&MsgSend<'_>, i32),
) -> Result<Plan, Errno> {
    let default_ttl = cx.t.net.sysctl.ip_default_ttl;
    let state = sk.state();
    let (inet, opts) = (&state.inet, &state.opts);
    if to.is_none() && inet.daddr == 0 {
        return Err(Errno::EDESTADDRREQ);
    }
    let daddr = to.unwrap_or(inet.daddr);
    let mut ipc = IpcmCookie { tos: inet.tos, tsflags: sk.tsflags(), ..IpcmCookie::default() };
    ip_cmsg_send(cx.t, msg.control, &mut ipc)?;
    let opt = ipc.opt.take().or_else(|| state.inet_opt().cloned());
    let target = opt.map(|opt| IpTarget { opt, daddr });
    let strict = target.as_ref().is_some_and(IpTarget::is_strictroute);
    let onlink = opts.localroute || flags & MSG_DONTROUTE != 0 || strict;
    let (mc_index, mc_addr) = state.way_to_groups(daddr);
    let first = |choices: [u32; 3]| choices.into_iter().find(|one| *one != 0).unwrap_or(0);
    let oif = [ipc.oif, opts.bound_dev_if, mc_index].map(u32::from);
    let flow = Flow4 {
        daddr: target.as_ref().map_or(daddr, IpTarget::first_hop),
        saddr: first([ipc.addr, inet.saddr, mc_addr]),
        oif: first(oif) as u16,
        tos: ipc.tos & INET_DSCP_MASK | if onlink { RTO_ONLINK } else { 0 },
        mark: ipc.mark.unwrap_or(opts.mark),
        ..Flow4::default()
    };
    let many = ipv4_is_multicast(daddr);
    let own = if many { Some(inet.mc_ttl) } else { inet.uc_ttl };
    Ok(Plan {
        flow,
        hdrincl: inet.hdrincl,
        recverr: inet.recverr,
        broadcast: opts.broadcast,
        connected: inet.daddr != 0,
        ignore_df: ip_sk_ignore_df(inet.pmtudisc),
        df: !matches!(inet.pmtudisc, IP_PMTUDISC_DONT | IP_PMTUDISC_INTERFACE | IP_PMTUDISC_OMIT),
        ttl: ipc.ttl.or(own).unwrap_or(default_ttl),
        mc_loop: inet.mc_loop,
        priority: ipc.priority.unwrap_or(opts.priority),
        ipc,
        target,
    })
}

/// A destination; `AF_UNSPEC` passes for `AF_INET`, as in Linux. The port is not looked at.
fn parse_name(name: &[u8]) -> Result<u32, Errno> {
    let unspec = name.first_chunk::<2>() == Some(&(AF_UNSPEC as u16).to_ne_bytes());
    match name.get(4..8).and_then(|addr| addr.try_into().ok()) {
        Some(addr) if unspec && name.len() >= 16 => Ok(u32::from_be_bytes(addr)),
        _ => SockaddrIn::from_bytes(name).map(|to| to.addr),
    }
}

/// Makes the datagram for a way that was found; `None`: there is nothing to send (`MSG_PROBE`).
fn send_by(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    plan: &Plan,
    (dst, flags): (&Arc<Dst>, i32),
    (msg, len): (&MsgSend<'_>, usize),
) -> Result<Option<Skb>, Stop> {
    if dst.is_broadcast() && !plan.broadcast {
        return Err(Errno::EACCES.into());
    }
    let daddr = if plan.flow.daddr == 0 { dst.saddr } else { plan.flow.daddr };
    if flags & MSG_CONFIRM != 0 {
        dst_confirm_neigh(cx, dst, daddr);
        if flags & MSG_PROBE != 0 && len == 0 {
            return Ok(None);
        }
    }
    if plan.hdrincl {
        return raw_send_hdrinc(cx, sk, (dst, flags, daddr), (msg, len));
    }
    // Of its own headers' packets Linux lets a socket have twice as much, and looks at nothing else.
    if sk.wmem_alloc() > 2 * sk.sndbuf() {
        return Err(Errno::ENOBUFS.into());
    }
    let mtu = plan.rest_of(dst.mtu);
    let cut = size_of::<IpHdr>() + len > mtu as usize && plan.ignore_df;
    let iph = IpHdr {
        tos: plan.ipc.tos,
        ttl: plan.ttl,
        frag_off: if plan.df && !cut { IP_DF } else { 0 }.into(),
        ..IpMakeSkb::<()>::header(dst.saddr, daddr, sk.sk_protocol() as u8)
    };
    let mut make = IpMakeSkb::default();
    make.own_ident = plan.connected;
    make.set(iph, (), mtu);
    let fill = |parts: &mut Parts<'_, ()>| {
        if plan.connected {
            parts.iph.id.set(sk.next_ident());
        }
        copy_in(msg, 0, parts.payload);
        Ok(())
    };
    let longest = plan.rest_of(IP_MAX_MTU) as usize;
    let made = match cut {
        _ if size_of::<IpHdr>() + len > longest => Err(Errno::EMSGSIZE),
        true => ip_make_skb_paged(cx, &make, msg.iov, fill),
        false => ip_make_skb(cx, &make, len, fill),
    };
    let skb = made.inspect_err(|error| {
        if *error == Errno::EMSGSIZE {
            ip_local_error(cx, sk, Errno::EMSGSIZE, (daddr, mtu));
        }
    })?;
    let skb = plan.with_options(cx, skb)?;
    if sk.sk_protocol() == u16::from(IPPROTO_ICMP) {
        count_icmp(cx, &skb);
    }
    Ok(Some(skb))
}

fn count_icmp(cx: &mut BhCx<'_>, skb: &Skb) {
    if let Some(type_) = skb.transport::<u8>() {
        icmp_out_count(cx, *type_);
    }
}

pub(in crate::net::ipv4) fn copy_in(msg: &MsgSend<'_>, mut skip: usize, mut to: &mut [u8]) {
    for part in msg.iov {
        let passed = skip.min(part.len());
        skip -= passed;
        let part = &part[passed..];
        let (here, rest) = to.split_at_mut(part.len().min(to.len()));
        here.copy_from_slice(&part[..here.len()]);
        to = rest;
    }
}

/// Room in the send buffer; here the sender meets the pending error and the shutdown.
///
/// linux: net/core/sock.c:sock_alloc_send_pskb
pub(in crate::net::ipv4) fn sock_alloc_send(sk: &Arc<Sock>) -> Result<(), Stop> {
    {
        let mut state = sk.state();
        state.sock_error()?;
        if state.shutdown & SEND_SHUTDOWN != 0 {
            return Err(Errno::EPIPE.into());
        }
    }
    if sk.sock_wspace(0) { Ok(()) } else { Err(Stop::NoRoom) }
}

/// A datagram whose program wrote the header: length and checksum are filled in always, source and identification
/// where they are zero.
///
/// linux: net/ipv4/raw.c:raw_send_hdrinc
fn raw_send_hdrinc(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    (dst, flags, daddr): (&Arc<Dst>, i32, u32),
    (msg, len): (&MsgSend<'_>, usize),
) -> Result<Option<Skb>, Stop> {
    let mtu = cx.t.net.dev(dst.dev).map_or(0, |dev| dev.mtu());
    if len > mtu {
        ip_local_error(cx, sk, Errno::EMSGSIZE, (daddr, mtu as u32));
        return Err(Errno::EMSGSIZE.into());
    }
    if len < size_of::<IpHdr>() {
        return Err(Errno::EINVAL.into());
    }
    if flags & MSG_PROBE != 0 {
        return Ok(None);
    }
    sock_alloc_send(sk)?;
    let mut skb = alloc_skb(cx, LL_RESERVED + len).ok_or(Errno::ENOBUFS)?;
    let filled = match skb.skb_open(LL_RESERVED, len) {
        Some(room) => {
            copy_in(msg, 0, room);
            fill_header(cx, &mut skb, dst.saddr)
        }
        None => Err(Errno::ENOBUFS),
    };
    if let Err(error) = filled {
        kfree_skb(cx, skb, DropReason::IpInHdr);
        return Err(error.into());
    }
    cx.watch(&mut skb);
    walk!(cx, skb, raw_send_hdrinc);
    Ok(Some(skb))
}

fn fill_header(cx: &mut BhCx<'_>, skb: &mut Skb, saddr: u32) -> Result<(), Errno> {
    skb.protocol = ETH_P_IP;
    skb.reset_network_header();
    skb.reset_transport_header();
    let len = skb.len();
    let iph = skb.front_mut::<IpHdr>().ok_or(Errno::EINVAL)?;
    let ihl = iph.ihl();
    if ihl < size_of::<IpHdr>() || ihl > len {
        return Err(Errno::EINVAL);
    }
    if iph.saddr.get() == 0 {
        iph.saddr.set(saddr);
    }
    iph.tot_len.set(len as u16);
    iph.check.set(0);
    if iph.id.get() == 0 {
        let id = ip_select_ident(cx, iph);
        iph.id.set(id);
    }
    let protocol = iph.protocol;
    if let Some(data) = skb.data_mut()
        && let Some(header) = data.get(..ihl)
    {
        let check = ip_fast_csum(header);
        data[10..12].copy_from_slice(&check.to_be_bytes());
    }
    skb.set_transport_header(ihl);
    if protocol == IPPROTO_ICMP && len >= ihl + ICMP_HDR_LEN {
        count_icmp(cx, skb);
    }
    Ok(())
}

/// Charges the sender and sends; a drop on this machine is told only to who asked for errors.
pub(in crate::net::ipv4) fn transmit(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    plan: &Plan,
    mut skb: Skb,
    dst: Arc<Dst>,
) -> Result<(), Errno> {
    (skb.priority, skb.mark) = (plan.priority, plan.flow.mark);
    if ipv4_is_multicast(plan.flow.daddr) {
        skb.cb = Cb::Inet(InetSkbParm { mc_loop: plan.mc_loop, ..InetSkbParm::default() });
    }
    let truesize = skb.truesize as usize;
    let mut list = cx.skb_list();
    list.push(skb);
    list.dst = Some(dst);
    sk.skb_set_owner_w(cx, &mut list, truesize);
    let lost = if plan.hdrincl { hdrinc_out(cx, &mut list) } else { ip_send_skb(cx, &mut list) };
    cx.free_skb_list(list);
    match lost.of_one() {
        NetXmit::Drop if !plan.recverr => Ok(()),
        sent => sent.errno(),
    }
}

/// Past the counters of what this machine makes: the hook, and by the route.
fn hdrinc_out(cx: &mut BhCx<'_>, list: &mut SkbList) -> crate::net::core::dev::tx::Lost {
    let devs = |list: &SkbList| (None, skb_dst(list).map(|dst| dst.dev));
    let refused = NF_HOOK_LIST(cx, NfInetHook::LocalOut, list, devs);
    let lost = refused + dst_output(cx, list);
    if lost.any() {
        cx.cpu.mib.add(IpMib::OutDiscards.into(), u64::from(lost.dropped + lost.refused));
    }
    lost
}
