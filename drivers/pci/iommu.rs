//! Bus addresses to memory: what an IOMMU is, for devices that live in this process.
//!
//! Key types: [`DmaSpace`], the mappings; [`Iotlb`], the few that a device used last.
//! Contexts: any. Locks: the space's own, a leaf; not taken on a hit in the [`Iotlb`].
//! Invariants: an address outside every mapping reaches nothing and is counted as a fault; an address is never given
//! out twice, so that a descriptor left over from a freed buffer faults; memory a device still has in its [`Iotlb`]
//! stays allocated, but is not reached once it is unmapped.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::dma::{DmaBuf, DmaError, DmaMem};

/// First address given out: beyond 32 bits, so that a driver which forgets the high half is found out.
const FIRST_BUS_ADDR: u64 = 0x1_0000_0000;
/// Nothing is mapped between two regions.
const GUARD: u64 = 4096;
/// Addresses end here: the width of an IOMMU's.
const END_BUS_ADDR: u64 = 1 << 48;

/// The mappings of one device or several.
pub struct DmaSpace {
    map: Mutex<Map>,
    /// Counts unmappings: an [`Iotlb`] of another generation is stale.
    generation: AtomicU64,
    faults: AtomicU64,
}

struct Map {
    regions: BTreeMap<u64, DmaMem>,
    next: u64,
    used: usize,
    limit: usize,
}

impl DmaSpace {
    /// A space in which at most `limit` bytes can be mapped at a time.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        let map = Map { regions: BTreeMap::new(), next: FIRST_BUS_ADDR, used: 0, limit };
        Arc::new(Self {
            map: Mutex::new(map),
            generation: AtomicU64::new(0),
            faults: AtomicU64::new(0),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Map> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allocates zeroed memory and maps it; the last handle's end unmaps it.
    pub fn alloc(self: &Arc<Self>, len: usize, align: usize) -> Result<DmaBuf, DmaError> {
        {
            let mut map = self.lock();
            map.used = map
                .used
                .checked_add(len)
                .filter(|&used| used <= map.limit)
                .ok_or(DmaError::NoMemory)?;
        }
        match self.alloc_accounted(len, align) {
            Ok(buf) => Ok(buf),
            Err(e) => {
                self.lock().used -= len;
                Err(e)
            }
        }
    }

    fn alloc_accounted(self: &Arc<Self>, len: usize, align: usize) -> Result<DmaBuf, DmaError> {
        let mem = DmaMem::alloc(len, align)?;
        let step = (align as u64).max(GUARD);
        let mut map = self.lock();
        let bus = map.next.next_multiple_of(step);
        let end = bus.checked_add(len as u64).and_then(|e| e.checked_add(GUARD));
        map.next = end.filter(|&e| e <= END_BUS_ADDR).ok_or(DmaError::NoMemory)?;
        map.regions.insert(bus, mem.clone());
        let space = Arc::downgrade(self);
        Ok(DmaBuf::new(mem, bus, move || {
            if let Some(space) = space.upgrade() {
                space.unmap(bus);
            }
        }))
    }

    fn unmap(&self, bus: u64) {
        let mut map = self.lock();
        if let Some(mem) = map.regions.remove(&bus) {
            map.used -= mem.len();
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The region that holds all of `[bus, bus + len)`, with its first address.
    fn find(&self, bus: u64, len: usize) -> Option<(u64, DmaMem)> {
        let map = self.lock();
        let (&start, mem) = map.regions.range(..=bus).next_back()?;
        let offset = usize::try_from(bus - start).ok()?;
        (offset.checked_add(len)? <= mem.len()).then(|| (start, mem.clone()))
    }

    /// How many accesses hit no mapping.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.faults.load(Ordering::Relaxed)
    }

    /// Bytes mapped now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.lock().used
    }
}

impl fmt::Debug for DmaSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaSpace")
            .field("used", &self.used())
            .field("faults", &self.faults())
            .finish_non_exhaustive()
    }
}

/// The regions a device (or one of its queues) used last, so that a lookup costs a few comparisons.
#[derive(Debug, Default)]
pub struct Iotlb {
    entries: [Option<(u64, DmaMem)>; 4],
    /// Where the last hit was.
    last: usize,
    victim: usize,
    generation: u64,
}

impl Iotlb {
    /// Memory and offset behind `[bus, bus + len)`. Outside every mapping: `None`, and a fault is counted.
    #[inline]
    pub fn get(&mut self, space: &DmaSpace, bus: u64, len: usize) -> Option<(&DmaMem, usize)> {
        let generation = space.generation.load(Ordering::Acquire);
        if generation != self.generation {
            self.entries = [const { None }; 4];
            self.generation = generation;
        }
        if let Some(offset) = self.offset(self.last, bus, len) {
            return self.entries[self.last].as_ref().map(|(_, mem)| (mem, offset));
        }
        self.search(space, bus, len)
    }

    /// Not where the last hit was.
    #[inline(never)]
    fn search(&mut self, space: &DmaSpace, bus: u64, len: usize) -> Option<(&DmaMem, usize)> {
        self.last = match (0..4).find(|&i| self.offset(i, bus, len).is_some()) {
            Some(i) => i,
            None => self.fill(space, bus, len)?,
        };
        let offset = self.offset(self.last, bus, len)?;
        self.entries[self.last].as_ref().map(|(_, mem)| (mem, offset))
    }

    #[inline]
    fn offset(&self, entry: usize, bus: u64, len: usize) -> Option<usize> {
        let (start, mem) = self.entries[entry].as_ref()?;
        let offset = usize::try_from(bus.checked_sub(*start)?).ok()?;
        (offset.checked_add(len)? <= mem.len()).then_some(offset)
    }

    #[cold]
    fn fill(&mut self, space: &DmaSpace, bus: u64, len: usize) -> Option<usize> {
        let Some(found) = space.find(bus, len) else {
            space.faults.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let at = self.victim;
        self.victim = (at + 1) % self.entries.len();
        self.entries[at] = Some(found);
        Some(at)
    }
}

#[cfg(test)]
mod tests;
