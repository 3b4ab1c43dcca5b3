use super::*;
use proptest::prelude::*;

/// A connection that its window alone holds up.
fn limited(snd_cwnd: u32) -> TcpCong {
    TcpCong { snd_cwnd, is_cwnd_limited: true, ..TcpCong::default() }
}

/// A round trip: all of a window is acknowledged, `each` segments at a time.
fn round(tp: &mut TcpCong, ca: &mut dyn TcpCongestionOps, each: u32) {
    let mut left = tp.snd_cwnd;
    while left > 0 {
        let acked = left.min(each);
        ca.cong_avoid(tp, 0, acked);
        left -= acked;
    }
}

#[test]
fn slow_start_doubles_whether_acknowledgements_are_delayed_or_not() {
    for each in [1, 2, 4] {
        let mut tp = limited(TCP_INIT_CWND);
        for wanted in [20, 40, 80, 160] {
            round(&mut tp, &mut TcpReno, each);
            assert_eq!(tp.snd_cwnd, wanted);
        }
    }
}

/// RFC 5681 section 3.1: min(N, SMSS) each acknowledgement, until the threshold; what one acknowledges
/// beyond it counts towards congestion avoidance.
#[test]
fn slow_start_ends_at_the_threshold() {
    let mut tp = TcpCong { snd_ssthresh: 12, ..limited(10) };
    assert!(tcp_in_slow_start(&tp));
    TcpReno.cong_avoid(&mut tp, 0, 5);
    assert_eq!((tp.snd_cwnd, tp.snd_cwnd_cnt), (12, 3));
    assert!(!tcp_in_slow_start(&tp));
}

#[test]
fn congestion_avoidance_adds_a_segment_a_round_trip() {
    for each in [1, 2, 3] {
        let mut tp = TcpCong { snd_ssthresh: 10, ..limited(10) };
        for trip in 1..=100 {
            round(&mut tp, &mut TcpReno, each);
            // An acknowledgement that grows the window counts against the larger one: up to one late.
            assert!((10 + trip - 1..=10 + trip).contains(&tp.snd_cwnd), "{trip}: {}", tp.snd_cwnd);
        }
    }
}

#[test]
fn a_loss_halves_and_may_be_undone() {
    let mut tp = limited(100);
    assert_eq!(TcpReno.ssthresh(&tp), 50);
    (tp.prior_cwnd, tp.snd_ssthresh, tp.snd_cwnd) = (100, 50, 60);
    assert_eq!(TcpReno.undo_cwnd(&tp), 100);
    tp.snd_cwnd = 130;
    assert_eq!(TcpReno.undo_cwnd(&tp), 130);
    for cwnd in [1, 2, 3, 4] {
        assert_eq!(TcpReno.ssthresh(&limited(cwnd)), 2);
    }
}

/// RFC 5681 section 4.3, RFC 7661: a window that is not used does not grow.
#[test]
fn what_is_not_used_does_not_grow() {
    let mut tp = TcpCong { is_cwnd_limited: false, snd_ssthresh: 10, ..limited(10) };
    tp.max_packets_out = 10;
    round(&mut tp, &mut TcpReno, 1);
    assert_eq!(tp.snd_cwnd, 10);
    // In slow start, more than half in use is enough.
    tp.snd_ssthresh = 1000;
    tp.max_packets_out = 5;
    TcpReno.cong_avoid(&mut tp, 0, 1);
    assert_eq!(tp.snd_cwnd, 10);
    tp.max_packets_out = 6;
    TcpReno.cong_avoid(&mut tp, 0, 1);
    assert_eq!(tp.snd_cwnd, 11);
}

#[test]
fn the_clamp_holds() {
    let mut tp = TcpCong { snd_cwnd_clamp: 25, ..limited(10) };
    (0..5).for_each(|_| round(&mut tp, &mut TcpReno, 1));
    assert_eq!(tp.snd_cwnd, 25);
    tp.snd_ssthresh = 10;
    (0..5).for_each(|_| round(&mut tp, &mut TcpReno, 1));
    assert_eq!(tp.snd_cwnd, 25);
}

#[test]
fn a_smaller_step_turns_what_was_counted_into_one_segment() {
    let mut tp = limited(10);
    tp.snd_cwnd_cnt = 90;
    tcp_cong_avoid_ai(&mut tp, 20, 1);
    assert_eq!((tp.snd_cwnd, tp.snd_cwnd_cnt), (11, 1));
    tcp_cong_avoid_ai(&mut tp, 20, 100);
    assert_eq!((tp.snd_cwnd, tp.snd_cwnd_cnt), (16, 1));
}

proptest! {
    #[test]
    fn no_acknowledgement_takes_the_window_out_of_range(
        cwnd in 1..=u32::MAX, cnt: u32, ssthresh in 2..=u32::MAX, clamp in 1..=u32::MAX,
        acked: u32, w: u32,
    ) {
        let clamp = clamp.max(cwnd);
        let start = TcpCong {
            snd_cwnd_cnt: cnt, snd_ssthresh: ssthresh, snd_cwnd_clamp: clamp, ..limited(cwnd)
        };
        let mut tp = start.clone();
        tcp_reno_cong_avoid(&mut tp, 0, acked);
        prop_assert!((cwnd..=clamp).contains(&tp.snd_cwnd));
        let mut tp = start.clone();
        tcp_cong_avoid_ai(&mut tp, w, acked);
        prop_assert!((cwnd..=clamp).contains(&tp.snd_cwnd));
        let mut tp = start;
        prop_assert!(tcp_slow_start(&mut tp, acked) <= acked);
        prop_assert!(tcp_reno_ssthresh(&tp) >= 2);
    }
}
