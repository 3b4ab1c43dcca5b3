//! The same exchange through smoltcp: two of its interfaces on queues in memory.
//!
//! It gets what the machines get: the neighbour known after the first exchange, UDP's checksum left
//! to the device, buffers allocated beforehand, the same batches on the same thread.

use crate::machines::{MAX_BATCH, PAYLOAD};
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::socket::udp::{PacketBuffer, PacketMetadata, Socket};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr, IpEndpoint};
use std::cell::RefCell;
use std::rc::Rc;

const FRAME: usize = 1514;
const PORT: u16 = 7;

/// Frames on their way in one direction.
struct Queue {
    frames: Vec<(usize, [u8; FRAME])>,
    head: usize,
    used: usize,
}

type Shared = Rc<RefCell<Queue>>;

fn queue() -> Shared {
    let frames = vec![(0, [0; FRAME]); 2 * MAX_BATCH];
    Rc::new(RefCell::new(Queue { frames, head: 0, used: 0 }))
}

struct Device {
    rx: Shared,
    tx: Shared,
}

struct Rx<'a>(&'a RefCell<Queue>);
struct Tx<'a>(&'a RefCell<Queue>);

impl phy::RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let queue = &mut *self.0.borrow_mut();
        let at = queue.head;
        queue.head = (at + 1) % queue.frames.len();
        queue.used -= 1;
        let (len, frame) = &queue.frames[at];
        f(&frame[..*len])
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let queue = &mut *self.0.borrow_mut();
        let at = (queue.head + queue.used) % queue.frames.len();
        queue.used += 1;
        let (stored, frame) = &mut queue.frames[at];
        *stored = len;
        f(&mut frame[..len])
    }
}

impl phy::Device for Device {
    type RxToken<'a> = Rx<'a>;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let waiting = self.rx.borrow().used != 0;
        (waiting && has_room(&self.tx)).then(|| (Rx(&self.rx), Tx(&self.tx)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        has_room(&self.tx).then(|| Tx(&self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities.checksum.udp = Checksum::None;
        capabilities
    }
}

fn has_room(queue: &RefCell<Queue>) -> bool {
    let queue = queue.borrow();
    queue.used < queue.frames.len()
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
        let buffer = || {
            let metadata = vec![PacketMetadata::EMPTY; 2 * MAX_BATCH];
            PacketBuffer::new(metadata, vec![0; 4 * MAX_BATCH * PAYLOAD])
        };
        let mut socket = Socket::new(buffer(), buffer());
        socket.bind(PORT).expect("a free port");
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(socket);
        Self { iface, device, sockets, socket }
    }

    fn poll(&mut self) {
        self.iface.poll(Instant::ZERO, &mut self.device, &mut self.sockets);
    }

    /// One packet goes at each call.
    fn poll_egress(&mut self) {
        let mut more = PollResult::SocketStateChanged;
        while more == PollResult::SocketStateChanged {
            more = self.iface.poll_egress(Instant::ZERO, &mut self.device, &mut self.sockets);
        }
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.socket)
    }
}

/// Two interfaces, a socket on each.
pub struct SmoltcpPair {
    a: Host,
    b: Host,
    to: IpEndpoint,
}

impl SmoltcpPair {
    /// The pair, its neighbours known.
    pub fn new() -> Self {
        let (there, back) = (queue(), queue());
        let a = Host::new(1, Rc::clone(&back), Rc::clone(&there));
        let b = Host::new(2, there, back);
        let to = IpEndpoint::new(IpAddress::v4(192, 0, 2, 2), PORT);
        let mut pair = Self { a, b, to };
        // The first datagram waits for the address to be asked for and answered.
        pair.send(1);
        for _ in 0..8 {
            pair.a.poll();
            pair.b.poll();
        }
        pair.receive(1);
        pair
    }

    fn send(&mut self, batch: usize) {
        let data = [0x55; PAYLOAD];
        let to = self.to;
        let socket = self.a.socket();
        for _ in 0..batch {
            socket.send_slice(&data, to).expect("room for a batch");
        }
    }

    fn receive(&mut self, batch: usize) {
        let mut data = [0_u8; 2048];
        let socket = self.b.socket();
        for _ in 0..batch {
            let (len, _) = socket.recv_slice(&mut data).expect("a datagram for each sent");
            assert_eq!(len, PAYLOAD);
        }
    }

    /// One batch, all the way.
    pub fn round(&mut self, batch: usize) {
        self.send(batch);
        self.a.poll_egress();
        self.b.poll();
        self.receive(batch);
    }
}
