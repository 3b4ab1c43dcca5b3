//! A datagram's fragments until all are there: in order, without overlaps.
//!
//! linux: net/ipv4/inet_fragment.c; RFC 815, RFC 5722 section 4. Key types: `InetFragQueue`.
//! Contexts: BH, under the lock of whoever keeps the queue. Invariants: runs of fragments neither touch the same octet
//! nor are empty; a packet in a queue is linear, its data the fragment's payload, its headers in front.

use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::core::skbuff::{IpSummed, Skb};
use std::collections::BTreeMap;
use std::fmt;

/// Why a fragment has no place among the others.
///
/// linux: net/ipv4/inet_fragment.c:IPFRAG_DUP
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FragConflict {
    /// All of it is there.
    Dup,
    /// A part of it is there.
    Overlap,
}

/// Fragments that follow one another without a gap, and came in that order.
struct FragRun {
    /// Octets.
    len: u32,
    skbs: Vec<Skb>,
}

/// What is there of a datagram.
///
/// linux: include/net/inet_frag.h:inet_frag_queue
#[derive(Default)]
pub(crate) struct InetFragQueue {
    /// By where they begin.
    runs: BTreeMap<u32, FragRun>,
    /// The one with the datagram's first octet is there (`INET_FRAG_FIRST_IN`).
    pub first_in: bool,
    /// The one with its last octet is (`INET_FRAG_LAST_IN`).
    pub last_in: bool,
    /// Where it ends, as far as is known.
    pub len: u32,
    /// Octets of it that are there.
    pub meat: u32,
    /// Octets of the largest fragment, header included.
    pub max_size: u32,
    /// When the last one came.
    pub stamp: Ktime,
    /// What its packets are charged with.
    pub truesize: usize,
}

impl fmt::Debug for InetFragQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InetFragQueue({} of {} octets in {} runs)", self.meat, self.len, self.runs.len())
    }
}

impl InetFragQueue {
    /// Nothing is there.
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Puts a fragment, whose data are the octets from `offset` to `end`, among the others.
    ///
    /// # Errors
    /// The fragment again, when it is not disjoint from them (RFC 5722; a copy does no harm).
    ///
    /// linux: net/ipv4/inet_fragment.c:inet_frag_queue_insert
    pub(crate) fn inet_frag_queue_insert(
        &mut self,
        skb: Skb,
        offset: u32,
        end: u32,
    ) -> Result<(), (Skb, FragConflict)> {
        let truesize = skb.truesize as usize;
        let len = end - offset;
        if let Some(mut last) = self.runs.last_entry() {
            let tail = last.key() + last.get().len;
            if tail < end && offset == tail {
                // The common case: they come in order.
                last.get_mut().len += len;
                last.get_mut().skbs.push(skb);
                self.count(len, truesize);
                return Ok(());
            }
            if let Some(conflict) = self.conflict(offset, end) {
                return Err((skb, conflict));
            }
        }
        self.runs.insert(offset, FragRun { len, skbs: vec![skb] });
        self.count(len, truesize);
        Ok(())
    }

    fn count(&mut self, len: u32, truesize: usize) {
        self.meat += len;
        self.truesize += truesize;
    }

    /// A run has some of these octets, or all.
    fn conflict(&self, offset: u32, end: u32) -> Option<FragConflict> {
        // Runs are disjoint: if the last that begins before the end ends before the offset, all do.
        let (start, run) = self.runs.range(..end).next_back()?;
        let run_end = start + run.len;
        if offset >= run_end {
            return None;
        }
        let inside = offset >= *start && end <= run_end;
        Some(if inside { FragConflict::Dup } else { FragConflict::Overlap })
    }

    /// All octets are there.
    pub(crate) fn is_whole(&self) -> bool {
        self.first_in && self.last_in && self.meat == self.len
    }

    /// Takes the packets out, in the datagram's order.
    ///
    /// linux: net/ipv4/inet_fragment.c:inet_frag_rbtree_purge
    pub(crate) fn take(&mut self) -> Vec<Skb> {
        self.truesize = 0;
        std::mem::take(&mut self.runs).into_values().flat_map(|run| run.skbs).collect()
    }

    /// As if no fragment had come; how large they were stays known, as in Linux.
    pub(crate) fn reinit(&mut self) -> Vec<Skb> {
        let gone = self.take();
        (self.first_in, self.last_in) = (false, false);
        (self.len, self.meat) = (0, 0);
        gone
    }
}

impl Drop for InetFragQueue {
    /// Full only when its machine goes away.
    fn drop(&mut self) {
        self.take().into_iter().for_each(Skb::forget_at_exit);
    }
}

/// So many octets of a datagram lie in one piece, whatever its fragments were: more than headers are read from.
const PULLED: usize = 128;

/// Makes the first fragment, whose data can be written, a packet of all of them: the others' data follow its own.
///
/// linux: net/ipv4/inet_fragment.c:inet_frag_reasm_finish
pub(crate) fn inet_frag_reasm_finish(cx: &mut BhCx<'_>, head: &mut Skb, others: Vec<Skb>) {
    let mut list = cx.skb_list();
    for mut skb in others {
        if head.ip_summed != skb.ip_summed {
            head.ip_summed = IpSummed::None;
        }
        if list.is_empty() && head.len() < PULLED {
            let len = skb.len().min(PULLED - head.len());
            if let Some(room) = head.skb_put(len) {
                room.copy_from_slice(&skb.data()[..len]);
                let _as_much_as_there_is = skb.skb_pull(len);
            }
        }
        if skb.len() == 0 { cx.free_skb(skb) } else { list.push(skb) }
    }
    if head.ip_summed == IpSummed::Complete {
        // The sum of each is over its own octets alone.
        head.ip_summed = IpSummed::None;
    }
    if list.is_empty() {
        return cx.free_skb_list(list);
    }
    for skb in list.iter() {
        head.len += skb.len;
        head.data_len += skb.len;
        head.truesize += skb.truesize;
    }
    head.frag_list = Some(list);
}

#[cfg(test)]
mod tests;
