use super::*;
use crate::wire::{Carrier, WireEnd};
use drivers::net::wire_port::{FrameMeta, VnetMeta, WirePort};

const EPOCH: Duration = Duration::from_secs(1_767_225_600);

fn meta() -> FrameMeta {
    FrameMeta::default()
}

/// A frame whose octets tell it from others.
fn frame(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|at| seed ^ at as u8).collect()
}

/// The frames a device got, in order.
fn received(end: &WireEnd) -> Vec<Vec<u8>> {
    let mut batch = FrameBatch::new();
    end.receive(usize::MAX, &mut batch);
    batch.iter().map(|(frame, _)| frame.to_vec()).collect()
}

fn send(end: &WireEnd, frame: &[u8]) {
    let mut batch = FrameBatch::new();
    assert!(batch.push(frame, meta()));
    assert_eq!(end.transmit(&mut batch), 1);
}

/// A pcapng file with these frames, a millisecond apart.
fn pcapng(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = CaptureWriter::new(Vec::new()).unwrap();
    let interface = writer.interface("eth0").unwrap();
    for (at, bytes) in frames.iter().enumerate() {
        let time = EPOCH + Duration::from_millis(at as u64);
        let (direction, comment) = (Direction::In, Some("a comment"));
        writer
            .packet(&Packet { interface, time, direction, bytes, len: bytes.len(), comment })
            .unwrap();
    }
    let statistics = Statistics { start: EPOCH, end: EPOCH, received: 1, dropped: 0 };
    writer.statistics(interface, &statistics).unwrap();
    writer.into_inner()
}

/// A pcap file in either octet order, microseconds, with these `(seconds, microseconds, frame)`.
fn pcap(order: fn(u32) -> [u8; 4], frames: &[(u32, u32, Vec<u8>)]) -> Vec<u8> {
    let mut file = order(0xa1b2_c3d4).to_vec();
    for word in [0x0002_0004, 0, 0, 65535, 1] {
        file.extend(order(word));
    }
    for (secs, micros, frame) in frames {
        for word in [*secs, *micros, frame.len() as u32, frame.len() as u32] {
            file.extend(order(word));
        }
        file.extend(frame);
    }
    file
}

/// Plays a file to its end or its error; what arrived.
fn play(file: &[u8]) -> (Vec<Vec<u8>>, Result<u64, ReplayError>) {
    let (device, outside) = WireEnd::open(1024);
    let mut replay = match CaptureFile::replay(outside, file, Ktime::ZERO) {
        Ok(replay) => replay,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let mut frames = Vec::new();
    loop {
        let stepped = replay.step(Ktime::MAX);
        frames.extend(received(&device));
        match stepped {
            Ok(0) => return (frames, Ok(replay.skipped())),
            Ok(_) => {}
            Err(error) => {
                assert!(matches!(replay.step(Ktime::MAX), Ok(0)), "nothing comes after an error");
                return (frames, Err(error));
            }
        }
    }
}

fn complaint(file: &[u8]) -> (u64, &'static str) {
    match play(file).1 {
        Err(ReplayError::Malformed { at, what }) => (at, what),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_a_device_sends_is_recorded_and_plays_again() {
    let (device, outside) = WireEnd::open(8);
    let mut recorder = CaptureFile::record(outside, "eth0", Vec::new()).unwrap();
    let frames: Vec<_> = (0..5).map(|n| frame(n, 60 + usize::from(n))).collect();
    send(&device, &frames[0]);
    assert_eq!(recorder.step(EPOCH).unwrap(), 1);
    assert_eq!(recorder.step(EPOCH).unwrap(), 0);
    frames[1..].iter().for_each(|frame| send(&device, frame));
    assert_eq!(recorder.step(EPOCH + Duration::from_nanos(1)).unwrap(), 4);
    assert_eq!(recorder.recorded(), 5);
    let file = recorder.finish(EPOCH + Duration::from_secs(1)).unwrap();
    let (played, skipped) = play(&file);
    assert_eq!((played, skipped.unwrap()), (frames, 0));
}

#[test]
fn a_checksum_left_to_the_receiver_is_filled_in() {
    let (device, outside) = WireEnd::open(8);
    let mut recorder = CaptureFile::record(outside, "eth0", Vec::new()).unwrap();
    let mut bytes = frame(7, 40);
    bytes[26..28].fill(0);
    let vnet = VnetMeta { csum_start: Some(20), csum_offset: 6, ..VnetMeta::default() };
    let mut batch = FrameBatch::new();
    assert!(batch.push(&bytes, FrameMeta { packet_id: 0, vnet: Some(vnet) }));
    assert_eq!(device.transmit(&mut batch), 1);
    recorder.step(EPOCH).unwrap();
    let (played, _) = play(&recorder.finish(EPOCH).unwrap());
    assert!(fill_checksum(&mut bytes, 20, 6));
    assert_ne!(bytes[26..28], [0, 0]);
    assert_eq!(played, [bytes]);
}

#[test]
fn a_checksum_outside_the_frame_leaves_it_alone() {
    for (start, offset) in [(41, 0), (40, 0), (38, 1), (0, 39), (0, usize::MAX), (usize::MAX, 0)] {
        let mut bytes = frame(7, 40);
        assert!(!fill_checksum(&mut bytes, start, offset), "{start} {offset}");
        assert_eq!(bytes, frame(7, 40));
    }
}

/// Takes so many octets, then no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0 = self.0.checked_sub(buf.len()).ok_or(ErrorKind::StorageFull)?;
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_told_by_every_step_and_does_not_hold_up_the_device() {
    let (device, outside) = WireEnd::open(2);
    let mut recorder = CaptureFile::record(outside, "eth0", Full(300)).unwrap();
    for _ in 0..2 {
        send(&device, &frame(1, 60));
        recorder.step(EPOCH).unwrap();
    }
    for _ in 0..5 {
        send(&device, &frame(2, 60));
        assert_eq!(recorder.step(EPOCH).unwrap_err().kind(), ErrorKind::StorageFull);
    }
    assert_eq!(recorder.recorded(), 2);
    assert_eq!(recorder.finish(EPOCH).err().map(|e| e.kind()), Some(ErrorKind::StorageFull));
}

#[test]
fn frames_are_taken_out_of_a_file_by_hand() {
    let (device, outside) = WireEnd::open(2);
    let frames: Vec<_> = (0..3).map(|n| frame(n, 60)).collect();
    let file = pcapng(&frames);
    let start = Ktime::from_secs(3);
    let mut replay = CaptureFile::replay(outside, file.as_slice(), start).unwrap();
    assert_eq!(replay.take_next().unwrap().as_deref(), Some(&frames[0][..]));
    assert_eq!(replay.next_at().unwrap(), Some(Ktime::from_millis(3001)));
    assert_eq!(replay.step(Ktime::from_millis(3001)).unwrap(), 1, "the others go as before");
    assert_eq!(received(&device), frames[1..2]);
    assert_eq!(replay.take_next().unwrap().as_deref(), Some(&frames[2][..]));
    assert_eq!((replay.take_next().unwrap(), replay.next_at().unwrap()), (None, None));
    assert_eq!(replay.sent(), 1);
}

#[test]
fn frames_go_in_their_time_and_wait_for_room() {
    let (device, outside) = WireEnd::open(2);
    let frames: Vec<_> = (0..5).map(|n| frame(n, 60)).collect();
    let file = pcapng(&frames);
    let start = Ktime::from_secs(3);
    let mut replay = CaptureFile::replay(outside.clone(), file.as_slice(), start).unwrap();
    assert_eq!(replay.step(Ktime::from_millis(2999)).unwrap(), 0);
    assert_eq!(replay.next_at().unwrap(), Some(start));
    assert_eq!(replay.step(start).unwrap(), 1);
    assert_eq!(replay.next_at().unwrap(), Some(Ktime::from_millis(3001)));
    assert_eq!(replay.step(Ktime::MAX).unwrap(), 1, "the queue has two places");
    assert_eq!(received(&device), frames[..2]);
    outside.set_carrier(Carrier::Down);
    assert_eq!(replay.step(Ktime::MAX).unwrap(), 0);
    outside.set_carrier(Carrier::Up);
    assert_eq!(replay.step(Ktime::from_millis(3003)).unwrap(), 2);
    assert_eq!(received(&device), frames[2..4]);
    assert_eq!(replay.step(Ktime::MAX).unwrap(), 1);
    assert_eq!((replay.next_at().unwrap(), replay.sent()), (None, 5));
}

#[test]
fn both_octet_orders_of_pcap_are_read_and_times_that_go_back_keep_the_order() {
    let frames = [(5, 999_999, frame(1, 60)), (6, 1, frame(2, 61)), (5, 0, frame(3, 62))];
    for order in [u32::to_be_bytes, u32::to_le_bytes] {
        let file = pcap(order, &frames);
        let (device, outside) = WireEnd::open(8);
        let mut replay = CaptureFile::replay(outside, file.as_slice(), Ktime::ZERO).unwrap();
        assert_eq!(replay.step(Ktime(1999)).unwrap(), 1);
        assert_eq!(replay.next_at().unwrap(), Some(Ktime(2000)), "microseconds");
        assert_eq!(replay.step(Ktime(2000)).unwrap(), 2);
        assert_eq!(received(&device), frames.clone().map(|(.., frame)| frame));
    }
}

/// A little-endian block.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let len = (12 + body.len() as u32).to_le_bytes();
    [&kind.to_le_bytes(), &len, body, &len].concat()
}

fn section() -> Vec<u8> {
    let mut body = 0x1a2b_3c4du32.to_le_bytes().to_vec();
    body.extend([1, 0, 0, 0]);
    body.extend([0xff; 8]);
    block(0x0a0d_0d0a, &body)
}

#[test]
fn simple_and_old_packets_and_blocks_nobody_knows_are_read() {
    let mut file = section();
    // Ethernet, 64 octets kept; milliseconds; a time zone, as other programs write it.
    let options = [9, 0, 1, 0, 3, 0, 0, 0, 10, 0, 4, 0, 0, 0, 0, 0];
    file.extend(block(1, &[&[1, 0, 0, 0, 64, 0, 0, 0][..], &options].concat()));
    file.extend(block(0x0bad, &[0; 400_000]));
    file.extend(block(3, &[&60u32.to_le_bytes(), &frame(1, 60)[..]].concat()));
    let packet = |ms: u32, len: u32| {
        let words = [0, 0, ms, 64, len].map(u32::to_le_bytes).concat();
        block(2, &[words, frame(2, 64)].concat())
    };
    file.extend(packet(7, 64));
    file.extend(packet(8, 65));
    file.extend(packet(9, 64));
    let (device, outside) = WireEnd::open(8);
    let mut replay = CaptureFile::replay(outside, file.as_slice(), Ktime::ZERO).unwrap();
    assert_eq!(replay.step(Ktime::from_millis(1)).unwrap(), 2);
    assert_eq!(replay.next_at().unwrap(), Some(Ktime::from_millis(2)));
    assert_eq!(replay.step(Ktime::from_millis(2)).unwrap(), 1);
    assert_eq!(received(&device), [frame(1, 60), frame(2, 64), frame(2, 64)]);
    assert_eq!(replay.skipped(), 1, "cut short when it was captured");
}

#[test]
fn other_links_are_passed_over() {
    let mut file = section();
    file.extend(block(1, &[101, 0, 0, 0, 0, 0, 0, 0]));
    file.extend(block(3, &[&8u32.to_le_bytes(), &[0; 8][..]].concat()));
    let (frames, skipped) = play(&file);
    assert_eq!((frames.len(), skipped.unwrap()), (0, 1));
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    assert_eq!(complaint(b""), (0, "neither a pcap nor a pcapng file"));
    assert_eq!(complaint(b"GET / HTTP/1.1\r\n"), (0, "neither a pcap nor a pcapng file"));
    let whole = pcap(u32::to_be_bytes, &[(0, 0, frame(1, 60))]);
    assert_eq!(complaint(&whole[..90]), (24, "the file ends in the middle of it"));
    let mut long = whole.clone();
    long[32..36].copy_from_slice(&0x7fff_ffffu32.to_be_bytes());
    assert_eq!(complaint(&long), (24, "a packet longer than a wire carries"));
    let begin = section().len() as u64;
    let after = |rest: &[u8]| complaint(&[&section(), rest].concat());
    let no_interface = block(3, &[&8u32.to_le_bytes(), &[0; 8][..]].concat());
    assert_eq!(after(&no_interface), (begin, "a packet of an interface that was not described"));
    let mut lengths = block(0x0bad, &[0; 8]);
    lengths[16] = 24;
    assert_eq!(after(&lengths), (begin, "a block whose two lengths differ"));
    lengths[4] = 3;
    assert_eq!(after(&lengths), (begin, "a block of an impossible length"));
    let huge = [6, 0, 0, 0, 0xfc, 0xff, 0xff, 0xff];
    assert_eq!(after(&huge), (begin, "a packet longer than a wire carries"));
    let interface = block(1, &[1, 0, 0, 0, 0, 0, 0, 0, 9, 0, 200, 0]);
    assert_eq!(after(&interface), (begin, "an interface description that is cut short"));
    let short = [block(1, &[1, 0, 0, 0, 0, 0, 0, 0]), block(6, &[0; 16])].concat();
    assert_eq!(after(&short), (begin + 20, "a packet that does not fit its block"));
    let many = block(1, &[1, 0, 0, 0, 0, 0, 0, 0]).repeat(4097);
    assert_eq!(after(&many), (begin + 4096 * 20, "more interfaces than can be kept"));
    let text = play(&whole[..90]).1.unwrap_err().to_string();
    assert_eq!(text, "capture file, at octet 24: the file ends in the middle of it");
}

#[test]
fn a_file_cut_anywhere_gives_its_whole_frames_first() {
    let frames: Vec<_> = (0..4).map(|n| frame(n, 60 + usize::from(n))).collect();
    let plain: Vec<_> = frames.iter().map(|frame| (1, 0, frame.clone())).collect();
    for file in [pcapng(&frames), pcap(u32::to_le_bytes, &plain)] {
        let mut most = 0;
        for len in 0..=file.len() {
            let (got, result) = play(&file[..len]);
            assert_eq!(got, frames[..got.len()], "{len}");
            assert!(got.len() >= most, "{len}");
            most = got.len();
            assert!(result.is_ok() || !matches!(result, Err(ReplayError::Io { .. })), "{len}");
        }
        assert_eq!(most, 4);
    }
}

/// Numbers that are the same in every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) as usize
    }
}

#[test]
fn bent_and_random_files_never_panic() {
    let mut noise = Noise(1);
    let frames: Vec<_> = (0..4).map(|n| frame(n, 60)).collect();
    let plain: Vec<_> = frames.iter().map(|frame| (1, 0, frame.clone())).collect();
    let files = [pcapng(&frames), pcap(u32::to_be_bytes, &plain), section()];
    for round in 0..20_000 {
        let mut file = files[round % files.len()].clone();
        if round % 5 == 0 {
            // Behind a good beginning, nothing but noise.
            file.truncate(noise.next() % (file.len() + 1));
            file.extend((0..200).map(|_| noise.next() as u8));
        }
        for _ in 0..1 + noise.next() % 8 {
            let at = noise.next() % file.len();
            file[at] = [noise.next() as u8, 0, 0xff, 1][noise.next() % 4];
        }
        let (got, _) = play(&file);
        assert!(got.len() <= file.len());
    }
}

#[test]
fn an_unreadable_file_is_told() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(ErrorKind::PermissionDenied.into())
        }
    }
    let (_, outside) = WireEnd::open(1);
    let error = CaptureFile::replay(outside, Broken, Ktime::ZERO).unwrap_err();
    assert_eq!(error.to_string(), "capture file, at octet 0: permission denied");
}

#[test]
fn a_long_comment_is_cut_between_characters() {
    let mut writer = CaptureWriter::new(Vec::new()).unwrap();
    let interface = writer.interface("eth0").unwrap();
    let comment = "\u{7ad9}".repeat(30_000);
    let (bytes, direction) = (&frame(1, 60)[..], Direction::Out);
    let comment = Some(comment.as_str());
    writer
        .packet(&Packet { interface, time: EPOCH, direction, bytes, len: bytes.len(), comment })
        .unwrap();
    let (got, result) = play(&writer.into_inner());
    assert_eq!((got.as_slice(), result.unwrap()), (&[bytes.to_vec()][..], 0));
}
