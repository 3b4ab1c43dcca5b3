//! The options of segments that leave.
//!
//! linux: net/ipv4/tcp_output.c (`tcp_options_write`); RFC 9293 section 3.1, RFC 7323, RFC 2018, RFC 2883.

use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::ipv4::inet_connection_sock::RequestSock;
use crate::net::ipv4::tcp::{SackBlock, TcpSk, TcpSock};
use crate::net::ipv4::tcp_fastopen::TcpFastopenCookie;
use crate::net::ipv4::tcp_md5sig::TCPOLEN_MD5SIG_ALIGNED;
use uapi::tcp::{
    TCPOLEN_MD5SIG, TCPOLEN_MSS, TCPOLEN_SACK_PERM, TCPOLEN_TIMESTAMP, TCPOLEN_WINDOW,
    TCPOPT_MD5SIG, TCPOPT_MSS, TCPOPT_NOP, TCPOPT_SACK, TCPOPT_SACK_PERM, TCPOPT_TIMESTAMP,
    TCPOPT_WINDOW,
};

/// The most options take.
pub(crate) const MAX_TCP_OPTION_SPACE: usize = 40;

/// Options to be written.
///
/// linux: net/ipv4/tcp_output.c:tcp_out_options
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TcpOutOptions {
    /// It is signed: the place is kept for that.
    pub md5: bool,
    /// The segment size we take; zero: not said.
    pub mss: u16,
    /// Our timestamp and theirs.
    pub ts: Option<(u32, u32)>,
    /// The shift of our window.
    pub wscale: Option<u8>,
    /// We take SACKs.
    pub sack_perm: bool,
    /// Blocks that arrived.
    pub sacks: [SackBlock; 4],
    /// How many of them.
    pub num_sacks: u8,
    /// Fast open.
    pub fastopen: Option<TcpFastopenCookie>,
}

impl TcpOutOptions {
    /// Octets they take.
    pub fn len(&self) -> usize {
        let mut len = 0;
        if self.md5 {
            len += TCPOLEN_MD5SIG_ALIGNED;
        }
        if self.mss != 0 {
            len += 4;
        }
        if self.ts.is_some() {
            len += 12;
        } else if self.sack_perm {
            len += 4;
        }
        if self.wscale.is_some() {
            len += 4;
        }
        if self.num_sacks != 0 {
            len += 4 + 8 * usize::from(self.num_sacks);
        }
        if let Some(cookie) = &self.fastopen {
            len += cookie.option_len();
        }
        len
    }

    /// Writes them, aligned to words as Linux does; what was written.
    ///
    /// linux: net/ipv4/tcp_output.c:tcp_options_write
    pub fn write<'a>(&self, to: &'a mut [u8; MAX_TCP_OPTION_SPACE]) -> &'a [u8] {
        let mut at = 0;
        let mut word = |word: u32| {
            if let Some(place) = to.get_mut(at..at + 4) {
                place.copy_from_slice(&word.to_be_bytes());
                at += 4;
            }
        };
        let bytes = |a: u8, b: u8, c: u8, d: u8| u32::from_be_bytes([a, b, c, d]);
        const NOP: u8 = TCPOPT_NOP;
        if self.md5 {
            word(bytes(NOP, NOP, TCPOPT_MD5SIG, TCPOLEN_MD5SIG));
            (0..4).for_each(|_| word(0));
        }
        if self.mss != 0 {
            word(bytes(TCPOPT_MSS, TCPOLEN_MSS, (self.mss >> 8) as u8, self.mss as u8));
        }
        match self.ts {
            Some((val, ecr)) => {
                let front =
                    if self.sack_perm { (TCPOPT_SACK_PERM, TCPOLEN_SACK_PERM) } else { (NOP, NOP) };
                word(bytes(front.0, front.1, TCPOPT_TIMESTAMP, TCPOLEN_TIMESTAMP));
                word(val);
                word(ecr);
            }
            None if self.sack_perm => word(bytes(NOP, NOP, TCPOPT_SACK_PERM, TCPOLEN_SACK_PERM)),
            None => (),
        }
        if let Some(wscale) = self.wscale {
            word(bytes(NOP, TCPOPT_WINDOW, TCPOLEN_WINDOW, wscale));
        }
        if self.num_sacks != 0 {
            word(bytes(NOP, NOP, TCPOPT_SACK, 2 + 8 * self.num_sacks));
            for block in &self.sacks[..usize::from(self.num_sacks)] {
                word(block.start.0);
                word(block.end.0);
            }
        }
        if let Some(cookie) = &self.fastopen {
            let mut bytes = [0; 20];
            let len = cookie.write(&mut bytes);
            if let Some(place) = to.get_mut(at..at + len) {
                place.copy_from_slice(&bytes[..len]);
                at += len;
            }
        }
        &to[..at]
    }
}

/// The segment size that a way takes: what we advertise.
///
/// linux: net/ipv4/route.c:ipv4_default_advmss
pub(crate) fn ipv4_default_advmss(mtu: u32) -> u32 {
    mtu.saturating_sub(40).clamp(256, 65_535 - 40)
}

/// The same, as the program bounds it (`TCP_MAXSEG`).
///
/// linux: net/ipv4/tcp_output.c:tcp_advertise_mss
pub(crate) fn tcp_mss_clamp(user_mss: u16, mss: u32) -> u32 {
    if user_mss != 0 { mss.min(user_mss.into()) } else { mss }
}

/// The options of our SYN.
///
/// linux: net/ipv4/tcp_output.c:tcp_syn_options
pub(super) fn tcp_syn_options(cx: &BhCx<'_>, sk: &TcpSk<'_>, now: Ktime) -> TcpOutOptions {
    let sysctl = &cx.t.net.sysctl.tcp;
    let mtu = sk.tp.dst.as_ref().map_or(1500, |dst| dst.mtu);
    let mss = tcp_mss_clamp(sk.tp.rx_opt.user_mss, ipv4_default_advmss(mtu));
    let md5 = signs(sk);
    let stamped = sysctl.timestamps != 0 && !md5;
    let mut options = TcpOutOptions {
        md5,
        mss: mss as u16,
        ts: stamped.then(|| (sk.tp.tcp_time_stamp(now), sk.tp.rx_opt.ts_recent)),
        wscale: sysctl.window_scaling.then_some(sk.tp.rx_opt.rcv_wscale),
        sack_perm: sysctl.sack,
        ..TcpOutOptions::default()
    };
    let cookie = sk.tp.fastopen.as_ref().and_then(|tfo| tfo.cookie);
    options.fastopen =
        cookie.filter(|cookie| options.len() + cookie.option_len() <= MAX_TCP_OPTION_SPACE);
    options
}

/// The options of the answer to a SYN of one who has a socket already: both sides opened at once.
pub(super) fn tcp_synack_options_of(sk: &TcpSk<'_>, now: Ktime) -> TcpOutOptions {
    let mtu = sk.tp.dst.as_ref().map_or(1500, |dst| dst.mtu);
    let opt = &sk.tp.rx_opt;
    TcpOutOptions {
        md5: signs(sk),
        mss: tcp_mss_clamp(opt.user_mss, ipv4_default_advmss(mtu)) as u16,
        ts: opt.tstamp_ok.then(|| (sk.tp.tcp_time_stamp(now), opt.ts_recent)),
        wscale: opt.wscale_ok.then_some(opt.rcv_wscale),
        sack_perm: opt.sack_ok,
        ..TcpOutOptions::default()
    }
}

/// The options of a SYN-ACK; `(mtu, user_mss)` of the way, and the timestamps.
///
/// linux: net/ipv4/tcp_output.c:tcp_synack_options
pub(crate) fn tcp_synack_options(
    req: &RequestSock,
    (mtu, user_mss): (u32, u16),
    ts: (u32, u32),
) -> TcpOutOptions {
    TcpOutOptions {
        md5: req.md5_key.is_some(),
        mss: tcp_mss_clamp(user_mss, ipv4_default_advmss(mtu)) as u16,
        ts: req.opt.tstamp_ok.then_some(ts),
        wscale: req.opt.wscale_ok.then_some(req.opt.rcv_wscale),
        sack_perm: req.opt.sack_ok,
        ..TcpOutOptions::default()
    }
}

/// The options of a segment of a connection that stands.
///
/// linux: net/ipv4/tcp_output.c:tcp_established_options
#[inline]
pub(super) fn tcp_established_options(sk: &TcpSk<'_>, now: Ktime) -> TcpOutOptions {
    let mut options = TcpOutOptions::default();
    let tp = &*sk.tp;
    options.md5 = signs(sk);
    if tp.rx_opt.tstamp_ok {
        options.ts = Some((tp.tcp_time_stamp(now), tp.rx_opt.ts_recent));
    }
    if tp.rx_opt.num_sacks != 0 || tp.rx_opt.dsack {
        sack_blocks(tp, &mut options);
    }
    options
}

#[cold]
fn sack_blocks(tp: &TcpSock, options: &mut TcpOutOptions) {
    let room = MAX_TCP_OPTION_SPACE.saturating_sub(options.len() + 4) / 8;
    let twice = tp.rx_opt.dsack.then_some(tp.duplicate_sack);
    let missing = &tp.selective_acks[..usize::from(tp.rx_opt.num_sacks).min(4)];
    for block in twice.into_iter().chain(missing.iter().copied()).take(room.min(4)) {
        options.sacks[usize::from(options.num_sacks)] = block;
        options.num_sacks += 1;
    }
}

/// Octets of a header with the options that a segment would have now.
pub(super) fn established_header_len(sk: &TcpSk<'_>) -> u16 {
    let tp = &*sk.tp;
    let stamped = if tp.rx_opt.tstamp_ok { 12 } else { 0 };
    if tp.rx_opt.num_sacks == 0 && !tp.rx_opt.dsack && !sk.tp.md5 {
        return 20 + stamped;
    }
    20 + tcp_established_options(sk, Ktime::ZERO).len() as u16
}

/// The socket's segments are signed.
#[inline]
fn signs(sk: &TcpSk<'_>) -> bool {
    sk.tp.md5 && has_key(sk)
}

#[cold]
fn has_key(sk: &TcpSk<'_>) -> bool {
    sk.st.tcp_md5_do_lookup(sk.st.inet.daddr).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::ipv4::tcp::SeqNr;

    #[test]
    fn options_are_aligned_and_as_long_as_they_say() {
        let sacks = [SackBlock { start: SeqNr(1), end: SeqNr(2) }; 4];
        let all = [
            TcpOutOptions { mss: 1460, ..Default::default() },
            TcpOutOptions {
                mss: 1460,
                ts: Some((1, 2)),
                wscale: Some(7),
                sack_perm: true,
                ..Default::default()
            },
            TcpOutOptions { mss: 1460, wscale: Some(7), sack_perm: true, ..Default::default() },
            TcpOutOptions { ts: Some((1, 2)), sacks, num_sacks: 3, ..Default::default() },
            TcpOutOptions { sacks, num_sacks: 4, ..Default::default() },
            TcpOutOptions { md5: true, ts: Some((1, 2)), ..Default::default() },
            TcpOutOptions {
                md5: true,
                mss: 1460,
                wscale: Some(7),
                sack_perm: true,
                ..Default::default()
            },
        ];
        for options in all {
            let mut bytes = [0; MAX_TCP_OPTION_SPACE];
            let written = options.write(&mut bytes);
            assert_eq!(written.len(), options.len(), "{options:?}");
            assert!(written.len() % 4 == 0 && written.len() <= 40);
        }
        let mut bytes = [0; MAX_TCP_OPTION_SPACE];
        assert_eq!(
            all[1].write(&mut bytes),
            [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7]
        );
    }
}
