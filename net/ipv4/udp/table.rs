//! Which socket has which port, and which gets a datagram.
//!
//! linux: net/ipv4/udp.c (`udp_table`, `udp_lib_get_port`, `__udp4_lib_lookup`).
//! Contexts: lookup in BH, changes by tasks. Locks: `class::PortHash`, a bucket's; then
//! `class::Sock`. Invariant: what a CPU remembers of a lookup is used only while no socket has
//! come, gone or changed since ([`UdpTable::generation`]).

use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::cpu::CpuId;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::net::core::skbuff::SkbList;
use crate::net::core::sock::Sock;
use crate::net::ipv4::igmp::ip_mc_sf_allow;
use klib::siphash::SipKey;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use uapi::errno::Errno;
use uapi::in_::ipv4_is_multicast;

const BUCKETS: usize = 256;
const CACHED: usize = 64;

/// The UDP sockets of a namespace, by port.
///
/// linux: include/net/udp.h:udp_table
pub struct UdpTable {
    generation: AtomicU64,
    /// Sockets that asked for `UDP_GRO` once.
    encap_needed: AtomicUsize,
    key: SipKey,
    buckets: Box<[SpinLock<Vec<Entry>, class::PortHash>]>,
}

impl fmt::Debug for UdpTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UdpTable(generation {})", self.generation.load(Ordering::Relaxed))
    }
}

/// A socket in its bucket, with what a lookup compares: copies of the socket's own fields, changed
/// together with them under the bucket's lock.
#[derive(Clone)]
struct Entry {
    sk: Arc<Sock>,
    num: u16,
    rcv_saddr: u32,
    daddr: u32,
    dport: u16,
    bound_dev_if: u16,
    reuse: bool,
    reuseport: bool,
}

/// Whose datagram it is: addresses and ports as the datagram has them, and the device, in two words,
/// since it is compared with every datagram that comes.
#[derive(Clone, Copy, Debug, Default, Eq)]
pub(crate) struct UdpFlow {
    /// Source address in the upper half, destination in the lower.
    addrs: u64,
    /// From the lowest byte: two bytes of destination port, of source port, of device.
    other: u64,
}

impl PartialEq for UdpFlow {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        (self.addrs ^ other.addrs) | (self.other ^ other.other) == 0
    }
}

impl UdpFlow {
    /// Addresses and ports with the source in the upper half.
    #[inline(always)]
    pub(crate) fn new(addrs: u64, ports: u32, dif: u16) -> Self {
        Self { addrs, other: u64::from(dif) << 32 | u64::from(ports) }
    }

    fn saddr(&self) -> u32 {
        (self.addrs >> 32) as u32
    }

    fn daddr(&self) -> u32 {
        self.addrs as u32
    }

    fn ports(&self) -> u32 {
        self.other as u32
    }

    fn sport(&self) -> u16 {
        (self.other >> 16) as u16
    }

    fn dport(&self) -> u16 {
        self.other as u16
    }

    fn dif(&self) -> u16 {
        (self.other >> 32) as u16
    }
}

/// What a CPU remembers of its last lookups.
pub struct SockCache {
    /// Of the flow that came last: the next datagram is most often of the same.
    last: Option<Arc<Sock>>,
    flow: UdpFlow,
    generation: u64,
    slots: Box<[Option<Kept>; CACHED]>,
}

impl Default for SockCache {
    fn default() -> Self {
        let slots = Box::new([const { None }; CACHED]);
        Self { last: None, flow: UdpFlow::default(), generation: 0, slots }
    }
}

impl fmt::Debug for SockCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.slots.iter().flatten().count() + usize::from(self.last.is_some());
        write!(f, "SockCache({kept} kept)")
    }
}

/// A socket in the cache's slots.
struct Kept {
    sk: Arc<Sock>,
    flow: UdpFlow,
    generation: u64,
}

impl SockCache {
    fn slot(flow: UdpFlow) -> usize {
        let mixed = flow.saddr() ^ flow.ports();
        (mixed.wrapping_mul(0x9e37_79b1) >> 26) as usize % CACHED
    }

    #[inline(always)]
    fn get(&mut self, flow: UdpFlow, generation: u64) -> Option<Arc<Sock>> {
        match &self.last {
            Some(sk) if self.flow == flow && self.generation == generation => Some(Arc::clone(sk)),
            _ => self.get_slot(flow, generation),
        }
    }

    #[inline(never)]
    fn get_slot(&mut self, flow: UdpFlow, generation: u64) -> Option<Arc<Sock>> {
        let slot = &mut self.slots[Self::slot(flow)];
        match slot {
            Some(kept) if kept.generation == generation && kept.flow == flow => {
                let sk = slot.take().map(|kept| kept.sk)?;
                self.keep(flow, generation, &sk);
                Some(sk)
            }
            _ => None,
        }
    }

    /// This is the last flow now; the one before goes to its slot.
    #[inline(never)]
    fn keep(&mut self, flow: UdpFlow, generation: u64, sk: &Arc<Sock>) {
        if let Some(sk) = self.last.replace(Arc::clone(sk)) {
            let before = Kept { sk, flow: self.flow, generation: self.generation };
            self.slots[Self::slot(self.flow)] = Some(before);
        }
        (self.flow, self.generation) = (flow, generation);
    }
}

impl Entry {
    /// How well the socket fits, `None`: not at all. One bound to the address wins over any that is
    /// not, which Linux does not even look at then; else the one bound or connected more closely, and
    /// last the one whose packets this CPU handles.
    ///
    /// linux: net/ipv4/udp.c:compute_score
    fn compute_score(&self, flow: &UdpFlow, cpu: CpuId) -> Option<(bool, u32)> {
        let fits = |own, theirs| own == 0 || own == theirs;
        let matches = self.num == flow.dport()
            && fits(self.rcv_saddr, flow.daddr())
            && fits(self.daddr, flow.saddr())
            && (self.dport == 0 || self.dport == flow.sport())
            && (self.bound_dev_if == 0 || self.bound_dev_if == flow.dif());
        matches.then(|| {
            let closer = u32::from(self.daddr != 0)
                + u32::from(self.dport != 0)
                + u32::from(self.bound_dev_if != 0);
            let here = u32::from(self.sk.incoming_cpu() == Some(cpu));
            (self.rcv_saddr != 0, 4 * closer + here)
        })
    }

    /// It shares what comes with others of its group; a connected socket does not.
    fn in_group(&self) -> bool {
        self.reuseport && self.daddr == 0
    }

    /// Two sockets can't have the same port.
    ///
    /// linux: net/ipv4/udp.c:udp_lib_lport_inuse
    fn conflicts(&self, other: &Self) -> bool {
        let same_dev = self.bound_dev_if == 0
            || other.bound_dev_if == 0
            || self.bound_dev_if == other.bound_dev_if;
        let same_addr =
            self.rcv_saddr == 0 || other.rcv_saddr == 0 || self.rcv_saddr == other.rcv_saddr;
        self.num == other.num
            && !(self.reuse && other.reuse)
            && !(self.reuseport && other.reuseport)
            && same_dev
            && same_addr
    }
}

impl UdpTable {
    /// `born` is this namespace's alone, of all that a machine ever has: what a CPU remembers of one is none of
    /// another's.
    pub(crate) fn new(key: SipKey, born: u32) -> Self {
        let buckets = (0..BUCKETS).map(|_| SpinLock::default()).collect();
        let generation = AtomicU64::new(u64::from(born) << 32);
        Self { generation, encap_needed: AtomicUsize::new(0), key, buckets }
    }

    /// Some socket wants to be looked for before datagrams climb the stack.
    ///
    /// linux: net/ipv4/udp.c:udp_encap_needed_key
    #[inline]
    pub(crate) fn encap_needed(&self) -> bool {
        self.encap_needed.load(Ordering::Relaxed) != 0
    }

    /// A socket does, until it is closed.
    ///
    /// linux: net/ipv4/udp.c:udp_encap_enable
    pub(super) fn udp_encap_enable(&self) {
        self.encap_needed.fetch_add(1, Ordering::Relaxed);
    }

    /// It is.
    ///
    /// linux: net/ipv4/udp.c:udp_encap_disable
    pub(super) fn udp_encap_disable(&self) {
        self.encap_needed.fetch_sub(1, Ordering::Relaxed);
    }

    fn bucket(&self, port: u16) -> &SpinLock<Vec<Entry>, class::PortHash> {
        &self.buckets[usize::from(port) % BUCKETS]
    }

    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Every socket with its bound and connected addresses, in the order of buckets and binding.
    pub fn dump(&self) -> Vec<Arc<Sock>> {
        let all = |bucket: &SpinLock<Vec<Entry>, class::PortHash>| {
            bucket.lock().iter().map(|entry| Arc::clone(&entry.sk)).collect::<Vec<_>>()
        };
        self.buckets.iter().flat_map(all).collect()
    }

    /// The best socket for a datagram; among equals of a `SO_REUSEPORT` group the flow's hash
    /// decides, else the one bound last.
    ///
    /// linux: net/ipv4/udp.c:__udp4_lib_lookup
    fn lookup(&self, flow: &UdpFlow, cpu: CpuId) -> Option<Arc<Sock>> {
        let bucket = self.bucket(flow.dport()).lock();
        let scored = || bucket.iter().filter_map(|e| Some((e.compute_score(flow, cpu)?, e)));
        let best = scored().map(|(score, _)| score).max()?;
        let mut equals = scored().filter(|(score, _)| *score == best).map(|(_, entry)| entry);
        let group = equals.clone().filter(|entry| entry.in_group()).count() as u64;
        if group > 1 {
            let hash =
                self.key.siphash_3u32(flow.saddr(), flow.daddr(), flow.ports()) & 0xffff_ffff;
            let index = ((hash * group) >> 32) as usize;
            return equals.filter(|entry| entry.in_group()).nth(index).map(|e| Arc::clone(&e.sk));
        }
        equals.next_back().map(|entry| Arc::clone(&entry.sk))
    }

    /// Every socket that takes a datagram to many: of one to a group those whose filter lets it in.
    ///
    /// linux: net/ipv4/udp.c:__udp_is_mcast_sock
    pub(super) fn all_matching(&self, flow: &UdpFlow) -> Vec<Arc<Sock>> {
        let bucket = self.bucket(flow.dport()).lock();
        let (group, saddr, dif) = (flow.daddr(), flow.saddr(), flow.dif());
        let allowed =
            |sk: &Sock| !ipv4_is_multicast(group) || ip_mc_sf_allow(&sk.state(), group, saddr, dif);
        let fits = bucket
            .iter()
            .filter(|entry| entry.compute_score(flow, CpuId(0)).is_some() && allowed(&entry.sk));
        fits.map(|entry| Arc::clone(&entry.sk)).collect()
    }

    /// The addresses of a bound socket change: so do those a lookup compares, at once.
    pub(crate) fn rehash(
        &self,
        sk: &Arc<Sock>,
        change: impl FnOnce(&mut crate::net::core::sock::SockState),
    ) {
        let num = sk.state().inet.num;
        let mut bucket = self.bucket(num).lock();
        let mut state = sk.state();
        change(&mut state);
        if let Some(entry) = bucket.iter_mut().find(|entry| Arc::ptr_eq(&entry.sk, sk)) {
            entry.copy_from(&state);
        }
        drop(state);
        self.changed();
    }
}

impl Entry {
    fn copy_from(&mut self, state: &crate::net::core::sock::SockState) {
        self.num = state.inet.num;
        self.rcv_saddr = state.inet.rcv_saddr;
        self.daddr = state.inet.daddr;
        self.dport = state.inet.dport;
        self.bound_dev_if = state.opts.bound_dev_if;
        self.reuse = state.opts.reuse;
        self.reuseport = state.opts.reuseport;
    }
}

/// Finds the socket of a datagram: what this CPU found last for the flow, or by the table.
///
/// linux: net/ipv4/udp.c:__udp4_lib_lookup_skb
#[inline(always)]
pub(crate) fn __udp4_lib_lookup_skb(
    cx: &mut BhCx<'_>,
    list: &SkbList,
    flow: UdpFlow,
) -> Option<Arc<Sock>> {
    walk!(cx, list, __udp4_lib_lookup_skb);
    udp4_lib_lookup(cx, flow)
}

/// The same, for an ICMP error's quote.
#[inline(always)]
pub(crate) fn udp4_lib_lookup(cx: &mut BhCx<'_>, flow: UdpFlow) -> Option<Arc<Sock>> {
    let table = &cx.t.ns.udp_table;
    let generation = table.generation.load(Ordering::Acquire);
    if let Some(sk) = cx.cpu.socks.get(flow, generation) {
        return Some(sk);
    }
    let sk = table.lookup(&flow, cx.cpu.id)?;
    cx.cpu.socks.keep(flow, generation, &sk);
    Some(sk)
}

/// Takes a port for a socket: the one asked for, or a free one of `ip_local_port_range`, tried from
/// a place that nobody can guess (RFC 6056).
///
/// # Errors
/// EADDRINUSE when the port, or every port, is taken.
///
/// linux: net/ipv4/udp.c:udp_v4_get_port
pub(super) fn udp_v4_get_port(cx: &mut TaskCx, sk: &Arc<Sock>, port: u16) -> Result<(), Errno> {
    let net = sk.net.clone();
    let table = &net.udp_table;
    let mut entry = Entry {
        sk: Arc::clone(sk),
        num: 0,
        rcv_saddr: 0,
        daddr: 0,
        dport: 0,
        bound_dev_if: 0,
        reuse: false,
        reuseport: false,
    };
    if port != 0 {
        return if table.insert(&mut entry, port) { Ok(()) } else { Err(Errno::EADDRINUSE) };
    }
    let (low, high) = cx.tables().net.sysctl.ip_local_port_range;
    let count = u32::from(high.saturating_sub(low)) + 1;
    let start = cx.local_bh_disable(|bh| bh.cpu.rng.below(count));
    (0..count)
        .map(|step| low + ((start + step) % count) as u16)
        .find(|port| table.insert(&mut entry, *port))
        .map(|_| ())
        .ok_or(Errno::EADDRINUSE)
}

impl UdpTable {
    /// Enters a socket under `port` unless somebody conflicts; sets the socket's port.
    fn insert(&self, entry: &mut Entry, port: u16) -> bool {
        let mut bucket = self.bucket(port).lock();
        {
            let sk = Arc::clone(&entry.sk);
            let mut state = sk.state();
            entry.copy_from(&state);
            entry.num = port;
            if bucket.iter().any(|there| there.conflicts(entry)) {
                return false;
            }
            sk.set_inet_num(&mut state, port);
        }
        bucket.push(entry.clone());
        self.changed();
        true
    }
}

/// Takes a socket out of the table.
///
/// linux: net/ipv4/udp.c:udp_lib_unhash
pub(super) fn udp_lib_unhash(_cx: &mut TaskCx, sk: &Arc<Sock>) {
    let num = sk.state().inet.num;
    if num == 0 {
        return;
    }
    let table = &sk.net.udp_table;
    table.bucket(num).lock().retain(|entry| !Arc::ptr_eq(&entry.sk, sk));
    {
        let mut state = sk.state();
        sk.set_inet_num(&mut state, 0);
        state.inet.sport = 0;
    }
    table.changed();
}
