//! Fragments become datagrams again.
//!
//! linux: net/ipv4/ip_fragment.c; RFC 791, RFC 815, RFC 5722. Key types: `IpFrags`. Context: BH. Lock:
//! `class::InetFrag`, of the part of the table that a source belongs to; no packet is freed and nobody is called under it.
//! Invariants: what waits is charged, and takes no more than `ipfrag_high_thresh` and a packet; each part of the table has
//! one timer at most that counts; an overlap ends a datagram, a copy does not.
//! DIVERGES: one timer for a part of the table, not for each datagram: a timer that was armed stays in the wheel until it is
//! due, and whoever sends datagrams in two fragments could fill that.

use crate::kernel::context::BhCx;
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::time::Ktime;
use crate::kernel::timer::TimerTarget;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::DevId;
use crate::net::core::skbuff::{Cb, IpSummed, Skb, kfree_skb, skb_cow_head, skb_linearize};
use crate::net::ipv4::InetSkbParm;
use crate::net::ipv4::icmp::{IcmpCode, icmp_send};
use crate::net::ipv4::inet_fragment::{FragConflict, InetFragQueue, inet_frag_reasm_finish};
use crate::net::ipv4::route::{RouteKey, ip_route_input_noref};
use klib::checksum::ip_fast_csum;
use klib::siphash::SipKey;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use uapi::icmp::ICMP_EXC_FRAGTIME;
use uapi::if_ether::ETH_HLEN;
use uapi::ip::{INET_ECN_CE, INET_ECN_MASK, IP_DF, IpHdr};
use uapi::snmp::IpMib;

/// Parts of the table.
const SHARDS: usize = 64;

/// Which datagram a fragment is of (RFC 791 section 3.2).
///
/// linux: include/net/inet_frag.h:frag_v4_compare_key
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct FragV4CompareKey {
    saddr: u32,
    daddr: u32,
    id: u16,
    protocol: u8,
}

/// A datagram that is not whole.
///
/// linux: net/ipv4/ip_fragment.c:ipq
#[derive(Debug, Default)]
struct Ipq {
    q: InetFragQueue,
    /// A bit for each value of ECN that was seen.
    ecn: u8,
    /// Octets of the largest fragment that must not be cut further, header included.
    max_df_size: u32,
    /// Where the last one came in.
    iif: Option<DevId>,
    /// What its source's count of fragments was when the last one came.
    rid: u32,
    /// When it must be whole, and its number.
    due: (Ktime, u64),
}

/// What a datagram costs before its first fragment.
const QSIZE: usize = size_of::<Ipq>() + size_of::<FragV4CompareKey>();

/// The source of datagrams that are not whole.
///
/// linux: include/net/inetpeer.h:inet_peer
#[derive(Debug, Default)]
struct Peer {
    /// Fragments that came from it.
    rid: u32,
    queues: u32,
}

/// A part of the table. Trees, not hash tables: their order is the same in every run, and no choice of what stands in
/// a header makes them slow.
#[derive(Debug, Default)]
struct Shard {
    queues: BTreeMap<FragV4CompareKey, Ipq>,
    peers: BTreeMap<u32, Peer>,
    due: BTreeMap<(Ktime, u64), FragV4CompareKey>,
    serial: u64,
    /// When its timer goes off.
    armed: Option<Ktime>,
}

/// The datagrams of a namespace that are not whole.
///
/// linux: include/net/inet_frag.h:fqdir
pub(crate) struct IpFrags {
    key: SipKey,
    mem: AtomicUsize,
    shards: Box<[SpinLock<Shard, class::InetFrag>]>,
}

impl fmt::Debug for IpFrags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IpFrags({} octets)", self.frag_mem_limit())
    }
}

/// What a fragment says of itself.
struct Fragment {
    key: FragV4CompareKey,
    ihl: usize,
    offset: u32,
    /// Behind its last octet that counts.
    end: u32,
    more: bool,
    df: bool,
    ecn: u8,
}

impl Fragment {
    fn of(skb: &Skb) -> Option<Self> {
        let iph = skb.front::<IpHdr>()?;
        let (ihl, more) = (iph.ihl(), iph.mf());
        let offset = iph.offset() as u32;
        let end = offset + skb.len().checked_sub(ihl)? as u32;
        Some(Self {
            key: FragV4CompareKey {
                saddr: iph.saddr.get(),
                daddr: iph.daddr.get(),
                id: iph.id.get(),
                protocol: iph.protocol,
            },
            ihl,
            offset,
            // All but the last are multiples of eight octets; what is more does not count.
            end: if more { end & !7 } else { end },
            more,
            df: iph.df(),
            ecn: 1 << (iph.tos & INET_ECN_MASK),
        })
    }
}

/// What became of a fragment.
enum Queued {
    /// It waits for others, in the queue.
    Waits,
    /// It was the last one missing.
    Whole(Ipq),
    /// It is of no use: why, and what else goes with it.
    Refused(Skb, DropReason, Vec<Skb>),
}

impl IpFrags {
    pub(crate) fn new(key: SipKey) -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| SpinLock::default()).collect();
        Arc::new(Self { key, mem: AtomicUsize::new(0), shards })
    }

    /// Octets that fragments take up.
    ///
    /// linux: include/net/inet_frag.h:frag_mem_limit
    pub(crate) fn frag_mem_limit(&self) -> usize {
        self.mem.load(Ordering::Relaxed)
    }

    /// Datagrams that are not whole.
    pub(crate) fn queues(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().queues.len()).sum()
    }

    /// All fragments of a source meet in one part, where they are counted.
    fn shard_of(&self, key: &FragV4CompareKey) -> usize {
        self.key.siphash_1u32(key.saddr) as usize % SHARDS
    }

    fn sub_frag_mem_limit(&self, bytes: usize) {
        self.mem.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Shard {
    /// The datagram of a key, or a new one.
    ///
    /// linux: net/ipv4/ip_fragment.c:ip_find
    fn ip_find(&mut self, frags: &IpFrags, key: FragV4CompareKey, due: Ktime) -> &mut Ipq {
        self.queues.entry(key).or_insert_with(|| {
            frags.mem.fetch_add(QSIZE, Ordering::Relaxed);
            self.peers.entry(key.saddr).or_default().queues += 1;
            self.serial += 1;
            let due = (due, self.serial);
            self.due.insert(due, key);
            Ipq { due, ..Ipq::default() }
        })
    }

    /// Takes a datagram out, with all that is there of it.
    ///
    /// linux: net/ipv4/inet_fragment.c:inet_frag_kill
    fn inet_frag_kill(&mut self, frags: &IpFrags, key: &FragV4CompareKey) -> Option<Ipq> {
        let qp = self.queues.remove(key)?;
        self.due.remove(&qp.due);
        if let Some(peer) = self.peers.get_mut(&key.saddr) {
            peer.queues -= 1;
            if peer.queues == 0 {
                self.peers.remove(&key.saddr);
            }
        }
        frags.sub_frag_mem_limit(QSIZE + qp.q.truesize);
        Some(qp)
    }

    /// More fragments came from its source since the last one of this datagram than may: identifications can have
    /// come round.
    ///
    /// linux: net/ipv4/ip_fragment.c:ip_frag_too_far
    fn ip_frag_too_far(&mut self, key: &FragV4CompareKey, max_dist: u32) -> bool {
        let (Some(peer), Some(qp)) = (self.peers.get_mut(&key.saddr), self.queues.get_mut(key))
        else {
            return false;
        };
        if max_dist == 0 {
            return false;
        }
        peer.rid = peer.rid.wrapping_add(1);
        let before = std::mem::replace(&mut qp.rid, peer.rid);
        !qp.q.is_empty() && qp.rid.wrapping_sub(before) > max_dist
    }

    /// The datagram begins anew; what was there of it.
    ///
    /// linux: net/ipv4/ip_fragment.c:ip_frag_reinit
    fn ip_frag_reinit(&mut self, frags: &IpFrags, key: &FragV4CompareKey, due: Ktime) -> Vec<Skb> {
        let Some(qp) = self.queues.get_mut(key) else { return Vec::new() };
        self.due.remove(&qp.due);
        qp.due.0 = due;
        self.due.insert(qp.due, *key);
        frags.sub_frag_mem_limit(qp.q.truesize);
        (qp.ecn, qp.iif) = (0, None);
        qp.q.reinit()
    }

    /// When its timer is to be armed for, if it is not armed early enough.
    fn arm_for(&mut self) -> Option<Ktime> {
        let ((next, _), _) = self.due.first_key_value()?;
        if self.armed.is_some_and(|armed| armed <= *next) {
            return None;
        }
        self.armed = Some(*next);
        self.armed
    }
}

impl Ipq {
    /// Where the fragment ends goes with what is known of the datagram's end, and is known from now on.
    fn end_fits(&mut self, fragment: &Fragment) -> bool {
        let Fragment { end, .. } = *fragment;
        let q = &mut self.q;
        if fragment.more {
            if end > q.len && q.last_in {
                return false;
            }
            q.len = q.len.max(end);
        } else {
            if end < q.len || q.last_in && end != q.len {
                return false;
            }
            (q.last_in, q.len) = (true, end);
        }
        end > fragment.offset
    }

    /// Takes the fragment, or gives it back.
    fn insert(
        &mut self,
        frags: &IpFrags,
        skb: Skb,
        fragment: &Fragment,
    ) -> Option<(Skb, DropReason)> {
        let (truesize, dev, stamp) = (skb.truesize as usize, skb.dev, skb.tstamp());
        let size = skb.len + fragment.ihl as u32;
        match self.q.inet_frag_queue_insert(skb, fragment.offset, fragment.end) {
            Err((skb, FragConflict::Dup)) => return Some((skb, DropReason::DupFrag)),
            Err((skb, FragConflict::Overlap)) => return Some((skb, DropReason::IpFragment)),
            Ok(()) => (),
        }
        frags.mem.fetch_add(truesize, Ordering::Relaxed);
        self.iif = dev.or(self.iif);
        self.q.stamp = stamp;
        self.q.first_in |= fragment.offset == 0;
        self.q.max_size = self.q.max_size.max(size);
        self.ecn |= fragment.ecn;
        if fragment.df {
            self.max_df_size = self.max_df_size.max(size);
        }
        None
    }
}

/// Takes a fragment that is for this machine, its data beginning with the IP header: the whole datagram, its data
/// beginning with the header of the first fragment, if that was the last one missing.
///
/// linux: net/ipv4/ip_fragment.c:ip_defrag
pub(crate) fn ip_defrag(cx: &mut BhCx<'_>, mut skb: Skb) -> Option<Skb> {
    walk!(cx, skb, ip_defrag);
    cx.count(IpMib::ReasmReqds);
    let frags = &cx.t.ns.frags;
    let high = cx.t.net.sysctl.ipfrag.high_thresh as usize;
    if high == 0 || frags.frag_mem_limit() > high {
        cx.count(IpMib::ReasmFails);
        kfree_skb(cx, skb, DropReason::FragMem);
        return None;
    }
    let Some(fragment) = Fragment::of(&skb) else {
        cx.count(IpMib::ReasmFails);
        kfree_skb(cx, skb, DropReason::IpInHdr);
        return None;
    };
    let dst = skb.dst.take();
    // What waits is charged to nobody but the table.
    skb.skb_orphan(cx);
    let whole = match ip_frag_queue(cx, skb, &fragment) {
        Queued::Waits => None,
        Queued::Whole(qp) => ip_frag_reasm(cx, qp),
        Queued::Refused(skb, reason, others) => {
            // A copy is no failure.
            if reason != DropReason::DupFrag {
                cx.count(IpMib::ReasmFails);
            }
            kfree_skb(cx, skb, reason);
            others.into_iter().for_each(|skb| kfree_skb(cx, skb, reason));
            None
        }
    };
    match (whole, dst) {
        (Some(mut whole), dst) => {
            whole.dst = dst;
            return Some(whole);
        }
        (None, Some(dst)) => cx.cpu.routes.give_back(dst),
        (None, None) => (),
    }
    None
}

/// Puts a fragment into its datagram's queue.
///
/// linux: net/ipv4/ip_fragment.c:ip_frag_queue
fn ip_frag_queue(cx: &mut BhCx<'_>, mut skb: Skb, fragment: &Fragment) -> Queued {
    walk!(cx, skb, ip_frag_queue);
    let (t, parms) = (cx.t, &cx.t.net.sysctl.ipfrag);
    let (frags, key) = (&t.ns.frags, &fragment.key);
    let usable = trim_to_payload(cx, &mut skb, fragment);
    let due = cx.now() + parms.timeout;
    let number = frags.shard_of(key);
    let mut shard = frags.shards[number].lock();
    shard.ip_find(frags, *key, due);
    let mut too_far = Vec::new();
    if shard.ip_frag_too_far(key, parms.max_dist) {
        too_far = shard.ip_frag_reinit(frags, key, due);
    }
    let queued = shard.queue(frags, (skb, usable), fragment);
    let arm = shard.arm_for();
    drop(shard);
    if let Some(at) = arm {
        cx.add_timer(at, Arc::clone(frags) as Arc<dyn TimerTarget>, number as u64);
    }
    if !too_far.is_empty() {
        cx.count(IpMib::ReasmFails);
        too_far.into_iter().for_each(|skb| kfree_skb(cx, skb, DropReason::FragTooFar));
    }
    queued
}

/// Makes a fragment its payload, in one piece, with the header in front; false if it can't be.
fn trim_to_payload(cx: &mut BhCx<'_>, skb: &mut Skb, fragment: &Fragment) -> bool {
    let len = fragment.ihl + fragment.end.saturating_sub(fragment.offset) as usize;
    if len < skb.len() && skb.ip_summed != IpSummed::Unnecessary {
        // Whatever is known of the sum is of what is cut, too.
        skb.ip_summed = IpSummed::None;
    }
    skb.pskb_trim(len);
    skb_linearize(cx, skb) && skb.skb_pull(fragment.ihl)
}

impl Shard {
    /// Puts a fragment among those of its datagram, which is there.
    fn queue(
        &mut self,
        frags: &IpFrags,
        (skb, usable): (Skb, bool),
        fragment: &Fragment,
    ) -> Queued {
        let key = &fragment.key;
        let Some(qp) = self.queues.get_mut(key) else {
            return Queued::Refused(skb, DropReason::IpFragment, Vec::new());
        };
        let refused = match qp.end_fits(fragment) && usable {
            true => qp.insert(frags, skb, fragment),
            false => Some((skb, DropReason::IpFragment)),
        };
        let whole = qp.q.is_whole();
        match refused {
            None if !whole => Queued::Waits,
            None => self.inet_frag_kill(frags, key).map_or(Queued::Waits, Queued::Whole),
            Some((skb, DropReason::DupFrag)) => {
                Queued::Refused(skb, DropReason::DupFrag, Vec::new())
            }
            Some((skb, reason)) => {
                let gone = self.inet_frag_kill(frags, key).map(|mut qp| qp.q.take());
                Queued::Refused(skb, reason, gone.unwrap_or_default())
            }
        }
    }
}

/// What a datagram has for ECN whose fragments say all of this (RFC 3168 section 5.3): a bit for each value. `None`: no
/// sender sends such fragments of one datagram.
///
/// linux: net/ipv4/inet_fragment.c:ip_frag_ecn_table
fn ip_frag_ecn(seen: u8) -> Option<u8> {
    const NOT_ECT: u8 = 1;
    const CE: u8 = 1 << INET_ECN_CE;
    match seen {
        NOT_ECT => Some(0),
        seen if seen & NOT_ECT != 0 => None,
        seen if seen & CE != 0 => Some(INET_ECN_CE),
        _ => Some(0),
    }
}

/// Makes a datagram of all of its fragments, its data beginning with the first one's IP header.
///
/// linux: net/ipv4/ip_fragment.c:ip_frag_reasm
fn ip_frag_reasm(cx: &mut BhCx<'_>, mut qp: Ipq) -> Option<Skb> {
    let mut all = qp.q.take().into_iter();
    let mut head = all.next()?;
    walk!(cx, head, ip_frag_reasm);
    let others: Vec<Skb> = all.collect();
    for skb in &others {
        walk!(cx, skb, link_merge => head.walk_id.0);
    }
    let ihl = head.network::<IpHdr>().map_or(0, IpHdr::ihl);
    let writable = skb_cow_head(cx, &mut head, ihl + ETH_HLEN);
    inet_frag_reasm_finish(cx, &mut head, others);
    let refused = match (ip_frag_ecn(qp.ecn), u16::try_from(ihl as u32 + qp.q.len)) {
        (None, _) => DropReason::IpFragment,
        (_, Err(_)) => DropReason::PktTooBig,
        _ if !writable => DropReason::NoMem,
        (Some(ecn), Ok(len)) => match write_header(&mut head, &qp, (ihl, len, ecn)) {
            Some(()) => {
                note(&mut head, &qp);
                cx.count(IpMib::ReasmOKs);
                return Some(head);
            }
            None => DropReason::NoMem,
        },
    };
    cx.count(IpMib::ReasmFails);
    kfree_skb(cx, head, refused);
    None
}

/// What is known of the datagram by its fragments.
fn note(head: &mut Skb, qp: &Ipq) {
    let size = qp.q.max_size.max(qp.max_df_size);
    let frag_max_size = u16::try_from(size).unwrap_or(u16::MAX);
    head.cb = Cb::Inet(InetSkbParm { frag_max_size, ..InetSkbParm::default() });
    head.dev = qp.iif;
    if qp.q.stamp != Ktime::ZERO {
        head.set_tstamp(qp.q.stamp);
    }
}

/// Puts the first fragment's header back in front, and makes it the datagram's.
fn write_header(head: &mut Skb, qp: &Ipq, (ihl, len, ecn): (usize, u16, u8)) -> Option<()> {
    head.skb_push(ihl)?;
    let iph = head.front_mut::<IpHdr>()?;
    iph.tot_len.set(len);
    iph.tos |= ecn;
    // Its largest fragment was not to be cut further: no more is it, should it go on.
    iph.frag_off.set(if qp.max_df_size == qp.q.max_size { IP_DF } else { 0 });
    iph.check.set(0);
    let check = ip_fast_csum(head.data().get(..ihl)?);
    head.front_mut::<IpHdr>()?.check.set(check);
    Some(())
}

impl TimerTarget for IpFrags {
    /// Ends the datagrams of a part of the table whose time is up.
    ///
    /// linux: net/ipv4/ip_fragment.c:ip_expire
    fn expire(self: Arc<Self>, cx: &mut BhCx<'_>, token: u64) {
        walk!(cx, ip_expire);
        let now = cx.now();
        let Some(shard) = self.shards.get(token as usize % SHARDS) else { return };
        let mut late = Vec::new();
        let arm = {
            let mut shard = shard.lock();
            while let Some((&(due, _), &key)) = shard.due.first_key_value()
                && due <= now
            {
                late.extend(shard.inet_frag_kill(&self, &key));
            }
            if shard.armed.is_some_and(|armed| armed <= now) {
                shard.armed = None;
            }
            shard.arm_for()
        };
        late.into_iter().for_each(|qp| ip_expire(cx, qp));
        if let Some(at) = arm {
            cx.add_timer(at, self as Arc<dyn TimerTarget>, token);
        }
    }
}

/// A datagram's time is up: its sender is told, if the first fragment is there to show what it was (RFC 792).
///
/// linux: net/ipv4/ip_fragment.c:ip_expire
fn ip_expire(cx: &mut BhCx<'_>, mut qp: Ipq) {
    cx.count(IpMib::ReasmFails);
    cx.count(IpMib::ReasmTimeout);
    let first_in = qp.q.first_in;
    let mut all = qp.q.take().into_iter();
    if let Some(mut head) = all.next() {
        head.dev = qp.iif;
        let head = if first_in { tell_sender(cx, head) } else { Some(head) };
        head.into_iter().for_each(|skb| kfree_skb(cx, skb, DropReason::FragReasmTimeout));
    }
    all.for_each(|skb| kfree_skb(cx, skb, DropReason::FragReasmTimeout));
}

/// The packet has no route any more: that by which it came is looked up anew.
fn tell_sender(cx: &mut BhCx<'_>, mut head: Skb) -> Option<Skb> {
    let ihl = head.network::<IpHdr>().map_or(0, IpHdr::ihl);
    if head.dev.is_none() || !skb_cow_head(cx, &mut head, ihl) || head.skb_push(ihl).is_none() {
        return Some(head);
    }
    let mut list = cx.skb_list_of(head);
    list.look_again();
    let key = RouteKey::input(list.way);
    let routed = ip_route_input_noref(cx, &mut list, key).is_ok();
    let mut head = list.pop_front();
    cx.free_skb_list(list);
    if let Some(head) = &mut head
        && routed
    {
        icmp_send(cx, head, IcmpCode::TimeExceeded(ICMP_EXC_FRAGTIME), 0);
    }
    head
}

/// The namespace ends.
///
/// linux: net/ipv4/ip_fragment.c:ipv4_frags_exit_net
pub(crate) fn ipv4_frags_exit(cx: &mut BhCx<'_>) {
    let frags = Arc::clone(&cx.t.ns.frags);
    for shard in &frags.shards {
        let gone: Vec<Ipq> = {
            let mut shard = shard.lock();
            let keys: Vec<_> = shard.queues.keys().copied().collect();
            keys.iter().filter_map(|key| shard.inet_frag_kill(&frags, key)).collect()
        };
        for mut qp in gone {
            qp.q.take().into_iter().for_each(|skb| cx.free_skb(skb));
        }
    }
}

#[cfg(test)]
mod tests;
