//! A full-duplex Ethernet cable in this process.
//!
//! Key types: [`Wire`] makes cables; [`WireEnd`] is what a device is plugged into; [`Outside`] is an end that a
//! simulator, a TAP or a test drives by hand.
//! Contexts: any. Locks: one for each direction's queue, a leaf: held while frames are moved in or out, never while a
//! notification runs.
//! Invariants: frames of one direction stay in order; both queues are bounded in frames and bytes; what is not taken
//! stays with the sender and is counted here.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use drivers::net::wire_port::{
    FrameBatch, FrameMeta, MAX_FRAME_LEN, NotifyTaken, WireEvent, WireNotify, WirePort,
};

/// Bytes of queue for each frame of capacity; the sum is what is bounded.
const BYTES_PER_FRAME: usize = 4096;

/// Whether a link is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Signal in both directions.
    Up,
    /// No signal: nothing is taken or delivered.
    Down,
}

/// Maker of cables.
#[derive(Debug)]
pub struct Wire;

impl Wire {
    /// A cable whose queues hold `capacity` frames in each direction (at least 1). It is up.
    #[must_use]
    pub fn pair(capacity: usize) -> (WireEnd, WireEnd) {
        let capacity = capacity.max(1);
        let link = Arc::new(Link {
            sides: [Side::default(), Side::default()],
            up: AtomicBool::new(true),
            capacity,
            max_bytes: capacity.saturating_mul(BYTES_PER_FRAME).max(MAX_FRAME_LEN),
        });
        (WireEnd { link: Arc::clone(&link), side: 0 }, WireEnd { link, side: 1 })
    }
}

struct Link {
    sides: [Side; 2],
    up: AtomicBool,
    capacity: usize,
    max_bytes: usize,
}

/// What belongs to one end: the queue it receives from.
#[derive(Default)]
struct Side {
    queue: Mutex<FrameBatch>,
    /// The queue's length, for those who only ask.
    pending: AtomicUsize,
    dropped: AtomicU64,
    accepts_vnet: AtomicBool,
    notify: OnceLock<WireNotify>,
}

impl Side {
    fn lock(&self) -> MutexGuard<'_, FrameBatch> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: WireEvent) {
        if let Some(notify) = self.notify.get() {
            notify(event);
        }
    }
}

/// One end of a [`Wire`]. Clones are the same end.
#[derive(Clone)]
pub struct WireEnd {
    link: Arc<Link>,
    side: usize,
}

impl WireEnd {
    /// An end for a device, and its other end for whoever drives it from outside.
    #[must_use]
    pub fn open(capacity: usize) -> (WireEnd, Outside) {
        let (end, other) = Wire::pair(capacity);
        (end, Outside { end: other })
    }

    fn own(&self) -> &Side {
        &self.link.sides[self.side]
    }

    fn peer(&self) -> &Side {
        &self.link.sides[1 - self.side]
    }

    /// Plugs or pulls the cable; both ends are told if that changes anything. Frames in flight are lost when it goes
    /// down.
    pub fn set_carrier(&self, carrier: Carrier) {
        let up = carrier == Carrier::Up;
        if self.link.up.swap(up, Ordering::AcqRel) == up {
            return;
        }
        for side in &self.link.sides {
            if !up {
                let mut queue = side.lock();
                side.dropped.fetch_add(queue.len() as u64, Ordering::Relaxed);
                queue.clear();
                side.pending.store(0, Ordering::Release);
            }
        }
        for side in &self.link.sides {
            side.tell(WireEvent::Carrier);
        }
    }

    /// Frames for this end that were refused because its queue was full or the link down, or lost with the carrier.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.own().dropped.load(Ordering::Relaxed)
    }
}

impl WirePort for WireEnd {
    fn transmit(&self, batch: &mut FrameBatch) -> usize {
        let peer = self.peer();
        let offered = batch.len();
        if offered == 0 {
            return 0;
        }
        let taken = {
            let mut queue = peer.lock();
            let taken = if self.carrier() { take(&self.link, batch, &mut queue) } else { 0 };
            peer.pending.store(queue.len(), Ordering::Release);
            taken
        };
        if taken < offered {
            peer.dropped.fetch_add((offered - taken) as u64, Ordering::Relaxed);
        }
        if taken > 0 {
            peer.tell(WireEvent::Frames);
        }
        taken
    }

    fn receive(&self, max: usize, out: &mut FrameBatch) -> usize {
        let own = self.own();
        if own.pending.load(Ordering::Acquire) == 0 {
            return 0;
        }
        let mut queue = own.lock();
        let n = queue.move_to(out, max);
        own.pending.store(queue.len(), Ordering::Release);
        n
    }

    fn pending(&self) -> usize {
        self.own().pending.load(Ordering::Acquire)
    }

    fn carrier(&self) -> bool {
        self.link.up.load(Ordering::Acquire)
    }

    fn set_notify(&self, notify: WireNotify) -> Result<(), NotifyTaken> {
        self.own().notify.set(notify).map_err(|_| NotifyTaken)
    }

    fn accept_vnet(&self) {
        self.own().accepts_vnet.store(true, Ordering::Release);
    }

    fn peer_accepts_vnet(&self) -> bool {
        self.peer().accepts_vnet.load(Ordering::Acquire)
    }
}

/// Moves as many frames as fit from `batch` to `queue`; returns how many.
fn take(link: &Link, batch: &mut FrameBatch, queue: &mut FrameBatch) -> usize {
    let room = link.capacity.saturating_sub(queue.len());
    let mut bytes = link.max_bytes.saturating_sub(queue.bytes());
    if batch.len() <= room && batch.bytes() <= bytes {
        return batch.move_to(queue, room);
    }
    let fits =
        batch.iter().take(room).take_while(|(frame, _)| match bytes.checked_sub(frame.len()) {
            Some(left) => {
                bytes = left;
                true
            }
            None => false,
        });
    let n = fits.count();
    batch.move_to(queue, n)
}

impl fmt::Debug for WireEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireEnd")
            .field("side", &self.side)
            .field("carrier", &self.carrier())
            .field("pending", &self.pending())
            .field("dropped", &self.dropped())
            .finish_non_exhaustive()
    }
}

/// The end of a cable that is driven by hand. For batches and notifications use its [`WirePort`] by [`Outside::end`].
#[derive(Clone, Debug)]
pub struct Outside {
    end: WireEnd,
}

impl Outside {
    /// The end itself.
    #[must_use]
    pub fn end(&self) -> &WireEnd {
        &self.end
    }

    /// Sends one frame to the device; false when it was not taken.
    pub fn inject(&self, frame: &[u8], meta: FrameMeta) -> bool {
        let mut batch = FrameBatch::new();
        batch.push(frame, meta) && self.end.transmit(&mut batch) == 1
    }

    /// Takes up to `max` frames that the device has sent to the end of `out`; returns how many.
    pub fn drain(&self, max: usize, out: &mut FrameBatch) -> usize {
        self.end.receive(max, out)
    }

    /// Plugs or pulls the cable.
    pub fn set_carrier(&self, carrier: Carrier) {
        self.end.set_carrier(carrier);
    }
}

#[cfg(test)]
mod tests;
