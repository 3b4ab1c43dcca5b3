//! A TCP socket under its lock, and what it says of itself.
//!
//! linux: include/net/tcp.h, include/linux/tcp.h (`tcp_sk`). Key type: [`TcpSk`]. Contexts: any, under the
//! socket's lock.

use super::types::*;
use super::{SeqNr, TcpSock};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::core::skbuff::Skb;
use crate::net::core::sock::{Sock, SockLocked, SockState};
use std::sync::Arc;

/// A TCP socket under its lock: the socket, what all sockets have, and TCP's own.
///
/// linux: include/net/sock.h:sock, include/linux/tcp.h:tcp_sk
/// linux: include/net/inet_connection_sock.h:inet_csk
pub struct TcpSk<'a> {
    /// The socket.
    pub sk: &'a Arc<Sock>,
    /// What all sockets have.
    pub st: &'a mut SockState,
    /// TCP's own.
    pub tp: &'a mut TcpSock,
}

impl<'a> TcpSk<'a> {
    /// Of a locked socket; `None` when it is no TCP socket.
    #[inline(always)]
    pub(crate) fn of(sk: &'a Arc<Sock>, locked: &'a mut SockLocked) -> Option<Self> {
        let tp = locked.tcp.as_deref_mut()?;
        Some(Self { sk, st: &mut locked.base, tp })
    }

    /// The state.
    #[inline]
    pub fn state(&self) -> TcpState {
        self.tp.state
    }

    /// No descriptor refers to it (`SOCK_DEAD`).
    #[inline]
    pub fn orphaned(&self) -> bool {
        self.tp.orphan
    }

    /// What is written and not sent leaves room for more (`TCP_NOTSENT_LOWAT`). `wake`: 1 for who is to be woken
    /// for it, who needs twice the room, else 0.
    ///
    /// linux: net/ipv4/tcp.c:tcp_stream_memory_free
    #[inline]
    pub fn notsent_room(&self, wake: u32) -> bool {
        let unsent = self.tp.write_seq - self.tp.snd_nxt;
        unsent << wake < self.tp.notsent_lowat
    }
}

impl std::fmt::Debug for TcpSk<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TcpSk({:?} {:?})", self.sk, self.tp.state)
    }
}

impl TcpSock {
    /// Segments under way, as far as is known.
    ///
    /// linux: include/net/tcp.h:tcp_packets_in_flight
    #[inline]
    pub fn tcp_packets_in_flight(&self) -> u32 {
        (self.packets_out + self.retrans_out).saturating_sub(self.tcp_left_out())
    }

    /// Segments that have left the network: received or lost.
    ///
    /// linux: include/net/tcp.h:tcp_left_out
    #[inline]
    pub fn tcp_left_out(&self) -> u32 {
        self.sacked_out + self.lost_out
    }

    /// The search for losses has passed the segment that begins at `seq`.
    pub(crate) fn lost_hint_passed(&self, seq: SeqNr) -> bool {
        self.lost_skb_hint.is_some_and(|hint| seq.before(hint))
    }

    /// The search for losses begins anew.
    ///
    /// linux: include/net/tcp.h:tcp_clear_retrans_hints_partial
    pub(crate) fn clear_lost_hint(&mut self) {
        (self.lost_skb_hint, self.lost_cnt_hint) = (None, 0);
    }

    /// The end of what the peer takes.
    ///
    /// linux: include/net/tcp.h:tcp_wnd_end
    #[inline]
    pub fn tcp_wnd_end(&self) -> SeqNr {
        self.snd_una + self.snd_wnd
    }

    /// Octets of our window that are left.
    ///
    /// linux: include/net/tcp.h:tcp_receive_window
    #[inline]
    pub fn tcp_receive_window(&self) -> u32 {
        let left = (self.rcv_wup + self.rcv_wnd).distance(self.rcv_nxt);
        left.max(0) as u32
    }

    /// The timer's milliseconds, as timestamps count them.
    ///
    /// linux: include/net/tcp.h:tcp_time_stamp_ts
    #[inline]
    pub fn tcp_time_stamp(&self, now: Ktime) -> u32 {
        tcp_clock_ms(now).wrapping_add(self.tsoffset)
    }

    /// Windows for memory: what of `space` octets of buffer can be data.
    ///
    /// linux: include/net/tcp.h:tcp_win_from_space
    #[inline]
    pub fn tcp_win_from_space(&self, space: i64) -> i64 {
        (space * i64::from(self.scaling_ratio)) >> 8
    }

    /// The other way round.
    ///
    /// linux: include/net/tcp.h:tcp_space_from_win
    #[inline]
    pub fn tcp_space_from_win(&self, win: u32) -> u32 {
        let space = (u64::from(win) << 8) / u64::from(self.scaling_ratio.max(1));
        u32::try_from(space).unwrap_or(u32::MAX)
    }

    /// The first segment that was not sent yet.
    ///
    /// linux: include/net/tcp.h:tcp_send_head
    #[inline]
    pub fn tcp_send_head(&self) -> Option<&Skb> {
        self.write_queue.front()
    }

    /// The last segment of the send queue.
    ///
    /// linux: include/net/tcp.h:tcp_write_queue_tail
    #[inline]
    pub fn tcp_write_queue_tail(&mut self) -> Option<&mut Skb> {
        self.write_queue.back_mut()
    }

    /// Puts a segment at the end of the send queue.
    ///
    /// linux: include/net/tcp.h:tcp_add_write_queue_tail
    #[inline]
    pub(crate) fn tcp_add_write_queue_tail(&mut self, cx: &mut BhCx<'_>, skb: Skb) {
        walk!(cx, skb, tcp_add_write_queue_tail);
        self.write_queue.push_back(skb);
    }

    /// Nothing was sent that is not acknowledged, nor is to be sent.
    ///
    /// linux: include/net/tcp.h:tcp_rtx_and_write_queues_empty
    #[inline]
    pub fn tcp_queues_empty(&self) -> bool {
        self.rtx_queue.is_empty() && self.write_queue.is_empty()
    }

    /// Acknowledgements may wait for data to go with.
    ///
    /// linux: include/net/inet_connection_sock.h:inet_csk_in_pingpong_mode
    #[inline]
    pub fn in_pingpong_mode(&self) -> bool {
        self.ack.pingpong >= TCP_PINGPONG_THRESH
    }

    /// linux: include/net/inet_connection_sock.h:inet_csk_enter_pingpong_mode
    #[inline]
    pub fn enter_pingpong_mode(&mut self) {
        self.ack.pingpong = TCP_PINGPONG_THRESH;
    }
}

/// Milliseconds of the clock.
#[inline]
pub fn tcp_clock_ms(now: Ktime) -> u32 {
    (now.as_nanos() / 1_000_000) as u32
}

/// Microseconds of the clock.
#[inline]
pub fn tcp_clock_us(now: Ktime) -> u64 {
    now.as_nanos() / 1_000
}

/// What the time with something to send is spent on.
///
/// linux: include/linux/tcp.h:tcp_chrono
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Chrono {
    /// Something is to be sent.
    Busy = 1,
    /// The peer's window is closed.
    RwndLimited = 2,
    /// The send buffer is full.
    SndbufLimited = 3,
}

impl TcpSk<'_> {
    /// Begins to count for a reason, if it weighs more than the present one.
    ///
    /// linux: net/ipv4/tcp_output.c:tcp_chrono_start
    pub(crate) fn chrono_start(&mut self, cx: &mut BhCx<'_>, why: Chrono) {
        if why as u8 > self.tp.stats.chrono_type {
            self.chrono_set(cx, why as u8);
        }
    }

    /// A reason is no more: the next lighter one counts, if it holds.
    ///
    /// linux: net/ipv4/tcp_output.c:tcp_chrono_stop
    pub(crate) fn chrono_stop(&mut self, cx: &mut BhCx<'_>, why: Chrono) {
        if self.tp.tcp_queues_empty() {
            self.chrono_set(cx, 0);
        } else if why as u8 == self.tp.stats.chrono_type {
            self.chrono_set(cx, Chrono::Busy as u8);
        }
    }

    fn chrono_set(&mut self, cx: &mut BhCx<'_>, new: u8) {
        let now = cx.now();
        let stats = &mut self.tp.stats;
        if let Some(slot) = stats.chrono.get_mut(usize::from(stats.chrono_type).wrapping_sub(1)) {
            *slot += (now - stats.chrono_start).as_nanos() as u64;
        }
        (stats.chrono_type, stats.chrono_start) = (new, now);
    }
}
