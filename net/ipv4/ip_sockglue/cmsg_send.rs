//! Control data of messages to send. Context: task, or BH.
//!
//! linux: net/ipv4/ip_sockglue.c (`ip_cmsg_send`), net/core/sock.c (`sock_cmsg_send`).

use super::rt_tos2priority;
use crate::kernel::rcupdate::Tables;
use crate::net::core::timestamping::tsflags_of_cmsg;
use crate::net::ipv4::ip_options::{IpOptionsRcu, ip_options_get};
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::in_::{IN_PKTINFO_LEN, IP_PKTINFO, IP_RETOPTS, IP_TOS, IP_TTL, InPktinfo};
use uapi::ip::MAX_IPOPTLEN;
use uapi::net_tstamp::SOF_TIMESTAMPING_OPT_ID;
use uapi::socket::{
    Cmsg, SCM_CREDENTIALS, SCM_RIGHTS, SCM_TS_OPT_ID, SO_MARK, SO_PRIORITY, SO_TIMESTAMPING,
    SO_TIMESTAMPING_NEW, SOL_IP, SOL_SOCKET, cmsgs,
};

/// What control data of a message to send asks for.
///
/// linux: include/net/ip.h:ipcm_cookie
#[derive(Clone, Debug, Default)]
pub(crate) struct IpcmCookie {
    /// The source address; zero: by route.
    pub addr: u32,
    /// The device; 0: any.
    pub oif: u16,
    pub tos: u8,
    pub ttl: Option<u8>,
    pub priority: Option<u32>,
    pub mark: Option<u32>,
    /// What the datagram is to be told of, by the socket's options or its own.
    pub tsflags: u32,
    /// Its number, in place of the socket's count.
    pub ts_opt_id: Option<u32>,
    /// Its options, in place of the socket's.
    pub opt: Option<Arc<IpOptionsRcu>>,
}

/// Reads the control data of a message to send.
///
/// # Errors
/// EINVAL for what is malformed, out of range, or unknown to its level; other levels are passed
/// over.
///
/// linux: net/ipv4/ip_sockglue.c:ip_cmsg_send
pub(crate) fn ip_cmsg_send(t: &Tables, control: &[u8], ipc: &mut IpcmCookie) -> Result<(), Errno> {
    for cmsg in cmsgs(control) {
        let cmsg = cmsg?;
        match (cmsg.level, cmsg.type_) {
            (SOL_IP, IP_PKTINFO) => {
                let info: &[u8; IN_PKTINFO_LEN] =
                    cmsg.data.try_into().map_err(|_| Errno::EINVAL)?;
                let info = InPktinfo::from_bytes(info);
                if info.ifindex != 0 {
                    ipc.oif = u16::try_from(info.ifindex).map_err(|_| Errno::ENODEV)?;
                }
                ipc.addr = info.spec_dst;
            }
            (SOL_IP, IP_TTL) => match exact(cmsg.data)? {
                ttl @ 1..=255 => ipc.ttl = Some(ttl as u8),
                _ => return Err(Errno::EINVAL),
            },
            (SOL_IP, IP_TOS) => {
                let tos =
                    if cmsg.data.len() == 1 { i32::from(cmsg.data[0]) } else { exact(cmsg.data)? };
                ipc.tos = u8::try_from(tos).map_err(|_| Errno::EINVAL)?;
                ipc.priority = Some(rt_tos2priority(ipc.tos));
            }
            (SOL_IP, IP_RETOPTS) => {
                let most = cmsg.data.len().min(MAX_IPOPTLEN);
                ipc.opt = Some(ip_options_get(t, &cmsg.data[..most])?);
            }
            (SOL_SOCKET, _) => __sock_cmsg_send(&cmsg, ipc)?,
            (SOL_IP, _) => return Err(Errno::EINVAL),
            _ => (),
        }
    }
    Ok(())
}

/// Reads what control data of a message to send says to the socket level alone; the rest is passed over.
///
/// # Errors
/// EINVAL for what is malformed or unknown there.
///
/// linux: net/core/sock.c:sock_cmsg_send
pub(crate) fn sock_cmsg_send(control: &[u8], ipc: &mut IpcmCookie) -> Result<(), Errno> {
    for cmsg in cmsgs(control) {
        let cmsg = cmsg?;
        if cmsg.level == SOL_SOCKET {
            __sock_cmsg_send(&cmsg, ipc)?;
        }
    }
    Ok(())
}

/// linux: net/core/sock.c:__sock_cmsg_send
fn __sock_cmsg_send(cmsg: &Cmsg<'_>, ipc: &mut IpcmCookie) -> Result<(), Errno> {
    match cmsg.type_ {
        SO_PRIORITY => ipc.priority = Some(exact(cmsg.data)? as u32),
        SO_MARK => ipc.mark = Some(exact(cmsg.data)? as u32),
        SO_TIMESTAMPING | SO_TIMESTAMPING_NEW => {
            ipc.tsflags = tsflags_of_cmsg(cmsg.data, ipc.tsflags)?;
        }
        SCM_TS_OPT_ID if ipc.tsflags & SOF_TIMESTAMPING_OPT_ID != 0 => {
            ipc.ts_opt_id = Some(exact(cmsg.data)? as u32);
        }
        // Meant for local sockets, and passed over here.
        SCM_RIGHTS | SCM_CREDENTIALS => (),
        _ => return Err(Errno::EINVAL),
    }
    Ok(())
}

/// A number and nothing behind it.
fn exact(data: &[u8]) -> Result<i32, Errno> {
    data.try_into().map(i32::from_ne_bytes).map_err(|_| Errno::EINVAL)
}
