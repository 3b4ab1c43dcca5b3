//! The measured end as a bare loop on the TAP, with frames of many segments: it reads them, or writes the same one
//! again and again, and does nothing else. No stack over a TAP can do better.

use super::{HOST, OUR_MAC, OURS, PORT, Run, Way};
use crate::bench::figure::{SILENCE, Sample, flow};
use crate::bench::{BenchError, system};
use drivers::net::virtio_net::VNET_HDR_LEN;
use host::netns::{Beside, bind_thread};
use host::socket::udp_segment;
use host::tap::{MAX_READ, Tap};
use host::wait::{Token, Trigger, Waiter};
use klib::checksum::{csum_fold, csum_tcpudp_nofold, ip_fast_csum};
use std::io::IoSlice;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use uapi::if_ether::{ETH_HLEN, ETH_P_IP};
use uapi::ip::IPPROTO_TCP;
use uapi::virtio_net::{
    VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_NONE, VIRTIO_NET_HDR_GSO_TCPV4,
};

/// Octets of payload of a segment, and segments of a frame.
pub(super) const SEGMENT: usize = 1448;
const SEGMENTS: usize = 44;
pub(super) const PAYLOAD: usize = SEGMENT * SEGMENTS;
/// Where a frame's TCP header is.
pub(super) const TCP_AT: usize = VNET_HDR_LEN + ETH_HLEN + 20;
const HEADERS: usize = TCP_AT + 20;
/// An address that the host does not have and leads nowhere: it drops what is for it at once (RFC 5737).
const NOBODY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

pub(super) fn measure(run: &Run, way: Way, tap: &Tap) -> Result<Sample, BenchError> {
    run.seats.settle()?;
    match way {
        Way::Out => {
            let mac = tap.mac().map_err(system("the TAP's link address"))?;
            let frame = frame(mac, NOBODY, PAYLOAD, &[]);
            flow(run.time, || {
                tap.write_frame(&[IoSlice::new(&frame)]).map_err(system("writing to the TAP"))?;
                Ok(frame.len() - HEADERS)
            })
        }
        Way::In => {
            let _flood = Flood::start(run)?;
            let waiter = Waiter::new().map_err(system("a place to wait"))?;
            waiter.add(tap, Token(0), Trigger::Level).map_err(system("waiting for the TAP"))?;
            let mut buf = vec![0; MAX_READ];
            flow(run.time, || {
                match tap.read_frame(&mut buf).map_err(system("reading the TAP"))? {
                    Some(len) => Ok(len.saturating_sub(HEADERS)),
                    None => {
                        let waited = waiter.wait(Some(SILENCE));
                        let mut events = waited.map_err(system("waiting for the TAP"))?;
                        events.next().map_or(Err(BenchError::Silence("the TAP")), |_| Ok(0))
                    }
                }
            })
        }
    }
}

/// The host sends datagrams of many segments, until it is dropped. They are not TCP's, which would want answers;
/// what goes through the TAP is the same.
struct Flood {
    stop: Arc<AtomicBool>,
    _thread: Beside,
}

impl Flood {
    fn start(run: &Run) -> Result<Self, BenchError> {
        let failed = system("the host's socket");
        let socket = UdpSocket::bind((HOST, 0)).map_err(&failed)?;
        socket.connect((OURS, PORT)).map_err(&failed)?;
        udp_segment(&socket, SEGMENT as u16).map_err(system("segments of datagrams"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, there) = (Arc::clone(&stop), run.seats.there);
        let thread = Beside::start(move || {
            // Where it is refused the numbers tell.
            let _ = bind_thread(there);
            let data = vec![0; PAYLOAD];
            while !flag.load(Ordering::Relaxed) {
                if socket.send(&data).is_err() {
                    Beside::make_way();
                }
            }
        });
        Ok(Self { stop, _thread: thread.map_err(system("the host's end"))? })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// A frame of one or many segments for `to` on the host, or on nobody.
pub(super) fn frame(host: [u8; 6], to: Ipv4Addr, payload: usize, options: &[u8]) -> Vec<u8> {
    let tcp_len = 20 + options.len();
    let gso = if payload > SEGMENT { VIRTIO_NET_HDR_GSO_TCPV4 } else { VIRTIO_NET_HDR_GSO_NONE };
    let mut frame = vec![VIRTIO_NET_HDR_F_NEEDS_CSUM, gso];
    // Its headers' length, a segment's, where the sum begins, where it goes; and the count of buffers.
    let lens = [ETH_HLEN + 20 + tcp_len, SEGMENT, ETH_HLEN + 20, 16, 0];
    lens.iter().for_each(|len| frame.extend((*len as u16).to_le_bytes()));
    frame.extend(host);
    frame.extend(OUR_MAC);
    frame.extend(ETH_P_IP.to_be_bytes());
    let ip = frame.len();
    let total = 20 + tcp_len + payload;
    frame.extend([0x45, 0]);
    frame.extend((total as u16).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, IPPROTO_TCP, 0, 0]);
    frame.extend(OURS.octets());
    frame.extend(to.octets());
    let sum = ip_fast_csum(&frame[ip..]);
    frame[ip + 10..ip + 12].copy_from_slice(&sum.to_be_bytes());
    frame.extend([PORT.to_be_bytes(), PORT.to_be_bytes()].concat());
    // Numbers, the header's length with ACK, a window; the addresses' sum, which a device adds the rest to.
    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, (tcp_len as u8 / 4) << 4, 0x10, 0xff, 0xff]);
    let (from, to) = (OURS.to_bits(), to.to_bits());
    let len = (tcp_len + payload) as u32;
    let addresses = !csum_fold(csum_tcpudp_nofold(from, to, len, IPPROTO_TCP, 0));
    frame.extend(addresses.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(options);
    frame.resize(frame.len() + payload, 0);
    frame
}
