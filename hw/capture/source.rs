//! Reading pcap and pcapng: one frame after the other, with the place of what is wrong.
//!
//! Not by the library that writes: it does not tell where a file is wrong, scales no times, keeps 8 MB, and refuses
//! options that other programs write.

use drivers::net::wire_port::MAX_FRAME_LEN;
use std::fmt;
use std::io::{self, ErrorKind, Read};
use std::time::Duration;

/// Octets of a block that is looked into: a frame, its comment, and room for other options.
const MAX_BLOCK: usize = MAX_FRAME_LEN + 128 * 1024;
/// Interfaces of a section.
const MAX_INTERFACES: usize = 4096;
/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Why a file can't be played, or not to its end.
#[derive(Debug)]
pub enum ReplayError {
    /// It can't be read.
    Io {
        /// Octets read before.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// It is not what it should be.
    Malformed {
        /// Where the record, block or header begins that is wrong.
        at: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { at, source } => write!(f, "capture file, at octet {at}: {source}"),
            Self::Malformed { at, what } => write!(f, "capture file, at octet {at}: {what}"),
        }
    }
}

impl std::error::Error for ReplayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            Self::Malformed { .. } => None,
        }
    }
}

/// What a file says next.
#[derive(Debug)]
pub(super) enum Entry<'a> {
    /// A whole Ethernet frame, and its time if it has one.
    Frame(&'a [u8], Option<Duration>),
    /// A packet of another kind of link, or one cut short when it was captured.
    Unfit,
}

/// The order of a number's octets.
#[derive(Clone, Copy, Debug)]
enum Order {
    Big,
    Little,
}

impl Order {
    /// By octets that a writer of big-endian files has in this order.
    fn of(magic: [u8; 4], big: u32) -> Option<Self> {
        match u32::from_be_bytes(magic) {
            value if value == big => Some(Self::Big),
            value if value.swap_bytes() == big => Some(Self::Little),
            _ => None,
        }
    }

    fn u16(self, at: [u8; 2]) -> u16 {
        match self {
            Self::Big => u16::from_be_bytes(at),
            Self::Little => u16::from_le_bytes(at),
        }
    }

    fn u32(self, at: [u8; 4]) -> u32 {
        match self {
            Self::Big => u32::from_be_bytes(at),
            Self::Little => u32::from_le_bytes(at),
        }
    }
}

/// Numbers at the front of octets, taken off.
struct Fields<'a> {
    rest: &'a [u8],
    order: Order,
}

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len)?;
        self.rest = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(self.order.u16(*taken))
    }

    fn u32(&mut self) -> Option<u32> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(self.order.u32(*taken))
    }
}

/// An interface of a pcapng section.
#[derive(Clone, Copy, Debug)]
struct Interface {
    ethernet: bool,
    /// Most octets of a packet that were kept; 0: all.
    snaplen: u32,
    /// `if_tsresol`.
    resolution: u8,
    /// `if_tsoffset`: seconds to be added.
    offset: i64,
}

impl Interface {
    fn time(&self, units: u64) -> Duration {
        let units = u128::from(units) * 1_000_000_000;
        let exponent = u32::from(self.resolution & 0x7f);
        let nanos = if self.resolution & 0x80 == 0 {
            // So fine a unit that no number of them is a nanosecond.
            10u128.checked_pow(exponent).map_or(0, |per_second| units / per_second)
        } else {
            units >> exponent
        };
        let nanos = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let offset = Duration::from_secs(self.offset.unsigned_abs());
        if self.offset < 0 { nanos.saturating_sub(offset) } else { nanos.saturating_add(offset) }
    }
}

#[derive(Debug)]
enum Kind {
    Pcap { order: Order, ethernet: bool, frac_ns: u32 },
    Pcapng { order: Order, interfaces: Vec<Interface> },
}

/// A file being read.
pub(super) struct Source<R> {
    reader: R,
    /// Octets read.
    at: u64,
    /// Where the record or block being read begins.
    begin: u64,
    buf: Vec<u8>,
    kind: Kind,
}

const CUT: &str = "the file ends in the middle of it";

impl<R: Read> Source<R> {
    /// Reads the header.
    pub(super) fn new(reader: R) -> Result<Self, ReplayError> {
        let kind = Kind::Pcapng { order: Order::Big, interfaces: Vec::new() };
        let mut source = Self { reader, at: 0, begin: 0, buf: Vec::new(), kind };
        let what = "neither a pcap nor a pcapng file";
        let mut magic = [0; 4];
        if source.fill(&mut magic)? < magic.len() {
            return Err(source.malformed(what));
        }
        if u32::from_be_bytes(magic) == SECTION_HEADER {
            source.section_header()?;
        } else if let Some(order) = Order::of(magic, 0xa1b2_c3d4) {
            source.pcap_header(order, 1000)?;
        } else if let Some(order) = Order::of(magic, 0xa1b2_3c4d) {
            source.pcap_header(order, 1)?;
        } else {
            return Err(source.malformed(what));
        }
        Ok(source)
    }

    /// The next packet; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<Entry<'_>>, ReplayError> {
        self.begin = self.at;
        match self.kind {
            Kind::Pcap { order, ethernet, frac_ns } => self.next_pcap(order, ethernet, frac_ns),
            Kind::Pcapng { .. } => self.next_pcapng(),
        }
    }

    fn malformed(&self, what: &'static str) -> ReplayError {
        ReplayError::Malformed { at: self.begin, what }
    }

    /// Reads until `to` is full or the file at its end; how many octets.
    fn fill(&mut self, to: &mut [u8]) -> Result<usize, ReplayError> {
        let mut len = 0;
        while len < to.len() {
            match self.reader.read(&mut to[len..]) {
                Ok(0) => break,
                Ok(more) => len += more,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(ReplayError::Io { at: self.at + len as u64, source }),
            }
        }
        self.at += len as u64;
        Ok(len)
    }

    /// So many octets, which must be there.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ReplayError> {
        let mut octets = [0; N];
        match self.fill(&mut octets)? {
            len if len == N => Ok(octets),
            _ => Err(self.malformed(CUT)),
        }
    }

    /// The same, into the buffer; the caller has bounded `len`.
    fn body(&mut self, len: usize) -> Result<(), ReplayError> {
        let mut buf = std::mem::take(&mut self.buf);
        buf.resize(len, 0);
        let read = self.fill(&mut buf);
        self.buf = buf;
        if read? == len { Ok(()) } else { Err(self.malformed(CUT)) }
    }

    fn pcap_header(&mut self, order: Order, frac_ns: u32) -> Result<(), ReplayError> {
        let header: [u8; 20] = self.array()?;
        let [.., a, b, c, d] = header;
        // The high half has flags.
        let ethernet = order.u32([a, b, c, d]) as u16 == ETHERNET;
        self.kind = Kind::Pcap { order, ethernet, frac_ns };
        Ok(())
    }

    fn next_pcap(
        &mut self,
        order: Order,
        ethernet: bool,
        frac_ns: u32,
    ) -> Result<Option<Entry<'_>>, ReplayError> {
        let mut header = [0; 16];
        match self.fill(&mut header)? {
            0 => return Ok(None),
            16 => {}
            _ => return Err(self.malformed(CUT)),
        }
        let (words, _) = header.as_chunks();
        let [secs, frac, kept, whole] = [0, 1, 2, 3].map(|at| order.u32(words[at]));
        if kept as usize > MAX_FRAME_LEN {
            return Err(self.malformed("a packet longer than a wire carries"));
        }
        self.body(kept as usize)?;
        if !ethernet || kept < whole {
            return Ok(Some(Entry::Unfit));
        }
        let nanos = Duration::from_nanos(u64::from(frac) * u64::from(frac_ns));
        let time = Duration::from_secs(secs.into()).saturating_add(nanos);
        Ok(Some(Entry::Frame(&self.buf, Some(time))))
    }

    /// What follows a section header's type.
    fn section_header(&mut self) -> Result<(), ReplayError> {
        let len: [u8; 4] = self.array()?;
        let magic = self.array()?;
        let Some(order) = Order::of(magic, 0x1a2b_3c4d) else {
            return Err(self.malformed("a section header without its byte-order magic"));
        };
        let len = order.u32(len);
        let Some(rest) = (len as usize).checked_sub(16).filter(|rest| rest.is_multiple_of(4))
        else {
            return Err(self.malformed("a block of an impossible length"));
        };
        // Version and section length lie in the body's first 12 octets.
        if !(12..=MAX_BLOCK).contains(&rest) {
            return Err(self.malformed("a section header of an impossible length"));
        }
        self.body(rest)?;
        self.trailer(order, len)?;
        if order.u16([self.buf[0], self.buf[1]]) != 1 {
            return Err(self.malformed("a section of another version than 1"));
        }
        self.kind = Kind::Pcapng { order, interfaces: Vec::new() };
        Ok(())
    }

    fn trailer(&mut self, order: Order, len: u32) -> Result<(), ReplayError> {
        let again = order.u32(self.array()?);
        if again == len { Ok(()) } else { Err(self.malformed("a block whose two lengths differ")) }
    }

    fn next_pcapng(&mut self) -> Result<Option<Entry<'_>>, ReplayError> {
        loop {
            self.begin = self.at;
            let mut kind = [0; 4];
            match self.fill(&mut kind)? {
                0 => return Ok(None),
                4 => {}
                _ => return Err(self.malformed(CUT)),
            }
            let Kind::Pcapng { order, .. } = self.kind else { return Ok(None) };
            if u32::from_be_bytes(kind) == SECTION_HEADER {
                self.section_header()?;
                continue;
            }
            let len = order.u32(self.array()?);
            let body = (len as usize).checked_sub(12).filter(|body| body.is_multiple_of(4));
            let Some(body) = body else {
                return Err(self.malformed("a block of an impossible length"));
            };
            let kind = order.u32(kind);
            let known = [INTERFACE_DESCRIPTION, OBSOLETE_PACKET, SIMPLE_PACKET, ENHANCED_PACKET];
            if !known.contains(&kind) {
                self.skip(body)?;
                self.trailer(order, len)?;
                continue;
            }
            if body > MAX_BLOCK {
                return Err(self.malformed("a packet longer than a wire carries"));
            }
            self.body(body)?;
            self.trailer(order, len)?;
            if kind == INTERFACE_DESCRIPTION {
                self.interface(order)?;
                continue;
            }
            return self.packet(kind, order).map(Some);
        }
    }

    /// Passes over octets, however many.
    fn skip(&mut self, mut len: usize) -> Result<(), ReplayError> {
        while len > 0 {
            let now = len.min(MAX_BLOCK);
            self.body(now)?;
            len -= now;
        }
        Ok(())
    }

    fn interface(&mut self, order: Order) -> Result<(), ReplayError> {
        let Some(interface) = interface(&self.buf, order) else {
            return Err(self.malformed("an interface description that is cut short"));
        };
        let full = self.malformed("more interfaces than can be kept");
        let Kind::Pcapng { interfaces, .. } = &mut self.kind else { return Ok(()) };
        if interfaces.len() >= MAX_INTERFACES {
            return Err(full);
        }
        interfaces.push(interface);
        Ok(())
    }

    fn packet(&mut self, kind: u32, order: Order) -> Result<Entry<'_>, ReplayError> {
        let Kind::Pcapng { interfaces, .. } = &self.kind else { return Ok(Entry::Unfit) };
        let Some(packet) = packet(Fields { rest: &self.buf, order }, kind, interfaces) else {
            return Err(self.malformed("a packet that does not fit its block"));
        };
        let Some(interface) = interfaces.get(packet.interface) else {
            return Err(self.malformed("a packet of an interface that was not described"));
        };
        if packet.bytes.len() > MAX_FRAME_LEN {
            return Err(self.malformed("a packet longer than a wire carries"));
        }
        if !interface.ethernet || packet.bytes.len() < packet.whole as usize {
            return Ok(Entry::Unfit);
        }
        Ok(Entry::Frame(packet.bytes, packet.units.map(|units| interface.time(units))))
    }
}

fn interface(body: &[u8], order: Order) -> Option<Interface> {
    let mut fields = Fields { rest: body, order };
    let (link, _reserved, snaplen) = (fields.u16()?, fields.u16()?, fields.u32()?);
    let mut found = Interface { ethernet: link == ETHERNET, snaplen, resolution: 6, offset: 0 };
    while !fields.rest.is_empty() {
        let (code, len) = (fields.u16()?, usize::from(fields.u16()?));
        let value = fields.take(len.next_multiple_of(4))?.get(..len)?;
        match (code, value) {
            (0, _) => break,
            (9, [resolution]) => found.resolution = *resolution,
            (14, value) => {
                let halves = value.as_chunks().0;
                let [a, b] = halves else { continue };
                let (a, b) = (u64::from(order.u32(*a)), u64::from(order.u32(*b)));
                let seconds = match order {
                    Order::Big => a << 32 | b,
                    Order::Little => b << 32 | a,
                };
                found.offset = seconds.cast_signed();
            }
            _ => {}
        }
    }
    Some(found)
}

/// A packet's block.
struct Block<'a> {
    interface: usize,
    /// In the interface's units; a simple packet has none.
    units: Option<u64>,
    bytes: &'a [u8],
    /// How long it was on its wire.
    whole: u32,
}

fn packet<'a>(mut fields: Fields<'a>, kind: u32, interfaces: &[Interface]) -> Option<Block<'a>> {
    if kind == SIMPLE_PACKET {
        let whole = fields.u32()?;
        let snaplen = interfaces.first().map_or(0, |first| first.snaplen);
        let kept = if snaplen == 0 { whole } else { whole.min(snaplen) };
        let bytes = fields.take(kept as usize)?;
        return Some(Block { interface: 0, units: None, bytes, whole });
    }
    let interface = if kind == OBSOLETE_PACKET {
        let (interface, _drops) = (fields.u16()?, fields.u16()?);
        usize::from(interface)
    } else {
        fields.u32()? as usize
    };
    let units = u64::from(fields.u32()?) << 32 | u64::from(fields.u32()?);
    let (kept, whole) = (fields.u32()?, fields.u32()?);
    let bytes = fields.take(kept as usize)?;
    Some(Block { interface, units: Some(units), bytes, whole })
}
