//! What the calls on stream sockets do: connect, listen, accept, shut down. Context: task.
//!
//! linux: net/ipv4/af_inet.c.

use super::SOCK_STREAM;
use crate::kernel::context::TaskCx;
use crate::net::core::skbuff::UbufInfo;
use crate::net::core::sock::{RCV_SHUTDOWN, SEND_SHUTDOWN, Sock};
use crate::net::ipv4::inet_connection_sock::{
    inet_csk_accept, inet_csk_get_port, inet_csk_listen_start,
};
use crate::net::ipv4::tcp::{
    ConnectState, TCP_PROT, TcpSock, TcpState, inet_children_forget, tcp_disconnect,
    tcp_disconnect_owned, tcp_shutdown,
};
use crate::net::ipv4::tcp_cong::tcp_assign_congestion_control;
use crate::net::ipv4::tcp_fastopen::{FastopenReq, TFO_CLIENT_ENABLE, Tfo};
use crate::net::ipv4::tcp_ipv4::{connect_failed, tcp_v4_connect_with};
use crate::net::ipv4::tcp_output::tcp_connect;
use crate::net::socket::{MsgSend, Socket, Wait};
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
    let t = cx.tables();
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
            Begun::Already | Begun::Deferred => wait.progress = 1,
        }
    }
    let pending = if wait.progress == 0 { Errno::EINPROGRESS } else { Errno::EALREADY };
    if sk.state().tcp.as_deref().is_some_and(|tp| tp.tfo(Tfo::DEFER_CONNECT)) {
        // The SYN leaves with the first data.
        return Poll::Ready(Ok(()));
    }
    inet_wait_for_connect(cx, sk, wait, (0, pending))
}

/// Waits until a connection stands or has failed; `pending`: what is told when the call may not wait.
///
/// # Errors
/// As [`inet_stream_connect`].
///
/// linux: net/ipv4/af_inet.c:inet_wait_for_connect
pub(in crate::net::ipv4) fn inet_wait_for_connect(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    wait: &mut Wait,
    (flags, pending): (i32, Errno),
) -> Poll<Result<(), Errno>> {
    let opening = |tp: &TcpSock| matches!(tp.state, TcpState::SynSent | TcpState::SynRecv);
    if sk.state().tcp.as_deref().is_some_and(opening) {
        let waited: Poll<Result<(), Errno>> =
            wait.for_event(cx, sk, POLLOUT as u32, flags, |state| {
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
    /// It had, and the SYN waits for data.
    Deferred,
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
    let begun = connect_step(cx, sk, (wait, 0), |cx, sk| {
        (sk.sk_prot.connect)(cx, sk, SockaddrIn::from_bytes(name)?)
    })?;
    if matches!(begun, Begun::Deferred) { Err(Errno::EISCONN) } else { Ok(begun) }
}

/// Begins a connection by `begin`, if there is none.
///
/// # Errors
/// EISCONN; EINVAL for one that was given up; EINPROGRESS and EALREADY where the call may not wait; those of `begin`.
fn connect_step(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    (wait, flags): (&Wait, i32),
    begin: impl FnOnce(&mut TaskCx, &Arc<Sock>) -> Result<(), Errno>,
) -> Result<Begun, Errno> {
    let mut guard = sk.lock_sock(cx);
    let (connect, state, deferred) = {
        let state = guard.state();
        let tp = state.tcp.as_deref().ok_or(Errno::EOPNOTSUPP)?;
        (tp.connect, tp.state, tp.tfo(Tfo::DEFER_CONNECT))
    };
    match connect {
        ConnectState::Connecting if deferred => Ok(Begun::Deferred),
        ConnectState::Disconnecting => Err(Errno::EINVAL),
        ConnectState::Connected => Err(Errno::EISCONN),
        ConnectState::Connecting => {
            let opening = matches!(state, TcpState::SynSent | TcpState::SynRecv);
            if opening && !wait.may_wait(flags) { Err(Errno::EALREADY) } else { Ok(Begun::Already) }
        }
        ConnectState::Unconnected if state != TcpState::Close => Err(Errno::EISCONN),
        ConnectState::Unconnected => {
            let (sk, cx) = guard.parts();
            begin(cx, sk)?;
            let deferred = {
                let mut state = guard.state();
                let tp = state.tcp.as_deref_mut().ok_or(Errno::EOPNOTSUPP)?;
                tp.connect = ConnectState::Connecting;
                tp.tfo(Tfo::DEFER_CONNECT)
            };
            if deferred {
                return Ok(Begun::Over);
            }
            // Still under the lock: an answer that is here already waits until it is given back.
            if wait.may_wait(flags) { Ok(Begun::Now) } else { Err(Errno::EINPROGRESS) }
        }
    }
}

/// Connects for a message that is to be sent, whose first octets go with the SYN where that may be; waits until the
/// connection stands. How many went is counted in `wait`.
///
/// # Errors
/// EOPNOTSUPP where the machine does not do it, and to disconnect; EALREADY while another call does; those of
/// [`inet_stream_connect`].
///
/// linux: net/ipv4/tcp.c:tcp_sendmsg_fastopen
pub(in crate::net::ipv4) fn tcp_sendmsg_fastopen(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    (msg, flags, ubuf): (&MsgSend<'_>, i32, Option<&Arc<UbufInfo>>),
    wait: &mut Wait,
) -> Poll<Result<(), Errno>> {
    let mut pending = Errno::EINPROGRESS;
    let mut ended = Ok(());
    if !wait.slept() {
        match begin_fastopen(cx, sk, (msg, flags, ubuf), wait) {
            Ok(Begun::Already) => pending = Errno::EALREADY,
            Ok(_) => (),
            Err(error) => ended = Err(error),
        }
    }
    if ended.is_ok() {
        ended = ready!(inet_wait_for_connect(cx, sk, wait, (flags, pending)));
    }
    if let Some(tp) = &mut sk.state().tcp {
        tp.tfo_clear(Tfo::REQ | Tfo::WRITE_PENDING);
    }
    Poll::Ready(ended)
}

fn begin_fastopen(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    (msg, flags, ubuf): (&MsgSend<'_>, i32, Option<&Arc<UbufInfo>>),
    wait: &mut Wait,
) -> Result<Begun, Errno> {
    let name = msg.name.unwrap_or(&[]);
    let family = name.first_chunk::<2>().map(|family| u16::from_ne_bytes(*family));
    let on = cx.tables().net.sysctl.tcp.fastopen & TFO_CLIENT_ENABLE != 0;
    if !on || family == Some(AF_UNSPEC as u16) {
        return Err(Errno::EOPNOTSUPP);
    }
    if sk.state().tcp.as_deref().is_some_and(|tp| tp.tfo(Tfo::REQ)) {
        return Err(Errno::EALREADY);
    }
    let all: usize = msg.iov.iter().map(|part| part.len()).sum();
    let mut req = FastopenReq { iov: msg.iov, copied: 0, ubuf };
    let waits = wait.may_wait(flags);
    let note = |tp: &mut TcpSock, copied: usize| {
        tp.tfo_clear(Tfo::DEFER_CONNECT);
        if waits {
            let more = if copied < all { Tfo::WRITE_PENDING } else { Tfo::empty() };
            tp.tfo_mut().flags |= Tfo::REQ | more;
        }
    };
    let begun = connect_step(cx, sk, (wait, flags), |cx, sk| {
        tcp_v4_connect_with(cx, sk, SockaddrIn::from_bytes(name)?, Some(&mut req))?;
        if let Some(tp) = &mut sk.state().tcp {
            note(tp, req.copied);
        }
        Ok(())
    });
    let begun = match begun {
        Ok(Begun::Deferred) => {
            let connected = sk.lock_sock(cx).in_bh(|cx, sk| {
                let connected = tcp_connect(cx, sk, Some(&mut req));
                note(sk.tp, req.copied);
                if connected.is_err() {
                    connect_failed(cx, sk);
                }
                connected
            });
            connected.ok_or(Errno::EOPNOTSUPP).flatten().and(if waits {
                Ok(Begun::Now)
            } else {
                Err(Errno::EINPROGRESS)
            })
        }
        begun => begun,
    };
    wait.progress = req.copied;
    begun
}

/// Lets peers connect, or changes how many may wait.
///
/// # Errors
/// EINVAL for a socket that is connected; EADDRINUSE without a port.
///
/// linux: net/ipv4/af_inet.c:inet_listen
pub(super) fn inet_listen(cx: &mut TaskCx, sk: &Arc<Sock>, backlog: i32) -> Result<(), Errno> {
    walk!(cx, inet_listen);
    let most = cx.tables().net.sysctl.somaxconn;
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
