//! Calls that send without a copy, and the notifications that their memory is free again.
//!
//! linux: net/core/skbuff.c (`msg_zerocopy_realloc`, `__msg_zerocopy_callback`),
//! Documentation/networking/msg_zerocopy.rst. Key type: [`UbufInfo`]. Contexts: made under the socket's lock; let
//! go of in BH, where the last one is kept by the CPU until its stay ends, for telling takes the socket's lock.
//! Invariants: calls of a socket are told of once each; what waits to be told of is bounded by
//! `net.core.optmem_max`. What a panic unwinds with a packet is told of by nobody, as the packet is.
//! DIVERGES: data that is only lent (`&[u8]`) is copied, and the notification says so, whatever the device; memory
//! is not locked, so `RLIMIT_MEMLOCK` bounds nothing: the send buffer does.

use super::{Page, SkBuff, Skb, SkbFrag};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::core::sock::{Sock, SockError, SockLocked, SockState};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use uapi::errno::Errno;
use uapi::errqueue::{SO_EE_CODE_ZEROCOPY_COPIED, SO_EE_ORIGIN_ZEROCOPY, SockExtendedErr};
use uapi::in_::SockaddrIn;

/// What a notification is charged with: an empty packet of Linux's.
const NOTIFICATION: usize = 960;
/// Calls of more octets together are told of apart: 512 KiB, as in Linux.
const BYTE_LIMIT: u32 = 1 << 19;

/// Calls that are told of together: so many, from a number on.
///
/// linux: include/linux/skbuff.h:ubuf_info_msgzc
#[derive(Debug)]
pub(crate) struct UbufInfo {
    sk: Weak<Sock>,
    id: u32,
    // Written under the socket's lock; in atomics, for packets share it.
    len: AtomicU16,
    bytelen: AtomicU32,
    /// Some of the data was copied after all.
    copied: AtomicBool,
}

impl UbufInfo {
    /// Some of the data was copied after all.
    pub(crate) fn set_copied(&self) {
        self.copied.store(true, Ordering::Relaxed);
    }
}

/// A call of `size` octets is to be told of: with those of `tail`, what the socket's last packet is to be told of by,
/// if it follows them.
///
/// # Errors
/// ENOBUFS when too much waits to be told of.
///
/// linux: net/core/skbuff.c:msg_zerocopy_realloc
pub(crate) fn msg_zerocopy_realloc(
    sk: &Arc<Sock>,
    state: &mut SockState,
    (size, optmem_max): (usize, u32),
    tail: Option<&Arc<UbufInfo>>,
) -> Result<Arc<UbufInfo>, Errno> {
    let size = u32::try_from(size).unwrap_or(u32::MAX);
    let rare = state.rare_mut();
    if let Some(tail) = tail {
        let (len, bytes) = (tail.len.load(Ordering::Relaxed), tail.bytelen.load(Ordering::Relaxed));
        let bytes = bytes.saturating_add(size);
        if len < u16::MAX - 1
            && bytes <= BYTE_LIMIT
            && tail.id.wrapping_add(len.into()) == rare.zckey
        {
            tail.len.store(len + 1, Ordering::Relaxed);
            tail.bytelen.store(bytes, Ordering::Relaxed);
            rare.zckey = rare.zckey.wrapping_add(1);
            return Ok(Arc::clone(tail));
        }
    }
    if rare.omem_alloc + NOTIFICATION > optmem_max as usize {
        return Err(Errno::ENOBUFS);
    }
    rare.omem_alloc += NOTIFICATION;
    let id = rare.zckey;
    rare.zckey = id.wrapping_add(1);
    Ok(Arc::new(UbufInfo {
        sk: Arc::downgrade(sk),
        id,
        len: AtomicU16::new(1),
        bytelen: AtomicU32::new(size),
        copied: AtomicBool::new(false),
    }))
}

/// Nothing of a call was taken: it had no number.
///
/// linux: net/core/skbuff.c:msg_zerocopy_put_abort
pub(crate) fn msg_zerocopy_put_abort(
    cx: &mut BhCx<'_>,
    state: &mut SockState,
    ubuf: Arc<UbufInfo>,
) {
    let rare = state.rare_mut();
    rare.zckey = rare.zckey.wrapping_sub(1);
    ubuf.len.fetch_sub(1, Ordering::Relaxed);
    net_zcopy_put(cx, ubuf);
}

/// Somebody refers to a call's memory no more. The last one's notification goes out when the stay ends.
///
/// linux: include/linux/skbuff.h:net_zcopy_put
pub(crate) fn net_zcopy_put(cx: &mut BhCx<'_>, ubuf: Arc<UbufInfo>) {
    if let Some(ubuf) = Arc::into_inner(ubuf) {
        cx.cpu.zerocopied.push(ubuf);
        (cx.cpu.to_tell, cx.cpu.unsettled) = (true, true);
    }
}

/// The same off any CPU: of a call that was given up.
pub(crate) fn net_zcopy_put_task(ubuf: Arc<UbufInfo>) {
    let Some(ubuf) = Arc::into_inner(ubuf) else { return };
    let mut wakeups = Vec::new();
    if let Some(sk) = ubuf.sk.upgrade() {
        sk.state_in_drop().msg_zerocopy_complete(&ubuf, &mut wakeups);
    }
    wakeups.into_iter().for_each(Waker::wake);
}

/// The stay ends: who waits hears what memory is free.
#[cold]
pub(crate) fn settle_zerocopy(cx: &mut BhCx<'_>) {
    let mut free = std::mem::take(&mut cx.cpu.zerocopied);
    for ubuf in free.drain(..) {
        if let Some(sk) = ubuf.sk.upgrade() {
            sk.state().msg_zerocopy_complete(&ubuf, &mut cx.cpu.wakeups);
        }
    }
    cx.cpu.zerocopied = free;
}

impl SockLocked {
    /// Tells that the memory of calls is free, together with those before them if they follow each other. A socket
    /// that is closed tells nobody.
    ///
    /// linux: net/core/skbuff.c:__msg_zerocopy_callback
    fn msg_zerocopy_complete(&mut self, ubuf: &UbufInfo, wakeups: &mut Vec<Waker>) {
        let len = ubuf.len.load(Ordering::Relaxed);
        let tells = len != 0 && !self.closed();
        let rare = self.rare_mut();
        let merged = match rare.error_queue.back_mut() {
            Some(tail) if tells => skb_zerocopy_notify_extend(&mut tail.ee, ubuf.id, len),
            _ => false,
        };
        if tells && !merged {
            let copied = ubuf.copied.load(Ordering::Relaxed);
            let ee = SockExtendedErr {
                ee_origin: SO_EE_ORIGIN_ZEROCOPY,
                ee_code: if copied { SO_EE_CODE_ZEROCOPY_COPIED } else { 0 },
                ee_info: ubuf.id,
                ee_data: ubuf.id.wrapping_add(u32::from(len) - 1),
                ..SockExtendedErr::default()
            };
            rare.error_queue.push_back(SockError::of_this_machine(ee));
        } else {
            rare.omem_alloc = rare.omem_alloc.saturating_sub(NOTIFICATION);
        }
        if tells {
            self.report_error(wakeups);
        }
    }
}

/// Calls that follow those of a report go into it. Its code stays that of the first ones, as in Linux.
///
/// linux: net/core/skbuff.c:skb_zerocopy_notify_extend
fn skb_zerocopy_notify_extend(tail: &mut SockExtendedErr, lo: u32, len: u16) -> bool {
    let all = u64::from(tail.ee_data.wrapping_sub(tail.ee_info)) + 1 + u64::from(len);
    let follows = tail.ee_origin == SO_EE_ORIGIN_ZEROCOPY && lo == tail.ee_data.wrapping_add(1);
    let merges = follows && all < 1 << 32;
    if merges {
        tail.ee_data = tail.ee_data.wrapping_add(len.into());
    }
    merges
}

impl SockError {
    /// A notification is charged to what the socket may keep besides its buffers.
    pub(in crate::net::core) fn is_notification(&self) -> bool {
        self.ee.ee_origin == SO_EE_ORIGIN_ZEROCOPY
    }

    /// What a notification is charged with.
    pub(in crate::net::core) const NOTIFICATION: usize = NOTIFICATION;

    /// A report about what this machine did.
    pub(crate) fn of_this_machine(ee: SockExtendedErr) -> Self {
        let to = SockaddrIn::new(0, 0);
        let stamp = Ktime::ZERO;
        Self { payload: Vec::new(), ee, to, offender: None, packet: None, stamp }
    }
}

/// Who is to hear of a packet's data.
///
/// linux: include/linux/skbuff.h:skb_zcopy
pub(crate) fn skb_zcopy(skb: &SkBuff) -> Option<&Arc<UbufInfo>> {
    skb.frags.iter().rev().find_map(|frag| frag.page.ubuf())
}

/// Copies what of a packet is a program's memory, before somebody gets it who may keep it for ever: who lent the
/// memory waits for it. False without memory; the packet is as before.
///
/// linux: include/linux/skbuff.h:skb_orphan_frags_rx
#[must_use]
pub fn skb_orphan_frags_rx(cx: &mut BhCx<'_>, skb: &mut Skb) -> bool {
    if skb.data_len == 0 || !skb.frags.iter().any(|frag| frag.page.is_foreign()) {
        return true;
    }
    skb_copy_ubufs(cx, skb)
}

/// linux: net/core/skbuff.c:skb_copy_ubufs
#[cold]
fn skb_copy_ubufs(cx: &mut BhCx<'_>, skb: &mut Skb) -> bool {
    let mut own = Vec::with_capacity(skb.frags.len());
    for frag in &skb.frags {
        if !frag.page.is_foreign() {
            own.push(frag.clone());
            continue;
        }
        let mut bytes = frag.bytes();
        while !bytes.is_empty() {
            let Some(room) = cx.cpu.pool.page_frag_refill() else { return false };
            let (page, offset) = (Arc::clone(room.place().0), room.place().1);
            let size = room.append(bytes.len(), |to| to.copy_from_slice(&bytes[..to.len()]));
            own.push(SkbFrag { page, offset, size });
            bytes = &bytes[size as usize..];
        }
    }
    for frag in std::mem::replace(&mut skb.frags, own) {
        if let Some(ubuf) = frag.page.ubuf() {
            ubuf.set_copied();
        }
        cx.put_page(frag.page);
    }
    true
}

impl BhCx<'_> {
    /// A packet that referred to a page is gone: the last one brings the page home, or gives back whose memory it
    /// is.
    #[inline]
    pub(crate) fn put_page(&mut self, page: Arc<Page>) {
        if let Some(foreign) = self.cpu.pool.put_page(page) {
            self.put_foreign(foreign);
        }
    }

    #[cold]
    fn put_foreign(&mut self, page: Arc<Page>) {
        let ubuf = Arc::into_inner(page).and_then(|mut page| page.take_ubuf());
        if let Some(ubuf) = ubuf {
            net_zcopy_put(self, ubuf);
        }
    }

    /// A page that is a copy of `bytes`, to be told of by `ubuf`; `None` when memory is used up.
    pub(crate) fn copied_page(
        &mut self,
        bytes: &[u8],
        ubuf: Option<&Arc<UbufInfo>>,
    ) -> Option<Arc<Page>> {
        if let Some(ubuf) = ubuf {
            ubuf.set_copied();
        }
        self.cpu.pool.copied_page(bytes, ubuf.cloned())
    }
}

#[cfg(test)]
mod tests;
