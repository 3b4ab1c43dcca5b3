//! GRO with a protocol that merges.

use crate::golden;
use crate::testdev::{TestDev, frame};
use sim::{Digest, MachineSpec, World};
use stack::kernel::context::{BhCx, TaskCx};
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::dev::gro::MAX_GRO_SKBS;
use stack::net::core::dev::{
    GroResult, NapiGroCb, NetDevice, NetdevFeatures, PacketFunc, PacketTap, PacketType,
    dev_add_pack, gro_sift,
};
use stack::net::core::skbuff::{Cb, Skb, SkbFrag, SkbList, consume_skb};
use stack::net::ipv4::protocol::{NetOffload, NetProtocol, inet_add_offload, inet_add_protocol};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// RFC 3692: for experiments.
const PROTOCOL: u8 = 253;
/// The header behind IP: the flow, and how many packets went into this one.
const HEADER: usize = 2;
const FLOW: usize = 20;
const COUNT: usize = 21;

fn protocol(m: &mut Machine) {
    let handlers = NetProtocol::new(|cx, list| list.consume(cx), |_, _| ());
    inet_add_protocol(m, PROTOCOL, handlers);
    inet_add_offload(m, PROTOCOL, NetOffload { gro_receive, gro_complete, holds: true });
}

/// Appends the data to the held packet of the same flow, or asks to be held.
fn gro_receive(cx: &mut BhCx<'_>, list: &mut SkbList) {
    gro_sift(cx, list, merge);
}

fn merge(cx: &mut BhCx<'_>, skb: &mut Skb) -> GroResult {
    let data = skb.data();
    let Some(payload) = data.get(FLOW + HEADER..) else { return GroResult::Normal };
    let same = |held: &&mut Skb| held.data()[9] == PROTOCOL && held.data()[FLOW] == data[FLOW];
    let Some(held) = cx.gro_list().iter_mut().find(same) else { return GroResult::Held };
    held.add_frag(SkbFrag::copy_of(payload));
    if let Cb::Gro(NapiGroCb { count }) = &mut held.cb {
        *count += 1;
    }
    let into = held.walk_id;
    stack::walk!(cx, skb, link_merge => into.0);
    GroResult::MergedFree
}

fn gro_complete(_: &mut BhCx<'_>, skb: &mut Skb) {
    let Cb::Gro(NapiGroCb { count }) = skb.cb else { panic!("held, and not GRO's") };
    skb.data_mut().expect("nobody else's")[COUNT] = count as u8;
}

/// What came up: flow, count in its header, data.
#[derive(Default)]
struct Seen(Mutex<Vec<(u8, u8, Vec<u8>)>>);

impl PacketTap for Seen {
    fn packet_rcv(&self, cx: &mut BhCx<'_>, skb: Skb, _: &Arc<NetDevice>) {
        stack::walk!(cx, skb, packet_rcv);
        let mut bytes = vec![0; skb.len()];
        skb.skb_copy_bits(0, &mut bytes);
        if bytes[9] == PROTOCOL {
            let len = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
            assert_eq!(len, bytes.len(), "IP's length is that of the whole");
            assert_eq!(klib::checksum::ip_fast_csum(&bytes[..20]), 0, "and summed");
            let up = (bytes[FLOW], bytes[COUNT], bytes[FLOW + HEADER..].to_vec());
            self.0.lock().expect("free").push(up);
        }
        consume_skb(cx, skb);
    }
}

struct Receiver {
    world: World,
    machine: Arc<Machine>,
    cx: TaskCx,
    dev: Arc<TestDev>,
    seen: Arc<Seen>,
}

impl Receiver {
    fn new() -> Self {
        Self::of(World::recorded(17))
    }

    fn of(mut world: World) -> Self {
        let spec = MachineSpec { initcalls: vec![protocol], ..MachineSpec::default() };
        let machine = world.machine(&spec);
        let mut cx = world.task_cx(&machine, CpuId(0));
        let dev = TestDev::add(&mut cx, LOCAL, 100);
        let seen = Arc::<Seen>::default();
        let func = PacketFunc::Tap(Arc::clone(&seen) as Arc<dyn PacketTap>);
        dev_add_pack(&mut cx, PacketType { kind: uapi::if_ether::ETH_P_ALL, dev: None, func });
        world.settle();
        Self { world, machine, cx, dev, seen }
    }

    /// Delivers packets of these flows, each with its place in the row as data; what came up.
    fn deliver(&mut self, flows: &[u8]) -> Vec<(u8, u8, Vec<u8>)> {
        let frames = flows.iter().enumerate().map(|(at, flow)| {
            let packet = frame::ip(PROTOCOL, frame::PEER, LOCAL, &[*flow, 0, at as u8]);
            frame::ether(TestDev::MAC, 0x0800, &packet)
        });
        self.dev.deliver(frames);
        self.world.settle();
        std::mem::take(&mut *self.seen.0.lock().expect("free"))
    }

    fn end(self) -> Digest {
        drop(self.cx);
        self.world.end()
    }
}

stepped!(what_a_poll_held_goes_up_merged_with_napi_complete);
fn what_a_poll_held_goes_up_merged_with_napi_complete() -> Digest {
    let mut receiver = Receiver::new();
    receiver.world.watch(None);
    let up = receiver.deliver(&[5, 6, 5, 5]);
    assert_eq!(up, [(5, 3, vec![0, 2, 3]), (6, 0, vec![1])], "the oldest first");
    golden::check(&receiver.world, "gro");
    receiver.end()
}

/// One that comes alone is asked about like any other, also where nobody watches: it may be held for the next.
#[test]
fn what_comes_alone_is_held_for_what_follows() {
    let mut receiver = Receiver::of(World::new(17));
    let lone = |at| {
        let packet = frame::ip(PROTOCOL, frame::PEER, LOCAL, &[5, 0, at]);
        frame::ether(TestDev::MAC, 0x0800, &packet)
    };
    // Of another ethertype: what lies between the two parts them into lists of one.
    let between = frame::ether(TestDev::MAC, 0x88b5, &[0; 46]);
    receiver.dev.deliver([lone(0), between, lone(1)]);
    receiver.world.settle();
    let up = std::mem::take(&mut *receiver.seen.0.lock().expect("free"));
    assert_eq!(up, [(5, 2, vec![0, 1])]);
    let _digest = receiver.end();
}

stepped!(a_poll_that_used_its_budget_up_hands_up_what_it_held);
fn a_poll_that_used_its_budget_up_hands_up_what_it_held() -> Digest {
    let mut receiver = Receiver::new();
    let up = receiver.deliver(&[5; 100]);
    let (first, second) = ((0..64).collect(), (64..100).collect());
    assert_eq!(up, [(5, 64, first), (5, 36, second)], "64 a poll, and nothing over its end");
    receiver.end()
}

stepped!(what_a_poll_held_when_it_panicked_is_dropped);
fn what_a_poll_held_when_it_panicked_is_dropped() -> Digest {
    let mut receiver = Receiver::new();
    receiver.dev.panic_after.store(3, std::sync::atomic::Ordering::Relaxed);
    receiver.world.watch(None);
    let up = receiver.deliver(&[5, 5, 6, 5, 6]);
    assert_eq!(receiver.machine.contained_panics(), 1);
    assert_eq!(receiver.machine.mib().drops(DropReason::Panicked), 2, "both flows' held packets");
    assert_eq!(up, [(5, 0, vec![3]), (6, 0, vec![4])], "the rest by the next poll");
    golden::check(&receiver.world, "gro-panic");
    receiver.end()
}

stepped!(more_flows_than_gro_holds_go_up_by_themselves);
fn more_flows_than_gro_holds_go_up_by_themselves() -> Digest {
    let mut receiver = Receiver::new();
    let twice: Vec<u8> = (0..12).chain(0..12).collect();
    let up = receiver.deliver(&twice);
    let held = MAX_GRO_SKBS as u8;
    let alone = (held..12).chain(held..12).zip((held..12).chain(12 + held..24));
    let alone = alone.map(|(flow, at)| (flow, 0, vec![at]));
    let merged = (0..held).map(|flow| (flow, 2, vec![flow, flow + 12]));
    assert_eq!(up, alone.chain(merged).collect::<Vec<_>>());
    receiver.end()
}

stepped!(a_device_without_gro_merges_nothing);
fn a_device_without_gro_merges_nothing() -> Digest {
    let mut receiver = Receiver::new();
    let dev = receiver.dev.dev();
    dev.set_features(dev.features() - NetdevFeatures::GRO);
    let up = receiver.deliver(&[5, 5]);
    assert_eq!(up, [(5, 0, vec![0]), (5, 0, vec![1])]);
    receiver.end()
}
