use super::*;
use crate::net::ipv4::tcp_cong::TcpPacing;
use proptest::prelude::*;
use std::collections::VecDeque;

const MSS: u32 = 1448;
/// 100 Mb/s, in segments a second.
const FAST: u64 = 100_000_000 / 8 / MSS as u64;
const RTT: Duration = Duration::from_millis(40);
/// What such a way holds, in segments.
const BDP: u64 = FAST * 40 / 1000;

/// A segment on its way, and how things stood when it left.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Ktime,
    /// When its acknowledgement is here; `None`: it was lost.
    acked_at: Option<Ktime>,
    delivered: u32,
    delivered_mstamp: Ktime,
    first_tx: Ktime,
    app_limited: bool,
}

/// A sender that always has something to send, and a way of one bandwidth, one delay and one queue.
struct Way {
    tp: TcpCong,
    ca: Bbr,
    /// Segments a second.
    rate: u64,
    /// Segments that may wait.
    queue: u64,
    /// A policer throws away instead of queueing, and lets so many pass at once.
    tokens: Option<u64>,
    /// Acknowledgements come together at multiples of this.
    clump: Duration,
    free_at: Ktime,
    first_tx: Ktime,
    next_send: Ktime,
    flight: VecDeque<Sent>,
    longest: u64,
}

impl Way {
    fn new(rate: u64, queue: u64) -> Self {
        let now = Ktime::from_secs(1000);
        let mut tp = TcpCong { mss_cache: MSS, now, snd_nxt: 12_345, ..TcpCong::default() };
        (tp.delivered_mstamp, tp.app_limited) = (now, 0);
        tp.srtt_us = 8 * RTT.as_micros() as u32;
        let mut way = Self {
            tp,
            ca: Bbr::default(),
            rate,
            queue,
            tokens: None,
            clump: Duration::ZERO,
            free_at: now,
            first_tx: now,
            next_send: now,
            flight: VecDeque::new(),
            longest: 0,
        };
        way.ca.init(&mut way.tp);
        way
    }

    /// When a segment that leaves now is acknowledged.
    fn pass(&mut self) -> Option<Ktime> {
        let now = self.tp.now;
        let each = Duration::from_nanos(1_000_000_000 / self.rate);
        let waiting = (self.free_at.since(now).as_nanos() / each.as_nanos()) as u64;
        if let Some(tokens) = self.tokens {
            // `free_at` says how far the bucket is behind being full.
            if waiting >= tokens {
                return None;
            }
            self.free_at = self.free_at.max(now) + each;
            return Some(now + RTT);
        }
        if waiting > self.queue {
            return None;
        }
        self.longest = self.longest.max(waiting);
        self.free_at = self.free_at.max(now) + each;
        let acked = self.free_at + RTT;
        let clump = self.clump.as_nanos() as u64;
        Some(if clump == 0 { acked } else { Ktime(acked.0.div_ceil(clump) * clump) })
    }

    fn send(&mut self) {
        let at = self.tp.now;
        if self.flight.is_empty() {
            (self.first_tx, self.tp.delivered_mstamp) = (at, at);
        }
        let acked_at = self.pass();
        self.flight.push_back(Sent {
            at,
            acked_at,
            delivered: self.tp.delivered,
            delivered_mstamp: self.tp.delivered_mstamp,
            first_tx: self.first_tx,
            app_limited: self.tp.app_limited != 0,
        });
        let takes = u64::from(MSS) * 1_000_000_000 / self.tp.pacing_rate.max(1);
        self.next_send = self.next_send.max(at) + Duration::from_nanos(takes);
        let tcp_wstamp = self.next_send;
        self.tp.pacing = Some(Box::new(TcpPacing { tcp_wstamp, ..TcpPacing::default() }));
    }

    /// All acknowledgements that are here by now come as one.
    fn acknowledge(&mut self) {
        let (now, prior_in_flight) = (self.tp.now, self.flight.len() as u32);
        let mut rs = RateSample { prior_in_flight, ..RateSample::default() };
        let mut last = None;
        while let Some(sent) = self.flight.front().copied() {
            match sent.acked_at {
                // It is missed when something that left later has arrived.
                None if self.flight.iter().any(|s| s.acked_at.is_some_and(|at| at <= now)) => {
                    self.tp.lost += 1;
                    rs.losses += 1;
                }
                Some(at) if at <= now => {
                    self.tp.delivered += 1;
                    rs.acked_sacked += 1;
                    last = Some(sent);
                }
                _ => break,
            }
            self.flight.pop_front();
        }
        self.tp.in_flight = self.flight.len() as u32;
        if self.tp.app_limited != 0 && self.tp.delivered > self.tp.app_limited {
            self.tp.app_limited = 0;
        }
        let Some(sent) = last else { return };
        self.tp.delivered_mstamp = now;
        let rtt = now.us_since(sent.at) as u32;
        self.tp.min_rtt = self.tp.min_rtt.min(rtt);
        rs.interval_us =
            (now.us_since(sent.delivered_mstamp)).max(sent.at.us_since(sent.first_tx)) as u32;
        self.first_tx = sent.at;
        (rs.prior_delivered, rs.prior_mstamp) = (sent.delivered, sent.delivered_mstamp);
        rs.delivered = Some(self.tp.delivered - sent.delivered);
        (rs.rtt_us, rs.is_app_limited) = (Some(rtt), sent.app_limited);
        self.ca.cong_control(&mut self.tp, &rs);
    }

    /// Goes on until the next thing has happened.
    fn step(&mut self) {
        let acked = self.flight.iter().find_map(|sent| sent.acked_at);
        let open = (self.flight.len() as u32) < self.tp.snd_cwnd;
        let send = open.then_some(self.next_send.max(self.tp.now));
        match (send, acked) {
            (Some(at), None) => self.tp.now = at,
            (Some(at), Some(acked)) if at <= acked => self.tp.now = at,
            (_, Some(acked)) => {
                self.tp.now = acked;
                return self.acknowledge();
            }
            // All was lost: a time-out.
            (None, None) => {
                self.tp.lost += self.flight.len() as u32;
                self.flight.clear();
                return self.ca.set_state(&mut self.tp, TcpCaState::Loss);
            }
        }
        self.send();
        self.tp.in_flight = self.flight.len() as u32;
    }

    fn run_for(&mut self, time: Duration) -> u32 {
        let (until, before) = (self.tp.now + time, self.tp.delivered);
        while self.tp.now < until {
            self.step();
        }
        self.tp.delivered - before
    }

    /// Runs until a mode is reached; how long that took.
    fn run_until(&mut self, mode: Mode) -> Duration {
        let since = self.tp.now;
        while self.ca.mode != mode {
            self.step();
            assert!(self.tp.now - since < Duration::from_secs(60), "{:?}", self.ca);
        }
        self.tp.now - since
    }

    fn info(&self) -> TcpBbrInfo {
        zerocopy::FromBytes::read_from_bytes(&self.ca.get_info(&self.tp)).expect("all of it")
    }
}

/// What a bandwidth is in octets a second.
fn octets(segments: u64) -> u64 {
    segments * u64::from(MSS)
}

fn near(value: u64, wanted: u64, percent: u64) -> bool {
    value.abs_diff(wanted) * 100 <= wanted * percent
}

#[test]
fn gains_are_those_of_the_paper() {
    assert_eq!((HIGH_GAIN, DRAIN_GAIN, CWND_GAIN), (739, 88, 512));
    assert_eq!(PACING_GAIN, [320, 192, 256, 256, 256, 256, 256, 256]);
    let tp = TcpCong { mss_cache: MSS, ..TcpCong::default() };
    // A segment a millisecond, less a hundredth.
    let bw = (BW_UNIT / 1000) as u32;
    assert!(near(bbr_rate_bytes_per_sec(&tp, bw, BBR_UNIT), octets(1000) * 99 / 100, 1));
}

#[test]
fn the_first_pace_doubles_the_first_window() {
    let way = Way::new(FAST, BDP);
    // 10 segments in 40 ms, 2.89 times.
    let rate = octets(10) * 1000 / 40 * 2885 / 1000 * 99 / 100;
    assert!(near(way.tp.pacing_rate, rate, 1), "{}", way.tp.pacing_rate);
    // Without a round trip to go by, one of a millisecond.
    let mut tp = TcpCong { mss_cache: MSS, ..TcpCong::default() };
    Bbr::default().init(&mut tp);
    assert!(near(tp.pacing_rate, rate * 40, 1), "{}", tp.pacing_rate);
}

/// Startup finds the bandwidth in a few round trips, what that has queued is let go, and then the way is full and
/// the queue short.
#[test]
fn the_way_is_found_and_kept_full_with_a_short_queue() {
    let mut way = Way::new(FAST, 4 * BDP);
    let found = way.run_until(Mode::Drain);
    // 2^5.1 times 10 segments are the way's. Three round trips more are needed to be sure, in which the queue becomes
    // nearly twice as long as the way.
    assert!((400..800).contains(&found.as_millis()), "{found:?}");
    assert!(way.longest <= BDP * 9 / 4, "{} segments queued at the start", way.longest);
    let drained = way.run_until(Mode::ProbeBw);
    assert!(drained <= RTT * 5, "{drained:?}");
    way.run_for(Duration::from_millis(500));
    way.longest = 0;
    let got = u64::from(way.run_for(Duration::from_secs(8)));
    assert!(got >= FAST * 8 * 96 / 100, "{got} of {}", FAST * 8);
    assert!(way.longest <= BDP / 2, "{} segments queued, the way holds {BDP}", way.longest);
    let info = way.info();
    assert!(near(info.bw(), octets(FAST), 2), "{info:?}");
    assert!(near(info.bbr_min_rtt.into(), 40_000, 1), "{info:?}");
    assert_eq!((info.bbr_cwnd_gain, way.tp.lost), (512, 0));
}

#[test]
fn a_short_queue_that_overflows_does_not_slow_it_down() {
    let mut way = Way::new(FAST, BDP / 10);
    way.run_for(Duration::from_secs(2));
    let got = u64::from(way.run_for(Duration::from_secs(5)));
    assert!(got >= FAST * 5 * 93 / 100, "{got} of {}", FAST * 5);
    assert!(way.ca.lt.used().is_none(), "{:?}", way.ca);
}

/// Eight phases, a round trip each; where they begin is chance, but never with the slow one.
#[test]
fn the_cycle_probes_and_makes_up_for_it() {
    let mut way = Way::new(FAST, 4 * BDP);
    way.run_until(Mode::ProbeBw);
    let (mut phases, mut last) = (Vec::new(), u8::MAX);
    for _ in 0..1_000_000 {
        way.step();
        if way.ca.cycle_idx != last {
            last = way.ca.cycle_idx;
            phases.push(last);
            assert_eq!(way.ca.pacing_gain, PACING_GAIN[usize::from(last)]);
        }
        if phases.len() > 20 {
            break;
        }
    }
    assert!(phases.windows(2).all(|pair| pair[1] == (pair[0] + 1) % 8), "{phases:?}");
    let mut begins = [0; 8];
    for seed in 0..700 {
        let mut ca = Bbr { chance: seed * 7919, ..Bbr::default() };
        for _ in 0..3 {
            ca.bbr_reset_probe_bw_mode(&way.tp);
            begins[usize::from(ca.cycle_idx)] += 1;
        }
    }
    assert_eq!(begins[1], 0);
    let others = begins.iter().enumerate().filter(|(phase, _)| *phase != 1);
    assert!(others.into_iter().all(|(_, times)| *times > 200), "{begins:?}");
}

/// A way that gets faster is found to be so by the next probe; one that gets slower within ten round trips.
#[test]
fn a_way_that_changes_is_followed() {
    let mut way = Way::new(FAST, 4 * BDP);
    way.run_for(Duration::from_secs(2));
    way.rate = FAST * 2;
    way.run_for(RTT * 8 * 6);
    assert!(near(way.info().bw(), octets(FAST * 2), 5), "{:?}", way.info());
    // The window is that of the way before: round trips are eight times as long until it is forgotten.
    way.rate = FAST / 2;
    way.run_for(RTT * 8 * 12);
    assert!(near(way.info().bw(), octets(FAST / 2), 5), "{:?}", way.info());
}

/// When ten seconds have brought no round trip as short, four segments are on the way for 200 ms, and then all that
/// were before.
#[test]
fn the_least_round_trip_is_looked_for() {
    let mut way = Way::new(FAST, 4 * BDP);
    way.run_until(Mode::ProbeBw);
    // As long as another fills the queue somewhat, no round trip is as short as the first.
    way.free_at = way.tp.now + Duration::from_millis(5);
    let since = way.ca.min_rtt_stamp;
    way.rate = FAST * 99 / 100;
    while way.ca.mode != Mode::ProbeRtt {
        way.step();
        assert!(way.tp.now - since < Duration::from_secs(30), "{:?}", way.ca);
    }
    assert!(way.tp.now - since > Duration::from_secs(10));
    let before = way.ca.prior_cwnd;
    let took = way.run_until(Mode::ProbeBw);
    assert!((200..400).contains(&took.as_millis()), "{took:?}");
    assert!(way.tp.snd_cwnd >= before, "{} of {before}", way.tp.snd_cwnd);
    assert!(way.tp.app_limited != 0, "what was slow on purpose says nothing of the bandwidth");
    way.run_for(Duration::from_secs(1));
    assert!(near(way.info().bw(), octets(way.rate), 3), "{:?}", way.info());
    assert!(near(way.info().bbr_min_rtt.into(), 40_000, 1), "{:?}", way.info());
}

/// A token bucket lets a burst pass, and then its rate and no more: after two stretches of losses that is the pace, for
/// 48 round trips.
#[test]
fn a_policer_is_found() {
    let mut way = Way::new(FAST / 10, 0);
    way.tokens = Some(BDP);
    let mut found = None;
    for _ in 0..2_000_000 {
        way.step();
        if let Some(bw) = way.ca.lt.used() {
            found = Some(bw);
            break;
        }
    }
    let rate = bbr_rate_bytes_per_sec(&way.tp, found.expect("a policer"), BBR_UNIT);
    assert!(near(rate, octets(FAST / 10), 15), "{rate} of {}", octets(FAST / 10));
    way.run_for(RTT * 4);
    let (lost, delivered) = (way.tp.lost, way.tp.delivered);
    way.run_for(RTT * 30);
    let (lost, delivered) = (way.tp.lost - lost, way.tp.delivered - delivered);
    assert!(lost * 10 <= delivered, "{lost} lost, {delivered} delivered");
    assert!(way.ca.lt.used().is_some());
    let since = way.tp.now;
    while way.ca.lt.used().is_some() {
        way.step();
        assert!(way.tp.now - since < RTT * 20, "it looks again whether there is more");
    }
    assert_eq!(way.ca.mode, Mode::ProbeBw);
}

/// A receiver that acknowledges every 20 ms: the window makes room for that.
#[test]
fn acknowledgements_that_come_together_do_not_empty_the_way() {
    let mut way = Way::new(FAST, 4 * BDP);
    way.clump = Duration::from_millis(20);
    way.run_for(Duration::from_secs(3));
    let got = u64::from(way.run_for(Duration::from_secs(5)));
    assert!(got >= FAST * 5 * 92 / 100, "{got} of {}", FAST * 5);
    let extra = way.ca.extra_acked.into_iter().max().expect("two");
    assert!(u64::from(extra) >= FAST / 100, "{:?}", way.ca);
}

/// For a round trip as many segments leave as arrive; then the window is what it was.
#[test]
fn recovery_conserves_and_then_restores() {
    let mut way = Way::new(FAST, 4 * BDP);
    way.run_for(Duration::from_secs(1));
    let before = way.tp.snd_cwnd;
    assert_eq!(way.ca.ssthresh(&way.tp), way.tp.snd_ssthresh);
    way.tp.ca_state = TcpCaState::Recovery;
    let (delivered, interval_us) = (Some(3), 40_000);
    let prior_delivered = way.ca.next_rtt_delivered - 1;
    let rs = RateSample {
        losses: 5,
        acked_sacked: 3,
        delivered,
        interval_us,
        prior_delivered,
        rtt_us: Some(50_000),
        ..RateSample::default()
    };
    way.ca.cong_control(&mut way.tp, &rs);
    assert_eq!(way.tp.snd_cwnd, way.tp.in_flight + 3);
    // More is lost than arrives, yet nothing leaves for it that did not arrive.
    way.tp.in_flight -= 50;
    let rs = RateSample { losses: 50, prior_delivered: way.ca.next_rtt_delivered - 1, ..rs };
    let cut = way.tp.snd_cwnd - 50;
    way.ca.cong_control(&mut way.tp, &rs);
    assert_eq!(way.tp.snd_cwnd, cut.max(way.tp.in_flight + 3));
    way.tp.ca_state = TcpCaState::Open;
    way.ca.cong_control(&mut way.tp, &RateSample { losses: 0, ..rs });
    assert!(way.tp.snd_cwnd >= before, "{} of {before}", way.tp.snd_cwnd);
    // A reduction that was for nothing begins the search anew.
    way.ca.undo_cwnd(&way.tp);
    assert_eq!((way.ca.full_bw, way.ca.full_bw_cnt), (0, 0));
}

/// A time-out leaves one segment; the bandwidth is remembered.
#[test]
fn a_timeout_forgets_no_bandwidth() {
    let mut way = Way::new(FAST, 4 * BDP);
    way.run_for(Duration::from_secs(1));
    let bw = way.info().bw();
    way.ca.ssthresh(&way.tp);
    way.ca.set_state(&mut way.tp, TcpCaState::Loss);
    assert_eq!(way.ca.prev_ca_state, TcpCaState::Loss);
    (way.tp.snd_cwnd, way.tp.ca_state) = (1, TcpCaState::Loss);
    way.flight.clear();
    way.run_for(RTT * 3);
    way.tp.ca_state = TcpCaState::Open;
    way.run_for(RTT * 3);
    assert!(near(way.info().bw(), bw, 5));
    assert!(u64::from(way.tp.snd_cwnd) >= BDP, "{}", way.tp.snd_cwnd);
}

#[test]
fn after_a_pause_the_pace_is_the_ways() {
    let mut way = Way::new(FAST, 4 * BDP);
    way.run_until(Mode::ProbeBw);
    way.run_for(Duration::from_secs(1));
    (way.ca.cycle_idx, way.ca.pacing_gain) = (0, PACING_GAIN[0]);
    way.tp.pacing_rate = way.tp.pacing_rate * 5 / 4;
    way.tp.app_limited = way.tp.delivered;
    for event in [TcpCaEvent::CwndRestart, TcpCaEvent::CompleteCwr, TcpCaEvent::Loss] {
        way.ca.cwnd_event(&mut way.tp, event);
        assert!(!way.ca.idle_restart);
    }
    way.ca.cwnd_event(&mut way.tp, TcpCaEvent::TxStart);
    assert!(way.ca.idle_restart);
    assert!(near(way.tp.pacing_rate, way.info().bw() * 99 / 100, 1));
    // The way may be empty for longer than ten seconds: that is no reason to empty it.
    way.tp.now += Duration::from_secs(20);
    way.flight.clear();
    way.next_send = way.tp.now;
    way.run_for(RTT * 2);
    assert_eq!(way.ca.mode, Mode::ProbeBw);
}

#[test]
fn slow_paces_send_single_segments() {
    let at = |pacing_rate| TcpCong { pacing_rate, mss_cache: MSS, ..TcpCong::default() };
    let ca = Bbr::default();
    for (rate, least, goal) in
        [(149_999, 1, 1), (150_000, 2, 2), (10_000_000, 2, 6), (u64::MAX, 2, 45)]
    {
        assert_eq!(ca.min_tso_segs(&at(rate)), Some(least));
        assert_eq!(Bbr::bbr_tso_segs_goal(&at(rate)), goal, "{rate}");
    }
    assert_eq!(ca.sndbuf_expand(&at(1)), 3);
    assert!(ca.needs_pacing() && ca.has_cong_control());
}

proptest! {
    #[test]
    fn nothing_overflows(
        samples in proptest::collection::vec(
            (any::<[u32; 6]>(), any::<[bool; 4]>(), any::<u64>(), 0..5_u8), 1..40,
        ),
    ) {
        let mut tp = TcpCong { mss_cache: MSS, ..TcpCong::default() };
        let mut ca = Bbr::default();
        ca.init(&mut tp);
        for ([delivered, interval_us, rtt, losses, acked, prior], flags, time, state) in samples {
            tp.now = Ktime(time);
            (tp.delivered_mstamp, tp.delivered) = (Ktime(time / 2), delivered.wrapping_mul(3));
            (tp.lost, tp.in_flight, tp.srtt_us) = (losses.wrapping_mul(7), acked / 2, rtt);
            tp.mss_cache = 1 + prior % 65_000;
            use TcpCaState::*;
            let state = [Open, Disorder, Cwr, Recovery, Loss][usize::from(state)];
            tp.ca_state = state;
            ca.set_state(&mut tp, state);
            ca.cwnd_event(&mut tp, TcpCaEvent::TxStart);
            ca.ssthresh(&tp);
            let rs = RateSample {
                delivered: flags[0].then_some(delivered),
                interval_us,
                rtt_us: flags[1].then_some(rtt),
                losses,
                acked_sacked: acked,
                prior_delivered: prior,
                prior_in_flight: acked,
                is_app_limited: flags[2],
                is_ack_delayed: flags[3],
                ..RateSample::default()
            };
            ca.cong_control(&mut tp, &rs);
            prop_assert!(tp.snd_cwnd >= 1 && tp.snd_cwnd <= tp.snd_cwnd_clamp);
            ca.undo_cwnd(&tp);
            prop_assert_eq!(ca.get_info(&tp).len(), 20);
        }
    }
}
