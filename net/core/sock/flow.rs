//! Where a socket's packets come from: the flow's hash, the CPU, the NAPI context; and by which queue
//! its own leave.
//!
//! linux: include/net/sock.h (`sk_rxhash`, `sk_incoming_cpu`, `sk_tx_queue_mapping`),
//! include/net/busy_poll.h (`sk_mark_napi_id`). Key type: [`SockFlow`]. Contexts: any; no lock, for each
//! word stands alone.

use super::{Sock, SockState};
use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::cpu::CpuId;
use crate::kernel::locking::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::net::core::busy_poll::sk_mark_napi;
use crate::net::core::dev::DevId;
use crate::net::core::skbuff::{SkBuff, SkbList};
use crate::net::ipv4::inet_hashtables::CmsgFlags;

/// The least id of a NAPI context; below are CPUs.
///
/// linux: include/net/busy_poll.h:MIN_NAPI_ID
pub const MIN_NAPI_ID: u32 = 64 + 1;
/// Queues of a device that have ids of their own.
const NAPI_IDS: u32 = 256;

/// Where a socket's packets come from and leave by. Zero: unknown.
#[derive(Debug, Default)]
pub struct SockFlow {
    /// The hash of what came last, while readers are followed.
    rxhash: AtomicU32,
    /// The CPU, plus one, that handled what came last, or that was asked for (`SO_INCOMING_CPU`).
    incoming_cpu: AtomicU32,
    /// The id of the NAPI context that brought what came first.
    napi_id: AtomicU32,
    /// The queue that packets leave by, of which device; or that none was chosen yet. Zero: not connected.
    tx_queue: AtomicU64,
}

/// A connected socket that has no queue yet.
const NO_QUEUE: u64 = 1 << 32;
/// A queue stands in the low half: the device, then the queue.
const QUEUE: u64 = 1 << 33;

/// The id of the NAPI context that a packet came by; zero: of none.
fn napi_id(cx: &BhCx<'_>, skb: &SkBuff) -> u32 {
    let dev = skb.dev.filter(|dev| cx.t.net.dev(*dev).is_some_and(|dev| !dev.is_loopback()));
    let queue = u32::from(skb.queue_mapping.saturating_sub(1));
    dev.map_or(0, |DevId(dev)| MIN_NAPI_ID + u32::from(dev) * NAPI_IDS + queue % NAPI_IDS)
}

impl Sock {
    /// Packets of the socket's one flow have come.
    ///
    /// linux: include/net/sock.h:sk_incoming_cpu_update, include/net/rps.h:sock_rps_save_rxhash,
    /// include/net/busy_poll.h:sk_mark_napi_id
    #[cold]
    #[inline(never)]
    pub(crate) fn mark_flow(&self, cx: &BhCx<'_>, state: &mut SockState, list: &SkbList) {
        let Some(skb) = list.first() else { return };
        let flow = &self.flow;
        set(&flow.incoming_cpu, u32::from(cx.cpu.id.0) + 1);
        set(&flow.napi_id, napi_id(cx, skb));
        if state.opts.ll_usec != 0 {
            sk_mark_napi(cx, state);
        }
        let followed = cx.m.init_net.rps_sock_flow_table.on();
        set(&flow.rxhash, if followed { skb.hash } else { 0 });
        // What a reader who asks for nothing more does is not to look at this.
        state.inet.cmsg_flags.set(CmsgFlags::FOLLOWED, followed);
    }

    /// A task of this CPU asks for the socket's packets: let them come here.
    ///
    /// linux: include/net/rps.h:sock_rps_record_flow
    #[inline(always)]
    pub(crate) fn sock_rps_record_flow(&self, cx: &TaskCx) {
        let hash = self.flow.rxhash.load(Ordering::Relaxed);
        if hash != 0 {
            record(cx, hash);
        }
    }

    /// The CPU that handled the socket's packets last, or that was asked for; `None`: neither.
    ///
    /// linux: include/net/sock.h:sk_incoming_cpu
    #[inline]
    pub fn incoming_cpu(&self) -> Option<CpuId> {
        let cpu = self.flow.incoming_cpu.load(Ordering::Relaxed).checked_sub(1)?;
        u8::try_from(cpu).ok().map(CpuId)
    }

    /// What `SO_INCOMING_CPU` says.
    pub(crate) fn incoming_cpu_option(&self) -> i32 {
        self.flow.incoming_cpu.load(Ordering::Relaxed).wrapping_sub(1) as i32
    }

    /// Asks for packets that a CPU handles (`SO_INCOMING_CPU`): whatever number, as in Linux.
    pub(crate) fn set_incoming_cpu(&self, cpu: i32) {
        self.flow.incoming_cpu.store((cpu as u32).wrapping_add(1), Ordering::Relaxed);
    }

    /// The queue of a device that the socket's packets leave by, if it has one.
    ///
    /// linux: include/net/sock.h:sk_tx_queue_get
    pub(crate) fn sk_tx_queue_get(&self, dev: DevId) -> Option<u16> {
        let word = self.flow.tx_queue.load(Ordering::Relaxed);
        (word & !0xffff == QUEUE | u64::from(dev.0) << 16).then_some(word as u16)
    }

    /// A queue was chosen: a connected socket's packets stay there, so that those a task sends from
    /// another CPU don't overtake them.
    ///
    /// linux: include/net/sock.h:sk_tx_queue_set
    pub(crate) fn sk_tx_queue_set(&self, dev: DevId, queue: u16) {
        if self.flow.tx_queue.load(Ordering::Relaxed) != 0 {
            let word = QUEUE | u64::from(dev.0) << 16 | u64::from(queue);
            self.flow.tx_queue.store(word, Ordering::Relaxed);
        }
    }

    /// The socket was connected, or is no longer: its next packet chooses.
    ///
    /// linux: include/net/sock.h:sk_tx_queue_clear
    pub(crate) fn sk_tx_queue_clear(&self, connected: bool) {
        let word = if connected { NO_QUEUE } else { 0 };
        self.flow.tx_queue.store(word, Ordering::Relaxed);
    }

    /// The id of the NAPI context that brought the socket's packets; zero: unknown.
    pub(crate) fn napi_id(&self) -> u32 {
        self.flow.napi_id.load(Ordering::Relaxed)
    }
}

#[cold]
fn record(cx: &TaskCx, hash: u32) {
    cx.machine().net().rps_sock_flow_table.rps_record_sock_flow(hash, cx.cpu());
}

/// Writes only what is new, so that readers keep the line.
fn set(word: &AtomicU32, value: u32) {
    if word.load(Ordering::Relaxed) != value {
        word.store(value, Ordering::Relaxed);
    }
}
