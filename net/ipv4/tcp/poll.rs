//! What is ready, and what lies in the queues. Context: task; no ownership.
//!
//! linux: net/ipv4/tcp.c (`tcp_poll`, `tcp_ioctl`).

use super::{TcpSk, TcpSock, TcpState, UrgData};
use crate::kernel::context::TaskCx;
use crate::net::core::sock::{RCV_SHUTDOWN, SEND_SHUTDOWN, Sock, SockState};
use crate::net::core::stream::sk_stream_is_writeable;
use crate::net::ipv4::tcp_fastopen::Tfo;
use crate::net::socket::put_user;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::poll::{POLLERR, POLLHUP, POLLIN, POLLOUT, POLLPRI, POLLRDHUP, POLLRDNORM, POLLWRNORM};
use uapi::sockios::{SIOCATMARK, SIOCINQ, SIOCOUTQ, SIOCOUTQNSD};

/// As much is there as a reader wants, or more can't come.
///
/// linux: net/ipv4/tcp.c:tcp_stream_is_readable
#[inline]
pub(crate) fn tcp_stream_is_readable(st: &SockState, tp: &TcpSock, target: i32) -> bool {
    let avail = tp.rcv_nxt.distance(tp.copied_seq);
    if avail <= 0 {
        return false;
    }
    avail >= target
        || st.rmem_alloc > (st.opts.rcvbuf - (st.opts.rcvbuf >> 3)) as usize
        || tp.tcp_receive_window() <= u32::from(tp.ack.rcv_mss)
}

/// What `poll` says of a stream.
///
/// linux: net/ipv4/tcp.c:tcp_poll
pub(crate) fn tcp_poll(sk: &Arc<Sock>) -> u32 {
    let mut locked = sk.state();
    let Some(sk) = TcpSk::of(sk, &mut locked) else { return POLLERR as u32 };
    if sk.st.dead {
        return sk.st.readable_mask();
    }
    let state = sk.tp.state;
    if state == TcpState::Listen {
        let waiting = sk.tp.listener.as_ref().is_some_and(|listener| listener.has_connections());
        return if waiting { (POLLIN | POLLRDNORM) as u32 } else { 0 };
    }
    let shutdown = sk.st.shutdown;
    let mut mask = 0;
    if shutdown == RCV_SHUTDOWN | SEND_SHUTDOWN || state == TcpState::Close {
        mask |= POLLHUP;
    }
    if shutdown & RCV_SHUTDOWN != 0 {
        mask |= POLLIN | POLLRDNORM | POLLRDHUP;
    }
    if sk.tp.tfo(Tfo::DEFER_CONNECT) {
        // What is written makes the SYN leave.
        mask |= POLLOUT | POLLWRNORM;
    }
    let opening = matches!(state, TcpState::SynSent | TcpState::SynRecv);
    if !opening || sk.tp.tcp_passive_fastopen() {
        let urgent = sk.tp.urg_data != UrgData::None;
        let at_mark = urgent && sk.tp.urg_seq == sk.tp.copied_seq && !sk.st.opts.urginline;
        let target = sk.st.opts.rcvlowat.saturating_add(i32::from(at_mark));
        if tcp_stream_is_readable(sk.st, sk.tp, target) {
            mask |= POLLIN | POLLRDNORM;
        }
        if shutdown & SEND_SHUTDOWN != 0 || sk_stream_is_writeable(&sk) {
            mask |= POLLOUT | POLLWRNORM;
        } else {
            sk.tp.nospace = true;
        }
        if matches!(sk.tp.urg_data, UrgData::Valid(_)) {
            mask |= POLLPRI;
        }
    }
    if sk.st.err.is_some() || sk.st.errors() != 0 {
        mask |= POLLERR;
    }
    mask as u32
}

/// Octets that can be read up to the urgent one.
///
/// linux: include/net/tcp.h:tcp_inq
pub(crate) fn tcp_inq(st: &SockState, tp: &TcpSock) -> u32 {
    if matches!(tp.state, TcpState::SynSent | TcpState::SynRecv) {
        return 0;
    }
    let to_urgent = !st.opts.urginline
        && tp.urg_data != UrgData::None
        && !tp.urg_seq.before(tp.copied_seq)
        && tp.urg_seq.before(tp.rcv_nxt);
    if to_urgent {
        return tp.urg_seq - tp.copied_seq;
    }
    let all = tp.rcv_nxt.distance(tp.copied_seq).max(0) as u32;
    // Their FIN counts in sequence numbers, not in octets.
    all.saturating_sub(u32::from(tp.done))
}

/// `SIOCINQ`, `SIOCOUTQ` and the like; `None`: not TCP's.
///
/// linux: net/ipv4/tcp.c:tcp_ioctl
pub(crate) fn tcp_ioctl(
    _cx: &mut TaskCx,
    sk: &Arc<Sock>,
    request: u32,
    arg: &mut [u8],
) -> Option<Result<i32, Errno>> {
    let answer = {
        let state = sk.state();
        let tp = state.tcp.as_deref()?;
        let listens = tp.state == TcpState::Listen;
        let opening = matches!(tp.state, TcpState::SynSent | TcpState::SynRecv);
        match request {
            SIOCATMARK => u32::from(tp.urg_data != UrgData::None && tp.urg_seq == tp.copied_seq),
            SIOCINQ | SIOCOUTQ | SIOCOUTQNSD if listens => return Some(Err(Errno::EINVAL)),
            SIOCINQ => tcp_inq(&state.base, tp),
            SIOCOUTQ | SIOCOUTQNSD if opening => 0,
            SIOCOUTQ => tp.write_seq - tp.snd_una,
            SIOCOUTQNSD => tp.write_seq - tp.snd_nxt,
            _ => return None,
        }
    };
    Some(put_user(arg, &(answer as i32).to_ne_bytes()))
}
