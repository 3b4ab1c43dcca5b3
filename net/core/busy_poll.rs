//! A reader that would sleep polls the device of his packets first (`SO_BUSY_POLL`).
//!
//! linux: include/net/busy_poll.h, net/core/dev.c (`napi_busy_loop`). Contexts: task, on no CPU but for each poll.
//! Invariants: a context is polled by whoever has its SCHED bit, a reader or the softirq; a reader's time is counted
//! from where he would have slept first, by the machine's clock, and a call that waits is a value that is polled:
//! between two looks others have their turn.
//! DIVERGES: `epoll` does not poll devices; `SO_PREFER_BUSY_POLL` is only remembered.

use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::softirq::{__raise_softirq_irqoff, Softirq};
use crate::kernel::time::Ktime;
use crate::net::core::dev::NapiStruct;
use crate::net::core::dev::napi::{napi_poll, napi_take};
use crate::net::core::sock::Sock;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uapi::snmp::LinuxMib;

/// Packets that a reader's poll takes, unless he says otherwise.
///
/// linux: include/net/busy_poll.h:BUSY_POLL_BUDGET
pub(crate) const BUSY_POLL_BUDGET: u16 = 8;
/// A reader looks again after this at the earliest: at once, but not before others had their turn.
const LOOK_AGAIN: Duration = Duration::from_nanos(1);

/// Packets come from a device: readers that poll are told which.
///
/// linux: include/net/busy_poll.h:sk_mark_napi_id
#[cold]
pub(crate) fn sk_mark_napi(cx: &BhCx<'_>, state: &mut crate::net::core::sock::SockState) {
    let Some(napi) = cx.cpu.softnet.polling.as_ref() else { return };
    let known = &mut state.rare_mut().napi;
    if !std::ptr::eq(known.as_ptr(), Arc::as_ptr(napi)) {
        *known = Arc::downgrade(napi);
    }
}

/// Polls a device once in a reader's name, if nobody does: how many packets came.
///
/// linux: net/core/dev.c:napi_busy_loop
pub(crate) fn napi_busy_poll(cx: &mut BhCx<'_>, napi: &Arc<NapiStruct>, budget: u16) -> u32 {
    if !napi_take(napi) {
        return 0;
    }
    walk!(cx, napi_busy_loop);
    let work = napi_poll(cx, Arc::clone(napi), u32::from(budget.max(1)));
    cx.m.charge_poll();
    if !cx.cpu.softnet.poll_list.is_empty() {
        // There is more than the reader takes.
        __raise_softirq_irqoff(cx, Softirq::NetRx);
    }
    cx.cpu.mib.add(LinuxMib::BusyPollRxPackets.into(), work.into());
    work
}

/// A reader is about to sleep, or to be told that there is nothing: looks whether his device has something. `until`:
/// the end of his time, which begins with the first look; `None`: he does not wait, and looks once. True: he should
/// look again before he sleeps, which the call's driver knows.
///
/// linux: include/net/busy_poll.h:sk_busy_loop
#[cold]
pub(crate) fn sk_busy_loop(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    until: Option<&mut Option<Ktime>>,
) -> bool {
    let (napi, usec, budget) = {
        let state = sk.state();
        let napi = state.rare().and_then(|rare| rare.napi.upgrade());
        (napi, state.opts.ll_usec, state.opts.busy_poll_budget)
    };
    let Some(napi) = napi.filter(|_| usec != 0) else { return false };
    let now = cx.now();
    if let Some(until) = until {
        let end = *until.get_or_insert(now + Duration::from_micros(usec.into()));
        if now >= end {
            return false;
        }
    }
    cx.local_bh_disable(|bh| napi_busy_poll(bh, &napi, budget));
    cx.schedule_timeout(now + LOOK_AGAIN);
    true
}

/// Sockets that poll are looked out for from now on.
pub(crate) fn busy_poll_begins(sk: &Sock) {
    sk.net.first().napi_looks.store(true, Ordering::Relaxed);
}
