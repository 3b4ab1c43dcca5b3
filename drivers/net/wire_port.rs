//! One end of a full-duplex Ethernet link, as a device sees it.
//!
//! A device model and a plain netdev stand on the same trait; what joins two ends (a wire in this process, a
//! simulator, a TAP) they do not know.
//! Key types: [`WirePort`]; [`FrameBatch`], frames in one arena, which is also what travels; [`FrameMeta`].
//! Contexts: any. Locks: an end's queue is a leaf: it is never held while something is called.
//! Invariants: [`WirePort::transmit`] copies or moves into the peer's queue, unlocks, and only then notifies;
//! [`WirePort::receive`] locks this end's queue alone, and never notifies. Batches are reused: no allocation after
//! warm-up.

use std::fmt;

/// The longest frame that travels: a full GSO packet with its headers.
pub const MAX_FRAME_LEN: usize = 128 * 1024;

/// What is still to be done to a frame: the virtio-net header's fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetMeta {
    /// Where the checksum to be completed starts; `None` when there is none to complete.
    pub csum_start: Option<u16>,
    /// From there to the field it goes to.
    pub csum_offset: u16,
    /// The sender or its device has checked the checksums.
    pub data_valid: bool,
    /// What segmentation is due.
    pub gso_type: GsoType,
    /// Payload of a segment.
    pub gso_size: u16,
    /// Length of the headers that each segment gets.
    pub hdr_len: u16,
}

/// What segmentation a frame needs before it fits a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GsoType {
    /// None.
    #[default]
    None,
    /// TCP over IPv4.
    Tcpv4,
    /// TCP over IPv6.
    Tcpv6,
    /// UDP datagrams of equal size.
    UdpL4,
}

/// What travels beside a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameMeta {
    /// Identifies the packet for the walk across a wire in one process; 0 when unknown. Decides nothing.
    pub packet_id: u64,
    /// Work left to the receiver; only to a peer that takes it ([`WirePort::peer_accepts_vnet`]).
    pub vnet: Option<VnetMeta>,
}

/// An arena is far below 4 GiB: a queue holds frames of at most [`MAX_FRAME_LEN`] by the thousand.
#[derive(Clone, Copy, Debug)]
struct Entry {
    start: u32,
    len: u32,
    meta: FrameMeta,
}

impl Entry {
    #[inline]
    fn range(&self) -> std::ops::Range<usize> {
        self.start as usize..self.start as usize + self.len as usize
    }
}

/// Frames in order, their bytes in one arena; a queue when popped at the front.
// A pointer, so that batches change hands and places at the price of one.
#[derive(Default)]
pub struct FrameBatch(Option<Box<Frames>>);

#[derive(Default)]
pub(crate) struct Frames {
    /// As long as it ever was, so that growing again writes no zeros.
    arena: Vec<u8>,
    used: usize,
    entries: Vec<Entry>,
    /// Entries before this one were dropped at the front.
    front: usize,
    /// Whatever bits the packet ids have that were appended since the batch was last cleared.
    ids: u64,
}

#[cold]
fn grow(arena: &mut Vec<u8>, start: usize, end: usize) -> &mut [u8] {
    arena.resize(end, 0);
    &mut arena[start..end]
}

impl Frames {
    fn left(&self) -> &[Entry] {
        &self.entries[self.front..]
    }

    /// Appends a frame, as [`FrameBatch::push_with`].
    #[inline(always)]
    pub(crate) fn push_with(
        &mut self,
        len: usize,
        meta: FrameMeta,
        fill: impl FnOnce(&mut [u8]) -> bool,
    ) -> bool {
        if len > MAX_FRAME_LEN {
            return false;
        }
        let (start, end) = (self.used, self.used + len);
        // All that is known before the bytes are written, so that it need not be kept meanwhile.
        self.entries.push(Entry { start: start as u32, len: len as u32, meta });
        self.ids |= meta.packet_id;
        self.used = end;
        let room = match self.arena.get_mut(start..end) {
            Some(room) => room,
            None => grow(&mut self.arena, start, end),
        };
        let filled = fill(room);
        if !filled {
            self.take_back();
        }
        filled
    }

    /// Forgets the latest frame.
    #[cold]
    fn take_back(&mut self) {
        if let Some(latest) = self.entries.pop() {
            self.used = latest.start as usize;
        }
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.front
    }

    /// Moves what is left to the front of the arena when more of it is dead than alive.
    fn reclaim(&mut self) {
        let Some(first) = self.left().first().map(|e| e.start) else {
            return;
        };
        let at = first as usize;
        if at > self.used - at {
            self.arena.copy_within(at..self.used, 0);
            self.used -= at;
            for e in &mut self.entries[self.front..] {
                e.start -= first;
            }
        }
    }
}

impl FrameBatch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many frames there are.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |frames| frames.len())
    }

    /// Whether there is no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many bytes the frames have together.
    #[must_use]
    pub fn bytes(&self) -> usize {
        // They lie behind one another.
        let bytes = |frames: &Frames| Some(frames.used - frames.left().first()?.start as usize);
        self.0.as_deref().and_then(bytes).unwrap_or(0)
    }

    /// Forgets all frames, keeps the memory.
    pub fn clear(&mut self) {
        if let Some(frames) = &mut self.0 {
            frames.entries.clear();
            (frames.front, frames.used, frames.ids) = (0, 0, 0);
        }
    }

    /// Whether a frame with a packet id has been appended since the batch was last cleared: what lets a receiver skip
    /// tracing without looking at each frame.
    #[must_use]
    pub fn is_traced(&self) -> bool {
        self.0.as_ref().is_some_and(|frames| frames.ids != 0)
    }

    /// Appends a frame of `len` bytes that `fill` writes; it sees what an earlier frame left there. Nothing is
    /// appended, and false returned, when it is too long or `fill` says false.
    #[inline(always)]
    pub fn push_with(
        &mut self,
        len: usize,
        meta: FrameMeta,
        fill: impl FnOnce(&mut [u8]) -> bool,
    ) -> bool {
        self.frames().push_with(len, meta, fill)
    }

    /// What it is, to add several frames to.
    #[inline(always)]
    pub(crate) fn frames(&mut self) -> &mut Frames {
        self.0.get_or_insert_default()
    }

    /// Appends a frame; false when it is too long.
    pub fn push(&mut self, frame: &[u8], meta: FrameMeta) -> bool {
        self.push_with(frame.len(), meta, |to| {
            to.copy_from_slice(frame);
            true
        })
    }

    /// Appends a frame that lies in pieces; false when it is too long.
    pub fn push_parts(&mut self, parts: &[&[u8]], meta: FrameMeta) -> bool {
        let Some(len) = parts.iter().try_fold(0usize, |sum, p| sum.checked_add(p.len())) else {
            return false;
        };
        self.push_with(len, meta, |mut to| {
            for part in parts {
                let (here, rest) = to.split_at_mut(part.len());
                here.copy_from_slice(part);
                to = rest;
            }
            true
        })
    }

    /// Frame `n` from the front.
    #[must_use]
    pub fn get(&self, n: usize) -> Option<(&[u8], FrameMeta)> {
        let frames = self.0.as_ref()?;
        frames.left().get(n).map(|e| (&frames.arena[e.range()], e.meta))
    }

    /// The frames, from the front.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &FrameMeta)> {
        let (entries, arena): (&[Entry], &[u8]) = match &self.0 {
            Some(frames) => (frames.left(), &frames.arena),
            None => (&[], &[]),
        };
        entries.iter().map(|e| (&arena[e.range()], &e.meta))
    }

    /// Drops `n` frames at the front.
    pub fn drop_front(&mut self, n: usize) {
        let n = n.min(self.len());
        let Some(frames) = &mut self.0 else { return };
        frames.front += n;
        if frames.front > frames.left().len() {
            frames.entries.drain(..frames.front);
            frames.front = 0;
        }
        if frames.left().is_empty() {
            frames.used = 0;
        }
    }

    /// Drops frames at the end until those left have at most `max` bytes together; returns how many went.
    pub fn truncate_bytes(&mut self, max: usize) -> usize {
        let before = self.len();
        while self.bytes() > max
            && !self.is_empty()
            && let Some(frames) = &mut self.0
        {
            frames.take_back();
        }
        before - self.len()
    }

    /// Moves up to `max` frames from the front to the end of `out`: without copying when all go and `out` is empty.
    /// Returns how many.
    pub fn move_to(&mut self, out: &mut Self, max: usize) -> usize {
        let n = self.len().min(max);
        if n == self.len() && out.is_empty() {
            out.clear();
            std::mem::swap(self, out);
            return n;
        }
        out.reclaim();
        for (frame, meta) in self.iter().take(n) {
            out.push(frame, *meta);
        }
        self.drop_front(n);
        self.reclaim();
        n
    }

    fn reclaim(&mut self) {
        if let Some(frames) = &mut self.0 {
            frames.reclaim();
        }
    }
}

impl fmt::Debug for FrameBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameBatch")
            .field("frames", &self.len())
            .field("bytes", &self.bytes())
            .finish_non_exhaustive()
    }
}

/// What an end is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireEvent {
    /// Frames have arrived in this end's queue.
    Frames,
    /// [`WirePort::carrier`] has changed.
    Carrier,
}

/// What an end calls when something happens to it.
pub type WireNotify = Box<dyn Fn(WireEvent) + Send + Sync>;

/// An end's notification is already set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotifyTaken;

/// One end of a link.
pub trait WirePort: Send + Sync {
    /// Sends frames from the front of `batch`, which keeps what was not taken: the peer's queue is full, or there is
    /// no carrier. Returns how many were taken. The peer is notified, on this thread, with no lock held.
    fn transmit(&self, batch: &mut FrameBatch) -> usize;

    /// Takes up to `max` frames off this end's queue to the end of `out`; returns how many. Hand in an empty `out`
    /// that is used again and again: then nothing is copied or allocated.
    fn receive(&self, max: usize, out: &mut FrameBatch) -> usize;

    /// How many frames wait in this end's queue.
    fn pending(&self) -> usize;

    /// Whether the link is up.
    fn carrier(&self) -> bool;

    /// Sets what is called when something happens to this end, on the thread that caused it. Once only: the end
    /// belongs to one device. It must not keep the device alive (hand in a `Weak`). Of what happened before nobody is
    /// told: look at the carrier and the queue after this.
    fn set_notify(&self, notify: WireNotify) -> Result<(), NotifyTaken>;

    /// Says that this end's device takes frames with [`FrameMeta::vnet`] work left.
    fn accept_vnet(&self) {}

    /// Whether the peer takes frames with [`FrameMeta::vnet`] work left. When not, checksums must be complete and
    /// frames fit the link.
    fn peer_accepts_vnet(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
