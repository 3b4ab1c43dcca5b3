//! The options of groups: what user space writes, and reads. Context: task.
//!
//! linux: net/ipv4/ip_sockglue.c, include/uapi/linux/in.h.

use super::group::SfMode;
use super::sock::{
    McSource, SourceOp, ip_mc_gsfget, ip_mc_join_group, ip_mc_leave_group, ip_mc_msfget,
    ip_mc_msfilter, ip_mc_source,
};
use crate::kernel::context::TaskCx;
use crate::net::core::dev::DevId;
use crate::net::core::sock::Sock;
use crate::net::ipv4::devinet::ip_dev_find;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::in_::{
    GROUP_FILTER_LEN, GROUP_REQ_LEN, GROUP_SOURCE_REQ_LEN, IP_ADD_MEMBERSHIP,
    IP_ADD_SOURCE_MEMBERSHIP, IP_BLOCK_SOURCE, IP_DROP_MEMBERSHIP, IP_DROP_SOURCE_MEMBERSHIP,
    IP_MREQ_LEN, IP_MREQ_SOURCE_LEN, IP_MSFILTER, IP_MSFILTER_LEN, IP_MULTICAST_ALL,
    IP_MULTICAST_IF, IP_UNBLOCK_SOURCE, IpMreqn, MCAST_BLOCK_SOURCE, MCAST_EXCLUDE, MCAST_INCLUDE,
    MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP, MCAST_LEAVE_GROUP, MCAST_LEAVE_SOURCE_GROUP,
    MCAST_MSFILTER, MCAST_UNBLOCK_SOURCE, SockaddrIn,
};
use uapi::ip::IPPROTO_TCP;
use uapi::socket::SOCK_STREAM;

/// Octets of a `struct sockaddr_storage`.
const STORAGE: usize = 128;

/// Sets an option of groups; `None`: it is none.
///
/// # Errors
/// EINVAL for a value that is too short or makes no sense; EPROTO for a stream; those of joining, leaving and
/// filtering.
///
/// linux: net/ipv4/ip_sockglue.c:do_ip_setsockopt
pub(crate) fn ip_mc_setsockopt(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: i32,
    value: &[u8],
) -> Option<Result<(), Errno>> {
    Some(match name {
        IP_MULTICAST_IF => multicast_if(cx, sk, value),
        IP_MULTICAST_ALL => multicast_all(sk, value),
        IP_ADD_MEMBERSHIP | IP_DROP_MEMBERSHIP => membership(cx, sk, name, value),
        IP_ADD_SOURCE_MEMBERSHIP
        | IP_DROP_SOURCE_MEMBERSHIP
        | IP_BLOCK_SOURCE
        | IP_UNBLOCK_SOURCE => mreq_source(cx, sk, name, value),
        MCAST_JOIN_GROUP | MCAST_LEAVE_GROUP => ip_mcast_join_leave(cx, sk, name, value),
        MCAST_JOIN_SOURCE_GROUP
        | MCAST_LEAVE_SOURCE_GROUP
        | MCAST_BLOCK_SOURCE
        | MCAST_UNBLOCK_SOURCE => do_mcast_group_source(cx, sk, name, value),
        IP_MSFILTER => set_ip_msfilter(cx, sk, value),
        MCAST_MSFILTER => ip_set_mcast_msfilter(cx, sk, value),
        _ => return None,
    })
}

/// The device that groups are sent to by, and the address from there: by an address, by both, or by index.
fn multicast_if(cx: &TaskCx, sk: &Sock, value: &[u8]) -> Result<(), Errno> {
    if sk.sk_prot.kind.0 == SOCK_STREAM {
        return Err(Errno::EINVAL);
    }
    let mut mreq = IpMreqn::from_bytes(value).ok_or(Errno::EINVAL)?;
    let t = cx.tables();
    if mreq.ifindex == 0 {
        if mreq.address != 0 {
            let dev = ip_dev_find(&t, mreq.address).ok_or(Errno::EADDRNOTAVAIL)?;
            mreq.ifindex = dev.0.into();
        }
    } else {
        let index = u16::try_from(mreq.ifindex).map_err(|_| Errno::EADDRNOTAVAIL)?;
        t.net.dev(DevId(index)).ok_or(Errno::EADDRNOTAVAIL)?;
    }
    let mut state = sk.state();
    let bound = i32::from(state.opts.bound_dev_if);
    if mreq.ifindex != 0 && bound != 0 && bound != mreq.ifindex {
        return Err(Errno::EINVAL);
    }
    // It fits: there is such a device, or it is zero.
    let mc = &mut state.rare_mut().mc;
    (mc.index, mc.addr) = (mreq.ifindex as u16, mreq.address);
    Ok(())
}

fn multicast_all(sk: &Sock, value: &[u8]) -> Result<(), Errno> {
    let value = match value {
        [] => return Err(Errno::EINVAL),
        [a, b, c, d, ..] => i32::from_ne_bytes([*a, *b, *c, *d]),
        [byte, ..] => i32::from(*byte),
    };
    let all = (0..=1).contains(&value).then_some(value == 1).ok_or(Errno::EINVAL)?;
    sk.state().rare_mut().mc.few = !all;
    Ok(())
}

fn membership(cx: &mut TaskCx, sk: &Sock, name: i32, value: &[u8]) -> Result<(), Errno> {
    if sk.sk_prot.kind.1 == IPPROTO_TCP {
        return Err(Errno::EPROTO);
    }
    if value.len() < IP_MREQ_LEN {
        return Err(Errno::EINVAL);
    }
    let mut mreq = IpMreqn::from_bytes(value).ok_or(Errno::EINVAL)?;
    match name {
        IP_ADD_MEMBERSHIP => ip_mc_join_group(cx, sk, &mut mreq, SfMode::Exclude),
        _ => ip_mc_leave_group(cx, sk, mreq),
    }
}

/// What an option of one source does: to filters of which mode, and whether it joins, too.
fn source_op(name: i32) -> (SfMode, SourceOp) {
    match name {
        IP_BLOCK_SOURCE | MCAST_BLOCK_SOURCE => (SfMode::Exclude, SourceOp::Add),
        IP_UNBLOCK_SOURCE | MCAST_UNBLOCK_SOURCE => (SfMode::Exclude, SourceOp::Del),
        IP_ADD_SOURCE_MEMBERSHIP | MCAST_JOIN_SOURCE_GROUP => (SfMode::Include, SourceOp::Add),
        _ => (SfMode::Include, SourceOp::Del),
    }
}

fn one_source(
    cx: &mut TaskCx,
    sk: &Sock,
    name: i32,
    (mut imr, source): (IpMreqn, u32),
) -> Result<(), Errno> {
    if matches!(name, IP_ADD_SOURCE_MEMBERSHIP | MCAST_JOIN_SOURCE_GROUP) {
        match ip_mc_join_group(cx, sk, &mut imr, SfMode::Include) {
            Ok(()) | Err(Errno::EADDRINUSE) => (),
            Err(error) => return Err(error),
        }
    }
    let (omode, op) = source_op(name);
    ip_mc_source(cx, sk, McSource { imr, source, omode, op })
}

/// An address at a place of a value.
fn addr_at(value: &[u8], at: usize) -> Result<u32, Errno> {
    let octets = value.get(at..at + 4).and_then(|octets| octets.try_into().ok());
    octets.map(u32::from_be_bytes).ok_or(Errno::EINVAL)
}

fn int_at(value: &[u8], at: usize) -> Result<u32, Errno> {
    let octets = value.get(at..at + 4).and_then(|octets| octets.try_into().ok());
    octets.map(u32::from_ne_bytes).ok_or(Errno::EINVAL)
}

/// linux: include/uapi/linux/in.h:ip_mreq_source
fn mreq_source(cx: &mut TaskCx, sk: &Sock, name: i32, value: &[u8]) -> Result<(), Errno> {
    if value.len() != IP_MREQ_SOURCE_LEN {
        return Err(Errno::EINVAL);
    }
    let imr = IpMreqn { multiaddr: addr_at(value, 0)?, address: addr_at(value, 4)?, ifindex: 0 };
    one_source(cx, sk, name, (imr, addr_at(value, 8)?))
}

/// The group, or source, of a `struct sockaddr_storage` at a place of a value; `None` of another family.
fn storage_at(value: &[u8], at: usize) -> Option<u32> {
    SockaddrIn::from_bytes(value.get(at..at + STORAGE)?).ok().map(|addr| addr.addr)
}

/// linux: net/ipv4/ip_sockglue.c:ip_mcast_join_leave
fn ip_mcast_join_leave(cx: &mut TaskCx, sk: &Sock, name: i32, value: &[u8]) -> Result<(), Errno> {
    if value.len() < GROUP_REQ_LEN {
        return Err(Errno::EINVAL);
    }
    let multiaddr = storage_at(value, 8).ok_or(Errno::EINVAL)?;
    let mut mreq = IpMreqn { multiaddr, address: 0, ifindex: int_at(value, 0)? as i32 };
    match name {
        MCAST_JOIN_GROUP => ip_mc_join_group(cx, sk, &mut mreq, SfMode::Exclude),
        _ => ip_mc_leave_group(cx, sk, mreq),
    }
}

/// linux: net/ipv4/ip_sockglue.c:do_mcast_group_source
fn do_mcast_group_source(cx: &mut TaskCx, sk: &Sock, name: i32, value: &[u8]) -> Result<(), Errno> {
    if value.len() < GROUP_SOURCE_REQ_LEN {
        return Err(Errno::EINVAL);
    }
    let (group, source) = (storage_at(value, 8), storage_at(value, 8 + STORAGE));
    let (multiaddr, source) = group.zip(source).ok_or(Errno::EADDRNOTAVAIL)?;
    let imr = IpMreqn { multiaddr, address: 0, ifindex: int_at(value, 0)? as i32 };
    one_source(cx, sk, name, (imr, source))
}

/// How many sources a filter of this length may have.
///
/// # Errors
/// ENOBUFS beyond `igmp_max_msf` or `optmem_max`; EINVAL for one that is not all there.
fn check_filter(
    cx: &TaskCx,
    value: &[u8],
    (count, head, each): (u32, usize, usize),
) -> Result<usize, Errno> {
    let sysctl = &cx.tables().net.sysctl;
    if value.len() > sysctl.optmem_max as usize || count > sysctl.igmp.max_msf {
        return Err(Errno::ENOBUFS);
    }
    let count = count as usize;
    // A message says how long each is, and the setting how many there can be.
    let all = count.checked_mul(each).and_then(|sources| sources.checked_add(head));
    if all.is_none_or(|all| all > value.len()) { Err(Errno::EINVAL) } else { Ok(count) }
}

fn mode_of(fmode: u32) -> Result<SfMode, Errno> {
    match fmode as i32 {
        MCAST_INCLUDE => Ok(SfMode::Include),
        MCAST_EXCLUDE => Ok(SfMode::Exclude),
        _ => Err(Errno::EINVAL),
    }
}

fn mode_value(sfmode: SfMode) -> [u8; 4] {
    let mode = if sfmode == SfMode::Include { MCAST_INCLUDE } else { MCAST_EXCLUDE };
    mode.to_ne_bytes()
}

/// linux: include/uapi/linux/in.h:ip_msfilter
fn set_ip_msfilter(cx: &mut TaskCx, sk: &Sock, value: &[u8]) -> Result<(), Errno> {
    if value.len() < IP_MSFILTER_LEN {
        return Err(Errno::EINVAL);
    }
    let count = check_filter(cx, value, (int_at(value, 12)?, IP_MSFILTER_LEN, 4))?;
    let imr = IpMreqn { multiaddr: addr_at(value, 0)?, address: addr_at(value, 4)?, ifindex: 0 };
    let sources: Result<Vec<u32>, Errno> =
        (0..count).map(|n| addr_at(value, IP_MSFILTER_LEN + 4 * n)).collect();
    set_filter(cx, sk, imr, (int_at(value, 8)?, sources?))
}

fn set_filter(
    cx: &mut TaskCx,
    sk: &Sock,
    imr: IpMreqn,
    (fmode, sources): (u32, Vec<u32>),
) -> Result<(), Errno> {
    ip_mc_msfilter(cx, sk, imr, (mode_of(fmode)?, sources))
}

/// linux: net/ipv4/ip_sockglue.c:ip_set_mcast_msfilter
fn ip_set_mcast_msfilter(cx: &mut TaskCx, sk: &Sock, value: &[u8]) -> Result<(), Errno> {
    if value.len() < GROUP_FILTER_LEN {
        return Err(Errno::EINVAL);
    }
    let count = check_filter(cx, value, (int_at(value, 140)?, GROUP_FILTER_LEN, STORAGE))?;
    let multiaddr = storage_at(value, 8).ok_or(Errno::EADDRNOTAVAIL)?;
    let source = |n: usize| storage_at(value, GROUP_FILTER_LEN + STORAGE * n);
    let sources: Option<Vec<u32>> = (0..count).map(source).collect();
    let imr = IpMreqn { multiaddr, address: 0, ifindex: int_at(value, 0)? as i32 };
    set_filter(cx, sk, imr, (int_at(value, 136)?, sources.ok_or(Errno::EADDRNOTAVAIL)?))
}

/// Reads an option of groups; `value`: what stands in the caller's buffer, which says what is asked for. `None`: it
/// is none of them.
///
/// # Errors
/// EINVAL for a buffer too short; those of asking for a filter.
///
/// linux: net/ipv4/ip_sockglue.c:do_ip_getsockopt
pub(crate) fn ip_mc_getsockopt(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: i32,
    value: &[u8],
) -> Option<Result<Vec<u8>, Errno>> {
    match name {
        IP_MULTICAST_IF => {
            let addr = sk.state().rare().map_or(0, |rare| rare.mc.addr);
            Some(Ok(addr.to_be_bytes().to_vec()))
        }
        IP_MSFILTER => Some(get_ip_msfilter(cx, sk, value)),
        MCAST_MSFILTER => Some(ip_get_mcast_msfilter(sk, value)),
        _ => None,
    }
}

/// linux: net/ipv4/igmp.c:ip_mc_msfget
fn get_ip_msfilter(cx: &mut TaskCx, sk: &Sock, value: &[u8]) -> Result<Vec<u8>, Errno> {
    if value.len() < IP_MSFILTER_LEN {
        return Err(Errno::EINVAL);
    }
    let imr = IpMreqn { multiaddr: addr_at(value, 0)?, address: addr_at(value, 4)?, ifindex: 0 };
    let room = int_at(value, 12)? as usize;
    let (sfmode, sources) = ip_mc_msfget(cx, sk, imr)?;
    let count = (sources.len() as u32).to_ne_bytes();
    let mut answer = [&value[..8], &mode_value(sfmode), &count].concat();
    sources.iter().take(room).for_each(|addr| answer.extend(addr.to_be_bytes()));
    Ok(answer)
}

/// linux: net/ipv4/ip_sockglue.c:ip_get_mcast_msfilter
fn ip_get_mcast_msfilter(sk: &Sock, value: &[u8]) -> Result<Vec<u8>, Errno> {
    if value.len() < GROUP_FILTER_LEN {
        return Err(Errno::EINVAL);
    }
    let room = int_at(value, 140)? as usize;
    let group = storage_at(value, 8).ok_or(Errno::EINVAL)?;
    let (sfmode, sources) = ip_mc_gsfget(sk, group, int_at(value, 0)? as i32)?;
    let count = (sources.len() as u32).to_ne_bytes();
    let mut answer = [&value[..136], &mode_value(sfmode), &count].concat();
    for addr in sources.iter().take(room) {
        answer.extend(SockaddrIn::new(*addr, 0).to_bytes());
        answer.resize(answer.len() + STORAGE - 16, 0);
    }
    Ok(answer)
}
