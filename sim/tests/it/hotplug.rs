//! CPUs that go down and come up.

use crate::util::{A, B, Pair, addr, recv, send, udp};
use sim::{Digest, LinkSpec};
use stack::fs::exit_files;
use stack::kernel::cpu::CpuId;
use stack::kernel::cpu::hotplug::{cpu_down, cpu_up};
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::errno::Errno;

stepped!(what_is_not_there_or_the_last_is_refused);
fn what_is_not_there_or_the_last_is_refused() -> Digest {
    let pair = Pair::with(1, LinkSpec::Wire, 3);
    let mut cx = pair.on_a();
    assert_eq!(cpu_down(&mut cx, CpuId(3)), Err(Errno::EINVAL), "no such CPU");
    assert_eq!(cpu_up(&mut cx, CpuId(3)), Err(Errno::EINVAL));
    assert_eq!(cpu_up(&mut cx, CpuId(1)), Err(Errno::EINVAL), "up already");
    assert_eq!(cpu_down(&mut cx, CpuId(0)), Ok(()));
    assert_eq!(cx.cpu(), CpuId(1), "the task went on");
    assert_eq!(cx.set_cpu(CpuId(0)).map_err(|_| ()), Err(()), "nor may it go back");
    assert_eq!(cpu_down(&mut cx, CpuId(0)), Err(Errno::EINVAL), "down already");
    assert_eq!(cpu_down(&mut cx, CpuId(1)), Ok(()));
    assert_eq!(cpu_down(&mut cx, CpuId(2)), Err(Errno::EBUSY), "the last");
    assert_eq!(pair.a.cpu_online_mask().bits(), 0b100);
    assert_eq!(cpu_up(&mut cx, CpuId(0)), Ok(()));
    assert_eq!(cx.set_cpu(CpuId(0)).map_err(|_| ()), Ok(()));
    drop(cx);
    pair.end()
}

stepped!(tasks_timers_and_interrupts_of_a_cpu_that_goes_down_go_on_elsewhere);
fn tasks_timers_and_interrupts_of_a_cpu_that_goes_down_go_on_elsewhere() -> Digest {
    let mut pair = Pair::igb(7, LinkSpec::Wire, 2);
    let mut on_a = pair.world.task_cx(&pair.a, CpuId(1));
    let mut on_b = pair.on_b();
    let (fd, peer) = (udp(&mut on_a, A, 4000), udp(&mut on_b, B, 7));
    send(&mut pair, &mut on_a, fd, b"before", addr(B, 7));
    assert_eq!(recv(&mut pair, &mut on_b, peer).unwrap().0, b"before");
    // Nobody is there: what is sent waits for a timer of CPU 1 to give it up.
    let nobody = addr(Ipv4Addr::new(192, 0, 2, 77), 7);
    send(&mut pair, &mut on_a, fd, b"lost", nobody);
    let taken_by_one = |pair: &Pair| -> u64 {
        pair.a.tables().irqs.iter().flatten().map(|irq| irq.counts()[1]).sum()
    };
    let vectors = pair.a.tables().irqs.clone();
    let only_one = klib::bitmap::CpuMask::from_bits(0b10);
    for irq in vectors.iter().flatten() {
        irq.set_affinity(only_one).expect("it is up");
    }
    let mut control = pair.on_a();
    cpu_down(&mut control, CpuId(1)).expect("another is up");
    assert!(vectors.iter().flatten().all(|irq| irq.effective_affinity() == CpuId(0)));
    let before = taken_by_one(&pair);
    for round in 0..20u8 {
        send(&mut pair, &mut on_a, fd, &[round], addr(B, 7));
        let (data, from) = recv(&mut pair, &mut on_b, peer).unwrap();
        assert_eq!(data, [round]);
        send(&mut pair, &mut on_b, peer, &data, from.to_bytes());
        assert_eq!(recv(&mut pair, &mut on_a, fd).unwrap().0, [round]);
    }
    assert_eq!(taken_by_one(&pair), before, "nothing is taken there any more");
    assert_eq!(on_a.cpu(), CpuId(0));
    // The wait for the neighbour ends in time although its CPU is gone.
    pair.world.run_for(Duration::from_secs(4));
    on_a.flush();
    on_b.flush();
    assert_eq!(pair.world.live_skbs(), 0);
    cpu_up(&mut control, CpuId(1)).expect("it was down");
    assert!(vectors.iter().flatten().all(|irq| irq.effective_affinity() == CpuId(1)), "back");
    send(&mut pair, &mut on_b, peer, b"after", addr(A, 4000));
    assert_eq!(recv(&mut pair, &mut on_a, fd).unwrap().0, b"after");
    assert!(taken_by_one(&pair) > before);
    exit_files(&mut on_a);
    exit_files(&mut on_b);
    drop((on_a, on_b, control));
    pair.end()
}
