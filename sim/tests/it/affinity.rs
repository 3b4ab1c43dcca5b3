//! An interrupt that moves to another CPU under traffic.

use crate::lone::{LOCAL, Lone};
use crate::testdev::{TestDev, frame};
use crate::util::udp;
use sim::{Digest, MachineSpec};
use stack::kernel::cpu::CpuId;
use std::sync::atomic::Ordering;

fn numbered(numbers: std::ops::Range<u16>) -> impl Iterator<Item = Vec<u8>> {
    numbers.map(|number| {
        let datagram = frame::udp((frame::PEER, 5000), (LOCAL, 7), &number.to_be_bytes());
        frame::ether(TestDev::MAC, 0x0800, &datagram)
    })
}

stepped!(a_poll_ends_where_it_was_begun_and_goes_on_where_the_line_went);
fn a_poll_ends_where_it_was_begun_and_goes_on_where_the_line_went() -> Digest {
    let mut lone = Lone::with(MachineSpec { cpus: 2, ..MachineSpec::default() }, 1000);
    lone.sysctl(|sysctl| {
        sysctl.netdev_budget = 64;
        sysctl.rmem_default = 1 << 20;
    });
    let fd = udp(&mut lone.cx, LOCAL, 7);
    lone.dev.together.store(true, Ordering::Relaxed);
    lone.dev.irq_affinity(0);
    // Ten restarts of one poll each do not get through; the rest is ksoftirqd's.
    lone.dev.deliver(numbered(0..700));
    let next = lone.machine.run_cpu(CpuId(0));
    assert!(next.ksoftirqd);
    lone.dev.irq_affinity(1);
    // The line's next interrupts go to the other CPU, which finds the context taken.
    lone.dev.deliver(numbered(700..720));
    lone.machine.run_cpu(CpuId(1));
    let polled_on = |lone: &Lone| -> Vec<u8> {
        lone.dev.polled_on.lock().expect("no panic under it").iter().map(|cpu| cpu.0).collect()
    };
    assert!(polled_on(&lone).iter().all(|cpu| *cpu == 0), "one polls at a time");
    let mut got = Vec::new();
    let mut read = |lone: &mut Lone| {
        for data in lone.recv_all(fd) {
            got.push(u16::from_be_bytes(data.try_into().expect("a number")));
        }
    };
    read(&mut lone);
    lone.world.settle();
    read(&mut lone);
    lone.dev.deliver(numbered(720..730));
    lone.world.settle();
    read(&mut lone);
    assert_eq!(got, (0..730).collect::<Vec<_>>(), "nothing lost, nothing out of order");
    let polled_on = polled_on(&lone);
    let moved = polled_on.iter().position(|cpu| *cpu == 1).expect("it moved");
    assert!(polled_on[moved..].iter().all(|cpu| *cpu == 1), "once, and for good: {polled_on:?}");
    lone.end()
}
