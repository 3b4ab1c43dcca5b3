//! The models: each is run in every order of its threads' steps, and ends only if nothing was lost.

use crate::depot::{Depot, Store};
use crate::idle::words::{Bed, SleepWord};
use crate::idle::{CpuIdle, IrqSource, lead};
use crate::kernel::locking::cpu_cell::{CpuCell, Left};
use crate::ksoftirqd::cpu_idle_loop;
use crate::napi_state::NapiState;
use crate::owner::{Backlog, Owner};
use crate::park::Parker;
use crate::remote_queue::RemoteQueue;
use crate::wait_queue::WaitQueue;
use crate::world::{CpuId, Machine, SkBuff};
use loom::cell::UnsafeCell;
use loom::sync::Mutex;
use loom::thread;
use loom_shims::atomic::{AtomicBool, AtomicU32, Ordering};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

const CPU: CpuId = CpuId(0);

/// Two enter; each has the contents to itself.
pub fn one_holder_at_a_time() {
    let cell = Arc::new(CpuCell::new(UnsafeCell::new(0)));
    let add = |cell: &CpuCell<UnsafeCell<u32>>| {
        let held = cell.enter(|_| thread::yield_now());
        // SAFETY: the cell's holder is alone; loom looks whether that is so.
        held.with_mut(|value| unsafe { *value += 1 });
        assert!(!matches!(held.leave(), Err(Left::Kicked(_))), "nobody kicks");
    };
    let theirs = Arc::clone(&cell);
    let other = thread::spawn(move || add(&theirs));
    add(&cell);
    other.join().unwrap();
    let held = cell.enter(|_| thread::yield_now());
    // SAFETY: as above.
    assert_eq!(held.with(|value| unsafe { *value }), 2);
}

/// A device leaves word and kicks while a holder passes: the holder sees it, or the device is told to
/// wake somebody.
pub fn a_kick_is_seen_or_somebody_is_woken() {
    let shared = Arc::new((CpuCell::new(()), AtomicU32::new(0), AtomicU32::new(0)));
    let theirs = Arc::clone(&shared);
    let device = thread::spawn(move || {
        let (cell, pending, woken) = &*theirs;
        pending.fetch_add(1, Ordering::SeqCst);
        if cell.kick() {
            woken.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (cell, pending, woken) = &*shared;
    let mut seen = 0;
    let mut held = cell.enter(|_| thread::yield_now());
    while let Err(Left::Kicked(still)) = held.leave() {
        held = still;
        seen += pending.swap(0, Ordering::SeqCst);
    }
    device.join().unwrap();
    assert!(seen == 1 || woken.load(Ordering::SeqCst) == 1, "the kick is lost");
}

struct Source {
    idle: std::sync::OnceLock<std::sync::Weak<CpuIdle>>,
    slot: usize,
    m: std::sync::OnceLock<std::sync::Weak<Machine>>,
}

impl IrqSource for Source {
    fn fire(&self) {
        if let Some(idle) = self.idle.get().and_then(std::sync::Weak::upgrade) {
            // As the poll that follows would read it empty.
            idle.waiter.readable(self.slot, false);
        }
        if let Some(m) = self.m.get().and_then(std::sync::Weak::upgrade) {
            m.raise();
        }
    }
    fn arm(&self) {
        if let Some(idle) = self.idle.get().and_then(std::sync::Weak::upgrade) {
            idle.waiter.arm(self.slot);
        }
    }
}

/// A machine, and the thread of its CPU.
struct Running {
    m: Arc<Machine>,
    ksoftirqd: thread::JoinHandle<()>,
}

impl Running {
    fn start(parker: Option<&Parker>) -> Self {
        let idle = Arc::new(CpuIdle::new(Duration::ZERO).unwrap());
        let m = Arc::new(Machine::new(idle, parker.map(Parker::waker)));
        let theirs = Arc::clone(&m);
        let ksoftirqd = thread::spawn(move || cpu_idle_loop(&theirs, CPU, &theirs.idle));
        Self { m, ksoftirqd }
    }

    fn stop(self) {
        self.m.idle.stop();
        self.ksoftirqd.join().unwrap();
    }
}

/// A task waits for an interrupt that a device raises, with ksoftirqd beside it.
pub fn a_waiting_task_gets_its_interrupt() {
    let mut parker = Parker::new();
    let running = Running::start(Some(&parker));
    let m = Arc::clone(&running.m);
    let device = thread::spawn(move || m.raise());
    while running.m.taken.load(Ordering::SeqCst) == 0 {
        lead::sleep(&running.m, CPU, &running.m.idle, &mut parker, None);
    }
    device.join().unwrap();
    running.stop();
}

/// Nobody leads: ksoftirqd takes the interrupt, while a task enters and leaves the CPU.
pub fn an_interrupt_is_taken_while_a_task_passes() {
    let running = Running::start(None);
    running.m.raise();
    running.m.pass();
    while running.m.taken.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    running.stop();
}

/// Another thread wakes the leader, for nothing that has to do with the CPU; an interrupt that comes
/// while it goes is taken all the same.
pub fn a_leader_is_woken_by_another_thread() {
    let mut parker = Parker::new();
    let running = Running::start(None);
    let (flag, waker) = (Arc::new(AtomicBool::new(false)), parker.waker());
    let (theirs, m) = (Arc::clone(&flag), Arc::clone(&running.m));
    let other = thread::spawn(move || {
        theirs.store(true, Ordering::SeqCst);
        waker.wake();
        m.raise();
    });
    while !flag.load(Ordering::SeqCst) {
        lead::sleep(&running.m, CPU, &running.m.idle, &mut parker, None);
    }
    other.join().unwrap();
    while running.m.taken.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    running.stop();
}

/// A source asks to be armed by whoever runs the CPU, and is readable already.
pub fn a_source_that_wants_to_be_armed_is() {
    let running = Running::start(None);
    let idle = &running.m.idle;
    let source = idle
        .add_source(|slot| Source { idle: Default::default(), slot, m: Default::default() })
        .unwrap();
    let _first = source.idle.set(Arc::downgrade(idle));
    let _first = source.m.set(Arc::downgrade(&running.m));
    idle.waiter.readable(source.slot, true);
    if idle.request_arm(source.slot) {
        idle.arm_now(source.slot);
        source.arm();
    }
    while running.m.taken.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    running.stop();
}

/// A task leads and goes, while another thread, which runs the CPU, wishes a source to be armed: what the
/// source brings then is heard of. Watched or not.
fn a_source_is_heard_of(watched: bool) {
    let mut parker = Parker::new();
    let running = Running::start(None);
    let idle = &running.m.idle;
    if watched {
        idle.watch_from_now_on();
    }
    let source = idle
        .add_source(|slot| Source { idle: Default::default(), slot, m: Default::default() })
        .unwrap();
    let _first = source.idle.set(Arc::downgrade(idle));
    let _first = source.m.set(Arc::downgrade(&running.m));
    let (flag, waker) = (Arc::new(AtomicBool::new(false)), parker.waker());
    let (their_flag, their_idle, their_source) =
        (Arc::clone(&flag), Arc::clone(idle), Arc::clone(&source));
    let other = thread::spawn(move || {
        if their_idle.request_arm(their_source.slot) {
            their_idle.arm_now(their_source.slot);
            their_source.arm();
        }
        their_flag.store(true, Ordering::SeqCst);
        waker.wake();
    });
    while !flag.load(Ordering::SeqCst) {
        lead::sleep(&running.m, CPU, idle, &mut parker, None);
    }
    other.join().unwrap();
    idle.waiter.readable(source.slot, true);
    while running.m.taken.load(Ordering::SeqCst) == 0 {
        thread::yield_now();
    }
    running.stop();
}

/// See `a_source_is_heard_of`.
pub fn a_source_is_heard_of_when_the_leader_has_gone() {
    a_source_is_heard_of(false);
}

/// The same while ksoftirqd watches.
pub fn a_source_is_heard_of_when_the_watch_is_over() {
    a_source_is_heard_of(true);
}

/// Two tasks of one CPU, each waiting for its own flag: one leads, the other follows or takes over.
pub fn a_follower_is_not_forgotten() {
    let idle = Arc::new(CpuIdle::new(Duration::ZERO).unwrap());
    // No ksoftirqd: what it would do, whoever leads has to.
    assert!(idle.word.rest());
    let (mut first, mut second) = (Parker::new(), Parker::new());
    let m = Arc::new(Machine::new(Arc::clone(&idle), None));
    let flags = Arc::new([AtomicBool::new(false), AtomicBool::new(false)]);
    let wakers = [first.waker(), second.waker()];
    let (their_m, their_flags) = (Arc::clone(&m), Arc::clone(&flags));
    let follower = thread::spawn(move || {
        while !their_flags[1].load(Ordering::SeqCst) {
            lead::sleep(&their_m, CPU, &their_m.idle, &mut second, None);
        }
    });
    for (flag, waker) in flags.iter().zip(wakers) {
        flag.store(true, Ordering::SeqCst);
        waker.wake();
    }
    while !flags[0].load(Ordering::SeqCst) {
        lead::sleep(&m, CPU, &idle, &mut first, None);
    }
    follower.join().unwrap();
}

/// A condition under a lock, its wait queue beside it: whoever looks, queues and sleeps is woken by who
/// changes it.
pub fn a_sleeper_on_a_wait_queue_is_woken() {
    let state = Arc::new(Mutex::new((0_u32, WaitQueue::default())));
    let theirs = Arc::clone(&state);
    let waker_side = thread::spawn(move || {
        let mut wakeups = Vec::new();
        {
            let mut state = theirs.lock().unwrap();
            state.0 += 1;
            state.1.wake_up(1, &mut wakeups);
        }
        wakeups.into_iter().for_each(std::task::Waker::wake);
    });
    let (mut parker, mut key) = (Parker::new(), None);
    let waker = parker.waker();
    loop {
        {
            let mut state = state.lock().unwrap();
            if state.0 != 0 {
                if let Some(key) = key {
                    state.1.finish_wait(key);
                }
                break;
            }
            state.1.prepare_to_wait(&mut key, 1, &waker);
        }
        parker.park(None);
    }
    waker_side.join().unwrap();
    assert!(state.lock().unwrap().1.is_empty());
}

/// Two CPUs push to a third, which sleeps when it finds nothing: each batch comes out, in its order, once.
pub fn what_is_pushed_comes_out() {
    let queue = Arc::new(RemoteQueue::<u32>::default());
    let mut parker = Parker::new();
    let push = |queue: Arc<RemoteQueue<u32>>, waker: std::task::Waker, from: u32| {
        move || {
            let mut batch = vec![from];
            if queue.push(&mut batch, 10).first {
                waker.wake();
            }
            assert!(batch.is_empty());
        }
    };
    let others = [10, 20].map(|from| thread::spawn(push(Arc::clone(&queue), parker.waker(), from)));
    let (mut seen, mut taken) = (Vec::new(), VecDeque::new());
    while seen.len() < 2 {
        while queue.take(&mut taken) {
            seen.extend(taken.drain(..));
            queue.end_all_but(seen.len() as u64, 0);
        }
        if seen.len() < 2 {
            parker.park(None);
        }
    }
    for other in others {
        other.join().unwrap();
    }
    seen.sort_unstable();
    assert_eq!(seen, [10, 20]);
    assert!(queue.passed(queue.position()));
}

/// Who finds a position passed sees what the owner did with all up to it.
pub fn what_has_passed_has_ended() {
    let shared = Arc::new((RemoteQueue::<u32>::default(), AtomicU32::new(0)));
    let position = shared.0.push(&mut vec![7], 10).position;
    let theirs = Arc::clone(&shared);
    let owner = thread::spawn(move || {
        let (queue, done) = &*theirs;
        let mut taken = VecDeque::new();
        assert!(queue.take(&mut taken));
        done.store(taken.pop_front().unwrap(), Ordering::Relaxed);
        queue.end_all_but(1, 0);
    });
    let (queue, done) = &*shared;
    if queue.passed(position) {
        assert_eq!(done.load(Ordering::Relaxed), 7, "it overtakes");
    }
    owner.join().unwrap();
}

/// A device with frames, and its interrupt on another CPU than its poll: each frame is polled, by one at
/// a time.
pub fn every_frame_is_polled_by_one_at_a_time() {
    let shared = Arc::new((NapiState::enabled(), AtomicU32::new(0), UnsafeCell::new(0)));
    let poll = |shared: &(NapiState, AtomicU32, UnsafeCell<u32>)| {
        let (napi, frames, polled) = shared;
        loop {
            let got = frames.swap(0, Ordering::SeqCst);
            // SAFETY: who has the right to poll is alone; loom looks whether that is so.
            polled.with_mut(|polled| unsafe { *polled += got });
            if napi.complete() {
                return;
            }
        }
    };
    let interrupt = move |shared: &(NapiState, AtomicU32, UnsafeCell<u32>)| {
        shared.1.fetch_add(1, Ordering::SeqCst);
        if shared.0.schedule() {
            poll(shared);
        }
    };
    let theirs = Arc::clone(&shared);
    let other = thread::spawn(move || interrupt(&theirs));
    interrupt(&shared);
    other.join().unwrap();
    assert!(!shared.0.scheduled());
    // SAFETY: nobody polls any more.
    assert_eq!(shared.2.with(|polled| unsafe { *polled }), 2);
}

/// A context that is disabled while it is polled and asked for: afterwards nobody polls.
pub fn who_disables_has_it_for_himself() {
    let shared = Arc::new((NapiState::enabled(), UnsafeCell::new(0)));
    let theirs = Arc::clone(&shared);
    assert!(shared.0.schedule());
    let poller = thread::spawn(move || {
        let (napi, device) = &*theirs;
        loop {
            // SAFETY: as above.
            device.with_mut(|device| unsafe { *device += 1 });
            if napi.complete() {
                break;
            }
        }
    });
    let asks = Arc::clone(&shared);
    let interrupt = thread::spawn(move || {
        if asks.0.schedule() {
            // SAFETY: as above.
            asks.1.with_mut(|device| unsafe { *device += 1 });
            // Polled no more than this once.
            while !asks.0.complete() {}
        }
    });
    let (napi, device) = &*shared;
    napi.disable();
    while !napi.take() {
        thread::yield_now();
    }
    // SAFETY: as above.
    device.with_mut(|device| unsafe { *device += 1 });
    poller.join().unwrap();
    interrupt.join().unwrap();
}

/// The socket's backlog.
#[derive(Default)]
struct Waiting(VecDeque<u32>);

impl Backlog for Waiting {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A task owns a socket while a softirq receives: what comes is read in its order, and none is left.
pub fn a_socket_receives_in_order() {
    let shared = Arc::new(Mutex::new((Owner::<Waiting>::default(), Vec::new())));
    let theirs = Arc::clone(&shared);
    let softirq = thread::spawn(move || {
        for packet in 0..3 {
            let mut state = theirs.lock().unwrap();
            if state.0.owned() {
                state.0.backlog.0.push_back(packet);
            } else {
                state.1.push(packet);
            }
        }
    });
    assert!(shared.lock().unwrap().0.own());
    loop {
        let released = shared.lock().unwrap().0.release();
        let Some(Waiting(waiting)) = released else { break };
        for packet in waiting {
            shared.lock().unwrap().1.push(packet);
        }
    }
    softirq.join().unwrap();
    let state = shared.lock().unwrap();
    assert_eq!(state.1, [0, 1, 2]);
    assert!(!state.0.owned() && state.0.backlog.is_empty());
}

/// Two CPUs draw from the depot, charge a large head, and give back: the cap holds at every moment.
pub fn the_cap_holds() {
    const CAP: usize = 3;
    let depot = Arc::new(Depot::new(CAP));
    let draw = |depot: &Depot| {
        let mut store = Store::default();
        depot.draw(&mut store.ready[0], |s| &mut s.ready[0], 1, || Box::new(SkBuff));
        assert!(depot.used() <= CAP, "over the cap");
        let large = depot.charge(2);
        assert!(depot.used() <= CAP, "over the cap");
        if large {
            depot.uncharge(2);
        }
        depot.spill(&mut store);
        store.ready[0].len()
    };
    let theirs = Arc::clone(&depot);
    let other = thread::spawn(move || draw(&theirs));
    let kept = draw(&depot) + other.join().unwrap();
    assert!(depot.used() >= kept && depot.used() <= CAP, "what is kept is charged");
}
