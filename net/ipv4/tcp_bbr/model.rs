//! What the way is thought to be, and what BBR does about it.
//!
//! linux: net/ipv4/tcp_bbr.c (`bbr_update_model`).

use super::*;

/// The bandwidth is the greatest of so many round trips.
const BW_RTTS: u32 = CYCLE_LEN as u32 + 2;
/// The least round trip counts for so long.
const MIN_RTT_WIN: Duration = Duration::from_secs(10);
/// PROBE_RTT keeps the way empty for so long at least.
const PROBE_RTT_MODE: Duration = Duration::from_millis(200);
/// STARTUP goes on while the bandwidth grows by a quarter …
const FULL_BW_THRESH: u32 = BBR_UNIT * 5 / 4;
/// … within so many round trips.
const FULL_BW_CNT: u8 = 3;
/// What came beyond the bandwidth counts for so many round trips, and so many more.
const EXTRA_ACKED_WIN_RTTS: u8 = 5;
/// After so many segments their count begins anew.
const ACK_EPOCH_ACKED_RESET_THRESH: u32 = 1 << 20;

impl Bbr {
    /// linux: net/ipv4/tcp_bbr.c:bbr_update_model
    pub(super) fn bbr_update_model(&mut self, tp: &mut TcpCong, rs: &RateSample) {
        self.bbr_update_bw(tp, rs);
        self.bbr_update_ack_aggregation(tp, rs);
        self.bbr_update_cycle_phase(tp, rs);
        self.bbr_check_full_bw_reached(rs);
        self.bbr_check_drain(tp);
        self.bbr_update_min_rtt(tp, rs);
        self.bbr_update_gains();
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_update_bw
    fn bbr_update_bw(&mut self, tp: &TcpCong, rs: &RateSample) {
        self.round_start = false;
        let Some(delivered) = rs.delivered.filter(|_| rs.interval_us != 0) else { return };
        if rs.prior_delivered.wrapping_sub(self.next_rtt_delivered) as i32 >= 0 {
            self.next_rtt_delivered = tp.delivered;
            self.rtt_cnt = self.rtt_cnt.wrapping_add(1);
            self.round_start = true;
            self.packet_conservation = false;
        }
        self.bbr_lt_bw_sampling(tp, rs);
        let bw = u64::from(delivered) * BW_UNIT / u64::from(rs.interval_us);
        let bw = u32::try_from(bw).unwrap_or(u32::MAX);
        // Where the program had too little to send, only what is faster all the same says something.
        if !rs.is_app_limited || bw >= self.bw.minmax_get() {
            self.bw.minmax_running_max(BW_RTTS, self.rtt_cnt, bw);
        }
    }

    /// How much more comes acknowledged at once than the bandwidth explains.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_update_ack_aggregation
    fn bbr_update_ack_aggregation(&mut self, tp: &TcpCong, rs: &RateSample) {
        if rs.acked_sacked == 0 || rs.delivered.is_none() || rs.interval_us == 0 {
            return;
        }
        if self.round_start {
            self.extra_acked_win_rtts += 1;
            if self.extra_acked_win_rtts >= EXTRA_ACKED_WIN_RTTS {
                self.extra_acked_win_rtts = 0;
                self.extra_acked_win_idx ^= 1;
                self.extra_acked[usize::from(self.extra_acked_win_idx)] = 0;
            }
        }
        let epoch_us = tp.delivered_mstamp.us_since(self.ack_epoch_mstamp);
        let expected = u128::from(self.bbr_bw()) * u128::from(epoch_us) / u128::from(BW_UNIT);
        let mut expected = u32::try_from(expected).unwrap_or(u32::MAX);
        let acked = self.ack_epoch_acked.saturating_add(rs.acked_sacked);
        if self.ack_epoch_acked <= expected || acked >= ACK_EPOCH_ACKED_RESET_THRESH {
            (self.ack_epoch_acked, self.ack_epoch_mstamp) = (0, tp.delivered_mstamp);
            expected = 0;
        }
        let acked = self.ack_epoch_acked.saturating_add(rs.acked_sacked);
        self.ack_epoch_acked = acked.min(ACK_EPOCH_ACKED_RESET_THRESH - 1);
        let extra = self.ack_epoch_acked.saturating_sub(expected).min(tp.snd_cwnd);
        let most = &mut self.extra_acked[usize::from(self.extra_acked_win_idx)];
        *most = extra.max(*most).min(u16::MAX.into());
    }

    /// The phase of the cycle has lasted as long as it should.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_is_next_cycle_phase
    fn bbr_is_next_cycle_phase(&self, tp: &TcpCong, rs: &RateSample) -> bool {
        let lasted = tp.delivered_mstamp.us_since(self.cycle_mstamp);
        let is_full_length = lasted > u64::from(self.min_rtt_us);
        if self.pacing_gain == BBR_UNIT {
            return is_full_length;
        }
        let in_flight = self.bbr_packets_in_net_at_edt(tp, rs.prior_in_flight);
        let bw = self.bw.minmax_get();
        if self.pacing_gain > BBR_UNIT {
            // Until there is as much on the way as was meant, unless some of it is lost.
            let enough = in_flight >= self.bbr_inflight(tp, bw, self.pacing_gain);
            return is_full_length && (rs.losses != 0 || enough);
        }
        // Until what probing has queued is gone.
        is_full_length || in_flight <= self.bbr_inflight(tp, bw, BBR_UNIT)
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_advance_cycle_phase
    fn bbr_advance_cycle_phase(&mut self, tp: &TcpCong) {
        self.cycle_idx = (self.cycle_idx + 1) % CYCLE_LEN;
        self.cycle_mstamp = tp.delivered_mstamp;
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_update_cycle_phase
    fn bbr_update_cycle_phase(&mut self, tp: &TcpCong, rs: &RateSample) {
        if self.mode == Mode::ProbeBw && self.bbr_is_next_cycle_phase(tp, rs) {
            self.bbr_advance_cycle_phase(tp);
        }
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_reset_probe_bw_mode
    pub(super) fn bbr_reset_probe_bw_mode(&mut self, tp: &TcpCong) {
        self.mode = Mode::ProbeBw;
        self.cycle_idx = CYCLE_LEN - 1 - self.below(CYCLE_RAND) as u8;
        self.bbr_advance_cycle_phase(tp);
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_reset_mode
    fn bbr_reset_mode(&mut self, tp: &TcpCong) {
        if self.full_bw_reached {
            self.bbr_reset_probe_bw_mode(tp);
        } else {
            self.mode = Mode::Startup;
        }
    }

    /// STARTUP has found the bandwidth, when it has hardly grown for three round trips.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_check_full_bw_reached
    fn bbr_check_full_bw_reached(&mut self, rs: &RateSample) {
        if self.full_bw_reached || !self.round_start || rs.is_app_limited {
            return;
        }
        let threshold = (u64::from(self.full_bw) * u64::from(FULL_BW_THRESH)) >> BBR_SCALE;
        let bw = self.bw.minmax_get();
        if u64::from(bw) >= threshold {
            (self.full_bw, self.full_bw_cnt) = (bw, 0);
            return;
        }
        self.full_bw_cnt += 1;
        self.full_bw_reached = self.full_bw_cnt >= FULL_BW_CNT;
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_check_drain
    fn bbr_check_drain(&mut self, tp: &mut TcpCong) {
        let bw = self.bw.minmax_get();
        if self.mode == Mode::Startup && self.full_bw_reached {
            self.mode = Mode::Drain;
            tp.snd_ssthresh = self.bbr_inflight(tp, bw, BBR_UNIT);
        }
        if self.mode == Mode::Drain
            && self.bbr_packets_in_net_at_edt(tp, tp.in_flight)
                <= self.bbr_inflight(tp, bw, BBR_UNIT)
        {
            self.bbr_reset_probe_bw_mode(tp);
        }
    }

    /// PROBE_RTT is over, if its time is.
    ///
    /// linux: net/ipv4/tcp_bbr.c:bbr_check_probe_rtt_done
    pub(super) fn bbr_check_probe_rtt_done(&mut self, tp: &mut TcpCong) {
        if self.probe_rtt_done_stamp.is_none_or(|done| tp.now <= done) {
            return;
        }
        self.min_rtt_stamp = tp.now;
        tp.snd_cwnd = tp.snd_cwnd.max(self.prior_cwnd);
        self.bbr_reset_mode(tp);
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_update_min_rtt
    fn bbr_update_min_rtt(&mut self, tp: &mut TcpCong, rs: &RateSample) {
        let expired = tp.now > self.min_rtt_stamp + MIN_RTT_WIN;
        if let Some(rtt_us) = rs.rtt_us
            && (rtt_us <= self.min_rtt_us || (expired && !rs.is_ack_delayed))
        {
            (self.min_rtt_us, self.min_rtt_stamp) = (rtt_us, tp.now);
        }
        if expired && !self.idle_restart && self.mode != Mode::ProbeRtt {
            self.mode = Mode::ProbeRtt;
            self.bbr_save_cwnd(tp);
            self.probe_rtt_done_stamp = None;
        }
        if self.mode == Mode::ProbeRtt {
            self.probe_rtt(tp);
        }
        // The pause is over when something sent after it has arrived.
        if rs.delivered.is_some_and(|delivered| delivered != 0) {
            self.idle_restart = false;
        }
    }

    /// An acknowledgement in PROBE_RTT: once the way is all but empty it stays so for a while, and a round trip
    /// at least.
    fn probe_rtt(&mut self, tp: &mut TcpCong) {
        // What is delivered now says nothing of the bandwidth.
        tp.app_limited = tp.delivered.wrapping_add(tp.in_flight).max(1);
        if self.probe_rtt_done_stamp.is_none() {
            if tp.in_flight <= CWND_MIN_TARGET {
                self.probe_rtt_done_stamp = Some(tp.now + PROBE_RTT_MODE);
                self.probe_rtt_round_done = false;
                self.next_rtt_delivered = tp.delivered;
            }
            return;
        }
        self.probe_rtt_round_done |= self.round_start;
        if self.probe_rtt_round_done {
            self.bbr_check_probe_rtt_done(tp);
        }
    }

    /// linux: net/ipv4/tcp_bbr.c:bbr_update_gains
    fn bbr_update_gains(&mut self) {
        (self.pacing_gain, self.cwnd_gain) = match self.mode {
            Mode::Startup => (HIGH_GAIN, HIGH_GAIN),
            Mode::Drain => (DRAIN_GAIN, HIGH_GAIN),
            Mode::ProbeBw if self.lt.used().is_some() => (BBR_UNIT, CWND_GAIN),
            Mode::ProbeBw => (PACING_GAIN[usize::from(self.cycle_idx)], CWND_GAIN),
            Mode::ProbeRtt => (BBR_UNIT, BBR_UNIT),
        };
    }
}
