//! Waiting for file descriptors, a deadline, or another thread's word.
//!
//! Key type: [`Waiter`]. Contexts: any thread; several may wait on one.
//! Invariants: a wake-up given while nobody waits ends the next wait; of several threads that wait,
//! one wake-up ends one wait; a descriptor added one-shot is silent from its report to its
//! [`rearm`](Waiter::rearm).

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What a report calls its descriptor; `u64::MAX` is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

const WAKE: u64 = u64::MAX;

/// How often a readable descriptor is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// By every wait, as long as it is readable.
    Level,
    /// Once, then not before [`Waiter::rearm`]: the mask of an interrupt.
    OneShot,
}

/// What a one-shot descriptor is to be reported for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Something to read.
    Read,
    /// Something to read, or room to write.
    ReadOrWrite,
}

/// Whether the descriptor would be reported for `interest` now, also when hung up or in error.
pub(crate) fn is_ready(fd: impl AsFd, interest: Interest) -> bool {
    let mut flags = PollFlags::IN;
    if interest == Interest::ReadOrWrite {
        flags |= PollFlags::OUT;
    }
    let mut fds = [PollFd::new(&fd, flags)];
    // Fails only when interrupted: then it is looked at once more.
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

/// One epoll set and the eventfd that wakes whoever waits on it.
#[derive(Debug)]
pub struct Waiter {
    epoll: OwnedFd,
    eventfd: OwnedFd,
    /// A wake-up was given that no wait has reported yet.
    wake_pending: AtomicBool,
    /// The system has no epoll_pwait2: time-outs are rounded up to milliseconds.
    coarse: AtomicBool,
}

impl Waiter {
    /// An empty set.
    ///
    /// # Errors
    /// When the process may have no more file descriptors.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        // Edge-triggered: each write is one event for one waiter, and nobody has to read the
        // counter, which would take 2^64 writes to fill.
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &eventfd, epoll::EventData::new_u64(WAKE), flags)?;
        Ok(Self {
            epoll,
            eventfd,
            wake_pending: AtomicBool::new(false),
            coarse: AtomicBool::new(false),
        })
    }

    /// Ends one wait: the one that goes on, else the next. Calls the system only if no earlier
    /// wake-up is still unreported. What was written before is seen after that wait.
    pub fn wake(&self) {
        if self.wake_pending.swap(true, Ordering::AcqRel) {
            return;
        }
        // Fails only with the counter full, and then the event is there already.
        let _ = rustix::io::write(&self.eventfd, &1u64.to_ne_bytes());
    }

    /// Reports `fd` as `token` when it becomes readable, is hung up, or has an error. The set does
    /// not own it: [`remove`](Self::remove) it before it is closed if it has duplicates.
    ///
    /// # Errors
    /// A descriptor that can't be polled or is there already; the token `u64::MAX`.
    pub fn add(&self, fd: impl AsFd, token: Token, trigger: Trigger) -> io::Result<()> {
        if token.0 == WAKE {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut flags = epoll::EventFlags::IN;
        if trigger == Trigger::OneShot {
            flags |= epoll::EventFlags::ONESHOT;
        }
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token.0), flags)?)
    }

    /// Lets a one-shot descriptor be reported once more, at once if it is readable now.
    ///
    /// # Errors
    /// A descriptor that was not added.
    pub fn rearm(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        self.rearm_for(fd, token, Interest::Read)
    }

    /// The same, for what `interest` says.
    ///
    /// # Errors
    /// A descriptor that was not added.
    pub fn rearm_for(&self, fd: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        let mut flags = epoll::EventFlags::IN | epoll::EventFlags::ONESHOT;
        if interest == Interest::ReadOrWrite {
            flags |= epoll::EventFlags::OUT;
        }
        Ok(epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token.0), flags)?)
    }

    /// Silences a one-shot descriptor until [`rearm`](Self::rearm), as if it had been reported; an
    /// error of it is still reported, once.
    ///
    /// # Errors
    /// A descriptor that was not added.
    pub fn disarm(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        // Errors and hang-ups can't be masked; one-shot keeps them from being repeated.
        let flags = epoll::EventFlags::ONESHOT;
        Ok(epoll::modify(&self.epoll, fd, epoll::EventData::new_u64(token.0), flags)?)
    }

    /// Takes a descriptor out of the set.
    ///
    /// # Errors
    /// A descriptor that was not added.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, fd)?)
    }

    /// Waits until something is to be reported, the time is over (`None`: never), or a signal
    /// interrupts. The last two report nothing: look at the clock, and start over.
    ///
    /// # Errors
    /// None that a valid set could cause.
    pub fn wait(&self, timeout: Option<Duration>) -> io::Result<Events> {
        let mut events = Events::EMPTY;
        let reported = if self.coarse.load(Ordering::Relaxed) {
            self.epoll_wait(&mut events.list, timeout)
        } else {
            match self.epoll_pwait2(&mut events.list, timeout) {
                // EPERM: what older sandboxes answer to calls they do not know.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.coarse.store(true, Ordering::Relaxed);
                    self.epoll_wait(&mut events.list, timeout)
                }
                other => other,
            }
        };
        events.len = match reported {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => 0,
            Err(e) => return Err(e),
        };
        if events.list[..events.len].iter().any(|e| e.u64 == WAKE) {
            // A wake-up that found the flag set came before this swap, which therefore sees all
            // that was written before it: this very report stands for it.
            self.wake_pending.swap(false, Ordering::AcqRel);
            events.woken = true;
        }
        Ok(events)
    }

    fn epoll_pwait2(
        &self,
        list: &mut [libc::epoll_event; MAX_EVENTS],
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        let time = timeout.map(KernelTimespec::from);
        let time_ptr = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: `list` is writable for MAX_EVENTS events and outlives the call; `time_ptr` is
        // null or points to a live value laid out as __kernel_timespec; the mask is null, so its
        // size is not looked at.
        let n = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.epoll.as_raw_fd(),
                list.as_mut_ptr(),
                MAX_EVENTS as libc::c_int,
                time_ptr,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }

    fn epoll_wait(
        &self,
        list: &mut [libc::epoll_event; MAX_EVENTS],
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        // Rounded up: a wait may be late, never early.
        let ms = timeout.map_or(-1, |t| {
            libc::c_int::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(libc::c_int::MAX)
        });
        // SAFETY: `list` is writable for MAX_EVENTS events and outlives the call.
        let n = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                list.as_mut_ptr(),
                MAX_EVENTS as libc::c_int,
                ms,
            )
        };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }
}

/// The system call's own time, 64 bits wide on every architecture.
#[repr(C)]
struct KernelTimespec {
    tv_sec: i64,
    tv_nsec: i64,
}

impl From<Duration> for KernelTimespec {
    fn from(time: Duration) -> Self {
        Self {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        }
    }
}

/// Descriptors one wait reports at most; the others stay for the next.
const MAX_EVENTS: usize = 32;

/// What a wait reports: the tokens of descriptors, and whether it was woken.
pub struct Events {
    list: [libc::epoll_event; MAX_EVENTS],
    next: usize,
    len: usize,
    woken: bool,
}

impl Events {
    const EMPTY: Self = Self {
        list: [libc::epoll_event { events: 0, u64: 0 }; MAX_EVENTS],
        next: 0,
        len: 0,
        woken: false,
    };

    /// Nothing was reported: the time is over, or a signal came.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether [`Waiter::wake`] ended the wait.
    #[must_use]
    pub fn woken(&self) -> bool {
        self.woken
    }
}

impl Iterator for Events {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        while self.next < self.len {
            let token = self.list[self.next].u64;
            self.next += 1;
            if token != WAKE {
                return Some(Token(token));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
