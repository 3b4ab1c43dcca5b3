//! Running until something has happened.

use crate::util::{A, B, Pair, addr, send, udp};
use sim::{Digest, Impairment, LinkSpec};
use stack::fs::exit_files;
use stack::kernel::cpu::CpuId;
use stack::net::socket::sys_recvfrom;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

stepped!(a_world_stops_when_what_it_waits_for_has_happened);
fn a_world_stops_when_what_it_waits_for_has_happened() -> Digest {
    let delay = Duration::from_millis(5);
    let slow = LinkSpec::Impaired(Impairment { delay, ..Impairment::default() });
    let mut pair = Pair::with(90, slow, 1);
    let mut cx = pair.on_a();
    let from = udp(&mut cx, A, 4000);
    let machine = Arc::clone(&pair.b);
    let came = Rc::new(Cell::new(false));
    let theirs = Rc::clone(&came);
    pair.world.spawn(&machine, CpuId(0), |task| async move {
        let fd = task.now(|cx| udp(cx, B, 7));
        let mut data = [0; 8];
        task.call(sys_recvfrom(fd, &mut data, 0)).await.expect("a datagram");
        theirs.set(true);
        task.now(exit_files);
    });
    pair.world.settle();
    let begin = pair.world.clock().peek();
    let early = begin + Duration::from_millis(1);
    assert!(!pair.world.run_until_done(early, || came.get()), "nobody has sent");
    assert_eq!(pair.world.clock().peek(), early, "then the time is up");
    send(&mut pair, &mut cx, from, b"x", addr(B, 7));
    let until = early + Duration::from_secs(1);
    let seen = Rc::clone(&came);
    assert!(pair.world.run_until_done(until, move || seen.get()));
    let now = pair.world.clock().peek();
    // There and back for ARP, then there: and not a moment more.
    assert!(now >= early + delay * 3 && now < early + delay * 4, "{now}");
    exit_files(&mut cx);
    // An entry for a neighbour is looked after for a while.
    pair.world.run_for(Duration::from_secs(60));
    pair.end()
}
