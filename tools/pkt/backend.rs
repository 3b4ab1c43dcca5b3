//! What a script is run against, behind one trait.
//!
//! Key types: [`Backend`], [`Call`], [`Done`], [`Config`]. Contexts: one thread drives a backend.
//! Invariant: times are microseconds of the backend's own clock.

use crate::parse::script::Us;
use crate::wire::Csum;
use std::net::Ipv4Addr;
use std::path::Path;

/// The network that a script lives in, and its rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The machine's address.
    pub local: Ipv4Addr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// The gateway, on its network.
    pub gateway: Ipv4Addr,
    /// Whom the machine talks to.
    pub remote: Ipv4Addr,
    /// The device's MTU.
    pub mtu: u32,
    /// The port that `bind(fd, ..., ...)` means.
    pub bind_port: u16,
    /// The port that `connect(fd, ..., ...)` means.
    pub connect_port: u16,
    /// How far off an event may be.
    pub tolerance: Us,
    /// The same in percent of the time since the event before.
    pub tolerance_percent: f64,
    /// A segment may not be several.
    pub strict_segments: bool,
    /// The length of a tick of TCP timestamps; zero: their values are not looked at.
    pub ts_tick: Us,
    /// An echo that no packet had is reckoned from the first timestamp.
    pub ts_ecr_scaled: bool,
    /// Packets that nobody expects are passed by, and why.
    pub allow_extra: Option<String>,
    /// On the stack: whether the device cuts TCP's segments and sums them, or does not even merge what comes; `None`:
    /// it merges, and does nothing else. A script sees the same.
    pub offloads: Option<bool>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            local: Ipv4Addr::new(192, 168, 0, 1),
            prefix: 16,
            gateway: Ipv4Addr::new(192, 168, 0, 2),
            remote: Ipv4Addr::new(192, 0, 2, 1),
            mtu: 1500,
            bind_port: 8080,
            connect_port: 8080,
            tolerance: 4_000,
            tolerance_percent: 12.5,
            strict_segments: false,
            ts_tick: 0,
            ts_ecr_scaled: false,
            allow_extra: None,
            offloads: None,
        }
    }
}

/// A system call with live descriptors.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// socket(2)
    Socket(i32, i32, i32),
    /// bind(2)
    Bind(i32, Vec<u8>),
    /// connect(2)
    Connect(i32, Vec<u8>),
    /// listen(2)
    Listen(i32, i32),
    /// accept(2), accept4(2) with flags
    Accept(i32, i32),
    /// getsockname(2)
    SockName(i32),
    /// getpeername(2)
    PeerName(i32),
    /// sendmsg(2), and what is made of it
    Send(i32, Message, i32),
    /// recvmsg(2), and what is made of it
    Recv(i32, Room, i32),
    /// read(2), readv(2)
    Read(i32, Vec<usize>),
    /// write(2), writev(2)
    Write(i32, Vec<Vec<u8>>),
    /// setsockopt(2): level, name, value
    SetOpt(i32, i32, i32, Vec<u8>),
    /// getsockopt(2): level, name, room
    GetOpt(i32, i32, i32, i32),
    /// shutdown(2)
    Shutdown(i32, i32),
    /// ioctl(2) with a pointer to memory
    Ioctl(i32, u32, Vec<u8>),
    /// fcntl(2)
    Fcntl(i32, i32, i32),
    /// dup(2)
    Dup(i32),
    /// close(2)
    Close(i32),
    /// poll(2): descriptor, events; milliseconds, negative for ever
    Poll(Vec<(i32, i16)>, i32),
    /// epoll_create1(2)
    EpollCreate(i32),
    /// epoll_ctl(2): epoll, operation, descriptor, events, data
    EpollCtl(i32, i32, i32, (u32, u64)),
    /// epoll_wait(2): most events, milliseconds
    EpollWait(i32, i32, i32),
    /// pipe2(2)
    Pipe(i32),
    /// splice(2): from, to, bytes, flags
    Splice(i32, i32, usize, u32),
    /// sendfile(2): to, from, bytes
    SendFile(i32, i32, usize),
}

/// A message to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Where to: the bytes of a `sockaddr`.
    pub name: Option<Vec<u8>>,
    /// The data, in parts.
    pub parts: Vec<Vec<u8>>,
    /// Control data.
    pub control: Vec<u8>,
}

/// Room for a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Room {
    /// Bytes of each part.
    pub parts: Vec<usize>,
    /// Bytes for control data.
    pub control: usize,
}

/// What a call gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// What it returned, or errno.
    pub ret: i64,
    /// Its errno; zero: none.
    pub errno: i32,
    /// Data read, or an option's value, or the memory of a request.
    pub data: Vec<u8>,
    /// An address.
    pub name: Vec<u8>,
    /// Control data.
    pub control: Vec<u8>,
    /// `MSG_*`
    pub flags: i32,
    /// What was there, by place (poll), or events with data (epoll), or descriptors (pipe).
    pub ready: Vec<(u32, u64)>,
}

impl Done {
    /// A call that returned so much.
    pub fn ok(ret: impl Into<i64>) -> Self {
        Self { ret: ret.into(), ..Self::default() }
    }

    /// A call that failed.
    pub fn failed(errno: i32) -> Self {
        Self { ret: -1, errno, ..Self::default() }
    }
}

/// A packet that the machine sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// When.
    pub at: Us,
    /// Its bytes, from the IP header on.
    pub bytes: Vec<u8>,
    /// How far its checksum was computed.
    pub csum: Csum,
}

/// A machine under test.
///
/// Every error is the backend's own: that it can't go on. What a call fails with is in [`Done`].
pub trait Backend {
    /// Its name: `kernel`, `stack`.
    fn name(&self) -> &'static str;
    /// The time.
    fn now(&mut self) -> Us;
    /// What the machine's wall clock shows beyond that, in microseconds.
    fn wall_offset(&self) -> Us;
    /// Lets time pass until `at`.
    ///
    /// # Errors
    /// That it can't go on.
    fn wait_until(&mut self, at: Us) -> Result<(), String>;
    /// Hands the machine a packet now.
    ///
    /// # Errors
    /// That it can't go on.
    fn inject(&mut self, packet: &[u8]) -> Result<(), String>;
    /// The next packet that the machine sent; waits for it until `until`. A time that has passed:
    /// only what is there.
    ///
    /// # Errors
    /// That it can't go on.
    fn next_packet(&mut self, until: Us) -> Result<Option<Sent>, String>;
    /// Begins a call: it has ended, or sleeps, when this returns. One at a time.
    ///
    /// # Errors
    /// That it can't go on, or has no such call.
    fn start(&mut self, call: Call) -> Result<(), String>;
    /// The call's end, and when it was; waits for it until `until`.
    ///
    /// # Errors
    /// That it can't go on.
    fn finish(&mut self, until: Us) -> Result<Option<(Done, Us)>, String>;
    /// Reads an option of a live descriptor, also beside a call that sleeps: level and name, room.
    ///
    /// # Errors
    /// That it can't go on.
    fn option(&mut self, fd: i32, option: (i32, i32), room: i32) -> Result<Done, String>;
    /// Runs a command of the script, whose folder is `dir`.
    ///
    /// # Errors
    /// That it failed, or is not known here.
    fn command(&mut self, command: &str, dir: &Path) -> Result<(), String>;
}
