//! A script as a value.

use super::Pos;
use crate::code::Program;

/// Microseconds, as scripts count.
pub type Us = i64;

/// A parsed script.
#[derive(Clone, Debug)]
pub struct Script {
    /// Its options: name, value, place.
    pub options: Vec<(String, Option<String>, Pos)>,
    /// Commands before the first event.
    pub init: Vec<(String, Pos)>,
    /// What happens, in order.
    pub events: Vec<Event>,
    /// Commands behind the last event.
    pub cleanup: Vec<(String, Pos)>,
}

/// Something that happens or is expected.
#[derive(Clone, Debug)]
pub struct Event {
    /// Where it stands.
    pub pos: Pos,
    /// When.
    pub time: Time,
    /// What.
    pub action: Action,
}

/// When an event is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// So long after the script's beginning.
    Absolute(Us),
    /// So long after the event before.
    Relative(Us),
    /// `*`: whenever.
    Any,
    /// Between two times of the script.
    AbsoluteRange(Us, Us),
    /// Between two times after the event before.
    RelativeRange(Us, Us),
}

/// What an event is.
#[derive(Clone, Debug)]
pub enum Action {
    /// A packet comes in or goes out.
    Packet(PacketSpec),
    /// A system call.
    Call(CallSpec),
    /// A command.
    Command(String),
    /// `%{ … }%`
    Code(Program),
}

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    /// `<`: to the machine.
    In,
    /// `>`: from the machine.
    Out,
}

/// What the IP header must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpSpec {
    /// The type of service.
    pub tos: TosSpec,
    /// The time to live.
    pub ttl: Option<u8>,
}

/// What is said of the type of service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TosSpec {
    /// Nothing.
    #[default]
    Any,
    /// All of it.
    Tos(u8),
    /// The ECN field.
    Ecn(u8),
    /// ECT(0) or ECT(1).
    Ect01,
}

/// A packet of the script.
#[derive(Clone, Debug, PartialEq)]
pub struct PacketSpec {
    /// Which way it goes.
    pub dir: Dir,
    /// Its IP header.
    pub ip: IpSpec,
    /// Source and destination port, if the script gives them.
    pub ports: Option<(u16, u16)>,
    /// What it carries.
    pub body: Body,
}

/// What a packet carries.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// TCP.
    Tcp(TcpSpec),
    /// UDP, with so many bytes.
    Udp(UdpSpec),
    /// ICMP.
    Icmp(IcmpSpec),
}

/// A UDP datagram of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpSpec {
    /// Bytes of data.
    pub len: u16,
    /// What its checksum is to be.
    pub sum: Sum,
}

/// What a checksum is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sum {
    /// Right.
    #[default]
    Good,
    /// Wrong; of packets to the machine only.
    Bad,
    /// Zero: none; UDP only.
    None,
}

/// Flags of TCP: the low nine bits of its header's flag word.
pub mod flag {
    /// The sender has no more data.
    pub const FIN: u16 = 1;
    /// The connection begins.
    pub const SYN: u16 = 2;
    /// The connection is reset.
    pub const RST: u16 = 4;
    /// The data is for the reader at once.
    pub const PSH: u16 = 8;
    /// The acknowledgement counts.
    pub const ACK: u16 = 16;
    /// The urgent pointer counts.
    pub const URG: u16 = 32;
    /// Congestion was met.
    pub const ECE: u16 = 64;
    /// The sender has slowed down.
    pub const CWR: u16 = 128;
    /// Accurate ECN.
    pub const AE: u16 = 256;
}

/// A TCP segment of the script.
#[derive(Clone, Debug, PartialEq)]
pub struct TcpSpec {
    /// [`flag`] bits.
    pub flags: u16,
    /// The first sequence number.
    pub seq: u32,
    /// Bytes of data.
    pub len: u32,
    /// The acknowledgement.
    pub ack: u32,
    /// The window, if given.
    pub win: Option<u16>,
    /// The urgent pointer.
    pub urg: u16,
    /// The options; `None`: `<...>`, any.
    pub options: Option<Vec<TcpOption>>,
    /// What its checksum is to be.
    pub sum: Sum,
}

/// An option of TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpOption {
    /// End of the list.
    Eol,
    /// Filler.
    Nop,
    /// Maximum segment size.
    Mss(u16),
    /// Window scale.
    Wscale(u8),
    /// SACK is understood.
    SackOk,
    /// SACK blocks.
    Sack(Vec<(u32, u32)>),
    /// Timestamp and its echo.
    Ts(u32, u32),
    /// Fast open cookie.
    FastOpen(Vec<u8>),
    /// The same as an experimental option.
    FastOpenExp(Vec<u8>),
    /// MD5 signature.
    Md5(Vec<u8>),
    /// Any other: kind and data.
    Other(u8, Vec<u8>),
}

/// An ICMP message of the script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IcmpSpec {
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The MTU of the next hop.
    pub mtu: Option<u16>,
    /// Identifier of an echo.
    pub id: u16,
    /// Sequence number of an echo.
    pub seq: u16,
    /// Bytes of an echo's data.
    pub len: u16,
    /// What it quotes.
    pub quoted: Quoted,
    /// What its checksum is to be.
    pub sum: Sum,
}

/// What an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quoted {
    /// Not said.
    None,
    /// A segment: sequence number and bytes.
    Tcp(u32, u32),
    /// A datagram of so many bytes.
    Udp(u16),
}

/// A system call of the script.
#[derive(Clone, Debug)]
pub struct CallSpec {
    /// Its name.
    pub name: String,
    /// Its arguments.
    pub args: Vec<Expr>,
    /// What it returns.
    pub ret: Expr,
    /// The errno it fails with.
    pub errno: Option<String>,
    /// It blocks until then: counted as the event's own time.
    pub end: Option<Us>,
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// `...`: the runner's choice, or not looked at.
    Any,
    /// A number.
    Int(i64),
    /// A symbol.
    Word(String),
    /// A string.
    Str(Vec<u8>),
    /// Symbols and numbers joined by `|`.
    Or(Vec<Expr>),
    /// `[a, b]`
    List(Vec<Expr>),
    /// `{a, b}`
    Tuple(Vec<Expr>),
    /// `{a=1, b(2)=3}`: name, what stands in parentheses, value.
    Struct(Vec<(String, Option<Expr>, Expr)>),
    /// `inet_addr("…")`, `htons(…)`
    Apply(String, Vec<Expr>),
}

impl Expr {
    /// The value of a structure's field.
    pub fn field(&self, name: &str) -> Option<&Expr> {
        let Self::Struct(fields) = self else { return None };
        fields.iter().find(|(known, ..)| known == name).map(|(_, _, value)| value)
    }
}
