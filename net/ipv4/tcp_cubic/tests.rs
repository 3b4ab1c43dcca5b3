use super::*;
use crate::kernel::time::Ktime;
use crate::net::ipv4::tcp_cong::TCP_INFINITE_SSTHRESH;
use proptest::prelude::*;
use std::time::Duration;

const MS: u64 = 1_000_000;

/// A connection over a path of one round trip time, at a time.
struct Path {
    tp: TcpCong,
    ca: Bictcp,
    rtt: Duration,
    /// Acknowledgements come within so many parts of the round trip.
    spread: u32,
}

impl Path {
    fn new(cwnd: u32, rtt_ms: u64) -> Self {
        let now = Ktime::from_secs(1000);
        let tp = TcpCong { snd_cwnd: cwnd, is_cwnd_limited: true, now, ..TcpCong::default() };
        let mut path =
            Self { tp, ca: Bictcp::default(), rtt: Duration::from_millis(rtt_ms), spread: 1 };
        path.ca.init(&mut path.tp);
        path
    }

    /// A window is acknowledged over a round trip, `each` segments at a time.
    fn round(&mut self, each: u32) {
        let (begin, window) = (self.tp.now, self.tp.snd_cwnd);
        let mut done = 0;
        while done < window {
            let acked = (window - done).min(each);
            done += acked;
            self.tp.now = begin + (self.rtt - self.rtt / self.spread * (window - done) / window);
            // Sequence numbers count segments here.
            self.tp.snd_una = self.tp.snd_una.wrapping_add(acked);
            self.tp.snd_nxt = self.tp.snd_una.wrapping_add(self.tp.snd_cwnd);
            let rtt_us = Some(self.rtt.as_micros() as u32);
            let sample = AckSample { pkts_acked: acked, rtt_us, in_flight: window };
            self.ca.pkts_acked(&mut self.tp, &sample);
            self.ca.cong_avoid(&mut self.tp, 0, acked);
        }
    }

    /// Fast recovery, in no time.
    fn loss(&mut self) {
        self.tp.prior_cwnd = self.tp.snd_cwnd;
        self.tp.snd_ssthresh = self.ca.ssthresh(&self.tp);
        self.tp.snd_cwnd = self.tp.snd_ssthresh;
        self.tp.snd_cwnd_cnt = 0;
    }

    /// Windows after so many round trips each.
    fn windows(&mut self, rounds: &[u32], each: u32) -> Vec<u32> {
        let mut all = Vec::new();
        let mut done = 0;
        for until in rounds {
            (done..*until).for_each(|_| self.round(each));
            done = *until;
            all.push(self.tp.snd_cwnd);
        }
        all
    }
}

/// RFC 9438 section 4.2, figures 1 and 2: C = 0.4, beta = 0.7.
fn w_cubic(w_max: f64, cwnd: f64, t: f64) -> f64 {
    let k = ((w_max - cwnd) / 0.4).cbrt();
    0.4 * (t - k).powi(3) + w_max
}

/// RFC 9438 section 4.3, figure 4, at a steady round trip.
fn w_est(cwnd: f64, t: f64, rtt: f64) -> f64 {
    cwnd + 3.0 * (1.0 - 0.7) / (1.0 + 0.7) * t / rtt
}

#[test]
fn the_cube_root_is_exact() {
    for root in (0..2000).chain([65_535, 65_536, 1_000_000, 2_642_244, 2_642_245]) {
        let cube = u64::pow(root, 3);
        assert_eq!(cubic_root(cube), root as u32);
        assert_eq!(cubic_root(cube + 1), if root == 0 { 1 } else { root as u32 });
        if root > 1 {
            assert_eq!(cubic_root(cube - 1), root as u32 - 1);
        }
    }
    assert_eq!(cubic_root(u64::MAX), 2_642_245);
}

#[test]
fn constants_are_those_of_the_rfc() {
    assert_eq!((BETA_SCALE, CUBE_FACTOR), (15, 2_681_735_677));
    assert!((BETA as f64 / 1024.0 - 0.7).abs() < 0.0003);
    assert!((CUBE_RTT_SCALE as f64 / 1024.0 - 0.4).abs() < 0.0005);
    let alpha = 3.0 * (1.0 - 0.7) / (1.0 + 0.7);
    assert!((8.0 / BETA_SCALE as f64 - alpha).abs() < 0.005);
}

/// After a loss at 100 segments over 100 ms, second by second. Two segments of tolerance towards the RFC's
/// formula: the window follows a target one round trip ahead, in whole segments.
#[test]
fn a_loss_at_100_segments_over_100_ms() {
    const TABLE: [(u32, u32); 11] = [
        (0, 70),
        (1, 87),
        (2, 97),
        (3, 100),
        (4, 100),
        (5, 100),
        (6, 102),
        (7, 109),
        (8, 122),
        (9, 144),
        (10, 177),
    ];
    for each in [1, 2] {
        let mut path = Path::new(100, 100);
        path.tp.snd_ssthresh = 50;
        path.loss();
        for (secs, window) in TABLE {
            let t = f64::from(secs);
            let formula = w_cubic(100.0, 70.0, t).max(w_est(70.0, t, 0.1));
            let got = path.tp.snd_cwnd;
            assert!((f64::from(got) - formula).abs() <= 2.0, "{secs} s: {got}, RFC {formula:.1}");
            assert!(got.abs_diff(window) <= 1, "{secs} s: {got}, here {window}, by {each}");
            (0..10).for_each(|_| path.round(each));
        }
    }
}

/// Where round trips are short, Reno's window grows faster than the cubic function, and CUBIC with it.
/// It is late by what growing takes, a segment and a half at the most; over 5 ms by two more, for a
/// window that stands is looked at every 31 ms only.
#[test]
fn over_short_paths_it_grows_as_reno_with_the_same_average() {
    const ROUNDS: [u32; 4] = [20, 40, 80, 160];
    for (rtt_ms, late) in [(5, 3.5), (20, 1.5), (40, 1.5)] {
        let mut path = Path::new(50, rtt_ms);
        path.tp.snd_ssthresh = 20;
        path.loss();
        assert_eq!(path.tp.snd_cwnd, 35);
        let rtt = rtt_ms as f64 / 1000.0;
        for (rounds, got) in ROUNDS.into_iter().zip(path.windows(&ROUNDS, 1)) {
            let t = f64::from(rounds) * rtt;
            let formula = w_est(35.0, t, rtt);
            assert!(formula > w_cubic(50.0, 35.0, t));
            let behind = formula - f64::from(got);
            assert!(
                (0.0..=late).contains(&behind),
                "{rtt_ms} ms, {rounds}: {got}, RFC {formula:.1}"
            );
        }
    }
}

/// RFC 9438 section 4.7: a flow that loses before it is back leaves room to others.
#[test]
fn fast_convergence_leaves_room() {
    let mut path = Path::new(100, 100);
    path.loss();
    assert_eq!((path.tp.snd_ssthresh, path.ca.last_max_cwnd), (70, 100));
    path.tp.snd_cwnd = 80;
    path.loss();
    // 80 × (1 + 0.7) / 2.
    assert_eq!((path.tp.snd_ssthresh, path.ca.last_max_cwnd), (56, 68));
    path.tp.snd_cwnd = 90;
    path.loss();
    assert_eq!((path.tp.snd_ssthresh, path.ca.last_max_cwnd), (63, 90));
    path.tp.snd_cwnd = 2;
    assert_eq!(path.ca.ssthresh(&path.tp), 2);
}

#[test]
fn slow_start_doubles_and_leaves_at_the_threshold() {
    let mut path = Path::new(10, 50);
    // So little fills the way that HyStart has nothing to say.
    path.spread = 10;
    assert_eq!(path.windows(&[1, 2, 3, 4], 2), [20, 40, 80, 160]);
    path.tp.snd_ssthresh = 170;
    path.spread = 1;
    path.round(1);
    // Without a loss to go by, 5 % a round trip at least.
    assert!((170..=180).contains(&path.tp.snd_cwnd), "{}", path.tp.snd_cwnd);
    let before = path.tp.snd_cwnd;
    path.round(1);
    assert!(path.tp.snd_cwnd >= before + before / 20 - 1, "{}", path.tp.snd_cwnd);
}

#[test]
fn a_timeout_forgets_what_was_learnt() {
    let mut path = Path::new(100, 100);
    path.loss();
    path.windows(&[20], 1);
    assert!(path.ca.epoch_start.is_some() && path.ca.last_max_cwnd == 100);
    for state in [TcpCaState::Open, TcpCaState::Disorder, TcpCaState::Cwr, TcpCaState::Recovery] {
        path.ca.set_state(&mut path.tp, state);
        assert_eq!(path.ca.last_max_cwnd, 100, "{state:?}");
    }
    path.ca.set_state(&mut path.tp, TcpCaState::Loss);
    assert!(path.ca.epoch_start.is_none() && path.ca.last_max_cwnd == 0);
    assert_eq!(path.ca.delay_min, 0);
}

/// Two flows over one path, one idle for a minute: they go on from the same place.
#[test]
fn idleness_is_not_time_to_grow_in() {
    let run = |idle_secs: u64| {
        let mut path = Path::new(100, 100);
        path.loss();
        path.windows(&[20], 1);
        path.tp.lsndtime = path.tp.now;
        path.tp.now += Duration::from_secs(idle_secs);
        path.ca.cwnd_event(&mut path.tp, TcpCaEvent::TxStart);
        path.windows(&[10, 20, 30], 1)
    };
    assert_eq!(run(0), run(60));
    // Without the event the window would jump.
    let mut path = Path::new(100, 100);
    path.loss();
    path.windows(&[20], 1);
    path.tp.now += Duration::from_secs(60);
    assert!(path.windows(&[10], 1)[0] > run(60)[0] + 50);
}

#[test]
fn other_events_move_nothing() {
    let mut path = Path::new(100, 100);
    path.loss();
    path.windows(&[5], 1);
    let before = format!("{:?}", path.ca);
    for event in [
        TcpCaEvent::CwndRestart,
        TcpCaEvent::CompleteCwr,
        TcpCaEvent::Loss,
        TcpCaEvent::EcnNoCe,
        TcpCaEvent::EcnIsCe,
    ] {
        path.ca.cwnd_event(&mut path.tp, event);
        assert_eq!(format!("{:?}", path.ca), before);
    }
    path.ca.pkts_acked(&mut path.tp, &AckSample::default());
    assert_eq!(format!("{:?}", path.ca), before, "an acknowledgement that measures nothing");
}

#[test]
fn a_window_that_is_not_in_use_does_not_grow() {
    let mut path = Path::new(100, 100);
    path.loss();
    path.tp.is_cwnd_limited = false;
    path.tp.max_packets_out = 35;
    assert_eq!(path.windows(&[1, 20], 1), [70, 70]);
}

#[test]
fn the_least_delay_is_kept() {
    let mut path = Path::new(10, 100);
    let mut see = |rtt_us| {
        let sample = AckSample { pkts_acked: 1, rtt_us, in_flight: 1 };
        path.ca.pkts_acked(&mut path.tp, &sample);
        path.ca.delay_min
    };
    let seen = [Some(500), Some(900), None, Some(300), Some(0), Some(7)].map(&mut see);
    assert_eq!(seen, [500, 500, 500, 300, 1, 1]);
}

/// As many losses as one likes: the window goes to and fro about what the path carries.
#[test]
fn a_path_of_200_segments_is_kept_full() {
    let mut path = Path::new(10, 40);
    let (mut sum, mut losses) = (0_u64, 0);
    for _ in 0..2000 {
        path.round(2);
        if path.tp.snd_cwnd > 200 {
            path.loss();
            losses += 1;
        }
        sum += u64::from(path.tp.snd_cwnd);
    }
    let average = sum / 2000;
    assert!((160..200).contains(&average), "{average} segments, {losses} losses");
    assert!((10..60).contains(&losses), "{losses} losses");
    assert!(path.tp.snd_ssthresh < TCP_INFINITE_SSTHRESH);
}

/// Slow start in which `each` acknowledgement comes a while after the one before; the window at its end, and
/// what ended it.
fn slow_start(rtts: impl Fn(u32) -> Duration, gap_us: u64) -> Option<(u32, Hystart)> {
    let mut path = Path::new(10, 100);
    let mut begin = path.tp.now;
    for round in 0..8 {
        let (rtt, window) = (rtts(round), path.tp.snd_cwnd);
        for n in 0..window {
            path.tp.now = begin + rtt + Duration::from_micros(gap_us) * n;
            path.tp.snd_una += 1;
            path.tp.snd_nxt = path.tp.snd_una + path.tp.snd_cwnd;
            let rtt_us = Some(rtt.as_micros() as u32);
            let sample = AckSample { pkts_acked: 1, rtt_us, in_flight: window };
            path.ca.pkts_acked(&mut path.tp, &sample);
            if !path.tp.hystart.is_empty() {
                assert_eq!(path.tp.snd_ssthresh, path.tp.snd_cwnd);
                assert!(path.ca.found);
                return Some((path.tp.snd_cwnd, path.tp.hystart));
            }
            path.ca.cong_avoid(&mut path.tp, 0, 1);
        }
        begin = path.tp.now.max(begin + rtt);
    }
    None
}

/// A round trip of 100 ms. An acknowledgement a millisecond: after 50 ms of them the way has no room between.
#[test]
fn a_train_of_acknowledgements_ends_slow_start() {
    let steady = |_| Duration::from_millis(100);
    // The pace is unknown here, so that the threshold is just half of the round trip: 10, 20, 40 segments pass. Of
    // the next 80 the eighth begins the round, for what was in flight then had grown by as many; the 51st behind it
    // is too late.
    assert_eq!(slow_start(steady, 1_000), Some((138, Hystart::ACK_TRAIN)));
    // Closer ones take longer to add up, ones that are too far apart are no train, few neither.
    assert_eq!(slow_start(steady, 250), Some((552, Hystart::ACK_TRAIN)));
    assert_eq!(slow_start(steady, 2_001), None);
    assert_eq!(slow_start(steady, 10), None);
}

/// The queue makes round trips longer: an eighth of the least, 4 ms at least and 16 at most, with eight to go by.
#[test]
fn longer_round_trips_end_slow_start() {
    let grows = |base: u64, by: u64| {
        move |round| Duration::from_micros(base + if round < 3 { 0 } else { by })
    };
    // In round 3 the window is 80 and the eighth acknowledgement begins it; the ninth from there on tells.
    assert_eq!(slow_start(grows(100_000, 12_501), 0), Some((95, Hystart::DELAY)));
    assert_eq!(slow_start(grows(100_000, 12_499), 0), None);
    assert_eq!(slow_start(grows(10_000, 4_001), 0), Some((95, Hystart::DELAY)));
    assert_eq!(slow_start(grows(10_000, 4_000), 0), None);
    assert_eq!(slow_start(grows(400_000, 16_001), 0), Some((95, Hystart::DELAY)));
    assert_eq!(slow_start(grows(400_000, 15_999), 0), None);
}

#[test]
fn small_windows_and_later_slow_starts_are_looked_at_as_linux_does() {
    // Below 16 segments nothing is looked at.
    let mut path = Path::new(10, 100);
    path.tp.snd_cwnd_clamp = 15;
    path.windows(&[20], 1);
    assert_eq!((path.tp.snd_cwnd, path.tp.hystart), (15, Hystart::empty()));
    // What was found is found once, until a time-out.
    let mut path = Path::new(60, 100);
    path.windows(&[3], 1);
    assert!(path.ca.found && !std::mem::take(&mut path.tp.hystart).is_empty());
    path.tp.snd_ssthresh = TCP_INFINITE_SSTHRESH;
    path.windows(&[3], 1);
    assert!(path.tp.hystart.is_empty());
    path.ca.set_state(&mut path.tp, TcpCaState::Loss);
    assert!(!path.ca.found);
    path.windows(&[3], 1);
    assert!(!path.tp.hystart.is_empty());
}

proptest! {
    #[test]
    fn nothing_overflows(
        cwnd in 1..=u32::MAX, w_max in 1..=u32::MAX, acked: u32, rtt_us: u32,
        times in proptest::collection::vec(any::<u64>(), 1..6),
    ) {
        let mut tp = TcpCong { snd_cwnd: w_max, is_cwnd_limited: true, ..TcpCong::default() };
        let mut ca = Bictcp::default();
        ca.pkts_acked(&mut tp, &AckSample { pkts_acked: 1, rtt_us: Some(rtt_us), in_flight: 1 });
        prop_assert!(ca.ssthresh(&tp) >= 2);
        tp.snd_cwnd = cwnd;
        tp.snd_ssthresh = 2;
        // Clocks that go back are no reason to panic.
        for time in times {
            tp.now = Ktime(time);
            ca.cwnd_event(&mut tp, TcpCaEvent::TxStart);
            let before = tp.snd_cwnd;
            ca.cong_avoid(&mut tp, 0, acked % 100_000);
            prop_assert!(tp.snd_cwnd >= before);
            tp.lsndtime = Ktime(time / 2 + MS);
            ca.ssthresh(&tp);
        }
    }
}
