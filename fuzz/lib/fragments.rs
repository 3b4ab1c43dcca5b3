//! Fragments that overlap, come late, twice, or without end.

use crate::STEPS;
use crate::frame::{Ip, LOCAL, MAC, PEER, ether};
use crate::input::Input;
use crate::lab::{Card, Lab};
use stack::net::ipv4::proc::sockstat_seq_show;
use stack::net::socket::sys_recvfrom;
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::ip::IP_MF;
use uapi::socket::{AF_INET, MSG_DONTWAIT, SOCK_RAW};

/// A protocol of nobody's, whose packets a raw socket gets as they are.
const PROTOCOL: u8 = 253;
/// Octets of a header that are not of the datagram.
const HEADER: usize = 20;

/// What each datagram has at a place, whatever its fragments: who puts them together wrongly shows it.
fn octet(id: u16, at: usize) -> u8 {
    (at >> 8) as u8 ^ (at as u8).wrapping_mul(31) ^ (id as u8)
}

/// Gives a machine fragments of a few datagrams in any order; each datagram that its socket gets is whole and right,
/// and what waits keeps to its bound.
pub fn fragments(data: &[u8]) {
    let mut input = Input::new(data);
    let mut lab = Lab::new(Card::Wire);
    let how = input.u8();
    let high = [4 << 20, 100_000, 10_000, 0][usize::from(how & 3)];
    lab.set("net.ipv4.ipfrag_low_thresh", "0");
    lab.set("net.ipv4.ipfrag_high_thresh", &high.to_string());
    lab.set("net.ipv4.ipfrag_max_dist", ["64", "2", "0", "1"][usize::from(how >> 2 & 3)]);
    let fd = lab.socket(AF_INET, SOCK_RAW, PROTOCOL.into());
    lab.settle();
    let mut room = vec![0; 70_000];
    for step in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let what = input.u8();
        if what & 15 == 15 {
            lab.pass(Duration::from_millis(input.pick(&[1, 500, 5_000, 29_999, 31_000])));
        } else {
            lab.deliver(&fragment(what, &mut input));
        }
        if what & 0x40 == 0 {
            lab.settle();
            lab.check();
        }
        if step % 16 == 15 {
            let waiting = waiting(&lab);
            assert!(waiting <= high + 70_000, "{waiting} octets wait, {high} may");
        }
        while let Some(Ok((len, _))) = lab.call(sys_recvfrom(fd, &mut room, MSG_DONTWAIT)) {
            right(&room[..len]);
        }
    }
    lab.end();
}

/// One of a few datagrams: from where, how long, and whether the last, as the input says.
fn fragment(what: u8, input: &mut Input<'_>) -> Vec<u8> {
    let id = u16::from(input.u8() & 3);
    let place = match what >> 4 & 3 {
        0..=2 => usize::from(input.u8() & 31) * 8,
        _ => usize::from(input.u16() & 0x1fff),
    };
    let len = match what & 3 {
        0 => 8 * usize::from(input.u8() % 64),
        1 => usize::from(input.u8()),
        _ => input.below(1500),
    };
    let more = if what & 4 == 0 { IP_MF } else { 0 };
    let from = if what & 8 == 0 { PEER } else { Ipv4Addr::new(192, 0, 2, 10) };
    let word = more | place as u16;
    let ip = Ip { id, word, ..Ip::new(PROTOCOL, from, LOCAL) };
    let payload: Vec<u8> = (0..len).map(|at| octet(id, place * 8 + at)).collect();
    ether(MAC, 0x0800, &ip.packet(&payload))
}

fn right(datagram: &[u8]) {
    let length = usize::from(u16::from_be_bytes([datagram[2], datagram[3]]));
    assert_eq!(length, datagram.len(), "its length is not what it says");
    assert_eq!(datagram[6] & 0x3f, 0, "a fragment");
    let id = u16::from_be_bytes([datagram[4], datagram[5]]);
    let wrong = datagram[HEADER..].iter().enumerate().find(|(at, found)| **found != octet(id, *at));
    assert_eq!(wrong, None, "put together wrongly");
}

/// Octets that wait for the rest of their datagrams.
fn waiting(lab: &Lab) -> usize {
    let stat = sockstat_seq_show(&lab.machine);
    let line = stat.lines().find(|line| line.starts_with("FRAG:")).expect("a line");
    line.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("its memory")
}
