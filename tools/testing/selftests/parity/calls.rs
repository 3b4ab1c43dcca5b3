//! The system calls of the checks, in Linux's shapes: descriptors, bytes, numbers, errno.

/// What a call returned: a number, or errno.
pub type Ret = Result<i64, i32>;

/// A message to send.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// Where to: the bytes of a `sockaddr`.
    pub name: Option<Vec<u8>>,
    /// The data, in parts.
    pub parts: Vec<Vec<u8>>,
    /// Control data.
    pub control: Vec<u8>,
}

/// Room for a message to receive.
#[derive(Clone, Debug, Default)]
pub struct Room {
    /// Bytes of each part.
    pub parts: Vec<usize>,
    /// Bytes for control data.
    pub control: usize,
}

impl Room {
    /// One part, no control data.
    pub fn of(bytes: usize) -> Self {
        Self { parts: vec![bytes], control: 0 }
    }
}

/// What was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// What the call returned, or the length of this message of several.
    pub ret: Ret,
    /// What lies in the buffers.
    pub data: Vec<u8>,
    /// The sender's `sockaddr`.
    pub name: Vec<u8>,
    /// Control data.
    pub control: Vec<u8>,
    /// `MSG_*`.
    pub flags: i32,
}

impl Got {
    /// A call that failed.
    pub fn failed(errno: i32) -> Self {
        let none = Vec::new;
        Self { ret: Err(errno), data: none(), name: none(), control: none(), flags: 0 }
    }
}

/// `struct pollfd`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollFd {
    /// The descriptor.
    pub fd: i32,
    /// Asked for.
    pub events: i16,
    /// There.
    pub revents: i16,
}

/// Sets of descriptors: to read, to write, exceptional.
pub type Sets = [Vec<i32>; 3];

/// A host that answers system calls. No call of a check may wait for ever: whoever might wait
/// gives a limit.
pub trait Calls {
    /// What was sent has arrived: softirqs have run.
    fn settle(&mut self);
    /// Every group may make ping sockets (`ping_group_range`).
    fn allow_ping(&mut self);
    /// None may.
    fn forbid_ping(&mut self);
    /// socket(2)
    fn socket(&mut self, family: i32, kind: i32, protocol: i32) -> Ret;
    /// bind(2)
    fn bind(&mut self, fd: i32, name: &[u8]) -> Ret;
    /// connect(2)
    fn connect(&mut self, fd: i32, name: &[u8]) -> Ret;
    /// listen(2)
    fn listen(&mut self, fd: i32, backlog: i32) -> Ret;
    /// accept4(2), without an address.
    fn accept4(&mut self, fd: i32, flags: i32) -> Ret;
    /// getsockname(2)
    fn getsockname(&mut self, fd: i32) -> Result<Vec<u8>, i32>;
    /// getpeername(2)
    fn getpeername(&mut self, fd: i32) -> Result<Vec<u8>, i32>;
    /// sendto(2)
    fn sendto(&mut self, fd: i32, data: &[u8], flags: i32, name: Option<&[u8]>) -> Ret;
    /// sendmsg(2)
    fn sendmsg(&mut self, fd: i32, msg: &Outgoing, flags: i32) -> Ret;
    /// sendmmsg(2)
    fn sendmmsg(&mut self, fd: i32, msgs: &[Outgoing], flags: i32) -> Ret;
    /// recvfrom(2)
    fn recvfrom(&mut self, fd: i32, len: usize, flags: i32) -> Got;
    /// recvmsg(2)
    fn recvmsg(&mut self, fd: i32, room: &Room, flags: i32) -> Got;
    /// recvmmsg(2): each message into its own room.
    fn recvmmsg(
        &mut self,
        fd: i32,
        rooms: &[Room],
        flags: i32,
        timeout_ms: Option<u64>,
    ) -> Result<Vec<Got>, i32>;
    /// setsockopt(2)
    fn setsockopt(&mut self, fd: i32, level: i32, name: i32, value: &[u8]) -> Ret;
    /// getsockopt(2) into a buffer of `len` bytes.
    fn getsockopt(&mut self, fd: i32, level: i32, name: i32, len: i32) -> Result<Vec<u8>, i32>;
    /// getsockopt(2) into a buffer in which something stands that says what is asked for.
    fn getsockopt_by(&mut self, fd: i32, option: (i32, i32), value: &[u8]) -> Result<Vec<u8>, i32>;
    /// shutdown(2)
    fn shutdown(&mut self, fd: i32, how: i32) -> Ret;
    /// ioctl(2) with a pointer to `arg`. In a `struct ifconf` there a pointer other than zero means
    /// the bytes behind the structure.
    fn ioctl(&mut self, fd: i32, request: u32, arg: &mut [u8]) -> Ret;
    /// fcntl(2)
    fn fcntl(&mut self, fd: i32, cmd: i32, arg: i32) -> Ret;
    /// dup(2)
    fn dup(&mut self, fd: i32) -> Ret;
    /// dup2(2)
    fn dup2(&mut self, fd: i32, new: i32) -> Ret;
    /// dup3(2)
    fn dup3(&mut self, fd: i32, new: i32, flags: i32) -> Ret;
    /// close(2)
    fn close(&mut self, fd: i32) -> Ret;
    /// poll(2)
    fn poll(&mut self, fds: &mut [PollFd], timeout_ms: u64) -> Ret;
    /// select(2)
    fn select(&mut self, sets: &mut Sets, timeout_ms: u64) -> Ret;
    /// epoll_create(2)
    fn epoll_create(&mut self, size: i32) -> Ret;
    /// epoll_create1(2)
    fn epoll_create1(&mut self, flags: i32) -> Ret;
    /// epoll_ctl(2)
    fn epoll_ctl(&mut self, ep: i32, op: i32, fd: i32, event: (u32, u64)) -> Ret;
    /// epoll_wait(2)
    fn epoll_wait(&mut self, ep: i32, max: i32, timeout_ms: u64) -> Result<Vec<(u32, u64)>, i32>;
    /// read(2)
    fn read(&mut self, fd: i32, len: usize) -> Got;
    /// write(2)
    fn write(&mut self, fd: i32, data: &[u8]) -> Ret;
    /// readv(2)
    fn readv(&mut self, fd: i32, parts: &[usize]) -> Got;
    /// writev(2)
    fn writev(&mut self, fd: i32, parts: &[Vec<u8>]) -> Ret;
    /// pipe2(2): the descriptors to read and to write.
    fn pipe2(&mut self, flags: i32) -> Result<[i32; 2], i32>;
    /// splice(2): each end with its place, if it is given one.
    fn splice(&mut self, from: Placed<'_>, to: Placed<'_>, len: usize, flags: u32) -> Ret;
    /// sendfile(2)
    fn sendfile(&mut self, out: i32, from: Placed<'_>, count: usize) -> Ret;
    /// memfd_create(2)
    fn memfd_create(&mut self, name: &str, flags: i32) -> Ret;
    /// lseek(2)
    fn lseek(&mut self, fd: i32, offset: i64, whence: i32) -> Ret;
    /// pread(2)
    fn pread(&mut self, fd: i32, len: usize, pos: i64) -> Got;
    /// pwrite(2)
    fn pwrite(&mut self, fd: i32, data: &[u8], pos: i64) -> Ret;
    /// ftruncate(2)
    fn ftruncate(&mut self, fd: i32, length: i64) -> Ret;
    /// From now on what leaves by `eth0` is kept for [`Calls::wire_take`]. Needs no descriptor that a check could see.
    fn wire_open(&mut self);
    /// Lets a frame come in at `eth0`.
    fn wire_send(&mut self, frame: &[u8]);
    /// The IPv4 frames that have left by `eth0` since.
    fn wire_take(&mut self) -> Vec<Vec<u8>>;
    /// Sets a setting of the network by its name.
    fn sysctl(&mut self, name: &str, value: &str);
}

/// A descriptor, and perhaps a place in its file that the call reads and moves.
pub type Placed<'p> = (i32, Option<&'p mut i64>);
