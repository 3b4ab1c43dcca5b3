//! IPv4 options: read and verified as they come, filled in on the way, echoed in answers, set by sockets.
//!
//! linux: net/ipv4/ip_options.c, include/net/inet_sock.h (`ip_options`); RFC 791 section 3.1, RFC 1122 section
//! 3.2.1.8, RFC 1812 sections 4.2.2.6 and 5.2.4, RFC 7126. Key types: [`IpOptions`], [`IpOptionsRcu`]. Parts: `compile`
//! (reading and verifying), `rcv` (received packets, those that are forwarded), `echo` (answers), `build` (packets
//! that leave), `sock` (`IP_OPTIONS`). Contexts: BH; `sock` in tasks.
//! Invariant: whatever stands in a header, nothing outside the option that says so is read or written.
//! DIVERGES: a task may set options that Linux keeps for those with `CAP_NET_RAW`: tasks have no capabilities. CIPSO
//! options name no domain that is known, as in Linux without labels (NetLabel). `IP_ROUTER_ALERT` is not built:
//! forwarding takes no packet aside.

mod build;
mod compile;
mod echo;
mod rcv;
mod sock;

use crate::kernel::context::BhCx;
use crate::net::core::skbuff::SkBuff;
use bitflags::bitflags;
use uapi::ip::{IP_HDR_LEN, IPOPT_END, IPOPT_NOOP, MAX_IPOPTLEN};

pub(crate) use build::{IpTarget, inet_current_timestamp, ip_options_build, with_options};
pub use compile::{Fill, Malformed, Reader, compile};
pub(crate) use echo::{__ip_options_echo, ip_options_of, ip_options_reply};
pub(crate) use rcv::{
    ip_forward_options, ip_options_recompile, ip_rcv_options, is_strictroute, sr_failed,
};
pub use sock::IpOptionsTold;
pub(crate) use sock::{ip_options_get, ip_options_set, ip_options_value, put_recv_options};

bitflags! {
    /// What is known of options beside where they stand.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct OptFlags: u8 {
        /// The source route is a strict one.
        const STRICTROUTE = 1;
        /// It leads on from here, to `hop`.
        const SRR_IS_HIT = 1 << 1;
        /// The header is another than the one that came: its sum is to be computed.
        const CHANGED = 1 << 2;
        /// Who sends it on writes its address into the route that is recorded.
        const RR_NEEDADDR = 1 << 3;
        /// Who sends it on writes the time.
        const TS_NEEDTIME = 1 << 4;
        /// Who sends it on writes its address before the time.
        const TS_NEEDADDR = 1 << 5;
    }
}

/// Where the options of a header stand, counted from the header's first octet (zero: there is none), and what is
/// still to be done about them.
///
/// linux: include/net/inet_sock.h:ip_options
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpOptions {
    /// Octets of all options.
    pub optlen: u8,
    /// A source route.
    pub srr: u8,
    /// Record route.
    pub rr: u8,
    /// Timestamps.
    pub ts: u8,
    /// A security label.
    pub cipso: u8,
    /// Router alert.
    pub router_alert: u8,
    /// The next hop in a source route that came.
    pub hop: u8,
    /// The rest.
    pub flags: OptFlags,
}

/// Options that a socket or an answer sends, as they stand in the header but for what is filled in on the way out.
///
/// linux: include/net/inet_sock.h:ip_options_rcu
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpOptionsRcu {
    /// Where they stand.
    pub opt: IpOptions,
    data: [u8; MAX_IPOPTLEN],
}

impl Default for IpOptionsRcu {
    fn default() -> Self {
        Self { opt: IpOptions::default(), data: [0; MAX_IPOPTLEN] }
    }
}

impl IpOptionsRcu {
    /// Their octets.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        self.data.get(..self.len()).unwrap_or(&[])
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.opt.optlen)
    }

    /// There are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.opt.optlen == 0
    }

    /// Each hop is to be on a link of the one before.
    #[must_use]
    pub fn is_strictroute(&self) -> bool {
        self.opt.flags.contains(OptFlags::STRICTROUTE)
    }

    /// The first hop of their source route, or `daddr` without one. It stands last in the list, where the end of the
    /// way comes when a packet leaves.
    #[must_use]
    pub fn first_hop(&self, daddr: u32) -> u32 {
        self.option(self.opt.srr)
            .and_then(<[u8]>::last_chunk)
            .map_or(daddr, |hop| u32::from_be_bytes(*hop))
    }

    /// The option at a place counted from the header's first octet; none at zero.
    fn option(&self, place: u8) -> Option<&[u8]> {
        let from = usize::from(place).checked_sub(IP_HDR_LEN)?;
        let len = usize::from(*self.data.get(from + 1)?);
        self.data.get(from..from + len)
    }

    /// The same to change.
    fn option_mut(&mut self, place: u8) -> Option<&mut [u8]> {
        let from = usize::from(place).checked_sub(IP_HDR_LEN)?;
        let len = usize::from(*self.data.get(from + 1)?);
        self.data.get_mut(from..from + len)
    }
}

/// Later fragments have only the options that say so (RFC 791 section 3.1), no-operations in place of the others: the
/// header keeps its length.
///
/// linux: net/ipv4/ip_options.c:ip_options_fragment
pub(crate) fn ip_options_fragment(cx: &BhCx<'_>, skb: &SkBuff, options: &mut [u8]) {
    walk!(cx, skb, ip_options_fragment);
    keep_copied(options);
}

fn keep_copied(mut options: &mut [u8]) {
    while let [kind, rest @ ..] = &*options {
        let len = match (*kind, rest.first()) {
            (IPOPT_END, _) => return,
            (IPOPT_NOOP, _) => 1,
            (_, Some(len)) => usize::from(*len),
            (_, None) => return,
        };
        if len > options.len() || len == 0 || len == 1 && *kind != IPOPT_NOOP {
            return;
        }
        let (option, behind) = options.split_at_mut(len);
        if option[0] & uapi::ip::IPOPT_COPY == 0 {
            option.fill(IPOPT_NOOP);
        }
        options = behind;
    }
}

#[cfg(test)]
mod tests;
