//! Raw sockets: IPv4 datagrams of a protocol, headers and all.
//!
//! linux: net/ipv4/raw.c. Key type: [`RawHashinfo`]. Parts: `rx` (delivery and errors), `tx` (sending), `recv`
//! (reading), `proc`. Contexts: each part says. Locks: `class::PortHash`, a bucket's, for one look; then
//! `class::Sock`. Invariant: a socket is in the table from when it is made until it is closed or its peer is freed.
//! DIVERGES: no `MSG_MORE`: EOPNOTSUPP.

mod proc;
pub(in crate::net::ipv4) mod recv;
pub(in crate::net::ipv4) mod rx;
pub(in crate::net::ipv4) mod tx;

pub use proc::raw_seq_show;
pub(crate) use rx::{raw_icmp_error, raw_local_deliver};

use crate::kernel::context::TaskCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::net::core::sock::{Proto, Sock, sk_purge};
use crate::net::ipv4::datagram::{ip4_datagram_connect, udp_disconnect};
use crate::net::ipv4::devinet::inet_addr_type;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use uapi::errno::Errno;
use uapi::icmp::ICMP_FILTER;
use uapi::in_::SOCKADDR_IN_LEN;
use uapi::ip::{IPPROTO_ICMP, IPPROTO_RAW};
use uapi::rtnetlink::{RTN_BROADCAST, RTN_LOCAL, RTN_MULTICAST};
use uapi::socket::{AF_INET, SOCK_RAW, SOL_RAW};

/// Buckets, by protocol.
///
/// linux: include/net/raw.h:RAW_HTABLE_SIZE
const RAW_HTABLE_SIZE: usize = 256;

/// Sockets of a bucket, the latest first.
type Bucket = Arc<[Arc<Sock>]>;

/// The raw sockets of a namespace, by protocol.
///
/// linux: include/net/raw.h:raw_hashinfo
#[derive(Debug)]
pub struct RawHashinfo {
    sockets: AtomicUsize,
    buckets: Box<[SpinLock<Bucket, class::PortHash>]>,
}

impl Default for RawHashinfo {
    fn default() -> Self {
        let buckets = (0..RAW_HTABLE_SIZE).map(|_| SpinLock::default()).collect();
        Self { sockets: AtomicUsize::new(0), buckets }
    }
}

impl RawHashinfo {
    /// There are raw sockets, of whatever protocol.
    #[inline(always)]
    pub(crate) fn any(&self) -> bool {
        self.sockets.load(Ordering::Relaxed) != 0
    }

    /// Those whose protocol's number falls into its bucket.
    fn bucket(&self, protocol: u16) -> &SpinLock<Bucket, class::PortHash> {
        &self.buckets[usize::from(protocol) % RAW_HTABLE_SIZE]
    }

    fn insert(&self, protocol: u16, sk: &Arc<Sock>) {
        let mut bucket = self.bucket(protocol).lock();
        *bucket = [sk].into_iter().chain(&**bucket).map(Arc::clone).collect();
        self.sockets.fetch_add(1, Ordering::SeqCst);
    }

    fn remove(&self, protocol: u16, sk: &Arc<Sock>) {
        let mut bucket = self.bucket(protocol).lock();
        let left: Bucket =
            bucket.iter().filter(|other| !Arc::ptr_eq(other, sk)).map(Arc::clone).collect();
        self.sockets.fetch_sub(bucket.len() - left.len(), Ordering::SeqCst);
        *bucket = left;
    }

    /// All of them, by protocol, the latest first.
    pub fn all_socks(&self) -> Vec<Arc<Sock>> {
        self.buckets.iter().flat_map(|bucket| bucket.lock().to_vec()).collect()
    }
}

/// The functions of raw sockets.
///
/// linux: net/ipv4/raw.c:raw_prot
pub static RAW_PROT: Proto = Proto {
    name: "RAW",
    family: AF_INET,
    kind: (SOCK_RAW, 0),
    level: SOL_RAW,
    sendmsg: tx::raw_sendmsg,
    recvmsg: recv::raw_recvmsg,
    connect: ip4_datagram_connect,
    disconnect: udp_disconnect,
    get_port: |_, _, _| Ok(()),
    unhash: raw_unhash_sk,
    close: raw_close,
    backlog_rcv: rx::raw_backlog_rcv,
    release_cb: None,
    setsockopt: raw_setsockopt,
    getsockopt: raw_getsockopt,
};

/// A new raw socket, which gets what comes of its protocol from now on.
///
/// linux: net/ipv4/af_inet.c:inet_create
pub(crate) fn raw_create(cx: &mut TaskCx, protocol: u16) -> Arc<Sock> {
    let sk = Sock::new(cx, &RAW_PROT);
    {
        let mut state = sk.state();
        sk.set_inet_num(&mut state, protocol);
        // So they are born (`INET_PROTOSW_REUSE`).
        state.opts.reuse = true;
        state.inet.hdrincl = protocol == u16::from(IPPROTO_RAW);
    }
    sk.net.raw.insert(protocol, &sk);
    sk
}

/// Binds to an address.
///
/// # Errors
/// EINVAL for a short address or a socket that is connected; EADDRNOTAVAIL for an address that is not ours.
///
/// linux: net/ipv4/raw.c:raw_bind
pub(crate) fn raw_bind(cx: &mut TaskCx, sk: &Arc<Sock>, name: &[u8]) -> Result<(), Errno> {
    let connected = sk.state().inet.has_dst;
    // The family is not looked at, as in Linux.
    let addr = match name.get(4..8).and_then(|addr| addr.try_into().ok()) {
        Some(addr) if name.len() >= SOCKADDR_IN_LEN && !connected => u32::from_be_bytes(addr),
        _ => return Err(Errno::EINVAL),
    };
    let t = cx.tables();
    let kind = inet_addr_type(&t, addr);
    let mut state = sk.state();
    let free = state.inet.freebind || t.net.sysctl.ip_nonlocal_bind;
    if !free && addr != 0 && !matches!(kind, RTN_LOCAL | RTN_MULTICAST | RTN_BROADCAST) {
        return Err(Errno::EADDRNOTAVAIL);
    }
    let many = matches!(kind, RTN_MULTICAST | RTN_BROADCAST);
    state.inet.rcv_saddr = addr;
    state.inet.saddr = if many { 0 } else { addr };
    Ok(())
}

/// linux: net/ipv4/raw.c:raw_unhash_sk
fn raw_unhash_sk(_: &mut TaskCx, sk: &Arc<Sock>) {
    sk.net.raw.remove(sk.sk_protocol(), sk);
    sk.state().inet.sport = 0;
}

/// linux: net/ipv4/raw.c:raw_close
fn raw_close(cx: &mut TaskCx, sk: &Arc<Sock>) {
    sk.net.raw.remove(sk.sk_protocol(), sk);
    sk_purge(cx, sk);
}

/// Options of `SOL_RAW`: the types of ICMP that it does not want.
///
/// # Errors
/// EOPNOTSUPP for a socket of another protocol; ENOPROTOOPT.
///
/// linux: net/ipv4/raw.c:do_raw_setsockopt
fn raw_setsockopt(_: &mut TaskCx, sk: &Arc<Sock>, name: i32, value: &[u8]) -> Result<(), Errno> {
    icmp_filter_there(sk, name)?;
    let mut state = sk.state();
    let rare = state.rare_mut();
    // As many octets as there are; the others stay.
    let mut filter = rare.icmp_filter.to_ne_bytes();
    let some = value.len().min(4);
    filter[..some].copy_from_slice(&value[..some]);
    rare.icmp_filter = u32::from_ne_bytes(filter);
    Ok(())
}

/// linux: net/ipv4/raw.c:do_raw_getsockopt
fn raw_getsockopt(_: &mut TaskCx, sk: &Arc<Sock>, name: i32, _: usize) -> Result<Vec<u8>, Errno> {
    icmp_filter_there(sk, name)?;
    let filter = sk.state().rare().map_or(0, |rare| rare.icmp_filter);
    Ok(filter.to_ne_bytes().to_vec())
}

fn icmp_filter_there(sk: &Sock, name: i32) -> Result<(), Errno> {
    if name != ICMP_FILTER {
        return Err(Errno::ENOPROTOOPT);
    }
    let icmp = sk.sk_protocol() == u16::from(IPPROTO_ICMP);
    if icmp { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}
