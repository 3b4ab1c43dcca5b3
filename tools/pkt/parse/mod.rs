//! The language: text into a [`Script`].
//!
//! Key types: [`Script`], [`ParseError`]. Parts: `lexer`, `script` (the values), `packet` (packets),
//! `call` (calls and expressions). Contexts: any. Invariants: any text gives a script or an error with
//! its place, what was expected and what was seen; nothing is skipped.

mod call;
pub mod lexer;
mod packet;
pub mod script;

pub(crate) use packet::{FLAGS, icmp_name};

use crate::code::Program;
use lexer::{Kind, Token, tokens};
use script::{Action, Dir, Event, Script, Time, Us};

/// A place in a script, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pos {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

/// Why a script can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Where.
    pub pos: Pos,
    /// What is wrong.
    pub what: String,
}

type Parsed<T> = Result<T, ParseError>;

/// Reads a script.
///
/// # Errors
/// The first thing that is not of the language.
pub fn parse(text: &str) -> Parsed<Script> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    parser.script()
}

/// Expressions within expressions at most: a bound on the stack.
const DEPTH: u32 = 64;

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: u32,
}

impl Parser {
    fn token(&self) -> &Token {
        // The last token is the end, which is never passed.
        &self.tokens[self.at.min(self.tokens.len() - 1)]
    }

    fn kind(&self) -> &Kind {
        &self.token().kind
    }

    fn ahead(&self, by: usize) -> &Kind {
        &self.tokens[(self.at + by).min(self.tokens.len() - 1)].kind
    }

    fn pos(&self) -> Pos {
        self.token().pos
    }

    fn pass(&mut self) {
        self.at += 1;
    }

    fn error<T>(&self, what: impl Into<String>) -> Parsed<T> {
        Err(ParseError { pos: self.pos(), what: what.into() })
    }

    fn expected<T>(&self, what: &str) -> Parsed<T> {
        self.error(format!("expected {what}, found {}", self.kind().show()))
    }

    fn is_sign(&self, sign: char) -> bool {
        *self.kind() == Kind::Sign(sign)
    }

    fn take_sign(&mut self, sign: char) -> bool {
        let there = self.is_sign(sign);
        if there {
            self.pass();
        }
        there
    }

    fn sign(&mut self, sign: char) -> Parsed<()> {
        if self.take_sign(sign) { Ok(()) } else { self.expected(&format!("`{sign}`")) }
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.kind(), Kind::Word(found) if found == word)
    }

    fn take_word(&mut self, word: &str) -> bool {
        let there = self.is_word(word);
        if there {
            self.pass();
        }
        there
    }

    fn word(&mut self, what: &str) -> Parsed<String> {
        match self.kind().clone() {
            Kind::Word(word) => {
                self.pass();
                Ok(word)
            }
            _ => self.expected(what),
        }
    }

    /// A number that fits.
    fn number<T: TryFrom<i64>>(&mut self, what: &str) -> Parsed<T> {
        let Kind::Int { value, .. } = *self.kind() else { return self.expected(what) };
        let Ok(number) = T::try_from(value) else {
            let most = (1_u128 << (size_of::<T>() * 8)) - 1;
            return self.error(format!("{value} is out of range: {what} is at most {most}"));
        };
        self.pass();
        Ok(number)
    }

    fn script(&mut self) -> Parsed<Script> {
        let mut script = Script {
            options: Vec::new(),
            init: Vec::new(),
            events: Vec::new(),
            cleanup: Vec::new(),
        };
        loop {
            let pos = self.pos();
            match self.kind().clone() {
                Kind::Option(name, value) => {
                    if !script.events.is_empty() || !script.init.is_empty() {
                        return self.error(format!(
                            "--{name} stands behind what it is for: options come first"
                        ));
                    }
                    self.pass();
                    match (name.as_str(), value) {
                        ("define", Some(value)) => self.define(&value, pos)?,
                        (_, value) => script.options.push((name, value, pos)),
                    }
                }
                Kind::Command(command) => {
                    self.pass();
                    let commands = if script.events.is_empty() {
                        &mut script.init
                    } else {
                        &mut script.cleanup
                    };
                    commands.push((command, pos));
                }
                Kind::End => break,
                _ if !script.cleanup.is_empty() => {
                    return self.expected("the end: a command without a time ends the script");
                }
                _ => {
                    let event = self.event()?;
                    script.events.push(event);
                }
            }
        }
        if script.events.is_empty() {
            return self.error("nothing happens: a script has at least one event");
        }
        Ok(script)
    }

    /// `--define=NAME=VALUE`: from here on the name stands for a word, a number, a `"string"` or a
    /// `` `command` ``.
    fn define(&mut self, definition: &str, pos: Pos) -> Parsed<()> {
        let wrong = |what: String| ParseError { pos, what };
        let (name, value) = definition
            .split_once('=')
            .ok_or_else(|| wrong(format!("--define={definition}: write --define=NAME=VALUE")))?;
        let meaning = match &tokens(value)?[..] {
            [one, _end] => one.kind.clone(),
            _ => {
                return Err(wrong(format!(
                    "--define={definition}: the value is one word or string"
                )));
            }
        };
        for token in &mut self.tokens[self.at..] {
            if matches!(&token.kind, Kind::Word(word) if word == name) {
                token.kind = meaning.clone();
            }
        }
        Ok(())
    }

    fn event(&mut self) -> Parsed<Event> {
        let pos = self.pos();
        let time = self.time()?;
        let action = match self.kind().clone() {
            Kind::Sign('<') => Action::Packet(self.packet(Dir::In)?),
            Kind::Sign('>') => Action::Packet(self.packet(Dir::Out)?),
            Kind::Word(_) | Kind::Ellipsis => Action::Call(self.call()?),
            Kind::Command(command) => {
                self.pass();
                Action::Command(command)
            }
            Kind::Code(code) => {
                let program = Program::parse(&code).map_err(|what| ParseError { pos, what })?;
                self.pass();
                Action::Code(program)
            }
            _ => return self.expected("`<`, `>`, a system call, a command or %{ code }%"),
        };
        let outbound = matches!(&action, Action::Packet(packet) if packet.dir == Dir::Out);
        if !outbound && !matches!(time, Time::Absolute(_) | Time::Relative(_)) {
            let what = "`*` and ranges of time are for packets that go out".to_owned();
            return Err(ParseError { pos, what });
        }
        Ok(Event { pos, time, action })
    }

    fn time(&mut self) -> Parsed<Time> {
        if self.take_sign('*') {
            return Ok(Time::Any);
        }
        let relative = self.take_sign('+');
        let begin = self.seconds()?;
        if !self.take_sign('~') {
            return Ok(if relative { Time::Relative(begin) } else { Time::Absolute(begin) });
        }
        if relative {
            self.sign('+')?;
        }
        let end = self.seconds()?;
        if end < begin {
            return self.error("the range of time ends before it begins");
        }
        Ok(if relative { Time::RelativeRange(begin, end) } else { Time::AbsoluteRange(begin, end) })
    }

    /// A time in seconds, as microseconds; at most a day.
    fn seconds(&mut self) -> Parsed<Us> {
        const LONGEST: f64 = 86_400.0;
        let seconds = match *self.kind() {
            Kind::Float(seconds) => seconds,
            Kind::Int { value, .. } => value as f64,
            _ => return self.expected("a time in seconds"),
        };
        if !(0.0..=LONGEST).contains(&seconds) {
            return self.error(format!("{seconds} s: a time is from 0 to {LONGEST} s"));
        }
        self.pass();
        Ok((seconds * 1e6).round() as Us)
    }
}

#[cfg(test)]
mod tests;
