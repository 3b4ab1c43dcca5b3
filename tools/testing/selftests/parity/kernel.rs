//! The host kernel: the calls as the C library makes them.
//!
//! Context: a thread in a network namespace and with a descriptor table of its own, so that
//! descriptor numbers are those of a fresh process.

#![allow(unsafe_code)]

mod fprog;

use crate::calls::{Calls, Got, Outgoing, Placed, PollFd, Ret, Room, Sets};
use crate::{Check, Report};
use fprog::sock_fprog;
use host::testing::{NetNs, in_fresh_netns};
use libc::{c_int, c_void, iovec, mmsghdr, msghdr, sockaddr, socklen_t, timespec, timeval};
use std::io::Error;
use std::mem::zeroed;
use std::ptr::{null, null_mut};
use std::time::Duration;
use uapi::if_packet::PACKET_FANOUT_DATA;
use uapi::socket::{SO_ATTACH_FILTER, SOL_PACKET, SOL_SOCKET};

const PING_GROUP_RANGE: &str = "/proc/sys/net/ipv4/ping_group_range";

/// The host kernel, as the calling thread has it.
#[derive(Debug)]
pub struct Kernel {
    /// A packet socket at the other end of `eth0`, or -1.
    wire: c_int,
}

/// Runs checks on the kernel, in a namespace made for them; the reports, in order.
///
/// # Panics
/// When the namespace can't be made: needs root.
pub fn on_kernel(checks: &[Check]) -> Vec<Report> {
    in_fresh_netns(|ns| {
        set_up(ns);
        let mut kernel = Kernel::enter();
        checks.iter().map(|check| kernel.fresh(check)).collect()
    })
}

/// Runs checks on the kernel, each in a namespace of its own: what a connection leaves behind when it
/// is closed is none of the next one's business.
///
/// # Panics
/// When a namespace can't be made: needs root.
pub fn each_on_kernel(checks: &[Check]) -> Vec<Report> {
    let alone = |check: &Check| {
        in_fresh_netns(|ns| {
            set_up(ns);
            // As a fresh kernel has them, whatever this one was told. Reno keeps no pace of its own.
            for (name, value) in [
                ("tcp_congestion_control", "reno"),
                ("tcp_rmem", "4096 131072 6291456"),
                ("tcp_wmem", "4096 16384 4194304"),
            ] {
                let file = format!("/proc/sys/net/ipv4/{name}");
                std::fs::write(&file, value).expect("settings of our namespace");
            }
            Kernel::enter().fresh(check)
        })
    };
    checks.iter().map(alone).collect()
}

/// The other end of `eth0`.
const PEER_INDEX: c_int = 3;
/// Where the tap on the wire is kept: beyond what a check opens.
const WIRE_FD: c_int = 900;

fn set_up(ns: &NetNs) {
    ns.ip("addr add 192.0.2.1/24 brd + dev lo");
    ns.ip("link add eth0 index 2 type veth peer name peer index 3");
    ns.ip("addr add 198.51.100.1/24 brd + dev eth0");
    ns.ip("link set eth0 address 02:00:00:00:00:01 up");
    ns.ip("link set peer up");
    ns.ip("neigh add 198.51.100.9 lladdr 02:00:00:00:00:09 dev eth0 nud permanent");
}

impl Kernel {
    /// The thread ends with its descriptors: it has to be one made for this.
    fn enter() -> Self {
        // SAFETY: no pointers. The table becomes a copy; what is closed later is the copy's.
        let done = unsafe { libc::unshare(libc::CLONE_FILES) };
        assert_eq!(done, 0, "a descriptor table of its own: {}", Error::last_os_error());
        Self { wire: -1 }
    }

    fn fresh(&mut self, check: &Check) -> Report {
        self.close_all();
        let report = check.run(self);
        self.close_all();
        report
    }

    fn close_all(&mut self) {
        // SAFETY: no pointers. Nothing that this thread holds as a value owns a descriptor.
        let done = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, 0_u32) };
        assert_eq!(done, 0, "close_range: {}", Error::last_os_error());
    }
}

fn errno() -> i32 {
    Error::last_os_error().raw_os_error().expect("an error of the system")
}

fn ret(done: impl Into<i64>) -> Ret {
    let done = done.into();
    if done < 0 { Err(errno()) } else { Ok(done) }
}

fn size(done: isize) -> Ret {
    ret(done as i64)
}

fn iovecs(parts: &[Vec<u8>]) -> Vec<iovec> {
    let of = |part: &Vec<u8>| iovec { iov_base: part.as_ptr() as *mut c_void, iov_len: part.len() };
    parts.iter().map(of).collect()
}

/// A header of pointers into `msg` and `iov`, which must outlive it.
fn header(msg: &Outgoing, iov: &mut [iovec]) -> msghdr {
    // SAFETY: all zeroes is a valid header of nothing.
    let mut header: msghdr = unsafe { zeroed() };
    if let Some(name) = &msg.name {
        header.msg_name = name.as_ptr() as *mut c_void;
        header.msg_namelen = name.len() as socklen_t;
    }
    header.msg_iov = iov.as_mut_ptr();
    header.msg_iovlen = iov.len();
    if !msg.control.is_empty() {
        header.msg_control = msg.control.as_ptr() as *mut c_void;
        header.msg_controllen = msg.control.len();
    }
    header
}

/// Buffers of a message to receive.
struct Incoming {
    name: [u8; 128],
    parts: Vec<Vec<u8>>,
    iov: Vec<iovec>,
    control: Vec<u8>,
}

impl Incoming {
    fn new(room: &Room) -> Self {
        let parts: Vec<Vec<u8>> = room.parts.iter().map(|len| vec![0; *len]).collect();
        let iov = iovecs(&parts);
        Self { name: [0; 128], parts, iov, control: vec![0; room.control] }
    }

    fn header(&mut self) -> msghdr {
        // SAFETY: all zeroes is a valid header of nothing.
        let mut header: msghdr = unsafe { zeroed() };
        header.msg_name = self.name.as_mut_ptr().cast();
        header.msg_namelen = self.name.len() as socklen_t;
        header.msg_iov = self.iov.as_mut_ptr();
        header.msg_iovlen = self.iov.len();
        if !self.control.is_empty() {
            header.msg_control = self.control.as_mut_ptr().cast();
            header.msg_controllen = self.control.len();
        }
        header
    }

    fn got(self, ret: Ret, header: &msghdr) -> Got {
        let Ok(len) = ret else { return Got { ret, ..Got::failed(0) } };
        let mut data = self.parts.concat();
        data.truncate(len as usize);
        let mut control = self.control;
        control.truncate(header.msg_controllen);
        let name = self.name[..header.msg_namelen as usize].to_vec();
        Got { ret, data, name, control, flags: header.msg_flags }
    }
}

fn name_of(
    fd: i32,
    call: unsafe extern "C" fn(c_int, *mut sockaddr, *mut socklen_t) -> c_int,
) -> Result<Vec<u8>, i32> {
    let mut name = [0_u8; 128];
    let mut len = name.len() as socklen_t;
    // SAFETY: room for `len` bytes, and both outlive the call.
    ret(unsafe { call(fd, name.as_mut_ptr().cast(), &raw mut len) })?;
    Ok(name[..len as usize].to_vec())
}

fn fd_set(fds: &[i32]) -> libc::fd_set {
    // SAFETY: all zeroes is the empty set.
    let mut set: libc::fd_set = unsafe { zeroed() };
    for fd in fds {
        assert!((0..libc::FD_SETSIZE as i32).contains(fd), "a set holds small descriptors");
        // SAFETY: the set is ours and the descriptor within its size.
        unsafe { libc::FD_SET(*fd, &raw mut set) };
    }
    set
}

impl Calls for Kernel {
    fn settle(&mut self) {
        // Loopback delivers before the call returns, unless softirqs had too much to do.
        std::thread::sleep(Duration::from_millis(1));
    }

    fn allow_ping(&mut self) {
        std::fs::write(PING_GROUP_RANGE, "0 2147483647").expect("a setting of our namespace");
    }

    fn forbid_ping(&mut self) {
        std::fs::write(PING_GROUP_RANGE, "1 0").expect("a setting of our namespace");
    }

    fn socket(&mut self, family: i32, kind: i32, protocol: i32) -> Ret {
        // SAFETY: no pointers.
        ret(unsafe { libc::socket(family, kind, protocol) })
    }

    fn bind(&mut self, fd: i32, name: &[u8]) -> Ret {
        // SAFETY: the name is read for its length.
        ret(unsafe { libc::bind(fd, name.as_ptr().cast(), name.len() as socklen_t) })
    }

    fn connect(&mut self, fd: i32, name: &[u8]) -> Ret {
        // SAFETY: the name is read for its length.
        ret(unsafe { libc::connect(fd, name.as_ptr().cast(), name.len() as socklen_t) })
    }

    fn listen(&mut self, fd: i32, backlog: i32) -> Ret {
        // SAFETY: no pointers.
        ret(unsafe { libc::listen(fd, backlog) })
    }

    fn accept4(&mut self, fd: i32, flags: i32) -> Ret {
        // SAFETY: null pointers ask for no address.
        ret(unsafe { libc::accept4(fd, null_mut(), null_mut(), flags) })
    }

    fn getsockname(&mut self, fd: i32) -> Result<Vec<u8>, i32> {
        name_of(fd, libc::getsockname)
    }

    fn getpeername(&mut self, fd: i32) -> Result<Vec<u8>, i32> {
        name_of(fd, libc::getpeername)
    }

    fn sendto(&mut self, fd: i32, data: &[u8], flags: i32, name: Option<&[u8]>) -> Ret {
        let (to, len) = name.map_or((null(), 0), |name| (name.as_ptr(), name.len()));
        // SAFETY: data and name are read for their lengths.
        size(unsafe {
            libc::sendto(fd, data.as_ptr().cast(), data.len(), flags, to.cast(), len as socklen_t)
        })
    }

    fn sendmsg(&mut self, fd: i32, msg: &Outgoing, flags: i32) -> Ret {
        let mut iov = iovecs(&msg.parts);
        let header = header(msg, &mut iov);
        // SAFETY: the header's pointers lead into `msg` and `iov`, which outlive the call.
        size(unsafe { libc::sendmsg(fd, &raw const header, flags) })
    }

    fn sendmmsg(&mut self, fd: i32, msgs: &[Outgoing], flags: i32) -> Ret {
        let mut iovs: Vec<Vec<iovec>> = msgs.iter().map(|msg| iovecs(&msg.parts)).collect();
        let mut headers: Vec<mmsghdr> = msgs
            .iter()
            .zip(&mut iovs)
            .map(|(msg, iov)| mmsghdr { msg_hdr: header(msg, iov), msg_len: 0 })
            .collect();
        // SAFETY: the headers' pointers lead into `msgs` and `iovs`, which outlive the call.
        ret(unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), headers.len() as u32, flags) })
    }

    fn recvfrom(&mut self, fd: i32, len: usize, flags: i32) -> Got {
        let (mut data, mut name) = (vec![0_u8; len], [0_u8; 128]);
        let mut namelen = name.len() as socklen_t;
        // SAFETY: room for `len` and `namelen` bytes, and all outlive the call.
        let ret = size(unsafe {
            libc::recvfrom(
                fd,
                data.as_mut_ptr().cast(),
                len,
                flags,
                name.as_mut_ptr().cast(),
                &raw mut namelen,
            )
        });
        let Ok(there) = ret else { return Got { ret, ..Got::failed(0) } };
        data.truncate(there as usize);
        let name = name[..namelen as usize].to_vec();
        Got { ret, data, name, control: Vec::new(), flags: 0 }
    }

    fn recvmsg(&mut self, fd: i32, room: &Room, flags: i32) -> Got {
        let mut incoming = Incoming::new(room);
        let mut header = incoming.header();
        // SAFETY: the header's pointers lead into `incoming`, which outlives the call.
        let ret = size(unsafe { libc::recvmsg(fd, &raw mut header, flags) });
        incoming.got(ret, &header)
    }

    fn recvmmsg(
        &mut self,
        fd: i32,
        rooms: &[Room],
        flags: i32,
        timeout_ms: Option<u64>,
    ) -> Result<Vec<Got>, i32> {
        let mut all: Vec<Incoming> = rooms.iter().map(Incoming::new).collect();
        let mut headers: Vec<mmsghdr> =
            all.iter_mut().map(|one| mmsghdr { msg_hdr: one.header(), msg_len: 0 }).collect();
        let mut limit = timeout_ms.map(|ms| timespec {
            tv_sec: (ms / 1000) as i64,
            tv_nsec: (ms % 1000 * 1_000_000) as i64,
        });
        let limit = limit.as_mut().map_or(null_mut(), |limit| limit as *mut timespec);
        // SAFETY: the headers' pointers lead into `all`, which outlives the call, as `limit` does.
        let done = ret(unsafe {
            libc::recvmmsg(fd, headers.as_mut_ptr(), headers.len() as u32, flags, limit)
        })?;
        let got = all.into_iter().zip(&headers).take(done as usize);
        Ok(got.map(|(one, header)| one.got(Ok(header.msg_len.into()), &header.msg_hdr)).collect())
    }

    fn setsockopt(&mut self, fd: i32, level: i32, name: i32, value: &[u8]) -> Ret {
        let program = [(SOL_SOCKET, SO_ATTACH_FILTER), (SOL_PACKET, PACKET_FANOUT_DATA)];
        if program.contains(&(level, name)) {
            return sock_fprog(fd, (level, name), value);
        }
        let len = value.len() as socklen_t;
        // SAFETY: the value is read for its length.
        ret(unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), len) })
    }

    fn getsockopt(&mut self, fd: i32, level: i32, name: i32, len: i32) -> Result<Vec<u8>, i32> {
        let mut value = vec![0_u8; len.max(0) as usize];
        let filter = (level, name) == (SOL_SOCKET, SO_ATTACH_FILTER);
        // A program's length is counted in instructions, both ways.
        let unit = if filter { size_of::<libc::sock_filter>() } else { 1 };
        let mut len = (len / unit as i32) as socklen_t;
        // SAFETY: room for `len` bytes; a negative length is refused before anything is written.
        ret(unsafe { libc::getsockopt(fd, level, name, value.as_mut_ptr().cast(), &raw mut len) })?;
        value.truncate(len as usize * unit);
        Ok(value)
    }

    fn getsockopt_by(&mut self, fd: i32, option: (i32, i32), value: &[u8]) -> Result<Vec<u8>, i32> {
        let mut place = [value, &[0; 4096]].concat();
        let (at, mut len) = (place.as_mut_ptr().cast(), value.len() as socklen_t);
        // SAFETY: room for what the kernel takes the buffer for, however long it is told to be.
        ret(unsafe { libc::getsockopt(fd, option.0, option.1, at, &raw mut len) })?;
        Ok(place[..value.len().min(len as usize)].to_vec())
    }

    fn shutdown(&mut self, fd: i32, how: i32) -> Ret {
        // SAFETY: no pointers.
        ret(unsafe { libc::shutdown(fd, how) })
    }

    fn ioctl(&mut self, fd: i32, request: u32, arg: &mut [u8]) -> Ret {
        // Larger than what any request of the checks writes.
        let mut place = vec![0_u8; arg.len().max(256)];
        place[..arg.len()].copy_from_slice(arg);
        let points = request == uapi::sockios::SIOCGIFCONF && place[8..16] != [0; 8];
        if points {
            let behind = place[16..].as_mut_ptr().addr();
            place[8..16].copy_from_slice(&behind.to_ne_bytes());
        }
        // SAFETY: the place is larger than the structure of any request of the checks; the only
        // pointer in one leads behind it, where there is as much room as the check says.
        let done = ret(unsafe { libc::ioctl(fd, request.into(), place.as_mut_ptr()) });
        if points {
            place[8..16].copy_from_slice(&arg[8..16]);
        }
        arg.copy_from_slice(&place[..arg.len()]);
        done
    }

    fn fcntl(&mut self, fd: i32, cmd: i32, arg: i32) -> Ret {
        // SAFETY: the commands of the checks take a number.
        ret(unsafe { libc::fcntl(fd, cmd, arg) })
    }

    fn dup(&mut self, fd: i32) -> Ret {
        // SAFETY: no pointers.
        ret(unsafe { libc::dup(fd) })
    }

    fn dup2(&mut self, fd: i32, new: i32) -> Ret {
        // SAFETY: no pointers; the table is this thread's and nothing owns `new`.
        ret(unsafe { libc::dup2(fd, new) })
    }

    fn dup3(&mut self, fd: i32, new: i32, flags: i32) -> Ret {
        // SAFETY: no pointers; the table is this thread's and nothing owns `new`.
        ret(unsafe { libc::dup3(fd, new, flags) })
    }

    fn close(&mut self, fd: i32) -> Ret {
        // SAFETY: the table is this thread's and no value owns `fd`.
        ret(unsafe { libc::close(fd) })
    }

    fn poll(&mut self, fds: &mut [PollFd], timeout_ms: u64) -> Ret {
        let of = |fd: &PollFd| libc::pollfd { fd: fd.fd, events: fd.events, revents: fd.revents };
        let mut all: Vec<libc::pollfd> = fds.iter().map(of).collect();
        // SAFETY: as many as told, and they outlive the call.
        let done = unsafe { libc::poll(all.as_mut_ptr(), all.len() as u64, timeout_ms as c_int) };
        fds.iter_mut().zip(&all).for_each(|(fd, there)| fd.revents = there.revents);
        ret(done)
    }

    fn select(&mut self, sets: &mut Sets, timeout_ms: u64) -> Ret {
        let [mut read, mut write, mut except] = [0, 1, 2].map(|set| fd_set(&sets[set]));
        let end = sets.iter().flatten().max().map_or(0, |fd| fd + 1);
        let tv_usec = (timeout_ms % 1000 * 1000) as i64;
        let mut limit = timeval { tv_sec: (timeout_ms / 1000) as i64, tv_usec };
        // SAFETY: the sets and the time are ours and outlive the call.
        let done = ret(unsafe {
            libc::select(end, &raw mut read, &raw mut write, &raw mut except, &raw mut limit)
        });
        for (set, there) in sets.iter_mut().zip([&read, &write, &except]) {
            // SAFETY: the set is ours and `fd_set` checked each descriptor.
            set.retain(|fd| unsafe { libc::FD_ISSET(*fd, there) });
        }
        done
    }

    fn epoll_create(&mut self, size: i32) -> Ret {
        // SAFETY: no pointers.
        ret(unsafe { libc::epoll_create(size) })
    }

    fn epoll_create1(&mut self, flags: i32) -> Ret {
        // SAFETY: no pointers.
        ret(unsafe { libc::epoll_create1(flags) })
    }

    fn epoll_ctl(&mut self, ep: i32, op: i32, fd: i32, (events, data): (u32, u64)) -> Ret {
        let mut event = libc::epoll_event { events, u64: data };
        // SAFETY: the event outlives the call.
        ret(unsafe { libc::epoll_ctl(ep, op, fd, &raw mut event) })
    }

    fn epoll_wait(&mut self, ep: i32, max: i32, timeout_ms: u64) -> Result<Vec<(u32, u64)>, i32> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        assert!(max <= 64, "a check waits for few events");
        // SAFETY: room for 64 events, of which `max` are written at most.
        let done =
            ret(unsafe { libc::epoll_wait(ep, events.as_mut_ptr(), max, timeout_ms as c_int) })?;
        Ok(events[..done as usize].iter().map(|event| (event.events, event.u64)).collect())
    }

    fn read(&mut self, fd: i32, len: usize) -> Got {
        let mut data = vec![0_u8; len];
        // SAFETY: room for `len` bytes.
        let ret = size(unsafe { libc::read(fd, data.as_mut_ptr().cast(), len) });
        data.truncate(ret.unwrap_or(0) as usize);
        Got { ret, data, ..Got::failed(0) }
    }

    fn write(&mut self, fd: i32, data: &[u8]) -> Ret {
        // SAFETY: the data is read for its length.
        size(unsafe { libc::write(fd, data.as_ptr().cast(), data.len()) })
    }

    fn readv(&mut self, fd: i32, parts: &[usize]) -> Got {
        let incoming = Incoming::new(&Room { parts: parts.to_vec(), control: 0 });
        let (iov, count) = (incoming.iov.as_ptr(), incoming.iov.len() as c_int);
        // SAFETY: the parts lie in `incoming`, which outlives the call.
        let ret = size(unsafe { libc::readv(fd, iov, count) });
        let mut data = incoming.parts.concat();
        data.truncate(ret.unwrap_or(0) as usize);
        Got { ret, data, ..Got::failed(0) }
    }

    fn writev(&mut self, fd: i32, parts: &[Vec<u8>]) -> Ret {
        let iov = iovecs(parts);
        // SAFETY: the parts are read for their lengths.
        size(unsafe { libc::writev(fd, iov.as_ptr(), iov.len() as c_int) })
    }

    fn pipe2(&mut self, flags: i32) -> Result<[i32; 2], i32> {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        ret(unsafe { libc::pipe2(ends.as_mut_ptr(), flags) })?;
        Ok(ends)
    }

    fn splice(&mut self, from: Placed<'_>, to: Placed<'_>, len: usize, flags: u32) -> Ret {
        let ((fd_in, off_in), (fd_out, off_out)) = (from, to);
        let place = |off: Option<&mut i64>| off.map_or(std::ptr::null_mut(), std::ptr::from_mut);
        // SAFETY: the places are borrowed for the call, or null.
        size(unsafe { libc::splice(fd_in, place(off_in), fd_out, place(off_out), len, flags) })
    }

    fn sendfile(&mut self, out: i32, (from, off): Placed<'_>, count: usize) -> Ret {
        let place = off.map_or(std::ptr::null_mut(), std::ptr::from_mut);
        // SAFETY: the place is borrowed for the call, or null.
        size(unsafe { libc::sendfile(out, from, place, count) })
    }

    fn memfd_create(&mut self, name: &str, flags: i32) -> Ret {
        let name = std::ffi::CString::new(name).expect("a check's name has no zero");
        // SAFETY: the name ends in zero and outlives the call.
        ret(unsafe { libc::memfd_create(name.as_ptr(), flags as u32) })
    }

    fn lseek(&mut self, fd: i32, offset: i64, whence: i32) -> Ret {
        // SAFETY: no pointers.
        ret(unsafe { libc::lseek(fd, offset, whence) })
    }

    fn pread(&mut self, fd: i32, len: usize, pos: i64) -> Got {
        let mut data = vec![0_u8; len];
        // SAFETY: room for `len` bytes.
        let ret = size(unsafe { libc::pread(fd, data.as_mut_ptr().cast(), len, pos) });
        data.truncate(ret.unwrap_or(0) as usize);
        Got { ret, data, ..Got::failed(0) }
    }

    fn pwrite(&mut self, fd: i32, data: &[u8], pos: i64) -> Ret {
        // SAFETY: the data is read for its length.
        size(unsafe { libc::pwrite(fd, data.as_ptr().cast(), data.len(), pos) })
    }

    fn ftruncate(&mut self, fd: i32, length: i64) -> Ret {
        // SAFETY: no pointers.
        ret(unsafe { libc::ftruncate(fd, length) })
    }

    fn wire_open(&mut self) {
        let all = libc::ETH_P_ALL as u16;
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, all.to_be().into()) };
        // SAFETY: all zeroes is a valid address of nothing.
        let mut at: libc::sockaddr_ll = unsafe { zeroed() };
        at.sll_family = libc::AF_PACKET as u16;
        at.sll_protocol = all.to_be();
        at.sll_ifindex = PEER_INDEX;
        let (name, len) = (&raw const at, size_of::<libc::sockaddr_ll>() as socklen_t);
        // SAFETY: the address outlives the call.
        let bound = unsafe { libc::bind(fd, name.cast(), len) };
        // SAFETY: no pointers; no check has so many descriptors.
        self.wire = unsafe { libc::dup2(fd, WIRE_FD) };
        // SAFETY: no pointers; nobody else knows of it.
        unsafe { libc::close(fd) };
        assert!(
            bound == 0 && self.wire == WIRE_FD,
            "a tap on the wire: {}",
            Error::last_os_error()
        );
    }

    fn wire_send(&mut self, frame: &[u8]) {
        // SAFETY: the frame is read for its length.
        let sent = unsafe { libc::send(self.wire, frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "{}", Error::last_os_error());
        self.settle();
    }

    fn wire_take(&mut self) -> Vec<Vec<u8>> {
        self.settle();
        let mut frames = Vec::new();
        loop {
            let mut frame = vec![0_u8; 70_000];
            // SAFETY: all zeroes is a valid address of nothing.
            let mut from: libc::sockaddr_ll = unsafe { zeroed() };
            let mut len = size_of::<libc::sockaddr_ll>() as socklen_t;
            // SAFETY: room for a frame and an address, which outlive the call.
            let came = unsafe {
                libc::recvfrom(
                    self.wire,
                    frame.as_mut_ptr().cast(),
                    frame.len(),
                    libc::MSG_DONTWAIT,
                    (&raw mut from).cast(),
                    &raw mut len,
                )
            };
            if came < 0 {
                return frames;
            }
            frame.truncate(came as usize);
            // What was sent here is seen, too.
            let ours = from.sll_pkttype == libc::PACKET_OUTGOING;
            if !ours && from.sll_protocol == (libc::ETH_P_IP as u16).to_be() {
                frames.push(frame);
            }
        }
    }

    fn sysctl(&mut self, name: &str, value: &str) {
        let file = format!("/proc/sys/{}", name.replace('.', "/"));
        std::fs::write(&file, value).expect("a setting of our namespace");
    }
}
