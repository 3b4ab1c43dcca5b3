use super::*;
use std::sync::atomic::AtomicUsize;
use std::thread;

/// After so long a wake-up is taken for lost.
const HANG: Duration = Duration::from_secs(30);

fn idle() -> CpuIdle {
    CpuIdle::new(Duration::ZERO).unwrap()
}

/// As the CPU's own thread sleeps: true if it came to rest.
fn sleep(idle: &CpuIdle, timeout: Option<Duration>) -> bool {
    if !idle.word.rest() {
        idle.fire(idle.look_busy());
        return false;
    }
    let events = idle.wait(timeout);
    idle.word.rouse();
    idle.fire(events);
    true
}

#[test]
fn a_wake_up_before_the_sleep_keeps_from_it_without_a_system_call() {
    let idle = idle();
    idle.word.take_kick();
    idle.wake();
    assert!(!sleep(&idle, None));
    // The eventfd was not written: a wait for it finds nothing.
    assert!(!idle.waiter.wait(Some(Duration::ZERO)).unwrap().woken());
}

/// One thread leaves word and wakes, the other sleeps until it sees all of it.
#[test]
fn no_wake_up_is_lost_between_two_threads() {
    const ROUNDS: usize = 20_000;
    let idle = Arc::new(idle());
    let word = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(AtomicUsize::new(0));
    let sleeper = {
        let (idle, word, seen) = (Arc::clone(&idle), Arc::clone(&word), Arc::clone(&seen));
        thread::spawn(move || {
            loop {
                idle.word.take_kick();
                let now = word.load(Ordering::Relaxed);
                seen.store(now, Ordering::Release);
                if now == ROUNDS {
                    return;
                }
                sleep(&idle, None);
            }
        })
    };
    for round in 1..=ROUNDS {
        word.store(round, Ordering::Relaxed);
        idle.wake();
        // Every other round meets the sleeper asleep, or on his way.
        while round % 2 == 0 && seen.load(Ordering::Acquire) < round {
            thread::yield_now();
        }
    }
    sleeper.join().unwrap();
}

struct Counted(AtomicUsize, AtomicUsize);

impl IrqSource for Counted {
    fn fire(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
    fn arm(&self) {
        self.1.fetch_add(1, Ordering::SeqCst);
    }
}

fn counted(idle: &CpuIdle) -> (Arc<Counted>, usize) {
    let mut at = 0;
    let source = idle
        .add_source(|slot| {
            at = slot;
            Counted(AtomicUsize::new(0), AtomicUsize::new(0))
        })
        .unwrap();
    (source, at)
}

#[test]
fn a_source_is_armed_once_before_the_sleep_and_fired_when_reported() {
    let idle = idle();
    let (source, slot) = counted(&idle);
    let (reader, writer) = std::io::pipe().unwrap();
    idle.waiter.add(&reader, token(slot), crate::wait::Trigger::OneShot).unwrap();
    assert!(!idle.request_arm(slot), "awake: it is armed on the way to sleep");
    sleep(&idle, Some(Duration::from_millis(1)));
    sleep(&idle, Some(Duration::from_millis(1)));
    assert_eq!(source.1.load(Ordering::SeqCst), 1);
    drop(writer);
    sleep(&idle, Some(HANG));
    assert_eq!(source.0.load(Ordering::SeqCst), 1);
    idle.request_arm(slot);
    idle.forget_arm(slot);
    sleep(&idle, Some(Duration::ZERO));
    assert_eq!(source.1.load(Ordering::SeqCst), 1, "taken back");
}

#[test]
fn a_busy_cpu_still_hears_of_its_descriptors() {
    let idle = idle();
    let (source, slot) = counted(&idle);
    let (reader, writer) = std::io::pipe().unwrap();
    idle.waiter.add(&reader, token(slot), crate::wait::Trigger::OneShot).unwrap();
    drop(writer);
    idle.word.take_kick();
    idle.wake();
    assert!(!sleep(&idle, None));
    assert_eq!(source.0.load(Ordering::SeqCst), 1);
}

#[test]
fn a_cpu_has_a_bounded_number_of_sources_and_slots_are_reused() {
    let idle = idle();
    let all: Vec<usize> = (0..MAX_SOURCES).map(|_| counted(&idle).1).collect();
    let more = idle.add_source(|_| Counted(AtomicUsize::new(0), AtomicUsize::new(0)));
    assert!(more.is_err());
    idle.remove_source(all[5]);
    assert_eq!(counted(&idle).1, 5);
}
