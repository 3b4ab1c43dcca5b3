//! ICMP errors about a connection. Context: BH. Lock: `class::Sock`.
//!
//! linux: net/ipv4/tcp_ipv4.c (`tcp_v4_err`); RFC 5927: an error counts only when it quotes what is on its way.

use crate::kernel::context::BhCx;
use crate::net::core::sock::Sock;
use crate::net::ipv4::icmp::{IcmpError, icmp_err_convert};
use crate::net::ipv4::inet_connection_sock::{RequestSock, inet_csk_reqsk_queue_drop};
use crate::net::ipv4::inet_hashtables::{EhashEntry, InetTuple};
use crate::net::ipv4::ip_sockglue::ip_icmp_error;
use crate::net::ipv4::route::ip_rt_update_pmtu;
use crate::net::ipv4::tcp::{Deferred, SeqNr, TcpSk, TcpState, tcp_done};
use crate::net::ipv4::tcp_ipv4::flow_of;
use crate::net::ipv4::tcp_output::{path_mtu, tcp_simple_retransmit, tcp_sync_mss};
use crate::net::ipv4::tcp_timer::tcp_ld_rto_revert;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::icmp::{
    ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED, ICMP_HOST_UNREACH, ICMP_NET_UNREACH, ICMP_PARAMETERPROB,
    ICMP_TIME_EXCEEDED,
};
use uapi::in_::{IP_PMTUDISC_DONT, IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT, SockaddrIn};
use uapi::snmp::{IcmpMib, LinuxMib};

/// An ICMP error quotes a segment that this machine sent.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_err
pub(crate) fn tcp_v4_err(cx: &mut BhCx<'_>, error: &IcmpError<'_>) {
    walk!(cx, error.skb, tcp_v4_err);
    let Some([s0, s1, d0, d1, q0, q1, q2, q3]) = error.transport.first_chunk::<8>() else {
        return cx.count(IcmpMib::InErrors);
    };
    let tuple = InetTuple {
        laddr: error.iph.saddr.get(),
        raddr: error.iph.daddr.get(),
        lport: u16::from_be_bytes([*s0, *s1]),
        rport: u16::from_be_bytes([*d0, *d1]),
        dev: error.iif,
    };
    let seq = SeqNr(u32::from_be_bytes([*q0, *q1, *q2, *q3]));
    match cx.t.ns.tcp.hashinfo.ehash.lookup(&tuple) {
        None => cx.count(IcmpMib::InErrors),
        Some(EhashEntry::TimeWait(_)) => (),
        Some(EhashEntry::Request(req)) => tcp_req_err(cx, &req, error, seq),
        Some(EhashEntry::Sock(sk)) => sock_err(cx, &sk, error, seq),
    }
}

/// Of a request: it is given up where the network says that nobody is there.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_req_err
fn tcp_req_err(cx: &mut BhCx<'_>, req: &Arc<RequestSock>, error: &IcmpError<'_>, seq: SeqNr) {
    if seq != req.snt_isn {
        return cx.count(LinuxMib::OutOfWindowIcmps);
    }
    let abort = error.type_ == ICMP_PARAMETERPROB
        || error.type_ == ICMP_TIME_EXCEEDED
        || (error.type_ == ICMP_DEST_UNREACH
            && matches!(error.code, ICMP_NET_UNREACH | ICMP_HOST_UNREACH));
    // Linux ends it for these three alone; the others may be an attacker's.
    if abort {
        inet_csk_reqsk_queue_drop(cx, req);
        cx.count(LinuxMib::ListenDrops);
    }
}

fn sock_err(cx: &mut BhCx<'_>, sk: &Arc<Sock>, error: &IcmpError<'_>, seq: SeqNr) {
    let mut locked = sk.state();
    let owned = locked.sock_owned_by_user();
    let frag_needed = error.type_ == ICMP_DEST_UNREACH && error.code == ICMP_FRAG_NEEDED;
    if owned && !frag_needed {
        cx.count(LinuxMib::LockDroppedIcmps);
    }
    let Some(mut sk) = TcpSk::of(sk, &mut locked) else { return };
    if sk.tp.state == TcpState::Close {
        return;
    }
    if sk.tp.state != TcpState::Listen && !seq.between(sk.tp.snd_una, sk.tp.snd_nxt) {
        return cx.count(LinuxMib::OutOfWindowIcmps);
    }
    if frag_needed {
        // It can make the way narrower, and never wider: not for the truth's sake, either.
        let known = path_mtu(sk.tp);
        if error.info >= known {
            return;
        }
        sk.tp.pmtu = error.info.max(cx.t.net.sysctl.min_pmtu).min(known);
        // The way is it for everybody.
        ip_rt_update_pmtu(cx, &flow_of(&sk), error.info);
        if owned {
            sk.tp.deferred |= Deferred::MTU_REDUCED;
            sk.st.release_cb_due = true;
        } else {
            tcp_v4_mtu_reduced(cx, &mut sk);
        }
        return;
    }
    let errno = match error.type_ {
        ICMP_PARAMETERPROB => Errno::EPROTO,
        ICMP_DEST_UNREACH => {
            if matches!(error.code, ICMP_NET_UNREACH | ICMP_HOST_UNREACH) {
                tcp_ld_rto_revert(cx, &mut sk, seq);
            }
            icmp_err_convert(error.code).0
        }
        ICMP_TIME_EXCEEDED => Errno::EHOSTUNREACH,
        _ => return,
    };
    if matches!(sk.tp.state, TcpState::SynSent | TcpState::SynRecv) {
        // Nothing of the connection stands yet: it ends.
        if owned {
            sk.tp.sk_err_soft = Some(errno);
            return;
        }
        if sk.st.inet.recverr {
            let to = SockaddrIn::new(sk.st.inet.daddr, sk.st.inet.dport);
            ip_icmp_error(cx, sk.st, error, (errno, to), error.transport);
        }
        sk.st.sk_error_report(cx, Some(errno));
        return tcp_done(cx, &mut sk);
    }
    // RFC 1122 section 4.2.3.9: a connection that stands is not ended by it.
    if !owned && sk.st.inet.recverr {
        sk.st.sk_error_report(cx, Some(errno));
    } else {
        sk.tp.sk_err_soft = Some(errno);
    }
}

/// The way takes only smaller packets: what is under way and too large goes again, in smaller ones.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_mtu_reduced
pub(crate) fn tcp_v4_mtu_reduced(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if matches!(sk.tp.state, TcpState::Listen | TcpState::Close) {
        return;
    }
    let dont =
        matches!(sk.st.inet.pmtudisc, IP_PMTUDISC_DONT | IP_PMTUDISC_INTERFACE | IP_PMTUDISC_OMIT);
    if !dont && sk.tp.pmtu_cookie > sk.tp.pmtu {
        tcp_sync_mss(sk, sk.tp.pmtu);
        tcp_simple_retransmit(cx, sk);
    }
}
