use super::*;
use crate::socket::SOL_TCP;
use crate::tcp::{TCP_ESTABLISHED, TCP_INFO, TCP_LISTEN};
use std::io::{Read, Write};
use std::mem::{offset_of, size_of};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;

/// What the host tells of a socket, and how long it is.
fn host_info(socket: &impl AsRawFd) -> (TcpInfo, usize) {
    let mut bytes = [0_u8; 1024];
    let mut len = bytes.len() as libc::socklen_t;
    // SAFETY: the room is as large as told, and both outlive the call.
    #[allow(unsafe_code)]
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            SOL_TCP,
            TCP_INFO,
            bytes.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    assert_eq!(done, 0);
    (TcpInfo::read_from_prefix(&bytes).unwrap().0, len as usize)
}

#[test]
fn the_host_lays_it_out_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut server, _) = listener.accept().unwrap();
    client.write_all(&[7; 1000]).unwrap();
    server.read_exact(&mut [0; 1000]).unwrap();
    server.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();

    let (info, len) = host_info(&client);
    // What Linux 5.5, 6.2, 6.7 and 6.18 know, and whatever comes after.
    let known = [
        offset_of!(TcpInfo, tcpi_rcv_wnd),
        offset_of!(TcpInfo, tcpi_total_rto),
        offset_of!(TcpInfo, tcpi_received_ce),
        size_of::<TcpInfo>(),
    ];
    assert_eq!(known, [232, 240, 248, 280]);
    assert!(known.contains(&len) || len > 280, "{len} octets");

    assert_eq!(info.tcpi_state, TCP_ESTABLISHED);
    assert_eq!((info.tcpi_ca_state, info.tcpi_retransmits), (TcpCaState::Open as u8, 0));
    assert!(info.snd_wscale() <= 14 && info.rcv_wscale() <= 14);
    assert!(info.tcpi_rto >= 1000 && info.tcpi_snd_mss >= 500 && info.tcpi_pmtu >= 576);
    assert!(info.tcpi_snd_cwnd >= 2 && info.tcpi_snd_wnd >= 1000);
    // The SYN counts as one.
    assert_eq!((info.tcpi_bytes_acked, info.tcpi_bytes_received), (1001, 1));
    assert_eq!((info.tcpi_bytes_sent, info.tcpi_bytes_retrans), (1000, 0));
    assert_eq!((info.tcpi_data_segs_out, info.tcpi_data_segs_in), (1, 1));
    assert_eq!(info.tcpi_delivered, 2);

    let (info, _) = host_info(&listener);
    assert_eq!((info.tcpi_state, info.tcpi_unacked), (TCP_LISTEN, 0));
    assert_eq!(info.tcpi_sacked, 128.min(crate::socket::SOMAXCONN as u32));
}

#[test]
fn both_scales_share_an_octet() {
    let mut info = TcpInfo::default();
    info.set_wscale(7, 10);
    assert_eq!((info.snd_wscale(), info.rcv_wscale(), info.as_bytes()[6]), (7, 10, 0xa7));
}
