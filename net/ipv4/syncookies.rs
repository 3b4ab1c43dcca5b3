//! SYN cookies: a listener whose queue is full puts what it must remember of a SYN into the sequence
//! number of its answer, and finds it in the acknowledgement.
//!
//! linux: net/ipv4/syncookies.c. Key types: [`SyncookieSecret`], [`CookieOptions`]. Contexts: any;
//! nothing is kept, all of it is a function of the secret, the segment and the time.
//! Invariant: what was not given out within the last two minutes for this tuple and sequence number
//! is refused, but for one guess in half a billion: two minutes and four segment sizes are good.

use crate::kernel::time::Ktime;
use crate::net::core::secure_seq::TcpTuple;
use crate::net::core::sysctl::TcpSysctls;
use klib::siphash::SipKey;

/// Bits of a cookie that are hash and segment size; those above are the minute.
const COOKIEBITS: u32 = 24;
const COOKIEMASK: u32 = (1 << COOKIEBITS) - 1;
/// Minutes that a cookie is good for: the one it was made in and the one after.
const MAX_SYNCOOKIE_AGE: u32 = 2;
const TCP_SYNCOOKIE_PERIOD_NS: u64 = 60 * 1_000_000_000;

/// Segment sizes a cookie can say: those most peers have.
const MSSTAB: [u16; 4] = [536, 1300, 1440, 1460];

/// Low bits of a timestamp that carry options.
const TSBITS: u32 = 6;
const TS_OPT_WSCALE_MASK: u32 = 0xf;
const TS_OPT_SACK: u32 = 1 << 4;
const TS_OPT_ECN: u32 = 1 << 5;

/// The two keys of cookies.
///
/// linux: net/ipv4/syncookies.c:syncookie_secret
#[derive(Clone, Copy, Debug)]
pub struct SyncookieSecret(pub [SipKey; 2]);

/// What the sequence numbers of a handshake say of it: the tuple as the peer's segments have it, and
/// the first sequence number of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CookieSyn {
    /// From the peer to the listener.
    pub tuple: TcpTuple,
    /// The sequence number of its SYN.
    pub seq: u32,
}

/// Minutes that cookies are counted in.
///
/// linux: include/net/tcp.h:tcp_cookie_time
fn tcp_cookie_time(now: Ktime) -> u32 {
    (now.as_nanos() / TCP_SYNCOOKIE_PERIOD_NS) as u32
}

/// linux: net/ipv4/syncookies.c:cookie_hash
fn cookie_hash(key: &SipKey, tuple: &TcpTuple, count: u32) -> u32 {
    let (saddr, daddr) = (tuple.saddr.to_bits(), tuple.daddr.to_bits());
    key.siphash_4u32(saddr, daddr, tuple.ports(), count) as u32
}

/// linux: net/ipv4/syncookies.c:secure_tcp_syn_cookie
fn secure_tcp_syn_cookie(s: &SyncookieSecret, syn: &CookieSyn, count: u32, data: u32) -> u32 {
    let hash = cookie_hash(&s.0[1], &syn.tuple, count).wrapping_add(data) & COOKIEMASK;
    cookie_hash(&s.0[0], &syn.tuple, 0)
        .wrapping_add(syn.seq)
        .wrapping_add(count << COOKIEBITS)
        .wrapping_add(hash)
}

/// What a cookie says, or `None` if it is too old. A cookie that was never given out says anything.
///
/// linux: net/ipv4/syncookies.c:check_tcp_syn_cookie
fn check_tcp_syn_cookie(
    s: &SyncookieSecret,
    syn: &CookieSyn,
    count: u32,
    cookie: u32,
) -> Option<u32> {
    let cookie = cookie.wrapping_sub(cookie_hash(&s.0[0], &syn.tuple, 0)).wrapping_sub(syn.seq);
    // The upper bits are the minute it was made in, modulo 256.
    let diff = count.wrapping_sub(cookie >> COOKIEBITS) & (u32::MAX >> COOKIEBITS);
    (diff < MAX_SYNCOOKIE_AGE).then(|| {
        let then = cookie_hash(&s.0[1], &syn.tuple, count.wrapping_sub(diff));
        cookie.wrapping_sub(then) & COOKIEMASK
    })
}

/// The sequence number of a SYN-ACK, and the segment size that it remembers: the largest of the table
/// that is not above `mss`, else the smallest.
///
/// linux: net/ipv4/syncookies.c:__cookie_v4_init_sequence
#[doc(alias = "__cookie_v4_init_sequence")]
pub fn cookie_v4_init_sequence(
    secret: &SyncookieSecret,
    syn: &CookieSyn,
    mss: u16,
    now: Ktime,
) -> (u32, u16) {
    let index = MSSTAB.iter().rposition(|known| mss >= *known).unwrap_or(0);
    let cookie = secure_tcp_syn_cookie(secret, syn, tcp_cookie_time(now), index as u32);
    (cookie, MSSTAB[index])
}

/// The segment size that a cookie remembers, or `None` if it is none of ours. `cookie` is what the
/// peer acknowledges less one, `syn.seq` the sequence number of its acknowledgement less one.
///
/// linux: net/ipv4/syncookies.c:__cookie_v4_check
#[doc(alias = "__cookie_v4_check")]
pub fn cookie_v4_check(
    secret: &SyncookieSecret,
    syn: &CookieSyn,
    cookie: u32,
    now: Ktime,
) -> Option<u16> {
    let index = check_tcp_syn_cookie(secret, syn, tcp_cookie_time(now), cookie)?;
    MSSTAB.get(index as usize).copied()
}

/// Options of a SYN that a timestamp remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CookieOptions {
    /// The peer scales its windows, by so much: 0 to 14.
    pub snd_wscale: Option<u8>,
    /// The peer understands selective acknowledgements.
    pub sack_ok: bool,
    /// The peer understands congestion marks.
    pub ecn_ok: bool,
}

/// The timestamp of a SYN-ACK with a cookie: milliseconds whose low six bits are options, and which is
/// not later than `now_ms`, so that those to come do not fall behind it. The connection's offset is
/// added by the caller.
///
/// linux: net/ipv4/syncookies.c:cookie_init_timestamp
pub fn cookie_init_timestamp(options: &CookieOptions, now_ms: u32) -> u32 {
    let wscale = options.snd_wscale.map_or(TS_OPT_WSCALE_MASK, |scale| scale.min(14).into());
    let sack = if options.sack_ok { TS_OPT_SACK } else { 0 };
    let ecn = if options.ecn_ok { TS_OPT_ECN } else { 0 };
    let low = wscale | sack | ecn;
    let ts = now_ms >> TSBITS << TSBITS | low;
    if ts > now_ms { ts.wrapping_sub(1 << TSBITS) } else { ts }
}

/// The options in the timestamp that a peer echoes, the connection's offset taken off; without one
/// there are none. `None`: they are none that we would have granted by our settings.
///
/// linux: net/ipv4/syncookies.c:cookie_timestamp_decode
pub fn cookie_timestamp_decode(tsecr: Option<u32>, sysctl: &TcpSysctls) -> Option<CookieOptions> {
    let Some(tsecr) = tsecr else { return Some(CookieOptions::default()) };
    let sack_ok = tsecr & TS_OPT_SACK != 0;
    let wscale = tsecr & TS_OPT_WSCALE_MASK;
    let snd_wscale = (wscale != TS_OPT_WSCALE_MASK).then_some(wscale as u8);
    let granted = sysctl.timestamps != 0
        && (sysctl.sack || !sack_ok)
        && (sysctl.window_scaling || snd_wscale.is_none());
    let ecn_ok = tsecr & TS_OPT_ECN != 0 && sysctl.ecn != 0;
    granted.then_some(CookieOptions { snd_wscale, sack_ok, ecn_ok })
}

#[cfg(test)]
mod tests;
