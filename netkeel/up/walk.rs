//! `--walk`: prints each watched packet's stations once it has ended.
//!
//! Key type: [`WalkPrinter`]. A packet is printed with what its spans (the interrupt, the poll, the
//! call it was handled in) recorded so far; a span's record is printed with one packet only.

use stack::kernel::machine::Machine;
use stack::kernel::time::Ktime;
use stack::kernel::trace::events::Point;
use stack::kernel::trace::{Record, WalkId};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

/// Packets and spans remembered at most; the oldest go first.
const MOST_IDS: usize = 10_000;
/// A span of which nothing was heard for so long is forgotten.
const STALE: Duration = Duration::from_secs(10);

/// What was recorded of packets and spans that have not been printed.
pub(super) struct WalkPrinter {
    start: Ktime,
    /// Device names by index.
    names: Vec<String>,
    open: BTreeMap<WalkId, Vec<Record>>,
}

impl WalkPrinter {
    pub(super) fn new(m: &Machine) -> Self {
        let devs = &m.tables().net.devs;
        let name = |dev: &Option<_>| dev.as_ref().map_or(String::new(), name_of);
        Self { start: m.ktime_get(), names: devs.iter().map(name).collect(), open: BTreeMap::new() }
    }

    /// Prints the packets that have ended since the last time.
    pub(super) fn print(&mut self, m: &Machine, out: &mut dyn Write) -> io::Result<()> {
        let (records, lost) = m.tracer.take();
        if lost != 0 {
            writeln!(out, "walk: {lost} records were lost: watch less with a filter")?;
        }
        let Some(last) = records.last().map(|record| record.time) else { return Ok(()) };
        let mut ended = Vec::new();
        for record in records {
            if matches!(record.point, Point::consume_skb | Point::kfree_skb) {
                ended.push(record.id);
            }
            self.open.entry(record.id).or_default().push(record);
        }
        // In the order they began: an answer ends before the question that led to it.
        ended.sort_by_key(|id| self.open.get(id).and_then(|r| r.first()).map(|r| r.time));
        for id in ended {
            if let Some(records) = self.open.remove(&id) {
                self.packet(id, records, out)?;
            }
        }
        self.forget(last);
        out.flush()
    }

    /// Prints the packets that have not ended: they are still queued somewhere.
    pub(super) fn print_rest(&mut self, out: &mut dyn Write) -> io::Result<()> {
        let is_packet = |records: &[Record]| records.iter().any(|r| r.len != 0 || r.dev != 0);
        let open = std::mem::take(&mut self.open);
        let (packets, spans) = open.into_iter().partition(|(_, records)| is_packet(records));
        self.open = spans;
        let packets: BTreeMap<WalkId, Vec<Record>> = packets;
        for (id, records) in packets {
            self.packet(id, records, out)?;
        }
        out.flush()
    }

    fn packet(
        &mut self,
        id: WalkId,
        mut records: Vec<Record>,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let spans: Vec<WalkId> = records
            .iter()
            .filter(|record| record.point == Point::link_span)
            .filter_map(Record::link)
            .collect();
        for span in spans {
            records.extend(self.open.remove(&span).unwrap_or_default());
        }
        records.sort_by_key(|record| record.time);
        writeln!(out, "packet {}", short(id))?;
        records
            .iter()
            .filter(|record| record.point != Point::link_span)
            .try_for_each(|record| self.line(record, out))
    }

    fn line(&self, record: &Record, out: &mut dyn Write) -> io::Result<()> {
        let at = record.time.since(self.start);
        let dev = match record.dev {
            0 => "-",
            dev => self.names.get(usize::from(dev)).map_or("?", String::as_str),
        };
        write!(
            out,
            "{:6}.{:06} cpu{} {:9} {:26} {:8} {:>5}",
            at.as_secs(),
            at.subsec_micros(),
            record.cpu,
            record.context.name(),
            record.point.name(),
            dev,
            record.len
        )?;
        if let Some(reason) = record.drop_reason() {
            write!(out, "  {reason}: {}", reason.explain())?;
        } else if let Some(other) = record.link() {
            write!(out, "  packet {}", short(other))?;
        }
        writeln!(out)
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
    }
}

fn name_of(dev: &std::sync::Arc<stack::net::core::dev::NetDevice>) -> String {
    dev.name.clone()
}

/// The number without its machine's prefix: there is one machine.
fn short(id: WalkId) -> u64 {
    id.0 & 0xffff_ffff_ffff
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
        let mut printer = WalkPrinter {
            start: Ktime(0),
            names: vec![String::new(), "nk0".to_owned()],
            open: BTreeMap::new(),
        };
        let span = vec![record(100, 1000, Point::net_rx_action, 0)];
        printer.open.insert(WalkId(100), span);
        let records = vec![
            record(1, 2000, Point::link_span, 100),
            record(1, 3000, Point::ip_rcv, 0),
            record(1, 4000, Point::kfree_skb, DropReason::NoSocket as u64),
        ];
        let mut out = Vec::new();
        printer.packet(WalkId(1), records, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["packet", "1"]);
        assert_eq!(lines[1], ["0.000001", "cpu0", "softirq", "net_rx_action", "-", "0"]);
        assert_eq!(lines[2], ["0.000003", "cpu0", "softirq", "ip_rcv", "nk0", "84"]);
        assert_eq!(lines[3][6], "NO_SOCKET:");
        assert_eq!(lines.len(), 4);
        assert!(printer.open.is_empty());
    }

    #[test]
    fn spans_that_lead_nowhere_are_forgotten() {
        let mut printer = WalkPrinter { start: Ktime(0), names: Vec::new(), open: BTreeMap::new() };
        let span = vec![record(100, 1000, Point::net_rx_action, 0)];
        printer.open.insert(WalkId(100), span);
        printer.open.insert(WalkId(1), vec![record(1, 1000, Point::ip_rcv, 0)]);
        printer.forget(Ktime::from_secs(60));
        assert_eq!(printer.open.keys().collect::<Vec<_>>(), [&WalkId(1)]);
    }
}
