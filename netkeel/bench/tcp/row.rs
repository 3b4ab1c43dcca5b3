//! What there is to measure, what it is measured beside, and what is wanted of it.

use super::{Placement, Way};

/// Whether segments, merging and sums are left to devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offloads {
    On,
    Off,
}

/// What a listener that answers SYNs with cookies is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A connection: a SYN.
    Syn,
    /// The same, by a cookie in an acknowledgement.
    Cookie,
    /// The same, by a cookie that was never given out.
    Guess,
}

/// What a row's figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Octets a second.
    Octets,
    /// Segments a second.
    Segments,
    /// Nanoseconds.
    Time,
}

/// What a row measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// A stream over a TAP.
    Bulk(Way, Offloads),
    /// A stream out over a TAP with offloads, from memory that the stack may keep instead of copying it.
    BytesOut,
    /// A stream between two machines in memory, on one thread.
    BulkInMemory(Offloads),
    /// An octet there and back over a TAP.
    Trip(Placement),
    /// The same between two machines in memory, on one thread.
    TripInMemory,
    /// A flood of SYNs from ever new addresses over a TAP, each answered by a cookie.
    Flood,
    /// What a machine in memory does with it, and with acknowledgements.
    FloodInMemory(Asked),
}

/// Who is measured beside us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    /// Two programs of the host's, over veth.
    Kernel,
    /// A program of the host's, behind the same TAP.
    KernelOnTap,
    /// Frames read and written, nothing else.
    Tap,
    /// The same frames written as a stream that the host's TCP takes.
    TapStream,
    /// Another stack in user space.
    Smoltcp,
}

/// What is wanted of our figure beside another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    /// Of a rate: so many times the other's.
    Times(f64),
    /// Of a time: so many nanoseconds more.
    MoreBy(f64),
    /// Of a time: so many times the other's.
    MostTimes(f64),
}

/// One to be compared with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beside {
    pub(super) who: Other,
    pub(super) goal: Goal,
}

const fn beside(who: Other, goal: Goal) -> Beside {
    Beside { who, goal }
}

impl Work {
    /// All that can be measured here.
    pub(super) fn here() -> Vec<Self> {
        let mut works = Vec::new();
        for offloads in [Offloads::On, Offloads::Off] {
            works.extend([Way::In, Way::Out].map(|way| Self::Bulk(way, offloads)));
        }
        works.insert(2, Self::BytesOut);
        works.extend([Offloads::On, Offloads::Off].map(Self::BulkInMemory));
        works.extend(Placement::here().into_iter().map(Self::Trip));
        works.extend([Self::TripInMemory, Self::Flood]);
        works.extend([Asked::Syn, Asked::Cookie, Asked::Guess].map(Self::FloodInMemory));
        works
    }

    pub(super) fn name(self) -> String {
        let offloads = |offloads| match offloads {
            Offloads::On => "offloads on",
            Offloads::Off => "offloads off",
        };
        match self {
            Self::Bulk(Way::In, o) => format!("bulk in over a TAP, {}", offloads(o)),
            Self::Bulk(Way::Out, o) => format!("bulk out over a TAP, {}", offloads(o)),
            Self::BytesOut => "bulk out over a TAP, not copied".to_owned(),
            Self::BulkInMemory(o) => format!("bulk in memory, {}", offloads(o)),
            Self::Trip(placement) => placement.round_trip().to_owned(),
            Self::TripInMemory => "round trip in memory".to_owned(),
            Self::Flood => "SYN flood over a TAP".to_owned(),
            Self::FloodInMemory(Asked::Syn) => "SYN flood in memory".to_owned(),
            Self::FloodInMemory(Asked::Cookie) => {
                "SYN flood in memory, cookies redeemed".to_owned()
            }
            Self::FloodInMemory(Asked::Guess) => "SYN flood in memory, cookies guessed".to_owned(),
        }
    }

    /// Where a stream's octets go.
    pub(super) fn way(self) -> Way {
        match self {
            Self::Bulk(Way::Out, _) | Self::BytesOut => Way::Out,
            _ => Way::In,
        }
    }

    /// What its figure counts.
    pub(super) fn unit(self) -> Unit {
        match self {
            Self::Bulk(..) | Self::BytesOut | Self::BulkInMemory(_) => Unit::Octets,
            Self::Trip(_) | Self::TripInMemory => Unit::Time,
            Self::Flood | Self::FloodInMemory(_) => Unit::Segments,
        }
    }

    /// Another stack is measured beside it, where there is one.
    pub(super) fn has_rival(self) -> bool {
        self.beside().iter().any(|other| other.who == Other::Smoltcp)
    }

    /// Those it is measured beside, each with what is wanted.
    pub(super) fn beside(self) -> &'static [Beside] {
        use {Goal::*, Other::*};
        const WITH_OFFLOADS: &[Beside] =
            &[beside(Kernel, Times(0.7)), beside(Tap, Times(0.7)), beside(TapStream, Times(0.7))];
        const IN: &[Beside] = &[beside(Smoltcp, Times(1.0)), beside(Tap, Times(0.85))];
        const OUT: &[Beside] = &[
            beside(Smoltcp, Times(1.4)),
            beside(Tap, Times(0.85)),
            beside(TapStream, Times(0.85)),
        ];
        const SLEEPING: &[Beside] = &[beside(Tap, MoreBy(4000.0))];
        const SPINNING: &[Beside] = &[beside(Tap, MoreBy(3000.0))];
        match self {
            Self::Bulk(Way::In, Offloads::On) => &WITH_OFFLOADS[..2],
            Self::Bulk(Way::Out, Offloads::On) | Self::BytesOut => WITH_OFFLOADS,
            Self::Bulk(Way::In, Offloads::Off) => IN,
            Self::Bulk(Way::Out, Offloads::Off) => OUT,
            Self::BulkInMemory(Offloads::On) => const { &[beside(Smoltcp, Times(1.5))] },
            Self::BulkInMemory(Offloads::Off) => const { &[beside(Kernel, Times(1.2))] },
            Self::Trip(Placement::TwoSpinning) => SPINNING,
            Self::Trip(_) => SLEEPING,
            Self::TripInMemory => const { &[beside(Smoltcp, MostTimes(2.0))] },
            Self::Flood => const { &[beside(KernelOnTap, Times(1.0)), beside(Tap, Times(0.5))] },
            Self::FloodInMemory(_) => &[],
        }
    }
}

impl Unit {
    pub(super) const ALL: [Self; 3] = [Self::Octets, Self::Segments, Self::Time];

    /// What a table writes over figures, and over how they compare.
    pub(super) fn title(self) -> [&'static str; 2] {
        match self {
            Self::Octets => ["gigabits a second", "ratio"],
            Self::Segments => ["thousand segments a second", "ratio"],
            Self::Time => ["median, microseconds", "over it, or times"],
        }
    }

    /// What an object writes beside figures.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Octets => "octets_per_second",
            Self::Segments => "segments_per_second",
            Self::Time => "nanoseconds",
        }
    }

    /// A figure in what a table tells it.
    pub(super) fn told(self, value: f64) -> String {
        match self {
            Self::Octets => format!("{:.1}", value * 8.0 / 1e9),
            Self::Segments => format!("{:.0}", value / 1e3),
            Self::Time => format!("{:.1}", value / 1e3),
        }
    }
}

impl Other {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kernel => "kernel, veth",
            Self::KernelOnTap => "kernel, TAP",
            Self::Tap => "bare TAP",
            Self::TapStream => "TAP to TCP",
            Self::Smoltcp => "smoltcp",
        }
    }
}

impl Goal {
    /// How our figure stands beside the other's, in what the goal is told in.
    pub(super) fn of(self, ours: f64, theirs: f64) -> f64 {
        match self {
            Self::Times(_) | Self::MostTimes(_) => ours / theirs,
            Self::MoreBy(_) => ours - theirs,
        }
    }

    pub(super) fn met(self, figure: f64) -> bool {
        match self {
            Self::Times(goal) => figure >= goal,
            Self::MoreBy(goal) | Self::MostTimes(goal) => figure <= goal,
        }
    }

    /// A figure of this kind.
    pub(super) fn told(self, figure: f64) -> String {
        match self {
            Self::Times(_) | Self::MostTimes(_) => format!("{figure:.2}"),
            Self::MoreBy(_) => format!("{:+.1}", figure / 1e3),
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Times(goal) => write!(f, ">= {}", self.told(goal)),
            Self::MoreBy(goal) | Self::MostTimes(goal) => write!(f, "<= {}", self.told(goal)),
        }
    }
}
