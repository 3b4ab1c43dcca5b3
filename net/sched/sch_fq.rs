//! Fair queueing of flows, each at its pace: packets leave at the time that their socket has set for them.
//!
//! linux: net/sched/sch_fq.c (6.18). Key types: [`Fq`], [`FqParams`]. Parts: `flow` (a flow and where it is), `params`
//! (what can be set).
//! Contexts: BH, under the qdisc's lock.
//! Packets of one socket are a flow; those of nobody are sorted into a thousand by their hash. Flows take turns,
//! a quantum of octets each, new ones first; those of a greater priority are in a band of their own, and bands share
//! by weight. A packet whose time has not come holds its flow back until then: the qdisc's timer goes on.
//! Invariants: a band holds `limit` packets and a flow `flow_limit` at the most; of flows without a packet there
//! are never more than `MOST_IDLE`; flows of one time go on in the order in which they were held back.
//! DIVERGES: a packet without a time whose socket is TCP's goes by `SO_MAX_PACING_RATE`, not by the socket's present
//! pace: it left before the socket knew of this discipline. Flows are in a tree and not in `buckets`; priorities have Linux's
//! bands and weights, which can't be set.

mod flow;
pub mod params;

use super::{QdiscOps, QdiscOptions, Refused};
use crate::kernel::time::Ktime;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::Skb;
use crate::net::core::sock::SkPacing;
use crate::net::ipv4::inet_ecn::inet_ecn_set_ce;
use flow::{Flow, Packet, Place};
use params::{Beyond, FqParams};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use uapi::pkt_sched::TC_PRIO_CONTROL;

/// From so many flows on, those that were silent for long make room.
const GC_FLOWS: usize = 2 << 10;
/// So many at a time.
const GC_MAX: usize = 8;
/// So long they were silent.
const GC_AGE: Duration = Duration::from_secs(3);
/// Flows without a packet at the most: beyond, those that have been silent longest are forgotten at once.
const MOST_IDLE: usize = 16 << 10;
/// Packets that pass by the flows at the most, while flows wait.
const FAST_PATH: usize = 8;
const BANDS: usize = 3;
/// The band of each `TC_PRIO_*`.
const PRIO2BAND: [u8; 16] = [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];
/// Octets of a band's turn.
const WEIGHTS: [i64; BANDS] = [589_824, 196_608, 65_536];

/// The flows of one priority.
///
/// linux: net/sched/sch_fq.c:fq_perband_flows
#[derive(Debug, Default)]
struct Band {
    new_flows: VecDeque<usize>,
    old_flows: VecDeque<usize>,
    credit: i64,
    packets: usize,
}

/// What it has done, and holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FqStats {
    /// Flows.
    pub flows: usize,
    /// Of them, those without a packet.
    pub inactive_flows: usize,
    /// Of them, those that wait for their time.
    pub throttled_flows: usize,
    /// Flows that were forgotten.
    pub gc_flows: u64,
    /// Times that a flow had to wait.
    pub throttled: u64,
    /// Packets that passed by the flows.
    pub fastpath: u64,
    /// Packets refused: their band was full, their flow, their time too far ahead.
    pub refused: [u64; 3],
    /// Packets whose time was too far ahead, and brought nearer.
    pub horizon_caps: u64,
    /// Packets marked for leaving late.
    pub ce_mark: u64,
}

/// The discipline.
///
/// linux: net/sched/sch_fq.c:fq_sched_data
#[derive(Debug, Default)]
pub struct Fq {
    params: FqParams,
    /// Packets that pass by the flows: of control, or where nobody else waits.
    internal: VecDeque<Packet>,
    flows: Vec<Flow>,
    /// Free places of `flows`.
    free: Vec<usize>,
    by_key: BTreeMap<u64, usize>,
    /// Flows without a packet and in no list, by the time of their last.
    detached: BTreeSet<(Ktime, usize)>,
    /// Flows that wait for their time, and when that is; then in the order in which they began to.
    delayed: BTreeMap<(Ktime, u64), usize>,
    sequence: u64,
    bands: [Band; BANDS],
    band_nr: usize,
    len: usize,
    inactive: usize,
    stats: FqStats,
}

impl Fq {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one that goes by these.
    pub fn with(params: FqParams) -> Self {
        Self { params, ..Self::default() }
    }

    /// What it has done.
    pub fn stats(&self) -> FqStats {
        FqStats {
            flows: self.by_key.len(),
            inactive_flows: self.inactive,
            throttled_flows: self.delayed.len(),
            ..self.stats
        }
    }

    /// The flow that a packet belongs to; `None`: it passes by all of them.
    ///
    /// linux: net/sched/sch_fq.c:fq_classify
    fn fq_classify(&mut self, skb: &Skb, time: Ktime, now: Ktime) -> Option<usize> {
        let sk = skb.owner.sock();
        if let Some(sk) = sk.filter(|sk| self.params.pacing && sk.pacing_status() != SkPacing::Fq) {
            // From here on it says when its packets are to leave.
            sk.set_pacing_fq();
        }
        if skb.priority & 15 == TC_PRIO_CONTROL || self.fq_fastpath_check(skb, time, now) {
            self.stats.fastpath += 1;
            return None;
        }
        let key = match sk {
            Some(sk) => sk.cookie << 1,
            None => u64::from(skb.hash & self.params.orphan_mask) << 1 | 1,
        };
        if let Some(at) = self.by_key.get(&key) {
            return Some(*at);
        }
        Some(self.new_flow(key, now))
    }

    fn new_flow(&mut self, key: u64, now: Ktime) -> usize {
        self.fq_gc(now);
        let flow =
            Flow { key, credit: self.params.initial_quantum.into(), age: now, ..Flow::default() };
        let at = match self.free.pop() {
            Some(at) => {
                self.flows[at] = flow;
                at
            }
            None => {
                self.flows.push(flow);
                self.flows.len() - 1
            }
        };
        self.by_key.insert(key, at);
        self.detached.insert((now, at));
        self.inactive += 1;
        at
    }

    /// Nobody waits who could go now, so that order does not matter.
    ///
    /// linux: net/sched/sch_fq.c:fq_fastpath_check
    fn fq_fastpath_check(&self, skb: &Skb, time: Ktime, now: Ktime) -> bool {
        if time > now {
            return false;
        }
        if self.len != 0 {
            let idle = self.inactive + self.delayed.len();
            let due = self.delayed.first_key_value().is_some_and(|((at, _), _)| *at <= now);
            if self.by_key.len() != idle || self.internal.len() >= FAST_PATH || due {
                return false;
            }
        }
        // One that is held to a rate here is to be counted.
        if self.params.max_rate.is_some() {
            return false;
        }
        skb.owner.sock().is_none_or(|sk| sk.is_tcp() || sk.max_pacing_rate() == u64::MAX)
    }

    /// Forgets flows that have been silent for long, when there are many.
    ///
    /// linux: net/sched/sch_fq.c:fq_gc
    fn fq_gc(&mut self, now: Ktime) {
        if self.by_key.len() < GC_FLOWS || self.inactive <= self.by_key.len() / 2 {
            return;
        }
        for _ in 0..GC_MAX {
            let Some((age, at)) = self.detached.first().copied() else { return };
            if now.since(age) <= GC_AGE && self.detached.len() < MOST_IDLE {
                return;
            }
            self.detached.pop_first();
            self.by_key.remove(&self.flows[at].key);
            self.flows[at] = Flow::default();
            self.free.push(at);
            self.inactive -= 1;
            self.stats.gc_flows += 1;
        }
    }

    fn refuse(&mut self, skb: Skb, why: usize) -> Refused {
        const REASONS: [DropReason; 3] =
            [DropReason::FqBandLimit, DropReason::FqFlowLimit, DropReason::FqHorizonLimit];
        self.stats.refused[why] += 1;
        Refused { skb, reason: REASONS[why] }
    }

    /// Packets of a band.
    fn limit(&self) -> usize {
        self.params.limit as usize
    }

    /// Puts a flow behind the others of its band.
    ///
    /// linux: net/sched/sch_fq.c:fq_flow_add_tail
    fn fq_flow_add_tail(&mut self, at: usize, list: Place) {
        let flow = &mut self.flows[at];
        flow.place = list;
        let band = &mut self.bands[usize::from(flow.band)];
        match list {
            Place::New => band.new_flows.push_back(at),
            _ => band.old_flows.push_back(at),
        }
    }

    /// Flows whose time has come take turns again.
    ///
    /// linux: net/sched/sch_fq.c:fq_check_throttled
    fn fq_check_throttled(&mut self, now: Ktime) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let at = entry.remove();
            self.fq_flow_add_tail(at, Place::Old);
        }
    }

    /// The band whose turn it is, and the list of it whose first flow is next.
    ///
    /// linux: net/sched/sch_fq.c:fq_pband_head_select
    fn head_select(&mut self) -> Option<(usize, Place)> {
        let mut empty = 0;
        loop {
            let band = &self.bands[self.band_nr];
            if band.credit > 0 {
                if !band.new_flows.is_empty() {
                    return Some((self.band_nr, Place::New));
                }
                if !band.old_flows.is_empty() {
                    return Some((self.band_nr, Place::Old));
                }
                empty += 1;
                if empty > BANDS {
                    return None;
                }
            } else {
                empty = 0;
            }
            self.band_nr = (self.band_nr + 1) % BANDS;
            let band = &mut self.bands[self.band_nr];
            band.credit = (band.credit + WEIGHTS[self.band_nr]).min(WEIGHTS[self.band_nr]);
        }
    }

    fn list(&mut self, (band, place): (usize, Place)) -> &mut VecDeque<usize> {
        let band = &mut self.bands[band];
        if place == Place::New { &mut band.new_flows } else { &mut band.old_flows }
    }

    /// What becomes of the first flow of a list in its turn: a packet of it, if it has one whose time has come.
    fn turn(&mut self, head: (usize, Place), now: Ktime) -> Option<Skb> {
        let at = *self.list(head).front()?;
        let flow = &mut self.flows[at];
        if flow.credit <= 0 {
            flow.credit += i64::from(self.params.quantum);
            self.list(head).pop_front();
            self.fq_flow_add_tail(at, Place::Old);
            return None;
        }
        let Some(first) = flow.queue.front() else {
            self.list(head).pop_front();
            if head.1 == Place::New {
                // Once through the old ones, so that new flows over and over do not starve those.
                self.fq_flow_add_tail(at, Place::Old);
            } else {
                let flow = &mut self.flows[at];
                (flow.place, flow.age) = (Place::Detached, now);
                self.detached.insert((now, at));
            }
            return None;
        };
        let time = first.time_to_send.max(flow.time_next_packet);
        if time > now {
            (flow.time_next_packet, flow.place) = (time, Place::Throttled);
            self.sequence += 1;
            self.delayed.insert((time, self.sequence), at);
            self.stats.throttled += 1;
            self.list(head).pop_front();
            return None;
        }
        let mut packet = flow.queue.pop_front()?;
        if self.params.ce_threshold.is_some_and(|threshold| now.since(time) > threshold)
            && inet_ecn_set_ce(&mut packet.skb)
        {
            self.stats.ce_mark += 1;
        }
        self.len -= 1;
        if flow.queue.is_empty() {
            self.inactive += 1;
        }
        self.bands[usize::from(packet.band)].packets -= 1;
        let len = packet.skb.len() as i64;
        self.bands[head.0].credit -= len;
        self.flows[at].sent(&packet.skb, now, &self.params);
        Some(packet.release())
    }
}

impl Flow {
    /// A packet of it leaves: when the next one may, if that does not bring its own time.
    fn sent(&mut self, skb: &Skb, now: Ktime, params: &FqParams) {
        let mut len = skb.len() as i64;
        self.credit -= len;
        if !params.pacing {
            return;
        }
        // One that brings its own time is held to the discipline's rate alone.
        let own_time = skb.tstamp() != Ktime::ZERO;
        let socks = skb.owner.sock().filter(|_| !own_time).map(|sk| sk.max_pacing_rate());
        let rate = params.rate(socks.unwrap_or(u64::MAX));
        if !own_time {
            if rate <= u64::from(params.low_rate_threshold) {
                self.credit = 0;
            } else {
                len = len.max(params.quantum.into());
                if self.credit > 0 {
                    return;
                }
            }
        }
        if rate == u64::MAX {
            return;
        }
        // The rate may change meanwhile: look again after a second.
        let takes = (len as u64 * 1_000_000_000).checked_div(rate).unwrap_or(u64::MAX);
        let mut takes = takes.min(1_000_000_000);
        if self.time_next_packet != Ktime::ZERO {
            let late = now.since(self.time_next_packet).as_nanos() as u64;
            takes -= late.min(takes / 2);
        }
        self.time_next_packet = now + Duration::from_nanos(takes);
    }
}

impl QdiscOps for Fq {
    fn id(&self) -> &'static str {
        "fq"
    }

    fn options(&self) -> QdiscOptions {
        QdiscOptions::Fq(self.params)
    }

    /// linux: net/sched/sch_fq.c:fq_change
    fn change(&mut self, options: &QdiscOptions, now: Ktime) -> Option<Vec<Skb>> {
        let QdiscOptions::Fq(params) = options else { return None };
        self.params = *params;
        let mut given_up = Vec::new();
        while self.len > self.limit() {
            let Some(skb) = self.dequeue(now) else { break };
            given_up.push(skb);
        }
        Some(given_up)
    }

    /// linux: net/sched/sch_fq.c:fq_enqueue
    fn enqueue(&mut self, skb: Skb, now: Ktime) -> Result<(), Refused> {
        let band = PRIO2BAND[(skb.priority & 15) as usize];
        if self.bands[usize::from(band)].packets >= self.limit() {
            return Err(self.refuse(skb, 0));
        }
        let horizon = now + self.params.horizon;
        let time_to_send = match (skb.tstamp(), self.params.beyond) {
            (Ktime::ZERO, _) => now,
            (later, Beyond::Drop) if later > horizon => return Err(self.refuse(skb, 2)),
            (later, Beyond::Cap) if later > horizon => {
                self.stats.horizon_caps += 1;
                horizon
            }
            (at, _) => at,
        };
        let Some(at) = self.fq_classify(&skb, time_to_send, now) else {
            if self.internal.len() >= self.limit() {
                return Err(self.refuse(skb, 0));
            }
            self.internal.push_back(Packet { time_to_send, band, skb });
            self.len += 1;
            return Ok(());
        };
        if self.flows[at].queue.len() >= self.params.flow_limit as usize {
            return Err(self.refuse(skb, 1));
        }
        let flow = &mut self.flows[at];
        flow.band = band;
        if flow.queue.is_empty() {
            self.inactive -= 1;
        }
        if flow.place == Place::Detached {
            if now.since(flow.age) > self.params.flow_refill_delay {
                flow.credit = flow.credit.max(self.params.quantum.into());
            }
            self.detached.remove(&(flow.age, at));
            self.fq_flow_add_tail(at, Place::New);
        }
        self.flows[at].add(Packet { time_to_send, band, skb });
        self.bands[usize::from(band)].packets += 1;
        self.len += 1;
        Ok(())
    }

    /// linux: net/sched/sch_fq.c:fq_dequeue
    fn dequeue(&mut self, now: Ktime) -> Option<Skb> {
        if self.len == 0 {
            return None;
        }
        if let Some(packet) = self.internal.pop_front() {
            self.len -= 1;
            return Some(packet.release());
        }
        self.fq_check_throttled(now);
        loop {
            let head = self.head_select()?;
            if let Some(skb) = self.turn(head, now) {
                return Some(skb);
            }
        }
    }

    fn len(&self) -> usize {
        self.len
    }

    fn next_time(&self) -> Option<Ktime> {
        self.delayed.first_key_value().map(|((at, _), _)| *at)
    }

    fn can_bypass(&self) -> bool {
        false
    }

    /// linux: net/sched/sch_fq.c:fq_reset
    fn reset(&mut self) -> Vec<Skb> {
        let old = std::mem::take(self);
        (self.stats, self.params) = (old.stats, old.params);
        let queued = old.flows.into_iter().flat_map(|flow| flow.queue);
        old.internal.into_iter().chain(queued).map(Packet::release).collect()
    }
}

#[cfg(test)]
mod tests;
