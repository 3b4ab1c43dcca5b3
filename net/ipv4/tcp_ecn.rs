//! Explicit congestion notification: routers mark packets instead of dropping them, receivers tell of the marks,
//! senders slow down.
//!
//! linux: include/net/tcp_ecn.h, net/ipv4/tcp_input.c, net/ipv4/tcp_output.c; RFC 3168. Key type: [`EcnFlags`].
//! Context: BH, under the socket's lock.
//! DIVERGES: no accurate ECN (RFC 9768): `tcp_ecn` is 0 to 2.

use crate::kernel::context::BhCx;
use crate::net::ipv4::tcp::{AckPending, TcpSk, TcpSkbCb, TcpSock};
use crate::net::ipv4::tcp_cong::TcpCaEvent;
use crate::net::ipv4::tcp_input::{Segment, cong_refresh, tcp_enter_quickack_mode};
use bitflags::bitflags;
use uapi::ip::{INET_ECN_CE, INET_ECN_ECT_0, INET_ECN_MASK, INET_ECN_NOT_ECT};
use uapi::tcp::{TCPHDR_CWR, TCPHDR_ECE, TCPHDR_SYN, TcpHdr};

/// What both flags of a SYN ask for.
const ASKS: u8 = TCPHDR_ECE | TCPHDR_CWR;
/// Acknowledgements that go at once when a mark is seen: the sender's window may be small.
const QUICK: u8 = 2;

bitflags! {
    /// How a connection stands to ECN.
    ///
    /// linux: include/linux/tcp.h:tcp_sock (`ecn_flags`)
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct EcnFlags: u8 {
        /// Both sides know it; of a SYN that was sent: it was asked for.
        const OK = 1;
        /// The window was reduced: the next new data says so.
        const QUEUE_CWR = 2;
        /// A mark is to be told of until the sender says that it has heard.
        const DEMAND_CWR = 4;
        /// The peer's packets can be marked.
        const SEEN = 8;
    }
}

/// The flags of our SYN: it asks, if the machine is set to.
///
/// linux: include/net/tcp_ecn.h:tcp_ecn_send_syn
pub(crate) fn tcp_ecn_send_syn(cx: &BhCx<'_>, sk: &mut TcpSk<'_>) -> u8 {
    inet_ecn_xmit(sk, INET_ECN_NOT_ECT);
    let asks = cx.t.net.sysctl.tcp.ecn == 1;
    sk.tp.ecn_flags = if asks { EcnFlags::OK } else { EcnFlags::empty() };
    if asks { ASKS } else { 0 }
}

/// The flags of a SYN that goes again: it may be that somebody on the way drops those that ask (RFC 3168 section
/// 6.1.1.1).
///
/// linux: include/net/tcp_ecn.h:tcp_ecn_clear_syn
pub(crate) fn tcp_ecn_clear_syn(cx: &BhCx<'_>, own: &mut TcpSkbCb) {
    const SYN_ECN: u8 = TCPHDR_SYN | ASKS;
    if own.tcp_flags & SYN_ECN == SYN_ECN && cx.t.net.sysctl.tcp.ecn_fallback {
        own.tcp_flags &= !ASKS;
    }
}

/// Both sides opened at once: our SYN becomes a SYN-ACK, which grants what theirs asked for.
///
/// linux: include/net/tcp_ecn.h:tcp_ecn_send_synack
pub(crate) fn tcp_ecn_send_synack(tp: &TcpSock, own: &mut TcpSkbCb) {
    let granted = if tp.ecn_flags.contains(EcnFlags::OK) { TCPHDR_ECE } else { 0 };
    own.tcp_flags = own.tcp_flags & !ASKS | granted;
}

/// What a SYN-ACK grants: with both flags it only mirrors ours (RFC 3168 section 6.1.1).
///
/// linux: include/net/tcp_ecn.h:tcp_ecn_rcv_synack
pub(crate) fn tcp_ecn_rcv_synack(tp: &mut TcpSock, th: &TcpHdr) {
    if !th.ece() || th.cwr() {
        tp.ecn_flags.remove(EcnFlags::OK);
    }
}

/// What the SYN of a peer who opened at once asks for.
///
/// linux: include/net/tcp_ecn.h:tcp_ecn_rcv_syn
pub(crate) fn tcp_ecn_rcv_syn(tp: &mut TcpSock, th: &TcpHdr) {
    if !th.ece() || !th.cwr() {
        tp.ecn_flags.remove(EcnFlags::OK);
    }
}

/// A SYN at a listener asks for ECN and may have it. One that is marked itself does not come from somebody who
/// knows RFC 3168, unless it knows what came after it and sets bits that are reserved there.
///
/// linux: net/ipv4/tcp_input.c:tcp_ecn_create_request
pub(crate) fn tcp_ecn_create_request(cx: &BhCx<'_>, seg: &Segment) -> bool {
    const RESERVED: u8 = 0x0f;
    let th = &seg.th;
    let marked = seg.cb.ip_dsfield & INET_ECN_MASK != INET_ECN_NOT_ECT;
    th.ece() && th.cwr() && cx.t.net.sysctl.tcp.ecn != 0 && (!marked || th.doff_res & RESERVED != 0)
}

/// The window was reduced.
///
/// linux: net/ipv4/tcp_input.c:tcp_ecn_queue_cwr
#[inline]
pub(crate) fn tcp_ecn_queue_cwr(tp: &mut TcpSock) {
    if tp.ecn_flags.contains(EcnFlags::OK) {
        tp.ecn_flags |= EcnFlags::QUEUE_CWR;
    }
}

/// That was taken back.
///
/// linux: net/ipv4/tcp_input.c:tcp_ecn_withdraw_cwr
pub(crate) fn tcp_ecn_withdraw_cwr(tp: &mut TcpSock) {
    tp.ecn_flags.remove(EcnFlags::QUEUE_CWR);
}

/// The sender has heard of the marks. On a bare acknowledgement that counts, too: there are senders who say it
/// there, though RFC 3168 section 6.1.2 wants it on data.
///
/// linux: net/ipv4/tcp_input.c:tcp_ecn_accept_cwr
#[inline]
pub(crate) fn tcp_ecn_accept_cwr(tp: &mut TcpSock, seg: &Segment) {
    if !seg.th.cwr() {
        return;
    }
    tp.ecn_flags.remove(EcnFlags::DEMAND_CWR);
    if seg.cb.seq != seg.cb.end_seq {
        // His window may be a single segment.
        tp.ack.pending |= AckPending::NOW;
    }
}

/// The peer tells of a mark.
///
/// linux: net/ipv4/tcp_input.c:tcp_ecn_rcv_ecn_echo
#[inline]
pub(crate) fn tcp_ecn_rcv_ecn_echo(tp: &TcpSock, th: &TcpHdr) -> bool {
    th.ece() && !th.syn() && tp.ecn_flags.contains(EcnFlags::OK)
}

/// Data came, and this is what the network wrote on it.
///
/// linux: net/ipv4/tcp_input.c:tcp_data_ecn_check
#[inline]
pub(crate) fn tcp_ecn_check_ce(cx: &mut BhCx<'_>, tp: &mut TcpSock, dsfield: u8) {
    if tp.ecn_flags.contains(EcnFlags::OK) {
        check_ce(cx, tp, dsfield);
    }
}

#[inline(never)]
fn check_ce(cx: &mut BhCx<'_>, tp: &mut TcpSock, dsfield: u8) {
    let event = match dsfield & INET_ECN_MASK {
        INET_ECN_NOT_ECT => {
            // Of a sender whose data can be marked it is a retransmission, most likely.
            if tp.ecn_flags.contains(EcnFlags::SEEN) {
                tcp_enter_quickack_mode(tp, QUICK);
            }
            return;
        }
        INET_ECN_CE => {
            if !tp.ecn_flags.contains(EcnFlags::DEMAND_CWR) {
                tcp_enter_quickack_mode(tp, QUICK);
                tp.ecn_flags |= EcnFlags::DEMAND_CWR;
            }
            TcpCaEvent::EcnIsCe
        }
        _ => TcpCaEvent::EcnNoCe,
    };
    tp.ecn_flags |= EcnFlags::SEEN;
    cong_refresh(tp, cx.now());
    tp.ca_ops.cwnd_event(&mut tp.cong, event);
}

/// What a segment with `len` octets of data says of ECN in its flags: that the window was reduced, once and on
/// new data; that marks were seen.
///
/// linux: net/ipv4/tcp_output.c:tcp_ecn_send
#[inline]
pub(crate) fn tcp_ecn_send(tp: &mut TcpSock, own: &TcpSkbCb, len: u32) -> u8 {
    if !tp.ecn_flags.contains(EcnFlags::OK) || own.tcp_flags & TCPHDR_SYN != 0 {
        return 0;
    }
    let mut flags = 0;
    if tp.ecn_flags.contains(EcnFlags::QUEUE_CWR) && ecn_of(tp, own, len) != INET_ECN_NOT_ECT {
        tp.ecn_flags.remove(EcnFlags::QUEUE_CWR);
        flags |= TCPHDR_CWR;
    }
    if tp.ecn_flags.contains(EcnFlags::DEMAND_CWR) {
        flags |= TCPHDR_ECE;
    }
    flags
}

/// What IP is to say of a segment with `len` octets of data: routers may mark new data and nothing else (RFC
/// 3168 sections 6.1.4 and 6.1.5).
#[inline]
pub(crate) fn ecn_of(tp: &TcpSock, own: &TcpSkbCb, len: u32) -> u8 {
    let ok = tp.ecn_flags.contains(EcnFlags::OK) && own.tcp_flags & TCPHDR_SYN == 0;
    if ok && len != 0 && !own.seq.before(tp.snd_nxt) { INET_ECN_ECT_0 } else { INET_ECN_NOT_ECT }
}

/// What leaves from here on has this in the two bits of its TOS.
///
/// linux: include/net/inet_ecn.h:INET_ECN_xmit, INET_ECN_dontxmit
#[inline]
pub(crate) fn inet_ecn_xmit(sk: &mut TcpSk<'_>, ecn: u8) {
    let tos = &mut sk.st.inet.tos;
    *tos = *tos & !INET_ECN_MASK | ecn;
}

#[cfg(test)]
mod tests;
