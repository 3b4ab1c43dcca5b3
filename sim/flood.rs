//! SYNs from ever new addresses and ports, and a machine in memory that answers each with a cookie.
//!
//! Like the phases of a stream those here are functions that are never inlined, for an instrument to find by name.
//! Key types: [`Syns`], the frames; [`Flooded`], the machine; [`Kept`], what it remembers. Contexts: the calling
//! thread. A step that does not succeed panics: it is there to be measured.

use crate::bare::{Device, Host, mac, ready};
use drivers::net::wire_port::{FrameBatch, FrameMeta, WirePort};
use hw::wire::Wire;
use klib::checksum::{csum_partial, csum_tcpudp_magic, ip_fast_csum};
use stack::fs::sys_close;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::net::core::sysctl::update_sysctls;
use stack::net::ipv4::fib::{FibInfo, fib_new_route};
use stack::net::socket::{sys_accept4, sys_bind, sys_listen, sys_setsockopt, sys_socket};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::sync::Arc;
use uapi::in_::SockaddrIn;
use uapi::ip::IPPROTO_TCP;
use uapi::snmp::LinuxMib;
use uapi::socket::{AF_INET, SO_LINGER, SOCK_NONBLOCK, SOCK_STREAM, SOL_SOCKET};
use uapi::tcp::{TCPHDR_ACK, TCPHDR_SYN};

/// Frames of a round: what a poll takes off the wire.
pub const BATCH: usize = 64;
/// Whom the machine asks the way back.
const ROUTER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const LISTENER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const PORT: u16 = 80;
/// Where the SYNs say they come from, 2^17 addresses (RFC 2544), and from which port on.
const SOURCES: u32 = Ipv4Addr::new(198, 18, 0, 0).to_bits();
const SOURCE_BITS: u32 = 17;
const FIRST_PORT: u32 = 1024;

const IP: usize = 14;
const TCP: usize = IP + 20;
/// Maximum segment size, SACK, timestamps, window scale: those of a SYN of Linux.
const OPTIONS: [u8; 20] = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
/// Octets of a SYN's frame, and of its answer's.
pub const SYN_LEN: usize = TCP + 20 + OPTIONS.len();
/// Of an acknowledgement with timestamps.
const ACK_LEN: usize = TCP + 32;

/// SYNs for one listener, none like another: 8 billion addresses with ports.
#[derive(Clone, Debug)]
pub struct Syns {
    frame: [u8; SYN_LEN],
    next: u32,
}

fn put<const N: usize>(frame: &mut [u8], at: usize, octets: [u8; N]) {
    frame[at..at + N].copy_from_slice(&octets);
}

fn word(frame: &[u8], at: usize) -> u32 {
    frame[at..at + 4].iter().fold(0, |word, octet| word << 8 | u32::from(*octet))
}

/// Writes both sums of a frame.
fn sum(frame: &mut [u8]) {
    put(frame, IP + 10, [0; 2]);
    put(frame, TCP + 16, [0; 2]);
    let sum = ip_fast_csum(&frame[IP..TCP]);
    put(frame, IP + 10, sum.to_be_bytes());
    let len = (frame.len() - TCP) as u32;
    let (from, to) = (word(frame, IP + 12), word(frame, IP + 16));
    let sum = csum_partial(&frame[TCP..], 0);
    let sum = csum_tcpudp_magic(from, to, len, IPPROTO_TCP, sum);
    put(frame, TCP + 16, sum.to_be_bytes());
}

/// The headers of a frame without its addresses, so long in all.
fn headers(frame: &mut [u8], flags: u8) {
    let len = frame.len();
    put(frame, 12, [8, 0, 0x45, 0]);
    put(frame, IP + 2, ((len - IP) as u16).to_be_bytes());
    // Don't fragment; 64 hops.
    put(frame, IP + 6, [0x40, 0, 64, IPPROTO_TCP]);
    put(frame, TCP + 12, [(((len - TCP) / 4) << 4) as u8, flags, 0xff, 0xff]);
}

impl Syns {
    /// From a link address to another, for a listener there.
    #[must_use]
    pub fn new([from, to]: [[u8; 6]; 2], (addr, port): (Ipv4Addr, u16)) -> Self {
        let mut frame = [0; SYN_LEN];
        put(&mut frame, 0, to);
        put(&mut frame, 6, from);
        headers(&mut frame, TCPHDR_SYN);
        put(&mut frame, IP + 16, addr.octets());
        put(&mut frame, TCP + 2, port.to_be_bytes());
        put(&mut frame, TCP + 20, OPTIONS);
        Self { frame, next: 0 }
    }

    /// The next one.
    pub fn next_frame(&mut self) -> &[u8; SYN_LEN] {
        let nth = self.next;
        self.next = nth.wrapping_add(1);
        let source = SOURCES | nth & ((1 << SOURCE_BITS) - 1);
        let port = FIRST_PORT + (nth >> SOURCE_BITS) % (0x1_0000 - FIRST_PORT);
        put(&mut self.frame, IP + 12, source.to_be_bytes());
        put(&mut self.frame, TCP, (port as u16).to_be_bytes());
        put(&mut self.frame, TCP + 4, nth.wrapping_mul(2_654_435_761).to_be_bytes());
        sum(&mut self.frame);
        &self.frame
    }
}

/// The acknowledgement of a SYN-ACK with timestamps, so much off what it should acknowledge; `None` if the frame is
/// no such answer.
#[must_use]
pub fn ack_of(answer: &[u8], off: u32) -> Option<[u8; ACK_LEN]> {
    let flags = TCPHDR_SYN | TCPHDR_ACK;
    if answer.len() != SYN_LEN || answer[TCP + 13] & flags != flags {
        return None;
    }
    let mut frame = [0; ACK_LEN];
    headers(&mut frame, TCPHDR_ACK);
    for (at, from, len) in [
        (0, 6, 6),
        (6, 0, 6),
        (IP + 12, IP + 16, 4),
        (IP + 16, IP + 12, 4),
        (TCP, TCP + 2, 2),
        (TCP + 2, TCP, 2),
        (TCP + 4, TCP + 8, 4),
    ] {
        frame[at..at + len].copy_from_slice(&answer[from..from + len]);
    }
    let acked = word(answer, TCP + 4).wrapping_add(1).wrapping_add(off);
    put(&mut frame, TCP + 8, acked.to_be_bytes());
    // Theirs and ours, turned round.
    let at = TCP + 20 + answer[TCP + 20..].windows(2).position(|pair| pair == [8, 10])?;
    put(&mut frame, TCP + 20, [1, 1, 8, 10]);
    frame[TCP + 24..TCP + 28].copy_from_slice(answer.get(at + 6..at + 10)?);
    frame[TCP + 28..TCP + 32].copy_from_slice(answer.get(at + 2..at + 6)?);
    sum(&mut frame);
    Some(frame)
}

/// A listener that answers with cookies alone (`net.ipv4.tcp_syncookies = 2`), whatever its queue.
///
/// # Panics
/// When the port is taken, or there is no memory.
pub fn listen_by_cookies(cx: &mut TaskCx, addr: Ipv4Addr, port: u16) -> i32 {
    update_sysctls(cx, |sysctl| sysctl.tcp.syncookies = 2);
    let fd = sys_socket(cx, AF_INET, SOCK_STREAM, 0).expect("a socket");
    sys_bind(cx, fd, &SockaddrIn::new(addr.into(), port).to_bytes()).expect("a free port");
    sys_listen(cx, fd, 2 * BATCH as i32).expect("it listens");
    fd
}

/// What a machine remembers of connections and those who asked for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Connections and listeners.
    pub sockets: usize,
    /// Connections and requests at one place of their table, at the most: 0 if there is none.
    pub chain: usize,
    /// Timers: each request has one.
    pub timers: usize,
    /// Octets of packets.
    pub memory: usize,
}

/// A machine with such a listener, and whoever floods it.
pub struct Flooded {
    host: Host,
    port: Arc<dyn WirePort>,
    listener: i32,
    syns: Syns,
    frames: FrameBatch,
    answers: FrameBatch,
}

impl Flooded {
    /// Booted, on a wire; warm, so that what is allocated once has been.
    #[must_use]
    pub fn new() -> Self {
        let (near, far) = Wire::pair(1024);
        let mut host = Host::new(1, Device::Wire, Arc::new(near), [LISTENER, ROUTER]);
        let way_back = FibInfo { gateway: ROUTER.into(), ..FibInfo::default() };
        fib_new_route(&mut host.task, 0, 0, way_back).expect("the router is on the link");
        let listener = listen_by_cookies(&mut host.task, LISTENER, PORT);
        let syns = Syns::new([mac(0), mac(1)], (LISTENER, PORT));
        let (frames, answers) = (FrameBatch::new(), FrameBatch::new());
        let mut flooded = Self { host, port: Arc::new(far), listener, syns, frames, answers };
        (0..8).for_each(|_| {
            flooded.connections(|_, phase| phase());
            flooded.guesses(|_, phase| phase());
        });
        flooded
    }

    fn count(&self, mib: LinuxMib) -> u64 {
        self.host.machine.mib().get(mib)
    }

    /// SYNs that were answered by a cookie; acknowledgements that carried one; such as did not.
    #[must_use]
    pub fn cookies(&self) -> [u64; 3] {
        [LinuxMib::SyncookiesSent, LinuxMib::SyncookiesRecv, LinuxMib::SyncookiesFailed]
            .map(|mib| self.count(mib))
    }

    /// What the machine remembers now.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let (machine, table) = (&self.host.machine, &self.host.machine.net().tcp.hashinfo);
        Kept {
            sockets: table.sockets(),
            chain: table.longest_chain(),
            timers: machine.timers(),
            memory: machine.packet_memory(),
        }
    }

    fn run(&self) {
        black_box(self.host.machine.run_cpu(CpuId(0)));
    }

    /// The softirq that SYNs and their answers are.
    #[inline(never)]
    fn phase_syn(&self) {
        black_box((self.host.machine.run_cpu(CpuId(0)), "syn"));
    }

    /// The softirq of acknowledgements that carry a cookie.
    #[inline(never)]
    fn phase_cookie(&self) {
        black_box((self.host.machine.run_cpu(CpuId(0)), "cookie"));
    }

    /// The softirq of those that carry none.
    #[inline(never)]
    fn phase_guess(&self) {
        black_box((self.host.machine.run_cpu(CpuId(0)), "guess"));
    }

    /// Puts the frames on the wire.
    fn send(&mut self) {
        let len = self.frames.len();
        assert_eq!(self.port.transmit(&mut self.frames), len, "the wire has room");
        self.frames.clear();
    }

    /// Takes what the machine said off the wire; how much that was.
    fn hear(&mut self) -> usize {
        self.answers.clear();
        while self.port.receive(BATCH, &mut self.answers) != 0 {}
        self.answers.len()
    }

    /// A round of SYNs, each answered. `around` is handed what does it.
    pub fn syns(&mut self, around: impl FnOnce(&Self, &dyn Fn())) {
        for _ in 0..BATCH {
            self.frames.push(self.syns.next_frame(), FrameMeta::default());
        }
        self.send();
        around(self, &|| self.phase_syn());
        assert_eq!(self.hear(), BATCH, "each SYN is answered");
    }

    /// A round of acknowledgements for SYNs that come before.
    fn acks(&mut self, off: u32) {
        self.syns(|flooded, _| flooded.run());
        let answers = std::mem::take(&mut self.answers);
        for (answer, _) in answers.iter() {
            let ack = ack_of(answer, off).expect("a SYN-ACK with timestamps");
            self.frames.push(&ack, FrameMeta::default());
        }
        self.answers = answers;
        self.send();
    }

    /// A round of connections by cookies, and their end. `around` is handed what makes them.
    pub fn connections(&mut self, around: impl FnOnce(&Self, &dyn Fn())) {
        self.acks(0);
        around(self, &|| self.phase_cookie());
        let cx = &mut self.host.task;
        for _ in 0..BATCH {
            let (fd, _) =
                ready(cx, sys_accept4(self.listener, SOCK_NONBLOCK)).expect("a connection");
            // On, for no time: it ends in a reset, and nothing of it stays.
            let linger = [1_i32, 0].map(i32::to_ne_bytes).concat();
            sys_setsockopt(cx, fd, SOL_SOCKET, SO_LINGER, &linger).expect("a known option");
            sys_close(cx, fd).expect("open");
        }
        assert_eq!(self.hear(), BATCH, "each is reset");
    }

    /// A round of acknowledgements that carry no cookie: each is off by more than what a segment's size may be.
    /// `around` is handed what refuses them.
    pub fn guesses(&mut self, around: impl FnOnce(&Self, &dyn Fn())) {
        self.acks(1 << 20);
        around(self, &|| self.phase_guess());
        assert_eq!(self.hear(), BATCH, "each is answered by a reset");
    }
}

impl Default for Flooded {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Flooded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flooded").field("kept", &self.kept()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_syn_is_like_another() {
        let mut syns = Syns::new([mac(0), mac(1)], (LISTENER, PORT));
        let mut seen = BTreeSet::new();
        for nth in 0..1000 {
            syns.next = nth << 12;
            let frame = syns.next_frame();
            assert!(seen.insert((word(frame, IP + 12), word(frame, TCP))), "{nth}");
            assert_eq!(csum_partial(&frame[IP..TCP], 0) % 0xffff, 0);
        }
    }

    #[test]
    fn of_a_syn_nothing_is_kept() {
        let mut flooded = Flooded::new();
        let (kept, before) = (flooded.kept(), flooded.cookies());
        assert_eq!((kept.sockets, kept.chain), (1, 0), "the listener alone");
        for _ in 0..100 {
            flooded.syns(|_, phase| phase());
            assert_eq!(flooded.kept(), kept);
        }
        flooded.guesses(|_, phase| phase());
        assert_eq!(flooded.kept(), kept);
        flooded.connections(|flooded, phase| {
            phase();
            assert_eq!(flooded.kept().sockets, 1 + BATCH);
        });
        assert_eq!(flooded.kept().sockets, 1);
        let after = flooded.cookies();
        let counts = [0, 1, 2].map(|nth| after[nth] - before[nth]);
        assert_eq!(counts, [102, 1, 1].map(|rounds| rounds * BATCH as u64));
    }
}
