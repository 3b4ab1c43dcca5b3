//! TCP's settings by name.

use super::Knob::{self, Flag, I8, Keys, Three, Time, U8, U32};
use super::{MOST, MS, SECOND};
use crate::net::core::sysctl::{MtuProbing, TcpSysctls};
use std::time::Duration;

const NS: Duration = Duration::from_nanos(1);
/// What Linux bounds seconds by that it keeps in jiffies.
const HZ: u32 = 250;
const DAY: u32 = 24 * 60 * 60;

/// linux: net/ipv4/sysctl_net_ipv4.c:ipv4_net_table
pub(super) fn tcp_table(s: &mut TcpSysctls) -> Vec<(&'static str, Knob<'_>)> {
    let mut table = vec![
        ("net.ipv4.tcp_abort_on_overflow", Flag(&mut s.abort_on_overflow)),
        ("net.ipv4.tcp_adv_win_scale", I8(&mut s.adv_win_scale, -31, 31)),
        ("net.ipv4.tcp_app_win", U8(&mut s.app_win, 0, 31)),
        ("net.ipv4.tcp_autocorking", Flag(&mut s.autocorking)),
        ("net.ipv4.tcp_challenge_ack_limit", U32(&mut s.challenge_ack_limit, 0, MOST)),
        ("net.ipv4.tcp_comp_sack_delay_ns", Time(&mut s.comp_sack_delay, NS)),
        ("net.ipv4.tcp_comp_sack_nr", U8(&mut s.comp_sack_nr, 0, u8::MAX)),
        ("net.ipv4.tcp_comp_sack_slack_ns", Time(&mut s.comp_sack_slack, NS)),
        ("net.ipv4.tcp_dsack", Flag(&mut s.dsack)),
        ("net.ipv4.tcp_early_retrans", U8(&mut s.early_retrans, 0, 4)),
        ("net.ipv4.tcp_ecn", U8(&mut s.ecn, 0, 2)),
        ("net.ipv4.tcp_ecn_fallback", Flag(&mut s.ecn_fallback)),
        ("net.ipv4.tcp_fack", Flag(&mut s.fack)),
        ("net.ipv4.tcp_fastopen", U32(&mut s.fastopen, 0, MOST)),
        (
            "net.ipv4.tcp_fastopen_blackhole_timeout_sec",
            Time(&mut s.fastopen_blackhole_timeout, SECOND),
        ),
        ("net.ipv4.tcp_fastopen_key", Keys(&mut s.fastopen_key)),
        ("net.ipv4.tcp_fin_timeout", Time(&mut s.fin_timeout, SECOND)),
        ("net.ipv4.tcp_frto", U8(&mut s.frto, 0, u8::MAX)),
        ("net.ipv4.tcp_invalid_ratelimit", Time(&mut s.invalid_ratelimit, MS)),
        ("net.ipv4.tcp_keepalive_intvl", Time(&mut s.keepalive_intvl, SECOND)),
        ("net.ipv4.tcp_keepalive_probes", U8(&mut s.keepalive_probes, 0, u8::MAX)),
        ("net.ipv4.tcp_keepalive_time", Time(&mut s.keepalive_time, SECOND)),
        ("net.ipv4.tcp_limit_output_bytes", U32(&mut s.limit_output_bytes, 0, MOST)),
        ("net.ipv4.tcp_max_orphans", U32(&mut s.max_orphans, 0, MOST)),
        ("net.ipv4.tcp_max_syn_backlog", U32(&mut s.max_syn_backlog, 0, MOST)),
        ("net.ipv4.tcp_max_tw_buckets", U32(&mut s.max_tw_buckets, 0, MOST)),
        ("net.ipv4.tcp_mem", Three(&mut s.mem, 0)),
        ("net.ipv4.tcp_min_rtt_wlen", U32(&mut s.min_rtt_wlen, 0, DAY)),
        ("net.ipv4.tcp_min_snd_mss", U32(&mut s.min_snd_mss, 48, 65_535)),
        ("net.ipv4.tcp_min_tso_segs", U8(&mut s.min_tso_segs, 1, u8::MAX)),
        ("net.ipv4.tcp_moderate_rcvbuf", Flag(&mut s.moderate_rcvbuf)),
        ("net.ipv4.tcp_no_metrics_save", Flag(&mut s.no_metrics_save)),
        ("net.ipv4.tcp_notsent_lowat", U32(&mut s.notsent_lowat, 0, u32::MAX)),
        ("net.ipv4.tcp_orphan_retries", U8(&mut s.orphan_retries, 0, u8::MAX)),
        ("net.ipv4.tcp_pacing_ca_ratio", U32(&mut s.pacing_ca_ratio, 0, 1000)),
        ("net.ipv4.tcp_pacing_ss_ratio", U32(&mut s.pacing_ss_ratio, 0, 1000)),
        ("net.ipv4.tcp_recovery", U8(&mut s.recovery, 0, u8::MAX)),
        ("net.ipv4.tcp_reflect_tos", Flag(&mut s.reflect_tos)),
        ("net.ipv4.tcp_reordering", U32(&mut s.reordering, 1, s.max_reordering)),
        ("net.ipv4.tcp_max_reordering", U32(&mut s.max_reordering, 1, MOST)),
        ("net.ipv4.tcp_retrans_collapse", Flag(&mut s.retrans_collapse)),
        ("net.ipv4.tcp_retries1", U8(&mut s.retries1, 0, u8::MAX)),
        ("net.ipv4.tcp_retries2", U8(&mut s.retries2, 0, u8::MAX)),
        ("net.ipv4.tcp_rfc1337", Flag(&mut s.rfc1337)),
        ("net.ipv4.tcp_rmem", Three(&mut s.rmem, 1)),
        ("net.ipv4.tcp_rto_min_us", U32(&mut s.rto_min_us, 1, MOST)),
        ("net.ipv4.tcp_sack", Flag(&mut s.sack)),
        ("net.ipv4.tcp_shrink_window", Flag(&mut s.shrink_window)),
        ("net.ipv4.tcp_slow_start_after_idle", Flag(&mut s.slow_start_after_idle)),
        ("net.ipv4.tcp_stdurg", Flag(&mut s.stdurg)),
        ("net.ipv4.tcp_syn_linear_timeouts", U8(&mut s.syn_linear_timeouts, 0, 127)),
        ("net.ipv4.tcp_syn_retries", U8(&mut s.syn_retries, 1, 127)),
        ("net.ipv4.tcp_synack_retries", U8(&mut s.synack_retries, 0, u8::MAX)),
        ("net.ipv4.tcp_syncookies", U8(&mut s.syncookies, 0, u8::MAX)),
        ("net.ipv4.tcp_thin_linear_timeouts", Flag(&mut s.thin_linear_timeouts)),
        ("net.ipv4.tcp_timestamps", U8(&mut s.timestamps, 0, u8::MAX)),
        ("net.ipv4.tcp_tso_win_divisor", U8(&mut s.tso_win_divisor, 0, u8::MAX)),
        ("net.ipv4.tcp_tw_reuse", U8(&mut s.tw_reuse, 0, 2)),
        ("net.ipv4.tcp_window_scaling", Flag(&mut s.window_scaling)),
        ("net.ipv4.tcp_wmem", Three(&mut s.wmem, 1)),
    ];
    table.extend(mtu_probing_table(&mut s.mtu));
    table
}

fn mtu_probing_table(s: &mut MtuProbing) -> [(&'static str, Knob<'_>); 5] {
    [
        ("net.ipv4.tcp_base_mss", U32(&mut s.base_mss, 0, MOST)),
        ("net.ipv4.tcp_mtu_probe_floor", U32(&mut s.mtu_probe_floor, 48, 65_535)),
        ("net.ipv4.tcp_mtu_probing", U8(&mut s.mtu_probing, 0, u8::MAX)),
        ("net.ipv4.tcp_probe_interval", U32(&mut s.probe_interval, 0, u32::MAX / HZ)),
        ("net.ipv4.tcp_probe_threshold", U32(&mut s.probe_threshold, 0, MOST)),
    ]
}
