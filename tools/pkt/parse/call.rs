//! System calls and expressions of the language.

use super::lexer::Kind;
use super::script::{CallSpec, Expr};
use super::{DEPTH, Parsed, Parser};

impl Parser {
    /// A call: when it is to have ended, name, arguments, result.
    pub(super) fn call(&mut self) -> Parsed<CallSpec> {
        let mut end = None;
        if *self.kind() == Kind::Ellipsis {
            self.pass();
            self.take_sign('+');
            end = Some(self.seconds()?);
        }
        let name = self.word("the name of a system call")?;
        self.sign('(')?;
        let args = self.list(')')?;
        self.sign('=')?;
        let ret = self.expr()?;
        let errno = match self.kind().clone() {
            Kind::Word(word) if word.starts_with('E') && *self.ahead(1) == Kind::Sign('(') => {
                self.pass();
                Some(word)
            }
            _ => None,
        };
        if self.is_sign('(') {
            self.note()?;
        }
        Ok(CallSpec { name, args, ret, errno, end })
    }

    /// `(Resource temporarily unavailable)`: for readers.
    fn note(&mut self) -> Parsed<()> {
        while !self.is_sign(')') {
            if *self.kind() == Kind::End {
                return self.expected("`)`");
            }
            self.pass();
        }
        self.sign(')')
    }

    /// Expressions with commas between, and the sign that ends them.
    fn list(&mut self, end: char) -> Parsed<Vec<Expr>> {
        let mut list = Vec::new();
        if self.take_sign(end) {
            return Ok(list);
        }
        loop {
            list.push(self.expr()?);
            if self.take_sign(end) {
                return Ok(list);
            }
            if !self.take_sign(',') {
                return self.expected(&format!("`,` or `{end}`"));
            }
        }
    }

    fn expr(&mut self) -> Parsed<Expr> {
        self.depth += 1;
        if self.depth > DEPTH {
            return self.error(format!("more than {DEPTH} expressions within each other"));
        }
        let first = self.operand()?;
        let mut all = vec![first];
        while self.take_sign('|') {
            all.push(self.operand()?);
        }
        self.depth -= 1;
        Ok(if all.len() == 1 { all.remove(0) } else { Expr::Or(all) })
    }

    fn operand(&mut self) -> Parsed<Expr> {
        let expr = match self.kind().clone() {
            Kind::Ellipsis => Expr::Any,
            Kind::Int { value, .. } => Expr::Int(value),
            Kind::Str(bytes) => {
                self.pass();
                return Ok(Expr::Str(self.more_string(bytes)));
            }
            Kind::Word(word) if *self.ahead(1) == Kind::Sign('(') => {
                self.pass();
                self.pass();
                return Ok(Expr::Apply(word, self.list(')')?));
            }
            Kind::Word(word) => Expr::Word(word),
            Kind::Sign('[') => {
                self.pass();
                return Ok(Expr::List(self.list(']')?));
            }
            Kind::Sign('{') => return self.braces(),
            Kind::Sign('(') => {
                self.pass();
                let inner = self.expr()?;
                self.sign(')')?;
                return Ok(inner);
            }
            _ => return self.expected("an expression"),
        };
        self.pass();
        Ok(expr)
    }

    /// Strings one behind the other are one; `"abc"...` begins with it.
    fn more_string(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        while let Kind::Str(more) = self.kind().clone() {
            bytes.extend(more);
            self.pass();
        }
        if *self.kind() == Kind::Ellipsis {
            self.pass();
        }
        bytes
    }

    /// `{a=1, …}` or `{1, …}`
    fn braces(&mut self) -> Parsed<Expr> {
        self.sign('{')?;
        let is_field = |parser: &Self| {
            matches!(parser.kind(), Kind::Word(_))
                && (*parser.ahead(1) == Kind::Sign('=') || parser.is_counted_field())
        };
        if !is_field(self) {
            return Ok(Expr::Tuple(self.list('}')?));
        }
        let mut fields = Vec::new();
        loop {
            let name = self.word("the name of a field")?;
            let mut count = None;
            if self.take_sign('(') {
                count = Some(self.expr()?);
                self.sign(')')?;
            }
            self.sign('=')?;
            fields.push((name, count, self.expr()?));
            if self.take_sign('}') {
                return Ok(Expr::Struct(fields));
            }
            if !self.take_sign(',') {
                return self.expected("`,` or `}`");
            }
        }
    }

    /// `msg_iov(1)=`
    fn is_counted_field(&self) -> bool {
        *self.ahead(1) == Kind::Sign('(')
            && *self.ahead(3) == Kind::Sign(')')
            && *self.ahead(4) == Kind::Sign('=')
    }
}
