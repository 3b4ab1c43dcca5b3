//! The walk as a Perfetto trace: a process for each machine, a thread for each CPU, a slice for
//! each call and interrupt, an instant for each station, a flow for each packet.
//!
//! The format is protobuf (perfetto/trace/trace_packet.proto); field numbers are named below.

use super::{Block, Runner, Step, Story, is_link};
use std::io::{self, Write};

/// Fields of `Trace`, `TracePacket`, `TrackDescriptor` and `TrackEvent`, by the schema's numbers.
mod field {
    pub const TRACE_PACKET: u32 = 1;
    pub const PACKET_TIMESTAMP: u32 = 8;
    pub const PACKET_SEQUENCE: u32 = 10;
    pub const PACKET_EVENT: u32 = 11;
    pub const PACKET_TRACK: u32 = 60;
    pub const TRACK_UUID: u32 = 1;
    pub const TRACK_PROCESS: u32 = 3;
    pub const TRACK_THREAD: u32 = 4;
    pub const TRACK_PARENT: u32 = 5;
    pub const PROCESS_PID: u32 = 1;
    pub const PROCESS_NAME: u32 = 6;
    pub const THREAD_PID: u32 = 1;
    pub const THREAD_TID: u32 = 2;
    pub const THREAD_NAME: u32 = 5;
    pub const EVENT_ANNOTATION: u32 = 4;
    pub const EVENT_TYPE: u32 = 9;
    pub const EVENT_TRACK: u32 = 11;
    pub const EVENT_NAME: u32 = 23;
    pub const EVENT_FLOW: u32 = 47;
    pub const ANNOTATION_NAME: u32 = 10;
    pub const ANNOTATION_TEXT: u32 = 6;
}

const SLICE_BEGIN: u64 = 1;
const SLICE_END: u64 = 2;
const INSTANT: u64 = 3;

/// One writer, one sequence of packets.
const SEQUENCE: u64 = 1;

/// A protobuf message in the making.
#[derive(Debug, Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    fn number(mut self, field: u32, value: u64) -> Self {
        self.key(field, 0);
        self.varint(value);
        self
    }

    fn fixed64(mut self, field: u32, value: u64) -> Self {
        self.key(field, 1);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.key(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
        self
    }

    fn text(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn message(self, field: u32, message: &Message) -> Self {
        self.bytes(field, &message.0)
    }
}

/// Writes the trace.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, story: &Story<'_>) -> io::Result<()> {
    for (machine, host) in story.scene.hosts.iter().enumerate() {
        let machine = machine as u16;
        emit(out, Message::default().message(field::PACKET_TRACK, &process(machine, &host.name)))?;
        for cpu in 0..host.cpus {
            emit(out, Message::default().message(field::PACKET_TRACK, &thread(machine, cpu)))?;
        }
    }
    for block in &story.blocks {
        write_block(out, story, block)?;
    }
    Ok(())
}

/// A process id: machines count from one.
fn pid(machine: u16) -> u64 {
    u64::from(machine) + 1
}

/// Identifies a machine's track, or that of one of its CPUs.
fn track(machine: u16, cpu: Option<u8>) -> u64 {
    pid(machine) << 8 | cpu.map_or(0, |cpu| u64::from(cpu) + 1)
}

fn process(machine: u16, name: &str) -> Message {
    let process = Message::default()
        .number(field::PROCESS_PID, pid(machine))
        .text(field::PROCESS_NAME, &format!("machine {name}"));
    Message::default()
        .number(field::TRACK_UUID, track(machine, None))
        .message(field::TRACK_PROCESS, &process)
}

fn thread(machine: u16, cpu: u8) -> Message {
    let thread = Message::default()
        .number(field::THREAD_PID, pid(machine))
        .number(field::THREAD_TID, track(machine, Some(cpu)))
        .text(field::THREAD_NAME, &format!("CPU {cpu}"));
    Message::default()
        .number(field::TRACK_UUID, track(machine, Some(cpu)))
        .number(field::TRACK_PARENT, track(machine, None))
        .message(field::TRACK_THREAD, &thread)
}

fn write_block(out: &mut dyn Write, story: &Story<'_>, block: &Block) -> io::Result<()> {
    let steps = &story.steps[block.steps.clone()];
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return Ok(()) };
    let track = track(block.machine, Some(block.cpu));
    let event =
        |kind| Message::default().number(field::EVENT_TYPE, kind).number(field::EVENT_TRACK, track);
    let begin = event(SLICE_BEGIN).text(field::EVENT_NAME, name(block, first));
    emit(out, at(first.record.time.0, &begin))?;
    let mut flowing = Vec::new();
    for step in steps.iter().filter(|step| !is_link(step.record.point)) {
        let record = &step.record;
        let mut instant = event(INSTANT).text(field::EVENT_NAME, record.point.name());
        instant = annotate(instant, "file", record.point.file());
        if story.is_packet(record.id) {
            instant = annotate(instant, "packet", &story.name(record.id));
            instant = annotate(instant, "bytes", &record.len.to_string());
            // An arrow from block to block; one at every station would hide them.
            if !flowing.contains(&record.id) {
                flowing.push(record.id);
                instant = instant.fixed64(field::EVENT_FLOW, record.id.0);
            }
        }
        if let Some(reason) = record.drop_reason() {
            instant = annotate(instant, "drop", reason.name());
        }
        emit(out, at(record.time.0, &instant))?;
    }
    emit(out, at(last.record.time.0 + 1, &event(SLICE_END)))
}

fn annotate(event: Message, name: &str, text: &str) -> Message {
    let annotation =
        Message::default().text(field::ANNOTATION_NAME, name).text(field::ANNOTATION_TEXT, text);
    event.message(field::EVENT_ANNOTATION, &annotation)
}

fn name(block: &Block, first: &Step) -> &'static str {
    match block.runner {
        Runner::Task if first.record.point.name().starts_with("sys_") => first.record.point.name(),
        Runner::Task => "task",
        Runner::Hardirq => "hard interrupt",
        Runner::Softirq => "softirq",
        Runner::Ksoftirqd => "ksoftirqd",
    }
}

fn at(ns: u64, event: &Message) -> Message {
    Message::default().number(field::PACKET_TIMESTAMP, ns).message(field::PACKET_EVENT, event)
}

/// Writes one packet of the trace.
fn emit(out: &mut dyn Write, packet: Message) -> io::Result<()> {
    let packet = packet.number(field::PACKET_SEQUENCE, SEQUENCE);
    out.write_all(&Message::default().message(field::TRACE_PACKET, &packet).0)
}

#[cfg(test)]
mod tests;
