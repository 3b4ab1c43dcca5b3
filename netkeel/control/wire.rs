//! The messages of the control socket, a JSON object a line.
//!
//! Key types: [`Op`] (what is asked), [`Refusal`], and a type for each answer, whose fields are named
//! as `ip -json` names them.

mod op;
mod socket;

pub use op::Op;
pub use socket::{Bbr, SkMem, Socket, TcpInfo, Timer};

use super::VERSION;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use stack::kernel::trace::{Record, WalkHead, events::Point};
use std::collections::BTreeMap;
use uapi::errno::Errno;

/// What the server says first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// The version of the protocol.
    pub netkeel: u64,
    /// That of the program.
    pub version: String,
    /// The machine's name: its TAP's.
    pub machine: String,
    /// The process it runs in.
    pub pid: u32,
}

/// The member of a request that names the namespace it is about.
pub const IN: &str = "in";

/// So many sockets are in an answer at the most, so that it stays well below what may wait for a client.
pub const SOCKETS: usize = 256;

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netns {
    /// What it is called.
    pub name: String,
    /// Its number in the machine.
    pub id: u16,
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// As the system call would fail.
    pub errno: Errno,
    /// Cause and way out, in a line.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(errno: Errno, message: impl Into<String>) -> Self {
        Self { errno, message: message.into() }
    }
}

/// A request, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The namespace that it is about; the first without a name.
    pub(crate) netns: Option<String>,
    /// What is asked.
    pub(crate) op: Op,
}

/// A request, or why it is none; and the number by which to answer, if it had one.
pub(crate) fn parse_request(line: &[u8]) -> (Option<u64>, Result<Request, Refusal>) {
    let refuse = |errno, message: String| Err(Refusal::new(errno, message));
    let mut map: Map<String, Value> = match serde_json::from_slice(line) {
        Ok(Value::Object(map)) => map,
        Ok(_) => return (None, refuse(Errno::EINVAL, "not a JSON object".to_owned())),
        Err(e) => return (None, refuse(Errno::EINVAL, format!("not a line of JSON: {e}"))),
    };
    let id = match map.remove("id") {
        None => None,
        Some(id) => match id.as_u64() {
            Some(id) => Some(id),
            None => return (None, refuse(Errno::EINVAL, "`id` is no whole number".to_owned())),
        },
    };
    if let Some(version) = map.remove("netkeel")
        && version != VERSION
    {
        let message = format!("protocol {version} is not spoken here: this is {VERSION}");
        return (id, refuse(Errno::EPROTONOSUPPORT, message));
    }
    let netns = match map.remove(IN) {
        None => None,
        Some(Value::String(name)) => Some(name),
        Some(_) => return (id, refuse(Errno::EINVAL, format!("`{IN}` is no namespace's name"))),
    };
    let op = serde_json::from_value(Value::Object(map)).map(|op| Request { netns, op });
    (id, op.map_err(|e| Refusal::new(Errno::EINVAL, e.to_string())))
}

/// The line that answers a request.
pub(crate) fn answer(id: Option<u64>, result: &Result<Value, Refusal>) -> Vec<u8> {
    let line = match result {
        Ok(value) => json!({ "id": id, "ok": value }),
        Err(Refusal { errno, message }) => {
            let errno = errno.symbol().unwrap_or("EIO");
            json!({ "id": id, "error": { "errno": errno, "message": message } })
        }
    };
    to_line(&line)
}

/// A message as a line.
pub(crate) fn to_line(message: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("strings and numbers only");
    line.push(b'\n');
    line
}

/// An answer, or the refusal in its place.
///
/// # Errors
/// With the text of what was refused, or of what is wrong with the line.
pub(crate) fn parse_answer<T: DeserializeOwned>(line: &str) -> Result<T, String> {
    #[derive(Deserialize)]
    struct Line {
        ok: Option<Value>,
        error: Option<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        message: String,
    }
    let unclear = |e: serde_json::Error| format!("the machine's answer is not understood: {e}");
    let line: Line = serde_json::from_str(line).map_err(unclear)?;
    match line.error {
        Some(error) => Err(error.message),
        None => serde_json::from_value(line.ok.unwrap_or_default()).map_err(unclear),
    }
}

/// A device.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of `ip -json`")]
pub struct Link {
    pub ifindex: u16,
    pub ifname: String,
    pub flags: Vec<String>,
    pub mtu: usize,
    pub qdisc: String,
    pub operstate: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linkmode: Option<String>,
    pub group: String,
    pub txqlen: u32,
    pub link_type: String,
    pub address: String,
    pub broadcast: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub addr_info: Option<Vec<AddrInfo>>,
}

/// An address.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of `ip -json`")]
pub struct AddrInfo {
    pub family: String,
    pub local: String,
    pub prefixlen: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broadcast: Option<String>,
    pub scope: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secondary: bool,
    pub label: String,
    pub valid_life_time: u32,
    pub preferred_life_time: u32,
}

/// A route, or the way to an address.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of `ip -json`")]
pub struct Route {
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    pub dst: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dev: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefsrc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
    pub flags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<Vec<String>>,
}

/// A neighbour.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of `ip -json`")]
pub struct Neigh {
    pub dst: String,
    pub dev: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lladdr: Option<String>,
    pub state: Vec<String>,
}

/// An interrupt.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the files of /proc/irq")]
pub struct Irq {
    pub irq: u8,
    pub name: String,
    pub smp_affinity: String,
    pub smp_affinity_list: String,
    /// Where its driver would have it, as a mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_hint: Option<String>,
    /// The CPU that takes the next.
    #[serde(default)]
    pub effective: u8,
    /// Taken, by CPU.
    pub counts: Vec<u64>,
}

/// A CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the files of /sys/devices/system/cpu")]
pub struct Cpu {
    pub cpu: u8,
    pub online: bool,
}

/// A queue, received from or sent by; masks of CPUs in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the files of /sys/class/net/DEV/queues")]
pub struct Queue {
    pub dev: String,
    /// `rx-N` or `tx-N`.
    pub queue: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rps_cpus: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rps_flow_cnt: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub xps_cpus: Option<String>,
}

impl Queue {
    /// A setting by its name; `None`: this queue has no such.
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        match name {
            "rps_cpus" => self.rps_cpus.clone(),
            "rps_flow_cnt" => self.rps_flow_cnt.map(|flows| flows.to_string()),
            "xps_cpus" => self.xps_cpus.clone(),
            _ => None,
        }
    }
}

/// What a device does for the stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of `ethtool --json -k`")]
pub struct Features {
    pub ifname: String,
    #[serde(flatten)]
    pub features: BTreeMap<String, Feature>,
}

/// A part of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are those of `ethtool --json -k`")]
pub struct Feature {
    pub active: bool,
    pub fixed: bool,
    pub requested: bool,
}

/// A file of statistics.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as it says")]
pub struct Stat {
    pub file: String,
    pub text: String,
}

/// A setting.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as it says")]
pub struct Setting {
    pub name: String,
    pub value: String,
}

/// A setting as it is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "as it says")]
pub struct Wanted {
    pub name: String,
    pub value: String,
    /// A refusal of it is passed over.
    #[serde(default)]
    pub lenient: bool,
    /// Where it was written, for the text of a refusal.
    #[serde(default)]
    pub at: String,
}

/// How a dump went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as tcpdump says it")]
pub struct Dumped {
    pub received: u64,
    pub dropped: u64,
}

/// What comes unasked to who has attached.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event {
    /// A packet has ended.
    Walk {
        /// Its number.
        packet: u64,
        /// Its front.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        head: Option<Head>,
        /// Its stations, and those of its spans, by time.
        stations: Vec<Station>,
    },
    /// A frame has passed.
    Frame {
        /// When, in nanoseconds since 1970.
        time: u64,
        /// Which device.
        dev: String,
        /// It left.
        out: bool,
        /// Its octets in all.
        len: usize,
        /// Those that are told, in hexadecimal.
        octets: String,
    },
    /// Something was not told: the machine or the connection was too busy.
    Lost {
        /// Records that the machine had no room for.
        records: u64,
        /// Walks that the connection had no room for.
        walks: u64,
    },
}

/// The front of a packet, as an Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Octets in all.
    pub len: u32,
    /// Those at the front, in hexadecimal.
    pub octets: String,
}

impl Head {
    pub(crate) fn of(head: &WalkHead) -> Self {
        Self { len: head.len, octets: hex(&head.octets) }
    }
}

/// Octets in hexadecimal.
pub(crate) fn hex(octets: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(n.into(), 16).unwrap_or('0');
    octets.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 0x0f)]).collect()
}

/// Octets from hexadecimal; what is no digit counts as zero.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digit = |octet: u8| char::from(octet).to_digit(16).unwrap_or(0) as u8;
    text.as_bytes().chunks_exact(2).map(|pair| (digit(pair[0]) << 4) | digit(pair[1])).collect()
}

/// A record of a walk; the names are those of `netkeel walk --format json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Station {
    /// Nanoseconds of the machine's clock.
    pub ns: u64,
    /// The CPU.
    pub cpu: u8,
    /// `task`, `bh`, `softirq`, `ksoftirqd`, `hardirq`.
    pub context: String,
    /// The packet it belongs to, or
    pub packet: Option<u64>,
    /// the call or interrupt.
    pub span: Option<u64>,
    /// The station, by Linux's name.
    pub point: String,
    /// Linux's file.
    pub file: String,
    /// The device; `None`: none.
    pub dev: Option<String>,
    /// Bytes of the packet.
    pub len: u16,
    /// The packet it leads to.
    pub link: Option<u64>,
    /// Why it was dropped.
    pub drop: Option<String>,
    /// The same in words.
    pub why: Option<String>,
}

impl Station {
    /// A record; `dev` is the name of its device.
    pub(crate) fn of(record: &Record, is_packet: bool, dev: Option<&str>) -> Self {
        let id = short(record.id.0);
        let reason = record.drop_reason();
        Self {
            ns: record.time.0,
            cpu: record.cpu,
            context: record.context.name().to_owned(),
            packet: is_packet.then_some(id),
            span: (!is_packet).then_some(id),
            point: record.point.name().to_owned(),
            file: record.point.file().to_owned(),
            dev: dev.map(str::to_owned),
            len: record.len,
            link: record.link().map(|other| short(other.0)),
            drop: reason.map(|reason| reason.name().to_owned()),
            why: reason.map(|reason| reason.explain().to_owned()),
        }
    }

    /// It joins the packet to a call or interrupt, and is no station itself.
    pub(crate) fn joins_span(&self) -> bool {
        self.point == Point::link_span.name()
    }

    /// As a line of `netkeel up --walk`; time is since `start`, in nanoseconds.
    pub(crate) fn line(&self, start: u64) -> String {
        let us = self.ns.saturating_sub(start) / 1000;
        let mut line = format!(
            "{:>13} cpu{} {:9} {:26} {:8} {:>5}",
            format!("{}.{:06}", us / 1_000_000, us % 1_000_000),
            self.cpu,
            self.context,
            self.point,
            self.dev.as_deref().unwrap_or("-"),
            self.len
        );
        if let (Some(drop), Some(why)) = (&self.drop, &self.why) {
            line += &format!("  {drop}: {why}");
        } else if let Some(other) = self.link {
            line += &format!("  packet {other}");
        }
        line
    }
}

/// The number without its machine's prefix: there is one machine.
pub(crate) fn short(id: u64) -> u64 {
    id & 0xffff_ffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_understood() {
        let (id, request) = parse_request(br#"{"id":7,"op":"addr.add","addr":"192.0.2.9/24"}"#);
        let addr = "192.0.2.9/24".to_owned();
        let op = Op::AddrAdd { addr, dev: None };
        assert_eq!((id, request), (Some(7), Ok(Request { netns: None, op })));
        let (id, request) = parse_request(br#"{"op":"sockets","in":"blue"}"#);
        let op = Op::Sockets { netid: None, skip: None, info: None };
        assert_eq!((id, request), (None, Ok(Request { netns: Some("blue".to_owned()), op })));
    }

    #[test]
    fn rubbish_is_named() {
        for (line, errno, part) in [
            (&b"\xff\xfe"[..], Errno::EINVAL, "not a line of JSON"),
            (b"", Errno::EINVAL, "not a line of JSON"),
            (b"[]", Errno::EINVAL, "not a JSON object"),
            (br#"{"id":-1,"op":"sockets"}"#, Errno::EINVAL, "`id` is no whole number"),
            (br#"{"id":1}"#, Errno::EINVAL, "missing field `op`"),
            (br#"{"id":1,"op":"reboot"}"#, Errno::EINVAL, "unknown variant `reboot`"),
            (br#"{"id":1,"op":"irq.set","irq":1}"#, Errno::EINVAL, "missing field `affinity`"),
            (br#"{"id":1,"op":"addr.show","devv":""}"#, Errno::EINVAL, "unknown field `devv`"),
            (br#"{"in":7,"op":"sockets"}"#, Errno::EINVAL, "`in` is no namespace's name"),
            (br#"{"netkeel":2,"op":"sockets"}"#, Errno::EPROTONOSUPPORT, "protocol 2"),
        ] {
            let refusal = parse_request(line).1.unwrap_err();
            assert_eq!(refusal.errno, errno, "{refusal:?}");
            assert!(refusal.message.contains(part), "{refusal:?}");
        }
        let deep = "[".repeat(60_000);
        let refusal = parse_request(deep.as_bytes()).1.unwrap_err();
        assert!(refusal.message.contains("recursion limit"), "{refusal:?}");
    }

    #[test]
    fn answers_and_refusals_come_through() {
        let line = answer(Some(3), &Ok(json!({ "file": "snmp", "text": "Ip:\n" })));
        let stat: Stat = parse_answer(std::str::from_utf8(&line).unwrap()).unwrap();
        assert_eq!(stat.text, "Ip:\n");
        let line = answer(None, &Err(Refusal::new(Errno::EEXIST, "it is there")));
        let line = String::from_utf8(line).unwrap();
        assert_eq!(
            line,
            "{\"error\":{\"errno\":\"EEXIST\",\"message\":\"it is there\"},\"id\":null}\n"
        );
        assert_eq!(parse_answer::<Stat>(&line).unwrap_err(), "it is there");
    }
}
