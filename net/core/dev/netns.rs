//! Devices and the namespaces they are in.
//!
//! linux: net/core/dev.c. Context: task. Locks: `class::Rtnl`, `class::Tables`.
//! Invariant: a device is in one namespace, or for a moment in none; its index is no other's in the machine.
//!
//! DIVERGES: a device keeps its index when it moves, and no two namespaces have one index; in Linux each counts for
//! itself. A device that is to return to a first namespace where its name is taken goes; Linux gives it another.
//! The settings under `net.core`, and `tcp_mem`, are each namespace's own.

use super::device::{NetDevice, unlist_netdevice};
use crate::kernel::context::TaskCx;
use crate::kernel::rcupdate::{synchronize_net, update_devices};
use crate::net::net_namespace::{NetId, NetRef};
use std::sync::Arc;
use uapi::errno::Errno;

impl NetDevice {
    /// The namespace that it is in.
    ///
    /// linux: include/linux/netdevice.h:dev_net
    pub fn dev_net(&self, cx: &TaskCx) -> NetId {
        cx.machine().tables().net_of(self.ifindex)
    }
}

/// Calls `f` in the namespace of a device, which need not be the task's, and stays where it is meanwhile: with `rtnl`
/// taken.
pub(super) fn rtnl_in_net_of<R>(
    cx: &mut TaskCx,
    dev: &NetDevice,
    f: impl FnOnce(&mut TaskCx) -> R,
) -> R {
    let m = Arc::clone(cx.machine());
    let _rtnl = m.rtnl.lock();
    let net = dev.dev_net(cx);
    cx.in_net(net, f)
}

/// Moves a device to another namespace. It is down there, and has no address; what was known of it where it was is
/// forgotten.
///
/// # Errors
/// EINVAL for a loopback device, which each namespace has for itself; ESRCH when there is no such namespace; EEXIST
/// when that has a device of this name; ENODEV for a device that is in none.
///
/// linux: net/core/dev.c:dev_change_net_namespace
pub fn dev_change_net_namespace(
    cx: &mut TaskCx,
    dev: &Arc<NetDevice>,
    net: NetId,
) -> Result<(), Errno> {
    walk!(cx, dev_change_net_namespace => u64::from(net.0));
    if dev.is_loopback() {
        return Err(Errno::EINVAL);
    }
    rtnl_in_net_of(cx, dev, |cx| {
        let there = cx.machine().tables_of(net).ok_or(Errno::ESRCH)?;
        let _stays = NetRef::maybe_get_net(&there.ns).ok_or(Errno::ESRCH)?;
        if !cx.tables().net.dev(dev.ifindex).is_some_and(|own| Arc::ptr_eq(own, dev)) {
            return Err(Errno::ENODEV);
        }
        if cx.net_id() == net {
            return Ok(());
        }
        if there.net.dev_by_name(&dev.name).is_some() {
            return Err(Errno::EEXIST);
        }
        unlist_netdevice(cx, dev);
        update_devices(cx, |root| {
            root.of_mut(net).ok_or(Errno::ESRCH)?.net.list_netdevice(dev);
            Ok(())
        })
    })
}

/// A namespace ends: devices of software's making go, others return to the first namespace.
///
/// linux: net/core/dev.c:default_device_exit_batch
pub(crate) fn default_device_exit(cx: &mut TaskCx) {
    let t = cx.tables();
    for dev in t.net.devs.iter().flatten() {
        // One that went with another before.
        if cx.tables().net.dev(dev.ifindex).is_none() {
            continue;
        }
        if !dev.ops.dellink(cx, dev) && dev_change_net_namespace(cx, dev, NetId::INIT).is_err() {
            super::unregister_netdevice(cx, dev);
        }
    }
    synchronize_net(cx);
}
