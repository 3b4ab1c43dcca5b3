//! What a device does with a frame that leaves more to it: the sum, and the segments.
//!
//! Of the script's own: the stack's cutting is not asked. Key function: [`finish`].

use drivers::net::wire_port::{GsoType, VnetMeta};
use klib::checksum::{csum_fold, csum_partial, csum_tcpudp_nofold};

const ETH_HLEN: usize = 14;
const IHL: usize = 20;
const TCP: usize = ETH_HLEN + IHL;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// The frames that go onto the cable for one that the device was given.
pub(super) fn finish(frame: &[u8], vnet: Option<&VnetMeta>) -> Vec<Vec<u8>> {
    let Some(vnet) = vnet else { return vec![frame.to_vec()] };
    let (Some(start), GsoType::Tcpv4) = (vnet.csum_start, vnet.gso_type) else {
        return vec![summed(frame, vnet)];
    };
    let headers = usize::from(start) + usize::from(frame[usize::from(start) + 12] >> 4) * 4;
    let (header, payload) = frame.split_at(headers);
    let parts: Vec<&[u8]> = payload.chunks(usize::from(vnet.gso_size.max(1))).collect();
    let last = parts.len().saturating_sub(1);
    let mut before = 0;
    let mut segment = |(nth, part): (usize, &&[u8])| {
        let mut segment = [header, part].concat();
        let total = (segment.len() - ETH_HLEN) as u16;
        add16(&mut segment[ETH_HLEN + 4..], nth as u16);
        segment[ETH_HLEN + 2..ETH_HLEN + 4].copy_from_slice(&total.to_be_bytes());
        segment[ETH_HLEN + 10..ETH_HLEN + 12].fill(0);
        let sum = csum_fold(csum_partial(&segment[ETH_HLEN..TCP], 0));
        segment[ETH_HLEN + 10..ETH_HLEN + 12].copy_from_slice(&sum.to_be_bytes());
        let seq = u32::from_be_bytes([
            header[TCP + 4],
            header[TCP + 5],
            header[TCP + 6],
            header[TCP + 7],
        ]);
        segment[TCP + 4..TCP + 8].copy_from_slice(&seq.wrapping_add(before).to_be_bytes());
        before += part.len() as u32;
        if nth != last {
            segment[TCP + 13] &= !(FIN | PSH);
        }
        if nth != 0 {
            segment[TCP + 13] &= !CWR;
        }
        tcp_sum(&mut segment);
        segment
    };
    parts.iter().enumerate().map(&mut segment).collect()
}

fn add16(field: &mut [u8], more: u16) {
    let sum = u16::from_be_bytes([field[0], field[1]]).wrapping_add(more);
    field[..2].copy_from_slice(&sum.to_be_bytes());
}

fn tcp_sum(segment: &mut [u8]) {
    let word = |at: usize| {
        u32::from_be_bytes([segment[at], segment[at + 1], segment[at + 2], segment[at + 3]])
    };
    let (saddr, daddr) = (word(ETH_HLEN + 12), word(ETH_HLEN + 16));
    segment[TCP + 16..TCP + 18].fill(0);
    let len = (segment.len() - TCP) as u32;
    let sum = csum_partial(&segment[TCP..], csum_tcpudp_nofold(saddr, daddr, len, 6, 0));
    segment[TCP + 16..TCP + 18].copy_from_slice(&csum_fold(sum).to_be_bytes());
}

/// The sum over what lies from its start on goes where it belongs; the field has that over the pseudo header.
fn summed(frame: &[u8], vnet: &VnetMeta) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let Some(start) = vnet.csum_start.map(usize::from) else { return frame };
    let at = start + usize::from(vnet.csum_offset);
    let sum = match csum_fold(csum_partial(&frame[start..], 0)) {
        0 => 0xffff,
        sum => sum,
    };
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    frame
}
