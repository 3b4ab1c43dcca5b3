//! Links between machines: a plain wire, or one with a bandwidth and a queue before it, with delay, loss,
//! reordering, duplication and corruption by the world's seed.

use drivers::net::wire_port::{FrameBatch, FrameMeta, WirePort};
use hw::wire::{Carrier, Outside, Wire, WireEnd};
use rand::{Rng, RngExt};
use stack::kernel::time::Ktime;
use std::collections::BTreeMap;
use std::num::NonZeroU64;
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
    /// Lost as well, by count and not by chance.
    pub losses: Option<Losses>,
    /// How fast it is, each way; `None`: as fast as one likes.
    pub bottleneck: Option<Bottleneck>,
    /// What becomes of single segments of TCP from the first end, by their number among those that have data,
    /// from 1 on: not by chance.
    pub fates: &'static [(u32, Fate)],
}

/// What becomes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is lost.
    Lost,
    /// It takes so much longer.
    Late(Duration),
}

/// Losses that depend on nothing but how many frames came before: two stacks that are compared lose the same ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Losses {
    /// Which ones.
    pub seed: u64,
    /// How many, in parts of one.
    pub rate: f64,
    /// The number of one that is lost in any case, from 1; 0: none is.
    pub surely: u64,
    /// Frames of fewer octets are neither counted nor lost: acknowledgements, and what opens a connection.
    pub least: usize,
}

impl Losses {
    /// Whether this frame of one way is lost, of which so many came before it; counts it.
    pub fn lose(&self, frame: usize, before: &mut u64) -> bool {
        if frame < self.least {
            return false;
        }
        *before += 1;
        if *before == self.surely {
            return true;
        }
        // Steele, Lea and Flood, Fast splittable pseudorandom number generators (2014): SplitMix64, which gives the
        // nth number of a seed without those before it.
        let mut z = self.seed.wrapping_add(before.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The upper 53 bits, as many as a fraction has.
        ((z >> 11) as f64) < self.rate * (1_u64 << 53) as f64
    }
}

/// A bandwidth, and the queue of those that wait for it. What weather does to a frame it does behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bottleneck {
    /// Octets a second.
    pub rate: NonZeroU64,
    /// Octets of the queue, with what is being sent; a frame that would make it longer is lost. One that finds
    /// nothing there is taken, however long it is.
    pub queue: u32,
    /// A frame of an ECN-capable transport that finds so many octets is marked; `None`: none is.
    pub mark: Option<u32>,
}

/// What a bottleneck did one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BottleneckStats {
    /// Octets that it sent.
    pub octets: u64,
    /// Frames lost to a full queue.
    pub dropped: u64,
    /// Frames marked.
    pub marked: u64,
    /// The most octets that the queue held, with the frame that came last.
    pub longest: u32,
}

/// One way through a bottleneck.
#[derive(Debug, Default)]
pub struct Queue {
    /// When all that was taken has been sent.
    free_at: Ktime,
    stats: BottleneckStats,
    /// Frames that [`Losses`] counted.
    counted: u64,
}

impl Queue {
    /// Takes a frame: when its last octet is sent; `None`: the queue is full. Marks it if it is due.
    pub fn take(&mut self, frame: &mut [u8], now: Ktime, spec: &Bottleneck) -> Option<Ktime> {
        let waits = self.free_at.since(now).as_nanos();
        let held = (waits * u128::from(spec.rate.get())).div_ceil(1_000_000_000) as u64;
        let after = held + frame.len() as u64;
        if held != 0 && after > u64::from(spec.queue) {
            self.stats.dropped += 1;
            return None;
        }
        if spec.mark.is_some_and(|most| held >= u64::from(most)) && mark_ce(frame) {
            self.stats.marked += 1;
        }
        self.stats.longest = self.stats.longest.max(after as u32);
        self.stats.octets += frame.len() as u64;
        let takes = (frame.len() as u64 * 1_000_000_000).div_ceil(spec.rate.get());
        self.free_at = self.free_at.max(now) + Duration::from_nanos(takes);
        Some(self.free_at)
    }
}

/// Marks an IPv4 packet of an ECN-capable transport (RFC 3168 section 5); false for anything else.
fn mark_ce(frame: &mut [u8]) -> bool {
    const TYPE: usize = 12;
    const TOS: usize = 15;
    const CHECK: usize = 24;
    if frame.get(TYPE..TYPE + 2) != Some(&[8, 0]) || frame.len() < CHECK + 2 {
        return false;
    }
    let ecn = frame[TOS] & 3;
    if ecn == 0 || ecn == 3 {
        return ecn == 3;
    }
    // RFC 1624: the sum without the old bits and with the new.
    let before = !u32::from(u16::from_be_bytes([frame[CHECK], frame[CHECK + 1]])) & 0xffff;
    let sum = before + u32::from(3 - ecn);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    frame[CHECK..CHECK + 2].copy_from_slice(&sum.to_be_bytes());
    frame[TOS] |= 3;
    true
}

/// An Ethernet frame with a TCP segment over IPv4 that has data.
fn has_tcp_data(frame: &[u8]) -> bool {
    const ETH: usize = 14;
    let Some([0x08, 0x00, ip @ ..]) = frame.get(ETH - 2..) else { return false };
    let [version_ihl, _, len_high, len_low, ..] = ip else { return false };
    let total = usize::from(u16::from_be_bytes([*len_high, *len_low]));
    let ihl = usize::from(version_ihl & 15) * 4;
    let (Some(6), Some(offset)) = (ip.get(9), ip.get(ihl + 12)) else { return false };
    total > ihl + usize::from(offset >> 4) * 4
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
    /// Segments with data from the first end.
    data_segments: u32,
    batch: FrameBatch,
    /// By the side that frames come from.
    queues: [Queue; 2],
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
                data_segments: 0,
                batch: FrameBatch::new(),
                queues: Default::default(),
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
        let mut later = Duration::ZERO;
        if side == 0 && !spec.fates.is_empty() && has_tcp_data(frame) {
            self.data_segments += 1;
            match spec.fates.iter().find(|(number, _)| *number == self.data_segments) {
                Some((_, Fate::Lost)) => return,
                Some((_, Fate::Late(time))) => later = *time,
                None => {}
            }
        }
        let mut frame = frame.to_vec();
        let mut sent_at = now;
        if let Some(bottleneck) = &spec.bottleneck {
            match self.queues[side].take(&mut frame, now, bottleneck) {
                Some(at) => sent_at = at,
                None => return,
            }
        }
        let counted = &mut self.queues[side].counted;
        if spec.losses.is_some_and(|losses| losses.lose(frame.len(), counted)) {
            return;
        }
        let mut chance = |probability: f64| probability > 0.0 && rng.random_bool(probability);
        if chance(spec.loss) {
            return;
        }
        let copies = 1 + usize::from(chance(spec.duplicate));
        let late = chance(spec.reorder);
        let corrupt = chance(spec.corrupt);
        for _ in 0..copies {
            let mut bytes = frame.clone();
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
            let at = sent_at + spec.delay + Duration::from_nanos(jitter) + hold + later;
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

    /// What the bottleneck did to what came from a side, since this was last asked.
    pub(crate) fn take_bottleneck_stats(&mut self, side: usize) -> BottleneckStats {
        std::mem::take(&mut self.queues[side].stats)
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

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: usize = 1000;

    fn bottleneck(queue: u32, mark: Option<u32>) -> Bottleneck {
        // A frame takes a millisecond.
        Bottleneck { rate: NonZeroU64::new(1_000_000).expect("not 0"), queue, mark }
    }

    fn take(queue: &mut Queue, at_us: u64, spec: &Bottleneck) -> Option<u64> {
        let sent = queue.take(&mut [0; FRAME], Ktime(at_us * 1000), spec);
        sent.map(|at| at.as_nanos() / 1000)
    }

    #[test]
    fn frames_are_sent_one_after_the_other() {
        let (mut queue, spec) = (Queue::default(), bottleneck(10_000, None));
        let times = [0, 0, 500, 2_500, 10_000].map(|at| take(&mut queue, at, &spec));
        assert_eq!(times, [1_000, 2_000, 3_000, 4_000, 11_000].map(Some));
        assert_eq!(queue.stats.octets, 5 * FRAME as u64);
    }

    #[test]
    fn the_same_frames_are_lost_whoever_sends_them() {
        let losses = Losses { seed: 7, rate: 0.01, surely: 0, least: 200 };
        let lost = |losses: Losses, acks: bool| -> Vec<u64> {
            let mut before = 0;
            let mut lose = |nth: u64| {
                assert!(!acks || !losses.lose(66, &mut before), "it is too short");
                losses.lose(1514, &mut before).then_some(nth)
            };
            (0..100_000).filter_map(&mut lose).collect()
        };
        let first = lost(losses, false);
        assert_eq!(first, lost(losses, true));
        assert!((900..1100).contains(&first.len()), "{}", first.len());
        assert_ne!(first, lost(Losses { seed: 8, ..losses }, false));
        assert_eq!(lost(Losses { rate: 0.0, ..losses }, false), [0; 0]);
        assert_eq!(lost(Losses { rate: 0.0, surely: 40, ..losses }, true), [39]);
        assert_eq!(lost(Losses { rate: 1.0, ..losses }, false).len(), 100_000);
    }

    #[test]
    fn a_full_queue_loses_what_comes_last_and_an_empty_one_nothing() {
        let (mut queue, spec) = (Queue::default(), bottleneck(3_500, None));
        let times = [0, 0, 0, 0, 499, 500].map(|at| take(&mut queue, at, &spec));
        assert_eq!(times, [Some(1_000), Some(2_000), Some(3_000), None, None, Some(4_000)]);
        assert_eq!((queue.stats.dropped, queue.stats.longest), (2, 3_500));
        // However short the queue, a link that is idle takes a frame.
        let (mut queue, spec) = (Queue::default(), bottleneck(10, None));
        let times = [0, 0, 1_000].map(|at| take(&mut queue, at, &spec));
        assert_eq!(times, [Some(1_000), None, Some(2_000)]);
    }

    #[test]
    fn segments_with_data_are_told_apart() {
        let frame = |kind: u16, protocol: u8, data: u16| {
            let mut frame = vec![0; 54 + usize::from(data)];
            frame[12..14].copy_from_slice(&kind.to_be_bytes());
            frame[14] = 0x45;
            frame[16..18].copy_from_slice(&(40 + data).to_be_bytes());
            (frame[23], frame[46]) = (protocol, 0x50);
            frame
        };
        assert!(has_tcp_data(&frame(0x0800, 6, 1)));
        for none in [frame(0x0800, 6, 0), frame(0x0800, 17, 1), frame(0x0806, 6, 1), vec![0; 13]] {
            assert!(!has_tcp_data(&none));
        }
        let whole = frame(0x0800, 6, 1);
        (0..47).for_each(|len| assert!(!has_tcp_data(&whole[..len])));
    }

    #[test]
    fn who_understands_it_is_marked_beyond_the_threshold() {
        let (mut queue, spec) = (Queue::default(), bottleneck(100_000, Some(2_000)));
        let mut marked = Vec::new();
        for ecn in [2, 2, 2, 1, 0, 3] {
            let mut frame = [0; FRAME];
            frame[12..14].copy_from_slice(&[8, 0]);
            frame[14..34].copy_from_slice(&[
                0x45,
                0xb8 | ecn,
                3,
                0xda,
                0x12,
                0x34,
                0x40,
                0,
                64,
                6,
                0,
                0,
                192,
                0,
                2,
                1,
                192,
                0,
                2,
                2,
            ]);
            let sum = klib::checksum::csum_fold(klib::checksum::csum_partial(&frame[14..34], 0));
            frame[24..26].copy_from_slice(&sum.to_be_bytes());
            assert!(queue.take(&mut frame, Ktime::ZERO, &spec).is_some());
            let sum = klib::checksum::csum_fold(klib::checksum::csum_partial(&frame[14..34], 0));
            assert_eq!(sum, 0, "the header's sum is right");
            assert_eq!(frame[15] >> 2, 0xb8 >> 2);
            marked.push(frame[15] & 3);
        }
        assert_eq!(marked, [2, 2, 3, 3, 0, 3]);
        // ARP has no such bits.
        let mut frame = [0; FRAME];
        frame[12..14].copy_from_slice(&[8, 6]);
        frame[15] = 2;
        assert!(queue.take(&mut frame, Ktime::ZERO, &spec).is_some());
        assert_eq!((frame[15], queue.stats.marked), (2, 3));
    }
}
