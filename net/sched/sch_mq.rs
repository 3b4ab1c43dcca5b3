//! The root of a device with several queues: one discipline for each.
//!
//! linux: net/sched/sch_mq.c. Key type: [`Mq`]. Context: any; reading only.
//! Invariant: it holds no packet itself: `netdev_pick_tx` chooses the queue, whose own discipline
//! takes the packet.

use super::Qdisc;
use std::sync::Arc;

/// The root: its classes are the device's queues.
///
/// linux: net/sched/sch_mq.c:mq_sched
#[derive(Debug)]
pub struct Mq {
    classes: Vec<Arc<Qdisc>>,
}

impl Mq {
    /// Over one discipline a queue, in the queues' order.
    ///
    /// linux: net/sched/sch_mq.c:mq_init
    pub fn new(classes: Vec<Arc<Qdisc>>) -> Self {
        Self { classes }
    }

    /// The queues' disciplines.
    ///
    /// linux: net/sched/sch_mq.c:mq_leaf
    pub fn classes(&self) -> &[Arc<Qdisc>] {
        &self.classes
    }

    /// What `of` says of each class, together.
    ///
    /// linux: net/sched/sch_mq.c:mq_dump
    pub fn sum(&self, of: impl Fn(&Qdisc) -> u64) -> u64 {
        self.classes.iter().map(|class| of(class)).sum()
    }
}
