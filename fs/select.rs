//! Waiting for any of several descriptors. Context: task.
//!
//! linux: fs/select.c. Key types: [`PollFd`].

use super::{File, NR_OPEN};
use crate::kernel::context::TaskCx;
use crate::kernel::sched::{Operation, wait::WaitKey};
use crate::kernel::time::Ktime;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::poll::{POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI, POLLRDNORM, POLLWRNORM};

/// What to wait for on a descriptor, and what was there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PollFd {
    /// The descriptor; negative: ignored.
    pub fd: i32,
    /// `POLL*` bits asked for.
    pub events: i16,
    /// `POLL*` bits that are there.
    pub revents: i16,
}

/// Places in the queues of what is waited for; dropped, they are left.
#[derive(Default)]
struct PollTable {
    queued: Vec<(Arc<File>, WaitKey)>,
    until: Option<Option<Ktime>>,
    started: bool,
}

impl PollTable {
    fn clear(&mut self) {
        for (file, key) in self.queued.drain(..) {
            file.poll_forget(key);
        }
    }

    /// Files of the descriptors, with what is ready on each; queued for what is not, when `queue`.
    fn look(&mut self, cx: &mut TaskCx, fds: &mut [PollFd], queue: bool) -> usize {
        let mut ready = 0;
        let waker = cx.waker.clone();
        for fd in fds.iter_mut() {
            fd.revents = 0;
            if fd.fd < 0 {
                continue;
            }
            let Some(file) = cx.task().files().get(fd.fd) else {
                fd.revents = POLLNVAL;
                ready += 1;
                continue;
            };
            let wanted = fd.events | POLLERR | POLLHUP;
            if queue && let Some(key) = file.poll_task(wanted as u16 as u32, &waker) {
                self.queued.push((Arc::clone(&file), key));
            }
            fd.revents = file.poll(cx) as i16 & wanted;
            ready += usize::from(fd.revents != 0);
        }
        ready
    }

    fn poll(
        &mut self,
        cx: &mut TaskCx,
        fds: &mut [PollFd],
        timeout: Option<Duration>,
    ) -> Poll<Result<usize, Errno>> {
        self.clear();
        if !std::mem::replace(&mut self.started, true) {
            cx.enter_call();
            walk!(cx, sys_poll);
        }
        let ready = self.look(cx, fds, false);
        if ready != 0 || timeout == Some(Duration::ZERO) {
            return Poll::Ready(Ok(ready));
        }
        let until = *self.until.get_or_insert_with(|| timeout.map(|timeout| cx.now() + timeout));
        if until.is_some_and(|at| cx.now() >= at) {
            return Poll::Ready(Ok(0));
        }
        if cx.task().take_signal() {
            return Poll::Ready(Err(Errno::EINTR));
        }
        // Queued first, then looked at again: what comes between wakes.
        let ready = self.look(cx, fds, true);
        if ready != 0 {
            self.clear();
            return Poll::Ready(Ok(ready));
        }
        if let Some(at) = until {
            cx.schedule_timeout(at);
        }
        Poll::Pending
    }
}

impl Drop for PollTable {
    fn drop(&mut self) {
        self.clear();
    }
}

struct PollCall<'a> {
    fds: &'a mut [PollFd],
    timeout: Option<Duration>,
    table: PollTable,
}

impl Operation for PollCall<'_> {
    type Output = Result<usize, Errno>;

    fn poll(&mut self, cx: &mut TaskCx) -> Poll<Self::Output> {
        if self.fds.len() > NR_OPEN {
            return Poll::Ready(Err(Errno::EINVAL));
        }
        self.table.poll(cx, self.fds, self.timeout)
    }
}

/// Waits until something asked for is there on a descriptor, or the time (`None`: no limit) is up;
/// on how many it is.
///
/// # Errors
/// EINTR; EINVAL for too many descriptors. A bad descriptor is `POLLNVAL` in its place.
///
/// linux: fs/select.c:sys_poll
pub fn sys_poll<'a>(
    fds: &'a mut [PollFd],
    timeout: Option<Duration>,
) -> impl Operation<Output = Result<usize, Errno>> + 'a {
    PollCall { fds, timeout, table: PollTable::default() }
}

/// Sets of descriptors for [`sys_select`]: those asked for, then those ready.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FdSets {
    /// To read.
    pub read: Vec<i32>,
    /// To write.
    pub write: Vec<i32>,
    /// Exceptional.
    pub except: Vec<i32>,
}

struct SelectCall<'a> {
    sets: &'a mut FdSets,
    fds: Vec<PollFd>,
    timeout: Option<Duration>,
    table: PollTable,
}

const POLLIN_SET: i16 = POLLRDNORM | POLLIN | POLLHUP | POLLERR;
const POLLOUT_SET: i16 = POLLWRNORM | POLLOUT | POLLERR;
const POLLEX_SET: i16 = POLLPRI;

impl Operation for SelectCall<'_> {
    type Output = Result<usize, Errno>;

    fn poll(&mut self, cx: &mut TaskCx) -> Poll<Self::Output> {
        let polled = self.table.poll(cx, &mut self.fds, self.timeout);
        let Poll::Ready(outcome) = polled else { return Poll::Pending };
        let outcome = outcome.and_then(|_| {
            if self.fds.iter().any(|fd| fd.revents & POLLNVAL != 0) {
                return Err(Errno::EBADF);
            }
            let ready = |fd: &i32, bits: i16| {
                self.fds.iter().any(|polled| polled.fd == *fd && polled.revents & bits != 0)
            };
            self.sets.read.retain(|fd| ready(fd, POLLIN_SET));
            self.sets.write.retain(|fd| ready(fd, POLLOUT_SET));
            self.sets.except.retain(|fd| ready(fd, POLLEX_SET));
            Ok(self.sets.read.len() + self.sets.write.len() + self.sets.except.len())
        });
        Poll::Ready(outcome)
    }
}

/// Waits like [`sys_poll`], with sets; how many bits are set in them afterwards.
///
/// # Errors
/// EBADF, EINTR; then the sets are as before.
///
/// linux: fs/select.c:sys_select
pub fn sys_select(
    sets: &mut FdSets,
    timeout: Option<Duration>,
) -> impl Operation<Output = Result<usize, Errno>> + '_ {
    let mut fds: Vec<PollFd> = Vec::new();
    let asked = [(&sets.read, POLLIN_SET), (&sets.write, POLLOUT_SET), (&sets.except, POLLEX_SET)];
    for (set, bits) in asked {
        for fd in set {
            match fds.iter_mut().find(|there| there.fd == *fd) {
                Some(there) => there.events |= bits,
                None => fds.push(PollFd { fd: *fd, events: bits, revents: 0 }),
            }
        }
    }
    SelectCall { sets, fds, timeout, table: PollTable::default() }
}
