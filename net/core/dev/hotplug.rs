//! What the network has on a CPU that goes down.
//!
//! linux: net/core/dev.c. Context: task, on no CPU.
//! DIVERGES: what is queued there is worked off there, so that no flow overtakes itself; Linux queues it
//! anew on another CPU.

use super::rps::flush_all_backlogs;
use crate::kernel::context::TaskCx;
use crate::kernel::cpu::CpuId;
use crate::kernel::cpu::Section;
use crate::kernel::softirq::{__raise_softirq_irqoff, Softirq};
use crate::kernel::trace::Context;
use crate::net::net_namespace::NetId;
use std::sync::Arc;

/// Has what was steered to the CPU received there, and hands devices that are to be polled there to one
/// that is up.
///
/// linux: net/core/dev.c:dev_cpu_callback
pub(super) fn dev_cpu_callback(cx: &mut TaskCx, from: CpuId) {
    flush_all_backlogs(cx);
    let m = Arc::clone(cx.machine());
    let mut stay = m.enter(from);
    let polls = stay.local(|local| local.softnet.take_device_polls());
    stay.leave();
    if polls.is_empty() {
        return;
    }
    let mut stay = m.enter(m.cpu_beside(from));
    let span = m.tracer.span();
    let section = Section { context: Context::Bh, span, net: NetId::INIT };
    stay.with_bh_span(section, |cx| {
        cx.cpu.softnet.append_polls(polls);
        __raise_softirq_irqoff(cx, Softirq::NetRx);
    });
    stay.softirqs(span).leave();
}
