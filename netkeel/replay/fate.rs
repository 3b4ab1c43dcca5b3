//! What became of a frame, from the records of its walk.

use stack::kernel::trace::drop_reason::DropReason;
use stack::kernel::trace::events::Point;
use stack::kernel::trace::{Record, WalkId};
use std::fmt;

/// How a packet's way ended, and at which station.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) what: What,
    pub(super) at: Option<Point>,
}

/// How a packet's way ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// A socket has it to read.
    Delivered,
    /// The stack itself did what it asks for.
    Taken,
    /// It left again, for another machine.
    Forwarded,
    Dropped(DropReason),
    /// The device had no room or no memory for it.
    Lost,
}

impl What {
    /// As JSON names it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Taken => "taken",
            Self::Forwarded => "forwarded",
            Self::Dropped(_) => "dropped",
            Self::Lost => "lost",
        }
    }

    pub(super) fn reason(self) -> Option<DropReason> {
        match self {
            Self::Dropped(reason) => Some(reason),
            _ => None,
        }
    }
}

impl Fate {
    /// Of the first packet that came in from the link in this walk.
    pub(super) fn of(walk: &[(u16, Record)]) -> Self {
        let records = || walk.iter().map(|(_, record)| record);
        let Some(id) = records().find(|r| r.point == Point::eth_type_trans).map(|r| r.id) else {
            return Self { what: What::Lost, at: None };
        };
        Self::of_packet(id, records)
    }

    fn of_packet<'a, I: Iterator<Item = &'a Record>>(id: WalkId, records: impl Fn() -> I) -> Self {
        let (mut what, mut at, mut last) = (What::Lost, None, None);
        for record in records().filter(|record| record.id == id && record.link().is_none()) {
            let now = match record.point {
                Point::kfree_skb => record.drop_reason().map(What::Dropped),
                Point::sock_queue_rcv_skb => Some(What::Delivered),
                Point::ip_forward_finish => Some(What::Forwarded),
                // The end of what was delivered or sent is no other fate.
                Point::consume_skb if what == What::Lost => Some(What::Taken),
                _ => None,
            };
            if let Some(now) = now {
                let is_end = matches!(record.point, Point::kfree_skb | Point::consume_skb);
                (what, at) = (now, if is_end { last } else { Some(record.point) });
            }
            if !is_aside(record.point, &last) {
                last = Some(record.point);
            }
        }
        Self { what, at }
    }
}

/// What is done about a packet at the station before: its sender is answered, ARP asks whether an
/// address is ours.
fn is_aside(point: Point, before: &Option<Point>) -> bool {
    match point {
        Point::icmp_send | Point::icmp_reply => true,
        Point::ip_route_input_noref | Point::ip_route_input_slow => {
            *before == Some(Point::arp_process)
        }
        _ => false,
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::Delivered => f.write_str("delivered")?,
            What::Taken => f.write_str("taken")?,
            What::Forwarded => f.write_str("forwarded")?,
            What::Dropped(reason) => write!(f, "dropped, {}", reason.name())?,
            What::Lost => f.write_str("lost by the device")?,
        }
        match self.at {
            Some(at) => write!(f, ", at {} ({})", at.name(), at.file()),
            None => Ok(()),
        }
    }
}
