//! A connection's place in the tables: its port, its tuple. Context: BH, under the socket's lock.
//!
//! linux: net/ipv4/inet_hashtables.c; RFC 6056.

use super::bhash::BindAttrs;
use super::{BindKind, EhashEntry, InetTuple};
use crate::kernel::context::BhCx;
use crate::net::core::secure_seq::secure_ipv4_port_ephemeral;
use crate::net::core::sock::SockState;
use crate::net::ipv4::inet_timewait_sock::{
    InetTimewaitSock, inet_twsk_deschedule_put, tcp_twsk_unique,
};
use crate::net::ipv4::tcp::{TcpSk, TcpState};
use std::sync::Arc;
use uapi::errno::Errno;

impl InetTuple {
    /// A socket's own.
    pub(crate) fn of(st: &SockState) -> Self {
        Self {
            laddr: st.inet.rcv_saddr,
            raddr: st.inet.daddr,
            lport: st.inet.num,
            rport: st.inet.dport,
            dev: st.opts.bound_dev_if,
        }
    }
}

impl BindAttrs {
    /// What a socket says of its port.
    pub(crate) fn of(st: &SockState, kind: BindKind) -> Self {
        Self {
            rcv_saddr: st.inet.rcv_saddr,
            dev: st.opts.bound_dev_if,
            reuse: st.opts.reuse,
            reuseport: st.opts.reuseport,
            kind,
        }
    }
}

/// Enters a connection that is about to begin: with its own port, or one chosen so that nobody can
/// guess it from those to other destinations.
///
/// # Errors
/// EADDRNOTAVAIL: the tuple is taken, or every port is.
///
/// linux: net/ipv4/inet_hashtables.c:inet_hash_connect
pub(crate) fn inet_hash_connect(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> Result<(), Errno> {
    let tuple = InetTuple::of(sk.st);
    if tuple.lport != 0 {
        let Ok(displaced) = __inet_check_established(cx, sk, &tuple) else {
            return Err(Errno::EADDRNOTAVAIL);
        };
        if let Some(tw) = displaced {
            inet_twsk_deschedule_put(cx, &tw);
        }
        sk.tp.hashed = true;
        return Ok(());
    }
    let (low, high) = cx.t.net.sysctl.ip_local_port_range;
    let net = &cx.t.ns;
    let hash = secure_ipv4_port_ephemeral(
        &net.tcp.port_key,
        tuple.laddr.into(),
        tuple.raddr.into(),
        tuple.rport,
    );
    let take = |port| try_port(cx, sk, InetTuple { lport: port, ..tuple });
    let perturb = net.tcp.hashinfo.bhash.perturb(hash);
    let steps = perturb.search(hash, (low, high), take).ok_or(Errno::EADDRNOTAVAIL)?;
    let jump = cx.cpu.rng.below(8) * 2;
    perturb.go_on_behind(steps.max(jump));
    Ok(())
}

fn try_port(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, tuple: InetTuple) -> bool {
    let net = &cx.t.ns;
    let attrs = BindAttrs::of(sk.st, BindKind::Connect);
    let mut displaced = None;
    let node =
        net.tcp.hashinfo.bhash.bind_connect(tuple.lport, attrs, || match __inet_check_established(
            cx, sk, &tuple,
        ) {
            Ok(there) => {
                displaced = there;
                true
            }
            Err(Taken) => false,
        });
    if let Some(tw) = displaced {
        inet_twsk_deschedule_put(cx, &tw);
    }
    let Some(node) = node else { return false };
    sk.tp.bind = Some(node);
    sk.tp.hashed = true;
    sk.sk.set_inet_num(sk.st, tuple.lport);
    true
}

/// Somebody has the tuple.
struct Taken;

/// Enters a tuple if nobody has it, or what has it is done with (`tcp_tw_reuse`); that, to be ended.
///
/// linux: net/ipv4/inet_hashtables.c:__inet_check_established
fn __inet_check_established(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    tuple: &InetTuple,
) -> Result<Option<Arc<InetTimewaitSock>>, Taken> {
    let net = &cx.t.ns;
    let entry = || EhashEntry::Sock(Arc::clone(sk.sk));
    let now = cx.now();
    let (t, tp) = (cx.t, &mut *sk.tp);
    let entered = net.tcp.hashinfo.ehash.insert(tuple, entry, |there| match there {
        EhashEntry::TimeWait(tw) => tcp_twsk_unique(t, tp, tw, now),
        _ => false,
    });
    match entered {
        Ok(Some(EhashEntry::TimeWait(tw))) => Ok(Some(tw)),
        Ok(_) => Ok(None),
        Err(_) => Err(Taken),
    }
}

/// Enters a listener.
///
/// linux: net/ipv4/inet_hashtables.c:inet_hash
pub(crate) fn inet_hash(sk: &mut TcpSk<'_>) {
    let addrs = (sk.st.inet.rcv_saddr, sk.st.opts.bound_dev_if);
    let (port, reuseport) = (sk.st.inet.num, sk.st.opts.reuseport);
    sk.sk.net.tcp.hashinfo.lhash.insert(sk.sk, port, addrs, reuseport);
    sk.tp.hashed = true;
}

/// Takes a socket out of the tables by which segments find it.
///
/// linux: net/ipv4/inet_hashtables.c:inet_unhash
pub(crate) fn inet_unhash(sk: &mut TcpSk<'_>) {
    if !std::mem::take(&mut sk.tp.hashed) {
        return;
    }
    let hashinfo = &sk.sk.net.tcp.hashinfo;
    if sk.tp.state == TcpState::Listen || sk.tp.listener.is_some() {
        hashinfo.lhash.remove(sk.sk, sk.st.inet.num);
    } else {
        hashinfo.ehash.remove_sock(&InetTuple::of(sk.st), sk.sk);
    }
}

/// Gives a socket's port back.
///
/// linux: net/ipv4/inet_hashtables.c:inet_put_port
pub(crate) fn inet_put_port(sk: &mut TcpSk<'_>) {
    if let Some(node) = sk.tp.bind.take() {
        sk.sk.net.tcp.hashinfo.bhash.put(&node);
    }
    sk.sk.set_inet_num(sk.st, 0);
}
