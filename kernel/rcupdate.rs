//! Read-mostly tables as a snapshot: readers borrow, writers publish a changed copy and wait.
//!
//! linux: kernel/rcupdate.c, kernel/rcutree.c. Key types: [`Tables`], `Publisher`.
//! Contexts: reading in BH and hard interrupt by the context's borrow (which is `rcu_read_lock`);
//! writing from tasks under `class::Tables`. Locks: `class::Publish` around the pointer.
//! Invariant: when [`synchronize_net`] returns, no CPU reads an older snapshot.

use crate::kernel::context::TaskCx;
use crate::kernel::irq::IrqDesc;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::net::core::dev::NetTables;
use crate::net::core::dev::device::DevId;
use crate::net::net_namespace::{Net, NetId, PernetInit};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What the packets of a namespace read, each of them, and what rarely changes. Those of the first namespace are
/// the machine's as well: they have the others', and the interrupts.
#[derive(Clone, Debug)]
pub struct Tables {
    /// The number of this snapshot; whatever was derived from an older one is stale. No two namespaces have one
    /// number.
    pub generation: u64,
    /// Requested interrupts by number. The first namespace's alone.
    pub irqs: Vec<Option<Arc<IrqDesc>>>,
    /// Devices, packet handlers, addresses, routes, hooks, settings.
    pub net: NetTables,
    /// The namespace.
    pub ns: Arc<Net>,
    /// The other namespaces by their numbers, less one. The first namespace's alone.
    pub(crate) others: Vec<Option<Arc<Tables>>>,
    /// In which namespace a device is, by index; those of the first may be left out. The first namespace's alone.
    pub(crate) dev_nets: Vec<NetId>,
    /// What is made in each namespace. The first namespace's alone.
    pub(crate) pernet_list: Vec<PernetInit>,
}

/// Where the number of a namespace begins in the number of a snapshot of its tables. It has eight bits there:
/// above it are other numbers
/// ([`rt_genid`](crate::kernel::context::BhCx::rt_genid)).
const NET_SHIFT: u32 = 32;

impl Tables {
    /// Empty tables of a namespace.
    pub(crate) fn new(ns: Arc<Net>, net: NetTables) -> Self {
        let generation = u64::from(ns.id.0) << NET_SHIFT;
        let (irqs, others) = (Vec::new(), Vec::new());
        let (dev_nets, pernet_list) = (Vec::new(), Vec::new());
        Self { generation, irqs, net, ns, others, dev_nets, pernet_list }
    }

    /// Those of a namespace, asked of the first's.
    pub(crate) fn of(&self, net: NetId) -> Option<&Self> {
        match net.0.checked_sub(1) {
            None => Some(self),
            Some(other) => self.others.get(usize::from(other))?.as_deref(),
        }
    }

    /// Those of a namespace that is not the first, to be changed: asked of the first's.
    fn other_mut(&mut self, net: NetId) -> Option<&mut Self> {
        let other =
            Arc::make_mut(self.others.get_mut(usize::from(net.0).checked_sub(1)?)?.as_mut()?);
        other.generation += 1;
        Some(other)
    }

    /// Those of any namespace, to be changed: asked of the first's.
    pub(crate) fn of_mut(&mut self, net: NetId) -> Option<&mut Self> {
        if net == NetId::INIT { Some(self) } else { self.other_mut(net) }
    }

    /// Those of all namespaces there are, asked of the first's.
    pub fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.others.iter().flatten().map(|other| &**other))
    }

    /// The namespace that a device is in, asked of the first's.
    #[inline]
    pub(crate) fn net_of(&self, dev: DevId) -> NetId {
        self.dev_nets.get(usize::from(dev.0)).copied().unwrap_or_default()
    }

    fn note_devices(&mut self) {
        self.dev_nets.clear();
        for other in self.others.iter().flatten() {
            for dev in other.net.devs.iter().flatten() {
                let index = usize::from(dev.ifindex.0);
                if self.dev_nets.len() <= index {
                    self.dev_nets.resize(index + 1, NetId::INIT);
                }
                self.dev_nets[index] = other.ns.id;
            }
        }
    }
}

/// Publishes [`Tables`]. A CPU keeps the `Arc` it read last and renews it when the number differs,
/// so reading costs one load of the number.
#[derive(Debug)]
pub(crate) struct Publisher {
    generation: AtomicU64,
    current: SpinLock<Arc<Tables>, class::Publish>,
}

impl Publisher {
    pub(crate) fn new(tables: Tables) -> Self {
        Self {
            generation: AtomicU64::new(tables.generation),
            current: SpinLock::new(Arc::new(tables)),
        }
    }

    /// The number of the latest snapshot.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The latest snapshot.
    pub(crate) fn load(&self) -> Arc<Tables> {
        Arc::clone(&self.current.lock())
    }

    /// Publishes what `change` makes of a copy of the latest snapshot of a namespace's; of one that is gone nothing is
    /// published. One writer at a time: the caller holds the configuration lock.
    pub(crate) fn update<R, E>(
        &self,
        net: NetId,
        change: impl FnOnce(&mut Tables) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut next = Tables::clone(&self.load());
        let result = match next.of_mut(net) {
            Some(tables) => change(tables)?,
            None => return change(&mut next),
        };
        next.generation += 1;
        let generation = next.generation;
        let old = std::mem::replace(&mut *self.current.lock(), Arc::new(next));
        self.generation.store(generation, Ordering::Release);
        drop(old);
        Ok(result)
    }
}

/// Changes the read-mostly tables of the task's namespace: `change` works on a copy, which is published as a
/// whole if it returns `Ok`; on return every CPU reads it.
///
/// # Errors
/// Those of `change`; then nothing was changed.
pub fn update_tables<R, E>(
    cx: &mut TaskCx,
    change: impl FnOnce(&mut Tables) -> Result<R, E>,
) -> Result<R, E> {
    let net = cx.net_id();
    update_tables_of(cx, net, change)
}

/// The same of another namespace.
///
/// # Errors
/// Those of `change`; then nothing was changed.
pub(crate) fn update_tables_of<R, E>(
    cx: &mut TaskCx,
    net: NetId,
    change: impl FnOnce(&mut Tables) -> Result<R, E>,
) -> Result<R, E> {
    let m = Arc::clone(cx.machine());
    let result = {
        let _writer = m.tables_writer.lock();
        m.tables.update(net, change)?
    };
    synchronize_net(cx);
    Ok(result)
}

/// The same where devices come, go or move: `change` works on the first namespace's, which has the others'.
///
/// # Errors
/// Those of `change`; then nothing was changed.
pub(crate) fn update_devices<R, E>(
    cx: &mut TaskCx,
    change: impl FnOnce(&mut Tables) -> Result<R, E>,
) -> Result<R, E> {
    update_tables_of(cx, NetId::INIT, |root| {
        let result = change(root)?;
        root.note_devices();
        Ok(result)
    })
}

/// Waits until every CPU has passed the end of what it ran, so that nobody reads tables older than
/// now.
///
/// linux: net/core/dev.c:synchronize_net
pub fn synchronize_net(cx: &mut TaskCx) {
    cx.flush();
    let m = Arc::clone(cx.machine());
    for cpu in m.cpu_ids() {
        m.enter(cpu).leave();
    }
}
