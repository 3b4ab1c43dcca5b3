use super::*;
use crate::scenario::Subject;
use crate::walk::tests::scene;
use std::collections::BTreeMap;

/// A field's value.
#[derive(Clone, Debug)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
}

impl Value {
    fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            Self::Bytes(_) => panic!("a number"),
        }
    }

    fn fields(&self) -> Fields {
        match self {
            Self::Bytes(bytes) => read(bytes),
            Self::Number(_) => panic!("a message"),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Bytes(bytes) => String::from_utf8(bytes.clone()).expect("text"),
            Self::Number(_) => panic!("text"),
        }
    }
}

type Fields = BTreeMap<u32, Vec<Value>>;

fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (byte, rest) = bytes.split_first().expect("a byte");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            break;
        }
    }
    value
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
    let (front, rest) = bytes.split_at(len);
    *bytes = rest;
    front
}

fn read(mut bytes: &[u8]) -> Fields {
    let mut fields = Fields::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)),
            1 => {
                let bytes = take(&mut bytes, 8).try_into().expect("eight bytes");
                Value::Number(u64::from_le_bytes(bytes))
            }
            2 => {
                let len = varint(&mut bytes) as usize;
                Value::Bytes(take(&mut bytes, len).to_vec())
            }
            other => panic!("wire type {other}"),
        };
        fields.entry((key >> 3) as u32).or_default().push(value);
    }
    fields
}

fn packets(subject: Subject) -> Vec<Fields> {
    let scene = scene(subject, false);
    let mut out = Vec::new();
    write(&mut out, &Story::new(&scene)).expect("a vector takes all");
    let trace = read(&out);
    assert_eq!(trace.keys().collect::<Vec<_>>(), [&field::TRACE_PACKET]);
    trace[&field::TRACE_PACKET].iter().map(Value::fields).collect()
}

fn events(packets: &[Fields]) -> Vec<(u64, Fields)> {
    let events = packets.iter().filter(|packet| packet.contains_key(&field::PACKET_EVENT));
    events
        .map(|packet| {
            let time = packet[&field::PACKET_TIMESTAMP][0].number();
            (time, packet[&field::PACKET_EVENT][0].fields())
        })
        .collect()
}

#[test]
fn machines_are_processes_and_cpus_threads() {
    let packets = packets(Subject::Udp);
    let mut names = Vec::new();
    for packet in packets.iter().filter(|packet| packet.contains_key(&field::PACKET_TRACK)) {
        let track = packet[&field::PACKET_TRACK][0].fields();
        if let Some(process) = track.get(&field::TRACK_PROCESS) {
            names.push(process[0].fields()[&field::PROCESS_NAME][0].text());
        }
        if let Some(thread) = track.get(&field::TRACK_THREAD) {
            names.push(thread[0].fields()[&field::THREAD_NAME][0].text());
        }
    }
    assert_eq!(names, ["machine A", "CPU 0", "machine B", "CPU 0"]);
    assert!(packets.iter().all(|packet| packet[&field::PACKET_SEQUENCE][0].number() == SEQUENCE));
}

#[test]
fn slices_open_and_close_in_order() {
    let mut open: BTreeMap<u64, i32> = BTreeMap::new();
    let mut before = 0;
    for (time, event) in events(&packets(Subject::Icmp)) {
        let track = event[&field::EVENT_TRACK][0].number();
        let depth = open.entry(track).or_default();
        match event[&field::EVENT_TYPE][0].number() {
            SLICE_BEGIN => *depth += 1,
            SLICE_END => *depth -= 1,
            _ => assert_eq!(*depth, 1, "a station lies in a slice"),
        }
        assert!((0..=1).contains(depth));
        assert!(time >= before, "times ascend");
        before = time;
    }
    assert!(open.values().all(|depth| *depth == 0));
}

#[test]
fn a_packet_flows_from_machine_to_machine() {
    let mut flows: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for (_, event) in events(&packets(Subject::Udp)) {
        if let Some(flow) = event.get(&field::EVENT_FLOW) {
            let track = event[&field::EVENT_TRACK][0].number();
            flows.entry(flow[0].number()).or_default().push(track);
        }
    }
    let (a, b) = (track(0, Some(0)), track(1, Some(0)));
    assert_eq!(flows.into_values().collect::<Vec<_>>(), [vec![a, b, b], vec![b, a, a]]);
}

#[test]
fn numbers_beyond_seven_bits_survive() {
    for number in [0, 127, 128, 300, u64::MAX] {
        let bytes = Message::default().number(1, number).0;
        assert_eq!(read(&bytes)[&1][0].number(), number);
    }
}
