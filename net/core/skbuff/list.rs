//! Packets that take the same way together: what holds for all of them is looked at once.
//!
//! linux: include/linux/skbuff.h (lists through `skb->next`), net/core/dev.c
//! (`netif_receive_skb_list`). Key type: [`SkbList`]. Contexts: BH, within one stay on a CPU.
//! Invariants: packets stay in their order; one that leaves the list has what the list held for all
//! ([`SkbList::hand_out`]); lists come from the CPU and go back to it, so that none allocates after
//! warm-up.

use super::{SkBuff, Skb, kfree_skb};
use crate::kernel::context::BhCx;
use crate::kernel::trace::{WalkId, drop_reason::DropReason};
use crate::net::core::dst::Dst;
use crate::net::core::sock::ListCharge;
use crate::net::ipv4::ip_input::IpWay;
pub(crate) use common::Common;
use std::fmt;
use std::sync::Arc;

mod common;

/// Packets in their order, with what they have in common.
#[derive(Default)]
pub struct SkbList {
    pub(crate) packets: Vec<Skb>,
    /// Empty: room to turn packets over in.
    spare: Vec<Skb>,
    /// Whatever bits the walk's ids of the packets have: one test tells that nobody is watched.
    pub walk_id: WalkId,
    /// Their route, in place of one in each.
    pub(crate) dst: Option<Arc<Dst>>,
    /// Who is charged for those that have no owner themselves.
    pub(crate) charge: ListCharge,
    /// What their IP headers say alike, from `ip_rcv` on.
    pub(crate) way: IpWay,
}

impl SkbList {
    /// The most packets that go together.
    pub const MAX: usize = 64;

    /// Packets.
    #[inline]
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// There is none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Puts a packet behind the others.
    #[inline(always)]
    pub fn push(&mut self, skb: Skb) {
        self.walk_id.0 |= skb.walk_id.0;
        self.packets.push(skb);
    }

    /// The first packet.
    #[inline]
    pub fn first(&self) -> Option<&Skb> {
        self.packets.first()
    }

    /// The packets in their order.
    #[inline]
    pub fn iter(&self) -> std::slice::Iter<'_, Skb> {
        self.packets.iter()
    }

    /// The packets in their order, to change.
    #[inline]
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Skb> {
        self.packets.iter_mut()
    }

    /// Takes every packet through a station that may begin to watch it.
    #[inline(always)]
    pub fn visit(&mut self, mut station: impl FnMut(&mut Skb)) {
        let mut ids = 0;
        for skb in &mut self.packets {
            station(skb);
            ids |= skb.walk_id.0;
        }
        self.walk_id.0 |= ids;
    }

    /// Takes every packet through a station, which looks at it and may change it; those it turns
    /// away leave the list and go to `turned_away`, each with all that is its own.
    #[inline(always)]
    pub fn sift<E>(
        &mut self,
        cx: &mut BhCx<'_>,
        mut station: impl FnMut(&mut BhCx<'_>, &mut Skb) -> Result<(), E>,
        mut turned_away: impl FnMut(&mut BhCx<'_>, Skb, E),
    ) {
        let mut at = 0;
        while let Some(skb) = self.packets.get_mut(at) {
            match station(cx, skb) {
                Ok(()) => at += 1,
                Err(why) => {
                    let skb = self.take(at);
                    turned_away(cx, skb, why);
                }
            }
        }
    }

    /// The same for a station that keeps what it sees. Compiled for a packet alone, too, which needs
    /// nothing of what is there to compare several.
    #[inline(always)]
    pub(crate) fn inspect<I: Inspect>(
        &mut self,
        cx: &mut BhCx<'_>,
        seen: &mut I,
        mut turned_away: impl FnMut(&mut BhCx<'_>, Skb, I::Bad),
    ) {
        if let [only] = &mut self.packets[..] {
            if let Err(why) = seen.look_at(only) {
                let skb = self.take(0);
                turned_away(cx, skb, why);
            }
        } else {
            self.sift(cx, |_, skb| seen.look_at(skb), turned_away);
        }
    }

    /// The same where the packets that are turned away end, under the station's reason. How many
    /// did.
    #[inline(always)]
    pub fn pass(
        &mut self,
        cx: &mut BhCx<'_>,
        station: impl FnMut(&mut BhCx<'_>, &mut Skb) -> Result<(), DropReason>,
    ) -> u32 {
        let before = self.len();
        self.sift(cx, station, kfree_skb);
        (before - self.len()) as u32
    }

    #[cold]
    #[inline(never)]
    fn take(&mut self, at: usize) -> Skb {
        let mut skb = self.packets.remove(at);
        endow(&mut skb, &self.dst, &mut self.charge);
        skb
    }

    /// What `key` tells of all packets, if it is the same and there are any.
    #[inline(always)]
    pub(crate) fn common<const N: usize>(
        &self,
        key: impl Fn(&SkBuff) -> [u64; N],
    ) -> Option<[u64; N]> {
        if let [only] = &self.packets[..] {
            return Some(key(only));
        }
        let mut common = Common::new();
        self.packets.iter().for_each(|skb| common.see(key(skb)));
        common.all()
    }

    /// For packets that are not all alike: takes those through a station together that follow one
    /// another and that `key` tells alike. What the station leaves stays in the list.
    #[cold]
    #[inline(never)]
    pub(crate) fn in_runs<K: PartialEq>(
        &mut self,
        cx: &mut BhCx<'_>,
        key: impl Fn(&SkBuff) -> K,
        mut station: impl FnMut(&mut BhCx<'_>, &mut Self, K),
    ) {
        let mut left = cx.skb_list();
        while let [first, others @ ..] = &self.packets[..] {
            let first = key(first);
            let more = others.iter().take_while(|skb| key(skb) == first).count();
            let mut run = self.split_run(cx, more + 1);
            station(cx, &mut run, first);
            left.append(&mut run);
            cx.free_skb_list(run);
        }
        self.append(&mut left);
        cx.free_skb_list(left);
    }

    /// The first packets, on the same route.
    fn split_run(&mut self, cx: &mut BhCx<'_>, len: usize) -> Box<Self> {
        let mut run = cx.skb_list();
        run.dst.clone_from(&self.dst);
        run.way = self.way;
        for skb in self.packets.drain(..len) {
            run.push(skb);
        }
        run
    }

    /// The packets have their route in common from here on: the first one's.
    #[inline]
    pub(crate) fn share_dst(&mut self, cx: &mut BhCx<'_>) {
        if self.first().is_some_and(|skb| skb.dst.is_some()) {
            self.take_dsts(cx);
        }
    }

    #[inline(never)]
    fn take_dsts(&mut self, cx: &mut BhCx<'_>) {
        for skb in &mut self.packets {
            if let Some(dst) = skb.dst.take()
                && let Some(spare) = self.dst.replace(dst)
            {
                cx.cpu.routes.give_back(spare);
            }
        }
    }

    /// Hands the packets out one by one, each with all that is its own, until `take` gives one back:
    /// that and those behind it stay.
    #[inline(always)]
    pub fn hand_out(&mut self, take: impl FnMut(Skb) -> Result<(), Skb>) {
        let Self { packets, spare, dst, charge, .. } = self;
        hand_out(packets, spare, |skb| endow(skb, dst, charge), take);
    }

    /// The same for packets that have arrived: where they were to go is of no use to anybody any more.
    #[inline(always)]
    pub(crate) fn hand_over(&mut self, take: impl FnMut(Skb) -> Result<(), Skb>) {
        let Self { packets, spare, charge, .. } = self;
        hand_out(packets, spare, |skb| charge.endow(skb), take);
    }

    /// Takes each packet out and lets `turn` put others into its place.
    pub(crate) fn replace_each(&mut self, mut turn: impl FnMut(&mut Self, Skb)) {
        let mut old = std::mem::take(&mut self.spare);
        std::mem::swap(&mut old, &mut self.packets);
        old.drain(..).for_each(|skb| turn(self, skb));
        self.spare = old;
    }

    /// Takes the last packet out. It needs nothing of what the list holds for all.
    pub(crate) fn pop_back(&mut self) -> Option<Skb> {
        self.packets.pop()
    }

    /// The packets from `from` on are the segments of `whole`: whoever is charged for that is for them.
    pub(crate) fn charge_segments(&mut self, from: usize, whole: &mut Skb) {
        let Self { packets, charge, .. } = self;
        let size = packets[from..].iter().map(|skb| skb.truesize as usize).sum();
        if whole.owner.is_none() {
            charge.grow(size, whole.truesize as usize);
        } else {
            whole.owner.share(&mut packets[from..], size);
        }
    }

    /// Hands all packets out one by one, each with all that is its own.
    #[inline(always)]
    pub fn each_alone(&mut self, cx: &mut BhCx<'_>, mut take: impl FnMut(&mut BhCx<'_>, Skb)) {
        self.hand_out(|skb| {
            take(cx, skb);
            Ok(())
        });
    }

    /// Takes the packets off their owners' charge: they are on their way to somebody else.
    ///
    /// linux: include/linux/skbuff.h:skb_orphan
    pub fn skb_orphan(&mut self, cx: &mut BhCx<'_>) {
        self.charge.release(cx);
        self.packets.iter_mut().for_each(|skb| skb.skb_orphan(cx));
    }

    /// The first packets go to the end of `to`. They need nothing of what the list holds for all: they
    /// have arrived.
    pub(crate) fn move_to(&mut self, count: usize, to: &mut Vec<Skb>) {
        if count == self.len() {
            to.append(&mut self.packets);
        } else {
            to.extend(self.packets.drain(..count));
        }
    }

    /// The same for the last one.
    #[inline(always)]
    pub(crate) fn move_last(&mut self, to: &mut Vec<Skb>) {
        if let Some(skb) = self.packets.pop() {
            to.push(skb);
        }
    }

    /// Takes over the packets of `other`, behind its own.
    pub(crate) fn append(&mut self, other: &mut Self) {
        self.walk_id.0 |= other.walk_id.0;
        self.packets.append(&mut other.packets);
    }

    /// Takes the first packet out, with all that is its own.
    pub(crate) fn pop_front(&mut self) -> Option<Skb> {
        if self.packets.is_empty() {
            return None;
        }
        let mut skb = self.packets.remove(0);
        endow(&mut skb, &self.dst, &mut self.charge);
        Some(skb)
    }

    /// The packets from `at` on go to `other`, each with all that is its own.
    pub(crate) fn split_to(&mut self, at: usize, other: &mut Self) {
        let Self { packets, dst, charge, .. } = self;
        for mut skb in packets.drain(at..) {
            endow(&mut skb, dst, charge);
            other.push(skb);
        }
    }

    /// For a station that the list passes: each packet that is watched.
    #[cold]
    #[inline(never)]
    pub fn each_watched(&self, record: impl Fn(&SkBuff)) {
        self.packets.iter().filter(|skb| skb.walk_id.watched()).for_each(|skb| record(skb));
    }

    /// Ends what somebody forgot who had the list: a handler's bug, but not the next one's packets.
    #[cold]
    #[inline(never)]
    fn end_forgotten(&mut self, cx: &mut BhCx<'_>) {
        debug_assert!(false, "the end of each packet is stated");
        self.pass(cx, |_, _| Err(DropReason::NotSpecified));
    }

    /// Ends all packets, which did their work.
    #[inline(always)]
    pub fn consume(&mut self, cx: &mut BhCx<'_>) {
        crate::walk!(cx, self, consume_skb);
        for skb in self.packets.drain(..) {
            cx.free_skb(skb);
        }
    }
}

/// A station that keeps what it sees of the packets that pass it.
// Not a closure: the compiler does not always inline one that is called in two places.
pub(crate) trait Inspect {
    /// Why a packet is turned away.
    type Bad;

    /// Looks at a packet and may change it. To be inlined always.
    ///
    /// # Errors
    /// It is to leave the list.
    fn look_at(&mut self, skb: &mut Skb) -> Result<(), Self::Bad>;
}

/// Gives a packet that leaves its list what the list held for it.
#[inline]
fn endow(skb: &mut Skb, dst: &Option<Arc<Dst>>, charge: &mut ListCharge) {
    if skb.dst.is_none() {
        skb.dst.clone_from(dst);
    }
    charge.endow(skb);
}

#[inline(always)]
fn hand_out(
    packets: &mut Vec<Skb>,
    spare: &mut Vec<Skb>,
    mut endow: impl FnMut(&mut Skb),
    mut take: impl FnMut(Skb) -> Result<(), Skb>,
) {
    let mut handed = packets.drain(..);
    while let Some(mut skb) = handed.next() {
        endow(&mut skb);
        if let Err(back) = take(skb) {
            spare.push(back);
            spare.extend(handed);
            return std::mem::swap(packets, spare);
        }
    }
}

impl BhCx<'_> {
    /// An empty list.
    #[inline(always)]
    pub fn skb_list(&mut self) -> Box<SkbList> {
        self.cpu.softnet.lists.take()
    }

    /// A list of one packet: its route is the list's.
    #[inline(always)]
    pub(crate) fn skb_list_of(&mut self, mut skb: Skb) -> Box<SkbList> {
        let mut list = self.skb_list();
        list.dst = skb.dst.take();
        list.push(skb);
        list
    }

    /// Takes a list back that is used up; what it held for its packets goes where it belongs.
    #[inline(always)]
    pub fn free_skb_list(&mut self, mut list: Box<SkbList>) {
        if !list.is_empty() {
            list.end_forgotten(self);
        }
        list.walk_id = WalkId::default();
        if list.dst.is_some() | list.charge.is_some() {
            if let Some(dst) = list.dst.take() {
                self.cpu.routes.give_back(dst);
            }
            list.charge.release(self);
        }
        self.cpu.softnet.lists.give_back(list);
    }
}

/// Empty lists that wait to be used.
#[derive(Debug, Default)]
pub(crate) struct SpareLists {
    /// The one that came back last: mostly one is in use at a time.
    last: Option<Box<SkbList>>,
    #[expect(clippy::vec_box, reason = "lists are handed on, at the price of a pointer")]
    others: Vec<Box<SkbList>>,
}

impl SpareLists {
    #[inline(always)]
    fn take(&mut self) -> Box<SkbList> {
        match self.last.take() {
            Some(list) => list,
            None => self.another(),
        }
    }

    #[inline(never)]
    fn another(&mut self) -> Box<SkbList> {
        self.others.pop().unwrap_or_default()
    }

    #[inline(always)]
    fn give_back(&mut self, list: Box<SkbList>) {
        if let Some(before) = self.last.replace(list) {
            self.put_away(before);
        }
    }

    #[inline(never)]
    fn put_away(&mut self, list: Box<SkbList>) {
        self.others.push(list);
    }
}

impl fmt::Debug for SkbList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SkbList({} packets)", self.len())
    }
}

#[cfg(test)]
mod tests;
