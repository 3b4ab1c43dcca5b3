use super::*;
use std::sync::atomic::AtomicUsize;
use std::thread;

/// After so long a wake-up is taken for lost.
const HANG: Duration = Duration::from_secs(30);

#[test]
fn a_wake_up_before_the_sleep_ends_it_without_a_system_call() {
    let idle = CpuIdle::new().unwrap();
    idle.awake();
    idle.wake();
    // Would hang if the wake-up were lost.
    idle.sleep(None);
    // The eventfd was not written: a wait for it finds nothing.
    assert!(!idle.waiter.wait(Some(Duration::ZERO)).unwrap().woken());
}

/// One thread leaves word and wakes, the other sleeps until it sees all of it.
#[test]
fn no_wake_up_is_lost_between_two_threads() {
    const ROUNDS: usize = 20_000;
    let idle = Arc::new(CpuIdle::new().unwrap());
    let word = Arc::new(AtomicUsize::new(0));
    let seen = Arc::new(AtomicUsize::new(0));
    let sleeper = {
        let (idle, word, seen) = (Arc::clone(&idle), Arc::clone(&word), Arc::clone(&seen));
        thread::spawn(move || {
            loop {
                idle.awake();
                let now = word.load(Ordering::Relaxed);
                seen.store(now, Ordering::Release);
                if now == ROUNDS {
                    return;
                }
                idle.sleep(None);
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
    let idle = CpuIdle::new().unwrap();
    let (source, slot) = counted(&idle);
    let (reader, writer) = std::io::pipe().unwrap();
    idle.waiter.add(&reader, token(slot), crate::wait::Trigger::OneShot).unwrap();
    assert!(!idle.request_arm(slot), "awake: it is armed on the way to sleep");
    idle.sleep(Some(Duration::from_millis(1)));
    idle.sleep(Some(Duration::from_millis(1)));
    assert_eq!(source.1.load(Ordering::SeqCst), 1);
    drop(writer);
    idle.sleep(Some(HANG));
    assert_eq!(source.0.load(Ordering::SeqCst), 1);
    idle.request_arm(slot);
    idle.forget_arm(slot);
    idle.sleep(Some(Duration::ZERO));
    assert_eq!(source.1.load(Ordering::SeqCst), 1, "taken back");
}

#[test]
fn a_busy_cpu_still_hears_of_its_descriptors() {
    let idle = CpuIdle::new().unwrap();
    let (source, slot) = counted(&idle);
    let (reader, writer) = std::io::pipe().unwrap();
    idle.waiter.add(&reader, token(slot), crate::wait::Trigger::OneShot).unwrap();
    drop(writer);
    idle.awake();
    idle.wake();
    idle.sleep(None);
    assert_eq!(source.0.load(Ordering::SeqCst), 1);
}

#[test]
fn a_cpu_has_a_bounded_number_of_sources_and_slots_are_reused() {
    let idle = CpuIdle::new().unwrap();
    let all: Vec<usize> = (0..MAX_SOURCES).map(|_| counted(&idle).1).collect();
    let more = idle.add_source(|_| Counted(AtomicUsize::new(0), AtomicUsize::new(0)));
    assert!(more.is_err());
    idle.remove_source(all[5]);
    assert_eq!(counted(&idle).1, 5);
}
