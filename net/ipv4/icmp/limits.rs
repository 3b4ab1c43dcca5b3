//! How many ICMP messages go out: to all together, and to each peer.
//!
//! linux: net/ipv4/icmp.c (`icmp_global_allow`), net/ipv4/inetpeer.c (`inet_peer_xrlim_allow`).
//! Lock: `class::InetPeer`. Invariants: the memory is fixed; an observer can't read the global
//! bucket's exact state from what it lets through (the SAD DNS side channel), since what a message
//! costs is random.

use crate::kernel::context::BhCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::time::Ktime;
use klib::siphash::SipKey;

/// Buckets of peers: peers whose keyed hashes meet share one.
const PEERS: usize = 1024;
/// Messages a peer may get at once after a pause.
///
/// linux: net/ipv4/inetpeer.c:XRLIM_BURST_FACTOR
const XRLIM_BURST_FACTOR: u64 = 6;

/// The buckets of a namespace.
#[derive(Debug)]
pub(crate) struct IcmpLimits {
    key: SipKey,
    buckets: SpinLock<Buckets, class::InetPeer>,
}

#[derive(Debug)]
struct Buckets {
    global: Option<Global>,
    peers: Box<[Peer]>,
}

#[derive(Clone, Copy, Debug)]
struct Global {
    credit: u32,
    stamp: Ktime,
}

#[derive(Clone, Copy, Debug, Default)]
struct Peer {
    tokens_ns: u64,
    last: Ktime,
}

/// Which limit holds a message back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limited {
    Global,
    Host,
}

impl IcmpLimits {
    pub(crate) fn new(key: SipKey) -> Self {
        let peers = vec![Peer::default(); PEERS].into();
        Self { key, buckets: SpinLock::new(Buckets { global: None, peers }) }
    }

    /// May a message of `type_` go to `daddr` now?
    ///
    /// # Errors
    /// The limit that holds it back.
    pub(crate) fn allow(&self, cx: &mut BhCx<'_>, type_: u8, daddr: u32) -> Result<(), Limited> {
        let sysctl = &cx.t.net.sysctl;
        if type_ > 31 || sysctl.icmp_ratemask & 1 << type_ == 0 {
            return Ok(());
        }
        let now = cx.now();
        let price = 1 + cx.cpu.rng.below(3);
        let mut buckets = self.buckets.lock();
        let burst = sysctl.icmp_msgs_burst;
        let global = buckets.global.get_or_insert(Global { credit: burst, stamp: now });
        let earned =
            (now - global.stamp).as_millis() as u64 * u64::from(sysctl.icmp_msgs_per_sec) / 1000;
        if earned > 0 {
            global.credit = (u64::from(global.credit) + earned).min(u64::from(burst)) as u32;
            global.stamp = now;
        }
        if global.credit == 0 {
            return Err(Limited::Global);
        }
        global.credit = global.credit.saturating_sub(price);
        let limit = sysctl.icmp_ratelimit.as_nanos() as u64;
        let peer = &mut buckets.peers[self.key.siphash_1u32(daddr) as usize % PEERS];
        if peer.allow(now, limit) { Ok(()) } else { Err(Limited::Host) }
    }
}

impl Peer {
    fn allow(&mut self, now: Ktime, limit: u64) -> bool {
        if self.last == Ktime::ZERO {
            self.tokens_ns = XRLIM_BURST_FACTOR * limit;
        } else {
            let earned = (now - self.last).as_nanos() as u64;
            self.tokens_ns = self.tokens_ns.saturating_add(earned).min(XRLIM_BURST_FACTOR * limit);
        }
        self.last = now;
        let pays = self.tokens_ns >= limit;
        if pays {
            self.tokens_ns -= limit;
        }
        pays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_gets_a_burst_and_then_one_each_interval() {
        let mut peer = Peer::default();
        let second = 1_000_000_000;
        let at = |ms: u64| Ktime::from_millis(1_000 + ms);
        let burst = (0..10).filter(|_| peer.allow(at(0), second)).count();
        assert_eq!(burst, 6);
        assert!(!peer.allow(at(999), second));
        assert!(peer.allow(at(1_000), second));
        assert!(!peer.allow(at(1_001), second));
    }
}
