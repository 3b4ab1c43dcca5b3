//! Three first-in-first-out bands by priority: the default discipline.
//!
//! linux: net/sched/sch_generic.c (`pfifo_fast_ops`).

use super::{QdiscOps, Refused};
use crate::kernel::time::Ktime;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::Skb;
use std::collections::VecDeque;

const BANDS: usize = 3;
/// Band of each `TC_PRIO_*`.
///
/// linux: net/sched/sch_generic.c:prio2band
const PRIO2BAND: [u8; 16] = [1, 2, 2, 2, 1, 2, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1];

/// The discipline's queues.
#[derive(Debug)]
pub struct PfifoFast {
    bands: [VecDeque<Skb>; BANDS],
    len: usize,
    limit: usize,
}

impl PfifoFast {
    /// Empty bands that hold `limit` packets together.
    pub fn new(limit: u32) -> Self {
        Self { bands: Default::default(), len: 0, limit: limit as usize }
    }
}

impl QdiscOps for PfifoFast {
    fn id(&self) -> &'static str {
        "pfifo_fast"
    }

    fn enqueue(&mut self, skb: Skb, _now: Ktime) -> Result<(), Refused> {
        if self.len >= self.limit {
            return Err(Refused { skb, reason: DropReason::QdiscDrop });
        }
        let band = PRIO2BAND[(skb.priority & 15) as usize];
        self.bands[usize::from(band)].push_back(skb);
        self.len += 1;
        Ok(())
    }

    fn dequeue(&mut self, _now: Ktime) -> Option<Skb> {
        let skb = self.bands.iter_mut().find_map(VecDeque::pop_front)?;
        self.len -= 1;
        Some(skb)
    }

    fn len(&self) -> usize {
        self.len
    }

    fn reset(&mut self) -> Vec<Skb> {
        self.len = 0;
        self.bands.iter_mut().flat_map(|band| band.drain(..)).collect()
    }
}
