//! Answers to segments that may be an attacker's: the peer, if it was his, answers in turn (RFC 5961).
//!
//! linux: net/ipv4/tcp_input.c (`tcp_send_challenge_ack`). Key type: [`ChallengeAcks`]. Context: BH, under the
//! socket's lock. Each connection is limited for itself. The machine's limit is off by default: what all
//! share, one can see of another's (CVE-2016-5696).

use super::{__tcp_oow_rate_limited, seconds};
use crate::kernel::context::BhCx;
use crate::net::ipv4::tcp::TcpSk;
use crate::net::ipv4::tcp_output::tcp_send_ack;
use std::sync::atomic::{AtomicU32, Ordering};
use uapi::snmp::LinuxMib;

/// `tcp_challenge_ack_limit` that is none.
const UNLIMITED: u32 = i32::MAX as u32;

/// The machine's challenge acknowledgements. CPUs may count one too many between them.
///
/// linux: include/net/netns/ipv4.h:netns_ipv4 (tcp_challenge_timestamp, tcp_challenge_count)
#[derive(Debug, Default)]
pub(crate) struct ChallengeAcks {
    /// The second they are counted in, and one.
    second: AtomicU32,
    /// Those that may still go in it.
    left: AtomicU32,
}

impl ChallengeAcks {
    /// Takes one from what this second has: the limit and up to its half more or less, by chance, so that who
    /// counts answers does not learn how many others caused.
    fn take(&self, cx: &mut BhCx<'_>, limit: u32) -> bool {
        if limit == UNLIMITED {
            return true;
        }
        let second = seconds(cx.now()).wrapping_add(1);
        if self.second.swap(second, Ordering::Relaxed) != second {
            let most = limit.div_ceil(2) + cx.cpu.rng.below(limit);
            self.left.store(most, Ordering::Relaxed);
        }
        let one_less = |left: u32| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
    }
}

/// Answers a segment that may be an attacker's, unless this connection did lately or the machine has too often.
///
/// linux: net/ipv4/tcp_input.c:tcp_send_challenge_ack
pub(crate) fn tcp_send_challenge_ack(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    if __tcp_oow_rate_limited(cx, &mut sk.tp.last_oow_ack_time, LinuxMib::TCPACKSkippedChallenge) {
        return;
    }
    let limit = cx.t.net.sysctl.tcp.challenge_ack_limit;
    if cx.t.ns.tcp.challenges.take(cx, limit) {
        cx.count(LinuxMib::TCPChallengeACK);
        tcp_send_ack(cx, sk);
    }
}
