//! A CPU's routing decisions, and the key they are found by.

use super::{Flow4, FlowDir};
use crate::net::core::dst::Dst;
use crate::net::ipv4::ip_input::IpWay;
use std::fmt;
use std::sync::Arc;

/// Decisions a CPU keeps.
const SLOTS: usize = 256;

/// A CPU's routing decisions, lent out: who uses one takes it along and its packet's end brings it
/// back, so that no count is touched.
pub struct RouteCache {
    /// The one that came back last, before it is put in its slot: the next packet is most often of
    /// the same flow.
    last: Option<Arc<Dst>>,
    slots: Box<[Option<Arc<Dst>>; SLOTS]>,
}

impl Default for RouteCache {
    fn default() -> Self {
        Self { last: None, slots: Box::new([const { None }; SLOTS]) }
    }
}

impl fmt::Debug for RouteCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RouteCache({} kept)", self.slots.iter().chain([&self.last]).flatten().count())
    }
}

impl RouteCache {
    // Not keyed: a collision costs its maker a lookup, as a miss does.
    #[inline]
    fn slot(key: RouteKey) -> usize {
        let addrs = key.addrs as u32 ^ ((key.addrs >> 32) as u32).rotate_left(16);
        let mixed = addrs ^ (key.other >> 16) as u32;
        ((mixed.wrapping_mul(0x9e37_79b1) >> 24) as usize ^ key.other as usize & 1) % SLOTS
    }

    #[inline(always)]
    pub(super) fn take(&mut self, key: RouteKey, generation: u64) -> Option<Arc<Dst>> {
        match &self.last {
            Some(dst) if dst.key == key && dst.generation == generation => self.last.take(),
            _ => self.take_slot(key, generation),
        }
    }

    #[inline(never)]
    fn take_slot(&mut self, key: RouteKey, generation: u64) -> Option<Arc<Dst>> {
        let slot = &mut self.slots[Self::slot(key)];
        match slot {
            Some(dst) if dst.key == key && dst.generation == generation => slot.take(),
            _ => None,
        }
    }

    /// Takes a decision back.
    #[inline(always)]
    pub(crate) fn give_back(&mut self, dst: Arc<Dst>) {
        match &self.last {
            None => self.last = Some(dst),
            // Of a list that was taken apart: each packet has a count of its own.
            Some(last) if Arc::ptr_eq(last, &dst) => drop(dst),
            Some(_) => self.put_away(dst),
        }
    }

    /// The one that came back before goes into its slot.
    #[inline(never)]
    fn put_away(&mut self, dst: Arc<Dst>) {
        if let Some(before) = self.last.replace(dst) {
            let slot = Self::slot(before.key);
            self.slots[slot] = Some(before);
        }
    }
}

/// A flow in two words, by which its decision is found.
// In registers from the header on: put together in memory field by field to be compared as one, a key
// just made would be read wider than it was written, for which the processor waits longer than for
// all the rest of the lookup.
#[derive(Clone, Copy, Debug, Eq)]
pub struct RouteKey {
    /// Source in the upper half, destination in the lower.
    addrs: u64,
    /// From the lowest byte: which way, TOS; two bytes of device, four of mark.
    other: u64,
}

impl PartialEq for RouteKey {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        (self.addrs ^ other.addrs) | (self.other ^ other.other) == 0
    }
}

impl From<&Flow4> for RouteKey {
    #[inline(always)]
    fn from(flow: &Flow4) -> Self {
        Self {
            addrs: u64::from(flow.saddr) << 32 | u64::from(flow.daddr),
            other: u64::from(flow.mark) << 32
                | u64::from(flow.oif) << 16
                | u64::from(flow.tos) << 8
                | flow.dir as u64,
        }
    }
}

impl RouteKey {
    /// Of a flow from here.
    pub(crate) fn is_output(self) -> bool {
        self.other as u8 == FlowDir::Output as u8
    }

    /// The key of datagrams that came in.
    #[inline(always)]
    pub(crate) fn input(way: IpWay) -> Self {
        let (tos, iif) = (u64::from(way.tos() & 0x1c) << 8, u64::from(way.iif()) << 16);
        Self { addrs: way.addrs(), other: iif | tos | FlowDir::Input as u64 }
    }

    /// The flow that came in.
    pub(super) fn input_flow(self) -> Flow4 {
        Flow4 {
            daddr: self.addrs as u32,
            saddr: (self.addrs >> 32) as u32,
            mark: (self.other >> 32) as u32,
            oif: (self.other >> 16) as u16,
            tos: (self.other >> 8) as u8,
            dir: FlowDir::Input,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_tells_flows_apart_by_every_part() {
        let flow = Flow4 {
            daddr: 0xc000_0201,
            saddr: 0xc000_0202,
            mark: 0x1234_5678,
            oif: 0x9abc,
            tos: 0xde,
            dir: FlowDir::Input,
        };
        let key = RouteKey::from(&flow);
        assert_eq!(key.input_flow(), flow);
        let others = [
            Flow4 { daddr: 1, ..flow },
            Flow4 { saddr: 1, ..flow },
            Flow4 { mark: 1, ..flow },
            Flow4 { oif: 1, ..flow },
            Flow4 { tos: 1, ..flow },
            Flow4 { dir: FlowDir::Output, ..flow },
            Flow4 { daddr: flow.saddr, saddr: flow.daddr, ..flow },
        ];
        for other in others {
            assert_ne!(RouteKey::from(&other), key, "{other:?}");
        }
    }
}
