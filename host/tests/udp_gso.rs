//! Messages in segments between the stack and the host's kernel over a TAP: whole where both can, cut where not.

#![cfg(feature = "testing")]
#![allow(unsafe_code, reason = "options and control data of the host's sockets")]

use host::tap::{Tap, TapOptions};
use host::testing::{Need, in_fresh_netns, need};
use host::{Runtime, TapSpec, block_on};
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::net::core::dev::{NetDevice, NetdevFeatures, dev_open};
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::socket::{sys_bind, sys_recvmsg, sys_sendto, sys_setsockopt, sys_socket};
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use uapi::if_tun::{TUN_F_CSUM, TUN_F_USO4, TUN_F_USO6};
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, SO_RCVTIMEO, SOCK_DGRAM, SOL_SOCKET, SOL_UDP, cmsgs};
use uapi::udp::{UDP_GRO, UDP_SEGMENT};

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SIZE: usize = 1000;
/// Of a message, which becomes 61 datagrams.
const LEN: usize = 60_500;
const DATAGRAMS: u64 = 61;

/// What came of a message: the octets of each read, and the datagrams' length where it was told.
type Came = Vec<(usize, Option<i32>)>;

fn octets() -> Vec<u8> {
    (0..LEN as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}

fn host_option(socket: &UdpSocket, name: i32, value: i32) {
    let value: *const i32 = &raw const value;
    // SAFETY: the option reads one int, which lives during the call.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), SOL_UDP, name, value.cast(), 4) };
    assert_eq!(set, 0);
}

/// Reads a message on the host, with what it is told beside.
fn host_recv(socket: &UdpSocket, data: &mut [u8]) -> (usize, Option<i32>) {
    let mut told = [0u8; 64];
    let mut iov = libc::iovec { iov_base: data.as_mut_ptr().cast(), iov_len: data.len() };
    // SAFETY: zeroes are a message without any part.
    let mut msg: libc::msghdr = unsafe { std::mem::zeroed() };
    (msg.msg_iov, msg.msg_iovlen) = (&raw mut iov, 1);
    (msg.msg_control, msg.msg_controllen) = (told.as_mut_ptr().cast(), told.len() as _);
    // SAFETY: the message refers to memory that lives, and is written by nobody else, during the call.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut msg, 0) };
    let len = usize::try_from(len).expect("it arrives");
    (len, size_in(&told[..msg.msg_controllen as usize]))
}

fn size_in(told: &[u8]) -> Option<i32> {
    let mut told = cmsgs(told).map(|cmsg| cmsg.expect("whole"));
    let size = told.find(|cmsg| (cmsg.level, cmsg.type_) == (SOL_UDP, UDP_GRO))?;
    Some(i32::from_ne_bytes(size.data.try_into().expect("a number")))
}

/// Reads until all is there, which must be what was sent.
fn read_all(mut read: impl FnMut(&mut [u8]) -> (usize, Option<i32>)) -> Came {
    let (mut came, mut all, mut room) = (Came::new(), Vec::new(), vec![0; 65_536]);
    while all.len() < LEN {
        let (len, size) = read(&mut room);
        all.extend_from_slice(&room[..len]);
        came.push((len, size));
    }
    assert!(all == octets(), "in its order, and whole");
    came
}

fn set(cx: &mut TaskCx, fd: i32, (level, name): (i32, i32), value: &[u8]) {
    sys_setsockopt(cx, fd, level, name, value).expect("an option");
}

fn socket(cx: &mut TaskCx, gro: i32) -> i32 {
    let fd = sys_socket(cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
    sys_bind(cx, fd, &SockaddrIn::new(0, 7).to_bytes()).expect("free");
    set(cx, fd, (SOL_UDP, UDP_GRO), &gro.to_ne_bytes());
    let seconds = [10i64, 0].map(i64::to_ne_bytes).concat();
    set(cx, fd, (SOL_SOCKET, SO_RCVTIMEO), &seconds);
    fd
}

fn stack_recv(cx: &mut TaskCx, fd: i32, room: &mut [u8]) -> (usize, Option<i32>) {
    let mut told = [0; 64];
    let mut into: [&mut [u8]; 1] = [room];
    let got = block_on(cx, &mut sys_recvmsg(fd, &mut into, &mut told, 0)).expect("it arrives");
    (got.len, size_in(&told[..got.controllen as usize]))
}

/// Frames that the device has received and sent. The host sends some of its own, of other protocols.
fn frames(dev: &NetDevice) -> (u64, u64) {
    let stats = dev.ops.ndo_get_stats64();
    (stats.rx_packets, stats.tx_packets)
}

/// A machine on a TAP that may have these offloads, and a task of it.
fn with_stack(wished: u32, f: impl FnOnce(&mut TaskCx, &Arc<NetDevice>) + Send) {
    if !(need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip"))) {
        return;
    }
    in_fresh_netns(|ns| {
        let options = TapOptions { offloads: TUN_F_CSUM, wished, ..TapOptions::default() };
        let tap = Tap::open("nk0", options).expect("created");
        ns.ip(&format!("addr add {HOST}/24 dev nk0"));
        ns.ip("link set nk0 up");
        let mut runtime = Runtime::builder().boot().expect("boots");
        let spec = TapSpec { addr: OUR_MAC, mtu: 1500, cpu: CpuId(0) };
        let dev = runtime.add_tap(tap, spec).expect("added");
        let mut cx = runtime.task("test");
        inet_insert_ifa(&mut cx, &dev, IfAddr::new(US, 24).expect("a host's")).expect("new");
        dev_open(&mut cx, &dev).expect("opens");
        f(&mut cx, &dev);
        exit_files(&mut cx);
        drop((cx, dev));
        let machine = Arc::clone(runtime.machine());
        runtime.shutdown().expect("nothing panicked");
        assert_eq!((machine.live_skbs(), machine.contained_panics()), (0, 0));
    });
}

/// A socket of the host's, and the stack knows the way to it.
fn host_socket(cx: &mut TaskCx, fd: i32) -> (UdpSocket, [u8; 16]) {
    let socket = UdpSocket::bind((HOST, 0)).expect("free");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
    socket.connect((US, 7)).expect("a way");
    socket.send(b"warm").expect("sent");
    assert_eq!(stack_recv(cx, fd, &mut [0; 64]), (4, None));
    let port = socket.local_addr().expect("bound").port();
    let to = SockaddrIn::new(HOST.into(), port).to_bytes();
    block_on(cx, &mut sys_sendto(fd, b"warm", 0, Some(&to))).expect("sent");
    assert_eq!(host_recv(&socket, &mut [0; 64]), (4, None));
    (socket, to)
}

/// Of so many frames, those of a message: one, or one a datagram.
fn of_message(frames: u64) -> u64 {
    match frames {
        1..10 => 1,
        DATAGRAMS.. => DATAGRAMS,
        other => panic!("{other} frames"),
    }
}

fn one_by_one() -> Came {
    let mut each = vec![(SIZE, None); LEN / SIZE];
    each.push((LEN % SIZE, None));
    each
}

/// Both ways, for readers that ask (`gro`) and that do not; what came at the host, and at the stack, in how many
/// frames.
fn both_ways(cx: &mut TaskCx, dev: &NetDevice, gro: i32) -> [(Came, u64); 2] {
    let fd = socket(cx, gro);
    let (host, to) = host_socket(cx, fd);
    host_option(&host, UDP_GRO, gro);
    let before = frames(dev).1;
    set(cx, fd, (SOL_UDP, UDP_SEGMENT), &(SIZE as i32).to_ne_bytes());
    let sent = block_on(cx, &mut sys_sendto(fd, &octets(), 0, Some(&to)));
    assert_eq!(sent, Ok(LEN));
    let at_host = read_all(|room| host_recv(&host, room));
    let sent_in = frames(dev).1 - before;
    let before = frames(dev).0;
    host_option(&host, UDP_SEGMENT, SIZE as i32);
    assert_eq!(host.send(&octets()).expect("sent"), LEN);
    let here = read_all(|room| stack_recv(cx, fd, room));
    let came_in = frames(dev).0 - before;
    stack::fs::sys_close(cx, fd).expect("open");
    [(at_host, of_message(sent_in)), (here, of_message(came_in))]
}

#[test]
fn a_message_passes_the_tap_whole_where_both_can() {
    with_stack(TUN_F_USO4 | TUN_F_USO6, |cx, dev| {
        if !dev.features().contains(NetdevFeatures::GSO_UDP_L4) {
            // Before Linux 6.2.
            return;
        }
        let whole = (vec![(LEN, Some(SIZE as i32))], 1);
        assert_eq!(both_ways(cx, dev, 1), [whole.clone(), whole]);
        let apart = (one_by_one(), 1);
        assert_eq!(both_ways(cx, dev, 0), [apart.clone(), apart]);
        // Switched off here: cut before it leaves, while the host goes on as it was told.
        dev.set_features(dev.features() - NetdevFeatures::GSO_UDP_L4);
        let [sent, came] = both_ways(cx, dev, 0);
        assert_eq!((sent, came), ((one_by_one(), DATAGRAMS), (one_by_one(), 1)));
    });
}

#[test]
fn a_message_is_cut_for_a_tap_that_can_not() {
    with_stack(0, |cx, dev| {
        assert!(!dev.features().contains(NetdevFeatures::GSO_UDP_L4));
        let apart = (one_by_one(), DATAGRAMS);
        assert_eq!(both_ways(cx, dev, 0), [apart.clone(), apart.clone()]);
        let [sent, (here, came_in)] = both_ways(cx, dev, 1);
        assert_eq!((sent, came_in), (apart, DATAGRAMS));
        // As many together as a poll finds.
        assert!(here.iter().all(|(len, size)| match size {
            Some(size) => *size == SIZE as i32 && *len > SIZE,
            None => *len <= SIZE,
        }));
    });
}
