//! What the words of an expression mean.
//!
//! `and` and `or` bind alike, from the left; `not` binds closest. A value without words of its own has those of the
//! one before it. What is in brackets may be a number or a condition; which, its inside tells.

use super::FilterError;
use super::ast::{Arith, Dir, Expr, Kind, Place, Primitive, Quals, RelOp, Relation, What};
use super::lexer::{Spanned, Token, lex};
use super::names;
use uapi::filter::*;

/// Brackets in brackets, at most.
const MAX_DEPTH: usize = 64;
/// Conditions, values and operators of an expression, at most.
const MAX_TERMS: usize = 1024;

/// A condition, or a number that is yet to be compared.
enum Node {
    Bool(Expr),
    Arith(Arith),
}

pub(super) fn parse(text: &str) -> Result<Option<Expr>, FilterError> {
    let mut parser = Parser {
        tokens: lex(text)?,
        at: 0,
        depth: 0,
        terms: 0,
        tags: 0,
        counting: false,
        last: Quals::default(),
    };
    if *parser.peek() == Token::End {
        return Ok(None);
    }
    let node = parser.expr()?;
    let expr = parser.condition(node)?;
    match parser.peek() {
        Token::End => Ok(Some(expr)),
        Token::Sym(")") => Err(parser.error("no bracket is open here")),
        _ => Err(parser.error("the expression is over here: join conditions by `and` or `or`")),
    }
}

pub(super) struct Parser {
    tokens: Vec<Spanned>,
    at: usize,
    depth: usize,
    terms: usize,
    tags: u32,
    /// Within a number, where a value can't be an address or a port.
    counting: bool,
    last: Quals,
}

impl Parser {
    fn token(&self, ahead: usize) -> &Spanned {
        // The last is the end, and nobody goes beyond it.
        &self.tokens[(self.at + ahead).min(self.tokens.len() - 1)]
    }

    fn peek(&self) -> &Token {
        &self.token(0).0
    }

    fn word(&self) -> Option<&str> {
        match self.peek() {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    fn advance(&mut self) {
        self.at += 1;
    }

    fn takes(&mut self, symbols: &[&str], words: &[&str]) -> bool {
        let is = match self.peek() {
            Token::Sym(symbol) => symbols.contains(symbol),
            Token::Word(word) => words.contains(&word.as_str()),
            _ => false,
        };
        self.at += usize::from(is);
        is
    }

    fn expects(&mut self, symbol: &'static str) -> Result<(), FilterError> {
        if self.takes(&[symbol], &[]) {
            Ok(())
        } else {
            Err(self.error(&format!("{symbol:?} is missing here")))
        }
    }

    fn error(&self, what: &str) -> FilterError {
        FilterError { column: self.token(0).1, what: what.to_owned() }
    }

    fn place(&self) -> Place {
        Place { column: self.token(0).1, tags: self.tags }
    }

    fn condition(&self, node: Node) -> Result<Expr, FilterError> {
        match node {
            Node::Bool(expr) => Ok(expr),
            Node::Arith(_) => {
                Err(self.error("a number says nothing by itself: compare it, as in `len > 100`"))
            }
        }
    }

    fn expr(&mut self) -> Result<Node, FilterError> {
        let mut left = self.term()?;
        loop {
            let and = self.takes(&["&&"], &["and"]);
            if !and && !self.takes(&["||"], &["or"]) {
                return Ok(left);
            }
            let first = self.condition(left)?;
            let right = self.term()?;
            let second = self.condition(right)?;
            let join = if and { Expr::And } else { Expr::Or };
            left = Node::Bool(join(Box::new(first), Box::new(second)));
        }
    }

    /// Goes one bracket, `not` or sign deeper.
    fn deeper<T>(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Result<T, FilterError>,
    ) -> Result<T, FilterError> {
        if self.depth == MAX_DEPTH {
            return Err(
                self.error(&format!("more than {MAX_DEPTH} brackets, signs or `not` are open"))
            );
        }
        self.depth += 1;
        let made = inside(self);
        self.depth -= 1;
        made
    }

    /// One more condition, value or operator: what is made of them is as deep as they are many.
    fn one_more(&mut self) -> Result<(), FilterError> {
        self.terms += 1;
        if self.terms > MAX_TERMS {
            return Err(
                self.error(&format!("more than {MAX_TERMS} conditions, values and operators"))
            );
        }
        Ok(())
    }

    fn term(&mut self) -> Result<Node, FilterError> {
        self.one_more()?;
        if self.takes(&["!"], &["not"]) {
            let node = self.deeper(Self::term)?;
            return Ok(Node::Bool(Expr::Not(Box::new(self.condition(node)?))));
        }
        let column = self.token(0).1;
        let left = match self.unary()? {
            Node::Arith(first) => self.binary(first, 0)?,
            condition => return Ok(condition),
        };
        let Some(op) = self.rel_op() else { return Ok(Node::Arith(left)) };
        self.advance();
        let right = self.arith(0)?;
        Ok(Node::Bool(Expr::Relation(Box::new(Relation { left, op, right, column }))))
    }

    fn rel_op(&self) -> Option<RelOp> {
        Some(match self.peek() {
            Token::Sym("==") => RelOp::Eq,
            Token::Sym("!=") => RelOp::Ne,
            Token::Sym(">") => RelOp::Gt,
            Token::Sym(">=") => RelOp::Ge,
            Token::Sym("<") => RelOp::Lt,
            Token::Sym("<=") => RelOp::Le,
            _ => return None,
        })
    }

    /// Operators that bind closer than `least`.
    fn binary(&mut self, mut left: Arith, least: u8) -> Result<Arith, FilterError> {
        while let Some((code, binds)) = self.operator().filter(|(_, binds)| *binds > least) {
            self.advance();
            self.one_more()?;
            let right = self.arith(binds)?;
            left = Arith::Binary(code, Box::new(left), Box::new(right));
        }
        Ok(left)
    }

    fn operator(&self) -> Option<(u16, u8)> {
        let Token::Sym(symbol) = self.peek() else { return None };
        Some(match *symbol {
            "|" => (BPF_OR, 1),
            "^" => (BPF_XOR, 1),
            "&" => (BPF_AND, 2),
            "<<" => (BPF_LSH, 3),
            ">>" => (BPF_RSH, 3),
            "+" => (BPF_ADD, 4),
            "-" => (BPF_SUB, 4),
            "*" => (BPF_MUL, 5),
            "/" => (BPF_DIV, 5),
            "%" => (BPF_MOD, 5),
            _ => return None,
        })
    }

    fn arith(&mut self, least: u8) -> Result<Arith, FilterError> {
        let outer = std::mem::replace(&mut self.counting, true);
        let made = match self.unary()? {
            Node::Arith(first) => self.binary(first, least),
            Node::Bool(_) => Err(self.error("a number was wanted before this")),
        };
        self.counting = outer;
        made
    }

    fn unary(&mut self) -> Result<Node, FilterError> {
        let at = self.place();
        if self.takes(&["("], &[]) {
            let node = self.deeper(Self::expr)?;
            self.expects(")")?;
            return Ok(node);
        }
        if self.takes(&["-"], &[]) {
            let node = self.deeper(Self::unary)?;
            let Node::Arith(of) = node else {
                return Err(self.error("a number was wanted before this"));
            };
            return Ok(Node::Arith(Arith::Neg(Box::new(of))));
        }
        if let Token::Num(n) = *self.peek() {
            let compared = matches!(self.token(1).0, Token::Sym(s) if !matches!(s, ")" | "&&" | "||" | "(" | "["))
                || self.counting
                || self.last.kind.is_none();
            if compared {
                self.advance();
                return Ok(Node::Arith(Arith::Num(n)));
            }
        }
        let Some(word) = self.word().map(str::to_owned) else {
            return self.id(self.last).map(Node::Bool);
        };
        if word == "len" {
            self.advance();
            return Ok(Node::Arith(Arith::Len));
        }
        if let Some(n) = names::number(&word) {
            self.advance();
            return Ok(Node::Arith(Arith::Num(n)));
        }
        match names::proto(&word) {
            Some(proto) if self.token(1).0 == Token::Sym("[") => {
                self.at += 2;
                let offset = Box::new(self.deeper(|this| this.arith(0))?);
                let size = if self.takes(&[":"], &[]) { self.size()? } else { 1 };
                self.expects("]")?;
                Ok(Node::Arith(Arith::Load { proto, offset, size, at }))
            }
            _ => self.primitive().map(Node::Bool),
        }
    }

    fn size(&mut self) -> Result<u8, FilterError> {
        match *self.peek() {
            Token::Num(n @ (1 | 2 | 4)) => {
                self.advance();
                Ok(n as u8)
            }
            _ => Err(self.error("1, 2 or 4 octets can be taken")),
        }
    }

    fn number(&mut self) -> Result<u32, FilterError> {
        match *self.peek() {
            Token::Num(n) => {
                self.advance();
                Ok(n)
            }
            _ => Err(self.error("a number was wanted here")),
        }
    }

    /// Words, and the values behind them.
    fn primitive(&mut self) -> Result<Expr, FilterError> {
        let at = self.place();
        let mut quals = Quals { proto: self.word().and_then(names::proto), ..Quals::default() };
        self.at += usize::from(quals.proto.is_some());
        quals.dir = self.dir();
        let word = self.word().unwrap_or_default().to_owned();
        quals.kind = match word.as_str() {
            "host" => Some(Kind::Host),
            "net" => Some(Kind::Net),
            "port" => Some(Kind::Port),
            "portrange" => Some(Kind::PortRange),
            "proto" => Some(Kind::Proto),
            _ => None,
        };
        if quals.kind.is_some() {
            self.advance();
            self.last = quals;
            return self.ids(quals);
        }
        if let Some(expr) = self.without_value(&word, at, quals)? {
            return Ok(expr);
        }
        if quals.dir != Dir::Either || quals.proto.is_none() {
            // An address alone is a host's.
            quals.kind = Some(Kind::Host);
            self.last = quals;
            return self.ids(quals);
        }
        Ok(Expr::Is(Primitive { quals, what: What::Proto, at }))
    }

    /// `src`, `dst`, or both with a word between.
    fn dir(&mut self) -> Dir {
        let side = |word: Option<&Token>| match word {
            Some(Token::Word(word)) if word == "src" => Some(Dir::Src),
            Some(Token::Word(word)) if word == "dst" => Some(Dir::Dst),
            _ => None,
        };
        let Some(first) = side(Some(self.peek())) else { return Dir::Either };
        self.advance();
        let joined = match self.peek() {
            Token::Word(word) if word == "or" => Dir::Either,
            Token::Word(word) if word == "and" => Dir::Both,
            Token::Sym("||") => Dir::Either,
            Token::Sym("&&") => Dir::Both,
            _ => return first,
        };
        match side(Some(&self.token(1).0)) {
            Some(second) if second != first => {
                self.at += 2;
                joined
            }
            _ => first,
        }
    }

    /// What is said by a word alone, or with a number.
    fn without_value(
        &mut self,
        word: &str,
        at: Place,
        quals: Quals,
    ) -> Result<Option<Expr>, FilterError> {
        let is = |what| Expr::Is(Primitive { quals, what, at });
        let than = |op, n| {
            let relation =
                Relation { left: Arith::Len, op, right: Arith::Num(n), column: at.column };
            Expr::Relation(Box::new(relation))
        };
        let made = match word {
            "broadcast" => is(What::Broadcast),
            "multicast" => is(What::Multicast),
            "inbound" => is(What::Inbound),
            "outbound" => is(What::Outbound),
            "less" | "greater" => {
                self.advance();
                let op = if word == "less" { RelOp::Le } else { RelOp::Ge };
                return Ok(Some(than(op, self.number()?)));
            }
            "vlan" => {
                self.advance();
                let tag = if let Token::Num(_) = self.peek() { Some(self.number()?) } else { None };
                // All that follows lies behind the tag.
                self.tags += 4;
                return Ok(Some(is(What::Vlan(tag))));
            }
            "protochain" => {
                return Err(self.error("`protochain` needs a loop, which a filter has not"));
            }
            "gateway" => {
                return Err(
                    self.error("`gateway` needs names of hosts: write `ether host` and `not host`")
                );
            }
            "mpls" | "pppoed" | "pppoes" | "geneve" | "vxlan" | "iso" | "stp" | "ipx"
            | "netbeui" | "atalk" | "decnet" | "lat" | "aarp" | "mopdl" | "moprc" | "sca"
            | "wlan" | "lane" | "ifname" | "on" => {
                let what =
                    format!("{word:?} is not supported: ask for octets, as `ether[12:2] = 0x8847`");
                return Err(self.error(&what));
            }
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some(made))
    }

    /// A value, or several in brackets.
    fn ids(&mut self, quals: Quals) -> Result<Expr, FilterError> {
        if !self.takes(&["("], &[]) {
            return self.id(quals);
        }
        let made = self.deeper(|this| {
            let mut left = this.negated_ids(quals)?;
            loop {
                let and = this.takes(&["&&"], &["and"]);
                if !and && !this.takes(&["||"], &["or"]) {
                    return Ok(left);
                }
                let right = this.negated_ids(quals)?;
                left = (if and { Expr::And } else { Expr::Or })(Box::new(left), Box::new(right));
            }
        })?;
        self.expects(")")?;
        Ok(made)
    }

    fn negated_ids(&mut self, quals: Quals) -> Result<Expr, FilterError> {
        self.one_more()?;
        if self.takes(&["!"], &["not"]) {
            return Ok(Expr::Not(Box::new(self.deeper(|this| this.ids(quals))?)));
        }
        self.ids(quals)
    }

    /// A value.
    fn id(&mut self, quals: Quals) -> Result<Expr, FilterError> {
        let at = self.place();
        let what = match quals.kind.unwrap_or(Kind::Host) {
            Kind::Host => self.host()?,
            Kind::Net => self.net()?,
            Kind::Port => {
                let port = self.port()?;
                What::Ports(port, port)
            }
            Kind::PortRange => {
                let first = self.port()?;
                let last = if self.takes(&["-"], &[]) { self.port()? } else { first };
                What::Ports(first.min(last), first.max(last))
            }
            Kind::Proto => self.proto(quals)?,
        };
        let quals = Quals { kind: Some(quals.kind.unwrap_or(Kind::Host)), ..quals };
        Ok(Expr::Is(Primitive { quals, what, at }))
    }

    fn host(&mut self) -> Result<What, FilterError> {
        let what = match self.peek() {
            Token::Dotted(addr, 4) => What::Host(*addr),
            Token::Ip6(addr) => What::Host6(*addr),
            Token::Mac(mac) => What::Mac(*mac),
            Token::Word(word) => {
                let what = format!(
                    "{word:?} is no word of the language, and names of hosts are not looked up: write an address"
                );
                return Err(self.error(&what));
            }
            Token::End => {
                return Err(self.error(
                    "the expression ends where an address, a port or a protocol was wanted",
                ));
            }
            _ => return Err(self.error("an address was wanted here, as 192.0.2.1")),
        };
        self.advance();
        Ok(what)
    }

    fn net(&mut self) -> Result<What, FilterError> {
        let (addr, octets) = match *self.peek() {
            Token::Dotted(addr, octets) => (addr, octets),
            Token::Num(n @ 0..=255) => (n << 24, 1),
            Token::Ip6(addr) => {
                self.advance();
                let len = if self.takes(&["/"], &[]) { self.prefix(128)? } else { 128 };
                let mask = u128::MAX.checked_shl(128 - len).unwrap_or(0);
                if addr.to_bits() & !mask != 0 {
                    return Err(self.error("the network's address has bits beyond its prefix"));
                }
                return Ok(What::Net6(addr, len));
            }
            _ => return Err(self.error("a network was wanted here, as 192.0.2.0/24")),
        };
        self.advance();
        let mask = if self.takes(&["/"], &[]) {
            u32::MAX.checked_shl(32 - self.prefix(32)?).unwrap_or(0)
        } else if self.takes(&[], &["mask"]) {
            let Token::Dotted(mask, _) = *self.peek() else {
                return Err(self.error("a mask was wanted here"));
            };
            self.advance();
            mask
        } else {
            u32::MAX << (32 - 8 * u32::from(octets))
        };
        if addr & !mask != 0 {
            return Err(self.error("the network's address has bits beyond its mask"));
        }
        Ok(What::Net(addr, mask))
    }

    fn prefix(&mut self, most: u32) -> Result<u32, FilterError> {
        match *self.peek() {
            Token::Num(n) if n <= most => self.number(),
            _ => Err(self.error(&format!("a prefix has 0 to {most} bits"))),
        }
    }

    fn port(&mut self) -> Result<u16, FilterError> {
        let port = match self.peek() {
            Token::Num(n) => u16::try_from(*n).map_err(|_| self.error("ports go to 65535"))?,
            Token::Word(word) => names::service(word).ok_or_else(|| {
                self.error(&format!("{word:?} is no service known here: write its port"))
            })?,
            _ => return Err(self.error("a port was wanted here")),
        };
        self.advance();
        Ok(port)
    }

    fn proto(&mut self, quals: Quals) -> Result<What, FilterError> {
        use super::ast::Proto;
        let number = match self.peek() {
            Token::Num(n) => *n,
            Token::Word(word) => {
                let of_links = matches!(quals.proto, Some(Proto::Ether));
                let known = if of_links {
                    names::link_type(word).map(u32::from)
                } else {
                    names::ip_proto(word).map(u32::from)
                };
                known.ok_or_else(|| {
                    self.error(&format!("{word:?} is no protocol known here: write its number"))
                })?
            }
            _ => return Err(self.error("a protocol's number or name was wanted here")),
        };
        self.advance();
        Ok(What::Number(number))
    }
}
