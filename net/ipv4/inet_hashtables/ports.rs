//! The search for a connection's port.
//!
//! linux: net/ipv4/inet_hashtables.c (`__inet_hash_connect`); RFC 6056 section 3.3.4 (algorithm 4: the places
//! of many destinations in one small table). Key type: [`Perturb`]. Contexts: BH; no locks.
//! DIVERGES: once the ports that are for connections are used up towards a destination, they are not looked at
//! again for its next 64 connections, unless the others are used up, too.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How many connections pass over what was found used up, less one. A search through half the range costs
/// fourteen thousand looks: this is what each connection has to bear of it, in place of all.
const PASSES: u64 = 63;

/// How many ports of a range are chosen from: an even number, unless there is but one.
pub(crate) fn ports_in((low, high): (u16, u16)) -> u32 {
    let ports = u32::from(high.saturating_sub(low)) + 1;
    if ports > 1 { ports & !1 } else { 1 }
}

/// Where connections to a destination go on with their search. Destinations whose hashes agree in eight bits
/// share it: they look at more ports for it, no more.
///
/// linux: net/ipv4/inet_hashtables.c:table_perturb
#[derive(Debug)]
pub(crate) struct Perturb {
    /// Added to the destination's own beginning.
    ports: AtomicU32,
    /// The destination whose first parity was used up when it was last looked at, by all but the low bits of
    /// its hash; in those, how many connections are to pass it over.
    used_up: AtomicU64,
}

impl Perturb {
    /// With ports of somewhere.
    pub(super) fn new(random: u32) -> Self {
        Self { ports: AtomicU32::new(random), used_up: AtomicU64::new(0) }
    }

    /// Offers the ports of a range to `take`, in the order of a connection to the destination with this hash,
    /// until one is taken. How many ports were passed over before it; `None`: all were.
    ///
    /// The ports of the range's first parity are for connections, the others for `bind`, and come only when
    /// those are used up.
    pub(super) fn search(
        &self,
        hash: u64,
        (low, high): (u16, u16),
        mut take: impl FnMut(u16) -> bool,
    ) -> Option<u32> {
        let count = ports_in((low, high));
        let start = (self.next().wrapping_add((hash >> 32) as u32) % count) & !1;
        let mut of_parity = |parity| {
            let port = |step| low + ((start + step) % count + parity) as u16;
            (0..count - parity).step_by(2).find(|step| take(port(*step)))
        };
        if self.passes_over(hash) {
            return of_parity(1).or_else(|| of_parity(0));
        }
        let found = of_parity(0);
        if found.is_none() {
            self.used_up.store(hash & !PASSES | PASSES, Ordering::Relaxed);
        }
        found.or_else(|| of_parity(1))
    }

    /// What is added to a destination's own beginning now.
    pub(crate) fn next(&self) -> u32 {
        self.ports.load(Ordering::Relaxed)
    }

    /// The next search begins behind what this one has seen.
    pub(super) fn go_on_behind(&self, steps: u32) {
        self.ports.fetch_add(steps + 2, Ordering::Relaxed);
    }

    fn passes_over(&self, hash: u64) -> bool {
        let used_up = self.used_up.load(Ordering::Relaxed);
        let passes = used_up & !PASSES == hash & !PASSES && used_up & PASSES != 0;
        if passes {
            self.used_up.store(used_up - 1, Ordering::Relaxed);
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const RANGE: (u16, u16) = (32_768, 60_999);
    const HASH: u64 = 0x0123_4567_89ab_cdef;

    /// The ports of a destination, and how often one was looked at.
    struct Ports {
        perturb: Perturb,
        range: (u16, u16),
        taken: BTreeSet<u16>,
        looks: u32,
    }

    impl Ports {
        fn new(range: (u16, u16)) -> Self {
            Self { perturb: Perturb::new(7), range, taken: BTreeSet::new(), looks: 0 }
        }

        fn connect(&mut self, jump: u32) -> Option<u16> {
            let mut got = None;
            let steps = self.perturb.search(HASH, self.range, |port| {
                self.looks += 1;
                let free = self.taken.insert(port);
                got = free.then_some(port);
                free
            });
            self.perturb.go_on_behind(steps?.max(jump));
            got
        }
    }

    /// Linux looks at the even ports before each odd one it takes: 14,116 times 14,116 looks for these.
    #[test]
    fn every_port_of_a_range_costs_a_few_looks() {
        let mut ports = Ports::new(RANGE);
        for n in 0..28_232_u32 {
            let got = ports.connect(n * 7 % 8 * 2).expect("one is left");
            assert_eq!(u32::from(got % 2), n / 14_116, "even ones first, then the others");
        }
        assert!(ports.looks < 28_232 * 130, "{} looks", ports.looks);
        ports.looks = 0;
        assert_eq!(ports.connect(0), None);
        assert_eq!(ports.looks, 28_232, "each port once");
    }

    #[test]
    fn what_becomes_free_is_found_at_once_or_a_little_later() {
        let mut ports = Ports::new((1000, 1009));
        for _ in 0..10 {
            ports.connect(0).expect("free");
        }
        assert_eq!(ports.connect(0), None);
        ports.taken.remove(&1004);
        assert_eq!(ports.connect(0), Some(1004), "the last one, whatever its parity");
        ports.taken.clear();
        let got: Vec<u16> = (0..70)
            .map(|_| {
                let got = ports.connect(0).expect("all are free");
                ports.taken.remove(&got);
                got
            })
            .collect();
        let odd = got.iter().take_while(|port| *port % 2 != 0).count();
        assert!(odd < 64 && got[odd..].iter().all(|port| port % 2 == 0), "{got:?}");
    }

    #[test]
    fn one_destination_used_up_says_nothing_of_another() {
        let perturb = Perturb::new(0);
        let taken = |hash| perturb.search(hash, (1000, 1009), |port| port % 2 != 0);
        assert!(taken(HASH).is_some());
        assert_ne!(perturb.used_up.load(Ordering::Relaxed), 0);
        let mut first = None;
        perturb.search(HASH ^ 1 << 40, (1000, 1009), |port| {
            first.get_or_insert(port);
            true
        });
        assert!(first.is_some_and(|port| port % 2 == 0), "{first:?}");
    }

    #[test]
    fn ports_stay_in_the_range() {
        for range in [(1, 1), (1, 2), (9, 5), (1000, 1002), (65_535, 65_535), (32_768, 60_999)] {
            for random in [0, 1, u32::MAX] {
                let perturb = Perturb::new(random);
                let mut seen = BTreeSet::new();
                let found = perturb.search(u64::MAX, range, |port| {
                    assert!(seen.insert(port), "{port} twice");
                    false
                });
                assert_eq!(found, None);
                assert!(
                    seen.iter().all(|port| *port == range.0 || (range.0..=range.1).contains(port))
                );
                assert_eq!(seen.len() as u32, ports_in(range));
            }
        }
    }
}
