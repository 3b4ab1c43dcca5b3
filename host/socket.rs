//! Options of the host's sockets and devices that the standard library has no call for.
//!
//! Contexts: any thread; what is about a device is about one of the calling thread's network namespace.

use crate::ifreq::{EthtoolSwitch, ethtool_switch};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use uapi::tcp::{TCP_INFO, TcpInfo};
use uapi::udp::UDP_SEGMENT;
use zerocopy::{FromZeros, IntoBytes};

/// A datagram socket's calls carry many datagrams of `size` octets.
///
/// # Errors
/// The system's: ENOPROTOOPT before Linux 4.18.
pub fn udp_segment(socket: impl AsFd, size: u16) -> io::Result<()> {
    let value = libc::c_int::from(size);
    // SAFETY: the pointer names an int, as large as said, that outlives the call, which only reads it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_UDP,
            UDP_SEGMENT,
            std::ptr::from_ref(&value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The congestion control of a TCP socket.
///
/// # Errors
/// The system's: ENOENT for one it does not have, EPERM for one that only root may choose.
pub fn congestion_control(socket: impl AsFd, name: &str) -> io::Result<()> {
    Ok(rustix::net::sockopt::set_tcp_congestion(socket, name)?)
}

/// What the kernel tells of a connection; fields that it does not know are 0.
///
/// # Errors
/// The system's: ENOPROTOOPT for a socket that is not TCP's.
pub fn tcp_info(socket: impl AsFd) -> io::Result<TcpInfo> {
    let mut info = TcpInfo::new_zeroed();
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the pointers name the structure and its length, which outlive the call; no more than that length is
    // written, and any octets make a `TcpInfo`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_TCP,
            TCP_INFO,
            info.as_mut_bytes().as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(info) }
}

/// Leaves sums, segments and merging to a device, or to nobody: `ethtool -K DEV tx rx gso tso gro`.
///
/// # Errors
/// The system's: ENODEV without such a device, EPERM without the right.
pub fn device_offloads(device: &str, on: bool) -> io::Result<()> {
    use EthtoolSwitch::{Gro, Gso, RxCsum, Tso, TxCsum};
    let socket = UnixDatagram::unbound()?;
    // Segments need sums, so these come first.
    for switch in [TxCsum, RxCsum, Gso, Tso, Gro] {
        ethtool_switch(&socket, device, switch, on)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netns::in_own_netns;
    use crate::testing::{Need, need};
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener, UdpSocket};

    #[test]
    fn a_call_carries_many_datagrams() {
        let to = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let from = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        from.connect(to.local_addr().unwrap()).unwrap();
        udp_segment(&from, 3).unwrap();
        assert_eq!(from.send(b"abcdefg").unwrap(), 7);
        let mut buf = [0; 8];
        for part in ["abc", "def", "g"] {
            let len = to.recv(&mut buf).unwrap();
            assert_eq!(&buf[..len], part.as_bytes());
        }
    }

    #[test]
    fn a_connection_is_told_of() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.write_all(b"abc").unwrap();
        let info = tcp_info(&stream).unwrap();
        assert_eq!((info.tcpi_state, info.tcpi_bytes_sent), (1, 3));
        let datagrams = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(tcp_info(&datagrams).is_err());
    }

    #[test]
    fn a_congestion_control_that_is_not_there_is_refused() {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        congestion_control(&socket, "reno").unwrap();
        let refused = congestion_control(&socket, "no-such").unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn offloads_of_a_device_are_switched() {
        if !need(Need::Root) || !need(Need::Tool("ip")) {
            return;
        }
        let show = |ns: &crate::netns::NetNs, on| {
            ns.ip("link add nka type veth peer name nkb").unwrap();
            device_offloads("nka", on).unwrap();
            assert_eq!(device_offloads("nkc", on).unwrap_err().raw_os_error(), Some(libc::ENODEV));
            let socket = UnixDatagram::unbound().unwrap();
            assert_eq!(crate::ifreq::ethtool_cuts_tcp(&socket, "nka").unwrap(), on);
        };
        for on in [false, true] {
            in_own_netns(|ns| show(ns, on)).unwrap();
        }
    }
}
