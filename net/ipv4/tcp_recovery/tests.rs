//! Losses by time: what is marked, and how many segments are looked at.

use super::*;
use crate::net::core::skbuff::{Cb, Depot, SkbPool};
use crate::net::ipv4::tcp::TcpSkbCb;
use crate::net::ipv4::tcp_cong::TcpReno;
use crate::net::ipv4::tcp_output::cb_mut;
use std::sync::Arc;

const MSS: u32 = 1000;
const RTT: u64 = 20_000;

const fn us(us: u64) -> Ktime {
    Ktime(us * 1000)
}

/// Segments that leave one packet each.
struct Flight {
    tp: TcpSock,
    pool: SkbPool,
}

impl Flight {
    fn new() -> Self {
        let pool = SkbPool::new(Arc::new(Depot::new(64 << 20)));
        let mut tp = TcpSock::new(Box::new(TcpReno), 3);
        tp.rx_opt.sack_ok = true;
        // The numbers go round on the way.
        tp.snd_una = SeqNr(0_u32.wrapping_sub(5 * MSS));
        tp.snd_nxt = tp.snd_una;
        tp.rtt_min = (RTT as u32, Ktime::ZERO);
        tp.cong.srtt_us = RTT as u32 * 8;
        Self { tp, pool }
    }

    /// A new segment leaves.
    fn send(&mut self, at: Ktime) {
        let mut skb = self.pool.alloc_handle().expect("memory");
        let seq = self.tp.snd_nxt;
        skb.cb = Cb::Tcp(TcpSkbCb { seq, end_seq: seq + MSS, ..TcpSkbCb::NONE });
        (skb.data_len, skb.gso.segs) = (MSS, 1);
        skb.set_tstamp(at);
        tcp_update_skb_after_send(&mut self.tp, (seq, seq + MSS), at);
        self.tp.rtx_queue.push_back(skb);
        self.tp.snd_nxt = seq + MSS;
        self.tp.packets_out += 1;
    }

    /// One that is lost leaves again.
    fn again(&mut self, n: usize, at: Ktime) {
        let skb = &mut self.tp.rtx_queue[n];
        skb.set_tstamp(at);
        let own = cb_mut(skb);
        own.sacked |= Sacked::RETRANS | Sacked::EVER_RETRANS;
        let range = (own.seq, own.end_seq);
        tcp_update_skb_after_send(&mut self.tp, range, at);
        self.tp.retrans_out += 1;
    }

    /// One is reported; what was looked at then.
    fn sack(&mut self, n: usize, now: Ktime, reo_wnd: u64) -> Detected {
        let skb = &mut self.tp.rtx_queue[n];
        let sent = skb.tstamp();
        let own = cb_mut(skb);
        let before = own.sacked;
        own.sacked = Sacked::ACKED;
        let end = own.end_seq;
        self.tp.lost_out -= u32::from(before.contains(Sacked::LOST));
        tcp_rack_advance(&mut self.tp, before, end, (sent, now));
        detect(&mut self.tp, reo_wnd, now)
    }

    fn lost(&self) -> Vec<usize> {
        let lost = |n: &usize| cb(&self.tp.rtx_queue[*n]).sacked.contains(Sacked::LOST);
        (0..self.tp.rtx_queue.len()).filter(lost).collect()
    }

    fn end(mut self) {
        for skb in self.tp.rtx_queue.drain(..) {
            skb.forget_at_exit();
        }
    }
}

#[test]
fn a_segment_is_lost_a_round_trip_and_a_window_after_it_left() {
    let mut flight = Flight::new();
    (0..4).for_each(|n| flight.send(us(n * 1000)));
    // The third arrives after a round trip: the first two left earlier and have 5 ms more.
    let found = flight.sack(2, us(2000 + RTT), 5000);
    assert_eq!((flight.lost(), found.timeout), (vec![], 4000));
    // A millisecond more than that is left to the second one.
    let found = detect(&mut flight.tp, 5000, us(RTT + 5000));
    assert_eq!((flight.lost(), found.timeout), (vec![0], 1000));
    let found = detect(&mut flight.tp, 5000, us(RTT + 6000));
    assert_eq!((flight.lost(), found.timeout), (vec![0, 1], 0));
    // The fourth left later than what arrived: nothing is known of it.
    assert_eq!(flight.tp.lost_out, 2);
    flight.end();
}

#[test]
fn what_left_together_goes_by_its_order() {
    let mut flight = Flight::new();
    (0..5).for_each(|_| flight.send(us(1000)));
    assert_eq!(flight.tp.tsorted_sent_queue.len(), 1, "one entry");
    flight.sack(2, us(1000 + RTT), 0);
    assert_eq!(flight.lost(), [0, 1]);
    flight.end();
}

#[test]
fn a_lost_copy_is_found_and_the_first_ones_entry_says_nothing_of_it() {
    let mut flight = Flight::new();
    (0..3).for_each(|n| flight.send(us(n)));
    flight.sack(2, us(RTT + 2), 0);
    assert_eq!(flight.lost(), [0, 1]);
    flight.again(0, us(RTT + 10));
    // Sent after it, and it arrives.
    flight.send(us(RTT + 20));
    flight.sack(3, us(2 * RTT + 20), 0);
    let copy = cb(&flight.tp.rtx_queue[0]).sacked;
    assert!(copy.contains(Sacked::LOST) && !copy.contains(Sacked::RETRANS), "lost anew: {copy:?}");
    assert_eq!(flight.tp.retrans_out, 0);
    flight.end();
}

#[test]
fn an_answer_sooner_than_any_round_trip_is_to_the_first_one() {
    let mut flight = Flight::new();
    (0..2).for_each(|n| flight.send(us(n)));
    flight.again(0, us(1000));
    flight.sack(0, us(1000 + RTT / 2), 0);
    assert!(!flight.tp.rack.advanced, "it tells nothing of the copy");
    assert_eq!(flight.tp.rack.mstamp, Ktime::ZERO);
    flight.end();
}

/// Each segment is settled once; one whose report is the news costs a look more.
#[test]
fn a_flights_losses_are_found_in_one_passage() {
    const ALL: u64 = 2000;
    let rising: Vec<u64> = (1..ALL).collect();
    let falling: Vec<u64> = (1..ALL).rev().collect();
    let every_second: Vec<u64> = (1..ALL).step_by(2).chain((2..ALL).step_by(2)).collect();
    // As if drawn by lot: 1,231 has no factor in common with 1,999.
    let mixed: Vec<u64> = (1..ALL).map(|n| n * 1231 % (ALL - 1) + 1).collect();
    for order in [rising, falling, every_second, mixed] {
        let mut flight = Flight::new();
        (0..ALL).for_each(|n| flight.send(us(n * 10)));
        let mut looked = 0;
        for (turn, n) in order.iter().enumerate() {
            let now = us(ALL * 10 + RTT + turn as u64);
            looked += u64::from(flight.sack(*n as usize, now, 0).looked);
        }
        assert!(looked <= 3 * ALL, "{looked} looks");
        assert_eq!(flight.lost(), [0]);
        flight.end();
    }
}

#[test]
fn entries_of_what_nobody_waits_for_are_forgotten() {
    let mut flight = Flight::new();
    flight.send(us(1));
    for n in 0..10_000 {
        flight.again(0, us(2 + n));
        assert!(flight.tp.tsorted_sent_queue.len() < 200);
    }
    flight.end();
}

#[test]
fn without_sack_nothing_is_kept() {
    let mut flight = Flight::new();
    flight.tp.rx_opt.sack_ok = false;
    (0..100).for_each(|n| flight.send(us(n)));
    assert!(flight.tp.tsorted_sent_queue.is_empty());
    flight.end();
}
