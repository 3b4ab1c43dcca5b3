//! A TAP as one end of a wire: any device that stands on a [`WirePort`], a model of hardware among them, talks to
//! the host's stack through it.
//!
//! Key type: [`TapWire`]. Contexts: any thread; what is sent is written by the thread that sends, what the host sends
//! is read by a thread of the wire, on which the device is notified.
//! Locks: the queue's, a leaf: not held while the TAP is read or written, nor during a notification.
//! Invariants: the queue is bounded, and while it is full the TAP is not read: the host's own queue fills and drops,
//! as with any slow device; a frame of the host is believed only after its virtio-net header was checked against its
//! length; when a `TapWire` is dropped its thread has ended, unless it is that thread which dropped it.

use crate::tap::{LinkWatch, MAX_READ, Tap, TapError, TapOptions, VNET_HDR_LEN};
use crate::wait::{Token, Trigger, Waiter};
use drivers::net::virtio_net::{virtio_net_hdr, virtio_net_meta};
use drivers::net::wire_port::{
    FrameBatch, FrameMeta, NotifyTaken, WireEvent, WireNotify, WirePort,
};
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use uapi::if_ether::ETH_HLEN;
use uapi::virtio_net::VirtioNetHdr;
use zerocopy::{FromBytes, IntoBytes};

/// Frames that wait for the device.
const CAPACITY: usize = 1024;

/// Frames read before the device is told of them.
const READ_BATCH: usize = 64;

const TAP: Token = Token(0);
const LINK: Token = Token(1);

/// A wire whose other end is a TAP. Its carrier is the TAP's host side being up.
pub struct TapWire {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

struct Shared {
    tap: Tap,
    watch: LinkWatch,
    waiter: Waiter,
    queue: Mutex<Queue>,
    /// The queue's length, for those who only ask.
    pending: AtomicUsize,
    carrier: AtomicBool,
    notify: OnceLock<WireNotify>,
    stop: AtomicBool,
    /// Frames that were not believed.
    rx_bad: AtomicU64,
    /// Frames that the host did not take.
    tx_refused: AtomicU64,
    /// Frames that nobody could take.
    tx_bad: AtomicU64,
}

#[derive(Default)]
struct Queue {
    frames: FrameBatch,
    /// The reader waits for room.
    full: bool,
}

impl TapWire {
    /// Opens the TAP called `name` as [`Tap::open`] does, for finished frames of at most its MTU, and starts the
    /// thread that reads it. The host side is not touched.
    ///
    /// # Errors
    /// [`TapError`]; then nothing is left open.
    pub fn open(name: &str) -> Result<Self, TapError> {
        let io =
            |operation| move |source| TapError::Io { name: name.to_owned(), operation, source };
        let tap = Tap::open(name, TapOptions::default())?;
        let watch = LinkWatch::new().map_err(io("watching the link (a netlink socket)"))?;
        let waiter = Waiter::new().map_err(io("a place to wait for events"))?;
        waiter.add(&tap, TAP, Trigger::OneShot).map_err(io("watching the TAP"))?;
        waiter.add(&watch, LINK, Trigger::Level).map_err(io("watching the link"))?;
        // Asked after the watch began, so that no change is missed.
        let carrier = AtomicBool::new(tap.link_up().unwrap_or(false));
        let shared = Arc::new(Shared {
            tap,
            watch,
            waiter,
            queue: Mutex::new(Queue::default()),
            pending: AtomicUsize::new(0),
            carrier,
            notify: OnceLock::new(),
            stop: AtomicBool::new(false),
            rx_bad: AtomicU64::new(0),
            tx_refused: AtomicU64::new(0),
            tx_bad: AtomicU64::new(0),
        });
        let theirs = Arc::clone(&shared);
        let reader = thread::Builder::new()
            .name(format!("wire/{name}"))
            .spawn(move || theirs.read_loop())
            .map_err(io("starting a thread"))?;
        Ok(Self { shared, reader: Some(reader) })
    }

    /// The TAP.
    #[must_use]
    pub fn tap(&self) -> &Tap {
        &self.shared.tap
    }

    /// Frames of the host that were dropped because their header contradicts them.
    #[must_use]
    pub fn rx_bad(&self) -> u64 {
        self.shared.rx_bad.load(Ordering::Relaxed)
    }

    /// Frames that the host did not take: its side is down, gone, or has no room.
    #[must_use]
    pub fn tx_refused(&self) -> u64 {
        self.shared.tx_refused.load(Ordering::Relaxed)
    }

    /// Frames of the device that were dropped because what is left to do to them contradicts them.
    #[must_use]
    pub fn tx_bad(&self) -> u64 {
        self.shared.tx_bad.load(Ordering::Relaxed)
    }
}

impl Drop for TapWire {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.waiter.wake();
        if let Some(reader) = self.reader.take()
            // A device may end on this very thread, when a notification was the last to hold it.
            && reader.thread().id() != thread::current().id()
        {
            // One that panicked has said so already.
            let _ = reader.join();
        }
    }
}

impl fmt::Debug for TapWire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TapWire")
            .field("tap", &self.shared.tap.name())
            .field("carrier", &self.carrier())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

impl WirePort for TapWire {
    /// A frame that the host refuses, for want of room or of a link, stays in `batch` with those behind it; one that
    /// contradicts its own header is dropped, for it would be refused for ever.
    fn transmit(&self, batch: &mut FrameBatch) -> usize {
        let mut taken = 0;
        for (frame, meta) in batch.iter() {
            match self.shared.write(frame, meta) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                    self.shared.tx_bad.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => break,
            }
            taken += 1;
        }
        let refused = (batch.len() - taken) as u64;
        self.shared.tx_refused.fetch_add(refused, Ordering::Relaxed);
        batch.drop_front(taken);
        taken
    }

    fn receive(&self, max: usize, out: &mut FrameBatch) -> usize {
        let shared = &*self.shared;
        if shared.pending.load(Ordering::Acquire) == 0 {
            return 0;
        }
        let mut queue = shared.lock();
        let n = queue.frames.move_to(out, max);
        shared.pending.store(queue.frames.len(), Ordering::Release);
        let waits = std::mem::take(&mut queue.full);
        drop(queue);
        if waits {
            shared.waiter.wake();
        }
        n
    }

    fn pending(&self) -> usize {
        self.shared.pending.load(Ordering::Acquire)
    }

    fn carrier(&self) -> bool {
        self.shared.carrier.load(Ordering::Acquire)
    }

    fn set_notify(&self, notify: WireNotify) -> Result<(), NotifyTaken> {
        self.shared.notify.set(notify).map_err(|_| NotifyTaken)
    }

    /// The host fills in checksums and segments by what the header says.
    fn peer_accepts_vnet(&self) -> bool {
        true
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, event: WireEvent) {
        if let Some(notify) = self.notify.get() {
            notify(event);
        }
    }

    /// Gives one frame to the host. `InvalidInput`: it contradicts what is left to do to it.
    fn write(&self, frame: &[u8], meta: &FrameMeta) -> io::Result<()> {
        let vnet = meta.vnet.unwrap_or_default();
        let hdr = virtio_net_hdr(&vnet, frame.len()).ok_or(io::ErrorKind::InvalidInput)?;
        self.tap.write_frame(&[IoSlice::new(hdr.as_bytes()), IoSlice::new(frame)])
    }

    /// The thread: reads while there is something to read and room for it.
    fn read_loop(&self) {
        let mut buf = vec![0; MAX_READ];
        let mut batch = FrameBatch::new();
        let mut readable = true;
        while !self.stop.load(Ordering::SeqCst) {
            if readable && self.has_room() {
                readable = self.read_some(&mut buf, &mut batch);
                if !readable {
                    // Fails only for a descriptor that is not in the set.
                    let _ = self.waiter.rearm(&self.tap, TAP);
                }
                continue;
            }
            let Ok(events) = self.waiter.wait(None) else { return };
            for token in events {
                match token {
                    TAP => readable = true,
                    _ => self.link_changed(),
                }
            }
        }
    }

    /// Whether there is room for a batch; if not, whoever makes some will wake us.
    fn has_room(&self) -> bool {
        let mut queue = self.lock();
        queue.full = queue.frames.len() + READ_BATCH > CAPACITY;
        !queue.full
    }

    /// Reads a batch into the queue and tells the device. False when the TAP has no more for now.
    fn read_some(&self, buf: &mut [u8], batch: &mut FrameBatch) -> bool {
        let mut more = true;
        let mut read = 0;
        while more && read < READ_BATCH {
            match self.tap.read_frame(buf) {
                Ok(Some(len)) => {
                    read += 1;
                    // A read that fills the buffer may have been cut.
                    let whole = buf.get(..len).filter(|_| len < MAX_READ);
                    let believed = whole.and_then(check);
                    if !believed.is_some_and(|(frame, meta)| batch.push(frame, meta)) {
                        self.rx_bad.fetch_add(1, Ordering::Relaxed);
                    }
                }
                // A TAP that is gone has nothing more to read either: its link says the rest.
                Ok(None) | Err(_) => more = false,
            }
        }
        if !batch.is_empty() {
            let mut queue = self.lock();
            batch.move_to(&mut queue.frames, READ_BATCH);
            self.pending.store(queue.frames.len(), Ordering::Release);
            drop(queue);
            self.tell(WireEvent::Frames);
        }
        more
    }

    fn link_changed(&self) {
        let _any = self.watch.drain();
        let up = self.tap.link_up().unwrap_or(false);
        if self.carrier.swap(up, Ordering::AcqRel) != up {
            self.tell(WireEvent::Carrier);
        }
    }
}

/// The frame behind its header, and what that says of its checksum; `None` when the two contradict each other.
fn check(read: &[u8]) -> Option<(&[u8], FrameMeta)> {
    let (hdr, frame) = read.split_at_checked(VNET_HDR_LEN)?;
    let (hdr, _) = VirtioNetHdr::read_from_prefix(hdr).ok()?;
    let vnet = virtio_net_meta(&hdr, frame.len()).ok()?;
    (frame.len() >= ETH_HLEN).then_some((frame, FrameMeta { packet_id: 0, vnet }))
}

#[cfg(test)]
mod tests;
