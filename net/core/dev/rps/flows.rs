//! Where the flows of a receive queue went last, and where their readers are.
//!
//! linux: include/linux/netdevice.h (`rps_dev_flow_table`, `rps_sock_flow_table`). Key types:
//! [`FlowTable`], [`SockFlowTable`]. Contexts: a queue's table is written by whoever polls the queue, one
//! at a time; the readers' table by tasks, and read by all. No lock.

use crate::kernel::cpu::CpuId;
use crate::kernel::locking::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// Buckets of a receive queue that does not ask for another number.
pub(super) const RPS_FLOWS: usize = 256;
/// The most buckets a table can have.
pub const RPS_FLOWS_MAX: usize = 65_536;

/// Bits of an entry for the CPU, plus one.
const CPU_BITS: u32 = 8;
/// The position of packets that are on their way into the queue: nobody has passed it.
const UNDER_WAY: u64 = u64::MAX >> CPU_BITS;

/// Where the last packet of a bucket's flows was queued: a CPU, and the position in its backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) cpu: CpuId,
    pub(super) position: u64,
}

impl Last {
    /// In the list that is being steered, to go up where it is.
    pub(super) const HERE: Self = Self { cpu: CpuId(u8::MAX - 1), position: UNDER_WAY };

    fn pack(self) -> u64 {
        self.position << CPU_BITS | (u64::from(self.cpu.0) + 1)
    }

    /// On its way into a CPU's backlog.
    pub(super) fn under_way(cpu: CpuId) -> Self {
        Self { cpu, position: UNDER_WAY }
    }

    fn unpack(word: u64) -> Option<Self> {
        let cpu = (word as u8).checked_sub(1)?;
        Some(Self { cpu: CpuId(cpu), position: word >> CPU_BITS })
    }
}

/// The flows of a receive queue, by their hash.
///
/// linux: include/linux/netdevice.h:rps_dev_flow_table
pub(super) struct FlowTable {
    buckets: Box<[AtomicU64]>,
    /// The larger table that has taken over.
    grown: OnceLock<Arc<FlowTable>>,
}

impl FlowTable {
    /// An empty table; `size` is a power of two.
    pub(super) fn new(size: usize) -> Arc<Self> {
        let buckets = (0..size).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { buckets, grown: OnceLock::new() })
    }

    /// A larger table, which takes over from now on.
    pub(super) fn grow(&self, size: usize) -> Arc<Self> {
        Arc::clone(self.grown.get_or_init(|| Self::new(size)))
    }

    /// The larger table that has taken over, if any.
    pub(super) fn grown(&self) -> Option<&Self> {
        self.grown.get().map(|larger| &**larger)
    }

    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    fn bucket(&self, hash: u32) -> &AtomicU64 {
        &self.buckets[hash as usize & (self.buckets.len() - 1)]
    }

    /// Where the last packet went whose hash falls into the same bucket.
    pub(super) fn last(&self, hash: u32) -> Option<Last> {
        Last::unpack(self.bucket(hash).load(Ordering::Relaxed))
    }

    /// Nothing of it is anywhere.
    pub(super) fn clear(&self, hash: u32) {
        self.bucket(hash).store(0, Ordering::Relaxed);
    }

    /// A packet was queued there, or is about to be.
    pub(super) fn set(&self, hash: u32, last: Last) {
        self.bucket(hash).store(last.pack(), Ordering::Relaxed);
    }
}

impl fmt::Debug for FlowTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlowTable({} buckets)", self.buckets.len())
    }
}

/// On which CPU each flow's reader was when it last read.
///
/// linux: include/linux/netdevice.h:rps_sock_flow_table
#[derive(Default)]
pub struct SockFlowTable {
    /// Entries in use; zero: flow steering is off.
    entries: AtomicUsize,
    /// As large as it can become, made when it is first used. An entry is the hash, its low bits those
    /// of the CPU plus one; zero: nobody has read.
    table: OnceLock<Box<[AtomicU32]>>,
}

/// The bits of an entry that hold a CPU plus one.
const CPU_MASK: u32 = 0x7f;

impl SockFlowTable {
    /// Readers are to be followed.
    #[inline]
    pub fn on(&self) -> bool {
        self.entries.load(Ordering::Relaxed) != 0
    }

    /// Entries.
    pub fn entries(&self) -> usize {
        self.entries.load(Ordering::Relaxed)
    }

    /// Changes their number, zero or a power of two; all are forgotten.
    pub(super) fn resize(&self, entries: usize) {
        self.entries.store(0, Ordering::Relaxed);
        if entries != 0 {
            let table =
                self.table.get_or_init(|| (0..RPS_FLOWS_MAX).map(|_| AtomicU32::new(0)).collect());
            let entries = entries.min(table.len());
            table[..entries].iter().for_each(|entry| entry.store(0, Ordering::Relaxed));
            self.entries.store(entries, Ordering::Relaxed);
        }
    }

    fn entry(&self, hash: u32) -> Option<&AtomicU32> {
        let mask = self.entries().checked_sub(1)?;
        self.table.get()?.get(hash as usize & mask)
    }

    /// The flow's reader runs on `cpu`.
    ///
    /// linux: include/linux/netdevice.h:rps_record_sock_flow
    pub(crate) fn rps_record_sock_flow(&self, hash: u32, cpu: CpuId) {
        let Some(entry) = self.entry(hash) else { return };
        let value = hash & !CPU_MASK | (u32::from(cpu.0) + 1);
        // Looked at first: mostly it is so already, and the line stays shared.
        if entry.load(Ordering::Relaxed) != value {
            entry.store(value, Ordering::Relaxed);
        }
    }

    /// Where the flow's reader was.
    pub(super) fn reader(&self, hash: u32) -> Option<CpuId> {
        let value = self.entry(hash)?.load(Ordering::Relaxed);
        let same = (value ^ hash) & !CPU_MASK == 0;
        let cpu = (value & CPU_MASK).checked_sub(1)?;
        same.then_some(CpuId(cpu as u8))
    }
}

impl fmt::Debug for SockFlowTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SockFlowTable({} entries)", self.entries())
    }
}

#[cfg(test)]
mod tests {
    use super::{FlowTable, Last, SockFlowTable, UNDER_WAY};
    use crate::kernel::cpu::CpuId;

    #[test]
    fn a_bucket_names_the_cpu_and_the_position_of_its_last_packet() {
        let table = FlowTable::new(4);
        assert_eq!(table.last(5), None);
        table.set(5, Last::under_way(CpuId(0)));
        assert_eq!(table.last(1), Some(Last { cpu: CpuId(0), position: UNDER_WAY }));
        let last = Last { cpu: CpuId(63), position: UNDER_WAY - 1 };
        table.set(1, last);
        assert_eq!((table.last(9), table.last(2)), (Some(last), None));
    }

    #[test]
    fn who_still_has_the_smaller_table_finds_the_larger_one() {
        let small = FlowTable::new(2);
        assert!(small.grown().is_none());
        let large = small.grow(8);
        large.set(5, Last::under_way(CpuId(1)));
        let found = small.grown().expect("it has grown");
        assert_eq!((found.len(), found.last(5)), (8, large.last(5)));
    }

    #[test]
    fn a_reader_is_found_by_the_whole_hash_that_an_entry_keeps() {
        let table = SockFlowTable::default();
        table.rps_record_sock_flow(0x1234_5678, CpuId(1));
        assert_eq!(table.reader(0x1234_5678), None, "off");
        table.resize(1024);
        table.rps_record_sock_flow(0x1234_5678, CpuId(1));
        assert_eq!(table.reader(0x1234_5678), Some(CpuId(1)));
        assert_eq!(table.reader(0x0234_5678), None, "another flow in its place");
        table.rps_record_sock_flow(0x1234_5678, CpuId(63));
        assert_eq!(table.reader(0x1234_5678), Some(CpuId(63)));
        table.resize(512);
        assert_eq!(table.reader(0x1234_5678), None, "forgotten");
    }
}
