//! For tests: network namespaces of their own, and what they need of the machine.
//!
//! Contexts: test threads. Invariant: nothing outside the namespaces made here is changed.

use crate::netns::{self, on_own_thread};
use rustix::fs::{FileType, Mode, makedev, mknodat};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Gid, Resource, Rlimit, Uid, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, UnshareFlags};
use std::ffi::CStr;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::{env, fs};
use uapi::if_tun::TUN_PATH;

/// What a test may need beyond a bare machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// The rights to make namespaces and configure devices in them.
    Root,
    /// A program, found through `PATH`.
    Tool(&'static str),
    /// `/dev/net/tun`, open to us.
    DevNetTun,
    /// QEMU for x86-64.
    Qemu,
    /// 4,096 open files; the limit of this process is raised to that, if it may be.
    OpenFiles,
}

/// Whether the machine has it. If not: prints `skipped: needs …`, and the test is to return.
///
/// # Panics
/// If not, where `NETKEEL_REQUIRE_ALL=1` says that nothing may be skipped.
#[must_use]
pub fn need(needed: Need) -> bool {
    if has(needed) {
        return true;
    }
    let what = match needed {
        Need::Root => "root",
        Need::Tool(name) => name,
        Need::DevNetTun => TUN_PATH,
        Need::Qemu => QEMU,
        Need::OpenFiles => "4096 open files (ulimit -n)",
    };
    assert!(
        env::var_os("NETKEEL_REQUIRE_ALL").is_none_or(|v| v != "1"),
        "needs {what}, and NETKEEL_REQUIRE_ALL=1 forbids to skip"
    );
    println!("skipped: needs {what}");
    false
}

const QEMU: &str = "qemu-system-x86_64";

fn has(needed: Need) -> bool {
    match needed {
        Need::Root => rustix::thread::capabilities(None).is_ok_and(|c| {
            c.effective.contains(CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN)
        }),
        Need::Tool(name) => {
            let path = env::var_os("PATH").unwrap_or_default();
            env::split_paths(&path).any(|folder| folder.join(name).is_file())
        }
        Need::DevNetTun => fs::File::options().read(true).write(true).open(TUN_PATH).is_ok(),
        Need::Qemu => has(Need::Tool(QEMU)),
        Need::OpenFiles => {
            let wanted = Some(4096);
            // None is no limit at all.
            let enough = |limit: Option<u64>| limit.is_none() || limit >= wanted;
            let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
            let raised = Rlimit { current: wanted, maximum };
            enough(current) || enough(maximum) && setrlimit(Resource::Nofile, raised).is_ok()
        }
    }
}

/// Receives on a socket of the host that has a time-out. The end of a program that another test has started may
/// interrupt it: with a time-out set the kernel does not start over.
///
/// # Errors
/// As [`UdpSocket::recv_from`], but for [`io::ErrorKind::Interrupted`].
pub fn recv_from(socket: &UdpSocket, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    loop {
        match socket.recv_from(buf) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            received => return received,
        }
    }
}

/// The same, without the sender.
///
/// # Errors
/// As [`recv_from`].
pub fn recv(socket: &UdpSocket, buf: &mut [u8]) -> io::Result<usize> {
    recv_from(socket, buf).map(|(len, _)| len)
}

/// What a namespace is to find at `/dev/net/tun`.
#[derive(Clone, Copy, Debug)]
pub enum TunNode {
    /// Nothing.
    Missing,
    /// The driver, with these permissions.
    Mode(u32),
}

/// A network namespace with a mount namespace of its own, seen from the thread that lives in it.
/// Threads and programs started by that thread live in it too. It goes with the last of them.
#[derive(Debug)]
pub struct NetNs(netns::NetNs);

/// Runs `f` on a thread in a fresh network namespace, whose only device is `lo`, and up; needs
/// [`Need::Root`].
///
/// # Panics
/// As `f` does, or when the namespace can't be made.
pub fn in_fresh_netns<R: Send>(f: impl FnOnce(&NetNs) -> R + Send) -> R {
    on_own_thread(|| f(&NetNs::enter()))
}

impl NetNs {
    /// The calling thread never returns from it, so it has to be one made for this.
    fn enter() -> Self {
        let here = netns::NetNs::enter(UnshareFlags::NEWNET | UnshareFlags::NEWNS)
            .expect("namespaces: needs root");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).expect("private mounts");
        // A sysfs shows the network namespace it was mounted in.
        let none: Option<&CStr> = None;
        mount("sysfs", "/sys", "sysfs", MountFlags::empty(), none).expect("own /sys");
        // Sockets that programs put there are this namespace's own.
        mount("tmpfs", "/run", "tmpfs", MountFlags::empty(), none).expect("own /run");
        Self(here)
    }

    /// Runs the `ip` command with these words.
    ///
    /// # Panics
    /// When it fails, with what it said.
    pub fn ip(&self, words: &str) {
        self.0.ip(words).expect("ip");
    }

    /// Sends a frame out of a device of the namespace as it stands, 14 octets at least.
    ///
    /// # Panics
    /// When there is no such device, or it is down.
    pub fn send_frame(&self, dev: &str, frame: &[u8]) {
        let index = fs::read_to_string(format!("/sys/class/net/{dev}/ifindex")).expect("device");
        let family = libc::AF_PACKET;
        // SAFETY: a call without pointers; the descriptor it returns is nobody else's.
        let socket = unsafe {
            let fd = libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            assert!(fd >= 0, "packet socket: {}", io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        let to = libc::sockaddr_ll {
            sll_family: family as u16,
            sll_protocol: 0,
            sll_ifindex: index.trim().parse().expect("a number"),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        // SAFETY: the frame is readable for its length, the address is a sockaddr_ll of the length
        // given; both outlive the call.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                std::ptr::from_ref(&to).cast(),
                size_of_val(&to) as libc::socklen_t,
            )
        };
        assert_eq!(sent, frame.len() as isize, "{dev}: {}", io::Error::last_os_error());
    }

    /// Puts a node of our own in the place of `/dev/net/tun`, here only.
    ///
    /// # Panics
    /// When it can't be made.
    pub fn tun_node(&self, node: TunNode) {
        let none: Option<&CStr> = None;
        mount("tmpfs", "/dev/net", "tmpfs", MountFlags::empty(), none).expect("own /dev/net");
        if let TunNode::Mode(mode) = node {
            let made = makedev(10, 200);
            mknodat(rustix::fs::CWD, TUN_PATH, FileType::CharacterDevice, Mode::empty(), made)
                .expect("node");
            // Not by mknod: the umask would take its part.
            rustix::fs::chmod(TUN_PATH, Mode::from_raw_mode(mode)).expect("mode of the node");
        }
    }

    /// Runs `f` on another thread here, as a user without any rights: number 65534.
    ///
    /// # Panics
    /// As `f` does.
    pub fn as_nobody<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        on_own_thread(|| {
            let (uid, gid) = (Uid::from_raw(65534), Gid::from_raw(65534));
            // Of this thread alone, which ends with `f`; the group first, while we may.
            rustix::thread::set_thread_groups(&[]).expect("no groups");
            rustix::thread::set_thread_res_gid(gid, gid, gid).expect("group");
            rustix::thread::set_thread_res_uid(uid, uid, uid).expect("user");
            f()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_missing_tool_is_told() {
        assert!(has(Need::Tool("sh")));
        assert!(!has(Need::Tool("no-such-tool-anywhere")));
    }

    #[test]
    fn a_namespace_is_fresh_and_its_loopback_up() {
        if !need(Need::Root) {
            return;
        }
        in_fresh_netns(|_| {
            let names: Vec<_> = fs::read_dir("/sys/class/net").unwrap().collect();
            assert_eq!(names.len(), 1);
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 1);
        });
    }

    #[test]
    fn the_thread_outside_keeps_its_namespace_and_rights() {
        if !need(Need::Root) {
            return;
        }
        let net = || fs::read_link("/proc/thread-self/ns/net").unwrap();
        let outside = net();
        let inside = in_fresh_netns(|ns| {
            let denied = ns.as_nobody(|| fs::File::open("/proc/1/environ").map(drop));
            assert_eq!(denied.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            assert!(has(Need::Root), "this thread's rights are as before");
            net()
        });
        assert_ne!(inside, outside);
        assert_eq!(net(), outside);
    }
}
