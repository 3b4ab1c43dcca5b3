//! Ctrl-C and `kill`: a flag that a [`Waiter`](crate::wait::Waiter) can wait for.
//!
//! Key type: [`StopSignal`]. Contexts: any thread; the handler runs in any, between any two
//! instructions.
//! Invariants: the handler does only what a handler may (atomics, one write); the descriptor it
//! writes to is never closed, so a late one can't reach somebody else's file.
//!
//! Not a signalfd: that wants the signals blocked in every thread, which a library can't see to,
//! and children would inherit the blocking.

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

/// Readable once a signal came. Belongs to the process, as signals do.
static EVENT: OnceLock<OwnedFd> = OnceLock::new();
/// Its number, where the handler can find it; -1: none yet.
static EVENT_FD: AtomicI32 = AtomicI32::new(-1);
/// The first signal that came; 0: none.
static SIGNAL: AtomicI32 = AtomicI32::new(0);
/// Somebody holds the [`StopSignal`].
static HELD: AtomicBool = AtomicBool::new(false);

const STOPPING: [libc::c_int; 2] = [libc::SIGINT, libc::SIGTERM];

/// SIGINT and SIGTERM, caught: the first asks to stop, a second of its kind kills as ever, so a
/// program that hangs while stopping can still be ended. Dropped, it lets go of both.
#[derive(Debug)]
pub struct StopSignal {
    old: [(libc::c_int, libc::sigaction); 2],
}

impl StopSignal {
    /// Takes both signals over, also those that were ignored.
    ///
    /// # Errors
    /// `ResourceBusy` when this process has one already.
    pub fn install() -> io::Result<Self> {
        if HELD.swap(true, Ordering::AcqRel) {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        Self::take_over().inspect_err(|_| HELD.store(false, Ordering::Release))
    }

    fn take_over() -> io::Result<Self> {
        if EVENT.get().is_none() {
            let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            EVENT_FD.store(EVENT.get_or_init(|| event).as_raw_fd(), Ordering::Release);
        }
        // What came to an earlier holder is not for us.
        SIGNAL.store(0, Ordering::Relaxed);
        let _ = rustix::io::read(event(), &mut [0; 8]);
        let int = (libc::SIGINT, catch(libc::SIGINT)?);
        match catch(libc::SIGTERM) {
            Ok(term) => Ok(Self { old: [int, (libc::SIGTERM, term)] }),
            Err(e) => {
                set_action(int.0, &int.1)?;
                Err(e)
            }
        }
    }

    /// Whether one came.
    #[must_use]
    pub fn stopped(&self) -> bool {
        self.signal().is_some()
    }

    /// The first that came: its number, to exit with 128 more.
    #[must_use]
    pub fn signal(&self) -> Option<i32> {
        match SIGNAL.load(Ordering::Acquire) {
            0 => None,
            signal => Some(signal),
        }
    }
}

/// Readable from the first signal on.
impl AsFd for StopSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        event().as_fd()
    }
}

impl Drop for StopSignal {
    fn drop(&mut self) {
        for (signal, action) in &self.old {
            // Can't fail: the signal is valid and the action came from the system.
            let _ = set_action(*signal, action);
        }
        HELD.store(false, Ordering::Release);
    }
}

fn event() -> &'static OwnedFd {
    EVENT.get().expect("set before the first StopSignal exists")
}

extern "C" fn on_signal(signal: libc::c_int) {
    // SAFETY: errno is this thread's own; a handler has to leave it as it was.
    let errno = unsafe { &mut *libc::__errno_location() };
    let saved = *errno;
    let _ = SIGNAL.compare_exchange(0, signal, Ordering::AcqRel, Ordering::Relaxed);
    let one = 1u64.to_ne_bytes();
    // SAFETY: write is async-signal-safe; `one` is 8 readable octets; the descriptor was stored
    // before the handler was set and is never closed.
    unsafe { libc::write(EVENT_FD.load(Ordering::Acquire), one.as_ptr().cast(), one.len()) };
    *errno = saved;
}

/// Sets the handler; what was set before.
fn catch(signal: libc::c_int) -> io::Result<libc::sigaction> {
    debug_assert!(STOPPING.contains(&signal));
    let mut old = MaybeUninit::uninit();
    // SAFETY: sigaction is plain C data for which zero is valid. The handler is a function of the
    // signature that flags without SA_SIGINFO ask for, and only does what handlers may. `old` is
    // writable, and written when the call succeeds.
    unsafe {
        let mut new: libc::sigaction = MaybeUninit::zeroed().assume_init();
        new.sa_sigaction = on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
        // Once: the second one meets the default again. No call fails with EINTR because of us.
        new.sa_flags = libc::SA_RESTART | libc::SA_RESETHAND;
        libc::sigemptyset(&mut new.sa_mask);
        if libc::sigaction(signal, &new, old.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(old.assume_init())
    }
}

fn set_action(signal: libc::c_int, action: &libc::sigaction) -> io::Result<()> {
    // SAFETY: the action is one the system handed out for this very signal.
    if unsafe { libc::sigaction(signal, action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether a write failed because nobody reads any more (`netkeel … | head`): then stop quietly.
/// Rust programs ignore SIGPIPE from the start, so this is how they learn of it.
#[must_use]
pub fn is_closed_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

#[cfg(test)]
mod tests;
