//! The host kernel: a TUN device in a network namespace of its own, real time.
//!
//! Key type: [`Kernel`], made by [`on_kernel`]. Parts: `device` (the TUN, and a packet socket that sees
//! what leaves with the kernel's own time), `calls` (the system calls, on a thread that may sleep).
//! Contexts: a thread in a namespace made for it. Needs root.
//! Invariant: nothing outside the namespace is changed; a call that sleeps when the script ends is
//! interrupted, and its thread joined.

#![allow(unsafe_code)]

mod calls;
mod device;

use crate::backend::{Backend, Call, Config, Done, Sent};
use crate::parse::script::Us;
use calls::Caller;
use device::Device;
use host::netns::in_own_netns;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The host kernel as a script sees it.
#[derive(Debug)]
pub struct Kernel {
    device: Device,
    caller: Caller,
}

/// Runs `f` on the host kernel, in a fresh namespace with a TUN device `tun0`.
///
/// # Errors
/// That the namespace or the device can't be made, with the way out.
pub fn on_kernel<R: Send>(
    config: &Config,
    f: impl FnOnce(&mut Kernel) -> R + Send,
) -> Result<R, String> {
    let run = |ns: &host::netns::NetNs| {
        set_priority();
        let device = Device::open(config, |words| ns.ip(words).map_err(|error| error.to_string()))?;
        let caller = Caller::start()?;
        let mut kernel = Kernel { device, caller };
        Ok(f(&mut kernel))
    };
    let needs = |error| {
        format!("no network namespace: {error}; the kernel backend needs root: run it with sudo")
    };
    in_own_netns(run).map_err(needs)?
}

/// Script time is real time: whoever waits for it comes before the machine's other work. Where that
/// is not allowed, the tolerance has to do.
fn set_priority() {
    let param = libc::sched_param { sched_priority: 1 };
    // SAFETY: the structure is read during the call; thread 0 is the caller.
    let _refused = unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &raw const param) };
}

/// The real-time clock: what the kernel stamps packets with.
pub(crate) fn now_us() -> Us {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is written during the call.
    let _always_there = unsafe { libc::clock_gettime(libc::CLOCK_REALTIME, &raw mut time) };
    time.tv_sec * 1_000_000 + time.tv_nsec / 1_000
}

/// The last part of a wait is spent looking at the clock: sleeping ends late by about so much.
const SPIN: Us = 150;

fn sleep_until(at: Us) {
    let left = at - now_us() - SPIN;
    if left > 0 {
        std::thread::sleep(Duration::from_micros(left as u64));
    }
    while now_us() < at {
        std::hint::spin_loop();
    }
}

/// The defaults that scripts share ask for cubic and do not look whether they got it.
fn congestion_control(command: &str) -> Result<(), String> {
    const PLACE: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
    if !command.contains("defaults.sh") {
        return Ok(());
    }
    let found = std::fs::read_to_string(PLACE).map_err(|error| format!("{PLACE}: {error}"))?;
    if found.trim() == "cubic" {
        return Ok(());
    }
    Err(format!(
        "{command}: congestion control is still {}: load cubic and allow it outside (sudo sysctl -w \
         net.ipv4.tcp_allowed_congestion_control=\"reno cubic\")",
        found.trim()
    ))
}

/// A command in a script's folder. It has none of this process's descriptors: a socket that another
/// script closes meanwhile would not be closed before the command ends.
fn shell(command: &str, dir: &Path) -> Command {
    let mut shell = Command::new("bash");
    shell.arg("-c").arg(command).current_dir(dir).stdin(Stdio::null());
    // The parent's number, which `${PPID}` means, is that of this process.
    shell.env("PACKETDRILL_PID", std::process::id().to_string());
    let close_all = || {
        // SAFETY: no pointers. Linux before 5.11 refuses, and leaves them open.
        unsafe { libc::close_range(3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC as i32) };
        Ok(())
    };
    // SAFETY: between fork and exec it makes one system call, takes no lock and no memory.
    unsafe { shell.pre_exec(close_all) };
    shell
}

impl Backend for Kernel {
    fn name(&self) -> &'static str {
        "kernel"
    }

    fn now(&mut self) -> Us {
        now_us()
    }

    fn wall_offset(&self) -> Us {
        0
    }

    fn wait_until(&mut self, at: Us) -> Result<(), String> {
        sleep_until(at);
        Ok(())
    }

    fn inject(&mut self, packet: &[u8]) -> Result<(), String> {
        self.device.inject(packet)
    }

    fn next_packet(&mut self, until: Us) -> Result<Option<Sent>, String> {
        self.device.next_packet(until)
    }

    fn start(&mut self, call: Call) -> Result<(), String> {
        self.caller.begin(call)
    }

    fn finish(&mut self, until: Us) -> Result<Option<(Done, Us)>, String> {
        self.caller.finish(until)
    }

    fn option(&mut self, fd: i32, option: (i32, i32), room: i32) -> Result<Done, String> {
        Ok(calls::getsockopt(fd, option, room))
    }

    fn command(&mut self, command: &str, dir: &Path) -> Result<(), String> {
        let output =
            shell(command, dir).output().map_err(|error| format!("bash: {error}; install it"))?;
        if output.status.success() {
            return congestion_control(command);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{command}: {}: {}", output.status, said.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_holds_no_descriptor_of_others() {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors, which nobody else knows of.
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), 0) }, 0);
        let mut child = shell("exec sleep 60", Path::new("/")).spawn().expect("bash");
        // SAFETY: the descriptor is this test's, and is not used again.
        unsafe { libc::close(ends[1]) };
        let mut poll = libc::pollfd { fd: ends[0], events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, alive during the call.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 10_000) };
        child.kill().expect("it sleeps still");
        child.wait().expect("it has ended");
        // SAFETY: as above.
        unsafe { libc::close(ends[0]) };
        assert_eq!((ready, poll.revents), (1, libc::POLLHUP), "the pipe's other end is open still");
    }
}
