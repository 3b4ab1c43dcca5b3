//! Frames of one's own making, sent out of a device of the host past its stack.
//!
//! linux: net/packet/af_packet.c (its user side). Key type: [`FrameSender`]. Contexts: any thread.

use rustix::net::netdevice::name_to_index;
use rustix::net::{
    AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, sendmmsg,
    socket_with,
};
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};

/// Sends Ethernet frames out of one device; receives none. They go to its driver at once, in no queue.
#[derive(Debug)]
pub struct FrameSender(OwnedFd);

impl FrameSender {
    /// For the device of that name in the calling thread's namespace.
    ///
    /// # Errors
    /// The system's: ENODEV without such a device, EPERM without the right to raw sockets.
    pub fn open(device: &str) -> io::Result<Self> {
        // Of no protocol: nothing is received.
        let (family, kind) = (AddressFamily::PACKET, SocketType::RAW);
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        let index = name_to_index(&socket, device)?;
        let addr = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: index as i32,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let on: libc::c_int = 1;
        // SAFETY: both pointers name values as large as said, which outlive the calls, and which these only read.
        let results = unsafe {
            [
                libc::bind(
                    socket.as_raw_fd(),
                    std::ptr::from_ref(&addr).cast(),
                    size_of_val(&addr) as libc::socklen_t,
                ),
                libc::setsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_PACKET,
                    libc::PACKET_QDISC_BYPASS,
                    std::ptr::from_ref(&on).cast(),
                    size_of_val(&on) as libc::socklen_t,
                ),
            ]
        };
        if results == [0, 0] { Ok(Self(socket)) } else { Err(io::Error::last_os_error()) }
    }

    /// Sends frames, 64 a call; how many the system took. What the driver has no room for is lost.
    ///
    /// # Errors
    /// The system's: ENETDOWN for a device that is down, ENOBUFS when the first frame found no room.
    pub fn send(&self, frames: &[impl AsRef<[u8]>]) -> io::Result<usize> {
        let mut sent = 0;
        for some in frames.chunks(64) {
            let parts: Vec<_> = some.iter().map(|frame| [IoSlice::new(frame.as_ref())]).collect();
            let mut controls: Vec<_> =
                some.iter().map(|_| SendAncillaryBuffer::default()).collect();
            let each = parts.iter().zip(&mut controls);
            let mut messages: Vec<_> =
                each.map(|(parts, control)| MMsgHdr::new(parts, control)).collect();
            sent += sendmmsg(&self.0, &mut messages, SendFlags::empty())?;
        }
        Ok(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::in_own_netns;
    use crate::tap::{Tap, TapOptions, VNET_HDR_LEN};
    use crate::testing::{Need, need};
    use crate::wait::{Token, Trigger, Waiter};
    use std::time::Duration;

    #[test]
    fn frames_come_out_of_the_device_as_they_were_made() {
        if !need(Need::Root) || !need(Need::Tool("ip")) {
            return;
        }
        let run = |ns: &crate::netns::NetNs| {
            let tap = Tap::open("nkframes", TapOptions::default()).unwrap();
            ns.ip("link set nkframes up").unwrap();
            let gone = FrameSender::open("nkgone").unwrap_err();
            assert_eq!(gone.raw_os_error(), Some(libc::ENODEV));
            let sender = FrameSender::open("nkframes").unwrap();
            // A protocol that the host does not send by itself.
            let frames: Vec<[u8; 60]> = (0..100)
                .map(|nth| std::array::from_fn(|at| [0x88, 0xb5, nth][(at + 1) % 3]))
                .collect();
            assert_eq!(sender.send(&frames).unwrap(), 100);
            let waiter = Waiter::new().unwrap();
            waiter.add(&tap, Token(0), Trigger::Level).unwrap();
            let (mut buf, mut came) = ([0; 2048], Vec::new());
            while came.len() < frames.len() {
                match tap.read_frame(&mut buf).unwrap() {
                    Some(len) if len == VNET_HDR_LEN + 60 => {
                        let frame = &buf[VNET_HDR_LEN..len];
                        came.extend(
                            frames.iter().any(|sent| sent == frame).then(|| frame.to_vec()),
                        );
                    }
                    // The host's own.
                    Some(_) => {}
                    None => {
                        let waited = waiter.wait(Some(Duration::from_secs(5))).unwrap().count();
                        assert!(waited != 0, "{} of 100 frames came", came.len());
                    }
                }
            }
            assert_eq!(came, frames);
        };
        in_own_netns(run).unwrap();
    }
}
