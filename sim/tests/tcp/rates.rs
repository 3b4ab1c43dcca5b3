//! How fast connections are over a link of one bandwidth, what they do to its queue and to each other.

use crate::util::{B, Pair, addr, check, info_of, listener, stream};
use sim::{Bottleneck, BottleneckStats, Digest, Impairment, Task};
use stack::fs::{sys_close, sys_read, sys_write};
use stack::kernel::cpu::CpuId;
use stack::net::core::dev::NetdevFeatures;
use stack::net::core::sysctl::update_sysctls;
use stack::net::sched::dev_set_qdisc;
use stack::net::socket::{sys_accept4, sys_connect, sys_getsockopt, sys_setsockopt};
use std::cell::{Cell, RefCell};
use std::num::NonZeroU64;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use uapi::inet_diag::TcpBbrInfo;
use uapi::snmp::LinuxMib;
use uapi::socket::{SO_MAX_PACING_RATE, SOL_SOCKET, SOL_TCP};
use uapi::tcp::{TCP_CC_INFO, TCP_CONGESTION, TCPI_OPT_SACK, TcpInfo};
use zerocopy::FromBytes;

const PORT: u16 = 80;
/// Half of the round trip.
const DELAY: Duration = Duration::from_millis(20);
/// A second's octets of a link of 100 Mb/s, and what it holds in a round trip.
const FAST: u64 = 12_500_000;
const BDP: u64 = FAST * 40 / 1000;
/// What TCP's data is of a full frame: 1,448 of 1,514 octets.
const PAYLOAD: f64 = 1448.0 / 1514.0;

/// A link of a rate in octets a second, with a queue of so many octets, that loses some by chance.
fn link(rate: u64, queue: u64, loss: f64) -> Impairment {
    let rate = NonZeroU64::new(rate).expect("a link");
    let bottleneck = Some(Bottleneck { rate, queue: queue as u32, mark: None });
    Impairment { delay: DELAY, loss, bottleneck, ..Impairment::default() }
}

/// A connection that sends all that it may.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    congestion: &'static str,
    /// `SO_MAX_PACING_RATE`.
    most: Option<u64>,
    /// When it begins.
    after: Duration,
}

impl Sender {
    pub fn of(congestion: &'static str) -> Self {
        Self { congestion, most: None, after: Duration::ZERO }
    }
}

/// What is asked for while connections send.
pub struct Running {
    pair: Pair,
    stop: Rc<Cell<bool>>,
    /// Octets that arrived of each.
    arrived: Vec<Rc<Cell<u64>>>,
    ends: Vec<Rc<RefCell<Option<(Task, i32)>>>>,
}

async fn send(
    task: Task,
    sender: Sender,
    number: u16,
    end: Rc<RefCell<Option<(Task, i32)>>>,
    stop: Rc<Cell<bool>>,
) {
    let begin = task.now(|cx| cx.machine().ktime_get()) + sender.after;
    task.sleep_until(begin).await;
    let fd = task.now(stream);
    let name = sender.congestion.as_bytes();
    task.now(|cx| sys_setsockopt(cx, fd, SOL_TCP, TCP_CONGESTION, name)).expect("registered");
    if let Some(most) = sender.most {
        let value = most.to_ne_bytes();
        task.now(|cx| sys_setsockopt(cx, fd, SOL_SOCKET, SO_MAX_PACING_RATE, &value))
            .expect("8 octets");
    }
    task.call(sys_connect(fd, &addr(B, PORT + number))).await.expect("connected");
    *end.borrow_mut() = Some((task.clone(), fd));
    let data = vec![7; 32 << 10];
    while !stop.get() {
        task.call(sys_write(fd, &data)).await.expect("written");
    }
    end.borrow_mut().take();
    task.now(|cx| sys_close(cx, fd)).expect("open");
}

async fn receive(task: Task, number: u16, arrived: Rc<Cell<u64>>) {
    let listening = task.now(|cx| listener(cx, B, PORT + number, 1));
    let (fd, _) = task.call(sys_accept4(listening, 0)).await.expect("accepted");
    task.now(|cx| sys_close(cx, listening)).expect("open");
    let mut data = vec![0; 64 << 10];
    loop {
        let len = task.call(sys_read(fd, &mut data)).await.expect("read");
        if len == 0 {
            break;
        }
        arrived.set(arrived.get() + len as u64);
    }
    task.now(|cx| sys_close(cx, fd)).expect("open");
}

impl Running {
    pub fn new(seed: u64, link: Impairment, senders: &[Sender]) -> Self {
        Self::of(Pair::new(seed, link), senders)
    }

    fn of(mut pair: Pair, senders: &[Sender]) -> Self {
        let (stop, mut arrived, mut ends) = (Rc::new(Cell::new(false)), Vec::new(), Vec::new());
        let (a, b) = (pair.a.clone(), pair.b.clone());
        for (number, sender) in (0..).zip(senders) {
            let (count, end) = (Rc::new(Cell::new(0)), Rc::default());
            arrived.push(Rc::clone(&count));
            ends.push(Rc::clone(&end));
            let stop = Rc::clone(&stop);
            pair.world.spawn(&b, CpuId(0), |task| receive(task, number, count));
            pair.world.spawn(&a, CpuId(0), |task| send(task, *sender, number, end, stop));
        }
        Self { pair, stop, arrived, ends }
    }

    /// Goes on for a while: octets a second of each connection.
    pub fn run_for(&mut self, time: Duration) -> Vec<f64> {
        let before: Vec<u64> = self.arrived.iter().map(|count| count.get()).collect();
        self.pair.world.run_for(time);
        check(&self.pair.a);
        let now = self.arrived.iter().map(|count| count.get());
        now.zip(before).map(|(now, before)| (now - before) as f64 / time.as_secs_f64()).collect()
    }

    pub fn info(&self, number: usize) -> TcpInfo {
        let end = self.ends[number].borrow();
        let (task, fd) = end.as_ref().expect("it sends");
        info_of(task, *fd)
    }

    fn bbr_info(&self, number: usize) -> TcpBbrInfo {
        let end = self.ends[number].borrow();
        let (task, fd) = end.as_ref().expect("it sends");
        let value =
            task.now(|cx| sys_getsockopt(cx, *fd, SOL_TCP, TCP_CC_INFO)).expect("it has some");
        TcpBbrInfo::read_from_bytes(&value).expect("BBR's")
    }

    fn queue(&mut self) -> BottleneckStats {
        self.pair.world.take_bottleneck_stats(0)
    }

    pub fn count(&self, of: LinuxMib) -> u64 {
        self.pair.a.mib().get(of)
    }

    /// Nobody is interested in the rest.
    pub fn abandon(self) {
        let _digest = self.pair.world.abandon();
    }

    /// All that was sent arrives, and nothing is left.
    fn end(mut self) -> Digest {
        self.stop.set(true);
        assert!(self.pair.world.run_tasks(Duration::from_secs(600)), "they come to an end");
        self.pair.end(Duration::from_secs(1200))
    }
}

/// Jain's index: 1 when all have the same, 1/n when one has all.
fn jain(rates: &[f64]) -> f64 {
    let (sum, squares) = (rates.iter().sum::<f64>(), rates.iter().map(|r| r * r).sum::<f64>());
    sum * sum / (rates.len() as f64 * squares)
}

/// A long time in a release build.
fn seconds(debug: u64, release: u64) -> Duration {
    Duration::from_secs(if cfg!(debug_assertions) { debug } else { release })
}

#[test]
fn bbr_fills_a_long_link_with_a_short_queue() {
    let mut flow = Running::new(1, link(FAST, 4 * BDP, 0.0), &[Sender::of("bbr")]);
    flow.run_for(Duration::from_secs(2));
    flow.queue();
    let rate = flow.run_for(seconds(5, 30))[0];
    let queue = flow.queue();
    println!("{:.1} % of the link, queue {} of {BDP}", rate * 100.0 / FAST as f64, queue.longest);
    assert!(rate >= 0.90 * FAST as f64, "{rate} octets a second");
    assert!(u64::from(queue.longest) <= BDP * 3 / 2, "{queue:?}");
    assert_eq!((queue.dropped, flow.count(LinuxMib::TCPTimeouts)), (0, 0));
    let (info, bbr) = (flow.info(0), flow.bbr_info(0));
    let bandwidth = PAYLOAD * FAST as f64;
    assert!((bbr.bw() as f64 / bandwidth - 1.0).abs() < 0.03, "{bbr:?}");
    assert!((40_000..42_000).contains(&bbr.bbr_min_rtt), "{bbr:?}");
    assert!(info.tcpi_pacing_rate as f64 <= bandwidth * 1.3, "{info:?}");
    // The last sample, in whatever phase of the cycle.
    let last = info.tcpi_delivery_rate as f64 / bandwidth;
    assert!((0.7..1.1).contains(&last), "{info:?}");
    assert!(info.tcpi_options & TCPI_OPT_SACK != 0 && info.tcpi_flags & 1 == 0, "{info:?}");
    let _digest = flow.end();
}

/// Both windows grow to what a fast and long link holds: in a release build, a gigabyte a second over a tenth of a second.
#[test]
fn windows_grow_to_what_a_fast_and_long_link_holds() {
    const RATE: u64 = if cfg!(debug_assertions) { 100_000_000 } else { 1_000_000_000 };
    const HOLDS: u64 = RATE / 10;
    let delay = Duration::from_millis(50);
    let link = Impairment { delay, ..link(RATE, 2 * HOLDS, 0.0) };
    let pair = Pair::with_memory(10, link, 8 * HOLDS as usize);
    for (machine, mut cx) in [(&pair.a, pair.on_a()), (&pair.b, pair.on_b())] {
        update_sysctls(&mut cx, |sysctl| {
            sysctl.tcp.rmem[2] = 4 * HOLDS as u32;
            sysctl.tcp.wmem[2] = 4 * HOLDS as u32;
        });
        // So many segments take a while, one by one.
        let tables = machine.tables();
        let dev = tables.net.dev_by_name("eth0").expect("there");
        dev.set_features(dev.features() | NetdevFeatures::TSO);
    }
    let mut flow = Running::of(pair, &[Sender::of("bbr")]);
    flow.run_for(Duration::from_secs(4));
    let rate = flow.run_for(Duration::from_secs(1))[0];
    let info = flow.info(0);
    println!("{:.1} % of the link, window {}", rate * 100.0 / RATE as f64, info.tcpi_snd_wnd);
    assert!(rate >= 0.90 * RATE as f64, "{rate} of {RATE}");
    assert!(u64::from(info.tcpi_snd_wnd) > HOLDS && flow.count(LinuxMib::TCPTimeouts) == 0);
    flow.abandon();
}

/// Losses by chance say nothing of the bandwidth, and to CUBIC everything.
#[test]
fn bbr_takes_little_notice_of_losses_by_chance() {
    let rate = |congestion| {
        let mut flow = Running::new(2, link(FAST, 4 * BDP, 0.01), &[Sender::of(congestion)]);
        flow.run_for(Duration::from_secs(2));
        let rate = flow.run_for(seconds(5, 30))[0];
        println!("{congestion}: {:.1} % of the link", rate * 100.0 / FAST as f64);
        let _digest = flow.end();
        rate / FAST as f64
    };
    let (bbr, cubic) = (rate("bbr"), rate("cubic"));
    assert!(bbr >= 0.85, "{bbr} of the link");
    assert!(cubic <= 0.30, "{cubic} of the link");
}

#[test]
fn two_cubic_flows_share_a_link() {
    const RATE: u64 = FAST / 5;
    let late = Sender { after: Duration::from_millis(500), ..Sender::of("cubic") };
    let mut flows = Running::new(3, link(RATE, BDP / 5, 0.0), &[Sender::of("cubic"), late]);
    flows.run_for(Duration::from_secs(10));
    let rates = flows.run_for(seconds(60, 120));
    let (index, sum) = (jain(&rates), rates.iter().sum::<f64>());
    println!("Jain {index:.3}, {:.1} % of the link, {rates:?}", sum * 100.0 / RATE as f64);
    assert!(index >= 0.95, "{rates:?}");
    assert!(sum >= 0.90 * RATE as f64, "{rates:?}");
    let _digest = flows.end();
}

#[test]
fn two_bbr_flows_share_a_link() {
    const RATE: u64 = FAST / 5;
    let late = Sender { after: Duration::from_secs(1), ..Sender::of("bbr") };
    let mut flows = Running::new(4, link(RATE, BDP, 0.0), &[Sender::of("bbr"), late]);
    flows.run_for(Duration::from_secs(15));
    let rates = flows.run_for(seconds(30, 60));
    let (index, sum) = (jain(&rates), rates.iter().sum::<f64>());
    println!("Jain {index:.3}, {:.1} % of the link, {rates:?}", sum * 100.0 / RATE as f64);
    assert!(index >= 0.9, "{rates:?}");
    assert!(sum >= 0.90 * RATE as f64, "{rates:?}");
    let _digest = flows.end();
}

/// Slow start ends before the queue is full, for acknowledgements tell: with half of what the way holds at least, and
/// nothing lost for it.
#[test]
fn hystart_ends_slow_start_without_losses() {
    let mut flow = Running::new(5, link(FAST, BDP, 0.0), &[Sender::of("cubic")]);
    let both = |flow: &Running, one, other| flow.count(one) + flow.count(other);
    let found = |flow: &Running| {
        both(flow, LinuxMib::TCPHystartTrainDetect, LinuxMib::TCPHystartDelayDetect)
    };
    for _ in 0..100 {
        flow.run_for(Duration::from_millis(10));
        if found(&flow) != 0 {
            break;
        }
    }
    let (info, holds) = (flow.info(0), BDP / 1514);
    let cwnd = both(&flow, LinuxMib::TCPHystartTrainCwnd, LinuxMib::TCPHystartDelayCwnd);
    println!("{} found it at {cwnd}, the way holds {holds}", found(&flow));
    assert_eq!(found(&flow), 1);
    assert_eq!(u64::from(info.tcpi_snd_ssthresh), cwnd);
    assert!((holds / 2..holds * 2).contains(&cwnd));
    // What was under way by then arrives.
    flow.run_for(DELAY * 4);
    assert_eq!((flow.queue().dropped, flow.count(LinuxMib::TCPTimeouts)), (0, 0));
    let _digest = flow.end();
}

/// Octets a second that a program allows are what it gets, whatever the algorithm.
#[test]
fn the_pace_that_a_program_allows_is_kept_to() {
    const MOST: u64 = 1_000_000;
    for congestion in ["reno", "cubic", "bbr"] {
        let sender = Sender { most: Some(MOST), ..Sender::of(congestion) };
        let mut flow = Running::new(6, link(FAST, BDP, 0.0), &[sender]);
        flow.run_for(Duration::from_secs(1));
        flow.queue();
        let rate = flow.run_for(seconds(4, 20))[0];
        println!("{congestion}: {rate:.0} of {MOST}");
        assert!((0.96..=1.01).contains(&(rate / MOST as f64)), "{congestion}: {rate}");
        // Two segments together at the most, an acknowledgement between them.
        assert!(flow.queue().longest <= 3 * 1514 + 200, "{congestion}");
        let info = flow.info(0);
        assert_eq!((info.tcpi_pacing_rate, info.tcpi_max_pacing_rate), (MOST, MOST));
        let _digest = flow.end();
    }
}

/// The discipline fq does what TCP would have to do itself, for algorithms too that ask for no pace.
#[test]
fn fq_keeps_the_pace_in_the_place_of_tcp() {
    let with_fq = |seed, link| {
        let pair = Pair::new(seed, link);
        let dev = Arc::clone(pair.a.tables().net.dev_by_name("eth0").expect("there"));
        dev_set_qdisc(&mut pair.on_a(), &dev, "fq").expect("a device with queues");
        pair
    };
    let mut flow = Running::of(with_fq(8, link(FAST, 4 * BDP, 0.0)), &[Sender::of("bbr")]);
    flow.run_for(Duration::from_secs(2));
    flow.queue();
    let rate = flow.run_for(seconds(4, 20))[0];
    let queue = flow.queue();
    println!("bbr by fq: {:.1} % of the link, queue {}", rate * 100.0 / FAST as f64, queue.longest);
    assert!(rate >= 0.90 * FAST as f64, "{rate}");
    assert!(u64::from(queue.longest) <= BDP * 3 / 2, "{queue:?}");
    let _digest = flow.end();
    // Two that share the device: each has what it is allowed.
    for congestion in ["cubic", "bbr"] {
        let most = |most| Sender { most: Some(most), ..Sender::of(congestion) };
        let senders = [most(1_000_000), most(3_000_000)];
        let mut flows = Running::of(with_fq(9, link(FAST, BDP, 0.0)), &senders);
        flows.run_for(Duration::from_secs(1));
        flows.queue();
        let rates = flows.run_for(seconds(3, 20));
        println!("{congestion} by fq: {rates:?}");
        for (rate, most) in rates.iter().zip([1_000_000.0, 3_000_000.0]) {
            assert!((0.96..=1.01).contains(&(rate / most)), "{congestion}: {rates:?}");
        }
        assert!(flows.queue().longest <= 8 * 1514, "{congestion}");
        let _digest = flows.end();
    }
}

#[test]
fn the_same_seed_paces_the_same_way() {
    let run = |seed| {
        let weather = link(FAST / 10, BDP / 10, 0.02);
        let mut flow =
            Running::of(Pair::recorded(seed, weather), &[Sender::of("bbr"), Sender::of("cubic")]);
        flow.run_for(Duration::from_secs(2));
        flow.end()
    };
    let first = run(7);
    assert_eq!(first, run(7));
    assert_ne!(first, run(8));
}
