//! Links between machines: a plain wire, or one with delay, loss, reordering, duplication and
//! corruption by the world's seed.

use drivers::net::wire_port::{FrameBatch, FrameMeta, WirePort};
use hw::wire::{Carrier, Outside, Wire, WireEnd};
use rand::{Rng, RngExt};
use stack::kernel::time::Ktime;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Frames an end's queue holds.
const CAPACITY: usize = 1024;

/// What a link does to frames, each probability in parts of one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairment {
    /// Time on the way.
    pub delay: Duration,
    /// Up to this much more, by chance.
    pub jitter: Duration,
    /// Lost.
    pub loss: f64,
    /// Sent twice.
    pub duplicate: f64,
    /// Held back behind later ones, by a few times the delay.
    pub reorder: f64,
    /// One bit turned.
    pub corrupt: f64,
}

/// How two ends are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum LinkSpec {
    /// At once, and nothing goes wrong.
    #[default]
    Wire,
    /// By chance, from the world's seed.
    Impaired(Impairment),
}

/// A link with weather: frames on their way, by arrival and number.
#[derive(Debug)]
pub(crate) struct WeatherLink {
    ends: [Outside; 2],
    spec: Impairment,
    on_the_way: BTreeMap<(Ktime, u64), (usize, Vec<u8>, FrameMeta)>,
    sent: u64,
    batch: FrameBatch,
}

/// The two ends of a new link, and its weather if it has any.
pub(crate) fn join(spec: LinkSpec) -> ([Arc<WireEnd>; 2], Option<WeatherLink>) {
    match spec {
        LinkSpec::Wire => {
            let (a, b) = Wire::pair(CAPACITY);
            ([Arc::new(a), Arc::new(b)], None)
        }
        LinkSpec::Impaired(spec) => {
            let (a, outside_a) = WireEnd::open(CAPACITY);
            let (b, outside_b) = WireEnd::open(CAPACITY);
            let link = WeatherLink {
                ends: [outside_a, outside_b],
                spec,
                on_the_way: BTreeMap::new(),
                sent: 0,
                batch: FrameBatch::new(),
            };
            ([Arc::new(a), Arc::new(b)], Some(link))
        }
    }
}

impl WeatherLink {
    /// Takes what was sent onto the way, and off it what has arrived. True if anything moved.
    pub(crate) fn step(&mut self, now: Ktime, rng: &mut impl Rng) -> bool {
        let mut moved = false;
        for side in 0..2 {
            let mut batch = std::mem::take(&mut self.batch);
            while self.ends[side].drain(64, &mut batch) != 0 {
                for (frame, meta) in batch.iter() {
                    self.send(side, frame, *meta, now, rng);
                }
                batch.clear();
                moved = true;
            }
            self.batch = batch;
        }
        while let Some(entry) = self.on_the_way.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let (to, frame, meta) = entry.remove();
            self.ends[to].inject(&frame, meta);
            moved = true;
        }
        moved
    }

    fn send(&mut self, side: usize, frame: &[u8], meta: FrameMeta, now: Ktime, rng: &mut impl Rng) {
        let spec = self.spec;
        let mut chance = |probability: f64| probability > 0.0 && rng.random_bool(probability);
        if chance(spec.loss) {
            return;
        }
        let copies = 1 + usize::from(chance(spec.duplicate));
        let late = chance(spec.reorder);
        let corrupt = chance(spec.corrupt);
        for _ in 0..copies {
            let mut bytes = frame.to_vec();
            let mut meta = meta;
            if corrupt && !bytes.is_empty() {
                let bit = rng.random_range(0..bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                // What left complete may not count as checked any more.
                meta.vnet = None;
            }
            let jitter = spec.jitter.as_nanos() as u64;
            let jitter = if jitter == 0 { 0 } else { rng.random_range(0..=jitter) };
            let hold =
                if late { spec.delay.max(Duration::from_millis(1)) * 3 } else { Duration::ZERO };
            let at = now + spec.delay + Duration::from_nanos(jitter) + hold;
            self.sent += 1;
            self.on_the_way.insert((at, self.sent), (1 - side, bytes, meta));
        }
    }

    /// Frames were sent that have not been taken onto the way.
    pub(crate) fn has_frames(&self) -> bool {
        self.ends.iter().any(|end| end.end().pending() != 0)
    }

    /// When the next frame arrives.
    pub(crate) fn next(&self) -> Option<Ktime> {
        self.on_the_way.first_key_value().map(|((at, _), _)| *at)
    }

    /// What happens to frames from now on.
    pub(crate) fn set_weather(&mut self, weather: Impairment) {
        self.spec = weather;
    }

    /// Sets the carrier at both ends.
    pub(crate) fn set_carrier(&self, up: bool) {
        for end in &self.ends {
            end.set_carrier(if up { Carrier::Up } else { Carrier::Down });
        }
    }
}

/// An end as devices take it.
pub(crate) fn port(end: &Arc<WireEnd>) -> Arc<dyn WirePort> {
    Arc::clone(end) as Arc<dyn WirePort>
}
