//! The link addresses that a device receives at besides its own.
//!
//! linux: net/core/dev_addr_lists.c. Key type: [`DevAddrLists`]. Contexts: task, under `class::Rtnl`. Lock:
//! `class::AddrList`. Invariant: an address is in its list while somebody wants it.

use crate::kernel::context::TaskCx;
use crate::net::core::dev::NetDevice;
use crate::net::core::dev::device::__dev_set_rx_mode;
use std::sync::Arc;
use uapi::errno::Errno;

/// Addresses with the number of those who want them, in the order in which they came.
///
/// linux: include/linux/netdevice.h:netdev_hw_addr_list
#[derive(Debug, Default)]
struct AddrList(Vec<([u8; 6], u32)>);

/// The lists of a device.
#[derive(Debug, Default)]
pub struct DevAddrLists {
    /// Of its own.
    uc: AddrList,
    /// Of groups.
    mc: AddrList,
}

impl AddrList {
    /// linux: net/core/dev_addr_lists.c:__hw_addr_add
    fn add(&mut self, addr: [u8; 6]) {
        match self.0.iter_mut().find(|(there, _)| *there == addr) {
            Some((_, wanted)) => *wanted += 1,
            None => self.0.push((addr, 1)),
        }
    }

    /// linux: net/core/dev_addr_lists.c:__hw_addr_del
    fn del(&mut self, addr: [u8; 6]) -> Result<(), Errno> {
        let at = self.0.iter().position(|(there, _)| *there == addr).ok_or(Errno::ENOENT)?;
        self.0[at].1 -= 1;
        if self.0[at].1 == 0 {
            self.0.remove(at);
        }
        Ok(())
    }

    fn addrs(&self) -> Vec<[u8; 6]> {
        self.0.iter().map(|(addr, _)| *addr).collect()
    }
}

impl NetDevice {
    /// Further addresses of its own, for `ndo_set_rx_mode`.
    pub fn uc_list(&self) -> Vec<[u8; 6]> {
        self.addrs.lock().uc.addrs()
    }

    /// The groups it receives, for `ndo_set_rx_mode`.
    pub fn mc_list(&self) -> Vec<[u8; 6]> {
        self.addrs.lock().mc.addrs()
    }
}

/// Receives at one more address.
///
/// linux: net/core/dev_addr_lists.c:dev_uc_add
pub fn dev_uc_add(cx: &mut TaskCx, dev: &Arc<NetDevice>, addr: [u8; 6]) {
    dev.addrs.lock().uc.add(addr);
    __dev_set_rx_mode(cx, dev);
}

/// One who wanted that no longer does.
///
/// # Errors
/// ENOENT: nobody did.
///
/// linux: net/core/dev_addr_lists.c:dev_uc_del
pub fn dev_uc_del(cx: &mut TaskCx, dev: &Arc<NetDevice>, addr: [u8; 6]) -> Result<(), Errno> {
    dev.addrs.lock().uc.del(addr)?;
    __dev_set_rx_mode(cx, dev);
    Ok(())
}

/// Receives one more group.
///
/// linux: net/core/dev_addr_lists.c:dev_mc_add
pub fn dev_mc_add(cx: &mut TaskCx, dev: &Arc<NetDevice>, addr: [u8; 6]) {
    dev.addrs.lock().mc.add(addr);
    __dev_set_rx_mode(cx, dev);
}

/// One who wanted that no longer does.
///
/// # Errors
/// ENOENT: nobody did.
///
/// linux: net/core/dev_addr_lists.c:dev_mc_del
pub fn dev_mc_del(cx: &mut TaskCx, dev: &Arc<NetDevice>, addr: [u8; 6]) -> Result<(), Errno> {
    dev.addrs.lock().mc.del(addr)?;
    __dev_set_rx_mode(cx, dev);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stays_while_somebody_wants_it() {
        let (mut list, one, other) = (AddrList::default(), [1; 6], [2; 6]);
        list.add(one);
        list.add(other);
        list.add(one);
        assert_eq!(list.del(one), Ok(()));
        assert_eq!(list.addrs(), [one, other], "one is still wanted");
        assert_eq!(list.del(one), Ok(()));
        assert_eq!(list.addrs(), [other]);
        assert_eq!(list.del(one), Err(Errno::ENOENT));
    }
}
