//! Packets as bytes: built from a script's, and read from the machine's.
//!
//! Key types: [`Packet`], [`Tcp`], [`Icmp`]. Contexts: any. Invariant: any bytes give a packet or
//! an error that says what is wrong with them.

use crate::parse::script::TcpOption;
use klib::checksum::{csum_fold, csum_partial};
use std::net::Ipv4Addr;

/// `IPPROTO_ICMP`
pub const ICMP: u8 = 1;
/// `IPPROTO_TCP`
pub const TCP: u8 = 6;
/// `IPPROTO_UDP`
pub const UDP: u8 = 17;
/// An IPv4 header without options.
pub const IP_LEN: usize = 20;

/// An IPv4 packet, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Type of service.
    pub tos: u8,
    /// Time to live.
    pub ttl: u8,
    /// Who sends it.
    pub src: Ipv4Addr,
    /// To whom.
    pub dst: Ipv4Addr,
    /// What it carries.
    pub body: Body,
}

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// A segment.
    Tcp(Tcp),
    /// A datagram: ports, data, whether it has a checksum.
    Udp {
        /// Source and destination.
        ports: (u16, u16),
        /// The data.
        data: Vec<u8>,
        /// It has a checksum.
        sum: bool,
    },
    /// An ICMP message.
    Icmp(Icmp),
    /// Another protocol, or a fragment that is not the first.
    Other(u8, Vec<u8>),
}

/// A TCP segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tcp {
    /// Source and destination port.
    pub ports: (u16, u16),
    /// The first sequence number.
    pub seq: u32,
    /// The acknowledgement.
    pub ack: u32,
    /// Flags, nine bits.
    pub flags: u16,
    /// Reserved bits.
    pub reserved: u8,
    /// The window.
    pub win: u16,
    /// The urgent pointer.
    pub urg: u16,
    /// The options' bytes.
    pub options: Vec<u8>,
    /// The data.
    pub data: Vec<u8>,
}

/// An ICMP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The four bytes behind its checksum.
    pub rest: [u8; 4],
    /// What follows.
    pub data: Vec<u8>,
}

/// How far a packet's checksum was computed when it was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Csum {
    /// To its end.
    Full,
    /// A device was to finish it: the field has the sum of the pseudo header.
    Partial,
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The sum of a pseudo header.
fn pseudo(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: usize) -> u32 {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&src.octets());
    bytes[4..8].copy_from_slice(&dst.octets());
    bytes[9] = protocol;
    bytes[10..].copy_from_slice(&(len as u16).to_be_bytes());
    csum_partial(&bytes, 0)
}

/// Takes a packet apart and checks its checksums.
///
/// # Errors
/// What is wrong with it, in the words of the header's fields.
pub fn read(bytes: &[u8], csum: Csum) -> Result<Packet, String> {
    if bytes.len() < IP_LEN {
        return Err(format!("{} bytes are no IPv4 packet", bytes.len()));
    }
    let (version, ihl) = (bytes[0] >> 4, usize::from(bytes[0] & 15) * 4);
    let total = usize::from(be16(bytes, 2));
    if version != 4 || ihl < IP_LEN || ihl > total || total > bytes.len() {
        return Err(format!(
            "bad IPv4 header: version {version}, header of {ihl} bytes, total length {total} of {}",
            bytes.len()
        ));
    }
    if csum_fold(csum_partial(&bytes[..ihl], 0)) != 0 {
        return Err("bad outbound IP checksum".to_owned());
    }
    let addr = |at| Ipv4Addr::from(be32(bytes, at));
    let (src, dst, protocol) = (addr(12), addr(16), bytes[9]);
    let fragment = be16(bytes, 6) & 0x3fff != 0;
    let inner = &bytes[ihl..total];
    let body = match protocol {
        _ if fragment => Body::Other(protocol, inner.to_vec()),
        TCP | UDP => {
            let none = protocol == UDP && inner.len() >= 8 && be16(inner, 6) == 0;
            if !none {
                check_sum(inner, pseudo(src, dst, protocol, inner.len()), protocol, csum)?;
            }
            if protocol == TCP { Body::Tcp(tcp(inner)?) } else { udp(inner)? }
        }
        ICMP => {
            if inner.len() < 8 {
                return Err(format!("{} bytes are no ICMP message", inner.len()));
            }
            if csum_fold(csum_partial(inner, 0)) != 0 {
                return Err("bad outbound ICMP checksum".to_owned());
            }
            let rest = [inner[4], inner[5], inner[6], inner[7]];
            Body::Icmp(Icmp { kind: inner[0], code: inner[1], rest, data: inner[8..].to_vec() })
        }
        other => Body::Other(other, inner.to_vec()),
    };
    Ok(Packet { tos: bytes[1], ttl: bytes[8], src, dst, body })
}

fn check_sum(inner: &[u8], pseudo: u32, protocol: u8, csum: Csum) -> Result<(), String> {
    let (name, at) = if protocol == TCP { ("TCP", 16) } else { ("UDP", 6) };
    if inner.len() < at + 2 {
        return Err(format!("{} bytes are no {name} header", inner.len()));
    }
    let good = match csum {
        Csum::Full => csum_fold(csum_partial(inner, pseudo)) == 0,
        // The field holds the sum itself, not its complement.
        Csum::Partial => csum_fold(pseudo) == !be16(inner, at),
    };
    if good { Ok(()) } else { Err(format!("bad outbound {name} checksum")) }
}

fn tcp(bytes: &[u8]) -> Result<Tcp, String> {
    if bytes.len() < 20 {
        return Err(format!("{} bytes are no TCP header", bytes.len()));
    }
    let offset = usize::from(bytes[12] >> 4) * 4;
    if offset < 20 || offset > bytes.len() {
        return Err(format!("bad TCP data offset: {offset} of {} bytes", bytes.len()));
    }
    Ok(Tcp {
        ports: (be16(bytes, 0), be16(bytes, 2)),
        seq: be32(bytes, 4),
        ack: be32(bytes, 8),
        flags: be16(bytes, 12) & 0x1ff,
        reserved: bytes[12] >> 1 & 7,
        win: be16(bytes, 14),
        urg: be16(bytes, 18),
        options: bytes[20..offset].to_vec(),
        data: bytes[offset..].to_vec(),
    })
}

fn udp(bytes: &[u8]) -> Result<Body, String> {
    let len = usize::from(be16(bytes, 4));
    if bytes.len() < 8 || len != bytes.len() {
        return Err(format!("bad UDP length: {len} of {} bytes", bytes.len()));
    }
    let ports = (be16(bytes, 0), be16(bytes, 2));
    Ok(Body::Udp { ports, data: bytes[8..].to_vec(), sum: be16(bytes, 6) != 0 })
}

/// What a checksum is to be in a packet that is built.
pub use crate::parse::script::Sum;

impl Packet {
    /// Its bytes, with checksums.
    pub fn bytes(&self, id: u16, sum: Sum) -> Vec<u8> {
        let (protocol, inner) = self.inner(sum);
        let mut bytes = ip_header(self, protocol, IP_LEN + inner.len(), id);
        bytes.extend(inner);
        bytes
    }

    fn inner(&self, sum: Sum) -> (u8, Vec<u8>) {
        let (protocol, mut inner, at) = match &self.body {
            Body::Tcp(tcp) => (TCP, tcp.bytes(), 16),
            Body::Udp { ports, data, .. } => {
                let mut bytes = Vec::with_capacity(8 + data.len());
                for field in [ports.0, ports.1, 8 + data.len() as u16, 0] {
                    bytes.extend(field.to_be_bytes());
                }
                bytes.extend(data);
                (UDP, bytes, 6)
            }
            Body::Icmp(icmp) => {
                let mut bytes = vec![icmp.kind, icmp.code, 0, 0];
                bytes.extend(icmp.rest);
                bytes.extend(&icmp.data);
                (ICMP, bytes, 2)
            }
            Body::Other(protocol, bytes) => return (*protocol, bytes.clone()),
        };
        let start =
            if protocol == ICMP { 0 } else { pseudo(self.src, self.dst, protocol, inner.len()) };
        let right = csum_fold(csum_partial(&inner, start));
        let value = match sum {
            Sum::None => 0,
            // Zero would mean that there is none.
            Sum::Good if right == 0 && protocol == UDP => 0xffff,
            Sum::Good => right,
            Sum::Bad => right ^ 0x5555,
        };
        inner[at..at + 2].copy_from_slice(&value.to_be_bytes());
        (protocol, inner)
    }
}

fn ip_header(packet: &Packet, protocol: u8, total: usize, id: u16) -> Vec<u8> {
    let mut bytes = vec![0x45, packet.tos];
    bytes.extend((total as u16).to_be_bytes());
    bytes.extend(id.to_be_bytes());
    bytes.extend([0, 0, packet.ttl, protocol, 0, 0]);
    bytes.extend(packet.src.octets());
    bytes.extend(packet.dst.octets());
    let sum = csum_fold(csum_partial(&bytes, 0));
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes
}

impl Tcp {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20 + self.options.len() + self.data.len());
        bytes.extend(self.ports.0.to_be_bytes());
        bytes.extend(self.ports.1.to_be_bytes());
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        let offset = (20 + self.options.len()) as u16 / 4;
        bytes.extend((offset << 12 | self.flags).to_be_bytes());
        bytes.extend(self.win.to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(self.urg.to_be_bytes());
        bytes.extend(&self.options);
        bytes.extend(&self.data);
        bytes
    }
}

/// The header and eight bytes behind it, as an ICMP error quotes a packet of `len` bytes of data.
pub fn quote(packet: &Packet, len: usize) -> Vec<u8> {
    let (protocol, inner) = packet.inner(Sum::Good);
    let head = if protocol == TCP { 20 } else { 8 };
    let mut bytes = ip_header(packet, protocol, IP_LEN + head + len, 0);
    bytes.extend(&inner[..inner.len().min(8)]);
    if protocol == UDP {
        bytes[IP_LEN + 4..IP_LEN + 6].copy_from_slice(&(8 + len as u16).to_be_bytes());
    }
    bytes
}

/// Options as bytes, filled up with zeroes to whole words.
pub fn option_bytes(options: &[TcpOption]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for option in options {
        match option {
            TcpOption::Eol => bytes.push(0),
            TcpOption::Nop => bytes.push(1),
            TcpOption::Mss(mss) => {
                bytes.extend([2, 4]);
                bytes.extend(mss.to_be_bytes());
            }
            TcpOption::Wscale(shift) => bytes.extend([3, 3, *shift]),
            TcpOption::SackOk => bytes.extend([4, 2]),
            TcpOption::Sack(blocks) => {
                bytes.extend([5, (2 + 8 * blocks.len()) as u8]);
                for edge in blocks.iter().flat_map(|(left, right)| [left, right]) {
                    bytes.extend(edge.to_be_bytes());
                }
            }
            TcpOption::Ts(val, ecr) => {
                bytes.extend([8, 10]);
                bytes.extend(val.to_be_bytes());
                bytes.extend(ecr.to_be_bytes());
            }
            TcpOption::FastOpen(cookie) => {
                bytes.extend([34, (2 + cookie.len()) as u8]);
                bytes.extend(cookie);
            }
            TcpOption::FastOpenExp(cookie) => {
                bytes.extend([254, (4 + cookie.len()) as u8, 0xf9, 0x89]);
                bytes.extend(cookie);
            }
            TcpOption::Md5(digest) => {
                bytes.extend([19, (2 + digest.len()) as u8]);
                bytes.extend(digest);
            }
            TcpOption::Other(kind, data) => {
                bytes.extend([*kind, (2 + data.len()) as u8]);
                bytes.extend(data);
            }
        }
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// The options in bytes; a list that is cut short ends where it is.
///
/// # Errors
/// The kind whose length is wrong.
pub fn read_options(bytes: &[u8]) -> Result<Vec<TcpOption>, String> {
    let mut options = Vec::new();
    let mut rest = bytes;
    while let [kind, behind @ ..] = rest {
        match kind {
            0 => {
                // What fills the last word is no option of its own.
                if rest.len() > 3 || rest.iter().any(|byte| *byte != 0) {
                    options.push(TcpOption::Eol);
                }
                return Ok(options);
            }
            1 => {
                options.push(TcpOption::Nop);
                rest = behind;
                continue;
            }
            _ => {}
        }
        let len = behind.first().map_or(0, |len| usize::from(*len));
        if len < 2 || len > rest.len() {
            return Err(format!("TCP option {kind} has a bad length"));
        }
        options.push(one_option(*kind, &rest[2..len]));
        rest = &rest[len..];
    }
    Ok(options)
}

fn one_option(kind: u8, data: &[u8]) -> TcpOption {
    match (kind, data.len()) {
        (2, 2) => TcpOption::Mss(be16(data, 0)),
        (3, 1) => TcpOption::Wscale(data[0]),
        (4, 0) => TcpOption::SackOk,
        (5, len) if len % 8 == 0 && len > 0 => {
            TcpOption::Sack(data.chunks(8).map(|block| (be32(block, 0), be32(block, 4))).collect())
        }
        (8, 8) => TcpOption::Ts(be32(data, 0), be32(data, 4)),
        (34, _) => TcpOption::FastOpen(data.to_vec()),
        (254, len) if len >= 2 && data[..2] == [0xf9, 0x89] => {
            TcpOption::FastOpenExp(data[2..].to_vec())
        }
        (19, _) => TcpOption::Md5(data.to_vec()),
        _ => TcpOption::Other(kind, data.to_vec()),
    }
}

/// Byte `at` of the data that the runner makes: a pattern, so that what is out of place shows.
pub fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(body: Body) -> Packet {
        let (src, dst) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 168, 0, 1));
        Packet { tos: 2, ttl: 255, src, dst, body }
    }

    fn segment() -> Packet {
        let options = option_bytes(&[TcpOption::Mss(1000), TcpOption::Nop, TcpOption::Wscale(7)]);
        let data = (0..9).map(pattern).collect();
        packet(Body::Tcp(Tcp {
            ports: (1, 2),
            seq: 3,
            ack: 4,
            flags: 0x12,
            options,
            data,
            ..Tcp::default()
        }))
    }

    #[test]
    fn what_is_built_is_read_again() {
        let udp = Body::Udp { ports: (5, 6), data: vec![7; 3], sum: true };
        let icmp = Body::Icmp(Icmp { kind: 8, code: 0, rest: [1, 2, 3, 4], data: vec![9; 5] });
        for packet in [segment(), packet(udp), packet(icmp)] {
            assert_eq!(read(&packet.bytes(9, Sum::Good), Csum::Full), Ok(packet.clone()));
            assert!(read(&packet.bytes(9, Sum::Bad), Csum::Full).unwrap_err().contains("checksum"));
        }
        let Body::Udp { sum, .. } = read(
            &packet(Body::Udp { ports: (5, 6), data: vec![], sum: true }).bytes(0, Sum::None),
            Csum::Full,
        )
        .unwrap()
        .body
        else {
            panic!("a datagram")
        };
        assert!(!sum);
    }

    #[test]
    fn a_partial_sum_is_that_of_the_pseudo_header() {
        let mut bytes = segment().bytes(0, Sum::Good);
        assert!(read(&bytes, Csum::Partial).is_err());
        let inner = bytes.len() - IP_LEN;
        let (src, dst) = (segment().src, segment().dst);
        let sum = !csum_fold(pseudo(src, dst, TCP, inner));
        bytes[IP_LEN + 16..IP_LEN + 18].copy_from_slice(&sum.to_be_bytes());
        assert!(read(&bytes, Csum::Partial).is_ok());
    }

    #[test]
    fn no_bytes_panic() {
        let whole = segment().bytes(0, Sum::Good);
        for len in 0..whole.len() {
            let _either = read(&whole[..len], Csum::Full);
        }
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut turned = whole.clone();
                turned[at] ^= 1 << bit;
                let _either = read(&turned, Csum::Full);
                let _either = read_options(&turned);
            }
        }
    }

    #[test]
    fn options_there_and_back() {
        let options = vec![
            TcpOption::Ts(1, 2),
            TcpOption::Sack(vec![(1, 2)]),
            TcpOption::FastOpen(vec![1, 2, 3, 4]),
            TcpOption::FastOpenExp(vec![5]),
            TcpOption::SackOk,
            TcpOption::Other(99, vec![1]),
        ];
        assert_eq!(read_options(&option_bytes(&options)), Ok(options));
        assert!(read_options(&[2, 9, 1, 1]).is_err() && read_options(&[2]).is_err());
    }
}
