//! Options of `SOL_TCP`. Context: task.
//!
//! linux: net/ipv4/tcp.c (`do_tcp_setsockopt`, `do_tcp_getsockopt`). An option that is not implemented fails
//! with ENOPROTOOPT; nothing succeeds silently.

use super::{
    AckPending, Nonagle, TCP_TIMEOUT_INIT, TcpSk, TcpSock, TcpState, tcp_clock_ms, tcp_get_info,
};
use crate::kernel::context::{BhCx, TaskCx};
use crate::net::core::sock::{SOCK_MIN_RCVBUF, Sock};
use crate::net::ipv4::inet_connection_sock::inet_csk_reset_keepalive_timer;
use crate::net::ipv4::tcp::recvmsg::tcp_cleanup_rbuf;
use crate::net::ipv4::tcp_cong::{TCP_CA_NAME_MAX, tcp_set_congestion_control};
use crate::net::ipv4::tcp_fastopen::{
    FastopenKeys, FastopenQueue, TFO_CLIENT_ENABLE, Tfo, tcp_fastopen_keys,
};
use crate::net::ipv4::tcp_input::{cong_refresh, tcp_ca_starts, tcp_set_window_clamp};
use crate::net::ipv4::tcp_md5sig::tcp_v4_parse_md5_keys;
use crate::net::ipv4::tcp_output::tcp_push_pending_frames;
use crate::net::ipv4::tcp_timer::{keepalive_time_elapsed, keepalive_time_when};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::tcp::{
    TCP_CC_INFO, TCP_CONGESTION, TCP_CORK, TCP_DEFER_ACCEPT, TCP_FASTOPEN, TCP_FASTOPEN_CONNECT,
    TCP_FASTOPEN_KEY, TCP_FASTOPEN_NO_COOKIE, TCP_INFO, TCP_INQ, TCP_KEEPCNT, TCP_KEEPIDLE,
    TCP_KEEPINTVL, TCP_LINGER2, TCP_MAXSEG, TCP_MD5SIG, TCP_MD5SIG_EXT, TCP_NODELAY,
    TCP_NOTSENT_LOWAT, TCP_QUICKACK, TCP_SAVE_SYN, TCP_SAVED_SYN, TCP_SYNCNT, TCP_THIN_DUPACK,
    TCP_THIN_LINEAR_TIMEOUTS, TCP_TIMESTAMP, TCP_USER_TIMEOUT, TCP_WINDOW_CLAMP,
};
use zerocopy::IntoBytes;

/// The least and the greatest segment size that a program may ask for (`TCP_MIN_MSS`, `MAX_TCP_WINDOW`).
const MAXSEG: std::ops::RangeInclusive<i32> = 88..=32_767;
/// Seconds of idleness at the most.
const MAX_TCP_KEEPIDLE: i32 = 32_767;
/// Probes at the most, and SYNs.
const MAX_TCP_COUNT: i32 = 127;
/// Seconds in FIN_WAIT2 at the most.
const TCP_FIN_TIMEOUT_MAX: i16 = 120;

/// Sets an option.
///
/// # Errors
/// EINVAL for a value that is out of range or too short; ENOENT for an algorithm there is not; EPERM to cork
/// nothing; ENOPROTOOPT for an option there is not.
///
/// linux: net/ipv4/tcp.c:tcp_setsockopt
pub(crate) fn tcp_setsockopt(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: i32,
    value: &[u8],
) -> Result<(), Errno> {
    let mut guard = sk.lock_sock(cx);
    if name == TCP_CONGESTION {
        let end = value.iter().position(|octet| *octet == 0).unwrap_or(value.len());
        if value.is_empty() {
            return Err(Errno::EINVAL);
        }
        let name = value[..end.min(TCP_CA_NAME_MAX - 1)].to_vec();
        let name = String::from_utf8(name).map_err(|_| Errno::ENOENT)?;
        return guard.in_bh(|cx, sk| set_congestion(cx, sk, &name)).ok_or(Errno::EOPNOTSUPP)?;
    }
    if matches!(name, TCP_MD5SIG | TCP_MD5SIG_EXT) {
        let set = guard.in_bh(|cx, sk| tcp_v4_parse_md5_keys(cx, sk, (name, value)));
        return set.ok_or(Errno::EOPNOTSUPP)?;
    }
    if name == TCP_FASTOPEN_KEY {
        let keys = FastopenKeys::from_bytes(value).ok_or(Errno::EINVAL)?;
        let set = guard.in_bh(|_, sk| sk.tp.fastopenq().set_keys(keys));
        return set.ok_or(Errno::EOPNOTSUPP);
    }
    let bytes: [u8; 4] =
        value.get(..4).and_then(|bytes| bytes.try_into().ok()).ok_or(Errno::EINVAL)?;
    let val = i32::from_ne_bytes(bytes);
    guard.in_bh(|cx, sk| set_one(cx, sk, name, val)).ok_or(Errno::EOPNOTSUPP)?
}

/// linux: net/ipv4/tcp_cong.c:tcp_set_congestion_control
fn set_congestion(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, name: &str) -> Result<(), Errno> {
    let ops = tcp_set_congestion_control(&cx.t.net, name)?;
    let now = cx.now();
    let tp = &mut *sk.tp;
    tp.ca_setsockopt = true;
    if tp.ca_ops.name() != ops.name() {
        tp.ca_ops = ops;
        if !matches!(tp.state, TcpState::Close | TcpState::Listen) {
            cong_refresh(tp, now);
            tp.ca_ops.init(&mut tp.cong);
            tcp_ca_starts(sk);
        }
    }
    Ok(())
}

fn set_one(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, name: i32, val: i32) -> Result<(), Errno> {
    let on = val != 0;
    match name {
        TCP_NODELAY => set_nodelay(cx, sk, on),
        TCP_CORK => set_cork(cx, sk, on),
        TCP_MAXSEG => {
            if on && !MAXSEG.contains(&val) {
                return Err(Errno::EINVAL);
            }
            sk.tp.rx_opt.user_mss = val as u16;
        }
        TCP_KEEPIDLE => set_keepidle(cx, sk, val)?,
        TCP_KEEPINTVL => {
            sk.tp.keepalive_intvl = within(val, 1..=MAX_TCP_KEEPIDLE)? as u16;
        }
        TCP_KEEPCNT => sk.tp.keepalive_probes = within(val, 1..=MAX_TCP_COUNT)? as u8,
        TCP_SYNCNT => sk.tp.syn_retries = within(val, 1..=MAX_TCP_COUNT)? as u8,
        TCP_LINGER2 => {
            // Negative: none.
            sk.tp.linger2 = val.clamp(-1, TCP_FIN_TIMEOUT_MAX.into()) as i16;
        }
        TCP_DEFER_ACCEPT => sk.tp.defer_accept = secs_to_retrans(val),
        TCP_WINDOW_CLAMP => set_window_clamp(sk, val)?,
        TCP_QUICKACK => set_quickack(cx, sk, val),
        TCP_USER_TIMEOUT => {
            sk.tp.user_timeout = u32::try_from(val).map_err(|_| Errno::EINVAL)?;
        }
        TCP_NOTSENT_LOWAT => {
            let most = cx.t.net.sysctl.tcp.notsent_lowat;
            sk.tp.notsent_lowat_option = val as u32;
            sk.tp.notsent_lowat = if val == 0 { most } else { val as u32 };
            crate::net::core::stream::sk_stream_write_space(cx, sk);
        }
        TCP_INQ => {
            if !(0..=1).contains(&val) {
                return Err(Errno::EINVAL);
            }
            sk.tp.recvmsg_inq = on;
        }
        TCP_THIN_LINEAR_TIMEOUTS => sk.tp.thin_lto = within(val, 0..=1)? != 0,
        // It has had no effect since Linux 4.19.
        TCP_THIN_DUPACK => drop(within(val, 0..=1)?),
        TCP_SAVE_SYN => sk.tp.save_syn = within(val, 0..=2)? as u8,
        TCP_FASTOPEN | TCP_FASTOPEN_CONNECT | TCP_FASTOPEN_NO_COOKIE => {
            return set_fastopen(cx, sk, name, val);
        }
        // Only for who takes a connection over (`TCP_REPAIR`).
        TCP_TIMESTAMP => return Err(Errno::EPERM),
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

/// Options of fast open, for sockets that have no connection.
fn set_fastopen(cx: &BhCx<'_>, sk: &mut TcpSk<'_>, name: i32, val: i32) -> Result<(), Errno> {
    let (sysctl, state) = (&cx.t.net.sysctl, sk.tp.state);
    let idle = matches!(state, TcpState::Close | TcpState::Listen);
    let flag = match name {
        TCP_FASTOPEN => {
            let most = u32::try_from(val).map_err(|_| Errno::EINVAL)?;
            if !idle {
                return Err(Errno::EINVAL);
            }
            let queue = sk.tp.fastopenq();
            queue.max_qlen.store(most.min(sysctl.somaxconn), Ordering::Relaxed);
            return Ok(());
        }
        TCP_FASTOPEN_CONNECT => {
            within(val, 0..=1)?;
            if sysctl.tcp.fastopen & TFO_CLIENT_ENABLE == 0 {
                return Err(Errno::EOPNOTSUPP);
            }
            if state != TcpState::Close {
                return Err(Errno::EINVAL);
            }
            Tfo::CONNECT
        }
        _ => {
            within(val, 0..=1)?;
            if !idle {
                return Err(Errno::EINVAL);
            }
            Tfo::NO_COOKIE
        }
    };
    sk.tp.tfo_mut().flags.set(flag, val != 0);
    Ok(())
}

fn within(val: i32, range: std::ops::RangeInclusive<i32>) -> Result<i32, Errno> {
    if range.contains(&val) { Ok(val) } else { Err(Errno::EINVAL) }
}

/// linux: net/ipv4/tcp.c:__tcp_sock_set_nodelay
fn set_nodelay(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, on: bool) {
    if on {
        sk.tp.nonagle |= Nonagle::OFF | Nonagle::PUSH;
        tcp_push_pending_frames(cx, sk);
    } else {
        sk.tp.nonagle.remove(Nonagle::OFF);
    }
}

/// linux: net/ipv4/tcp.c:__tcp_sock_set_cork
fn set_cork(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, on: bool) {
    if on {
        sk.tp.nonagle |= Nonagle::CORK;
        return;
    }
    sk.tp.nonagle.remove(Nonagle::CORK);
    if sk.tp.nonagle.contains(Nonagle::OFF) {
        sk.tp.nonagle |= Nonagle::PUSH;
    }
    tcp_push_pending_frames(cx, sk);
}

/// linux: net/ipv4/tcp.c:tcp_sock_set_keepidle_locked
fn set_keepidle(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, val: i32) -> Result<(), Errno> {
    sk.tp.keepalive_time = within(val, 1..=MAX_TCP_KEEPIDLE)? as u16;
    if sk.st.opts.keepalive && !matches!(sk.tp.state, TcpState::Close | TcpState::Listen) {
        let elapsed = keepalive_time_elapsed(cx.now(), sk.tp);
        let left = keepalive_time_when(cx, sk.tp).saturating_sub(elapsed);
        inet_csk_reset_keepalive_timer(cx, sk, left);
    }
    Ok(())
}

/// linux: net/ipv4/tcp.c:tcp_set_window_clamp
fn set_window_clamp(sk: &mut TcpSk<'_>, val: i32) -> Result<(), Errno> {
    if val == 0 {
        if sk.tp.state != TcpState::Close {
            return Err(Errno::EINVAL);
        }
        sk.tp.window_clamp = 0;
        return Ok(());
    }
    let clamp = val.max((SOCK_MIN_RCVBUF / 2) as i32) as u32;
    if sk.tp.window_clamp == clamp {
        return Ok(());
    }
    let grows = clamp > sk.tp.window_clamp;
    if grows {
        let most = sk.tp.rcv_wnd.min(clamp);
        sk.tp.window_clamp = clamp;
        sk.tp.rcv_ssthresh = sk.tp.rcv_ssthresh.max(most);
    } else {
        tcp_set_window_clamp(sk, clamp);
    }
    Ok(())
}

/// linux: net/ipv4/tcp.c:__tcp_sock_set_quickack
fn set_quickack(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, val: i32) {
    if val == 0 {
        sk.tp.enter_pingpong_mode();
        return;
    }
    sk.tp.ack.pingpong = 0;
    let open = matches!(sk.tp.state, TcpState::Established | TcpState::CloseWait);
    if open && sk.tp.ack.pending.contains(AckPending::SCHED) {
        sk.tp.ack.pending |= AckPending::PUSHED;
        tcp_cleanup_rbuf(cx, sk, 1);
        // An even number asks for this once.
        if val & 1 == 0 {
            sk.tp.enter_pingpong_mode();
        }
    }
}

/// The time-outs of a SYN-ACK that take as long as so many seconds.
///
/// linux: net/ipv4/tcp.c:secs_to_retrans
fn secs_to_retrans(seconds: i32) -> u8 {
    if seconds <= 0 {
        return 0;
    }
    let (mut tries, mut timeout) = (1_u8, i64::from(TCP_TIMEOUT_INIT / 1_000_000));
    let mut period = timeout;
    while i64::from(seconds) > period && tries < u8::MAX {
        tries += 1;
        timeout = (timeout << 1).min(120);
        period += timeout;
    }
    tries
}

/// The other way round.
///
/// linux: net/ipv4/tcp.c:retrans_to_secs
fn retrans_to_secs(tries: u8) -> i32 {
    let (mut period, mut timeout) = (0, TCP_TIMEOUT_INIT as i32 / 1_000_000);
    for _ in 0..tries {
        period += timeout;
        timeout = (timeout << 1).min(120);
    }
    period
}

/// The headers of the SYN that made a connection, once.
///
/// # Errors
/// EINVAL if they are longer than the room there is.
fn saved_syn(tp: &mut TcpSock, room: usize) -> Result<Vec<u8>, Errno> {
    if tp.saved_syn.as_ref().is_some_and(|syn| syn.0.len() > room) {
        return Err(Errno::EINVAL);
    }
    Ok(tp.saved_syn.take().map(|syn| syn.0.into_vec()).unwrap_or_default())
}

/// What a socket has of fast open as a listener.
fn fastopen_queue(tp: &TcpSock) -> Option<&FastopenQueue> {
    tp.fastopen.as_ref()?.queue.as_deref()
}

/// Reads an option.
///
/// # Errors
/// ENOPROTOOPT for an option there is not.
///
/// linux: net/ipv4/tcp.c:tcp_getsockopt
pub(crate) fn tcp_getsockopt(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: i32,
    room: usize,
) -> Result<Vec<u8>, Errno> {
    let now = cx.now();
    let t = cx.tables();
    let sysctl = &t.net.sysctl.tcp;
    let mut locked = sk.state();
    let sk = TcpSk::of(sk, &mut locked).ok_or(Errno::EOPNOTSUPP)?;
    let tp = &*sk.tp;
    let seconds = |own: u16, common: Duration| {
        if own != 0 { own.into() } else { common.as_secs() as i32 }
    };
    let count = |own: u8, common: u8| i32::from(if own != 0 { own } else { common });
    let value = match name {
        TCP_MAXSEG => {
            let unconnected = matches!(tp.state, TcpState::Close | TcpState::Listen);
            if unconnected && tp.rx_opt.user_mss != 0 {
                i32::from(tp.rx_opt.user_mss)
            } else {
                tp.mss_cache as i32
            }
        }
        TCP_NODELAY => i32::from(tp.nonagle.contains(Nonagle::OFF)),
        TCP_CORK => i32::from(tp.nonagle.contains(Nonagle::CORK)),
        TCP_KEEPIDLE => seconds(tp.keepalive_time, sysctl.keepalive_time),
        TCP_KEEPINTVL => seconds(tp.keepalive_intvl, sysctl.keepalive_intvl),
        TCP_KEEPCNT => count(tp.keepalive_probes, sysctl.keepalive_probes),
        TCP_SYNCNT => count(tp.syn_retries, sysctl.syn_retries),
        TCP_LINGER2 => match tp.linger2 {
            0 => sysctl.fin_timeout.as_secs() as i32,
            own => own.into(),
        },
        TCP_DEFER_ACCEPT => retrans_to_secs(tp.defer_accept),
        TCP_WINDOW_CLAMP => tp.window_clamp as i32,
        TCP_QUICKACK => i32::from(!tp.in_pingpong_mode()),
        TCP_USER_TIMEOUT => tp.user_timeout as i32,
        TCP_NOTSENT_LOWAT => tp.notsent_lowat_option as i32,
        TCP_INQ => i32::from(tp.recvmsg_inq),
        TCP_THIN_LINEAR_TIMEOUTS => tp.thin_lto.into(),
        TCP_THIN_DUPACK => 0,
        TCP_SAVE_SYN => tp.save_syn.into(),
        TCP_FASTOPEN => {
            fastopen_queue(tp).map_or(0, |queue| queue.max_qlen.load(Ordering::Relaxed) as i32)
        }
        TCP_FASTOPEN_CONNECT => tp.tfo(Tfo::CONNECT).into(),
        TCP_FASTOPEN_NO_COOKIE => tp.tfo(Tfo::NO_COOKIE).into(),
        TCP_FASTOPEN_KEY => {
            let common = || tcp_fastopen_keys(sysctl, sk.sk.net.tcp.fastopen.key);
            let own = fastopen_queue(tp).and_then(|queue| queue.keys());
            return Ok(own.unwrap_or_else(common).to_bytes());
        }
        TCP_SAVED_SYN => return saved_syn(sk.tp, room),
        TCP_TIMESTAMP => tcp_clock_ms(now).wrapping_add(tp.tsoffset) as i32,
        TCP_INFO => return Ok(tcp_get_info(&sk, now).as_bytes().to_vec()),
        TCP_CC_INFO => return Ok(tp.ca_ops.get_info(&tp.cong)),
        TCP_CONGESTION => {
            let mut name = [0; TCP_CA_NAME_MAX];
            let bytes = tp.ca_ops.name().as_bytes();
            let len = bytes.len().min(TCP_CA_NAME_MAX - 1);
            name[..len].copy_from_slice(&bytes[..len]);
            return Ok(name.to_vec());
        }
        _ => return Err(Errno::ENOPROTOOPT),
    };
    Ok(value.to_ne_bytes().to_vec())
}
