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
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a machine reads for every packet and changes rarely.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// The number of this snapshot; whatever was derived from an older one is stale.
    pub generation: u64,
    /// Requested interrupts by number.
    pub irqs: Vec<Option<Arc<IrqDesc>>>,
    /// Devices, packet handlers, addresses, routes, hooks, settings.
    pub net: NetTables,
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

    /// Publishes what `change` makes of a copy of the latest snapshot. One writer at a time: the
    /// caller holds the configuration lock.
    pub(crate) fn update<R, E>(
        &self,
        change: impl FnOnce(&mut Tables) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut next = Tables::clone(&self.load());
        let result = change(&mut next)?;
        next.generation += 1;
        let generation = next.generation;
        let old = std::mem::replace(&mut *self.current.lock(), Arc::new(next));
        self.generation.store(generation, Ordering::Release);
        drop(old);
        Ok(result)
    }
}

/// Changes the read-mostly tables: `change` works on a copy, which is published as a whole if it
/// returns `Ok`; on return every CPU reads it.
///
/// # Errors
/// Those of `change`; then nothing was changed.
pub fn update_tables<R, E>(
    cx: &mut TaskCx,
    change: impl FnOnce(&mut Tables) -> Result<R, E>,
) -> Result<R, E> {
    let m = Arc::clone(cx.machine());
    let result = {
        let _writer = m.tables_writer.lock();
        m.tables.update(change)?
    };
    synchronize_net(cx);
    Ok(result)
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
