//! What is told of a socket behind its columns, in the words of `ss`: `-o`, `-e`, `-m`, `-i`.

use crate::control::wire::{Bbr, SkMem, Socket, TcpInfo, Timer};
use std::fmt::Write;
use uapi::tcp::{
    TCPI_OPT_ECN, TCPI_OPT_ECN_SEEN, TCPI_OPT_SACK, TCPI_OPT_TIMESTAMPS, TCPI_OPT_WSCALE,
};

/// `timer:(on,204ms,0)`.
pub(super) fn timer(timer: &Timer) -> String {
    format!(" timer:({},{},{})", timer.name, duration(timer.expires), timer.retrans)
}

/// Minutes, seconds and milliseconds, the smaller ones where they still matter.
fn duration(ms: u64) -> String {
    let (minutes, seconds, ms) = (ms / 60_000, ms / 1000 % 60, ms % 1000);
    match (minutes, seconds) {
        (0, 0) => format!("{ms:03}ms"),
        (0, 1..=9) if ms != 0 => format!("{seconds}.{ms:03}ms"),
        (0, _) => format!("{seconds}sec"),
        (1..=9, 1..) => format!("{minutes}min{seconds}sec"),
        _ => format!("{minutes}min"),
    }
}

/// `ino:7 sk:7 <->`: the inode is the number that no other socket has; a dash is a way that is closed.
pub(super) fn extended(socket: &Socket) -> String {
    let Some(shutdown) = socket.shutdown else { return format!(" ino:0 sk:{:x}", socket.sk) };
    let from = if shutdown & 1 != 0 { '-' } else { '<' };
    let to = if shutdown & 2 != 0 { '-' } else { '>' };
    format!(" ino:{0} sk:{0:x} {from}-{to}", socket.sk)
}

/// `skmem:(r0,rb131072,…)`.
pub(super) fn memory(m: &SkMem) -> String {
    let SkMem { r, rb, t, tb, f, w, bl, d } = m;
    format!(" skmem:(r{r},rb{rb},t{t},tb{tb},f{f},w{w},o0,bl{bl},d{d})")
}

/// ` name:value` for each value that is not zero.
fn counts(text: &mut String, all: &[(&str, u64)]) {
    for (name, value) in all.iter().filter(|(_, value)| *value != 0) {
        let _ = write!(text, " {name}:{value}");
    }
}

/// ` name RATEbps` for a rate in octets a second, if there is one.
fn rate(text: &mut String, name: &str, octets: u64) {
    if octets != 0 && octets != u64::MAX {
        let _ = write!(text, " {name} {}bps", u128::from(octets) * 8);
    }
}

/// ` name:MS` for microseconds, if there are any.
fn milliseconds(text: &mut String, name: &str, us: u32) {
    if us != 0 && us != u32::MAX {
        let _ = write!(text, " {name}:{}", general(f64::from(us) / 1000.0));
    }
}

/// What `TCP_INFO` tells; `options`: also what was agreed on.
pub(super) fn tcp_info(
    info: &TcpInfo,
    (cong, bbr): (Option<&str>, Option<Bbr>),
    options: bool,
) -> String {
    let mut text = String::new();
    let agreed = [
        (TCPI_OPT_TIMESTAMPS, " ts"),
        (TCPI_OPT_SACK, " sack"),
        (TCPI_OPT_ECN, " ecn"),
        (TCPI_OPT_ECN_SEEN, " ecnseen"),
    ];
    for (_, name) in agreed.iter().filter(|(bit, _)| options && info.options & bit != 0) {
        text += name;
    }
    if let Some(cong) = cong {
        let _ = write!(text, " {cong}");
    }
    if info.options & TCPI_OPT_WSCALE != 0 {
        let _ = write!(text, " wscale:{},{}", info.wscale & 0xf, info.wscale >> 4);
    }
    way(&mut text, info);
    sent(&mut text, info, bbr);
    trouble(&mut text, info);
    received(&mut text, info);
    text
}

/// Time-outs, the round trip, sizes of segments, the window.
fn way(text: &mut String, info: &TcpInfo) {
    milliseconds(text, "rto", info.rto);
    counts(text, &[("backoff", info.backoff.into())]);
    if info.rtt != 0 {
        let [rtt, rttvar] = [info.rtt, info.rttvar].map(|us| general(f64::from(us) / 1000.0));
        let _ = write!(text, " rtt:{rtt}/{rttvar}");
    }
    milliseconds(text, "ato", info.ato);
    let sizes = [
        ("mss", info.snd_mss),
        ("pmtu", info.pmtu),
        ("rcvmss", info.rcv_mss),
        ("advmss", info.advmss),
        ("cwnd", info.snd_cwnd),
    ];
    counts(text, &sizes.map(|(name, size)| (name, size.into())));
    // Larger ones are no bound yet.
    if info.snd_ssthresh < 0xffff {
        counts(text, &[("ssthresh", info.snd_ssthresh.into())]);
    }
}

/// What was sent and came, and how fast.
fn sent(text: &mut String, info: &TcpInfo, bbr: Option<Bbr>) {
    counts(
        text,
        &[
            ("bytes_sent", info.bytes_sent),
            ("bytes_retrans", info.bytes_retrans),
            ("bytes_acked", info.bytes_acked),
            ("bytes_received", info.bytes_received),
            ("segs_out", info.segs_out.into()),
            ("segs_in", info.segs_in.into()),
            ("data_segs_out", info.data_segs_out.into()),
            ("data_segs_in", info.data_segs_in.into()),
        ],
    );
    if let Some(bbr) = bbr {
        way_of_bbr(text, bbr);
    }
    if info.rtt != 0 {
        let a_round_trip = u128::from(info.snd_cwnd) * u128::from(info.snd_mss) * 8;
        let bps = a_round_trip * 1_000_000 / u128::from(info.rtt);
        if bps != 0 {
            let _ = write!(text, " send {bps}bps");
        }
    }
    let ago = [
        ("lastsnd", info.last_data_sent),
        ("lastrcv", info.last_data_recv),
        ("lastack", info.last_ack_recv),
    ];
    counts(text, &ago.map(|(name, ms)| (name, ms.into())));
    rate(text, "pacing_rate", info.pacing_rate);
    let paced = ![0, u64::MAX].contains(&info.pacing_rate);
    if paced && ![0, u64::MAX].contains(&info.max_pacing_rate) {
        let _ = write!(text, "/{}bps", u128::from(info.max_pacing_rate) * 8);
    }
    rate(text, "delivery_rate", info.delivery_rate);
    counts(
        text,
        &[("delivered", info.delivered.into()), ("delivered_ce", info.delivered_ce.into())],
    );
    if info.flags & 1 != 0 {
        *text += " app_limited";
    }
}

/// What BBR takes the way for.
fn way_of_bbr(text: &mut String, bbr: Bbr) {
    let _ = write!(text, " bbr:(bw:{}bps", u128::from(bbr.bw) * 8);
    let _ = write!(text, ",mrtt:{}", general(f64::from(bbr.min_rtt) / 1000.0));
    for (name, gain) in [("pacing_gain", bbr.pacing_gain), ("cwnd_gain", bbr.cwnd_gain)] {
        if gain != 0 {
            let _ = write!(text, ",{name}:{}", general(f64::from(gain) / 256.0));
        }
    }
    *text += ")";
}

/// What sending was held up by, and what was lost.
fn trouble(text: &mut String, info: &TcpInfo) {
    if info.busy_time != 0 {
        let _ = write!(text, " busy:{}ms", info.busy_time / 1000);
    }
    for (name, us) in [("rwnd_limited", info.rwnd_limited), ("sndbuf_limited", info.sndbuf_limited)]
    {
        if us != 0 {
            let part = 100.0 * us as f64 / info.busy_time.max(1) as f64;
            let _ = write!(text, " {name}:{}ms({part:.1}%)", us / 1000);
        }
    }
    counts(text, &[("unacked", info.unacked.into())]);
    if info.retrans != 0 || info.total_retrans != 0 {
        let _ = write!(text, " retrans:{}/{}", info.retrans, info.total_retrans);
    }
    counts(
        text,
        &[
            ("lost", info.lost.into()),
            ("sacked", info.sacked.into()),
            ("dsack_dups", info.dsack_dups.into()),
        ],
    );
    // Three is what everybody begins with.
    if info.reordering != 3 {
        counts(text, &[("reordering", info.reordering.into())]);
    }
    counts(text, &[("reord_seen", info.reord_seen.into())]);
}

fn received(text: &mut String, info: &TcpInfo) {
    milliseconds(text, "rcv_rtt", info.rcv_rtt);
    counts(
        text,
        &[
            ("rcv_space", info.rcv_space.into()),
            ("rcv_ssthresh", info.rcv_ssthresh.into()),
            ("notsent", info.notsent_bytes.into()),
        ],
    );
    milliseconds(text, "minrtt", info.min_rtt);
    counts(text, &[("rcv_ooopack", info.rcv_ooopack.into()), ("snd_wnd", info.snd_wnd.into())]);
}

/// Six digits at the most, no zeros at the end: `%g` of C.
fn general(number: f64) -> String {
    let scientific = format!("{number:.5e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    trim(&format!("{number:.*}", (5 - exponent).max(0) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_printed_as_c_prints_them() {
        for (number, text) in [
            (0.0, "0"),
            (204.0, "204"),
            (0.048, "0.048"),
            (0.1255, "0.1255"),
            (1234.567, "1234.57"),
            (120_000.0, "120000"),
            (999_999.5, "1e+06"),
            (1_234_567.0, "1.23457e+06"),
            (0.000_012, "1.2e-05"),
            (0.5, "0.5"),
            (100.0, "100"),
        ] {
            assert_eq!(general(number), text);
        }
    }

    #[test]
    fn times_are_as_exact_as_matters() {
        for (ms, text) in [
            (0, "000ms"),
            (4, "004ms"),
            (204, "204ms"),
            (1_020, "1.020ms"),
            (3_000, "3sec"),
            (59_900, "59sec"),
            (61_000, "1min1sec"),
            (60_000, "1min"),
            (7_199_000, "119min"),
        ] {
            assert_eq!(duration(ms), text);
        }
    }

    /// As iproute2 says it of a connection of Linux's.
    #[test]
    fn what_bbr_knows_is_told() {
        let info = TcpInfo {
            rtt: 4_624,
            rttvar: 9_195,
            snd_mss: 47_616,
            snd_cwnd: 15,
            data_segs_out: 5,
            pacing_rate: 1_000_000,
            max_pacing_rate: 1_000_000,
            delivery_rate: 3_662_769_230,
            delivered: 6,
            flags: 1,
            snd_ssthresh: 0x7fff_ffff,
            min_rtt: 13,
            reordering: 3,
            ..TcpInfo::default()
        };
        let bbr = Bbr { bw: 3_662_769_012, min_rtt: 13, pacing_gain: 739, cwnd_gain: 739 };
        assert_eq!(
            tcp_info(&info, (Some("bbr"), Some(bbr)), false),
            " bbr rtt:4.624/9.195 mss:47616 cwnd:15 data_segs_out:5 bbr:(bw:29302152096bps,mrtt:0.013,\
             pacing_gain:2.88672,cwnd_gain:2.88672) send 1235709342bps pacing_rate 8000000bps/8000000bps \
             delivery_rate 29302153840bps delivered:6 app_limited minrtt:0.013"
        );
    }

    #[test]
    fn what_is_nothing_is_not_told() {
        let listener =
            TcpInfo { snd_cwnd: 10, reordering: 3, snd_ssthresh: 0, ..TcpInfo::default() };
        assert_eq!(tcp_info(&listener, (Some("cubic"), None), true), " cubic cwnd:10");
        let info = TcpInfo {
            options: TCPI_OPT_TIMESTAMPS | TCPI_OPT_WSCALE,
            wscale: 0x7a,
            rto: 204_000,
            rtt: 48,
            rttvar: 27,
            snd_mss: 1448,
            snd_cwnd: 10,
            snd_ssthresh: 0x7fff_ffff,
            pacing_rate: u64::MAX,
            retrans: 1,
            total_retrans: 3,
            busy_time: 8_000,
            rwnd_limited: 4_000,
            min_rtt: u32::MAX,
            reordering: 3,
            ..TcpInfo::default()
        };
        assert_eq!(
            tcp_info(&info, (Some("reno"), None), true),
            " ts reno wscale:10,7 rto:204 rtt:0.048/0.027 mss:1448 cwnd:10 send 2413333333bps busy:8ms \
             rwnd_limited:4ms(50.0%) retrans:1/3"
        );
    }
}
