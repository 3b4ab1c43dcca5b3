//! Packet memory under a flood on every queue, on real threads: the cap is hard at every moment, and
//! when the sockets that held it are closed the next datagram is delivered.

mod util;

use host::{Runtime, block_on};
use hw::wire::Wire;
use klib::bitmap::CpuMask;
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::{NetDevice, store_rps_map};
use stack::net::core::ethtool::{RxfhFields, ethtool_set_rxfh_fields};
use stack::net::core::sysctl::update_sysctls;
use stack::net::socket::{sys_bind, sys_recvfrom, sys_sendto, sys_socket};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use uapi::socket::{AF_INET, MSG_DONTWAIT, SOCK_DGRAM};
use util::{runtime, sockaddr};

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const QUEUES: u16 = 4;
/// The cap of the flooded machine.
const MEMORY: usize = 4 << 20;
/// Sockets that nobody reads: together their buffers hold more than the cap.
const SOCKETS: u16 = 40;
const SENDERS: u16 = 16;
/// Datagrams to one socket before it is the next one's turn: more than it holds.
const TO_EACH: usize = 512;
/// The flood goes on until so many packets found no memory, and so many no room at their socket.
const ENOUGH: u64 = 500;
const PATIENCE: Duration = Duration::from_secs(60);

fn socket(cx: &mut TaskCx, ip: Ipv4Addr, port: u16) -> i32 {
    let fd = sys_socket(cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
    sys_bind(cx, fd, &sockaddr(ip, port)).expect("free");
    fd
}

/// Frames that the driver had no memory for.
fn no_memory(dev: &NetDevice) -> u64 {
    let stats = dev.ethtool.as_ref().expect("igb has it").get_ethtool_stats();
    let failed = stats.iter().filter(|(name, _)| name.ends_with("alloc_failed"));
    failed.map(|(_, count)| count).sum()
}

/// The other thread stops when this goes, by a panic too.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Sends to every socket in turn, from all senders.
fn flood(cx: &mut TaskCx, clients: &[i32], stop: &AtomicBool) {
    let mut number = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        let to = sockaddr(B, 6000 + (number / TO_EACH) as u16 % SOCKETS);
        let client = clients[number % clients.len()];
        // Refused or dropped on the way out: no matter.
        let _ = block_on(cx, &mut sys_sendto(client, &[7; 1400], MSG_DONTWAIT, Some(&to)));
        number += 1;
        if number.is_multiple_of(64) {
            thread::yield_now();
        }
    }
}

#[test]
fn a_flood_on_every_queue_stays_below_the_cap() {
    let (a_end, b_end) = Wire::pair(1024);
    let (a, _) = runtime(Runtime::builder(), QUEUES as u8, A, a_end);
    let flooded = Runtime::builder().cpus(2).machine(|b| b.memory(MEMORY));
    let (b, dev) = runtime(flooded, QUEUES as u8, B, b_end);
    let (mut sender, mut reader) = (a.task("sender"), b.task("reader"));
    ethtool_set_rxfh_fields(&mut reader, &dev, RxfhFields { udp4_ports: true }).expect("igb can");
    update_sysctls(&mut reader, |sysctl| sysctl.netdev_max_backlog = 40);
    for queue in 0..QUEUES {
        store_rps_map(&mut reader, &dev, queue, CpuMask::from_bits(0b11)).expect("a queue");
    }
    let clients: Vec<i32> = (0..SENDERS).map(|n| socket(&mut sender, A, 4000 + n)).collect();
    let servers: Vec<i32> = (0..SOCKETS).map(|n| socket(&mut reader, B, 6000 + n)).collect();
    let m = Arc::clone(b.machine());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| flood(&mut sender, &clients, &stop));
        let _stop = Stop(&stop);
        let until = Instant::now() + PATIENCE;
        loop {
            for _ in 0..1000 {
                let used = m.packet_memory();
                assert!(used <= MEMORY, "the cap is hard: {used}");
            }
            let drops = (no_memory(&dev), m.mib().drops(DropReason::SocketRcvbuff));
            if drops.0 >= ENOUGH && drops.1 >= ENOUGH {
                break;
            }
            assert!(Instant::now() < until, "no memory, no room at the socket: {drops:?}");
        }
    });
    for fd in servers {
        stack::fs::sys_close(&mut reader, fd).expect("open");
    }
    // What is still under way finds no socket; then it is the next datagram's turn.
    let server = socket(&mut reader, B, 7);
    let mut data = [0; 16];
    let until = Instant::now() + PATIENCE;
    let mut tries = 0;
    while block_on(&mut reader, &mut sys_recvfrom(server, &mut data, MSG_DONTWAIT)).is_err() {
        assert!(Instant::now() < until, "nothing arrives after {tries} datagrams");
        // The wire may be full of the flood's last: then this one is lost there.
        let to = sockaddr(B, 7);
        let _ = block_on(&mut sender, &mut sys_sendto(clients[0], b"room again", 0, Some(&to)));
        tries += 1;
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(&data[..10], b"room again");
    exit_files(&mut sender);
    exit_files(&mut reader);
    drop((sender, reader, m));
    for runtime in [a, b] {
        let m = Arc::clone(runtime.machine());
        runtime.shutdown().expect("nothing panicked");
        assert_eq!((m.live_skbs(), m.contained_panics()), (0, 0));
    }
}
