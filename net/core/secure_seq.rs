//! Numbers a connection begins with, which nobody outside can foretell.
//!
//! linux: net/core/secure_seq.c. Key type: [`TcpTuple`]. RFC 6528 (sequence numbers), RFC 7323
//! section 5.4 (timestamps), RFC 6056 section 3.3.4 (ports). Contexts: any; nothing is kept. The keys are the
//! network's secrets, one for each purpose.

use crate::kernel::time::Ktime;
use klib::siphash::SipKey;
use std::net::Ipv4Addr;

/// Both ends of a connection, as the packets of one way name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TcpTuple {
    /// Source address.
    pub saddr: Ipv4Addr,
    /// Source port.
    pub sport: u16,
    /// Destination address.
    pub daddr: Ipv4Addr,
    /// Destination port.
    pub dport: u16,
}

impl TcpTuple {
    /// As the packets of the other way name it.
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { saddr: self.daddr, sport: self.dport, daddr: self.saddr, dport: self.sport }
    }

    /// Both ports in one word.
    pub(crate) fn ports(&self) -> u32 {
        u32::from(self.sport) << 16 | u32::from(self.dport)
    }
}

/// A clock of 64 ns: it goes round in 274 s, more than a segment lives.
///
/// linux: net/core/secure_seq.c:seq_scale
fn seq_scale(hash: u32, now: Ktime) -> u32 {
    hash.wrapping_add((now.as_nanos() >> 6) as u32)
}

/// The first sequence number of a connection: those of one tuple rise with time, of two have nothing
/// to do with each other.
///
/// linux: net/core/secure_seq.c:secure_tcp_seq
pub fn secure_tcp_seq(key: &SipKey, tuple: &TcpTuple, now: Ktime) -> u32 {
    let hash = key.siphash_3u32(tuple.saddr.to_bits(), tuple.daddr.to_bits(), tuple.ports());
    seq_scale(hash as u32, now)
}

/// What is added to the clock of timestamps towards a host. It is the same for all connections of two
/// hosts, so that the timestamps of one after the other rise.
///
/// linux: net/core/secure_seq.c:secure_tcp_ts_off
pub fn secure_tcp_ts_off(key: &SipKey, saddr: Ipv4Addr, daddr: Ipv4Addr) -> u32 {
    key.siphash_2u32(saddr.to_bits(), daddr.to_bits()) as u32
}

/// Where the search for a free port towards a peer begins.
///
/// linux: net/core/secure_seq.c:secure_ipv4_port_ephemeral
pub fn secure_ipv4_port_ephemeral(
    key: &SipKey,
    saddr: Ipv4Addr,
    daddr: Ipv4Addr,
    dport: u16,
) -> u64 {
    key.siphash_3u32(saddr.to_bits(), daddr.to_bits(), dport.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const KEY: SipKey = SipKey([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210]);
    const OTHER: SipKey = SipKey([0x0123_4567_89ab_cdee, 0xfedc_ba98_7654_3210]);

    fn tuple(sport: u16) -> TcpTuple {
        TcpTuple {
            saddr: Ipv4Addr::new(192, 0, 2, 1),
            sport,
            daddr: Ipv4Addr::new(198, 51, 100, 7),
            dport: 80,
        }
    }

    #[test]
    fn a_tuples_numbers_rise_by_one_in_64_ns() {
        let at = |ns| secure_tcp_seq(&KEY, &tuple(4000), Ktime(ns));
        let first = at(0);
        assert_eq!(at(63), first);
        assert_eq!(at(64), first.wrapping_add(1));
        assert_eq!(at(64_000_000), first.wrapping_add(1_000_000));
        // Round in 274 s, without a jump.
        assert_eq!(at(64 << 32), first);
        assert_eq!(at((64 << 32) - 1), first.wrapping_sub(1));
        assert_eq!(at(u64::MAX), first.wrapping_sub(1));
    }

    #[test]
    fn tuples_that_differ_in_one_bit_have_numbers_of_their_own() {
        let base = tuple(4000);
        let mut seen = BTreeSet::new();
        assert!(seen.insert(secure_tcp_seq(&KEY, &base, Ktime::ZERO)));
        for bit in 0..32 {
            let flip = |addr: Ipv4Addr| Ipv4Addr::from_bits(addr.to_bits() ^ 1 << bit);
            let near = [
                TcpTuple { saddr: flip(base.saddr), ..base },
                TcpTuple { daddr: flip(base.daddr), ..base },
                TcpTuple { sport: base.sport ^ 1 << (bit % 16), ..base },
                TcpTuple { dport: base.dport ^ 1 << (bit % 16), ..base },
            ];
            for tuple in &near[..if bit < 16 { 4 } else { 2 }] {
                assert!(seen.insert(secure_tcp_seq(&KEY, tuple, Ktime::ZERO)), "{tuple:?}");
            }
        }
        assert!(seen.insert(secure_tcp_seq(&KEY, &base.reversed(), Ktime::ZERO)));
        assert_eq!(base.reversed().reversed(), base);
    }

    /// Whoever knows the numbers of many connections learns nothing of the next: the differences are
    /// spread over the whole range, and another key gives others.
    #[test]
    fn without_the_key_there_is_no_prediction() {
        let seq = |key: &SipKey, port| secure_tcp_seq(key, &tuple(port), Ktime::ZERO);
        let steps: Vec<u32> =
            (1..4097).map(|port| seq(&KEY, port + 1).wrapping_sub(seq(&KEY, port))).collect();
        let mut buckets = [0_u32; 16];
        steps.iter().for_each(|step| buckets[(step >> 28) as usize] += 1);
        assert!(buckets.iter().all(|n| (180..340).contains(n)), "{buckets:?}");
        assert_eq!(steps.iter().collect::<BTreeSet<_>>().len(), steps.len());
        let shared = (1..4097).filter(|port| seq(&KEY, *port) == seq(&OTHER, *port)).count();
        assert_eq!(shared, 0);
    }

    #[test]
    fn timestamps_are_offset_by_hosts_not_by_ports() {
        let [a, b] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
        assert_eq!(secure_tcp_ts_off(&KEY, a, b), secure_tcp_ts_off(&KEY, a, b));
        assert_ne!(secure_tcp_ts_off(&KEY, a, b), secure_tcp_ts_off(&KEY, b, a));
        assert_ne!(secure_tcp_ts_off(&KEY, a, b), secure_tcp_ts_off(&KEY, a, a));
        assert_ne!(secure_tcp_ts_off(&KEY, a, b), secure_tcp_ts_off(&OTHER, a, b));
    }

    #[test]
    fn the_search_for_a_port_begins_anywhere() {
        let [a, b] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)];
        let hash = |key: &SipKey, port| secure_ipv4_port_ephemeral(key, a, b, port);
        assert_eq!(hash(&KEY, 80), hash(&KEY, 80));
        let mut buckets = [0_u32; 16];
        (0..4096).for_each(|port| buckets[(hash(&KEY, port) % 16) as usize] += 1);
        assert!(buckets.iter().all(|n| (180..340).contains(n)), "{buckets:?}");
        assert_ne!(hash(&KEY, 80), hash(&OTHER, 80));
        assert_ne!(hash(&KEY, 80), secure_ipv4_port_ephemeral(&KEY, b, a, 80));
        assert_ne!(hash(&KEY, 80) >> 32, 0, "all 64 bits");
    }
}
