use super::*;

fn id(packet_id: u64) -> FrameMeta {
    FrameMeta { packet_id, vnet: None }
}

fn arena(batch: &FrameBatch) -> &[u8] {
    batch.0.as_ref().map_or(&[], |frames| &frames.arena)
}

#[test]
fn frames_keep_their_order_bytes_and_meta() {
    let mut b = FrameBatch::new();
    assert!(b.push(b"one", id(1)));
    assert!(b.push_parts(&[b"tw", b"", b"o"], id(2)));
    assert!(!b.push_with(10, id(3), |_| false), "a fill that fails leaves nothing");
    assert!(!b.push(&vec![0; MAX_FRAME_LEN + 1], id(4)));
    let all: Vec<_> = b.iter().map(|(f, m)| (f.to_vec(), m.packet_id)).collect();
    assert_eq!(all, [(b"one".to_vec(), 1), (b"two".to_vec(), 2)]);
    assert_eq!(b.bytes(), 6);
    b.drop_front(1);
    assert_eq!(b.get(0).unwrap().0, b"two");
    assert!(b.get(1).is_none());
}

#[test]
fn moving_part_of_a_queue_for_ever_keeps_its_arena_small() {
    let (mut queue, mut out) = (FrameBatch::new(), FrameBatch::new());
    let mut sent = 0u64;
    let mut seen = 0u64;
    for _ in 0..2000 {
        for _ in 0..3 {
            queue.push(&[sent as u8; 100], id(sent));
            sent += 1;
        }
        // Never empties the queue, so the arena is never reset by that.
        let keep = 5;
        if queue.len() > keep {
            out.clear();
            let n = queue.len() - keep;
            assert_eq!(queue.move_to(&mut out, n), n);
            for (frame, meta) in out.iter() {
                assert_eq!((meta.packet_id, frame), (seen, &[seen as u8; 100][..]));
                seen += 1;
            }
        }
    }
    assert!(arena(&queue).len() < 4096, "arena grew to {}", arena(&queue).len());
}

#[test]
fn moving_everything_swaps() {
    let (mut queue, mut out) = (FrameBatch::new(), FrameBatch::new());
    queue.push(b"frame", id(9));
    let at = arena(&queue).as_ptr();
    assert_eq!(queue.move_to(&mut out, 64), 1);
    assert_eq!(arena(&out).as_ptr(), at);
    assert_eq!((queue.len(), queue.bytes(), out.bytes()), (0, 0, 5));
}
