//! Frames of somebody else, into a machine with a socket of each kind.

use crate::STEPS;
use crate::frame::{ETH_HLEN, GROUP, Ip, LOCAL, MAC, PEER, ether, lengths, sums};
use crate::input::Input;
use crate::lab::{Card, Lab, addr};
use crate::peer::Peer;
use stack::net::packet::af_packet::{RingMap, packet_mmap};
use stack::net::socket::{
    sys_accept4, sys_bind, sys_connect, sys_listen, sys_recvfrom, sys_sendto, sys_setsockopt,
};
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::if_packet::{PACKET_RX_RING, PACKET_VERSION, SockaddrLl, TPACKET_V2, TPACKET_V3};
use uapi::in_::{IP_ADD_MEMBERSHIP, IP_PKTINFO, IP_RECVERR, IP_RECVTTL, MCAST_JOIN_GROUP};
use uapi::socket::*;
use uapi::udp::UDP_GRO;
use zerocopy::IntoBytes;

/// Milliseconds that may pass between two frames.
const PAUSES: [u64; 8] = [1, 1, 10, 40, 200, 1_000, 5_000, 61_000];
/// The longest frame.
const LONGEST: usize = 9_000;

struct Victim {
    lab: Lab,
    peer: Peer,
    /// Sockets that are read from.
    readers: Vec<i32>,
    listener: i32,
    /// Connections.
    streams: Vec<i32>,
    rings: Vec<RingMap>,
    last: Vec<u8>,
}

/// Gives a machine frames, each as the input says: as they come, with their sums made right, or as the next segment
/// of a connection; lets it read, write and wait between them.
pub fn frame_in(data: &[u8]) {
    let mut input = Input::new(data);
    let mut victim = Victim::new(input.u8());
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let what = input.u8();
        victim.step(what & 15, &mut input);
        // Else the next frame comes with this one.
        if what & 0x40 == 0 {
            victim.rest();
        }
    }
    victim.rest();
    drop(victim.rings);
    victim.lab.end();
}

impl Victim {
    fn new(how: u8) -> Self {
        let mut lab = Lab::new(if how & 1 == 0 { Card::Wire } else { Card::Igb });
        for (bit, name) in [
            (2, "net.ipv4.conf.DEV.forwarding"),
            (4, "net.ipv4.conf.DEV.rp_filter"),
            (8, "net.ipv4.conf.DEV.route_localnet"),
        ] {
            lab.set(name, if how & bit == 0 { "0" } else { "1" });
        }
        lab.set("net.ipv4.ping_group_range", "0 0");
        let nobody = Ipv4Addr::UNSPECIFIED;
        let udp = lab.bound(SOCK_DGRAM, 0, (nobody, 7));
        let one = &1_i32.to_ne_bytes()[..];
        let membership = [&GROUP.octets()[..], &[0; 4], &lab.ifindex.to_ne_bytes()].concat();
        for (level, name, value) in [
            (SOL_IP, IP_PKTINFO, one),
            (SOL_IP, IP_RECVTTL, one),
            (SOL_IP, IP_ADD_MEMBERSHIP, &membership),
            (SOL_SOCKET, SO_TIMESTAMP, one),
        ] {
            sys_setsockopt(&mut lab.cx, udp, level, name, value).expect("known");
        }
        let client = lab.bound(SOCK_DGRAM, 0, (LOCAL, 4000));
        sys_setsockopt(&mut lab.cx, client, SOL_IP, IP_RECVERR, one).expect("known");
        if how & 16 != 0 {
            sys_setsockopt(&mut lab.cx, udp, SOL_UDP, UDP_GRO, one).expect("known");
        }
        lab.call(sys_connect(client, &addr(PEER, 9000))).expect("at once").expect("a way");
        let raws = [1, 253, 2].map(|protocol| lab.socket(AF_INET, SOCK_RAW, protocol));
        let ping = lab.bound(SOCK_DGRAM, 1, (LOCAL, 77));
        let all = i32::from(3_u16.to_be());
        let packets = [SOCK_RAW, SOCK_DGRAM].map(|kind| lab.socket(AF_PACKET, kind, all));
        let filter = pcap_filter::compile("arp or icmp or udp port 7 or tcp[13] & 2 != 0");
        let filter = filter.expect("of the language");
        let program = filter.instructions().as_bytes();
        sys_setsockopt(&mut lab.cx, packets[0], SOL_SOCKET, SO_ATTACH_FILTER, program)
            .expect("checked");
        let rings = [TPACKET_V2, TPACKET_V3].map(|version| ring(&mut lab, version)).to_vec();
        let listener = lab.bound(SOCK_STREAM | SOCK_NONBLOCK, 0, (nobody, 80));
        sys_listen(&mut lab.cx, listener, 2).expect("bound");
        let stream = lab.socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        lab.call(sys_connect(stream, &addr(PEER, 9001)));
        let readers = [&[udp, client, ping][..], &raws, &packets].concat();
        let (peer, last) = (Peer::default(), Vec::new());
        let mut victim = Self { lab, peer, readers, listener, streams: vec![stream], rings, last };
        victim.rest();
        victim
    }

    fn step(&mut self, what: u8, input: &mut Input<'_>) {
        match what {
            0 => self.deliver(input.string(LONGEST).to_vec()),
            1 => {
                let mut frame = input.string(LONGEST).to_vec();
                if let Some(packet) = frame.get_mut(ETH_HLEN..) {
                    sums(packet);
                }
                self.deliver(frame);
            }
            2..=4 => {
                let to = input.pick(&[MAC, MAC, MAC, [0xff; 6], [1, 0, 0x5e, 1, 2, 3]]);
                let mut packet = input.string(LONGEST).to_vec();
                if what == 4 {
                    lengths(&mut packet);
                }
                if what >= 3 {
                    sums(&mut packet);
                }
                self.deliver(ether(to, 0x0800, &packet));
            }
            5 | 6 => {
                let protocol = input.pick(&[17, 1, 6, 2, 253, 41]);
                let from = input.pick(&[
                    PEER,
                    PEER,
                    LOCAL,
                    Ipv4Addr::new(203, 0, 113, 9),
                    Ipv4Addr::UNSPECIFIED,
                ]);
                let to = input.pick(&[
                    LOCAL,
                    LOCAL,
                    GROUP,
                    Ipv4Addr::BROADCAST,
                    Ipv4Addr::new(198, 51, 100, 9),
                ]);
                let word = if what == 6 { input.u16() } else { 0 };
                let ip = Ip { id: u16::from(input.u8() & 3), word, ..Ip::new(protocol, from, to) };
                let mut packet = ip.packet(input.string(LONGEST));
                lengths(&mut packet);
                sums(&mut packet);
                self.deliver(ether(MAC, 0x0800, &packet));
            }
            7..=10 => {
                let segment = self.peer.segment(input);
                self.deliver(segment);
            }
            11 => {
                let again = std::mem::take(&mut self.last);
                (0..input.u8() % 32).for_each(|_| self.lab.deliver(&again));
                self.last = again;
            }
            12 => self.lab.pass(Duration::from_millis(input.pick(&PAUSES))),
            13 => self.read(),
            14 => self.write(input),
            _ => self.deliver(ether([0xff; 6], 0x0806, input.string(100))),
        }
    }

    fn deliver(&mut self, frame: Vec<u8>) {
        self.lab.deliver(&frame);
        self.last = frame;
    }

    fn rest(&mut self) {
        self.lab.settle();
        let peer = &mut self.peer;
        self.lab.sent(|frame| peer.see(frame));
        self.lab.check();
    }

    fn read(&mut self) {
        let mut room = vec![0; 70_000];
        for fd in self.readers.iter().chain(&self.streams) {
            for flags in [MSG_PEEK, 0, 0, MSG_ERRQUEUE] {
                self.lab.call(sys_recvfrom(*fd, &mut room, flags | MSG_DONTWAIT));
            }
        }
        for ring in &self.rings {
            match ring {
                RingMap::Frames(ring) => {
                    for frame in (0..ring.len()).filter_map(|at| ring.take(at)) {
                        assert_eq!(frame.data().len(), frame.header().tp_snaplen as usize);
                    }
                }
                RingMap::Blocks(ring) => {
                    for block in (0..ring.len()).filter_map(|at| ring.take(at)) {
                        assert_eq!(block.packets().count(), block.desc().num_pkts as usize);
                        for packet in block.packets() {
                            assert_eq!(packet.data.len(), packet.header.tp_snaplen as usize);
                        }
                    }
                }
            }
        }
        if let Some(Ok((fd, _))) = self.lab.call(sys_accept4(self.listener, SOCK_NONBLOCK)) {
            self.streams.push(fd);
        }
    }

    fn write(&mut self, input: &mut Input<'_>) {
        let fd = input.pick(&self.streams);
        let data = vec![b'!'; input.below(20_000)];
        self.lab.call(sys_sendto(fd, &data, MSG_DONTWAIT, None));
    }
}

/// A packet socket that has its packets in a ring.
fn ring(lab: &mut Lab, version: i32) -> RingMap {
    let fd = lab.socket(AF_PACKET, SOCK_RAW, i32::from(3_u16.to_be()));
    let name = SockaddrLl { protocol: 3, ifindex: lab.ifindex, ..SockaddrLl::default() };
    sys_bind(&mut lab.cx, fd, &name.to_bytes()).expect("the card");
    // Of version 3 with 50 milliseconds for a block, and the hashes of flows.
    let shape = [4096_u32, 2, 2048, 4, 50, 0, 1].map(u32::to_ne_bytes).concat();
    for (name, value) in [(PACKET_VERSION, &version.to_ne_bytes()[..]), (PACKET_RX_RING, &shape)] {
        sys_setsockopt(&mut lab.cx, fd, SOL_PACKET, name, value).expect("a ring");
    }
    // The other way to be in a group.
    let group = [&lab.ifindex.to_ne_bytes()[..], &[0; 4], &addr(GROUP, 0), &[0; 112]].concat();
    let _any = sys_setsockopt(&mut lab.cx, fd, SOL_IP, MCAST_JOIN_GROUP, &group);
    packet_mmap(&mut lab.cx, fd).expect("a ring")
}
