//! Times of a stream's octets, where the peer is the test: on the way, again, and at last acknowledged.

use crate::scripted::{Conn, MSS};
use stack::fs::sys_write;
use stack::net::socket::{sys_recvmsg, sys_setsockopt};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::errqueue::{
    SCM_TSTAMP_ACK, SCM_TSTAMP_SCHED, SCM_TSTAMP_SND, SO_EE_ORIGIN_TIMESTAMPING, SockExtendedErr,
};
use uapi::net_tstamp::*;
use uapi::socket::{MSG_ERRQUEUE, SCM_TIMESTAMPING, SO_RCVBUF, SO_TIMESTAMPING, SOL_SOCKET, cmsgs};

const TOLD: u32 = SOF_TIMESTAMPING_SOFTWARE | SOF_TIMESTAMPING_OPT_ID;

/// What the error queue tells: the point, the octet, the time in nanoseconds, and octets of the packet.
type Told = (u32, u32, u64, usize);

fn timed(flags: u32) -> Conn {
    let mut conn = Conn::new();
    let (flags, fd) = ((TOLD | flags).to_ne_bytes(), conn.fd);
    sys_setsockopt(&mut conn.lone.cx, fd, SOL_SOCKET, SO_TIMESTAMPING, &flags).expect("connected");
    conn
}

fn write(conn: &mut Conn, octets: usize) {
    assert_eq!(conn.lone.run(sys_write(conn.fd, &vec![7; octets])), Ok(octets));
    conn.lone.world.settle();
}

fn told_into(conn: &mut Conn, data: &mut [u8]) -> Result<Told, Errno> {
    let mut control = [0; 128];
    let got = conn.lone.run(sys_recvmsg(conn.fd, &mut [data], &mut control, MSG_ERRQUEUE))?;
    let mut all = cmsgs(&control[..got.controllen as usize]).map(|cmsg| cmsg.expect("well-formed"));
    let time = all.next().expect("a time");
    assert_eq!((time.level, time.type_), (SOL_SOCKET, SCM_TIMESTAMPING));
    let number = |at: usize| u64::from_ne_bytes(time.data[at..at + 8].try_into().expect("eight"));
    let report = all.next().expect("a report");
    let ee = SockExtendedErr::from_bytes(report.data.first_chunk().expect("a report's length"));
    assert_eq!((ee.ee_errno, ee.ee_origin), (Errno::ENOMSG.0 as u32, SO_EE_ORIGIN_TIMESTAMPING));
    Ok((ee.ee_info, ee.ee_data, number(0) * 1_000_000_000 + number(8), got.len))
}

fn told(conn: &mut Conn) -> Result<Told, Errno> {
    told_into(conn, &mut [])
}

/// All that is told, without the times.
fn points(conn: &mut Conn) -> Vec<(u32, u32)> {
    let all = std::iter::from_fn(|| told(conn).ok());
    all.map(|(point, octet, ..)| (point, octet)).collect()
}

#[test]
fn each_time_that_the_octet_leaves_is_told_and_its_acknowledgement_once() {
    let flags = SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_ACK;
    let mut conn = timed(flags | SOF_TIMESTAMPING_OPT_TSONLY);
    write(&mut conn, 3 * MSS);
    let octet = 3 * MSS as u32 - 1;
    let (point, key, first, len) = told(&mut conn).expect("it came to the queue");
    assert_eq!((point, key, len), (SCM_TSTAMP_SCHED, octet, 0));
    assert_eq!(points(&mut conn), [(SCM_TSTAMP_SND, octet)]);

    conn.ack(2 * MSS);
    assert_eq!(points(&mut conn), [], "the octet is not acknowledged");
    conn.lone.world.run_for(Duration::from_secs(1));
    let again = points(&mut conn);
    assert!(!again.is_empty() && again.len().is_multiple_of(2), "{again:?}");
    assert!(again.chunks(2).all(|two| two == [(SCM_TSTAMP_SCHED, octet), (SCM_TSTAMP_SND, octet)]));

    conn.ack(3 * MSS);
    let (point, key, last, len) = told(&mut conn).expect("acknowledged");
    assert_eq!((point, key, len), (SCM_TSTAMP_ACK, octet, 0));
    assert!(last - first >= 1_000_000_000, "{} ns", last - first);
    conn.ack(3 * MSS);
    assert_eq!(told(&mut conn), Err(Errno::EAGAIN));
    conn.end();
}

#[test]
fn of_what_is_cut_the_part_with_the_octet_is_told_of() {
    let mut conn = timed(SOF_TIMESTAMPING_TX_SCHED | SOF_TIMESTAMPING_TX_SOFTWARE);
    write(&mut conn, 2 * MSS + 100);
    // Cut by the stack for the device: one packet comes to the queue, one of its segments is told of.
    let mut frame = [0; 1000];
    let (at, key, _, len) = told_into(&mut conn, &mut frame).expect("queued");
    assert_eq!((at, key, len), (SCM_TSTAMP_SCHED, 2 * MSS as u32 + 99, frame.len()));
    let (at, key, _, len) = told_into(&mut conn, &mut frame).expect("sent");
    assert_eq!((at, key, len), (SCM_TSTAMP_SND, 2 * MSS as u32 + 99, 54 + 100));
    assert_eq!(frame[38..42], (conn.first + 2 * MSS as u32).to_be_bytes());
    conn.ack(2 * MSS + 100);
    // The same of full segments.
    write(&mut conn, 3 * MSS);
    let (at, key, _, len) = told_into(&mut conn, &mut frame).expect("queued");
    let octet = 5 * MSS as u32 + 99;
    assert_eq!((at, key, len), (SCM_TSTAMP_SCHED, octet, frame.len()));
    let (at, key, _, len) = told_into(&mut conn, &mut frame).expect("sent");
    assert_eq!((at, key, len), (SCM_TSTAMP_SND, octet, 54 + MSS));
    assert_eq!(frame[38..42], (conn.first + octet + 1 - MSS as u32).to_be_bytes());
    assert_eq!(points(&mut conn), []);
    conn.ack(5 * MSS + 100);
    conn.end();
}

#[test]
fn what_waits_to_be_read_is_bounded_by_the_receive_buffer() {
    let flags = SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_OPT_TSONLY;
    let mut conn = timed(flags);
    sys_setsockopt(&mut conn.lone.cx, conn.fd, SOL_SOCKET, SO_RCVBUF, &[0; 4]).expect("the least");
    for n in 1..=50 {
        write(&mut conn, 10);
        conn.ack(10 * n);
    }
    let kept = points(&mut conn);
    assert!((1..=9).contains(&kept.len()), "{} of 50", kept.len());
    assert_eq!(kept[0], (SCM_TSTAMP_ACK, 9));
    // There is room again.
    write(&mut conn, 10);
    conn.ack(510);
    assert_eq!(points(&mut conn), [(SCM_TSTAMP_ACK, 509)]);
    conn.end();
}

#[test]
fn segments_joined_are_told_of_by_the_last_octet() {
    let mut conn = timed(SOF_TIMESTAMPING_TX_ACK | SOF_TIMESTAMPING_OPT_TSONLY);
    // The first goes, the others wait together for its acknowledgement: of their octets the last counts.
    for _ in 0..3 {
        write(&mut conn, 10);
    }
    conn.ack(10);
    conn.ack(30);
    assert_eq!(points(&mut conn), [(SCM_TSTAMP_ACK, 9), (SCM_TSTAMP_ACK, 29)]);
    conn.end();
}
