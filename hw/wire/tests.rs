use super::*;

fn meta(packet_id: u64) -> FrameMeta {
    FrameMeta { packet_id, vnet: None }
}

fn batch(frames: &[&[u8]]) -> FrameBatch {
    let mut b = FrameBatch::new();
    for (i, f) in frames.iter().enumerate() {
        assert!(b.push(f, meta(i as u64 + 1)));
    }
    b
}

#[test]
fn frames_cross_in_order_with_their_packet_ids() {
    let (a, b) = Wire::pair(8);
    assert_eq!(a.transmit(&mut batch(&[b"x", b"yy"])), 2);
    assert_eq!(a.transmit(&mut batch(&[b"zzz"])), 1);
    assert_eq!((b.pending(), a.pending()), (3, 0));
    let mut got = FrameBatch::new();
    assert_eq!(b.receive(2, &mut got), 2);
    assert_eq!(b.receive(9, &mut got), 1);
    let got: Vec<_> = got.iter().map(|(f, m)| (f.to_vec(), m.packet_id)).collect();
    assert_eq!(got, [(b"x".to_vec(), 1), (b"yy".to_vec(), 2), (b"zzz".to_vec(), 1)]);
}

#[test]
fn a_full_queue_leaves_the_rest_with_the_sender() {
    let (a, b) = Wire::pair(2);
    let mut three = batch(&[b"1", b"2", b"3"]);
    assert_eq!(a.transmit(&mut three), 2);
    assert_eq!(three.get(0).unwrap().0, b"3");
    assert_eq!(b.dropped(), 1);
    let mut got = FrameBatch::new();
    assert_eq!(b.receive(64, &mut got), 2);
    assert_eq!(a.transmit(&mut three), 1);
}

#[test]
fn a_queue_is_bounded_in_bytes_too() {
    let (a, b) = Wire::pair(64);
    let big = vec![0; MAX_FRAME_LEN];
    let mut offered = FrameBatch::new();
    for _ in 0..5 {
        assert!(offered.push(&big, meta(0)));
    }
    assert_eq!(a.transmit(&mut offered), 64 * BYTES_PER_FRAME / MAX_FRAME_LEN);
    assert_eq!(b.dropped(), 3);
}

#[test]
fn the_receiver_may_answer_from_its_notification() {
    let (a, b) = Wire::pair(8);
    let answering = b.clone();
    b.set_notify(Box::new(move |event| {
        assert_eq!(event, WireEvent::Frames);
        let mut got = FrameBatch::new();
        answering.receive(8, &mut got);
        answering.transmit(&mut got);
    }))
    .unwrap();
    assert_eq!(b.set_notify(Box::new(|_| ())), Err(NotifyTaken));
    a.transmit(&mut batch(&[b"ping"]));
    let mut got = FrameBatch::new();
    assert_eq!(a.receive(8, &mut got), 1);
    assert_eq!(got.get(0).unwrap().0, b"ping");
}

#[test]
fn a_pulled_cable_tells_both_ends_and_loses_what_is_in_flight() {
    use std::sync::atomic::AtomicUsize;
    let (end, outside) = WireEnd::open(8);
    let told = Arc::new(AtomicUsize::new(0));
    for side in [&end, outside.end()] {
        let told = Arc::clone(&told);
        side.set_notify(Box::new(move |event| {
            told.fetch_add(usize::from(event == WireEvent::Carrier), Ordering::Relaxed);
        }))
        .unwrap();
    }
    assert!(outside.inject(b"lost", meta(0)));
    outside.set_carrier(Carrier::Down);
    outside.set_carrier(Carrier::Down);
    assert_eq!((told.load(Ordering::Relaxed), end.pending(), end.dropped()), (2, 0, 1));
    assert!(!end.carrier());
    assert!(!outside.inject(b"refused", meta(0)));
    outside.set_carrier(Carrier::Up);
    assert!(outside.inject(b"taken", meta(0)));
    assert_eq!(told.load(Ordering::Relaxed), 4);
}

#[test]
fn an_end_says_what_it_takes() {
    let (a, b) = Wire::pair(1);
    assert!(!a.peer_accepts_vnet());
    b.accept_vnet();
    assert!(a.peer_accepts_vnet() && !b.peer_accepts_vnet());
}
