//! What must hold of a TCP socket whenever nobody owns it. Debug builds only: tests look after each step.

use super::{TcpSk, TcpSock, TcpState, TimerKind};
use crate::kernel::context::TaskCx;
use crate::kernel::machine::Machine;
use crate::kernel::time::Ktime;
use crate::net::core::skbuff::Skb;
use crate::net::core::sock::{Sock, SockState};
use crate::net::ipv4::inet_hashtables::EhashEntry;
use crate::net::ipv4::tcp::{Deferred, IcskPending, Sacked, SeqNr};
use crate::net::ipv4::tcp_output::{cb, tcp_skb_pcount};
use std::sync::Arc;

/// Looks at every connection of a machine that nobody owns at the moment.
///
/// # Panics
/// When one of them is not as it must be.
pub fn tcp_check_all(m: &Machine) {
    for (_, entry) in m.net().tcp.hashinfo.ehash.dump() {
        if let EhashEntry::Sock(sk) = entry {
            check(&sk);
        }
    }
}

/// Looks at the socket of a descriptor, whatever its state; at nothing when it has none.
///
/// # Panics
/// When it is not as it must be.
pub fn tcp_check_fd(cx: &mut TaskCx, fd: i32) {
    let Some(file) = crate::fs::fdget(cx, fd) else { return };
    if let Some(socket) = file.socket() {
        check(&socket.sk);
    }
    crate::fs::fdput(cx, fd, file);
}

fn check(sk: &Arc<Sock>) {
    let mut locked = sk.state();
    if locked.sock_owned_by_user() || locked.dead {
        return;
    }
    if let Some(sk) = TcpSk::of(sk, &mut locked) {
        sk.tp.check_invariants(sk.st);
    }
}

/// Something does not hold: what.
type Checked = Result<(), &'static str>;

fn holds(what: &'static str, condition: bool) -> Checked {
    if condition { Ok(()) } else { Err(what) }
}

impl TcpSock {
    /// Looks at everything that must hold while nobody owns the socket.
    ///
    /// # Panics
    /// When something does not.
    pub fn check_invariants(&self, st: &SockState) {
        let checked = self
            .check_sequence()
            .and_then(|()| self.check_send_queues())
            .and_then(|()| self.check_counts())
            .and_then(|()| self.check_receive_queue(st))
            .and_then(|()| self.check_early())
            .and_then(|()| self.check_memory(st))
            .and_then(|()| self.check_timers());
        if let Err(what) = checked {
            panic!("does not hold: {what}\n{}", self.describe(st));
        }
    }

    fn describe(&self, st: &SockState) -> String {
        let queue = |skb: &Skb| (cb(skb).seq, cb(skb).end_seq, cb(skb).sacked, tcp_skb_pcount(skb));
        format!(
            "{:?} {:?} una {:?} nxt {:?} write {:?} wnd {} cwnd {} out {} sacked {} lost {} retrans {}\n\
             rcv {:?} copied {:?} wup {:?} wnd {} rmem {} wmem {} forward {} pending {:?} timers {:?}\n\
             sent {:?}\nwritten {:?}\nreceived {:?}\nearly {:?}\nblocks {:?} of {}, orphan {}",
            self.state,
            self.ca_state,
            self.snd_una,
            self.snd_nxt,
            self.write_seq,
            self.snd_wnd,
            self.cong.snd_cwnd,
            self.packets_out,
            self.sacked_out,
            self.lost_out,
            self.retrans_out,
            self.rcv_nxt,
            self.copied_seq,
            self.rcv_wup,
            self.rcv_wnd,
            st.rmem_alloc,
            self.wmem_queued,
            self.forward_alloc,
            self.pending,
            self.timers,
            self.rtx_queue.iter().map(queue).collect::<Vec<_>>(),
            self.write_queue.iter().map(queue).collect::<Vec<_>>(),
            st.receive_queue.iter().map(queue).collect::<Vec<_>>(),
            self.out_of_order_queue.values().map(queue).collect::<Vec<_>>(),
            self.selective_acks,
            self.rx_opt.num_sacks,
            self.orphan,
        )
    }

    /// A connection stands, or is on its way to.
    fn alive(&self) -> bool {
        !matches!(self.state, TcpState::Close | TcpState::Listen)
    }

    fn check_sequence(&self) -> Checked {
        if !self.alive() {
            return Ok(());
        }
        holds("snd_una <= snd_nxt", !self.snd_una.after(self.snd_nxt))?;
        holds("snd_nxt <= write_seq", !self.snd_nxt.after(self.write_seq))?;
        holds("copied_seq <= rcv_nxt", !self.copied_seq.after(self.rcv_nxt))?;
        holds("rcv_wup <= rcv_nxt", !self.rcv_wup.after(self.rcv_nxt))?;
        holds("a window of at least one", self.cong.snd_cwnd != 0)
    }

    fn check_send_queues(&self) -> Checked {
        if !self.alive() {
            let empty = self.rtx_queue.is_empty() && self.write_queue.is_empty();
            return holds("who is closed sends nothing", empty || self.state == TcpState::Close);
        }
        if let Some(first) = self.rtx_queue.front() {
            let own = cb(first);
            holds("the first segment is not acknowledged", own.end_seq.after(self.snd_una))?;
            holds("what is not acknowledged is kept", !own.seq.after(self.snd_una))?;
            let end = contiguous(self.rtx_queue.iter(), own.seq)?;
            holds("what was sent is kept", end == self.snd_nxt)?;
        } else if self.state != TcpState::SynRecv {
            holds("what was sent is kept", self.snd_una == self.snd_nxt)?;
        }
        let end = contiguous(self.write_queue.iter(), self.snd_nxt)?;
        holds("what was written is kept", end == self.write_seq)
    }

    fn check_counts(&self) -> Checked {
        let count = |which: Sacked| -> u32 {
            let with = |skb: &&Skb| which.is_empty() || cb(skb).sacked.contains(which);
            self.rtx_queue.iter().filter(with).map(|skb| tcp_skb_pcount(skb)).sum()
        };
        if self.state == TcpState::Close {
            return Ok(());
        }
        holds("packets_out", self.packets_out == count(Sacked::empty()))?;
        holds("lost_out", self.lost_out == count(Sacked::LOST))?;
        holds("retrans_out", self.retrans_out == count(Sacked::RETRANS))?;
        if self.rx_opt.sack_ok {
            holds("sacked_out", self.sacked_out == count(Sacked::ACKED))?;
        }
        holds("left_out <= packets_out", self.sacked_out + self.lost_out <= self.packets_out)
    }

    fn check_receive_queue(&self, st: &SockState) -> Checked {
        // What nobody will read was thrown away, and is not read up to.
        if !self.alive() || self.orphan {
            return Ok(());
        }
        let mut end: Option<SeqNr> = None;
        for skb in st.receive_queue.iter() {
            let own = cb(skb);
            match end {
                None => holds("the first one is to be read", !own.seq.after(self.copied_seq))?,
                Some(end) => {
                    holds("no hole in the receive queue", !own.seq.after(end))?;
                    holds("the receive queue goes on", own.end_seq.after(end))?;
                }
            }
            holds("a segment has something", own.end_seq.after(own.seq))?;
            end = Some(own.end_seq);
        }
        match end {
            Some(end) => holds("the receive queue ends at rcv_nxt", end == self.rcv_nxt),
            None => holds("all is read", self.copied_seq == self.rcv_nxt || self.done),
        }
    }

    fn check_early(&self) -> Checked {
        let mut end: Option<SeqNr> = None;
        for (at, skb) in &self.out_of_order_queue {
            let own = cb(skb);
            let place = self.bytes_received + u64::from(own.seq - self.rcv_nxt);
            holds("what waits lies at its place", *at == place)?;
            holds("what waits is early", own.seq.after(self.rcv_nxt))?;
            holds("what waits goes on", end.is_none_or(|end| own.end_seq.after(end)))?;
            end = Some(own.end_seq);
        }
        if !self.alive() {
            return Ok(());
        }
        let count = usize::from(self.rx_opt.num_sacks);
        holds("at most four blocks", count <= self.selective_acks.len())?;
        for block in &self.selective_acks[..count.min(4)] {
            holds("a block has something", block.start.before(block.end))?;
            holds("a block is early", block.start.after(self.rcv_nxt))?;
            holds("a block waits", end.is_some_and(|end| !block.end.after(end)))?;
        }
        Ok(())
    }

    fn check_memory(&self, st: &SockState) -> Checked {
        let size = |skb: &Skb| skb.truesize as usize;
        let sent: usize = self.rtx_queue.iter().chain(&self.write_queue).map(size).sum();
        let early: usize = self.out_of_order_queue.values().map(size).sum();
        let received: usize = st.receive_queue.iter().map(size).sum();
        holds("wmem_queued", self.wmem_queued == sent)?;
        let reports: usize = st.rare().map_or(0, |rare| rare.charged_to_rmem());
        holds("rmem_alloc", st.rmem_alloc == early + received + reports)?;
        holds("forward_alloc", self.forward_alloc >= 0)
    }

    fn check_timers(&self) -> Checked {
        if !self.alive() {
            return holds("who is closed waits for nothing", self.pending == IcskPending::None);
        }
        let timer = &self.timers[TimerKind::Write as usize];
        let armed = timer.deadline != Ktime::ZERO
            && (timer.filed.is_some() || self.deferred.contains(Deferred::WRITE_TIMER));
        if self.packets_out != 0 {
            let waits = !matches!(self.pending, IcskPending::None | IcskPending::Probe0);
            holds("what is out has a timer", waits && armed)?;
        } else if !self.write_queue.is_empty() {
            holds("what waits has a timer", self.pending != IcskPending::None && armed)?;
        }
        holds("a timer has its time", self.pending == IcskPending::None || armed)
    }
}

/// Each segment begins where the one before it ends; where the last one does.
fn contiguous<'a>(
    queue: impl Iterator<Item = &'a Skb>,
    first: SeqNr,
) -> Result<SeqNr, &'static str> {
    let mut next = first;
    for skb in queue {
        let own = cb(skb);
        holds("segments follow each other", own.seq == next)?;
        holds("a segment to send has something", own.end_seq.after(own.seq))?;
        let flags = uapi::tcp::TCPHDR_SYN | uapi::tcp::TCPHDR_FIN;
        let numbers = skb.data_len + u32::from(own.tcp_flags & flags != 0);
        holds("a segment is as long as its numbers", own.end_seq - own.seq == numbers)?;
        holds("a segment counts", tcp_skb_pcount(skb) != 0)?;
        next = own.end_seq;
    }
    Ok(next)
}
