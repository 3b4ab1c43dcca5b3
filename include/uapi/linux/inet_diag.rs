//! What congestion control tells of itself: `TCP_CC_INFO`, and the extensions of a socket's dump.
//!
//! linux: include/uapi/linux/inet_diag.h

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// BBR's view of the way.
///
/// linux: include/uapi/linux/inet_diag.h:tcp_bbr_info
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct TcpBbrInfo {
    /// The bandwidth in octets a second: its lower half.
    pub bbr_bw_lo: u32,
    /// Its upper half.
    pub bbr_bw_hi: u32,
    /// The least round trip of late, in microseconds.
    pub bbr_min_rtt: u32,
    /// The pace, in 1/256 of the bandwidth.
    pub bbr_pacing_gain: u32,
    /// The window, in 1/256 of what the way holds.
    pub bbr_cwnd_gain: u32,
}

impl TcpBbrInfo {
    /// The bandwidth in octets a second.
    pub const fn bw(&self) -> u64 {
        (self.bbr_bw_hi as u64) << 32 | self.bbr_bw_lo as u64
    }
}
