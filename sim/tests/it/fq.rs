//! The discipline fq on a device: each socket at the pace that it allows, and the timer that sends on.

use crate::golden;
use crate::util::{A, B, Pair, addr, recv, udp};
use sim::{Digest, Impairment, LinkSpec};
use stack::fs::exit_files;
use stack::net::core::dev::{dev_close, dev_open};
use stack::net::core::sysctl::names::{sysctl_all, sysctl_write};
use stack::net::sched::{QdiscError, RootQdisc, dev_set_qdisc, tc_modify_qdisc};
use stack::net::socket::{MsgSend, sys_getsockopt, sys_sendmmsg, sys_sendto, sys_setsockopt};
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::socket::{SO_MAX_PACING_RATE, SOL_SOCKET};

/// A pair with a link that has a delay, so that time passes; the first one's device has the discipline.
fn pair(seed: u64) -> Pair {
    let delay = Duration::from_millis(1);
    let link = LinkSpec::Impaired(Impairment { delay, ..Impairment::default() });
    let pair = Pair::with(seed, link, 1);
    let dev = Arc::clone(pair.a.tables().net.dev_by_name("eth0").expect("there"));
    dev_set_qdisc(&mut pair.on_a(), &dev, "fq").expect("a device with queues");
    pair
}

stepped!(a_datagram_by_fq);
fn a_datagram_by_fq() -> Digest {
    let mut pair = pair(1);
    let mut ends = pair.ends();
    let (client, server) = (udp(&mut ends.a, A, 4000), udp(&mut ends.b, B, 7));
    let to = addr(B, 7);
    // Who has the address is asked first.
    assert_eq!(pair.run(&mut ends.a, sys_sendto(client, b"warm", 0, Some(&to))), Ok(4));
    recv(&mut pair, &mut ends.b, server).expect("arrives");
    pair.world.watch(pcap_filter::compile("port 7").ok());
    assert_eq!(pair.run(&mut ends.a, sys_sendto(client, b"data", 0, Some(&to))), Ok(4));
    golden::check(&pair.world, "qdisc-fq");
    recv(&mut pair, &mut ends.b, server).expect("arrives");
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.world.run_for(Duration::from_secs(1));
    pair.end()
}

const RATE: u64 = 1_000_000;
const LEN: usize = 1458;
/// With the headers.
const FRAME: u64 = 1500;

/// When datagrams arrive that are written at once, in microseconds from the first.
fn arrivals(pair: &mut Pair, rate: Option<u64>, count: usize) -> Vec<u64> {
    let mut ends = pair.ends();
    let (client, server) = (udp(&mut ends.a, A, 4000), udp(&mut ends.b, B, 7));
    if let Some(rate) = rate {
        let value = rate.to_ne_bytes();
        assert_eq!(
            sys_setsockopt(&mut ends.a, client, SOL_SOCKET, SO_MAX_PACING_RATE, &value),
            Ok(())
        );
    }
    let to = addr(B, 7);
    assert_eq!(pair.run(&mut ends.a, sys_sendto(client, b"warm", 0, Some(&to))), Ok(4));
    recv(pair, &mut ends.b, server).expect("arrives");
    let data = [7; LEN];
    let iov = [IoSlice::new(&data)];
    let msgs = vec![MsgSend { iov: &iov, name: Some(&to), control: &[], flags: 0 }; count];
    assert_eq!(pair.run(&mut ends.a, sys_sendmmsg(client, &msgs, 0)), Ok(count));
    let mut times = Vec::new();
    for _ in 0..count {
        assert_eq!(recv(pair, &mut ends.b, server).expect("arrives").0.len(), LEN);
        times.push(pair.world.clock().peek());
    }
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    times.iter().map(|at| at.us_since(times[0])).collect()
}

stepped!(a_datagram_socket_is_held_to_its_rate);
fn a_datagram_socket_is_held_to_its_rate() -> Digest {
    let mut pair = pair(2);
    let times = arrivals(&mut pair, Some(RATE), 40);
    // A new flow may send ten frames at once; then two frames' octets at a time, a little more in the first turns.
    let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let burst = gaps.iter().take_while(|gap| **gap < 100).count() + 1;
    assert!((8..=11).contains(&burst), "{gaps:?}");
    let paced = (40 - burst as u64) * FRAME;
    let took = times[39] - times[burst - 1];
    assert!(
        took.abs_diff(paced) <= 2 * FRAME,
        "{took} us for {paced} octets at one a microsecond: {gaps:?}"
    );
    // No timer is late in virtual time.
    assert!(
        gaps[burst..].iter().all(|gap| *gap < 100 || gap % FRAME < 100 || gap % 3028 < 100),
        "{gaps:?}"
    );
    pair.world.run_for(Duration::from_secs(1));
    pair.end()
}

stepped!(without_a_rate_nothing_is_held_back);
fn without_a_rate_nothing_is_held_back() -> Digest {
    let mut pair = pair(3);
    let times = arrivals(&mut pair, None, 40);
    assert!(times[39] < 100, "{times:?}");
    pair.world.run_for(Duration::from_secs(1));
    pair.end()
}

stepped!(a_device_that_goes_down_drops_what_waits);
fn a_device_that_goes_down_drops_what_waits() -> Digest {
    let mut pair = pair(4);
    let mut ends = pair.ends();
    let (client, server) = (udp(&mut ends.a, A, 4000), udp(&mut ends.b, B, 7));
    let to = addr(B, 7);
    assert_eq!(pair.run(&mut ends.a, sys_sendto(client, b"warm", 0, Some(&to))), Ok(4));
    recv(&mut pair, &mut ends.b, server).expect("arrives");
    let rate = 1000_u32.to_ne_bytes();
    sys_setsockopt(&mut ends.a, client, SOL_SOCKET, SO_MAX_PACING_RATE, &rate).expect("4 octets");
    for _ in 0..20 {
        let to = addr(B, 9);
        pair.run(&mut ends.a, sys_sendto(client, &[0; 1400], 0, Some(&to))).expect("queued");
        pair.world.settle();
    }
    let dev = Arc::clone(pair.a.tables().net.dev_by_name("eth0").expect("there"));
    let waits = dev.root_qdisc().qlen();
    // One a second at the least, which this is.
    assert_eq!(waits, 19);
    dev_close(&mut ends.a, &dev);
    assert_eq!(dev.root_qdisc().qlen(), 0);
    // It goes on with what is new: the old timer finds nothing.
    dev_open(&mut ends.a, &dev).expect("up again");
    assert_eq!(pair.run(&mut ends.a, sys_sendto(client, b"warm", 0, Some(&to))), Ok(4));
    pair.world.run_for(Duration::from_secs(5));
    // Another discipline drops what this one holds, too.
    for _ in 0..20 {
        let to = addr(B, 9);
        pair.run(&mut ends.a, sys_sendto(client, &[0; 1400], 0, Some(&to))).expect("queued");
        pair.world.settle();
    }
    assert!(dev.root_qdisc().qlen() != 0);
    dev_set_qdisc(&mut ends.a, &dev, "pfifo_fast").expect("there is");
    assert_eq!((dev.root_qdisc().qlen(), dev.root_qdisc().id()), (0, "pfifo_fast"));
    assert_eq!(dev_set_qdisc(&mut ends.a, &dev, "none"), Err(Errno::ENOENT));
    let lo = Arc::clone(pair.a.tables().net.dev_by_name("lo").expect("there"));
    assert_eq!(dev_set_qdisc(&mut ends.a, &lo, "fq"), Err(Errno::EOPNOTSUPP));
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    pair.world.run_for(Duration::from_secs(30));
    pair.end()
}

/// Either width, as in Linux; what was not set is all ones.
#[test]
fn the_rate_is_read_as_it_was_set() {
    let pair = Pair::new(5);
    let mut cx = pair.on_a();
    let socket = udp(&mut cx, A, 4000);
    let mut get = |room: Option<i32>| match room {
        None => sys_getsockopt(&mut cx, socket, SOL_SOCKET, SO_MAX_PACING_RATE),
        Some(room) => stack::net::socket::__sys_getsockopt(
            &mut cx,
            socket,
            SOL_SOCKET,
            SO_MAX_PACING_RATE,
            room,
        ),
    };
    assert_eq!(get(None), Ok(vec![0xff; 8]));
    assert_eq!(get(Some(4)), Ok(vec![0xff; 4]));
    for (set, long, short) in [
        (1_000_u32.to_ne_bytes().to_vec(), 1_000, 1_000),
        (u32::MAX.to_ne_bytes().to_vec(), u64::MAX, u32::MAX),
        (0x1_2345_6789_u64.to_ne_bytes().to_vec(), 0x1_2345_6789, u32::MAX),
        (0_u32.to_ne_bytes().to_vec(), 0, 0),
    ] {
        let mut cx = pair.on_a();
        let socket = udp(&mut cx, A, 4001);
        assert_eq!(sys_setsockopt(&mut cx, socket, SOL_SOCKET, SO_MAX_PACING_RATE, &set), Ok(()));
        let read = |cx: &mut _, room| {
            stack::net::socket::__sys_getsockopt(cx, socket, SOL_SOCKET, SO_MAX_PACING_RATE, room)
        };
        assert_eq!(read(&mut cx, 8), Ok(long.to_ne_bytes().to_vec()));
        assert_eq!(read(&mut cx, 7), Ok(short.to_ne_bytes().to_vec()));
        let three = sys_setsockopt(&mut cx, socket, SOL_SOCKET, SO_MAX_PACING_RATE, &set[..3]);
        assert_eq!(three, Err(Errno::EINVAL));
        exit_files(&mut cx);
    }
    exit_files(&mut cx);
    drop(cx);
    let _digest = pair.end();
}

/// `net.core.default_qdisc` is for devices to come.
#[test]
fn devices_to_come_have_the_default_discipline() {
    let mut world = sim::World::new(6);
    let spec = sim::MachineSpec::default();
    let (a, b) = (world.machine(&spec), world.machine(&spec));
    let mut cx = world.task_cx(&a, stack::kernel::cpu::CpuId(0));
    assert_eq!(sysctl_write(&mut cx, "net.core.default_qdisc", "sfq"), Err(Errno::ENOENT));
    assert_eq!(sysctl_write(&mut cx, "net.core.default_qdisc", "fq\n"), Ok(()));
    let all = sysctl_all(&a);
    let (_, value) =
        all.iter().find(|(name, _)| name == "net.core.default_qdisc").expect("a setting");
    assert_eq!(value, "fq");
    let [near, far] = world.wire(LinkSpec::Wire, [(&a, A), (&b, B)]).expect("fresh machines");
    assert_eq!((near.root_qdisc().id(), far.root_qdisc().id()), ("fq", "pfifo_fast"));
    let t = a.tables();
    assert_eq!(t.net.dev_by_name("lo").expect("there").root_qdisc().id(), "noqueue");
    drop((cx, t));
    let _digest = world.end();
}

/// `tc qdisc replace`: what is held stays where the discipline does, and a mistake changes nothing.
#[test]
fn options_are_changed_under_traffic_and_a_mistake_changes_nothing() {
    let mut pair = pair(1);
    let mut ends = pair.ends();
    let dev = Arc::clone(pair.a.tables().net.dev_by_name("eth0").expect("there"));
    let told = || match dev.root_qdisc() {
        RootQdisc::Queue(qdisc) => qdisc.options().to_string(),
        RootQdisc::Mq(_) => panic!("one queue"),
    };
    tc_modify_qdisc(&mut ends.a, &dev, "fq flow_limit 50 maxrate 80kbit").expect("good");
    let (client, to) = (udp(&mut ends.a, A, 4000), addr(B, 9));
    // Who has the address is asked first.
    pair.run(&mut ends.a, sys_sendto(client, b"warm", 0, Some(&to))).expect("queued");
    pair.world.run_for(Duration::from_secs(2));
    for _ in 0..20 {
        pair.run(&mut ends.a, sys_sendto(client, &[0; 100], 0, Some(&to))).expect("queued");
        pair.world.settle();
    }
    let waiting = dev.root_qdisc().qlen();
    assert!(waiting >= 15, "{waiting}: one a dozen milliseconds");
    let before = told();
    for bad in ["fq limit 5 quantum 0", "fq maxrate", "fq horizon 1h", "fq colour red", "sfq", ""] {
        let error = tc_modify_qdisc(&mut ends.a, &dev, bad).expect_err(bad);
        assert!(error.to_string().len() > 20, "{error}");
        assert_eq!((told(), dev.root_qdisc().qlen()), (before.clone(), waiting), "{bad}");
    }
    tc_modify_qdisc(&mut ends.a, &dev, "fq quantum 4000").expect("good");
    assert_eq!(told(), before.replace("quantum 3028b", "quantum 4000b"));
    assert_eq!(dev.root_qdisc().qlen(), waiting, "what is held stays");
    // Without a rate all go.
    pair.world.run_for(Duration::from_secs(1));
    assert_eq!(dev.root_qdisc().qlen(), 0);
    let lo = Arc::clone(pair.a.tables().net.dev_by_name("lo").expect("there"));
    assert_eq!(tc_modify_qdisc(&mut ends.a, &lo, "fq"), Err(QdiscError::NoQueue));
    tc_modify_qdisc(&mut ends.a, &dev, "pfifo_fast").expect("good");
    assert_eq!(told(), "pfifo_fast");
    tc_modify_qdisc(&mut ends.a, &dev, "fq").expect("good");
    assert!(told().contains("flow_limit 100p"), "another begins anew: {}", told());
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
}
