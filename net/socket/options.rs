//! Options of `SOL_SOCKET`. Context: task.
//!
//! linux: net/core/sock.c (`sock_setsockopt`), net/socket.c.
//! DIVERGES: times are kept as given; Linux rounds them to its ticks.
//! An option that is not implemented fails with ENOPROTOOPT; nothing succeeds silently.

use super::sockfd_lookup_light;
use crate::kernel::context::TaskCx;
use crate::net::core::busy_poll::busy_poll_begins;
use crate::net::core::snmp::Mib;
use crate::net::core::sock::{Proto, SOCK_MIN_RCVBUF, SOCK_MIN_SNDBUF, Sock, SockState};
use crate::net::core::stream::sk_stream_write_space;
use crate::net::core::timestamping::TstampNew;
use crate::net::ipv4::igmp::{ip_mc_getsockopt, ip_mc_setsockopt};
use crate::net::ipv4::inet_hashtables::{BindAttrs, CmsgFlags};
use crate::net::ipv4::ip_options::ip_options_value;
use crate::net::ipv4::ip_sockglue::{ip_getsockopt, ip_setsockopt};
use crate::net::ipv4::tcp::{TcpSk, TcpState};
use crate::net::ipv4::tcp_input::tcp_cap_pacing_rate;
use crate::net::ipv4::tcp_timer::tcp_set_keepalive;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::if_::IFNAMSIZ;
use uapi::in_::IP_OPTIONS;
use uapi::socket::{
    AF_INET, SO_ACCEPTCONN, SO_ATTACH_FILTER, SO_BINDTODEVICE, SO_BINDTOIFINDEX, SO_BROADCAST,
    SO_BUSY_POLL, SO_BUSY_POLL_BUDGET, SO_COOKIE, SO_DETACH_FILTER, SO_DOMAIN, SO_DONTROUTE,
    SO_ERROR, SO_INCOMING_CPU, SO_INCOMING_NAPI_ID, SO_KEEPALIVE, SO_LINGER, SO_LOCK_FILTER,
    SO_MARK, SO_MAX_PACING_RATE, SO_NO_CHECK, SO_OOBINLINE, SO_PEEK_OFF, SO_PREFER_BUSY_POLL,
    SO_PRIORITY, SO_PROTOCOL, SO_RCVBUF, SO_RCVBUFFORCE, SO_RCVLOWAT, SO_RCVTIMEO, SO_REUSEADDR,
    SO_REUSEPORT, SO_RXQ_OVFL, SO_SNDBUF, SO_SNDBUFFORCE, SO_SNDLOWAT, SO_SNDTIMEO, SO_TIMESTAMP,
    SO_TIMESTAMP_NEW, SO_TIMESTAMPING, SO_TIMESTAMPING_NEW, SO_TIMESTAMPNS, SO_TIMESTAMPNS_NEW,
    SO_TYPE, SO_ZEROCOPY, SOL_IP, SOL_SOCKET, SOL_TCP, SOL_UDP,
};

/// Reading what was attached has the same number.
const SO_GET_FILTER: i32 = SO_ATTACH_FILTER;

/// Sets an option: `value` as the bytes that Linux takes.
///
/// # Errors
/// EBADF, ENOTSOCK; EINVAL for a value too short or out of range; ENOPROTOOPT for an option there
/// is not; EDOM for a time that is none; ENODEV for a device.
///
/// linux: net/socket.c:sys_setsockopt
pub fn sys_setsockopt(
    cx: &mut TaskCx,
    fd: i32,
    level: i32,
    name: i32,
    value: &[u8],
) -> Result<(), Errno> {
    cx.enter_call();
    walk!(cx, sys_setsockopt);
    let done = sockfd_lookup_light(cx, fd, |cx, _, socket| match level {
        SOL_SOCKET => sock_setsockopt(cx, &socket.sk, name, value),
        SOL_IP if socket.sk.sk_prot.family == AF_INET => {
            match ip_mc_setsockopt(cx, &socket.sk, name, value) {
                Some(done) => done,
                None => ip_setsockopt(cx, &socket.sk, name, value),
            }
        }
        level if level == socket.sk.sk_prot.level => {
            (socket.ops.setsockopt)(cx, &socket.sk, name, value)
        }
        _ => Err(Errno::ENOPROTOOPT),
    });
    done.inspect_err(|error| count_unknown(cx, *error))
}

/// Whoever looks for why a program behaves otherwise here finds that an option was refused.
#[cold]
fn count_unknown(cx: &mut TaskCx, error: Errno) {
    if matches!(error, Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) {
        cx.local_bh_disable(|bh| bh.count(Mib::UnknownOptions));
    }
}

/// linux: net/core/sock.c:sock_setsockopt
fn sock_setsockopt(cx: &mut TaskCx, sk: &Arc<Sock>, name: i32, value: &[u8]) -> Result<(), Errno> {
    match name {
        SO_BINDTODEVICE => return bind_to_device(cx, sk, value),
        SO_ATTACH_FILTER => {
            let optmem_max = cx.tables().net.sysctl.optmem_max;
            return sk.state().sk_attach_filter(value, optmem_max);
        }
        SO_RCVTIMEO => {
            sk.state().opts.rcvtimeo = timeval(value)?;
            return Ok(());
        }
        SO_SNDTIMEO => {
            sk.state().opts.sndtimeo = timeval(value)?;
            return Ok(());
        }
        _ => (),
    }
    let val = int(value)?;
    if not_for(sk.sk_prot, name, val) {
        return Err(Errno::EOPNOTSUPP);
    }
    match name {
        SO_DETACH_FILTER => return sk.state().sk_detach_filter(),
        SO_LOCK_FILTER => return sk.state().sk_lock_filter(val != 0),
        _ => (),
    }
    if name == SO_MAX_PACING_RATE {
        set_max_pacing_rate(cx, sk, (val, value));
        return Ok(());
    }
    let sysctl = Arc::clone(&cx.tables().net.sysctl);
    // Linux reads a negative size as a huge one.
    let within = |max: u32, least: u32| ((val as u32).min(max) * 2).max(least);
    match name {
        SO_SNDBUF => set_sndbuf(cx, sk, within(sysctl.wmem_max, SOCK_MIN_SNDBUF)),
        SO_SNDBUFFORCE => set_sndbuf(cx, sk, forced(val).max(SOCK_MIN_SNDBUF)),
        SO_RCVBUF => set_rcvbuf(sk, within(sysctl.rmem_max, SOCK_MIN_RCVBUF)),
        SO_RCVBUFFORCE => set_rcvbuf(sk, forced(val).max(SOCK_MIN_RCVBUF)),
        SO_KEEPALIVE => set_keepalive(cx, sk, val != 0),
        SO_TIMESTAMPING => return sk.sock_set_timestamping(val as u32, TstampNew::No),
        SO_TIMESTAMPING_NEW => return sk.sock_set_timestamping(val as u32, TstampNew::Yes),
        SO_REUSEADDR | SO_REUSEPORT | SO_BINDTOIFINDEX | SO_INCOMING_CPU => {
            return set_compared(sk, name, val);
        }
        _ => {
            if name == SO_BUSY_POLL && val > 0 {
                busy_poll_begins(sk);
            }
            return set_plain(&mut sk.state(), name, (val, value));
        }
    }
    Ok(())
}

/// An option that sockets of this protocol do not have.
///
/// linux: net/core/sock.c:sk_setsockopt
fn not_for(prot: &Proto, name: i32, val: i32) -> bool {
    let carries_data = matches!(prot.level, SOL_TCP | SOL_UDP);
    match name {
        SO_PEEK_OFF | SO_ZEROCOPY => !carries_data,
        SO_REUSEPORT => val != 0 && prot.family != AF_INET,
        _ => false,
    }
}

/// A send buffer that was set stays as it is.
///
/// linux: net/core/sock.c:sk_setsockopt (SO_SNDBUF)
fn set_sndbuf(cx: &mut TaskCx, sk: &Arc<Sock>, bytes: u32) {
    sk.set_sndbuf(bytes);
    cx.local_bh_disable(|bh| {
        let mut locked = sk.state();
        if let Some(mut sk) = TcpSk::of(sk, &mut locked) {
            sk.tp.sndbuf_locked = true;
            sk_stream_write_space(bh, &mut sk);
        }
    });
}

/// linux: net/core/sock.c:__sock_set_rcvbuf
fn set_rcvbuf(sk: &Arc<Sock>, bytes: u32) {
    let mut state = sk.state();
    state.opts.rcvbuf = bytes;
    if let Some(tp) = &mut state.tcp {
        tp.rcvbuf_locked = true;
    }
}

/// A rate of 4 octets, of which all ones stand for none, or of 8.
///
/// linux: net/core/sock.c:sk_setsockopt (SO_MAX_PACING_RATE)
fn set_max_pacing_rate(cx: &mut TaskCx, sk: &Arc<Sock>, (val, value): (i32, &[u8])) {
    let short = if val == -1 { u64::MAX } else { u64::from(val as u32) };
    let long = value.get(..8).and_then(|bytes| bytes.try_into().ok());
    let rate = long.map_or(short, u64::from_ne_bytes);
    if rate != u64::MAX {
        sk.need_pacing();
    }
    sk.set_max_pacing_rate(rate);
    cx.local_bh_disable(|_| {
        if let Some(mut sk) = TcpSk::of(sk, &mut sk.state()) {
            tcp_cap_pacing_rate(&mut sk);
        }
    });
}

/// The same, as wide as there is room for.
fn max_pacing_rate(sk: &Sock, room: usize) -> Vec<u8> {
    let rate = sk.max_pacing_rate();
    match room {
        0..8 => u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes().to_vec(),
        _ => rate.to_ne_bytes().to_vec(),
    }
}

/// linux: net/core/sock.c:sk_setsockopt (SO_KEEPALIVE)
fn set_keepalive(cx: &mut TaskCx, sk: &Arc<Sock>, on: bool) {
    cx.local_bh_disable(|bh| {
        let mut locked = sk.state();
        if let Some(mut sk) = TcpSk::of(sk, &mut locked) {
            tcp_set_keepalive(bh, &mut sk, on);
        }
        locked.opts.keepalive = on;
    });
}

/// Sets what lookups compare, which changes in the table too.
fn set_compared(sk: &Arc<Sock>, name: i32, val: i32) -> Result<(), Errno> {
    match name {
        SO_REUSEADDR => change_compared(sk, |state| state.opts.reuse = val != 0),
        SO_REUSEPORT => change_compared(sk, |state| state.opts.reuseport = val != 0),
        SO_INCOMING_CPU => {
            sk.set_incoming_cpu(val);
            // No lookup from before is remembered.
            change_compared(sk, |_| ());
        }
        _ => {
            // Whether there is such a device shows when it is used.
            let index = u32::try_from(val).map_err(|_| Errno::EINVAL)?;
            let index = u16::try_from(index).map_err(|_| Errno::ENODEV)?;
            change_compared(sk, |state| state.opts.bound_dev_if = index);
        }
    }
    Ok(())
}

/// Changes it where the protocol's lookups see it.
fn change_compared(sk: &Arc<Sock>, change: impl FnOnce(&mut SockState)) {
    if sk.sk_prot.level == SOL_UDP {
        return sk.net.udp_table.rehash(sk, change);
    }
    let mut locked = sk.state();
    change(&mut locked);
    if let Some(node) = locked.tcp.as_ref().and_then(|tp| tp.bind.as_ref()) {
        node.set(BindAttrs::of(&locked.base, node.kind()));
    }
}

/// Sets what is only remembered in the socket.
fn set_plain(state: &mut SockState, name: i32, (val, value): (i32, &[u8])) -> Result<(), Errno> {
    let on = val != 0;
    let (opts, told) = (&mut state.opts, &mut state.inet.cmsg_flags);
    match name {
        SO_OOBINLINE => opts.urginline = on,
        SO_PEEK_OFF => opts.peek_off = val,
        SO_BROADCAST => opts.broadcast = on,
        SO_DONTROUTE => opts.localroute = on,
        SO_NO_CHECK => opts.no_check_tx = on,
        SO_BUSY_POLL => opts.ll_usec = u32::try_from(val).map_err(|_| Errno::EINVAL)?,
        SO_PREFER_BUSY_POLL => opts.prefer_busy_poll = on,
        SO_BUSY_POLL_BUDGET => {
            opts.busy_poll_budget = u16::try_from(val).map_err(|_| Errno::EINVAL)?;
        }
        SO_ZEROCOPY => opts.zerocopy = (0..=1).contains(&val).then_some(on).ok_or(Errno::EINVAL)?,
        SO_PRIORITY => opts.priority = val as u32,
        SO_MARK => opts.mark = val as u32,
        SO_RCVLOWAT => {
            opts.rcvlowat = match val {
                0 => 1,
                negative if negative < 0 => i32::MAX,
                bytes => bytes,
            };
        }
        SO_LINGER => {
            let time = int(value.get(4..).unwrap_or(&[]))?;
            // The time stays what it was while it is off.
            opts.linger.on = on;
            if on {
                opts.linger.seconds = time;
            }
        }
        SO_TIMESTAMP | SO_TIMESTAMP_NEW | SO_TIMESTAMPNS | SO_TIMESTAMPNS_NEW => {
            sock_set_timestamp(told, name, on);
        }
        SO_RXQ_OVFL => told.set(CmsgFlags::RXQ_OVFL, on),
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

/// One shape of a time at most is told.
///
/// linux: net/core/sock.c:sock_set_timestamp
fn sock_set_timestamp(told: &mut CmsgFlags, name: i32, on: bool) {
    told.remove(CmsgFlags::TIMESTAMP | CmsgFlags::TIMESTAMPNS);
    if on {
        let ns = matches!(name, SO_TIMESTAMPNS | SO_TIMESTAMPNS_NEW);
        told.insert(if ns { CmsgFlags::TIMESTAMPNS } else { CmsgFlags::TIMESTAMP });
        told.set(CmsgFlags::TSTAMP_NEW, matches!(name, SO_TIMESTAMP_NEW | SO_TIMESTAMPNS_NEW));
        // From now on packets have a time, told or not.
        told.insert(CmsgFlags::STAMP);
    }
}

/// The flags of `SO_TIMESTAMPING`; by its newer number only what was set by that.
///
/// linux: net/core/sock.c:sk_getsockopt
fn sock_get_timestamping(sk: &Sock, told: CmsgFlags, name: i32) -> Vec<u8> {
    let tells = name == SO_TIMESTAMPING || told.contains(CmsgFlags::TSTAMP_NEW);
    let flags = if tells { sk.tsflags() } else { 0 };
    // No clock of a device's is bound.
    [flags, 0].map(u32::to_ne_bytes).concat()
}

/// Whether the time is told in the shape of an option.
///
/// linux: net/core/sock.c:sk_getsockopt
fn sock_get_timestamp(told: CmsgFlags, name: i32) -> i32 {
    let shape = match name {
        SO_TIMESTAMP => CmsgFlags::TIMESTAMP,
        // Of nanoseconds too, as in Linux.
        SO_TIMESTAMP_NEW => CmsgFlags::TIMESTAMP | CmsgFlags::TIMESTAMPNS,
        _ => CmsgFlags::TIMESTAMPNS,
    };
    let new = matches!(name, SO_TIMESTAMP_NEW | SO_TIMESTAMPNS_NEW);
    i32::from(told.intersects(shape) && told.contains(CmsgFlags::TSTAMP_NEW) == new)
}

/// A buffer's size beyond the bound; negative: none.
fn forced(val: i32) -> u32 {
    (val.max(0) as u32).min(i32::MAX as u32 / 2) * 2
}

fn int(value: &[u8]) -> Result<i32, Errno> {
    let bytes: [u8; 4] = value.get(..4).and_then(|v| v.try_into().ok()).ok_or(Errno::EINVAL)?;
    Ok(i32::from_ne_bytes(bytes))
}

/// Seconds beyond which a time is none: where Linux's count of ticks ends.
const FOR_EVER: u64 = i64::MAX as u64 / 1000;

/// A `struct timeval`; zero: for ever.
fn timeval(value: &[u8]) -> Result<Option<Duration>, Errno> {
    let at = |range: std::ops::Range<usize>| -> Result<i64, Errno> {
        let bytes = value.get(range).and_then(|v| v.try_into().ok()).ok_or(Errno::EINVAL)?;
        Ok(i64::from_ne_bytes(bytes))
    };
    let (secs, micros) = (at(0..8)?, at(8..16)?);
    if !(0..1_000_000).contains(&micros) {
        return Err(Errno::EDOM);
    }
    // Linux reads a negative time as no waiting at all: the shortest there is.
    let Ok(secs) = u64::try_from(secs) else { return Ok(Some(Duration::from_nanos(1))) };
    if secs > FOR_EVER {
        return Ok(None);
    }
    let timeout = Duration::from_secs(secs) + Duration::from_micros(micros as u64);
    Ok((!timeout.is_zero()).then_some(timeout))
}

/// linux: net/core/sock.c:sock_setbindtodevice
fn bind_to_device(cx: &mut TaskCx, sk: &Arc<Sock>, value: &[u8]) -> Result<(), Errno> {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    let name = std::str::from_utf8(&value[..end]).map_err(|_| Errno::ENODEV)?;
    let index = if name.is_empty() {
        0
    } else {
        cx.tables().net.dev_by_name(name).ok_or(Errno::ENODEV)?.ifindex.0
    };
    change_compared(sk, |state| state.opts.bound_dev_if = index);
    Ok(())
}

/// Reads an option as the bytes that Linux gives, with room for all of them.
///
/// # Errors
/// As [`__sys_getsockopt`].
///
/// linux: net/socket.c:sys_getsockopt
pub fn sys_getsockopt(cx: &mut TaskCx, fd: i32, level: i32, name: i32) -> Result<Vec<u8>, Errno> {
    __sys_getsockopt(cx, fd, level, name, i32::MAX)
}

/// Reads an option into room for `optlen` bytes: what Linux writes there.
///
/// # Errors
/// EBADF, ENOTSOCK; EINVAL for negative or, with some options, little room; ENOPROTOOPT,
/// EOPNOTSUPP.
///
/// linux: net/socket.c:__sys_getsockopt
pub fn __sys_getsockopt(
    cx: &mut TaskCx,
    fd: i32,
    level: i32,
    name: i32,
    optlen: i32,
) -> Result<Vec<u8>, Errno> {
    getsockopt(cx, fd, (level, name), (&[], optlen))
}

/// Reads an option that goes by what stands in the caller's buffer (`IP_MSFILTER`, `MCAST_MSFILTER`), into that buffer:
/// what Linux writes there.
///
/// # Errors
/// As [`__sys_getsockopt`]; those of the option.
///
/// linux: net/socket.c:__sys_getsockopt
pub fn sys_getsockopt_by(
    cx: &mut TaskCx,
    fd: i32,
    level: i32,
    name: i32,
    optval: &[u8],
) -> Result<Vec<u8>, Errno> {
    let optlen = i32::try_from(optval.len()).map_err(|_| Errno::EINVAL)?;
    getsockopt(cx, fd, (level, name), (optval, optlen))
}

fn getsockopt(
    cx: &mut TaskCx,
    fd: i32,
    (level, name): (i32, i32),
    (optval, optlen): (&[u8], i32),
) -> Result<Vec<u8>, Errno> {
    cx.enter_call();
    walk!(cx, sys_getsockopt);
    let value = sockfd_lookup_light(cx, fd, |cx, _, socket| {
        let (family, own) = (socket.sk.sk_prot.family, socket.sk.sk_prot.level);
        if ![SOL_SOCKET, own].contains(&level) && (level, family) != (SOL_IP, AF_INET) {
            let none = if family == AF_INET { Errno::EOPNOTSUPP } else { Errno::ENOPROTOOPT };
            return Err(none);
        }
        let room = usize::try_from(optlen).map_err(|_| Errno::EINVAL)?;
        let mut value = match level {
            SOL_SOCKET => sock_getsockopt(cx, &socket.sk, name, room)?,
            SOL_IP if let Some(value) = ip_mc_getsockopt(cx, &socket.sk, name, optval) => value?,
            SOL_IP if name == IP_OPTIONS => ip_options_value(&socket.sk.state()),
            SOL_IP => return Ok(ip_value(ip_getsockopt(cx, &socket.sk, name)?, room)),
            _ => (socket.ops.getsockopt)(cx, &socket.sk, name, room)?,
        };
        value.truncate(room);
        Ok(value)
    });
    value.inspect_err(|error| count_unknown(cx, *error))
}

/// linux: net/core/sock.c:sock_getsockopt
fn sock_getsockopt(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: i32,
    room: usize,
) -> Result<Vec<u8>, Errno> {
    let mut state = sk.state();
    let opts = &state.opts;
    let told = state.inet.cmsg_flags;
    let asked = |flag| i32::from(told.contains(flag));
    let value = match name {
        SO_TYPE => sk.sk_type(),
        SO_PROTOCOL => sk.sk_protocol().into(),
        SO_DOMAIN => sk.sk_prot.family,
        SO_ACCEPTCONN => {
            i32::from(state.tcp.as_ref().is_some_and(|tp| tp.state == TcpState::Listen))
        }
        SO_ERROR => state.sock_error().err().map_or(0, |error| error.0),
        SO_REUSEADDR => i32::from(opts.reuse),
        SO_REUSEPORT => i32::from(opts.reuseport),
        SO_BROADCAST => i32::from(opts.broadcast),
        SO_DONTROUTE => i32::from(opts.localroute),
        SO_KEEPALIVE => i32::from(opts.keepalive),
        SO_NO_CHECK => i32::from(opts.no_check_tx),
        SO_ZEROCOPY => i32::from(opts.zerocopy),
        SO_BUSY_POLL => opts.ll_usec as i32,
        SO_PREFER_BUSY_POLL => i32::from(opts.prefer_busy_poll),
        SO_PRIORITY => opts.priority as i32,
        SO_MARK => opts.mark as i32,
        SO_RCVBUF => opts.rcvbuf as i32,
        SO_SNDBUF => sk.sndbuf() as i32,
        SO_RCVLOWAT => opts.rcvlowat,
        SO_SNDLOWAT => 1,
        SO_OOBINLINE => i32::from(opts.urginline),
        SO_PEEK_OFF => opts.peek_off,
        SO_BINDTOIFINDEX => i32::from(opts.bound_dev_if),
        SO_INCOMING_CPU => sk.incoming_cpu_option(),
        SO_INCOMING_NAPI_ID => sk.napi_id() as i32,
        SO_TIMESTAMPING | SO_TIMESTAMPING_NEW => return Ok(sock_get_timestamping(sk, told, name)),
        SO_TIMESTAMP | SO_TIMESTAMP_NEW | SO_TIMESTAMPNS | SO_TIMESTAMPNS_NEW => {
            sock_get_timestamp(told, name)
        }
        SO_RXQ_OVFL => asked(CmsgFlags::RXQ_OVFL),
        SO_LINGER => {
            let linger = [i32::from(opts.linger.on), opts.linger.seconds];
            return Ok(linger.iter().flat_map(|value| value.to_ne_bytes()).collect());
        }
        SO_LOCK_FILTER => i32::from(state.filter_locked()),
        SO_GET_FILTER => return filter_value(&state, room),
        SO_RCVTIMEO => return Ok(timeval_bytes(opts.rcvtimeo)),
        SO_SNDTIMEO => return Ok(timeval_bytes(opts.sndtimeo)),
        SO_MAX_PACING_RATE => return Ok(max_pacing_rate(sk, room)),
        SO_COOKIE => return Ok(sk.cookie.to_ne_bytes().to_vec()),
        SO_BINDTODEVICE => return bound_device(cx, opts.bound_dev_if, room),
        _ => return Err(Errno::ENOPROTOOPT),
    };
    Ok(value.to_ne_bytes().to_vec())
}

/// The name of the device that it is bound to.
fn bound_device(cx: &TaskCx, index: u16, room: usize) -> Result<Vec<u8>, Errno> {
    if index == 0 {
        return Ok(Vec::new());
    }
    // A name is never cut.
    if room < IFNAMSIZ {
        return Err(Errno::EINVAL);
    }
    let t = cx.tables();
    let dev = t.net.dev(crate::net::core::dev::DevId(index)).ok_or(Errno::ENODEV)?;
    Ok([dev.name.as_bytes(), &[0]].concat())
}

fn filter_value(state: &SockState, room: usize) -> Result<Vec<u8>, Errno> {
    let program = state.sk_get_filter();
    if room < program.len() { Err(Errno::EINVAL) } else { Ok(program) }
}

fn timeval_bytes(timeout: Option<Duration>) -> Vec<u8> {
    let timeout = timeout.unwrap_or_default();
    let parts = [timeout.as_secs() as i64, i64::from(timeout.subsec_micros())];
    parts.iter().flat_map(|part| part.to_ne_bytes()).collect()
}

/// An answer of `SOL_IP`: a small one fits into a byte.
fn ip_value(value: i32, room: usize) -> Vec<u8> {
    match u8::try_from(value) {
        Ok(byte) if (1..4).contains(&room) => vec![byte],
        _ => value.to_ne_bytes()[..room.min(4)].to_vec(),
    }
}
