//! Receiving: filters, checksum checks, RSS, and frames into memory.
//!
//! Sources: the 82576 data sheet's sections "Receive Functionality", "Receive Descriptors" and "Receive Packet Checksum
//! Off Loading".
//! Invariants: a frame is put into memory as a whole or not at all; its descriptors are written back in order, each
//! after its data; status and length of a descriptor appear together.

use drivers::net::ethernet::intel::igb::e1000_regs::*;
use drivers::net::wire_port::FrameBatch;
use drivers::pci::{DmaSpace, Iotlb};

use super::checksum::{fold, sum};
use super::filter::Verdict;
use super::irq::Cause;
use super::parse::{Headers, L3, L4, be16, headers, vlan_tag};
use super::ring::Ring;
use super::rss::toeplitz;
use super::state::State;
use super::stats::Direction;

/// Shortest frame of Ethernet, without CRC.
const MIN_FRAME: usize = 60;
/// Ethernet header.
const MIN_HEADER: usize = 14;

/// One receive queue.
pub(super) struct RxQueue {
    pub(super) ring: Ring,
    srrctl: u32,
    /// Frames dropped for want of a descriptor; clears on read.
    rqdpc: u32,
    buffers: Iotlb,
}

impl RxQueue {
    pub(super) fn new(n: usize) -> Self {
        Self { ring: Ring::new(n), srrctl: 0, rqdpc: 0, buffers: Iotlb::default() }
    }

    pub(super) fn read(&mut self, reg: u32) -> u32 {
        match reg {
            E1000_Q_SRRCTL => self.srrctl,
            E1000_Q_RQDPC => std::mem::take(&mut self.rqdpc),
            reg => self.ring.read(reg),
        }
    }

    pub(super) fn write(&mut self, reg: u32, value: u32) {
        match reg {
            E1000_Q_SRRCTL => self.srrctl = value,
            E1000_Q_RQDPC => {}
            reg => self.ring.write(reg, value),
        }
    }

    fn drops(&self) -> bool {
        self.srrctl & E1000_SRRCTL_DROP_EN != 0
    }

    /// Size of a buffer; `RCTL` says it when `SRRCTL` does not.
    fn buffer_size(&self, rctl: u32) -> usize {
        match self.srrctl & E1000_SRRCTL_BSIZEPKT_MASK {
            0 => 2048 >> (rctl >> E1000_RCTL_SZ_SHIFT & 3),
            kib => kib as usize * 1024,
        }
    }

    fn legacy(&self) -> bool {
        self.srrctl & E1000_SRRCTL_DESCTYPE_MASK == 0
    }
}

/// What the write-back says of a frame.
#[derive(Default)]
struct Report {
    /// RSS type and packet type.
    info: u32,
    hash: u32,
    /// Status and errors, without DD and EOP.
    status: u32,
    vlan: u16,
}

/// Where a frame went.
enum Fate {
    /// Away: into memory or dropped.
    Gone,
    /// It waits for descriptors.
    Waits,
}

impl State {
    /// Takes frames from the front of `fifo` as far as there are descriptors, then drops what exceeds the packet
    /// buffer.
    pub(super) fn receive(&mut self, space: &DmaSpace, tracing: bool, fifo: &mut FrameBatch) {
        let mut done = 0;
        let mut stalled = false;
        while let Some((frame, meta)) = fifo.get(done) {
            let id = tracing.then_some(meta.packet_id);
            match self.receive_frame(space, frame, id) {
                Fate::Gone => {
                    done += 1;
                    self.rx_stalled = false;
                }
                Fate::Waits => {
                    stalled = true;
                    break;
                }
            }
        }
        fifo.drop_front(done);
        if stalled && !self.rx_stalled {
            // Counted once for the frame at the front.
            self.stats.inc(E1000_RNBC);
        }
        self.rx_stalled = stalled;
        let room = (self.get(E1000_RXPBS) as usize & 0x7F).max(1) * 1024;
        let missed = fifo.truncate_bytes(room);
        if missed != 0 {
            self.stats.add(E1000_MPC, missed as u32);
            self.irq.other_cause(E1000_ICR_RXO);
        }
    }

    fn receive_frame(&mut self, space: &DmaSpace, frame: &[u8], id: Option<u64>) -> Fate {
        let rctl = self.get(E1000_RCTL);
        if rctl & E1000_RCTL_EN == 0 || !self.link() || !self.config.master() {
            self.counters.rx_disabled += 1;
            return Fate::Gone;
        }
        if frame.len() < MIN_HEADER {
            self.stats.inc(E1000_RUC);
            return Fate::Gone;
        }
        // Senders that are no NICs do not pad; the medium has no shorter frames.
        let mut padded = [0; MIN_FRAME];
        let frame = if frame.len() < MIN_FRAME {
            padded[..frame.len()].copy_from_slice(frame);
            &padded[..]
        } else {
            frame
        };
        let tag = vlan_tag(frame, self.get(E1000_VET) as u16);
        let inexact = match self.filter(frame, tag) {
            Verdict::Pass => false,
            Verdict::Inexact => true,
            Verdict::Drop => {
                self.counters.rx_filtered += 1;
                self.stats.seen_frame(frame);
                return Fate::Gone;
            }
            Verdict::Oversized => {
                self.stats.inc(E1000_ROC);
                self.stats.seen_frame(frame);
                return Fate::Gone;
            }
        };
        let found = headers(frame, tag);
        let mut report = self.check(frame, &found);
        if inexact {
            report.status |= E1000_RXD_STAT_PIF;
        }
        let queue = self.steer(frame, &found, &mut report);
        self.store(space, queue, Stored { frame, tag, report }, id)
    }

    /// Checks checksums and names the packet's type.
    fn check(&self, frame: &[u8], h: &Headers) -> Report {
        let rxcsum = self.get(E1000_RXCSUM);
        let mut r = Report::default();
        match h.l3 {
            L3::None => return r,
            L3::V4 { header } => {
                r.info |= E1000_RXDADV_PKTTYPE_IPV4;
                if header > 20 {
                    r.info |= E1000_RXDADV_PKTTYPE_IPV4_EX;
                }
                if rxcsum & E1000_RXCSUM_IPOFL != 0 {
                    r.status |= E1000_RXD_STAT_IPCS;
                    if sum(&frame[h.l3_at..h.l3_at + header]) != 0xFFFF {
                        r.status |= E1000_RXDEXT_STATERR_IPE;
                    }
                }
            }
            L3::V6 => r.info |= E1000_RXDADV_PKTTYPE_IPV6,
            L3::V6Ext => r.info |= E1000_RXDADV_PKTTYPE_IPV6 | E1000_RXDADV_PKTTYPE_IPV6_EX,
        }
        let (protocol, kind, checked) = match h.l4 {
            L4::None => return r,
            L4::Tcp => (6, E1000_RXDADV_PKTTYPE_TCP, E1000_RXD_STAT_TCPCS),
            L4::Udp => (17, E1000_RXDADV_PKTTYPE_UDP, E1000_RXD_STAT_TCPCS | E1000_RXD_STAT_UDPCS),
        };
        r.info |= kind;
        // UDP without a checksum is not checked.
        let absent = h.l4 == L4::Udp && be16(frame, h.l4_at + 6) == Some(0);
        if rxcsum & E1000_RXCSUM_TUOFL != 0 && !absent {
            let body = &frame[h.l4_at..h.end];
            let total = sum(addresses(frame, h)) + protocol + body.len() as u32 + sum(body);
            r.status |= checked;
            if fold(total) != 0xFFFF {
                r.status |= E1000_RXDEXT_STATERR_L4E;
            }
        }
        r
    }

    /// Chooses the queue, by RSS when it is on.
    fn steer(&self, frame: &[u8], h: &Headers, r: &mut Report) -> usize {
        let mrqc = self.get(E1000_MRQC);
        if mrqc & E1000_MRQC_ENABLE_MASK != E1000_MRQC_ENABLE_RSS_4Q {
            return 0;
        }
        let choices = match h.l3 {
            L3::None | L3::V6Ext => return 0,
            L3::V4 { .. } => [
                (L4::Tcp, E1000_MRQC_RSS_FIELD_IPV4_TCP, E1000_RXDADV_RSSTYPE_IPV4_TCP),
                (L4::Udp, E1000_MRQC_RSS_FIELD_IPV4_UDP, E1000_RXDADV_RSSTYPE_IPV4_UDP),
                (L4::None, E1000_MRQC_RSS_FIELD_IPV4, E1000_RXDADV_RSSTYPE_IPV4),
            ],
            L3::V6 => [
                (L4::Tcp, E1000_MRQC_RSS_FIELD_IPV6_TCP, E1000_RXDADV_RSSTYPE_IPV6_TCP),
                (L4::Udp, E1000_MRQC_RSS_FIELD_IPV6_UDP, E1000_RXDADV_RSSTYPE_IPV6_UDP),
                (L4::None, E1000_MRQC_RSS_FIELD_IPV6, E1000_RXDADV_RSSTYPE_IPV6),
            ],
        };
        let Some((l4, _, kind)) = choices
            .into_iter()
            .find(|&(l4, field, _)| mrqc & field != 0 && (l4 == L4::None || l4 == h.l4))
        else {
            return 0;
        };
        let addresses = addresses(frame, h);
        let mut input = [0; 36];
        input[..addresses.len()].copy_from_slice(addresses);
        let mut len = addresses.len();
        if l4 != L4::None
            && let Some(ports) = frame.get(h.l4_at..h.l4_at + 4)
        {
            input[len..len + 4].copy_from_slice(ports);
            len += 4;
        }
        let hash = toeplitz(&self.rss_key(), &input[..len]);
        r.info |= kind;
        r.hash = hash;
        let entry = hash % E1000_RETA_ENTRIES as u32;
        let queue = self.get(E1000_RETA(entry >> 2)) >> (8 * (entry & 3));
        queue as usize % E1000_QUEUES
    }

    fn rss_key(&self) -> [u8; E1000_RSSRK_BYTES] {
        let mut key = [0; E1000_RSSRK_BYTES];
        for (n, bytes) in key.chunks_exact_mut(4).enumerate() {
            bytes.copy_from_slice(&self.get(E1000_RSSRK(n as u32)).to_le_bytes());
        }
        key
    }

    /// Puts a frame into a queue's buffers.
    fn store(
        &mut self,
        space: &DmaSpace,
        queue: usize,
        mut what: Stored<'_>,
        id: Option<u64>,
    ) -> Fate {
        let (rctl, vme) = (self.get(E1000_RCTL), self.get(E1000_CTRL) & E1000_CTRL_VME != 0);
        let pcsd = self.get(E1000_RXCSUM) & E1000_RXCSUM_PCSD != 0;
        if !pcsd {
            what.report.hash = 0;
        }
        let strip = what.tag.filter(|_| vme);
        if let Some(tag) = strip {
            what.report.vlan = tag;
            what.report.status |= E1000_RXD_STAT_VP;
        }
        let q = &mut self.rx[queue];
        if !q.ring.enabled() {
            self.counters.rx_disabled += 1;
            return Fate::Gone;
        }
        let len = what.frame.len() - if strip.is_some() { 4 } else { 0 };
        let needed = len.div_ceil(q.buffer_size(rctl));
        if needed >= q.ring.count() as usize {
            // It never fits: waiting would block everything behind it.
            self.counters.rx_disabled += 1;
            return Fate::Gone;
        }
        if (q.ring.available() as usize) < needed {
            if !q.ring.sane() {
                self.counters.ring_faults += 1;
            }
            if q.drops() {
                q.rqdpc = q.rqdpc.saturating_add(1);
                self.stats.inc(E1000_RNBC);
                return Fate::Gone;
            }
            return Fate::Waits;
        }
        let first = q.write_frame(
            space,
            &what,
            Cut { strip: strip.is_some(), len, size: q.buffer_size(rctl) },
        );
        if let (Some(id), Some(addr)) = (id, first) {
            self.rx_ids.insert(addr, id);
        }
        self.stats.good_frame(Direction::Received, what.frame);
        self.irq.queue_cause(Cause::Rx(queue));
        Fate::Gone
    }
}

/// A frame on its way to memory.
struct Stored<'a> {
    frame: &'a [u8],
    tag: Option<u16>,
    report: Report,
}

/// How a frame is cut into buffers.
struct Cut {
    strip: bool,
    /// Length as stored.
    len: usize,
    /// Size of a buffer.
    size: usize,
}

impl RxQueue {
    /// Writes data and descriptors; returns the first buffer's address. The caller has seen that there are enough.
    fn write_frame(&mut self, space: &DmaSpace, what: &Stored<'_>, cut: Cut) -> Option<u64> {
        let mut first = None;
        let mut at = 0;
        while at < cut.len {
            let n = (cut.len - at).min(cut.size);
            let last = at + n == cut.len;
            let legacy = self.legacy();
            let (mem, desc) = self.ring.desc(space)?;
            let addr = mem.read64(desc);
            first.get_or_insert(addr);
            let mut status = E1000_RXD_STAT_DD;
            if last {
                status |= E1000_RXD_STAT_EOP | what.report.status;
            }
            if !write_data(&mut self.buffers, space, addr, (what.frame, at, n, cut.strip)) {
                status |= E1000_RXDEXT_STATERR_RXE;
            }
            let vlan = if last { u64::from(what.report.vlan) } else { 0 };
            if legacy {
                let errors = u64::from(status >> 24) << 40;
                mem.write64_release(
                    desc + 8,
                    vlan << 48 | errors | u64::from(status & 0xFF) << 32 | n as u64,
                );
            } else {
                let (info, hash) = if last { (what.report.info, what.report.hash) } else { (0, 0) };
                mem.write64(desc, u64::from(hash) << 32 | u64::from(info));
                mem.write64_release(desc + 8, vlan << 48 | (n as u64) << 32 | u64::from(status));
            }
            self.ring.step();
            at += n;
        }
        first
    }
}

/// Copies `n` bytes of a frame, from `at` on as counted without a stripped tag, to a bus address.
fn write_data(
    tlb: &mut Iotlb,
    space: &DmaSpace,
    addr: u64,
    part: (&[u8], usize, usize, bool),
) -> bool {
    let (frame, at, n, strip) = part;
    let Some((mem, offset)) = tlb.get(space, addr, n) else {
        return false;
    };
    if !strip {
        return mem.write_bytes(offset, &frame[at..at + n]).is_ok();
    }
    // The tag's four bytes follow the two addresses.
    let head = 12usize.saturating_sub(at).min(n);
    let tail = at.max(12) + 4;
    mem.write_bytes(offset, &frame[at..at + head]).is_ok()
        && mem.write_bytes(offset + head, &frame[tail..tail + n - head]).is_ok()
}

/// Source and destination address of an IP packet.
fn addresses<'a>(frame: &'a [u8], h: &Headers) -> &'a [u8] {
    let range = match h.l3 {
        L3::V4 { .. } => h.l3_at + 12..h.l3_at + 20,
        _ => h.l3_at + 8..h.l3_at + 40,
    };
    frame.get(range).unwrap_or_default()
}
