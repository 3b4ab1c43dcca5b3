//! Fast open: data in the SYN, answered before the handshake is over.
//!
//! linux: net/ipv4/tcp_fastopen.c; RFC 7413. Key types: [`TcpFastopen`] (of a socket), `FastopenQueue` (of a
//! listener), `TcpFastopenCookie`. Parts: `client`, `server`. Contexts: BH. Locks: what a socket keeps lies under its own; a
//! listener's queue has one of class `Accept`, the cookies of servers one of class `InetPeer`.
//! Invariants: no more connections whose address nobody has proven wait at a listener than its `TCP_FASTOPEN`
//! says, those reset in the last minute among them; the table of cookies has a bound.
//! DIVERGES: cookies of servers are remembered in a table of their own, not in `tcp_metrics`.

mod client;
mod server;

pub use client::tcp_metrics_show;
pub(crate) use client::{
    Blackhole, FastopenCache, FastopenReq, tcp_fastopen_active_detect_blackhole,
    tcp_fastopen_active_disable_ofo_check, tcp_fastopen_cookie_check, tcp_fastopen_defer_connect,
    tcp_fastopen_reset_out_of_order, tcp_rcv_fastopen_synack,
};
pub(crate) use server::{
    FastopenKeys, FastopenQueue, reqsk_fastopen_remove, tcp_fastopen_add_skb,
    tcp_fastopen_check_req, tcp_fastopen_init_child, tcp_fastopen_keys, tcp_fastopen_synack_timer,
    tcp_rcv_synrecv_state_fastopen, tcp_try_fastopen,
};

use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::net::ipv4::inet_connection_sock::RequestSock;
use crate::net::ipv4::tcp::{TcpSock, TcpState};
use crate::net::ipv4::tcp_input::each_option;
use bitflags::bitflags;
use klib::siphash::SipKey;
use std::sync::Arc;
use uapi::tcp::{TCPOPT_EXP, TCPOPT_FASTOPEN, TCPOPT_NOP};

/// `tcp_fastopen`: programs may send data in SYNs.
pub(crate) const TFO_CLIENT_ENABLE: u32 = 1;
/// `tcp_fastopen`: listeners that ask for it take data of SYNs.
pub(crate) const TFO_SERVER_ENABLE: u32 = 2;
/// `tcp_fastopen`: clients send data without a cookie.
pub(crate) const TFO_CLIENT_NO_COOKIE: u32 = 4;
/// `tcp_fastopen`: listeners take data without a cookie.
pub(crate) const TFO_SERVER_COOKIE_NOT_REQD: u32 = 0x200;
/// `tcp_fastopen`: each listener takes it, without `TCP_FASTOPEN`.
pub(crate) const TFO_SERVER_WO_SOCKOPT1: u32 = 0x400;

/// What option 254 begins with where it is this one (RFC 7413 appendix A).
const TCPOPT_FASTOPEN_MAGIC: [u8; 2] = [0xf9, 0x89];
/// Octets of a cookie.
const COOKIE_MIN: usize = 4;
const COOKIE_MAX: usize = 16;
/// Octets of our own.
const COOKIE_SIZE: u8 = 8;

/// A cookie, or with no octets the request for one.
///
/// linux: include/net/tcp.h:tcp_fastopen_cookie
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TcpFastopenCookie {
    val: [u8; COOKIE_MAX],
    len: u8,
    /// In the experimental option.
    pub exp: bool,
}

impl TcpFastopenCookie {
    /// Asks for one.
    pub(crate) const REQUEST: Self = Self { val: [0; COOKIE_MAX], len: 0, exp: false };

    /// Octets of it; none: it is a request.
    pub(crate) fn is_request(&self) -> bool {
        self.len == 0
    }

    fn bytes(&self) -> &[u8] {
        &self.val[..usize::from(self.len)]
    }

    /// The option, padded to words; how many octets of `to` it takes.
    pub(crate) fn write(&self, to: &mut [u8; 4 + COOKIE_MAX]) -> usize {
        let base = if self.exp { 4 } else { 2 };
        let len = base + self.bytes().len();
        to.fill(TCPOPT_NOP);
        to[0] = if self.exp { TCPOPT_EXP } else { TCPOPT_FASTOPEN };
        to[1] = len as u8;
        if self.exp {
            to[2..4].copy_from_slice(&TCPOPT_FASTOPEN_MAGIC);
        }
        to[base..len].copy_from_slice(self.bytes());
        len.next_multiple_of(4)
    }

    /// Octets that [`write`](Self::write) takes.
    pub(crate) fn option_len(&self) -> usize {
        let base = if self.exp { 4 } else { 2 };
        (base + self.bytes().len()).next_multiple_of(4)
    }

    /// Of an option's value; `None`: no cookie has that many octets.
    fn parse(value: &[u8], exp: bool) -> Option<Self> {
        let fits = value.is_empty() || (COOKIE_MIN..=COOKIE_MAX).contains(&value.len());
        if !fits {
            return None;
        }
        let mut cookie = Self { exp, len: value.len() as u8, ..Self::REQUEST };
        cookie.val[..value.len()].copy_from_slice(value);
        Some(cookie)
    }

    /// Of both addresses, under a key: who has it gets packets at `saddr`.
    ///
    /// linux: net/ipv4/tcp_fastopen.c:__tcp_fastopen_cookie_gen_cipher
    fn generate(key: &SipKey, saddr: u32, daddr: u32) -> Self {
        let addrs = [saddr.to_be_bytes(), daddr.to_be_bytes()];
        let hash = key.siphash(addrs.as_flattened());
        let mut cookie = Self { len: COOKIE_SIZE, ..Self::REQUEST };
        cookie.val[..8].copy_from_slice(&hash.to_le_bytes());
        cookie
    }
}

/// The cookie among the options of a SYN or SYN-ACK. The last one counts; one of odd length is none.
///
/// linux: net/ipv4/tcp_input.c:tcp_parse_fastopen_option
pub(crate) fn tcp_parse_fastopen_option(options: &[u8]) -> Option<TcpFastopenCookie> {
    let cookies = each_option(options).filter_map(|(kind, value)| match kind {
        TCPOPT_FASTOPEN => Some((value, false)),
        TCPOPT_EXP => value.strip_prefix(&TCPOPT_FASTOPEN_MAGIC).map(|value| (value, true)),
        _ => None,
    });
    let (value, exp) = cookies.filter(|(value, _)| value.len() % 2 == 0).last()?;
    TcpFastopenCookie::parse(value, exp)
}

bitflags! {
    /// How a connection stands to fast open.
    ///
    /// linux: include/linux/tcp.h:tcp_sock (`syn_fastopen` and its neighbours)
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Tfo: u16 {
        /// `TCP_FASTOPEN_CONNECT`.
        const CONNECT = 1;
        /// `TCP_FASTOPEN_NO_COOKIE`.
        const NO_COOKIE = 1 << 1;
        /// `connect` has succeeded, and the SYN waits for data.
        const DEFER_CONNECT = 1 << 2;
        /// A call that sends is connecting (`fastopen_req`).
        const REQ = 1 << 3;
        /// That call has more data than went with the SYN.
        const WRITE_PENDING = 1 << 4;
        /// The SYN had the option.
        const SYN_FASTOPEN = 1 << 5;
        /// In its experimental form.
        const SYN_FASTOPEN_EXP = 1 << 6;
        /// The connection tells whether fast open works again after a pause.
        const SYN_FASTOPEN_CH = 1 << 7;
        /// The SYN had data.
        const SYN_DATA = 1 << 8;
        /// That was acknowledged by the SYN-ACK, or taken.
        const SYN_DATA_ACKED = 1 << 9;
        /// A SYN's data made it.
        const CHILD = 1 << 10;
    }
}

/// Why fast open did not work, as `TCP_INFO` tells.
///
/// linux: include/uapi/linux/tcp.h:tcp_fastopen_client_fail
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum TfoFail {
    /// It did, or nobody tried.
    #[default]
    Unspec = 0,
    /// There was no cookie.
    CookieUnavailable = 1,
    /// The SYN-ACK acknowledged the SYN and not its data.
    DataNotAcked = 2,
    /// The SYN had to go again.
    SynRetransmitted = 3,
}

/// What a socket that has to do with fast open keeps.
#[derive(Debug, Default)]
pub struct TcpFastopen {
    /// How it stands.
    pub flags: Tfo,
    /// Why it did not work.
    pub client_fail: TfoFail,
    /// What the SYN that leaves has in the option.
    pub(crate) cookie: Option<TcpFastopenCookie>,
    /// What a listener has, or one that may become one.
    pub(crate) queue: Option<Arc<FastopenQueue>>,
    /// The request that made it, until the handshake is over.
    pub(crate) rsk: Option<Arc<RequestSock>>,
}

impl TcpSock {
    /// What it keeps for fast open, to change.
    pub(crate) fn tfo_mut(&mut self) -> &mut TcpFastopen {
        self.fastopen.get_or_insert_default()
    }

    /// One of these holds.
    #[inline]
    pub(crate) fn tfo(&self, flags: Tfo) -> bool {
        self.fastopen.as_ref().is_some_and(|tfo| tfo.flags.intersects(flags))
    }

    /// This holds no more.
    pub(crate) fn tfo_clear(&mut self, flags: Tfo) {
        if let Some(tfo) = &mut self.fastopen {
            tfo.flags.remove(flags);
        }
    }

    /// The handshake is not over, and data flows all the same.
    ///
    /// linux: include/net/tcp.h:tcp_passive_fastopen
    #[inline]
    pub(crate) fn tcp_passive_fastopen(&self) -> bool {
        self.state == TcpState::SynRecv && self.fastopen_rsk().is_some()
    }

    /// The request of a connection whose handshake is not over.
    #[inline]
    pub(crate) fn fastopen_rsk(&self) -> Option<&Arc<RequestSock>> {
        self.fastopen.as_ref()?.rsk.as_ref()
    }

    /// The queue of a listener.
    pub(crate) fn fastopenq(&mut self) -> Arc<FastopenQueue> {
        Arc::clone(self.tfo_mut().queue.get_or_insert_default())
    }

    /// The connection is over: only what the program has set stays.
    pub(crate) fn tfo_forget(&mut self) {
        if let Some(tfo) = &mut self.fastopen {
            tfo.flags &= Tfo::CONNECT | Tfo::NO_COOKIE;
            (tfo.client_fail, tfo.cookie) = (TfoFail::Unspec, None);
        }
    }
}

/// What a network remembers for fast open.
#[derive(Debug)]
pub(crate) struct FastopenNet {
    /// Keys the cookies of listeners, where neither they nor the machine have a key.
    pub key: SipKey,
    /// Cookies of servers.
    pub cache: SpinLock<FastopenCache, class::InetPeer>,
    /// Whether it works from here.
    pub blackhole: Blackhole,
}

impl FastopenNet {
    /// Nothing is known.
    pub(crate) fn new(key: SipKey) -> Self {
        Self {
            key,
            cache: SpinLock::new(FastopenCache::default()),
            blackhole: Blackhole::default(),
        }
    }
}

#[cfg(test)]
mod tests;
