//! What an expression says, and what is asked of a frame for it.

use std::net::Ipv6Addr;
use uapi::filter::SockFilter;

/// What the words say. Where a VLAN's tag was asked for before, all that follows lies further back.
#[derive(Clone, Debug)]
pub(super) enum Expr {
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Is(Primitive),
    Relation(Box<Relation>),
}

/// A question with words of its own.
#[derive(Clone, Debug)]
pub(super) struct Primitive {
    pub(super) quals: Quals,
    pub(super) what: What,
    pub(super) at: Place,
}

/// Where it stands in the text, and how many octets of VLAN tags are before the frame's type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) column: usize,
    pub(super) tags: u32,
}

/// What stands before a value, and holds for those without words of their own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quals {
    pub(super) proto: Option<Proto>,
    pub(super) dir: Dir,
    pub(super) kind: Option<Kind>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Dir {
    #[default]
    Either,
    Src,
    Dst,
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

/// A layer: of links, of networks, or above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proto {
    Ether,
    /// By its link type.
    Link(u16),
    Ip,
    Ip6,
    /// By its number in IP: the number, and whether both versions of IP carry it or which.
    Transport(u8, Carriers),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carriers {
    Both,
    Only4,
    Only6,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    /// The protocol itself.
    Proto,
    Host(u32),
    Host6(Ipv6Addr),
    Mac([u8; 6]),
    /// Address and mask.
    Net(u32, u32),
    Net6(Ipv6Addr, u32),
    Ports(u16, u16),
    Number(u32),
    Broadcast,
    Multicast,
    Vlan(Option<u32>),
    Inbound,
    Outbound,
}

#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub(super) left: Arith,
    pub(super) op: RelOp,
    pub(super) right: Arith,
    pub(super) column: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RelOp {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
}

/// A number.
#[derive(Clone, Debug)]
pub(super) enum Arith {
    Num(u32),
    Len,
    /// So many octets of a header.
    Load {
        proto: Proto,
        offset: Box<Self>,
        size: u8,
        at: Place,
    },
    Neg(Box<Self>),
    /// By the operation's code.
    Binary(u16, Box<Self>, Box<Self>),
}

/// What is asked of a frame, in the order it is asked in.
#[derive(Clone, Debug)]
pub(super) enum Cond {
    Const(bool),
    And(Box<Self>, Box<Self>),
    Or(Box<Self>, Box<Self>),
    Not(Box<Self>),
    Test(Test),
}

/// One question: A is loaded and compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Test {
    pub(super) load: Vec<SockFilter>,
    /// A jump's code.
    pub(super) compare: u16,
    pub(super) k: u32,
}

impl Cond {
    pub(super) fn and(self, other: Self) -> Self {
        Self::And(Box::new(self), Box::new(other))
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self::Or(Box::new(self), Box::new(other))
    }

    pub(super) fn negated(self) -> Self {
        Self::Not(Box::new(self))
    }
}
