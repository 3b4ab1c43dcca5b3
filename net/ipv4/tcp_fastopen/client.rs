//! Who connects: cookies of servers, what a SYN-ACK says of the SYN's data, and pauses where the way does not
//! bear any of it.
//!
//! linux: net/ipv4/tcp_fastopen.c, net/ipv4/tcp_metrics.c (`tcp_fastopen_cache_get`), net/ipv4/tcp_input.c
//! (`tcp_rcv_fastopen_synack`).

use super::{
    TFO_CLIENT_NO_COOKIE, TcpFastopenCookie, Tfo, TfoFail, tcp_fastopen_add_skb,
    tcp_parse_fastopen_option,
};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::core::skbuff::{SkBuff, UbufInfo};
use crate::net::ipv4::tcp::{TcpSk, TcpState};
use crate::net::ipv4::tcp_input::{Segment, tcp_mark_skb_lost};
use crate::net::ipv4::tcp_output::{cb, tcp_non_congestion_loss_retransmit};
use crate::net::net_namespace::NetView;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;
use uapi::in_::ipv4_is_loopback;
use uapi::snmp::LinuxMib;
use uapi::tcp::TCPHDR_FIN;

/// Servers whose cookies are remembered.
const CACHE_MAX: usize = 1024;

/// As far as losses in a row are counted: ten bits, in Linux.
const MOST_LOSSES: u16 = (1 << 10) - 1;

/// Data for a SYN: a message, and how much of it went.
#[derive(Debug, Default)]
pub(crate) struct FastopenReq<'a> {
    /// The message.
    pub iov: &'a [IoSlice<'a>],
    /// Octets that the SYN took.
    pub copied: usize,
    /// Who hears when it is acknowledged (`MSG_ZEROCOPY`).
    pub ubuf: Option<&'a Arc<UbufInfo>>,
}

/// What is remembered of a server.
///
/// linux: net/ipv4/tcp_metrics.c:tcp_fastopen_metrics
#[derive(Clone, Copy, Debug, Default)]
struct Metrics {
    mss: u16,
    cookie: TcpFastopenCookie,
    /// 1: the experimental option is to be tried, 2: it was.
    try_exp: u8,
    /// Connections in a row whose SYN with data, or its answer, was lost. It is told, and no more: what pauses,
    /// pauses for all servers.
    syn_loss: u16,
    /// The last of them.
    last_syn_loss: Ktime,
    /// When it was written last, in writes.
    at: u64,
}

/// Cookies by address of ours and theirs. When it is full, the one goes that was written first.
#[derive(Debug, Default)]
pub(crate) struct FastopenCache {
    known: BTreeMap<(u32, u32), Metrics>,
    writes: u64,
}

/// What a SYN-ACK teaches of a server.
struct Lesson {
    mss: u16,
    cookie: Option<TcpFastopenCookie>,
    try_exp: u8,
    /// When its SYN was given up for lost, if it was.
    syn_lost: Option<Ktime>,
}

impl FastopenCache {
    /// linux: net/ipv4/tcp_metrics.c:tcp_fastopen_cache_get
    fn get(&self, addrs: (u32, u32)) -> (Option<u16>, TcpFastopenCookie) {
        let known = self.known.get(&addrs).copied().unwrap_or_default();
        let mut cookie = known.cookie;
        if cookie.is_request() {
            cookie.exp = known.try_exp == 1;
        }
        (Some(known.mss).filter(|mss| *mss != 0), cookie)
    }

    /// linux: net/ipv4/tcp_metrics.c:tcp_fastopen_cache_set
    fn set(&mut self, addrs: (u32, u32), lesson: &Lesson) {
        if self.known.len() >= CACHE_MAX && !self.known.contains_key(&addrs) {
            let oldest = self.known.iter().min_by_key(|(_, known)| known.at);
            if let Some(oldest) = oldest.map(|(addrs, _)| *addrs) {
                self.known.remove(&oldest);
            }
        }
        self.writes += 1;
        let known = self.known.entry(addrs).or_default();
        known.at = self.writes;
        if lesson.mss != 0 {
            known.mss = lesson.mss;
        }
        match lesson.cookie.filter(|cookie| !cookie.is_request()) {
            Some(cookie) => known.cookie = cookie,
            None if lesson.try_exp > known.try_exp && known.cookie.is_request() => {
                known.try_exp = lesson.try_exp;
            }
            None => (),
        }
        match lesson.syn_lost {
            Some(now) => {
                known.syn_loss = (known.syn_loss + 1).min(MOST_LOSSES);
                known.last_syn_loss = now;
            }
            None => known.syn_loss = 0,
        }
    }

    /// A line for each server, as `ip tcp_metrics show` has it for what fast open keeps.
    fn show(&self, now: Ktime) -> String {
        let mut text = String::new();
        for ((saddr, daddr), known) in &self.known {
            // Writing to a string can't fail.
            let _ = write!(text, "{}", Ipv4Addr::from(*daddr));
            if known.mss != 0 {
                let _ = write!(text, " fo_mss {}", known.mss);
            }
            if known.syn_loss != 0 {
                let ago = now.since(known.last_syn_loss).as_secs_f64();
                let _ = write!(text, " fo_syn_drops {}/{ago:.3}sec ago", known.syn_loss);
            }
            if !known.cookie.is_request() {
                text += " fo_cookie ";
                for octet in known.cookie.bytes() {
                    let _ = write!(text, "{octet:02x}");
                }
            }
            let _ = writeln!(text, " source {}", Ipv4Addr::from(*saddr));
        }
        text
    }

    /// Servers in it.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// A cookie that a server gave.
    #[cfg(test)]
    pub(super) fn learn(&mut self, addrs: (u32, u32), cookie: TcpFastopenCookie) {
        self.set(addrs, &Lesson { mss: 1000, cookie: Some(cookie), try_exp: 0, syn_lost: None });
    }

    /// A server's answer without a cookie, to a SYN that was lost once or not.
    #[cfg(test)]
    pub(super) fn answered(&mut self, addrs: (u32, u32), syn_lost: Option<Ktime>) {
        self.set(addrs, &Lesson { mss: 0, cookie: None, try_exp: 0, syn_lost });
    }

    /// What is told of it.
    #[cfg(test)]
    pub(super) fn told(&self, now: Ktime) -> String {
        self.show(now)
    }

    /// The cookie of a server.
    #[cfg(test)]
    pub(super) fn cookie(&self, addrs: (u32, u32)) -> TcpFastopenCookie {
        self.get(addrs).1
    }
}

/// Whether something on the way from here does not bear fast open: it pauses then, longer each time.
///
/// linux: include/net/netns/ipv4.h:netns_ipv4 (`tfo_active_disable_times`)
#[derive(Debug, Default)]
pub(crate) struct Blackhole {
    times: AtomicU32,
    /// The last time, in nanoseconds.
    stamp: AtomicU64,
}

/// What a SYN to a server may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    /// The option; `None`: none.
    pub cookie: Option<TcpFastopenCookie>,
    /// Its segment size the last time.
    pub mss: Option<u16>,
    /// Data, too.
    pub data: bool,
}

/// What the SYN of a socket may have.
///
/// linux: net/ipv4/tcp_fastopen.c:tcp_fastopen_cookie_check
pub(crate) fn tcp_fastopen_cookie_check(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> Known {
    let addrs = (sk.st.inet.saddr, sk.st.inet.daddr);
    let (mss, cookie) = cx.t.ns.tcp.fastopen.cache.lock().get(addrs);
    if active_should_disable(cx, sk) {
        return Known { cookie: None, mss, data: false };
    }
    let without = cx.t.net.sysctl.tcp.fastopen & TFO_CLIENT_NO_COOKIE != 0;
    if without || sk.tp.tfo(Tfo::NO_COOKIE) {
        return Known { cookie: None, mss, data: true };
    }
    let data = !cookie.is_request();
    if !data {
        sk.tp.tfo_mut().client_fail = TfoFail::CookieUnavailable;
    }
    Known { cookie: Some(cookie), mss, data }
}

/// `TCP_FASTOPEN_CONNECT`: there is a cookie, and so the SYN waits for data. True then.
///
/// linux: net/ipv4/tcp_fastopen.c:tcp_fastopen_defer_connect
pub(crate) fn tcp_fastopen_defer_connect(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    let defers =
        sk.tp.tfo(Tfo::CONNECT) && !sk.tp.tfo(Tfo::REQ) && tcp_fastopen_cookie_check(cx, sk).data;
    if defers {
        sk.tp.tfo_mut().flags |= Tfo::DEFER_CONNECT;
    }
    defers
}

/// What a SYN-ACK says of a SYN with the option or data; true when data is to go again, which takes the
/// acknowledgement along.
///
/// linux: net/ipv4/tcp_input.c:tcp_rcv_fastopen_synack
pub(crate) fn tcp_rcv_fastopen_synack(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    synack: &SkBuff,
    seg: &Segment,
) -> bool {
    walk!(cx, tcp_rcv_fastopen_synack);
    let options = synack.data().get(20..seg.th.doff()).unwrap_or(&[]);
    let mut cookie = tcp_parse_fastopen_option(options);
    let asked = sk.tp.tfo(Tfo::SYN_FASTOPEN);
    let again = sk.tp.stats.total_retrans != 0;
    let unacked = sk.tp.tfo(Tfo::SYN_DATA) && !sk.tp.rtx_queue.is_empty();
    let (mut try_exp, mut syn_lost) = (0, None);
    if !asked {
        // Nobody asked for it.
        cookie = None;
    } else if again {
        // The server seems to have got the plain SYN alone: it knows of no cookie and takes no data.
        syn_lost = (cookie.is_none() && unacked).then(|| cx.now());
    } else if cookie.is_none() && !sk.tp.tfo(Tfo::SYN_DATA) {
        // Another form of the option the next time.
        try_exp = if sk.tp.tfo(Tfo::SYN_FASTOPEN_EXP) { 2 } else { 1 };
    }
    let mss = seg.opts.mss.unwrap_or(sk.tp.rx_opt.mss_clamp);
    let addrs = (sk.st.inet.saddr, sk.st.inet.daddr);
    let lesson = Lesson { mss, cookie, try_exp, syn_lost };
    cx.t.ns.tcp.fastopen.cache.lock().set(addrs, &lesson);
    if unacked {
        sk.tp.tfo_mut().client_fail =
            if again { TfoFail::SynRetransmitted } else { TfoFail::DataNotAcked };
        for at in 0..sk.tp.rtx_queue.len() {
            tcp_mark_skb_lost(sk.tp, at);
        }
        tcp_non_congestion_loss_retransmit(cx, sk);
        cx.count(LinuxMib::TCPFastOpenActiveFail);
        return true;
    }
    if sk.tp.tfo(Tfo::SYN_DATA) {
        sk.tp.tfo_mut().flags |= Tfo::SYN_DATA_ACKED;
        cx.count(LinuxMib::TCPFastOpenActive);
        // They left as one packet.
        if sk.tp.delivered > 1 {
            sk.tp.delivered -= 1;
        }
    }
    tcp_fastopen_add_skb(cx, sk, synack, seg);
    false
}

/// What is kept of servers for fast open, a line each: the segment size and the cookie that they gave, and how many
/// SYNs with data were lost in a row and when the last was (`TCP_METRICS_ATTR_FOPEN_*`). By addresses of ours and
/// theirs. Context: any.
///
/// linux: net/ipv4/tcp_metrics.c:tcp_metrics_fill_info
pub fn tcp_metrics_show<'a>(of: impl Into<NetView<'a>>) -> String {
    let of = of.into();
    of.net().tcp.fastopen.cache.lock().show(of.m.ktime_get())
}

// ---- Pauses.

/// Fast open pauses.
///
/// linux: net/ipv4/tcp_fastopen.c:tcp_fastopen_active_disable
fn tcp_fastopen_active_disable(cx: &mut BhCx<'_>) {
    if cx.t.net.sysctl.tcp.fastopen_blackhole_timeout.is_zero() {
        return;
    }
    let now = cx.now();
    let blackhole = &cx.t.ns.tcp.fastopen.blackhole;
    blackhole.stamp.store(now.as_nanos(), Ordering::Relaxed);
    blackhole.times.fetch_add(1, Ordering::Relaxed);
    cx.count(LinuxMib::TCPFastOpenBlackhole);
}

/// It pauses still. Each time is twice as long as the one before, up to 64 times.
///
/// linux: net/ipv4/tcp_fastopen.c:tcp_fastopen_active_should_disable
fn active_should_disable(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    let timeout = cx.t.net.sysctl.tcp.fastopen_blackhole_timeout;
    let blackhole = &cx.t.ns.tcp.fastopen.blackhole;
    let times = blackhole.times.load(Ordering::Relaxed);
    if timeout.is_zero() || times == 0 {
        return false;
    }
    let since = Ktime(blackhole.stamp.load(Ordering::Relaxed));
    if cx.now() < since + pause(timeout, times) {
        return true;
    }
    sk.tp.tfo_mut().flags |= Tfo::SYN_FASTOPEN_CH;
    false
}

/// How long the pause is that begins after so many failures.
pub(super) fn pause(timeout: Duration, times: u32) -> Duration {
    timeout.saturating_mul(1 << times.saturating_sub(1).min(6))
}

/// A connection ends that nothing was heard of but a FIN behind a hole: what came before was swallowed. One that
/// got data shows that the way is good again.
///
/// linux: net/ipv4/tcp_fastopen.c:tcp_fastopen_active_disable_ofo_check
pub(crate) fn tcp_fastopen_active_disable_ofo_check(cx: &mut BhCx<'_>, sk: &TcpSk<'_>) {
    if !sk.tp.tfo(Tfo::SYN_FASTOPEN) {
        return;
    }
    if sk.tp.stats.data_segs_in == 0 {
        let early = &sk.tp.out_of_order_queue;
        let only = early.first_key_value().filter(|_| early.len() == 1);
        if only.is_some_and(|(_, skb)| cb(skb).tcp_flags & TCPHDR_FIN != 0) {
            tcp_fastopen_active_disable(cx);
        }
    } else if sk.tp.tfo(Tfo::SYN_FASTOPEN_CH) && !ipv4_is_loopback(sk.st.inet.daddr) {
        cx.t.ns.tcp.fastopen.blackhole.times.store(0, Ordering::Relaxed);
    }
}

/// A RST came that is not where it must be, for a connection that got nothing yet.
pub(crate) fn tcp_fastopen_reset_out_of_order(cx: &mut BhCx<'_>, sk: &TcpSk<'_>) {
    if sk.tp.tfo(Tfo::SYN_FASTOPEN)
        && sk.tp.stats.data_segs_in == 0
        && sk.tp.state == TcpState::Established
    {
        tcp_fastopen_active_disable(cx);
    }
}

/// The third time-out in a row, or the last one.
///
/// linux: net/ipv4/tcp_fastopen.c:tcp_fastopen_active_detect_blackhole
pub(crate) fn tcp_fastopen_active_detect_blackhole(
    cx: &mut BhCx<'_>,
    sk: &TcpSk<'_>,
    expired: bool,
) {
    let timeouts = sk.tp.retransmits;
    let active = Tfo::SYN_FASTOPEN | Tfo::SYN_DATA | Tfo::SYN_DATA_ACKED;
    if sk.tp.tfo(active) && (timeouts == 2 || (timeouts < 2 && expired)) {
        tcp_fastopen_active_disable(cx);
        cx.count(LinuxMib::TCPFastOpenActiveFail);
    }
}
