//! What flags and marks do to a connection.

use super::*;
use crate::net::ipv4::tcp::SeqNr;
use crate::net::ipv4::tcp_cong::TcpReno;
use uapi::tcp::TCPHDR_ACK;
use zerocopy::FromZeros;

fn connection(flags: EcnFlags) -> TcpSock {
    let mut tp = TcpSock::new(Box::new(TcpReno), 3);
    (tp.ecn_flags, tp.snd_nxt) = (flags, SeqNr(100));
    tp
}

fn header(flags: u8) -> TcpHdr {
    TcpHdr { flags, ..TcpHdr::new_zeroed() }
}

fn segment(seq: u32) -> TcpSkbCb {
    TcpSkbCb { seq: SeqNr(seq), tcp_flags: TCPHDR_ACK, ..TcpSkbCb::NONE }
}

#[test]
fn a_syn_ack_grants_with_one_flag_and_mirrors_with_two() {
    for (flags, granted) in [(TCPHDR_ECE, true), (ASKS, false), (TCPHDR_CWR, false), (0, false)] {
        let mut tp = connection(EcnFlags::OK);
        tcp_ecn_rcv_synack(&mut tp, &header(flags));
        assert_eq!(tp.ecn_flags.contains(EcnFlags::OK), granted, "{flags:x}");
        let mut crossed = connection(EcnFlags::OK);
        tcp_ecn_rcv_syn(&mut crossed, &header(flags));
        assert_eq!(crossed.ecn_flags.contains(EcnFlags::OK), flags == ASKS, "{flags:x}");
    }
}

#[test]
fn new_data_alone_may_be_marked_and_says_once_that_the_window_was_reduced() {
    let mut tp = connection(EcnFlags::OK);
    tcp_ecn_queue_cwr(&mut tp);
    let (new, old) = (segment(100), segment(99));
    for (own, len) in [(&new, 0), (&old, 10)] {
        assert_eq!(ecn_of(&tp, own, len), INET_ECN_NOT_ECT);
        assert_eq!(tcp_ecn_send(&mut tp, own, len), 0);
    }
    assert_eq!(ecn_of(&tp, &new, 10), INET_ECN_ECT_0);
    assert_eq!(tcp_ecn_send(&mut tp, &new, 10), TCPHDR_CWR);
    assert_eq!(tcp_ecn_send(&mut tp, &new, 10), 0);
}

#[test]
fn who_did_not_agree_says_nothing() {
    let mut tp = connection(EcnFlags::empty());
    tcp_ecn_queue_cwr(&mut tp);
    assert!(tp.ecn_flags.is_empty());
    assert_eq!(ecn_of(&tp, &segment(100), 10), INET_ECN_NOT_ECT);
    assert!(!tcp_ecn_rcv_ecn_echo(&tp, &header(TCPHDR_ACK | TCPHDR_ECE)));
}

#[test]
fn a_mark_is_told_of_until_the_sender_has_heard() {
    let mut tp = connection(EcnFlags::OK | EcnFlags::DEMAND_CWR);
    let own = segment(100);
    for _ in 0..3 {
        assert_eq!(tcp_ecn_send(&mut tp, &own, 0), TCPHDR_ECE);
    }
    let mut seg = Segment {
        th: header(TCPHDR_ACK),
        cb: TcpSkbCb { end_seq: SeqNr(110), ..own },
        opts: crate::net::ipv4::tcp_input::TcpOptions::NONE,
        segs: 0,
    };
    tcp_ecn_accept_cwr(&mut tp, &seg);
    assert_eq!(tcp_ecn_send(&mut tp, &own, 0), TCPHDR_ECE);
    seg.th.flags |= TCPHDR_CWR;
    tcp_ecn_accept_cwr(&mut tp, &seg);
    assert_eq!(tcp_ecn_send(&mut tp, &own, 0), 0);
    assert!(tp.ack.pending.contains(AckPending::NOW));
}
