//! A Rust file with code, comments and strings told apart.
//!
//! Key type: [`Source`]. Invariant: `code` has the length and the lines of `text`, so an offset
//! means the same in both; what stands in comments, strings and characters is blank in it.

mod lexer;
#[cfg(test)]
mod tests;

use std::ops::Range;

/// A doc comment line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doc {
    /// Where the text behind `///` or `//!` stands.
    pub range: Range<usize>,
    /// `//!`: it speaks of the module around it.
    pub inner: bool,
}

/// A Rust file.
#[derive(Debug)]
pub struct Source {
    /// Relative path.
    pub path: String,
    /// As it stands.
    pub text: String,
    /// The same with comments and the insides of strings blanked.
    pub code: String,
    /// The doc comments, one entry a line.
    pub docs: Vec<Doc>,
    /// Offsets at which the lines begin.
    lines: Vec<usize>,
}

impl Source {
    /// Takes `text` apart.
    pub fn new(path: &str, text: &str) -> Self {
        let (code, docs) = lexer::split(text);
        let breaks = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        Self { path: path.to_owned(), text: text.to_owned(), code, docs, lines }
    }

    /// The line, from 1, on which an offset lies.
    pub fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|&start| start <= offset)
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.text.lines().count()
    }

    /// The text of a doc line, without the blanks around it.
    pub fn doc(&self, doc: &Doc) -> &str {
        self.text[doc.range.clone()].trim()
    }

    /// The code without the items that only tests see, blanked in place.
    pub fn code_outside_tests(&self) -> String {
        let mut code = self.code.clone().into_bytes();
        for range in self.test_items() {
            code[range].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
        }
        String::from_utf8_lossy(&code).into_owned()
    }

    /// The whole file is for tests: `#![cfg(test)]`.
    pub fn is_test_file(&self) -> bool {
        self.code.contains("#![cfg(test)]")
    }

    /// The modules in files of their own that only tests see (`#[cfg(test)] mod name;`).
    pub fn test_modules(&self) -> Vec<&str> {
        let items = self.test_items();
        let modules = items.into_iter().filter_map(|range| {
            let head = self.code[range].trim_end().strip_suffix(';')?;
            let at = find_word(head, "mod").last()?;
            Some(head[at + 3..].trim())
        });
        modules.collect()
    }

    fn test_items(&self) -> Vec<Range<usize>> {
        let mut items = Vec::new();
        for (at, _) in self.code.match_indices("#[cfg(") {
            let Some(end) = closing(&self.code, at + 1) else { continue };
            let condition = &self.code[at + 6..end];
            // `any(test, …)` is compiled into other builds too; `all(test, …)` is not.
            let only_tests = condition.starts_with("test")
                || condition.starts_with("all(") && find_word(condition, "test").next().is_some();
            if only_tests {
                items.push(at..item_after(&self.code, end + 1).end);
            }
        }
        items
    }
}

/// An item, taken apart as far as the checks need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its attributes.
    pub attributes: Vec<Range<usize>>,
    /// From its first word to its body or semicolon.
    pub head: Range<usize>,
    /// Inside its braces, when it has any.
    pub body: Option<Range<usize>>,
    /// Behind its last character.
    pub end: usize,
}

/// The item that begins at or after `from`, behind its attributes.
pub fn item_after(code: &str, from: usize) -> Item {
    let bytes = code.as_bytes();
    let skip = |at: usize| at + code[at..].len() - code[at..].trim_start().len();
    let mut attributes = Vec::new();
    let mut at = skip(from);
    while bytes.get(at) == Some(&b'#') && bytes.get(at + 1) == Some(&b'[') {
        let Some(end) = closing(code, at + 1) else { break };
        attributes.push(at..end + 1);
        at = skip(end + 1);
    }
    let start = at;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'(' | b'[' => at = closing(code, at).unwrap_or(at),
            b'{' => {
                let end = closing(code, at).unwrap_or(code.len());
                let body = Some(at + 1..end);
                let end = (end + 1).min(code.len());
                return Item { attributes, head: start..at, body, end };
            }
            b';' => return Item { attributes, head: start..at, body: None, end: at + 1 },
            _ => {}
        }
        at += 1;
    }
    Item { attributes, head: start..code.len(), body: None, end: code.len() }
}

/// Where the bracket that opens at `open` closes.
pub fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// True for what a name is made of.
pub fn is_ident(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Offsets of `needle` where it is not part of a longer name.
pub fn find_word<'a>(code: &'a str, needle: &'a str) -> impl Iterator<Item = usize> + 'a {
    let first = needle.chars().next().is_some_and(is_ident);
    let last = needle.chars().next_back().is_some_and(is_ident);
    code.match_indices(needle).map(|(at, _)| at).filter(move |&at| {
        let before = code[..at].chars().next_back();
        let after = code[at + needle.len()..].chars().next();
        !(first && before.is_some_and(is_ident) || last && after.is_some_and(is_ident))
    })
}

/// The names in a piece of code.
pub fn names(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c| !is_ident(c)).filter(|name| !name.is_empty())
}
