//! A packet that was dropped: from an event of a machine, or from lines of a file.

use super::advice::{self, Look};
use super::{Asked, state};
use crate::control::wire::{Head, Station, unhex};
use crate::dump::{Printer, Style, TimeStyle};
use serde::Deserialize;
use stack::kernel::bpf::BpfProg;
use stack::kernel::trace::drop_reason::DropReason;
use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::time::Duration;

/// Packets of a file that have not ended, at most: the oldest are forgotten.
const MOST_OPEN: usize = 65_536;
/// Octets of a line at most.
const MAX_LINE: u64 = 1 << 20;
/// Stations of a packet that are kept at most.
const MOST_STATIONS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Story {
    packet: u64,
    frame: Option<(Vec<u8>, usize)>,
    /// Stations by name, with their files.
    way: Vec<(String, String)>,
    dev: Option<String>,
    reason: DropReason,
}

impl Story {
    /// `None`: it was not dropped.
    pub(super) fn of(packet: u64, head: Option<Head>, stations: Vec<Station>) -> Option<Self> {
        let own = stations.into_iter().filter(|station| station.packet == Some(packet));
        let mut open = Open {
            frame: head.map(|head| (unhex(&head.octets), head.len as usize)),
            ..Open::default()
        };
        let reasons: Vec<_> =
            own.filter_map(|s| open.add(s.point, s.file, s.dev, s.drop)).collect();
        Some(open.ended(packet, *reasons.last()?))
    }

    /// The expression describes it. Where nothing is known of its octets, only an empty one does.
    pub(super) fn is_wanted(&self, filter: Option<&BpfProg>) -> bool {
        let Some(program) = filter else { return true };
        self.frame.as_ref().is_some_and(|(octets, _)| program.bpf_prog_run(&octets[..]) != 0)
    }

    /// Writes it down, with what the machine says of what decided.
    pub(super) fn write(&self, out: &mut dyn Write, asked: Asked<'_>) -> io::Result<()> {
        let line = self.frame.as_ref().map(|(octets, len)| {
            let style = Style { time: TimeStyle::None, ..Style::default() };
            Printer::new(style).line(Duration::ZERO, octets, *len)
        });
        writeln!(
            out,
            "packet {}{}",
            self.packet,
            line.map_or(String::new(), |line| format!(": {line}"))
        )?;
        let names: Vec<&str> = self.way.iter().map(|(name, _)| name.as_str()).collect();
        let dev = self.dev.as_deref().unwrap_or("-");
        writeln!(out, "  way:    {} ({dev})", shortened(&names))?;
        let (last, file) = self.decided();
        writeln!(out, "  ended:  in {last} ({file}), {}", self.reason.name())?;
        writeln!(out, "  why:    {}", self.reason.explain())?;
        let advice = advice::of(self.reason);
        let mut asked = asked;
        for look in advice.looks {
            for line in state::look(*look, self, asked.as_deref_mut()) {
                writeln!(out, "  state:  {line}")?;
            }
        }
        writeln!(out, "  change: {}\n", advice.change)
    }

    /// The station that decided: the last before the packet was freed.
    fn decided(&self) -> (&str, &str) {
        // Answers that tell the sender of it come after.
        let after = ["kfree_skb", "icmp_send", "tcp_v4_send_reset"];
        let decides = |name: &str| !after.contains(&name) && !name.starts_with("link_");
        let last = self.way.iter().rev().find(|(name, _)| decides(name));
        last.map_or(("?", "?"), |(name, file)| (name, file))
    }

    pub(super) fn dev(&self) -> Option<&str> {
        self.dev.as_deref()
    }

    /// IPv4 addresses, protocol and destination port, as far as they are known.
    pub(super) fn flow(&self) -> Option<Flow> {
        let (octets, _) = self.frame.as_ref()?;
        let ip = octets.get(14..34).filter(|_| octets[12..14] == [8, 0])?;
        let ihl = usize::from(ip[0] & 15) * 4;
        let port = octets
            .get(14 + ihl + 2..14 + ihl + 4)
            .map(|port| u16::from_be_bytes([port[0], port[1]]));
        let addr = |at: usize| std::net::Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
        Some(Flow { src: addr(12), dst: addr(16), proto: ip[9], port: port.unwrap_or(0) })
    }
}

/// See [`Story::flow`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Flow {
    pub(super) src: std::net::Ipv4Addr,
    pub(super) dst: std::net::Ipv4Addr,
    pub(super) proto: u8,
    pub(super) port: u16,
}

/// A long way without its middle.
fn shortened(names: &[&str]) -> String {
    const MOST: usize = 12;
    if names.len() <= MOST {
        return names.join(" > ");
    }
    let (first, last) = (&names[..MOST / 2], &names[names.len() - MOST / 2..]);
    format!("{} > ... > {}", first.join(" > "), last.join(" > "))
}

/// A packet that has not ended.
#[derive(Debug, Default)]
struct Open {
    frame: Option<(Vec<u8>, usize)>,
    way: Vec<(String, String)>,
    dev: Option<String>,
}

impl Open {
    /// The reason, if it ended here by one.
    fn add(
        &mut self,
        point: String,
        file: String,
        dev: Option<String>,
        drop: Option<String>,
    ) -> Option<DropReason> {
        if point != "link_span" && self.way.len() < MOST_STATIONS {
            self.way.push((point, file));
        }
        self.dev = dev.or(self.dev.take());
        DropReason::by_name(&drop?)
    }

    fn ended(self, packet: u64, reason: DropReason) -> Story {
        let Self { frame, way, dev } = self;
        Story { packet, frame, way, dev, reason }
    }
}

/// A line of `netkeel walk --format json`; what else it says is left aside.
#[derive(Debug, Deserialize)]
struct Line {
    v: u32,
    packet: Option<u64>,
    point: String,
    file: String,
    dev: Option<String>,
    drop: Option<String>,
    frame: Option<usize>,
    head: Option<String>,
}

/// The packets of a file that were dropped, in the order of their ends.
pub(super) struct Lines {
    input: Box<dyn BufRead>,
    number: usize,
    open: BTreeMap<u64, Open>,
}

impl Lines {
    pub(super) fn new(input: Box<dyn BufRead>) -> Self {
        Self { input, number: 0, open: BTreeMap::new() }
    }

    /// `None`: the end.
    fn line(&mut self) -> Result<Option<String>, String> {
        self.number += 1;
        let mut line = Vec::new();
        let mut limited = io::Read::take(&mut self.input, MAX_LINE);
        limited.read_until(b'\n', &mut line).map_err(|e| e.to_string())?;
        if line.len() as u64 == MAX_LINE {
            return Err(format!(
                "line {}: longer than {MAX_LINE} octets: it is no walk",
                self.number
            ));
        }
        Ok((!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned()))
    }

    fn next_story(&mut self) -> Result<Option<Story>, String> {
        while let Some(text) = self.line()? {
            if text.trim().is_empty() {
                continue;
            }
            let number = self.number;
            let line: Line = serde_json::from_str(&text).map_err(|e| {
                format!(
                    "line {number}, column {}: {e}: it is no line of `netkeel walk --format json`",
                    e.column()
                )
            })?;
            if line.v != crate::walk::json::VERSION {
                return Err(format!("line {number}: version {} of walks is not read here", line.v));
            }
            let Some(packet) = line.packet else { continue };
            if self.open.len() == MOST_OPEN && !self.open.contains_key(&packet) {
                self.open.pop_first();
            }
            let open = self.open.entry(packet).or_default();
            if let (None, Some(head)) = (&open.frame, &line.head) {
                open.frame = Some((unhex(head), line.frame.unwrap_or(0)));
            }
            let ends = matches!(line.point.as_str(), "kfree_skb" | "consume_skb");
            let reason = open.add(line.point, line.file, line.dev, line.drop);
            let ended = if ends { self.open.remove(&packet) } else { None };
            if let (Some(open), Some(reason)) = (ended, reason) {
                return Ok(Some(open.ended(packet, reason)));
            }
        }
        Ok(None)
    }
}

impl Iterator for Lines {
    type Item = Result<Story, String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_story().transpose()
    }
}

/// Looks that need a packet's addresses can do nothing without.
pub(super) fn needs_flow(look: Look) -> bool {
    matches!(look, Look::RouteTo | Look::RouteFrom | Look::Sockets)
}
