//! Which transmit queues a CPU's packets leave by (XPS).
//!
//! linux: net/core/dev.c (`netif_set_xps_queue`, `get_xps_queue`), net/core/net-sysfs.c (`xps_cpus`). Key
//! type: [`XpsTables`]. Contexts: choice in BH, settings by tasks.

use super::device::{DevId, NetDevice};
use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::rcupdate::update_tables;
use crate::net::core::skbuff::Skb;
use klib::bitmap::CpuMask;
use std::sync::Arc;
use uapi::errno::Errno;

/// The CPUs of each transmit queue, by device.
#[derive(Clone, Debug, Default)]
pub struct XpsTables(Vec<Option<Arc<Vec<CpuMask>>>>);

impl XpsTables {
    fn of(&self, dev: DevId) -> Option<&Arc<Vec<CpuMask>>> {
        self.0.get(usize::from(dev.0))?.as_ref()
    }

    pub(super) fn forget(&mut self, dev: DevId) {
        if let Some(of) = self.0.get_mut(usize::from(dev.0)) {
            *of = None;
        }
    }
}

/// The CPUs whose packets leave by a queue.
///
/// # Errors
/// ENOENT without such a queue.
///
/// linux: /sys/class/net/DEV/queues/tx-N/xps_cpus:xps_cpus
pub fn xps_cpus_show(cx: &TaskCx, dev: &NetDevice, queue: u16) -> Result<CpuMask, Errno> {
    if usize::from(queue) >= dev.tx_queues.len() {
        return Err(Errno::ENOENT);
    }
    let t = cx.tables();
    let of = t.net.xps.of(dev.ifindex).and_then(|queues| queues.get(usize::from(queue)));
    Ok(of.copied().unwrap_or_default())
}

/// Names the CPUs whose packets leave by a queue; those that the machine does not have are left out. A
/// CPU that no queue names, and one of a device of which nothing was said, has its queue as before.
///
/// # Errors
/// ENOENT without such a queue.
///
/// linux: net/core/dev.c:netif_set_xps_queue
pub fn netif_set_xps_queue(
    cx: &mut TaskCx,
    dev: &NetDevice,
    cpus: CpuMask,
    queue: u16,
) -> Result<(), Errno> {
    let queues = dev.tx_queues.len();
    if usize::from(queue) >= queues {
        return Err(Errno::ENOENT);
    }
    let many = cx.machine().cpu_ids().count();
    let bits = cpus.iter().filter(|cpu| *cpu < many).fold(0, |bits, cpu| bits | 1 << cpu);
    let dev = usize::from(dev.ifindex.0);
    update_tables(cx, |t| {
        let devs = &mut t.net.xps.0;
        if devs.len() <= dev {
            devs.resize(dev + 1, None);
        }
        let of = Arc::make_mut(devs[dev].get_or_insert_default());
        of.resize(queues, CpuMask::default());
        of[usize::from(queue)] = CpuMask::from_bits(bits);
        Ok(())
    })
}

/// The queue of this CPU's packets: the one that names it, or among several the flow's.
///
/// linux: net/core/dev.c:get_xps_queue
pub(super) fn get_xps_queue(cx: &BhCx<'_>, dev: &NetDevice, skb: &mut Skb) -> Option<u16> {
    let queues = cx.t.net.xps.of(dev.ifindex)?;
    let mine = || {
        let names = |(_, cpus): &(usize, &CpuMask)| cpus.contains(usize::from(cx.cpu.id.0));
        queues.iter().enumerate().filter(names).map(|(queue, _)| queue as u16)
    };
    match mine().count() as u64 {
        0 => None,
        1 => mine().next(),
        many => mine().nth(((u64::from(skb.skb_get_hash(cx)) * many) >> 32) as usize),
    }
}
