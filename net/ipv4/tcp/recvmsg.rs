//! The receive queue to a program.
//!
//! linux: net/ipv4/tcp.c (`tcp_recvmsg`). Context: task, which owns the socket. While it does, nobody else
//! touches the receive queue: it is taken out, and octets are copied under no lock.

use super::{SeqNr, TcpSk, TcpSock, TcpState, UrgData};
use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::time::Ktime;
use crate::net::core::datagram::copy_to_iter_at;
use crate::net::core::skbuff::Skb;
use crate::net::core::sock::{RCV_SHUTDOWN, SkBuffHead, Sock, SockGuard};
use crate::net::core::stream::sk_mem_uncharge;
use crate::net::ipv4::inet_hashtables::CmsgFlags;
use crate::net::ipv4::ip_sockglue::{ip_recv_error, put_times};
use crate::net::ipv4::tcp::AckPending;
use crate::net::ipv4::tcp_input::tcp_rcv_space_adjust;
use crate::net::ipv4::tcp_output::{__tcp_select_window, cb, tcp_send_ack};
use crate::net::socket::{MsgRecv, RecvBatch, Wait};
use std::sync::Arc;
use std::task::Poll;
use uapi::errno::Errno;
use uapi::poll::{POLLERR, POLLIN};
use uapi::socket::{CmsgWriter, MSG_ERRQUEUE, MSG_OOB, MSG_PEEK, MSG_TRUNC, MSG_WAITALL, SOL_TCP};
use uapi::tcp::{TCP_CM_INQ, TCPHDR_FIN};

/// Reads a stream: what there is, at least `SO_RCVLOWAT`, all of it with `MSG_WAITALL`. The rooms behind the
/// first one are left to the next call.
///
/// # Errors
/// ENOTCONN for a socket that has no connection; EAGAIN when nothing is there and the call may not wait, or
/// its time is up; EINTR; EINVAL for urgent data there is not; the socket's pending error.
///
/// linux: net/ipv4/tcp.c:tcp_recvmsg
pub(crate) fn tcp_recvmsg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    batch: &mut RecvBatch<'_, '_>,
    wait: &mut Wait,
) -> Poll<Result<(), Errno>> {
    walk!(cx, tcp_recvmsg);
    let flags = batch.flags;
    batch.came = 1;
    let Some(msg) = batch.msgs.first_mut() else {
        batch.came = 0;
        return Poll::Ready(Ok(()));
    };
    if flags & MSG_ERRQUEUE != 0 {
        msg.received = ip_recv_error(cx, sk, msg)?;
        return Poll::Ready(Ok(()));
    }
    if flags & MSG_OOB != 0 {
        let read = recv_urg(cx, sk, msg, flags);
        return Poll::Ready(read.map(|len| msg.received.len = len));
    }
    let len: usize = msg.iov.iter().map(|part| part.len()).sum();
    let mut stamp = Ktime::ZERO;
    let turn = {
        let mut guard = sk.lock_sock(cx);
        tcp_recvmsg_locked(&mut guard, msg, (len, flags), (wait, &mut stamp))
    };
    let ended = match turn {
        Turn::Done => Ok(()),
        Turn::Fails(error) => Err(error),
        Turn::Wait(have) => {
            let waited = wait.for_event(cx, sk, (POLLIN | POLLERR) as u32, flags, |state| {
                let Some(tp) = state.tcp.as_deref() else { return true };
                let base = &state.base;
                base.err.is_some()
                    || base.shutdown & RCV_SHUTDOWN != 0
                    || tp.state == TcpState::Close
                    || tp.rcv_nxt != have
                    || (tp.urg_data != UrgData::None && tp.urg_seq == have)
            });
            match waited {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => Ok(()),
                Poll::Ready(Err(error)) => Err(error),
            }
        }
    };
    let copied = std::mem::take(&mut wait.progress);
    if copied == 0
        && let Err(error) = ended
    {
        return Poll::Ready(Err(error));
    }
    msg.received.len = copied;
    tell(sk, msg, stamp);
    Poll::Ready(Ok(()))
}

/// What a turn of reading ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Done,
    Fails(Errno),
    /// More is wanted than what came up to there.
    Wait(SeqNr),
}

/// linux: net/ipv4/tcp.c:tcp_recvmsg_locked
fn tcp_recvmsg_locked(
    guard: &mut SockGuard<'_>,
    msg: &mut MsgRecv<'_>,
    (len, flags): (usize, i32),
    (wait, stamp): (&mut Wait, &mut Ktime),
) -> Turn {
    let begun = begin(guard, (len, flags), wait.progress);
    let (mut reader, target) = match begun {
        Ok(begun) => begun,
        Err(turn) => return turn,
    };
    let before = wait.progress;
    reader.copy(msg, len, &mut wait.progress);
    let copied = wait.progress - before;
    let (next, at_urgent) = (reader.seq, reader.stopped_at_urgent());
    *stamp = reader.stamp;
    let ended = guard.in_bh(|cx, sk| reader.finish(cx, sk, copied));
    if ended.is_none() {
        return Turn::Fails(Errno::EOPNOTSUPP);
    }
    let done = wait.progress;
    let mut state = guard.state();
    let Some(tp) = state.tcp.as_deref() else { return Turn::Done };
    // Who wants nothing waits all the same until there is something.
    let something = done != 0 || tp.rcv_nxt != next;
    if (something && done >= len) || done >= target || (at_urgent && done != 0) {
        return Turn::Done;
    }
    let (closed, fin) = (tp.state == TcpState::Close, tp.done);
    let over = state.base.shutdown & RCV_SHUTDOWN != 0;
    if done != 0 && (state.base.err.is_some() || closed || over) {
        return Turn::Done;
    }
    if done == 0 {
        if fin {
            return Turn::Done;
        }
        if let Err(error) = state.base.sock_error() {
            return Turn::Fails(error);
        }
        if state.base.dead {
            return Turn::Fails(Errno::EIO);
        }
        if over {
            return Turn::Done;
        }
        if closed {
            return Turn::Fails(Errno::ENOTCONN);
        }
    }
    Turn::Wait(next)
}

/// Takes the queue out, to be read.
fn begin(
    guard: &SockGuard<'_>,
    (len, flags): (usize, i32),
    done: usize,
) -> Result<(Reader, usize), Turn> {
    let mut state = guard.state();
    let Some(tp) = state.tcp.as_deref() else { return Err(Turn::Fails(Errno::EOPNOTSUPP)) };
    if tp.state == TcpState::Listen {
        return Err(Turn::Fails(Errno::ENOTCONN));
    }
    let (copied_seq, urg) = (tp.copied_seq, (tp.urg_data, tp.urg_seq));
    let opts = &state.base.opts;
    let peek = flags & MSG_PEEK != 0;
    let lowat = opts.rcvlowat.max(1) as usize;
    let target = if flags & MSG_WAITALL != 0 { len } else { lowat.min(len) }.max(1);
    // A peek begins where the last one ended (`SO_PEEK_OFF`); one that goes on, where it was.
    let skip = match usize::try_from(opts.peek_off) {
        _ if !peek => 0,
        Ok(offset) => offset,
        Err(_) => done,
    };
    let inline = opts.urginline;
    // As many as a read of full segments takes; a reader of small ones asks for more room then.
    let most = if peek { 0 } else { state.base.receive_queue.len().min(len / 1024 + 1) };
    let reader = Reader {
        queue: std::mem::take(&mut state.base.receive_queue),
        seq: copied_seq + u32::try_from(skip).unwrap_or(u32::MAX),
        urg: (urg.0 != UrgData::None).then_some(urg.1),
        inline,
        peek,
        truncate: flags & MSG_TRUNC != 0,
        eaten: Vec::with_capacity(most),
        hole: 0,
        timed: state.base.inet.cmsg_flags.intersects(CmsgFlags::TIMED),
        stamp: Ktime::ZERO,
    };
    Ok((reader, target))
}

/// The receive queue in the reader's hands.
struct Reader {
    queue: SkBuffHead,
    /// The next octet to read.
    seq: SeqNr,
    /// Where the urgent octet lies.
    urg: Option<SeqNr>,
    inline: bool,
    peek: bool,
    truncate: bool,
    /// Segments that were read.
    eaten: Vec<Skb>,
    /// Urgent octets that were passed over.
    hole: usize,
    /// Segments have times.
    timed: bool,
    /// When the last one came of which something was read.
    stamp: Ktime,
}

impl Reader {
    /// Reading stopped in front of the urgent octet.
    fn stopped_at_urgent(&self) -> bool {
        self.urg == Some(self.seq)
    }

    /// Copies what is in order, up to the urgent octet.
    // By itself: among all else of the call its loop would be short of registers.
    #[inline(never)]
    fn copy(&mut self, msg: &mut MsgRecv<'_>, len: usize, done: &mut usize) {
        let (mut place, mut have, mut seq) = (0, *done, self.seq);
        while have < len && (have == 0 || self.urg != Some(seq)) {
            let Some(skb) = self.queue.peek_at(place) else { break };
            let own = cb(skb);
            let (mut from, size) = (seq - own.seq, skb.len);
            let (fin, end) = (own.tcp_flags & TCPHDR_FIN != 0, own.end_seq);
            if from < size {
                let mut used = usize::min((size - from) as usize, len - have);
                if let Some(urg) = self.urg {
                    let passed = pass_urgent(urg.distance(seq), self.inline, &mut used);
                    self.hole += passed as usize;
                    (from, seq) = (from + passed, seq + passed);
                }
                if !self.truncate {
                    copy_to_iter_at(skb, from as usize, msg.iov, have, used);
                }
                (have, seq, from) = (have + used, seq + used as u32, from + used as u32);
            } else if own.seq.after(seq) {
                // It begins beyond what was read: something is missing before it.
                break;
            }
            if from < size {
                continue;
            }
            if fin && !self.peek {
                seq = seq.max(end);
            }
            if self.peek {
                place += 1;
            } else if let Some(skb) = self.queue.skb_dequeue() {
                self.eaten.push(skb);
            }
            if fin {
                break;
            }
        }
        let read = have != *done;
        (*done, self.seq) = (have, seq);
        if self.timed && read {
            self.stamp = self.last_stamp();
        }
    }

    /// When the last segment came of which something was read.
    #[cold]
    fn last_stamp(&self) -> Ktime {
        let begun = self.queue.iter().take_while(|skb| cb(skb).seq.before(self.seq)).last();
        begun.or(self.eaten.last()).map_or(Ktime::ZERO, |skb| skb.tstamp())
    }

    /// Gives the queue back: what was read is gone, the window may open, the peer may be told.
    fn finish(mut self, cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, copied: usize) {
        std::mem::swap(&mut sk.st.receive_queue, &mut self.queue);
        if self.peek {
            sk.st.sk_peek_offset_fwd(copied);
            return;
        }
        let mut size = 0;
        for skb in &self.eaten {
            walk!(cx, skb, consume_skb);
            size += skb.truesize as usize;
        }
        sk.st.rmem_alloc = sk.st.rmem_alloc.saturating_sub(size);
        sk_mem_uncharge(cx, sk, size);
        cx.free_skbs(&mut self.eaten);
        sk.st.sk_peek_offset_bwd(copied);
        sk.tp.copied_seq = self.seq;
        if sk.tp.urg_data != UrgData::None && sk.tp.copied_seq.after(sk.tp.urg_seq) {
            sk.tp.urg_data = UrgData::None;
        }
        if copied != 0 {
            tcp_rcv_space_adjust(cx, sk);
        }
        tcp_cleanup_rbuf(cx, sk, copied);
    }
}

/// The urgent octet lies `ahead` of what is to be read: reading ends in front of it, or begins behind it where it
/// is not in the stream. Octets that are passed over.
#[cold]
fn pass_urgent(ahead: i32, inline: bool, used: &mut usize) -> u32 {
    if ahead == 0 && !inline {
        *used -= 1;
        return 1;
    }
    if ahead > 0 {
        *used = (*used).min(ahead as usize);
    }
    0
}

/// The program has read: an acknowledgement that waited for that goes, and so does a window that opened.
///
/// linux: net/ipv4/tcp.c:tcp_cleanup_rbuf
pub(crate) fn tcp_cleanup_rbuf(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, copied: usize) {
    let tp = &*sk.tp;
    if !tp.state.synchronized() {
        return;
    }
    let pending = tp.ack.pending;
    let mut now = false;
    if pending.contains(AckPending::SCHED) {
        let two = tp.rcv_nxt - tp.rcv_wup > u32::from(tp.ack.rcv_mss);
        let pushed = pending.contains(AckPending::PUSHED2)
            || (pending.contains(AckPending::PUSHED) && !tp.in_pingpong_mode());
        now = two || (copied != 0 && pushed && sk.st.rmem_alloc == 0);
    }
    if copied != 0 && !now && sk.st.shutdown & RCV_SHUTDOWN == 0 {
        let left = tp.tcp_receive_window();
        if u64::from(left) * 2 <= u64::from(tp.window_clamp) {
            let window = __tcp_select_window(cx, sk);
            now = window != 0 && u64::from(window) >= 2 * u64::from(left);
        }
    }
    if now {
        tcp_send_ack(cx, sk);
    }
}

/// Reads the urgent octet.
///
/// linux: net/ipv4/tcp.c:tcp_recv_urg
fn recv_urg(
    cx: &mut TaskCx,
    sk: &Arc<Sock>,
    msg: &mut MsgRecv<'_>,
    flags: i32,
) -> Result<usize, Errno> {
    let guard = sk.lock_sock(cx);
    let mut state = guard.state();
    let Some(tp) = state.tcp.as_deref_mut() else { return Err(Errno::EOPNOTSUPP) };
    let (urg, closed) = (tp.urg_data, tp.state == TcpState::Close);
    let done = tp.done;
    if tp.state == TcpState::Listen {
        return Err(Errno::ENOTCONN);
    }
    if state.base.opts.urginline || matches!(urg, UrgData::None | UrgData::Read) {
        return Err(Errno::EINVAL);
    }
    if closed && !done {
        return Err(Errno::ENOTCONN);
    }
    if let UrgData::Valid(octet) = urg {
        if flags & MSG_PEEK == 0
            && let Some(tp) = state.tcp.as_deref_mut()
        {
            tp.urg_data = UrgData::Read;
        }
        msg.received.flags |= MSG_OOB;
        let room = msg.iov.iter_mut().find(|part| !part.is_empty());
        return match room {
            Some(part) => {
                if flags & MSG_TRUNC == 0 {
                    part[0] = octet;
                }
                Ok(1)
            }
            None => {
                msg.received.flags |= MSG_TRUNC;
                Ok(0)
            }
        };
    }
    if closed || state.base.shutdown & RCV_SHUTDOWN != 0 {
        return Ok(0);
    }
    // It was announced, and is not here yet.
    Err(Errno::EAGAIN)
}

/// What is left to read. Their FIN counts as an octet, read or not: there is an end of file to fetch.
///
/// linux: net/ipv4/tcp.c:tcp_inq_hint
fn tcp_inq_hint(tp: &TcpSock) -> i32 {
    let left = tp.rcv_nxt.distance(tp.copied_seq);
    if left == 0 { tp.done.into() } else { left }
}

/// Tells what the socket asked to be told: when data came, and what is left to read (`TCP_INQ`).
fn tell(sk: &Sock, msg: &mut MsgRecv<'_>, stamp: Ktime) {
    let (inq, asked) = {
        let state = sk.state();
        let tp: Option<&TcpSock> = state.tcp.as_deref().filter(|tp| tp.recvmsg_inq);
        (tp.map(tcp_inq_hint), state.inet.cmsg_flags)
    };
    let stamped = stamp != Ktime::ZERO && asked.intersects(CmsgFlags::TIMES_TOLD);
    if inq.is_none() && !stamped {
        return;
    }
    let mut writer = CmsgWriter::new(msg.control);
    if stamped {
        put_times(&mut writer, asked, stamp);
    }
    if let Some(inq) = inq {
        writer.put(SOL_TCP, TCP_CM_INQ, &inq.to_ne_bytes());
    }
    msg.received.flags |= writer.flags();
    msg.received.controllen = writer.used() as u32;
}
