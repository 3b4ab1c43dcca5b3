//! Makes the calls of a check and notes what they return, with what differs from run to run made
//! the same: ports chosen by the host are `E0`, `E1`, … by first appearance, times are `(time)`.

use crate::calls::{Calls, Got, Outgoing, PollFd, Ret, Room, Sets};
use crate::report::Report;
use std::fmt::{Display, Write};
use uapi::errno::Errno;
use uapi::in_::{IP_PKTINFO, InPktinfo, SockaddrIn};
use uapi::socket::{
    AF_INET, CmsgWriter, MSG_DONTWAIT, SCM_TIMESTAMP, SCM_TIMESTAMPING, SCM_TIMESTAMPNS,
    SO_TIMESTAMP_NEW, SO_TIMESTAMPING_NEW, SO_TIMESTAMPNS_NEW, SOCK_DGRAM, SOL_IP, SOL_SOCKET,
    cmsg_space, cmsgs,
};

/// First of the ports that hosts choose.
const EPHEMERAL: u16 = 32_768;

/// An address of the checks.
pub type Ip = [u8; 4];
/// Any.
pub const ANY: Ip = [0; 4];
/// Loopback's own.
pub const LO: Ip = [127, 0, 0, 1];
/// Loopback's second.
pub const NET: Ip = [192, 0, 2, 1];
/// The card's.
pub const ETH: Ip = [198, 51, 100, 1];
/// To everybody on the link.
pub const BROADCAST: Ip = [255; 4];
/// All hosts.
pub const GROUP: Ip = [224, 0, 0, 1];
/// Nobody's.
pub const FOREIGN: Ip = [203, 0, 113, 9];

/// The bytes of a `sockaddr_in`.
pub fn sa(ip: Ip, port: u16) -> Vec<u8> {
    SockaddrIn::new(u32::from_be_bytes(ip), port).to_bytes().to_vec()
}

/// The bytes of a number.
pub fn int(value: i32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

/// Control messages, one after the other.
pub fn control(messages: &[(i32, i32, &[u8])]) -> Vec<u8> {
    let mut room = vec![0; messages.iter().map(|(_, _, data)| cmsg_space(data.len())).sum()];
    let mut writer = CmsgWriter::new(&mut room);
    messages.iter().for_each(|(level, kind, data)| writer.put(*level, *kind, data));
    room
}

/// A running check.
pub struct Probe<'a> {
    /// The host.
    pub calls: &'a mut dyn Calls,
    report: Report,
    ports: Vec<u16>,
    within: String,
}

impl std::fmt::Debug for Probe<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Probe({} notes)", self.report.len())
    }
}

impl<'a> Probe<'a> {
    /// A check begins.
    pub fn new(calls: &'a mut dyn Calls) -> Self {
        Self { calls, report: Report::default(), ports: Vec::new(), within: String::new() }
    }

    /// What was seen.
    pub fn into_report(self) -> Report {
        self.report
    }

    /// What is noted from now on is about this. Ports are counted afresh: a host may give one port to
    /// two connections, if they have different peers.
    pub fn within(&mut self, subject: &str) {
        self.ports.clear();
        self.within = if subject.is_empty() { String::new() } else { format!("{subject}: ") };
    }

    /// Notes a value.
    pub fn note(&mut self, label: &str, value: impl Display) {
        self.report.note(&format!("{}{label}", self.within), value);
    }

    /// Notes what a call returned.
    pub fn ret(&mut self, label: &str, ret: Ret) -> Ret {
        self.note(label, show_ret(ret));
        ret
    }

    fn port(&mut self, port: u16) -> String {
        if port < EPHEMERAL {
            return port.to_string();
        }
        let known = self.ports.iter().position(|there| *there == port);
        format!(
            "E{}",
            known.unwrap_or_else(|| {
                self.ports.push(port);
                self.ports.len() - 1
            })
        )
    }

    fn name(&mut self, name: &[u8]) -> String {
        match SockaddrIn::from_bytes(name) {
            Ok(addr) if name.len() == 16 => {
                let [a, b, c, d] = addr.addr.to_be_bytes();
                format!("{a}.{b}.{c}.{d}:{}", self.port(addr.port))
            }
            _ => format!("{name:?}"),
        }
    }

    fn cmsg(&mut self, level: i32, kind: i32, data: &[u8]) -> String {
        match (level, kind) {
            (
                SOL_SOCKET,
                SCM_TIMESTAMP | SCM_TIMESTAMPNS | SO_TIMESTAMP_NEW | SO_TIMESTAMPNS_NEW,
            ) => {
                format!("{level}/{kind} (time) of {}", data.len())
            }
            (SOL_SOCKET, SCM_TIMESTAMPING | SO_TIMESTAMPING_NEW) => {
                // Of three times those that are there.
                let there: Vec<bool> = data.chunks(16).map(|time| time != [0; 16]).collect();
                format!("{level}/{kind} (times) {there:?} of {}", data.len())
            }
            (SOL_IP, IP_PKTINFO) if data.len() == 12 => {
                let bytes: [u8; 12] = data.try_into().unwrap_or_default();
                let info = InPktinfo::from_bytes(&bytes);
                let (spec, addr) = (info.spec_dst.to_be_bytes(), info.addr.to_be_bytes());
                format!("pktinfo {} {spec:?} {addr:?}", info.ifindex)
            }
            _ => format!("{level}/{kind} {data:?}"),
        }
    }

    /// A received message, noted whole.
    pub fn got(&mut self, label: &str, got: Got) -> Got {
        let mut text = show_ret(got.ret);
        if got.ret.is_ok() {
            let _ = write!(text, " {}", show_data(&got.data));
            if !got.name.is_empty() {
                let _ = write!(text, " from {}", self.name(&got.name));
            }
            if got.flags != 0 {
                let _ = write!(text, " flags {:#x}", got.flags);
            }
            for message in cmsgs(&got.control) {
                let told = match message {
                    Ok(cmsg) => self.cmsg(cmsg.level, cmsg.type_, cmsg.data),
                    Err(_) => "malformed".to_owned(),
                };
                let _ = write!(text, " [{told}]");
            }
            if !got.control.is_empty() {
                let _ = write!(text, " control {}", got.control.len());
            }
        }
        self.note(label, text);
        got
    }

    /// A UDP socket; noted only if there is none.
    pub fn udp(&mut self) -> i32 {
        let fd = self.calls.socket(AF_INET, SOCK_DGRAM, 0);
        fd.unwrap_or_else(|_| self.ret("a socket", fd).map_or(-1, |fd| fd)) as i32
    }

    /// A bound UDP socket; noted only if it fails.
    pub fn bound(&mut self, ip: Ip, port: u16) -> i32 {
        let fd = self.udp();
        let bound = self.calls.bind(fd, &sa(ip, port));
        if bound.is_err() {
            let _ = self.ret("a bound socket", bound);
        }
        fd
    }

    /// A bound and connected UDP socket; noted only if it fails.
    pub fn joined(&mut self, port: u16, peer: u16) -> i32 {
        let fd = self.bound(LO, port);
        let done = self.calls.connect(fd, &sa(LO, peer));
        if done.is_err() {
            let _ = self.ret("a connected socket", done);
        }
        fd
    }

    /// socket(2)
    pub fn socket(&mut self, label: &str, family: i32, kind: i32, protocol: i32) -> Ret {
        let ret = self.calls.socket(family, kind, protocol);
        self.ret(label, ret)
    }

    /// bind(2) to an address.
    pub fn bind(&mut self, label: &str, fd: i32, ip: Ip, port: u16) -> Ret {
        let ret = self.calls.bind(fd, &sa(ip, port));
        self.ret(label, ret)
    }

    /// connect(2) to an address.
    pub fn connect(&mut self, label: &str, fd: i32, ip: Ip, port: u16) -> Ret {
        let ret = self.calls.connect(fd, &sa(ip, port));
        self.ret(label, ret)
    }

    /// Both names of a socket.
    pub fn names(&mut self, label: &str, fd: i32) {
        let own = self.calls.getsockname(fd);
        let peer = self.calls.getpeername(fd);
        let own = own.map_or_else(errno, |name| self.name(&name));
        let peer = peer.map_or_else(errno, |name| self.name(&name));
        self.note(label, format!("{own} to {peer}"));
    }

    /// sendto(2) an address, and lets it arrive.
    pub fn sendto(&mut self, label: &str, fd: i32, data: &[u8], ip: Ip, port: u16) -> Ret {
        let ret = self.calls.sendto(fd, data, MSG_DONTWAIT, Some(&sa(ip, port)));
        self.calls.settle();
        self.ret(label, ret)
    }

    /// send(2) with flags, and lets it arrive.
    pub fn send(&mut self, label: &str, fd: i32, data: &[u8], flags: i32) -> Ret {
        let ret = self.calls.sendto(fd, data, flags | MSG_DONTWAIT, None);
        self.calls.settle();
        self.ret(label, ret)
    }

    /// sendmsg(2) with control data, and lets it arrive.
    pub fn sendmsg(&mut self, label: &str, fd: i32, msg: &Outgoing, flags: i32) -> Ret {
        let ret = self.calls.sendmsg(fd, msg, flags | MSG_DONTWAIT);
        self.calls.settle();
        self.ret(label, ret)
    }

    /// recvfrom(2), without waiting.
    pub fn recvfrom(&mut self, label: &str, fd: i32, len: usize, flags: i32) -> Got {
        let got = self.calls.recvfrom(fd, len, flags | MSG_DONTWAIT);
        self.got(label, got)
    }

    /// recvmsg(2) with room for control data, without waiting.
    pub fn recvmsg(
        &mut self,
        label: &str,
        fd: i32,
        (len, control): (usize, usize),
        flags: i32,
    ) -> Got {
        let room = Room { parts: vec![len], control };
        let got = self.calls.recvmsg(fd, &room, flags | MSG_DONTWAIT);
        self.got(label, got)
    }

    /// setsockopt(2) of a number.
    pub fn set(&mut self, label: &str, fd: i32, (level, name): (i32, i32), value: i32) -> Ret {
        self.set_bytes(label, fd, (level, name), &int(value))
    }

    /// setsockopt(2) of bytes.
    pub fn set_bytes(
        &mut self,
        label: &str,
        fd: i32,
        (level, name): (i32, i32),
        value: &[u8],
    ) -> Ret {
        let ret = self.calls.setsockopt(fd, level, name, value);
        self.ret(label, ret)
    }

    /// setsockopt(2) of a number, noted only if it fails.
    pub fn with(&mut self, fd: i32, (level, name): (i32, i32), value: i32) {
        if let Err(error) = self.calls.setsockopt(fd, level, name, &int(value)) {
            self.note(&format!("setting {level}/{name}"), errno(error));
        }
    }

    /// getsockopt(2) of a number.
    pub fn get(&mut self, label: &str, fd: i32, option: (i32, i32)) {
        self.get_bytes(label, fd, option, 4);
    }

    /// getsockopt(2) into some room.
    pub fn get_bytes(&mut self, label: &str, fd: i32, (level, name): (i32, i32), len: i32) {
        let got = self.calls.getsockopt(fd, level, name, len);
        let text = match got {
            Ok(value) => match <[u8; 4]>::try_from(&value[..]) {
                Ok(number) => i32::from_ne_bytes(number).to_string(),
                Err(_) => format!("{value:?}"),
            },
            Err(error) => errno(error),
        };
        self.note(label, text);
    }

    /// poll(2) of one descriptor, for everything, without waiting.
    pub fn mask(&mut self, label: &str, fd: i32) {
        self.poll(label, &[(fd, 0x7fff)], 0);
    }

    /// poll(2).
    pub fn poll(&mut self, label: &str, fds: &[(i32, i16)], timeout_ms: u64) {
        let of = |(fd, events): &(i32, i16)| PollFd { fd: *fd, events: *events, revents: 0x55 };
        let mut all: Vec<PollFd> = fds.iter().map(of).collect();
        let ret = self.calls.poll(&mut all, timeout_ms);
        let seen: Vec<String> = all.iter().map(|fd| format!("{:#x}", fd.revents)).collect();
        self.note(label, format!("{} {}", show_ret(ret), seen.join(" ")));
    }

    /// select(2), without waiting.
    pub fn select(&mut self, label: &str, sets: Sets) {
        let mut sets = sets;
        let ret = self.calls.select(&mut sets, 0);
        self.note(label, format!("{} {sets:?}", show_ret(ret)));
    }

    /// epoll_ctl(2)
    pub fn ctl(&mut self, label: &str, ep: i32, op: i32, fd: i32, event: (u32, u64)) -> Ret {
        let ret = self.calls.epoll_ctl(ep, op, fd, event);
        self.ret(label, ret)
    }

    /// epoll_wait(2) for at most eight, without waiting.
    pub fn wait(&mut self, label: &str, ep: i32) {
        self.wait_for(label, ep, 8, 0);
    }

    /// epoll_wait(2).
    pub fn wait_for(&mut self, label: &str, ep: i32, max: i32, timeout_ms: u64) {
        let got = self.calls.epoll_wait(ep, max, timeout_ms);
        let text = got.map_or_else(errno, |events| {
            events.iter().map(|(events, data)| format!("{data}:{events:#x} ")).collect::<String>()
        });
        self.note(label, format!("[{}]", text.trim_end()));
    }

    /// shutdown(2)
    pub fn shutdown(&mut self, label: &str, fd: i32, how: i32) -> Ret {
        let ret = self.calls.shutdown(fd, how);
        self.ret(label, ret)
    }

    /// A chosen port goes back to the host, which may choose it again for another socket: there
    /// it is a port of its own.
    pub fn forget_port(&mut self, fd: i32) {
        let Ok(name) = self.calls.getsockname(fd) else { return };
        if let Ok(addr) = SockaddrIn::from_bytes(&name) {
            for known in self.ports.iter_mut().filter(|known| **known == addr.port) {
                *known = 0;
            }
        }
    }

    /// close(2)
    pub fn close(&mut self, label: &str, fd: i32) -> Ret {
        self.forget_port(fd);
        let ret = self.calls.close(fd);
        self.ret(label, ret)
    }

    /// Closes descriptors, not noted.
    pub fn drop_all(&mut self, fds: &[i32]) {
        for fd in fds {
            self.forget_port(*fd);
            let _closed_or_never_open = self.calls.close(*fd);
        }
    }

    /// fcntl(2)
    pub fn fcntl(&mut self, label: &str, fd: i32, cmd: i32, arg: i32) -> Ret {
        let ret = self.calls.fcntl(fd, cmd, arg);
        self.ret(label, ret)
    }

    /// ioctl(2) of a number; the one there afterwards.
    pub fn ioctl(&mut self, label: &str, fd: i32, request: u32, arg: i32) -> Ret {
        let mut place = arg.to_ne_bytes();
        let ret = self.calls.ioctl(fd, request, &mut place);
        self.ret(label, ret.map(|_| i32::from_ne_bytes(place).into()))
    }

    /// ioctl(2) of bytes; those there afterwards are noted.
    pub fn ioctl_bytes(&mut self, label: &str, fd: i32, request: u32, arg: &[u8]) {
        let mut place = arg.to_vec();
        let ret = self.calls.ioctl(fd, request, &mut place);
        self.note(label, format!("{} {place:?}", show_ret(ret)));
    }
}

fn errno(error: i32) -> String {
    if error == -1 { "waits for ever".to_owned() } else { format!("{:?}", Errno(error)) }
}

fn show_ret(ret: Ret) -> String {
    ret.map_or_else(errno, |done| done.to_string())
}

fn show_data(data: &[u8]) -> String {
    if data.len() <= 40 {
        return format!("{:?}", String::from_utf8_lossy(data));
    }
    let sum =
        data.iter().fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
    format!("({} bytes, {sum:x})", data.len())
}
