//! How interrupts are spread over CPUs by their load, as irqbalance does it.
//!
//! Key type: [`Balancer`]: it is told what was counted in each interval and says what to move. Contexts: any; it
//! touches nothing. An interrupt moves only if the load was uneven for [`PATIENCE`] intervals, the CPU it goes to
//! stays well below the one it leaves, and it has not moved just before: what is even enough stays.

use std::collections::BTreeMap;

/// Intervals that must be uneven, one after the other.
const PATIENCE: u32 = 2;
/// Intervals that an interrupt stays after it was moved.
const REST: u32 = 5;
/// Where an interrupt is moved to, the load stays below the busiest CPU's by so much of that, in hundredths.
const MARGIN: u64 = 20;
/// Interrupts and packets of an interval that are no load worth a move.
const IDLE: u64 = 50;

/// What was counted of an interrupt in an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    /// Its number.
    pub(super) irq: u8,
    /// The CPU that takes it.
    pub(super) cpu: u8,
    /// How often.
    pub(super) count: u64,
    /// CPUs that it may be moved to, by its driver's hint; empty: any.
    pub(super) hint: Vec<u8>,
}

/// An interrupt that is to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) irq: u8,
    pub(super) from: u8,
    pub(super) to: u8,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Balancer {
    uneven: u32,
    /// Intervals for which an interrupt is to stay.
    resting: BTreeMap<u8, u32>,
}

impl Balancer {
    /// An interval is over: `work` is what each CPU that is online did in it, packets say; `counted` its interrupts.
    /// What is to be moved now, one at a time: the next interval shows what came of it.
    pub(super) fn interval(
        &mut self,
        work: &BTreeMap<u8, u64>,
        counted: &[Counted],
    ) -> Option<Move> {
        self.resting.values_mut().for_each(|left| *left -= 1);
        self.resting.retain(|_, left| *left > 0);
        let shares = shares(work, counted);
        let best = self.best(work, counted, &shares);
        self.uneven = if best.is_some() { self.uneven + 1 } else { 0 };
        let chosen = best.filter(|_| self.uneven >= PATIENCE)?;
        self.uneven = 0;
        self.resting.insert(chosen.irq, REST);
        Some(chosen)
    }

    fn best(&self, work: &BTreeMap<u8, u64>, counted: &[Counted], shares: &[u64]) -> Option<Move> {
        let load = |cpu: u8| -> u64 {
            let there = counted.iter().zip(shares).filter(|(irq, _)| irq.cpu == cpu);
            there.map(|(_, share)| share).sum()
        };
        let busiest =
            work.keys().copied().max_by_key(|cpu| (load(*cpu), std::cmp::Reverse(*cpu)))?;
        let most = load(busiest);
        if most < IDLE {
            return None;
        }
        let movable = counted.iter().zip(shares).filter(|(irq, share)| {
            irq.cpu == busiest && **share > 0 && !self.resting.contains_key(&irq.irq)
        });
        let mut best: Option<(u64, Move)> = None;
        for (irq, share) in movable {
            let allowed = |cpu: &u8| irq.hint.is_empty() || irq.hint.contains(cpu);
            let others = work.keys().copied().filter(|cpu| *cpu != busiest).filter(allowed);
            let Some(to) = others.min_by_key(|cpu| (load(*cpu), *cpu)) else { continue };
            let there = load(to) + share;
            // The greater of the two loads, after it.
            let after = (most - share).max(there);
            let better = best.as_ref().is_none_or(|(least, _)| after < *least);
            if there * 100 <= most * (100 - MARGIN) && better {
                best = Some((after, Move { irq: irq.irq, from: busiest, to }));
            }
        }
        best.map(|(_, chosen)| chosen)
    }
}

/// A CPU's work, by the interrupts that brought it.
fn shares(work: &BTreeMap<u8, u64>, counted: &[Counted]) -> Vec<u64> {
    let taken =
        |cpu: u8| -> u64 { counted.iter().filter(|irq| irq.cpu == cpu).map(|irq| irq.count).sum() };
    let share = |irq: &Counted| match taken(irq.cpu) {
        0 => 0,
        all => {
            let done = u128::from(work.get(&irq.cpu).copied().unwrap_or(0).max(all));
            (done * u128::from(irq.count) / u128::from(all)) as u64
        }
    };
    counted.iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn irq(irq: u8, cpu: u8, count: u64) -> Counted {
        Counted { irq, cpu, count, hint: Vec::new() }
    }

    fn work(of: &[u64]) -> BTreeMap<u8, u64> {
        (0..).zip(of.iter().copied()).collect()
    }

    /// Plays intervals in which interrupts keep their counts and go where they are moved.
    fn played(
        balancer: &mut Balancer,
        cpus: u8,
        irqs: &mut [Counted],
        intervals: u32,
    ) -> Vec<Move> {
        let mut moves = Vec::new();
        for _ in 0..intervals {
            let done =
                |cpu| irqs.iter().filter(|irq| irq.cpu == cpu).map(|irq| irq.count * 10).sum();
            let all: BTreeMap<u8, u64> = (0..cpus).map(|cpu| (cpu, done(cpu))).collect();
            if let Some(chosen) = balancer.interval(&all, irqs) {
                irqs.iter_mut()
                    .filter(|irq| irq.irq == chosen.irq)
                    .for_each(|irq| irq.cpu = chosen.to);
                moves.push(chosen);
            }
        }
        moves
    }

    #[test]
    fn what_is_uneven_is_spread_and_then_stays() {
        let mut irqs: Vec<Counted> = (0..8).map(|n| irq(n, 0, 1000)).collect();
        let mut balancer = Balancer::default();
        let moves = played(&mut balancer, 4, &mut irqs, 100);
        assert_eq!(moves.len(), 6, "two stay, each other CPU gets two: {moves:?}");
        for cpu in 0..4 {
            assert_eq!(irqs.iter().filter(|irq| irq.cpu == cpu).count(), 2);
        }
        assert_eq!(played(&mut balancer, 4, &mut irqs, 100), [], "even");
    }

    #[test]
    fn a_moment_is_not_enough_and_little_is_nothing() {
        let mut balancer = Balancer::default();
        let uneven = [irq(1, 0, 1000), irq(2, 0, 1000)];
        let even = [irq(1, 0, 1000), irq(2, 0, 0)];
        for round in 0..20 {
            let now = if round % 2 == 0 { &uneven } else { &even };
            assert_eq!(balancer.interval(&work(&[2000, 0]), now), None);
        }
        let little = [irq(1, 0, 10), irq(2, 0, 10)];
        for _ in 0..20 {
            assert_eq!(balancer.interval(&work(&[20, 0]), &little), None);
        }
    }

    /// Loads that differ by less than a move would change never move anything.
    #[test]
    fn what_is_even_enough_does_not_flap() {
        let mut irqs = vec![irq(1, 0, 1100), irq(2, 1, 900), irq(3, 0, 100)];
        assert_eq!(played(&mut Balancer::default(), 2, &mut irqs, 100), []);
        let mut alone = vec![irq(1, 0, 5000)];
        assert_eq!(
            played(&mut Balancer::default(), 4, &mut alone, 100),
            [],
            "elsewhere it is no better"
        );
    }

    #[test]
    fn the_drivers_hint_is_kept_to() {
        let hinted = |n, hint: &[u8]| Counted { hint: hint.to_vec(), ..irq(n, 0, 1000) };
        let mut irqs = vec![hinted(1, &[0]), hinted(2, &[0, 2]), hinted(3, &[0])];
        let moves = played(&mut Balancer::default(), 4, &mut irqs, 50);
        assert_eq!(moves, [Move { irq: 2, from: 0, to: 2 }]);
    }

    /// The packets of a CPU count, not how often it was interrupted: one interrupt may bring a thousand.
    #[test]
    fn work_counts_not_interrupts() {
        let irqs = [irq(1, 0, 10), irq(2, 0, 10), irq(3, 1, 5000)];
        let mut balancer = Balancer::default();
        let busy = work(&[100_000, 5000]);
        assert_eq!(balancer.interval(&busy, &irqs), None);
        assert_eq!(balancer.interval(&busy, &irqs), Some(Move { irq: 1, from: 0, to: 1 }));
    }

    #[test]
    fn a_cpu_that_is_gone_gets_nothing() {
        let mut balancer = Balancer::default();
        let irqs = [irq(1, 0, 1000), irq(2, 0, 1000)];
        for _ in 0..10 {
            assert_eq!(balancer.interval(&work(&[2000]), &irqs), None);
        }
    }
}
