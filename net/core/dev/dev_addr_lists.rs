//! The addresses of groups that a device's filters let through. Context: task, under `class::Rtnl`.
//!
//! linux: net/core/dev_addr_lists.c, include/linux/netdevice.h (`netdev_hw_addr_list`). Key type: [`McAddrs`]. Locks:
//! `class::AddrList`, for one look or change; the driver is called without it. Invariant: an address is listed as long
//! as somebody who added it has not deleted it, and the driver is told when the list changes.

use super::device::NetDevice;
use crate::kernel::context::TaskCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use uapi::if_ether::ETH_ALEN;

/// A device's group addresses, each with how many want it.
#[derive(Default)]
pub struct McAddrs(SpinLock<BTreeMap<[u8; ETH_ALEN], u32>, class::AddrList>);

impl fmt::Debug for McAddrs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "McAddrs({})", self.0.lock().len())
    }
}

impl McAddrs {
    /// The addresses, in order.
    ///
    /// linux: include/linux/netdevice.h:netdev_for_each_mc_addr
    pub fn all(&self) -> Vec<[u8; ETH_ALEN]> {
        self.0.lock().keys().copied().collect()
    }

    /// True if the list has changed.
    fn add(&self, addr: [u8; ETH_ALEN]) -> bool {
        let mut list = self.0.lock();
        let users = list.entry(addr).or_default();
        *users += 1;
        *users == 1
    }

    /// The same.
    fn del(&self, addr: [u8; ETH_ALEN]) -> bool {
        let mut list = self.0.lock();
        let Some(users) = list.get_mut(&addr) else { return false };
        *users -= 1;
        let gone = *users == 0;
        if gone {
            list.remove(&addr);
        }
        gone
    }
}

/// Somebody wants frames to a group.
///
/// linux: net/core/dev_addr_lists.c:dev_mc_add
pub fn dev_mc_add(cx: &mut TaskCx, dev: &Arc<NetDevice>, addr: [u8; ETH_ALEN]) {
    if dev.mc.add(addr) {
        __dev_set_rx_mode(cx, dev);
    }
}

/// Wants them no more.
///
/// linux: net/core/dev_addr_lists.c:dev_mc_del
pub fn dev_mc_del(cx: &mut TaskCx, dev: &Arc<NetDevice>, addr: [u8; ETH_ALEN]) {
    if dev.mc.del(addr) {
        __dev_set_rx_mode(cx, dev);
    }
}

/// The driver of a device that is up programs its filters.
///
/// linux: net/core/dev.c:__dev_set_rx_mode
fn __dev_set_rx_mode(cx: &mut TaskCx, dev: &Arc<NetDevice>) {
    if dev.up() {
        dev.ops.ndo_set_rx_mode(cx, dev);
    }
}

#[cfg(test)]
mod tests {
    use super::McAddrs;

    #[test]
    fn an_address_is_listed_until_the_last_who_added_it_deletes_it() {
        let (list, addr) = (McAddrs::default(), [1, 0, 0x5e, 1, 2, 3]);
        assert!(!list.del(addr), "not there");
        assert!(list.add(addr), "new");
        assert!(!list.add(addr), "there");
        assert_eq!(list.all(), [addr]);
        assert!(!list.del(addr), "one still wants it");
        assert!(list.del(addr));
        assert!(list.all().is_empty());
    }
}
