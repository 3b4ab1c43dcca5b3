//! A network namespace: the tables that change with every socket and neighbour, and its secrets.
//!
//! linux: net/core/net_namespace.c, include/net/netns/ipv4.h. Key type: [`Net`].

use crate::kernel::context::TaskCx;
use crate::kernel::machine::Machine;
use crate::kernel::rcupdate::{Tables, update_tables_of};
use crate::net::core::dev::SockFlowTable;
use crate::net::core::dev::default_device_exit;
use crate::net::core::neighbour::NeighTable;
use crate::net::core::snmp::NetMib;
use crate::net::core::stream::TcpMemory;
use crate::net::ipv4::icmp::IcmpLimits;
use crate::net::ipv4::igmp::IgmpTable;
use crate::net::ipv4::inet_hashtables::InetHashinfo;
use crate::net::ipv4::ip_fragment::{IpFrags, ipv4_frags_exit};
use crate::net::ipv4::ping::PingTable;
use crate::net::ipv4::raw::RawHashinfo;
use crate::net::ipv4::route::FnheTable;
use crate::net::ipv4::syncookies::SyncookieSecret;
use crate::net::ipv4::tcp::tcp_sk_exit;
use crate::net::ipv4::tcp_fastopen::FastopenNet;
use crate::net::ipv4::tcp_input::ChallengeAcks;
use crate::net::ipv4::udp::UdpTable;
use crate::net::packet::af_packet::NetnsPacket;
use klib::random::Csprng;
use klib::siphash::SipKey;
use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use uapi::errno::Errno;

/// A namespace's number in its machine; 0 is the first's, which there always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetId(pub u16);

impl NetId {
    /// The namespace that a machine boots with.
    ///
    /// linux: net/core/net_namespace.c:init_net
    pub const INIT: Self = Self(0);
}

/// A network namespace. What is read for every packet and rarely changed is in the snapshot
/// ([`NetTables`](crate::net::core::dev::NetTables)) instead.
#[derive(Debug)]
pub struct Net {
    /// Its number in the machine.
    pub id: NetId,
    /// IPv4 neighbours.
    pub arp_tbl: Arc<NeighTable>,
    /// Packet sockets.
    pub packet: NetnsPacket,
    /// Ping sockets.
    pub ping: PingTable,
    /// Raw IPv4 sockets.
    pub raw: RawHashinfo,
    /// UDP sockets by port.
    pub udp_table: UdpTable,
    /// TCP's tables, secrets and account.
    pub tcp: TcpNet,
    /// Where the readers of flows are.
    pub rps_sock_flow_table: SockFlowTable,
    /// Datagrams that are put together.
    pub(crate) frags: Arc<IpFrags>,
    /// Groups that devices belong to.
    pub igmp: Arc<IgmpTable>,
    /// What is known of the MTU of ways.
    pub fnhe: FnheTable,
    /// ICMP's rate limits.
    pub(crate) icmp: IcmpLimits,
    /// Keys the flow hash.
    pub(crate) flow_key: SipKey,
    /// Keys the IP ID of each destination.
    pub(crate) ident_key: SipKey,
    /// IP ID counters, one for each hash of a destination.
    pub(crate) idents: Box<[AtomicU32]>,
    pub(crate) next_cookie: AtomicU64,
    /// Who polls a device is to look closer: some socket polls for its packets and wants to know who brings them,
    /// or there is another namespace. The first namespace's alone.
    pub(crate) napi_looks: AtomicBool,
    /// Some packet was to be told of when it leaves: until then nobody looks.
    pub(crate) tx_tstamps: AtomicBool,
    /// The first namespace, of any other.
    first: Option<Arc<Self>>,
    /// Tasks in it, and sockets with a descriptor.
    users: AtomicUsize,
}

/// A namespace by one of its tasks or of its sockets with a descriptor: as long as there is one it stays.
#[derive(Debug)]
pub struct NetRef(Arc<Net>);

/// So many are in a namespace that is being taken away: nobody comes into it any more.
const DYING: usize = usize::MAX / 2;

impl NetRef {
    /// There is one more in it; `None` if it is being taken away.
    ///
    /// linux: include/net/net_namespace.h:maybe_get_net
    pub(crate) fn maybe_get_net(net: &Arc<Net>) -> Option<Self> {
        let more = |users| (users < DYING).then_some(users + 1);
        net.users.fetch_update(Ordering::Acquire, Ordering::Relaxed, more).ok()?;
        Some(Self(Arc::clone(net)))
    }
}

impl Clone for NetRef {
    fn clone(&self) -> Self {
        self.0.users.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Deref for NetRef {
    type Target = Arc<Net>;
    #[inline]
    fn deref(&self) -> &Arc<Net> {
        &self.0
    }
}

impl Drop for NetRef {
    fn drop(&mut self) {
        self.0.users.fetch_sub(1, Ordering::Release);
    }
}

/// TCP's part of a namespace.
///
/// linux: include/net/netns/ipv4.h
#[derive(Debug)]
pub struct TcpNet {
    /// Connections, ports, listeners.
    pub hashinfo: InetHashinfo,
    /// Memory, and counts of sockets: one account for all namespaces.
    pub memory: Arc<TcpMemory>,
    /// Keys first sequence numbers.
    pub(crate) seq_key: SipKey,
    /// Keys the offsets of timestamps.
    pub(crate) ts_key: SipKey,
    /// Keys the choice of ports.
    pub(crate) port_key: SipKey,
    /// Keys cookies.
    pub(crate) cookie_secret: SyncookieSecret,
    /// Cookies of fast open.
    pub(crate) fastopen: FastopenNet,
    /// Challenge acknowledgements of this second.
    pub(crate) challenges: ChallengeAcks,
}

/// How many IP ID counters there are.
pub(crate) const IP_IDENTS: usize = 2048;

impl Net {
    /// `born` is this namespace's alone of all that a machine ever has.
    pub(crate) fn new(id: NetId, born: u32, seed: [u8; 32]) -> Self {
        let mut secrets = Csprng::from_seed(seed);
        let mut key = || SipKey([secrets.next_u64(), secrets.next_u64()]);
        let (flow_key, ident_key) = (key(), key());
        let (udp_key, icmp_key) = (key(), key());
        let idents = (0..IP_IDENTS).map(|_| AtomicU32::new(secrets.next_u32())).collect();
        let tcp_seed = std::array::from_fn(|_| secrets.next_u32() as u8);
        let fastopen_key = SipKey([secrets.next_u64(), secrets.next_u64()]);
        let mut key = || SipKey([secrets.next_u64(), secrets.next_u64()]);
        let (frag_key, fnhe_key) = (key(), key());
        Self {
            id,
            arp_tbl: NeighTable::new(),
            packet: NetnsPacket::default(),
            ping: PingTable::default(),
            raw: RawHashinfo::default(),
            udp_table: UdpTable::new(udp_key, born),
            tcp: TcpNet::new(tcp_seed, fastopen_key),
            rps_sock_flow_table: SockFlowTable::default(),
            frags: IpFrags::new(frag_key),
            igmp: Arc::default(),
            fnhe: FnheTable::new(fnhe_key),
            icmp: IcmpLimits::new(icmp_key),
            flow_key,
            ident_key,
            idents,
            next_cookie: AtomicU64::new(1),
            napi_looks: AtomicBool::new(false),
            tx_tstamps: AtomicBool::new(false),
            first: None,
            users: AtomicUsize::new(0),
        }
    }

    /// Another than the first, whose tables are these. It has no account of TCP's memory for itself.
    fn another(id: NetId, seed: [u8; 32], root: &Tables) -> Self {
        let mut net = Self::new(id, root.generation as u32, seed);
        net.tcp.memory = Arc::clone(&root.ns.tcp.memory);
        net.first = Some(Arc::clone(&root.ns));
        net
    }

    /// The first namespace, which has what is the machine's.
    #[inline]
    pub(crate) fn first(&self) -> &Self {
        self.first.as_deref().unwrap_or(self)
    }
}

impl TcpNet {
    fn new(seed: [u8; 32], fastopen_key: SipKey) -> Self {
        let mut secrets = Csprng::from_seed(seed);
        let mut number = || secrets.next_u64();
        let mut key = || SipKey([number(), number()]);
        let keys = [key(), key(), key(), key(), key(), key(), key()];
        Self {
            // What can be seen from outside follows the keys, and is none of their octets.
            hashinfo: InetHashinfo::new([keys[0], keys[1]], || secrets.next_u32()),
            memory: Arc::default(),
            seq_key: keys[2],
            ts_key: keys[3],
            port_key: keys[4],
            cookie_secret: SyncookieSecret([keys[5], keys[6]]),
            fastopen: FastopenNet::new(fastopen_key),
            challenges: ChallengeAcks::default(),
        }
    }
}

/// A namespace as a task looks at it from outside: what files in `/proc/net` are made of.
#[derive(Debug)]
pub struct NetView<'a> {
    /// The machine.
    pub m: &'a Machine,
    /// The namespace's tables.
    pub t: Arc<Tables>,
}

impl<'a> NetView<'a> {
    /// `None` where there is no such namespace.
    pub fn new(m: &'a Machine, net: NetId) -> Option<Self> {
        Some(Self { m, t: m.tables_of(net)? })
    }

    /// The namespace.
    pub fn net(&self) -> &Arc<Net> {
        &self.t.ns
    }

    /// Its counters, of all CPUs. Context: task, on no CPU.
    pub fn mib(&self) -> NetMib {
        self.m.mib_of(self.t.ns.id)
    }
}

/// The first namespace.
impl<'a> From<&'a Machine> for NetView<'a> {
    fn from(m: &'a Machine) -> Self {
        Self { m, t: m.tables() }
    }
}

/// The first namespace.
impl<'a> From<&'a Arc<Machine>> for NetView<'a> {
    fn from(m: &'a Arc<Machine>) -> Self {
        Self { m, t: m.tables() }
    }
}

/// What is made in each namespace, such as its loopback device.
pub type PernetInit = fn(&mut TaskCx) -> Result<(), Errno>;

/// `init` is called in each namespace: in the first now, in another when it is made.
///
/// # Errors
/// Those of `init`.
///
/// linux: net/core/net_namespace.c:register_pernet_device
pub fn register_pernet_device(cx: &mut TaskCx, init: PernetInit) -> Result<(), Errno> {
    init(cx)?;
    let added: Result<(), Infallible> = update_tables_of(cx, NetId::INIT, |t| {
        t.pernet_list.push(init);
        Ok(())
    });
    let Ok(()) = added;
    Ok(())
}

/// So many namespaces a machine has at the most, the first one included.
pub const NETS_MAX: usize = 256;

/// Makes a namespace: nothing is in it but a loopback device, which is down, and the settings that a machine boots
/// with. It stays until [`put_net`].
///
/// # Errors
/// ENOSPC when there are [`NETS_MAX`].
///
/// linux: net/core/net_namespace.c:copy_net_ns
pub fn copy_net_ns(cx: &mut TaskCx) -> Result<NetId, Errno> {
    let m = Arc::clone(cx.machine());
    let seed = cx.local_bh_disable(|bh| std::array::from_fn(|_| bh.cpu.rng.next_u32() as u8));
    let memory = m.depot.cap();
    // It stays while it is made.
    let (id, stays) = update_tables_of(cx, NetId::INIT, |t| {
        let at = t.others.iter().position(Option::is_none).unwrap_or(t.others.len());
        if at >= NETS_MAX - 1 {
            return Err(Errno::ENOSPC);
        }
        let id = NetId(at as u16 + 1);
        let net = Arc::new(Net::another(id, seed, t));
        let stays = NetRef::maybe_get_net(&net);
        let mut tables = Tables::new(net, t.net.another(memory));
        // What was remembered of one that had this number before is stale: none has changed more often than all.
        tables.generation += t.generation;
        t.others.resize(t.others.len().max(at + 1), None);
        t.others[at] = Some(Arc::new(tables));
        Ok((id, stays))
    })?;
    m.net().napi_looks.store(true, Ordering::Relaxed);
    let inits = m.tables().pernet_list.clone();
    let made = cx.in_net(id, |cx| inits.iter().try_for_each(|init| init(cx)));
    made.inspect_err(|_| cleanup(cx, id))?;
    drop(stays);
    Ok(id)
}

/// Takes a namespace away. Its devices go with it, but those that were moved into it: they return to the first
/// one, down.
///
/// # Errors
/// ESRCH when there is not one of that number, EPERM for the first one; EBUSY while there is a task in it, or a socket that has
/// a descriptor.
///
/// linux: net/core/net_namespace.c:put_net
pub fn put_net(cx: &mut TaskCx, id: NetId) -> Result<(), Errno> {
    if id == NetId::INIT {
        return Err(Errno::EPERM);
    }
    let t = cx.machine().tables_of(id).ok_or(Errno::ESRCH)?;
    // From now on nobody enters it: what is changed there is changed by who takes it away.
    let taken = t.ns.users.compare_exchange(0, DYING, Ordering::Acquire, Ordering::Relaxed);
    taken.map_err(|users| if users < DYING { Errno::EBUSY } else { Errno::ESRCH })?;
    drop(t);
    cleanup(cx, id);
    Ok(())
}

/// linux: net/core/net_namespace.c:cleanup_net
fn cleanup(cx: &mut TaskCx, id: NetId) {
    cx.in_net(id, |cx| {
        default_device_exit(cx);
        cleanup_net_here(cx);
    });
    let gone: Result<(), Infallible> = update_tables_of(cx, NetId::INIT, |t| {
        t.others[usize::from(id.0) - 1] = None;
        Ok(())
    });
    let Ok(()) = gone;
    cx.machine().for_each_cpu(|local| local.forget_mib(id));
}

/// The machine ends, and all namespaces: connections that go on without a descriptor do, too, and fragments that
/// wait for others.
///
/// linux: net/core/net_namespace.c:cleanup_net
pub fn cleanup_net(cx: &mut TaskCx) {
    let ids: Vec<NetId> = cx.machine().tables().all().map(|t| t.ns.id).collect();
    for id in ids {
        cx.in_net(id, cleanup_net_here);
    }
}

fn cleanup_net_here(cx: &mut TaskCx) {
    tcp_sk_exit(cx);
    cx.local_bh_disable(ipv4_frags_exit);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports that peers see are chosen by these counters: they begin with numbers that are no key's.
    #[test]
    fn counters_that_show_outside_hold_no_part_of_a_key() {
        let seed = [7; 32];
        let (net, mut keys) = (TcpNet::new(seed, SipKey([0; 2])), Csprng::from_seed(seed));
        let of_keys: Vec<u32> = (0..28).map(|_| keys.next_u32()).collect();
        assert!(of_keys.contains(&(net.seq_key.0[0] as u32)), "these are the keys");
        for n in 0..256 {
            let counter = net.hashinfo.bhash.perturb(n).next();
            assert!(!of_keys.contains(&counter), "counter {n}");
        }
    }
}
