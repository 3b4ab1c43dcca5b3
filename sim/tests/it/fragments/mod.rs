//! Datagrams in fragments: out, in, through, and what is known of the MTU of ways.

mod attacks;
mod input;
mod output;
mod pmtu;
mod weather;

use crate::lone::{LOCAL, Lone};
use crate::testdev::frame;
use klib::checksum::ip_fast_csum;
use std::net::Ipv4Addr;
use uapi::ip::{IP_DF, IP_MF};

/// A header made good again after a change.
pub fn resum(mut packet: Vec<u8>) -> Vec<u8> {
    let ihl = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let check = ip_fast_csum(&packet[..ihl]);
    packet[10..12].copy_from_slice(&check.to_be_bytes());
    packet
}

/// Which piece of a packet: the octets of its payload from one to another, and whether it says that more follow.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    pub id: u16,
    pub from: usize,
    pub to: usize,
    pub more: bool,
}

/// A fragment of a packet.
pub fn piece(whole: &[u8], Piece { id, from, to, more }: Piece) -> Vec<u8> {
    let ihl = usize::from(whole[0] & 15) * 4;
    let mut packet = [&whole[..ihl], &whole[ihl + from..ihl + to]].concat();
    let len = packet.len() as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    let field = (from / 8) as u16 | if more { IP_MF } else { 0 };
    packet[6..8].copy_from_slice(&field.to_be_bytes());
    resum(packet)
}

/// All fragments of a packet with up to `size` octets of its payload each.
pub fn pieces(whole: &[u8], id: u16, size: usize) -> Vec<Vec<u8>> {
    let payload = whole.len() - usize::from(whole[0] & 15) * 4;
    (0..payload)
        .step_by(size)
        .map(|from| {
            let to = payload.min(from + size);
            piece(whole, Piece { id, from, to, more: to < payload })
        })
        .collect()
}

/// A fragment's header: identification, whether more follow, whether it must not be cut, where its payload begins, and the
/// payload.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub id: u16,
    pub more: bool,
    pub df: bool,
    pub from: usize,
    pub payload: Vec<u8>,
}

/// Reads a frame that was sent; its header is good.
pub fn seen(frame: &[u8]) -> Seen {
    let packet = &frame[14..];
    let ihl = usize::from(packet[0] & 15) * 4;
    assert_eq!(ip_fast_csum(&packet[..ihl]), 0, "the header's sum");
    let be16 = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
    assert_eq!(usize::from(be16(2)), packet.len(), "the length");
    Seen {
        id: be16(4),
        more: be16(6) & IP_MF != 0,
        df: be16(6) & IP_DF != 0,
        from: usize::from(be16(6) & 0x1fff) * 8,
        payload: packet[ihl..].to_vec(),
    }
}

/// The payload of the datagram whose fragments were sent one after the other.
pub fn joined(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut whole = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        let fragment = seen(frame);
        assert_eq!(fragment.from, whole.len(), "they follow one another");
        assert_eq!(fragment.more, at + 1 < frames.len());
        assert_eq!(fragment.id, seen(&frames[0]).id);
        whole.extend(fragment.payload);
    }
    whole
}

/// Octets that tell where they stand.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at ^ at >> 8) as u8).collect()
}

/// A UDP datagram from the peer to port 7 of the machine.
pub fn datagram(len: usize) -> Vec<u8> {
    datagram_from(frame::PEER, len)
}

/// The same from elsewhere.
pub fn datagram_from(from: Ipv4Addr, len: usize) -> Vec<u8> {
    frame::udp((from, 5000), (LOCAL, 7), &pattern(len))
}

/// A machine with a socket on port 7.
pub fn with_socket() -> (Lone, i32) {
    let mut lone = Lone::new();
    let fd = crate::util::udp(&mut lone.cx, LOCAL, 7);
    (lone, fd)
}
