//! Tells code from comments and strings, nothing more.
//!
//! Invariant: only whole characters are blanked, so the result is text of the same length.

use super::Doc;

struct Lexer<'a> {
    text: &'a str,
    code: Vec<u8>,
    docs: Vec<Doc>,
    at: usize,
}

/// `text` with comments and the insides of literals blanked, and its doc lines.
pub fn split(text: &str) -> (String, Vec<Doc>) {
    let mut lexer = Lexer { text, code: text.as_bytes().to_vec(), docs: Vec::new(), at: 0 };
    while lexer.at < text.len() {
        lexer.step();
    }
    (String::from_utf8_lossy(&lexer.code).into_owned(), lexer.docs)
}

impl Lexer<'_> {
    fn rest(&self) -> &[u8] {
        &self.text.as_bytes()[self.at..]
    }

    fn step(&mut self) {
        let rest = self.rest();
        match rest[0] {
            b'/' if rest.starts_with(b"//") => self.line_comment(),
            b'/' if rest.starts_with(b"/*") => self.block_comment(),
            b'"' => self.string(1),
            b'\'' => self.quote(),
            byte if byte.is_ascii_alphabetic() || byte == b'_' => self.word(),
            _ => self.at += 1,
        }
    }

    /// Blanks up to `end`, line breaks excepted, and goes on there.
    fn blank_to(&mut self, end: usize) {
        let end = end.min(self.text.len());
        let range = self.at.min(end)..end;
        self.code[range].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        self.at = end;
    }

    fn line_comment(&mut self) {
        let rest = self.rest();
        let len = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
        let inner = rest.starts_with(b"//!");
        if inner || rest.starts_with(b"///") && !rest.starts_with(b"////") {
            self.docs.push(Doc { range: self.at + 3..self.at + len, inner });
        }
        self.blank_to(self.at + len);
    }

    fn block_comment(&mut self) {
        let rest = self.rest();
        let (mut depth, mut len) = (0_usize, 0);
        while len < rest.len() {
            match &rest[len..] {
                [b'/', b'*', ..] => {
                    depth += 1;
                    len += 2;
                }
                [b'*', b'/', ..] => {
                    depth -= 1;
                    len += 2;
                }
                _ => len += 1,
            }
            if depth == 0 {
                break;
            }
        }
        self.blank_to(self.at + len);
    }

    /// A string whose content begins `open` bytes ahead; the quotes stay.
    fn string(&mut self, open: usize) {
        self.at += open;
        let rest = self.rest();
        let mut len = 0;
        while len < rest.len() && rest[len] != b'"' {
            len += if rest[len] == b'\\' { 2 } else { 1 };
        }
        self.blank_to(self.at + len);
        self.at += 1;
    }

    /// A character, or a lifetime or label.
    fn quote(&mut self) {
        let mut chars = self.text[self.at + 1..].char_indices();
        let first = chars.next().map_or(' ', |(_, c)| c);
        let second = chars.next();
        if first == '\\' {
            self.at += 1;
            let rest = self.rest();
            let mut len = 2;
            while len < rest.len() && rest[len] != b'\'' {
                len += 1;
            }
            self.blank_to(self.at + len);
            self.at += 1;
        } else if let Some((len, '\'')) = second {
            self.at += 1;
            self.blank_to(self.at + len);
            self.at += 1;
        } else {
            self.at += 1;
        }
    }

    /// A name, or what stands before a raw or byte string.
    fn word(&mut self) {
        let rest = self.rest();
        let name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_' || *b >= 0x80;
        let len = rest.iter().position(|b| !name(b)).unwrap_or(rest.len());
        let prefix = &rest[..len];
        let hashes = rest[len..].iter().take_while(|b| **b == b'#').count();
        let quoted = rest.get(len + hashes) == Some(&b'"');
        if quoted && matches!(prefix, b"r" | b"br" | b"cr") {
            self.raw_string(len + hashes + 1, hashes);
        } else if quoted && hashes == 0 && matches!(prefix, b"b" | b"c") {
            self.string(len + 1);
        } else {
            self.at += len;
        }
    }

    fn raw_string(&mut self, open: usize, hashes: usize) {
        self.at += open;
        let end = format!("\"{}", "#".repeat(hashes));
        let len = self.text[self.at..].find(&end).unwrap_or(self.text.len() - self.at);
        self.blank_to(self.at + len);
        self.at += end.len();
    }
}
