//! Text into tokens. Contexts: any. Invariant: any text gives tokens or an error with its place;
//! nothing panics.

use super::{ParseError, Pos};

/// What a token is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Letters, digits, `_`; also a number too long to be one.
    Word(String),
    /// A whole number; `text` has its digits.
    Int {
        /// The value.
        value: i64,
        /// As written.
        text: String,
        /// Written with `0x`.
        hex: bool,
    },
    /// A number with a point.
    Float(f64),
    /// Four numbers and three points.
    Addr(String),
    /// `"…"`, unescaped.
    Str(Vec<u8>),
    /// What stands between backquotes.
    Command(String),
    /// What stands between `%{` and `}%`.
    Code(String),
    /// `--name` or `--name=value`.
    Option(String, Option<String>),
    /// `...`
    Ellipsis,
    /// Any other character.
    Sign(char),
    /// The end of the file.
    End,
}

impl Kind {
    /// In words, for errors.
    pub fn show(&self) -> String {
        match self {
            Self::Word(word) => format!("`{word}`"),
            Self::Int { text, .. } => format!("the number {text}"),
            Self::Float(value) => format!("the number {value}"),
            Self::Addr(text) => format!("the address {text}"),
            Self::Str(_) => "a string".to_owned(),
            Self::Command(_) => "a command in backquotes".to_owned(),
            Self::Code(_) => "code in %{ }%".to_owned(),
            Self::Option(name, _) => format!("the option --{name}"),
            Self::Ellipsis => "`...`".to_owned(),
            Self::Sign(sign) => format!("`{sign}`"),
            Self::End => "the end of the script".to_owned(),
        }
    }
}

/// A token and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// Where it begins.
    pub pos: Pos,
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    pos: Pos,
}

/// The tokens of a script; the last one is [`Kind::End`].
///
/// # Errors
/// What is not closed, with its place.
pub fn tokens(text: &str) -> Result<Vec<Token>, ParseError> {
    let mut lexer = Lexer { rest: text.chars().peekable(), pos: Pos { line: 1, column: 1 } };
    let mut all = Vec::new();
    loop {
        lexer.blank()?;
        let pos = lexer.pos;
        let kind = lexer.token()?;
        let end = kind == Kind::End;
        all.push(Token { kind, pos });
        if end {
            return Ok(all);
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl Lexer<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest.peek().copied()
    }

    /// The character behind the next one.
    fn second(&self) -> Option<char> {
        self.rest.clone().nth(1)
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.next()?;
        if c == '\n' {
            self.pos = Pos { line: self.pos.line + 1, column: 1 };
        } else {
            self.pos.column += 1;
        }
        Some(c)
    }

    fn while_in(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let mut text = String::new();
        while let Some(c) = self.peek().filter(|c| belongs(*c)) {
            text.push(c);
            self.next();
        }
        text
    }

    fn error(pos: Pos, what: impl Into<String>) -> ParseError {
        ParseError { pos, what: what.into() }
    }

    /// Passes blanks and comments.
    fn blank(&mut self) -> Result<(), ParseError> {
        loop {
            match (self.peek(), self.second()) {
                (Some(c), _) if c.is_whitespace() => drop(self.next()),
                (Some('#'), _) | (Some('/'), Some('/')) => drop(self.while_in(|c| c != '\n')),
                (Some('/'), Some('*')) => {
                    let begin = self.pos;
                    self.next();
                    self.next();
                    self.until("*/").ok_or_else(|| {
                        Self::error(begin, "a comment begins here and does not end: write */")
                    })?;
                }
                _ => return Ok(()),
            }
        }
    }

    /// What stands before `end`, which is passed.
    fn until(&mut self, end: &str) -> Option<String> {
        let mut text = String::new();
        while let Some(c) = self.next() {
            text.push(c);
            if text.ends_with(end) {
                text.truncate(text.len() - end.len());
                return Some(text);
            }
        }
        None
    }

    fn token(&mut self) -> Result<Kind, ParseError> {
        let begin = self.pos;
        let Some(first) = self.peek() else { return Ok(Kind::End) };
        let second = self.second();
        let digit_next = second.is_some_and(|c| c.is_ascii_digit());
        match first {
            c if c.is_ascii_digit() => self.number(begin),
            '.' if digit_next => self.number(begin),
            '-' if digit_next => {
                self.next();
                Ok(match self.number(begin)? {
                    Kind::Int { value, text, hex } => {
                        Kind::Int { value: value.wrapping_neg(), text: format!("-{text}"), hex }
                    }
                    Kind::Float(value) => Kind::Float(-value),
                    other => other,
                })
            }
            '-' if second == Some('-') => self.option(begin),
            c if is_word(c) => Ok(Kind::Word(self.while_in(is_word))),
            '.' if self.rest.clone().take(3).eq("...".chars()) => {
                for _ in 0..3 {
                    self.next();
                }
                Ok(Kind::Ellipsis)
            }
            '"' => self.string(begin),
            '`' => {
                self.next();
                let text = self.until("`");
                text.map(Kind::Command).ok_or_else(|| {
                    Self::error(begin, "a command begins here and does not end: write `")
                })
            }
            '%' if second == Some('{') => {
                self.next();
                self.next();
                let text = self.until("}%");
                text.map(Kind::Code).ok_or_else(|| {
                    Self::error(begin, "code begins here and does not end: write }%")
                })
            }
            sign => {
                self.next();
                Ok(Kind::Sign(sign))
            }
        }
    }

    fn number(&mut self, begin: Pos) -> Result<Kind, ParseError> {
        let mut text = self.while_in(is_word);
        if let Some(digits) = text.strip_prefix("0x")
            && let Ok(value) = i64::from_str_radix(digits, 16)
        {
            return Ok(Kind::Int { value, text, hex: true });
        }
        if !text.chars().all(|c| c.is_ascii_digit()) {
            return Ok(Kind::Word(text));
        }
        let mut points = 0;
        while self.peek() == Some('.') && self.second().is_some_and(|c| c.is_ascii_digit()) {
            self.next();
            points += 1;
            text.push('.');
            text += &self.while_in(|c| c.is_ascii_digit());
        }
        match points {
            0 => Ok(match text.parse() {
                Ok(value) => Kind::Int { value, text, hex: false },
                // Digits of a cookie or digest.
                Err(_) => Kind::Word(text),
            }),
            1 => {
                let value = format!("0{text}").parse();
                value.map(Kind::Float).map_err(|_| Self::error(begin, format!("{text}: no number")))
            }
            3 => Ok(Kind::Addr(text)),
            _ => Err(Self::error(begin, format!("{text} is neither a number nor an address"))),
        }
    }

    fn option(&mut self, begin: Pos) -> Result<Kind, ParseError> {
        self.next();
        self.next();
        let name = self.while_in(is_word);
        if name.is_empty() {
            return Err(Self::error(begin, "an option's name is missing behind --"));
        }
        if self.peek() != Some('=') {
            return Ok(Kind::Option(name, None));
        }
        self.next();
        let mut value = String::new();
        let mut quote = None;
        while let Some(c) = self.peek().filter(|c| quote.is_some() || !c.is_whitespace()) {
            match quote {
                None if c == '"' || c == '`' => quote = Some(c),
                Some(open) if open == c => quote = None,
                _ => {}
            }
            value.push(c);
            self.next();
        }
        if quote.is_some() {
            return Err(Self::error(begin, format!("the value of --{name} is not closed")));
        }
        Ok(Kind::Option(name, Some(value)))
    }

    fn string(&mut self, begin: Pos) -> Result<Kind, ParseError> {
        self.next();
        let mut bytes = Vec::new();
        loop {
            let open = || Self::error(begin, "a string begins here and does not end: write \"");
            match self.next().ok_or_else(open)? {
                '"' => return Ok(Kind::Str(bytes)),
                '\\' => bytes.push(self.escaped(begin)?),
                c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    fn escaped(&mut self, begin: Pos) -> Result<u8, ParseError> {
        let c = self.next().ok_or_else(|| Self::error(begin, "the string ends in a backslash"))?;
        Ok(match c {
            'n' => b'\n',
            't' => b'\t',
            'r' => b'\r',
            '0' => 0,
            '"' => b'"',
            '\\' => b'\\',
            'x' => {
                let digits: String = [self.next(), self.next()].into_iter().flatten().collect();
                u8::from_str_radix(&digits, 16)
                    .map_err(|_| Self::error(begin, format!("\\x{digits}: write two hex digits")))?
            }
            other => {
                let what = format!("\\{other} is no escape: \\n \\t \\r \\0 \\\" \\\\ \\xHH are");
                return Err(Self::error(begin, what));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> Vec<Kind> {
        let mut all: Vec<Kind> = tokens(text).unwrap().into_iter().map(|t| t.kind).collect();
        assert_eq!(all.pop(), Some(Kind::End));
        all
    }

    fn int(value: i64) -> Kind {
        let text = value.to_string();
        Kind::Int { value, text, hex: false }
    }

    #[test]
    fn a_point_belongs_to_a_number_only_before_a_digit() {
        let dots = [int(0), Kind::Ellipsis, Kind::Float(0.2)];
        assert_eq!(kinds("0...0.2"), dots);
        assert_eq!(kinds("0...0.2 // comment\n# other\n/* and\nthis */"), dots);
        assert_eq!(kinds(".5"), [Kind::Float(0.5)]);
        assert_eq!(kinds("P."), [Kind::Word("P".into()), Kind::Sign('.')]);
        assert_eq!(kinds("192.0.2.1"), [Kind::Addr("192.0.2.1".into())]);
        assert_eq!(kinds("-1"), [int(-1)]);
    }

    #[test]
    fn digits_of_a_cookie_are_a_word() {
        assert_eq!(kinds("00a1"), [Kind::Word("00a1".into())]);
        let long = "1".repeat(32);
        assert_eq!(kinds(&long), [Kind::Word(long)]);
    }

    #[test]
    fn what_is_not_closed_is_said_with_its_place() {
        for text in ["\n  \"a", "\n  `a", "\n  %{ a", "\n  /* a", "\n  --a=\"b"] {
            let error = tokens(text).unwrap_err();
            assert_eq!(error.pos, Pos { line: 2, column: 3 }, "{text}: {}", error.what);
        }
        assert!(tokens("1.2.3").is_err() && tokens("\"\\q\"").is_err());
    }

    #[test]
    fn options_and_strings() {
        assert_eq!(
            kinds("--mtu=1500 --x=\"a b\" --y"),
            [
                Kind::Option("mtu".into(), Some("1500".into())),
                Kind::Option("x".into(), Some("\"a b\"".into())),
                Kind::Option("y".into(), None)
            ]
        );
        assert_eq!(kinds(r#""a\n\x41""#), [Kind::Str(b"a\nA".to_vec())]);
    }
}
