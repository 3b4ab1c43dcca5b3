//! UDP out: address, route, packet, IP. Context: task, with one BH section a datagram.
//!
//! linux: net/ipv4/udp.c.
//! DIVERGES: the messages of one `sendmmsg` go in one BH section, those to one destination as a list
//! ([`Run`]), so an error that the first of them brings back over loopback is met by the next call,
//! not by the next message.

pub(super) mod cork;
mod fragments;
mod gso;
mod make;
mod prepare;
mod ubuf;

use self::fragments::{fits_mtu, has_room};
use self::make::{make_datagram, make_odd};
use self::prepare::prepare;
use self::ubuf::udp_send_zerocopy;
use crate::kernel::context::{BhCx, TaskCx};
use crate::net::core::dev::NetdevFeatures;
use crate::net::core::dev::tx::{Lost, NetXmit};
use crate::net::core::dst::{Dst, dst_confirm_neigh};
use crate::net::core::skbuff::{Skb, SkbList};
use crate::net::core::sock::{SEND_SHUTDOWN, Sock, settle_wmem};
use crate::net::ipv4::ip_options::IpTarget;
use crate::net::ipv4::ip_output::{
    IpMakeSkb, ip_dont_fragment, ip_send_skb, ip_sk_ignore_df, ip_sk_use_pmtu,
};
use crate::net::ipv4::ip_sockglue::ip_local_error;
use crate::net::ipv4::route::{Flow4, RTO_ONLINK, ip_route_output_ports};
use crate::net::socket::{MsgSend, SendBatch, Sent, Wait};
use klib::checksum::csum_tcpudp_nofold;
use std::io::IoSlice;
use std::sync::Arc;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::in_::{IP_PMTUDISC_PROBE, ipv4_is_multicast};
use uapi::ip::{INET_DSCP_MASK, IP_DF, IPPROTO_UDP, IpHdr};
use uapi::poll::POLLOUT;
use uapi::snmp::UdpMib;
use uapi::socket::{MSG_CONFIRM, MSG_MORE, MSG_PROBE, MSG_ZEROCOPY};
use uapi::udp::UdpHdr;

/// The largest packet that IP can tell of.
///
/// linux: include/net/ip.h:IP_MAX_MTU
const IP_MAX_MTU: u32 = 0xffff;

/// Octets of a datagram's headers.
const HEADERS: usize = size_of::<IpHdr>() + size_of::<UdpHdr>();

/// A message with its flags and the call's.
type Msg<'a> = (&'a MsgSend<'a>, i32);

/// What one datagram is sent by.
#[derive(Clone, Copy, Debug)]
struct Send4 {
    flow: Flow4,
    /// As the header says it.
    tos: u8,
    sport: u16,
    dport: u16,
    ttl: u8,
    /// `IP_MTU_DISCOVER`.
    pmtudisc: i32,
    /// The peer is fixed: the datagram has an IP ID of the socket's own.
    connected: bool,
    broadcast: bool,
    no_check: bool,
    mc_loop: bool,
    priority: u32,
    /// Octets of payload of the datagrams that it is cut into; zero: of none.
    gso_size: u16,
    /// What it is to be told of: `SOF_TIMESTAMPING_*`.
    tsflags: u32,
    /// Its number, in place of the socket's count.
    ts_opt_id: Option<u32>,
}

/// What a socket's datagrams have in common, read under its lock once a batch.
#[derive(Clone, Copy, Debug)]
struct Template {
    send: Send4,
    uc_ttl: u8,
    mc_ttl: u8,
    /// Shut down for sending, or an error is pending: looked at again when room is asked for.
    stopped: bool,
    recverr: bool,
    /// It has `IP_OPTIONS`.
    options: bool,
}

/// Why a batch ended early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Error(Errno),
    /// The send buffer is full.
    NoRoom,
    /// The message is to be corked.
    Cork,
    /// It is to be told of.
    Zerocopy,
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        Self::Error(error)
    }
}

/// Sends datagrams, all of them in one BH section; corked ones one by one. What was sent; an error
/// only of the first.
///
/// # Errors
/// EMSGSIZE over 65,507 bytes, or over the MTU where the socket wants nothing cut; EOPNOTSUPP for `MSG_OOB`; EDESTADDRREQ without a peer;
/// EINVAL, EAFNOSUPPORT for the address; EACCES for a broadcast without `SO_BROADCAST`; EPIPE after
/// shutdown; EAGAIN without room; those of routing; the socket's pending error.
///
/// linux: net/ipv4/udp.c:udp_sendmsg
pub(super) fn udp_sendmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &SendBatch<'_>,
    wait: &mut Wait,
) -> Poll<Result<Sent, Errno>> {
    walk!(cx, udp_sendmsg);
    if sk.corked() {
        return Poll::Ready(cork::udp_send_corked(cx, sk, batch));
    }
    let (sent, stop) = cx.local_bh_disable(|bh| udp_send_batch(bh, sk, batch));
    match stop {
        Some(Stop::Cork) if sent.messages == 0 => Poll::Ready(cork::udp_send_corked(cx, sk, batch)),
        Some(Stop::Error(error)) if sent.messages == 0 => Poll::Ready(Err(error)),
        Some(Stop::NoRoom) if sent.messages == 0 => {
            let flags = batch.iter().next().map_or(0, |(_, flags)| flags);
            let room = wait.for_event(cx, sk, POLLOUT as u32, flags, |state| {
                state.err.is_some() || sk.sock_wspace(0)
            });
            if room.is_ready() {
                cx.count(UdpMib::SndbufErrors);
            }
            room
        }
        // Whoever sends the rest learns of the error, and does not meet it again.
        Some(Stop::Error(error)) => Poll::Ready(Ok(Sent { stop: Some(error), ..sent })),
        _ => Poll::Ready(Ok(sent)),
    }
}

#[inline(always)]
fn udp_send_batch(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    batch: &SendBatch<'_>,
) -> (Sent, Option<Stop>) {
    let mut sent = Sent::default();
    let template = template(cx, sk);
    let mut run = Run::new(cx, &template);
    let mut stop = None;
    for msg in batch.iter() {
        match udp_send_one(cx, sk, &template, &mut run, msg) {
            Ok(len) => sent.add(len),
            Err(Stop::Zerocopy) => match udp_send_zerocopy(cx, sk, &template, &mut run, msg) {
                Ok(len) => sent.add(len),
                Err(why) => {
                    stop = Some(why);
                    break;
                }
            },
            Err(why) => {
                stop = Some(why);
                break;
            }
        }
    }
    // Those before an error go all the same; a run that could bring one never waits for the end.
    let _none = run.send(cx, sk);
    cx.free_skb_list(run.list);
    (sent, stop)
}

/// Datagrams of a batch that have their plan in common, on their way together.
struct Run {
    plan: Plan,
    list: Box<SkbList>,
    /// Bytes they will be charged with.
    truesize: usize,
    /// So many go together: one, when each can bring an error of its own.
    most: usize,
    recverr: bool,
}

impl Run {
    fn new(cx: &mut BhCx<'_>, template: &Template) -> Self {
        // Who asked for errors is told of each drop, a hook's verdict is the sender's error, and a
        // tap sees a packet that a full driver gives back once more.
        let net = &cx.t.net;
        let alone = template.recverr || net.nf.see_output() || !net.ptype_all.is_empty();
        let most = if alone { 1 } else { SkbList::MAX };
        let list = cx.skb_list();
        let plan = Plan::new(template.send);
        Self { plan, list, truesize: 0, most, recverr: template.recverr }
    }

    /// A datagram more, which is sent at once if it may not wait for others.
    #[inline(always)]
    fn push(&mut self, cx: &mut BhCx<'_>, sk: &Arc<Sock>, skb: Skb) -> Result<(), Errno> {
        self.truesize += skb.truesize as usize;
        self.list.push(skb);
        if self.list.len() < self.most { Ok(()) } else { self.send(cx, sk) }
    }

    /// Sends what waits.
    fn send(&mut self, cx: &mut BhCx<'_>, sk: &Arc<Sock>) -> Result<(), Errno> {
        if self.list.is_empty() {
            return Ok(());
        }
        sk.skb_set_owner_w(cx, &mut self.list, std::mem::take(&mut self.truesize));
        let lost = udp_send_skb(cx, &mut self.list);
        self.list.charge.release(cx);
        // RFC 768 knows no report of a drop on this machine: only who asked for errors hears of it.
        match lost.of_one() {
            NetXmit::Drop if !self.recverr => Ok(()),
            sent => sent.errno(),
        }
    }
}

/// What the socket says.
#[inline(always)]
fn template(cx: &BhCx<'_>, sk: &Arc<Sock>) -> Template {
    let default_ttl = cx.t.net.sysctl.ip_default_ttl;
    let state = sk.state();
    let (inet, opts) = (&state.inet, &state.opts);
    let send = Send4 {
        flow: Flow4 {
            daddr: inet.daddr,
            saddr: inet.saddr,
            oif: opts.bound_dev_if,
            tos: inet.tos & INET_DSCP_MASK | if opts.localroute { RTO_ONLINK } else { 0 },
            mark: opts.mark,
            ..Flow4::default()
        },
        tos: inet.tos,
        sport: inet.num,
        dport: inet.dport,
        ttl: default_ttl,
        pmtudisc: inet.pmtudisc,
        connected: false,
        broadcast: opts.broadcast,
        no_check: opts.no_check_tx,
        mc_loop: inet.mc_loop,
        priority: opts.priority,
        gso_size: state.udp.gso_size,
        tsflags: sk.tsflags(),
        ts_opt_id: None,
    };
    Template {
        send,
        uc_ttl: inet.uc_ttl.unwrap_or(default_ttl),
        mc_ttl: inet.mc_ttl,
        stopped: state.shutdown & SEND_SHUTDOWN != 0 || state.err.is_some() || state.dead,
        recverr: inet.recverr,
        options: state.inet_opt().is_some(),
    }
}

/// Who fills in the UDP checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Csum {
    /// Nobody: the socket wants none.
    None,
    /// The device.
    Partial,
    /// We do.
    Software,
}

/// What the datagrams of a batch to one destination have in common, found out for the first of
/// them: within a BH section the routes do not change, so it holds for those that follow.
struct Plan {
    send: Send4,
    /// Of the message that it was made for.
    name: Option<[u8; 16]>,
    flags: i32,
    /// It may serve others.
    lasting: bool,
    make: IpMakeSkb<UdpHdr>,
    csum: Csum,
    /// The sum over the pseudo header, without the length.
    pseudo: u32,
    /// Where to, also when the sender named nobody in particular.
    daddr: u32,
    /// Octets of the longest packet: the MTU, or whatever IP can tell of when longer ones are cut.
    longest: u32,
    /// A broadcast that the socket may not send.
    refused: bool,
    /// Shorter messages simply become a datagram: nothing is to be looked at.
    plain_end: usize,
    /// IP is to know more of its packets than stands in them.
    noted: bool,
    /// Their options.
    target: Option<IpTarget>,
}

impl Plan {
    /// For nobody yet.
    fn new(send: Send4) -> Self {
        Self {
            send,
            name: None,
            flags: 0,
            lasting: false,
            make: IpMakeSkb::default(),
            csum: Csum::None,
            pseudo: 0,
            daddr: 0,
            longest: 0,
            refused: false,
            plain_end: 0,
            noted: false,
            target: None,
        }
    }

    /// By a way that was found for `send`.
    fn by(&mut self, cx: &BhCx<'_>, dst: &Dst) {
        let send = &self.send;
        let offload = cx.t.net.dev(dst.dev).is_some_and(|dev| {
            dev.features().intersects(NetdevFeatures::IP_CSUM | NetdevFeatures::HW_CSUM)
        });
        self.csum = match (send.no_check, offload) {
            (true, _) => Csum::None,
            (false, true) => Csum::Partial,
            (false, false) => Csum::Software,
        };
        let (saddr, daddr) = (dst.saddr, dst_addr(send, dst));
        let mode = send.pmtudisc;
        let mtu = if ip_sk_use_pmtu(mode) { dst.mtu } else { dst.dev_mtu(cx.t) };
        let df = mode == IP_PMTUDISC_PROBE || ip_dont_fragment(mode, dst);
        self.longest = if ip_sk_ignore_df(mode) { IP_MAX_MTU } else { mtu };
        let with_options = self.target.is_some();
        let (mtu, longest) = self.rest_of(mtu);
        self.longest = longest;
        let iph = IpHdr {
            tos: send.tos,
            ttl: send.ttl,
            frag_off: if df { IP_DF } else { 0 }.into(),
            ..IpMakeSkb::<UdpHdr>::header(saddr, daddr, IPPROTO_UDP)
        };
        let udph =
            UdpHdr { source: send.sport.into(), dest: send.dport.into(), ..UdpHdr::default() };
        self.pseudo = csum_tcpudp_nofold(saddr, daddr, 0, IPPROTO_UDP, 0);
        self.refused = dst.is_broadcast() && !send.broadcast;
        self.plain_end = match self.refused || send.gso_size != 0 || with_options {
            true => 0,
            false => (mtu as usize + 1).saturating_sub(HEADERS),
        };
        self.noted = ipv4_is_multicast(daddr) || !ip_sk_use_pmtu(mode);
        self.make.own_ident = send.connected;
        self.make.set(iph, udph, mtu);
        self.daddr = daddr;
    }

    /// It is this message's, too: the same destination, and nothing special said of it.
    #[inline(always)]
    fn serves(&self, (msg, flags): Msg<'_>) -> bool {
        let name = match (msg.name, &self.name) {
            (Some(name), Some(mine)) => name.first_chunk::<16>() == Some(mine),
            (None, None) => true,
            _ => false,
        };
        self.lasting && name && flags == self.flags && msg.control.is_empty()
    }
}

#[inline(always)]
fn udp_send_one(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    template: &Template,
    run: &mut Run,
    (msg, flags): Msg<'_>,
) -> Result<usize, Stop> {
    let len = iov_length(msg.iov);
    if len > 0xffff {
        return Err(Errno::EMSGSIZE.into());
    }
    if run.plan.serves((msg, flags)) {
        if run.list.dst.is_some() {
            route_as_before(cx, &run.plan.send.flow);
        } else {
            // Those before took it along.
            run.list.dst = Some(ip_route_output_ports(cx, &run.plan.send.flow)?);
        }
    } else {
        if flags & (MSG_MORE | MSG_ZEROCOPY) != 0 {
            return Err(if flags & MSG_MORE != 0 { Stop::Cork } else { Stop::Zerocopy });
        }
        if !msg.control.is_empty() {
            sock_kmalloc(cx, msg.control.len())?;
        }
        if udp_plan(cx, sk, template, run, (msg, flags))? {
            return Ok(len);
        }
    }
    let odd = len >= run.plan.plain_end;
    if odd {
        check_way(cx, sk, &run.plan, len)?;
    }
    if template.stopped {
        stopped(sk)?;
    }
    if !sk.sock_wspace(run.truesize) {
        make_room(cx, sk, run)?;
    }
    let skb = match odd {
        false => make_datagram(cx, sk, &run.plan, len, |to| copy_from_iter(msg.iov, to)),
        true => make_odd(cx, sk, &run.plan, msg.iov),
    };
    match skb {
        Ok(skb) => run.push(cx, sk, skb)?,
        // Out of memory is a drop on this machine like any other.
        Err(Errno::ENOBUFS) if !template.recverr => (),
        Err(error) => return Err(error.into()),
    }
    Ok(len)
}

/// The stations of a lookup whose answer is at hand: within a BH section the routes do not change.
#[inline(always)]
fn route_as_before(cx: &BhCx<'_>, flow: &Flow4) {
    walk!(cx, ip_route_output_ports => u64::from(flow.daddr));
    walk!(cx, ip_route_output_flow => u64::from(flow.daddr));
}

/// Finds out how this message and those like it go, after those before it are sent. True when
/// nothing is to be sent (`MSG_PROBE`).
#[inline(never)]
fn udp_plan(
    cx: &mut BhCx<'_>,
    sk: &Arc<Sock>,
    template: &Template,
    run: &mut Run,
    (msg, flags): Msg<'_>,
) -> Result<bool, Stop> {
    // Without an error: the run would not have waited.
    let _none = run.send(cx, sk);
    let plan = &mut run.plan;
    plan.lasting = false;
    plan.target = prepare(cx.t, &mut plan.send, (sk, template), (msg, flags))?;
    let dst = ip_route_output_ports(cx, &plan.send.flow)?;
    if flags & (MSG_PROBE | MSG_CONFIRM) != 0 && confirm(cx, &plan.send, &dst, flags)? {
        cx.cpu.routes.give_back(dst);
        return Ok(true);
    }
    plan.by(cx, &dst);
    plan.flags = flags;
    plan.name = msg.name.and_then(|name| name.first_chunk::<16>().copied());
    // What control data asked for was for that message alone.
    plan.lasting = msg.control.is_empty();
    if let Some(before) = run.list.dst.replace(dst) {
        cx.cpu.routes.give_back(before);
    }
    Ok(false)
}

/// Control data is a copy that a socket may not have too much of.
///
/// linux: net/core/sock.c:sock_kmalloc
#[cold]
fn sock_kmalloc(cx: &BhCx<'_>, bytes: usize) -> Result<(), Errno> {
    let room = bytes < cx.t.net.sysctl.optmem_max as usize;
    if room { Ok(()) } else { Err(Errno::ENOBUFS) }
}

/// `MSG_CONFIRM`: the sender has proof that the way works. True when nothing else is wanted
/// (`MSG_PROBE`).
#[cold]
fn confirm(cx: &mut BhCx<'_>, send: &Send4, dst: &Dst, flags: i32) -> Result<bool, Errno> {
    if dst.is_broadcast() && !send.broadcast {
        return Err(Errno::EACCES);
    }
    if flags & MSG_CONFIRM != 0 {
        dst_confirm_neigh(cx, dst, dst_addr(send, dst));
    }
    Ok(flags & MSG_PROBE != 0)
}

/// Bytes of a message.
///
/// linux: lib/iovec.c:iov_length
#[inline(always)]
fn iov_length(iov: &[IoSlice<'_>]) -> usize {
    match iov {
        [one] => one.len(),
        many => many.iter().map(|part| part.len()).sum(),
    }
}

/// Asks for room in the send buffer. Only here, behind all that can be wrong with the message, does
/// the sender meet the pending error and the shutdown.
///
/// linux: net/core/sock.c:sock_alloc_send_pskb
fn sock_alloc_send(sk: &Arc<Sock>, template: &Template) -> Result<(), Stop> {
    if template.stopped {
        stopped(sk)?;
    }
    if sk.sock_wspace(0) { Ok(()) } else { Err(Stop::NoRoom) }
}

/// What keeps a socket from sending at all.
#[cold]
fn stopped(sk: &Sock) -> Result<(), Errno> {
    let mut state = sk.state();
    state.sock_error()?;
    if state.dead {
        // A panic under its lock killed it, and has been reported once.
        return Err(Errno::EIO);
    }
    if state.shutdown & SEND_SHUTDOWN != 0 { Err(Errno::EPIPE) } else { Ok(()) }
}

/// No room while others wait to be sent, or their charge to be given back: they go first.
#[cold]
#[inline(never)]
fn make_room(cx: &mut BhCx<'_>, sk: &Arc<Sock>, run: &mut Run) -> Result<(), Stop> {
    let _none = run.send(cx, sk);
    settle_wmem(cx);
    if !sk.sock_wspace(0) {
        return Err(Stop::NoRoom);
    }
    if run.list.dst.is_none() {
        // They took the route along.
        run.list.dst = Some(ip_route_output_ports(cx, &run.plan.send.flow)?);
    }
    Ok(())
}

/// Copies user data into the packet: exactly as much as there is.
#[inline(always)]
fn copy_from_iter(iov: &[IoSlice<'_>], mut to: &mut [u8]) -> Result<(), Errno> {
    if let [one] = iov
        && one.len() == to.len()
    {
        to.copy_from_slice(one);
        return Ok(());
    }
    for part in iov {
        let (here, rest) = to.split_at_mut(part.len().min(to.len()));
        here.copy_from_slice(&part[..here.len()]);
        to = rest;
    }
    Ok(())
}

/// A datagram of `len` bytes may go this way: it is allowed, and the way is wide enough, or the send buffer for its
/// fragments.
#[inline(never)]
fn check_way(cx: &mut BhCx<'_>, sk: &Arc<Sock>, plan: &Plan, len: usize) -> Result<(), Errno> {
    if plan.refused {
        return Err(Errno::EACCES);
    }
    // What becomes segments is held against the MTU when it is made.
    let (mtu, longest) = match plan.send.gso_size {
        0 => (plan.make.mtu, plan.longest),
        _ => plan.whole(),
    };
    if HEADERS + len > longest as usize {
        ip_local_error(cx, sk, Errno::EMSGSIZE, (plan.daddr, mtu));
        return Err(Errno::EMSGSIZE);
    }
    if plan.send.gso_size == 0 && !fits_mtu(plan, len) && !has_room(sk, plan, len) {
        cx.count(UdpMib::SndbufErrors);
        return Err(Errno::ENOBUFS);
    }
    Ok(())
}

/// To nobody in particular means to this machine.
#[inline(always)]
fn dst_addr(send: &Send4, dst: &Dst) -> u32 {
    if send.flow.daddr == 0 { dst.saddr } else { send.flow.daddr }
}

/// Sends datagrams that are complete but for what the device fills in.
///
/// linux: net/ipv4/udp.c:udp_send_skb
#[inline(always)]
fn udp_send_skb(cx: &mut BhCx<'_>, list: &mut SkbList) -> Lost {
    walk!(cx, list, udp_send_skb);
    let all = list.len() as u64;
    let lost = ip_send_skb(cx, list);
    cx.cpu.mib.add(UdpMib::OutDatagrams.into(), all - u64::from(lost.dropped + lost.refused));
    if lost.dropped != 0 {
        cx.cpu.mib.add(UdpMib::SndbufErrors.into(), lost.dropped.into());
    }
    lost
}
