//! When packets came, left and were acknowledged, for who asks (`SO_TIMESTAMPING`).
//!
//! linux: net/core/sock.c (`sock_set_timestamping`), net/core/skbuff.c (`__skb_tstamp_tx`),
//! Documentation/networking/timestamping.rst. Contexts: options by tasks; times of sending in BH, kept by the CPU
//! until its stay ends, for queueing them takes the socket's lock. Invariants: a packet is told of once at each point
//! for each time that it passes there; what waits to be read is charged to the receive buffer.
//! DIVERGES: no device has a clock, and `SOF_TIMESTAMPING_OPT_STATS` is EINVAL.

use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::core::dev::DevId;
use crate::net::core::skbuff::{SkBuff, SkbFlags, SkbList};
use crate::net::core::sock::{ErrorPacket, Sock, SockError, SockLocked};
use crate::net::ipv4::inet_hashtables::CmsgFlags;
use crate::net::ipv4::tcp::TcpState;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use uapi::errno::Errno;
use uapi::errqueue::{SCM_TSTAMP_ACK, SO_EE_ORIGIN_TIMESTAMPING, SockExtendedErr};
use uapi::ip::IpHdr;
use uapi::net_tstamp::*;

/// A time of sending on its way to the socket's queue.
#[derive(Debug)]
pub(crate) struct TxStamp {
    sk: Arc<Sock>,
    /// Of which packet, or octet.
    tskey: u32,
    report: SockError,
}

/// Which of an option's two numbers was used: by the newer, times are told with the newer too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TstampNew {
    /// `SO_…`, whose times have the width of a `long`.
    No,
    /// `SO_…_NEW`, whose times have 64 bits everywhere.
    Yes,
}

impl Sock {
    /// What `SO_TIMESTAMPING` asked for.
    #[inline]
    pub(crate) fn tsflags(&self) -> u32 {
        self.tsflags.load(Ordering::Relaxed)
    }

    /// Asks for times: `SOF_TIMESTAMPING_*`; `new`: told in control messages of the number `SO_TIMESTAMPING_NEW`.
    ///
    /// # Errors
    /// EINVAL for flags that there are not or that do not go together, and for octets to be counted of a stream that
    /// has no connection; EOPNOTSUPP for a clock of no device in particular.
    ///
    /// linux: net/core/sock.c:sock_set_timestamping
    pub(crate) fn sock_set_timestamping(&self, val: u32, new: TstampNew) -> Result<(), Errno> {
        let has = |flag| val & flag != 0;
        let mut locked = self.state();
        if has(!SOF_TIMESTAMPING_MASK)
            || has(SOF_TIMESTAMPING_OPT_ID_TCP) && !has(SOF_TIMESTAMPING_OPT_ID)
        {
            return Err(Errno::EINVAL);
        }
        if has(SOF_TIMESTAMPING_OPT_ID) && self.tsflags() & SOF_TIMESTAMPING_OPT_ID == 0 {
            let SockLocked { base, tcp } = &mut *locked;
            let first = match tcp.as_deref() {
                Some(tp) if matches!(tp.state, TcpState::Close | TcpState::Listen) => {
                    return Err(Errno::EINVAL);
                }
                Some(tp) if has(SOF_TIMESTAMPING_OPT_ID_TCP) => tp.write_seq.0,
                Some(tp) => tp.snd_una.0,
                None => 0,
            };
            base.rare_mut().tskey = first;
        }
        if has(SOF_TIMESTAMPING_OPT_STATS) {
            return Err(Errno::EINVAL);
        }
        if has(SOF_TIMESTAMPING_BIND_PHC) {
            let no_device = locked.opts.bound_dev_if == 0;
            return Err(if no_device { Errno::EOPNOTSUPP } else { Errno::EINVAL });
        }
        self.tsflags.store(val, Ordering::Relaxed);
        let told = &mut locked.inet.cmsg_flags;
        let received = has(SOF_TIMESTAMPING_RX_SOFTWARE);
        let others = received || !has(SOF_TIMESTAMPING_OPT_RX_FILTER);
        told.set(CmsgFlags::TSTAMP_NEW, new == TstampNew::Yes);
        told.set(CmsgFlags::RX_STAMP, received);
        told.set(CmsgFlags::TIMESTAMPING, has(SOF_TIMESTAMPING_SOFTWARE) && others);
        Ok(())
    }
}

/// The flags of a message to send that has some of its own (`SO_TIMESTAMPING` as control data): its socket's but for
/// those.
///
/// # Errors
/// EINVAL for what is no number or asks for other than times of sending.
///
/// linux: net/core/sock.c:__sock_cmsg_send
pub(crate) fn tsflags_of_cmsg(data: &[u8], tsflags: u32) -> Result<u32, Errno> {
    let own = u32::from_ne_bytes(data.try_into().map_err(|_| Errno::EINVAL)?);
    if own & !SOF_TIMESTAMPING_TX_RECORD_MASK != 0 {
        return Err(Errno::EINVAL);
    }
    Ok(tsflags & !SOF_TIMESTAMPING_TX_RECORD_MASK | own)
}

/// What a packet is to be told of below: `tskey` says which it is.
///
/// linux: net/core/sock.c:__sock_tx_timestamp
#[cold]
pub(crate) fn __sock_tx_timestamp(cx: &BhCx<'_>, skb: &mut SkBuff, tsflags: u32, tskey: u32) {
    skb.flags.set(SkbFlags::SW_TSTAMP, tsflags & SOF_TIMESTAMPING_TX_SOFTWARE != 0);
    skb.flags.set(SkbFlags::SCHED_TSTAMP, tsflags & SOF_TIMESTAMPING_TX_SCHED != 0);
    skb.csum = tskey;
    cx.m.init_net.tx_tstamps.store(true, Ordering::Relaxed);
}

/// A datagram is to be told of: it has the next number, or `own`, if the socket counts them.
///
/// linux: include/net/sock.h:_sock_tx_timestamp
#[cold]
pub(crate) fn sock_tx_timestamp(
    cx: &BhCx<'_>,
    sk: &Sock,
    skb: &mut SkBuff,
    (tsflags, own): (u32, Option<u32>),
) {
    let any =
        SOF_TIMESTAMPING_TX_HARDWARE | SOF_TIMESTAMPING_TX_SOFTWARE | SOF_TIMESTAMPING_TX_SCHED;
    let mut tskey = own.unwrap_or(0);
    if tsflags & any != 0 && own.is_none() && sk.tsflags() & SOF_TIMESTAMPING_OPT_ID != 0 {
        let mut state = sk.state();
        let next = &mut state.rare_mut().tskey;
        tskey = *next;
        *next = next.wrapping_add(1);
    }
    __sock_tx_timestamp(cx, skb, tsflags, tskey);
}

/// Tells of those packets of a list that are to be told of at this point.
///
/// linux: include/linux/skbuff.h:skb_tx_timestamp
#[cold]
#[inline(never)]
pub(crate) fn skb_list_tstamp(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    (point, tstype): (SkbFlags, u32),
) {
    let SkbList { packets, charge, .. } = list;
    for skb in packets {
        if !skb.flags.contains(point) {
            continue;
        }
        skb.flags.remove(point);
        if let Some(sk) = charge.sock_of(skb).cloned() {
            __skb_tstamp_tx(cx, skb, sk, tstype);
        }
    }
}

/// Tells of a packet, by what it is and, unless the time alone is wanted, by what it has.
///
/// linux: net/core/skbuff.c:__skb_tstamp_tx
#[cold]
pub(crate) fn __skb_tstamp_tx(cx: &mut BhCx<'_>, skb: &SkBuff, sk: Arc<Sock>, tstype: u32) {
    let ee = SockExtendedErr {
        ee_errno: Errno::ENOMSG.0 as u32,
        ee_origin: SO_EE_ORIGIN_TIMESTAMPING,
        ee_info: tstype,
        ..SockExtendedErr::default()
    };
    let mut report = SockError::of_this_machine(ee);
    report.stamp = Ktime(cx.m.ktime_get_real());
    if sk.tsflags() & SOF_TIMESTAMPING_OPT_TSONLY == 0 {
        report.payload = skb.parts().flatten().copied().collect();
        if let Some(iph) = skb.network::<IpHdr>().filter(|_| tstype != SCM_TSTAMP_ACK) {
            let (daddr, ttl, tos) = (iph.daddr.get(), iph.ttl, iph.tos);
            let ifindex = skb.dev.map_or(0, |DevId(dev)| dev);
            report.packet = Some(ErrorPacket { ifindex, daddr, ttl, tos, options: None });
            report.offender = Some(iph.saddr.get());
        }
    }
    cx.cpu.tx_stamps.push(TxStamp { sk, tskey: skb.csum, report });
    (cx.cpu.to_tell, cx.cpu.unsettled) = (true, true);
}

/// The stay ends: what was told of goes into its sockets' queues.
///
/// linux: net/core/skbuff.c:__skb_complete_tx_timestamp
#[cold]
pub(crate) fn settle_tx_stamps(cx: &mut BhCx<'_>) {
    let mut stamps = std::mem::take(&mut cx.cpu.tx_stamps);
    for TxStamp { sk, tskey, mut report } in stamps.drain(..) {
        let mut state = sk.state();
        if state.closed() {
            continue;
        }
        if sk.tsflags() & SOF_TIMESTAMPING_OPT_ID != 0 {
            let first = if state.tcp.is_some() { state.rare_mut().tskey } else { 0 };
            report.ee.ee_data = tskey.wrapping_sub(first);
        }
        if state.sock_queue_err(report) {
            state.sk_error_report(cx, None);
        }
    }
    cx.cpu.tx_stamps = stamps;
}
