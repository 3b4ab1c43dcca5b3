//! What a world did, in one number: two runs of one seed must agree in it.
//!
//! Key types: [`Digest`], `Diary`. Context: the stepper's thread.

use stack::kernel::machine::Machine;
use stack::kernel::time::Ktime;
use stack::kernel::trace::Record;
use std::cell::{Cell, RefCell};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

/// The same for the same walks, counters and end of time, and for no other in practice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "to be compared with that of a second run"]
pub struct Digest {
    hash: u64,
    records: u64,
}

impl Digest {
    /// Records of the walk that went into it.
    pub fn records(&self) -> u64 {
        self.records
    }
}

impl FromIterator<Digest> for Digest {
    /// That of several worlds, one after the other.
    fn from_iter<I: IntoIterator<Item = Self>>(worlds: I) -> Self {
        let mut hasher = DefaultHasher::new();
        let mut records = 0;
        for world in worlds {
            world.hash.hash(&mut hasher);
            records += world.records;
        }
        Self { hash: hasher.finish(), records }
    }
}

/// The records of a world, summed up as they are taken.
#[derive(Debug, Default)]
pub(crate) struct Diary {
    /// Machines are watched from their start.
    everything: bool,
    /// Somebody wants to see the records himself.
    asked: Cell<bool>,
    hasher: RefCell<DefaultHasher>,
    records: Cell<u64>,
}

impl Diary {
    pub(crate) fn of_everything() -> Self {
        Self { everything: true, ..Self::default() }
    }

    pub(crate) fn is_of_everything(&self) -> bool {
        self.everything
    }

    /// Records need not be kept for somebody.
    pub(crate) fn takes_all(&self) -> bool {
        self.everything && !self.asked.get()
    }

    /// From now on somebody wants to see the records; true if nobody did before.
    pub(crate) fn begin_watch(&self) -> bool {
        !self.asked.replace(true)
    }

    pub(crate) fn note(&self, walk: &[(u16, Record)]) {
        let hasher = &mut *self.hasher.borrow_mut();
        for (machine, record) in walk {
            // In few words: a hasher takes its time for each.
            let place = u64::from(record.point as u16) << 16
                | u64::from(record.cpu) << 8
                | u64::from(record.context as u8);
            let what = u64::from(record.len) << 48 | u64::from(record.dev) << 32 | place;
            let id = record.id.0 ^ u64::from(*machine).rotate_right(8);
            for word in [record.time.0, id, record.arg, what] {
                hasher.write_u64(word);
            }
        }
        self.records.set(self.records.get() + walk.len() as u64);
    }

    /// Takes what the machines' rings hold.
    pub(crate) fn note_all<'a>(&self, machines: impl Iterator<Item = &'a Machine>) {
        for machine in machines {
            let (records, lost) = machine.tracer.take();
            let walk: Vec<_> = records.into_iter().map(|record| (machine.id, record)).collect();
            self.note(&walk);
            lost.hash(&mut *self.hasher.borrow_mut());
        }
    }

    /// The sum, with the time and the machines' counters at the end.
    pub(crate) fn close<'a>(
        &self,
        now: Ktime,
        machines: impl Iterator<Item = &'a Machine>,
    ) -> Digest {
        let hasher = &mut *self.hasher.borrow_mut();
        now.0.hash(hasher);
        for machine in machines {
            machine.softirq_runs().hash(hasher);
            for stat in machine.softnet_stat() {
                (stat.processed, stat.dropped, stat.time_squeeze, stat.received_rps).hash(hasher);
            }
            let mib = machine.mib();
            mib.nonzero().hash(hasher);
            for (reason, count) in mib.all_drops() {
                (reason as usize, count).hash(hasher);
            }
        }
        Digest { hash: hasher.finish(), records: self.records.get() }
    }
}
