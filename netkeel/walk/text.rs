//! The walk as a tree for people.
//!
//! A heading for each call and interrupt, in causal order; below it the stations, each with its
//! time in microseconds since the first. Key type: [`Options`].
//! Records tell where the walk entered, not where it left, so a station is indented by what is
//! known: a layer entered from another is called by it, a station that only looks something up is
//! a side branch, and a packet lies in the one it was made for.

use super::places::{Place, gloss, place};
use super::{Block, Origin, Runner, Step, Story, is_end, is_link};
use stack::kernel::trace::{Record, WalkId, events::Point};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use uapi::neighbour as nud;

/// How the text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Name the Linux file of every station, however long the line gets.
    pub files: bool,
    /// Leave the file out where a line would become longer than this.
    pub width: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { files: false, width: 120 }
    }
}

/// Column of the files.
const FILE_COLUMN: usize = 72;

/// Writes the tree.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, story: &Story<'_>, options: Options) -> io::Result<()> {
    writeln!(out, "{}", story.scene.title)?;
    writeln!(
        out,
        "Times are microseconds of virtual time: 1 ns a record, 300 more a call, 500 a poll."
    )?;
    let mut seen = Seen::default();
    for (at, block) in story.blocks.iter().enumerate() {
        let steps = &story.steps[block.steps.clone()];
        if steps.iter().all(|step| is_link(step.record.point)) {
            continue;
        }
        writeln!(out, "\n{}", heading(story, at, block))?;
        let mut tree = Tree { story, frames: vec![Frame::default()] };
        for step in steps {
            tree.step(out, step, &mut seen, options)?;
        }
    }
    summary(out, story)
}

/// What a reader was told of each packet last: length and device.
#[derive(Default)]
struct Seen {
    packets: BTreeMap<WalkId, (u16, u16, u16)>,
}

fn heading(story: &Story<'_>, at: usize, block: &Block) -> String {
    let before = story.blocks[..at].iter().rev().find(|other| other.span == block.span);
    let first = story.steps[block.steps.clone()].iter().find(|s| !is_link(s.record.point));
    let name = first.map_or("", |step| step.record.point.name());
    let is_call = name.starts_with("sys_");
    let what = match (block.runner, before.map(|block| block.runner)) {
        (Runner::Hardirq, _) => "hard interrupt".to_owned(),
        (Runner::Softirq, Some(Runner::Hardirq)) => "softirq, leaving the interrupt".to_owned(),
        (Runner::Softirq, Some(Runner::Task)) => "softirq, leaving the call's section".to_owned(),
        (Runner::Softirq, _) => "softirq".to_owned(),
        (Runner::Ksoftirqd, _) => format!("ksoftirqd/{}", block.cpu),
        (Runner::Task, None) if is_call => format!("system call {name}"),
        (Runner::Task, Some(_)) if is_call => format!("woken in {name}"),
        (Runner::Task, None) => "task".to_owned(),
        (Runner::Task, Some(_)) => "system call goes on".to_owned(),
    };
    let mut line = format!("── {} · CPU {} · {what} ", story.host(block.machine), block.cpu);
    let used = line.chars().count();
    line.extend(std::iter::repeat_n('─', FILE_COLUMN.saturating_sub(used)));
    line
}

/// A call or interrupt, or a packet in it, with the layers that are open.
#[derive(Default)]
struct Frame {
    packet: Option<WalkId>,
    indent: usize,
    layers: Vec<&'static str>,
}

impl Frame {
    /// Where a station called by the last one stands.
    fn inner(&self) -> usize {
        self.indent + self.layers.len()
    }
}

struct Tree<'a> {
    story: &'a Story<'a>,
    /// Never empty: the first is the call or interrupt itself.
    frames: Vec<Frame>,
}

impl Tree<'_> {
    fn step(
        &mut self,
        out: &mut dyn Write,
        step: &Step,
        seen: &mut Seen,
        options: Options,
    ) -> io::Result<()> {
        let record = &step.record;
        let is_packet = self.story.is_packet(record.id);
        if is_packet {
            self.open_packet(out, step, seen)?;
        }
        if is_link(record.point) {
            return Ok(());
        }
        let indent = self.indent(record.point);
        let mut line = format!("{:>9}  {:2$}", self.time(record), "", indent * 2);
        line.push_str(record.point.name());
        let change = seen.change(self.story, step, is_packet);
        for part in [detail(self.story, record), change].into_iter().flatten() {
            let _fits = write!(line, "  {part}");
        }
        if let Some(gloss) = gloss(record.point) {
            let _fits = write!(line, "  ({gloss})");
        }
        writeln!(out, "{}", with_file(line, record.point.file(), options))?;
        if is_packet && is_end(record.point) {
            let index = self.frames.iter().position(|frame| frame.packet == Some(record.id));
            self.frames.truncate(index.unwrap_or(1).max(1));
        }
        Ok(())
    }

    fn time(&self, record: &Record) -> String {
        let ns = record.time.0 - self.story.start();
        format!("{}.{:03}", ns / 1000, ns % 1000)
    }

    /// Opens or goes back to the packet of a record.
    fn open_packet(&mut self, out: &mut dyn Write, step: &Step, seen: &mut Seen) -> io::Result<()> {
        let record = &step.record;
        let known = self.frames.iter().position(|frame| frame.packet == Some(record.id));
        if let Some(index) = known {
            self.frames.truncate(index + 1);
            return Ok(());
        }
        let indent = self.frames.last().map_or(0, Frame::inner);
        let title = seen.introduce(self.story, step);
        writeln!(out, "{:11}{:2$}{title}", "", "", indent * 2)?;
        self.frames.push(Frame { packet: Some(record.id), indent: indent + 1, layers: Vec::new() });
        Ok(())
    }

    /// Where a station stands, which it also opens.
    fn indent(&mut self, point: Point) -> usize {
        let place = place(point);
        if let Place::Frame(depth) = place {
            self.frames.truncate(1);
            self.frames[0].layers = vec![""; depth + 1];
            return depth;
        }
        let Some(frame) = self.frames.last_mut() else { return 0 };
        if let Place::Layer(layer) = place {
            match frame.layers.iter().position(|open| *open == layer) {
                Some(open) => frame.layers.truncate(open + 1),
                None => frame.layers.push(layer),
            }
        }
        match place {
            Place::Helper => frame.inner(),
            _ => frame.inner().saturating_sub(usize::from(!frame.layers.is_empty())),
        }
    }
}

impl Seen {
    /// The line over a packet's stations.
    fn introduce(&mut self, story: &Story<'_>, step: &Step) -> String {
        let record = &step.record;
        let before = self.packets.insert(record.id, (step.machine, record.len, record.dev));
        let mut title = format!("{}  {} bytes", story.name(record.id), record.len);
        if let Some(dev) = story.dev(step) {
            let _fits = write!(title, ", {dev}");
        }
        let _fits = match (before, story.origin(record.id)) {
            (Some((machine, ..)), _) if machine != step.machine => {
                write!(title, ", from {}", story.host(machine))
            }
            (Some(_), _) | (None, Origin::Call) => Ok(()),
            (None, Origin::MadeFor(other)) => write!(title, ", made for {}", story.name(other)),
            (None, Origin::CloneOf(other)) => write!(title, ", clone of {}", story.name(other)),
            (None, Origin::MergedInto(other)) => {
                write!(title, ", merged into {}", story.name(other))
            }
        };
        title
    }

    /// What changed of a packet since the reader was told.
    fn change(&mut self, story: &Story<'_>, step: &Step, is_packet: bool) -> Option<String> {
        let record = &step.record;
        if !is_packet {
            return None;
        }
        let now = (step.machine, record.len, record.dev);
        let before = self.packets.insert(record.id, now)?;
        let mut parts = Vec::new();
        if before.1 != now.1 {
            parts.push(format!("{} bytes", now.1));
        }
        if before.2 != now.2 {
            parts.extend(story.dev(step).map(str::to_owned));
        }
        (!parts.is_empty()).then(|| parts.join(" "))
    }
}

/// What a station's argument says.
fn detail(story: &Story<'_>, record: &Record) -> Option<String> {
    use Point as P;
    let arg = record.arg;
    let address = |arg: u64| u32::try_from(arg).ok().filter(|arg| *arg != 0).map(Ipv4Addr::from);
    match record.point {
        P::NF_HOOK | P::nf_hook_slow => HOOKS.get(arg as usize).map(|name| (*name).to_owned()),
        P::raise_softirq_irqoff | P::__raise_softirq_irqoff => {
            SOFTIRQS.get(arg as usize).map(|name| (*name).to_owned())
        }
        P::__do_softirq => Some(pending(arg)),
        P::sockfd_lookup_light => Some(format!("fd {arg}")),
        P::irq_enter | P::irq_exit => Some(format!("interrupt {arg}")),
        P::__release_sock => Some(format!("{arg} in the backlog")),
        P::neigh_update => NUD.iter().find(|(bit, _)| *bit == arg).map(|(_, name)| (*name).into()),
        P::arp_send | P::arp_process if arg == 1 => Some("request".to_owned()),
        P::arp_send | P::arp_process if arg == 2 => Some("reply".to_owned()),
        P::napi_skb_finish => GRO.get(arg as usize).map(|name| (*name).to_owned()),
        P::tcp_sacktag_write_queue => Some(counted(arg, "block")),
        P::tcp_check_dsack => Some(format!("{} came twice", counted(arg, "segment"))),
        P::tcp_xmit_retransmit_queue => Some(format!("{} lost", counted(arg, "segment"))),
        P::tcp_rack_mark_lost => Some(rack(arg)),
        P::tcp_rack_update_reo_wnd => Some(format!("{arg} quarters of the round trip")),
        P::tcp_cwnd_reduction | P::tcp_end_cwnd_reduction => Some(format!("cwnd {arg}")),
        P::tcp_fastretrans_alert => CA_STATES.get(arg as usize).map(|name| (*name).to_owned()),
        P::tcp_pacing_check => Some(format!("for {} us", arg / 1000)),
        P::bbr_main => BBR.get(arg as usize).map(|name| (*name).to_owned()),
        P::tcp_fastopen_cookie_check if arg == 0 => Some("none is known".to_owned()),
        P::tcp_fastopen_cookie_check => Some("one is known".to_owned()),
        P::skb_clone => Some(format!("makes {}", story.name(WalkId(arg)))),
        P::kfree_skb => record.drop_reason().map(|why| format!("{why}: {}", why.explain())),
        P::__neigh_create
        | P::neigh_destroy
        | P::__ipv4_neigh_lookup_noref
        | P::ip_route_input_slow
        | P::ip_route_output_ports
        | P::ip_route_output_flow
        | P::__ip_route_output_key
        | P::arp_solicit => address(arg).map(|address| address.to_string()),
        _ => None,
    }
}

/// So many of them.
fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// What RACK found: segments that are lost, and the microseconds until others may be.
fn rack(arg: u64) -> String {
    let (waits, lost) = (arg >> 32, arg & u64::from(u32::MAX));
    let lost = (lost != 0).then(|| format!("{} lost", counted(lost, "segment")));
    let waits = (waits != 0).then(|| format!("in doubt for {waits} us"));
    lost.into_iter().chain(waits).collect::<Vec<_>>().join(", ")
}

/// linux: include/uapi/linux/tcp.h:tcp_ca_state
const CA_STATES: [&str; 5] = ["Open", "Disorder", "CWR", "Recovery", "Loss"];

/// linux: net/ipv4/tcp_bbr.c:bbr_mode
const BBR: [&str; 4] = ["STARTUP", "DRAIN", "PROBE_BW", "PROBE_RTT"];

const HOOKS: [&str; 5] = ["PRE_ROUTING", "LOCAL_IN", "FORWARD", "LOCAL_OUT", "POST_ROUTING"];

const SOFTIRQS: [&str; 10] = [
    "HI",
    "TIMER",
    "NET_TX",
    "NET_RX",
    "BLOCK",
    "BLOCK_IOPOLL",
    "TASKLET",
    "SCHED",
    "HRTIMER",
    "RCU",
];

/// linux: include/linux/netdevice.h:gro_result_t
const GRO: [&str; 5] = ["GRO_MERGED", "GRO_MERGED_FREE", "GRO_HELD", "GRO_NORMAL", "GRO_DROP"];

const NUD: [(u64, &str); 8] = [
    (nud::NUD_INCOMPLETE as u64, "INCOMPLETE"),
    (nud::NUD_REACHABLE as u64, "REACHABLE"),
    (nud::NUD_STALE as u64, "STALE"),
    (nud::NUD_DELAY as u64, "DELAY"),
    (nud::NUD_PROBE as u64, "PROBE"),
    (nud::NUD_FAILED as u64, "FAILED"),
    (nud::NUD_NOARP as u64, "NOARP"),
    (nud::NUD_PERMANENT as u64, "PERMANENT"),
];

fn pending(bits: u64) -> String {
    let names = SOFTIRQS.iter().enumerate().filter(|(nr, _)| bits & 1 << nr != 0);
    names.map(|(_, name)| *name).collect::<Vec<_>>().join(" ")
}

/// Puts the file at its column, or behind the line, if it fits.
fn with_file(mut line: String, file: &str, options: Options) -> String {
    let used = line.chars().count();
    let gap = FILE_COLUMN.saturating_sub(used).max(2);
    if options.files || used + gap + file.len() <= options.width {
        line.extend(std::iter::repeat_n(' ', gap));
        line.push_str(file);
    }
    line
}

/// A line for each packet: how far it came.
fn summary(out: &mut dyn Write, story: &Story<'_>) -> io::Result<()> {
    writeln!(out)?;
    for packet in story.packets() {
        let own = |step: &&Step| step.record.id == packet && !is_link(step.record.point);
        let mut steps = story.steps.iter().filter(own);
        let Some(first) = steps.next() else { continue };
        let (count, last) = steps.fold((1, first), |(count, _), step| (count + 1, step));
        writeln!(
            out,
            "{}  {count} stations in {} ns: {} on {} to {} on {}",
            story.name(packet),
            last.record.time.0 - first.record.time.0,
            first.record.point.name(),
            story.host(first.machine),
            last.record.point.name(),
            story.host(last.machine),
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
