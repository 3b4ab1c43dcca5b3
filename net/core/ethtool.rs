//! What a driver tells and sets beside its traffic.
//!
//! linux: net/core/ethtool.c, include/linux/ethtool.h. Context: task.

use crate::kernel::context::TaskCx;
use crate::net::core::dev::NetDevice;
use std::sync::Arc;
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

/// How received flows are spread over queues.
///
/// linux: include/uapi/linux/ethtool.h:ethtool_rxfh
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rxfh {
    /// The queue of each remainder of the hash.
    pub indir: Vec<u32>,
    /// The hash's key.
    pub key: Vec<u8>,
}

/// What of a flow is hashed, beside addresses, and TCP's ports.
///
/// linux: include/linux/ethtool.h:ethtool_rxfh_fields
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RxfhFields {
    /// The ports of UDP over IPv4. The fragments of a datagram have none: they may overtake it.
    pub udp4_ports: bool,
}

/// How an indirection table is asked for, as by `ethtool -X`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RxfhIndir {
    /// As it is.
    Keep,
    /// Over all queues in turn (`default`).
    Default,
    /// Over the first so many queues in turn (`equal N`).
    Equal(u32),
    /// Over the first queues, by their shares (`weight W0 W1 …`).
    Weights(Vec<u32>),
    /// Entry by entry.
    Table(Vec<u32>),
}

impl RxfhIndir {
    /// The table's entries; `now` are those that there are.
    fn table(self, now: Vec<u32>, queues: u32) -> Result<Vec<u32>, Errno> {
        let size = now.len();
        let in_turn = |of: u32| (0..size as u32).map(|n| n % of).collect();
        match self {
            Self::Keep => Ok(now),
            Self::Default => Ok(in_turn(queues.max(1))),
            Self::Equal(of) if of != 0 => Ok(in_turn(of)),
            Self::Weights(weights) => by_weight(&weights, size),
            Self::Table(table) if table.len() == size => Ok(table),
            Self::Equal(_) | Self::Table(_) => Err(Errno::EINVAL),
        }
    }
}

fn by_weight(weights: &[u32], size: usize) -> Result<Vec<u32>, Errno> {
    let sum: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    if sum == 0 || sum > size as u64 {
        return Err(Errno::EINVAL);
    }
    let mut table = Vec::with_capacity(size);
    let mut share = 0;
    for (queue, weight) in weights.iter().enumerate() {
        share += u64::from(*weight);
        // As many entries as lie below this queue's part of the sum.
        table.resize((size as u64 * share).div_ceil(sum) as usize, queue as u32);
    }
    table.truncate(size);
    Ok(table)
}

/// How a device spreads received flows.
///
/// # Errors
/// EOPNOTSUPP for a device that does not.
///
/// linux: net/ethtool/ioctl.c:ethtool_get_rxfh
pub fn ethtool_get_rxfh(dev: &NetDevice) -> Result<Rxfh, Errno> {
    dev.ethtool.as_ref().ok_or(Errno::EOPNOTSUPP)?.get_rxfh()
}

/// Changes how a device spreads received flows, under traffic; `None` keeps the key. Context: task, on
/// no CPU.
///
/// # Errors
/// EOPNOTSUPP for a device that does not; EINVAL for a queue that there is not, no share at all or more
/// of them than entries, and a table or key of another length than the device's.
///
/// linux: net/ethtool/ioctl.c:ethtool_set_rxfh
pub fn ethtool_set_rxfh(
    cx: &mut TaskCx,
    dev: &NetDevice,
    indir: RxfhIndir,
    key: Option<Vec<u8>>,
) -> Result<(), Errno> {
    let m = Arc::clone(cx.machine());
    let _rtnl = m.rtnl.lock();
    let ops = dev.ethtool.as_ref().ok_or(Errno::EOPNOTSUPP)?;
    let (now, (_, queues)) = (ops.get_rxfh()?, ops.get_channels()?.combined);
    let key = key.unwrap_or_else(|| now.key.clone());
    let indir = indir.table(now.indir, queues)?;
    if key.len() != now.key.len() || indir.iter().any(|queue| *queue >= queues) {
        return Err(Errno::EINVAL);
    }
    ops.set_rxfh(cx, Rxfh { indir, key })
}

/// Changes what of a flow a device hashes, under traffic. Context: task, on no CPU.
///
/// # Errors
/// EOPNOTSUPP for a device that can't.
///
/// linux: net/ethtool/ioctl.c:ethtool_set_rxfh_fields
pub fn ethtool_set_rxfh_fields(
    cx: &mut TaskCx,
    dev: &NetDevice,
    fields: RxfhFields,
) -> Result<(), Errno> {
    let m = Arc::clone(cx.machine());
    let _rtnl = m.rtnl.lock();
    dev.ethtool.as_ref().ok_or(Errno::EOPNOTSUPP)?.set_rxfh_fields(cx, fields)
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

    /// How received flows are spread over queues.
    fn get_rxfh(&self) -> Result<Rxfh, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Changes that, as a whole; checked against [`get_rxfh`](Self::get_rxfh). Flows that move keep
    /// their order. Context: task, on no CPU.
    fn set_rxfh(&self, _cx: &mut TaskCx, _rxfh: Rxfh) -> Result<(), Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// What of a flow is hashed.
    fn get_rxfh_fields(&self) -> Result<RxfhFields, Errno> {
        Err(Errno::EOPNOTSUPP)
    }

    /// Changes that.
    fn set_rxfh_fields(&self, _cx: &mut TaskCx, _fields: RxfhFields) -> Result<(), Errno> {
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

#[cfg(test)]
mod tests {
    use super::RxfhIndir;
    use uapi::errno::Errno;

    fn table(of: RxfhIndir) -> Result<Vec<u32>, Errno> {
        of.table(vec![3; 8], 4)
    }

    #[test]
    fn tables_are_filled_as_ethtool_fills_them() {
        assert_eq!(table(RxfhIndir::Keep), Ok(vec![3; 8]));
        assert_eq!(table(RxfhIndir::Default), Ok(vec![0, 1, 2, 3, 0, 1, 2, 3]));
        assert_eq!(table(RxfhIndir::Equal(3)), Ok(vec![0, 1, 2, 0, 1, 2, 0, 1]));
        assert_eq!(table(RxfhIndir::Weights(vec![1, 3])), Ok(vec![0, 0, 1, 1, 1, 1, 1, 1]));
        assert_eq!(table(RxfhIndir::Weights(vec![0, 1, 0, 2])), Ok(vec![1, 1, 1, 3, 3, 3, 3, 3]));
        assert_eq!(table(RxfhIndir::Table(vec![2; 8])), Ok(vec![2; 8]));
    }

    #[test]
    fn what_fills_no_table_is_refused() {
        for bad in [
            RxfhIndir::Equal(0),
            RxfhIndir::Weights(vec![]),
            RxfhIndir::Weights(vec![0, 0]),
            RxfhIndir::Weights(vec![u32::MAX, 1]),
            RxfhIndir::Table(vec![0; 7]),
        ] {
            assert_eq!(table(bad.clone()), Err(Errno::EINVAL), "{bad:?}");
        }
    }
}
