//! Readers on threads poll a TAP before they sleep: by the counters the frames come to whoever reads.

#![cfg(feature = "testing")]

use host::tap::{Tap, TapOptions};
use host::testing::{Need, in_fresh_netns, need};
use host::{Runtime, TapSpec, block_on};
use stack::fs::{exit_files, sys_read, sys_write};
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::net::core::dev::dev_open;
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::socket::{sys_connect, sys_recvfrom, sys_sendto, sys_setsockopt, sys_socket};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::ops::Range;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use uapi::in_::SockaddrIn;
use uapi::snmp::{LinuxMib, TcpMib, UdpMib};
use uapi::socket::{AF_INET, SO_BUSY_POLL, SOCK_DGRAM, SOCK_STREAM, SOL_SOCKET};

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const PORT: u16 = 7;
const DATAGRAMS: u32 = 1000;
const REQUESTS: u32 = 200;
/// Microseconds that a reader polls: longer than any answer of the host takes.
const POLLS: i32 = 2_000_000;

fn connected(cx: &mut TaskCx, kind: i32) -> i32 {
    let fd = sys_socket(cx, AF_INET, kind, 0).expect("a socket");
    let to = SockaddrIn::new(HOST.into(), PORT).to_bytes();
    block_on(cx, &mut sys_connect(fd, &to)).expect("the host listens");
    fd
}

fn polls(cx: &mut TaskCx, fd: i32) {
    sys_setsockopt(cx, fd, SOL_SOCKET, SO_BUSY_POLL, &POLLS.to_ne_bytes()).expect("in range");
}

/// The host echoes datagrams, one at a time.
fn echo_datagrams(count: u32) -> JoinHandle<()> {
    let socket = UdpSocket::bind((HOST, PORT)).expect("free");
    thread::spawn(move || {
        let mut data = [0; 64];
        for _ in 0..count {
            let (len, from) = socket.recv_from(&mut data).expect("a datagram");
            socket.send_to(&data[..len], from).expect("sent");
        }
    })
}

/// The host answers requests of one connection, then waits for its end.
fn echo_requests() -> JoinHandle<()> {
    let listener = TcpListener::bind((HOST, PORT)).expect("free");
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody connects");
        stream.set_nodelay(true).expect("a stream");
        let mut data = [0; 64];
        while stream.read_exact(&mut data).is_ok() {
            stream.write_all(&data).expect("sent");
        }
    })
}

/// Datagrams there and back, each before the next.
fn datagrams(cx: &mut TaskCx, fd: i32, numbers: Range<u32>) {
    let mut data = [0; 64];
    for number in numbers.map(u32::to_ne_bytes) {
        block_on(cx, &mut sys_sendto(fd, &number, 0, None)).expect("sent");
        let (len, _) = block_on(cx, &mut sys_recvfrom(fd, &mut data, 0)).expect("answered");
        assert_eq!(data[..len], number);
    }
}

fn requests(cx: &mut TaskCx, fd: i32) {
    for number in 0..REQUESTS {
        let request = [number as u8; 64];
        assert_eq!(block_on(cx, &mut sys_write(fd, &request)), Ok(64));
        let (mut answer, mut got) = ([0; 64], 0);
        while got < 64 {
            let more = block_on(cx, &mut sys_read(fd, &mut answer[got..])).expect("answered");
            assert_ne!(more, 0, "request {number}");
            got += more;
        }
        assert_eq!(answer, request);
    }
}

/// Interrupts that the machine took.
fn interrupts(m: &Machine) -> u64 {
    let tables = m.tables();
    tables.irqs.iter().flatten().flat_map(|irq| irq.counts()).sum()
}

/// Frames that readers polled, and interrupts that came, while something was done.
fn during(cx: &mut TaskCx, what: impl FnOnce(&mut TaskCx)) -> (u64, u64) {
    let counts = |m: &Machine| (m.mib().get(LinuxMib::BusyPollRxPackets), interrupts(m));
    let before = counts(cx.machine());
    what(cx);
    let after = counts(cx.machine());
    (after.0 - before.0, after.1 - before.1)
}

/// Between two looks of a reader his device may interrupt: what comes then, or before he looks first, is the
/// softirq's. On two processors he finds half or nearly all; a tenth is asked for, on any.
#[test]
fn readers_poll_what_no_interrupt_has_to_tell() {
    if !(need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip"))) {
        return;
    }
    in_fresh_netns(|ns| {
        let tap = Tap::open("nk0", TapOptions::default()).expect("created");
        ns.ip("addr add 192.0.2.1/24 dev nk0");
        ns.ip("link set nk0 up");
        let mut runtime = Runtime::builder().boot().expect("boots");
        let spec = TapSpec { addr: OUR_MAC, mtu: 1500, cpu: CpuId(0) };
        let dev = runtime.add_tap(tap, spec).expect("added");
        let mut cx = runtime.task("reader");
        inet_insert_ifa(&mut cx, &dev, IfAddr::new(US, 24).expect("a host's")).expect("new");
        dev_open(&mut cx, &dev).expect("opens");

        let echo = echo_datagrams(2 * DATAGRAMS);
        let fd = connected(&mut cx, SOCK_DGRAM);
        let (polled, _) = during(&mut cx, |cx| datagrams(cx, fd, 0..DATAGRAMS));
        assert_eq!(polled, 0, "nobody asked for it");
        polls(&mut cx, fd);
        let (polled, interrupts) =
            during(&mut cx, |cx| datagrams(cx, fd, DATAGRAMS..2 * DATAGRAMS));
        assert!(polled > u64::from(DATAGRAMS / 10), "{polled} of {DATAGRAMS}");
        assert!(interrupts < u64::from(DATAGRAMS), "{interrupts} interrupts");
        echo.join().expect("all came");

        let echo = echo_requests();
        let fd = connected(&mut cx, SOCK_STREAM);
        polls(&mut cx, fd);
        let (polled, interrupts) = during(&mut cx, |cx| requests(cx, fd));
        assert!(polled > u64::from(REQUESTS / 10), "{polled} for {REQUESTS} answers");
        // Our acknowledgements are answered by nothing: an answer is one frame, or a few.
        assert!(interrupts < u64::from(REQUESTS), "{interrupts} interrupts");
        let mib = runtime.machine().mib();
        let (read, again) = (mib.get(UdpMib::InDatagrams), mib.get(TcpMib::RetransSegs));
        assert_eq!((read, again), (u64::from(2 * DATAGRAMS), 0), "nothing is lost");
        exit_files(&mut cx);
        echo.join().expect("it answered");
        drop((cx, dev));
        let m = Arc::clone(runtime.machine());
        runtime.shutdown().expect("nothing panicked");
        assert_eq!(m.live_skbs(), 0);
    });
}
