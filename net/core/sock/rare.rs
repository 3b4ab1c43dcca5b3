//! What few sockets have: reports to read, and what goes with their kinds. Boxed, so that it costs the many others
//! a word.
//!
//! linux: net/core/skbuff.c (`sock_queue_err_skb`), include/net/sock.h (`sk_error_queue`, `sk_omem_alloc`,
//! `sk_zckey`). Key types: [`SockRare`], [`SockError`]. Contexts: BH and task, under `class::Sock`. Invariant:
//! what waits to be read is charged and bounded: reports to the receive buffer, notifications to what the socket
//! may keep besides.

use super::state::ERROR_EVENTS;
use super::{SockLocked, SockState};
use crate::kernel::time::Ktime;
use crate::net::core::dev::NapiStruct;
use crate::net::core::filter::BpfProg;
use crate::net::ipv4::igmp::IpMcSock;
use crate::net::ipv4::ip_options::{IpOptionsRcu, IpOptionsTold, IpTarget};
use crate::net::ipv4::tcp_md5sig::TcpMd5sigKey;
use crate::net::packet::af_packet::PacketSock;
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::task::Waker;
use uapi::errno::Errno;
use uapi::errqueue::SockExtendedErr;

/// What few sockets have.
#[derive(Debug, Default)]
pub struct SockRare {
    /// Reports to read with `MSG_ERRQUEUE`.
    pub error_queue: VecDeque<SockError>,
    /// The number of the next call that sends without a copy (`sk_zckey`).
    pub(in crate::net::core) zckey: u32,
    /// Bytes of notifications, those that are due too (`sk_omem_alloc`).
    pub(in crate::net::core) omem_alloc: usize,
    /// The next datagram's number, or the octet that a stream's are counted from (`sk_tskey`).
    pub(in crate::net::core) tskey: u32,
    /// Who brings its packets, while it polls for them.
    pub(crate) napi: Weak<NapiStruct>,
    /// What says how much of a packet it gets (`sk_filter`).
    pub(in crate::net::core) filter: Option<BpfProg>,
    /// `SO_LOCK_FILTER`: it stays.
    pub(crate) filter_locked: bool,
    /// `ICMP_FILTER` of a raw socket: the types that it does not get, a bit each.
    pub(crate) icmp_filter: u32,
    /// A packet socket's own.
    pub(crate) packet: Option<Box<PacketSock>>,
    /// Keys for signatures of segments.
    pub(crate) md5sig_info: Vec<TcpMd5sigKey>,
    /// What it has to do with groups.
    pub(crate) mc: IpMcSock,
    /// `IP_OPTIONS`.
    pub(crate) inet_opt: Option<Arc<IpOptionsRcu>>,
}

/// An ICMP error or other report in a socket's error queue.
#[derive(Debug)]
pub struct SockError {
    /// The packet it is about: its payload is what `recvmsg` copies.
    pub payload: Vec<u8>,
    /// What happened.
    pub ee: SockExtendedErr,
    /// Where the packet was going.
    pub to: uapi::in_::SockaddrIn,
    /// Who reported it; `None`: this machine.
    pub offender: Option<u32>,
    /// What brought it; `None`: nothing did.
    pub packet: Option<ErrorPacket>,
    /// When it was, by the wall clock; zero: nobody asked.
    pub stamp: Ktime,
}

/// What is kept of the packet that brought an ICMP error, for who asks to be told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPacket {
    /// The device it came in at.
    pub ifindex: u16,
    /// Where it was sent to.
    pub daddr: u32,
    /// Its time to live, when it arrived.
    pub ttl: u8,
    /// Its type of service.
    pub tos: u8,
    /// Its options, if the socket's reader asked for them.
    pub options: Option<Box<IpOptionsTold>>,
}

impl SockError {
    /// linux: net/core/skbuff.c:is_icmp_err_skb
    pub(crate) fn is_icmp(&self) -> bool {
        self.ee.ee_origin == uapi::errqueue::SO_EE_ORIGIN_ICMP
    }

    /// It tells when a packet left.
    pub(crate) fn is_tx_stamp(&self) -> bool {
        self.ee.ee_origin == uapi::errqueue::SO_EE_ORIGIN_TIMESTAMPING
    }

    /// It is about a packet that went somewhere.
    ///
    /// linux: net/ipv4/ip_sockglue.c:ipv4_datagram_support_addr
    pub(crate) fn has_address(&self) -> bool {
        use uapi::errqueue::{SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_LOCAL};
        matches!(self.ee.ee_origin, SO_EE_ORIGIN_ICMP | SO_EE_ORIGIN_LOCAL) || self.to.port != 0
    }

    /// What it is charged with.
    fn truesize(&self) -> usize {
        self.payload.len() + 256
    }
}

impl SockRare {
    /// Charges memory that the socket keeps besides its buffers; false when it has too much of it.
    ///
    /// linux: net/core/sock.c:sock_kmalloc
    pub(crate) fn sock_kmalloc(&mut self, size: usize, optmem_max: u32) -> bool {
        let fits = self.omem_alloc + size < optmem_max as usize;
        if fits {
            self.omem_alloc += size;
        }
        fits
    }

    /// Some of it is gone.
    ///
    /// linux: net/core/sock.c:sock_kfree_s
    pub(crate) fn sock_kfree(&mut self, size: usize) {
        self.omem_alloc = self.omem_alloc.saturating_sub(size);
    }

    /// Bytes of reports that the receive buffer is charged with.
    #[cfg(debug_assertions)]
    pub(crate) fn charged_to_rmem(&self) -> usize {
        let reports = self.error_queue.iter().filter(|report| !report.is_notification());
        reports.map(SockError::truesize).sum()
    }
}

impl SockState {
    /// The options that its packets have (`IP_OPTIONS`).
    #[inline]
    pub(crate) fn inet_opt(&self) -> Option<&Arc<IpOptionsRcu>> {
        self.rare()?.inet_opt.as_ref()
    }

    /// Where a packet to `daddr` goes first.
    #[inline]
    pub(crate) fn first_hop(&self, daddr: u32) -> u32 {
        self.inet_opt().map_or(daddr, |opt| opt.first_hop(daddr))
    }

    /// The options of packets to its peer.
    #[inline]
    pub(crate) fn ip_target(&self) -> Option<IpTarget> {
        let opt = Arc::clone(self.inet_opt()?);
        Some(IpTarget { opt, daddr: self.inet.daddr })
    }

    /// What few sockets have, if this one does.
    #[inline]
    pub(crate) fn rare(&self) -> Option<&SockRare> {
        self.rare.as_deref()
    }

    /// The same, for who needs it.
    pub(crate) fn rare_mut(&mut self) -> &mut SockRare {
        self.rare.get_or_insert_default()
    }

    /// A packet socket's own part; `None` for another's, and for one that is closed.
    #[inline]
    pub(crate) fn packet(&mut self) -> Option<&mut PacketSock> {
        self.rare.as_deref_mut()?.packet.as_deref_mut()
    }

    /// Reports that wait to be read.
    pub fn errors(&self) -> usize {
        self.rare.as_ref().map_or(0, |rare| rare.error_queue.len())
    }

    /// Takes all reports, of a socket that is closed.
    pub(super) fn take_errors(&mut self) -> VecDeque<SockError> {
        self.rare.take().map_or(VecDeque::new(), |rare| rare.error_queue)
    }

    /// Puts a report into the error queue, if the receive buffer has room for it.
    ///
    /// linux: net/core/skbuff.c:sock_queue_err_skb
    pub fn sock_queue_err(&mut self, report: SockError) -> bool {
        let size = report.truesize();
        if self.rmem_alloc + size > self.opts.rcvbuf as usize {
            return false;
        }
        self.rmem_alloc += size;
        self.rare_mut().error_queue.push_back(report);
        true
    }

    /// Wakes who waits for an error, from whatever context.
    ///
    /// linux: include/net/sock.h:sk_error_report
    pub(in crate::net::core) fn report_error(&mut self, wakeups: &mut Vec<Waker>) {
        self.wq.wake_up_all(ERROR_EVENTS, wakeups);
    }

    /// Takes the oldest report out. If the next one is ICMP's, its error is pending then; only an
    /// ICMP report takes the pending error away. Who is to be woken for the next one goes into
    /// `wakeups`.
    ///
    /// linux: net/core/skbuff.c:sock_dequeue_err_skb
    pub fn sock_dequeue_err(&mut self, wakeups: &mut Vec<Waker>) -> Option<SockError> {
        let report = self.rare.as_mut()?.error_queue.pop_front()?;
        self.uncharge(&report);
        let next = self.rare.as_ref().and_then(|rare| rare.error_queue.front());
        let (more, icmp) = (next.is_some(), next.filter(|next| next.is_icmp()));
        match icmp {
            Some(next) => self.err = Some(Errno(next.ee.ee_errno as i32)),
            None if report.is_icmp() => self.err = None,
            None => (),
        }
        if more {
            self.report_error(wakeups);
        }
        Some(report)
    }

    /// Throws all reports away; a pending error stays.
    ///
    /// linux: net/core/skbuff.c:skb_errqueue_purge
    pub(crate) fn skb_errqueue_purge(&mut self) {
        while let Some(report) = self.rare.as_mut().and_then(|rare| rare.error_queue.pop_front()) {
            self.uncharge(&report);
        }
    }

    fn uncharge(&mut self, report: &SockError) {
        if report.is_notification() {
            let rare = self.rare_mut();
            rare.omem_alloc = rare.omem_alloc.saturating_sub(SockError::NOTIFICATION);
        } else {
            self.rmem_alloc = self.rmem_alloc.saturating_sub(report.truesize());
        }
    }
}

impl SockLocked {
    /// Nobody can read from it any more (`SOCK_DEAD`).
    pub(in crate::net::core) fn closed(&self) -> bool {
        self.base.dead || self.tcp.as_ref().is_some_and(|tp| tp.orphan)
    }
}
