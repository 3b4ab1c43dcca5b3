//! Options of `SOL_UDP`. Context: task.
//!
//! linux: net/ipv4/udp.c (`udp_lib_setsockopt`).

use super::udp_push_pending_frames;
use crate::kernel::context::TaskCx;
use crate::net::core::sock::Sock;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::udp::UDP_CORK;

/// linux: net/ipv4/udp.c:udp_setsockopt
pub(super) fn udp_setsockopt(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: i32,
    value: &[u8],
) -> Result<(), Errno> {
    let value: [u8; 4] = value.get(..4).and_then(|v| v.try_into().ok()).ok_or(Errno::EINVAL)?;
    match name {
        UDP_CORK => {
            let on = i32::from_ne_bytes(value) != 0;
            sk.state().udp.corkflag = on;
            sk.set_corked(true);
            if !on {
                // The option is set, whatever becomes of the datagram: Linux reports nothing.
                let _unreported = udp_push_pending_frames(cx, sk);
            }
            Ok(())
        }
        _ => Err(Errno::ENOPROTOOPT),
    }
}

/// linux: net/ipv4/udp.c:udp_getsockopt
pub(super) fn udp_getsockopt(
    _cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: i32,
    _room: usize,
) -> Result<Vec<u8>, Errno> {
    match name {
        UDP_CORK => Ok(i32::from(sk.state().udp.corkflag).to_ne_bytes().to_vec()),
        _ => Err(Errno::ENOPROTOOPT),
    }
}
