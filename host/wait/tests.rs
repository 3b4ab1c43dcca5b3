use super::*;
use crate::clock::monotonic_ns;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread;

const NOW: Option<Duration> = Some(Duration::ZERO);

fn waiter(coarse: bool) -> Waiter {
    let waiter = Waiter::new().unwrap();
    waiter.coarse.store(coarse, Ordering::Relaxed);
    waiter
}

/// A waiter watching a pipe with one octet in it.
fn with_readable_pipe(trigger: Trigger) -> (Waiter, PipeReader, PipeWriter) {
    let waiter = waiter(false);
    let (reader, mut writer) = pipe().unwrap();
    waiter.add(&reader, Token(7), trigger).unwrap();
    assert_eq!(waiter.wait(NOW).unwrap().next(), None);
    writer.write_all(b"x").unwrap();
    (waiter, reader, writer)
}

fn tokens(waiter: &Waiter) -> Vec<Token> {
    waiter.wait(NOW).unwrap().collect()
}

#[test]
fn a_wake_up_before_the_wait_is_kept_and_counts_once() {
    for coarse in [false, true] {
        let waiter = waiter(coarse);
        waiter.wake();
        waiter.wake();
        let mut events = waiter.wait(None).unwrap();
        assert!(events.woken());
        assert_eq!(events.next(), None);
        assert!(!waiter.wait(NOW).unwrap().woken());
        waiter.wake();
        assert!(waiter.wait(None).unwrap().woken(), "again, without the counter having been read");
    }
}

#[test]
fn a_second_wake_up_makes_no_system_call() {
    let waiter = waiter(false);
    waiter.wake();
    waiter.wake();
    let mut counter = [0; 8];
    rustix::io::read(&waiter.eventfd, &mut counter).unwrap();
    assert_eq!(u64::from_ne_bytes(counter), 1);
}

#[test]
fn time_outs_are_not_early() {
    for coarse in [false, true] {
        let waiter = waiter(coarse);
        for us in [0, 300, 1_500] {
            let timeout = Duration::from_micros(us);
            let before = monotonic_ns();
            let mut events = waiter.wait(Some(timeout)).unwrap();
            assert!(!events.woken() && events.next().is_none());
            assert!(monotonic_ns() - before >= timeout.as_nanos() as u64);
        }
    }
}

#[test]
fn the_longest_time_out_is_taken() {
    for coarse in [false, true] {
        let waiter = waiter(coarse);
        waiter.wake();
        assert!(waiter.wait(Some(Duration::MAX)).unwrap().woken());
    }
}

#[test]
fn level_is_reported_by_every_wait() {
    let (waiter, mut reader, _writer) = with_readable_pipe(Trigger::Level);
    assert_eq!(tokens(&waiter), [Token(7)]);
    assert_eq!(tokens(&waiter), [Token(7)]);
    reader.read_exact(&mut [0]).unwrap();
    assert_eq!(tokens(&waiter), []);
}

#[test]
fn one_shot_is_silent_until_rearmed() {
    let (waiter, _reader, mut writer) = with_readable_pipe(Trigger::OneShot);
    assert_eq!(tokens(&waiter), [Token(7)]);
    writer.write_all(b"y").unwrap();
    assert_eq!(tokens(&waiter), []);
    waiter.rearm(&_reader, Token(8)).unwrap();
    assert_eq!(tokens(&waiter), [Token(8)], "still readable: reported at once");
    assert_eq!(tokens(&waiter), []);
}

#[test]
fn disarmed_is_silent_and_hang_up_is_told_once() {
    let (waiter, reader, writer) = with_readable_pipe(Trigger::OneShot);
    waiter.disarm(&reader, Token(7)).unwrap();
    assert_eq!(tokens(&waiter), []);
    drop(writer);
    assert_eq!(tokens(&waiter), [Token(7)]);
    assert_eq!(tokens(&waiter), []);
}

#[test]
fn removed_is_reported_no_more() {
    let (waiter, reader, _writer) = with_readable_pipe(Trigger::Level);
    waiter.remove(&reader).unwrap();
    assert_eq!(tokens(&waiter), []);
    assert!(waiter.rearm(&reader, Token(7)).is_err());
}

#[test]
fn more_than_one_wait_can_report_are_reported_by_the_next() {
    let waiter = waiter(false);
    let pipes: Vec<_> = (0..MAX_EVENTS + 8)
        .map(|n| {
            let (reader, mut writer) = pipe().unwrap();
            writer.write_all(b"x").unwrap();
            waiter.add(&reader, Token(n as u64), Trigger::OneShot).unwrap();
            (reader, writer)
        })
        .collect();
    let mut seen = tokens(&waiter);
    assert_eq!(seen.len(), MAX_EVENTS);
    seen.extend(tokens(&waiter));
    seen.sort();
    assert_eq!(seen, (0..pipes.len() as u64).map(Token).collect::<Vec<_>>());
}

#[test]
fn the_reserved_token_and_a_closed_set_are_refused() {
    let waiter = waiter(false);
    let (reader, _writer) = pipe().unwrap();
    let error = waiter.add(&reader, Token(u64::MAX), Trigger::Level).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    waiter.add(&reader, Token(1), Trigger::Level).unwrap();
    assert!(waiter.add(&reader, Token(1), Trigger::Level).is_err(), "twice");
}

#[test]
fn no_wake_up_is_lost_between_two_threads() {
    const TURNS: u64 = 5000;
    let (ours, theirs) = (waiter(false), Arc::new(waiter(false)));
    let ours = Arc::new(ours);
    let turn = Arc::new(AtomicU64::new(0));
    let other = {
        let (ours, theirs, turn) = (Arc::clone(&ours), Arc::clone(&theirs), Arc::clone(&turn));
        thread::spawn(move || {
            for n in 0..TURNS {
                while turn.load(Ordering::Relaxed) != 2 * n + 1 {
                    theirs.wait(None).unwrap();
                }
                turn.store(2 * n + 2, Ordering::Relaxed);
                ours.wake();
            }
        })
    };
    for n in 0..TURNS {
        turn.store(2 * n + 1, Ordering::Relaxed);
        theirs.wake();
        while turn.load(Ordering::Relaxed) != 2 * n + 2 {
            ours.wait(None).unwrap();
        }
    }
    other.join().unwrap();
}

#[test]
fn of_several_waiting_threads_one_wake_up_ends_one_wait() {
    let waiter = Arc::new(waiter(false));
    let ended = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (waiter, ended) = (Arc::clone(&waiter), Arc::clone(&ended));
            thread::spawn(move || {
                assert!(waiter.wait(None).unwrap().woken());
                ended.fetch_add(1, Ordering::SeqCst);
            })
        })
        .collect();
    for n in 1..=3 {
        waiter.wake();
        while ended.load(Ordering::SeqCst) < n {
            thread::yield_now();
        }
        // Wrongly woken sleepers would show within this time; a slow machine can't fail it.
        thread::sleep(Duration::from_millis(5));
        assert_eq!(ended.load(Ordering::SeqCst), n);
    }
    for thread in threads {
        thread.join().unwrap();
    }
}
