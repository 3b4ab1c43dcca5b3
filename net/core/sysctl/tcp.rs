//! TCP's settings.
//!
//! linux: net/ipv4/sysctl_net_ipv4.c, net/ipv4/tcp_ipv4.c:tcp_sk_init,
//! Documentation/networking/ip-sysctl.rst.

use std::time::Duration;

const PAGE_SIZE: usize = 4096;

/// A key of `tcp_fastopen_key`, and perhaps one that was in its place before.
pub type KeyPair = ([u32; 4], Option<[u32; 4]>);

/// The settings `net.ipv4.tcp_*`; each field is its name without the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSysctls {
    /// `tcp_rmem`: bytes of a receive buffer at least, at first and at the most.
    pub rmem: [u32; 3],
    /// `tcp_wmem`: bytes of a send buffer at least, at first and at the most.
    pub wmem: [u32; 3],
    /// `tcp_mem`: pages of all connections together: below the first nothing is held back, above the
    /// second memory is tight, above the third there is none. See [`init_mem`](Self::init_mem).
    pub mem: [u32; 3],
    /// `tcp_max_syn_backlog`: half-open connections of a listener.
    pub max_syn_backlog: u32,
    /// `tcp_syncookies`: 0 never, 1 when the queue is full, 2 always.
    pub syncookies: u8,
    /// `tcp_abort_on_overflow`: reset what finds the accept queue full.
    pub abort_on_overflow: bool,
    /// `tcp_syn_retries`: SYNs sent again.
    pub syn_retries: u8,
    /// `tcp_syn_linear_timeouts`: of them, those before the timeout doubles.
    pub syn_linear_timeouts: u8,
    /// `tcp_synack_retries`: SYN-ACKs sent again.
    pub synack_retries: u8,
    /// `tcp_retries1`: timeouts before the route is thought bad.
    pub retries1: u8,
    /// `tcp_retries2`: timeouts before the connection is given up.
    pub retries2: u8,
    /// `tcp_orphan_retries`: the same for a connection that no file holds; 0 means 8.
    pub orphan_retries: u8,
    /// `tcp_max_orphans`: connections that no file holds.
    pub max_orphans: u32,
    /// `tcp_fin_timeout`: how long an orphan stays in FIN-WAIT-2.
    pub fin_timeout: Duration,
    /// `tcp_keepalive_time`: idleness before keepalives start.
    pub keepalive_time: Duration,
    /// `tcp_keepalive_intvl`: from one keepalive to the next.
    pub keepalive_intvl: Duration,
    /// `tcp_keepalive_probes`: keepalives before the connection dies.
    pub keepalive_probes: u8,
    /// `tcp_max_tw_buckets`: TIME-WAIT sockets.
    pub max_tw_buckets: u32,
    /// `tcp_tw_reuse`: a TIME-WAIT socket gives way to a new connection: 0 never, 1 where that is
    /// safe, 2 on loopback only.
    pub tw_reuse: u8,
    /// `tcp_timestamps`: 0 none, 1 with an offset per connection, 2 without.
    pub timestamps: u8,
    /// `tcp_window_scaling`.
    pub window_scaling: bool,
    /// `tcp_sack`: selective acknowledgements.
    pub sack: bool,
    /// `tcp_dsack`: duplicates are told of.
    pub dsack: bool,
    /// `tcp_fack`: without effect, as in Linux since 4.15.
    pub fack: bool,
    /// `tcp_ecn`: 0 none, 1 asked for and granted, 2 granted.
    pub ecn: u8,
    /// `tcp_ecn_fallback`: a SYN that goes again does not ask for it.
    pub ecn_fallback: bool,
    /// `tcp_moderate_rcvbuf`: receive buffers grow with what the program takes.
    pub moderate_rcvbuf: bool,
    /// `tcp_adv_win_scale`: without effect, as in Linux since 6.6.
    pub adv_win_scale: i8,
    /// `tcp_app_win`: the share of the window kept for the program is one in two to the power of this.
    pub app_win: u8,
    /// `tcp_reordering`: segments that may pass one another before one is thought lost, at first.
    pub reordering: u32,
    /// `tcp_max_reordering`: the same at the most.
    pub max_reordering: u32,
    /// `tcp_slow_start_after_idle`.
    pub slow_start_after_idle: bool,
    /// `tcp_no_metrics_save`: nothing is remembered of a connection for the next to its host.
    pub no_metrics_save: bool,
    /// `tcp_limit_output_bytes`: bytes of a socket in the queues of qdiscs and devices.
    pub limit_output_bytes: u32,
    /// `tcp_challenge_ack_limit`: challenge acknowledgements a second; `i32::MAX` for no limit.
    pub challenge_ack_limit: u32,
    /// `tcp_invalid_ratelimit`: the least time between answers to invalid segments.
    pub invalid_ratelimit: Duration,
    /// `tcp_min_snd_mss`: the least segment size a peer or a path can make a sender use, options
    /// included.
    pub min_snd_mss: u32,
    /// Probing for the MTU of the way.
    pub mtu: MtuProbing,
    /// `tcp_rfc1337`: a reset does not end a TIME-WAIT socket.
    pub rfc1337: bool,
    /// `tcp_stdurg`: the urgent pointer points at the last urgent octet, not behind it.
    pub stdurg: bool,
    /// `tcp_notsent_lowat`: unsent bytes below which a socket is writable.
    pub notsent_lowat: u32,
    /// `tcp_autocorking`: small segments wait for those still in a queue of the host.
    pub autocorking: bool,
    /// `tcp_min_rtt_wlen`: seconds over which the least round trip is taken.
    pub min_rtt_wlen: u32,
    /// `tcp_pacing_ss_ratio`: percent of the rate that is paced in slow start.
    pub pacing_ss_ratio: u32,
    /// `tcp_pacing_ca_ratio`: percent of the rate that is paced otherwise.
    pub pacing_ca_ratio: u32,
    /// `tcp_recovery`: 1 losses are found by time (RACK), 2 and 4 are variants of it.
    pub recovery: u8,
    /// `tcp_early_retrans`: 3 or 4: the end of what was sent is probed (TLP).
    pub early_retrans: u8,
    /// `tcp_frto`: spurious timeouts are looked for.
    pub frto: u8,
    /// `tcp_retrans_collapse`: small segments are merged when sent again.
    pub retrans_collapse: bool,
    /// `tcp_rto_min_us`: the least retransmission timeout, in microseconds.
    pub rto_min_us: u32,
    /// `tcp_thin_linear_timeouts`: timeouts of thin streams do not double.
    pub thin_linear_timeouts: bool,
    /// `tcp_comp_sack_delay_ns`: how long selective acknowledgements are held back.
    pub comp_sack_delay: Duration,
    /// `tcp_comp_sack_slack_ns`: how much longer, where that saves a timer.
    pub comp_sack_slack: Duration,
    /// `tcp_comp_sack_nr`: acknowledgements held back; 0: none.
    pub comp_sack_nr: u8,
    /// `tcp_reflect_tos`: a listener's connection has the SYN's type of service, without its two bits of ECN.
    pub reflect_tos: bool,
    /// `tcp_shrink_window`: a window that was offered is taken back when the buffer has no room for it, if
    /// windows are scaled.
    pub shrink_window: bool,
    /// `tcp_tso_win_divisor`: the share of the congestion window one large segment may have.
    pub tso_win_divisor: u8,
    /// `tcp_min_tso_segs`: segments in a large one at least.
    pub min_tso_segs: u8,
    /// `tcp_fastopen`: bits: 1 by clients, 2 by listeners, and variants.
    pub fastopen: u32,
    /// `tcp_fastopen_key`: of listeners, if one was set.
    pub fastopen_key: Option<KeyPair>,
    /// `tcp_fastopen_blackhole_timeout_sec`: how long clients do without it when the way did not bear it, the first
    /// time; 0: they go on.
    pub fastopen_blackhole_timeout: Duration,
    /// `tcp_congestion_control`: the name of what a new connection uses; one that is registered.
    pub congestion_control: &'static str,
}

/// The settings of probing for the MTU of the way (RFC 4821); each field is its name without the prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MtuProbing {
    /// `tcp_mtu_probing`: TCP probes for the MTU of the way: 0 never, 1 when long packets seem to be swallowed, 2
    /// always.
    pub mtu_probing: u8,
    /// `tcp_base_mss`: the segment size that the search begins with.
    pub base_mss: u32,
    /// `tcp_mtu_probe_floor`: the least segment size it comes down to.
    pub mtu_probe_floor: u32,
    /// `tcp_probe_threshold`: octets of the search range that are not worth a probe.
    pub probe_threshold: u32,
    /// `tcp_probe_interval`: seconds until the search begins anew.
    pub probe_interval: u32,
}

impl Default for MtuProbing {
    fn default() -> Self {
        Self {
            mtu_probing: 0,
            base_mss: 1024,
            mtu_probe_floor: 48,
            probe_threshold: 8,
            probe_interval: 600,
        }
    }
}

impl Default for TcpSysctls {
    fn default() -> Self {
        let mut sysctls = Self {
            rmem: [4096, 131_072, 6 << 20],
            wmem: [4096, 16_384, 4 << 20],
            mem: [0; 3],
            max_syn_backlog: 512,
            syncookies: 1,
            abort_on_overflow: false,
            syn_retries: 6,
            syn_linear_timeouts: 4,
            synack_retries: 5,
            retries1: 3,
            retries2: 15,
            orphan_retries: 0,
            max_orphans: 8192,
            fin_timeout: Duration::from_secs(60),
            keepalive_time: Duration::from_secs(7200),
            keepalive_intvl: Duration::from_secs(75),
            keepalive_probes: 9,
            max_tw_buckets: 8192,
            tw_reuse: 2,
            timestamps: 1,
            window_scaling: true,
            sack: true,
            dsack: true,
            fack: false,
            ecn: 2,
            ecn_fallback: true,
            moderate_rcvbuf: true,
            adv_win_scale: 1,
            app_win: 31,
            reordering: 3,
            max_reordering: 300,
            slow_start_after_idle: true,
            no_metrics_save: false,
            limit_output_bytes: 4 << 20,
            challenge_ack_limit: i32::MAX as u32,
            invalid_ratelimit: Duration::from_millis(500),
            min_snd_mss: 48,
            mtu: MtuProbing::default(),
            rfc1337: false,
            stdurg: false,
            notsent_lowat: u32::MAX,
            autocorking: true,
            min_rtt_wlen: 300,
            pacing_ss_ratio: 200,
            pacing_ca_ratio: 120,
            recovery: 1,
            early_retrans: 3,
            frto: 2,
            retrans_collapse: true,
            rto_min_us: 200_000,
            thin_linear_timeouts: false,
            comp_sack_delay: Duration::from_millis(1),
            comp_sack_slack: Duration::from_micros(100),
            comp_sack_nr: 44,
            reflect_tos: false,
            shrink_window: false,
            tso_win_divisor: 3,
            min_tso_segs: 2,
            fastopen: 1,
            fastopen_key: None,
            fastopen_blackhole_timeout: Duration::ZERO,
            congestion_control: "cubic",
        };
        sysctls.init_mem(32 << 20);
        sysctls
    }
}

impl TcpSysctls {
    /// Sets `tcp_mem` for a machine whose packets may take `bytes`: half of it is TCP's at the most,
    /// and the two marks below stand where Linux has them, at a half and at two thirds of that.
    ///
    /// linux: net/ipv4/tcp.c:tcp_init_mem
    pub fn init_mem(&mut self, bytes: usize) {
        let most = u32::try_from(bytes / PAGE_SIZE / 2).unwrap_or(i32::MAX as u32).max(128);
        self.mem = [most / 2, most / 3 * 2, most];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_half_of_the_machines() {
        let mut sysctls = TcpSysctls::default();
        assert_eq!(sysctls.mem, [2048, 2730, 4096]);
        sysctls.init_mem(1 << 30);
        assert_eq!(sysctls.mem[2] as usize * PAGE_SIZE, 512 << 20);
        for bytes in [0, 1, usize::MAX] {
            sysctls.init_mem(bytes);
            assert!(sysctls.mem.is_sorted() && sysctls.mem[0] >= 64, "{:?}", sysctls.mem);
        }
    }
}
