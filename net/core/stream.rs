//! Memory of streams: what a socket may hold, and TCP's account of all of them.
//!
//! linux: net/core/stream.c, net/core/sock.c (`__sk_mem_schedule`). Key type: [`TcpMemory`]. Contexts: BH,
//! under the socket's lock. Invariants: what a socket's queues are charged with was taken from the account
//! before; a socket keeps less than a page of it unused.

use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::machine::Machine;
use crate::net::core::sock::{Sock, SockLocked};
use crate::net::ipv4::tcp::{TcpSk, TcpState};
use crate::net::socket::Wait;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::task::Poll;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::poll::POLLOUT;

/// A close that lingers waits until the peer has acknowledged the FIN, for `SO_LINGER`'s time at the most.
///
/// linux: net/core/stream.c:sk_stream_wait_close
pub(crate) fn sk_stream_wait_close(cx: &mut TaskCx, sk: &Arc<Sock>, wait: &mut Wait) -> Poll<()> {
    let closing = |state: &SockLocked| {
        let states = [TcpState::FinWait1, TcpState::Closing, TcpState::LastAck];
        state.tcp.as_deref().is_some_and(|tp| tp.orphan && states.contains(&tp.state))
    };
    let lingers = {
        let mut state = sk.state();
        let linger = state.opts.linger;
        // Nobody sends on it any more.
        state.opts.sndtimeo = u64::try_from(linger.seconds).ok().map(Duration::from_secs);
        linger.on && linger.seconds != 0 && closing(&state)
    };
    if !lingers {
        return Poll::Ready(());
    }
    let waited: Poll<Result<(), Errno>> =
        wait.for_event(cx, sk, POLLOUT as u32, 0, |state| !closing(state));
    waited.map(|_over_or_interrupted| ())
}

/// What the account counts in: a page.
///
/// linux: include/net/sock.h:SK_MEM_QUANTUM
const SK_MEM_QUANTUM: i64 = 4096;
/// So many pages a CPU takes or gives back before the account hears of it: the account is one word for all
/// CPUs, and a segment takes and gives.
///
/// linux: include/net/sock.h:SK_MEMORY_PCPU_RESERVE
const SK_MEMORY_PCPU_RESERVE: i64 = 256;

/// TCP's account of memory, in pages, and the counts that go with it.
#[derive(Debug, Default)]
pub struct TcpMemory {
    /// Pages of all sockets together.
    ///
    /// linux: net/ipv4/tcp.c:tcp_memory_allocated
    pages: AtomicI64,
    /// Sockets.
    ///
    /// linux: net/ipv4/tcp.c:tcp_sockets_allocated
    pub sockets: AtomicU32,
    /// Sockets without a descriptor.
    ///
    /// linux: net/ipv4/tcp.c:tcp_orphan_count
    pub orphans: AtomicU32,
    /// TIME_WAIT.
    pub tw_count: AtomicU32,
}

impl TcpMemory {
    /// Pages in use, as far as the account knows.
    fn known(&self) -> i64 {
        self.pages.load(Ordering::Relaxed)
    }
}

/// Pages that TCP's sockets hold. Context: task, on no CPU.
///
/// linux: include/net/sock.h:proto_memory_allocated
pub fn proto_memory_allocated(m: &Machine) -> i64 {
    let kept: i64 = m.for_each_cpu(|local| local.tcp_fw_alloc).into_iter().sum();
    m.net().tcp.memory.known() + kept
}

/// The same for who must not look at other CPUs: what those have taken lately is missing.
///
/// linux: include/net/sock.h:sk_memory_allocated
#[inline]
pub(crate) fn sk_memory_allocated(cx: &BhCx<'_>) -> i64 {
    cx.m.init_net.tcp.memory.known() + cx.cpu.tcp_fw_alloc
}

/// Takes pages from the account, or gives them back.
///
/// linux: include/net/sock.h:sk_memory_allocated_add, sk_memory_allocated_sub
fn sk_memory_allocated_add(cx: &mut BhCx<'_>, pages: i64) {
    cx.cpu.tcp_fw_alloc += pages;
    if cx.cpu.tcp_fw_alloc.abs() >= SK_MEMORY_PCPU_RESERVE {
        let kept = std::mem::take(&mut cx.cpu.tcp_fw_alloc);
        cx.m.init_net.tcp.memory.pages.fetch_add(kept, Ordering::Relaxed);
    }
}

/// Memory is so scarce that nobody's buffers grow.
///
/// linux: include/net/tcp.h:tcp_under_memory_pressure
#[inline]
pub(crate) fn tcp_under_memory_pressure(cx: &BhCx<'_>) -> bool {
    sk_memory_allocated(cx) > i64::from(cx.t.net.sysctl.tcp.mem[1])
}

/// What memory is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MemKind {
    /// Segments to send.
    Send,
    /// Segments that came.
    Recv,
}

/// Charges `size` octets that a queue of the socket is about to hold; false when the account does not allow
/// it.
///
/// linux: include/net/sock.h:sk_wmem_schedule, sk_rmem_schedule
#[inline]
pub(crate) fn sk_mem_charge(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    size: usize,
    kind: MemKind,
) -> bool {
    if sk.tp.forward_alloc < size as i32 && !__sk_mem_schedule(cx, sk, size, kind) {
        return false;
    }
    sk.tp.forward_alloc -= size as i32;
    true
}

/// The same where it can't be refused.
///
/// linux: net/ipv4/tcp_output.c:sk_forced_mem_schedule
pub(crate) fn sk_forced_mem_charge(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, size: usize) {
    if sk.tp.forward_alloc < size as i32 {
        take(cx, sk, size);
    }
    sk.tp.forward_alloc -= size as i32;
}

/// Takes what `size` octets need beyond what the socket has.
fn take(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, size: usize) {
    let missing = size as i64 - i64::from(sk.tp.forward_alloc);
    let pages = (missing + SK_MEM_QUANTUM - 1) / SK_MEM_QUANTUM;
    sk.tp.forward_alloc += (pages * SK_MEM_QUANTUM) as i32;
    sk_memory_allocated_add(cx, pages);
}

/// linux: net/core/sock.c:__sk_mem_raise_allocated
#[cold]
fn __sk_mem_schedule(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, size: usize, kind: MemKind) -> bool {
    let [low, _, high] = cx.t.net.sysctl.tcp.mem.map(i64::from);
    take(cx, sk, size);
    let allocated = sk_memory_allocated(cx);
    if allocated <= low {
        return true;
    }
    if allocated > high {
        give_back(cx, sk);
        return false;
    }
    // Every socket may have its least, whatever the others hold; above that, its fair share.
    let sysctl = &cx.t.net.sysctl.tcp;
    let least = match kind {
        MemKind::Recv => sk.st.rmem_alloc < sysctl.rmem[0] as usize,
        MemKind::Send => sk.tp.wmem_queued < sysctl.wmem[0] as usize,
    };
    let held = (sk.tp.wmem_queued + sk.st.rmem_alloc) as i64 + i64::from(sk.tp.forward_alloc);
    let sockets = i64::from(cx.m.init_net.tcp.memory.sockets.load(Ordering::Relaxed)).max(1);
    let pressure = allocated > i64::from(sysctl.mem[1]);
    if least || !pressure || high * SK_MEM_QUANTUM > sockets * held {
        return true;
    }
    give_back(cx, sk);
    false
}

/// What a queue held is gone.
///
/// linux: include/net/sock.h:sk_mem_uncharge
#[inline]
pub(crate) fn sk_mem_uncharge(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, size: usize) {
    sk.tp.forward_alloc += size as i32;
    if i64::from(sk.tp.forward_alloc) >= SK_MEM_QUANTUM {
        give_back(cx, sk);
    }
}

/// Gives back whole pages that the socket has and does not use: sockets are many, and what each kept for
/// itself would be missing to all.
///
/// linux: include/net/sock.h:sk_mem_reclaim
fn give_back(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let pages = i64::from(sk.tp.forward_alloc) / SK_MEM_QUANTUM;
    if pages > 0 {
        sk.tp.forward_alloc -= (pages * SK_MEM_QUANTUM) as i32;
        sk_memory_allocated_add(cx, -pages);
    }
}

/// The send buffer's room.
///
/// linux: include/net/sock.h:sk_stream_memory_free
#[inline]
pub(crate) fn sk_stream_memory_free(sk: &TcpSk<'_>) -> bool {
    sk.tp.wmem_queued < sk.sk.sndbuf() && sk.notsent_room(0)
}

/// A third of the buffer is free: who waits for room is woken.
///
/// linux: include/net/sock.h:sk_stream_is_writeable
pub(crate) fn sk_stream_is_writeable(sk: &TcpSk<'_>) -> bool {
    let queued = sk.tp.wmem_queued;
    let space = sk.sk.sndbuf().saturating_sub(queued);
    space >= queued / 2 && sk.notsent_room(1)
}

/// Wakes who waits for room, if there is enough.
///
/// linux: net/core/stream.c:sk_stream_write_space
pub(crate) fn sk_stream_write_space(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    use uapi::poll::{POLLOUT, POLLWRBAND, POLLWRNORM};
    if sk.tp.nospace && sk_stream_is_writeable(sk) {
        sk.tp.nospace = false;
        sk.st.wake_up(cx, (POLLOUT | POLLWRNORM | POLLWRBAND) as u32);
    }
}
