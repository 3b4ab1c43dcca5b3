//! The ioctls on devices by name, each with the type of what it reads and writes.
//!
//! linux: include/uapi/linux/if.h:ifreq, net/core/dev_ioctl.c. Contexts: any thread.
//! Invariant: a request number reaches the system only together with the memory it was made for;
//! so the three enums below list every number this crate uses.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
#[cfg(test)]
use uapi::ethtool::ETHTOOL_GTSO;
use uapi::ethtool::{
    ETHTOOL_GDRVINFO, ETHTOOL_SGRO, ETHTOOL_SGSO, ETHTOOL_SRXCSUM, ETHTOOL_STSO, ETHTOOL_STXCSUM,
};
use uapi::if_::IFNAMSIZ;
use uapi::if_tun::{TUNSETIFF, TUNSETOFFLOAD, TUNSETVNETHDRSZ, TUNSETVNETLE};
use uapi::sockios::{SIOCETHTOOL, SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFMTU};

/// A device's name and a value of it.
#[repr(C, align(8))]
#[derive(Debug)]
pub(crate) struct IfReq {
    name: [u8; IFNAMSIZ],
    value: [u8; 24],
}

const _: () = assert!(size_of::<IfReq>() >= size_of::<libc::ifreq>());
const _: () = assert!(align_of::<IfReq>() >= align_of::<libc::ifreq>());

/// Requests whose argument is an [`IfReq`].
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum IfRequest {
    GetFlags = SIOCGIFFLAGS,
    SetFlags = uapi::sockios::SIOCSIFFLAGS,
    GetHwAddr = SIOCGIFHWADDR,
    GetMtu = SIOCGIFMTU,
    TunSetIff = TUNSETIFF,
}

/// Requests of a TUN descriptor whose argument points to an int.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum IntRequest {
    VnetHdrSz = TUNSETVNETHDRSZ,
    VnetLe = TUNSETVNETLE,
}

impl IfReq {
    /// A request about `name`; what does not fit is cut.
    pub(crate) fn new(name: &str) -> Self {
        Self { name: name_field(name), value: [0; 24] }
    }

    pub(crate) fn flags(&self) -> u16 {
        u16::from_ne_bytes([self.value[0], self.value[1]])
    }

    pub(crate) fn set_flags(&mut self, flags: u16) {
        self.value[..2].copy_from_slice(&flags.to_ne_bytes());
    }

    /// The link address, after the two octets of its family.
    pub(crate) fn mac(&self) -> [u8; 6] {
        std::array::from_fn(|i| self.value[2 + i])
    }

    pub(crate) fn mtu(&self) -> u32 {
        u32::from_ne_bytes(std::array::from_fn(|i| self.value[i]))
    }

    /// Sends the request to a socket, or to a TUN descriptor.
    pub(crate) fn ioctl(&mut self, fd: impl AsFd, request: IfRequest) -> io::Result<()> {
        // SAFETY: all of `IfRequest` read and write one ifreq, and IfReq is as large and as
        // strictly aligned; the borrow keeps it alive and unshared during the call.
        let result =
            unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request as _, std::ptr::from_mut(self)) };
        check(result)
    }
}

fn name_field(name: &str) -> [u8; IFNAMSIZ] {
    let mut field = [0; IFNAMSIZ];
    let len = name.len().min(IFNAMSIZ - 1);
    field[..len].copy_from_slice(&name.as_bytes()[..len]);
    field
}

/// Hands a TUN descriptor an int.
pub(crate) fn tun_set(fd: impl AsFd, request: IntRequest, value: i32) -> io::Result<()> {
    // SAFETY: all of `IntRequest` read one int, which lives during the call.
    let result =
        unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request as _, std::ptr::from_ref(&value)) };
    check(result)
}

/// Sets which offloads the reader of a TUN descriptor can take.
pub(crate) fn tun_set_offload(fd: impl AsFd, offloads: u32) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value; no memory is involved.
    let result = unsafe {
        libc::ioctl(fd.as_fd().as_raw_fd(), TUNSETOFFLOAD as _, libc::c_ulong::from(offloads))
    };
    check(result)
}

/// Who drives a device.
///
/// linux: include/uapi/linux/ethtool.h:ethtool_drvinfo
#[repr(C)]
#[derive(Debug)]
struct DrvInfo {
    cmd: u32,
    driver: [u8; 32],
    version: [u8; 32],
    fw_version: [u8; 32],
    bus_info: [u8; 32],
    erom_version: [u8; 32],
    reserved: [u8; 12],
    counts: [u32; 5],
}

const _: () = assert!(size_of::<DrvInfo>() == 196);

#[repr(C)]
struct IfReqPtr<T> {
    name: [u8; IFNAMSIZ],
    data: *mut T,
    rest: [u64; 2],
}

const _: () = assert!(size_of::<IfReqPtr<DrvInfo>>() >= size_of::<libc::ifreq>());

/// A switch of a device, and its state.
///
/// linux: include/uapi/linux/ethtool.h:ethtool_value
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// Requests of ethtool whose argument is an [`EthtoolValue`] that is read.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum EthtoolSwitch {
    RxCsum = ETHTOOL_SRXCSUM,
    TxCsum = ETHTOOL_STXCSUM,
    Tso = ETHTOOL_STSO,
    Gso = ETHTOOL_SGSO,
    Gro = ETHTOOL_SGRO,
}

/// Turns a switch of the device called `name`.
pub(crate) fn ethtool_switch(
    socket: impl AsFd,
    name: &str,
    switch: EthtoolSwitch,
    on: bool,
) -> io::Result<()> {
    ethtool_value(socket, name, EthtoolValue { cmd: switch as u32, data: u32::from(on) })?;
    Ok(())
}

fn ethtool_value(socket: impl AsFd, name: &str, mut value: EthtoolValue) -> io::Result<u32> {
    let mut request = IfReqPtr { name: name_field(name), data: &raw mut value, rest: [0; 2] };
    // SAFETY: SIOCETHTOOL reads one ifreq, no larger than `request`; its pointer names `value`, laid out as
    // ethtool_value, which is all that the requests the callers make read and write. Both outlive the call.
    let result =
        unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    check(result).map(|()| value.data)
}

/// Whether a device cuts TCP's segments.
#[cfg(test)]
pub(crate) fn ethtool_cuts_tcp(socket: impl AsFd, name: &str) -> io::Result<bool> {
    Ok(ethtool_value(socket, name, EthtoolValue { cmd: ETHTOOL_GTSO, data: 0 })? != 0)
}

/// What kind of device a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tun,
    Tap,
    Other,
    Missing,
}

/// Asks the driver, not sysfs: /sys shows the namespace it was mounted in, not the caller's.
pub(crate) fn kind(socket: impl AsFd, name: &str) -> Kind {
    let mut info = DrvInfo {
        cmd: ETHTOOL_GDRVINFO,
        driver: [0; 32],
        version: [0; 32],
        fw_version: [0; 32],
        bus_info: [0; 32],
        erom_version: [0; 32],
        reserved: [0; 12],
        counts: [0; 5],
    };
    let mut request = IfReqPtr { name: name_field(name), data: &raw mut info, rest: [0; 2] };
    // SAFETY: SIOCETHTOOL reads one ifreq, no larger than `request`; its pointer names `info`,
    // laid out as ethtool_drvinfo, which is all that ETHTOOL_GDRVINFO reads and writes. Both
    // outlive the call.
    let result =
        unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    match check(result) {
        Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Kind::Missing,
        Err(_) => Kind::Other,
        Ok(()) if !info.driver.starts_with(b"tun\0") => Kind::Other,
        Ok(()) if info.bus_info.starts_with(b"tap\0") => Kind::Tap,
        Ok(()) => Kind::Tun,
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_name_that_does_not_fit_is_cut_before_its_final_zero() {
        assert_eq!(&IfReq::new("0123456789abcdefgh").name, b"0123456789abcde\0");
    }

    #[test]
    fn the_loopback_device_answers() {
        let socket = UnixDatagram::unbound().unwrap();
        let mut request = IfReq::new("lo");
        request.ioctl(&socket, IfRequest::GetFlags).unwrap();
        assert_ne!(u32::from(request.flags()) & uapi::if_::IFF_LOOPBACK, 0);
        request.ioctl(&socket, IfRequest::GetHwAddr).unwrap();
        assert_eq!(request.mac(), [0; 6]);
        request.ioctl(&socket, IfRequest::GetMtu).unwrap();
        assert_eq!(&request.name[..3], b"lo\0", "nothing written beside the value");
        assert_eq!(kind(&socket, "lo"), Kind::Other);
        assert_eq!(kind(&socket, "no-such-device"), Kind::Missing);
    }
}
