//! Many datagrams of a host's socket in one call.
//!
//! Contexts: any thread.

use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use std::io::{self, IoSlice};
use std::os::fd::AsFd;

/// Sends `data` `count` times on a connected socket; how many were taken.
///
/// # Errors
/// The system's, when none was taken.
pub fn send_batch(socket: impl AsFd, data: &[u8], count: usize) -> io::Result<usize> {
    let parts = [IoSlice::new(data)];
    let mut none: Vec<SendAncillaryBuffer<'_, '_, '_>> =
        (0..count).map(|_| SendAncillaryBuffer::default()).collect();
    let mut messages: Vec<MMsgHdr<'_>> =
        none.iter_mut().map(|none| MMsgHdr::new(&parts, none)).collect();
    Ok(sendmmsg(socket, &mut messages, SendFlags::empty())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, UdpSocket};

    #[test]
    fn each_of_a_batch_arrives() {
        let to = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let from = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        from.connect(to.local_addr().unwrap()).unwrap();
        assert_eq!(send_batch(&from, b"abc", 5).unwrap(), 5);
        for _ in 0..5 {
            let mut buf = [0; 8];
            assert_eq!(to.recv(&mut buf).unwrap(), 3);
            assert_eq!(&buf[..3], b"abc");
        }
    }
}
