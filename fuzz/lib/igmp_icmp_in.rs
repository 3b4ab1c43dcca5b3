//! Messages of ICMP and IGMP, into a machine that is in groups and has peers.

use crate::STEPS;
use crate::frame::{GROUP, Ip, LOCAL, MAC, PEER, ether, sums};
use crate::input::Input;
use crate::lab::{Card, Lab, addr};
use crate::peer::Peer;
use stack::net::socket::{sys_connect, sys_recvfrom, sys_sendto, sys_setsockopt};
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::in_::{
    IP_ADD_MEMBERSHIP, IP_ADD_SOURCE_MEMBERSHIP, IP_BLOCK_SOURCE, IP_DROP_MEMBERSHIP, IP_RECVERR,
};
use uapi::ip::{IPPROTO_ICMP, IPPROTO_IGMP, IPPROTO_TCP, IPPROTO_UDP};
use uapi::socket::*;

const OTHER: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 4);
const THIRD: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 5);
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 9);
/// The way to an address, changed by whoever says so, and to a group.
const PLACES: [Ipv4Addr; 9] = [
    LOCAL,
    PEER,
    GROUP,
    OTHER,
    THIRD,
    ROUTER,
    FAR,
    Ipv4Addr::new(224, 0, 0, 1),
    Ipv4Addr::UNSPECIFIED,
];
/// Frames that one message may set off: reports of every group, and what connections send again.
const ANSWERS: usize = 64;

struct Member {
    lab: Lab,
    peer: Peer,
    sockets: [i32; 4],
}

/// Gives a machine messages of ICMP and IGMP, with the numbers that belong to its sockets and groups or others.
pub fn igmp_icmp_in(data: &[u8]) {
    let mut input = Input::new(data);
    let mut member = Member::new(input.u8());
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        member.step(&mut input);
        member.lab.settle();
        let peer = &mut member.peer;
        let sent = member.lab.sent(|frame| peer.see(frame));
        assert!(sent <= ANSWERS, "{sent} frames for a message");
        member.lab.check();
    }
    member.lab.end();
}

impl Member {
    fn new(how: u8) -> Self {
        let mut lab = Lab::new(Card::Wire);
        lab.set("net.ipv4.ping_group_range", "0 0");
        lab.set("net.ipv4.conf.DEV.force_igmp_version", ["0", "1", "2", "3"][usize::from(how & 3)]);
        lab.set("net.ipv4.icmp_echo_ignore_broadcasts", if how & 4 == 0 { "1" } else { "0" });
        let udp = lab.bound(SOCK_DGRAM, 0, (LOCAL, 4000));
        let ping = lab.bound(SOCK_DGRAM, 1, (LOCAL, 77));
        let raw = lab.socket(AF_INET, SOCK_RAW, 1);
        let stream = lab.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        for fd in [udp, ping, raw, stream] {
            sys_setsockopt(&mut lab.cx, fd, SOL_IP, IP_RECVERR, &1_i32.to_ne_bytes())
                .expect("known");
        }
        lab.call(sys_connect(udp, &addr(PEER, 9000))).expect("at once").expect("a way");
        lab.call(sys_connect(stream, &addr(PEER, 9001)));
        let source = |group: Ipv4Addr| [group.octets(), [0; 4], PEER.octets()].concat();
        let device = lab.ifindex.to_ne_bytes();
        let group = |group: Ipv4Addr| [group.octets(), [0; 4], device].concat();
        for (name, value) in [
            (IP_ADD_MEMBERSHIP, group(GROUP)),
            (IP_ADD_MEMBERSHIP, group(OTHER)),
            (IP_BLOCK_SOURCE, [OTHER.octets(), LOCAL.octets(), ROUTER.octets()].concat()),
            (IP_ADD_SOURCE_MEMBERSHIP, source(THIRD)),
        ] {
            let _any = sys_setsockopt(&mut lab.cx, udp, SOL_IP, name, &value);
        }
        let mut member = Self { lab, peer: Peer::default(), sockets: [udp, ping, raw, stream] };
        member.lab.settle();
        let peer = &mut member.peer;
        member.lab.sent(|frame| peer.see(frame));
        member
    }

    fn step(&mut self, input: &mut Input<'_>) {
        let what = input.u8();
        let (protocol, message, to) = match what & 15 {
            0..=4 => (IPPROTO_ICMP, self.about(input), LOCAL),
            5 => (IPPROTO_ICMP, asked(input), input.pick(&PLACES)),
            6..=8 => (IPPROTO_IGMP, query(input), input.pick(&PLACES)),
            9 => (IPPROTO_IGMP, report(input), input.pick(&PLACES)),
            10 => {
                let segment = self.peer.segment(input);
                return self.lab.deliver(&segment);
            }
            11 => {
                return self
                    .lab
                    .pass(Duration::from_millis(input.pick(&[1, 100, 1_000, 11_000, 400_000])));
            }
            12 => return self.read(),
            13 => return self.send(input),
            14 => return self.leave(input),
            _ => (
                input.pick(&[IPPROTO_ICMP, IPPROTO_IGMP]),
                input.string(600).to_vec(),
                input.pick(&PLACES),
            ),
        };
        let from = if what & 0x40 == 0 { PEER } else { input.pick(&PLACES) };
        let mut packet = Ip::new(protocol, from, to).packet(&message);
        if protocol == IPPROTO_IGMP && what & 0x20 != 0 {
            // Router alert.
            packet.splice(20..20, [148, 4, 0, 0]);
            packet[0] = 0x46;
            let len = packet.len() as u16;
            packet[2..4].copy_from_slice(&len.to_be_bytes());
        }
        if what & 0x10 == 0 {
            sums(&mut packet);
        }
        let card = if to.is_multicast() { [1, 0, 0x5e, 1, 2, to.octets()[3]] } else { MAC };
        self.lab.deliver(&ether(
            if to == PLACES[7] { [1, 0, 0x5e, 0, 0, 1] } else { card },
            0x0800,
            &packet,
        ));
    }

    /// An error about a packet that was sent, or could have been.
    fn about(&self, input: &mut Input<'_>) -> Vec<u8> {
        let mut message = vec![input.pick(&[3, 3, 3, 5, 11, 12, 4]), input.u8() % 18, 0, 0];
        let rest = match input.u8() & 3 {
            0 => u32::from(input.u16()).to_be_bytes(),
            1 => input.pick(&PLACES).octets(),
            2 => input.pick(&[68_u32, 500, 576, 1400, 1500, 0, 65_535]).to_be_bytes(),
            _ => input.u32().to_be_bytes(),
        };
        message.extend(rest);
        let protocol = input.pick(&[IPPROTO_UDP, IPPROTO_TCP, IPPROTO_ICMP, IPPROTO_IGMP, 253]);
        let quoted = match protocol {
            IPPROTO_UDP => {
                [&4000_u16.to_be_bytes()[..], &9000_u16.to_be_bytes(), &[0, 20, 0, 0]].concat()
            }
            // The segment, turned round: its numbers are near those of a connection.
            IPPROTO_TCP => {
                let mut tcp = self.peer.segment(input).split_off(34);
                tcp.truncate(20);
                tcp.rotate_left(2);
                tcp[..4].rotate_left(2);
                tcp
            }
            IPPROTO_ICMP => vec![8, 0, 0, 0, 0, 77, 0, 1],
            _ => vec![0; 8],
        };
        let to = input.pick(&[PEER, PEER, FAR, LOCAL, GROUP]);
        let mut packet = Ip::new(protocol, LOCAL, to).packet(&quoted);
        for _ in 0..input.u8() % 3 {
            let (at, octet) = (input.below(packet.len()), input.u8());
            packet[at] = octet;
        }
        packet.extend(input.string(200));
        let cut = input.u8();
        if cut < 40 {
            packet.truncate(cut.into());
        }
        message.extend(packet);
        message
    }

    fn read(&mut self) {
        let mut room = vec![0; 2000];
        for fd in self.sockets {
            for flags in [0, MSG_ERRQUEUE] {
                self.lab.call(sys_recvfrom(fd, &mut room, flags | MSG_DONTWAIT));
            }
        }
    }

    fn send(&mut self, input: &mut Input<'_>) {
        let fd = input.pick(&self.sockets);
        let data = [&[8, 0, 0, 0, 0, 77, 0, 1][..], &vec![0; input.below(4000)]].concat();
        let name = addr(input.pick(&PLACES), 9000);
        let name = input.flag().then_some(&name[..]);
        self.lab.call(sys_sendto(fd, &data, MSG_DONTWAIT, name));
    }

    fn leave(&mut self, input: &mut Input<'_>) {
        let name = input.pick(&[IP_DROP_MEMBERSHIP, IP_ADD_MEMBERSHIP]);
        let group = [input.pick(&[GROUP, OTHER]).octets(), [0; 4], self.lab.ifindex.to_ne_bytes()];
        let _any = sys_setsockopt(&mut self.lab.cx, self.sockets[0], SOL_IP, name, &group.concat());
    }
}

/// A question of ICMP's, or an answer.
fn asked(input: &mut Input<'_>) -> Vec<u8> {
    let mut message =
        vec![input.pick(&[8, 0, 13, 14, 15, 17, 42, 43, 9, 10]), input.u8() % 3, 0, 0];
    message.extend([0, input.pick(&[77, 1]), 0, input.u8()]);
    message.extend(input.string(300));
    message
}

/// A querier's question, of each version.
fn query(input: &mut Input<'_>) -> Vec<u8> {
    let (version, code) = (input.u8() % 4, input.u8());
    let group = if input.flag() { input.pick(&PLACES) } else { Ipv4Addr::UNSPECIFIED };
    let mut message = vec![0x11, if version == 0 { 0 } else { code }, 0, 0];
    message.extend(group.octets());
    if version >= 2 {
        sources(input, &mut message);
    }
    message
}

/// Flags, an interval, and sources, as many as there are or others.
fn sources(input: &mut Input<'_>, message: &mut Vec<u8>) {
    let many = usize::from(input.u8() % 12);
    let said = if input.flag() { input.u16() } else { many as u16 };
    message.extend([input.u8(), input.u8()]);
    message.extend(said.to_be_bytes());
    (0..many).for_each(|_| message.extend(input.pick(&PLACES).octets()));
}

/// Another member's report.
fn report(input: &mut Input<'_>) -> Vec<u8> {
    let mut message = vec![input.pick(&[0x12, 0x16, 0x17, 0x22, 0x13]), input.u8(), 0, 0];
    message.extend(input.pick(&PLACES).octets());
    sources(input, &mut message);
    message
}
