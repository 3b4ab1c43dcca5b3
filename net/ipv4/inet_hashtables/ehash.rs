//! Connections by their four numbers: sockets, requests that have none yet, and TIME_WAIT.
//!
//! linux: net/ipv4/inet_hashtables.c (`inet_ehash_insert`, `__inet_lookup_established`).

use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::net::core::sock::Sock;
use crate::net::ipv4::inet_connection_sock::RequestSock;
use crate::net::ipv4::inet_timewait_sock::InetTimewaitSock;
use klib::siphash::SipKey;
use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 64;

/// A connection's addresses and ports, as this machine has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct InetTuple {
    /// This machine's address.
    pub laddr: u32,
    /// The peer's.
    pub raddr: u32,
    /// This machine's port.
    pub lport: u16,
    /// The peer's.
    pub rport: u16,
    /// The device the socket is bound to; 0: any.
    pub dev: u16,
}

/// A tuple with its keyed hash, which is all that the map's own hash looks at.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Key {
    tuple: InetTuple,
    hash: u64,
}

impl Hash for Key {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Hands a hash through that was made already.
#[derive(Default)]
struct Made(u64);

impl Hasher for Made {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        debug_assert!(false, "a key writes its hash and nothing else");
    }
    #[inline]
    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Who has a tuple.
#[derive(Clone)]
pub(crate) enum EhashEntry {
    /// A socket.
    Sock(Arc<Sock>),
    /// What is left of one.
    TimeWait(Arc<InetTimewaitSock>),
    /// A request that may become one.
    Request(Arc<RequestSock>),
}

type Shard = HashMap<Key, EhashEntry, BuildHasherDefault<Made>>;

/// The table of connections.
pub(crate) struct Ehash {
    key: SipKey,
    shards: Box<[SpinLock<Shard, class::Ehash>]>,
    /// Entries bound to a device: without any, one lookup is enough.
    by_device: AtomicU32,
}

impl EhashEntry {
    /// It is this socket.
    fn is_sock(&self, sk: &Arc<Sock>) -> bool {
        matches!(self, Self::Sock(there) if Arc::ptr_eq(there, sk))
    }

    /// It is what is left of a socket, this one.
    fn is_timewait(&self, tw: &Arc<InetTimewaitSock>) -> bool {
        matches!(self, Self::TimeWait(there) if Arc::ptr_eq(there, tw))
    }

    /// It is this request.
    fn is_request(&self, req: &Arc<RequestSock>) -> bool {
        matches!(self, Self::Request(there) if Arc::ptr_eq(there, req))
    }
}

impl Ehash {
    pub(super) fn new(key: SipKey) -> Self {
        let shards = (0..SHARDS).map(|_| SpinLock::default()).collect();
        Self { key, shards, by_device: AtomicU32::new(0) }
    }

    #[inline]
    fn key(&self, tuple: &InetTuple) -> Key {
        let ports = u32::from(tuple.lport) << 16 | u32::from(tuple.rport);
        // The device is left out: bound or not, a connection's entries lie in one shard.
        let hash = self.key.siphash_3u32(tuple.laddr, tuple.raddr, ports);
        Key { tuple: *tuple, hash }
    }

    #[inline]
    fn shard(&self, key: &Key) -> &SpinLock<Shard, class::Ehash> {
        // Bits that the shard's map does not go by: it takes the lowest for the place, the highest to tell
        // entries apart without a look at them.
        &self.shards[(key.hash >> 32) as usize % SHARDS]
    }

    fn count(&self, tuple: &InetTuple, by: u32) {
        if tuple.dev != 0 {
            self.by_device.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Who gets a segment of this connection that came in at a device.
    ///
    /// linux: net/ipv4/inet_hashtables.c:__inet_lookup_established
    #[inline]
    pub(crate) fn lookup(&self, tuple: &InetTuple) -> Option<EhashEntry> {
        let key = self.key(&InetTuple { dev: 0, ..*tuple });
        let shard = self.shard(&key).lock();
        if let Some(entry) = shard.get(&key) {
            return Some(entry.clone());
        }
        if self.by_device.load(Ordering::Relaxed) == 0 || tuple.dev == 0 {
            return None;
        }
        shard.get(&Key { tuple: *tuple, hash: key.hash }).cloned()
    }

    /// Enters somebody, unless the tuple is taken by one that `gives_way` does not release. Who was
    /// there, on failure.
    pub(crate) fn insert(
        &self,
        tuple: &InetTuple,
        entry: impl FnOnce() -> EhashEntry,
        gives_way: impl FnOnce(&EhashEntry) -> bool,
    ) -> Result<Option<EhashEntry>, EhashEntry> {
        let key = self.key(tuple);
        let mut shard = self.shard(&key).lock();
        match shard.get(&key) {
            Some(there) if !gives_way(there) => Err(there.clone()),
            Some(_) => Ok(shard.insert(key, entry())),
            None => {
                shard.insert(key, entry());
                self.count(tuple, 1);
                Ok(None)
            }
        }
    }

    /// Puts what comes next in the place of a request, if it is still there.
    ///
    /// linux: net/ipv4/inet_hashtables.c:inet_ehash_nolisten
    pub(crate) fn replace_request(
        &self,
        tuple: &InetTuple,
        req: &Arc<RequestSock>,
        sk: &Arc<Sock>,
    ) -> bool {
        self.replace(tuple, |there| there.is_request(req), EhashEntry::Sock(Arc::clone(sk)))
    }

    /// Puts what is left of a socket in its place.
    ///
    /// linux: net/ipv4/inet_timewait_sock.c:inet_twsk_hashdance
    pub(crate) fn replace_sock(
        &self,
        tuple: &InetTuple,
        sk: &Arc<Sock>,
        tw: &Arc<InetTimewaitSock>,
    ) -> bool {
        self.replace(tuple, |there| there.is_sock(sk), EhashEntry::TimeWait(Arc::clone(tw)))
    }

    fn replace(
        &self,
        tuple: &InetTuple,
        is: impl FnOnce(&EhashEntry) -> bool,
        entry: EhashEntry,
    ) -> bool {
        let key = self.key(tuple);
        let mut shard = self.shard(&key).lock();
        let there = shard.get_mut(&key).filter(|there| is(there));
        there.map(|there| *there = entry).is_some()
    }

    fn remove(&self, tuple: &InetTuple, is: impl FnOnce(&EhashEntry) -> bool) -> bool {
        let key = self.key(tuple);
        let mut shard = self.shard(&key).lock();
        if !shard.get(&key).is_some_and(is) {
            return false;
        }
        let gone = shard.remove(&key);
        if shard.capacity() > 64 && shard.len() * 8 < shard.capacity() {
            shard.shrink_to_fit();
        }
        drop(shard);
        self.count(tuple, u32::MAX);
        gone.is_some()
    }

    /// Takes a socket out; false when it was not there.
    pub(crate) fn remove_sock(&self, tuple: &InetTuple, sk: &Arc<Sock>) -> bool {
        self.remove(tuple, |there| there.is_sock(sk))
    }

    /// Takes a TIME_WAIT out; false when somebody else did.
    pub(crate) fn remove_timewait(&self, tw: &Arc<InetTimewaitSock>) -> bool {
        self.remove(&tw.tuple, |there| there.is_timewait(tw))
    }

    /// Takes a request out; false when somebody else did, or it has become a socket.
    pub(crate) fn remove_request(&self, req: &Arc<RequestSock>) -> bool {
        self.remove(&req.tuple, |there| there.is_request(req))
    }

    /// Those of the entries that are sockets.
    pub(super) fn sockets(&self) -> usize {
        let of = |shard: &SpinLock<Shard, class::Ehash>| {
            shard.lock().values().filter(|entry| matches!(entry, EhashEntry::Sock(_))).count()
        };
        self.shards.iter().map(of).sum()
    }

    /// The most entries whose search begins at one place.
    pub(super) fn longest_chain(&self) -> usize {
        let of = |shard: &SpinLock<Shard, class::Ehash>| {
            let shard = shard.lock();
            // A map of as many places is full at seven eighths.
            let places = (shard.capacity() * 8 / 7).next_power_of_two() as u64;
            let mut begin: Vec<u64> = shard.keys().map(|key| key.hash % places).collect();
            begin.sort_unstable();
            begin.chunk_by(|one, next| one == next).map(<[u64]>::len).max().unwrap_or(0)
        };
        self.shards.iter().map(of).max().unwrap_or(0)
    }

    /// It has no entry.
    pub(super) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().is_empty())
    }

    /// All entries, by tuple.
    pub(crate) fn dump(&self) -> Vec<(InetTuple, EhashEntry)> {
        let all = |shard: &SpinLock<Shard, class::Ehash>| {
            let shard = shard.lock();
            shard.iter().map(|(key, entry)| (key.tuple, entry.clone())).collect::<Vec<_>>()
        };
        let mut entries: Vec<_> = self.shards.iter().flat_map(all).collect();
        entries.sort_by_key(|(tuple, _)| *tuple);
        entries
    }
}

impl fmt::Debug for Ehash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len: usize = self.shards.iter().map(|shard| shard.lock().len()).sum();
        write!(f, "Ehash({len} entries)")
    }
}
