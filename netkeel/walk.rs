//! The walk as a person or a program reads it: text, JSON lines, pcapng, Perfetto.
//!
//! Key types: [`Story`] orders a scene's records into the blocks they were left in and names the
//! packets; [`write()`] puts it out in a [`Format`]. Contexts: none. Locks: none.
//! Invariant: output is a function of the scene alone, so the same seed gives the same bytes.

pub mod all;
pub mod json;
pub mod pcapng;
pub mod perfetto;
mod places;
pub mod stations;
pub mod text;

use crate::scenario::Scene;
use stack::kernel::trace::{Context, Record, WalkId, events::Point};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::ops::Range;

/// How the walk is put out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Format {
    /// A tree for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
    /// A capture for Wireshark, each frame with its packet's walk as a comment.
    Pcapng,
    /// A trace for ui.perfetto.dev.
    Perfetto,
}

impl Format {
    /// The format is bytes that no terminal should get.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Pcapng | Self::Perfetto)
    }

    /// The format needs the frames, not only the records.
    pub fn needs_frames(self) -> bool {
        self == Self::Pcapng
    }
}

/// What ran a block: a call or one kind of interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runner {
    /// A task, in a system call or its bottom-half section.
    Task,
    /// A hard interrupt.
    Hardirq,
    /// A softirq on the way out of an interrupt or a section.
    Softirq,
    /// A softirq in ksoftirqd.
    Ksoftirqd,
}

impl From<Context> for Runner {
    fn from(context: Context) -> Self {
        match context {
            Context::Task | Context::Bh => Self::Task,
            Context::Hardirq => Self::Hardirq,
            Context::Softirq => Self::Softirq,
            Context::Ksoftirqd => Self::Ksoftirqd,
        }
    }
}

/// Consecutive records of one span, by one runner on one CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The machine.
    pub machine: u16,
    /// The CPU.
    pub cpu: u8,
    /// What ran.
    pub runner: Runner,
    /// The call or interrupt.
    pub span: WalkId,
    /// Its records in the story.
    pub steps: Range<usize>,
}

/// How a packet came to be, where the walk tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// By a call, or from outside.
    Call,
    /// While this packet was handled: its answer, or what it needed first.
    MadeFor(WalkId),
    /// A clone of this packet.
    CloneOf(WalkId),
    /// Merged into this packet.
    MergedInto(WalkId),
}

/// A record at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The machine.
    pub machine: u16,
    /// The record.
    pub record: Record,
    /// The span in which it was left; its own id for a span's record.
    pub span: WalkId,
}

/// A scene in its order.
#[derive(Debug)]
pub struct Story<'a> {
    /// The scene.
    pub scene: &'a Scene,
    /// Every record, by time.
    pub steps: Vec<Step>,
    /// The steps, cut where machine, CPU, span or runner change.
    pub blocks: Vec<Block>,
    packets: BTreeSet<WalkId>,
    /// A number for each packet, and one below it for each of its clones.
    names: BTreeMap<WalkId, (usize, usize)>,
    origins: BTreeMap<WalkId, Origin>,
}

impl<'a> Story<'a> {
    /// Orders a scene.
    pub fn new(scene: &'a Scene) -> Self {
        let packets = packets(&scene.records);
        let steps = place(&scene.records, &packets);
        let blocks = cut(&steps);
        let mut story = Self {
            scene,
            steps,
            blocks,
            packets,
            names: BTreeMap::new(),
            origins: BTreeMap::new(),
        };
        story.trace_origins();
        story
    }

    /// The id is a packet's, not a span's.
    pub fn is_packet(&self, id: WalkId) -> bool {
        self.packets.contains(&id)
    }

    /// A packet's short name: `#1` is the first that was seen, `#1.1` its first clone.
    pub fn name(&self, packet: WalkId) -> String {
        match self.names.get(&packet) {
            Some((number, 0)) => format!("#{number}"),
            Some((number, clone)) => format!("#{number}.{clone}"),
            None => "#?".to_owned(),
        }
    }

    /// The packets, in the order in which they were first seen.
    pub fn packets(&self) -> Vec<WalkId> {
        let mut all: Vec<_> = self.names.iter().map(|(id, number)| (*number, *id)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id).collect()
    }

    /// How a packet came to be.
    pub fn origin(&self, packet: WalkId) -> Origin {
        self.origins.get(&packet).copied().unwrap_or(Origin::Call)
    }

    /// A machine's name.
    pub fn host(&self, machine: u16) -> &str {
        self.scene.hosts.get(usize::from(machine)).map_or("?", |host| host.name.as_str())
    }

    /// The name of the device a record was left at.
    pub fn dev(&self, step: &Step) -> Option<&str> {
        self.scene.hosts.get(usize::from(step.machine))?.dev(step.record.dev)
    }

    /// When the first record was left.
    pub fn start(&self) -> u64 {
        self.steps.first().map_or(0, |step| step.record.time.0)
    }

    /// Names packets and finds what they were made for: the packet last seen, and not yet at its
    /// end, in the same block.
    fn trace_origins(&mut self) {
        for block in self.blocks.clone() {
            let mut alive: Vec<WalkId> = Vec::new();
            for at in block.steps {
                let record = self.steps[at].record;
                if !self.packets.contains(&record.id) {
                    continue;
                }
                let new = !self.names.contains_key(&record.id);
                let origin = match (record.point, record.link()) {
                    (Point::link_clone, Some(parent)) => Some(Origin::CloneOf(parent)),
                    (Point::link_merge, Some(parent)) => Some(Origin::MergedInto(parent)),
                    _ if new => alive.last().map(|parent| Origin::MadeFor(*parent)),
                    _ => None,
                };
                if new {
                    self.give_name(record.id, origin);
                }
                // A fragment becomes a part again of the packet that it was cut from.
                let back = |before: &Origin| match (before, origin) {
                    (Origin::CloneOf(from), Some(Origin::MergedInto(into))) => *from == into,
                    _ => false,
                };
                if let Some(origin) = origin
                    && !self.origins.get(&record.id).is_some_and(back)
                {
                    self.origins.insert(record.id, origin);
                }
                alive.retain(|id| *id != record.id);
                if !is_end(record.point) {
                    alive.push(record.id);
                }
            }
        }
    }

    fn give_name(&mut self, packet: WalkId, origin: Option<Origin>) {
        let of = match origin {
            Some(Origin::CloneOf(parent)) => self.names.get(&parent).map(|name| name.0),
            _ => None,
        };
        let largest = |names: &mut dyn Iterator<Item = usize>| names.max().unwrap_or(0) + 1;
        let mut names = self.names.values();
        let name = match of {
            Some(number) => {
                let clones = &mut names.filter(|name| name.0 == number).map(|name| name.1);
                (number, largest(clones))
            }
            None => (largest(&mut names.by_ref().map(|name| name.0)), 0),
        };
        self.names.insert(packet, name);
    }
}

/// The station is a packet's end.
pub fn is_end(point: Point) -> bool {
    matches!(point, Point::consume_skb | Point::kfree_skb)
}

/// The record says how ids belong together; nothing was done there.
pub fn is_link(point: Point) -> bool {
    matches!(point, Point::link_span | Point::link_clone | Point::link_merge)
}

/// Ids of packets: linked somewhere, or seen with a length or device.
fn packets(records: &[(u16, Record)]) -> BTreeSet<WalkId> {
    let of_packet = |record: &&Record| is_link(record.point) || record.len != 0 || record.dev != 0;
    records.iter().map(|(_, record)| record).filter(of_packet).map(|record| record.id).collect()
}

/// Finds each record's span. A CPU does one thing at a time, so a packet's record belongs to what
/// was last recorded there; a task's, to the call that ran there last, since an interrupt may have
/// come between.
fn place(records: &[(u16, Record)], packets: &BTreeSet<WalkId>) -> Vec<Step> {
    let mut latest: BTreeMap<(u16, u8), WalkId> = BTreeMap::new();
    let mut calls: BTreeMap<(u16, u8), WalkId> = BTreeMap::new();
    let mut steps = Vec::with_capacity(records.len());
    for &(machine, record) in records {
        let cpu = (machine, record.cpu);
        let in_task = record.context == Context::Task;
        let own = if !packets.contains(&record.id) {
            Some(record.id)
        } else if record.point == Point::link_span {
            record.link()
        } else {
            None
        };
        if let Some(span) = own {
            latest.insert(cpu, span);
            if in_task {
                calls.insert(cpu, span);
            }
        }
        let known = if in_task { &calls } else { &latest };
        let span = known.get(&cpu).copied().unwrap_or_default();
        steps.push(Step { machine, record, span });
    }
    steps
}

fn cut(steps: &[Step]) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        let (machine, cpu, span) = (step.machine, step.record.cpu, step.span);
        let runner = Runner::from(step.record.context);
        // A call that was woken begins with its first station again: a block of its own.
        let resumed = at.checked_sub(1).is_some_and(|before| {
            steps[before].record.point == Point::wait_for_more_packets
                && steps[before].machine == machine
        });
        match blocks.last_mut() {
            Some(block)
                if (block.machine, block.cpu, block.runner, block.span)
                    == (machine, cpu, runner, span)
                    && !resumed =>
            {
                block.steps.end = at + 1;
            }
            _ => blocks.push(Block { machine, cpu, runner, span, steps: at..at + 1 }),
        }
    }
    blocks
}

/// Puts a scene out.
///
/// # Errors
/// Those of `out`.
pub fn write(
    out: &mut dyn Write,
    scene: &Scene,
    format: Format,
    options: text::Options,
) -> io::Result<()> {
    let story = Story::new(scene);
    match format {
        Format::Text => text::write(out, &story, options),
        Format::Json => json::write(out, &story),
        Format::Pcapng => pcapng::write(out, &story),
        Format::Perfetto => perfetto::write(out, &story),
    }
}

#[cfg(test)]
mod tests;
