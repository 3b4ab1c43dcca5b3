//! Transmit offloads: checksum insertion and segmentation.
//!
//! Source: the 82576 data sheet's sections "Transmit Context Descriptor", "TCP/UDP Segmentation" and "Checksum
//! Offloading". The L4 checksum field holds the pseudo header's sum when the frame arrives: with the length when one
//! frame is sent, without it when the frame is cut.

use drivers::net::ethernet::intel::igb::e1000_regs::*;
use drivers::net::wire_port::{FrameBatch, FrameMeta};

use super::checksum::{fold, sum};
use super::parse::be16;

/// Segments that one frame may be cut into.
const MAX_SEGMENTS: usize = 2048;
/// TCP flags that only the last segment keeps (FIN, PSH) and that only the first keeps (CWR).
const LAST_ONLY: u8 = 0x09;
const FIRST_ONLY: u8 = 0x80;

/// A context descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Context {
    pub(super) vlan: u16,
    mac_len: usize,
    ip_len: usize,
    l4_len: usize,
    mss: usize,
    ipv4: bool,
    l4_type: u32,
}

impl Context {
    /// Takes a context descriptor's two words apart.
    pub(super) fn new(lo: u64, hi: u64) -> Self {
        let (w0, w2, w3) = (lo as u32, hi as u32, (hi >> 32) as u32);
        Self {
            vlan: (w0 >> E1000_ADVTXD_VLAN_SHIFT) as u16,
            mac_len: (w0 >> E1000_ADVTXD_MACLEN_SHIFT & 0x7F) as usize,
            ip_len: (w0 & E1000_ADVTXD_IPLEN_MASK) as usize,
            l4_len: (w3 >> E1000_ADVTXD_L4LEN_SHIFT & 0xFF) as usize,
            mss: (w3 >> E1000_ADVTXD_MSS_SHIFT) as usize,
            ipv4: w2 & E1000_ADVTXD_TUCMD_IPV4 != 0,
            l4_type: w2 & (E1000_ADVTXD_TUCMD_L4T_TCP | E1000_ADVTXD_TUCMD_L4T_SCTP),
        }
    }

    /// A VLAN tag was inserted: what follows lies four bytes further on.
    pub(super) fn tagged(&mut self) {
        self.mac_len += 4;
    }

    /// Where the L4 header starts.
    fn l4_at(&self) -> usize {
        self.mac_len + self.ip_len
    }

    /// Offset of the checksum in the L4 header; SCTP's is none of this kind.
    fn checksum_at(&self) -> Option<usize> {
        match self.l4_type {
            E1000_ADVTXD_TUCMD_L4T_TCP => Some(16),
            E1000_ADVTXD_TUCMD_L4T_UDP => Some(6),
            _ => None,
        }
    }
}

/// Which checksums a data descriptor asks for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Insert {
    pub(super) ip: bool,
    pub(super) l4: bool,
}

/// Inserts the checksums into a whole frame; false when the context does not fit it.
pub(super) fn insert(frame: &mut [u8], cx: &Context, what: Insert) -> bool {
    (!what.ip || insert_ip(frame, cx)) && (!what.l4 || insert_l4(frame, cx, 0))
}

fn insert_ip(frame: &mut [u8], cx: &Context) -> bool {
    if !cx.ipv4 {
        return true;
    }
    let Some(header) = frame.get_mut(cx.mac_len..cx.l4_at()) else {
        return false;
    };
    if header.len() < 20 {
        return false;
    }
    header[10..12].fill(0);
    let value = !fold(sum(header));
    header[10..12].copy_from_slice(&value.to_be_bytes());
    true
}

/// Completes the L4 checksum; `extra` is what the pseudo header's sum lacks.
fn insert_l4(frame: &mut [u8], cx: &Context, extra: u32) -> bool {
    let (Some(body), Some(at)) = (frame.get_mut(cx.l4_at()..), cx.checksum_at()) else {
        return false;
    };
    let value = !fold(sum(body) + extra);
    let Some(field) = body.get_mut(at..at + 2) else {
        return false;
    };
    // A UDP checksum of 0 would mean that there is none.
    let value = if value == 0 && cx.l4_type == E1000_ADVTXD_TUCMD_L4T_UDP { 0xFFFF } else { value };
    field.copy_from_slice(&value.to_be_bytes());
    true
}

/// Cuts a frame into segments at the end of `out`. Returns how many; `None` when the context does not fit.
pub(super) fn segment(
    frame: &[u8],
    cx: &Context,
    what: Insert,
    meta: FrameMeta,
    out: &mut FrameBatch,
) -> Option<usize> {
    let headers = cx.l4_at() + cx.l4_len;
    let minimum = if cx.l4_type == E1000_ADVTXD_TUCMD_L4T_TCP { 20 } else { 8 };
    let ip_minimum = if cx.ipv4 { 20 } else { 40 };
    cx.checksum_at()?;
    if frame.len() < headers || cx.l4_len < minimum || cx.ip_len < ip_minimum || cx.mss == 0 {
        return None;
    }
    let payload = &frame[headers..];
    let count = payload.len().div_ceil(cx.mss).max(1);
    if count > MAX_SEGMENTS || headers + cx.mss.min(payload.len()) > 0xFFFF {
        return None;
    }
    let mut sent = 0;
    for n in 0..count {
        let at = n * cx.mss;
        let part = &payload[at..payload.len().min(at + cx.mss)];
        let place = Place { n, at, last: n + 1 == count };
        sent += usize::from(out.push_with((headers + part.len()).max(60), meta, |to| {
            let (whole, pad) = to.split_at_mut(headers + part.len());
            pad.fill(0);
            whole[..headers].copy_from_slice(&frame[..headers]);
            whole[headers..].copy_from_slice(part);
            edit_headers(whole, cx, &place);
            (!what.ip || insert_ip(whole, cx))
                && (!what.l4 || insert_l4(whole, cx, (whole.len() - cx.l4_at()) as u32))
        }));
    }
    Some(sent)
}

/// Which segment of the frame it is.
struct Place {
    n: usize,
    /// Offset of its payload.
    at: usize,
    last: bool,
}

/// Sets what differs from segment to segment. The caller has checked that the headers are there.
fn edit_headers(segment: &mut [u8], cx: &Context, place: &Place) {
    let (ip, l4) = (cx.mac_len, cx.l4_at());
    let put16 = |s: &mut [u8], at: usize, value: usize| {
        s[at..at + 2].copy_from_slice(&(value as u16).to_be_bytes())
    };
    let len = segment.len();
    if cx.ipv4 {
        put16(segment, ip + 2, len - ip);
        let id = be16(segment, ip + 4).unwrap_or(0);
        put16(segment, ip + 4, usize::from(id.wrapping_add(place.n as u16)));
    } else {
        put16(segment, ip + 4, len - ip - 40);
    }
    if cx.l4_type == E1000_ADVTXD_TUCMD_L4T_TCP {
        let seq = u32::from_be_bytes([
            segment[l4 + 4],
            segment[l4 + 5],
            segment[l4 + 6],
            segment[l4 + 7],
        ]);
        segment[l4 + 4..l4 + 8].copy_from_slice(&seq.wrapping_add(place.at as u32).to_be_bytes());
        if !place.last {
            segment[l4 + 13] &= !LAST_ONLY;
        }
        if place.n != 0 {
            segment[l4 + 13] &= !FIRST_ONLY;
        }
    } else {
        put16(segment, l4 + 4, len - l4);
    }
}
