//! What producers and the owner may rely on.

use super::{Pushed, RemoteQueue};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn the_first_push_alone_wakes_and_all_come_out_in_order() {
    let queue = RemoteQueue::default();
    let mut out = VecDeque::new();
    assert!(!queue.take(&mut out));
    assert_eq!(queue.push(&mut vec![1, 2], 10), Pushed { position: 2, first: true });
    assert_eq!(queue.push(&mut vec![3], 10), Pushed { position: 3, first: false });
    assert!(queue.take(&mut out) && queue.is_empty());
    assert_eq!(out.drain(..).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(queue.push(&mut vec![4], 10), Pushed { position: 4, first: true });
}

#[test]
fn what_finds_no_room_stays_with_the_producer_and_is_counted() {
    let queue = RemoteQueue::default();
    let mut batch = vec![1, 2, 3, 4];
    let pushed = queue.push(&mut batch, 3);
    assert_eq!((pushed.position, batch.as_slice()), (3, &[4][..]));
    let mut more = vec![5, 6];
    assert_eq!(queue.push(&mut more, 3), Pushed { position: 3, first: false });
    assert_eq!((more.len(), queue.len(), queue.dropped()), (2, 3, 3));
    let none = RemoteQueue::default();
    assert!(!none.push(&mut vec![1], 0).first, "nobody is woken for nothing");
}

#[test]
fn a_position_is_passed_when_what_stands_before_it_has_ended() {
    let queue = RemoteQueue::default();
    let position = queue.push(&mut vec![1, 2], 10).position;
    let mut out = VecDeque::new();
    assert!(queue.take(&mut out));
    assert!(!queue.passed(position), "taken is not ended");
    out.pop_front();
    queue.end_all_but(2, out.len());
    assert!(!queue.passed(position) && queue.passed(1));
    queue.end_all_but(2, 0);
    assert!(queue.passed(position) && queue.position() == position);
}

/// Three producers, an owner that sleeps unless it was woken: each one's numbers come in order and all
/// come, so no wake-up is missing.
#[test]
fn no_wake_up_is_missing() {
    const EACH: u32 = 20_000;
    let queue = Arc::new(RemoteQueue::default());
    let woken = Arc::new(AtomicBool::new(false));
    let producers: Vec<_> = (0..3_u32)
        .map(|id| {
            let (queue, woken) = (Arc::clone(&queue), Arc::clone(&woken));
            std::thread::spawn(move || {
                let mut batch = Vec::new();
                for number in 0..EACH {
                    batch.push((id, number));
                    while !batch.is_empty() {
                        if queue.push(&mut batch, 64).first {
                            woken.store(true, Ordering::SeqCst);
                        }
                        if !batch.is_empty() {
                            std::thread::yield_now();
                        }
                    }
                }
            })
        })
        .collect();
    let (mut next, mut out, mut taken) = ([0; 3], VecDeque::new(), 0);
    while next.iter().sum::<u32>() < 3 * EACH {
        if !woken.swap(false, Ordering::SeqCst) {
            std::thread::yield_now();
            continue;
        }
        while queue.take(&mut out) {
            taken += out.len() as u64;
            for (id, number) in out.drain(..) {
                assert_eq!(number, next[id as usize]);
                next[id as usize] += 1;
            }
            queue.end_all_but(taken, 0);
        }
    }
    for producer in producers {
        producer.join().expect("no producer panics");
    }
    assert!(queue.passed(u64::from(3 * EACH)));
}
