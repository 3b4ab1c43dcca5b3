//! The word of a NAPI context: who may poll it, and whether he has to look again.
//!
//! linux: include/linux/netdevice.h (`NAPI_STATE_SCHED`, `NAPI_STATE_MISSED`, `NAPI_STATE_DISABLE`).
//! Key type: [`NapiState`]. Contexts: any. Invariants: whoever sets SCHED polls, until he gives it up;
//! who finds it set leaves MISSED, and giving it up then fails once; disabled, nobody gets it.

use crate::kernel::locking::atomic::{AtomicU32, Ordering};

const SCHED: u32 = 1;
const MISSED: u32 = 2;
const DISABLE: u32 = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct NapiState(AtomicU32);

impl NapiState {
    /// Nobody polls, and everybody may.
    pub(super) fn enabled() -> Self {
        Self(AtomicU32::new(0))
    }

    /// Nobody may poll before [`NapiState::enable`].
    pub(super) fn disabled() -> Self {
        Self(AtomicU32::new(SCHED | DISABLE))
    }

    /// Takes the right to poll: false when somebody has it (who is told to look again) or nobody may.
    #[inline]
    pub(super) fn schedule(&self) -> bool {
        match self.0.compare_exchange(0, SCHED, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => true,
            Err(state) => self.schedule_busy(state),
        }
    }

    /// The same, when the context is not just idle.
    #[cold]
    fn schedule_busy(&self, mut state: u32) -> bool {
        loop {
            if state & DISABLE != 0 {
                return false;
            }
            let missed = if state & SCHED != 0 { MISSED } else { 0 };
            let next = state | SCHED | missed;
            match self.0.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return missed == 0,
                Err(now) => state = now,
            }
        }
    }

    /// Gives the right up; false, and the right is kept, when somebody asked meanwhile.
    #[inline]
    pub(super) fn complete(&self) -> bool {
        match self.0.compare_exchange(SCHED, 0, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => true,
            Err(state) => self.complete_missed(state),
        }
    }

    /// The same, when somebody asked meanwhile or the context is being disabled.
    #[cold]
    fn complete_missed(&self, mut state: u32) -> bool {
        loop {
            // Disabling waits for SCHED to go, so then it goes all the same.
            let again = state & MISSED != 0 && state & DISABLE == 0;
            let next = if again { state & !MISSED } else { state & !(SCHED | MISSED) };
            match self.0.compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return !again,
                Err(now) => state = now,
            }
        }
    }

    /// A poll that is not done gives the right up if the context is being disabled: true if it is.
    pub(super) fn stop_if_disabled(&self) -> bool {
        let disabled = self.0.load(Ordering::Acquire) & DISABLE != 0;
        if disabled {
            self.0.fetch_and(!(SCHED | MISSED), Ordering::AcqRel);
        }
        disabled
    }

    /// Everybody may poll.
    pub(super) fn enable(&self) {
        self.0.store(0, Ordering::Release);
    }

    /// From now on nobody gets the right.
    pub(super) fn disable(&self) {
        self.0.fetch_or(DISABLE, Ordering::AcqRel);
    }

    /// Takes the right for good, while disabled: false as long as somebody still polls.
    pub(super) fn take(&self) -> bool {
        self.0.fetch_or(SCHED, Ordering::AcqRel) & SCHED == 0
    }

    /// Somebody has the right to poll.
    pub(super) fn scheduled(&self) -> bool {
        self.0.load(Ordering::Relaxed) & SCHED != 0
    }
}
