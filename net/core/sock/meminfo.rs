//! A socket's memory, as `ss -m` shows it.
//!
//! linux: net/core/sock.c (`sk_get_meminfo`). Contexts: task. Lock: `class::Sock`.

use super::Sock;

/// What a socket's queues hold and may hold, in bytes.
///
/// linux: include/uapi/linux/sock_diag.h:SK_MEMINFO_VARS
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemInfo {
    /// Received and not read (`r`).
    pub rmem_alloc: usize,
    /// The receive buffer (`rb`).
    pub rcvbuf: usize,
    /// Sent and not gone yet (`t`).
    pub wmem_alloc: usize,
    /// The send buffer (`tb`).
    pub sndbuf: usize,
    /// Taken from the account of all streams and not used yet (`f`).
    pub fwd_alloc: usize,
    /// What a stream's send queues are charged with (`w`).
    pub wmem_queued: usize,
    /// Waiting for whoever owns the socket (`bl`).
    pub backlog: usize,
    /// Packets dropped (`d`).
    pub drops: u32,
}

impl Sock {
    /// How many instructions its filter has; `None`: it has none.
    pub fn filter_len(&self) -> Option<usize> {
        self.state().filter().map(|program| program.instructions().len())
    }

    /// What it holds at this moment.
    ///
    /// linux: net/core/sock.c:sk_get_meminfo
    pub fn sk_get_meminfo(&self) -> MemInfo {
        let (wmem_alloc, sndbuf) = (self.wmem_alloc(), self.sndbuf());
        let state = self.state();
        let tp = state.tcp.as_deref();
        MemInfo {
            rmem_alloc: state.rmem_alloc,
            rcvbuf: state.opts.rcvbuf as usize,
            wmem_alloc,
            sndbuf,
            fwd_alloc: tp.map_or(0, |tp| tp.forward_alloc.max(0) as usize),
            wmem_queued: tp.map_or(0, |tp| tp.wmem_queued),
            backlog: state.backlog_len,
            drops: state.drops,
        }
    }
}
