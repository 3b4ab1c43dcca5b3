use super::*;
use crate::net::core::skbuff::{Depot, SkbPool};
use proptest::prelude::*;
use std::sync::Arc;

const NOW: Ktime = Ktime::from_secs(100);
const MS: Duration = Duration::from_millis(1);

fn limit() -> usize {
    FqParams::default().limit as usize
}

fn flow_limit() -> usize {
    FqParams::default().flow_limit as usize
}

fn horizon() -> Duration {
    FqParams::default().horizon
}

/// The discipline, and packets for it.
struct Bed {
    fq: Fq,
    pool: SkbPool,
}

impl Bed {
    fn new() -> Self {
        Self::with(FqParams::default())
    }

    fn with(params: FqParams) -> Self {
        Self { fq: Fq::with(params), pool: SkbPool::new(Arc::new(Depot::new(64 << 20))) }
    }

    /// A packet of a flow, of so many octets, for a time; zero: at once.
    fn packet(&mut self, flow: u32, len: usize, at: Ktime) -> Skb {
        let mut skb = self.pool.alloc(len).expect("memory");
        assert!(skb.skb_put(len).is_some());
        skb.hash = flow;
        if at != Ktime::ZERO {
            skb.set_tstamp(at);
        }
        skb
    }

    fn put(&mut self, flow: u32, at: Ktime, now: Ktime) {
        let skb = self.packet(flow, 100, at);
        assert!(self.fq.enqueue(skb, now).is_ok());
    }

    /// One waits that may go, so that others do not pass by.
    fn busy(&mut self) {
        for _ in 0..FAST_PATH + 1 {
            self.put(1023, Ktime::ZERO, NOW);
        }
    }

    /// The next packet's flow and length.
    fn take(&mut self, now: Ktime) -> Option<(u32, usize)> {
        let skb = self.fq.dequeue(now)?;
        assert_eq!(skb.tstamp(), Ktime::ZERO, "its time is over");
        let taken = (skb.hash, skb.len());
        self.pool.free(skb);
        Some(taken)
    }

    fn take_all(&mut self, now: Ktime) -> Vec<u32> {
        std::iter::from_fn(|| self.take(now).map(|(flow, _)| flow)).collect()
    }

    fn end(mut self) {
        for skb in self.fq.reset() {
            self.pool.free(skb);
        }
        assert!(self.fq.is_empty() && self.fq.next_time().is_none());
    }
}

#[test]
fn packets_leave_at_their_time_and_not_before() {
    let mut bed = Bed::new();
    for (flow, ms) in [(1, 5), (2, 3), (1, 6), (3, 5)] {
        bed.put(flow, NOW + MS * ms, NOW);
    }
    assert_eq!((bed.take(NOW), bed.fq.next_time()), (None, Some(NOW + MS * 3)));
    let just_before = Ktime((NOW + MS * 3).0 - 1);
    assert_eq!(bed.take(just_before), None);
    assert_eq!(bed.take_all(NOW + MS * 3), [2]);
    assert_eq!(bed.fq.next_time(), Some(NOW + MS * 5));
    // Of one time, in the order in which they began to wait.
    assert_eq!(bed.take_all(NOW + MS * 5), [1, 3]);
    assert_eq!(bed.fq.next_time(), Some(NOW + MS * 6));
    assert_eq!(bed.take_all(NOW + MS * 60), [1]);
    assert_eq!((bed.fq.len(), bed.fq.next_time(), bed.fq.stats().throttled), (0, None, 4));
    bed.end();
}

#[test]
fn a_flows_packets_are_in_the_order_of_their_times() {
    let mut bed = Bed::new();
    for (len, ms) in [(101, 4), (102, 2), (103, 9), (104, 2)] {
        let skb = bed.packet(1, len, NOW + MS * ms);
        assert!(bed.fq.enqueue(skb, NOW).is_ok());
    }
    // The first one was not held back yet, so that none is late for it.
    let lens: Vec<usize> =
        (0..10).filter_map(|ms| bed.take(NOW + MS * ms).map(|(_, len)| len)).collect();
    assert_eq!(lens, [102, 104, 101, 103]);
    bed.end();
}

/// Flows of packets of all lengths have the same of the link.
#[test]
fn flows_have_the_same_number_of_octets() {
    let mut bed = Bed::new();
    bed.busy();
    let lens = [60, 200, 700, 1500, 3000];
    let mut octets = [0; 5];
    let mut total = 0;
    while total < 2_000_000 {
        for (flow, len) in lens.into_iter().enumerate() {
            while bed
                .fq
                .by_key
                .get(&((flow as u64) << 1 | 1))
                .is_none_or(|at| bed.fq.flows[*at].queue.len() < 90)
            {
                let skb = bed.packet(flow as u32, len, Ktime::ZERO);
                assert!(bed.fq.enqueue(skb, NOW).is_ok());
            }
        }
        for _ in 0..20 {
            let (flow, len) = bed.take(NOW).expect("all have some");
            total += len;
            if let Some(sum) = octets.get_mut(flow as usize) {
                *sum += len as i64;
            }
        }
    }
    let (least, most) = (octets.iter().min().expect("five"), octets.iter().max().expect("five"));
    assert!(
        most - least
            <= i64::from(FqParams::default().initial_quantum + 2 * FqParams::default().quantum),
        "{octets:?}"
    );
    bed.end();
}

#[test]
fn a_new_flow_comes_before_those_that_had_their_turn() {
    let mut bed = Bed::new();
    bed.busy();
    for _ in 0..90 {
        let skb = bed.packet(1, 1500, Ktime::ZERO);
        assert!(bed.fq.enqueue(skb, NOW).is_ok());
    }
    // Its first turn is over.
    for _ in 0..40 {
        assert!(bed.take(NOW).is_some());
    }
    bed.put(2, Ktime::ZERO, NOW);
    assert_eq!(bed.take(NOW).expect("there").0, 2);
    bed.end();
}

/// By nine, three and one, while all have something.
#[test]
fn bands_share_by_weight() {
    let mut bed = Bed::new();
    bed.busy();
    let mut octets = [0_usize; 3];
    for _ in 0..30_000 {
        // A priority of each band.
        for (flow, priority) in [6, 0, 2].into_iter().enumerate() {
            let at = bed.fq.by_key.get(&((flow as u64) << 1 | 1));
            if at.is_none_or(|at| bed.fq.flows[*at].queue.len() < 50) {
                let mut skb = bed.packet(flow as u32, 1500, Ktime::ZERO);
                skb.priority = priority;
                assert!(bed.fq.enqueue(skb, NOW).is_ok());
            }
        }
        let (flow, len) = bed.take(NOW).expect("all have some");
        if let Some(sum) = octets.get_mut(flow as usize) {
            *sum += len;
        }
    }
    let share = |a: usize, b: usize| octets[a] as f64 / octets[b] as f64;
    assert!((2.7..3.3).contains(&share(0, 1)) && (2.7..3.3).contains(&share(1, 2)), "{octets:?}");
    bed.end();
}

#[test]
fn what_is_too_much_is_refused_and_told_why() {
    let mut bed = Bed::new();
    bed.busy();
    let refused = |bed: &mut Bed, flow, at| {
        let skb = bed.packet(flow, 100, at);
        let refused = bed.fq.enqueue(skb, NOW).expect_err("too much");
        bed.pool.free(refused.skb);
        refused.reason
    };
    (0..flow_limit()).for_each(|_| bed.put(1, Ktime::ZERO, NOW));
    assert_eq!(refused(&mut bed, 1, Ktime::ZERO), DropReason::FqFlowLimit);
    let late = NOW + horizon();
    bed.put(2, late, NOW);
    assert_eq!(refused(&mut bed, 2, late + Duration::from_nanos(1)), DropReason::FqHorizonLimit);
    let mut flow = 3;
    while bed.fq.bands[1].packets < limit() {
        (0..flow_limit().min(limit() - bed.fq.bands[1].packets))
            .for_each(|_| bed.put(flow, Ktime::ZERO, NOW));
        flow += 1;
    }
    assert_eq!(refused(&mut bed, flow, Ktime::ZERO), DropReason::FqBandLimit);
    assert_eq!(bed.fq.stats().refused, [1, 1, 1]);
    assert!(bed.fq.stats().flows < flow as usize + 2);
    bed.end();
}

#[test]
fn control_and_who_meets_nobody_pass_by() {
    let mut bed = Bed::new();
    bed.put(1, Ktime::ZERO, NOW);
    assert_eq!((bed.fq.stats().flows, bed.fq.stats().fastpath), (0, 1));
    // Behind one that waits for its time, too.
    bed.put(2, NOW + MS, NOW);
    assert_eq!(bed.take_all(NOW), [1]);
    bed.put(3, Ktime::ZERO, NOW);
    assert_eq!(bed.fq.stats().fastpath, 2);
    // But not by one whose time has come.
    bed.put(4, Ktime::ZERO, NOW + MS);
    assert_eq!(bed.fq.stats().fastpath, 2);
    let mut control = bed.packet(5, 100, Ktime::ZERO);
    control.priority = TC_PRIO_CONTROL;
    assert!(bed.fq.enqueue(control, NOW).is_ok());
    assert_eq!(bed.take_all(NOW + MS), [3, 5, 4, 2]);
    bed.end();
}

#[test]
fn silent_flows_are_forgotten() {
    let mut fq = Fq::new();
    for key in 0..GC_FLOWS as u64 {
        fq.new_flow(key, NOW);
    }
    fq.new_flow(1 << 40, NOW + GC_AGE);
    assert_eq!(fq.stats().gc_flows, 0, "not old enough");
    fq.new_flow(2 << 40, NOW + GC_AGE + MS);
    assert_eq!((fq.stats().gc_flows, fq.stats().flows), (GC_MAX as u64, GC_FLOWS + 2 - GC_MAX));
    // However many come at once, there is a bound.
    for key in 0..100_000 {
        fq.new_flow(3 << 40 | key, NOW + GC_AGE);
    }
    assert!(fq.stats().flows <= MOST_IDLE && fq.flows.len() <= MOST_IDLE, "{:?}", fq.stats());
    assert_eq!(fq.stats().flows, fq.stats().inactive_flows);
}

proptest! {
    #[test]
    fn each_packet_leaves_once_and_never_early(
        steps in proptest::collection::vec((0..6_u32, 0..40_u64, 60..3000_usize, any::<bool>()), 1..300),
    ) {
        let mut bed = Bed::new();
        let (mut now, mut put, mut taken) = (NOW, 0, 0);
        let mut times = std::collections::BTreeMap::new();
        for (number, (flow, ms, len, priority)) in steps.into_iter().enumerate() {
            let at = if ms < 10 { Ktime::ZERO } else { now + MS * (ms as u32 - 10) };
            let mut skb = bed.packet(flow, len, at);
            // The mark tells which it is.
            (skb.mark, skb.priority) = (number as u32, if priority { 6 } else { 0 });
            if let Err(refused) = bed.fq.enqueue(skb, now) {
                bed.pool.free(refused.skb);
                continue;
            }
            times.insert(number as u32, at);
            put += 1;
            prop_assert_eq!(bed.fq.len(), put - taken);
            if ms % 3 == 0 {
                while let Some(skb) = bed.fq.dequeue(now) {
                    let at = times.remove(&skb.mark);
                    prop_assert!(at.is_some_and(|at| at <= now), "{:?} at {}", at, now);
                    bed.pool.free(skb);
                    taken += 1;
                }
                prop_assert!(bed.fq.next_time().is_none_or(|at| at > now));
                prop_assert_eq!(bed.fq.next_time().is_some(), bed.fq.len() != 0);
            }
            now += MS;
        }
        prop_assert_eq!(bed.take_all(now + horizon()).len(), put - taken);
        bed.end();
    }
}

/// The discipline with these options.
fn bed(words: &str) -> Bed {
    match QdiscOptions::parse(&format!("fq {words}"), None) {
        Ok(QdiscOptions::Fq(params)) => Bed::with(params),
        other => panic!("{words}: {other:?}"),
    }
}

#[test]
fn a_rate_holds_every_flow() {
    // 100 octets in 10 ms; below the threshold each packet waits for the next.
    let mut bed = bed("maxrate 80kbit");
    for _ in 0..3 {
        bed.put(1, Ktime::ZERO, NOW);
        bed.put(2, Ktime::ZERO, NOW);
    }
    assert_eq!(bed.fq.stats().fastpath, 0, "each is counted");
    assert_eq!(bed.take_all(NOW), [1, 2]);
    assert_eq!(bed.take_all(NOW + MS * 9), []);
    assert_eq!(bed.take_all(NOW + MS * 10), [1, 2]);
    // One that brings its own time too.
    bed.put(3, NOW + MS * 10, NOW + MS * 10);
    bed.put(3, NOW + MS * 11, NOW + MS * 10);
    assert_eq!(bed.take_all(NOW + MS * 10), [3]);
    assert_eq!(bed.take_all(NOW + MS * 20), [1, 2, 3]);
    bed.end();
    let mut bed = self::bed("maxrate 80kbit nopacing");
    (0..3).for_each(|_| bed.put(1, Ktime::ZERO, NOW));
    assert_eq!(bed.take_all(NOW), [1, 1, 1]);
    bed.end();
}

#[test]
fn above_the_threshold_a_flow_has_its_first_turn_at_once() {
    let mut bed = bed("maxrate 8mbit initial_quantum 250 quantum 100");
    (0..5).for_each(|_| bed.put(1, Ktime::ZERO, NOW));
    // Three use up what it has; then a packet is 100 us.
    assert_eq!(bed.take_all(NOW), [1, 1, 1]);
    assert_eq!(bed.take_all(NOW + Duration::from_micros(99)), []);
    assert_eq!(bed.take_all(NOW + Duration::from_micros(100)), [1]);
    bed.end();
}

#[test]
fn limits_are_those_that_are_set() {
    let mut bed = bed("limit 20 flow_limit 3 orphan_mask 1");
    bed.busy();
    // All even ones are one flow.
    for flow in [2, 4, 6, 8] {
        let skb = bed.packet(flow, 100, NOW + MS);
        match bed.fq.enqueue(skb, NOW) {
            Ok(()) => assert_ne!(flow, 8),
            Err(refused) => {
                assert_eq!((flow, refused.reason), (8, DropReason::FqFlowLimit));
                bed.pool.free(refused.skb);
            }
        }
    }
    assert_eq!(bed.fq.stats().refused, [0, 1, 0]);
    assert!(bed.fq.stats().flows <= 2, "{:?}", bed.fq.stats());
    bed.end();
}

#[test]
fn beyond_the_horizon_a_packet_leaves_at_it_or_never() {
    let mut bed = bed("horizon 5ms");
    let skb = bed.packet(1, 100, NOW + MS * 6);
    let refused = bed.fq.enqueue(skb, NOW).expect_err("too far");
    assert_eq!(refused.reason, DropReason::FqHorizonLimit);
    bed.pool.free(refused.skb);
    bed.end();
    let mut bed = self::bed("horizon 5ms horizon_cap");
    bed.put(1, NOW + MS * 6, NOW);
    bed.put(1, NOW + MS * 5, NOW);
    assert_eq!((bed.fq.stats().horizon_caps, bed.fq.stats().refused), (1, [0; 3]));
    assert_eq!(bed.take_all(NOW + MS * 4), []);
    assert_eq!(bed.take_all(NOW + MS * 5), [1, 1]);
    bed.end();
}

/// An IP packet with this TOS.
fn ip(bed: &mut Bed, tos: u8) -> Skb {
    let mut skb = bed.packet(1, 34, NOW + MS);
    let data = skb.data_mut().expect("its own");
    data[14..24].copy_from_slice(&[0x45, tos, 0, 20, 0, 0, 0, 0, 64, 17]);
    let sum = klib::checksum::ip_fast_csum(&data[14..34]);
    data[24..26].copy_from_slice(&sum.to_be_bytes());
    skb.protocol = uapi::if_ether::ETH_P_IP;
    skb.network_header = skb.headroom() as u16 + 14;
    skb
}

#[test]
fn what_leaves_late_is_marked_if_it_may_be() {
    for (tos, late, marked) in
        [(1, 3, true), (2, 3, true), (3, 3, true), (0, 3, false), (1, 2, false)]
    {
        let mut bed = bed("ce_threshold 2ms");
        let skb = ip(&mut bed, 0x40 | tos);
        assert!(bed.fq.enqueue(skb, NOW).is_ok());
        let skb = bed.fq.dequeue(NOW + MS + MS * late).expect("its time has come");
        let header = &skb.data()[14..34];
        assert_eq!(header[1], if marked { 0x43 } else { 0x40 | tos });
        assert_eq!(klib::checksum::csum_fold(klib::checksum::csum_partial(header, 0)), 0);
        assert_eq!(bed.fq.stats().ce_mark, u64::from(marked));
        bed.pool.free(skb);
        bed.end();
    }
}

#[test]
fn a_change_keeps_what_there_is_room_for() {
    let mut bed = bed("flow_limit 50");
    (0..30).for_each(|_| bed.put(1, NOW + MS, NOW));
    (0..10).for_each(|_| bed.put(2, Ktime::ZERO, NOW));
    let wanted = QdiscOptions::parse("fq limit 35", Some(&bed.fq.options())).expect("good");
    let given_up = bed.fq.change(&wanted, NOW).expect("its own");
    assert_eq!((given_up.len(), bed.fq.len()), (5, 35));
    given_up.into_iter().for_each(|skb| bed.pool.free(skb));
    assert_eq!((bed.fq.params.flow_limit, bed.fq.params.limit), (50, 35));
    // Those that wait for their time are not given up.
    let wanted = QdiscOptions::parse("fq limit 0", Some(&bed.fq.options())).expect("good");
    let given_up = bed.fq.change(&wanted, NOW).expect("its own");
    assert_eq!((given_up.len(), bed.fq.len()), (5, 30));
    given_up.into_iter().for_each(|skb| bed.pool.free(skb));
    assert!(bed.fq.change(&QdiscOptions::PfifoFast, NOW).is_none(), "another's");
    assert_eq!(bed.fq.params.limit, 0);
    assert_eq!(bed.take_all(NOW + MS).len(), 30);
    bed.end();
}
