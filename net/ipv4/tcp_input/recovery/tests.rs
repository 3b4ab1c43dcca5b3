//! The search for losses: what it marks, and how many segments it looks at.

use super::super::sack::{SackState, tcp_sacktag_one};
use super::*;
use crate::net::core::skbuff::{Cb, Depot, SkbPool};
use crate::net::ipv4::tcp::{SeqNr, TcpSkbCb};
use crate::net::ipv4::tcp_cong::TcpReno;
use std::sync::Arc;

const MSS: u32 = 1000;

/// What is out: one segment a packet.
struct Flight {
    tp: TcpSock,
    /// Segments that the searches looked at.
    steps: u32,
    /// What a search from the front, each time, would have marked.
    lost: Vec<bool>,
}

impl Flight {
    fn new(segments: u32) -> Self {
        let mut pool = SkbPool::new(Arc::new(Depot::new(64 << 20)));
        let mut tp = TcpSock::new(Box::new(TcpReno), 3);
        tp.rx_opt.sack_ok = true;
        // The numbers go round in the middle of it.
        tp.snd_una = SeqNr(0_u32.wrapping_sub(segments / 2 * MSS));
        for n in 0..segments {
            let mut skb = pool.alloc_handle().expect("memory");
            let seq = tp.snd_una + n * MSS;
            skb.cb = Cb::Tcp(TcpSkbCb { seq, end_seq: seq + MSS, ..TcpSkbCb::default() });
            skb.data_len = MSS;
            skb.gso.segs = 1;
            tp.rtx_queue.push_back(skb);
        }
        tp.snd_nxt = tp.snd_una + segments * MSS;
        tp.packets_out = segments;
        Self { tp, steps: 0, lost: vec![false; segments as usize] }
    }

    fn sacked(&self, at: usize) -> bool {
        cb(&self.tp.rtx_queue[at]).sacked.contains(Sacked::ACKED)
    }

    /// An acknowledgement reports a segment.
    fn sack(&mut self, at: usize) {
        tcp_sacktag_one(&mut self.tp, at, &mut SackState::default(), false);
        self.lost[at] = false;
        self.steps += tcp_update_scoreboard(&mut self.tp, true);
        self.mark_from_the_front();
        let lost: Vec<bool> =
            self.tp.rtx_queue.iter().map(|skb| cb(skb).sacked.contains(Sacked::LOST)).collect();
        assert_eq!(lost, self.lost, "after the one at {at}");
        assert_eq!(self.tp.lost_out as usize, lost.iter().filter(|lost| **lost).count());
    }

    fn mark_from_the_front(&mut self) {
        let Some(packets) = self.tp.sacked_out.checked_sub(self.tp.reordering) else {
            if !self.sacked(0) {
                self.lost[0] = true;
            }
            return;
        };
        let mut count = 0;
        for at in 0..self.lost.len() {
            count += u32::from(self.sacked(at));
            if count > packets {
                break;
            }
            self.lost[at] |= !self.sacked(at);
        }
    }

    fn end(mut self) {
        for skb in self.tp.rtx_queue.drain(..) {
            skb.forget_at_exit();
        }
    }
}

/// Each order of reports costs a step a segment and one a report; from the front each time it would be two
/// millions.
#[test]
fn a_flights_losses_are_found_in_one_passage() {
    const ALL: u32 = 2000;
    let rising: Vec<u32> = (1..ALL).collect();
    let falling: Vec<u32> = (1..ALL).rev().collect();
    let every_second: Vec<u32> = (1..ALL).step_by(2).chain((2..ALL).step_by(2)).collect();
    // As if drawn by lot: 1,231 has no factor in common with 1,999.
    let mixed: Vec<u32> = (1..ALL).map(|n| n * 1231 % (ALL - 1) + 1).collect();
    for order in [rising, falling, every_second, mixed] {
        let mut flight = Flight::new(ALL);
        for at in &order {
            flight.sack(*at as usize);
        }
        assert!(flight.steps <= 2 * ALL, "{} steps", flight.steps);
        assert_eq!(flight.tp.lost_out, 1);
        flight.end();
    }
}

/// More reordering than was thought, and what is marked already stays so.
#[test]
fn more_reordering_takes_no_mark_back() {
    let mut flight = Flight::new(20);
    [4, 5, 6, 7].into_iter().for_each(|at| flight.sack(at));
    assert_eq!(flight.tp.lost_out, 4);
    flight.tp.reordering = 6;
    [9, 10, 12, 14, 15, 16, 19].into_iter().for_each(|at| flight.sack(at));
    // Six segments arrived behind the ninth and the twelfth.
    assert_eq!(flight.tp.lost_out, 5);
    flight.end();
}
