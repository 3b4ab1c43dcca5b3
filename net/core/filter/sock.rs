//! Sockets' filters: attaching, and what a filter does to what arrives.

use super::{BpfProg, SkbFrom, SkbSource, bpf_check_classic};
use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::Skb;
use crate::net::core::sock::SockState;
use crate::net::ipv4::inet_hashtables::CmsgFlags;
use uapi::errno::Errno;
use uapi::filter::SockFilter;
use zerocopy::{FromBytes, IntoBytes};

/// What a socket's filter is charged with.
fn charge(program: &BpfProg) -> usize {
    size_of_val(program.instructions())
}

impl SockState {
    /// `SO_ATTACH_FILTER`: `value` is the program itself, its instructions one behind the other. What was attached
    /// before is replaced.
    ///
    /// # Errors
    /// EPERM while `SO_LOCK_FILTER` is set; EINVAL for no program that [`bpf_check_classic`] would take; ENOMEM where
    /// the socket keeps too much.
    ///
    /// linux: net/core/filter.c:sk_attach_filter
    // DIVERGES: Linux takes a pointer to the program (sock_fprog); a slice has its length.
    pub(crate) fn sk_attach_filter(&mut self, value: &[u8], optmem_max: u32) -> Result<(), Errno> {
        self.filter_may_change()?;
        const SIZE: usize = size_of::<SockFilter>();
        if value.is_empty() || !value.len().is_multiple_of(SIZE) {
            return Err(Errno::EINVAL);
        }
        let read = |octets| SockFilter::read_from_bytes(octets).map_err(|_| Errno::EINVAL);
        let program: Result<Vec<_>, _> = value.chunks_exact(SIZE).map(read).collect();
        let program = bpf_check_classic(&program?)?;
        let rare = self.rare_mut();
        // For a moment it has both.
        if !rare.sock_kmalloc(charge(&program), optmem_max) {
            return Err(Errno::ENOMEM);
        }
        if let Some(before) = rare.filter.replace(program) {
            rare.sock_kfree(charge(&before));
        }
        self.inet.cmsg_flags |= CmsgFlags::FILTERED;
        Ok(())
    }

    /// `SO_DETACH_FILTER`.
    ///
    /// # Errors
    /// EPERM while `SO_LOCK_FILTER` is set; ENOENT without one.
    ///
    /// linux: net/core/filter.c:sk_detach_filter
    pub(crate) fn sk_detach_filter(&mut self) -> Result<(), Errno> {
        self.filter_may_change()?;
        let rare = self.rare_mut();
        let program = rare.filter.take().ok_or(Errno::ENOENT)?;
        rare.sock_kfree(charge(&program));
        self.inet.cmsg_flags.remove(CmsgFlags::FILTERED);
        Ok(())
    }

    /// `SO_LOCK_FILTER`.
    ///
    /// # Errors
    /// EPERM: what is locked stays so.
    pub(crate) fn sk_lock_filter(&mut self, on: bool) -> Result<(), Errno> {
        if on {
            self.rare_mut().filter_locked = true;
        } else {
            self.filter_may_change()?;
        }
        Ok(())
    }

    pub(crate) fn filter_locked(&self) -> bool {
        self.rare().is_some_and(|rare| rare.filter_locked)
    }

    fn filter_may_change(&self) -> Result<(), Errno> {
        if self.filter_locked() { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// The program, as it was attached.
    ///
    /// linux: net/core/filter.c:sk_get_filter
    pub(crate) fn sk_get_filter(&self) -> Vec<u8> {
        self.filter().map_or(Vec::new(), |program| program.instructions().as_bytes().to_vec())
    }

    pub(crate) fn filter(&self) -> Option<&BpfProg> {
        self.rare()?.filter.as_ref()
    }

    /// A connection has its listener's filter, and may change it no more than he may.
    pub(crate) fn inherit_filter(&mut self, program: Option<BpfProg>, locked: bool) {
        if program.is_none() && !locked {
            return;
        }
        let rare = self.rare_mut();
        rare.filter_locked = locked;
        if let Some(program) = program {
            rare.sock_kmalloc(charge(&program), u32::MAX);
            rare.filter = Some(program);
        }
    }
}

impl BpfProg {
    /// Cuts a packet to what the program wants of it from there on, but at least `cap` octets.
    ///
    /// # Errors
    /// [`DropReason::SocketFilter`]: it wants nothing of it.
    ///
    /// linux: net/core/filter.c:sk_filter_trim_cap
    pub(crate) fn sk_filter_trim_cap(
        &self,
        cx: &mut BhCx<'_>,
        skb: &mut Skb,
        (from, cap): (SkbFrom, usize),
    ) -> Result<(), DropReason> {
        let (wanted, start) = {
            let source = SkbSource::new(cx, skb, from);
            (self.bpf_prog_run(&source), source.start())
        };
        if wanted == 0 {
            return Err(DropReason::SocketFilter);
        }
        let end = start + (wanted as usize).max(cap) as isize;
        if end < skb.len() as isize {
            skb.pskb_trim(end.max(0) as usize);
        }
        Ok(())
    }
}
