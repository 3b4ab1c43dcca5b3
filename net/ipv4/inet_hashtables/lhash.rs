//! Listeners by port.
//!
//! linux: net/ipv4/inet_hashtables.c (`inet_lhash2`, `__inet_lookup_listener`).

use crate::kernel::cpu::CpuId;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::net::core::sock::Sock;
use klib::siphash::SipKey;
use std::fmt;
use std::sync::Arc;

/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 64;

struct Entry {
    sk: Arc<Sock>,
    port: u16,
    rcv_saddr: u32,
    dev: u16,
    reuseport: bool,
}

/// Whose listener is looked for: what a SYN says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ListenFlow {
    pub saddr: u32,
    pub daddr: u32,
    pub sport: u16,
    pub dport: u16,
    /// The device it came in at.
    pub dif: u16,
}

impl Entry {
    /// How well it fits; `None`: not at all.
    ///
    /// linux: net/ipv4/inet_hashtables.c:compute_score
    fn compute_score(&self, flow: &ListenFlow, cpu: CpuId) -> Option<u32> {
        let fits = self.port == flow.dport
            && (self.rcv_saddr == 0 || self.rcv_saddr == flow.daddr)
            && (self.dev == 0 || self.dev == flow.dif);
        fits.then(|| {
            4 * u32::from(self.rcv_saddr != 0)
                + 2 * u32::from(self.dev != 0)
                + u32::from(self.sk.incoming_cpu() == Some(cpu))
        })
    }
}

/// The table of listeners.
pub(crate) struct Lhash {
    key: SipKey,
    shards: Box<[SpinLock<Vec<Entry>, class::ListenHash>]>,
}

impl Lhash {
    pub(super) fn new(key: SipKey) -> Self {
        Self { key, shards: (0..SHARDS).map(|_| SpinLock::default()).collect() }
    }

    fn shard(&self, port: u16) -> &SpinLock<Vec<Entry>, class::ListenHash> {
        &self.shards[usize::from(port) % SHARDS]
    }

    /// Enters a listener, the last of those that are equal.
    pub(crate) fn insert(
        &self,
        sk: &Arc<Sock>,
        port: u16,
        (rcv_saddr, dev): (u32, u16),
        reuseport: bool,
    ) {
        let entry = Entry { sk: Arc::clone(sk), port, rcv_saddr, dev, reuseport };
        self.shard(port).lock().push(entry);
    }

    /// Takes a listener out.
    pub(crate) fn remove(&self, sk: &Arc<Sock>, port: u16) {
        self.shard(port).lock().retain(|entry| !Arc::ptr_eq(&entry.sk, sk));
    }

    /// Who takes a connection: the listener that is bound most closely; in a `SO_REUSEPORT` group the one
    /// that the flow's hash names, so that the SYN and what follows meet the same.
    ///
    /// linux: net/ipv4/inet_hashtables.c:__inet_lookup_listener
    pub(crate) fn lookup(&self, flow: &ListenFlow, cpu: CpuId) -> Option<Arc<Sock>> {
        let shard = self.shard(flow.dport).lock();
        let scored = || shard.iter().filter_map(|e| Some((e.compute_score(flow, cpu)?, e)));
        let best = scored().map(|(score, _)| score).max()?;
        let equals = || scored().filter(|(score, _)| *score == best).map(|(_, entry)| entry);
        let group = equals().filter(|entry| entry.reuseport).count() as u64;
        if group > 1 {
            let ports = u32::from(flow.sport) << 16 | u32::from(flow.dport);
            let hash = self.key.siphash_3u32(flow.saddr, flow.daddr, ports) & 0xffff_ffff;
            let chosen = ((hash * group) >> 32) as usize;
            let member = equals().filter(|entry| entry.reuseport).nth(chosen);
            return member.map(|entry| Arc::clone(&entry.sk));
        }
        let first = equals().next();
        first.map(|entry| Arc::clone(&entry.sk))
    }

    /// All listeners, by port, and the order in which they came.
    pub(crate) fn dump(&self) -> Vec<Arc<Sock>> {
        let all = |shard: &SpinLock<Vec<Entry>, class::ListenHash>| {
            let shard = shard.lock();
            shard.iter().map(|entry| (entry.port, Arc::clone(&entry.sk))).collect::<Vec<_>>()
        };
        let mut listeners: Vec<_> = self.shards.iter().flat_map(all).collect();
        listeners.sort_by_key(|(port, _)| *port);
        listeners.into_iter().map(|(_, sk)| sk).collect()
    }
}

impl fmt::Debug for Lhash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lhash({} listeners)", self.dump().len())
    }
}
