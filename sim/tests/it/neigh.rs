//! What is learnt of a neighbour, and what is not.

use crate::testdev::{TestDev, frame};
use crate::util::{addr, connect, udp};
use sim::{Digest, MachineSpec, World};
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::net::core::sysctl::update_sysctls;
use stack::net::ipv4::devinet::update_devconf;
use stack::net::socket::{sys_getsockopt, sys_sendto};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use uapi::socket::{MSG_CONFIRM, MSG_PROBE, SO_ERROR, SOL_SOCKET};

const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 6, 6];
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// A machine and its neighbour at 192.0.2.9.
struct Link {
    world: World,
    machine: Arc<Machine>,
    cx: TaskCx,
    dev: Arc<TestDev>,
    fd: i32,
}

impl Link {
    fn new() -> Self {
        let mut world = World::recorded(9);
        let machine = world.machine(&MachineSpec::default());
        let mut cx = world.task_cx(&machine, CpuId(0));
        let dev = TestDev::add(&mut cx, LOCAL, 100);
        let fd = udp(&mut cx, LOCAL, 4000);
        Self { world, machine, cx, dev, fd }
    }

    /// The neighbour has just been asked for and has answered.
    fn reachable() -> Self {
        let mut link = Self::new();
        link.send(0);
        link.hear(REPLY, frame::PEER_MAC, LOCAL, TestDev::MAC);
        assert_eq!(link.entry(), Some(("REACHABLE", frame::PEER_MAC)));
        link
    }

    fn send(&mut self, flags: i32) {
        let to = addr(frame::PEER, 9);
        let mut op = sys_sendto(self.fd, b"x", flags, Some(&to));
        let sent = self.world.block_on(&mut self.cx, &mut op, Duration::from_millis(1));
        assert_eq!(sent, Some(Ok(1)));
        drop(op);
        self.world.settle();
    }

    /// The neighbour says something.
    fn hear(&mut self, op: u16, mac: [u8; 6], tip: Ipv4Addr, tha: [u8; 6]) {
        let mut arp = frame::arp(op, frame::PEER, tip, tha);
        arp[8..14].copy_from_slice(&mac);
        self.dev.deliver([frame::ether(TestDev::MAC, 0x0806, &arp)]);
        self.world.settle();
    }

    fn entry(&self) -> Option<(&'static str, [u8; 6])> {
        let table = self.machine.net().arp_tbl.dump();
        let entry = table.iter().find(|n| n.key.addr == u32::from(frame::PEER))?;
        Some((entry.state, entry.lladdr.unwrap_or_default()))
    }

    fn run_ms(&mut self, ms: u64) {
        self.world.run_for(Duration::from_millis(ms));
    }

    /// In the state `PROBE`, for less than a second.
    fn probed() -> Self {
        let mut link = Self::reachable();
        link.run_ms(50_000);
        link.send(0);
        assert_eq!(link.entry().map(|entry| entry.0), Some("DELAY"));
        link.run_ms(5_100);
        assert_eq!(link.entry().map(|entry| entry.0), Some("PROBE"));
        link
    }

    fn finish(mut self) -> Digest {
        exit_files(&mut self.cx);
        let Self { world, cx, .. } = self;
        drop(cx);
        world.end()
    }
}

stepped!(another_address_within_locktime_changes_nothing);
fn another_address_within_locktime_changes_nothing() -> Digest {
    let mut link = Link::probed();
    link.hear(REPLY, OTHER_MAC, LOCAL, TestDev::MAC);
    assert_eq!(link.entry(), Some(("PROBE", frame::PEER_MAC)), "it was not the one asked");
    link.hear(REPLY, frame::PEER_MAC, LOCAL, TestDev::MAC);
    assert_eq!(link.entry(), Some(("REACHABLE", frame::PEER_MAC)));
    link.hear(REPLY, OTHER_MAC, LOCAL, TestDev::MAC);
    assert_eq!(link.entry(), Some(("REACHABLE", frame::PEER_MAC)), "the first answer counts");
    link.run_ms(1_100);
    link.hear(REPLY, OTHER_MAC, LOCAL, TestDev::MAC);
    assert_eq!(link.entry(), Some(("REACHABLE", OTHER_MAC)));
    link.finish()
}

stepped!(the_same_answer_does_not_lock_the_entry);
fn the_same_answer_does_not_lock_the_entry() -> Digest {
    let mut link = Link::reachable();
    for _ in 0..4 {
        link.run_ms(500);
        link.hear(REPLY, frame::PEER_MAC, LOCAL, TestDev::MAC);
    }
    link.run_ms(100);
    link.hear(REPLY, OTHER_MAC, LOCAL, TestDev::MAC);
    assert_eq!(link.entry(), Some(("REACHABLE", OTHER_MAC)), "last changed two seconds ago");
    link.finish()
}

stepped!(hearsay_of_what_is_known_changes_no_state);
fn hearsay_of_what_is_known_changes_no_state() -> Digest {
    let mut link = Link::probed();
    link.hear(REQUEST, frame::PEER_MAC, LOCAL, [0; 6]);
    assert_eq!(link.entry(), Some(("PROBE", frame::PEER_MAC)));
    link.hear(REQUEST, OTHER_MAC, LOCAL, [0; 6]);
    assert_eq!(link.entry(), Some(("STALE", OTHER_MAC)), "who asks has that address now");
    link.finish()
}

stepped!(a_gratuitous_reply_names_its_address_twice);
fn a_gratuitous_reply_names_its_address_twice() -> Digest {
    let gratuitous = [(OTHER_MAC, true), ([0; 6], false), ([0xff; 6], false)];
    let replies = gratuitous.into_iter().map(|(tha, learnt)| {
        let mut link = Link::reachable();
        // Within locktime only a gratuitous message may replace the address.
        link.hear(REPLY, OTHER_MAC, frame::PEER, tha);
        let mac = if learnt { OTHER_MAC } else { frame::PEER_MAC };
        assert_eq!(link.entry(), Some(("REACHABLE", mac)), "{tha:?}");
        link.finish()
    });
    // Nor is one made an entry of, unless the device accepts such.
    let requests = [false, true].into_iter().map(|accept| {
        let mut link = Link::new();
        let id = link.dev.dev().ifindex;
        update_devconf(&mut link.cx, id, |cnf| cnf.arp_accept = accept).expect("there");
        link.hear(REQUEST, OTHER_MAC, frame::PEER, [0; 6]);
        assert_eq!(link.entry(), accept.then_some(("STALE", OTHER_MAC)));
        link.finish()
    });
    replies.chain(requests).collect()
}

stepped!(a_sender_who_knows_confirms_the_neighbour);
fn a_sender_who_knows_confirms_the_neighbour() -> Digest {
    let cases = [(0, "PROBE"), (MSG_CONFIRM, "REACHABLE")];
    let confirmed = cases.into_iter().map(|(flags, after)| {
        let mut link = Link::reachable();
        link.run_ms(50_000);
        link.send(0);
        link.run_ms(3_000);
        link.dev.sent();
        link.send(flags);
        assert_eq!(link.entry().map(|entry| entry.0), Some("DELAY"));
        assert_eq!(link.dev.sent().len(), 1);
        // With the confirmation alone, nothing is sent.
        link.send(flags | MSG_PROBE);
        assert_eq!(link.dev.sent().len(), 0);
        link.run_ms(2_100);
        assert_eq!(link.entry().map(|entry| entry.0), Some(after));
        assert_eq!(link.dev.sent().len(), usize::from(flags == 0), "asked, or not");
        link.finish()
    });
    confirmed.collect()
}

stepped!(a_neighbour_that_a_route_keeps_is_collected_too);
/// Neither a routing decision nor a connected socket that keeps it for its packets keeps a neighbour from being
/// forgotten; whoever sends there next finds another.
fn a_neighbour_that_a_route_keeps_is_collected_too() -> Digest {
    let kept_by = [false, true].into_iter().map(|connected| {
        let mut link = Link::new();
        update_sysctls(&mut link.cx, |sysctl| sysctl.neigh.gc_thresh1 = 0);
        if connected {
            connect(&mut link.cx, link.fd, &addr(frame::PEER, 9)).expect("has a route");
        }
        link.send(0);
        link.run_ms(4_000);
        assert_eq!(link.entry().map(|entry| entry.0), Some("FAILED"));
        link.run_ms(16_000);
        assert_eq!(link.entry(), None, "failed, it goes at the next look");
        option_error(&mut link);

        for round in 0..2 {
            link.send(0);
            link.dev.sent();
            link.hear(REPLY, frame::PEER_MAC, LOCAL, TestDev::MAC);
            assert_eq!(link.entry(), Some(("REACHABLE", frame::PEER_MAC)), "round {round}");
            let sent = link.dev.sent();
            assert_eq!(sent.len(), 1, "what waited went");
            assert_eq!(sent[0][..6], frame::PEER_MAC);
            link.run_ms(50_000);
            assert_eq!(link.entry().map(|entry| entry.0), Some("STALE"), "not yet");
            link.run_ms(90_000);
            assert_eq!(link.entry(), None, "unused for gc_stale_time");
        }
        link.finish()
    });
    kept_by.collect()
}

/// Takes the error that an unanswered request left at a connected socket.
fn option_error(link: &mut Link) {
    sys_getsockopt(&mut link.cx, link.fd, SOL_SOCKET, SO_ERROR).expect("an option");
}
