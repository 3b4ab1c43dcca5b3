//! The small services of `--echo`: echo (RFC 862), discard (RFC 863), character generator
//! (RFC 864), each a socket of the stack on UDP and one on TCP (`streams`).
//!
//! Contexts: a task each; echo has one on every CPU, with a socket that takes what arrives there
//! (`SO_INCOMING_CPU`), so that no datagram changes its CPU. Differences from the RFCs: a datagram from the port of such a service is
//! not answered, for two of them would keep each other talking for ever; inetd does the same.

mod streams;

use super::UpError;
use host::{Runtime, block_on, entropy};
use klib::random::Csprng;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::net::socket::{sys_bind, sys_recvfrom, sys_sendto, sys_setsockopt, sys_socket};
use std::sync::mpsc::{self, Receiver};
use streams::Service;
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, SO_INCOMING_CPU, SO_REUSEPORT, SOCK_DGRAM, SOL_SOCKET, Sockaddr};

const ECHO: u16 = 7;
const DISCARD: u16 = 9;
const CHARGEN: u16 = 19;

/// Services that answer whatever comes: echo, daytime, quotd, chargen, time.
const ANSWERING: [u16; 5] = [ECHO, 13, 17, CHARGEN, 37];

/// What a service sends back, in the buffer that holds the request of this length; `None`:
/// nothing.
type Answer = Box<dyn FnMut(&mut [u8], usize) -> Option<usize> + Send>;

/// Starts the three on UDP, echo on every CPU there is, the others one after the other; then the three on
/// TCP. On return their ports are bound.
pub(super) fn start(runtime: &mut Runtime) -> Result<(), UpError> {
    let cpus: Vec<CpuId> = runtime.machine().cpu_ids().collect();
    let at = |n: usize| cpus[n % cpus.len()];
    for cpu in &cpus {
        let (cpu, own) = (*cpu, (cpus.len() > 1).then_some(*cpu));
        spawn(runtime, ("echo", ECHO), (cpu, own), Box::new(|_, len| Some(len)))?;
    }
    spawn(runtime, ("discard", DISCARD), (at(1), None), Box::new(|_, _| None))?;
    let mut generator = Generator::new(Csprng::from_seed(entropy::seed()?));
    let chargen: Answer = Box::new(move |buf, _| Some(generator.fill(buf)));
    spawn(runtime, ("chargen", CHARGEN), (at(2), None), chargen)?;
    let streams = [
        ("echo", ECHO, Service::Echo),
        ("discard", DISCARD, Service::Discard),
        ("chargen", CHARGEN, Service::Chargen),
    ];
    for (n, (name, port, service)) in streams.into_iter().enumerate() {
        streams::spawn(runtime, (name, port), at(n), service)?;
    }
    Ok(())
}

/// A service says whether it has its port.
fn bound(
    said: &Receiver<Result<(), Errno>>,
    proto: &'static str,
    (service, port): (&'static str, u16),
) -> Result<(), UpError> {
    let said = said.recv().unwrap_or(Err(Errno::EINTR));
    said.map_err(|errno| UpError::Port { proto, service, port, errno })
}

/// Starts one on a CPU; `own`: it shares the port with its like on other CPUs, and takes what arrived on
/// this one.
fn spawn(
    runtime: &mut Runtime,
    (name, port): (&'static str, u16),
    (cpu, own): (CpuId, Option<CpuId>),
    answer: Answer,
) -> Result<(), UpError> {
    let (ready, said) = mpsc::channel();
    runtime.spawn(name, cpu, move |cx| match bind(cx, port, own) {
        Ok(fd) => {
            // The receiver waits below for exactly this.
            let _ = ready.send(Ok(()));
            drop(ready);
            serve(cx, fd, answer);
        }
        Err(errno) => {
            let _ = ready.send(Err(errno));
        }
    })?;
    bound(&said, "UDP", (name, port))
}

fn bind(cx: &mut TaskCx, port: u16, own: Option<CpuId>) -> Result<i32, Errno> {
    let fd = sys_socket(cx, AF_INET, SOCK_DGRAM, 0)?;
    if let Some(cpu) = own {
        let set = |cx: &mut TaskCx, name, value: i32| {
            sys_setsockopt(cx, fd, SOL_SOCKET, name, &value.to_ne_bytes())
        };
        set(cx, SO_REUSEPORT, 1)?;
        set(cx, SO_INCOMING_CPU, cpu.0.into())?;
    }
    sys_bind(cx, fd, &SockaddrIn::new(0, port).to_bytes())?;
    Ok(fd)
}

/// Answers until interrupted.
fn serve(cx: &mut TaskCx, fd: i32, mut answer: Answer) {
    // The largest datagram there is.
    let mut buf = vec![0; usize::from(u16::MAX)];
    loop {
        let received = block_on(cx, &mut sys_recvfrom(fd, &mut buf, 0));
        let (len, from) = match received {
            Ok((len, Some(Sockaddr::In(from)))) => (len, from),
            Ok((_, _)) => continue,
            Err(Errno::EINTR | Errno::EBADF) => return,
            // An error that an earlier answer ran into; it is told once.
            Err(_) => continue,
        };
        if ANSWERING.contains(&from.port) {
            continue;
        }
        let Some(len) = answer(&mut buf, len) else { continue };
        // An answer that can't be sent is lost, as datagrams may be.
        let sent = block_on(cx, &mut sys_sendto(fd, &buf[..len], 0, Some(&from.to_bytes())));
        if sent == Err(Errno::EINTR) {
            return;
        }
    }
}

/// Characters of a line, without its end.
const LINE: u64 = 72;
/// Characters that print.
const CHARS: u64 = 95;

/// RFC 864's popular pattern from octet `start` on: 72 of the 95 printing characters a line, each line one
/// further.
fn pattern(buf: &mut [u8], start: u64) {
    for (at, to) in (start..).zip(buf) {
        let (line, column) = (at / (LINE + 2), at % (LINE + 2));
        *to = match column.checked_sub(LINE) {
            None => b' ' + ((line + column) % CHARS) as u8,
            Some(0) => b'\r',
            Some(_) => b'\n',
        };
    }
}

/// Datagrams of the pattern, each of a chance length.
struct Generator {
    rng: Csprng,
    line: u64,
}

impl Generator {
    /// "a random number (between 0 and 512) of characters".
    const MOST: u32 = 512;

    fn new(rng: Csprng) -> Self {
        Self { rng, line: 0 }
    }

    fn fill(&mut self, buf: &mut [u8]) -> usize {
        let len = self.rng.below(Self::MOST + 1) as usize;
        pattern(&mut buf[..len], self.line * (LINE + 2));
        self.line = (self.line + 1) % CHARS;
        len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_named_with_its_service_and_the_remedy() {
        let mut runtime = Runtime::builder().boot().expect("a machine");
        start(&mut runtime).expect("nobody has the ports yet");
        let error = start(&mut runtime).expect_err("now somebody has").to_string();
        assert!(error.starts_with("UDP port 7 (echo) of the stack: EADDRINUSE"), "{error}");
        assert!(error.contains("--echo") && !error.contains('\n'), "{error}");
        runtime.shutdown().expect("its tasks end");
    }

    #[test]
    fn the_pattern_goes_on_where_it_was() {
        let (mut whole, mut parts) = ([0; 7400], [0; 7400]);
        pattern(&mut whole, 0);
        let (first, second) = parts.split_at_mut(1000);
        pattern(first, 0);
        pattern(second, 1000);
        assert_eq!(whole, parts);
        assert!(whole.starts_with(b" !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFG"));
        assert_eq!(&whole[72..78], b"\r\n!\"#$");
        // The first character comes after the last.
        assert_eq!(&whole[74 * 94..74 * 94 + 3], b"~ !");
    }

    #[test]
    fn the_generator_prints_lines_of_72_and_stays_within_512() {
        let mut generator = Generator::new(Csprng::from_seed([1; 32]));
        let mut buf = [0; 600];
        let mut longest = 0;
        for _ in 0..500 {
            let len = generator.fill(&mut buf);
            longest = longest.max(len);
            for line in buf[..len].split_inclusive(|c| *c == b'\n').filter(|line| line.len() == 74)
            {
                assert!(line.ends_with(b"\r\n"));
                assert!(line[..72].iter().all(|c| (b' '..=b'~').contains(c)));
                assert!(line[..72].windows(2).all(|two| two[1] == two[0] + 1 || two[1] == b' '));
            }
        }
        assert!((500..=512).contains(&longest), "{longest}");
    }
}
