//! The golden walk of a datagram and its answer over a TAP.

use crate::golden;
use crate::testdev::frame;
use crate::util::udp;
use drivers::net::tun::{TapFault, TapPort, TunSpec, Wants, tun_detach, tun_set_iff};
use sim::{Digest, MachineSpec, World};
use stack::fs::exit_files;
use stack::kernel::cpu::CpuId;
use stack::net::core::dev::dev_open;
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::socket::{sys_recvfrom, sys_sendto};
use std::collections::VecDeque;
use std::io::IoSliceMut;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// Zeros: nothing is left to be done.
const VNET_HDR: [u8; 12] = [0; 12];

/// The host's side.
#[derive(Default)]
struct Port {
    incoming: Mutex<VecDeque<Vec<u8>>>,
    written: Mutex<Vec<Vec<u8>>>,
}

impl TapPort for Port {
    fn read_frame(&self, parts: &mut [IoSliceMut<'_>]) -> Result<Option<usize>, TapFault> {
        let Some(frame) = self.incoming.lock().expect("free").pop_front() else { return Ok(None) };
        parts[0][..frame.len()].copy_from_slice(&frame);
        Ok(Some(frame.len()))
    }
    fn write_frame(&self, _: &[u8], parts: &[&[u8]]) -> Result<(), TapFault> {
        self.written.lock().expect("free").push(parts.concat());
        Ok(())
    }
    fn link_up(&self) -> bool {
        true
    }
    fn irq_mask(&self) {}
    fn irq_unmask(&self, _: Wants) {}
}

stepped!(a_datagram_and_its_answer_over_a_tap);
fn a_datagram_and_its_answer_over_a_tap() -> Digest {
    let mut world = World::recorded(121);
    let machine = world.machine(&MachineSpec::default());
    let mut cx = world.task_cx(&machine, CpuId(0));
    let port = Arc::new(Port::default());
    let spec = TunSpec { name: "nk0".to_owned(), addr: MAC, mtu: 1500 };
    let tun = tun_set_iff(&mut cx, vec![Arc::clone(&port) as _], spec).expect("registered");
    inet_insert_ifa(&mut cx, &tun.dev, IfAddr::new(LOCAL, 24).expect("a host")).expect("new");
    dev_open(&mut cx, &tun.dev).expect("opens");
    let fd = udp(&mut cx, LOCAL, 7);
    let arrive = |kind: u16, payload: &[u8]| {
        let frame = [&VNET_HDR[..], &frame::ether(MAC, kind, payload)].concat();
        port.incoming.lock().expect("free").push_back(frame);
        tun.irqs[0].raise();
    };
    // Who asks for us is known afterwards.
    arrive(0x0806, &frame::arp(1, frame::PEER, LOCAL, [0; 6]));
    world.settle();
    world.watch(None);
    arrive(0x0800, &frame::udp((frame::PEER, 5000), (LOCAL, 7), b"hello"));
    let mut data = [0; 16];
    let mut op = sys_recvfrom(fd, &mut data, 0);
    let got = world.block_on(&mut cx, &mut op, Duration::from_secs(1)).expect("it arrives");
    drop(op);
    let (len, from) = got.expect("a datagram");
    let to = from.expect("a sender").to_bytes();
    let mut op = sys_sendto(fd, &data[..len], 0, Some(&to));
    let sent = world.block_on(&mut cx, &mut op, Duration::from_secs(1));
    assert_eq!(sent, Some(Ok(5)));
    drop(op);
    world.settle();
    golden::check(&world, "udp-tap");
    let written = port.written.lock().expect("free").pop().expect("the answer");
    assert_eq!((&written[..6], &written[42..47]), (&frame::PEER_MAC[..], &b"hello"[..]));
    exit_files(&mut cx);
    tun_detach(&mut cx, tun);
    drop(cx);
    world.run_for(Duration::from_secs(10));
    world.end()
}
