//! A host of smoltcp's for a bench: an interface with Ethernet on queues in memory, and a socket on it.
//!
//! It gets what the machines get: checksums left to the device, frames allocated beforehand.

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::socket::AnySocket;
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use std::cell::RefCell;
use std::rc::Rc;

const FRAME: usize = 1514;

/// Frames on their way in one direction.
pub struct Queue {
    frames: Vec<(usize, [u8; FRAME])>,
    head: usize,
    used: usize,
}

type Shared = Rc<RefCell<Queue>>;

impl Queue {
    /// Room for so many.
    pub fn new(frames: usize) -> Shared {
        Rc::new(RefCell::new(Self { frames: vec![(0, [0; FRAME]); frames], head: 0, used: 0 }))
    }
}

/// What the interface sees of its two queues.
pub struct Device {
    rx: Shared,
    tx: Shared,
}

pub struct Rx<'a>(&'a RefCell<Queue>);
pub struct Tx<'a>(&'a RefCell<Queue>);

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
        capabilities.checksum.tcp = Checksum::None;
        capabilities
    }
}

fn has_room(queue: &RefCell<Queue>) -> bool {
    let queue = queue.borrow();
    queue.used < queue.frames.len()
}

/// The address of the host of that number.
pub fn addr(number: u8) -> IpAddress {
    IpAddress::v4(192, 0, 2, number)
}

/// An interface and its socket.
pub struct Host {
    pub iface: Interface,
    pub device: Device,
    pub sockets: SocketSet<'static>,
    pub handle: SocketHandle,
}

impl Host {
    /// Hosts 1 and 2, each way between them room for so many frames.
    pub fn pair<S: AnySocket<'static>>(frames: usize, socket: impl Fn() -> S) -> (Self, Self) {
        let (there, back) = (Queue::new(frames), Queue::new(frames));
        let a = Device { rx: Rc::clone(&back), tx: Rc::clone(&there) };
        let b = Device { rx: there, tx: back };
        (Self::new(1, a, socket()), Self::new(2, b, socket()))
    }

    fn new<S: AnySocket<'static>>(number: u8, mut device: Device, socket: S) -> Self {
        let mac = EthernetAddress([2, 0, 0, 0, 0, number]);
        let config = Config::new(HardwareAddress::Ethernet(mac));
        let mut iface = Interface::new(config, &mut device, Instant::ZERO);
        let own = IpCidr::new(addr(number), 24);
        iface.update_ip_addrs(|addrs| addrs.push(own).expect("room for one address"));
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Self { iface, device, sockets, handle }
    }

    /// Does all that is to be done.
    pub fn poll(&mut self, now: Instant) {
        self.iface.poll(now, &mut self.device, &mut self.sockets);
    }

    /// Its socket.
    pub fn socket<S: AnySocket<'static>>(&mut self) -> &mut S {
        self.sockets.get_mut(self.handle)
    }
}
