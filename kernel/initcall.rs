//! The order of boot.
//!
//! linux: include/linux/init.h, init/main.c. The levels run one after the other; within a level,
//! in the order of this file. What comes in from outside the stack (drivers) is a module and runs
//! last, as a task that may sleep.

use crate::kernel::context::TaskCx;
use crate::kernel::machine::Machine;
use uapi::errno::Errno;

/// Boot code that runs before the machine is shared.
pub type Initcall = fn(&mut Machine);

/// A driver's start: registers with the machine.
///
/// # Errors
/// An errno fails the boot.
pub type ModuleInit = Box<dyn FnOnce(&mut TaskCx) -> Result<(), Errno> + Send>;

/// `early_initcall`: before anything of the network.
pub const EARLY: &[Initcall] = &[crate::kernel::softirq::spawn_ksoftirqd];

/// `subsys_initcall`.
pub const SUBSYS: &[Initcall] = &[crate::net::core::dev::net_dev_init];

/// `fs_initcall`.
pub const FS: &[Initcall] =
    &[crate::net::ipv4::af_inet::inet_init, crate::net::ipv4::tcp_cong::tcp_cong_init];
