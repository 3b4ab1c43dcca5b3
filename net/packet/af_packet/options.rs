//! Options of `SOL_PACKET`. Context: task.
//!
//! linux: net/packet/af_packet.c (`packet_setsockopt`).
//! DIVERGES: `PACKET_HDRLEN` tells the length of the headers of the socket's own version; Linux takes the version
//! from the room for the answer.

use super::fanout::fanout_add;
use super::mclist::{PacketMclist, packet_mc_add, packet_mc_drop};
use super::ring::packet_set_ring;
use crate::kernel::context::TaskCx;
use crate::net::core::sock::Sock;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::if_packet::{
    PACKET_ADD_MEMBERSHIP, PACKET_AUXDATA, PACKET_COPY_THRESH, PACKET_DROP_MEMBERSHIP,
    PACKET_FANOUT, PACKET_FANOUT_DATA, PACKET_HDRLEN, PACKET_IGNORE_OUTGOING, PACKET_LOSS,
    PACKET_ORIGDEV, PACKET_QDISC_BYPASS, PACKET_RESERVE, PACKET_ROLLOVER_STATS, PACKET_RX_RING,
    PACKET_STATISTICS, PACKET_TIMESTAMP, PACKET_VERSION, TPACKET_HDR_LEN, TPACKET_V1, TPACKET_V3,
    TPACKET3_HDR_LEN,
};

/// Sets one.
///
/// # Errors
/// EINVAL for a value that is too short, too long or out of range; ENOPROTOOPT for an option there is not; those of
/// memberships and groups.
///
/// linux: net/packet/af_packet.c:packet_setsockopt
pub(super) fn packet_setsockopt(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    name: i32,
    value: &[u8],
) -> Result<(), Errno> {
    match name {
        PACKET_ADD_MEMBERSHIP | PACKET_DROP_MEMBERSHIP => return membership(cx, sk, name, value),
        PACKET_FANOUT => {
            let m = Arc::clone(cx.machine());
            let _rtnl = m.rtnl.lock();
            return fanout_add(cx, sk, value);
        }
        PACKET_RX_RING => return packet_set_ring(cx, sk, value),
        PACKET_FANOUT_DATA => {
            let fanout = sk.state().packet().and_then(|po| po.fanout.clone());
            return fanout.ok_or(Errno::EINVAL)?.fanout_set_data(sk, value);
        }
        _ => (),
    }
    // Linux asks for an int at least by these, and for just an int by the others.
    let at_least = matches!(name, PACKET_AUXDATA | PACKET_ORIGDEV);
    let val = match value.first_chunk() {
        Some(val) if at_least || value.len() == 4 => Ok(i32::from_ne_bytes(*val)),
        _ => Err(Errno::EINVAL),
    };
    set_number(sk, name, val)
}

fn membership(cx: &mut TaskCx, sk: &Arc<Sock>, name: i32, value: &[u8]) -> Result<(), Errno> {
    let mreq = PacketMclist::from_bytes(value)?;
    let m = Arc::clone(cx.machine());
    let _rtnl = m.rtnl.lock();
    if name == PACKET_ADD_MEMBERSHIP {
        return packet_mc_add(cx, sk, mreq);
    }
    packet_mc_drop(cx, sk, &mreq);
    Ok(())
}

/// Those that are a number, if the value is one.
fn set_number(sk: &Sock, name: i32, val: Result<i32, Errno>) -> Result<(), Errno> {
    let mut state = sk.state();
    let po = state.packet().ok_or(Errno::EBADF)?;
    match name {
        PACKET_COPY_THRESH => po.copy_thresh = val?,
        PACKET_AUXDATA => po.auxdata = val? != 0,
        PACKET_ORIGDEV => po.origdev = val? != 0,
        PACKET_LOSS => po.loss = po.without_ring(val?)? != 0,
        PACKET_TIMESTAMP => po.tp_tstamp = val?,
        PACKET_QDISC_BYPASS => po.qdisc_bypass = val? != 0,
        PACKET_RESERVE => {
            let reserve = u32::try_from(val?).map_err(|_| Errno::EINVAL)?;
            po.tp_reserve = po.without_ring(reserve)?;
        }
        PACKET_VERSION => match val? {
            version @ TPACKET_V1..=TPACKET_V3 => po.tp_version = po.without_ring(version)?,
            _ => return Err(Errno::EINVAL),
        },
        PACKET_IGNORE_OUTGOING => match val? {
            on @ 0..=1 => {
                po.ignore_outgoing = on != 0;
                if let Some(hook) = po.hook.upgrade() {
                    hook.set_ignore_outgoing(on != 0);
                }
            }
            _ => return Err(Errno::EINVAL),
        },
        _ => return Err(Errno::ENOPROTOOPT),
    }
    Ok(())
}

/// Reads one, into room for so many octets.
///
/// # Errors
/// ENOPROTOOPT for an option there is not; EINVAL for too little room, or for what the socket has not.
///
/// linux: net/packet/af_packet.c:packet_getsockopt
pub(super) fn packet_getsockopt(
    _: &mut TaskCx,
    sk: &Arc<Sock>,
    name: i32,
    room: usize,
) -> Result<Vec<u8>, Errno> {
    let mut state = sk.state();
    let po = state.packet().ok_or(Errno::EBADF)?;
    let val = match name {
        PACKET_STATISTICS => return Ok(po.take_statistics()),
        PACKET_AUXDATA => po.auxdata.into(),
        PACKET_ORIGDEV => po.origdev.into(),
        PACKET_LOSS => po.loss.into(),
        PACKET_QDISC_BYPASS => po.qdisc_bypass.into(),
        PACKET_IGNORE_OUTGOING => po.ignore_outgoing.into(),
        PACKET_VERSION => po.tp_version,
        PACKET_RESERVE => po.tp_reserve as i32,
        PACKET_TIMESTAMP => po.tp_tstamp,
        PACKET_COPY_THRESH => po.copy_thresh,
        PACKET_HDRLEN if room < 4 => return Err(Errno::EINVAL),
        PACKET_HDRLEN if po.tp_version == TPACKET_V3 => TPACKET3_HDR_LEN as i32,
        PACKET_HDRLEN => TPACKET_HDR_LEN as i32,
        PACKET_FANOUT => po.fanout.as_ref().map_or(0, |fanout| fanout.told()) as i32,
        PACKET_ROLLOVER_STATS => return po.rollover.map(|r| r.stats()).ok_or(Errno::EINVAL),
        _ => return Err(Errno::ENOPROTOOPT),
    };
    Ok(val.to_ne_bytes().to_vec())
}
