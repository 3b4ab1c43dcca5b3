//! What is left of a connection while stray segments of it die: a small socket of its own.
//!
//! linux: net/ipv4/inet_timewait_sock.c, include/net/inet_timewait_sock.h. Key type:
//! [`InetTimewaitSock`]. Contexts: BH. Lock: `class::TimeWait`, for its numbers.
//! Invariant: it is in the table of connections until its timer or somebody else takes it out, and
//! whoever takes it out ends it.

use crate::kernel::context::BhCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::rcupdate::Tables;
use crate::kernel::time::Ktime;
use crate::kernel::timer::{TimerHandle, TimerTarget};
use crate::net::ipv4::inet_hashtables::{InetBindNode, InetTuple};
use crate::net::ipv4::tcp::{SeqNr, TcpSk, TcpSock, TcpState};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uapi::in_::ipv4_is_loopback;
use uapi::snmp::LinuxMib;

/// What is left of a connection.
pub struct InetTimewaitSock {
    /// The connection.
    pub tuple: InetTuple,
    /// Its port is in use.
    pub(crate) bind: Option<Arc<InetBindNode>>,
    /// `IP_TOS`.
    pub tos: u8,
    /// The shift of the window it offered.
    pub rcv_wscale: u8,
    /// `SO_MARK`.
    pub mark: u32,
    /// Added to the clock of timestamps.
    pub ts_offset: u32,
    /// A number no other socket of the namespace has.
    pub cookie: u64,
    /// The key that signs its segments.
    pub(crate) md5_key: Option<Box<crate::net::ipv4::tcp_md5sig::TcpMd5sigKey>>,
    /// What changes.
    pub(crate) state: SpinLock<TwState, class::TimeWait>,
}

/// What changes of it.
#[derive(Debug)]
pub(crate) struct TwState {
    /// FIN_WAIT2 or TIME_WAIT (`tw_substate`).
    pub substate: TcpState,
    pub rcv_nxt: SeqNr,
    pub snd_nxt: SeqNr,
    pub rcv_wnd: u32,
    pub ts_recent: u32,
    /// In seconds; zero: timestamps were not agreed on.
    pub ts_recent_stamp: u32,
    pub last_oow_ack_time: Ktime,
    /// When it ends.
    pub deadline: Ktime,
    filed: Option<(u8, TimerHandle)>,
}

const _: () = assert!(size_of::<InetTimewaitSock>() + 2 * size_of::<usize>() <= 256);

impl fmt::Debug for InetTimewaitSock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InetTimewaitSock({:?})", self.tuple)
    }
}

impl InetTimewaitSock {
    /// Of a connection that is about to end.
    ///
    /// linux: net/ipv4/inet_timewait_sock.c:inet_twsk_alloc
    pub(crate) fn of(sk: &mut TcpSk<'_>, substate: TcpState) -> Arc<Self> {
        let tp = &mut *sk.tp;
        let bind = tp.bind.take();
        Arc::new(Self {
            tuple: InetTuple::of(sk.st),
            bind,
            tos: sk.st.inet.tos,
            rcv_wscale: tp.rx_opt.rcv_wscale,
            mark: sk.st.opts.mark,
            ts_offset: tp.tsoffset,
            cookie: sk.sk.cookie,
            md5_key: sk.st.tcp_md5_do_lookup(sk.st.inet.daddr).cloned().map(Box::new),
            state: SpinLock::new(TwState {
                substate,
                rcv_nxt: tp.rcv_nxt,
                snd_nxt: tp.snd_nxt,
                rcv_wnd: tp.tcp_receive_window(),
                ts_recent: tp.rx_opt.ts_recent,
                ts_recent_stamp: if tp.rx_opt.tstamp_ok { tp.rx_opt.ts_recent_stamp } else { 0 },
                last_oow_ack_time: tp.last_oow_ack_time,
                deadline: Ktime::ZERO,
                filed: None,
            }),
        })
    }
}

/// It ends after `timeout`, counted from now.
///
/// linux: net/ipv4/inet_timewait_sock.c:inet_twsk_schedule
pub(crate) fn inet_twsk_schedule(
    cx: &mut BhCx<'_>,
    tw: &Arc<InetTimewaitSock>,
    state: &mut TwState,
    timeout: Duration,
) {
    let at = cx.now() + timeout;
    state.deadline = at;
    if state.filed.is_none() {
        let target: Arc<dyn TimerTarget> = Arc::clone(tw) as Arc<dyn TimerTarget>;
        state.filed = Some((cx.cpu.id.0, cx.add_timer(at, target, 0)));
    }
}

impl TimerTarget for InetTimewaitSock {
    fn expire(self: Arc<Self>, cx: &mut BhCx<'_>, _: u64) {
        let now = cx.now();
        let mut state = self.state.lock();
        state.filed = None;
        if state.deadline > now {
            let left = state.deadline - now;
            return inet_twsk_schedule(cx, &self, &mut state, left);
        }
        drop(state);
        if inet_twsk_kill(cx, &self) {
            cx.count(LinuxMib::TW);
        }
    }
}

/// Takes it out of the tables; false when somebody else has.
///
/// linux: net/ipv4/inet_timewait_sock.c:inet_twsk_kill
pub(crate) fn inet_twsk_kill(cx: &mut BhCx<'_>, tw: &Arc<InetTimewaitSock>) -> bool {
    let killed = cx.t.ns.tcp.hashinfo.ehash.remove_timewait(tw);
    if killed {
        inet_twsk_free(cx, tw);
    }
    killed
}

fn inet_twsk_free(cx: &BhCx<'_>, tw: &InetTimewaitSock) {
    let net = &cx.t.ns;
    if let Some(node) = &tw.bind {
        net.tcp.hashinfo.bhash.put(node);
    }
    net.tcp.memory.tw_count.fetch_sub(1, Ordering::Relaxed);
}

/// It is out of the table already: its timer goes, and its port.
///
/// linux: net/ipv4/inet_timewait_sock.c:inet_twsk_deschedule_put
pub(crate) fn inet_twsk_deschedule_put(cx: &mut BhCx<'_>, tw: &Arc<InetTimewaitSock>) {
    let filed = tw.state.lock().filed.take();
    if let Some((cpu, handle)) = filed
        && cpu == cx.cpu.id.0
    {
        cx.cpu.timers.del(handle);
    }
    inet_twsk_free(cx, tw);
}

/// A new connection may take the place of an old one that is in TIME_WAIT: its timestamps are newer, so
/// nothing of the old one is taken for its own (RFC 6191).
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_twsk_unique
pub(crate) fn tcp_twsk_unique(
    t: &Tables,
    tp: &mut TcpSock,
    tw: &InetTimewaitSock,
    now: Ktime,
) -> bool {
    let reuse = match t.net.sysctl.tcp.tw_reuse {
        2 => ipv4_is_loopback(tw.tuple.laddr) || ipv4_is_loopback(tw.tuple.raddr),
        0 => false,
        _ => true,
    };
    let state = tw.state.lock();
    let seconds = (now.as_nanos() / 1_000_000_000) as u32;
    let later = seconds.wrapping_sub(state.ts_recent_stamp) as i32 > 0;
    if state.substate != TcpState::TimeWait || state.ts_recent_stamp == 0 || !reuse || !later {
        return false;
    }
    // Behind all that the old one may have sent.
    tp.write_seq = state.snd_nxt + 65_535 + 2;
    tp.rx_opt.ts_recent = state.ts_recent;
    tp.rx_opt.ts_recent_stamp = state.ts_recent_stamp;
    true
}
