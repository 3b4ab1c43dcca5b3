//! What can be asked of devices by ioctl(2) on any socket.
//!
//! linux: net/core/dev_ioctl.c. Context: task. Nothing can be set: those requests are ENOTTY.
//! A request's argument is the memory that user space points at. Where a structure there has a
//! pointer to more (`struct ifconf`), zero is none, and else the memory behind the structure is
//! meant.

use crate::kernel::context::TaskCx;
use crate::kernel::rcupdate::Tables;
use crate::net::core::dev::{DevId, NetDevice};
use crate::net::ipv4::devinet::inet_gifconf;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::if_::IFNAMSIZ;
use uapi::sockios::{
    SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFMETRIC, SIOCGIFMTU, SIOCGIFNAME,
    SIOCGIFSLAVE, SIOCGIFTXQLEN,
};

/// Bytes of a `struct ifreq`: a name, and a union of 24.
///
/// linux: include/uapi/linux/if.h:ifreq
pub const IFREQ_LEN: usize = 40;
/// Bytes of a `struct ifconf`: a length, and a pointer.
const IFCONF_LEN: usize = 16;

/// A `struct ifreq`, taken apart: the name, and the union behind it.
pub(crate) struct Ifreq<'a> {
    name: &'a mut [u8],
    /// The union.
    pub data: &'a mut [u8],
}

impl<'a> Ifreq<'a> {
    /// # Errors
    /// EFAULT for less memory than that.
    ///
    /// linux: net/socket.c:get_user_ifreq
    pub(crate) fn get(arg: &'a mut [u8]) -> Result<Self, Errno> {
        let whole = arg.get_mut(..IFREQ_LEN).ok_or(Errno::EFAULT)?;
        let (name, data) = whole.split_at_mut(IFNAMSIZ);
        Ok(Self { name, data })
    }

    /// The name up to its zero, at the most what a name may have.
    pub(crate) fn label(&self) -> &[u8] {
        let most = &self.name[..IFNAMSIZ - 1];
        let end = most.iter().position(|byte| *byte == 0).unwrap_or(most.len());
        &most[..end]
    }

    /// The device of the name; what follows a colon is an alias of old, and passed over.
    pub(crate) fn dev<'t>(&self, t: &'t Tables) -> Result<&'t Arc<NetDevice>, Errno> {
        let name = self.label().split(|byte| *byte == b':').next().unwrap_or_default();
        let name = std::str::from_utf8(name).map_err(|_| Errno::ENODEV)?;
        t.net.dev_by_name(name).ok_or(Errno::ENODEV)
    }

    fn put(&mut self, at: usize, bytes: &[u8]) {
        self.data[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn int(&self) -> i32 {
        let [a, b, c, d, ..] = *self.data else { return 0 };
        i32::from_ne_bytes([a, b, c, d])
    }
}

/// Answers a request about a device, in a `struct ifreq`.
///
/// # Errors
/// EFAULT; ENODEV for a device there is not; EINVAL; ENOTTY for a request there is not.
///
/// linux: net/core/dev_ioctl.c:dev_ioctl
pub(crate) fn dev_ioctl(cx: &TaskCx, request: u32, arg: &mut [u8]) -> Result<i32, Errno> {
    let t = cx.tables();
    match request {
        SIOCGIFNAME => dev_ifname(&t, &mut Ifreq::get(arg)?)?,
        SIOCGIFHWADDR | SIOCGIFFLAGS | SIOCGIFMETRIC | SIOCGIFMTU | SIOCGIFSLAVE | SIOCGIFINDEX
        | SIOCGIFTXQLEN => dev_ifsioc_locked(&t, request, &mut Ifreq::get(arg)?)?,
        _ => return Err(Errno::ENOTTY),
    }
    Ok(0)
}

/// The name of an index.
///
/// linux: net/core/dev_ioctl.c:dev_ifname
fn dev_ifname(t: &Tables, ifr: &mut Ifreq<'_>) -> Result<(), Errno> {
    let index = u16::try_from(ifr.int()).map_err(|_| Errno::ENODEV)?;
    let dev = t.net.dev(DevId(index)).ok_or(Errno::ENODEV)?;
    let name = dev.name.as_bytes();
    let len = name.len().min(IFNAMSIZ - 1);
    ifr.name[..len].copy_from_slice(&name[..len]);
    ifr.name[len] = 0;
    Ok(())
}

/// What is read of a device without changing anything.
///
/// linux: net/core/dev_ioctl.c:dev_ifsioc_locked
fn dev_ifsioc_locked(t: &Tables, request: u32, ifr: &mut Ifreq<'_>) -> Result<(), Errno> {
    let dev = ifr.dev(t)?;
    match request {
        SIOCGIFHWADDR => {
            ifr.put(0, &dev.kind.to_ne_bytes());
            ifr.put(2, &dev.dev_addr());
        }
        // The field is a short one: the newer flags do not fit.
        SIOCGIFFLAGS => ifr.put(0, &(dev.flags() as u16).to_ne_bytes()),
        SIOCGIFMETRIC => ifr.put(0, &0_i32.to_ne_bytes()),
        SIOCGIFMTU => ifr.put(0, &(dev.mtu() as i32).to_ne_bytes()),
        SIOCGIFINDEX => ifr.put(0, &i32::from(dev.ifindex.0).to_ne_bytes()),
        SIOCGIFTXQLEN => ifr.put(0, &dev.tx_queue_len.to_ne_bytes()),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// Lists the addresses of all devices, a `struct ifreq` each, as many as there is room for; or says
/// how much room they want.
///
/// # Errors
/// EFAULT.
///
/// linux: net/core/dev_ioctl.c:dev_ifconf
pub(crate) fn dev_ifconf(cx: &TaskCx, arg: &mut [u8]) -> Result<i32, Errno> {
    let t = cx.tables();
    let (ifc, memory) = arg.split_at_mut_checked(IFCONF_LEN).ok_or(Errno::EFAULT)?;
    let len = i32::from_ne_bytes([ifc[0], ifc[1], ifc[2], ifc[3]]);
    let counts = ifc[8..].iter().all(|byte| *byte == 0);
    let room = if counts { usize::MAX } else { usize::try_from(len).unwrap_or(0) };
    let mut total = 0;
    for dev in t.net.devs.iter().flatten() {
        for ifr in inet_gifconf(&t, dev) {
            if room - total < IFREQ_LEN {
                break;
            }
            if !counts {
                let place = memory.get_mut(total..total + IFREQ_LEN).ok_or(Errno::EFAULT)?;
                place.copy_from_slice(&ifr);
            }
            total += IFREQ_LEN;
        }
    }
    ifc[..4].copy_from_slice(&(total as i32).to_ne_bytes());
    Ok(0)
}
