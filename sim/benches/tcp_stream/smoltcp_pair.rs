//! The same stream through smoltcp: two of its interfaces on queues in memory.
//!
//! It gets what the machines get: the neighbour known, TCP's checksum left to the device, buffers allocated
//! beforehand (as large as it takes), the same writes on the same thread.

use crate::WRITE;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

const FRAME: usize = 1514;
const QUEUE: usize = 1024;
const BUFFER: usize = 256 << 10;

/// Frames on their way in one direction; the buffers go round.
#[derive(Default)]
struct Queue {
    frames: VecDeque<Vec<u8>>,
    free: Vec<Vec<u8>>,
}

type Shared = Rc<RefCell<Queue>>;

struct Device {
    rx: Shared,
    tx: Shared,
}

struct Rx<'a>(&'a RefCell<Queue>);
struct Tx<'a>(&'a RefCell<Queue>);

impl phy::RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let frame = self.0.borrow_mut().frames.pop_front().expect("looked before");
        let result = f(&frame);
        self.0.borrow_mut().free.push(frame);
        result
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = self.0.borrow_mut().free.pop().unwrap_or_else(|| Vec::with_capacity(FRAME));
        frame.resize(len, 0);
        let result = f(&mut frame);
        self.0.borrow_mut().frames.push_back(frame);
        result
    }
}

impl phy::Device for Device {
    type RxToken<'a> = Rx<'a>;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let waiting = !self.rx.borrow().frames.is_empty();
        waiting.then(|| (Rx(&self.rx), Tx(&self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        (self.tx.borrow().frames.len() < QUEUE).then(|| Tx(&self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities.checksum.tcp = Checksum::None;
        capabilities
    }
}

struct Host {
    iface: Interface,
    device: Device,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
}

impl Host {
    fn new(number: u8, rx: Shared, tx: Shared) -> Self {
        let mut device = Device { rx, tx };
        let mac = EthernetAddress([2, 0, 0, 0, 0, number]);
        let config = Config::new(HardwareAddress::Ethernet(mac));
        let mut iface = Interface::new(config, &mut device, Instant::ZERO);
        let addr = IpCidr::new(IpAddress::v4(192, 0, 2, number), 24);
        iface.update_ip_addrs(|addrs| addrs.push(addr).expect("room for one address"));
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(Socket::new(buffer(), buffer()));
        Self { iface, device, sockets, socket }
    }

    fn poll(&mut self, now: Instant) {
        self.iface.poll(now, &mut self.device, &mut self.sockets);
    }

    fn tcp(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }
}

/// The pair, connected.
pub struct SmoltcpPair {
    a: Host,
    b: Host,
    buffer: Vec<u8>,
    micros: i64,
}

impl SmoltcpPair {
    /// Two interfaces with a connection.
    pub fn new() -> Self {
        let (there, back) = (Shared::default(), Shared::default());
        let mut a = Host::new(1, Rc::clone(&back), Rc::clone(&there));
        let mut b = Host::new(2, there, back);
        b.tcp().listen(80).expect("a free port");
        let cx = a.iface.context();
        let socket = a.sockets.get_mut::<Socket<'_>>(a.socket);
        socket.connect(cx, (IpAddress::v4(192, 0, 2, 2), 80), 4000).expect("it may");
        let mut pair = Self { a, b, buffer: vec![0x55; WRITE], micros: 0 };
        while !pair.b.tcp().may_recv() {
            pair.poll();
        }
        pair
    }

    fn poll(&mut self) {
        self.micros += 1;
        let now = Instant::from_micros(self.micros);
        self.a.poll(now);
        self.b.poll(now);
    }

    /// One write, all the way.
    pub fn round(&mut self) {
        let sent = self.a.tcp().send_slice(&self.buffer).expect("open");
        let mut got = 0;
        while got < sent {
            self.poll();
            got += self.b.tcp().recv_slice(&mut self.buffer).expect("open");
        }
    }
}
