//! The TUN device, and the socket that sees what goes out of it.

use super::now_us;
use crate::backend::{Config, Sent};
use crate::parse::script::Us;
use crate::wire::Csum;
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Write};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use uapi::if_tun::{
    IFF_NO_PI, IFF_TUN, IFF_VNET_HDR, TUN_F_CSUM, TUN_F_TSO4, TUN_PATH, TUNSETIFF, TUNSETOFFLOAD,
};

/// The virtio-net header before each packet.
const VNET: usize = 10;
/// Room for the largest packet.
const ROOM: usize = VNET + 65_536;
/// Bytes of packets that wait for the runner.
const BACKLOG: libc::c_int = 32 << 20;

/// The device.
#[derive(Debug)]
pub(super) struct Device {
    tun: File,
    sniffer: OwnedFd,
    room: Vec<u8>,
}

fn last(what: &str) -> String {
    format!("{what}: {}", Error::last_os_error())
}

impl Device {
    /// Makes `tun0`, gives it its address and routes by `ip`, and begins to watch it.
    pub(super) fn open(
        config: &Config,
        ip: impl Fn(&str) -> Result<(), String>,
    ) -> Result<Self, String> {
        let tun = open_tun()?;
        // No router solicitations among the packets.
        let quiet = std::fs::write("/proc/sys/net/ipv6/conf/tun0/disable_ipv6", "1");
        if let Err(error) = quiet
            && error.kind() != ErrorKind::NotFound
        {
            return Err(format!("net.ipv6.conf.tun0.disable_ipv6: {error}"));
        }
        let Config { local, prefix, gateway, mtu, .. } = config;
        ip(&format!("link set tun0 mtu {mtu}"))?;
        ip(&format!("addr add {local}/{prefix} dev tun0"))?;
        ip("link set tun0 up")?;
        ip(&format!("route add default via {gateway} dev tun0 onlink"))?;
        let sniffer = open_sniffer()?;
        Ok(Self { tun, sniffer, room: vec![0; ROOM] })
    }

    pub(super) fn inject(&mut self, packet: &[u8]) -> Result<(), String> {
        self.drain()?;
        let mut frame = vec![0; VNET];
        frame.extend(packet);
        self.tun.write_all(&frame).map_err(|error| format!("tun0: {error}"))
    }

    /// What goes out was seen already; here it only would fill the device's queue.
    fn drain(&mut self) -> Result<(), String> {
        loop {
            match self.tun.read(&mut self.room) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(format!("tun0: {error}")),
            }
        }
    }

    pub(super) fn next_packet(&mut self, until: Us) -> Result<Option<Sent>, String> {
        loop {
            self.drain()?;
            if let Some(sent) = self.seen()? {
                return Ok(Some(sent));
            }
            let left = until - now_us();
            if left <= 0 {
                return Ok(None);
            }
            let mut poll =
                libc::pollfd { fd: self.sniffer.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            let left =
                libc::timespec { tv_sec: left / 1_000_000, tv_nsec: left % 1_000_000 * 1_000 };
            // SAFETY: one descriptor and a time, both alive during the call; no signal mask.
            unsafe { libc::ppoll(&raw mut poll, 1, &raw const left, std::ptr::null()) };
        }
    }

    /// The next packet that went out and was seen; those that came in are passed.
    fn seen(&mut self) -> Result<Option<Sent>, String> {
        loop {
            match self.receive()? {
                None => return Ok(None),
                Some((_, false)) => {}
                // Another family's packets are none of a script's.
                Some((sent, true)) if sent.bytes.first().is_none_or(|first| first >> 4 != 4) => {}
                Some((sent, true)) => return Ok(Some(sent)),
            }
        }
    }

    /// A packet that the device saw, and whether it went out.
    fn receive(&mut self) -> Result<Option<(Sent, bool)>, String> {
        let mut control = [0_u64; 32];
        // SAFETY: all zeroes is a valid address and a valid header of nothing.
        let (mut from, mut header): (libc::sockaddr_ll, libc::msghdr) =
            unsafe { (zeroed(), zeroed()) };
        let mut iov =
            libc::iovec { iov_base: self.room.as_mut_ptr().cast(), iov_len: self.room.len() };
        header.msg_name = (&raw mut from).cast();
        header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        header.msg_iov = &raw mut iov;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control);
        // SAFETY: the header's pointers lead to what lives in this function and in `room`.
        let len =
            unsafe { libc::recvmsg(self.sniffer.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
        if len < 0 {
            let error = Error::last_os_error();
            return match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(None),
                // The device was taken down by the script: nothing more comes.
                _ if error.raw_os_error() == Some(libc::ENETDOWN) => Ok(None),
                _ => Err(format!("the packet socket: {error}")),
            };
        }
        let (at, csum) = stamp(&header);
        let bytes = self.room[..len as usize].to_vec();
        Ok(Some((
            Sent { at: at.unwrap_or_else(now_us), bytes, csum },
            from.sll_pkttype == libc::PACKET_OUTGOING,
        )))
    }
}

/// The time and the checksum's state in control data.
fn stamp(header: &libc::msghdr) -> (Option<Us>, Csum) {
    const TP_STATUS_CSUMNOTREADY: u32 = 1 << 3;
    let (mut at, mut csum) = (None, Csum::Full);
    // SAFETY: the header was filled by recvmsg, and its control data is alive and aligned.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: not null, so a whole cmsghdr lies there with its data behind it; each read is of
        // the type that the kernel writes for this level and type.
        unsafe {
            match ((*next).cmsg_level, (*next).cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let time: libc::timespec =
                        std::ptr::read_unaligned(libc::CMSG_DATA(next).cast());
                    at = Some(time.tv_sec * 1_000_000 + time.tv_nsec / 1_000);
                }
                (libc::SOL_PACKET, libc::PACKET_AUXDATA) => {
                    // `tp_status`, the first field of `struct tpacket_auxdata`.
                    let status: u32 = std::ptr::read_unaligned(libc::CMSG_DATA(next).cast());
                    if status & TP_STATUS_CSUMNOTREADY != 0 {
                        csum = Csum::Partial;
                    }
                }
                _ => {}
            }
            next = libc::CMSG_NXTHDR(header, next);
        }
    }
    (at, csum)
}

fn open_tun() -> Result<File, String> {
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(TUN_PATH)
        .map_err(|error| format!("{TUN_PATH}: {error}; load the driver (modprobe tun)"))?;
    // SAFETY: all zeroes is a valid request.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"tun0") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (IFF_TUN | IFF_NO_PI | IFF_VNET_HDR) as i16;
    // SAFETY: TUNSETIFF reads and writes one ifreq, alive during the call.
    if unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETIFF as _, &raw mut request) } < 0 {
        return Err(last("TUNSETIFF tun0"));
    }
    // Segments leave as large as the kernel made them, as a script counts them.
    let offloads = TUN_F_CSUM | TUN_F_TSO4;
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    if unsafe { libc::ioctl(tun.as_raw_fd(), TUNSETOFFLOAD as _, libc::c_ulong::from(offloads)) }
        < 0
    {
        return Err(last("TUNSETOFFLOAD tun0"));
    }
    Ok(tun)
}

fn open_sniffer() -> Result<OwnedFd, String> {
    let protocol = (libc::ETH_P_ALL as u16).to_be();
    // SAFETY: no pointers; the descriptor is nobody else's.
    let socket = unsafe {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let fd = libc::socket(libc::AF_PACKET, kind, i32::from(protocol));
        if fd < 0 {
            return Err(last("packet socket"));
        }
        OwnedFd::from_raw_fd(fd)
    };
    for (level, name, value) in [
        (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BACKLOG),
        (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1),
        (libc::SOL_PACKET, libc::PACKET_AUXDATA, 1),
    ] {
        let len = size_of_val(&value) as libc::socklen_t;
        // SAFETY: the value is read for its length during the call.
        let set = unsafe {
            libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), len)
        };
        if set < 0 {
            return Err(last("packet socket"));
        }
    }
    // SAFETY: a name that ends in zero.
    let index = unsafe { libc::if_nametoindex(c"tun0".as_ptr()) };
    // SAFETY: all zeroes is a valid address.
    let mut addr: libc::sockaddr_ll = unsafe { zeroed() };
    addr.sll_family = libc::AF_PACKET as u16;
    addr.sll_protocol = protocol;
    addr.sll_ifindex = index as i32;
    let len = size_of_val(&addr) as libc::socklen_t;
    // SAFETY: the address is read for its length during the call.
    if unsafe { libc::bind(socket.as_raw_fd(), (&raw const addr).cast(), len) } < 0 {
        return Err(last("packet socket on tun0"));
    }
    Ok(socket)
}
