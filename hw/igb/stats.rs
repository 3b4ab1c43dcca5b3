//! Statistics registers: they count up and stick, and clear when read.

use drivers::net::ethernet::intel::igb::e1000_regs::*;

const WORDS: usize = ((E1000_STATS_END - E1000_STATS_FIRST) / 4) as usize;

/// Low halves of the 64-bit counters.
const WIDE: [u32; 6] =
    [E1000_GORCL, E1000_GOTCL, E1000_TORL, E1000_TOTL, E1000_HGORCL, E1000_HGOTCL];

/// All statistics registers.
pub(super) struct Stats([u32; WORDS]);

/// Direction that a frame is counted in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Received,
    Sent,
}

fn word(reg: u32) -> usize {
    (reg.wrapping_sub(E1000_STATS_FIRST) / 4) as usize
}

impl Stats {
    pub(super) fn new() -> Self {
        Self([0; WORDS])
    }

    /// Whether the register is a statistic.
    pub(super) fn holds(reg: u32) -> bool {
        (E1000_STATS_FIRST..E1000_STATS_END).contains(&reg)
    }

    pub(super) fn inc(&mut self, reg: u32) {
        self.add(reg, 1);
    }

    pub(super) fn add(&mut self, reg: u32, n: u32) {
        if let Some(w) = self.0.get_mut(word(reg)) {
            *w = w.saturating_add(n);
        }
    }

    fn add_wide(&mut self, low: u32, n: usize) {
        let at = word(low);
        if let Some([lo, hi]) = self.0.get_mut(at..at + 2) {
            let sum = (u64::from(*hi) << 32 | u64::from(*lo)).saturating_add(n as u64);
            (*lo, *hi) = (sum as u32, (sum >> 32) as u32);
        }
    }

    /// Reads and clears; of a pair the low half stays until the high half is read.
    pub(super) fn read(&mut self, reg: u32) -> u32 {
        let at = word(reg);
        let Some(&value) = self.0.get(at) else {
            return 0;
        };
        if WIDE.contains(&reg) {
            return value;
        }
        self.0[at] = 0;
        if WIDE.contains(&reg.wrapping_sub(4)) {
            self.0[at - 1] = 0;
        }
        value
    }

    /// Counts a good frame of `len` bytes without its CRC;
    pub(super) fn good_frame(&mut self, direction: Direction, frame: &[u8]) {
        let rx = direction == Direction::Received;
        let len = frame.len() + 4;
        let size = match len {
            ..=64 => 0,
            65..=127 => 1,
            128..=255 => 2,
            256..=511 => 3,
            512..=1023 => 4,
            _ => 5,
        };
        self.inc(if rx { E1000_PRC64 } else { E1000_PTC64 } + 4 * size);
        self.inc(if rx { E1000_GPRC } else { E1000_GPTC });
        self.inc(if rx { E1000_TPR } else { E1000_TPT });
        self.inc(if rx { E1000_RPTHC } else { E1000_HGPTC });
        for low in if rx {
            [E1000_GORCL, E1000_TORL, E1000_HGORCL]
        } else {
            [E1000_GOTCL, E1000_TOTL, E1000_HGOTCL]
        } {
            self.add_wide(low, len);
        }
        match frame.get(..6) {
            Some([0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]) => {
                self.inc(if rx { E1000_BPRC } else { E1000_BPTC })
            }
            Some([first, ..]) if first & 1 != 0 => {
                self.inc(if rx { E1000_MPRC } else { E1000_MPTC })
            }
            _ => {}
        }
    }

    /// Counts octets of a frame that was received and not kept.
    pub(super) fn seen_frame(&mut self, frame: &[u8]) {
        self.inc(E1000_TPR);
        self.add_wide(E1000_TORL, frame.len() + 4);
    }
}
