//! Frames as lines, as tcpdump writes them.
//!
//! Key type: [`Printer`]. Parts: `ether` (links, ARP), `ip`, `tcp`, `messages` (UDP, ICMP, IGMP). Contexts: any; a
//! printer holds the conversations whose numbers it tells relative. Invariants: whatever a frame holds, a line comes
//! of it, and nothing grows beyond its bound. What a program says inside UDP and TCP is not looked into.

mod ether;
mod ip;
mod messages;
mod tcp;

pub(crate) use ether::Mac;

use std::fmt::Write;
use std::time::Duration;
use tcp::Conversations;

/// How frames are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// The link header too (`-e`).
    pub link: bool,
    /// More of the IP header (`-v`).
    pub verbose: bool,
    /// Sequence numbers as they are (`-S`).
    pub absolute: bool,
    /// How the time is told.
    pub time: TimeStyle,
}

/// How the time is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeStyle {
    /// The time of the day (UTC).
    #[default]
    Day,
    /// None (`-t`).
    None,
    /// Seconds since 1970 (`-tt`).
    Epoch,
}

/// Writes frames as lines.
#[derive(Debug, Default)]
pub struct Printer {
    style: Style,
    conversations: Conversations,
}

impl Printer {
    /// With such lines.
    pub fn new(style: Style) -> Self {
        Self { style, conversations: Conversations::default() }
    }

    /// A frame's line, without its end. `bytes` are those that were kept of its `len`.
    pub fn line(&mut self, time: Duration, bytes: &[u8], len: usize) -> String {
        let mut out = String::new();
        self.time(&mut out, time);
        self.ether(&mut out, bytes, len);
        out
    }

    fn time(&self, out: &mut String, time: Duration) {
        let (secs, micros) = (time.as_secs(), time.subsec_micros());
        // Writing to a string can't fail, here and in all parts.
        let _ = match self.style.time {
            TimeStyle::None => Ok(()),
            TimeStyle::Epoch => write!(out, "{secs}.{micros:06} "),
            TimeStyle::Day => {
                let day = secs % 86_400;
                let (hours, minutes, seconds) = (day / 3600, day / 60 % 60, day % 60);
                write!(out, "{hours:02}:{minutes:02}:{seconds:02}.{micros:06} ")
            }
        };
    }
}

/// Octets of a header, of which some may be cut off.
#[derive(Clone, Copy, Debug)]
struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..)?.first_chunk().copied()
    }

    fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u16(self, at: usize) -> Option<u16> {
        self.array(at).map(u16::from_be_bytes)
    }

    fn u32(self, at: usize) -> Option<u32> {
        self.array(at).map(u32::from_be_bytes)
    }

    fn ip(self, at: usize) -> Option<std::net::Ipv4Addr> {
        self.array::<4>(at).map(Into::into)
    }

    fn from(self, at: usize) -> Self {
        Self(self.0.get(at..).unwrap_or(&[]))
    }

    fn to(self, len: usize) -> Self {
        Self(&self.0[..len.min(self.0.len())])
    }
}

#[cfg(test)]
mod tests;
