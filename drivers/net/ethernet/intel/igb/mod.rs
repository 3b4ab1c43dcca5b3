//! Intel 82576 gigabit Ethernet.

pub mod e1000_regs;
