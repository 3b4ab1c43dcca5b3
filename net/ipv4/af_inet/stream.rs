//! What the calls on stream sockets do: connect, listen, accept, shut down. Context: task.
//!
//! linux: net/ipv4/af_inet.c.

use super::SOCK_STREAM;
use crate::kernel::context::TaskCx;
use crate::net::core::sock::{RCV_SHUTDOWN, SEND_SHUTDOWN, Sock};
use crate::net::ipv4::inet_connection_sock::{
    inet_csk_accept, inet_csk_get_port, inet_csk_listen_start,
};
use crate::net::ipv4::tcp::{
    ConnectState, TCP_PROT, TcpSock, TcpState, inet_children_forget, tcp_disconnect,
    tcp_disconnect_owned, tcp_shutdown,
};
use crate::net::ipv4::tcp_cong::tcp_assign_congestion_control;
use crate::net::socket::{Socket, Wait};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Poll, ready};
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::poll::POLLOUT;
use uapi::socket::AF_UNSPEC;

/// A new TCP socket, with the machine's buffers.
///
/// linux: net/ipv4/tcp_ipv4.c:tcp_v4_init_sock
pub(super) fn tcp_v4_init_sock(cx: &mut TaskCx) -> Arc<Sock> {
    let t = cx.machine().tables();
    let sysctl = &t.net.sysctl.tcp;
    let sk = Sock::new(cx, &TCP_PROT);
    let mut tp = TcpSock::new(tcp_assign_congestion_control(&t.net), sysctl.reordering);
    tp.notsent_lowat = sysctl.notsent_lowat;
    {
        let mut state = sk.state();
        state.opts.rcvbuf = sysctl.rmem[1];
        state.tcp = Some(Box::new(tp));
    }
    sk.set_sndbuf(sysctl.wmem[1]);
    sk.net.tcp.memory.sockets.fetch_add(1, Ordering::Relaxed);
    debug_assert_eq!(sk.sk_prot.kind.0, SOCK_STREAM);
    sk
}

/// Begins a connection and waits until it stands; `AF_UNSPEC` ends the one there is.
///
/// # Errors
/// EINPROGRESS when the call may not wait, or its time is up; EALREADY while one begins; EISCONN; EINVAL,
/// EAFNOSUPPORT for the address; ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH and the like as the network answers;
/// ECONNABORTED when it was ended meanwhile; EINTR; those of `tcp_v4_connect`.
///
/// linux: net/ipv4/af_inet.c:inet_stream_connect
pub(super) fn inet_stream_connect(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: &[u8],
    wait: &mut Wait,
) -> Poll<Result<(), Errno>> {
    walk!(cx, inet_stream_connect);
    if !wait.slept() {
        match begin_connect(cx, sk, name, wait)? {
            Begun::Over => return Poll::Ready(Ok(())),
            Begun::Now => (),
            Begun::Already => wait.progress = 1,
        }
    }
    let pending = if wait.progress == 0 { Errno::EINPROGRESS } else { Errno::EALREADY };
    let opening = |tp: &TcpSock| matches!(tp.state, TcpState::SynSent | TcpState::SynRecv);
    if sk.state().tcp.as_deref().is_some_and(opening) {
        let waited: Poll<Result<(), Errno>> = wait.for_event(cx, sk, POLLOUT as u32, 0, |state| {
            !state.tcp.as_deref().is_some_and(opening)
        });
        let Err(error) = ready!(waited) else { return Poll::Ready(Ok(())) };
        return Poll::Ready(Err(if error == Errno::EAGAIN { pending } else { error }));
    }
    let error = {
        let mut state = sk.state();
        let closed = state.tcp.as_deref().is_none_or(|tp| tp.state == TcpState::Close);
        let error = closed.then(|| state.base.sock_error().err().unwrap_or(Errno::ECONNABORTED));
        if let Some(tp) = &mut state.tcp {
            tp.connect = if closed { ConnectState::Unconnected } else { ConnectState::Connected };
        }
        error
    };
    let Some(error) = error else { return Poll::Ready(Ok(())) };
    tcp_disconnect(cx, sk)?;
    Poll::Ready(Err(error))
}

/// How a call of `connect` begins.
enum Begun {
    /// It has done its work.
    Over,
    /// The connection begins.
    Now,
    /// It had begun before.
    Already,
}

fn begin_connect(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: &[u8],
    wait: &Wait,
) -> Result<Begun, Errno> {
    let family = name.first_chunk::<2>().map(|family| u16::from_ne_bytes(*family));
    let family = family.ok_or(Errno::EINVAL)?;
    if family == AF_UNSPEC as u16 {
        tcp_disconnect(cx, sk)?;
        if let Some(tp) = &mut sk.state().tcp {
            tp.connect = ConnectState::Unconnected;
        }
        return Ok(Begun::Over);
    }
    let mut guard = sk.lock_sock(cx);
    let (connect, state) = {
        let state = guard.state();
        let tp = state.tcp.as_deref().ok_or(Errno::EOPNOTSUPP)?;
        (tp.connect, tp.state)
    };
    match connect {
        ConnectState::Disconnecting => Err(Errno::EINVAL),
        ConnectState::Connected => Err(Errno::EISCONN),
        ConnectState::Connecting => {
            let opening = matches!(state, TcpState::SynSent | TcpState::SynRecv);
            if opening && !wait.may_wait(0) { Err(Errno::EALREADY) } else { Ok(Begun::Already) }
        }
        ConnectState::Unconnected if state != TcpState::Close => Err(Errno::EISCONN),
        ConnectState::Unconnected => {
            let to = SockaddrIn::from_bytes(name)?;
            let (sk, cx) = guard.parts();
            (sk.sk_prot.connect)(cx, sk, to)?;
            if let Some(tp) = &mut guard.state().tcp {
                tp.connect = ConnectState::Connecting;
            }
            // Still under the lock: an answer that is here already waits until it is given back.
            if wait.may_wait(0) { Ok(Begun::Now) } else { Err(Errno::EINPROGRESS) }
        }
    }
}

/// Lets peers connect, or changes how many may wait.
///
/// # Errors
/// EINVAL for a socket that is connected; EADDRINUSE without a port.
///
/// linux: net/ipv4/af_inet.c:inet_listen
pub(super) fn inet_listen(cx: &mut TaskCx, sk: &Arc<Sock>, backlog: i32) -> Result<(), Errno> {
    walk!(cx, inet_listen);
    let most = cx.machine().tables().net.sysctl.somaxconn;
    // Linux reads a negative backlog as a huge one.
    let backlog = (backlog as u32).min(most);
    let mut guard = sk.lock_sock(cx);
    let (state, connect) = {
        let state = guard.state();
        let tp = state.tcp.as_deref().ok_or(Errno::EOPNOTSUPP)?;
        if let Some(listener) = tp.listener.as_ref().filter(|_| tp.state == TcpState::Listen) {
            listener.max_ack_backlog.store(backlog, Ordering::Relaxed);
            return Ok(());
        }
        (tp.state, tp.connect)
    };
    if state != TcpState::Close || connect != ConnectState::Unconnected {
        return Err(Errno::EINVAL);
    }
    if sk.inet_num() == 0 {
        let (sk, cx) = guard.parts();
        inet_csk_get_port(cx, sk, 0)?;
    }
    guard.in_bh(|cx, sk| inet_csk_listen_start(cx, sk, backlog)).ok_or(Errno::EOPNOTSUPP)?
}

/// Takes a connection that stands, or waits for one.
///
/// # Errors
/// As `inet_csk_accept`.
///
/// linux: net/ipv4/af_inet.c:inet_accept
pub(super) fn inet_accept(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    wait: &mut Wait,
) -> Poll<Result<Socket, Errno>> {
    walk!(cx, inet_accept);
    let socket = ready!(inet_csk_accept(cx, sk, wait))?;
    if let Some(tp) = &mut socket.sk.state().tcp {
        tp.connect = ConnectState::Connected;
    }
    Poll::Ready(Ok(socket))
}

/// Half-closes a stream.
///
/// # Errors
/// ENOTCONN for one that has no connection.
///
/// linux: net/ipv4/af_inet.c:inet_shutdown
pub(super) fn shutdown(cx: &mut TaskCx, sk: &Arc<Sock>, ways: u8) -> Result<(), Errno> {
    let mut guard = sk.lock_sock(cx);
    let state = {
        let mut state = guard.state();
        let tp = state.tcp.as_deref_mut().ok_or(Errno::EOPNOTSUPP)?;
        if tp.connect == ConnectState::Connecting {
            let open = !matches!(tp.state, TcpState::SynSent | TcpState::SynRecv | TcpState::Close);
            tp.connect = if open { ConnectState::Connected } else { ConnectState::Disconnecting };
        }
        tp.state
    };
    let mut waiting = Vec::new();
    match state {
        TcpState::Listen if ways & RCV_SHUTDOWN == 0 => (),
        TcpState::SynSent | TcpState::Listen => {
            // A connection that only begins, or a listener: it is as a new socket.
            waiting = tcp_disconnect_owned(&mut guard);
            if let Some(tp) = &mut guard.state().tcp {
                tp.connect = ConnectState::Unconnected;
            }
        }
        _ => {
            guard.in_bh(|cx, sk| {
                sk.st.shutdown |= ways;
                if ways & SEND_SHUTDOWN != 0 {
                    tcp_shutdown(cx, sk);
                }
            });
        }
    }
    guard.in_bh(|cx, sk| sk.st.wake_up_all(cx, u32::MAX));
    drop(guard);
    inet_children_forget(cx, waiting);
    if state == TcpState::Close { Err(Errno::ENOTCONN) } else { Ok(()) }
}
