//! What a link does to frames, each by itself.

use crate::util::{A, B, Pair, addr, send, udp};
use sim::{Digest, Impairment, LinkSpec};
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::machine::Machine;
use stack::kernel::time::Ktime;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::socket::sys_recvfrom;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::socket::MSG_DONTWAIT;

const MS: Duration = Duration::from_millis(1);

/// A datagram's number, when it was read, and what it held.
struct Arrival {
    number: u16,
    after: Duration,
    data: Vec<u8>,
}

/// Their addresses are known to each other: ARP has no checksum, and is not what is looked at.
pub fn introduce(cx: &mut TaskCx, peer: (&Machine, Ipv4Addr)) {
    let eth = |m: &Machine| Arc::clone(m.tables().net.dev_by_name("eth0").expect("there"));
    let key = NeighKey { dev: eth(cx.machine()).ifindex, addr: peer.1.into() };
    let state = uapi::neighbour::NUD_PERMANENT as u8;
    neigh_add(cx, key, eth(peer.0).dev_addr(), state).expect("room for one");
}

/// Sends `count` datagrams over such a link, one a millisecond, and reads what arrives. `after` is
/// the time from the sending of a datagram to its arrival.
fn over(weather: Impairment, count: u16) -> (Vec<Arrival>, Pair) {
    let mut pair = Pair::with(81, LinkSpec::Impaired(weather), 1);
    let mut ends = pair.ends();
    introduce(&mut ends.a, (&pair.b, B));
    introduce(&mut ends.b, (&pair.a, A));
    let client = udp(&mut ends.a, A, 4000);
    let server = udp(&mut ends.b, B, 7);
    let mut sent: Vec<Ktime> = Vec::new();
    let mut arrived = Vec::new();
    for number in 0..count + 50 {
        if number < count {
            sent.push(pair.world.clock().peek());
            let data = [&number.to_be_bytes()[..], &[number as u8; 98]].concat();
            send(&mut pair, &mut ends.a, client, &data, addr(B, 7));
        }
        // In steps so small that the time of arrival is known.
        for _ in 0..10 {
            pair.world.run_for(MS / 10);
            read(&mut pair, &mut ends.b, server, &sent, &mut arrived);
        }
    }
    exit_files(&mut ends.a);
    exit_files(&mut ends.b);
    drop(ends);
    (arrived, pair)
}

fn read(pair: &mut Pair, cx: &mut TaskCx, fd: i32, sent: &[Ktime], arrived: &mut Vec<Arrival>) {
    loop {
        let mut data = vec![0; 256];
        match pair.run(cx, sys_recvfrom(fd, &mut data, MSG_DONTWAIT)) {
            Ok((len, from)) => {
                assert_eq!(from.expect("a sender").to_bytes(), addr(A, 4000));
                data.truncate(len);
                let number = u16::from_be_bytes([data[0], data[1]]);
                let after = pair.world.clock().peek() - sent[usize::from(number)];
                arrived.push(Arrival { number, after, data });
            }
            Err(error) => return assert_eq!(error, Errno::EAGAIN),
        }
    }
}

fn numbers(arrived: &[Arrival]) -> Vec<u16> {
    arrived.iter().map(|arrival| arrival.number).collect()
}

stepped!(delay_is_the_same_for_all);
fn delay_is_the_same_for_all() -> Digest {
    let (arrived, pair) = over(Impairment { delay: MS * 5, ..Impairment::default() }, 100);
    assert_eq!(numbers(&arrived), (0..100).collect::<Vec<_>>(), "in order");
    for Arrival { after, .. } in arrived {
        assert!((MS * 5..MS * 5 + MS / 4).contains(&after), "{after:?}");
    }
    pair.end()
}

stepped!(jitter_is_up_to_so_much_more);
fn jitter_is_up_to_so_much_more() -> Digest {
    let weather = Impairment { delay: MS * 5, jitter: MS * 8, ..Impairment::default() };
    let (arrived, pair) = over(weather, 200);
    let mut sorted = numbers(&arrived);
    sorted.sort_unstable();
    assert_eq!(sorted, (0..200).collect::<Vec<_>>(), "each once");
    let (early, late): (Vec<_>, Vec<_>) = arrived.iter().partition(|a| a.after < MS * 9);
    assert!(early.len() > 50 && late.len() > 50, "{} early, {} late", early.len(), late.len());
    for Arrival { after, .. } in &arrived {
        assert!((MS * 5..MS * 13 + MS / 4).contains(after), "{after:?}");
    }
    pair.end()
}

stepped!(loss_takes_its_part_and_nothing_else);
fn loss_takes_its_part_and_nothing_else() -> Digest {
    let (none, all_lost) = over(Impairment { loss: 1.0, ..Impairment::default() }, 20);
    assert!(none.is_empty());
    let (some, pair) = over(Impairment { loss: 0.3, ..Impairment::default() }, 1000);
    assert!((620..780).contains(&some.len()), "{} of 1,000", some.len());
    assert!(numbers(&some).is_sorted_by(|a, b| a < b), "in order, each once");
    [all_lost.end(), pair.end()].into_iter().collect()
}

stepped!(a_duplicate_comes_right_behind);
fn a_duplicate_comes_right_behind() -> Digest {
    let (arrived, pair) = over(Impairment { duplicate: 1.0, ..Impairment::default() }, 50);
    let twice: Vec<u16> = (0..50).flat_map(|n| [n, n]).collect();
    assert_eq!(numbers(&arrived), twice);
    pair.end()
}

stepped!(reordered_is_late_and_not_lost);
fn reordered_is_late_and_not_lost() -> Digest {
    let weather = Impairment { delay: MS, reorder: 0.2, ..Impairment::default() };
    let (arrived, pair) = over(weather, 500);
    let mut seen = numbers(&arrived);
    let overtaken = seen.windows(2).filter(|two| two[0] > two[1]).count();
    assert!((40..200).contains(&overtaken), "{overtaken} of 500 overtaken");
    seen.sort_unstable();
    assert_eq!(seen, (0..500).collect::<Vec<_>>(), "each once");
    pair.end()
}

stepped!(a_corrupted_datagram_is_never_delivered_wrong);
fn a_corrupted_datagram_is_never_delivered_wrong() -> Digest {
    let (arrived, pair) = over(Impairment { corrupt: 1.0, ..Impairment::default() }, 3000);
    for Arrival { number, data, .. } in &arrived {
        assert_eq!(data[..2], number.to_be_bytes());
        assert_eq!(data[2..], [*number as u8; 98], "delivered wrong");
    }
    // What hits the source's link address, or the sum so that it says there is none, does no harm.
    assert!((50..300).contains(&arrived.len()), "{} of 3,000 delivered", arrived.len());
    let mib = pair.b.mib();
    let dropped: u64 = mib.all_drops().map(|(_, count)| count).sum();
    assert_eq!(dropped + arrived.len() as u64, 3000, "each is counted");
    for reason in [DropReason::UdpCsum, DropReason::IpCsum, DropReason::OtherHost] {
        assert!(mib.drops(reason) > 100, "{reason}: {}", mib.drops(reason));
    }
    pair.end()
}
