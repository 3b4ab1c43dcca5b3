//! Neighbours: link addresses of next hops, and what is known of their reachability.
//!
//! linux: net/core/neighbour.c, include/net/neighbour.h; RFC 4861 section 7.3.
//! Key types: [`Neighbour`], [`NeighTable`], [`NeighOps`]. Parts: `nud` (the state machine and
//! its timer), `table` (lookup, creation, garbage collection).
//! Contexts: BH. Locks: `class::NeighTable`, `class::Neigh`; neither is held while a packet goes on
//! or a request is sent.
//! Invariants: an entry in a valid state has a link address; the table never holds more than
//! `gc_thresh3` entries; packets that wait in an entry never exceed `unres_qlen_bytes`.

mod nud;
mod table;

pub use nud::{NeighUpdate, neigh_event_send, neigh_update};
pub use table::{
    __neigh_create, NeighEntry, NeighTable, neigh_add, neigh_delete, neigh_ifdown, neigh_lookup,
};

use crate::kernel::context::BhCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::time::Ktime;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::tx::{Lost, NetXmit};
use crate::net::core::dev::{DevId, dev_queue_xmit};
use crate::net::core::skbuff::{Skb, SkbList, kfree_skb, skb_cow_head};
use crate::net::ethernet::eth::eth_header;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use uapi::neighbour::{
    NUD_DELAY, NUD_FAILED, NUD_INCOMPLETE, NUD_NOARP, NUD_PERMANENT, NUD_PROBE, NUD_REACHABLE,
    NUD_STALE,
};

/// States in which the address is used without a doubt.
pub const NUD_CONNECTED: u8 = NUD_PERMANENT as u8 | NUD_NOARP as u8 | NUD_REACHABLE as u8;
/// States that have an address.
pub const NUD_VALID: u8 = NUD_CONNECTED | NUD_PROBE as u8 | NUD_STALE as u8 | NUD_DELAY as u8;
/// States whose timer runs.
pub const NUD_IN_TIMER: u8 =
    NUD_INCOMPLETE as u8 | NUD_REACHABLE as u8 | NUD_DELAY as u8 | NUD_PROBE as u8;

/// The state's name in `ip neigh`.
pub fn nud_name(state: u8) -> &'static str {
    match u16::from(state) {
        NUD_INCOMPLETE => "INCOMPLETE",
        NUD_REACHABLE => "REACHABLE",
        NUD_STALE => "STALE",
        NUD_DELAY => "DELAY",
        NUD_PROBE => "PROBE",
        NUD_FAILED => "FAILED",
        NUD_NOARP => "NOARP",
        NUD_PERMANENT => "PERMANENT",
        _ => "NONE",
    }
}

/// What a protocol does for its neighbours.
///
/// linux: include/net/neighbour.h:neigh_ops
pub struct NeighOps {
    /// Asks for the address: by broadcast, or the last known one by unicast.
    pub solicit: fn(&mut BhCx<'_>, &Arc<Neighbour>, &Solicit),
    /// The neighbour did not answer: tells who sent this packet, and ends it.
    pub error_report: fn(&mut BhCx<'_>, &Arc<Neighbour>, Skb),
    /// Sends when the address is in doubt.
    pub output: fn(&mut BhCx<'_>, &Arc<Neighbour>, Skb) -> NetXmit,
    /// Sends when it is not.
    pub connected_output: fn(&mut BhCx<'_>, &Arc<Neighbour>, Skb) -> NetXmit,
}

/// What a request is made from.
#[derive(Clone, Copy, Debug)]
pub struct Solicit {
    /// The source of the packet that waits, if it can be the request's.
    pub saddr: Option<u32>,
    /// The address to ask at; `None`: all.
    pub ucast: Option<[u8; 6]>,
}

/// Which neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighKey {
    /// The device.
    pub dev: DevId,
    /// The IPv4 address.
    pub addr: u32,
}

/// A next hop on a link.
///
/// linux: include/net/neighbour.h:neighbour
pub struct Neighbour {
    /// Which.
    pub key: NeighKey,
    /// The protocol's functions.
    pub ops: &'static NeighOps,
    /// State in the top byte, dead in the bit above the address, the address below: one load
    /// tells a sender all it needs.
    word: AtomicU64,
    used: AtomicU64,
    confirmed: AtomicU64,
    inner: SpinLock<Inner, class::Neigh>,
    /// References of routing decisions.
    kept: AtomicUsize,
}

struct Inner {
    updated: Ktime,
    probes: u8,
    /// When the state's timer is due; `None`: no timer.
    due: Option<Ktime>,
    /// How long it counts as reachable, spread so that a table's entries do not expire together.
    reachable_time: std::time::Duration,
    /// Waiting for the address.
    arp_queue: VecDeque<Skb>,
    arp_queue_len_bytes: u32,
}

/// A neighbour that a routing decision keeps for its packets: it does not keep it from being collected.
#[derive(Debug)]
pub(crate) struct Kept(Arc<Neighbour>);

impl Kept {
    pub(crate) fn new(neigh: Arc<Neighbour>) -> Self {
        neigh.kept.fetch_add(1, Ordering::AcqRel);
        Self(neigh)
    }
}

impl Deref for Kept {
    type Target = Arc<Neighbour>;
    #[inline(always)]
    fn deref(&self) -> &Arc<Neighbour> {
        &self.0
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Before the reference goes: it counts as somebody's in between, not as nobody's.
        self.0.kept.fetch_sub(1, Ordering::AcqRel);
    }
}

const DEAD: u64 = 1 << 48;
const ADDR: u64 = DEAD - 1;

impl Neighbour {
    /// `NUD_*`.
    #[inline]
    pub fn nud_state(&self) -> u8 {
        (self.word.load(Ordering::Acquire) >> 56) as u8
    }

    /// It was taken out of the table.
    pub fn dead(&self) -> bool {
        self.word.load(Ordering::Acquire) & DEAD != 0
    }

    /// The link address, in a state that has one.
    pub fn ha(&self) -> Option<[u8; 6]> {
        let word = self.word.load(Ordering::Acquire);
        ((word >> 56) as u8 & NUD_VALID != 0).then(|| unpack(word))
    }

    /// The address, if nothing casts doubt on it.
    #[inline]
    fn connected_ha(&self) -> Option<[u8; 6]> {
        let word = self.word.load(Ordering::Acquire);
        ((word >> 56) as u8 & NUD_CONNECTED != 0 && word & DEAD == 0).then(|| unpack(word))
    }

    /// The bytes of the address as they are, whatever the state.
    fn last_ha(&self) -> [u8; 6] {
        unpack(self.word.load(Ordering::Acquire))
    }

    /// Under the entry's lock.
    fn set_state(&self, state: u8) {
        let word = self.word.load(Ordering::Relaxed) & (ADDR | DEAD);
        self.word.store(word | u64::from(state) << 56, Ordering::Release);
    }

    /// Under the entry's lock.
    fn set_ha(&self, addr: [u8; 6]) {
        let word = self.word.load(Ordering::Relaxed) & !ADDR;
        self.word.store(word | pack(addr), Ordering::Release);
    }

    /// A protocol above has proof that the neighbour answers.
    ///
    /// linux: include/net/neighbour.h:neigh_confirm
    pub fn confirm(&self, now: Ktime) {
        self.confirmed.store(now.0, Ordering::Relaxed);
    }

    /// It was last changed longer ago than `locktime`.
    pub(crate) fn settled(&self, now: Ktime, locktime: std::time::Duration) -> bool {
        now > self.inner.lock().updated + locktime
    }

    fn touch(&self, now: Ktime) {
        self.used.store(now.0, Ordering::Relaxed);
    }
}

// In the order of the bytes in memory, so that unpacking is a plain store.
fn pack([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

#[inline(always)]
fn unpack(word: u64) -> [u8; 6] {
    let [addr @ .., _, _] = word.to_le_bytes();
    addr
}

impl fmt::Debug for Neighbour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.key, nud_name(self.nud_state()))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // Entries are emptied when they die; only a machine that goes away whole leaves packets.
        for skb in self.inner.get_mut().arp_queue.drain(..) {
            skb.forget_at_exit();
        }
    }
}

/// Where a packet goes on its link.
#[derive(Debug)]
pub enum NextHop {
    /// To an address beyond doubt; no reference to its entry is needed.
    Connected {
        /// The device.
        dev: DevId,
        /// The link address.
        ha: [u8; 6],
    },
    /// To a neighbour whose entry has a say.
    Neigh(Arc<Neighbour>),
}

impl NextHop {
    /// The next hop by an entry that nothing casts doubt on.
    #[inline(always)]
    pub fn connected(neigh: &Neighbour) -> Option<Self> {
        neigh.connected_ha().map(|ha| Self::Connected { dev: neigh.key.dev, ha })
    }

    /// The next hop by a neighbour's entry.
    #[inline]
    pub fn by(neigh: &Arc<Neighbour>) -> Self {
        Self::connected(neigh).unwrap_or_else(|| Self::Neigh(Arc::clone(neigh)))
    }
}

/// Sends to a next hop: at once when its address is beyond doubt, else by its entry's `output`.
///
/// linux: include/net/dst.h:dst_neigh_output
#[inline(always)]
pub fn dst_neigh_output(cx: &mut BhCx<'_>, hop: NextHop, list: &mut SkbList) -> Lost {
    walk!(cx, list, dst_neigh_output);
    match hop {
        NextHop::Connected { dev, ha } => neigh_hh_output(cx, dev, ha, list),
        NextHop::Neigh(neigh) => output_by_entry(cx, &neigh, list),
    }
}

#[cold]
#[inline(never)]
fn output_by_entry(cx: &mut BhCx<'_>, neigh: &Arc<Neighbour>, list: &mut SkbList) -> Lost {
    let mut lost = Lost::default();
    list.hand_out(|skb| {
        lost += (neigh.ops.output)(cx, neigh, skb).into();
        Ok(())
    });
    lost
}

/// Puts the link header on and gives the packets to the device.
///
/// linux: include/net/neighbour.h:neigh_hh_output
#[inline(always)]
fn neigh_hh_output(cx: &mut BhCx<'_>, dev: DevId, ha: [u8; 6], list: &mut SkbList) -> Lost {
    let t = cx.t;
    let Some(dev) = t.net.dev(dev) else {
        return Lost { dropped: list.pass(cx, |_, _| Err(DropReason::DevReady)), refused: 0 };
    };
    let source = dev.dev_addr();
    let dropped = list.pass(cx, |cx, skb| {
        if put_header(cx, skb, source, ha) { Ok(()) } else { Err(DropReason::DevHdr) }
    });
    Lost { dropped, refused: 0 } + dev_queue_xmit(cx, list, dev)
}

/// The same for a packet by itself.
fn neigh_hh_output_one(cx: &mut BhCx<'_>, dev: DevId, ha: [u8; 6], skb: Skb) -> NetXmit {
    let mut list = cx.skb_list_of(skb);
    let lost = neigh_hh_output(cx, dev, ha, &mut list);
    cx.free_skb_list(list);
    lost.of_one()
}

#[inline(always)]
fn put_header(cx: &mut BhCx<'_>, skb: &mut Skb, source: [u8; 6], ha: [u8; 6]) -> bool {
    let proto = skb.protocol;
    eth_header(skb, proto, source, ha)
        || (skb_cow_head(cx, skb, 16) && eth_header(skb, proto, source, ha))
}

/// Sends to a neighbour whose address is in doubt or unknown: asks for it if need be, and sends
/// now if there is one, else when it comes.
///
/// linux: net/core/neighbour.c:neigh_resolve_output
pub fn neigh_resolve_output(cx: &mut BhCx<'_>, neigh: &Arc<Neighbour>, skb: Skb) -> NetXmit {
    walk!(cx, skb, neigh_resolve_output);
    let Some(skb) = neigh_event_send(cx, neigh, skb) else { return NetXmit::Success };
    match neigh.ha() {
        Some(ha) => neigh_hh_output_one(cx, neigh.key.dev, ha, skb),
        None => {
            kfree_skb(cx, skb, DropReason::NeighFailed);
            NetXmit::Drop
        }
    }
}

/// Sends to a neighbour whose address is beyond doubt.
///
/// linux: net/core/neighbour.c:neigh_connected_output
pub fn neigh_connected_output(cx: &mut BhCx<'_>, neigh: &Arc<Neighbour>, skb: Skb) -> NetXmit {
    walk!(cx, skb, neigh_connected_output);
    let ha = neigh.last_ha();
    neigh_hh_output_one(cx, neigh.key.dev, ha, skb)
}
