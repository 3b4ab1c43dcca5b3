//! A stream of smoltcp's over a TAP, which makes and tests sums itself and cuts its segments.

use host::tap::{Tap, VNET_HDR_LEN};
use host::wait::{Token, Trigger, Waiter};
use netkeel::bench::{BenchError, Ends};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use std::io::{self, IoSlice};
use std::net::Ipv4Addr;
use std::time::Duration;

const FRAME: usize = 1514;
const BUFFER: usize = 1 << 20;
/// Octets of a call.
const CALL: usize = 256 << 10;
const SILENCE: Duration = Duration::from_secs(5);

/// The TAP, and the frame that goes through.
struct Device<'a> {
    tap: &'a Tap,
    rx: Vec<u8>,
    tx: Vec<u8>,
}

struct Rx<'a>(&'a [u8]);
struct Tx<'a> {
    tap: &'a Tap,
    frame: &'a mut [u8],
}

impl phy::RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let result = f(&mut self.frame[VNET_HDR_LEN..VNET_HDR_LEN + len]);
        // A frame that the TAP has no room for is lost, as on a wire.
        let _ = self.tap.write_frame(&[IoSlice::new(&self.frame[..VNET_HDR_LEN + len])]);
        result
    }
}

impl phy::Device for Device<'_> {
    type RxToken<'b>
        = Rx<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Tx<'b>
    where
        Self: 'b;

    fn receive(&mut self, _: Instant) -> Option<(Rx<'_>, Tx<'_>)> {
        let len = self.tap.read_frame(&mut self.rx).ok().flatten()?;
        let frame = self.rx.get(VNET_HDR_LEN..len)?;
        Some((Rx(frame), Tx { tap: self.tap, frame: &mut self.tx }))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx { tap: self.tap, frame: &mut self.tx })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }
}

/// A connection to the host's peer.
pub struct SmoltcpTap<'a> {
    iface: Interface,
    device: Device<'a>,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    waiter: Waiter,
    data: Vec<u8>,
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> BenchError {
    move |source| BenchError::System { what, source }
}

impl<'a> SmoltcpTap<'a> {
    /// Connected to the peer.
    pub fn connected(tap: &'a Tap, ends: Ends) -> Result<Self, BenchError> {
        let waiter = Waiter::new().map_err(failed("a place to wait"))?;
        waiter.add(tap, Token(0), Trigger::Level).map_err(failed("waiting for the TAP"))?;
        let mut device =
            Device { tap, rx: vec![0; VNET_HDR_LEN + 2048], tx: vec![0; VNET_HDR_LEN + FRAME] };
        let config = Config::new(HardwareAddress::Ethernet(EthernetAddress(ends.mac)));
        let mut iface = Interface::new(config, &mut device, Instant::now());
        let address = |addr: Ipv4Addr| IpAddress::Ipv4(addr);
        let own = IpCidr::new(address(ends.ours), 24);
        iface.update_ip_addrs(|addrs| addrs.push(own).expect("room for one address"));
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        let to = (address(ends.host), ends.port);
        socket.connect(iface.context(), to, 4000).expect("it may");
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let data = vec![0x55; CALL];
        let mut stream = Self { iface, device, sockets, handle, waiter, data };
        while !stream.socket().may_send() {
            stream.poll()?;
            stream.wait()?;
        }
        Ok(stream)
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn poll(&mut self) -> Result<(), BenchError> {
        self.iface.poll(Instant::now(), &mut self.device, &mut self.sockets);
        match self.socket().is_open() {
            true => Ok(()),
            false => Err(BenchError::Silence("smoltcp")),
        }
    }

    /// Sleeps until there is a frame, or something to do.
    fn wait(&mut self) -> Result<(), BenchError> {
        let delay = self.iface.poll_delay(Instant::now(), &self.sockets);
        let most = delay.map_or(SILENCE, |delay| Duration::from_micros(delay.total_micros()));
        if most.is_zero() {
            return Ok(());
        }
        let waited = self.waiter.wait(Some(most.min(SILENCE)));
        let came = waited.map_err(failed("waiting for the TAP"))?.next().is_some();
        if came || most < SILENCE { Ok(()) } else { Err(BenchError::Silence("smoltcp")) }
    }

    /// Hands in what there is room for.
    pub fn send(&mut self) -> Result<usize, BenchError> {
        loop {
            let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
            let sent = socket.send_slice(&self.data).expect("open");
            self.poll()?;
            if sent != 0 {
                return Ok(sent);
            }
            self.wait()?;
        }
    }

    /// Takes what came.
    pub fn receive(&mut self) -> Result<usize, BenchError> {
        loop {
            self.poll()?;
            let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
            let came = socket.recv_slice(&mut self.data).expect("open");
            if came != 0 {
                return Ok(came);
            }
            self.wait()?;
        }
    }
}

impl Drop for SmoltcpTap<'_> {
    /// The peer is told, so that the next connection finds nothing of this one.
    fn drop(&mut self) {
        self.socket().abort();
        self.iface.poll(Instant::now(), &mut self.device, &mut self.sockets);
    }
}
