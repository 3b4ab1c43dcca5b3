//! Filters in tcpdump's language, compiled to classic BPF.
//!
//! The language is that of pcap-filter(7) for Ethernet frames; [`compile`] is the door. Parts: `lexer` (words),
//! `parse` (what they mean: `ast`), `lower` (questions about octets), `graph` (the order they are asked in, and none
//! twice), `names` (of protocols, ports, fields). What can't be asked here is refused with its place.

mod ast;
mod graph;
mod lexer;
mod lower;
mod lower_arith;
mod names;
mod parse;

use stack::net::core::filter::{BpfProg, bpf_check_classic};
use std::fmt;
use uapi::filter::BPF_MAXINSNS;

/// Octets of a packet that matches: all there can be, as tcpdump asks for.
pub const SNAPLEN: u32 = 262_144;
/// Octets of an expression at most.
const MAX_TEXT: usize = 64 << 10;

/// Why an expression is no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// Column, from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub what: String,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.what)
    }
}

impl std::error::Error for FilterError {}

/// A program that says [`SNAPLEN`] of the Ethernet frames that `text` describes, and 0 of others. An empty text
/// describes all.
///
/// # Errors
/// The first place where `text` is not in the language, asks for what a frame does not tell, or contradicts itself.
pub fn compile(text: &str) -> Result<BpfProg, FilterError> {
    let whole = |what| FilterError { column: 1, what };
    if text.len() > MAX_TEXT {
        let len = text.len();
        return Err(whole(format!("an expression has at most {MAX_TEXT} octets, this has {len}")));
    }
    let cond = match parse::parse(text)? {
        Some(expr) => lower::lower(&expr)?,
        None => ast::Cond::Const(true),
    };
    let program = graph::program(&cond, SNAPLEN)?;
    let len = program.len();
    let too_long = format!("it makes {len} instructions, and {BPF_MAXINSNS} are the most");
    bpf_check_classic(&program).map_err(|_| whole(too_long))
}

#[cfg(test)]
mod tests;
