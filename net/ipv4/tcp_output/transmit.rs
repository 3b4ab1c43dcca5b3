//! From a segment in a socket's queue to packets for IP.
//!
//! linux: net/ipv4/tcp_output.c (`tcp_transmit_skb`). Key type: [`Burst`].
//! DIVERGES: the segments of one turn of `tcp_write_xmit` go down to IP together, so what one of them meets
//! there is known only behind the last: a segment that a full queue of this machine drops counts as sent, and
//! goes again as if the way had lost it.

use super::options::{
    MAX_TCP_OPTION_SPACE, TcpOutOptions, tcp_established_options, tcp_syn_options,
    tcp_synack_options_of,
};
use super::tcp_pace;
use super::window::tcp_select_window;
use crate::kernel::context::{BhCx, Walker};
use crate::kernel::trace::drop_reason::DropReason;
use crate::kernel::trace::events::Point;
use crate::net::core::dev::NetdevFeatures;
use crate::net::core::skbuff::{
    Cb, FragCut, Gso, GsoType, SkBuff, Skb, SkbFlags, SkbList, alloc_skb, kfree_skb,
};
use crate::net::core::sock::SkPacing;
use crate::net::ipv4::inet_connection_sock::sk_stop_timer;
use crate::net::ipv4::ip_output::LL_RESERVED;
use crate::net::ipv4::tcp::{AckPending, SeqNr, TCP_ATO_MIN, TcpSk, TcpSkbCb, TimerKind};
use crate::net::ipv4::tcp_cong::TcpCaEvent;
use crate::net::ipv4::tcp_ecn::{ecn_of, inet_ecn_xmit, tcp_ecn_send};
use crate::net::ipv4::tcp_input::{cong_refresh, tcp_comp_sack_sent, tcp_enter_cwr};
use crate::net::ipv4::tcp_ipv4::{CsumBy, IPV4_SPECIFIC};
use crate::net::ipv4::tcp_md5sig::calc_md5_hash;
use crate::net::ipv4::tcp_rate::tcp_rate_skb_sent;
use crate::net::ipv4::tcp_recovery::tcp_update_skb_after_send;
use uapi::if_ether::{ETH_ALEN, ETH_HLEN, ETH_P_IP};
use uapi::ip::{INET_ECN_MASK, INET_ECN_NOT_ECT, IPPROTO_TCP, IpHdr};
use uapi::snmp::TcpMib;
use uapi::tcp::{TCPHDR_ACK, TCPHDR_PSH, TCPHDR_SYN, TCPHDR_URG, TcpHdr};
use zerocopy::IntoBytes;

/// Segments that go down to IP together.
pub(crate) struct Burst {
    list: Box<SkbList>,
    truesize: usize,
}

/// There is no memory for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoMemory;

impl Burst {
    /// None yet.
    #[inline]
    pub(crate) fn new(cx: &mut BhCx<'_>) -> Self {
        Self { list: cx.skb_list(), truesize: 0 }
    }

    /// So many that they should go.
    #[inline]
    pub(crate) fn full(&self) -> bool {
        self.list.len() >= SkbList::MAX
    }

    #[inline]
    fn push(&mut self, skb: Skb) {
        self.truesize += skb.truesize as usize;
        self.list.push(skb);
    }

    /// Sends what there is.
    pub(crate) fn send(&mut self, cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
        if self.list.is_empty() {
            return;
        }
        sk.sk.skb_set_owner_w(cx, &mut self.list, std::mem::take(&mut self.truesize));
        let lost = (IPV4_SPECIFIC.queue_xmit)(cx, sk, &mut self.list);
        self.list.charge.release(cx);
        if lost.any() {
            tcp_enter_cwr(cx, sk);
        }
    }

    /// Sends what there is, and ends.
    #[inline]
    pub(crate) fn finish(mut self, cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
        self.send(cx, sk);
        cx.free_skb_list(self.list);
    }
}

/// A segment to be made, as far as its headers are known: for who watches it.
#[cold]
fn frame_of(sk: &TcpSk<'_>, skb: &SkBuff) -> [u8; FRAME] {
    let inet = &sk.st.inet;
    let mut frame = [0; FRAME];
    let (link, rest) = frame.split_at_mut(ETH_HLEN);
    let (ip, tcp) = rest.split_at_mut(size_of::<IpHdr>());
    link[2 * ETH_ALEN..].copy_from_slice(&ETH_P_IP.to_be_bytes());
    (ip[0], ip[1], ip[8], ip[9]) = (0x45, inet.tos, 64, IPPROTO_TCP);
    let total = (size_of::<IpHdr>() + size_of::<TcpHdr>() + skb.len()).min(u16::MAX.into()) as u16;
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip[12..16].copy_from_slice(&inet.saddr.to_be_bytes());
    ip[16..20].copy_from_slice(&inet.daddr.to_be_bytes());
    tcp[..2].copy_from_slice(&inet.sport.to_be_bytes());
    tcp[2..4].copy_from_slice(&inet.dport.to_be_bytes());
    if let Cb::Tcp(cb) = skb.cb {
        tcp[4..8].copy_from_slice(&cb.seq.0.to_be_bytes());
        tcp[13] = cb.tcp_flags;
    }
    tcp[12] = 0x50;
    frame
}

const FRAME: usize = ETH_HLEN + size_of::<IpHdr>() + size_of::<TcpHdr>();

/// Marks a segment that begins here, if somebody watches its flow.
#[inline]
pub(crate) fn watch_segment(cx: &mut BhCx<'_>, sk: &TcpSk<'_>, skb: &mut SkBuff) {
    if cx.m.tracer.on() && !skb.walk_id.watched() {
        skb.walk_id = cx.m.tracer.packet(&frame_of(sk, skb)[..]);
        cx.link_span(skb);
    }
}

/// Sends a copy of a packet of the queue, which stays there until it is acknowledged: a fresh head, the same
/// pages. One that holds several segments goes down whole, to be cut by the device or just before it.
///
/// linux: net/ipv4/tcp_output.c:tcp_transmit_skb
#[inline]
pub(crate) fn tcp_transmit_skb(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    from: &mut Skb,
    (burst, mss): (&mut Burst, u32),
) -> Result<(), NoMemory> {
    walk!(cx, from, tcp_transmit_skb);
    let Cb::Tcp(mut own) = from.cb else { return Err(NoMemory) };
    let (mut bytes, now) = ([0; MAX_TCP_OPTION_SPACE], cx.now());
    let options = options_of(cx, sk, &own, now);
    let ecn = ecn_of(sk.tp, &own, from.data_len);
    if sk.st.inet.tos & INET_ECN_MASK != ecn {
        // What was gathered so far goes as it was meant.
        burst.send(cx, sk);
        inet_ecn_xmit(sk, ecn);
    }
    let options = options.write(&mut bytes);
    let mut skb = open_head(cx, options.len()).ok_or(NoMemory)?;
    FragCut::default().take(from, from.data_len, &mut skb);
    if from.data_len > mss && from.gso.segs > 1 {
        skb.gso = Gso { size: mss as u16, segs: from.gso.segs, kind: GsoType::Tcpv4 };
        // So that a receiver that joins segments hands them on at once; the queue's own packet stays as it is.
        own.tcp_flags |= TCPHDR_PSH;
    }
    if from.walk_id.watched() {
        link(cx, &mut skb, from);
    }
    if from.flags.intersects(SkbFlags::SW_TSTAMP | SkbFlags::SCHED_TSTAMP) {
        skb.flags |= from.flags & (SkbFlags::SW_TSTAMP | SkbFlags::SCHED_TSTAMP);
        skb.csum = from.csum;
    }
    write_header(cx, sk, &mut skb, &own, options);
    burst.push(skb);
    let at = sk.tp.cong.tcp_wstamp(now);
    from.set_tstamp(at);
    tcp_update_skb_after_send(sk.tp, (own.seq, own.end_seq), at);
    tcp_rate_skb_sent(sk.tp, from, at);
    if from.data_len != 0 {
        sk.tp.stats.data_segs_out += u32::from(from.gso.segs.max(1));
        sk.tp.stats.bytes_sent += u64::from(from.data_len);
        tcp_event_data_sent(cx, sk);
        tcp_pace(sk, from.data_len, at);
    }
    Ok(())
}

#[cold]
fn link(cx: &mut BhCx<'_>, skb: &mut Skb, from: &Skb) {
    skb.walk_id = cx.m.tracer.fresh();
    cx.walk_packet(skb, Point::link_clone, from.walk_id.0);
    cx.walk_packet(from, Point::skb_clone, skb.walk_id.0);
}

/// Sends a segment without data of its own accord: an acknowledgement, a probe, a reset.
pub(super) fn transmit_bare(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    (seq, flags): (SeqNr, u8),
) -> Result<(), NoMemory> {
    let cb = TcpSkbCb { seq, end_seq: seq, tcp_flags: flags, ..TcpSkbCb::NONE };
    let (mut bytes, now) = ([0; MAX_TCP_OPTION_SPACE], cx.now());
    inet_ecn_xmit(sk, INET_ECN_NOT_ECT);
    let options = options_of(cx, sk, &cb, now);
    let mut skb = open_head(cx, options.len()).ok_or(NoMemory)?;
    skb.cb = Cb::Tcp(cb);
    watch_segment(cx, sk, &mut skb);
    walk!(cx, skb, tcp_transmit_skb);
    write_header(cx, sk, &mut skb, &cb, options.write(&mut bytes));
    let mut burst = Burst::new(cx);
    burst.push(skb);
    burst.finish(cx, sk);
    Ok(())
}

#[inline]
fn options_of(
    cx: &BhCx<'_>,
    sk: &TcpSk<'_>,
    cb: &TcpSkbCb,
    now: crate::kernel::time::Ktime,
) -> TcpOutOptions {
    match cb.tcp_flags & (TCPHDR_SYN | TCPHDR_ACK) {
        TCPHDR_SYN => tcp_syn_options(cx, sk, now),
        flags if flags & TCPHDR_SYN != 0 => tcp_synack_options_of(sk, now),
        _ => tcp_established_options(sk, now),
    }
}

/// A packet with room for the headers in front, and the TCP header's octets as its data.
#[inline]
fn open_head(cx: &mut BhCx<'_>, options: usize) -> Option<Skb> {
    const FRONT: usize = LL_RESERVED + size_of::<IpHdr>();
    let len = size_of::<TcpHdr>() + options;
    let mut skb = alloc_skb(cx, FRONT + len)?;
    if skb.skb_open(FRONT, len).is_none() {
        kfree_skb(cx, skb, DropReason::NoMem);
        return None;
    }
    skb.transport_header = FRONT as u16;
    Some(skb)
}

/// Writes the header: ports, numbers, window, options, checksum.
///
/// linux: net/ipv4/tcp_output.c:__tcp_transmit_skb
#[inline]
fn write_header(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    skb: &mut Skb,
    cb: &TcpSkbCb,
    options: &[u8],
) {
    let window = if cb.tcp_flags & TCPHDR_SYN != 0 {
        sk.tp.rcv_wnd.min(0xffff) as u16
    } else {
        tcp_select_window(cx, sk)
    };
    let (urg, urg_ptr) = urgent(sk, cb);
    let th = TcpHdr {
        source: sk.st.inet.sport.into(),
        dest: sk.st.inet.dport.into(),
        seq: cb.seq.0.into(),
        ack_seq: sk.tp.rcv_nxt.0.into(),
        doff_res: (((size_of::<TcpHdr>() + options.len()) / 4) << 4) as u8,
        flags: cb.tcp_flags | urg | tcp_ecn_send(sk.tp, cb, skb.data_len),
        window: window.into(),
        check: 0.into(),
        urg_ptr: urg_ptr.into(),
    };
    if let Some((header, rest)) = skb.data_mut().and_then(|data| data.split_at_mut_checked(20)) {
        header.copy_from_slice(th.as_bytes());
        rest.copy_from_slice(options);
    }
    sk.tp.rx_opt.dsack = false;
    let offload = sk.tp.dst.as_ref().and_then(|dst| cx.t.net.dev(dst.dev)).is_some_and(|dev| {
        dev.features().intersects(NetdevFeatures::IP_CSUM | NetdevFeatures::HW_CSUM)
    });
    // What is cut below gets its checksums there.
    let by = if offload || skb.gso.size != 0 { CsumBy::Device } else { CsumBy::Software };
    if sk.tp.md5 {
        calc_md5_hash(sk, skb);
    }
    if sk.sk.pacing_status() == SkPacing::Fq {
        skb.set_tstamp(sk.tp.cong.tcp_wstamp(cx.now()));
    }
    (IPV4_SPECIFIC.send_check)(skb, by, (sk.st.inet.saddr, sk.st.inet.daddr));
    if cb.tcp_flags & TCPHDR_ACK != 0 {
        if sk.tp.comp_sack.is_some() {
            tcp_comp_sack_sent(cx, sk.tp);
        }
        tcp_event_ack_sent(sk);
    }
    let segs = u32::from(skb.gso.segs.max(1));
    sk.tp.stats.segs_out = sk.tp.stats.segs_out.wrapping_add(segs);
    cx.cpu.mib.add(TcpMib::OutSegs.into(), segs.into());
}

/// The urgent pointer, while something urgent is to be sent.
#[inline]
fn urgent(sk: &TcpSk<'_>, cb: &TcpSkbCb) -> (u8, u16) {
    let (seq, up) = (cb.seq, sk.tp.snd_up);
    if up == sk.tp.snd_una || !seq.before(up) {
        return (0, 0);
    }
    if up.before(seq + 0x1_0000) {
        (TCPHDR_URG, (up - seq) as u16)
    } else if (seq + 0xffff).after(sk.tp.snd_nxt) {
        (TCPHDR_URG, 0xffff)
    } else {
        (0, 0)
    }
}

/// An acknowledgement leaves: none is due any more.
///
/// linux: net/ipv4/tcp_output.c:tcp_event_ack_sent
#[inline]
fn tcp_event_ack_sent(sk: &mut TcpSk<'_>) {
    let ack = &mut sk.tp.ack;
    if ack.quick != 0 {
        ack.quick -= 1;
        if ack.quick == 0 {
            // Another one may be delayed now: not for long.
            ack.ato = TCP_ATO_MIN;
        }
    }
    if ack.pending != AckPending::empty() {
        ack.pending = AckPending::empty();
        ack.retry = 0;
        sk_stop_timer(sk, TimerKind::Delack);
    }
}

/// Data leaves: after a pause the window begins anew, and a quick answer shows that the conversation goes
/// back and forth.
///
/// linux: net/ipv4/tcp_output.c:tcp_event_data_sent
#[inline]
fn tcp_event_data_sent(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let now = cx.now();
    if sk.tp.packets_out == 0 {
        cong_refresh(sk.tp, now);
        let tp = &mut *sk.tp;
        tp.ca_ops.cwnd_event(&mut tp.cong, TcpCaEvent::TxStart);
    }
    sk.tp.cong.lsndtime = now;
    if now.us_since(sk.tp.ack.lrcvtime) < u64::from(sk.tp.ack.ato) {
        sk.tp.ack.pingpong = sk.tp.ack.pingpong.saturating_add(1);
    }
}
