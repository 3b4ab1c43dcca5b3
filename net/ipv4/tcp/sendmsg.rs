//! A program's data into the send queue.
//!
//! linux: net/ipv4/tcp.c (`tcp_sendmsg`), net/core/stream.c. Context: task, which owns the socket; the
//! queue is filled in BH sections of bounded length, so that others get the CPU and the socket's lock between.

use super::zerocopy::Zerocopy;
use super::{Chrono, Nonagle, TcpSk, TcpSock, TcpState};
use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::time::{HZ, TICK_NSEC};
use crate::net::core::skbuff::{Cb, Skb, SkbFlags, SkbFrag};
use crate::net::core::sock::{SEND_SHUTDOWN, Sock};
use crate::net::core::stream::{
    MemKind, sk_forced_mem_charge, sk_mem_charge, sk_stream_memory_free,
};
use crate::net::core::timestamping::{__sock_tx_timestamp, tsflags_of_cmsg};
use crate::net::ipv4::af_inet::tcp_sendmsg_fastopen;
use crate::net::ipv4::tcp::TcpSkbCb;
use crate::net::ipv4::tcp_fastopen::Tfo;
use crate::net::ipv4::tcp_output::{
    __tcp_push_pending_frames, GSO_MAX_SIZE, SEGMENT_OVERHEAD, cb, cb_mut, tcp_current_mss,
    tcp_push_one, tcp_slow_start_after_idle_check, watch_segment,
};
use crate::net::ipv4::tcp_rate::tcp_rate_check_app_limited;
use crate::net::socket::{MsgSend, SendBatch, Sent, Wait};
use std::io::IoSlice;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::net_tstamp::{SOF_TIMESTAMPING_TX_ACK, SOF_TIMESTAMPING_TX_RECORD_MASK};
use uapi::poll::POLLOUT;
use uapi::snmp::LinuxMib;
use uapi::socket::{
    MSG_EOR, MSG_FASTOPEN, MSG_MORE, MSG_OOB, MSG_SPLICE_PAGES, MSG_ZEROCOPY, SCM_CREDENTIALS,
    SCM_RIGHTS, SO_MARK, SO_TIMESTAMPING, SO_TIMESTAMPING_NEW, SOL_SOCKET, cmsgs,
};
use uapi::tcp::{TCPHDR_ACK, TCPHDR_PSH};

/// Octets that one BH section copies.
const SECTION: usize = 64 << 10;
/// Pieces of pages that one segment refers to at the most.
///
/// linux: include/linux/skbuff.h:MAX_SKB_FRAGS
pub(crate) const MAX_SKB_FRAGS: usize = 17;

/// What a turn of copying ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// All is written.
    Done,
    /// There is more, after others had their turn.
    More,
    /// No room: to be waited for.
    NoRoom,
    /// There is room, and no memory for it.
    NoMemory,
    /// Not connected yet: to be waited for.
    Connecting,
    /// It can't be.
    Fails(Errno),
}

/// Writes messages into the send queue, and sends what may go. It waits for room until all of a message is
/// written; a message of which a part went is a success of that many octets.
///
/// # Errors
/// EPIPE for a connection that is over or was shut down, or not begun; EAGAIN without room when the call may
/// not wait, or its time is up; EINTR; those of connecting with `MSG_FASTOPEN`; EINVAL for control data that is none;
/// ENOBUFS when too much waits to be told of (`MSG_ZEROCOPY`); the socket's pending error.
///
/// linux: net/ipv4/tcp.c:tcp_sendmsg
pub(crate) fn tcp_sendmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &SendBatch<'_>,
    wait: &mut Wait,
) -> Poll<Result<Sent, Errno>> {
    walk!(cx, tcp_sendmsg);
    let mut sent = Sent::default();
    for (msg, flags) in batch.iter() {
        let zc = if flags & (MSG_ZEROCOPY | MSG_SPLICE_PAGES) == 0 {
            None
        } else {
            match Zerocopy::begin(cx, sk, (msg, flags, batch.owned()), wait) {
                Ok(zc) => zc,
                Err(error) if sent.messages == 0 => return Poll::Ready(Err(error)),
                Err(error) => return Poll::Ready(Ok(Sent { stop: Some(error), ..sent })),
            }
        };
        let whole = send_one(cx, sk, (msg, flags, zc.as_ref()), wait);
        if let Some(zc) = zc {
            zc.end(cx, sk, &whole, wait);
        }
        match whole {
            Poll::Ready(Ok(bytes)) => sent.add(bytes),
            Poll::Ready(Err(error)) if sent.messages == 0 => return Poll::Ready(Err(error)),
            Poll::Ready(Err(error)) => {
                return Poll::Ready(Ok(Sent { stop: Some(error), ..sent }));
            }
            Poll::Pending if sent.messages == 0 => return Poll::Pending,
            // What it has written of this one is kept for the next call.
            Poll::Pending => break,
        }
    }
    Poll::Ready(Ok(sent))
}

/// Sends one message; `zc`: without a copy.
fn send_one(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    (msg, flags, zc): (&MsgSend<'_>, i32, Option<&Zerocopy<'_>>),
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    if fastopens(sk, flags, wait)
        && let Some(ended) = ready!(send_fastopen(cx, sk, (msg, flags, zc), wait))
    {
        return Poll::Ready(ended);
    }
    let mut tsflags = sk.tsflags();
    if !msg.control.is_empty() {
        sock_cmsg_send(msg.control, &mut tsflags)?;
    }
    let outgoing = Outgoing { iov: msg.iov, flags, tsflags, zc };
    let mut turn;
    {
        let mut guard = sk.lock_sock(cx);
        let mut begins = true;
        loop {
            let written = &mut wait.progress;
            turn = guard
                .in_bh(|cx, sk| {
                    if std::mem::take(&mut begins) {
                        tcp_rate_check_app_limited(sk);
                    }
                    tcp_sendmsg_locked(cx, sk, &outgoing, written)
                })
                .unwrap_or(Turn::Fails(Errno::EOPNOTSUPP));
            if turn != Turn::More {
                break;
            }
        }
    }
    let failed = match turn {
        Turn::Done | Turn::More => return Poll::Ready(Ok(std::mem::take(&mut wait.progress))),
        Turn::Fails(error) => error,
        Turn::NoRoom | Turn::NoMemory | Turn::Connecting => {
            match ready!(wait_memory(cx, sk, (turn, flags), wait)) {
                Ok(done) => return Poll::Ready(Ok(done)),
                Err(error) => error,
            }
        }
    };
    match std::mem::take(&mut wait.progress) {
        0 => Poll::Ready(Err(failed)),
        written => {
            if tsflags != 0 {
                sk.lock_sock(cx).in_bh(|cx, sk| tcp_tx_timestamp(cx, sk.tp, tsflags));
            }
            Poll::Ready(Ok(written))
        }
    }
}

/// Connects, with the message's first octets in the SYN if they may be there. How the call ended; `None`: it goes on.
fn send_fastopen(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    (msg, flags, zc): (&MsgSend<'_>, i32, Option<&Zerocopy<'_>>),
    wait: &mut Wait,
) -> Poll<Option<Result<usize, Errno>>> {
    let ubuf = zc.and_then(|zc| zc.ubuf.as_ref());
    Poll::Ready(match ready!(tcp_sendmsg_fastopen(cx, sk, (msg, flags, ubuf), wait)) {
        Ok(()) => None,
        Err(Errno::EINPROGRESS) if wait.progress != 0 => {
            Some(Ok(std::mem::take(&mut wait.progress)))
        }
        Err(error) => {
            wait.progress = 0;
            Some(Err(error))
        }
    })
}

/// Waits for room, for memory, or for the connection, as the turn ended.
///
/// linux: net/core/stream.c:sk_stream_wait_memory, sk_stream_wait_connect
fn wait_memory(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    (turn, flags): (Turn, i32),
    wait: &mut Wait,
) -> Poll<Result<usize, Errno>> {
    if turn == Turn::NoMemory {
        let most = memory_nap(cx);
        wait.nap(cx, most);
    }
    wait.for_event(cx, sk, POLLOUT as u32, flags, |state| {
        let Some(tp) = state.tcp.as_deref_mut() else { return true };
        let over = state.base.err.is_some() || state.base.shutdown & SEND_SHUTDOWN != 0;
        if turn == Turn::Connecting {
            return over || !matches!(tp.state, TcpState::SynSent | TcpState::SynRecv);
        }
        tp.nospace = true;
        over || !may_write(tp)
            || (turn == Turn::NoRoom
                && tp.wmem_queued < sk.sndbuf()
                && tp.write_seq - tp.snd_nxt < tp.notsent_lowat)
    })
}

/// A message as it is written.
struct Outgoing<'a> {
    iov: &'a [IoSlice<'a>],
    flags: i32,
    /// What it is to be told of: `SOF_TIMESTAMPING_*`.
    tsflags: u32,
    zc: Option<&'a Zerocopy<'a>>,
}

/// The call connects, or has begun to.
fn fastopens(sk: &Sock, flags: i32, wait: &Wait) -> bool {
    let state = sk.state();
    let Some(tp) = state.tcp.as_deref() else { return false };
    if wait.slept() {
        tp.tfo(Tfo::REQ)
    } else {
        flags & MSG_FASTOPEN != 0 || tp.tfo(Tfo::DEFER_CONNECT)
    }
}

/// How long one sleeps for memory, of which nobody would tell: 2 jiffies and up to a fifth of a second.
///
/// linux: net/core/stream.c:sk_stream_wait_memory
fn memory_nap(cx: &mut TaskCx) -> Duration {
    cx.local_bh_disable(|bh| {
        Duration::from_nanos((2 + u64::from(bh.cpu.rng.below(HZ as u32 / 5))) * TICK_NSEC)
    })
}

/// Control data: only what every socket takes.
fn sock_cmsg_send(control: &[u8], tsflags: &mut u32) -> Result<(), Errno> {
    for cmsg in cmsgs(control) {
        let cmsg = cmsg?;
        if let (SOL_SOCKET, SO_TIMESTAMPING | SO_TIMESTAMPING_NEW) = (cmsg.level, cmsg.type_) {
            *tsflags = tsflags_of_cmsg(cmsg.data, *tsflags)?;
            continue;
        }
        let known = matches!(cmsg.type_, SCM_RIGHTS | SCM_CREDENTIALS | SO_MARK);
        if cmsg.level == SOL_SOCKET && !known {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}

/// What keeps a connection from sending.
///
/// linux: net/core/stream.c:sk_stream_error
fn sk_stream_error(sk: &mut TcpSk<'_>) -> Turn {
    match sk.st.sock_error() {
        Err(error) => Turn::Fails(error),
        Ok(()) => Turn::Fails(Errno::EPIPE),
    }
}

/// Data can be written: the connection stands, or came by fast open.
fn may_write(tp: &TcpSock) -> bool {
    tp.state.may_send() || tp.tcp_passive_fastopen()
}

/// Why nothing can be written.
fn may_not_send(sk: &mut TcpSk<'_>) -> Option<Turn> {
    if sk.st.dead {
        return Some(Turn::Fails(Errno::EIO));
    }
    if !may_write(sk.tp) {
        return Some(match sk.st.sock_error() {
            Err(error) => Turn::Fails(error),
            Ok(()) if matches!(sk.tp.state, TcpState::SynSent | TcpState::SynRecv) => {
                Turn::Connecting
            }
            Ok(()) => Turn::Fails(Errno::EPIPE),
        });
    }
    let failed = sk.st.err.is_some() || sk.st.shutdown & SEND_SHUTDOWN != 0;
    failed.then(|| sk_stream_error(sk))
}

/// Copies a message from where the last turn ended, as far as there is room; or lets segments refer to it.
///
/// linux: net/ipv4/tcp.c:tcp_sendmsg_locked
fn tcp_sendmsg_locked(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    msg: &Outgoing<'_>,
    written: &mut usize,
) -> Turn {
    let Outgoing { iov, flags, zc, .. } = *msg;
    if let Some(ends) = may_not_send(sk) {
        return ends;
    }
    let all: usize = iov.iter().map(|part| part.len()).sum();
    let (mut mss, mut goal) = tcp_send_mss(sk, flags);
    let end = all.min(*written + SECTION);
    let mut turn = if end == all { Turn::Done } else { Turn::More };
    while *written < end {
        let Some(room) = segment_room(cx, sk, (goal, zc)) else {
            turn = Turn::NoRoom;
            break;
        };
        let len = room.min(end - *written);
        let copied = match zc {
            None => copy_to_tail(cx, sk, iov, *written, len),
            Some(zc) => zc.refer(cx, sk, (iov, *written), len),
        };
        if copied == 0 {
            turn = Turn::NoRoom;
            break;
        }
        *written += copied;
        if *written == all {
            if flags & MSG_EOR != 0
                && let Some(tail) = sk.tp.tcp_write_queue_tail()
            {
                cb_mut(tail).eor = true;
            }
            break;
        }
        let full = sk.tp.write_queue.back().is_some_and(|tail| tail.data_len as usize >= goal);
        if !full || flags & MSG_OOB != 0 {
            continue;
        }
        if forced_push(sk) {
            tcp_mark_push(sk);
            __tcp_push_pending_frames(cx, sk, mss, Nonagle::PUSH);
        } else if sk.tp.write_queue.len() == 1 && sk.tp.tcp_send_head().is_some() {
            tcp_push_one(cx, sk, mss);
        }
        (mss, goal) = tcp_send_mss(sk, flags);
    }
    match turn {
        Turn::NoRoom | Turn::NoMemory => {
            tcp_remove_empty_skb(cx, sk);
            sk.tp.nospace = true;
            tcp_push(cx, sk, (flags & !MSG_MORE, mss, goal), Nonagle::PUSH);
            // The buffer has room: it is the machine's memory that is used up.
            if sk_stream_memory_free(sk) {
                turn = Turn::NoMemory;
            }
        }
        _ => {
            if msg.tsflags != 0 && turn == Turn::Done {
                tcp_tx_timestamp(cx, sk.tp, msg.tsflags);
            }
            let nonagle = sk.tp.nonagle;
            let more = if turn == Turn::More { MSG_MORE } else { 0 };
            tcp_push(cx, sk, (flags | more, mss, goal), nonagle);
        }
    }
    turn
}

/// The last octet that was written is to be told of.
///
/// linux: net/ipv4/tcp.c:tcp_tx_timestamp
#[cold]
fn tcp_tx_timestamp(cx: &BhCx<'_>, tp: &mut TcpSock, tsflags: u32) {
    let Some(tail) = tp.write_queue.back_mut() else { return };
    if tsflags & SOF_TIMESTAMPING_TX_RECORD_MASK != 0 {
        let octet = cb(tail).seq + tail.len - 1;
        __sock_tx_timestamp(cx, tail, tsflags, octet.0);
        tail.flags.set(SkbFlags::ACK_TSTAMP, tsflags & SOF_TIMESTAMPING_TX_ACK != 0);
    }
}

/// The segment size, and how large the pieces of the queue are made.
///
/// linux: net/ipv4/tcp.c:tcp_send_mss
fn tcp_send_mss(sk: &mut TcpSk<'_>, flags: i32) -> (u32, usize) {
    let mss = tcp_current_mss(sk);
    if flags & MSG_OOB != 0 {
        return (mss, mss as usize);
    }
    // Several segments, as long as half of the peer's largest window.
    let half = match sk.tp.max_window {
        0 => GSO_MAX_SIZE,
        large if large > 536 => large >> 1,
        small => small,
    };
    let goal = GSO_MAX_SIZE.min(half.max(68));
    let segs = (goal / mss.max(1)).max(1);
    (mss, (segs * mss) as usize)
}

/// How much of a segment is free: the last one's room, or that of a new one. `None`: the buffer is full.
fn segment_room(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    (goal, zc): (usize, Option<&Zerocopy<'_>>),
) -> Option<usize> {
    if let Some(tail) = sk.tp.tcp_write_queue_tail() {
        let left = goal.saturating_sub(tail.data_len as usize);
        if left != 0 && !cb(tail).eor {
            if tail.frags.len() < MAX_SKB_FRAGS && zc.is_none_or(|zc| zc.may_join(tail)) {
                return Some(left);
            }
            // Nothing can be added to it: it need not wait for more.
            tcp_mark_push(sk);
        }
    }
    if !sk_stream_memory_free(sk) {
        return None;
    }
    let mut skb = sk_stream_alloc_skb(cx, sk)?;
    watch_segment(cx, sk, &mut skb);
    skb_entail(cx, sk, skb);
    Some(goal)
}

/// A segment without data, charged to the send buffer; `None` without memory.
///
/// linux: net/ipv4/tcp.c:sk_stream_alloc_skb
fn sk_stream_alloc_skb(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) -> Option<Skb> {
    walk!(cx, sk_stream_alloc_skb);
    let mut skb = cx.cpu.pool.alloc_handle()?;
    skb.truesize = SEGMENT_OVERHEAD as u32;
    // A stream that has nothing under way gets its segment, or nobody would ever wake it.
    if sk.tp.tcp_queues_empty() {
        sk_forced_mem_charge(cx, sk, SEGMENT_OVERHEAD);
    } else if !sk_mem_charge(cx, sk, SEGMENT_OVERHEAD, MemKind::Send) {
        cx.free_skb(skb);
        return None;
    }
    skb.gso.segs = 1;
    Some(skb)
}

/// Puts a segment into the send queue.
///
/// linux: net/ipv4/tcp.c:skb_entail
fn skb_entail(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, mut skb: Skb) {
    walk!(cx, skb, skb_entail);
    let seq = sk.tp.write_seq;
    skb.cb = Cb::Tcp(TcpSkbCb { seq, end_seq: seq, tcp_flags: TCPHDR_ACK, ..TcpSkbCb::NONE });
    sk.tp.wmem_queued += skb.truesize as usize;
    let first = sk.tp.tcp_queues_empty();
    sk.tp.tcp_add_write_queue_tail(cx, skb);
    if first {
        sk.chrono_start(cx, Chrono::Busy);
    }
    sk.tp.nonagle.remove(Nonagle::PUSH);
    tcp_slow_start_after_idle_check(cx, sk);
}

/// Copies up to `len` octets of the message behind the last segment's; how many.
fn copy_to_tail(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    iov: &[IoSlice<'_>],
    from: usize,
    len: usize,
) -> usize {
    let Some(frag) = cx.cpu.pool.page_frag_refill() else { return 0 };
    let len = len.min(frag.room());
    if !charge_data(cx, sk, len) {
        return 0;
    }
    let Some(frag) = cx.cpu.pool.page_frag_refill() else { return 0 };
    let (page, offset) = (Arc::clone(frag.place().0), frag.place().1);
    let size = frag.append(len, |to| copy_from_iov(iov, from, to));
    let tp = &mut *sk.tp;
    let Some(tail) = tp.write_queue.back_mut() else { return 0 };
    match tail.frags.last_mut() {
        Some(last) if Arc::ptr_eq(&last.page, &page) && last.offset + last.size == offset => {
            last.size += size;
        }
        _ => tail.frags.push(SkbFrag { page, offset, size }),
    }
    grow_tail(tp, size);
    size as usize
}

/// Charges octets that a segment is about to hold; false when the account does not allow it. The first octets of an
/// idle stream are never refused.
#[inline]
pub(super) fn charge_data(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, len: usize) -> bool {
    if sk.tp.wmem_queued > SEGMENT_OVERHEAD {
        return sk_mem_charge(cx, sk, len, MemKind::Send);
    }
    sk_forced_mem_charge(cx, sk, len);
    true
}

/// The last segment has so many octets more.
#[inline]
pub(super) fn grow_tail(tp: &mut TcpSock, size: u32) {
    let Some(tail) = tp.write_queue.back_mut() else { return };
    tail.len += size;
    tail.data_len += size;
    tail.truesize += size;
    let own = cb_mut(tail);
    own.end_seq += size;
    own.tcp_flags &= !TCPHDR_PSH;
    tp.write_seq += size;
    tp.wmem_queued += size as usize;
}

/// Fills `to` with what the message has from an offset on.
pub(crate) fn copy_from_iov(iov: &[IoSlice<'_>], mut from: usize, mut to: &mut [u8]) {
    for part in iov {
        if from >= part.len() {
            from -= part.len();
            continue;
        }
        let here = &part[from..];
        let take = here.len().min(to.len());
        let (room, rest) = to.split_at_mut(take);
        room.copy_from_slice(&here[..take]);
        (to, from) = (rest, 0);
        if to.is_empty() {
            break;
        }
    }
}

/// A segment that got no data goes.
///
/// linux: net/ipv4/tcp.c:tcp_remove_empty_skb
fn tcp_remove_empty_skb(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let empty = |skb: &Skb| cb(skb).seq == cb(skb).end_seq;
    if sk.tp.write_queue.back().is_some_and(empty)
        && let Some(skb) = sk.tp.write_queue.pop_back()
    {
        if sk.tp.tcp_queues_empty() {
            sk.chrono_stop(cx, Chrono::Busy);
        }
        crate::net::ipv4::tcp_output::tcp_wmem_free_skb(cx, sk, skb);
    }
}

/// More than half of the largest window is written and not pushed: the peer should not wait for the rest.
///
/// linux: net/ipv4/tcp.c:forced_push
fn forced_push(sk: &TcpSk<'_>) -> bool {
    sk.tp.write_seq.after(sk.tp.pushed_seq + (sk.tp.max_window >> 1))
}

/// The last segment is pushed.
///
/// linux: net/ipv4/tcp.c:tcp_mark_push
fn tcp_mark_push(sk: &mut TcpSk<'_>) {
    if let Some(tail) = sk.tp.write_queue.back_mut() {
        cb_mut(tail).tcp_flags |= TCPHDR_PSH;
    }
    sk.tp.pushed_seq = sk.tp.write_seq;
}

/// Small writes wait for the one before them to leave the queues below: they grow meanwhile.
///
/// linux: net/ipv4/tcp.c:tcp_should_autocork
fn tcp_should_autocork(cx: &BhCx<'_>, sk: &TcpSk<'_>, goal: usize) -> bool {
    let Some(tail) = sk.tp.write_queue.back() else { return false };
    (tail.data_len as usize) < goal
        && cx.t.net.sysctl.tcp.autocorking
        && !sk.tp.rtx_queue.is_empty()
        && sk.sk.wmem_alloc() > tail.truesize as usize
        && sk.tp.write_queue.len() == 1
}

/// A turn of writing has ended: what may go goes.
///
/// linux: net/ipv4/tcp.c:tcp_push
fn tcp_push(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    (flags, mss, goal): (i32, u32, usize),
    mut nonagle: Nonagle,
) {
    if sk.tp.write_queue.is_empty() {
        return;
    }
    if flags & MSG_MORE == 0 || forced_push(sk) {
        tcp_mark_push(sk);
    }
    if flags & MSG_OOB != 0 {
        sk.tp.snd_up = sk.tp.write_seq;
    }
    if tcp_should_autocork(cx, sk, goal) {
        sk.sk.throttle();
        // It may have left at this moment: then nobody would send this.
        if sk.sk.wmem_alloc() > sk.tp.write_queue.back().map_or(0, |tail| tail.truesize as usize) {
            return cx.count(LinuxMib::TCPAutoCorking);
        }
    }
    if flags & MSG_MORE != 0 {
        nonagle = Nonagle::CORK;
    }
    __tcp_push_pending_frames(cx, sk, mss, nonagle);
}
