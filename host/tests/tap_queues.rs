//! A TAP of several queues: an interrupt each, and descriptors that follow their interrupts.

#![cfg(feature = "testing")]

use host::tap::{Tap, TapOptions};
use host::testing::{Need, in_fresh_netns, need, recv_from};
use host::{Runtime, TapSpec, block_on};
use stack::fs::exit_files;
use stack::kernel::cpu::CpuId;
use stack::net::core::dev::dev_open;
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::socket::{sys_bind, sys_recvfrom, sys_sendto, sys_socket};
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, SOCK_DGRAM};

const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Interrupts that each queue's line took, by CPU.
fn taken(runtime: &Runtime) -> Vec<Vec<u64>> {
    let irqs = &runtime.machine().tables().irqs;
    let queue = |name: &str| name.starts_with("nk0-") && name != "nk0-link";
    irqs.iter().flatten().filter(|irq| queue(&irq.name)).map(|irq| irq.counts()).collect()
}

#[test]
fn descriptors_follow_their_interrupts_to_other_cpus() {
    if !(need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip"))) {
        return;
    }
    in_fresh_netns(|ns| {
        let taps = Tap::open_queues("nk0", TapOptions::default(), 2).expect("created");
        ns.ip("addr add 192.0.2.1/24 dev nk0");
        ns.ip("link set nk0 up");
        let mut runtime = Runtime::builder().cpus(2).boot().expect("boots");
        let spec = TapSpec { addr: OUR_MAC, mtu: 1500, cpu: CpuId(0) };
        let dev = runtime.add_tap_queues(taps, spec).expect("added");
        assert_eq!(dev.tx_queues.len(), 2);
        let mut cx = runtime.task("ip");
        inet_insert_ifa(&mut cx, &dev, IfAddr::new(US, 24).expect("a host's")).expect("new");
        dev_open(&mut cx, &dev).expect("opens");
        let (ready, listens) = std::sync::mpsc::channel();
        let echo = move |cx: &mut stack::kernel::context::TaskCx| {
            let fd = sys_socket(cx, AF_INET, SOCK_DGRAM, 0).expect("a socket");
            sys_bind(cx, fd, &SockaddrIn::new(0, 7).to_bytes()).expect("free");
            ready.send(()).expect("waited for");
            let mut data = [0; 64];
            loop {
                let got = block_on(cx, &mut sys_recvfrom(fd, &mut data, 0));
                let (len, from) = match got {
                    Err(Errno::EINTR) => return,
                    other => other.expect("a datagram"),
                };
                let to = from.expect("a sender").to_bytes();
                block_on(cx, &mut sys_sendto(fd, &data[..len], 0, Some(&to))).expect("sent");
            }
        };
        runtime.spawn("echo", CpuId(0), echo).expect("a thread");
        // Before, a datagram would be refused, of which the host's sockets, not connected, hear nothing.
        listens.recv().expect("it listens");
        let flows: Vec<UdpSocket> =
            (0..16).map(|_| UdpSocket::bind("192.0.2.1:0").expect("free")).collect();
        let round = |number: u8| {
            for socket in &flows {
                let mut data = [0; 8];
                socket.send_to(&[number], (US, 7)).expect("sent");
                recv_from(socket, &mut data).expect("answered");
                assert_eq!(data[0], number);
            }
        };
        // Both on the first CPU, both on the second, each on its own.
        for (number, cpus) in [["1", "1"], ["2", "2"], ["1", "2"]].iter().enumerate() {
            let tables = runtime.machine().tables();
            for (queue, mask) in cpus.iter().enumerate() {
                let name = format!("nk0-{queue}");
                let mut irqs = tables.irqs.iter().flatten();
                let desc = irqs.find(|irq| irq.name == name).expect("a line a queue");
                desc.irq_affinity_proc_write(mask).expect("a CPU");
            }
            drop(tables);
            // Of an interrupt on its way to the CPU before there may be one a queue.
            let before = taken(&runtime);
            (0..20).for_each(|_| round(number as u8));
            let after = taken(&runtime);
            for (queue, mask) in cpus.iter().enumerate() {
                let other = if *mask == "1" { 1 } else { 0 };
                let strayed = after[queue][other] - before[queue][other];
                assert!(strayed <= 2, "queue {queue} on {mask}: {before:?} {after:?}");
            }
            let all = |taken: &[Vec<u64>]| taken.iter().flatten().sum::<u64>();
            assert!(all(&after) > all(&before), "somebody was interrupted: {after:?}");
        }
        exit_files(&mut cx);
        drop((cx, dev));
        let m = Arc::clone(runtime.machine());
        runtime.shutdown().expect("nothing panicked");
        assert_eq!(m.live_skbs(), 0);
    });
}
