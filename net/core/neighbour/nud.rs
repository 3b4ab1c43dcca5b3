//! Neighbour unreachability detection: states, timer, and what an answer changes.
//!
//! linux: net/core/neighbour.c; RFC 4861 section 7.3.2. Context: BH.
//! Invariant: the entry's lock is released before a packet or a request goes out.

use super::{
    Inner, NUD_CONNECTED, NUD_IN_TIMER, NUD_VALID, Neighbour, NextHop, Solicit, dst_neigh_output,
};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::kernel::timer::TimerTarget;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{SkBuff, Skb, kfree_skb};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uapi::ip::IpHdr;
use uapi::neighbour as nud;

const DELAY: u8 = nud::NUD_DELAY as u8;
const FAILED: u8 = nud::NUD_FAILED as u8;
const INCOMPLETE: u8 = nud::NUD_INCOMPLETE as u8;
const NOARP: u8 = nud::NUD_NOARP as u8;
const PERMANENT: u8 = nud::NUD_PERMANENT as u8;
const PROBE: u8 = nud::NUD_PROBE as u8;
const REACHABLE: u8 = nud::NUD_REACHABLE as u8;
const STALE: u8 = nud::NUD_STALE as u8;

/// How an answer may change an entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NeighUpdate {
    /// It may replace a known address.
    pub override_addr: bool,
    /// An administrator says so: `NUD_PERMANENT` and `NUD_NOARP` may change too.
    pub admin: bool,
}

/// What is left to do once the entry's lock is free.
#[derive(Default)]
struct After {
    solicit: Option<Solicit>,
    timer: Option<Ktime>,
    failed: VecDeque<Skb>,
    overflow: Vec<Skb>,
}

impl After {
    fn run(self, cx: &mut BhCx<'_>, neigh: &Arc<Neighbour>) {
        if let Some(at) = self.timer {
            cx.add_timer(at, Arc::clone(neigh) as Arc<dyn TimerTarget>, at.0);
        }
        for skb in self.overflow {
            kfree_skb(cx, skb, DropReason::NeighQueueFull);
        }
        if let Some(solicit) = self.solicit {
            (neigh.ops.solicit)(cx, neigh, &solicit);
        }
        for skb in self.failed {
            (neigh.ops.error_report)(cx, neigh, skb);
        }
    }
}

/// A packet is about to be sent to `neigh`. Gives it back when it may go now; else it waits in the
/// entry for the address (or was dropped), and the question was asked.
///
/// linux: net/core/neighbour.c:neigh_event_send
pub fn neigh_event_send(cx: &mut BhCx<'_>, neigh: &Arc<Neighbour>, skb: Skb) -> Option<Skb> {
    walk!(cx, skb, neigh_event_send);
    let now = cx.now();
    neigh.touch(now);
    if neigh.nud_state() & (NUD_CONNECTED | DELAY | PROBE) != 0 && !neigh.dead() {
        return Some(skb);
    }
    let mut after = After::default();
    let kept = __neigh_event_send(cx, neigh, skb, &mut after);
    after.run(cx, neigh);
    kept
}

fn __neigh_event_send(
    cx: &mut BhCx<'_>,
    neigh: &Arc<Neighbour>,
    skb: Skb,
    after: &mut After,
) -> Option<Skb> {
    let (now, parms) = (cx.now(), &cx.t.net.sysctl.neigh);
    let mut inner = neigh.inner.lock();
    if neigh.dead() {
        drop(inner);
        kfree_skb(cx, skb, DropReason::NeighDead);
        return None;
    }
    match neigh.nud_state() {
        state if state & (NUD_CONNECTED | DELAY | PROBE) != 0 => return Some(skb),
        STALE => {
            neigh.set_state(DELAY);
            inner.updated = now;
            after.timer = inner.arm(now + parms.delay_probe_time);
            return Some(skb);
        }
        INCOMPLETE => (),
        _none_or_failed => {
            inner.probes = parms.ucast_probes;
            neigh.set_state(INCOMPLETE);
            inner.updated = now;
            after.timer = inner.arm(now + parms.retrans_time);
            inner.probes += 1;
            after.solicit = Some(Solicit { saddr: source_of(&skb), ucast: None });
        }
    }
    while inner.arp_queue_len_bytes + skb.truesize > parms.unres_qlen_bytes {
        let Some(oldest) = inner.arp_queue.pop_front() else { break };
        inner.arp_queue_len_bytes -= oldest.truesize;
        after.overflow.push(oldest);
    }
    inner.arp_queue_len_bytes += skb.truesize;
    inner.arp_queue.push_back(skb);
    None
}

/// The source of an IP packet that waits.
fn source_of(skb: &SkBuff) -> Option<u32> {
    (skb.protocol == uapi::if_ether::ETH_P_IP)
        .then(|| skb.network::<IpHdr>().map(|ip| ip.saddr.get()))
        .flatten()
}

impl Inner {
    /// Sets the timer; what is returned goes into a wheel.
    fn arm(&mut self, at: Ktime) -> Option<Ktime> {
        self.due = Some(at);
        self.due
    }
}

impl TimerTarget for Neighbour {
    fn expire(self: Arc<Self>, cx: &mut BhCx<'_>, token: u64) {
        neigh_timer_handler(cx, &self, Ktime(token));
    }
}

/// The timer of an entry's state: confirm, doubt, probe or give up.
///
/// linux: net/core/neighbour.c:neigh_timer_handler
fn neigh_timer_handler(cx: &mut BhCx<'_>, neigh: &Arc<Neighbour>, armed_for: Ktime) {
    walk!(cx, neigh_timer_handler);
    let mut after = After::default();
    {
        let mut inner = neigh.inner.lock();
        if inner.due != Some(armed_for) || neigh.dead() {
            return;
        }
        inner.due = None;
        advance(cx, neigh, &mut inner, &mut after);
    }
    after.run(cx, neigh);
}

fn advance(cx: &mut BhCx<'_>, neigh: &Neighbour, inner: &mut Inner, after: &mut After) {
    let (now, parms) = (cx.now(), &cx.t.net.sysctl.neigh);
    let confirmed = Ktime(neigh.confirmed.load(Ordering::Relaxed));
    let used = Ktime(neigh.used.load(Ordering::Relaxed));
    match neigh.nud_state() {
        REACHABLE if now <= confirmed + inner.reachable_time => {
            after.timer = inner.arm(confirmed + inner.reachable_time);
        }
        REACHABLE if now <= used + parms.delay_probe_time => {
            neigh.set_state(DELAY);
            inner.updated = now;
            after.timer = inner.arm(now + parms.delay_probe_time);
        }
        REACHABLE => {
            neigh.set_state(STALE);
            inner.updated = now;
        }
        DELAY if now <= confirmed + parms.delay_probe_time => {
            neigh.set_state(REACHABLE);
            inner.updated = now;
            after.timer = inner.arm(confirmed + inner.reachable_time);
        }
        state @ (DELAY | PROBE | INCOMPLETE) => {
            if state == DELAY {
                neigh.set_state(PROBE);
                inner.updated = now;
                inner.probes = 0;
            }
            probe(cx, neigh, inner, after);
        }
        _ => (),
    }
}

/// Asks once more, or gives up.
fn probe(cx: &mut BhCx<'_>, neigh: &Neighbour, inner: &mut Inner, after: &mut After) {
    let (now, parms) = (cx.now(), &cx.t.net.sysctl.neigh);
    let probing = neigh.nud_state() == PROBE;
    // A known address is asked itself; an unknown one is asked for by broadcast, and the unicast
    // probes count as made.
    let most = if probing {
        parms.ucast_probes
    } else {
        parms.ucast_probes.saturating_add(parms.mcast_probes)
    };
    if inner.probes >= most {
        neigh.set_state(FAILED);
        inner.updated = now;
        inner.arp_queue_len_bytes = 0;
        after.failed = std::mem::take(&mut inner.arp_queue);
        return;
    }
    inner.probes += 1;
    after.timer = inner.arm(now + parms.retrans_time);
    after.solicit = Some(Solicit {
        saddr: inner.arp_queue.front().and_then(|skb| source_of(skb)),
        ucast: probing.then(|| neigh.last_ha()),
    });
}

/// Something was learnt of a neighbour: its address, or only its state. Packets that waited go out.
///
/// linux: net/core/neighbour.c:neigh_update
pub fn neigh_update(
    cx: &mut BhCx<'_>,
    neigh: &Arc<Neighbour>,
    lladdr: Option<[u8; 6]>,
    new: u8,
    how: NeighUpdate,
) {
    walk!(cx, neigh_update => u64::from(new));
    let mut after = After::default();
    let waiting = {
        let mut inner = neigh.inner.lock();
        apply(cx, neigh, &mut inner, (lladdr, new, how), &mut after)
    };
    after.run(cx, neigh);
    for skb in waiting {
        let mut list = cx.skb_list_of(skb);
        dst_neigh_output(cx, NextHop::by(neigh), &mut list);
        cx.free_skb_list(list);
    }
}

/// Changes the entry; returns what waited and may go now.
fn apply(
    cx: &mut BhCx<'_>,
    neigh: &Neighbour,
    inner: &mut Inner,
    (lladdr, mut new, how): (Option<[u8; 6]>, u8, NeighUpdate),
    after: &mut After,
) -> VecDeque<Skb> {
    let (now, old) = (cx.now(), neigh.nud_state());
    if neigh.dead() || (!how.admin && old & (NOARP | PERMANENT) != 0) {
        return VecDeque::new();
    }
    if new & NUD_VALID == 0 {
        neigh.set_state(new);
        inner.due = None;
        inner.updated = now;
        if new & FAILED != 0 && old & (INCOMPLETE | PROBE) != 0 {
            inner.arp_queue_len_bytes = 0;
            after.failed = std::mem::take(&mut inner.arp_queue);
        }
        return VecDeque::new();
    }
    let known = (old & NUD_VALID != 0).then(|| neigh.last_ha());
    let Some(addr) = lladdr.or(known) else {
        // Nothing known and nothing told: there is no address to be valid.
        return VecDeque::new();
    };
    if new & NUD_CONNECTED != 0 {
        neigh.confirm(now);
    }
    if let Some(known) = known {
        if addr != known && !how.override_addr {
            return VecDeque::new();
        }
        if addr == known && new == STALE && !how.admin {
            // Hearsay of what is known changes nothing.
            new = old;
        }
    }
    let moved = known != Some(addr);
    if new != old || moved {
        // Only a change begins `locktime` anew: an answer a second would lock the entry for ever.
        inner.updated = now;
    }
    if new != old {
        inner.due = None;
        if new == PROBE {
            inner.probes = 0;
        }
        neigh.set_state(new);
        if new & NUD_IN_TIMER != 0 {
            let at = if new == REACHABLE { now + inner.reachable_time } else { now };
            after.timer = inner.arm(at);
        }
    }
    if moved {
        neigh.set_ha(addr);
        if new & NUD_CONNECTED == 0 {
            // What was confirmed was the other address.
            let long_ago = cx.t.net.sysctl.neigh.base_reachable_time * 2;
            neigh.confirm(Ktime(now.0.saturating_sub(long_ago.as_nanos() as u64)));
        }
    }
    if old & NUD_VALID != 0 {
        return VecDeque::new();
    }
    inner.arp_queue_len_bytes = 0;
    std::mem::take(&mut inner.arp_queue)
}
