//! A flow: its packets in the order of their times, and where it waits.

use crate::kernel::time::Ktime;
use crate::net::core::skbuff::Skb;
use std::collections::VecDeque;

/// A packet that waits, and for when.
///
/// linux: net/sched/sch_fq.c:fq_skb_cb
#[derive(Debug)]
pub(super) struct Packet {
    pub time_to_send: Ktime,
    pub band: u8,
    pub skb: Skb,
}

impl Packet {
    /// It leaves: its time has no meaning any more.
    pub(super) fn release(mut self) -> Skb {
        self.skb.clear_tstamp();
        self.skb
    }
}

/// Where a flow is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: it has no packet.
    #[default]
    Detached,
    /// Among those that come first.
    New,
    /// Among the others.
    Old,
    /// It waits for its time.
    Throttled,
}

/// Packets of one socket, or of those that belong to nobody some.
///
/// linux: net/sched/sch_fq.c:fq_flow
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// What it is found by.
    pub key: u64,
    /// By time, then as they came.
    pub queue: VecDeque<Packet>,
    /// Octets left of its turn.
    pub credit: i64,
    /// When the next packet may leave; zero: at once.
    pub time_next_packet: Ktime,
    /// When it had a packet last.
    pub age: Ktime,
    pub band: u8,
    pub place: Place,
}

impl Flow {
    /// linux: net/sched/sch_fq.c:flow_queue_add
    pub(super) fn add(&mut self, packet: Packet) {
        let time = packet.time_to_send;
        if self.queue.back().is_none_or(|last| last.time_to_send <= time) {
            return self.queue.push_back(packet);
        }
        let at = self.queue.partition_point(|other| other.time_to_send <= time);
        self.queue.insert(at, packet);
    }
}
