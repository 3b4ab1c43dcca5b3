//! Options that a socket sets, and those of which its reader is told. Context: task; BH where it says so.
//!
//! linux: net/ipv4/ip_options.c (`ip_options_get`), net/ipv4/ip_sockglue.c (`IP_OPTIONS`, `ip_cmsg_recv_opts`,
//! `ip_cmsg_recv_retopts`).

use super::{__ip_options_echo, IpOptionsRcu, Reader, compile, ip_options_of};
use crate::kernel::context::TaskCx;
use crate::kernel::rcupdate::Tables;
use crate::net::core::skbuff::SkBuff;
use crate::net::core::sock::{Sock, SockState};
use crate::net::ipv4::devinet::inet_addr_type;
use crate::net::ipv4::inet_hashtables::CmsgFlags;
use crate::net::ipv4::tcp::TcpSk;
use crate::net::ipv4::tcp_output::tcp_sync_mss;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::in_::{IP_RECVOPTS, IP_RETOPTS};
use uapi::ip::{IP_HDR_LEN, IpHdr, MAX_IP_HDR_LEN, MAX_IPOPTLEN};
use uapi::rtnetlink::RTN_UNICAST;
use uapi::socket::{CmsgWriter, MSG_CTRUNC, SOL_IP};
use uapi::tcp::TcpHdr;

const TCP_HDR_LEN: u32 = size_of::<TcpHdr>() as u32;

/// Reads options as a program writes them.
///
/// # Errors
/// EINVAL for more than 40 octets and for what is malformed.
///
/// linux: net/ipv4/ip_options.c:ip_options_get
pub(crate) fn ip_options_get(t: &Tables, octets: &[u8]) -> Result<Arc<IpOptionsRcu>, Errno> {
    let mut made = IpOptionsRcu::default();
    let whole = octets.len().next_multiple_of(4);
    let room = made.data.get_mut(..whole).ok_or(Errno::EINVAL)?;
    room[..octets.len()].copy_from_slice(octets);
    let is_foreign = |addr| inet_addr_type(t, addr) == RTN_UNICAST;
    let reader = Reader { is_foreign: &is_foreign, fill: None };
    made.opt = compile(room, &reader).map_err(|_| Errno::EINVAL)?;
    Ok(Arc::new(made))
}

/// Sets the options of a socket's packets: `IP_OPTIONS`.
///
/// # Errors
/// As [`ip_options_get`].
///
/// linux: net/ipv4/ip_sockglue.c:do_ip_setsockopt (IP_OPTIONS)
pub(crate) fn ip_options_set(cx: &mut TaskCx, sk: &Arc<Sock>, octets: &[u8]) -> Result<(), Errno> {
    if octets.len() > MAX_IPOPTLEN {
        return Err(Errno::EINVAL);
    }
    cx.local_bh_disable(|bh| {
        let opt = ip_options_get(bh.t, octets)?;
        let mut locked = sk.state();
        if let Some(mut sk) = TcpSk::of(sk, &mut locked) {
            let before = sk.st.inet_opt().map_or(0, |opt| opt.opt.optlen);
            sk.tp.ext_hdr_len = (sk.tp.ext_hdr_len + opt.opt.optlen).saturating_sub(before);
            let mtu = sk.tp.pmtu_cookie;
            tcp_sync_mss(&mut sk, mtu);
            if mtu == 0 {
                // It was never connected: it knows of no header of TCP's that its segments would have.
                sk.tp.mss_cache += TCP_HDR_LEN;
            }
        }
        locked.rare_mut().inet_opt = Some(opt);
        Ok(())
    })
}

/// The options of a socket's packets, as they were set.
///
/// linux: net/ipv4/ip_sockglue.c:do_ip_getsockopt (IP_OPTIONS)
pub(crate) fn ip_options_value(state: &SockState) -> Vec<u8> {
    let Some(mut opt) = state.inet_opt().map(|opt| **opt) else { return Vec::new() };
    opt.ip_options_undo();
    opt.data().to_vec()
}

/// The options of a packet of which its reader asked to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpOptionsTold {
    header: [u8; MAX_IP_HDR_LEN],
    len: usize,
}

impl IpOptionsTold {
    /// Those of a packet, if it has some and `asked` says so.
    pub(crate) fn of(asked: CmsgFlags, skb: &SkBuff) -> Option<Box<Self>> {
        if !asked.intersects(CmsgFlags::RECVOPTS | CmsgFlags::RETOPTS) {
            return None;
        }
        let len = skb.network::<IpHdr>()?.ihl();
        let from = skb.network_bytes().get(..len).filter(|_| len > IP_HDR_LEN)?;
        let mut header = [0; MAX_IP_HDR_LEN];
        header[..len].copy_from_slice(from);
        Some(Box::new(Self { header, len }))
    }
}

/// Writes the options of a packet, as they came and as an answer has them, into control data. `MSG_CTRUNC` when an
/// answer can't have them.
///
/// linux: net/ipv4/ip_sockglue.c:ip_cmsg_recv_opts, ip_cmsg_recv_retopts
pub(crate) fn put_recv_options(
    t: &Tables,
    writer: &mut CmsgWriter<'_>,
    (asked, told): (CmsgFlags, &IpOptionsTold),
) -> i32 {
    let header = &told.header[..told.len];
    if asked.contains(CmsgFlags::RECVOPTS) {
        writer.put(SOL_IP, IP_RECVOPTS, &header[IP_HDR_LEN..]);
    }
    if !asked.contains(CmsgFlags::RETOPTS) {
        return 0;
    }
    let Ok(echo) = __ip_options_echo(t, header, &ip_options_of(header)) else { return MSG_CTRUNC };
    let mut echo = echo.unwrap_or_default();
    echo.ip_options_undo();
    writer.put(SOL_IP, IP_RETOPTS, echo.data());
    0
}
