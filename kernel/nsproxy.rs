//! The namespaces of a task.
//!
//! linux: kernel/nsproxy.c. Key type: `Nsproxy`. Lock: `class::Nsproxy`. Contexts: any.
//! Invariant: while a task is in a namespace it stays.

use crate::kernel::context::TaskCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::net::net_namespace::copy_net_ns;
pub use crate::net::net_namespace::{NetId, NetRef};
use uapi::errno::Errno;

/// What a task holds of its namespaces: none is the first, which there always is.
///
/// linux: include/linux/nsproxy.h:nsproxy
#[derive(Debug, Default)]
pub(crate) struct Nsproxy {
    net_ns: SpinLock<Option<NetRef>, class::Nsproxy>,
}

impl Nsproxy {
    /// The network namespace.
    pub(crate) fn net(&self) -> NetId {
        self.net_ns.lock().as_ref().map_or(NetId::INIT, |net| net.id)
    }

    /// From now on it is this one.
    pub(crate) fn switch(&self, net: NetRef) {
        let _before = self.net_ns.lock().replace(net);
    }
}

/// The task goes to a namespace of its own.
///
/// # Errors
/// Those of [`copy_net_ns`].
///
/// linux: kernel/fork.c:sys_unshare (`CLONE_NEWNET`)
pub fn sys_unshare(cx: &mut TaskCx) -> Result<NetId, Errno> {
    let id = copy_net_ns(cx)?;
    setns(cx, id)?;
    Ok(id)
}

/// The task goes to another namespace: what it makes from now on is there. Its sockets stay where they are.
///
/// # Errors
/// ESRCH when there is not one of that number.
///
/// linux: kernel/nsproxy.c:sys_setns
pub fn setns(cx: &mut TaskCx, id: NetId) -> Result<(), Errno> {
    let t = cx.machine().tables_of(id).ok_or(Errno::ESRCH)?;
    cx.change_net(NetRef::maybe_get_net(&t.ns).ok_or(Errno::ESRCH)?);
    Ok(())
}
