//! Arguments of calls: expressions as numbers, bytes and addresses.

use crate::parse::script::Expr;
use crate::symbols;
use std::net::Ipv4Addr;
use uapi::in_::SockaddrIn;

type Read<T> = Result<T, String>;

/// Bytes that one call reads or writes at most.
pub(super) const MOST: i64 = 64 << 20;

/// A number.
///
/// # Errors
/// That it is none, or a name without a value.
pub(super) fn int(expr: &Expr) -> Read<i64> {
    match expr {
        Expr::Int(value) => Ok(*value),
        Expr::Word(name) => symbols::value(name)
            .ok_or_else(|| format!("unknown symbol: '{name}' (tools/pkt/symbols.rs has them all)")),
        Expr::Or(all) => all.iter().try_fold(0, |bits, one| Ok(bits | int(one)?)),
        Expr::Apply(name, args) if name == "htons" && args.len() == 1 => {
            Ok(i64::from((int(&args[0])? as u16).to_be()))
        }
        Expr::Apply(name, args) if name == "htonl" && args.len() == 1 => {
            Ok(i64::from((int(&args[0])? as u32).to_be()))
        }
        Expr::Apply(name, args) if name == "inet_addr" => {
            inet_addr(args).map(|addr| i64::from(u32::from(addr).to_be()))
        }
        Expr::List(all) if all.len() == 1 => int(&all[0]),
        other => Err(format!("expected a number, found {}", kind(other))),
    }
}

/// A number of 32 bits; unsigned ones keep their bits.
pub(super) fn int32(expr: &Expr) -> Read<i32> {
    let value = int(expr)?;
    i32::try_from(value)
        .or_else(|_| u32::try_from(value).map(u32::cast_signed))
        .map_err(|_| format!("{value} does not fit into 32 bits"))
}

/// A length.
pub(super) fn len(expr: &Expr) -> Read<usize> {
    let value = int(expr)?;
    if !(0..=MOST).contains(&value) {
        return Err(format!("a length of {value}: from 0 to {MOST} are possible"));
    }
    Ok(value as usize)
}

/// What an expression is, in words.
pub(super) fn kind(expr: &Expr) -> &'static str {
    match expr {
        Expr::Any => "`...`",
        Expr::Int(_) => "a number",
        Expr::Word(_) => "a symbol",
        Expr::Str(_) => "a string",
        Expr::Or(_) => "bits",
        Expr::List(_) => "a list",
        Expr::Tuple(_) => "a group in braces",
        Expr::Struct(_) => "a structure",
        Expr::Apply(..) => "a function",
    }
}

fn inet_addr(args: &[Expr]) -> Read<Ipv4Addr> {
    let [Expr::Str(text)] = args else { return Err("inet_addr wants a string".to_owned()) };
    let text = String::from_utf8_lossy(text);
    text.parse().map_err(|_| format!("inet_addr(\"{text}\"): no IPv4 address"))
}

/// The bytes of a `sockaddr`; `None`: `...`, the runner's choice.
pub(super) fn sockaddr(expr: &Expr) -> Read<Option<Vec<u8>>> {
    if *expr == Expr::Any {
        return Ok(None);
    }
    let Expr::Struct(fields) = expr else {
        return Err(format!("expected an address, found {}", kind(expr)));
    };
    let mut name = [0_u8; 16];
    for (field, _, value) in fields {
        match field.as_str() {
            "sa_family" | "sin_family" => {
                name[..2].copy_from_slice(&(int(value)? as u16).to_ne_bytes());
            }
            "sin_port" => name[2..4].copy_from_slice(&(int(value)? as u16).to_ne_bytes()),
            "sin_addr" => name[4..8].copy_from_slice(&(int(value)? as u32).to_ne_bytes()),
            other => return Err(format!("`{other}` is no field of an address")),
        }
    }
    Ok(Some(name.to_vec()))
}

/// An address and port as bytes.
pub(super) fn addr(addr: Ipv4Addr, port: u16) -> Vec<u8> {
    SockaddrIn::new(addr.into(), port).to_bytes().to_vec()
}

/// Fields of structures that options take, with their bytes: those of 32 bits, then those of 64.
const FIELDS32: &[&[&str]] = &[&["onoff", "linger"], &["l_onoff", "l_linger"]];
const FIELDS64: &[&[&str]] = &[&["tv_sec", "tv_usec"], &["tv_sec", "tv_nsec"]];

/// The value of an option, `len` bytes of it.
pub(super) fn option_value(expr: &Expr, len: Option<usize>) -> Read<Vec<u8>> {
    let mut bytes = match expr {
        Expr::Str(text) => text.clone(),
        Expr::Struct(_) => structure(expr)?,
        Expr::List(all) if all.len() != 1 => {
            let mut bytes = Vec::new();
            for one in all {
                bytes.extend(int32(one)?.to_ne_bytes());
            }
            bytes
        }
        Expr::List(all) if matches!(all[0], Expr::Struct(_) | Expr::Str(_)) => {
            option_value(&all[0], None)?
        }
        Expr::Any => Vec::new(),
        one => match len {
            Some(8) => int(one)?.to_ne_bytes().to_vec(),
            _ => int32(one)?.to_ne_bytes().to_vec(),
        },
    };
    if let Some(len) = len {
        bytes.resize(len, 0);
    }
    Ok(bytes)
}

fn structure(expr: &Expr) -> Read<Vec<u8>> {
    let Expr::Struct(fields) = expr else { return Err("expected a structure".to_owned()) };
    let names: Vec<&str> = fields.iter().map(|(name, ..)| name.as_str()).collect();
    let mut bytes = Vec::new();
    if FIELDS32.contains(&&names[..]) {
        for (_, _, value) in fields {
            bytes.extend(int32(value)?.to_ne_bytes());
        }
    } else if FIELDS64.contains(&&names[..]) {
        for (_, _, value) in fields {
            bytes.extend(int(value)?.to_ne_bytes());
        }
    } else {
        return Err(format!(
            "{{{}}} is no structure of an option: {{onoff, linger}}, {{tv_sec, tv_usec}} are",
            names.join(", ")
        ));
    }
    Ok(bytes)
}
