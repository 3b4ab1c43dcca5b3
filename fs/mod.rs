//! Files: descriptors, and the calls that take any descriptor.
//!
//! linux: fs/file.c, include/linux/fs.h, include/linux/fdtable.h. Key types: [`File`],
//! [`FilesStruct`], `FdCache`, `HeldFile`. Contexts: task. Lock: `class::Files`, for changes only.
//! Invariants: looking a descriptor up touches no count and takes no lock while the table is
//! unchanged; a call that sleeps counts as a descriptor (`HeldFile`); a file is released when its
//! last one is closed.

pub mod eventpoll;
pub mod fcntl;
pub mod memfd;
pub mod pipe;
pub mod proc;
pub mod read_write;
pub mod select;
pub mod splice;

pub use eventpoll::{
    sys_epoll_create, sys_epoll_create1, sys_epoll_ctl, sys_epoll_pwait, sys_epoll_wait,
};
pub use fcntl::{
    sys_close, sys_close_linger, sys_dup, sys_dup2, sys_dup3, sys_fcntl, sys_ioctl, sys_mmap,
};
pub use memfd::{sys_ftruncate, sys_lseek, sys_memfd_create, sys_pread64, sys_pwrite64};
pub use pipe::{sys_pipe, sys_pipe2};
pub use read_write::{sys_read, sys_readv, sys_write, sys_writev};
pub use select::{PollFd, sys_poll, sys_select};
pub use splice::{sys_sendfile, sys_splice};

use crate::kernel::context::TaskCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::machine::Machine;
use crate::kernel::sched::TaskStruct;
use crate::kernel::sched::wait::{WaitCallback, WaitKey};
use crate::net::socket::{Socket, Wait};
use eventpoll::EventPoll;
use memfd::MemFile;
use pipe::{Pipe, PipeEnd};
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use uapi::errno::Errno;

/// Descriptors a task may have (`RLIMIT_NOFILE`).
pub const NR_OPEN: usize = 1 << 20;

/// What a kind of file does.
///
/// linux: include/linux/fs.h:file_operations
pub struct FileOperations {
    /// Reads; may wait.
    pub read: ReadFn,
    /// Writes; may wait.
    pub write: WriteFn,
    /// `POLL*` bits that are ready now.
    pub poll: fn(&mut TaskCx, &File) -> u32,
    /// Maps it into memory: no kind of file can be yet.
    pub mmap: fn(&File) -> Result<(), Errno>,
    /// Answers a request; its argument is the memory that it points at.
    pub ioctl: fn(&mut TaskCx, &File, u32, &mut [u8]) -> Result<i32, Errno>,
    /// The last descriptor was closed.
    pub release: fn(&mut TaskCx, &File),
}

type ReadFn =
    fn(&mut TaskCx, &Arc<File>, &mut [IoSliceMut<'_>], &mut Wait) -> Poll<Result<usize, Errno>>;
type WriteFn = fn(&mut TaskCx, &Arc<File>, &[IoSlice<'_>], &mut Wait) -> Poll<Result<usize, Errno>>;

/// What a file is (`private_data`).
#[derive(Debug)]
pub enum FileKind {
    /// A socket.
    Socket(Socket),
    /// An epoll instance.
    Epoll(Arc<EventPoll>),
    /// An end of a pipe.
    Pipe(Arc<Pipe>, PipeEnd),
    /// A file in memory.
    Mem(Arc<MemFile>),
}

/// An open file.
///
/// linux: include/linux/fs.h:file
pub struct File {
    /// What it is.
    pub kind: FileKind,
    f_op: &'static FileOperations,
    flags: AtomicI32,
    /// Descriptors that refer to it, and calls that sleep on it (`f_count`).
    descriptors: AtomicUsize,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({:?})", self.kind)
    }
}

impl File {
    /// An open file without descriptors yet; `flags` are `O_*`.
    pub fn new(kind: FileKind, f_op: &'static FileOperations, flags: i32) -> Arc<Self> {
        let flags = AtomicI32::new(flags);
        Arc::new(Self { kind, f_op, flags, descriptors: AtomicUsize::new(0) })
    }

    /// The socket, if it is one.
    #[inline]
    pub fn socket(&self) -> Option<&Socket> {
        match &self.kind {
            FileKind::Socket(socket) => Some(socket),
            FileKind::Epoll(_) | FileKind::Pipe(..) | FileKind::Mem(_) => None,
        }
    }

    /// `O_*`: whether its calls may wait.
    #[inline]
    pub(crate) fn f_flags(&self) -> i32 {
        self.flags.load(Ordering::Relaxed)
    }

    /// The last descriptor was closed, and no call sleeps on it.
    pub(crate) fn closed(&self) -> bool {
        self.descriptors.load(Ordering::Acquire) == 0
    }

    /// `POLL*` bits that are ready now.
    pub(crate) fn poll(&self, cx: &mut TaskCx) -> u32 {
        (self.f_op.poll)(cx, self)
    }

    fn poll_task(&self, events: u32, waker: &Waker) -> Option<WaitKey> {
        match &self.kind {
            FileKind::Socket(socket) => Some(socket.sk.state().wq.add_wait(events, waker)),
            FileKind::Epoll(epoll) => Some(epoll.add_wait(waker)),
            FileKind::Pipe(pipe, end) => Some(pipe.add_wait(*end, events, waker)),
            FileKind::Mem(_) => None,
        }
    }

    fn poll_callback(&self, callback: Arc<dyn WaitCallback>, exclusive: bool) -> Option<WaitKey> {
        match &self.kind {
            FileKind::Socket(socket) => {
                Some(socket.sk.state().wq.add_callback(u32::MAX, callback, exclusive))
            }
            FileKind::Pipe(pipe, end) => Some(pipe.add_callback(*end, callback, exclusive)),
            FileKind::Epoll(_) | FileKind::Mem(_) => None,
        }
    }

    fn poll_forget(&self, key: WaitKey) {
        match &self.kind {
            FileKind::Socket(socket) => {
                socket.sk.state_in_drop().wq.finish_wait(key);
            }
            FileKind::Epoll(epoll) => {
                epoll.finish_wait(key);
            }
            FileKind::Pipe(pipe, end) => pipe.finish_wait(*end, key),
            FileKind::Mem(_) => (),
        }
    }
}

#[derive(Clone, Debug)]
struct Descriptor {
    file: Arc<File>,
    cloexec: bool,
}

/// The array of descriptors.
///
/// linux: include/linux/fdtable.h:fdtable
#[derive(Clone, Debug)]
struct Fdtable {
    fds: Vec<Option<Descriptor>>,
    /// No descriptor below is free.
    next_fd: usize,
    /// Descriptors that Linux's table has room for, open or not: `select` looks no further.
    max_fds: usize,
}

/// Descriptors that a table has room for at first (`NR_OPEN_DEFAULT`).
const NR_OPEN_DEFAULT: usize = 64;

impl Default for Fdtable {
    fn default() -> Self {
        Self { fds: Vec::new(), next_fd: 0, max_fds: NR_OPEN_DEFAULT }
    }
}

impl Fdtable {
    /// Room for `fds` descriptors: it doubles until they fit.
    ///
    /// linux: fs/file.c:alloc_fdtable
    fn max_fds(fds: usize) -> usize {
        fds.next_power_of_two().max(NR_OPEN_DEFAULT)
    }
}

/// A task's open files, shared by its threads.
///
/// linux: include/linux/fdtable.h:files_struct
#[derive(Debug, Default)]
pub struct FilesStruct {
    /// Changes with every descriptor that is replaced or closed.
    version: AtomicU64,
    table: SpinLock<Fdtable, class::Files>,
}

impl FilesStruct {
    /// A table with the same open files, as `fork` makes it.
    ///
    /// linux: fs/file.c:dup_fd
    pub fn dup_fd(&self) -> Arc<Self> {
        let mut table = self.table.lock().clone();
        // The copy is as large as what is open needs.
        let open = table.fds.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        table.max_fds = Fdtable::max_fds(open);
        for descriptor in table.fds.iter().flatten() {
            descriptor.file.descriptors.fetch_add(1, Ordering::AcqRel);
        }
        Arc::new(Self { version: AtomicU64::new(0), table: SpinLock::new(table) })
    }

    /// Open descriptors.
    pub fn count(&self) -> usize {
        self.table.lock().fds.iter().flatten().count()
    }

    /// Descriptors that the table has room for; it grows with the highest one and never shrinks.
    fn max_fds(&self) -> i32 {
        self.table.lock().max_fds as i32
    }

    pub(crate) fn get(&self, fd: i32) -> Option<Arc<File>> {
        let fd = usize::try_from(fd).ok()?;
        Some(Arc::clone(&self.table.lock().fds.get(fd)?.as_ref()?.file))
    }

    /// Puts a file on the lowest free descriptor from `from` on.
    fn alloc(&self, file: Arc<File>, from: usize, cloexec: bool) -> Result<i32, Errno> {
        let mut table = self.table.lock();
        let start = from.max(table.next_fd);
        let fd = (start..table.fds.len()).find(|fd| table.fds[*fd].is_none());
        let fd = fd.unwrap_or(start.max(table.fds.len()));
        if fd >= NR_OPEN {
            return Err(Errno::EMFILE);
        }
        if fd >= table.fds.len() {
            table.fds.resize_with(fd + 1, || None);
            table.max_fds = table.max_fds.max(Fdtable::max_fds(fd + 1));
        }
        if from <= table.next_fd {
            table.next_fd = fd + 1;
        }
        file.descriptors.fetch_add(1, Ordering::AcqRel);
        table.fds[fd] = Some(Descriptor { file, cloexec });
        Ok(fd as i32)
    }

    /// Makes `new` another descriptor of `fd`'s file, in one step: nobody else gets the number
    /// between. What `new` was.
    fn replace(&self, fd: i32, new: usize, cloexec: bool) -> Result<Option<Arc<File>>, Errno> {
        let fd = usize::try_from(fd).map_err(|_| Errno::EBADF)?;
        let mut table = self.table.lock();
        let of = table.fds.get(fd).and_then(Option::as_ref).ok_or(Errno::EBADF)?;
        let file = Arc::clone(&of.file);
        if new >= table.fds.len() {
            table.fds.resize_with(new + 1, || None);
            table.max_fds = table.max_fds.max(Fdtable::max_fds(new + 1));
        }
        file.descriptors.fetch_add(1, Ordering::AcqRel);
        let old = table.fds[new].replace(Descriptor { file, cloexec });
        self.version.fetch_add(1, Ordering::Release);
        Ok(old.map(|old| old.file))
    }

    /// Takes a descriptor away; what it was.
    fn take(&self, fd: i32) -> Option<Arc<File>> {
        let fd = usize::try_from(fd).ok()?;
        let mut table = self.table.lock();
        let descriptor = table.fds.get_mut(fd)?.take()?;
        table.next_fd = table.next_fd.min(fd);
        self.version.fetch_add(1, Ordering::Release);
        Some(descriptor.file)
    }
}

const CACHED: usize = 8;

/// A task's last lookups, lent out to the call that uses them.
#[derive(Debug, Default)]
pub(crate) struct FdCache {
    version: u64,
    /// The descriptor a place is for; nothing without its file.
    fds: [i32; CACHED],
    files: [Option<Arc<File>>; CACHED],
}

/// The file of a descriptor, to be given back by [`fdput`].
///
/// linux: include/linux/file.h:fdget
#[inline]
pub(crate) fn fdget(cx: &mut TaskCx, fd: i32) -> Option<Arc<File>> {
    let version = cx.task().files().version.load(Ordering::Acquire);
    let at = fd as usize % CACHED;
    if cx.fds.version == version
        && cx.fds.fds[at] == fd
        && let Some(file) = cx.fds.files[at].take()
    {
        return Some(file);
    }
    fdget_slow(cx, fd, version)
}

#[cold]
fn fdget_slow(cx: &mut TaskCx, fd: i32, version: u64) -> Option<Arc<File>> {
    if cx.fds.version != version {
        cx.fds = FdCache { version, ..FdCache::default() };
    }
    cx.task().files().get(fd)
}

/// Gives a file back.
#[inline]
pub(crate) fn fdput(cx: &mut TaskCx, fd: i32, file: Arc<File>) {
    let at = fd as usize % CACHED;
    cx.fds.fds[at] = fd;
    cx.fds.files[at] = Some(file);
}

/// Lends the file of a descriptor to a call that may sleep. One that does keeps the file until it
/// ends, whatever the descriptor is meanwhile.
///
/// # Errors
/// EBADF.
#[inline]
pub(crate) fn fdget_wait<T>(
    cx: &mut TaskCx,
    fd: i32,
    wait: &mut Wait,
    f: impl FnOnce(&mut TaskCx, &Arc<File>, &mut Wait) -> Poll<Result<T, Errno>>,
) -> Poll<Result<T, Errno>> {
    if let Some(held) = wait.held() {
        let file = Arc::clone(held);
        return go_on(cx, &file, wait, f);
    }
    let Some(file) = fdget(cx, fd) else { return Poll::Ready(Err(Errno::EBADF)) };
    wait.f_flags = file.f_flags();
    let polled = f(cx, &file, wait);
    if polled.is_pending() {
        return if wait.hold(cx, &file) { polled } else { Poll::Ready(Err(Errno::EBADF)) };
    }
    fdput(cx, fd, file);
    polled
}

/// A call that slept goes on with the file it slept on.
#[cold]
fn go_on<R>(
    cx: &mut TaskCx,
    file: &Arc<File>,
    wait: &mut Wait,
    f: impl FnOnce(&mut TaskCx, &Arc<File>, &mut Wait) -> R,
) -> R {
    f(cx, file, wait)
}

/// A file that a sleeping call keeps, counted like a descriptor.
pub(crate) struct HeldFile {
    pub(crate) file: Arc<File>,
    m: Arc<Machine>,
    task: Arc<TaskStruct>,
}

impl HeldFile {
    /// Keeps a file for a call of the task; `None` if it was closed since it was looked up.
    ///
    /// linux: include/linux/fs.h:get_file
    #[cold]
    pub(crate) fn new(cx: &TaskCx, file: &Arc<File>) -> Option<Self> {
        let one_more = |count| if count == 0 { None } else { Some(count + 1) };
        file.descriptors.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        let (m, task) = (Arc::clone(cx.machine()), Arc::clone(cx.task()));
        Some(Self { file: Arc::clone(file), m, task })
    }
}

impl fmt::Debug for HeldFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HeldFile({:?})", self.file)
    }
}

impl Drop for HeldFile {
    /// A call may also be given up while it sleeps, with no context at hand: the file then goes in
    /// one made for it, as Linux does it on a task's way out of the kernel.
    ///
    /// linux: fs/file_table.c:____fput
    fn drop(&mut self) {
        let last = self.file.descriptors.fetch_sub(1, Ordering::AcqRel) == 1;
        if last && !std::thread::panicking() {
            let mut cx = TaskCx::new(&self.m, Arc::clone(&self.task));
            cx.enter_call();
            (self.file.f_op.release)(&mut cx, &self.file);
        }
    }
}

/// Gives a file its first descriptor.
///
/// # Errors
/// EMFILE; then the file is released.
///
/// linux: fs/file.c:fd_install
pub(crate) fn fd_install(cx: &mut TaskCx, file: Arc<File>, cloexec: bool) -> Result<i32, Errno> {
    let files = Arc::clone(cx.task().files());
    let installed = files.alloc(Arc::clone(&file), 0, cloexec);
    if installed.is_err() {
        (file.f_op.release)(cx, &file);
    }
    installed
}

/// One descriptor less; the last one releases the file.
///
/// linux: fs/file_table.c:fput
pub(crate) fn fput(cx: &mut TaskCx, file: &Arc<File>) {
    if file.descriptors.fetch_sub(1, Ordering::AcqRel) == 1 {
        (file.f_op.release)(cx, file);
    }
}

/// Closes every descriptor: the task ends.
///
/// linux: fs/file.c:exit_files
pub fn exit_files(cx: &mut TaskCx) {
    let files = Arc::clone(cx.task().files());
    let open = std::mem::take(&mut *files.table.lock());
    files.version.fetch_add(1, Ordering::Release);
    cx.fds = FdCache::default();
    for descriptor in open.fds.into_iter().flatten() {
        fput(cx, &descriptor.file);
    }
}

/// Closes the descriptors marked so: the task runs another program.
///
/// linux: fs/file.c:do_close_on_exec
pub fn do_close_on_exec(cx: &mut TaskCx) {
    let files = Arc::clone(cx.task().files());
    let marked: Vec<i32> = {
        let table = files.table.lock();
        let fds = table.fds.iter().enumerate();
        fds.filter(|(_, d)| d.as_ref().is_some_and(|d| d.cloexec))
            .map(|(fd, _)| fd as i32)
            .collect()
    };
    for fd in marked {
        if let Some(file) = files.take(fd) {
            fput(cx, &file);
        }
    }
}
