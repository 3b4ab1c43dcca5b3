//! Capture files of somebody else.

use drivers::net::wire_port::MAX_FRAME_LEN;
use hw::capture::{CaptureFile, CaptureWriter, Direction, Packet};
use hw::wire::WireEnd;
use stack::kernel::time::Ktime;
use std::io::Read;
use std::time::Duration;

/// A file that is read in pieces of so many octets.
struct Pieces<'a>(&'a [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let len = into.len().min(self.1);
        self.0.read(&mut into[..len])
    }
}

/// Its frames, each with its time, and whether it was read to its end.
fn frames(file: &[u8], piece: usize) -> (Vec<(Ktime, Vec<u8>)>, bool) {
    let (_end, outside) = WireEnd::open(1);
    let mut frames = Vec::new();
    let Ok(mut player) = CaptureFile::replay(outside, Pieces(file, piece), Ktime(1)) else {
        return (frames, false);
    };
    loop {
        let at = match player.next_at() {
            Ok(Some(at)) => at,
            Ok(None) => return (frames, true),
            Err(_) => break,
        };
        let frame = player.take_next().expect("it was held").expect("it was there");
        assert!(frame.len() <= MAX_FRAME_LEN);
        frames.push((at, frame));
    }
    // Said once; then it is at its end.
    assert!(matches!(player.next_at(), Ok(None)), "a broken file goes on");
    assert!(matches!(player.take_next(), Ok(None)));
    (frames, false)
}

/// Reads a file: each octet of it is in one frame at the most, frames come in the order of their times, and what was
/// read is the same when it is read in small pieces, and when it was written and read again.
pub fn pcapng_in(data: &[u8]) {
    let (read, whole) = frames(data, usize::MAX);
    let octets: usize = read.iter().map(|(_, frame)| frame.len()).sum();
    assert!(octets <= data.len(), "{octets} octets of {}", data.len());
    assert!(read.is_sorted_by_key(|(at, _)| *at), "times go back");
    assert_eq!(frames(data, 1 + data.len() % 7), (read.clone(), whole));

    let mut writer = CaptureWriter::new(Vec::new()).expect("memory");
    let interface = writer.interface("eth0").expect("memory");
    for (at, bytes) in &read {
        let (time, direction) = (Duration::from_nanos(at.0), Direction::In);
        let packet = Packet { interface, time, direction, bytes, len: bytes.len(), comment: None };
        writer.packet(&packet).expect("memory");
    }
    let (again, whole) = frames(&writer.into_inner(), usize::MAX);
    assert!(whole, "what was written is a file");
    assert_eq!(again, read);
}
