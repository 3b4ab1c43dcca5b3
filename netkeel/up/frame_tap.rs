//! Frames that pass devices, queued for who writes or tells them.
//!
//! Key types: [`FrameTap`] sees the frames and queues them, [`Frame`]. Contexts: BH for the tap, a thread for the
//! rest. Locks: the queue's, a leaf. Invariants: the softirq never waits: what the queue has no room for is counted
//! and left out; frames are in the order in which they passed.
//! A checksum that its sender left to the device is filled in, as a wire would carry it: the host's own tcpdump shows
//! it as it is between two stacks, not yet summed.

use host::wait::Waiter;
use hw::capture::{Direction, fill_checksum};
use stack::kernel::bpf::BpfProg;
use stack::kernel::context::{BhCx, TaskCx};
use stack::kernel::nsproxy::NetId;
use stack::kernel::time::Ktime;
use stack::kernel::trace::WalkId;
use stack::net::core::dev::{
    DevId, NetDevice, PacketFunc, PacketTap, PacketType, dev_add_pack, rx::dev_remove_pack,
};
use stack::net::core::filter::{SkbFrom, SkbSource};
use stack::net::core::skbuff::{IpSummed, PktType, Skb, consume_skb};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uapi::if_ether::{ETH_P_ALL, EthHdr};
use zerocopy::IntoBytes;

/// Memory that frames between the softirq and the file may take.
const MOST_BYTES: usize = 16 << 20;

/// A frame that passed.
pub(crate) struct Frame {
    /// When, since 1970.
    pub(crate) real: Duration,
    /// The same on the machine's clock, which the walk goes by.
    pub(crate) time: Ktime,
    pub(crate) direction: Direction,
    /// The device it passed.
    pub(crate) dev: DevId,
    /// Octets in all, of which `bytes` are kept.
    pub(crate) len: usize,
    /// The tap's clone in the walk.
    pub(crate) packet: WalkId,
    pub(crate) bytes: Vec<u8>,
}

impl Frame {
    fn cost(len: usize) -> usize {
        len + size_of::<Self>()
    }

    #[cfg(test)]
    pub(crate) fn seen(time: Ktime, packet: WalkId) -> Self {
        let (real, direction) = (Duration::ZERO, Direction::In);
        Self { real, time, direction, dev: DevId(1), len: 100, packet, bytes: vec![0; 100] }
    }
}

#[derive(Default)]
struct Queue {
    frames: VecDeque<Frame>,
    cost: usize,
    /// Frames that came by.
    passed: u64,
    /// Of these, without room.
    dropped: u64,
}

/// What of the frames is wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Those of one device; none: of all.
    pub(crate) dev: Option<DevId>,
    /// Those that it wants; none: all.
    pub(crate) filter: Option<BpfProg>,
    /// So many octets of each at most.
    pub(crate) snaplen: usize,
}

/// The tap at a device, or at all.
pub(crate) struct FrameTap {
    queue: Mutex<Queue>,
    /// Where the writer waits.
    waiter: Arc<Waiter>,
    most: usize,
    wanted: Wanted,
}

impl FrameTap {
    pub(crate) fn new(waiter: &Arc<Waiter>, wanted: Wanted) -> Arc<Self> {
        Self::with_room(waiter, wanted, MOST_BYTES)
    }

    fn with_room(waiter: &Arc<Waiter>, wanted: Wanted, most: usize) -> Arc<Self> {
        Arc::new(Self { queue: Mutex::default(), waiter: Arc::clone(waiter), most, wanted })
    }

    /// From now on frames are seen. What is given back is what [`dev_remove_pack`] knows it by.
    pub(crate) fn register(self: &Arc<Self>, cx: &mut TaskCx) -> Registered {
        let tap: Arc<dyn PacketTap> = Arc::clone(self) as _;
        let func = PacketFunc::Tap(Arc::clone(&tap));
        dev_add_pack(cx, PacketType { kind: ETH_P_ALL, dev: self.wanted.dev, func });
        Registered { tap, net: cx.net_id() }
    }

    /// Takes all that wait.
    pub(crate) fn take(&self) -> VecDeque<Frame> {
        let mut queue = self.lock();
        queue.cost = 0;
        std::mem::take(&mut queue.frames)
    }

    /// Frames that came by, and of these those without room.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let queue = self.lock();
        (queue.passed, queue.dropped)
    }

    /// The filter wants it.
    fn wants(&self, cx: &mut BhCx<'_>, skb: &Skb) -> bool {
        let Some(program) = &self.wanted.filter else { return true };
        program.bpf_prog_run(&SkbSource::new(cx, skb, SkbFrom::Mac)) != 0
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a frame of this length; false when there is no room for it.
    fn admit(&self, len: usize) -> bool {
        let mut queue = self.lock();
        queue.passed += 1;
        let fits = queue.cost + Frame::cost(len) <= self.most;
        if !fits {
            queue.dropped += 1;
        }
        fits
    }

    fn push(&self, frame: Frame) {
        let mut queue = self.lock();
        queue.cost += Frame::cost(frame.bytes.len());
        queue.frames.push_back(frame);
        drop(queue);
        self.waiter.wake();
    }
}

impl PacketTap for FrameTap {
    fn packet_rcv(&self, cx: &mut BhCx<'_>, skb: Skb, dev: &Arc<NetDevice>) {
        stack::walk!(cx, skb, packet_rcv);
        let snaplen = self.wanted.snaplen;
        if self.wants(cx, &skb) && self.admit((skb.len() + size_of::<EthHdr>()).min(snaplen)) {
            let direction = match skb.pkt_type {
                PktType::Outgoing => Direction::Out,
                _ => Direction::In,
            };
            let (bytes, len) = wire_bytes(&skb, direction, snaplen);
            self.push(Frame {
                real: Duration::from_nanos(cx.machine().ktime_get_real()),
                time: cx.machine().ktime_get(),
                direction,
                packet: skb.walk_id,
                dev: dev.ifindex,
                len,
                bytes,
            });
        }
        consume_skb(cx, skb);
    }
}

/// The front of the frame as a wire would carry it, and the length of the whole.
fn wire_bytes(skb: &Skb, direction: Direction, snaplen: usize) -> (Vec<u8>, usize) {
    // What comes in has its Ethernet header pulled already; what leaves still begins with it.
    let pulled = skb.mac::<EthHdr>().filter(|_| direction == Direction::In);
    let pulled = pulled.map_or(&[][..], EthHdr::as_bytes);
    let len = pulled.len() + skb.len();
    // Its sum is over all of it.
    let sum_at = skb.csum_start_offset().filter(|_| skb.ip_summed == IpSummed::Partial);
    let copied = if sum_at.is_some() { len } else { len.min(snaplen) };
    let mut bytes = Vec::with_capacity(copied);
    for part in std::iter::once(pulled).chain(skb.parts()) {
        let room = copied - bytes.len();
        bytes.extend_from_slice(&part[..part.len().min(room)]);
    }
    if let Some(start) = sum_at {
        let (start, offset) = (pulled.len() + usize::from(start), usize::from(skb.csum_offset));
        // Where it lies outside the packet there is nothing to fill: the driver drops such.
        let _filled = fill_checksum(&mut bytes, start, offset);
    }
    bytes.truncate(snaplen);
    bytes.shrink_to_fit();
    (bytes, len)
}

/// A tap that is registered.
pub(crate) struct Registered {
    tap: Arc<dyn PacketTap>,
    /// The namespace.
    net: NetId,
}

impl Registered {
    /// No more frames from here on; those queued stay.
    pub(crate) fn remove(&self, cx: &mut TaskCx) {
        // Of a namespace that is gone nothing is left to be removed.
        let _gone = cx.with_net(self.net, |cx| dev_remove_pack(cx, &self.tap));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_and_counts_what_it_leaves_out() {
        let waiter = Arc::new(Waiter::new().unwrap());
        let most = 10 * Frame::cost(100);
        let tap = FrameTap::with_room(&waiter, Wanted::default(), most);
        for _ in 0..25 {
            if tap.admit(100) {
                tap.push(Frame::seen(Ktime(0), WalkId::NONE));
            }
        }
        let queue = tap.lock();
        assert_eq!((queue.frames.len(), queue.passed, queue.dropped), (10, 25, 15));
        assert!(waiter.wait(Some(Duration::ZERO)).unwrap().woken());
    }
}
