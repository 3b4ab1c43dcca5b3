//! Transfers over links of all kinds: every octet arrives, in time, and nothing is left.

use crate::util::{B, Pair, addr, both, check, info_of, listener, seeds, stream};
use sim::clock::VirtualClock;
use sim::{Digest, Impairment, Task};
use stack::fs::{sys_close, sys_read, sys_write};
use stack::kernel::cpu::CpuId;
use stack::kernel::time::Ktime;
use stack::net::core::sysctl::update_sysctls;
use stack::net::ipv4::tcp::TcpState;
use stack::net::socket::{sys_accept4, sys_connect, sys_shutdown};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use uapi::socket::SHUT_WR;

/// Octets of a transfer.
const OCTETS: u64 = if cfg!(debug_assertions) { 256 << 10 } else { 4 << 20 };
/// The same where one segment in five is lost, and the time-out doubles most of the time.
const FEW_OCTETS: u64 = 128 << 10;
const PORT: u16 = 80;
/// No transfer takes longer, however bad the link.
const LIMIT: Duration = Duration::from_secs(48 * 3600);
/// What is left of a connection at the end dies out within this time.
const REST: Duration = Duration::from_secs(1200);

/// A kind of weather.
#[derive(Clone, Copy, Debug)]
struct Weather {
    loss: f64,
    delay_ms: u64,
    /// Segments held back.
    reorder: f64,
    /// How much the delays differ, in parts of the delay.
    jitter: f64,
    /// Duplicates, and as many turned bits.
    noise: f64,
    /// Octets of a transfer.
    octets: u64,
}

impl Weather {
    fn link(self) -> Impairment {
        let delay = Duration::from_millis(self.delay_ms);
        Impairment {
            delay,
            jitter: delay.mul_f64(self.jitter),
            loss: self.loss,
            duplicate: self.noise,
            reorder: self.reorder,
            corrupt: self.noise,
            losses: None,
            bottleneck: None,
            fates: &[],
        }
    }

    /// More than two ways there and back take, with all that holds a segment up.
    fn slack(self) -> Duration {
        Duration::from_millis(self.delay_ms.max(1)) * 20 + Duration::from_millis(500)
    }
}

/// Every kind of delay, order and noise at one rate of loss.
fn weathers(loss: f64) -> impl Iterator<Item = Weather> {
    let octets = if loss < 0.2 { OCTETS } else { FEW_OCTETS };
    let delays = [1, 50, 300];
    let orders = [(0.0, 0.0), (0.01, 0.1), (0.1, 0.5)];
    delays.into_iter().flat_map(move |delay_ms| {
        orders.into_iter().flat_map(move |(reorder, jitter)| {
            [0.0, 0.01].map(|noise| Weather { loss, delay_ms, reorder, jitter, noise, octets })
        })
    })
}

/// Which ways octets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ways {
    There,
    ThereAndBack,
}

/// Octet number `at` of what goes one way.
fn octet(way: u8, at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8 ^ way
}

/// The two ends, as they come to be.
type Ends = Rc<[RefCell<Option<(Task, i32)>>; 2]>;

/// Looks that octets never stop coming for longer than the sender's time-outs explain.
struct Watch {
    clock: Arc<VirtualClock>,
    ends: Ends,
    sender: usize,
    weather: Weather,
    /// When octets came last, and the sender's time-out and how often it had expired.
    last: Cell<Option<(Ktime, u32, u16)>>,
    /// When all were there.
    end: Rc<Cell<Ktime>>,
}

impl Watch {
    fn new(clock: &Arc<VirtualClock>, ends: &Ends, sender: usize, weather: Weather) -> Self {
        let (clock, ends) = (Arc::clone(clock), Rc::clone(ends));
        Self { clock, ends, sender, weather, last: Cell::default(), end: Rc::default() }
    }

    fn progress(&self) {
        let sender = self.ends[self.sender].borrow();
        // Who has read all and closed is asked no more.
        let Some((task, fd)) = sender.as_ref() else { return };
        let info = info_of(task, *fd);
        let now = self.clock.peek();
        let last = self.last.replace(Some((now, info.tcpi_rto, info.tcpi_total_rto)));
        let Some((since, rto, expired)) = last else { return };
        let gap = now - since;
        let times = u32::from(info.tcpi_total_rto - expired);
        let base = Duration::from_micros(rto.max(info.tcpi_rto).into());
        let explained = base * (1 << (times + 1).min(16)) + self.weather.slack();
        assert!(gap <= explained, "nothing for {gap:?}: {times} time-outs, {base:?} at first");
        if self.weather.loss < 0.2 {
            assert!(gap <= Duration::from_secs(120), "nothing for {gap:?}");
        }
    }
}

async fn send(task: &Task, fd: i32, way: u8, octets: u64) {
    let (mut at, mut len) = (0, 1);
    while at < octets {
        // Pieces of all lengths.
        len = len * 5 % 32_749 + 1;
        let data: Vec<u8> = (at..(at + len).min(octets)).map(|at| octet(way, at)).collect();
        at += task.call(sys_write(fd, &data)).await.expect("written") as u64;
    }
    task.now(|cx| sys_shutdown(cx, fd, SHUT_WR)).expect("connected");
}

async fn receive(task: &Task, fd: i32, way: u8, watch: Option<&Watch>) {
    let (mut at, mut data) = (0, vec![0; 64 << 10]);
    loop {
        let len = task.call(sys_read(fd, &mut data)).await.expect("read");
        if len == 0 {
            break;
        }
        for (n, got) in data[..len].iter().enumerate() {
            assert_eq!(*got, octet(way, at + n as u64), "octet {} is wrong", at + n as u64);
        }
        at += len as u64;
        if let Some(watch) = watch {
            watch.progress();
        }
    }
    assert_eq!(at, watch.map_or(0, |watch| watch.weather.octets));
    if let Some(watch) = watch {
        watch.end.set(watch.clock.peek());
    }
}

/// Waits until the peer has all: for a socket that nobody has open the machine does not try for ever.
async fn all_acknowledged(task: &Task, fd: i32) {
    let over = [TcpState::Close as u8, TcpState::FinWait2 as u8];
    while !over.contains(&info_of(task, fd).tcpi_state) {
        let now = task.now(|cx| cx.machine().ktime_get());
        task.sleep_until(now + Duration::from_secs(1)).await;
    }
}

async fn client(task: Task, ways: Ways, watch: Watch, done: Rc<Cell<u32>>) {
    let (fd, octets) = (task.now(stream), watch.weather.octets);
    task.call(sys_connect(fd, &addr(B, PORT))).await.expect("connected");
    *watch.ends[0].borrow_mut() = Some((task.clone(), fd));
    let back = (ways == Ways::ThereAndBack).then_some(&watch);
    both(send(&task, fd, 0, octets), receive(&task, fd, 1, back)).await;
    all_acknowledged(&task, fd).await;
    watch.ends[0].borrow_mut().take();
    task.now(|cx| sys_close(cx, fd)).expect("open");
    done.set(done.get() + 1);
}

async fn server(task: Task, ways: Ways, watch: Watch, done: Rc<Cell<u32>>) {
    let listening = task.now(|cx| listener(cx, B, PORT, 1));
    let octets = watch.weather.octets;
    let (fd, _) = task.call(sys_accept4(listening, 0)).await.expect("accepted");
    task.now(|cx| sys_close(cx, listening)).expect("open");
    *watch.ends[1].borrow_mut() = Some((task.clone(), fd));
    match ways {
        Ways::There => {
            receive(&task, fd, 0, Some(&watch)).await;
            task.now(|cx| sys_shutdown(cx, fd, SHUT_WR)).expect("connected");
        }
        Ways::ThereAndBack => {
            both(send(&task, fd, 1, octets), receive(&task, fd, 0, Some(&watch))).await
        }
    }
    all_acknowledged(&task, fd).await;
    watch.ends[1].borrow_mut().take();
    task.now(|cx| sys_close(cx, fd)).expect("open");
    done.set(done.get() + 1);
}

/// What a transfer came to.
struct Outcome {
    /// Octets a second.
    goodput: f64,
    digest: Digest,
}

fn transfer(mut pair: Pair, weather: Weather, ways: Ways) -> Outcome {
    let begin = pair.world.clock().peek();
    if weather.loss >= 0.2 {
        // A connection is given up when time-outs follow each other for a quarter of an hour, which here
        // they do sooner or later.
        for mut cx in [pair.on_a(), pair.on_b()] {
            update_sysctls(&mut cx, |sysctl| sysctl.tcp.retries2 = 250);
        }
    }
    let ends = Ends::default();
    let done = Rc::new(Cell::new(0));
    let watch = |sender| Watch::new(pair.world.clock(), &ends, sender, weather);
    let (there, back) = (watch(0), watch(1));
    let end = Rc::clone(&there.end);
    let (a, b) = (Arc::clone(&pair.a), Arc::clone(&pair.b));
    let count = || Rc::clone(&done);
    pair.world.spawn(&b, CpuId(0), |task| server(task, ways, there, count()));
    pair.world.spawn(&a, CpuId(0), |task| client(task, ways, back, count()));
    let all = pair.world.run_until_done(begin + LIMIT, || {
        check(&a);
        check(&b);
        done.get() == 2
    });
    assert!(all, "{weather:?} {ways:?}: it does not end");
    let took = end.get() - begin;
    // Descriptors are closed; what the tasks hold otherwise goes with them.
    assert!(pair.world.run_tasks(Duration::from_secs(1)));
    drop((a, b));
    let goodput = weather.octets as f64 / took.as_secs_f64();
    Outcome { goodput, digest: pair.end(REST) }
}

fn all_weathers(loss: f64) {
    for weather in weathers(loss) {
        for seed in 0..seeds(1) {
            println!("{weather:?} seed {seed}");
            let there = transfer(Pair::new(seed, weather.link()), weather, Ways::There);
            println!("  {:>9.0} octets a second", there.goodput);
            if weather.delay_ms != 300 && weather.jitter != 0.1 {
                transfer(Pair::new(seed, weather.link()), weather, Ways::ThereAndBack);
            }
        }
    }
}

#[test]
fn nothing_is_lost() {
    all_weathers(0.0);
}

#[test]
fn one_in_a_thousand_is_lost() {
    all_weathers(0.001);
}

#[test]
fn one_in_a_hundred_is_lost() {
    all_weathers(0.01);
}

#[test]
fn one_in_twenty_is_lost() {
    all_weathers(0.05);
}

#[test]
fn one_in_five_is_lost() {
    all_weathers(0.2);
}

#[test]
fn the_same_seed_goes_the_same_way() {
    let octets = OCTETS;
    let weather =
        Weather { loss: 0.05, delay_ms: 20, reorder: 0.05, jitter: 0.2, noise: 0.01, octets };
    let run = |seed| {
        let pair = Pair::recorded(seed, weather.link());
        transfer(pair, weather, Ways::ThereAndBack).digest
    };
    let first = run(7);
    assert_ne!(first.records(), 0);
    assert_eq!(first, run(7));
    assert_ne!(first, run(8));
}

/// Softirqs that run out of rounds leave their rest to ksoftirqd; an interrupt may have done that before it comes
/// to it. It was awake for ever then, with nothing to do.
#[test]
fn a_woken_ksoftirqd_that_finds_its_work_done_sleeps_again() {
    let octets = 4 << 20;
    let weather =
        Weather { loss: 0.001, delay_ms: 50, reorder: 0.0, jitter: 0.0, noise: 0.0, octets };
    let outcome = transfer(Pair::new(6, weather.link()), weather, Ways::ThereAndBack);
    assert!(outcome.goodput > 100_000.0, "{} octets a second", outcome.goodput);
}
