//! What a driver tells and sets beside its traffic.
//!
//! linux: net/core/ethtool.c, include/linux/ethtool.h. Context: task.

use crate::kernel::context::TaskCx;
use uapi::errno::Errno;

/// Who the driver is.
///
/// linux: include/uapi/linux/ethtool.h:ethtool_drvinfo
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DrvInfo {
    /// The driver's name.
    pub driver: String,
    /// Its version.
    pub version: String,
    /// Where the device sits (a PCI address).
    pub bus_info: String,
    /// The firmware's version.
    pub fw_version: String,
}

/// Ring sizes in descriptors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingParam {
    /// The most a receive ring can have, and what it has.
    pub rx: (u32, u32),
    /// The most a transmit ring can have, and what it has.
    pub tx: (u32, u32),
}

/// Queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Channels {
    /// The most pairs of queues, and what there are.
    pub combined: (u32, u32),
}

/// Interrupt coalescing, in microseconds between interrupts; 0: none, 1: adaptive, 3: adaptive
/// and conservative, as igb reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coalesce {
    /// Of receive interrupts.
    pub rx_usecs: u32,
    /// Of transmit interrupts.
    pub tx_usecs: u32,
}

/// The link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkSettings {
    /// Megabits a second; `None` without a link.
    pub speed: Option<u32>,
    /// Both ways at once.
    pub full_duplex: bool,
    /// The partners agreed on it.
    pub autoneg: bool,
}

/// The ethtool side of a driver. What it does not have answers EOPNOTSUPP, as in Linux.
///
/// linux: include/linux/ethtool.h:ethtool_ops
pub trait EthtoolOps: Send + Sync {
    /// Who the driver is.
    fn get_drvinfo(&self) -> DrvInfo;

    /// The link's settings.
    fn get_link_settings(&self) -> LinkSettings;

    /// Ring sizes.
    fn get_ringparam(&self) -> Result<RingParam, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Changes ring sizes; a device that is up is taken down and up.
    fn set_ringparam(&self, _cx: &mut TaskCx, _ring: RingParam) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Queues.
    fn get_channels(&self) -> Result<Channels, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Interrupt coalescing.
    fn get_coalesce(&self) -> Result<Coalesce, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Changes interrupt coalescing.
    fn set_coalesce(&self, _cx: &mut TaskCx, _coalesce: Coalesce) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// The driver's own statistics, by the names it gives them.
    fn get_ethtool_stats(&self) -> Vec<(String, u64)> {
        Vec::new()
    }
}
