//! `--pcap`: every frame that passes the TAP, as pcapng.
//!
//! Key types: [`FrameTap`] sees the frames and queues them; [`Capture`] writes them on the command's
//! own thread. Contexts: BH for the tap, a thread for the rest. Locks: the queue's, a leaf.
//! Invariants: the softirq never waits for a file: what the queue has no room for is counted and
//! left out; frames are in the order in which they passed.
//! A checksum that its sender left to the device is filled in, as a wire would carry it: the host's
//! own tcpdump shows it as it is between two stacks, not yet summed. A frame that the TAP had no
//! room for passes once more when it is sent again, as with taps in Linux.

use super::sink::{Progress, Sink};
use super::walk::WalkPrinter;
use host::wait::Waiter;
use hw::capture::{CaptureWriter, Direction, Packet, Statistics, fill_checksum};
use stack::kernel::context::{BhCx, TaskCx};
use stack::kernel::machine::Machine;
use stack::kernel::time::Ktime;
use stack::kernel::trace::WalkId;
use stack::net::core::dev::{
    NetDevice, PacketFunc, PacketTap, PacketType, dev_add_pack, rx::dev_remove_pack,
};
use stack::net::core::skbuff::{IpSummed, PktType, Skb, consume_skb};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uapi::if_ether::{ETH_P_ALL, EthHdr};
use zerocopy::IntoBytes;

/// Memory that frames between the softirq and the file may take.
const MOST_BYTES: usize = 16 << 20;

/// A frame that passed.
pub(super) struct Frame {
    /// When, since 1970.
    real: Duration,
    /// The same on the machine's clock, which the walk goes by.
    pub(super) time: Ktime,
    direction: Direction,
    /// The tap's clone in the walk.
    pub(super) packet: WalkId,
    bytes: Vec<u8>,
}

impl Frame {
    fn cost(len: usize) -> usize {
        len + size_of::<Self>()
    }

    #[cfg(test)]
    pub(super) fn seen(time: Ktime, packet: WalkId) -> Self {
        let (real, direction) = (Duration::ZERO, Direction::In);
        Self { real, time, direction, packet, bytes: vec![0; 100] }
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

/// The tap at the device.
struct FrameTap {
    queue: Mutex<Queue>,
    /// Where the writer waits.
    waiter: Arc<Waiter>,
    most: usize,
}

impl FrameTap {
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
    fn packet_rcv(&self, cx: &mut BhCx<'_>, skb: Skb, _: &Arc<NetDevice>) {
        stack::walk!(cx, skb, packet_rcv);
        if self.admit(skb.len() + size_of::<EthHdr>()) {
            let direction = match skb.pkt_type {
                PktType::Outgoing => Direction::Out,
                _ => Direction::In,
            };
            self.push(Frame {
                real: Duration::from_nanos(cx.machine().ktime_get_real()),
                time: cx.machine().ktime_get(),
                direction,
                packet: skb.walk_id,
                bytes: wire_bytes(&skb, direction),
            });
        }
        consume_skb(cx, skb);
    }
}

/// The frame as a wire would carry it.
fn wire_bytes(skb: &Skb, direction: Direction) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(skb.len() + size_of::<EthHdr>());
    // What comes in has its Ethernet header pulled already; what leaves still begins with it.
    if direction == Direction::In
        && let Some(header) = skb.mac::<EthHdr>()
    {
        bytes.extend_from_slice(header.as_bytes());
    }
    let pulled = bytes.len();
    for part in skb.parts() {
        bytes.extend_from_slice(part);
    }
    if skb.ip_summed == IpSummed::Partial
        && let Some(start) = skb.csum_start_offset()
    {
        let (start, offset) = (pulled + usize::from(start), usize::from(skb.csum_offset));
        // Where it lies outside the packet there is nothing to fill: the driver drops such.
        let _filled = fill_checksum(&mut bytes, start, offset);
    }
    bytes
}

/// A capture being written.
pub(super) struct Capture {
    tap: Arc<FrameTap>,
    /// The same, by the identity that the stack knows it by.
    registered: Arc<dyn PacketTap>,
    writer: CaptureWriter<Sink>,
    interface: u32,
    /// Taken out of the queue and not yet in the sink's buffer.
    taken: VecDeque<Frame>,
    start: Duration,
}

impl Capture {
    /// Begins the file, then looks at every frame of `dev`.
    ///
    /// # Errors
    /// Those of the sink.
    pub(super) fn start(
        cx: &mut TaskCx,
        dev: &NetDevice,
        sink: Sink,
        waiter: &Arc<Waiter>,
    ) -> io::Result<Self> {
        let start = now(cx.machine());
        let mut writer = CaptureWriter::new(sink)?;
        let interface = writer.interface(&dev.name)?;
        writer.get_mut().end_block();
        let queue = Mutex::default();
        let tap = Arc::new(FrameTap { queue, waiter: Arc::clone(waiter), most: MOST_BYTES });
        let registered: Arc<dyn PacketTap> = Arc::clone(&tap) as _;
        let func = PacketFunc::Tap(Arc::clone(&registered));
        dev_add_pack(cx, PacketType { kind: ETH_P_ALL, dev: Some(dev.ifindex), func });
        Ok(Self { tap, registered, writer, interface, taken: VecDeque::new(), start })
    }

    /// No more frames from here on; those queued are still to be written.
    pub(super) fn stop(&self, cx: &mut TaskCx) {
        dev_remove_pack(cx, &self.registered);
    }

    /// Where it is written to.
    pub(super) fn sink(&mut self) -> &mut Sink {
        self.writer.get_mut()
    }

    /// Takes the frames that are to be written next. What led to a frame is recorded before the
    /// frame is queued: with the walk's records taken after this, each is found.
    pub(super) fn take(&mut self) {
        // Else the file is behind, and what comes has to find its place in the queue, or none.
        if self.taken.is_empty() {
            let mut queue = self.tap.lock();
            std::mem::swap(&mut queue.frames, &mut self.taken);
            queue.cost = 0;
        }
    }

    /// Writes what was taken, as far as the file takes it.
    ///
    /// # Errors
    /// Those of the file; then it is over.
    pub(super) fn write(&mut self, walk: Option<&WalkPrinter>) -> io::Result<()> {
        while self.sink().flow()? == Progress::Done {
            if self.taken.is_empty() {
                break;
            }
            while !self.sink().is_full()
                && let Some(frame) = self.taken.pop_front()
            {
                let comment = walk.and_then(|walk| walk.comment(&frame));
                self.writer.packet(&Packet {
                    interface: self.interface,
                    time: frame.real,
                    direction: frame.direction,
                    bytes: &frame.bytes,
                    comment: comment.as_ref().map(|comment| comment.text()),
                })?;
                self.writer.get_mut().end_block();
            }
        }
        Ok(())
    }

    /// Writes all that is left, and the statistics; `(frames, dropped)`.
    ///
    /// # Errors
    /// Those of the file; a pipe that nobody reads.
    pub(super) fn finish(
        &mut self,
        m: &Machine,
        walk: Option<&WalkPrinter>,
    ) -> io::Result<(u64, u64)> {
        loop {
            self.take();
            self.write(walk)?;
            if self.taken.is_empty() && self.sink().is_empty() {
                break;
            }
            self.sink().wait_for_room()?;
        }
        let (received, dropped) = {
            let queue = self.tap.lock();
            (queue.passed, queue.dropped)
        };
        let statistics = Statistics { start: self.start, end: now(m), received, dropped };
        self.writer.statistics(self.interface, &statistics)?;
        self.sink().end_block();
        while self.sink().flow()? == Progress::Stalled {
            self.sink().wait_for_room()?;
        }
        Ok((received - dropped, dropped))
    }

    /// The error is the end of a reader that has seen enough.
    pub(super) fn is_quiet(&mut self, error: &io::Error) -> bool {
        self.sink().is_stdout() && error.kind() == ErrorKind::BrokenPipe
    }
}

fn now(m: &Machine) -> Duration {
    Duration::from_nanos(m.ktime_get_real())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_and_counts_what_it_leaves_out() {
        let waiter = Arc::new(Waiter::new().unwrap());
        let most = 10 * Frame::cost(100);
        let tap = FrameTap { queue: Mutex::default(), waiter: Arc::clone(&waiter), most };
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
