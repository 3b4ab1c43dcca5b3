//! `--walk`: prints each watched packet's stations once it has ended.
//!
//! Key types: [`WalkLog`] (what was recorded), [`WalkPrinter`]. A packet is told with what its spans
//! (the interrupt, the poll, the call it was handled in) recorded so far; a span's record is told with
//! one packet only. The same records are the comments of a capture's frames.

use super::frame_tap::Frame;
use crate::control::wire::{Station, short};
use crate::walk::{is_end, is_link, pcapng::Comment};
use stack::kernel::machine::Machine;
use stack::kernel::time::Ktime;
use stack::kernel::trace::events::Point;
use stack::kernel::trace::{Record, WalkHead, WalkId};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::time::Duration;

/// Packets and spans remembered at most; the oldest go first.
const MOST_IDS: usize = 10_000;
/// A span of which nothing was heard for so long is forgotten.
const STALE: Duration = Duration::from_secs(10);
/// A frame is written at most so long after it passed, unless its file is behind: so long what was
/// printed is kept for comments.
const RECENT: Duration = Duration::from_secs(1);

/// What was recorded of packets and spans that have not been told.
pub(crate) struct WalkLog {
    /// Device names by index.
    names: Vec<String>,
    /// The tables they are of.
    named: u64,
    open: BTreeMap<WalkId, Vec<Record>>,
    /// Fronts of those that are open, where they are kept.
    heads: BTreeMap<WalkId, WalkHead>,
    /// Packets to be told next.
    ended: Vec<WalkId>,
    lost: u64,
}

impl WalkLog {
    /// Nothing yet.
    pub(crate) fn new(m: &Machine) -> Self {
        let mut log = Self::with(Vec::new());
        log.name_devices(m);
        log
    }

    /// Devices may have come since the last time.
    fn name_devices(&mut self, m: &Machine) {
        let root = m.tables();
        if self.named == root.generation && !self.names.is_empty() {
            return;
        }
        self.named = root.generation;
        for dev in root.all().flat_map(|t| t.net.devs.iter().flatten()) {
            let index = usize::from(dev.ifindex.0);
            self.names.resize(self.names.len().max(index + 1), String::new());
            self.names[index].clone_from(&dev.name);
        }
    }

    fn with(names: Vec<String>) -> Self {
        Self {
            names,
            named: 0,
            open: BTreeMap::new(),
            heads: BTreeMap::new(),
            ended: Vec::new(),
            lost: 0,
        }
    }

    /// Takes what was recorded since the last time; when the last of it was.
    pub(crate) fn take(&mut self, m: &Machine) -> Option<Ktime> {
        self.name_devices(m);
        let (records, lost) = m.tracer.take();
        self.heads.extend(m.tracer.take_heads());
        self.lost += lost;
        let last = records.last()?.time;
        for record in records {
            if is_end(record.point) {
                self.ended.push(record.id);
            }
            self.open.entry(record.id).or_default().push(record);
        }
        self.forget(last);
        Some(last)
    }

    /// Takes a packet's front.
    pub(crate) fn head(&mut self, id: WalkId) -> Option<WalkHead> {
        self.heads.remove(&id)
    }

    /// Records lost since this was asked last.
    pub(crate) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// The packets that have ended since the last time, each with its spans' records, by time.
    pub(crate) fn take_ended(&mut self) -> Vec<(WalkId, Vec<Record>)> {
        let mut ended = std::mem::take(&mut self.ended);
        // In the order they began: an answer ends before the question that led to it.
        ended.sort_by_key(|id| self.open.get(id).and_then(|r| r.first()).map(|r| r.time));
        ended.into_iter().filter_map(|id| self.take_packet(id)).collect()
    }

    /// The packets that have not ended: they are still queued somewhere.
    fn take_rest(&mut self) -> Vec<(WalkId, Vec<Record>)> {
        let is_packet = |records: &[Record]| records.iter().any(|r| r.len != 0 || r.dev != 0);
        let packets = self.open.iter().filter(|(_, records)| is_packet(records));
        let ids: Vec<WalkId> = packets.map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.take_packet(id)).collect()
    }

    fn take_packet(&mut self, id: WalkId) -> Option<(WalkId, Vec<Record>)> {
        let mut records = self.open.remove(&id)?;
        let spans: Vec<WalkId> = records
            .iter()
            .filter(|record| record.point == Point::link_span)
            .filter_map(Record::link)
            .collect();
        for span in spans {
            records.extend(self.open.remove(&span).unwrap_or_default());
        }
        records.sort_by_key(|record| record.time);
        Some((id, records))
    }

    /// A record with the names of what it is about.
    pub(crate) fn station(&self, record: &Record) -> Station {
        let dev = match record.dev {
            0 => None,
            dev => Some(self.names.get(usize::from(dev)).map_or("?", String::as_str)),
        };
        Station::of(record, record.len != 0 || record.dev != 0, dev)
    }

    /// Spans that led to no watched packet must not pile up.
    fn forget(&mut self, now: Ktime) {
        self.open.retain(|_, records| {
            let packet = records.iter().any(|record| record.len != 0 || record.dev != 0);
            packet || records.last().is_some_and(|last| now.since(last.time) < STALE)
        });
        while self.open.len() > MOST_IDS {
            self.open.pop_first();
        }
        while self.heads.len() > MOST_IDS {
            self.heads.pop_first();
        }
    }
}

/// Prints walks, and keeps what was printed a moment ago if there are comments to be made.
pub(super) struct WalkPrinter {
    start: Ktime,
    log: WalkLog,
    printed: Option<BTreeMap<WalkId, Vec<Record>>>,
}

/// Whether frames are captured beside the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comments {
    No,
    Yes,
}

impl WalkPrinter {
    pub(super) fn new(m: &Machine, comments: Comments) -> Self {
        Self::with(m.ktime_get(), WalkLog::new(m), comments)
    }

    fn with(start: Ktime, log: WalkLog, comments: Comments) -> Self {
        let printed = (comments == Comments::Yes).then(BTreeMap::new);
        Self { start, log, printed }
    }

    /// Takes what was recorded since the last time.
    pub(super) fn take(&mut self, m: &Machine) {
        let Some(now) = self.log.take(m) else { return };
        let Some(printed) = &mut self.printed else { return };
        let recent = |last: &Record| now.since(last.time) < RECENT;
        printed.retain(|_, records| records.last().is_some_and(recent));
        while printed.len() > MOST_IDS {
            printed.pop_first();
        }
    }

    /// Prints the packets that have ended.
    pub(super) fn print(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let lost = self.log.take_lost();
        if lost != 0 {
            writeln!(out, "walk: {lost} records were lost: watch less with a filter")?;
        }
        let ended = self.log.take_ended();
        self.print_all(ended, out)
    }

    /// Prints the packets that have not ended.
    pub(super) fn print_rest(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let rest = self.log.take_rest();
        self.print_all(rest, out)
    }

    fn print_all(
        &mut self,
        packets: Vec<(WalkId, Vec<Record>)>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        if packets.is_empty() {
            return Ok(());
        }
        for (id, records) in packets {
            writeln!(out, "packet {}", short(id.0))?;
            for record in records.iter().filter(|record| record.point != Point::link_span) {
                writeln!(out, "{}", self.log.station(record).line(self.start.0))?;
            }
            if let Some(printed) = &mut self.printed {
                for record in records {
                    printed.entry(record.id).or_default().push(record);
                }
            }
        }
        out.flush()
    }

    /// The walk of a frame's packet up to the frame, if it is watched.
    pub(super) fn comment(&self, frame: &Frame) -> Option<Comment> {
        if !frame.packet.watched() {
            return None;
        }
        let of = |id: WalkId| {
            let printed = self.printed.as_ref().and_then(|printed| printed.get(&id));
            let known = printed.into_iter().chain(self.log.open.get(&id)).flatten();
            known.filter(|record| record.time <= frame.time)
        };
        // The tap has a clone: the walk is the original's.
        let packet = of(frame.packet)
            .find(|record| record.point == Point::link_clone)
            .and_then(Record::link)
            .unwrap_or(frame.packet);
        let spans: BTreeSet<WalkId> = of(packet)
            .filter(|record| record.point == Point::link_span)
            .filter_map(Record::link)
            .collect();
        let ids = std::iter::once(packet).chain(spans);
        let mut records: Vec<&Record> =
            ids.flat_map(of).filter(|record| !is_link(record.point)).collect();
        records.sort_by_key(|record| record.time);
        let mut comment = Comment::new(&format!("packet {}", short(packet.0)));
        for record in records {
            if !comment.station(&self.at(record), record) {
                break;
            }
        }
        Some(comment)
    }

    fn at(&self, record: &Record) -> String {
        let at = record.time.since(self.start);
        format!("{}.{:06}", at.as_secs(), at.subsec_micros())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stack::kernel::trace::Context;
    use stack::kernel::trace::drop_reason::DropReason;

    fn record(id: u64, time: u64, point: Point, arg: u64) -> Record {
        let len = if id < 100 { 84 } else { 0 };
        Record {
            time: Ktime(time),
            id: WalkId(id),
            arg,
            len,
            dev: u16::from(len != 0),
            point,
            cpu: 0,
            context: Context::Softirq,
        }
    }

    #[test]
    fn a_packet_is_printed_with_its_span_in_order_and_once() {
        let names = vec![String::new(), "nk0".to_owned()];
        let mut printer = WalkPrinter::with(Ktime(0), WalkLog::with(names), Comments::No);
        let span = vec![record(100, 1000, Point::net_rx_action, 0)];
        printer.log.open.insert(WalkId(100), span);
        let records = vec![
            record(1, 2000, Point::link_span, 100),
            record(1, 3000, Point::ip_rcv, 0),
            record(1, 4000, Point::kfree_skb, DropReason::NoSocket as u64),
        ];
        printer.log.open.insert(WalkId(1), records);
        printer.log.ended.push(WalkId(1));
        let mut out = Vec::new();
        printer.print(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["packet", "1"]);
        assert_eq!(lines[1], ["0.000001", "cpu0", "softirq", "net_rx_action", "-", "0"]);
        assert_eq!(lines[2], ["0.000003", "cpu0", "softirq", "ip_rcv", "nk0", "84"]);
        assert_eq!(lines[3][6], "NO_SOCKET:");
        assert_eq!(lines.len(), 4);
        assert!(printer.log.open.is_empty());
    }

    #[test]
    fn spans_that_lead_nowhere_are_forgotten() {
        let mut log = WalkLog::with(Vec::new());
        let span = vec![record(100, 1000, Point::net_rx_action, 0)];
        log.open.insert(WalkId(100), span);
        log.open.insert(WalkId(1), vec![record(1, 1000, Point::ip_rcv, 0)]);
        log.forget(Ktime::from_secs(60));
        assert_eq!(log.open.keys().collect::<Vec<_>>(), [&WalkId(1)]);
    }

    #[test]
    fn a_frames_comment_is_its_packets_walk_also_after_that_was_printed() {
        let mut printer = WalkPrinter::with(Ktime(0), WalkLog::with(Vec::new()), Comments::Yes);
        let records = [
            record(100, 1000, Point::net_rx_action, 0),
            record(1, 2000, Point::link_span, 100),
            record(1, 3000, Point::netif_receive_skb, 0),
            record(2, 3500, Point::link_clone, 1),
            record(1, 5000, Point::ip_rcv, 0),
            record(1, 6000, Point::consume_skb, 0),
        ];
        for record in records {
            printer.log.open.entry(record.id).or_default().push(record);
        }
        let frame = Frame::seen(Ktime(4000), WalkId(2));
        let text = |printer: &WalkPrinter| {
            printer.comment(&frame).map(|comment| comment.text().to_owned()).unwrap_or_default()
        };
        let expected = "packet 1\n0.000001 cpu0 softirq net_rx_action\n\
                        0.000003 cpu0 softirq netif_receive_skb";
        assert_eq!(text(&printer), expected);
        printer.log.ended.push(WalkId(1));
        printer.print(&mut Vec::new()).unwrap();
        assert!(!printer.log.open.contains_key(&WalkId(1)));
        assert_eq!(text(&printer), expected);
        assert!(printer.comment(&Frame::seen(Ktime(4000), WalkId::NONE)).is_none());
    }
}
