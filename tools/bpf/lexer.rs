//! The words of an expression.

use super::FilterError;
use std::net::Ipv6Addr;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A word; behind a backslash it is a name even where it is a keyword.
    Word(String),
    Num(u32),
    /// Up to four octets with dots between them: as many as there are, from the front.
    Dotted(u32, u8),
    Ip6(Ipv6Addr),
    Mac([u8; 6]),
    Sym(&'static str),
    End,
}

/// A token with its column, from 1.
pub(super) type Spanned = (Token, usize);

const SYMBOLS: [&str; 24] = [
    "&&", "||", "<<", ">>", "<=", ">=", "==", "!=", "(", ")", "[", "]", ":", "!", "&", "|", "^",
    "+", "-", "*", "/", "%", "<", ">",
];

pub(super) fn lex(text: &str) -> Result<Vec<Spanned>, FilterError> {
    let mut tokens = Vec::new();
    let (mut at, mut column) = (0, 1);
    loop {
        let rest = &text[at..];
        let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\n', '\r']).len();
        (at, column) = (at + blank, column + blank);
        if at == text.len() {
            tokens.push((Token::End, column));
            return Ok(tokens);
        }
        let (token, len) = next(&text[at..]).map_err(|what| FilterError { column, what })?;
        tokens.push((token, column));
        column += text[at..at + len].chars().count();
        at += len;
    }
}

/// The token at the front, and its length.
fn next(rest: &str) -> Result<(Token, usize), String> {
    let first = rest.chars().next().unwrap_or(' ');
    if let Some(found) = address(rest) {
        return Ok(found);
    }
    if first.is_ascii_digit() {
        return number(rest);
    }
    if first.is_ascii_alphabetic() || first == '\\' || first == '_' {
        return Ok(word(rest));
    }
    // One sign of equality says the same as two.
    if let Some(symbol) = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
        return Ok((Token::Sym(symbol), symbol.len()));
    }
    match first {
        '=' => Ok((Token::Sym("=="), 1)),
        other => Err(format!("{other:?} has no meaning here")),
    }
}

/// Octets of an address, as text, at most: IPv6's with IPv4's in it.
const LONGEST_ADDRESS: usize = 45;

/// Length of the longest front made of such characters.
fn run(rest: &str, of: impl Fn(char) -> bool) -> usize {
    rest.find(|c| !of(c)).unwrap_or(rest.len())
}

/// A link or IPv6 address: what has colons enough, or six pairs with dots or hyphens.
fn address(rest: &str) -> Option<(Token, usize)> {
    let near = &rest[..rest.floor_char_boundary(LONGEST_ADDRESS + 1)];
    let len = run(near, |c| c.is_ascii_hexdigit() || matches!(c, ':' | '.' | '-'));
    let run = &rest[..len];
    if rest[len..].starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    for between in [':', '-', '.'] {
        let mut octets = [0; 6];
        let mut groups = run.split(between);
        let fits = |group: &str| (1..=2).contains(&group.len());
        let all = octets.iter_mut().all(|octet| {
            let group = groups.next().filter(|group| fits(group));
            group.and_then(|group| u8::from_str_radix(group, 16).ok()).map(|n| *octet = n).is_some()
        });
        if all && groups.next().is_none() {
            return Some((Token::Mac(octets), len));
        }
    }
    let two = run.matches(':').count() >= 2;
    two.then(|| run.parse().ok()).flatten().map(|addr| (Token::Ip6(addr), len))
}

fn number(rest: &str) -> Result<(Token, usize), String> {
    let len = run(rest, |c| c.is_ascii_alphanumeric());
    let digits = &rest[..len];
    let dotted =
        rest[len..].strip_prefix('.').is_some_and(|r| r.starts_with(|c: char| c.is_ascii_digit()));
    if dotted {
        return dotted_number(rest);
    }
    let parsed = match (digits.strip_prefix("0x"), digits.strip_prefix('0')) {
        (Some(hex), _) => u32::from_str_radix(hex, 16),
        (_, Some(octal)) if !octal.is_empty() => u32::from_str_radix(octal, 8),
        _ => digits.parse(),
    };
    match parsed {
        Ok(n) => Ok((Token::Num(n), len)),
        Err(_) => Err(format!("{digits:?} is no number of 32 bits")),
    }
}

fn dotted_number(rest: &str) -> Result<(Token, usize), String> {
    let len = run(rest, |c| c.is_ascii_digit() || c == '.');
    let text = &rest[..len];
    let wrong =
        || format!("{text:?} is no IPv4 address: write up to four numbers to 255, as 192.0.2.1");
    let mut addr = 0_u32;
    let mut octets = 0_u8;
    for part in text.split('.') {
        let octet: u8 = part.parse().map_err(|_| wrong())?;
        if octets == 4 {
            return Err(wrong());
        }
        addr |= u32::from(octet) << (24 - 8 * octets);
        octets += 1;
    }
    Ok((Token::Dotted(addr, octets), len))
}

fn word(rest: &str) -> (Token, usize) {
    let skip = usize::from(rest.starts_with('\\'));
    let body = &rest[skip..];
    let len = run(body, |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    (Token::Word(body[..len].to_owned()), skip + len.max(1 - skip))
}
