//! epoll: a list of what became ready, kept by those who make it ready.
//!
//! linux: fs/eventpoll.c. Key types: [`EventPoll`], [`EpollEvent`]. Contexts: the calls in tasks;
//! `EpItem`'s callback in any, under the lock of what is waited for. Locks: `class::Epoll` (the
//! interest list), `class::EpollReady` (the ready list).
//! DIVERGES: an epoll descriptor can't be added to another (EINVAL; Linux allows five levels).

use super::{File, FileKind, FileOperations, HeldFile, fd_install};
use crate::kernel::context::TaskCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::sched::Operation;
use crate::kernel::sched::wait::{WaitCallback, WaitKey, WaitQueue};
use crate::kernel::time::Ktime;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::poll::{
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLLERR, EPOLLET, EPOLLEXCLUSIVE,
    EPOLLHUP, EPOLLIN, EPOLLONESHOT, EPOLLOUT, EPOLLWAKEUP, POLLIN, POLLRDNORM,
};

/// Bits of an interest that are no events.
const EP_PRIVATE_BITS: u32 = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE;
/// Bits that an exclusive interest may have.
const EPOLLEXCLUSIVE_OK_BITS: u32 =
    EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;

/// What is asked for, or there, on a descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EpollEvent {
    /// `EPOLL*` bits.
    pub events: u32,
    /// Given back as it came.
    pub data: u64,
}

/// What an interest is found by: the descriptor, and the file it was of when it was added, for the
/// number may be another file's by now. A file's place is not used again while an interest is left.
///
/// linux: fs/eventpoll.c:epoll_filefd
type Key = (i32, usize);

fn key_of(fd: i32, file: &Arc<File>) -> Key {
    (fd, Arc::as_ptr(file).addr())
}

/// An epoll instance.
///
/// linux: fs/eventpoll.c:eventpoll
#[derive(Default)]
pub struct EventPoll {
    items: SpinLock<BTreeMap<Key, Interest>, class::Epoll>,
    ready: Arc<SpinLock<Ready, class::EpollReady>>,
}

impl fmt::Debug for EventPoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventPoll")
    }
}

#[derive(Default)]
struct Ready {
    list: VecDeque<Arc<EpItem>>,
    wq: WaitQueue,
}

struct Interest {
    item: Arc<EpItem>,
    key: Option<WaitKey>,
}

/// One descriptor's interest.
///
/// linux: fs/eventpoll.c:epitem
struct EpItem {
    file: Weak<File>,
    events: AtomicU32,
    data: SpinLock<u64, class::WaitQueue>,
    /// On the ready list.
    listed: AtomicBool,
    ready: Weak<SpinLock<Ready, class::EpollReady>>,
}

impl EpItem {
    fn wanted(&self) -> u32 {
        self.events.load(Ordering::SeqCst)
    }

    /// Puts it on the ready list, unless it is there.
    fn list(self: &Arc<Self>, ready: &mut Ready) {
        if !self.listed.swap(true, Ordering::SeqCst) {
            ready.list.push_back(Arc::clone(self));
        }
    }
}

/// What a socket's queue calls. Whoever wakes the queue records the station: there is no context
/// here.
struct Callback(Arc<EpItem>);

impl WaitCallback for Callback {
    /// linux: fs/eventpoll.c:ep_poll_callback
    fn wake(&self, events: u32, wakeups: &mut Vec<Waker>) -> bool {
        let item = &self.0;
        let wanted = item.wanted();
        // A disabled one-shot interest has no events left.
        if wanted & !EP_PRIVATE_BITS == 0 || events & wanted == 0 {
            return false;
        }
        let Some(ready) = item.ready.upgrade() else { return false };
        let mut ready = ready.lock();
        item.list(&mut ready);
        let before = wakeups.len();
        ready.wq.wake_up((POLLIN | POLLRDNORM) as u32, wakeups);
        wakeups.len() > before
    }
}

impl EventPoll {
    pub(super) fn add_wait(&self, waker: &Waker) -> WaitKey {
        self.ready.lock().wq.add_wait((POLLIN | POLLRDNORM) as u32, waker)
    }

    pub(super) fn finish_wait(&self, key: WaitKey) -> bool {
        self.ready.lock().wq.finish_wait(key)
    }

    fn remove(&self, key: Key) -> Option<()> {
        let interest = self.items.lock().remove(&key)?;
        if let (Some(file), Some(key)) = (interest.item.file.upgrade(), interest.key) {
            file.poll_forget(key);
        }
        self.ready.lock().list.retain(|item| !Arc::ptr_eq(item, &interest.item));
        Some(())
    }

    /// Forgets descriptors whose files were closed.
    fn purge(&self) {
        let closed = |item: &EpItem| item.file.upgrade().is_none_or(|file| file.closed());
        let gone: Vec<Key> = {
            let items = self.items.lock();
            items.iter().filter(|(_, i)| closed(&i.item)).map(|(key, _)| *key).collect()
        };
        for key in gone {
            self.remove(key);
        }
    }

    /// What is ready now, at most `max`. A level-triggered interest that is ready stays listed.
    ///
    /// linux: fs/eventpoll.c:ep_send_events
    fn take(&self, cx: &mut TaskCx, max: usize) -> Vec<EpollEvent> {
        let mut events = Vec::new();
        let waiting = self.ready.lock().list.len();
        for _ in 0..waiting {
            if events.len() >= max {
                break;
            }
            let Some(item) = self.ready.lock().list.pop_front() else { break };
            // Off the list before the look: what comes after it lists it again.
            item.listed.store(false, Ordering::SeqCst);
            let Some(file) = item.file.upgrade().filter(|file| !file.closed()) else { continue };
            let wanted = item.wanted();
            let there = file.poll(cx) & wanted & !EP_PRIVATE_BITS;
            if there == 0 {
                continue;
            }
            events.push(EpollEvent { events: there, data: *item.data.lock() });
            if wanted & EPOLLONESHOT != 0 {
                item.events.fetch_and(EP_PRIVATE_BITS, Ordering::SeqCst);
            } else if wanted & EPOLLET == 0 {
                item.list(&mut self.ready.lock());
            }
        }
        events
    }
}

/// The operations of an epoll file.
static EVENTPOLL_FOPS: FileOperations = FileOperations {
    read: |_, _, _, _| Poll::Ready(Err(Errno::EINVAL)),
    write: |_, _, _, _| Poll::Ready(Err(Errno::EINVAL)),
    mmap: |_| Err(Errno::ENODEV),
    poll: ep_eventpoll_poll,
    ioctl: |_, _, _, _| Err(Errno::EINVAL),
    release: |_, file| {
        if let FileKind::Epoll(epoll) = &file.kind {
            let all: Vec<Key> = epoll.items.lock().keys().copied().collect();
            for key in all {
                epoll.remove(key);
            }
        }
    },
};

/// linux: fs/eventpoll.c:ep_eventpoll_poll
fn ep_eventpoll_poll(cx: &mut TaskCx, file: &File) -> u32 {
    let FileKind::Epoll(epoll) = &file.kind else { return 0 };
    let listed: Vec<Arc<EpItem>> = epoll.ready.lock().list.iter().cloned().collect();
    let ready = listed.iter().any(|item| {
        let wanted = item.wanted() & !EP_PRIVATE_BITS;
        item.file.upgrade().is_some_and(|file| file.poll(cx) & wanted != 0)
    });
    if ready { (POLLIN | POLLRDNORM) as u32 } else { 0 }
}

/// Makes an epoll instance; its descriptor.
///
/// # Errors
/// EINVAL for flags other than `EPOLL_CLOEXEC`; EMFILE.
///
/// linux: fs/eventpoll.c:sys_epoll_create1
pub fn sys_epoll_create1(cx: &mut TaskCx, flags: i32) -> Result<i32, Errno> {
    cx.enter_call();
    if flags & !EPOLL_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let file = File::new(FileKind::Epoll(Arc::default()), &EVENTPOLL_FOPS, 0);
    fd_install(cx, file, flags & EPOLL_CLOEXEC != 0)
}

/// Makes an epoll instance. How many descriptors it is for was a hint once; now it must be one at
/// least.
///
/// # Errors
/// EINVAL for a size below one; EMFILE.
///
/// linux: fs/eventpoll.c:sys_epoll_create
pub fn sys_epoll_create(cx: &mut TaskCx, size: i32) -> Result<i32, Errno> {
    if size <= 0 {
        return Err(Errno::EINVAL);
    }
    sys_epoll_create1(cx, 0)
}

fn epoll_of(file: &File) -> Result<&Arc<EventPoll>, Errno> {
    match &file.kind {
        FileKind::Epoll(epoll) => Ok(epoll),
        _ => Err(Errno::EINVAL),
    }
}

/// Adds, changes or removes an interest.
///
/// # Errors
/// EBADF; EEXIST, ENOENT; EINVAL for an epoll descriptor as target, flags that don't go together, or
/// an operation there is not.
///
/// linux: fs/eventpoll.c:sys_epoll_ctl
pub fn sys_epoll_ctl(
    cx: &mut TaskCx,
    epfd: i32,
    op: i32,
    fd: i32,
    event: EpollEvent,
) -> Result<(), Errno> {
    cx.enter_call();
    let file = cx.task().files().get(fd).ok_or(Errno::EBADF)?;
    let ep_file = cx.task().files().get(epfd).ok_or(Errno::EBADF)?;
    let epoll = epoll_of(&ep_file)?;
    match &file.kind {
        FileKind::Socket(_) | FileKind::Pipe(..) => (),
        FileKind::Epoll(_) => return Err(Errno::EINVAL),
        // It is always ready: there is nothing to wait for.
        FileKind::Mem(_) => return Err(Errno::EPERM),
    }
    let exclusive = event.events & EPOLLEXCLUSIVE != 0;
    if exclusive && op == EPOLL_CTL_ADD && event.events & !EPOLLEXCLUSIVE_OK_BITS != 0 {
        return Err(Errno::EINVAL);
    }
    epoll.purge();
    match op {
        EPOLL_CTL_ADD => ep_insert(cx, epoll, (fd, &file), event),
        EPOLL_CTL_DEL => epoll.remove(key_of(fd, &file)).ok_or(Errno::ENOENT),
        EPOLL_CTL_MOD => ep_modify(cx, epoll, (fd, &file), event),
        _ => Err(Errno::EINVAL),
    }
}

/// linux: fs/eventpoll.c:ep_insert
fn ep_insert(
    cx: &mut TaskCx,
    epoll: &Arc<EventPoll>,
    (fd, file): (i32, &Arc<File>),
    event: EpollEvent,
) -> Result<(), Errno> {
    if epoll.items.lock().contains_key(&key_of(fd, file)) {
        return Err(Errno::EEXIST);
    }
    let item = Arc::new(EpItem {
        file: Arc::downgrade(file),
        events: AtomicU32::new(event.events | EPOLLERR | EPOLLHUP),
        data: SpinLock::new(event.data),
        listed: AtomicBool::new(false),
        ready: Arc::downgrade(&epoll.ready),
    });
    let exclusive = event.events & EPOLLEXCLUSIVE != 0;
    let key = file.poll_callback(Arc::new(Callback(Arc::clone(&item))), exclusive);
    epoll.items.lock().insert(key_of(fd, file), Interest { item: Arc::clone(&item), key });
    list_if_ready(cx, epoll, file, &item);
    Ok(())
}

/// linux: fs/eventpoll.c:ep_modify
fn ep_modify(
    cx: &mut TaskCx,
    epoll: &Arc<EventPoll>,
    (fd, file): (i32, &Arc<File>),
    event: EpollEvent,
) -> Result<(), Errno> {
    let found = epoll.items.lock().get(&key_of(fd, file)).map(|i| Arc::clone(&i.item));
    let item = found.ok_or(Errno::ENOENT)?;
    if (event.events | item.wanted()) & EPOLLEXCLUSIVE != 0 {
        return Err(Errno::EINVAL);
    }
    item.events.store(event.events | EPOLLERR | EPOLLHUP, Ordering::SeqCst);
    *item.data.lock() = event.data;
    list_if_ready(cx, epoll, file, &item);
    Ok(())
}

/// What was ready before the interest counts as having become ready now.
fn list_if_ready(cx: &mut TaskCx, epoll: &EventPoll, file: &File, item: &Arc<EpItem>) {
    if file.poll(cx) & item.wanted() & !EP_PRIVATE_BITS == 0 {
        return;
    }
    let mut wakeups = Vec::new();
    {
        let mut ready = epoll.ready.lock();
        item.list(&mut ready);
        ready.wq.wake_up((POLLIN | POLLRDNORM) as u32, &mut wakeups);
    }
    for waker in wakeups {
        waker.wake();
    }
}

struct EpollWait {
    epfd: i32,
    max: usize,
    timeout: Option<Duration>,
    until: Option<Option<Ktime>>,
    queued: Option<(Arc<EventPoll>, WaitKey)>,
    held: Option<HeldFile>,
    started: bool,
    /// Signals do not end it.
    blocked: bool,
}

impl EpollWait {
    fn leave_queue(&mut self) {
        if let Some((epoll, key)) = self.queued.take() {
            epoll.finish_wait(key);
        }
    }
}

impl Operation for EpollWait {
    type Output = Result<Vec<EpollEvent>, Errno>;

    fn poll(&mut self, cx: &mut TaskCx) -> Poll<Self::Output> {
        self.leave_queue();
        if !std::mem::replace(&mut self.started, true) {
            cx.enter_call();
            walk!(cx, sys_epoll_wait);
        }
        let file = match &self.held {
            Some(held) => Arc::clone(&held.file),
            None if self.max == 0 => return Poll::Ready(Err(Errno::EINVAL)),
            None => cx.task().files().get(self.epfd).ok_or(Errno::EBADF)?,
        };
        let epoll = epoll_of(&file)?;
        let events = epoll.take(cx, self.max);
        if !events.is_empty() || self.timeout == Some(Duration::ZERO) {
            return Poll::Ready(Ok(events));
        }
        let timeout = self.timeout;
        let until = *self.until.get_or_insert_with(|| timeout.map(|timeout| cx.now() + timeout));
        if until.is_some_and(|at| cx.now() >= at) {
            return Poll::Ready(Ok(Vec::new()));
        }
        if !self.blocked && cx.task().take_signal() {
            return Poll::Ready(Err(Errno::EINTR));
        }
        if self.held.is_none() {
            self.held = Some(HeldFile::new(cx, &file).ok_or(Errno::EBADF)?);
        }
        let empty = {
            let mut ready = epoll.ready.lock();
            let key = ready.wq.add_wait((POLLIN | POLLRDNORM) as u32, &cx.waker);
            self.queued = Some((Arc::clone(epoll), key));
            ready.list.is_empty()
        };
        if !empty {
            cx.waker.wake_by_ref();
        }
        if let Some(at) = until {
            cx.schedule_timeout(at);
        }
        Poll::Pending
    }
}

impl Drop for EpollWait {
    fn drop(&mut self) {
        self.leave_queue();
    }
}

/// Waits until something is ready, or the time (`None`: no limit) is up; what is ready, at most
/// `max`.
///
/// # Errors
/// EBADF; EINVAL for no epoll descriptor or `max` of zero; EINTR.
///
/// linux: fs/eventpoll.c:sys_epoll_wait
pub fn sys_epoll_wait(
    epfd: i32,
    max: usize,
    timeout: Option<Duration>,
) -> impl Operation<Output = Result<Vec<EpollEvent>, Errno>> {
    sys_epoll_pwait(epfd, max, timeout, false)
}

/// The same, with signals blocked or not while it waits: a task here has one signal, so one bit is
/// the whole mask.
///
/// # Errors
/// As [`sys_epoll_wait`]; EINTR only if not blocked.
///
/// linux: fs/eventpoll.c:sys_epoll_pwait
pub fn sys_epoll_pwait(
    epfd: i32,
    max: usize,
    timeout: Option<Duration>,
    blocked: bool,
) -> impl Operation<Output = Result<Vec<EpollEvent>, Errno>> {
    let (until, queued, held) = (None, None, None);
    EpollWait { epfd, max, timeout, until, queued, held, started: false, blocked }
}
