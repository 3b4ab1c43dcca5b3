//! What routers told of the MTU of ways: exceptions from routes.
//!
//! linux: net/ipv4/route.c (`update_or_create_fnhe`, `find_exception`, `__ip_rt_update_pmtu`); RFC 1191. Key types:
//! [`FnheTable`]. Context: BH. Lock: `class::Fnhe`.
//! Invariants: a chain holds ten exceptions at the most, so the table is bounded; whoever guesses destinations can't
//! tell which of them meet in a chain, nor which goes when one is full.
//! DIVERGES: one table for all next hops, keyed by next hop and destination; Linux has one for each next hop.

use super::{Flow4, ip_route_output_flow};
use crate::kernel::context::BhCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::time::Ktime;
use crate::net::core::dev::DevId;
use crate::net::core::dst::Dst;
use klib::siphash::SipKey;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use uapi::rtnetlink::RTN_UNICAST;

/// Chains of the table.
///
/// linux: include/net/ip_fib.h:FNHE_HASH_SIZE
const FNHE_HASH_SIZE: usize = 2048;

/// A chain with so many exceptions loses its oldest when another comes; up to twice as many, by chance.
///
/// linux: include/net/ip_fib.h:FNHE_RECLAIM_DEPTH
const FNHE_RECLAIM_DEPTH: u32 = 5;

/// What an addition to the generation of the tables can't reach, so that both make one number.
const GENID: u64 = 1 << 40;

/// By which next hop, and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Via {
    dev: DevId,
    gateway: u32,
    daddr: u32,
}

impl Via {
    fn of(dst: &Dst, daddr: u32) -> Self {
        Self { dev: dst.dev, gateway: dst.gateway, daddr }
    }
}

/// An exception.
///
/// linux: include/net/ip_fib.h:fib_nh_exception
#[derive(Clone, Copy, Debug)]
struct FibNhException {
    via: Via,
    pmtu: u32,
    /// A router told of less than the least that is believed: packets may be cut on the way.
    mtu_locked: bool,
    expires: Ktime,
    /// When it was made, changed or used last.
    stamp: Ktime,
}

/// What an exception says to a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fnhe {
    pub pmtu: u32,
    pub mtu_locked: bool,
    pub expires: Ktime,
}

/// The exceptions of a namespace.
pub struct FnheTable {
    key: SipKey,
    /// Grows when a route may have become another, in steps of [`GENID`].
    genid: AtomicU64,
    len: AtomicUsize,
    /// None until there is an exception.
    chains: SpinLock<Vec<Vec<FibNhException>>, class::Fnhe>,
}

impl fmt::Debug for FnheTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FnheTable({} exceptions)", self.len())
    }
}

impl FnheTable {
    /// The most exceptions it holds.
    pub const MAX: usize = FNHE_HASH_SIZE * 2 * FNHE_RECLAIM_DEPTH as usize;

    pub(crate) fn new(key: SipKey) -> Self {
        let (genid, len) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self { key, genid, len, chains: SpinLock::default() }
    }

    /// Exceptions, those among them whose time is up and that nobody has asked for since.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// There is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    fn genid(&self) -> u64 {
        self.genid.load(Ordering::Relaxed)
    }

    /// No route that was made before is used.
    ///
    /// linux: net/ipv4/route.c:rt_cache_flush
    pub(crate) fn rt_cache_flush(&self) {
        self.genid.fetch_add(GENID, Ordering::Release);
    }

    fn chain_of(&self, via: Via) -> usize {
        let dev = u32::from(via.dev.0);
        self.key.siphash_3u32(via.daddr, via.gateway, dev) as usize % FNHE_HASH_SIZE
    }

    /// The exception of a destination.
    ///
    /// linux: net/ipv4/route.c:find_exception
    fn find_exception(&self, via: Via, now: Ktime) -> Option<Fnhe> {
        if self.is_empty() {
            return None;
        }
        let mut chains = self.chains.lock();
        let chain = chains.get_mut(self.chain_of(via))?;
        let at = chain.iter().position(|fnhe| fnhe.via == via)?;
        if chain[at].expires <= now {
            chain.swap_remove(at);
            self.len.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let fnhe = &mut chain[at];
        fnhe.stamp = now;
        Some(Fnhe { pmtu: fnhe.pmtu, mtu_locked: fnhe.mtu_locked, expires: fnhe.expires })
    }

    /// Makes an exception, or another of one; `luck`: how much longer than it must be the chain may be.
    ///
    /// linux: net/ipv4/route.c:update_or_create_fnhe
    fn update_or_create_fnhe(&self, via: Via, new: Fnhe, (now, luck): (Ktime, u32)) {
        let entry = FibNhException {
            via,
            pmtu: new.pmtu,
            mtu_locked: new.mtu_locked,
            expires: new.expires,
            stamp: now,
        };
        let mut chains = self.chains.lock();
        if chains.is_empty() {
            chains.resize(FNHE_HASH_SIZE, Vec::new());
        }
        let number = self.chain_of(via);
        let Some(chain) = chains.get_mut(number) else { return };
        if let Some(fnhe) = chain.iter_mut().find(|fnhe| fnhe.via == via) {
            *fnhe = entry;
        } else {
            let before = chain.len();
            while chain.len() >= (FNHE_RECLAIM_DEPTH + luck) as usize {
                fnhe_remove_oldest(chain);
            }
            chain.push(entry);
            self.len.fetch_add(chain.len(), Ordering::Relaxed);
            self.len.fetch_sub(before, Ordering::Relaxed);
        }
        drop(chains);
        self.genid.fetch_add(GENID, Ordering::Release);
    }

    /// The device's MTU is another: no way by it takes more, and what was as wide as the device is so still.
    ///
    /// linux: net/ipv4/fib_semantics.c:fib_nhc_update_mtu
    pub(crate) fn fib_nhc_update_mtu(&self, dev: DevId, new: u32, orig: u32) {
        if self.is_empty() {
            return;
        }
        let mut chains = self.chains.lock();
        for fnhe in chains.iter_mut().flatten().filter(|fnhe| fnhe.via.dev == dev) {
            if fnhe.mtu_locked {
                if new <= fnhe.pmtu {
                    (fnhe.pmtu, fnhe.mtu_locked) = (new, false);
                }
            } else if new < fnhe.pmtu || orig == fnhe.pmtu {
                fnhe.pmtu = new;
            }
        }
    }

    /// The next hop is gone, and what was known of ways by it.
    ///
    /// linux: net/ipv4/fib_semantics.c:free_nh_exceptions
    pub(crate) fn flush(&self, dev: DevId, gateway: u32) {
        if self.is_empty() {
            return;
        }
        let mut gone = 0;
        for chain in self.chains.lock().iter_mut() {
            let before = chain.len();
            chain.retain(|fnhe| (fnhe.via.dev, fnhe.via.gateway) != (dev, gateway));
            gone += before - chain.len();
        }
        self.len.fetch_sub(gone, Ordering::Relaxed);
    }
}

/// linux: net/ipv4/route.c:fnhe_remove_oldest
fn fnhe_remove_oldest(chain: &mut Vec<FibNhException>) {
    let oldest = chain.iter().enumerate().min_by_key(|(_, fnhe)| fnhe.stamp).map(|(at, _)| at);
    if let Some(at) = oldest {
        chain.swap_remove(at);
    }
}

impl BhCx<'_> {
    /// The number that a route must have been made under to be good still.
    ///
    /// linux: include/net/net_namespace.h:rt_genid_ipv4
    #[inline(always)]
    pub(crate) fn rt_genid(&self) -> u64 {
        self.t.generation + self.t.ns.fnhe.genid()
    }
}

/// Lets a route know what is known of its way.
///
/// linux: net/ipv4/route.c:rt_bind_exception
pub(super) fn rt_bind_exception(cx: &mut BhCx<'_>, dst: &mut Dst, daddr: u32) {
    let table = &cx.t.ns.fnhe;
    if table.is_empty() || dst.rt_type != RTN_UNICAST {
        return;
    }
    let now = cx.now();
    if let Some(fnhe) = table.find_exception(Via::of(dst, daddr), now) {
        dst.bind(fnhe);
    }
}

/// A router tells that packets of this flow are too long for the way, which takes `mtu` octets.
///
/// linux: net/ipv4/route.c:ip_rt_update_pmtu
pub(crate) fn ip_rt_update_pmtu(cx: &mut BhCx<'_>, flow: &Flow4, mtu: u32) {
    if let Ok(dst) = ip_route_output_flow(cx, flow) {
        __ip_rt_update_pmtu(cx, &dst, flow.daddr, mtu);
        cx.cpu.routes.give_back(dst);
    }
}

/// linux: net/ipv4/route.c:__ip_rt_update_pmtu
fn __ip_rt_update_pmtu(cx: &mut BhCx<'_>, dst: &Dst, daddr: u32, mtu: u32) {
    let sysctl = &cx.t.net.sysctl;
    // What is narrower never gets wider by a message, and what is locked stays.
    if dst.mtu_locked || dst.mtu < mtu || dst.rt_type != RTN_UNICAST {
        return;
    }
    let now = cx.now();
    let mtu_locked = mtu < sysctl.min_pmtu;
    let pmtu = if mtu_locked { dst.mtu.min(sysctl.min_pmtu) } else { mtu };
    let known = dst.exception_expires().filter(|_| dst.mtu == pmtu);
    if !mtu_locked && known.is_some_and(|expires| now + sysctl.mtu_expires / 2 < expires) {
        return;
    }
    let luck = cx.cpu.rng.below(FNHE_RECLAIM_DEPTH) + 1;
    let new = Fnhe { pmtu, mtu_locked, expires: now + sysctl.mtu_expires };
    cx.t.ns.fnhe.update_or_create_fnhe(Via::of(dst, daddr), new, (now, luck));
}

#[cfg(test)]
mod tests;
