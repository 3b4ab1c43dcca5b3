//! Messages of IGMP that come: queries, and the reports of others. Context: BH.
//!
//! linux: net/ipv4/igmp.c; RFC 2236 section 3, RFC 3376 sections 5.2 and 7.2. Invariant: a message costs at most a
//! look at each of the device's groups and at each source it names.

use super::device::{
    IGMP_INITIAL_REPORT_DELAY, IGMP_QUERY_RESPONSE_INTERVAL, IgmpCx, McDev, query_interval,
};
use super::with_dev;
use crate::kernel::context::BhCx;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::skbuff::{IpSummed, PktType, Skb, SkbList, consume_skb, kfree_skb};
use crate::net::ipv4::icmp::IcmpError;
use klib::checksum::csum_fold;
use std::time::Duration;
use uapi::igmp::{
    IGMP_HOST_MEMBERSHIP_QUERY, IGMP_HOST_MEMBERSHIP_REPORT, IGMPV2_HOST_MEMBERSHIP_REPORT,
    IgmpHdr, Igmpv3Query,
};
use zerocopy::FromBytes;
use zerocopy::network_endian::U32;

const QUERY: usize = size_of::<Igmpv3Query>();

/// Receives IGMP messages: queries are answered in a while, reports of others make ours needless, the rest is for
/// routers and for who has a raw socket.
///
/// linux: net/ipv4/igmp.c:igmp_rcv
pub(crate) fn igmp_rcv(cx: &mut BhCx<'_>, list: &mut SkbList) {
    walk!(cx, list, igmp_rcv);
    list.each_alone(cx, igmp_message);
}

/// No error is of any use to it: nothing that it sends leaves the link.
pub(crate) fn igmp_err(_: &mut BhCx<'_>, _: &IcmpError<'_>) {}

fn igmp_message(cx: &mut BhCx<'_>, mut skb: Skb) {
    match heard(cx, &mut skb) {
        Ok(()) => consume_skb(cx, skb),
        Err(reason) => kfree_skb(cx, skb, reason),
    }
}

fn heard(cx: &mut BhCx<'_>, skb: &mut Skb) -> Result<(), DropReason> {
    let dev = skb.dev.ok_or(DropReason::DevReady)?;
    if !skb.pull_to_transport(0) || !skb.pskb_may_pull(size_of::<IgmpHdr>()) {
        return Err(DropReason::HdrTrunc);
    }
    let summed = matches!(skb.ip_summed, IpSummed::Unnecessary | IpSummed::Partial);
    if !summed && csum_fold(skb.skb_checksum(0, 0)) != 0 {
        return Err(DropReason::IgmpCsum);
    }
    let Some(&header) = skb.front::<IgmpHdr>() else { return Err(DropReason::HdrTrunc) };
    match header.type_ {
        IGMP_HOST_MEMBERSHIP_QUERY => {
            let query = Query::read(skb, header).ok_or(DropReason::IgmpIgnored)?;
            let (taken, _) = with_dev(cx, dev, |mc, igmp| mc.igmp_heard_query(igmp, &query))
                .ok_or(DropReason::DevReady)?;
            if taken { Ok(()) } else { Err(DropReason::IgmpIgnored) }
        }
        IGMP_HOST_MEMBERSHIP_REPORT | IGMPV2_HOST_MEMBERSHIP_REPORT => {
            // Our own comes back to us; what is sent to us alone no router has heard.
            let own = skb.dst.as_ref().is_some_and(|dst| dst.key.is_output());
            let to_many = matches!(skb.pkt_type, PktType::Multicast | PktType::Broadcast);
            if !own && to_many {
                let group = header.group.get();
                let _gone = with_dev(cx, dev, |mc, igmp| mc.igmp_heard_report(igmp, group));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// A query, as far as it was there.
pub(super) struct Query {
    header: IgmpHdr,
    /// Octets of it.
    len: usize,
    v3: Option<Igmpv3Query>,
    sources: Vec<u32>,
}

impl Query {
    /// `None` for one whose sources are not all there.
    fn read(skb: &mut Skb, header: IgmpHdr) -> Option<Self> {
        let len = skb.len();
        if len < QUERY {
            return Some(Self { header, len, v3: None, sources: Vec::new() });
        }
        if !skb.pskb_may_pull(QUERY) {
            return None;
        }
        let count = usize::from(skb.front::<Igmpv3Query>()?.nsrcs.get());
        if !skb.pskb_may_pull(QUERY + 4 * count) {
            return None;
        }
        Self::of(skb.data(), len)
    }

    /// What these octets say, of a message of so many.
    pub(super) fn of(data: &[u8], len: usize) -> Option<Self> {
        let (header, _) = IgmpHdr::read_from_prefix(data).ok()?;
        let Ok((v3, behind)) = Igmpv3Query::read_from_prefix(data) else {
            return Some(Self { header, len, v3: None, sources: Vec::new() });
        };
        let named = behind.chunks_exact(4).take(v3.nsrcs.get().into());
        let addr = |octets: &[u8]| U32::read_from_bytes(octets).map_or(0, U32::get);
        Some(Self { header, len, v3: Some(v3), sources: named.map(addr).collect() })
    }
}

/// A time of version 3 in tenths of a second, or an interval in seconds: 4 bits of a number, 3 of an exponent, where
/// a bit says so (RFC 3376 section 4.1.1).
///
/// linux: include/uapi/linux/igmp.h:IGMPV3_MRC, IGMPV3_QQIC
pub(super) fn igmpv3_exp(code: u8) -> u64 {
    match code {
        0..128 => code.into(),
        _ => u64::from(code & 15 | 16) << ((code >> 4 & 7) + 3),
    }
}

/// No time at all is the shortest there is.
fn tenths(count: u64) -> Duration {
    Duration::from_millis(100 * count).max(IGMP_INITIAL_REPORT_DELAY)
}

impl McDev {
    /// Another member of the group has told of it: ours is needless.
    ///
    /// linux: net/ipv4/igmp.c:igmp_heard_report
    pub(super) fn igmp_heard_report(&mut self, cx: &IgmpCx<'_>, group: u32) {
        if Self::reported(group, &cx.parms) {
            self.igmp_stop_timer(group);
        }
    }

    /// A querier asks; false for a query that is none.
    ///
    /// linux: net/ipv4/igmp.c:igmp_heard_query
    pub(super) fn igmp_heard_query(&mut self, cx: &mut IgmpCx<'_>, query: &Query) -> bool {
        let mut group = query.header.group.get();
        let mut sources: &[u32] = &[];
        let max_delay = match query.v3 {
            _ if query.len == size_of::<IgmpHdr>() => {
                self.old_querier(cx, query.header.code, &mut group)
            }
            None => return false,
            Some(_) if self.v1(cx) => {
                group = 0;
                IGMP_QUERY_RESPONSE_INTERVAL
            }
            Some(v3) if self.v2(cx) => tenths(igmpv3_exp(v3.code)),
            Some(v3) => {
                self.new_querier(cx, &v3);
                if group == 0 {
                    // RFC 3376 section 4.1.9: such a query names no sources.
                    if v3.nsrcs.get() == 0 {
                        self.igmp_gq_start_timer(cx);
                    }
                    return v3.nsrcs.get() == 0;
                }
                sources = &query.sources;
                self.max_delay
            }
        };
        let asked = if group == 0 { self.members() } else { vec![group] };
        for group in asked {
            self.asked_for(cx, group, (sources, max_delay));
        }
        true
    }

    /// A query of version 1 or 2: for so long no other is spoken. By when it is to be answered.
    fn old_querier(&mut self, cx: &IgmpCx<'_>, code: u8, group: &mut u32) -> Duration {
        let until = cx.now + self.qi * u32::from(self.robustness(cx)) + self.qri;
        self.forget_changes();
        if code == 0 {
            // Version 1 asks for all groups and says no time.
            self.v1_seen = until;
            *group = 0;
            return IGMP_QUERY_RESPONSE_INTERVAL;
        }
        self.v2_seen = until;
        tenths(code.into())
    }

    /// Takes over what a querier of version 3 says of itself.
    fn new_querier(&mut self, cx: &IgmpCx<'_>, v3: &Igmpv3Query) {
        const SECOND: Duration = Duration::from_secs(1);
        self.max_delay = tenths(igmpv3_exp(v3.code));
        let qrv = v3.s_qrv & 7;
        self.qrv = if qrv != 0 { qrv } else { cx.parms.qrv };
        self.qi = query_interval(igmpv3_exp(v3.qqic));
        // RFC 3376 section 8.3: the time for answers is shorter than the interval.
        if self.qri >= self.qi {
            self.qri = self.qi.saturating_sub(SECOND);
        }
    }

    /// A group is asked for, or some of its sources.
    fn asked_for(
        &mut self,
        cx: &mut IgmpCx<'_>,
        group: u32,
        (sources, max_delay): (&[u32], Duration),
    ) {
        if !Self::reported(group, &cx.parms) {
            return;
        }
        let Some(im) = self.get_mut(group) else { return };
        let mark = !sources.is_empty();
        im.gsquery = mark && (im.gsquery || im.timer.is_none());
        if !im.gsquery || im.igmp_marksources(sources) {
            self.igmp_mod_timer(cx, group, max_delay);
        }
    }
}
