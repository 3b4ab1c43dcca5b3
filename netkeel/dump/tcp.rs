//! TCP's segments, with numbers relative to where their conversation was first seen.

use super::ip::Carried;
use super::{Octets, Printer};
use std::collections::HashMap;
use std::fmt::Write;
use std::net::IpAddr;

/// Conversations that are remembered; beyond that all are forgotten, and their numbers are absolute once more.
const MOST: usize = 4096;

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// The lesser end first, so that both ways are one.
type Key = [(IpAddr, u16); 2];

/// Where numbers began: of the lesser end, and of the other.
#[derive(Clone, Copy, Debug, Default)]
struct Base([u32; 2]);

/// Those that were seen.
#[derive(Debug, Default)]
pub(super) struct Conversations(HashMap<Key, Base>);

/// What a segment's numbers are told relative to: its own, and those it acknowledges.
#[derive(Clone, Copy, Debug, Default)]
struct Relative {
    seq: u32,
    ack: u32,
    /// What ranges of SACK are counted from.
    sack: u32,
}

impl Conversations {
    fn relative(
        &mut self,
        ends: [(IpAddr, u16); 2],
        (flags, seq, ack): (u8, u32, u32),
    ) -> Relative {
        let turned = ends[0] > ends[1];
        let key = if turned { [ends[1], ends[0]] } else { ends };
        let [near, far] = if turned { [1, 0] } else { [0, 1] };
        if let (Some(base), 0) = (self.0.get(&key), flags & SYN) {
            let (seq, ack) = (base.0[near], base.0[far]);
            return Relative { seq, ack, sack: ack };
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
        let mut base = Base::default();
        (base.0[near], base.0[far]) = (seq, ack.wrapping_sub(1));
        self.0.insert(key, base);
        // The first is told as it is.
        Relative { seq: 0, ack: 0, sack: base.0[far] }
    }
}

impl Printer {
    /// None: its end is cut off.
    pub(super) fn tcp(&mut self, out: &mut String, carried: &Carried<'_>) -> Option<()> {
        let tcp = carried.data;
        let [src, dst] = carried.ends;
        let (Some(sport), Some(dport)) = (tcp.u16(0), tcp.u16(2)) else {
            let _ = write!(out, "{src} > {dst}: ");
            return None;
        };
        let _ = write!(out, "{src}.{sport} > {dst}.{dport}: ");
        let (mut seq, mut ack) = (tcp.u32(4)?, tcp.u32(8)?);
        let (header, flags) = (usize::from(tcp.u8(12)? >> 4) * 4, tcp.u8(13)?);
        let (window, urgent) = (tcp.u16(14)?, tcp.u16(18)?);
        if header < 20 {
            let len = carried.len;
            let _ = write!(
                out,
                " tcp {} [bad hdr length {header} - too short, < 20]",
                len.saturating_sub(header)
            );
            return Some(());
        }
        let _ = write!(out, "Flags [{}]", flags_text(flags));
        if header > carried.len {
            let len = carried.len;
            let _ = write!(out, " [bad hdr length {header} - too long, > {len}]");
            return Some(());
        }
        let len = carried.len - header;
        let mut relative = Relative::default();
        if !self.style.absolute && flags & ACK != 0 {
            let ends = [(src, sport), (dst, dport)];
            relative = self.conversations.relative(ends, (flags, seq, ack));
            seq = seq.wrapping_sub(relative.seq);
            ack = ack.wrapping_sub(relative.ack);
        }
        if len > 0 || flags & 0x07 != 0 {
            let _ = write!(out, ", seq {seq}");
            if len > 0 {
                let _ = write!(out, ":{}", seq.wrapping_add(len as u32));
            }
        }
        if flags & ACK != 0 {
            let _ = write!(out, ", ack {ack}");
        }
        let _ = write!(out, ", win {window}");
        if flags & 0x20 != 0 {
            let _ = write!(out, ", urg {urgent}");
        }
        if header > 20 {
            out.push_str(", options [");
            if options(out, tcp.to(header).from(20), relative.sack).is_none() {
                out.push_str("[bad opt]");
                return Some(());
            }
            out.push(']');
        }
        let _ = write!(out, ", length {len}");
        Some(())
    }
}

fn flags_text(flags: u8) -> String {
    const LETTERS: [char; 8] = ['F', 'S', 'R', 'P', '.', 'U', 'E', 'W'];
    let set: String = LETTERS
        .iter()
        .enumerate()
        .filter(|(bit, _)| flags >> bit & 1 != 0)
        .map(|(_, c)| c)
        .collect();
    if set.is_empty() { "none".to_owned() } else { set }
}

/// None: one is too long, or has no length.
fn options(out: &mut String, all: Octets<'_>, base: u32) -> Option<()> {
    let mut rest = all;
    let mut between = "";
    while !rest.0.is_empty() {
        let kind = rest.u8(0)?;
        out.push_str(between);
        between = ",";
        let len = match kind {
            0 => {
                out.push_str("eol");
                return Some(());
            }
            1 => {
                out.push_str("nop");
                1
            }
            _ => usize::from(rest.u8(1)?),
        };
        if kind > 1 {
            if len < 2 || len > rest.0.len() {
                return None;
            }
            option(out, kind, rest.to(len).from(2), base);
        }
        rest = rest.from(len);
    }
    Some(())
}

fn option(out: &mut String, kind: u8, data: Octets<'_>, base: u32) {
    let hex = |out: &mut String| {
        data.0.iter().for_each(|octet| {
            let _ = write!(out, "{octet:02x}");
        });
    };
    let numbers = (data.u16(0), data.u32(0), data.u32(4));
    let _ = match (kind, numbers) {
        (2, (Some(mss), ..)) => write!(out, "mss {mss}"),
        (3, _) => write!(out, "wscale {}", data.u8(0).unwrap_or(0)),
        (4, _) => write!(out, "sackOK"),
        (5, _) => {
            let _ = write!(out, "sack {} ", data.0.len() / 8);
            let edge =
                |at: &[u8]| u32::from_be_bytes([at[0], at[1], at[2], at[3]]).wrapping_sub(base);
            data.0
                .chunks_exact(8)
                .try_for_each(|range| write!(out, "{{{}:{}}}", edge(range), edge(&range[4..])))
        }
        (8, (_, Some(val), Some(ecr))) => write!(out, "TS val {val} ecr {ecr}"),
        (19, _) => {
            out.push_str("md5 ");
            hex(out);
            Ok(())
        }
        (34, _) if data.0.is_empty() => write!(out, "tfo  cookiereq"),
        (34, _) => {
            out.push_str("tfo  cookie ");
            hex(out);
            Ok(())
        }
        (kind, _) => {
            let _ = write!(out, "unknown-{kind}");
            if !data.0.is_empty() {
                out.push_str(" 0x");
                hex(out);
            }
            Ok(())
        }
    };
}
