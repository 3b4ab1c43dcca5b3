//! The root of a device with several queues: one discipline for each.
//!
//! linux: net/sched/sch_mq.c. A device's [`tx_queues`](crate::net::core::dev::NetDevice::tx_queues)
//! are its classes; choosing one is `netdev_pick_tx`'s.

use super::{Qdisc, pfifo_fast::PfifoFast};
use crate::net::core::dev::device::DeviceSpec;
use std::sync::Arc;

/// The disciplines a new device gets: none without queue length, else `pfifo_fast` on each queue.
///
/// linux: net/sched/sch_generic.c:attach_default_qdiscs
pub fn default_qdiscs(spec: &DeviceSpec) -> Vec<Arc<Qdisc>> {
    (0..spec.tx_queues.max(1))
        .map(|_| match spec.tx_queue_len {
            0 => Qdisc::noqueue(),
            limit => Qdisc::new(Box::new(PfifoFast::new(limit))),
        })
        .collect()
}
