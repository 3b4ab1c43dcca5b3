//! Headers of messages: `{msg_name(...)=..., msg_iov(1)=[…], msg_flags=…, msg_control=[…]}`.

use super::args::{int, int32, kind, len, sockaddr};
use crate::backend::{Done, Room};
use crate::parse::script::{Expr, Us};

type Read<T> = Result<T, String>;

/// Room for control data, more than any script expects.
const CONTROL: usize = 4096;
/// A control message's header.
const HEADER: usize = 16;

/// A header of the script, taken apart.
#[derive(Debug, Default)]
pub(super) struct Header {
    /// An address; `None`: left open.
    pub name: Option<Vec<u8>>,
    /// The parts' lengths.
    pub parts: Vec<usize>,
    /// `MSG_*` that come back.
    pub flags: Option<i32>,
    /// Control data.
    pub control: Option<Vec<Control>>,
}

/// A control message of the script.
#[derive(Debug)]
pub(super) struct Control {
    level: i32,
    kind: i32,
    data: Expr,
}

pub(super) fn header(expr: &Expr) -> Read<Header> {
    let Expr::Struct(fields) = expr else {
        return Err(format!("expected a message's header {{msg_name…}}, found {}", kind(expr)));
    };
    let mut header = Header::default();
    for (field, count, value) in fields {
        match field.as_str() {
            "msg_name" => header.name = sockaddr(value)?,
            "msg_iov" => {
                header.parts = iov(value)?;
                if let Some(count) = count
                    && int(count)? != header.parts.len() as i64
                {
                    return Err(format!(
                        "msg_iov({}) has {} parts",
                        int(count)?,
                        header.parts.len()
                    ));
                }
            }
            "msg_flags" if *value != Expr::Any => header.flags = Some(int32(value)?),
            "msg_flags" => {}
            "msg_control" => header.control = Some(controls(value)?),
            other => return Err(format!("`{other}` is no field of a message's header")),
        }
    }
    Ok(header)
}

/// Lengths of `[{..., 1000}, …]`.
pub(super) fn iov(expr: &Expr) -> Read<Vec<usize>> {
    let Expr::List(all) = expr else {
        return Err(format!("expected a list of parts, found {}", kind(expr)));
    };
    let part = |part: &Expr| match part {
        Expr::Tuple(pair) if pair.len() == 2 => len(&pair[1]),
        other => Err(format!("expected a part such as {{..., 1000}}, found {}", kind(other))),
    };
    all.iter().map(part).collect()
}

fn controls(expr: &Expr) -> Read<Vec<Control>> {
    let Expr::List(all) = expr else {
        return Err(format!("expected a list of control messages, found {}", kind(expr)));
    };
    let one = |control: &Expr| {
        let field = |name: &str| {
            control.field(name).ok_or_else(|| format!("a control message without {name}"))
        };
        Ok(Control {
            level: int32(field("cmsg_level")?)?,
            kind: int32(field("cmsg_type")?)?,
            data: field("cmsg_data")?.clone(),
        })
    };
    all.iter().map(one).collect()
}

impl Header {
    /// The room that receiving needs.
    pub(super) fn room(&self) -> Room {
        Room { parts: self.parts.clone(), control: CONTROL }
    }

    /// Control data to send.
    pub(super) fn control_bytes(&self) -> Read<Vec<u8>> {
        let mut bytes = Vec::new();
        for control in self.control.iter().flatten() {
            let data = match &control.data {
                Expr::Str(text) => text.clone(),
                number => int32(number)?.to_ne_bytes().to_vec(),
            };
            bytes.extend((HEADER + data.len()).to_ne_bytes());
            bytes.extend(control.level.to_ne_bytes());
            bytes.extend(control.kind.to_ne_bytes());
            bytes.extend(data);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        Ok(bytes)
    }

    /// What was received against what the script says. `start` is the wall clock at the script's
    /// beginning, `tolerance` how far off a timestamp may be.
    pub(super) fn check(&self, done: &Done, (start, tolerance): (Us, Us)) -> Read<()> {
        if let Some(flags) = self.flags
            && flags != done.flags
        {
            return Err(format!("msg_flags: expected: {flags:#x} actual: {:#x}", done.flags));
        }
        if let Some(name) = &self.name
            && *name != done.name
        {
            return Err(format!("msg_name: expected: {name:?} actual: {:?}", done.name));
        }
        let Some(wanted) = &self.control else { return Ok(()) };
        let there = split(&done.control);
        if there.len() != wanted.len() {
            let list: Vec<(i32, i32)> =
                there.iter().map(|(level, kind, _)| (*level, *kind)).collect();
            return Err(format!(
                "msg_control: expected {} messages, {} came: (level, type) {list:?}",
                wanted.len(),
                there.len()
            ));
        }
        for (want, (level, kind, data)) in wanted.iter().zip(there) {
            if (want.level, want.kind) != (level, kind) {
                return Err(format!(
                    "cmsg_level, cmsg_type: expected: {}, {} actual: {level}, {kind}",
                    want.level, want.kind
                ));
            }
            check_data(&want.data, data, (start, tolerance))?;
        }
        Ok(())
    }
}

/// Control messages of control data: level, type, data.
fn split(control: &[u8]) -> Vec<(i32, i32, &[u8])> {
    let mut all = Vec::new();
    let mut rest = control;
    while rest.len() >= HEADER {
        let len = rest[..8].iter().rev().fold(0_usize, |len, byte| len << 8 | usize::from(*byte));
        if len < HEADER || len > rest.len() {
            break;
        }
        let word =
            |at: usize| i32::from_ne_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        all.push((word(8), word(12), &rest[HEADER..len]));
        rest = &rest[len.next_multiple_of(8).min(rest.len())..];
    }
    all
}

/// Fields of `struct sock_extended_err`: name, offset, bytes.
const EXTENDED_ERR: &[(&str, usize, usize)] = &[
    ("ee_errno", 0, 4),
    ("ee_origin", 4, 1),
    ("ee_type", 5, 1),
    ("ee_code", 6, 1),
    ("ee_info", 8, 4),
    ("ee_data", 12, 4),
];

fn number(data: &[u8], at: usize, len: usize) -> Option<i64> {
    let bytes = data.get(at..at + len)?;
    Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | i64::from(*byte)))
}

fn check_data(want: &Expr, data: &[u8], (start, tolerance): (Us, Us)) -> Read<()> {
    match want {
        Expr::Any => Ok(()),
        Expr::Str(text) if text == data => Ok(()),
        Expr::Str(_) => Err(format!("cmsg_data: other bytes: {data:?}")),
        Expr::Struct(fields) if want.field("scm_sec").is_some() => {
            let field = |name: &str| {
                let found = fields.iter().find(|(known, ..)| known == name);
                found.map(|(_, _, value)| int(value)).ok_or_else(|| format!("{name} is missing"))?
            };
            let wanted = field("scm_sec")? * 1_000_000 + field("scm_nsec")? / 1_000;
            let seconds = number(data, 0, 8).unwrap_or(0);
            let nanos = number(data, 8, 8).unwrap_or(0);
            let there = seconds * 1_000_000 + nanos / 1_000 - start;
            if (there - wanted).abs() > tolerance {
                return Err(format!(
                    "scm_timestamping: expected: {wanted} usec actual: {there} usec since the beginning"
                ));
            }
            Ok(())
        }
        Expr::Struct(fields) => {
            for (name, _, value) in fields {
                let Some((_, at, len)) = EXTENDED_ERR.iter().find(|(known, ..)| known == name)
                else {
                    return Err(format!("`{name}` is no field of control data that is known"));
                };
                let there = number(data, *at, *len).unwrap_or(-1);
                let wanted = match value {
                    Expr::Any => continue,
                    Expr::Word(word) if name == "ee_errno" && word.starts_with('E') => {
                        super::call::errno_number(word)?.into()
                    }
                    other => int(other)?,
                };
                if wanted != there {
                    return Err(format!("{name}: expected: {wanted} actual: {there}"));
                }
            }
            Ok(())
        }
        value => {
            let there = number(data, 0, data.len().min(4)).unwrap_or(-1);
            let wanted = int(value)?;
            if i64::from(there as i32) != wanted && there != wanted {
                return Err(format!("cmsg_data: expected: {wanted} actual: {there}"));
            }
            Ok(())
        }
    }
}
