//! Delivery rates.

use super::*;
use crate::net::ipv4::tcp_cong::TcpReno;

const fn us(us: u64) -> Ktime {
    Ktime(us * 1000)
}

/// A connection that sends segments without data to speak of.
struct Pace {
    tp: TcpSock,
    sent: Vec<(TcpSkbTx, Ktime)>,
}

impl Pace {
    fn new() -> Self {
        let mut tp = TcpSock::new(Box::new(TcpReno), 3);
        tp.cong.app_limited = 0;
        tp.rtt_min = (10_000, Ktime::ZERO);
        Self { tp, sent: Vec::new() }
    }

    fn send(&mut self, now: Ktime) {
        let mut skb = SkBuff::default();
        tcp_rate_skb_sent(&mut self.tp, &mut skb, now);
        self.sent.push((skb.tcp_tx, now));
        self.tp.packets_out += 1;
    }

    /// Segments from `from` to before `to` are delivered at `now`.
    fn deliver(&mut self, from: usize, to: usize, now: Ktime) -> RateSample {
        let mut rs = RateSample::default();
        for n in from..to {
            let (mut tx, sent) = self.sent[n];
            let end = SeqNr(n as u32 + 1);
            tcp_rate_skb_delivered(&mut self.tp, (end, Sacked::empty()), (&mut tx, sent), &mut rs);
        }
        let count = (to - from) as u32;
        self.tp.delivered += count;
        self.tp.packets_out -= count;
        tcp_rate_gen(&mut self.tp, (count, 0), now, &mut rs);
        rs
    }
}

#[test]
fn a_sample_is_what_arrived_over_the_longer_of_sending_and_arriving() {
    let mut pace = Pace::new();
    (0..10).for_each(|n| pace.send(us(1000 + n * 1000)));
    // The first one arrives: nothing was delivered before it left.
    let rs = pace.deliver(0, 1, us(21_000));
    assert_eq!((rs.delivered, rs.interval_us), (Some(1), 20_000));
    // Nine more, bunched on their way back: they were sent over nine milliseconds, and took a round trip.
    let rs = pace.deliver(1, 10, us(30_000));
    assert_eq!((rs.delivered, rs.snd_interval_us, rs.rcv_interval_us), (Some(10), 9_000, 29_000));
    pace.send(us(31_000));
    let rs = pace.deliver(10, 11, us(51_000));
    assert_eq!((rs.delivered, rs.interval_us), (Some(1), 20_000), "a new start after a pause");
}

#[test]
fn shorter_than_any_round_trip_is_no_sample() {
    let mut pace = Pace::new();
    pace.send(us(1000));
    let rs = pace.deliver(0, 1, us(6000));
    assert_eq!(rs.delivered, None);
    assert_eq!(pace.tp.stats.rate, (0, 0));
    assert_eq!(tcp_compute_delivery_rate(&pace.tp), 0);
}

#[test]
fn a_program_with_little_to_send_lowers_no_rate() {
    let mut pace = Pace::new();
    (0..10).for_each(|_| pace.send(us(1000)));
    pace.deliver(0, 10, us(21_000));
    let rate = tcp_compute_delivery_rate(&pace.tp);
    assert_eq!(rate, 10 * 536 * 50);
    pace.tp.cong.app_limited = pace.tp.delivered + 1;
    pace.send(us(30_000));
    let rs = pace.deliver(10, 11, us(50_000));
    assert!(rs.is_app_limited && rs.delivered == Some(1));
    assert_eq!(tcp_compute_delivery_rate(&pace.tp), rate);
    // The next one that is not limited counts, lower as it is.
    pace.send(us(60_000));
    let again = pace.deliver(11, 12, us(80_000));
    assert!(again.is_app_limited, "the bubble is not past");
    pace.send(us(90_000));
    pace.deliver(12, 13, us(110_000));
    assert_eq!(tcp_compute_delivery_rate(&pace.tp), 536 * 50);
}

#[test]
fn marked_segments_are_counted_in_a_sample() {
    let mut pace = Pace::new();
    pace.tp.delivered_ce = u32::MAX;
    pace.send(us(1000));
    // One round trip later two of them had come marked.
    pace.tp.delivered_ce = 1;
    let rs = pace.deliver(0, 1, us(21_000));
    assert_eq!(rs.delivered_ce, 2);
}
