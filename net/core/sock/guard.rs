//! A socket in its owner's hands.
//!
//! linux: net/core/sock.c (`lock_sock`, `release_sock`). Key type: [`SockGuard`]. Context: task.

use super::{SkBuffHead, Sock, SockLocked};
use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::locking::SpinGuard;
use crate::net::ipv4::tcp::TcpSk;
use std::sync::Arc;
/// A task's ownership of a socket; dropping it is `release_sock`: the backlog is worked off first.
///
/// linux: net/core/sock.c:release_sock
#[derive(Debug)]
pub struct SockGuard<'a> {
    pub(super) sk: &'a Arc<Sock>,
    pub(super) cx: &'a mut TaskCx,
}

impl SockGuard<'_> {
    /// The state, for a moment.
    pub fn state(&self) -> SpinGuard<'_, SockLocked> {
        self.sk.state()
    }

    /// Calls `f` with the TCP socket under its lock, in a BH section; `None` for another protocol's.
    pub(crate) fn in_bh<R>(
        &mut self,
        f: impl FnOnce(&mut BhCx<'_>, &mut TcpSk<'_>) -> R,
    ) -> Option<R> {
        let sk = self.sk;
        self.cx.local_bh_disable(|bh| {
            let mut locked = sk.state();
            TcpSk::of(sk, &mut locked).map(|mut sk| f(bh, &mut sk))
        })
    }

    /// Works the backlog off and keeps the socket.
    ///
    /// linux: net/core/sock.c:__sk_flush_backlog
    pub(crate) fn process_backlog(&mut self) {
        loop {
            let mut waiting = {
                let mut state = self.sk.state();
                if state.owner.backlog.is_empty() {
                    return;
                }
                std::mem::take(&mut state.owner.backlog)
            };
            self.receive(&mut waiting);
        }
    }

    /// The socket and the task's context, for a BH section under ownership.
    pub fn parts(&mut self) -> (&Arc<Sock>, &mut TaskCx) {
        (self.sk, self.cx)
    }

    /// linux: net/core/sock.c:__release_sock
    fn __release_sock(&mut self) {
        let sk = self.sk;
        loop {
            let mut waiting = {
                let mut state = sk.state();
                // Their charge stays until the last is out, so that a flood can't keep us here.
                if state.release_cb_due && state.owner.backlog.is_empty() {
                    drop(state);
                    self.release_cb();
                    continue;
                }
                let Some(waiting) = state.owner.release() else { return };
                waiting
            };
            self.receive(&mut waiting);
        }
    }

    fn receive(&mut self, waiting: &mut SkBuffHead) {
        let (sk, cx) = (self.sk, &mut *self.cx);
        walk!(cx, __release_sock => waiting.len() as u64);
        cx.local_bh_disable(|bh| {
            for skb in waiting.drain() {
                let mut state = sk.state();
                state.backlog_len = state.backlog_len.saturating_sub(skb.truesize as usize);
                (sk.sk_prot.backlog_rcv)(bh, sk, &mut state, skb);
            }
        });
    }

    /// What timers and the queue below left to the owner.
    ///
    /// linux: net/ipv4/tcp_output.c:tcp_release_cb
    #[cold]
    fn release_cb(&mut self) {
        let sk = self.sk;
        self.cx.local_bh_disable(|bh| {
            let mut state = sk.state();
            state.release_cb_due = false;
            if let Some(release_cb) = sk.sk_prot.release_cb {
                release_cb(bh, sk, &mut state);
            }
        });
    }
}

impl Drop for SockGuard<'_> {
    fn drop(&mut self) {
        let cx = &mut *self.cx;
        walk!(cx, release_sock);
        if std::thread::panicking() {
            self.sk.state_in_drop().owner.abandon();
        } else {
            self.__release_sock();
        }
    }
}
