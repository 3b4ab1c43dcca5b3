//! The time of the packet that was read last. Context: task.
//!
//! linux: net/core/sock.c (`sock_gettstamp`), include/net/sock.h.

use super::{Sock, SockState};
use crate::kernel::context::TaskCx;
use crate::kernel::time::Ktime;
use crate::net::ipv4::inet_hashtables::CmsgFlags;
use crate::net::socket::put_user;
use std::sync::Arc;
use uapi::errno::Errno;

/// Reads the time of the packet that was read last, or now if it had none, in parts of a second of
/// `unit` nanoseconds; from now on packets have one.
///
/// # Errors
/// ENOENT before the first packet; EFAULT.
///
/// linux: net/core/sock.c:sock_gettstamp
pub(crate) fn sock_gettstamp(
    cx: &TaskCx,
    sk: &Arc<Sock>,
    unit: u64,
    arg: &mut [u8],
) -> Result<i32, Errno> {
    let real = cx.machine().ktime_get_real();
    let stamp = {
        let mut state = sk.state();
        state.inet.cmsg_flags |= CmsgFlags::STAMP;
        if state.inet.cmsg_flags.contains(CmsgFlags::UNREAD) {
            return Err(Errno::ENOENT);
        }
        if state.stamp == Ktime::ZERO {
            state.stamp = Ktime(real);
        }
        state.stamp.0
    };
    let parts = [stamp / 1_000_000_000, stamp % 1_000_000_000 / unit];
    put_user(arg, &parts.map(u64::to_ne_bytes).concat())
}

impl SockState {
    /// A packet is read; `asked` is what was asked to be told with it. What tells its time does not
    /// keep it, as in Linux.
    ///
    /// linux: include/net/sock.h:sock_recv_cmsgs
    pub(crate) fn sock_recv_cmsgs(&mut self, asked: CmsgFlags, tstamp: Ktime) {
        if asked.intersects(CmsgFlags::TIMESTAMP | CmsgFlags::TIMESTAMPNS) {
            return;
        }
        self.inet.cmsg_flags.remove(CmsgFlags::UNREAD);
        if asked.intersects(CmsgFlags::STAMP | CmsgFlags::RXQ_OVFL) {
            self.stamp = tstamp;
        }
    }
}
