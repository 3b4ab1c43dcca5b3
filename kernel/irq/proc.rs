//! What `/proc/interrupts` shows.
//!
//! linux: kernel/irq/proc.c. Contexts: task. Only looks: counts are read while they go on.

use crate::kernel::machine::Machine;
use std::fmt::Write;

/// The text of `/proc/interrupts`: a column for each CPU, a line for each requested interrupt, with
/// chip, hardware number and name as Linux has them. Lines without a number (`NMI`, `LOC`) there are
/// none: a virtual CPU has no such interrupts.
///
/// linux: kernel/irq/proc.c:show_interrupts
pub fn show_interrupts(m: &Machine) -> String {
    let mut text = " ".repeat(11);
    for cpu in m.cpu_ids() {
        let _ = write!(text, "CPU{:<8}", cpu.0);
    }
    text.push('\n');
    for desc in m.tables().irqs.iter().flatten() {
        let _ = write!(text, "{:3}: ", desc.irq.0);
        for count in desc.counts() {
            let _ = write!(text, "{count:10} ");
        }
        let _ = writeln!(text, " {:>7} {:3}-{:<8}  {}", "netkeel", desc.irq.0, "edge", desc.name);
    }
    text
}
