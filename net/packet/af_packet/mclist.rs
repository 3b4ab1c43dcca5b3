//! What devices receive on a packet socket's account: everything, all groups, or certain addresses.
//!
//! linux: net/packet/af_packet.c (`packet_mc_add`). Contexts: task, under `class::Rtnl`. Invariant: an entry counts
//! once at its device, however often the socket asked for it, until it did not want it as often.

use super::{ADDR_LEN, dev_get_by_index};
use crate::kernel::context::TaskCx;
use crate::net::core::dev::NetDevice;
use crate::net::core::dev::device::{dev_set_allmulti, dev_set_promiscuity};
use crate::net::core::dev_addr_lists::{dev_mc_add, dev_mc_del, dev_uc_add, dev_uc_del};
use crate::net::core::sock::Sock;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::if_packet::{
    PACKET_MR_ALLMULTI, PACKET_MR_MULTICAST, PACKET_MR_PROMISC, PACKET_MR_UNICAST, PACKET_MREQ_LEN,
};

/// Octets of an address in a request, at the most.
const MAX_ADDR_LEN: usize = 32;

/// A request, with the number of times it was made.
///
/// linux: net/packet/internal.h:packet_mclist
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PacketMclist {
    ifindex: i32,
    kind: i32,
    addr: Vec<u8>,
    count: u32,
}

/// One more or one less.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Add,
    Drop,
}

impl PacketMclist {
    /// Reads a `packet_mreq`; its address may be longer than the eight octets that has.
    ///
    /// # Errors
    /// EINVAL for fewer octets than it says it has.
    pub(super) fn from_bytes(value: &[u8]) -> Result<Self, Errno> {
        let fixed: &[u8; PACKET_MREQ_LEN] = value.first_chunk().ok_or(Errno::EINVAL)?;
        let [i0, i1, i2, i3, t0, t1, a0, a1, ..] = *fixed;
        let alen = usize::from(u16::from_ne_bytes([a0, a1]));
        let value = &value[..value.len().min(8 + MAX_ADDR_LEN)];
        Ok(Self {
            ifindex: i32::from_ne_bytes([i0, i1, i2, i3]),
            kind: u16::from_ne_bytes([t0, t1]).into(),
            addr: value.get(8..8 + alen).ok_or(Errno::EINVAL)?.to_vec(),
            count: 1,
        })
    }

    fn same(&self, other: &Self) -> bool {
        (self.ifindex, self.kind, &self.addr) == (other.ifindex, other.kind, &other.addr)
    }

    /// linux: net/packet/af_packet.c:packet_dev_mc
    fn packet_dev_mc(
        &self,
        cx: &mut TaskCx,
        dev: &Arc<NetDevice>,
        what: What,
    ) -> Result<(), Errno> {
        let inc = if what == What::Add { 1 } else { -1 };
        let addr: Result<[u8; ADDR_LEN], _> = self.addr[..].try_into().map_err(|_| Errno::EINVAL);
        match (self.kind, what) {
            (PACKET_MR_MULTICAST, What::Add) => dev_mc_add(cx, dev, addr?),
            (PACKET_MR_MULTICAST, What::Drop) => return dev_mc_del(cx, dev, addr?),
            (PACKET_MR_UNICAST, What::Add) => dev_uc_add(cx, dev, addr?),
            (PACKET_MR_UNICAST, What::Drop) => return dev_uc_del(cx, dev, addr?),
            (PACKET_MR_PROMISC, _) => dev_set_promiscuity(cx, dev, inc),
            (PACKET_MR_ALLMULTI, _) => dev_set_allmulti(cx, dev, inc),
            // Remembered, and nobody's business, as in Linux.
            _ => (),
        }
        Ok(())
    }
}

/// Has a device receive more.
///
/// # Errors
/// ENODEV; EINVAL for an address that is not as long as the device's.
///
/// linux: net/packet/af_packet.c:packet_mc_add
pub(super) fn packet_mc_add(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    mreq: PacketMclist,
) -> Result<(), Errno> {
    let tables = cx.tables();
    let dev = dev_get_by_index(&tables.net, mreq.ifindex).ok_or(Errno::ENODEV)?;
    if mreq.addr.len() > ADDR_LEN {
        return Err(Errno::EINVAL);
    }
    {
        let mut state = sk.state();
        let po = state.packet().ok_or(Errno::EBADF)?;
        if let Some(there) = po.mclist.iter_mut().find(|there| there.same(&mreq)) {
            there.count += 1;
            return Ok(());
        }
    }
    mreq.packet_dev_mc(cx, dev, What::Add)?;
    if let Some(po) = sk.state().packet() {
        po.mclist.push(mreq);
    }
    Ok(())
}

/// It need not any more; what was not asked for is nobody's business.
///
/// linux: net/packet/af_packet.c:packet_mc_drop
pub(super) fn packet_mc_drop(cx: &mut TaskCx, sk: &Arc<Sock>, mreq: &PacketMclist) {
    let gone = {
        let mut state = sk.state();
        let Some(po) = state.packet() else { return };
        let Some(at) = po.mclist.iter().position(|there| there.same(mreq)) else { return };
        po.mclist[at].count -= 1;
        if po.mclist[at].count != 0 {
            return;
        }
        po.mclist.remove(at)
    };
    undo(cx, &gone);
}

fn undo(cx: &mut TaskCx, gone: &PacketMclist) {
    let tables = cx.tables();
    if let Some(dev) = dev_get_by_index(&tables.net, gone.ifindex) {
        // It was added once, so it is there.
        let _there = gone.packet_dev_mc(cx, dev, What::Drop);
    }
}

/// The socket is closed.
///
/// linux: net/packet/af_packet.c:packet_flush_mclist
pub(super) fn packet_flush_mclist(cx: &mut TaskCx, sk: &Arc<Sock>) {
    let all = sk.state().packet().map(|po| std::mem::take(&mut po.mclist)).unwrap_or_default();
    all.iter().for_each(|gone| undo(cx, gone));
}

/// The device goes away.
///
/// linux: net/packet/af_packet.c:packet_dev_mclist_delete
pub(super) fn packet_dev_mclist_delete(cx: &mut TaskCx, sk: &Arc<Sock>, dev: &Arc<NetDevice>) {
    let index = i32::from(dev.ifindex.0);
    let gone = {
        let mut state = sk.state();
        let Some(po) = state.packet() else { return };
        let (gone, kept) =
            std::mem::take(&mut po.mclist).into_iter().partition(|there| there.ifindex == index);
        po.mclist = kept;
        let gone: Vec<PacketMclist> = gone;
        gone
    };
    for there in gone {
        let _there = there.packet_dev_mc(cx, dev, What::Drop);
    }
}
