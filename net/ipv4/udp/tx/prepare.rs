//! What one message says of its way: its address, its control data, its flags. Context: BH or task.
//!
//! linux: net/ipv4/udp.c (`udp_sendmsg`, up to the route).

use super::{IP_MAX_MTU, Msg, Plan, Send4, Template};
use crate::kernel::rcupdate::Tables;
use crate::net::core::sock::Sock;
use crate::net::ipv4::ip_options::{IpOptionsRcu, IpTarget};
use crate::net::ipv4::ip_sockglue::{IpcmCookie, ip_cmsg_send};
use crate::net::ipv4::route::RTO_ONLINK;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::in_::{SockaddrIn, ipv4_is_multicast};
use uapi::ip::INET_DSCP_MASK;
use uapi::socket::{AF_UNSPEC, MSG_DONTROUTE, MSG_OOB, SOL_UDP, cmsgs};
use uapi::udp::UDP_SEGMENT;

/// Where one message goes and by what: the socket's template, its own address and control data.
// In the place where it is used: a copy of what has just been put together field by field waits for
// the fields to reach the cache.
pub(super) fn prepare(
    t: &Tables,
    send: &mut Send4,
    (sk, template): (&Sock, &Template),
    (msg, flags): Msg<'_>,
) -> Result<Option<IpTarget>, Errno> {
    *send = template.send;
    let mut opt = None;
    if flags & MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    match msg.name {
        Some(name) => {
            let to = parse_name(name)?;
            if to.port == 0 {
                return Err(Errno::EINVAL);
            }
            (send.flow.daddr, send.dport) = (to.addr, to.port);
        }
        None if send.flow.daddr == 0 && send.dport == 0 => return Err(Errno::EDESTADDRREQ),
        None => send.connected = true,
    }
    send.ttl = template.uc_ttl;
    if ipv4_is_multicast(send.flow.daddr) {
        send.ttl = template.mc_ttl;
        multicast_defaults(sk, send);
    }
    if !msg.control.is_empty() {
        let (tos, tsflags) = (send.tos, send.tsflags);
        let mut ipc = IpcmCookie { tos, tsflags, ..IpcmCookie::default() };
        if udp_cmsg_send(msg.control, &mut send.gso_size)? {
            ip_cmsg_send(t, msg.control, &mut ipc)?;
            opt = ipc.opt.take();
        }
        (send.tsflags, send.ts_opt_id) = (ipc.tsflags, ipc.ts_opt_id);
        send.tos = ipc.tos;
        send.flow.tos = ipc.tos & INET_DSCP_MASK | send.flow.tos & RTO_ONLINK;
        send.ttl = ipc.ttl.unwrap_or(send.ttl);
        send.priority = ipc.priority.unwrap_or(send.priority);
        send.flow.mark = ipc.mark.unwrap_or(send.flow.mark);
        if ipc.addr != 0 {
            send.flow.saddr = ipc.addr;
        }
        if ipc.oif != 0 {
            send.flow.oif = ipc.oif;
        }
    }
    if flags & MSG_DONTROUTE != 0 {
        send.flow.tos |= RTO_ONLINK;
    }
    if opt.is_none() && !template.options {
        return Ok(None);
    }
    by_options(send, sk, opt)
}

impl Plan {
    /// What options leave of the longest packet, for one that is cut into datagrams: no MTU holds for that.
    pub(super) fn whole(&self) -> (u32, u32) {
        let longest = self.target.as_ref().map_or(IP_MAX_MTU, |target| target.rest_of(IP_MAX_MTU));
        (longest, longest)
    }

    /// What options leave of the MTU for the rest of a packet, and of the longest.
    #[inline(always)]
    pub(super) fn rest_of(&self, mtu: u32) -> (u32, u32) {
        match &self.target {
            None => (mtu, self.longest),
            Some(target) => (target.rest_of(mtu), target.rest_of(self.longest)),
        }
    }
}

/// A source route leads to its first hop, over a link if it is a strict one.
#[cold]
fn by_options(
    send: &mut Send4,
    sk: &Sock,
    own: Option<Arc<IpOptionsRcu>>,
) -> Result<Option<IpTarget>, Errno> {
    let Some(opt) = own.or_else(|| sk.state().inet_opt().cloned()) else { return Ok(None) };
    let target = IpTarget { opt, daddr: send.flow.daddr };
    if target.opt.opt.srr != 0 {
        if target.daddr == 0 {
            return Err(Errno::EINVAL);
        }
        send.flow.daddr = target.first_hop();
        send.connected = false;
    }
    if target.is_strictroute() {
        send.flow.tos |= RTO_ONLINK;
    }
    Ok(Some(target))
}

/// To a group it goes by the socket's device for groups, from its address there, unless the socket or control data say otherwise.
#[cold]
#[inline(never)]
fn multicast_defaults(sk: &Sock, send: &mut Send4) {
    let (index, addr) = sk.state().way_to_groups(send.flow.daddr);
    if send.flow.oif == 0 {
        send.flow.oif = index;
    }
    if send.flow.saddr == 0 {
        send.flow.saddr = addr;
    }
}

/// Reads what control data says to UDP; whether there is more, for others.
///
/// linux: net/ipv4/udp.c:udp_cmsg_send
fn udp_cmsg_send(control: &[u8], gso_size: &mut u16) -> Result<bool, Errno> {
    let mut more = false;
    for cmsg in cmsgs(control) {
        let cmsg = cmsg?;
        match (cmsg.level, cmsg.type_) {
            (SOL_UDP, UDP_SEGMENT) => {
                let size = cmsg.data.try_into().map_err(|_| Errno::EINVAL)?;
                *gso_size = u16::from_ne_bytes(size);
            }
            (SOL_UDP, _) => return Err(Errno::EINVAL),
            _ => more = true,
        }
    }
    Ok(more)
}

/// A destination as user space writes it; `AF_UNSPEC` passes for `AF_INET`, as in Linux.
#[inline(always)]
fn parse_name(name: &[u8]) -> Result<SockaddrIn, Errno> {
    const INET: [u8; 2] = (uapi::socket::AF_INET as u16).to_ne_bytes();
    match name.first_chunk::<16>() {
        Some(full) if full[..2] == INET => Ok(SockaddrIn {
            addr: u32::from_be_bytes([full[4], full[5], full[6], full[7]]),
            port: u16::from_be_bytes([full[2], full[3]]),
        }),
        _ => parse_odd_name(name),
    }
}

fn parse_odd_name(name: &[u8]) -> Result<SockaddrIn, Errno> {
    let family = name.first_chunk::<2>().map(|family| u16::from_ne_bytes(*family));
    if family == Some(AF_UNSPEC as u16) && name.len() >= 16 {
        let mut as_inet: [u8; 16] = name[..16].try_into().map_err(|_| Errno::EINVAL)?;
        as_inet[..2].copy_from_slice(&(uapi::socket::AF_INET as u16).to_ne_bytes());
        return SockaddrIn::from_bytes(&as_inet);
    }
    SockaddrIn::from_bytes(name)
}
