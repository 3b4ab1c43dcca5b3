//! Packets that go together fare as they would one by one.

use crate::lone::{LOCAL, Lone};
use crate::testdev::{TestDev, frame};
use crate::util::{addr, connect, udp};
use klib::checksum::ip_fast_csum;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use sim::Digest;
use stack::kernel::context::BhCx;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::skbuff::Skb;
use stack::net::core::snmp::NetMib;
use stack::net::netfilter::{NfHook, NfHookState, NfInetHook, Verdict, nf_register_hook};
use stack::net::socket::{
    MsgName, MsgRecv, MsgSend, sys_recvmmsg, sys_sendmmsg, sys_sendmsg, sys_setsockopt,
};
use std::io::{IoSlice, IoSliceMut};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::in_::{IP_MTU_DISCOVER, IP_PMTUDISC_DO, IP_RECVERR, IP_TTL};
use uapi::socket::{
    CmsgWriter, MSG_DONTWAIT, SO_BROADCAST, SO_RCVBUF, SO_SNDBUF, SOL_IP, SOL_SOCKET,
};

const ALL: [u8; 6] = [0xff; 6];
const OTHER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 8);

/// A header changed, and its sum put right.
fn changed(mut packet: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut packet);
    packet[10..12].fill(0);
    let check = ip_fast_csum(&packet[..20]);
    packet[10..12].copy_from_slice(&check.to_be_bytes());
    packet
}

/// Four bytes of options behind the header, which do nothing.
fn with_options(packet: &[u8]) -> Vec<u8> {
    let mut longer = [&packet[..20], &[1, 1, 1, 0], &packet[20..]].concat();
    longer[0] = 0x46;
    let len = longer.len() as u16;
    longer[2..4].copy_from_slice(&len.to_be_bytes());
    longer[10..12].fill(0);
    let check = ip_fast_csum(&longer[..24]);
    longer[10..12].copy_from_slice(&check.to_be_bytes());
    longer
}

/// A frame of one of [`KINDS`] kinds that carries `mark` where it carries anything.
fn frame_of(kind: u8, mark: u8) -> Vec<u8> {
    let data = [mark; 40];
    let from = |ip, port, to| frame::udp((ip, port), (LOCAL, to), &data);
    let plain = || from(frame::PEER, 5000, 7);
    let ip = |packet: &[u8]| frame::ether(TestDev::MAC, 0x0800, packet);
    match kind {
        0 => ip(&plain()),
        1 => ip(&from(frame::PEER, 5001, 7)),
        2 => ip(&from(OTHER, 5000, 7)),
        3 => ip(&from(frame::PEER, 5000, 11)),
        4 => ip(&from(OTHER, 5000, 11)),
        5 => ip(&from(frame::PEER, 5000, 13)),
        6 => ip(&from(frame::PEER, 5000, 4444)),
        7 => ip(&changed(plain(), |header| header[1] = 0x10)),
        8 => ip(&changed(plain(), |header| header[6] = 0x40)),
        9 => ip(&changed(plain(), |header| header[6] = 0x20)),
        10 => ip(&changed(plain(), |header| header[7] = 3)),
        11 => ip(&with_options(&plain())),
        12 => ip(&[plain(), vec![0; 9]].concat()),
        13 => {
            let mut bad = plain();
            bad[30] ^= 1;
            ip(&bad)
        }
        14 => {
            let mut bad = plain();
            bad[8] ^= 1;
            ip(&bad)
        }
        15 => ip(&plain()[..33]),
        16 => ip(&plain()[..12]),
        17 => ip(&frame::ip(1, frame::PEER, LOCAL, &frame::icmp(8, 0, [0, 1, 0, mark], &data))),
        18 => ip(&frame::ip(200, frame::PEER, LOCAL, &data)),
        19 => ip(&frame::ip(17, Ipv4Addr::new(127, 0, 0, 1), LOCAL, &data)),
        20 => frame::ether([2, 0, 0, 0, 7, 7], 0x0800, &plain()),
        21 => {
            let all = Ipv4Addr::new(192, 0, 2, 255);
            frame::ether(ALL, 0x0800, &frame::udp((frame::PEER, 5000), (all, 7), &data))
        }
        22 => frame::ether(ALL, 0x0806, &frame::arp(1, frame::PEER, LOCAL, [0; 6])),
        23 => frame::ether(TestDev::MAC, 0x88b5, &data),
        24 => {
            let mut long = plain();
            long[24..26].copy_from_slice(&200_u16.to_be_bytes());
            ip(&long)
        }
        _ => ip(&frame::udp((frame::PEER, 5000), (LOCAL, 9), &[])),
    }
}

const KINDS: u8 = 26;

/// What became of frames.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    read: Vec<Vec<Vec<u8>>>,
    sent: Vec<Vec<u8>>,
    mib: NetMib,
}

/// Drops what is of an odd length at a point, and sends what carries three to another port.
struct Meddler;

impl NfHook for Meddler {
    fn hook(&self, _: &mut BhCx<'_>, _: &NfHookState, mut skb: Skb) -> Verdict {
        if skb.len() % 2 == 1 {
            return Verdict::Drop(skb);
        }
        if skb.len() > 28
            && let Some(data) = skb.data_mut()
            && data[data.len() - 1] % 3 == 0
        {
            data[23] = 9;
        }
        Verdict::Accept(skb)
    }
}

/// Lets a machine receive frames of all kinds, some of a kind behind one another, in a few polls.
fn received(seed: u64, together: bool) -> (Outcome, Digest) {
    let mut lone = Lone::new();
    lone.sysctl(|sysctl| sysctl.icmp_ratelimit = Duration::ZERO);
    let sockets = [(Ipv4Addr::UNSPECIFIED, 7), (LOCAL, 9), (LOCAL, 11), (LOCAL, 13)]
        .map(|(ip, port)| udp(&mut lone.cx, ip, port));
    connect(&mut lone.cx, sockets[2], &addr(frame::PEER, 5000)).expect("connected");
    // Room for three of 40 bytes, and one more.
    let room = 1500_i32.to_ne_bytes();
    sys_setsockopt(&mut lone.cx, sockets[3], SOL_SOCKET, SO_RCVBUF, &room).expect("set");
    if seed % 4 == 3 {
        let hook = Arc::new(Meddler);
        let point = if seed % 8 == 3 { NfInetHook::PreRouting } else { NfInetHook::LocalIn };
        nf_register_hook(&mut lone.cx, point, 0, hook);
    }
    lone.dev.together.store(together, Ordering::Relaxed);
    lone.world.watch(None);
    let mut rng = Pcg64::seed_from_u64(seed);
    let mut mark = 0;
    let mut read = vec![Vec::new(); sockets.len()];
    for _ in 0..6 {
        let mut frames = Vec::new();
        while frames.len() < 90 {
            let kind = rng.random_range(0..KINDS);
            for _ in 0..rng.random_range(1..12) {
                mark = u8::wrapping_add(mark, 1);
                frames.push(frame_of(kind, mark));
            }
        }
        lone.dev.deliver(frames);
        lone.world.settle();
        for (socket, read) in sockets.iter().zip(&mut read) {
            read.extend(lone.recv_all(*socket));
        }
    }
    let outcome = Outcome { read, sent: lone.dev.sent(), mib: lone.machine.mib() };
    (outcome, lone.end())
}

stepped!(frames_that_came_together_fare_as_one_by_one);
fn frames_that_came_together_fare_as_one_by_one() -> Digest {
    let mut seen = [0; 5];
    let mut compare = |seed| {
        let (alone, _) = received(seed, false);
        let (together, digest) = received(seed, true);
        assert_eq!(together, alone, "seed {seed}");
        let read = alone.read.iter().map(|read| read.len() as u64);
        let full = alone.mib.drops(DropReason::SocketRcvbuff);
        seen.iter_mut().zip(read.chain([full])).for_each(|(all, these)| *all += these);
        digest
    };
    let digest = (0..8).map(&mut compare).collect();
    assert!(seen.iter().all(|count| *count > 20), "every socket's, and what one had no room for");
    digest
}

/// A message of a random kind.
struct Message {
    to: Option<[u8; 16]>,
    data: Vec<u8>,
    control: Vec<u8>,
}

impl Message {
    fn with<'a>(&'a self, iov: &'a [IoSlice<'a>]) -> MsgSend<'a> {
        let name = self.to.as_ref().map(|to| &to[..]);
        MsgSend { iov, name, control: &self.control, flags: 0 }
    }
}

fn messages(rng: &mut Pcg64) -> Vec<Message> {
    let mut all = Vec::new();
    while all.len() < 80 {
        let to = match rng.random_range(0..9) {
            0..3 => Some(addr(frame::PEER, 9)),
            3 => Some(addr(frame::PEER, 10)),
            4 => Some(addr(LOCAL, 7)),
            5 => Some(addr(Ipv4Addr::new(192, 0, 2, 255), 9)),
            6 => Some(addr(Ipv4Addr::new(203, 0, 113, 1), 9)),
            7 => Some(addr(frame::PEER, 0)),
            _ => None,
        };
        let len = if rng.random_bool(0.1) { 1473 } else { rng.random_range(0..400) };
        let mut control = [0; 24];
        let ttl = rng.random_range(1..5_i32).to_ne_bytes();
        CmsgWriter::new(&mut control).put(SOL_IP, IP_TTL, &ttl);
        let with_control = rng.random_bool(0.2);
        for _ in 0..rng.random_range(1..20) {
            let data = vec![all.len() as u8; len];
            let control = if with_control { control.to_vec() } else { Vec::new() };
            all.push(Message { to, data, control });
        }
    }
    all
}

/// What became of messages.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    results: Vec<Result<usize, Errno>>,
    frames: Vec<Vec<u8>>,
    /// By the machine itself.
    read: Vec<Vec<u8>>,
    mib: NetMib,
}

fn sent(seed: u64, together: bool) -> (Sent, Digest) {
    let mut lone = Lone::new();
    let socket = udp(&mut lone.cx, LOCAL, 4000);
    let server = udp(&mut lone.cx, LOCAL, 7);
    let set = |lone: &mut Lone, name, value: i32| {
        sys_setsockopt(&mut lone.cx, socket, SOL_SOCKET, name, &value.to_ne_bytes()).expect("set");
    };
    set(&mut lone, SO_BROADCAST, 1);
    let never_cut = IP_PMTUDISC_DO.to_ne_bytes();
    sys_setsockopt(&mut lone.cx, socket, SOL_IP, IP_MTU_DISCOVER, &never_cut).expect("set");
    let mut rng = Pcg64::seed_from_u64(seed);
    if seed.is_multiple_of(2) {
        // Room for a few at a time: the rest waits for those.
        set(&mut lone, SO_SNDBUF, 2304);
    }
    if seed % 3 == 1 {
        // Who asks for errors is told of each drop: then each goes alone.
        sys_setsockopt(&mut lone.cx, socket, SOL_IP, IP_RECVERR, &[1, 0, 0, 0]).expect("set");
    }
    if seed % 3 == 2 {
        nf_register_hook(&mut lone.cx, NfInetHook::PostRouting, 0, Arc::new(Meddler));
    }
    lone.world.watch(None);
    let (mut results, mut read) = (Vec::new(), Vec::new());
    for _ in 0..4 {
        let messages = messages(&mut rng);
        let iovs: Vec<_> = messages.iter().map(|msg| [IoSlice::new(&msg.data)]).collect();
        let msgs: Vec<_> = messages.iter().zip(&iovs).map(|(msg, iov)| msg.with(iov)).collect();
        let mut left = &msgs[..];
        while let [first, rest @ ..] = left {
            if !together {
                results.push(lone.run(sys_sendmsg(socket, *first)));
                left = rest;
                continue;
            }
            match lone.run(sys_sendmmsg(socket, left, 0)) {
                Ok(count) => {
                    results.extend(left[..count].iter().map(|msg| Ok(msg.iov[0].len())));
                    left = &left[count..];
                }
                Err(error) => {
                    results.push(Err(error));
                    left = rest;
                }
            }
        }
        lone.world.settle();
        read.extend(lone.recv_all(server));
    }
    let sent = Sent { results, frames: lone.dev.sent(), read, mib: lone.machine.mib() };
    (sent, lone.end())
}

stepped!(messages_that_are_sent_together_fare_as_one_by_one);
fn messages_that_are_sent_together_fare_as_one_by_one() -> Digest {
    let mut errors = vec![Errno::EMSGSIZE, Errno::ENETUNREACH, Errno::EINVAL, Errno::EDESTADDRREQ];
    let compare = |seed| {
        let (alone, _) = sent(seed, false);
        let (together, digest) = sent(seed, true);
        assert_eq!(together.results, alone.results, "seed {seed}");
        assert_eq!(together.read, alone.read, "seed {seed}");
        for (n, (one, other)) in together.frames.iter().zip(&alone.frames).enumerate() {
            assert_eq!(one, other, "frame {n}, seed {seed}");
        }
        assert_eq!(together.frames.len(), alone.frames.len(), "seed {seed}");
        if seed % 3 != 2 {
            // A message that a hook dropped behind others of its call is met again by the next.
            assert_eq!(together.mib, alone.mib, "seed {seed}");
        }
        assert!(alone.frames.len() > 50 && alone.read.len() > 5);
        errors.retain(|error| !alone.results.contains(&Err(*error)));
        digest
    };
    let digest = (0..6).map(compare).collect();
    assert_eq!(errors, [], "each was among them");
    digest
}

stepped!(a_call_reads_more_than_one_lock_gives);
fn a_call_reads_more_than_one_lock_gives() -> Digest {
    let mut lone = Lone::new();
    let socket = udp(&mut lone.cx, LOCAL, 7);
    lone.world.watch(None);
    let packet = |n: u8| frame::udp((frame::PEER, 5000), (LOCAL, 7), &[n; 20]);
    lone.dev.deliver((0..150).map(|n| frame::ether(TestDev::MAC, 0x0800, &packet(n))));
    lone.world.settle();
    let mut buffers = vec![[0_u8; 32]; 200];
    let mut iovs: Vec<_> = buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
    let mut rooms: Vec<_> = iovs.iter_mut().map(|iov| MsgRecv::new(iov, &mut [])).collect();
    let op = sys_recvmmsg(socket, &mut rooms, MSG_DONTWAIT, None);
    assert_eq!(lone.run(op), Ok(150), "all there is, and no waiting for more");
    assert!(rooms[..150].iter().all(|room| room.received.len == 20));
    assert!(rooms[150..].iter().all(|room| room.received.name == MsgName::None), "untouched");
    drop(rooms);
    assert!((0..150).all(|n| buffers[n] == [[n as u8; 20].as_slice(), &[0; 12]].concat()[..]));
    let mut rooms = [];
    let none = lone.run(sys_recvmmsg(socket, &mut rooms, MSG_DONTWAIT, None));
    assert_eq!(none, Ok(0), "no room, nothing asked");
    lone.end()
}
