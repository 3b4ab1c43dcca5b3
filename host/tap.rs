//! TAP devices: Ethernet frames to and from the host's own stack.
//!
//! linux: drivers/net/tun.c (its user side). Key types: [`Tap`], [`TapError`], [`LinkWatch`].
//! Contexts: any thread; reading and writing go on side by side.
//! Invariants: each read and each write is one frame with [`VNET_HDR_LEN`] octets of virtio-net
//! header before it, little-endian on every machine; nothing of the host is ever configured.

use crate::ifreq::{IfReq, IfRequest, IntRequest, Kind, kind, tun_set, tun_set_offload};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use uapi::if_::{IFF_UP, IFNAMSIZ};
use uapi::if_tun::{IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TAP, IFF_VNET_HDR, TUN_PATH};

pub use drivers::net::virtio_net::VNET_HDR_LEN;

/// A buffer of this size holds any frame a TAP can deliver: header, Ethernet with two VLAN tags,
/// and 64 KiB of unsegmented packet.
pub const MAX_READ: usize = VNET_HDR_LEN + 14 + 8 + 65535;

/// How many descriptors share a TAP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Queues {
    /// One.
    #[default]
    Single,
    /// Several: each [`Tap::open`] of the name adds a queue.
    Multi,
}

/// How a TAP is to be opened.
#[derive(Clone, Copy, Debug, Default)]
pub struct TapOptions {
    /// What the host may leave to us, `TUN_F_*`; 0: only finished frames of at most the MTU.
    pub offloads: u32,
    /// What it may leave to us besides if it can, all or none of it: a kernel may be too old.
    pub wished: u32,
    /// One queue or several.
    pub queues: Queues,
}

/// Why a TAP could not be opened. Its text names the cause and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// No device can have this name.
    #[error("TAP name {name:?} {why}: choose another, such as nk0")]
    BadName {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The kernel has no TUN driver, or its device node is missing.
    #[error(
        "no {TUN_PATH}: load the driver (sudo modprobe tun), or give the container the device \
         (--device {TUN_PATH})"
    )]
    NoDriver,
    /// The device node is closed to us.
    #[error(
        "no permission to open {TUN_PATH}: run as root, or have root open it to all \
         (sudo chmod 0666 {TUN_PATH}); in a container also pass --device {TUN_PATH}"
    )]
    NoAccess,
    /// There is no such TAP, and we may not create one.
    #[error(
        "no TAP {name}, and no right to create it: \
         sudo ip tuntap add dev {name} mode tap user $USER{queues}, or run as root"
    )]
    Missing {
        /// The name.
        name: String,
        /// What the command needs for several queues.
        queues: &'static str,
    },
    /// The TAP is somebody else's.
    #[error(
        "TAP {name} belongs to another user: run as that user or as root, or make it yours \
         (sudo ip tuntap del dev {name} mode tap && \
         sudo ip tuntap add dev {name} mode tap user $USER)"
    )]
    NotOwner {
        /// The name.
        name: String,
    },
    /// The name is a TUN's.
    #[error("{name} is a TUN, which carries IP packets, not Ethernet frames: choose another name")]
    IsTun {
        /// The name.
        name: String,
    },
    /// The name is that of another kind of device.
    #[error("{name} exists and is no TAP: choose another name")]
    NotTap {
        /// The name.
        name: String,
    },
    /// The TAP was made for several queues, and one was asked for.
    #[error(
        "TAP {name} was created with multi_queue: ask for several queues, or create it anew without \
         (sudo ip tuntap del dev {name} mode tap multi_queue && \
         sudo ip tuntap add dev {name} mode tap user $USER)"
    )]
    IsMultiQueue {
        /// The name.
        name: String,
    },
    /// The TAP was made for one queue, and several were asked for.
    #[error(
        "TAP {name} was created without multi_queue: ask for one queue, or create it anew \
         (sudo ip tuntap del dev {name} mode tap && \
         sudo ip tuntap add dev {name} mode tap multi_queue user $USER)"
    )]
    IsSingleQueue {
        /// The name.
        name: String,
    },
    /// Another descriptor has its only queue.
    #[error(
        "TAP {name} is in use: stop the process that has it \
         (sudo grep -l 'iff:.*{name}$' /proc/[0-9]*/fdinfo/* names it), or choose another name"
    )]
    Busy {
        /// The name.
        name: String,
    },
    /// All its queues are taken.
    #[error("TAP {name} has no queue left: use fewer")]
    NoQueue {
        /// The name.
        name: String,
    },
    /// The kernel does not know all of the offloads, or not in this combination.
    #[error(
        "TAP {name}: the kernel refuses offloads {offloads:#x}: ask for fewer (segmentation \
         needs TUN_F_CSUM, 0x1; UDP segmentation needs Linux 6.2)"
    )]
    Offloads {
        /// The name.
        name: String,
        /// What was asked for.
        offloads: u32,
    },
    /// Something else failed.
    #[error("TAP {name}: {operation}: {source}")]
    Io {
        /// The name.
        name: String,
        /// What was being done.
        operation: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// An open TAP, or one queue of it. Non-blocking, closed on exec; a TAP that is not persistent
/// goes with its last descriptor. A child that another thread is starting has a copy of it until
/// its exec: reopened within that time, the TAP may still be [`TapError::Busy`].
#[derive(Debug)]
pub struct Tap {
    file: File,
    /// Asks about the device by name. Of AF_UNIX, which no sandbox with a TAP would refuse; it
    /// stays in the network namespace the TAP was opened in, whatever thread asks.
    control: UnixDatagram,
    name: String,
    offloads: u32,
}

impl Tap {
    /// Opens the TAP called `name`, creating it where there is none and we have the right. One
    /// that exists and belongs to our user opens without root. The host side is not touched:
    /// addresses, MTU and whether it is up are its owner's business.
    ///
    /// # Errors
    /// [`TapError`].
    pub fn open(name: &str, options: TapOptions) -> Result<Self, TapError> {
        check_name(name)?;
        let io =
            |operation| move |source| TapError::Io { name: name.to_owned(), operation, source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(TUN_PATH)
            .map_err(|e| node_error(name, e))?;
        let control = UnixDatagram::unbound().map_err(io("socket"))?;
        let mut request = IfReq::new(name);
        let mut flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
        if options.queues == Queues::Multi {
            flags |= IFF_MULTI_QUEUE;
        }
        request.set_flags(flags);
        request
            .ioctl(&file, IfRequest::TunSetIff)
            .map_err(|e| attach_error(name, options.queues, kind(&control, name), e))?;
        // A persistent TAP keeps what its last user set: set everything anew.
        let size = VNET_HDR_LEN as i32;
        tun_set(&file, IntRequest::VnetHdrSz, size).map_err(io("TUNSETVNETHDRSZ"))?;
        tun_set(&file, IntRequest::VnetLe, 1).map_err(io("TUNSETVNETLE"))?;
        let offloads = set_offloads(&file, options).map_err(|e| match e.raw_os_error() {
            Some(libc::EINVAL) => {
                TapError::Offloads { name: name.to_owned(), offloads: options.offloads }
            }
            _ => io("TUNSETOFFLOAD")(e),
        })?;
        Ok(Self { file, control, name: name.to_owned(), offloads })
    }

    /// Opens `count` queues of the TAP called `name`, at least one; several need one that was created
    /// with `multi_queue`, or the right to create it so.
    ///
    /// # Errors
    /// [`TapError`]; then none is open.
    pub fn open_queues(
        name: &str,
        options: TapOptions,
        count: usize,
    ) -> Result<Vec<Self>, TapError> {
        let queues = if count > 1 { Queues::Multi } else { options.queues };
        (0..count.max(1)).map(|_| Self::open(name, TapOptions { queues, ..options })).collect()
    }

    /// Reads one frame behind its virtio-net header; the length of both, or `None` when there is
    /// none. A frame larger than `buf` is cut to it: a result of `buf.len()` may be such a one.
    ///
    /// # Errors
    /// See [`is_gone`]. A device that is down has no frames.
    pub fn read_frame(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            match (&self.file).read(buf) {
                Ok(n) => return Ok(Some(n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// The same into several buffers, one after the other.
    ///
    /// # Errors
    /// See [`is_gone`].
    pub fn read_frame_parts(&self, parts: &mut [IoSliceMut<'_>]) -> io::Result<Option<usize>> {
        loop {
            match (&self.file).read_vectored(parts) {
                Ok(n) => return Ok(Some(n)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// What the host may leave to us, `TUN_F_*`: what was asked for, and of what was wished what it knows.
    pub fn offloads(&self) -> u32 {
        self.offloads
    }

    /// Reads up to `bufs.len()` frames, one into each buffer, and notes their lengths; how many
    /// there were. Fewer than `bufs.len()` says that none is left.
    ///
    /// # Errors
    /// As [`read_frame`](Self::read_frame), if there was no frame before it.
    ///
    /// # Panics
    /// When `lens` is shorter than `bufs`.
    pub fn read_batch<B: AsMut<[u8]>>(
        &self,
        bufs: &mut [B],
        lens: &mut [usize],
    ) -> io::Result<usize> {
        assert!(lens.len() >= bufs.len(), "a length for each buffer");
        for (n, (buf, len)) in bufs.iter_mut().zip(lens).enumerate() {
            match self.read_frame(buf.as_mut()) {
                Ok(Some(read)) => *len = read,
                Ok(None) => return Ok(n),
                Err(e) if n == 0 => return Err(e),
                // It will be there at the next call, too.
                Err(_) => return Ok(n),
            }
        }
        Ok(bufs.len())
    }

    /// Writes one frame: the slices together are its virtio-net header and itself, 14 octets at
    /// least. The host has taken it, all of it, when this returns.
    ///
    /// # Errors
    /// See [`is_link_down`] and [`is_gone`]; EINVAL for a header that contradicts its frame.
    pub fn write_frame(&self, frame: &[IoSlice<'_>]) -> io::Result<()> {
        if frame.len() > IOV_MAX {
            // The rest would be cut off in silence.
            return Err(io::ErrorKind::InvalidInput.into());
        }
        loop {
            match (&self.file).write_vectored(frame) {
                Ok(_) => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Whether the host side is up. While it is not, we are a device without carrier.
    ///
    /// # Errors
    /// ENODEV when the device was deleted.
    pub fn link_up(&self) -> io::Result<bool> {
        Ok(u32::from(self.ask(IfRequest::GetFlags)?.flags()) & IFF_UP != 0)
    }

    /// The link address of the host side; ours must differ.
    ///
    /// # Errors
    /// ENODEV when the device was deleted.
    pub fn mac(&self) -> io::Result<[u8; 6]> {
        Ok(self.ask(IfRequest::GetHwAddr)?.mac())
    }

    /// The MTU of the host side.
    ///
    /// # Errors
    /// ENODEV when the device was deleted.
    pub fn mtu(&self) -> io::Result<u32> {
        Ok(self.ask(IfRequest::GetMtu)?.mtu())
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn ask(&self, what: IfRequest) -> io::Result<IfReq> {
        let mut request = IfReq::new(&self.name);
        request.ioctl(&self.control, what)?;
        Ok(request)
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Slices one write takes; Linux's UIO_MAXIOV.
const IOV_MAX: usize = 1024;

/// Whether an error of [`Tap::write_frame`] says that the host side is down.
#[must_use]
pub fn is_link_down(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// Whether an error of a [`Tap`] says that its device was deleted, for good.
#[must_use]
pub fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADFD | libc::ENODEV))
}

/// Asks for offloads; those that there are then.
fn set_offloads(file: &File, options: TapOptions) -> io::Result<u32> {
    let all = options.offloads | options.wished;
    match tun_set_offload(file, all) {
        Ok(()) => Ok(all),
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) && options.wished != 0 => {
            tun_set_offload(file, options.offloads).map(|()| options.offloads)
        }
        Err(e) => Err(e),
    }
}

/// Refuses what no device can be called, and `%`, which asks for a name of the kernel's choice.
fn check_name(name: &str) -> Result<(), TapError> {
    let foreign = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':' | '%');
    let why = if name.is_empty() {
        "is empty"
    } else if name.len() >= IFNAMSIZ {
        "is longer than 15 octets"
    } else if name == "." || name == ".." {
        "is no device name"
    } else if name.contains(foreign) {
        "has a blank, '/', ':', '%' or a control character in it"
    } else {
        return Ok(());
    };
    Err(TapError::BadName { name: name.to_owned(), why })
}

/// What a failure to open the driver's node means.
fn node_error(name: &str, source: io::Error) -> TapError {
    match source.raw_os_error() {
        // ENODEV, ENXIO: there is a node, but no driver behind it.
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TapError::NoDriver,
        // EPERM: the device filter of a container.
        Some(libc::EACCES | libc::EPERM) => TapError::NoAccess,
        _ => TapError::Io { name: name.to_owned(), operation: TUN_PATH, source },
    }
}

/// What a refusal of TUNSETIFF means, given what the name stands for.
fn attach_error(name: &str, queues: Queues, kind: Kind, source: io::Error) -> TapError {
    let name = name.to_owned();
    match (source.raw_os_error(), kind, queues) {
        (Some(libc::EPERM), Kind::Missing, _) => {
            let queues = if queues == Queues::Multi { " multi_queue" } else { "" };
            TapError::Missing { name, queues }
        }
        (Some(libc::EPERM), _, _) => TapError::NotOwner { name },
        (Some(libc::EINVAL), Kind::Tun, _) => TapError::IsTun { name },
        (Some(libc::EINVAL), Kind::Other, _) => TapError::NotTap { name },
        // A TAP all the same: only the number of queues is left to differ.
        (Some(libc::EINVAL), Kind::Tap, Queues::Single) => TapError::IsMultiQueue { name },
        (Some(libc::EINVAL), Kind::Tap, Queues::Multi) => TapError::IsSingleQueue { name },
        (Some(libc::EBUSY), _, _) => TapError::Busy { name },
        (Some(libc::E2BIG), _, _) => TapError::NoQueue { name },
        _ => TapError::Io { name, operation: "TUNSETIFF", source },
    }
}

/// Becomes readable when a device of the namespace changed, so that [`Tap::link_up`] need not be
/// asked again and again: a TAP's own descriptor says nothing of its link.
#[derive(Debug)]
pub struct LinkWatch {
    socket: OwnedFd,
}

impl LinkWatch {
    /// Watches the devices of the calling thread's network namespace; needs no rights.
    ///
    /// # Errors
    /// Where netlink sockets are refused.
    pub fn new() -> io::Result<Self> {
        const RTMGRP_LINK: u32 = 1;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        // No protocol means 0, and that is NETLINK_ROUTE.
        let protocol = None;
        let family = AddressFamily::NETLINK;
        let socket = rustix::net::socket_with(family, SocketType::RAW, flags, protocol)?;
        rustix::net::bind(&socket, &SocketAddrNetlink::new(0, RTMGRP_LINK))?;
        Ok(Self { socket })
    }

    /// Discards what is waiting: whether there was anything.
    #[must_use]
    pub fn drain(&self) -> bool {
        let mut changed = false;
        loop {
            // The messages' text does not matter, so one octet of each is enough.
            match rustix::net::recv(&self.socket, &mut [0; 1], RecvFlags::empty()) {
                // NOBUFS: so many that some were lost.
                Ok(_) | Err(rustix::io::Errno::NOBUFS) => changed = true,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return changed,
            }
        }
    }
}

impl AsFd for LinkWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
