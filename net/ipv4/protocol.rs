//! The table that a packet for this machine is dispatched by.
//!
//! linux: net/ipv4/protocol.c. Key types: [`InetProtos`], [`NetProtocol`],
//! [`InetOffloads`], [`NetOffload`].
//! Contexts: registered at boot; read in BH as part of the read-mostly tables.

use crate::kernel::context::BhCx;
use crate::kernel::machine::Machine;
use crate::kernel::trace::events::Point;
use crate::net::core::dev::gro::{GroComplete, GroReceive};
use crate::net::core::skbuff::SkbList;
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
    m.boot_tables(|t| t.net.inet_offloads.0[usize::from(protocol)] = Some(offload));
}

/// Registers a protocol's handlers, at boot.
///
/// linux: net/ipv4/protocol.c:inet_add_protocol
pub fn inet_add_protocol(m: &mut Machine, protocol: u8, handlers: NetProtocol) {
    m.boot_log(Point::inet_add_protocol);
    m.boot_tables(|t| t.net.inet_protos.0[usize::from(protocol)] = Some(handlers));
}
