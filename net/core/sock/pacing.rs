//! Who holds a socket's packets back to its pace.
//!
//! linux: include/net/sock.h (`sk_pacing_status`, `sk_max_pacing_rate`). Key type: [`SkPacing`]. Contexts: any.
//! No lock: single words, each of which says all.

use super::Sock;
use std::sync::atomic::Ordering;

/// Who holds a socket's packets back to its pace.
///
/// linux: include/net/sock.h:sk_pacing
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum SkPacing {
    /// Nobody.
    None = 0,
    /// TCP itself.
    Needed = 1,
    /// The queueing discipline of its device.
    Fq = 2,
}

impl Sock {
    /// Who holds its packets back.
    #[inline]
    pub fn pacing_status(&self) -> SkPacing {
        match self.pacing_status.load(Ordering::Relaxed) {
            0 => SkPacing::None,
            1 => SkPacing::Needed,
            _ => SkPacing::Fq,
        }
    }

    /// They are to be held back: by TCP, unless somebody does already.
    pub(crate) fn need_pacing(&self) {
        let [none, needed] = [SkPacing::None as u8, SkPacing::Needed as u8];
        let (set, seen) = (Ordering::Relaxed, Ordering::Relaxed);
        // What it was is no matter: `Fq` is as good.
        let _before = self.pacing_status.compare_exchange(none, needed, set, seen);
    }

    /// The queueing discipline does it from now on.
    pub(crate) fn set_pacing_fq(&self) {
        self.pacing_status.store(SkPacing::Fq as u8, Ordering::Relaxed);
    }

    /// It is a TCP socket.
    ///
    /// linux: include/net/sock.h:sk_is_tcp
    pub(crate) fn is_tcp(&self) -> bool {
        self.sk_prot.kind.1 == uapi::ip::IPPROTO_TCP
    }

    /// `SO_MAX_PACING_RATE` in octets a second; `u64::MAX`: none.
    #[inline]
    pub fn max_pacing_rate(&self) -> u64 {
        self.max_pacing_rate.load(Ordering::Relaxed)
    }

    pub(crate) fn set_max_pacing_rate(&self, rate: u64) {
        self.max_pacing_rate.store(rate, Ordering::Relaxed);
    }
}
