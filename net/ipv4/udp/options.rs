//! Options of `SOL_UDP`. Context: task.
//!
//! linux: net/ipv4/udp.c (`udp_lib_setsockopt`).

use super::udp_push_pending_frames;
use crate::kernel::context::TaskCx;
use crate::net::core::sock::Sock;
use crate::net::ipv4::inet_hashtables::CmsgFlags;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::udp::{UDP_CORK, UDP_GRO, UDP_SEGMENT};

/// linux: net/ipv4/udp.c:udp_setsockopt
pub(super) fn udp_setsockopt(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: i32,
    value: &[u8],
) -> Result<(), Errno> {
    let value: [u8; 4] = value.get(..4).and_then(|v| v.try_into().ok()).ok_or(Errno::EINVAL)?;
    let value = i32::from_ne_bytes(value);
    let on = value != 0;
    match name {
        UDP_CORK => {
            sk.state().udp.corkflag = on;
            sk.set_corked(true);
            if !on {
                // The option is set, whatever becomes of the datagram: Linux reports nothing.
                let _unreported = udp_push_pending_frames(cx, sk);
            }
            Ok(())
        }
        UDP_SEGMENT => {
            sk.state().udp.gso_size = u16::try_from(value).map_err(|_| Errno::EINVAL)?;
            Ok(())
        }
        UDP_GRO => {
            set_gro(sk, on);
            Ok(())
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// Whether datagrams come merged. The first time, they begin to be looked for their sockets early.
fn set_gro(sk: &Sock, on: bool) {
    let mut state = sk.state();
    if on && !std::mem::replace(&mut state.udp.encap_enabled, true) {
        sk.net.udp_table.udp_encap_enable();
    }
    state.inet.cmsg_flags.set(CmsgFlags::UDP_GRO, on);
}

/// linux: net/ipv4/udp.c:udp_getsockopt
pub(super) fn udp_getsockopt(
    _cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: i32,
    _room: usize,
) -> Result<Vec<u8>, Errno> {
    let state = sk.state();
    let value = match name {
        UDP_CORK => state.udp.corkflag.into(),
        UDP_SEGMENT => state.udp.gso_size.into(),
        UDP_GRO => state.inet.cmsg_flags.contains(CmsgFlags::UDP_GRO).into(),
        _ => return Err(Errno::ENOPROTOOPT),
    };
    Ok(i32::to_ne_bytes(value).to_vec())
}
