//! What `/proc/interrupts` shows, and which CPUs may take an interrupt, as files show and set it.
//!
//! linux: kernel/irq/proc.c. Contexts: task. Errors are those that writing the file has; counts are read
//! while they go on.

use super::{IrqDesc, NoSuchCpu};
use crate::kernel::machine::Machine;
use klib::bitmap::{CpuMask, CpuMaskError};
use std::fmt::Write;
use uapi::errno::Errno;

impl IrqDesc {
    /// Sets the affinity by a mask: groups of up to eight hexadecimal digits, the highest first
    /// (`f`, `ff,ffffffff`).
    ///
    /// # Errors
    /// EINVAL for a text that is none, and when no CPU of the machine is named; EOVERFLOW for a CPU
    /// above 63 or a group of more than eight digits.
    ///
    /// linux: kernel/irq/proc.c:irq_affinity_proc_write
    pub fn irq_affinity_proc_write(&self, text: &str) -> Result<(), Errno> {
        self.write_affinity(text.parse().map_err(|error| match error {
            CpuMaskError::TooBig(_) => Errno::EOVERFLOW,
            _ => Errno::EINVAL,
        })?)
    }

    /// Sets the affinity by a list of CPUs and ranges (`0-1,3`).
    ///
    /// # Errors
    /// EINVAL as for a mask; ERANGE for a CPU above 63, EOVERFLOW for a number that is none to count
    /// with.
    ///
    /// linux: kernel/irq/proc.c:irq_affinity_list_proc_write
    pub fn irq_affinity_list_proc_write(&self, text: &str) -> Result<(), Errno> {
        let mask = CpuMask::parse_list(text).map_err(|error| match error {
            CpuMaskError::TooBig(part) if part.len() > 18 => Errno::EOVERFLOW,
            CpuMaskError::TooBig(_) => Errno::ERANGE,
            _ => Errno::EINVAL,
        })?;
        self.write_affinity(mask)
    }

    fn write_affinity(&self, mask: CpuMask) -> Result<(), Errno> {
        self.set_affinity(mask).map_err(|NoSuchCpu| Errno::EINVAL)
    }

    /// The affinity as a mask, with as many digits as the machine has CPUs for.
    ///
    /// linux: kernel/irq/proc.c:irq_affinity_proc_show
    pub fn irq_affinity_proc_show(&self) -> String {
        self.affinity().to_mask(self.counts.len())
    }

    /// The affinity as a list.
    ///
    /// linux: kernel/irq/proc.c:irq_affinity_list_proc_show
    pub fn irq_affinity_list_proc_show(&self) -> String {
        self.affinity().to_list()
    }

    /// The CPU that takes the next interrupt, as a mask.
    ///
    /// linux: kernel/irq/proc.c:irq_effective_aff_proc_show
    pub fn irq_effective_aff_proc_show(&self) -> String {
        CpuMask::from_bits(1 << self.effective_affinity().0).to_mask(self.counts.len())
    }
}

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

#[cfg(test)]
mod tests {
    use super::super::HardirqCx;
    use super::super::{Irq, IrqDesc, IrqReturn};
    use klib::bitmap::CpuMask;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU8, Ordering};
    use uapi::errno::Errno;

    fn nothing(_: &mut HardirqCx<'_>, _: Irq) -> IrqReturn {
        IrqReturn::None
    }

    fn desc(cpus: usize) -> IrqDesc {
        IrqDesc::new(Irq(1), "test".to_owned(), cpus, Box::new(nothing))
    }

    #[test]
    fn a_mask_is_read_and_shown_as_the_file_has_it() {
        let desc = desc(8);
        assert_eq!(desc.irq_affinity_proc_show(), "ff");
        for (text, mask, list) in [
            ("6", "06", "1-2"),
            ("000000f0\n", "f0", "4-7"),
            ("0,1", "01", "0"),
            ("F00", "01", "0"),
        ] {
            let wrote = desc.irq_affinity_proc_write(text);
            assert_eq!(wrote.is_ok(), text != "F00", "CPUs that there are not: {text}");
            assert_eq!(desc.irq_affinity_proc_show(), mask);
            assert_eq!(desc.irq_affinity_list_proc_show(), list);
        }
        let many = self::desc(40);
        assert_eq!(many.irq_affinity_proc_show(), "ff,ffffffff");
        many.irq_affinity_list_proc_write("3,33-34").expect("there are those");
        assert_eq!(many.irq_affinity_proc_show(), "06,00000008");
        assert_eq!(many.irq_effective_aff_proc_show(), "00,00000008");
    }

    #[test]
    fn what_is_no_mask_is_refused_as_linux_does_and_changes_nothing() {
        let desc = desc(2);
        for (text, errno) in [
            ("", Errno::EINVAL),
            ("x", Errno::EINVAL),
            ("1,,1", Errno::EINVAL),
            ("0", Errno::EINVAL),
            ("4", Errno::EINVAL),
            ("123456789", Errno::EOVERFLOW),
            ("1,0,0", Errno::EOVERFLOW),
        ] {
            assert_eq!(desc.irq_affinity_proc_write(text), Err(errno), "{text:?}");
        }
        for (text, errno) in [
            ("", Errno::EINVAL),
            ("1-0", Errno::EINVAL),
            ("a", Errno::EINVAL),
            ("0,", Errno::EINVAL),
            ("2-3", Errno::EINVAL),
            ("64", Errno::ERANGE),
            ("99999999999999999999", Errno::EOVERFLOW),
        ] {
            assert_eq!(desc.irq_affinity_list_proc_write(text), Err(errno), "{text:?}");
        }
        assert_eq!(desc.irq_affinity_list_proc_show(), "0-1");
    }

    #[test]
    fn who_asked_is_told_where_the_interrupt_goes() {
        let desc = desc(4);
        let told = Arc::new(AtomicU8::new(0xff));
        let to = Arc::clone(&told);
        desc.irq_set_affinity_notifier(Arc::new(move |cpu| to.store(cpu.0, Ordering::SeqCst)));
        desc.set_affinity(CpuMask::from_bits(0b1100)).expect("there are those");
        assert_eq!(told.load(Ordering::SeqCst), 2);
        assert_eq!(desc.effective_affinity().0, 2);
    }
}
