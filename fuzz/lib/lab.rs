//! A machine with a card, and the other end of its wire in the fuzzer's hand.

use crate::frame::{LOCAL, MAC, PEER, PEER_MAC};
use drivers::net::ethernet::intel::igb::{IgbOptions, igb_probe};
use drivers::net::wire::wire_probe;
use drivers::net::wire_port::{FrameBatch, FrameMeta, WirePort};
use drivers::pci::DmaSpace;
use hw::igb::I82576;
use sim::{LinkSpec, MachineSpec, World};
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::sched::{Operation, poll_operation};
use stack::kernel::time::Ktime;
use stack::net::core::dev::dev_open;
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::core::sysctl::names::sysctl_write;
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::ipv4::ping::ping_v4_seq_show;
use stack::net::ipv4::proc::sockstat_seq_show;
use stack::net::ipv4::raw::raw_seq_show;
use stack::net::ipv4::udp::udp4_seq_show;
use stack::net::packet::af_packet::packet_seq_show;
use stack::net::socket::{sys_bind, sys_socket};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;
use uapi::in_::SockaddrIn;

/// Turns until a machine that got some frames rests. The stack's own limits are below it by far.
const TURNS: usize = 5_000;
/// Turns while an hour passes at most.
const EVENTS: usize = 500_000;
/// Packets that may live at once: what the socket buffers and queues of a small machine hold.
const PACKETS: i64 = 40_000;
/// Octets that may wait in a socket without a connection: twice what it may ask for, and one packet more.
const QUEUED: usize = 2 * 212_992 + 150_000;
/// Octets that a device may map for DMA.
const DMA_LIMIT: usize = 8 << 20;
/// Octets for packets.
const MEMORY: usize = 16 << 20;

/// What the card is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Card {
    /// A netdev on the wire itself.
    Wire,
    /// The igb driver on a model of the 82576.
    Igb,
}

/// See the module.
pub struct Lab {
    /// Its world, in which nothing else is.
    pub world: World,
    /// The machine.
    pub machine: Arc<Machine>,
    /// A task of it.
    pub cx: TaskCx,
    /// The card's number.
    pub ifindex: i32,
    peer: Arc<dyn WirePort>,
    /// The time when it was last looked at.
    last: Ktime,
    /// How often it was.
    checks: u32,
    /// Sockets of a machine without any, and its timers.
    at_rest: (String, usize),
}

impl std::fmt::Debug for Lab {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lab({:?})", self.world)
    }
}

impl Lab {
    /// Booted, its card up, its peer known.
    pub fn new(card: Card) -> Self {
        let mut world = World::new(7);
        let machine = world.machine(&MachineSpec { memory: MEMORY, ..MachineSpec::default() });
        let [near, peer] = world.link(LinkSpec::Wire);
        let mut cx = world.task_cx(&machine, CpuId(0));
        let dev = match card {
            Card::Wire => wire_probe(&mut cx, "eth%d", MAC, near),
            Card::Igb => {
                let model = I82576::new(MAC, near, DmaSpace::new(DMA_LIMIT));
                let clock = Arc::downgrade(&model);
                world.model(Box::new(move |now| clock.upgrade()?.advance(now)));
                igb_probe(&mut cx, model, IgbOptions::default())
            }
        };
        let dev = dev.expect("the only card");
        inet_insert_ifa(&mut cx, &dev, IfAddr::new(LOCAL, 24).expect("a host")).expect("new");
        dev_open(&mut cx, &dev).expect("opens");
        let key = NeighKey { dev: dev.ifindex, addr: PEER.into() };
        let state = uapi::neighbour::NUD_PERMANENT as u8;
        neigh_add(&mut cx, key, PEER_MAC, state).expect("room for one");
        world.settle();
        let last = world.clock().peek();
        let at_rest = (sockstat_seq_show(&machine), machine.timers());
        let ifindex = i32::from(dev.ifindex.0);
        Self { world, machine, cx, ifindex, peer, last, checks: 0, at_rest }
    }

    /// Sets by name; `DEV` is the card.
    pub fn set(&mut self, name: &str, value: &str) {
        sysctl_write(&mut self.cx, &name.replace("DEV", "eth0"), value).expect("a setting");
    }

    /// A socket.
    pub fn socket(&mut self, family: i32, kind: i32, protocol: i32) -> i32 {
        sys_socket(&mut self.cx, family, kind, protocol).expect("a socket")
    }

    /// A socket of the internet's that has a name.
    pub fn bound(&mut self, kind: i32, protocol: i32, name: (Ipv4Addr, u16)) -> i32 {
        let fd = self.socket(uapi::socket::AF_INET, kind, protocol);
        sys_bind(&mut self.cx, fd, &addr(name.0, name.1)).expect("a free name");
        fd
    }

    /// Makes a call that may not wait; one that would is given up.
    pub fn call<O: Operation>(&mut self, mut op: O) -> Option<O::Output> {
        match poll_operation(&mut self.cx, Waker::noop(), &mut op) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// Puts a frame on the wire.
    pub fn deliver(&mut self, frame: &[u8]) {
        let mut batch = FrameBatch::new();
        batch.push(frame, FrameMeta::default());
        self.peer.transmit(&mut batch);
    }

    /// Takes off the wire what the machine sent.
    pub fn sent(&mut self, mut each: impl FnMut(&[u8])) -> usize {
        let (mut batch, mut count) = (FrameBatch::new(), 0);
        while self.peer.receive(64, &mut batch) != 0 {
            batch.iter().for_each(|(frame, _)| each(frame));
            count += batch.len();
            batch.clear();
        }
        count
    }

    /// Runs until nothing is to be done now.
    pub fn settle(&mut self) {
        let resting = (0..TURNS).any(|_| !self.world.step());
        assert!(resting, "more than {TURNS} turns for what came in");
    }

    /// Lets time pass.
    pub fn pass(&mut self, time: Duration) {
        let until = self.world.clock().peek() + time;
        let mut turns = 0;
        let mut too_many = || {
            turns += 1;
            turns > EVENTS
        };
        let endless = self.world.run_until_done(until, &mut too_many);
        assert!(!endless, "more than {EVENTS} turns in {time:?}");
    }

    /// What must hold at any time.
    pub fn check(&mut self) {
        let now = self.world.clock().peek();
        assert!(now >= self.last, "time went back from {} to {now}", self.last);
        self.last = now;
        assert_eq!(self.machine.contained_panics(), 0, "something panicked");
        let packets = self.machine.live_skbs();
        assert!((0..PACKETS).contains(&packets), "{packets} packets");
        self.checks += 1;
        // To look at every socket takes longer than most steps.
        if self.checks.is_multiple_of(32) {
            self.check_sockets();
        }
    }

    fn check_sockets(&self) {
        for queued in queued(&self.machine) {
            assert!(queued <= QUEUED, "{queued} octets wait in a socket");
        }
        #[cfg(debug_assertions)]
        stack::net::ipv4::tcp::tcp_check_all(&self.machine);
    }

    /// The end of its task: nothing is left of any socket when connections had time to end.
    pub fn end(mut self) {
        self.check_sockets();
        exit_files(&mut self.cx);
        // Nobody answers; the longest wait is for a peer who does not acknowledge.
        for minutes in 0..60 {
            self.settle();
            self.sent(|_| ());
            self.check();
            let rests = sockstat_seq_show(&self.machine) == self.at_rest.0;
            if minutes > 0 && rests && self.machine.live_skbs() == 0 {
                break;
            }
            self.pass(Duration::from_secs(60));
        }
        assert!(queued(&self.machine).is_empty(), "sockets without a connection left");
        let tables = &self.machine.net().tcp.hashinfo;
        assert_eq!(sockstat_seq_show(&self.machine), self.at_rest.0, "sockets left, {tables:?}");
        assert!(tables.is_empty(), "{tables:?}");
        let (timers, idle) = (self.machine.timers(), self.at_rest.1);
        assert!(timers <= idle + 2, "{timers} timers, {idle} at rest");
        drop(self.cx);
        let _digest = self.world.end();
    }
}

/// A `sockaddr_in`.
pub fn addr(ip: Ipv4Addr, port: u16) -> [u8; 16] {
    SockaddrIn::new(ip.into(), port).to_bytes()
}

/// Octets that wait in each socket without a connection.
fn queued(machine: &Machine) -> Vec<usize> {
    let tables = [udp4_seq_show(machine), raw_seq_show(machine), ping_v4_seq_show(machine)];
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    // The fifth word is `tx_queue:rx_queue`, in hexadecimal.
    let queues = lines.map(|line| {
        let queues = line.split_whitespace().nth(4).and_then(|word| word.split_once(':'));
        usize::from_str_radix(queues.expect("a line has them").1, 16).expect("a number")
    });
    let packets = packet_seq_show(machine);
    let frames = packets.lines().skip(1).map(|line| {
        let word = line.split_whitespace().nth(6).expect("a line has it");
        word.parse::<usize>().expect("a number")
    });
    queues.chain(frames).collect()
}
