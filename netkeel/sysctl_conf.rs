//! Files of settings, in the format of sysctl.conf(5).
//!
//! Key types: [`Entry`], [`ConfError`]. A line is `NAME = VALUE`; what begins with `#` or `;` says nothing; a `-` in
//! front of a name lets a refusal of it pass; a name may be written with slashes.

use crate::control::wire::Wanted;
use std::fmt;
use std::path::Path;

/// Octets of a file at most.
const MAX_FILE: u64 = 1 << 20;
/// Settings of a file at most: as many as a request to a machine has room for.
pub const MAX_ENTRIES: usize = 512;

/// A setting that a file wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, with dots.
    pub name: String,
    /// Its value.
    pub value: String,
    /// A refusal of it is passed over.
    pub lenient: bool,
    /// Where its name stands, from 1.
    pub line: usize,
    /// The same.
    pub column: usize,
}

/// Why a text is no such file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfError {
    line: usize,
    column: usize,
    what: String,
}

impl fmt::Display for ConfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.what)
    }
}

/// A name with dots between its parts. Whichever of the two comes first is between them; the other belongs to a name
/// of a device then (`net/ipv4/conf/eth0.1/forwarding`).
pub fn dotted(name: &str) -> String {
    match name.find(['.', '/']).map(|at| name.as_bytes()[at]) {
        Some(b'/') => name
            .chars()
            .map(|c| match c {
                '/' => '.',
                '.' => '/',
                c => c,
            })
            .collect(),
        _ => name.to_owned(),
    }
}

/// The settings of a text, in its order.
///
/// # Errors
/// The first line that is none.
pub fn parse(text: &str) -> Result<Vec<Entry>, ConfError> {
    let mut entries = Vec::new();
    for (number, raw) in text.lines().enumerate() {
        let line = number + 1;
        let column_of =
            |part: &str| raw[..part.as_ptr() as usize - raw.as_ptr() as usize].chars().count() + 1;
        let said = raw.trim();
        if said.is_empty() || said.starts_with(['#', ';']) {
            continue;
        }
        let wrong = |part: &str, what: &str| ConfError {
            line,
            column: column_of(part),
            what: what.to_owned(),
        };
        let (lenient, rest) =
            said.strip_prefix('-').map_or((false, said), |rest| (true, rest.trim_start()));
        let Some((name, value)) = rest.split_once('=') else {
            return Err(wrong(rest, "a value is missing: write NAME = VALUE"));
        };
        let name = name.trim_end();
        if name.is_empty() {
            return Err(wrong(rest, "a name is missing: write NAME = VALUE"));
        }
        if let Some(at) = name.find(char::is_whitespace) {
            return Err(wrong(&name[at..], "a name has no blanks"));
        }
        if entries.len() == MAX_ENTRIES {
            return Err(wrong(rest, &format!("a file has at most {MAX_ENTRIES} settings")));
        }
        let (value, column) = (value.trim().to_owned(), column_of(name));
        entries.push(Entry { name: dotted(name), value, lenient, line, column });
    }
    Ok(entries)
}

/// The settings of a file.
///
/// # Errors
/// With the cause, the place and the way out.
pub fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let shown = path.display();
    let unread = |e: std::io::Error| format!("can't read {shown}: {e}");
    let file = std::fs::File::open(path).map_err(unread)?;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_FILE + 1), &mut text)
        .map_err(unread)?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("{shown}: longer than {MAX_FILE} octets: it is no file of settings"));
    }
    let text = String::from_utf8(text).map_err(|_| format!("{shown}: it is no text"))?;
    parse(&text).map_err(|e| format!("{shown}:{e}"))
}

/// The settings of a file, each with its place.
///
/// # Errors
/// As [`read`].
pub(crate) fn wanted(path: &Path) -> Result<Vec<Wanted>, String> {
    let of = |entry: Entry| Wanted {
        at: format!("{}:{}:{}", path.display(), entry.line, entry.column),
        name: entry.name,
        value: entry.value,
        lenient: entry.lenient,
    };
    Ok(read(path)?.into_iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood_as_sysctl_does() {
        let text = "# a comment\n; another\n\nnet.ipv4.ip_forward = 1\n  -net/ipv4/tcp_rmem=1 2  3 \nnet/ipv4/conf/eth0.1/forwarding=0\n";
        let entries = parse(text).unwrap();
        let told: Vec<_> = entries
            .iter()
            .map(|e| (e.name.as_str(), e.value.as_str(), e.lenient, e.line, e.column))
            .collect();
        assert_eq!(
            told,
            [
                ("net.ipv4.ip_forward", "1", false, 4, 1),
                ("net.ipv4.tcp_rmem", "1 2  3", true, 5, 4),
                ("net.ipv4.conf.eth0/1.forwarding", "0", false, 6, 1),
            ]
        );
    }

    #[test]
    fn what_is_none_is_told_with_its_place() {
        for (text, said) in [
            ("net.ipv4.ip_forward\n", "1:1: a value is missing"),
            ("\n  = 1\n", "2:3: a name is missing"),
            ("net.ipv4 ip_forward = 1\n", "1:9: a name has no blanks"),
            ("ä ö = 1\n", "1:2: a name has no blanks"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{text:?}: {error}");
        }
        let many = "a = 1\n".repeat(MAX_ENTRIES + 1);
        assert!(parse(&many).unwrap_err().to_string().contains("at most"));
    }
}
