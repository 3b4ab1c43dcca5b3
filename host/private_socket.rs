//! A socket in the file system that one user alone can reach.
//!
//! Key types: [`PrivateListener`], [`SocketError`]. Contexts: any thread.
//! Invariants: the file has mode 0600 from the moment it exists; it is removed with its listener, and
//! nobody else's is; of several who want one path at the same time, one gets it.

use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::geteuid;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Connections that wait to be accepted at most.
const BACKLOG: i32 = 64;
/// So long somebody else may be busy with the folder.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no socket. The text names the cause and the way out.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody listens there already.
    #[error("{0} is the socket of a machine that runs: stop that one, or name another path")]
    Live(PathBuf),
    /// Something else than a socket is there.
    #[error("{0} is there and is no socket: remove it, or name another path")]
    NotASocket(PathBuf),
    /// The address of a socket is short.
    #[error("{0} is too long for a socket (107 bytes at most): name a shorter path")]
    TooLong(PathBuf),
    /// The folder is not ours alone.
    #[error("{path} {why}: remove it, or name another path")]
    Folder {
        /// Which folder.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The system refused.
    #[error("{path}: {source}")]
    System {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
}

fn system(path: &Path) -> impl Fn(io::Error) -> SocketError {
    let path = path.to_owned();
    move |source| SocketError::System { path: path.clone(), source }
}

/// Root's folder of sockets.
pub const ROOT_FOLDER: &str = "/run/netkeel";

/// The folder where a user's sockets of this program are: in `XDG_RUNTIME_DIR` if that is the user's,
/// else under `/run` for root, under `/tmp` for others.
#[must_use]
pub fn runtime_folder() -> PathBuf {
    let uid = geteuid().as_raw();
    let xdg = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let own = |path: &PathBuf| fs::metadata(path).is_ok_and(|there| there.uid() == uid);
    match xdg.filter(|path| path.is_absolute()).filter(own) {
        Some(folder) => folder.join("netkeel"),
        None if uid == 0 => PathBuf::from(ROOT_FOLDER),
        None => PathBuf::from(format!("/tmp/netkeel-{uid}")),
    }
}

/// Makes a folder that is ours alone, or sees that it is.
///
/// # Errors
/// [`SocketError::Folder`] when it is a link, another user's, or open to others; what the system says.
pub fn private_folder(path: &Path) -> Result<(), SocketError> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(system(path)(e)),
        _ => (),
    }
    let wrong = |why| SocketError::Folder { path: path.to_owned(), why };
    let there = fs::symlink_metadata(path).map_err(system(path))?;
    if !there.is_dir() {
        return Err(wrong("is no folder"));
    }
    if there.uid() != geteuid().as_raw() {
        return Err(wrong("belongs to another user"));
    }
    if there.mode() & 0o077 != 0 {
        return Err(wrong("is open to other users"));
    }
    Ok(())
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The user it was opened by.
    pub uid: u32,
    /// The process.
    pub pid: i32,
}

impl Peer {
    /// Of this connection: as of when it was made, or for who connects, when the other end listened.
    ///
    /// # Errors
    /// What the system says; none that a connected socket could cause.
    pub fn of(stream: &UnixStream) -> io::Result<Self> {
        let peer = rustix::net::sockopt::socket_peercred(stream)?;
        Ok(Self { uid: peer.uid.as_raw(), pid: peer.pid.as_raw_nonzero().get() })
    }

    /// It may do here what we may: the same user, or root.
    #[must_use]
    pub fn is_trusted(&self) -> bool {
        self.uid == 0 || self.uid == geteuid().as_raw()
    }
}

/// A listening socket with its file.
#[derive(Debug)]
pub struct PrivateListener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file: it is removed only while it is this one.
    file: (u64, u64),
}

impl PrivateListener {
    /// Listens at `path`, whose folder exists. What a process left there that is gone is replaced.
    ///
    /// # Errors
    /// [`SocketError`].
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let address =
            SocketAddrUnix::new(path).map_err(|_| SocketError::TooLong(path.to_owned()))?;
        let _alone = Folder::lock(path)?;
        remove_stale(path, &address)?;
        let socket = socket_at(&address).map_err(system(path))?;
        let there = fs::symlink_metadata(path).map_err(system(path))?;
        let listener = UnixListener::from(socket);
        Ok(Self { listener, path: path.to_owned(), file: (there.dev(), there.ino()) })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection, which does not block; `None`: none waits.
    ///
    /// # Errors
    /// What the system says, such as that the process may have no more descriptors.
    pub fn accept(&self) -> io::Result<Option<(UnixStream, Peer)>> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    let peer = Peer::of(&stream)?;
                    return Ok(Some((stream, peer)));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => (),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
                Err(e) => return Err(e),
            }
        }
    }
}

impl AsFd for PrivateListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for PrivateListener {
    fn drop(&mut self) {
        // Without the lock the file is left: the next one sees that nobody listens.
        let Ok(_alone) = Folder::lock(&self.path) else { return };
        let ours = |there: fs::Metadata| (there.dev(), there.ino()) == self.file;
        if fs::symlink_metadata(&self.path).is_ok_and(ours) {
            // It is stale from now on, if it can't be removed.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A bound, listening socket. Its mode is set before it has a name: the file begins with it.
fn socket_at(address: &SocketAddrUnix) -> io::Result<OwnedFd> {
    let socket = new_socket()?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    rustix::net::bind(&socket, address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Removes a socket that nobody listens at.
fn remove_stale(path: &Path, address: &SocketAddrUnix) -> Result<(), SocketError> {
    let there = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        there => there.map_err(system(path))?,
    };
    if !there.file_type().is_socket() {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    // Without waiting: one that has no room for us now has somebody behind it.
    let asking = new_socket().map_err(system(path))?;
    match rustix::net::connect(&asking, address) {
        Err(rustix::io::Errno::CONNREFUSED) => fs::remove_file(path).map_err(system(path)),
        Err(rustix::io::Errno::NOENT) => Ok(()),
        _ => Err(SocketError::Live(path.to_owned())),
    }
}

/// A folder in which we alone make and remove sockets, as long as this lives.
struct Folder {
    _locked: OwnedFd,
}

impl Folder {
    /// Takes the folder of `path`.
    fn lock(path: &Path) -> Result<Self, SocketError> {
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let refused = system(folder);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = open(folder, flags, Mode::empty()).map_err(|e| refused(e.into()))?;
        let until = Instant::now() + PATIENCE;
        loop {
            match flock(&fd, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { _locked: fd }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(rustix::io::Errno::INTR) => (),
                Err(e) => return Err(refused(e.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests;
