//! What a script talks about: sockets, and the packets' flows with their numbers mapped.
//!
//! Key types: [`Sock`], [`Flow`]. Contexts: any. Invariant: a script's sequence numbers count from the
//! first one of each side; everything live is that plus what the side began with.

use crate::parse::script::flag;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A socket of the script.
#[derive(Clone, Debug, Default)]
pub(super) struct Sock {
    /// `IPPROTO_*`, or zero: no socket.
    pub protocol: u8,
    /// It listens.
    pub listening: bool,
    /// The port it is bound to.
    pub bound: Option<u16>,
    /// Its flow.
    pub flow: Option<usize>,
    /// All that was written to it: of a stream from its beginning, of datagrams what is held back.
    pub written: Vec<u8>,
    /// What the next datagram sent is to be checked against.
    pub datagrams: std::collections::VecDeque<Vec<u8>>,
    /// Bytes of the stream that were read.
    pub read: usize,
    /// What is written comes from elsewhere, or reading starts anywhere: data is not looked at.
    pub opaque: bool,
    /// Datagrams are held back (`UDP_CORK`).
    pub corked: bool,
}

/// A first sequence number: as the script has it, and live.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Isn {
    pub script: u32,
    pub live: u32,
}

impl Isn {
    /// What is added to a script's number to make it live.
    fn offset(self, flags: u16) -> u32 {
        // A SYN has its number as written; all others count from the first.
        if flags & flag::SYN != 0 { self.live.wrapping_sub(self.script) } else { self.live }
    }
}

/// Packets between two ends.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    /// `IPPROTO_*`
    pub protocol: u8,
    /// The machine's end; port zero: not known yet.
    pub local: (Ipv4Addr, u16),
    /// The other end.
    pub remote: (Ipv4Addr, u16),
    /// The script names its ports: the remote one, the local one.
    pub named: bool,
    pub local_isn: Isn,
    pub remote_isn: Isn,
    /// The first timestamp sent: as the script has it, and live.
    pub first_ts: Option<(u32, u32)>,
    /// Timestamps sent, by the script's value.
    pub ts: BTreeMap<u32, u32>,
    /// The socket at the machine's end.
    pub sock: Option<usize>,
    /// The other end began, and nobody has accepted yet.
    pub to_accept: bool,
    /// The machine's first number is known.
    pub opened: bool,
    /// The other end's first number is known.
    pub remote_known: bool,
    /// Urgent data came: it is not in the stream.
    pub urgent: bool,
}

/// Mapped numbers of timestamps at most: a script of any length is bounded.
const MAX_TS: usize = 100_000;

impl Flow {
    pub(super) fn new(protocol: u8, local: (Ipv4Addr, u16), remote: (Ipv4Addr, u16)) -> Self {
        Self {
            protocol,
            local,
            remote,
            named: false,
            local_isn: Isn::default(),
            remote_isn: Isn::default(),
            first_ts: None,
            ts: BTreeMap::new(),
            sock: None,
            to_accept: false,
            opened: false,
            remote_known: false,
            urgent: false,
        }
    }

    /// A script's inbound numbers as live ones: sequence, acknowledgement.
    pub(super) fn inbound(&self, flags: u16, seq: u32, ack: u32) -> (u32, u32) {
        let ack = if flags & flag::ACK == 0 {
            ack
        } else {
            ack.wrapping_add(self.local_isn.offset(flags))
        };
        (seq.wrapping_add(self.remote_isn.offset(flags)), ack)
    }

    /// Live outbound numbers as the script's.
    pub(super) fn outbound(&self, flags: u16, seq: u32, ack: u32) -> (u32, u32) {
        let ack = if flags & flag::ACK == 0 {
            ack
        } else {
            ack.wrapping_sub(self.remote_isn.offset(flags))
        };
        (seq.wrapping_sub(self.local_isn.offset(flags)), ack)
    }

    /// A block of the machine's data, as the script has it in an inbound SACK, live.
    pub(super) fn inbound_sack(&self, flags: u16, edge: u32) -> u32 {
        edge.wrapping_add(self.local_isn.offset(flags))
    }

    /// A live edge of an outbound SACK block as the script's.
    pub(super) fn outbound_sack(&self, flags: u16, edge: u32) -> u32 {
        edge.wrapping_sub(self.remote_isn.offset(flags))
    }

    /// The live echo of a timestamp that the machine sent.
    ///
    /// # Errors
    /// That it sent none like it.
    pub(super) fn live_ecr(&self, ecr: u32, scaled: bool) -> Result<u32, String> {
        if let Some(live) = self.ts.get(&ecr) {
            return Ok(*live);
        }
        match self.first_ts {
            Some((script, live)) if scaled => Ok(ecr.wrapping_sub(script).wrapping_add(live)),
            _ => Err(format!(
                "unable to infer live TS ecr for script TS ecr {ecr}: no packet went out with that \
                 TS val (--tcp_ts_ecr_scaled reckons it from the first)"
            )),
        }
    }

    /// Remembers a timestamp that went out; the live one in the script's count.
    pub(super) fn note_ts(&mut self, script: u32, live: u32) -> u32 {
        if self.ts.len() < MAX_TS {
            self.ts.insert(script, live);
        }
        let (first_script, first_live) = *self.first_ts.get_or_insert((script, live));
        live.wrapping_sub(first_live).wrapping_add(first_script)
    }

    /// Whether a live packet that went out is of this flow.
    pub(super) fn sends(&self, src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> bool {
        let port = self.local.1 == 0 || self.local.1 == src.1;
        src.0 == self.local.0 && port && dst == self.remote
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> Flow {
        let addr = Ipv4Addr::new(192, 0, 2, 1);
        let mut flow = Flow::new(6, (addr, 1), (addr, 2));
        flow.local_isn = Isn { script: 0, live: 1000 };
        flow.remote_isn = Isn { script: 123, live: 123 };
        flow
    }

    #[test]
    fn a_syn_has_its_own_number_and_others_count_from_it() {
        let (syn, ack) = (flag::SYN | flag::ACK, flag::ACK);
        assert_eq!(flow().inbound(syn, 123, 1), (123, 1001));
        assert_eq!(flow().inbound(ack, 1, 1), (124, 1001));
        assert_eq!(flow().outbound(ack, 1001, 124), (1, 1));
        assert_eq!(flow().outbound(syn, 1000, 124), (0, 124));
        let wrapped = Flow { local_isn: Isn { script: 0, live: u32::MAX }, ..flow() };
        assert_eq!(wrapped.outbound(ack, 0, 0).0, 1);
    }

    #[test]
    fn timestamps_are_reckoned_from_the_first() {
        let mut flow = flow();
        assert!(flow.live_ecr(100, true).is_err());
        assert_eq!(flow.note_ts(100, 7_000), 100);
        assert_eq!(flow.note_ts(200, 7_090), 190);
        assert_eq!(flow.live_ecr(200, false), Ok(7_090));
        assert!(flow.live_ecr(150, false).is_err());
        assert_eq!(flow.live_ecr(150, true), Ok(7_050));
    }
}
