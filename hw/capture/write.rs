//! Writing pcapng: Ethernet interfaces, packets with direction and comment, statistics.

use klib::checksum::{csum_fold, csum_partial};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::{DataLink, Endianness, PcapError};
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

/// Octets of a packet's comment at most; the format measures it in 16 bits.
pub const LONGEST_COMMENT: usize = 60_000;

/// `if_tsresol`: decimal digits of a second.
const NANOSECONDS: u8 = 9;

/// Which way a packet passed its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// It came in.
    In,
    /// It went out.
    Out,
}

impl Direction {
    /// `epb_flags`.
    fn flags(self) -> u32 {
        match self {
            Self::In => 1,
            Self::Out => 2,
        }
    }
}

/// A packet to be written.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// What [`CaptureWriter::interface`] returned.
    pub interface: u32,
    /// Time since 1970.
    pub time: Duration,
    /// Its direction.
    pub direction: Direction,
    /// From the Ethernet header on.
    pub bytes: &'a [u8],
    /// Octets in all, if not all are here.
    pub len: usize,
    /// What to say about it; cut to [`LONGEST_COMMENT`].
    pub comment: Option<&'a str>,
}

/// What was counted at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// When the capture began, since 1970.
    pub start: Duration,
    /// When it ended.
    pub end: Duration,
    /// Packets that passed.
    pub received: u64,
    /// Of these, not in the file for want of room.
    pub dropped: u64,
}

/// Writes a pcapng file, block by block; each call writes one block.
pub struct CaptureWriter<W: Write>(PcapNgWriter<W>);

impl<W: Write> CaptureWriter<W> {
    /// Begins a file.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn new(out: W) -> io::Result<Self> {
        // Not the machine's own order: the same packets give the same file everywhere.
        PcapNgWriter::with_endianness(out, Endianness::Little).map(Self).map_err(plain)
    }

    /// Describes an Ethernet interface with times in nanoseconds; its number.
    ///
    /// # Errors
    /// Those of the file.
    pub fn interface(&mut self, name: &str) -> io::Result<u32> {
        let number = self.0.interfaces().len() as u32;
        let mut block = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 0);
        block.options = vec![
            InterfaceDescriptionOption::IfName(name.to_owned().into()),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ];
        self.0.write_pcapng_block(block).map_err(plain)?;
        Ok(number)
    }

    /// Writes a packet.
    ///
    /// # Errors
    /// Those of the file; an interface that was not described.
    pub fn packet(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let comment = packet.comment.map(|text| {
            let end = text.floor_char_boundary(LONGEST_COMMENT);
            EnhancedPacketOption::Comment(text[..end].into())
        });
        let flags = EnhancedPacketOption::Flags(packet.direction.flags());
        let block = EnhancedPacketBlock {
            interface_id: packet.interface,
            timestamp: packet.time,
            original_len: packet.len.max(packet.bytes.len()) as u32,
            data: packet.bytes.into(),
            options: comment.into_iter().chain([flags]).collect(),
        };
        self.0.write_pcapng_block(block).map_err(plain)?;
        Ok(())
    }

    /// Writes what was counted at an interface.
    ///
    /// # Errors
    /// Those of the file; an interface that was not described.
    pub fn statistics(&mut self, interface: u32, counted: &Statistics) -> io::Result<()> {
        let block = InterfaceStatisticsBlock {
            interface_id: interface,
            timestamp: high_half_first(counted.end),
            options: vec![
                InterfaceStatisticsOption::IsbStartTime(high_half_first(counted.start)),
                InterfaceStatisticsOption::IsbEndTime(high_half_first(counted.end)),
                InterfaceStatisticsOption::IsbIfRecv(counted.received),
                InterfaceStatisticsOption::IsbIfDrop(counted.dropped),
            ],
        };
        self.0.write_pcapng_block(block).map_err(plain)?;
        Ok(())
    }

    /// What is written to.
    pub fn get_mut(&mut self) -> &mut W {
        self.0.get_mut()
    }

    /// Gives it back.
    pub fn into_inner(self) -> W {
        self.0.into_inner()
    }
}

/// A time in statistics is two halves, the high one first, where the library writes one number of 64 bits: in a
/// little-endian file the halves have to change places before.
fn high_half_first(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).rotate_left(32)
}

fn plain(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

impl<W: Write> fmt::Debug for CaptureWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CaptureWriter({} interfaces)", self.0.interfaces().len())
    }
}

/// Completes a checksum that its sender left to the device: the sum from `start` on goes `offset` octets behind it.
/// False, and the frame as before, when that lies outside of it.
#[must_use]
pub fn fill_checksum(frame: &mut [u8], start: usize, offset: usize) -> bool {
    let Some(summed) = frame.get_mut(start..) else { return false };
    let sum = match csum_fold(csum_partial(summed, 0)) {
        // RFC 768: a computed zero is sent as all ones. No other protocol minds.
        0 => 0xffff,
        sum => sum,
    };
    let field = offset.checked_add(2).and_then(|end| summed.get_mut(offset..end));
    field.map(|field| field.copy_from_slice(&sum.to_be_bytes())).is_some()
}
