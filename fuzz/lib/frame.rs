//! Frames, and the sums and lengths that a fuzzer does not guess.

use klib::checksum::{csum_fold, csum_partial, csum_tcpudp_magic, ip_fast_csum};
use std::net::Ipv4Addr;
use uapi::ip::{IPPROTO_ICMP, IPPROTO_IGMP, IPPROTO_TCP, IPPROTO_UDP};

/// The machine's link address.
pub const MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];
/// Its peer's.
pub const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 8, 8];
/// The machine's address.
pub const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Its peer's.
pub const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// A group that the machine is in.
pub const GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);
/// Octets of a link header.
pub const ETH_HLEN: usize = 14;

/// From the peer.
pub fn ether(to: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &PEER_MAC, &kind.to_be_bytes(), payload].concat()
}

/// An IPv4 packet without options; `word` is what the fragment field holds, `id` what joins fragments.
#[derive(Clone, Copy, Debug)]
pub struct Ip {
    pub protocol: u8,
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub id: u16,
    pub word: u16,
}

impl Ip {
    pub fn new(protocol: u8, from: Ipv4Addr, to: Ipv4Addr) -> Self {
        Self { protocol, from, to, id: 1, word: 0 }
    }

    /// The header and what follows, its header's sum right.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut header = [0_u8; 20];
        header[0] = 0x45;
        header[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
        header[4..6].copy_from_slice(&self.id.to_be_bytes());
        header[6..8].copy_from_slice(&self.word.to_be_bytes());
        (header[8], header[9]) =
            (if self.protocol == IPPROTO_IGMP { 1 } else { 64 }, self.protocol);
        header[12..16].copy_from_slice(&self.from.octets());
        header[16..20].copy_from_slice(&self.to.octets());
        let check = ip_fast_csum(&header);
        header[10..12].copy_from_slice(&check.to_be_bytes());
        [&header[..], payload].concat()
    }
}

/// Makes the lengths of an IP packet and of the datagram in it those they have.
pub fn lengths(packet: &mut [u8]) {
    let len = packet.len() as u16;
    if packet.len() < 20 {
        return;
    }
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    let ihl = usize::from(packet[0] & 15) * 4;
    if packet[9] == IPPROTO_UDP && packet.len() >= ihl + 8 {
        let len = len - ihl as u16;
        packet[ihl + 4..ihl + 6].copy_from_slice(&len.to_be_bytes());
    }
}

/// Makes the sums of an IP packet right, as far as it has them.
pub fn sums(packet: &mut [u8]) {
    let ihl = usize::from(packet.first().map_or(0, |first| first & 15)) * 4;
    if ihl < 20 || packet.len() < ihl {
        return;
    }
    packet[10..12].fill(0);
    let check = ip_fast_csum(&packet[..ihl]);
    packet[10..12].copy_from_slice(&check.to_be_bytes());
    let whole =
        usize::from(u16::from_be_bytes([packet[2], packet[3]])).clamp(ihl, packet.len().max(ihl));
    let later = u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0;
    let (header, payload) = packet[..whole].split_at_mut(ihl);
    let at = match header[9] {
        IPPROTO_TCP => 16,
        IPPROTO_UDP => 6,
        IPPROTO_ICMP | IPPROTO_IGMP => 2,
        _ => return,
    };
    if later || payload.len() < at + 2 {
        return;
    }
    payload[at..at + 2].fill(0);
    let sum = csum_partial(payload, 0);
    let check = if at == 2 {
        csum_fold(sum)
    } else {
        let word = |at: usize| {
            u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        csum_tcpudp_magic(word(12), word(16), payload.len() as u32, header[9], sum)
    };
    payload[at..at + 2].copy_from_slice(&check.to_be_bytes());
}

/// From the peer to the machine, lengths and sums right.
pub fn sound(ip: Ip, payload: &[u8]) -> Vec<u8> {
    let mut packet = ip.packet(payload);
    lengths(&mut packet);
    sums(&mut packet);
    ether(MAC, 0x0800, &packet)
}
