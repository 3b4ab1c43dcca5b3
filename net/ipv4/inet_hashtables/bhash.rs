//! Which ports are bound, and by whom.
//!
//! linux: net/ipv4/inet_hashtables.c (`inet_bind_bucket`), net/ipv4/inet_connection_sock.c
//! (`inet_csk_bind_conflict`).

use crate::kernel::locking::{SpinLock, lockdep::class};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, Ordering};

use super::ports::Perturb;

/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 64;
/// Places from which connections go on with their search for a port.
///
/// linux: net/ipv4/inet_hashtables.c:INET_TABLE_PERTURB_SIZE
const PERTURB: usize = 256;

/// How a port came to be in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum BindKind {
    /// By `bind`.
    #[default]
    Bound = 0,
    /// By `bind`, and it listens.
    Listen = 1,
    /// It was chosen for a connection: others may share it to other peers. So it stays in TIME_WAIT.
    Connect = 2,
}

/// A user of a port, with what decides whether another may use it, too. Changed by the socket's owner.
#[derive(Debug, Default)]
pub struct InetBindNode {
    /// The port.
    pub port: u16,
    rcv_saddr: AtomicU32,
    dev: AtomicU16,
    reuse: AtomicBool,
    reuseport: AtomicBool,
    kind: AtomicU8,
    /// Its place among the port's users; only looked at under the table's lock.
    at: AtomicU32,
}

/// What a node says at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BindAttrs {
    /// The address; zero: any.
    pub rcv_saddr: u32,
    /// The device; 0: any.
    pub dev: u16,
    /// `SO_REUSEADDR`.
    pub reuse: bool,
    /// `SO_REUSEPORT`.
    pub reuseport: bool,
    /// How it is used.
    pub kind: BindKind,
}

impl InetBindNode {
    pub(crate) fn new(port: u16, attrs: BindAttrs) -> Arc<Self> {
        let node = Self { port, ..Self::default() };
        node.set(attrs);
        Arc::new(node)
    }

    /// Changes what it says.
    pub(crate) fn set(&self, attrs: BindAttrs) {
        self.rcv_saddr.store(attrs.rcv_saddr, Ordering::Relaxed);
        self.dev.store(attrs.dev, Ordering::Relaxed);
        self.reuse.store(attrs.reuse, Ordering::Relaxed);
        self.reuseport.store(attrs.reuseport, Ordering::Relaxed);
        self.kind.store(attrs.kind as u8, Ordering::Relaxed);
    }

    /// How the port is used.
    pub(crate) fn kind(&self) -> BindKind {
        match self.kind.load(Ordering::Relaxed) {
            1 => BindKind::Listen,
            2 => BindKind::Connect,
            _ => BindKind::Bound,
        }
    }

    /// What it says.
    pub(crate) fn attrs(&self) -> BindAttrs {
        BindAttrs {
            rcv_saddr: self.rcv_saddr.load(Ordering::Relaxed),
            dev: self.dev.load(Ordering::Relaxed),
            reuse: self.reuse.load(Ordering::Relaxed),
            reuseport: self.reuseport.load(Ordering::Relaxed),
            kind: self.kind(),
        }
    }
}

/// Whether a port was asked for or is only looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// This port and no other.
    Exactly,
    /// Any: then not one that somebody has, even if he would share it.
    Any,
}

impl BindAttrs {
    /// Another use of the port and this one can't be at once.
    ///
    /// linux: net/ipv4/inet_connection_sock.c:inet_bind_conflict
    fn conflicts(&self, other: &Self, wanted: Wanted) -> bool {
        let same_dev = self.dev == 0 || other.dev == 0 || self.dev == other.dev;
        let same_addr =
            self.rcv_saddr == 0 || other.rcv_saddr == 0 || self.rcv_saddr == other.rcv_saddr;
        if !same_dev || !same_addr {
            return false;
        }
        let both_reuse = self.reuse && other.reuse && other.kind != BindKind::Listen;
        let both_reuseport = self.reuseport && other.reuseport;
        match wanted {
            Wanted::Exactly => !both_reuse && !both_reuseport,
            // Two that would share a port they did not ask for would meet by accident.
            Wanted::Any => true,
        }
    }
}

/// A port that is in use.
///
/// linux: include/net/inet_hashtables.h:inet_bind_bucket
/// linux: net/ipv4/inet_connection_sock.c:inet_csk_update_fastreuse
#[derive(Default)]
struct InetBindBucket {
    users: Vec<Arc<InetBindNode>>,
    /// Those of its users that did not get it by connecting: while there is one, no connection gets it.
    bound: u32,
    /// Who sets `SO_REUSEPORT` may have it without a look at its users: so the last of them did when it bound,
    /// whatever it says now.
    fastreuseport: bool,
}

impl InetBindBucket {
    fn add(&mut self, node: &Arc<InetBindNode>) {
        node.at.store(self.users.len() as u32, Ordering::Relaxed);
        self.bound += u32::from(node.kind() != BindKind::Connect);
        self.users.push(Arc::clone(node));
    }

    fn has_room_for(&self, attrs: &BindAttrs, wanted: Wanted) -> bool {
        let shares = attrs.reuseport && self.fastreuseport && wanted == Wanted::Exactly;
        shares || !self.users.iter().any(|user| attrs.conflicts(&user.attrs(), wanted))
    }

    /// Takes a user out; true if it was the last.
    fn remove(&mut self, node: &Arc<InetBindNode>) -> bool {
        let at = node.at.load(Ordering::Relaxed) as usize;
        if self.users.get(at).is_some_and(|user| Arc::ptr_eq(user, node)) {
            self.users.swap_remove(at);
            self.bound -= u32::from(node.kind() != BindKind::Connect);
            if let Some(moved) = self.users.get(at) {
                moved.at.store(at as u32, Ordering::Relaxed);
            }
        }
        self.users.is_empty()
    }
}

type Shard = SpinLock<BTreeMap<u16, InetBindBucket>, class::BindHash>;

/// The table of ports.
pub(crate) struct Bhash {
    shards: Box<[Shard]>,
    perturb: Box<[Perturb]>,
}

impl Bhash {
    pub(super) fn new(mut random: impl FnMut() -> u32) -> Self {
        let shards = (0..SHARDS).map(|_| SpinLock::default()).collect();
        Self { shards, perturb: (0..PERTURB).map(|_| Perturb::new(random())).collect() }
    }

    fn shard(&self, port: u16) -> &Shard {
        &self.shards[usize::from(port) % SHARDS]
    }

    /// Where connections to a destination go on with their search for a port.
    pub(crate) fn perturb(&self, hash: u64) -> &Perturb {
        &self.perturb[hash as usize % PERTURB]
    }

    /// Takes a port, unless somebody else has it and does not share it.
    ///
    /// linux: net/ipv4/inet_connection_sock.c:inet_csk_bind_conflict
    pub(crate) fn bind(
        &self,
        port: u16,
        attrs: BindAttrs,
        wanted: Wanted,
    ) -> Option<Arc<InetBindNode>> {
        let mut shard = self.shard(port).lock();
        let bucket = shard.entry(port).or_default();
        if !bucket.has_room_for(&attrs, wanted) {
            return None;
        }
        bucket.fastreuseport = attrs.reuseport;
        let node = InetBindNode::new(port, attrs);
        bucket.add(&node);
        Some(node)
    }

    /// One that has a port wants to listen: nobody else may, but who shares it by `SO_REUSEPORT`.
    pub(crate) fn may_listen(&self, node: &Arc<InetBindNode>, attrs: BindAttrs) -> bool {
        let mut shard = self.shard(node.port).lock();
        let Some(bucket) = shard.get_mut(&node.port) else { return false };
        let listening = BindAttrs { kind: BindKind::Listen, ..attrs };
        let mut others = bucket.users.iter().filter(|user| !Arc::ptr_eq(user, node));
        let free = attrs.reuseport && bucket.fastreuseport
            || !others.any(|user| listening.conflicts(&user.attrs(), Wanted::Exactly));
        if free {
            bucket.fastreuseport = attrs.reuseport;
            bucket.bound += u32::from(node.kind() == BindKind::Connect);
            node.set(listening);
        }
        free
    }

    /// Takes a port for a connection, if nobody has it by `bind` and `unique` finds the connection's
    /// tuple free with it. A search asks this of thousands of ports: it costs the same however many users
    /// a port has.
    pub(super) fn bind_connect(
        &self,
        port: u16,
        attrs: BindAttrs,
        unique: impl FnOnce() -> bool,
    ) -> Option<Arc<InetBindNode>> {
        let mut shard = self.shard(port).lock();
        if shard.get(&port).is_some_and(|bucket| bucket.bound != 0) || !unique() {
            return None;
        }
        let node = InetBindNode::new(port, BindAttrs { kind: BindKind::Connect, ..attrs });
        shard.entry(port).or_default().add(&node);
        Some(node)
    }

    /// Another socket on a listener's port: the connection that it accepts.
    ///
    /// linux: net/ipv4/inet_hashtables.c:__inet_inherit_port
    pub(crate) fn inherit(&self, port: u16, attrs: BindAttrs) -> Arc<InetBindNode> {
        let node = InetBindNode::new(port, attrs);
        self.shard(port).lock().entry(port).or_default().add(&node);
        node
    }

    /// Gives a port back.
    ///
    /// linux: net/ipv4/inet_hashtables.c:inet_put_port
    pub(crate) fn put(&self, node: &Arc<InetBindNode>) {
        let mut shard = self.shard(node.port).lock();
        if shard.get_mut(&node.port).is_some_and(|bucket| bucket.remove(node)) {
            shard.remove(&node.port);
        }
    }
}

impl Bhash {
    /// No port is in use.
    pub(super) fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.lock().is_empty())
    }
}

impl fmt::Debug for Bhash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: usize = self.shards.iter().map(|shard| shard.lock().len()).sum();
        write!(f, "Bhash({ports} ports)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attrs(rcv_saddr: u32, dev: u16) -> BindAttrs {
        BindAttrs { rcv_saddr, dev, ..BindAttrs::default() }
    }

    #[test]
    fn a_port_is_shared_by_who_agrees_or_never_meets() {
        let hash = Bhash::new(|| 0);
        let one = hash.bind(80, attrs(1, 0), Wanted::Exactly).expect("free");
        assert!(hash.bind(80, attrs(1, 0), Wanted::Exactly).is_none());
        assert!(hash.bind(80, attrs(0, 0), Wanted::Exactly).is_none(), "any is this one, too");
        assert!(hash.bind(80, attrs(2, 0), Wanted::Exactly).is_some());
        assert!(hash.bind(80, attrs(1, 7), Wanted::Exactly).is_none(), "one has no device");
        hash.put(&one);
        let reuse = BindAttrs { reuse: true, ..attrs(1, 0) };
        let first = hash.bind(80, reuse, Wanted::Exactly).expect("free again");
        let second = hash.bind(80, reuse, Wanted::Exactly).expect("both reuse");
        assert!(hash.bind(80, reuse, Wanted::Any).is_none(), "not by accident");
        assert!(hash.may_listen(&first, reuse) && !hash.may_listen(&second, reuse));
    }

    /// As a kernel 6.18 has it: who bound the port keeps connections off it, in TIME_WAIT too, and no longer.
    #[test]
    fn connections_share_a_port_that_nobody_bound() {
        let hash = Bhash::new(|| 0);
        let connect = |addr, free| hash.bind_connect(40_000, attrs(addr, 0), || free);
        let first = connect(1, true).expect("free");
        assert!(connect(1, false).is_none(), "the tuple is taken");
        let second = connect(1, true).expect("shared");
        assert!(hash.bind(40_000, attrs(0, 0), Wanted::Exactly).is_none());
        let beside = hash.bind(40_000, attrs(2, 0), Wanted::Exactly).expect("another address");
        assert!(connect(3, true).is_none(), "somebody bound it");
        hash.put(&beside);
        let third = connect(3, true).expect("he is gone");
        assert!(hash.may_listen(&third, attrs(3, 0)));
        assert!(connect(4, true).is_none(), "it is a listener's now");
        [first, second, third].iter().for_each(|node| hash.put(node));
        assert!(hash.is_empty());
    }

    #[test]
    fn what_is_given_back_leaves_nothing() {
        let hash = Bhash::new(|| 0);
        let node = hash.bind(80, attrs(0, 0), Wanted::Exactly).expect("free");
        let child = hash.inherit(80, attrs(1, 0));
        hash.put(&node);
        hash.put(&child);
        hash.put(&child);
        assert_eq!(format!("{hash:?}"), "Bhash(0 ports)");
    }
}
