//! What a device does with a frame that leaves more to it: the sum, and the segments.
//!
//! Of the runner's own: the stack's cutting is not asked. Key function: [`finish`].

use drivers::net::wire_port::{GsoType, VnetMeta};
use klib::checksum::{csum_fold, csum_partial, csum_tcpudp_nofold, ip_fast_csum};
use uapi::ip::IpHdr;
use uapi::tcp::{TCPHDR_CWR, TCPHDR_FIN, TCPHDR_PSH, TcpHdr};
use zerocopy::FromBytes;

const ETH_HLEN: usize = 14;

/// The frames that go onto the cable for one that the device was given.
pub(super) fn finish(frame: &[u8], vnet: Option<&VnetMeta>) -> Vec<Vec<u8>> {
    let cut = match vnet {
        Some(vnet) if vnet.gso_type == GsoType::Tcpv4 => segments(frame, vnet),
        Some(vnet) => summed(frame, vnet).map(|frame| vec![frame]),
        None => None,
    };
    cut.unwrap_or_else(|| vec![frame.to_vec()])
}

/// The segments of a frame of many; `None`: it is none.
fn segments(frame: &[u8], vnet: &VnetMeta) -> Option<Vec<Vec<u8>>> {
    let tcp = usize::from(vnet.csum_start?);
    let (th, _) = TcpHdr::ref_from_prefix(frame.get(tcp..)?).ok()?;
    let (header, payload) = frame.split_at_checked(tcp + th.doff())?;
    let size = usize::from(vnet.gso_size.max(1));
    let count = payload.len().div_ceil(size);
    let segment = |(nth, data): (usize, &[u8])| {
        let mut segment = [header, data].concat();
        let ulen = segment.len() - tcp;
        let (ip, transport) = segment.split_at_mut_checked(tcp)?;
        let ip = ip.get_mut(ETH_HLEN..)?;
        let (iph, _) = IpHdr::mut_from_prefix(ip).ok()?;
        iph.tot_len.set((tcp - ETH_HLEN + ulen) as u16);
        iph.id.set(iph.id.get().wrapping_add(nth as u16));
        iph.check.set(0);
        let pseudo =
            csum_tcpudp_nofold(iph.saddr.get(), iph.daddr.get(), ulen as u32, iph.protocol, 0);
        let sum = ip_fast_csum(ip);
        IpHdr::mut_from_prefix(ip).ok()?.0.check.set(sum);
        let (th, _) = TcpHdr::mut_from_prefix(transport).ok()?;
        th.seq.set(th.seq.get().wrapping_add((nth * size) as u32));
        if nth + 1 != count {
            th.flags &= !(TCPHDR_FIN | TCPHDR_PSH);
        }
        if nth != 0 {
            th.flags &= !TCPHDR_CWR;
        }
        th.check.set(0);
        let sum = csum_fold(csum_partial(transport, pseudo));
        TcpHdr::mut_from_prefix(transport).ok()?.0.check.set(sum);
        Some(segment)
    };
    payload.chunks(size).enumerate().map(segment).collect()
}

/// The sum over what lies from its start on goes where it belongs; the field has that over the pseudo header.
fn summed(frame: &[u8], vnet: &VnetMeta) -> Option<Vec<u8>> {
    let start = usize::from(vnet.csum_start?);
    let sum = match csum_fold(csum_partial(frame.get(start..)?, 0)) {
        0 => 0xffff,
        sum => sum,
    };
    let mut frame = frame.to_vec();
    let at = start + usize::from(vnet.csum_offset);
    frame.get_mut(at..at + 2)?.copy_from_slice(&sum.to_be_bytes());
    Some(frame)
}
