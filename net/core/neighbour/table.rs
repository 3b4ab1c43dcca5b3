//! The table of neighbours: lookup, creation within bounds, garbage collection.
//!
//! linux: net/core/neighbour.c. Contexts: BH. Lock: `class::NeighTable`.

use super::{DEAD, Inner, NUD_CONNECTED, NeighKey, Neighbour, nud_name};
use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::time::Ktime;
use crate::kernel::timer::TimerTarget;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::DevId;
use crate::net::core::skbuff::{Skb, kfree_skb};
use crate::net::ipv4::arp::arp_constructor;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use uapi::neighbour::{NUD_FAILED, NUD_NOARP, NUD_PERMANENT};

const NUD_IN_USE: u8 = NUD_PERMANENT as u8 | NUD_NOARP as u8;
/// Above `gc_thresh2`, a collection at most this often.
const FORCED_GC_PAUSE: Duration = Duration::from_secs(5);

/// The neighbours of a namespace.
///
/// linux: include/net/neighbour.h:neigh_table
// A tree, not a hash table: its order is the same in every run and no choice of addresses makes
// it slow.
#[derive(Debug, Default)]
pub struct NeighTable {
    inner: SpinLock<Entries, class::NeighTable>,
}

#[derive(Debug, Default)]
struct Entries {
    entries: BTreeMap<NeighKey, Arc<Neighbour>>,
    last_flush: Ktime,
    gc_armed: bool,
    overflows: u64,
}

/// A line of `ip neigh`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighEntry {
    /// Which.
    pub key: NeighKey,
    /// The link address, if there is one.
    pub lladdr: Option<[u8; 6]>,
    /// The state's name.
    pub state: &'static str,
}

impl NeighTable {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Entries now.
    pub fn len(&self) -> usize {
        self.inner.lock().entries.len()
    }

    /// No entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Times a new neighbour found no place.
    pub fn overflows(&self) -> u64 {
        self.inner.lock().overflows
    }

    /// Every entry, by device and address.
    pub fn dump(&self) -> Vec<NeighEntry> {
        let entries: Vec<_> = self.inner.lock().entries.values().cloned().collect();
        entries
            .iter()
            .map(|neigh| NeighEntry {
                key: neigh.key,
                lladdr: neigh.ha(),
                state: nud_name(neigh.nud_state()),
            })
            .collect()
    }

    fn get(&self, key: NeighKey) -> Option<Arc<Neighbour>> {
        self.inner.lock().entries.get(&key).cloned()
    }
}

impl Entries {
    /// Takes out what `goes` names; the entries are emptied by the caller once the lock is free.
    fn sweep(&mut self, mut goes: impl FnMut(&Arc<Neighbour>) -> bool) -> Vec<Arc<Neighbour>> {
        let mut gone = Vec::new();
        self.entries.retain(|_, neigh| {
            if goes(neigh) {
                gone.push(Arc::clone(neigh));
                return false;
            }
            true
        });
        gone
    }
}

/// The entry of `key`, if there is one.
///
/// linux: net/core/neighbour.c:neigh_lookup
pub fn neigh_lookup(cx: &mut BhCx<'_>, key: NeighKey) -> Option<Arc<Neighbour>> {
    cx.t.ns.arp_tbl.get(key)
}

/// A new entry for `key`, or the one that somebody made meanwhile. `None` when the table is full of
/// entries in use.
///
/// linux: net/core/neighbour.c:__neigh_create
pub fn __neigh_create(cx: &mut BhCx<'_>, key: NeighKey) -> Option<Arc<Neighbour>> {
    walk!(cx, __neigh_create => u64::from(key.addr));
    let table = &cx.t.ns.arp_tbl;
    let (now, parms) = (cx.now(), &cx.t.net.sysctl.neigh);
    let fresh = Arc::new(new_entry(cx, key)?);
    let (made, gone) = {
        let mut inner = table.inner.lock();
        if let Some(there) = inner.entries.get(&key) {
            return Some(Arc::clone(there));
        }
        let len = inner.entries.len() as u32;
        let crowded = len >= parms.gc_thresh2 && now - inner.last_flush > FORCED_GC_PAUSE;
        let gone = if len >= parms.gc_thresh3 || crowded {
            inner.last_flush = now;
            inner.sweep(|neigh| neigh.collectable())
        } else {
            Vec::new()
        };
        let full = inner.entries.len() as u32 >= parms.gc_thresh3;
        if full {
            inner.overflows += 1;
        } else {
            inner.entries.insert(key, Arc::clone(&fresh));
        }
        (!full, gone)
    };
    for neigh in gone {
        neigh_destroy(cx, &neigh);
    }
    if !made {
        return None;
    }
    arm_gc(cx, table);
    Some(fresh)
}

fn new_entry(cx: &mut BhCx<'_>, key: NeighKey) -> Option<Neighbour> {
    let (now, t) = (cx.now(), cx.t);
    let dev = t.net.dev(key.dev)?;
    let (state, addr, ops) = arp_constructor(cx, key.addr, dev);
    // Spread over half to one and a half times the base, as RFC 4861 section 6.3.2 says.
    let base = t.net.sysctl.neigh.base_reachable_time;
    let spread = ((u128::from(cx.cpu.rng.next_u32()) * base.as_nanos()) >> 32) as u64;
    let neigh = Neighbour {
        key,
        ops,
        word: AtomicU64::new(0),
        used: AtomicU64::new(now.0),
        confirmed: AtomicU64::new(0),
        inner: SpinLock::new(Inner {
            updated: now,
            probes: 0,
            due: None,
            reachable_time: base / 2 + Duration::from_nanos(spread),
            arp_queue: VecDeque::new(),
            arp_queue_len_bytes: 0,
        }),
        kept: AtomicUsize::new(0),
    };
    neigh.set_state(state);
    neigh.set_ha(addr);
    Some(neigh)
}

impl Neighbour {
    /// Nobody refers to it but the table and routing decisions, and its state may be forgotten. Who refers to it from
    /// this moment on finds it dead.
    fn collectable(self: &Arc<Self>) -> bool {
        let kept = self.kept.load(Ordering::Acquire);
        Arc::strong_count(self) <= 1 + kept && self.nud_state() & NUD_IN_USE == 0
    }
}

/// Ends an entry that was taken out of the table.
///
/// linux: net/core/neighbour.c:neigh_destroy
fn neigh_destroy(cx: &mut BhCx<'_>, neigh: &Arc<Neighbour>) {
    walk!(cx, neigh_destroy => u64::from(neigh.key.addr));
    let waiting: VecDeque<Skb> = {
        let mut inner = neigh.inner.lock();
        neigh.word.fetch_or(DEAD, Ordering::AcqRel);
        inner.due = None;
        inner.arp_queue_len_bytes = 0;
        std::mem::take(&mut inner.arp_queue)
    };
    for skb in waiting {
        kfree_skb(cx, skb, DropReason::NeighDead);
    }
}

/// Forgets the neighbours of a device that goes down.
///
/// linux: net/core/neighbour.c:neigh_ifdown
pub fn neigh_ifdown(cx: &mut BhCx<'_>, dev: DevId) {
    let gone = cx.t.ns.arp_tbl.inner.lock().sweep(|neigh| neigh.key.dev == dev);
    for neigh in gone {
        neigh_destroy(cx, &neigh);
    }
}

fn arm_gc(cx: &mut BhCx<'_>, table: &Arc<NeighTable>) {
    if !std::mem::replace(&mut table.inner.lock().gc_armed, true) {
        let at = cx.now() + cx.t.net.sysctl.neigh.base_reachable_time / 2;
        cx.add_timer(at, Arc::clone(table) as Arc<dyn TimerTarget>, 0);
    }
}

impl TimerTarget for NeighTable {
    /// linux: net/core/neighbour.c:neigh_periodic_work
    fn expire(self: Arc<Self>, cx: &mut BhCx<'_>, _token: u64) {
        let (now, parms) = (cx.now(), &cx.t.net.sysctl.neigh);
        let stale = |neigh: &Arc<Neighbour>| {
            let last =
                neigh.used.load(Ordering::Relaxed).max(neigh.confirmed.load(Ordering::Relaxed));
            let state = neigh.nud_state();
            let old = state == NUD_FAILED as u8 || now - Ktime(last) > parms.gc_staletime;
            old && state & NUD_CONNECTED == 0 && neigh.collectable()
        };
        let (gone, left) = {
            let mut inner = self.inner.lock();
            let enough = inner.entries.len() as u32 >= parms.gc_thresh1;
            let gone = if enough { inner.sweep(stale) } else { Vec::new() };
            // Few entries stay for ever: a machine at rest has no timer.
            inner.gc_armed = inner.entries.len() as u32 >= parms.gc_thresh1;
            (gone, inner.gc_armed)
        };
        for neigh in gone {
            neigh_destroy(cx, &neigh);
        }
        if left {
            let at = now + parms.base_reachable_time / 2;
            cx.add_timer(at, self as Arc<dyn TimerTarget>, 0);
        }
    }
}

/// Sets an entry by hand, as `ip neigh replace` does.
///
/// # Errors
/// ENOBUFS when the table is full.
pub fn neigh_add(
    cx: &mut TaskCx,
    key: NeighKey,
    lladdr: [u8; 6],
    state: u8,
) -> Result<(), uapi::errno::Errno> {
    cx.local_bh_disable(|bh| {
        let neigh = match neigh_lookup(bh, key) {
            Some(there) => there,
            None => __neigh_create(bh, key).ok_or(uapi::errno::Errno::ENOBUFS)?,
        };
        let how = super::NeighUpdate { override_addr: true, admin: true };
        super::neigh_update(bh, &neigh, Some(lladdr), state, how);
        Ok(())
    })
}

/// Takes an entry out of the table, as `ip neigh del` does; packets that wait in it are dropped.
///
/// # Errors
/// ENOENT when there is none.
///
/// linux: net/core/neighbour.c:neigh_delete
pub fn neigh_delete(cx: &mut TaskCx, key: NeighKey) -> Result<(), uapi::errno::Errno> {
    cx.local_bh_disable(|bh| {
        let gone = bh.t.ns.arp_tbl.inner.lock().entries.remove(&key);
        let neigh = gone.ok_or(uapi::errno::Errno::ENOENT)?;
        neigh_destroy(bh, &neigh);
        Ok(())
    })
}
