//! Packets at the other end of `eth0`, where a peer stands: made, and read field by field.

use crate::Probe;
use crate::probe::{ETH, Ip};
use klib::checksum::{csum_fold, csum_partial, csum_tcpudp_nofold, ip_fast_csum};
use uapi::ip::{IP_DF, IP_MF, IP_OFFSET, IPPROTO_ICMP, IPPROTO_IGMP, IPPROTO_TCP, IPPROTO_UDP};

/// The only one there whose address is known.
pub const PEER: Ip = [198, 51, 100, 9];

/// An IP packet from the peer, or a part of one.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Who sends it.
    pub from: Ip,
    /// What it carries.
    pub protocol: u8,
    /// Type of service.
    pub tos: u8,
    /// Identification.
    pub id: u16,
    /// Flags and offset, as they stand there.
    pub field: u16,
    /// What stands behind the header.
    pub payload: Vec<u8>,
}

/// Octets that tell where they stand.
pub fn octets(len: usize) -> Vec<u8> {
    (0..len).map(|at| b'a' + ((at ^ at >> 7) % 23) as u8).collect()
}

/// A UDP header and data from port 4001 of the peer to a port of the host.
pub fn udp(port: u16, len: usize) -> Vec<u8> {
    let total = (8 + len) as u16;
    let mut udp = [4001_u16, port, total, 0].map(u16::to_be_bytes).concat();
    udp.extend(octets(len));
    let addr = |ip: Ip| u32::from_be_bytes(ip);
    let pseudo = csum_tcpudp_nofold(addr(PEER), addr(ETH), total.into(), IPPROTO_UDP, 0);
    let check = csum_fold(csum_partial(&udp, pseudo));
    udp[6..8].copy_from_slice(&check.to_be_bytes());
    udp
}

/// A segment from port 4001 of the peer to port 4000 of the host.
pub fn tcp((seq, ack): (u32, u32), flags: u8, data: &[u8]) -> Vec<u8> {
    let mut segment = [4001_u16, 4000].map(u16::to_be_bytes).concat();
    segment.extend([seq, ack].map(u32::to_be_bytes).concat());
    segment.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend_from_slice(data);
    let addr = |ip: Ip| u32::from_be_bytes(ip);
    let len = segment.len() as u32;
    let pseudo = csum_tcpudp_nofold(addr(PEER), addr(ETH), len, IPPROTO_TCP, 0);
    let check = csum_fold(csum_partial(&segment, pseudo));
    segment[16..18].copy_from_slice(&check.to_be_bytes());
    segment
}

/// An ICMP message.
pub fn icmp(kind: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Vec<u8> {
    let mut icmp = [&[kind, code, 0, 0][..], &rest, data].concat();
    let check = csum_fold(csum_partial(&icmp, 0));
    icmp[2..4].copy_from_slice(&check.to_be_bytes());
    icmp
}

/// An IGMP message: its type, code, and what stands behind the sum.
pub fn igmp(kind: u8, code: u8, tail: &[u8]) -> Vec<u8> {
    let mut igmp = [&[kind, code, 0, 0][..], tail].concat();
    let check = csum_fold(csum_partial(&igmp, 0));
    igmp[2..4].copy_from_slice(&check.to_be_bytes());
    igmp
}

/// A frame to a group, with TTL 1; of IGMP with the router alert option.
pub fn to_group(from: Ip, group: Ip, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let option: &[u8] = if protocol == IPPROTO_IGMP { &[148, 4, 0, 0] } else { &[] };
    let total = (20 + option.len() + payload.len()) as u16;
    let mut packet = vec![0x45 + (option.len() / 4) as u8, 0];
    packet.extend([total, 7, 0].map(u16::to_be_bytes).concat());
    packet.extend([1, protocol, 0, 0]);
    packet.extend([&from[..], &group, option].concat());
    let check = ip_fast_csum(&packet);
    packet[10..12].copy_from_slice(&check.to_be_bytes());
    packet.extend_from_slice(payload);
    let [_, b, c, d] = group;
    [&[1, 0, 0x5e, b & 0x7f, c, d, 2, 0, 0, 0, 0, 9, 8, 0][..], &packet].concat()
}

impl Packet {
    /// Of the peer.
    pub fn of(protocol: u8, id: u16, payload: Vec<u8>) -> Self {
        Self { from: PEER, protocol, tos: 0, id, field: 0, payload }
    }

    /// A datagram to a port of the host.
    pub fn udp(port: u16, id: u16, len: usize) -> Self {
        Self::of(IPPROTO_UDP, id, udp(port, len))
    }

    /// The octets of its payload from one to another, as a fragment; `more`: others follow.
    pub fn part(&self, from: usize, to: usize, more: bool) -> Self {
        let field = (from / 8) as u16 & IP_OFFSET | if more { IP_MF } else { 0 };
        Self { field, payload: self.payload[from..to].to_vec(), ..self.clone() }
    }

    /// All of it in fragments of so many octets.
    pub fn parts(&self, size: usize) -> Vec<Self> {
        let all = self.payload.len();
        let part = |from: usize| self.part(from, all.min(from + size), from + size < all);
        (0..all).step_by(size).map(part).collect()
    }

    fn frame(&self) -> Vec<u8> {
        let total = (20 + self.payload.len()) as u16;
        let mut packet = vec![0x45, self.tos];
        packet.extend([total, self.id, self.field].map(u16::to_be_bytes).concat());
        packet.extend([64, self.protocol, 0, 0]);
        packet.extend([self.from, ETH].concat());
        let check = ip_fast_csum(&packet);
        packet[10..12].copy_from_slice(&check.to_be_bytes());
        packet.extend_from_slice(&self.payload);
        [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0][..], &packet].concat()
    }
}

/// What was seen on the wire of a check.
#[derive(Debug, Default)]
pub struct Wire {
    /// Identifications, by first appearance: hosts choose them.
    ids: Vec<u16>,
}

impl Wire {
    /// From now on.
    pub fn open(p: &mut Probe<'_>) -> Self {
        p.calls.wire_open();
        Self::default()
    }

    /// Lets packets come in.
    pub fn send(&self, p: &mut Probe<'_>, packets: &[Packet]) {
        for packet in packets {
            p.calls.wire_send(&packet.frame());
        }
    }

    /// Notes what has left.
    pub fn note(&mut self, p: &mut Probe<'_>, label: &str) -> Vec<Vec<u8>> {
        let frames = p.calls.wire_take();
        p.note(label, format!("{} packets", frames.len()));
        for (at, frame) in frames.iter().enumerate() {
            let text = self.describe(&frame[14..]);
            p.note(&format!("{label} {at}"), text);
        }
        frames
    }

    /// Reads what has left, and notes only how much.
    pub fn take(&mut self, p: &mut Probe<'_>, label: &str) -> Vec<Vec<u8>> {
        let frames = p.calls.wire_take();
        p.note(label, format!("{} packets", frames.len()));
        frames
    }

    /// The peer says that a packet which left is too long.
    pub fn too_long(&self, p: &mut Probe<'_>, frame: &[u8], mtu: u16) {
        let [m0, m1] = mtu.to_be_bytes();
        let quote = &frame[14..frame.len().min(14 + 28)];
        let message = icmp(3, 4, [0, 0, m0, m1], quote);
        self.send(p, &[Packet::of(IPPROTO_ICMP, 1, message)]);
    }

    fn describe(&mut self, packet: &[u8]) -> String {
        let be16 = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let ihl = usize::from(packet[0] & 15) * 4;
        let (field, protocol) = (be16(6), packet[9]);
        let whole = field & (IP_MF | IP_OFFSET) == 0;
        let mut payload = packet[ihl..usize::from(be16(2))].to_vec();
        if whole && protocol == IPPROTO_UDP {
            // Left to the device on either host.
            payload[6..8].fill(0);
        }
        let sum = payload
            .iter()
            .fold(0_u64, |sum, octet| sum.wrapping_mul(31).wrapping_add((*octet).into()));
        let ips = [&packet[12..16], &packet[16..20]];
        let head = match protocol {
            IPPROTO_ICMP if field & IP_OFFSET == 0 => format!("{:?}", &payload[..8]),
            IPPROTO_IGMP => {
                let shown = &payload[..payload.len().min(40)];
                format!("{:?} {shown:02x?}", &packet[20..ihl])
            }
            _ => String::new(),
        };
        format!(
            "protocol {protocol} tos {} ttl {} {} {}{}at {} of {} octets, {ips:?} {head} {sum:x}",
            packet[1],
            packet[8],
            // Of what must not be cut it tells nobody anything.
            if field & IP_DF != 0 { "id (any)".to_owned() } else { self.id(be16(4)) },
            if field & IP_DF != 0 { "DF " } else { "" },
            if field & IP_MF != 0 { "MF " } else { "" },
            usize::from(field & IP_OFFSET) * 8,
            be16(2)
        )
    }

    fn id(&mut self, id: u16) -> String {
        if id == 0 {
            return "id 0".to_owned();
        }
        let at = self.ids.iter().position(|there| *there == id).unwrap_or_else(|| {
            self.ids.push(id);
            self.ids.len() - 1
        });
        format!("id I{at}")
    }
}
