//! Waiting for any of several descriptors. Context: task.
//!
//! linux: fs/select.c. Key types: [`PollFd`].

use super::{File, HeldFile, NR_OPEN};
use crate::kernel::context::TaskCx;
use crate::kernel::sched::{Operation, wait::WaitKey};
use crate::kernel::time::Ktime;
use crate::net::core::busy_poll::sk_busy_loop;
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
    queued: Vec<(HeldFile, WaitKey)>,
    until: Option<Option<Ktime>>,
    /// Until then the devices of sockets are polled; `None`: that has not begun.
    busy_until: Option<Ktime>,
    started: bool,
}

impl PollTable {
    /// The call is polled for the first time.
    fn first(&mut self) -> bool {
        !std::mem::replace(&mut self.started, true)
    }

    fn clear(&mut self) {
        for (held, key) in self.queued.drain(..) {
            held.file.poll_forget(key);
        }
    }

    /// Waits at a file, and keeps it so long; false if it was closed since it was looked up.
    fn queue(&mut self, cx: &TaskCx, file: &Arc<File>, events: u32) -> bool {
        let Some(held) = HeldFile::new(cx, file) else { return false };
        if let Some(key) = file.poll_task(events, &cx.waker) {
            self.queued.push((held, key));
        }
        true
    }

    /// Polls the devices of sockets that are read from and poll, once each, while the machine's time for that lasts
    /// (`net.core.busy_poll`).
    ///
    /// linux: include/net/busy_poll.h:net_busy_loop_on
    fn busy_loop(&mut self, cx: &mut TaskCx, fds: &[PollFd]) {
        let usec = cx.tables().net.sysctl.busy_poll;
        if usec == 0 {
            return;
        }
        let now = cx.now();
        let end = now + Duration::from_micros(usec.into());
        if now >= *self.busy_until.get_or_insert(end) {
            return;
        }
        for fd in fds.iter().filter(|fd| fd.events & (POLLIN | POLLRDNORM) != 0) {
            if let Some(file) = cx.task().files().get(fd.fd)
                && let Some(socket) = file.socket()
            {
                sk_busy_loop(cx, &socket.sk, None);
            }
        }
    }

    /// Files of the descriptors, with what is ready on each; queued for what is not, when `queue`.
    fn look(&mut self, cx: &mut TaskCx, fds: &mut [PollFd], queue: bool) -> usize {
        let mut ready = 0;
        for fd in fds.iter_mut() {
            fd.revents = 0;
            if fd.fd < 0 {
                continue;
            }
            let wanted = fd.events | POLLERR | POLLHUP;
            let file = cx.task().files().get(fd.fd);
            let file = file.filter(|file| !queue || self.queue(cx, file, wanted as u16 as u32));
            let Some(file) = file else {
                fd.revents = POLLNVAL;
                ready += 1;
                continue;
            };
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
        self.busy_loop(cx, fds);
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
        if self.table.first() {
            cx.enter_call();
            walk!(cx, sys_poll);
        }
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
    /// Descriptors from here on are not looked at.
    end: i32,
    timeout: Option<Duration>,
    table: PollTable,
}

// A descriptor that is closed while the call waits counts as ready, so that whoever uses it learns.
const POLLIN_SET: i16 = POLLRDNORM | POLLIN | POLLHUP | POLLERR | POLLNVAL;
const POLLOUT_SET: i16 = POLLWRNORM | POLLOUT | POLLERR | POLLNVAL;
const POLLEX_SET: i16 = POLLPRI | POLLNVAL;

impl SelectCall<'_> {
    /// Only what the table has room for is looked at; of that, all must be open.
    ///
    /// linux: fs/select.c:max_select_fd
    fn max_select_fd(&mut self, cx: &mut TaskCx) -> Result<(), Errno> {
        let files = cx.task().files();
        self.end = files.max_fds();
        self.fds.retain(|fd| fd.fd < self.end);
        if self.fds.iter().any(|fd| files.get(fd.fd).is_none()) {
            return Err(Errno::EBADF);
        }
        Ok(())
    }
}

impl Operation for SelectCall<'_> {
    type Output = Result<usize, Errno>;

    fn poll(&mut self, cx: &mut TaskCx) -> Poll<Self::Output> {
        if self.table.first() {
            cx.enter_call();
            walk!(cx, sys_select);
            if let Err(error) = self.max_select_fd(cx) {
                return Poll::Ready(Err(error));
            }
        }
        let polled = self.table.poll(cx, &mut self.fds, self.timeout);
        let Poll::Ready(outcome) = polled else { return Poll::Pending };
        let outcome = outcome.map(|_| {
            let bits = [POLLIN_SET, POLLOUT_SET, POLLEX_SET];
            let Self { sets, fds, end, .. } = self;
            let sets = [&mut sets.read, &mut sets.write, &mut sets.except];
            sets.into_iter().zip(bits).map(|(set, bits)| keep_ready(set, fds, bits, *end)).sum()
        });
        Poll::Ready(outcome)
    }
}

/// Leaves in a set what is ready, and what was not looked at; how many are ready.
fn keep_ready(set: &mut Vec<i32>, polled: &[PollFd], bits: i16, end: i32) -> usize {
    let ready = |fd: i32| polled.iter().any(|one| one.fd == fd && one.revents & bits != 0);
    set.retain(|fd| *fd >= end || ready(*fd));
    set.iter().filter(|fd| **fd < end).count()
}

/// Waits like [`sys_poll`], with sets; how many are ready. A descriptor beyond the task's table is
/// not looked at and stays in its set.
///
/// # Errors
/// EBADF for one within the table that is not open, EINTR; then the sets are as before.
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
    SelectCall { sets, fds, end: 0, timeout, table: PollTable::default() }
}
