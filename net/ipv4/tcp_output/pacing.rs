//! The pace at which segments leave.
//!
//! linux: net/ipv4/tcp_output.c (`tcp_pacing_check`, `tcp_update_skb_after_send`, `tcp_pace_kick`). Where the
//! device's queueing discipline does not hold segments back, TCP does: after each, the time at which the next may
//! leave moves on by what it takes at the pace, and a timer of nanoseconds sends on then. Contexts: BH, under the
//! socket's lock. Invariant: a timer is at most [`FARTHEST`] ahead, so that it does not keep a dead socket longer.

use super::tcp_tsq_write;
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::kernel::timer::TimerTarget;
use crate::net::core::sock::{SkPacing, Sock};
use crate::net::ipv4::tcp::{Deferred, TcpSk, TcpSock, TimerKind};
use std::sync::Arc;
use std::time::Duration;

/// A later time is waited for in steps of this.
const FARTHEST: Duration = Duration::from_secs(1);

/// The first segments of a connection leave as they come.
const UNPACED_SEGMENTS: u32 = 10;

/// The pace does not allow the next segment yet; the timer will.
///
/// linux: net/ipv4/tcp_output.c:tcp_pacing_check
#[inline]
pub(super) fn tcp_pacing_check(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    tcp_needs_internal_pacing(sk.sk) && held_back(cx, sk)
}

/// linux: include/net/tcp.h:tcp_needs_internal_pacing
#[inline]
fn tcp_needs_internal_pacing(sk: &Sock) -> bool {
    sk.pacing_status() == SkPacing::Needed
}

#[inline(never)]
fn held_back(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> bool {
    let now = cx.now();
    let Some(pacing) = sk.tp.cong.pacing.as_deref_mut() else { return false };
    if pacing.tcp_wstamp <= now {
        return false;
    }
    let at = pacing.tcp_wstamp.min(now + FARTHEST);
    if let Some((cpu, timer)) = pacing.pacing_timer {
        if timer.expires() <= at {
            // It looks again when that comes.
            return true;
        }
        if cpu == cx.cpu.id.0 {
            cx.cpu.hrtimers.hrtimer_try_to_cancel(timer);
        }
    }
    let target: Arc<dyn TimerTarget> = Arc::clone(sk.sk) as Arc<dyn TimerTarget>;
    let timer = cx.hrtimer_start(at, target, TimerKind::PACING);
    pacing.pacing_timer = Some((cx.cpu.id.0, timer));
    walk!(cx, tcp_pacing_check => at.since(now).as_nanos() as u64);
    true
}

/// A segment of `len` octets has left at `at`, its time by the pace: when the next may.
///
/// linux: net/ipv4/tcp_output.c:tcp_update_skb_after_send
#[inline]
pub(super) fn tcp_pace(sk: &mut TcpSk<'_>, len: u32, at: Ktime) {
    if sk.sk.pacing_status() != SkPacing::None {
        move_on(sk.tp, len, at);
    }
}

#[inline(never)]
fn move_on(tp: &mut TcpSock, len: u32, at: Ktime) {
    let rate = tp.cong.pacing_rate;
    let pacing = tp.cong.pacing.get_or_insert_default();
    let before = std::mem::replace(&mut pacing.tcp_wstamp, at);
    if rate == 0 || rate == u64::MAX || tp.stats.data_segs_out < UNPACED_SEGMENTS {
        return;
    }
    let takes = (u128::from(len) * 1_000_000_000 / u128::from(rate)) as u64;
    // What was missed because the timer was late is caught up with, half of a segment's time at the most.
    let late = at.since(before).as_nanos() as u64;
    let takes = takes - late.min(takes / 2);
    pacing.tcp_wstamp = at + Duration::from_nanos(takes);
}

/// Microseconds until the pace allows the next segment: so much longer the timers wait.
///
/// linux: include/net/tcp.h:tcp_pacing_delay
#[inline]
pub(crate) fn tcp_pacing_delay(tp: &TcpSock, now: Ktime) -> u64 {
    tp.cong.pacing.as_ref().map_or(0, |pacing| pacing.tcp_wstamp.us_since(now))
}

/// The pace allows the next segment.
///
/// linux: net/ipv4/tcp_output.c:tcp_pace_kick
pub(crate) fn tcp_pace_kick(cx: &mut BhCx<'_>, sk: &Arc<Sock>) {
    let now = cx.now();
    let mut locked = sk.state();
    let owned = locked.sock_owned_by_user();
    let Some(mut sk) = TcpSk::of(sk, &mut locked) else { return };
    let Some(pacing) = sk.tp.cong.pacing.as_deref_mut() else { return };
    // An entry that an earlier one has replaced says nothing.
    if pacing.pacing_timer.is_none_or(|(_, timer)| timer.expires() > now) {
        return;
    }
    pacing.pacing_timer = None;
    walk!(cx, tcp_pace_kick);
    if owned {
        sk.tp.deferred |= Deferred::TSQ;
        sk.st.release_cb_due = true;
    } else {
        tcp_tsq_write(cx, &mut sk);
    }
}

/// Nothing is to leave any more: the timer goes.
pub(crate) fn tcp_stop_pacing(cx: &mut BhCx<'_>, tp: &mut TcpSock) {
    if let Some(pacing) = tp.cong.pacing.as_deref_mut()
        && let Some((cpu, timer)) = pacing.pacing_timer.take()
        && cpu == cx.cpu.id.0
    {
        cx.cpu.hrtimers.hrtimer_try_to_cancel(timer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ipv4::tcp_cong::TcpReno;

    fn paced(rate: u64) -> TcpSock {
        let mut tp = TcpSock::new(Box::<TcpReno>::default(), 3);
        tp.cong.pacing_rate = rate;
        tp.stats.data_segs_out = UNPACED_SEGMENTS;
        tp
    }

    #[test]
    fn a_segment_takes_its_time_at_the_pace() {
        let mut tp = paced(1_000_000);
        let start = Ktime::from_secs(5);
        move_on(&mut tp, 0, start);
        move_on(&mut tp, 1500, start);
        assert_eq!(tp.cong.tcp_wstamp(start), start + Duration::from_micros(1500));
        assert_eq!(tcp_pacing_delay(&tp, start), 1500);
        assert_eq!(tcp_pacing_delay(&tp, start + Duration::from_secs(1)), 0);
    }

    #[test]
    fn lateness_is_caught_up_with_but_not_idleness() {
        let mut tp = paced(1_000_000);
        let start = Ktime::from_secs(5);
        move_on(&mut tp, 0, start);
        // 100 us late: the next may leave after 900.
        let late = start + Duration::from_micros(100);
        move_on(&mut tp, 1000, late);
        assert_eq!(tcp_pacing_delay(&tp, late), 900);
        // A second of silence is worth half a segment.
        let much_later = late + Duration::from_secs(1);
        move_on(&mut tp, 1000, much_later);
        assert_eq!(tcp_pacing_delay(&tp, much_later), 500);
    }

    #[test]
    fn first_segments_and_rates_that_are_none_wait_for_nothing() {
        let start = Ktime::from_secs(5);
        for (rate, sent) in [(u64::MAX, 100), (0, 100), (1000, UNPACED_SEGMENTS - 1)] {
            let mut tp = paced(rate);
            tp.stats.data_segs_out = sent;
            move_on(&mut tp, 60_000, start);
            assert_eq!(tcp_pacing_delay(&tp, start), 0, "{rate} {sent}");
        }
        // However slow, nothing overflows.
        let mut tp = paced(1);
        move_on(&mut tp, u32::MAX, start);
        move_on(&mut tp, u32::MAX, Ktime::MAX);
        assert_eq!(tp.cong.tcp_wstamp(start), Ktime::MAX);
    }
}
