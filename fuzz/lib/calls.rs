//! Calls of a program that does not know what it does.

use crate::STEPS;
use crate::frame::{GROUP, LOCAL, PEER};
use crate::input::Input;
use crate::lab::{Card, Lab, addr};
use crate::options::{NAMES, REQUESTS, VALUES};
use crate::peer::Peer;
use stack::fs::eventpoll::EpollEvent;
use stack::fs::{
    PollFd, sys_close, sys_close_linger, sys_dup, sys_dup2, sys_epoll_create1, sys_epoll_ctl,
    sys_epoll_wait, sys_fcntl, sys_ioctl, sys_memfd_create, sys_mmap, sys_pipe2, sys_poll,
    sys_read, sys_sendfile, sys_splice, sys_write,
};
use stack::net::socket::*;
use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::time::Duration;
use uapi::if_packet::SockaddrLl;
use uapi::socket::*;

/// Descriptors that are remembered, and open ones by far.
const FDS: usize = 24;
const PORTS: [u16; 6] = [0, 80, 81, 4000, 9000, 9001];
const PLACES: [Ipv4Addr; 7] = [
    LOCAL,
    Ipv4Addr::LOCALHOST,
    PEER,
    Ipv4Addr::UNSPECIFIED,
    GROUP,
    Ipv4Addr::BROADCAST,
    Ipv4Addr::new(198, 51, 100, 9),
];

struct Careless {
    lab: Lab,
    peer: Peer,
    fds: Vec<i32>,
    room: Vec<u8>,
}

/// Makes calls, each with arguments as the input says. None waits longer than it is let, none is refused wrongly
/// enough to panic, and when the program ends nothing is left of it.
pub fn calls(data: &[u8]) {
    let mut input = Input::new(data);
    let mut lab = Lab::new(Card::Wire);
    lab.set("net.ipv4.ping_group_range", "0 0");
    let mut program =
        Careless { lab, peer: Peer::default(), fds: Vec::new(), room: vec![0; 70_000] };
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let what = input.u8();
        program.step(what, &mut input);
        program.lab.settle();
        let peer = &mut program.peer;
        program.lab.sent(|frame| peer.see(frame));
        program.lab.check();
    }
    program.lab.end();
}

impl Careless {
    fn fd(&self, input: &mut Input<'_>) -> i32 {
        let which = usize::from(input.u8());
        match self.fds.get(which % (self.fds.len() + 1)) {
            Some(fd) => *fd,
            None => which as i32 - 8,
        }
    }

    fn keep(&mut self, fd: Option<Result<i32, uapi::errno::Errno>>) {
        let Some(Ok(fd)) = fd else { return };
        if self.fds.len() < FDS {
            self.fds.push(fd);
        } else {
            sys_close(&mut self.lab.cx, fd).expect("it was opened just now");
        }
    }

    fn step(&mut self, what: u8, input: &mut Input<'_>) {
        match what % 32 {
            0..=2 => self.open(input),
            3 => {
                let (fd, name) = (self.fd(input), name(input));
                let _any = sys_bind(&mut self.lab.cx, fd, &name);
            }
            4..=5 => {
                let (fd, name) = (self.fd(input), name(input));
                self.lab.call(sys_connect(fd, &name));
            }
            6 => {
                let (fd, backlog) = (self.fd(input), input.number(&[0, 1, 5, -1]));
                let _any = sys_listen(&mut self.lab.cx, fd, backlog);
            }
            7 => {
                let (fd, flags) = (self.fd(input), input.number(&[SOCK_NONBLOCK, 0, SOCK_CLOEXEC]));
                let accepted = self.lab.call(sys_accept4(fd, flags));
                self.keep(accepted.map(|accepted| accepted.map(|(fd, _)| fd)));
            }
            8..=10 => self.send(input),
            11..=12 => self.receive(input),
            13..=16 => self.set(input),
            17 => {
                let (fd, (level, name)) = (self.fd(input), option(input));
                drop(sys_getsockopt(&mut self.lab.cx, fd, level, name));
            }
            18 => self.ioctl(input),
            19 => {
                let (fd, how) = (self.fd(input), input.number(&[SHUT_RD, SHUT_WR, SHUT_RDWR]));
                let _any = sys_shutdown(&mut self.lab.cx, fd, how);
            }
            20 => self.close(input),
            21..=22 => self.deliver(input),
            23 => self
                .lab
                .pass(Duration::from_millis(input.pick(&[1, 50, 250, 1_000, 5_000, 61_000]))),
            24..=25 => self.descriptors(input),
            26 => self.poll(input),
            27 => self.message(input),
            28 => self.pipe(input),
            29 => {
                let fd = self.fd(input);
                let _any = sys_getsockname(&mut self.lab.cx, fd);
                let _any = sys_getpeername(&mut self.lab.cx, fd);
                let _any = sys_mmap(&mut self.lab.cx, fd);
            }
            30 => self.wait(input),
            _ => {
                let (fd, len) = (self.fd(input), input.below(70_000));
                let room = &mut self.room[..len];
                if input.flag() {
                    self.lab.call(sys_read(fd, room));
                } else {
                    self.lab.call(sys_write(fd, room));
                }
            }
        }
    }

    fn open(&mut self, input: &mut Input<'_>) {
        let family = input.number(&[AF_INET, AF_INET, AF_INET, AF_PACKET]);
        let kind = input.number(&[SOCK_STREAM, SOCK_DGRAM, SOCK_RAW]);
        let protocol = input.number(&[0, 0, 0, 1, 6, 17, 253, 255, 0x0300, 0x0008]);
        let fd = sys_socket(&mut self.lab.cx, family, kind, protocol);
        self.keep(Some(fd));
    }

    fn close(&mut self, input: &mut Input<'_>) {
        let fd = self.fd(input);
        if input.flag() {
            self.lab.call(sys_close_linger(fd));
        }
        let _any = sys_close(&mut self.lab.cx, fd);
        self.fds.retain(|open| *open != fd);
    }

    fn send(&mut self, input: &mut Input<'_>) {
        let (fd, flags) = (self.fd(input), flags(input));
        let named = input.flag().then(|| name(input));
        let len =
            input.pick(&[0_usize, 1, 8, 100, 1472, 1473, 5000, 20_000, 65_507, 65_508, 70_000]);
        let data = if len == 100 { input.string(200) } else { &self.room[..len] };
        self.lab.call(sys_sendto(fd, data, flags, named.as_deref()));
    }

    fn receive(&mut self, input: &mut Input<'_>) {
        let (fd, flags, len) = (self.fd(input), flags(input), input.below(70_000));
        let mut control = vec![0; usize::from(input.u8())];
        let mut into: [&mut [u8]; 1] = [&mut self.room[..len]];
        let came = self.lab.call(sys_recvmsg(fd, &mut into, &mut control, flags));
        if let Some(Ok(came)) = came {
            assert!(came.controllen as usize <= control.len());
            assert!(came.len <= len || came.flags & MSG_TRUNC != 0 || flags & MSG_TRUNC != 0);
        }
    }

    fn set(&mut self, input: &mut Input<'_>) {
        let (fd, (level, name)) = (self.fd(input), option(input));
        let value = match input.u8() & 3 {
            0 | 1 => input.number(&VALUES).to_ne_bytes().to_vec(),
            2 => {
                let device = self.lab.ifindex.to_ne_bytes();
                let more = input.pick(&PLACES).octets();
                [input.pick(&[GROUP, PEER]).octets(), more, device].concat()
            }
            _ => input.string(600).to_vec(),
        };
        let _any = sys_setsockopt(&mut self.lab.cx, fd, level, name, &value);
        drop(sys_getsockopt(&mut self.lab.cx, fd, level, name));
    }

    fn ioctl(&mut self, input: &mut Input<'_>) {
        let fd = self.fd(input);
        let (first, more) = input.pick(&REQUESTS);
        let request =
            if input.u8() == 255 { input.u32() } else { first + u32::from(input.u8()) % more };
        let mut arg = match input.u8() & 3 {
            0 => vec![0; 4],
            1 => input.string(120).to_vec(),
            // An `ifreq` of the card.
            _ => [&b"eth0"[..], &[0; 12], &name(input), &[0; 8]].concat(),
        };
        let _any = sys_ioctl(&mut self.lab.cx, fd, request, &mut arg);
    }

    fn deliver(&mut self, input: &mut Input<'_>) {
        let frame = self.peer.segment(input);
        self.lab.deliver(&frame);
    }

    fn descriptors(&mut self, input: &mut Input<'_>) {
        let (fd, other) = (self.fd(input), self.fd(input));
        let cx = &mut self.lab.cx;
        let new = match input.u8() % 6 {
            0 => sys_dup(cx, fd),
            1 if (0..64).contains(&other) => sys_dup2(cx, fd, other),
            1 => sys_dup2(cx, fd, -1),
            2 => {
                let (command, arg) = (input.number(&[3, 4, 1, 2]), input.number(&[0, 0o4000, 1]));
                let _any = sys_fcntl(cx, fd, command, arg);
                return;
            }
            3 => sys_memfd_create(cx, "x", 0),
            4 => sys_epoll_create1(cx, 0),
            _ => {
                for fd in sys_pipe2(cx, input.pick(&[0, 0o4000])).into_iter().flatten() {
                    self.keep(Some(Ok(fd)));
                }
                return;
            }
        };
        self.keep(Some(new));
    }

    fn poll(&mut self, input: &mut Input<'_>) {
        let (epfd, fd) = (self.fd(input), self.fd(input));
        let event = EpollEvent { events: input.u32(), data: 5 };
        let _any = sys_epoll_ctl(&mut self.lab.cx, epfd, input.number(&[1, 2, 3]), fd, event);
        let time = Some(Duration::from_millis(u64::from(input.u8())));
        self.lab.call(sys_epoll_wait(epfd, usize::from(input.u8()), time));
        let mut fds = [fd, epfd].map(|fd| PollFd { fd, events: -1, revents: 0 });
        self.lab.call(sys_poll(&mut fds, time));
    }

    /// Several messages, with control data.
    fn message(&mut self, input: &mut Input<'_>) {
        let (fd, flags, name) = (self.fd(input), flags(input), name(input));
        let (level, kind) = option(input);
        let mut control = vec![0; 64];
        let used = {
            let mut writer = CmsgWriter::new(&mut control);
            writer.put(level, kind, input.string(16));
            writer.used()
        };
        control.truncate(used);
        if input.flag() {
            control = input.string(64).to_vec();
        }
        let data = &self.room[..input.below(3000)];
        let iov = [IoSlice::new(data), IoSlice::new(&data[..data.len() / 2])];
        let name = input.flag().then_some(&name[..]);
        let msg = MsgSend { iov: &iov, name, control: &control, flags: 0 };
        let msgs = vec![msg; usize::from(input.u8() % 5)];
        self.lab.call(sys_sendmmsg(fd, &msgs, flags));
    }

    fn pipe(&mut self, input: &mut Input<'_>) {
        let (from, to, len) = (self.fd(input), self.fd(input), input.below(70_000));
        let mut places = [0, 0].map(|_| i64::from(input.number(&[0, 1, 100, -1])));
        let [first, second] = &mut places;
        let (first, second) = (input.flag().then_some(first), input.flag().then_some(second));
        if input.flag() {
            self.lab.call(sys_splice((from, first), (to, second), len, u32::from(input.u8() & 15)));
        } else {
            self.lab.call(sys_sendfile(to, from, first, len));
        }
    }

    /// Waits in a call, which may be let for a second.
    fn wait(&mut self, input: &mut Input<'_>) {
        let (fd, flags) = (self.fd(input), flags(input));
        let second = Duration::from_secs(1);
        let room = &mut self.room[..5000];
        let _any = if input.flag() {
            self.lab
                .world
                .block_on(&mut self.lab.cx, &mut sys_recvfrom(fd, room, flags), second)
                .is_some()
        } else {
            self.lab
                .world
                .block_on(&mut self.lab.cx, &mut sys_sendto(fd, room, flags, None), second)
                .is_some()
        };
    }
}

fn flags(input: &mut Input<'_>) -> i32 {
    let one = [0, MSG_DONTWAIT, MSG_PEEK, MSG_OOB, MSG_MORE, MSG_TRUNC, MSG_WAITALL, MSG_ERRQUEUE];
    let other = [0, 0, 0, MSG_ZEROCOPY, MSG_FASTOPEN, MSG_DONTROUTE, MSG_CONFIRM, MSG_EOR];
    input.number(&one) | input.pick(&other)
}

/// A level and a name of it, most times.
fn option(input: &mut Input<'_>) -> (i32, i32) {
    let which = input.u8();
    let Some((level, first, last)) = NAMES.get(usize::from(which % 8)) else {
        return (input.u32() as i32, input.u32() as i32);
    };
    (*level, first + i32::from(input.u8()) % (last - first + 1))
}

fn name(input: &mut Input<'_>) -> Vec<u8> {
    match input.u8() % 8 {
        0..=4 => addr(input.pick(&PLACES), input.pick(&PORTS)).to_vec(),
        5 => {
            let protocol = input.pick(&[3, 0x0800, 0x88b5, 0]);
            let ifindex = input.number(&[2, 1, 0]);
            SockaddrLl { protocol, ifindex, ..SockaddrLl::default() }.to_bytes().to_vec()
        }
        6 => vec![0; 16],
        _ => input.string(40).to_vec(),
    }
}
