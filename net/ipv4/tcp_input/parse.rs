//! The options of segments that came.
//!
//! linux: net/ipv4/tcp_input.c (`tcp_parse_options`). Options come from anybody: each has a length that stays
//! inside the header and moves on, or the rest is not looked at.

use crate::kernel::time::Ktime;
use crate::net::ipv4::tcp::{
    SackBlock, SeqNr, TCP_MAX_WSCALE, TCP_PAWS_24DAYS, TcpOptionsReceived, TcpSock,
};
use uapi::tcp::{
    TCPOLEN_MSS, TCPOLEN_SACK_PERBLOCK, TCPOLEN_SACK_PERM, TCPOLEN_TIMESTAMP, TCPOLEN_WINDOW,
    TCPOPT_EOL, TCPOPT_MD5SIG, TCPOPT_MSS, TCPOPT_NOP, TCPOPT_SACK, TCPOPT_SACK_PERM,
    TCPOPT_TIMESTAMP, TCPOPT_WINDOW,
};
use zerocopy::FromBytes;
use zerocopy::byteorder::network_endian::U32;

/// What a segment's options say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TcpOptions {
    /// Of a SYN: the segment size it takes.
    pub mss: Option<u16>,
    /// Of a SYN: the shift of its windows.
    pub wscale: Option<u8>,
    /// Of a SYN: it takes SACKs.
    pub sack_perm: bool,
    /// It is signed.
    pub md5: bool,
    /// Its timestamp, and ours that it echoes.
    pub ts: Option<(u32, u32)>,
    /// Blocks that arrived there.
    pub sacks: [SackBlock; 4],
    /// How many.
    pub num_sacks: u8,
}

impl TcpOptions {
    /// No options.
    pub(crate) const NONE: Self = Self {
        mss: None,
        wscale: None,
        sack_perm: false,
        md5: false,
        ts: None,
        sacks: [SackBlock { start: SeqNr(0), end: SeqNr(0) }; 4],
        num_sacks: 0,
    };
}

/// Reads options.
///
/// linux: net/ipv4/tcp_input.c:tcp_parse_options
#[inline(always)]
pub(crate) fn tcp_parse_options(bytes: &[u8], syn: bool) -> TcpOptions {
    match tcp_parse_aligned_timestamp(bytes) {
        Some(ts) => TcpOptions { ts: Some(ts), ..TcpOptions::NONE },
        None => parse_any(bytes, syn),
    }
}

/// Two words, where these are all options: nearly every segment of a connection has that and nothing else.
///
/// linux: net/ipv4/tcp_input.c:tcp_parse_aligned_timestamp
#[inline(always)]
fn tcp_parse_aligned_timestamp(bytes: &[u8]) -> Option<(u32, u32)> {
    const ALIGNED: u32 =
        u32::from_be_bytes([TCPOPT_NOP, TCPOPT_NOP, TCPOPT_TIMESTAMP, TCPOLEN_TIMESTAMP]);
    let [kind, val, ecr] = <[U32; 3]>::ref_from_bytes(bytes).ok()?;
    (kind.get() == ALIGNED).then(|| (val.get(), ecr.get()))
}

#[inline(never)]
fn parse_any(bytes: &[u8], syn: bool) -> TcpOptions {
    let mut options = TcpOptions::NONE;
    for (kind, value) in each_option(bytes) {
        one(&mut options, kind, value, syn);
    }
    options
}

/// Kind and value of each option, to the end of the list or to the first that doesn't stay inside the header.
pub(crate) fn each_option(mut bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        while let [TCPOPT_NOP, rest @ ..] = bytes {
            bytes = rest;
        }
        // Where it ends it does not move on, so it stays at its end.
        let (kind, len) = match *bytes {
            [] | [_] | [TCPOPT_EOL, ..] => return None,
            [kind, len, ..] => (kind, usize::from(len)),
        };
        let value = bytes.get(2..len)?;
        bytes = &bytes[len..];
        Some((kind, value))
    })
}

fn one(options: &mut TcpOptions, kind: u8, value: &[u8], syn: bool) {
    const fn value_len(option: u8) -> usize {
        option as usize - 2
    }
    let word = |at: usize| {
        let bytes = value.get(at..at + 4).and_then(|b| b.try_into().ok());
        bytes.map_or(0, u32::from_be_bytes)
    };
    match kind {
        TCPOPT_MSS if syn && value.len() == value_len(TCPOLEN_MSS) => {
            options.mss = Some(u16::from_be_bytes([value[0], value[1]]));
        }
        TCPOPT_WINDOW if syn && value.len() == value_len(TCPOLEN_WINDOW) => {
            options.wscale = Some(value[0].min(TCP_MAX_WSCALE));
        }
        TCPOPT_SACK_PERM if syn && value.len() == value_len(TCPOLEN_SACK_PERM) => {
            options.sack_perm = true;
        }
        TCPOPT_MD5SIG => options.md5 = true,
        TCPOPT_TIMESTAMP if value.len() == value_len(TCPOLEN_TIMESTAMP) => {
            options.ts = Some((word(0), word(4)));
        }
        TCPOPT_SACK if !syn && value.len().is_multiple_of(usize::from(TCPOLEN_SACK_PERBLOCK)) => {
            let blocks = value.chunks_exact(8).take(4).enumerate();
            for (at, _) in blocks {
                options.sacks[at] =
                    SackBlock { start: SeqNr(word(8 * at)), end: SeqNr(word(8 * at + 4)) };
                options.num_sacks = at as u8 + 1;
            }
        }
        _ => (),
    }
}

impl TcpOptionsReceived {
    /// Notes the timestamps of a segment.
    #[inline]
    pub(crate) fn note_ts(&mut self, ts: Option<(u32, u32)>, tsoffset: u32) {
        self.saw_tstamp = ts.is_some();
        if let Some((val, ecr)) = ts {
            self.rcv_tsval = val;
            self.rcv_tsecr = if ecr == 0 { 0 } else { ecr.wrapping_sub(tsoffset) };
        }
    }

    /// Takes over what a SYN offers, as far as this machine takes part.
    pub(crate) fn negotiate(
        &mut self,
        options: &TcpOptions,
        sysctl: &crate::net::core::sysctl::TcpSysctls,
    ) {
        let user = self.user_mss;
        self.mss_clamp = match options.mss {
            Some(mss) if mss != 0 => {
                if user != 0 {
                    mss.min(user)
                } else {
                    mss
                }
            }
            _ => self.mss_clamp,
        };
        self.wscale_ok = options.wscale.is_some() && sysctl.window_scaling;
        self.snd_wscale = if self.wscale_ok { options.wscale.unwrap_or(0) } else { 0 };
        self.sack_ok = options.sack_perm && sysctl.sack;
        if sysctl.timestamps == 0 {
            self.saw_tstamp = false;
        }
    }

    /// The segment's timestamp is not older than the last one's (RFC 7323 section 5): true when it may be
    /// taken.
    ///
    /// linux: include/net/tcp.h:tcp_paws_check
    pub(crate) fn paws_check(&self, window: i32, now: Ktime) -> bool {
        (self.ts_recent.wrapping_sub(self.rcv_tsval) as i32) <= window
            || seconds(now).wrapping_sub(self.ts_recent_stamp) >= TCP_PAWS_24DAYS
            || self.ts_recent == 0
    }

    /// The same for one that may not be refused lightly: a RST only while the last one is fresh.
    ///
    /// linux: include/net/tcp.h:tcp_paws_reject
    pub(crate) fn paws_reject(&self, rst: bool, now: Ktime) -> bool {
        if self.paws_check(0, now) {
            return false;
        }
        !(rst
            && seconds(now).wrapping_sub(self.ts_recent_stamp)
                >= crate::net::ipv4::tcp::TCP_PAWS_MSL)
    }
}

/// Seconds of the clock.
pub(crate) fn seconds(now: Ktime) -> u32 {
    (now.as_nanos() / 1_000_000_000) as u32
}

impl TcpSock {
    /// Keeps the segment's timestamp to be echoed.
    ///
    /// linux: net/ipv4/tcp_input.c:tcp_store_ts_recent
    #[inline]
    pub(crate) fn store_ts_recent(&mut self, now: Ktime) {
        self.rx_opt.ts_recent = self.rx_opt.rcv_tsval;
        self.rx_opt.ts_recent_stamp = seconds(now);
    }

    /// The same, if the segment is the one that the last acknowledgement asked for (RFC 7323 section 4.3).
    ///
    /// linux: net/ipv4/tcp_input.c:tcp_replace_ts_recent
    #[inline]
    pub(crate) fn replace_ts_recent(&mut self, seq: SeqNr, now: Ktime) {
        if self.rx_opt.saw_tstamp && !seq.after(self.rcv_wup) && self.rx_opt.paws_check(0, now) {
            self.store_ts_recent(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_syns_options() {
        let bytes = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 3, 3, 7];
        let options = tcp_parse_options(&bytes, true);
        assert_eq!((options.mss, options.wscale, options.sack_perm), (Some(1460), Some(7), true));
        assert_eq!(options.ts, Some((1, 2)));
        let later = tcp_parse_options(&bytes, false);
        assert_eq!((later.mss, later.wscale, later.ts), (None, None, Some((1, 2))));
        assert_eq!(tcp_parse_options(&[3, 3, 255], true).wscale, Some(14));
    }

    #[test]
    fn blocks_beyond_the_fourth_and_half_ones_are_none() {
        let mut bytes = vec![1, 1, 5, 34];
        (1..=8_u32).for_each(|n| bytes.extend(n.to_be_bytes()));
        let options = tcp_parse_options(&bytes, false);
        assert_eq!(options.num_sacks, 4);
        assert_eq!(options.sacks[3], SackBlock { start: SeqNr(7), end: SeqNr(8) });
        assert_eq!(tcp_parse_options(&[5, 9, 0, 0, 0, 1, 0, 0, 0], false).num_sacks, 0);
    }

    #[test]
    fn lengths_that_lie_end_the_list() {
        for bad in [&[8][..], &[8, 0], &[8, 1, 0], &[8, 11, 0], &[254, 255]] {
            let bytes = [&[1, 2, 4, 5, 180][..], bad].concat();
            assert_eq!(tcp_parse_options(&bytes, true).mss, Some(1460), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn anything_is_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..40), syn: bool) {
            let options = tcp_parse_options(&bytes, syn);
            prop_assert!(options.num_sacks <= 4);
        }
    }
}
