//! The table that a packet for this machine is dispatched by.
//!
//! linux: net/ipv4/protocol.c. Key types: [`InetProtos`], [`NetProtocol`],
//! [`InetOffloads`], [`NetOffload`].
//! Contexts: registered at boot; read in BH as part of the read-mostly tables.

use crate::kernel::context::BhCx;
use crate::kernel::machine::Machine;
use crate::kernel::trace::drop_reason::DropReason;
use crate::kernel::trace::events::Point;
use crate::net::core::dev::gro::{GroComplete, GroReceive};
use crate::net::core::skbuff::{Common, Inspect, SkBuff, Skb, SkbList};
use crate::net::ipv4::icmp::IcmpError;
use std::fmt;

/// A transport protocol's handlers.
///
/// linux: include/net/protocol.h:net_protocol
#[derive(Clone, Copy)]
pub struct NetProtocol {
    /// Packets for this machine, with the same addresses. Their data begin with the IP header, which it
    /// pulls; where the transport header begins is set. It leaves none in the list. Context: BH.
    pub handler: fn(&mut BhCx<'_>, &mut SkbList),
    /// An ICMP error quotes a packet of this protocol. Context: BH.
    pub err_handler: fn(&mut BhCx<'_>, &IcmpError<'_>),
    /// It holds what an ICMP error quotes against what it has under way.
    pub icmp_strict_tag_validation: bool,
}

impl NetProtocol {
    /// Of a protocol that takes an ICMP error's word.
    pub fn new(
        handler: fn(&mut BhCx<'_>, &mut SkbList),
        err_handler: fn(&mut BhCx<'_>, &IcmpError<'_>),
    ) -> Self {
        Self { handler, err_handler, icmp_strict_tag_validation: false }
    }

    /// The same of one that checks it.
    #[must_use]
    pub fn strict(self) -> Self {
        Self { icmp_strict_tag_validation: true, ..self }
    }
}

/// A transport protocol's part of GRO. It gets packets whose data begins with an IP header without
/// options.
///
/// linux: include/net/protocol.h:net_offload
#[derive(Clone, Copy)]
pub struct NetOffload {
    /// Merges. Context: BH.
    pub gro_receive: GroReceive,
    /// Completes. Context: BH.
    pub gro_complete: GroComplete,
    /// It may have a packet held for one that comes in a later list: then it is asked about one that comes alone, too.
    pub holds: bool,
}

/// What protocols have registered, by IP protocol number.
#[derive(Clone)]
pub struct ByProtocol<T>([Option<T>; 256]);

/// Parts in GRO.
///
/// linux: net/ipv4/protocol.c:inet_offloads
pub type InetOffloads = ByProtocol<NetOffload>;

/// Handlers.
///
/// linux: net/ipv4/protocol.c:inet_protos
pub type InetProtos = ByProtocol<NetProtocol>;

impl<T> Default for ByProtocol<T> {
    fn default() -> Self {
        Self([const { None }; 256])
    }
}

impl<T> ByProtocol<T> {
    /// What a protocol has registered.
    #[inline]
    pub fn get(&self, protocol: u8) -> Option<&T> {
        self.0[usize::from(protocol)].as_ref()
    }
}

impl<T> fmt::Debug for ByProtocol<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = self.0.iter().enumerate().filter(|(_, p)| p.is_some()).map(|(n, _)| n);
        f.debug_list().entries(numbers).finish()
    }
}

/// Registers a protocol's part in GRO, at boot.
///
/// linux: net/ipv4/protocol.c:inet_add_offload
pub fn inet_add_offload(m: &mut Machine, protocol: u8, offload: NetOffload) {
    m.boot_tables(|t| {
        t.net.inet_gro_holds |= offload.holds;
        t.net.inet_offloads.0[usize::from(protocol)] = Some(offload);
    });
}

/// Registers a protocol's handlers, at boot.
///
/// linux: net/ipv4/protocol.c:inet_add_protocol
pub fn inet_add_protocol(m: &mut Machine, protocol: u8, handlers: NetProtocol) {
    m.boot_log(Point::inet_add_protocol);
    m.boot_tables(|t| t.net.inet_protos.0[usize::from(protocol)] = Some(handlers));
}

/// Has each packet of a list checked, behind an IP header of so many octets; what is bad goes to `bad`. The ports,
/// the source's in the upper half, if all that are good have the same.
#[inline(always)]
pub(crate) fn same_ports(
    cx: &mut BhCx<'_>,
    list: &mut SkbList,
    check: impl FnMut(&mut Skb, usize) -> Result<u32, DropReason>,
    bad: fn(&mut BhCx<'_>, Skb, DropReason),
) -> Option<u32> {
    let mut seen = Seen { ihl: list.way.ihl(), ports: Common::new(), check };
    list.inspect(cx, &mut seen, bad);
    seen.ports.all().map(|[ports]| ports as u32)
}

/// The ports of a packet that was checked, as they stand in its header.
pub(crate) fn ports(skb: &SkBuff) -> u32 {
    skb.transport::<[u8; 4]>().map_or(0, |ports| u32::from_be_bytes(*ports))
}

/// What [`same_ports`] sees.
struct Seen<F> {
    ihl: usize,
    ports: Common<1>,
    check: F,
}

impl<F: FnMut(&mut Skb, usize) -> Result<u32, DropReason>> Inspect for Seen<F> {
    type Bad = DropReason;

    #[inline(always)]
    fn look_at(&mut self, skb: &mut Skb) -> Result<(), DropReason> {
        self.ports.see([u64::from((self.check)(skb, self.ihl)?)]);
        Ok(())
    }
}
