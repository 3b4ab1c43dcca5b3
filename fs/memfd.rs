//! Files in memory, without a name in any directory.
//!
//! linux: mm/memfd.c, mm/shmem.c, fs/read_write.c (`sys_lseek`), fs/open.c (`sys_ftruncate`). Key type: [`MemFile`].
//! Contexts: task. Lock: `class::Pipe`, which nobody takes two of.
//! DIVERGES: they are there to be sent from (`sendfile`): no seals, no holes, no huge pages, no mapping (ENODEV).
//! A file has 256 MiB at the most; beyond is ENOSPC.

use super::{File, FileKind, FileOperations, fd_install};
use crate::kernel::context::TaskCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use std::fmt;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::fcntl::{MFD_CLOEXEC, O_APPEND, SEEK_CUR, SEEK_END, SEEK_SET};
use uapi::poll::{POLLIN, POLLOUT, POLLRDNORM, POLLWRNORM};

/// The most that a file holds.
const MAX_SIZE: u64 = 256 << 20;
/// The longest name.
///
/// linux: mm/memfd.c:MFD_NAME_MAX_LEN
const MFD_NAME_MAX_LEN: usize = 249;

/// A file in memory.
#[derive(Default)]
pub struct MemFile {
    state: SpinLock<MemState, class::Pipe>,
}

#[derive(Default)]
struct MemState {
    data: Vec<u8>,
    pos: u64,
}

impl fmt::Debug for MemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemFile")
    }
}

impl MemState {
    fn read_at(&self, into: &mut [u8], pos: u64) -> usize {
        let start = usize::try_from(pos).unwrap_or(usize::MAX).min(self.data.len());
        let there = &self.data[start..];
        let len = there.len().min(into.len());
        into[..len].copy_from_slice(&there[..len]);
        len
    }

    /// Writes what fits.
    fn write_at(&mut self, data: &[u8], pos: u64) -> Result<usize, Errno> {
        let room = MAX_SIZE.saturating_sub(pos).min(data.len() as u64) as usize;
        if room == 0 && !data.is_empty() {
            return Err(Errno::ENOSPC);
        }
        let start = pos.min(MAX_SIZE) as usize;
        if self.data.len() < start + room {
            self.data.resize(start + room, 0);
        }
        self.data[start..start + room].copy_from_slice(&data[..room]);
        Ok(room)
    }
}

impl MemFile {
    /// Where it stands.
    pub(super) fn pos(&self) -> u64 {
        self.state.lock().pos
    }

    pub(super) fn set_pos(&self, pos: u64) {
        self.state.lock().pos = pos;
    }

    /// Reads at a place, without moving.
    pub(super) fn read_at(&self, into: &mut [u8], pos: u64) -> usize {
        self.state.lock().read_at(into, pos)
    }

    /// Writes at a place, without moving; how much fitted. ENOSPC: nothing did.
    pub(super) fn write_at(&self, data: &[u8], pos: u64) -> Result<usize, Errno> {
        self.state.lock().write_at(data, pos)
    }
}

/// Makes a file in memory; its name is nobody's business.
///
/// # Errors
/// EINVAL for a name of more than 249 octets, or flags other than `MFD_CLOEXEC`; EMFILE.
///
/// linux: mm/memfd.c:sys_memfd_create
pub fn sys_memfd_create(cx: &mut TaskCx, name: &str, flags: i32) -> Result<i32, Errno> {
    cx.enter_call();
    if name.len() > MFD_NAME_MAX_LEN || flags & !MFD_CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let file = File::new(FileKind::Mem(Arc::default()), &SHMEM_FILE_OPERATIONS, 0);
    fd_install(cx, file, flags & MFD_CLOEXEC != 0)
}

/// linux: mm/shmem.c:shmem_file_operations
static SHMEM_FILE_OPERATIONS: FileOperations = FileOperations {
    read: |_, file, iov, _| Poll::Ready(read(file, iov)),
    write: |_, file, iov, _| Poll::Ready(write(file, iov)),
    mmap: |_| Err(Errno::ENODEV),
    // linux: include/linux/poll.h:DEFAULT_POLLMASK
    poll: |_, _| (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM) as u32,
    ioctl: |_, _, _, _| Err(Errno::ENOTTY),
    release: |_, _| (),
};

fn mem_of(file: &File) -> Option<&MemFile> {
    match &file.kind {
        FileKind::Mem(mem) => Some(mem),
        _ => None,
    }
}

fn read(file: &File, iov: &mut [IoSliceMut<'_>]) -> Result<usize, Errno> {
    let mem = mem_of(file).ok_or(Errno::EBADF)?;
    let mut state = mem.state.lock();
    let start = state.pos;
    for part in iov.iter_mut() {
        let pos = state.pos;
        state.pos += state.read_at(part, pos) as u64;
    }
    Ok((state.pos - start) as usize)
}

fn write(file: &File, iov: &[IoSlice<'_>]) -> Result<usize, Errno> {
    let mem = mem_of(file).ok_or(Errno::EBADF)?;
    let mut state = mem.state.lock();
    if file.f_flags() & O_APPEND != 0 {
        state.pos = state.data.len() as u64;
    }
    let mut written = 0;
    for part in iov.iter() {
        let pos = state.pos;
        match state.write_at(part, pos) {
            Ok(len) => {
                (state.pos, written) = (pos + len as u64, written + len);
                if len < part.len() {
                    break;
                }
            }
            Err(error) if written == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(written)
}

fn lookup(cx: &mut TaskCx, fd: i32) -> Result<Arc<File>, Errno> {
    cx.enter_call();
    cx.task().files().get(fd).ok_or(Errno::EBADF)
}

/// Moves to another place of a file; which that is.
///
/// # Errors
/// EBADF; ESPIPE for a file that has no places; EINVAL for a place before the start, or a `whence` there is not.
///
/// linux: fs/read_write.c:sys_lseek
pub fn sys_lseek(cx: &mut TaskCx, fd: i32, offset: i64, whence: i32) -> Result<u64, Errno> {
    let file = lookup(cx, fd)?;
    if !(SEEK_SET..=SEEK_END).contains(&whence) {
        return Err(Errno::EINVAL);
    }
    let mem = mem_of(&file).ok_or(Errno::ESPIPE)?;
    let mut state = mem.state.lock();
    let from = match whence {
        SEEK_CUR => state.pos,
        SEEK_END => state.data.len() as u64,
        _ => 0,
    };
    let pos = from.checked_add_signed(offset).filter(|pos| i64::try_from(*pos).is_ok());
    state.pos = pos.ok_or(Errno::EINVAL)?;
    Ok(state.pos)
}

/// Reads at a place, without moving.
///
/// # Errors
/// EBADF; ESPIPE for a file that has no places; EINVAL for a negative one.
///
/// linux: fs/read_write.c:sys_pread64
pub fn sys_pread64(cx: &mut TaskCx, fd: i32, into: &mut [u8], pos: i64) -> Result<usize, Errno> {
    let pos = u64::try_from(pos).map_err(|_| Errno::EINVAL)?;
    let file = lookup(cx, fd)?;
    Ok(mem_of(&file).ok_or(Errno::ESPIPE)?.read_at(into, pos))
}

/// Writes at a place, without moving.
///
/// # Errors
/// EBADF; ESPIPE for a file that has no places; EINVAL for a negative one; ENOSPC.
///
/// linux: fs/read_write.c:sys_pwrite64
pub fn sys_pwrite64(cx: &mut TaskCx, fd: i32, data: &[u8], pos: i64) -> Result<usize, Errno> {
    let pos = u64::try_from(pos).map_err(|_| Errno::EINVAL)?;
    let file = lookup(cx, fd)?;
    mem_of(&file).ok_or(Errno::ESPIPE)?.write_at(data, pos)
}

/// Makes a file so long: zeros come behind what there is, or what there is ends earlier.
///
/// # Errors
/// EBADF; EINVAL for a negative length, or a file that has none; EFBIG for one too long.
///
/// linux: fs/open.c:sys_ftruncate
pub fn sys_ftruncate(cx: &mut TaskCx, fd: i32, length: i64) -> Result<(), Errno> {
    let length = u64::try_from(length).map_err(|_| Errno::EINVAL)?;
    let file = lookup(cx, fd)?;
    let mem = mem_of(&file).ok_or(Errno::EINVAL)?;
    if length > MAX_SIZE {
        return Err(Errno::EFBIG);
    }
    let mut state = mem.state.lock();
    state.data.resize(length as usize, 0);
    state.data.shrink_to_fit();
    Ok(())
}
