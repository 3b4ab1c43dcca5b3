//! Files of `/proc` that belong to no other part.
//!
//! linux: fs/proc/softirqs.c. Contexts: task, on no CPU: each is entered in turn.

use crate::kernel::machine::Machine;
use std::fmt::Write;

/// The softirqs' names, in the order of their numbers.
///
/// linux: kernel/softirq.c:softirq_to_name
const SOFTIRQ_TO_NAME: [&str; crate::kernel::softirq::NR_SOFTIRQS] =
    ["HI", "TIMER", "NET_TX", "NET_RX", "BLOCK", "IRQ_POLL", "TASKLET", "SCHED", "HRTIMER", "RCU"];

/// The text of `/proc/softirqs`: runs of each softirq, by CPU.
///
/// linux: fs/proc/softirqs.c:show_softirqs
pub fn show_softirqs(m: &Machine) -> String {
    let runs = m.softirq_runs();
    let mut text = " ".repeat(20);
    for cpu in m.cpu_ids() {
        let _ = write!(text, "CPU{:<8}", cpu.0);
    }
    text.push('\n');
    for (nr, name) in SOFTIRQ_TO_NAME.iter().enumerate() {
        let _ = write!(text, "{name:>12}:");
        for of_cpu in &runs {
            let _ = write!(text, " {:10}", of_cpu[nr]);
        }
        text.push('\n');
    }
    text
}
