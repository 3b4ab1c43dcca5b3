//! Text into statements.

use super::{Node, Statement, Value};

/// Tokens of a statement at most: a chain of operators nests to the left.
const TOKENS: usize = 512;
/// Expressions within expressions, and blocks within blocks, at most: a bound on the stack.
const DEPTH: u32 = 64;

type Read<T> = Result<T, String>;

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Int(i128),
    Float(f64),
    Str(String),
    Sign(&'static str),
    End,
}

const SIGNS: &[&str] = &[
    "**", "//", "<<", ">>", "<=", ">=", "==", "!=", "+=", "-=", "(", ")", "[", "]", "{", "}", ",",
    ":", ".", "+", "-", "*", "/", "%", "<", ">", "&", "|", "^", "~", "=",
];

/// The statements of a text.
pub(super) fn program(text: &str) -> Read<Vec<Statement>> {
    let lines = logical_lines(text)?;
    let mut at = 0;
    let statements = block(&lines, &mut at, 0, 0)?;
    match lines.get(at) {
        Some((_, line)) => {
            Err(format!("`{line}` is further to the right than what stands before it"))
        }
        None => Ok(statements),
    }
}

/// Lines with their indent; those that go on within parentheses are joined, comments are gone.
fn logical_lines(text: &str) -> Read<Vec<(usize, String)>> {
    let mut lines = Vec::new();
    let (mut line, mut indent, mut open) = (String::new(), None, 0_i32);
    let mut quote = None;
    let mut rest = text.chars().peekable();
    let mut column = 0;
    let mut first = true;
    let mut end = |line: &mut String, indent: &mut Option<usize>| {
        let done = std::mem::take(line);
        if !done.trim().is_empty() {
            lines.push((indent.unwrap_or(0), done.trim().to_owned()));
        }
        *indent = None;
    };
    while let Some(c) = rest.next() {
        column += 1;
        if let Some(open_quote) = quote {
            line.push(c);
            if c == '\\' {
                line.extend(rest.next());
            } else if c == open_quote {
                quote = None;
            }
            continue;
        }
        match c {
            '\n' if open > 0 => line.push(' '),
            '\n' => {
                end(&mut line, &mut indent);
                (column, first) = (0, false);
            }
            '\\' if rest.peek() == Some(&'\n') => drop(rest.next()),
            ';' if open == 0 => end(&mut line, &mut indent),
            '#' => while rest.next_if(|c| *c != '\n').is_some() {},
            c => {
                if !c.is_whitespace() && indent.is_none() {
                    // The first line stands behind `%{`: its column says nothing.
                    indent = Some(if first { 0 } else { column });
                }
                match c {
                    '\'' | '"' => quote = Some(c),
                    '(' | '[' | '{' => open += 1,
                    ')' | ']' | '}' => open -= 1,
                    _ => {}
                }
                line.push(c);
            }
        }
    }
    if quote.is_some() || open > 0 {
        return Err(format!("`{}` is not closed", line.trim()));
    }
    end(&mut line, &mut indent);
    Ok(lines)
}

/// Statements at one indent, from `at` on.
fn block(
    lines: &[(usize, String)],
    at: &mut usize,
    least: usize,
    depth: u32,
) -> Read<Vec<Statement>> {
    if depth > DEPTH {
        return Err(format!("more than {DEPTH} blocks within each other"));
    }
    let mut statements = Vec::new();
    while let Some((indent, line)) = lines.get(*at) {
        if *indent < least {
            break;
        }
        *at += 1;
        let word = line.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
        if word == "if" {
            statements.push(branches(lines, at, (*indent, line), depth)?);
        } else {
            statements.push(statement(line)?);
        }
    }
    Ok(statements)
}

/// `if …:`, `elif …:`, `else:` with their blocks.
fn branches(
    lines: &[(usize, String)],
    at: &mut usize,
    (indent, first): (usize, &str),
    depth: u32,
) -> Read<Statement> {
    let mut all = Vec::new();
    let mut head = first.to_owned();
    loop {
        let mut reader = Reader::new(&head)?;
        let Token::Name(word) = reader.next() else {
            return Err(format!("`{head}`: no statement"));
        };
        let condition = if word == "else" { None } else { Some(reader.expr()?) };
        reader.sign(":")?;
        let body = if reader.peek() == &Token::End {
            block(lines, at, indent + 1, depth + 1)?
        } else {
            vec![statement(head.split_once(':').map_or("", |(_, rest)| rest.trim()))?]
        };
        if body.is_empty() {
            return Err(format!("nothing stands behind `{head}`"));
        }
        let last = condition.is_none();
        all.push((condition, body));
        let next = lines.get(*at).filter(|(next, line)| {
            *next == indent && (line.starts_with("elif") || line.starts_with("else"))
        });
        match next {
            Some((_, line)) if !last => {
                head = line.clone();
                *at += 1;
            }
            _ => return Ok(Statement::If(all)),
        }
    }
}

fn statement(line: &str) -> Read<Statement> {
    let mut reader = Reader::new(line)?;
    let statement = match (reader.peek().clone(), reader.second().clone()) {
        (Token::Name(word), _) if word == "assert" => {
            reader.next();
            let condition = reader.expr()?;
            let message = if reader.take(",") { Some(reader.expr()?) } else { None };
            let text = line.strip_prefix("assert").unwrap_or(line).trim().to_owned();
            Statement::Assert { condition, message, text }
        }
        (Token::Name(word), _) if ["import", "from", "pass"].contains(&word.as_str()) => {
            return Ok(Statement::Nothing);
        }
        // What is printed is for people; it must still be an expression.
        (Token::Name(word), _) if word == "print" => {
            reader.next();
            if reader.peek() != &Token::End {
                reader.tuple()?;
            }
            Statement::Nothing
        }
        (Token::Name(name), Token::Sign("=")) => {
            reader.next();
            reader.next();
            Statement::Assign(name, reader.tuple()?)
        }
        (Token::Name(name), Token::Sign(sign @ ("+=" | "-="))) => {
            reader.next();
            reader.next();
            let sign = if sign == "+=" { "+" } else { "-" };
            let before = Box::new(Node::Name(name.clone()));
            Statement::Assign(name, Node::Binary(sign, before, Box::new(reader.tuple()?)))
        }
        _ => Statement::Value(reader.tuple()?),
    };
    match reader.peek() {
        Token::End => Ok(statement),
        other => Err(format!("`{line}`: {other:?} is not understood")),
    }
}

struct Reader {
    tokens: Vec<Token>,
    at: usize,
    depth: u32,
}

impl Reader {
    fn new(line: &str) -> Read<Self> {
        Ok(Self { tokens: tokens(line)?, at: 0, depth: 0 })
    }

    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn second(&self) -> &Token {
        self.tokens.get(self.at + 1).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn take(&mut self, sign: &str) -> bool {
        let there = matches!(self.peek(), Token::Sign(found) if *found == sign);
        self.at += usize::from(there);
        there
    }

    fn sign(&mut self, sign: &str) -> Read<()> {
        if self.take(sign) {
            return Ok(());
        }
        Err(format!("expected `{sign}`, found {:?}", self.peek()))
    }

    fn take_name(&mut self, name: &str) -> bool {
        let there = matches!(self.peek(), Token::Name(found) if found == name);
        self.at += usize::from(there);
        there
    }

    /// One expression, or several with commas: a tuple.
    fn tuple(&mut self) -> Read<Node> {
        let first = self.expr()?;
        if !matches!(self.peek(), Token::Sign(",")) {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.take(",") {
            if matches!(self.peek(), Token::End | Token::Sign(")")) {
                break;
            }
            all.push(self.expr()?);
        }
        Ok(Node::List(all))
    }

    fn expr(&mut self) -> Read<Node> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("more than {DEPTH} expressions within each other"));
        }
        let node = self.or()?;
        let node = if self.take_name("if") {
            let condition = self.or()?;
            if !self.take_name("else") {
                return Err("`if` in an expression wants an `else`".to_owned());
            }
            Node::Choice(Box::new([node, condition, self.expr()?]))
        } else {
            node
        };
        self.depth -= 1;
        Ok(node)
    }

    fn or(&mut self) -> Read<Node> {
        let mut node = self.and()?;
        while self.take_name("or") {
            node = Node::Or(Box::new(node), Box::new(self.and()?));
        }
        Ok(node)
    }

    fn and(&mut self) -> Read<Node> {
        let mut node = self.not()?;
        while self.take_name("and") {
            node = Node::And(Box::new(node), Box::new(self.not()?));
        }
        Ok(node)
    }

    fn not(&mut self) -> Read<Node> {
        let mut times = 0;
        while self.take_name("not") {
            times += 1;
        }
        let node = self.comparison()?;
        Ok(match times {
            0 => node,
            times if times % 2 == 1 => Node::Not(Box::new(node)),
            _ => Node::Not(Box::new(Node::Not(Box::new(node)))),
        })
    }

    fn comparison(&mut self) -> Read<Node> {
        let first = self.sum(0)?;
        let mut rest = Vec::new();
        loop {
            let sign = match (self.peek().clone(), self.second().clone()) {
                (Token::Sign(sign @ ("==" | "!=" | "<" | "<=" | ">" | ">=")), _) => sign,
                (Token::Name(word), _) if word == "in" => "in",
                (Token::Name(word), Token::Name(next)) if word == "not" && next == "in" => {
                    self.at += 1;
                    "not in"
                }
                (Token::Name(word), Token::Name(next)) if word == "is" && next == "not" => {
                    self.at += 1;
                    "is not"
                }
                (Token::Name(word), _) if word == "is" => "is",
                _ => break,
            };
            self.at += 1;
            rest.push((sign, self.sum(0)?));
        }
        Ok(if rest.is_empty() { first } else { Node::Compare(Box::new(first), rest) })
    }

    /// Binary operators, those that bind least first.
    fn sum(&mut self, level: usize) -> Read<Node> {
        const LEVELS: &[&[&str]] =
            &[&["|"], &["^"], &["&"], &["<<", ">>"], &["+", "-"], &["*", "/", "//", "%"]];
        let Some(signs) = LEVELS.get(level) else { return self.unary() };
        let mut node = self.sum(level + 1)?;
        while let Token::Sign(sign) = *self.peek()
            && signs.contains(&sign)
        {
            self.at += 1;
            node = Node::Binary(sign, Box::new(node), Box::new(self.sum(level + 1)?));
        }
        Ok(node)
    }

    fn unary(&mut self) -> Read<Node> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(format!("more than {DEPTH} expressions within each other"));
        }
        let node = if self.take("-") {
            Node::Neg(Box::new(self.unary()?))
        } else if self.take("+") {
            self.unary()?
        } else if self.take("~") {
            Node::Invert(Box::new(self.unary()?))
        } else {
            let base = self.operand()?;
            if self.take("**") {
                Node::Binary("**", Box::new(base), Box::new(self.unary()?))
            } else {
                base
            }
        };
        self.depth -= 1;
        Ok(node)
    }

    fn operand(&mut self) -> Read<Node> {
        let mut node = match self.next() {
            Token::Int(value) => Node::Const(Value::Int(value)),
            Token::Float(value) => Node::Const(Value::Float(value)),
            Token::Str(text) => Node::Const(Value::Str(text)),
            Token::Name(name) => match name.as_str() {
                "True" => Node::Const(Value::Bool(true)),
                "False" => Node::Const(Value::Bool(false)),
                "None" => Node::Const(Value::None),
                "lambda" | "for" | "while" | "def" | "class" => {
                    return Err(format!("`{name}` is not supported"));
                }
                _ if self.take("(") => Node::Call(name, self.list(")")?),
                _ => Node::Name(name),
            },
            Token::Sign("(") => {
                if self.take(")") {
                    Node::List(Vec::new())
                } else {
                    let inner = self.tuple()?;
                    self.sign(")")?;
                    inner
                }
            }
            Token::Sign("[") => Node::List(self.list("]")?),
            other => return Err(format!("expected a value, found {other:?}")),
        };
        while self.take("[") {
            let at = self.expr()?;
            self.sign("]")?;
            node = Node::Index(Box::new(node), Box::new(at));
        }
        Ok(node)
    }

    fn list(&mut self, end: &str) -> Read<Vec<Node>> {
        let mut all = Vec::new();
        while !self.take(end) {
            all.push(self.expr()?);
            if !self.take(",") {
                self.sign(end)?;
                break;
            }
        }
        Ok(all)
    }
}

fn tokens(line: &str) -> Read<Vec<Token>> {
    let mut all = Vec::new();
    let mut rest = line;
    while let Some(c) = rest.chars().next() {
        if all.len() >= TOKENS {
            return Err(format!("a statement has more than {TOKENS} words and signs: cut it"));
        }
        if c.is_whitespace() {
            rest = &rest[c.len_utf8()..];
        } else if c.is_ascii_digit() {
            let len = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.');
            let (text, behind) = rest.split_at(len.unwrap_or(rest.len()));
            all.push(number(text)?);
            rest = behind;
        } else if c.is_alphabetic() || c == '_' {
            let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let (text, behind) = rest.split_at(len.unwrap_or(rest.len()));
            all.push(Token::Name(text.to_owned()));
            rest = behind;
        } else if c == '\'' || c == '"' {
            let inner = &rest[1..];
            let end = inner.find(c).ok_or_else(|| format!("`{rest}` is not closed"))?;
            all.push(Token::Str(inner[..end].to_owned()));
            rest = &inner[end + 1..];
        } else {
            let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
            let sign = sign.ok_or_else(|| format!("`{c}` is not understood"))?;
            all.push(Token::Sign(sign));
            rest = &rest[sign.len()..];
        }
    }
    Ok(all)
}

fn number(text: &str) -> Read<Token> {
    let wrong = || format!("`{text}` is no number");
    if let Some(digits) = text.strip_prefix("0x") {
        return i128::from_str_radix(digits, 16).map(Token::Int).map_err(|_| wrong());
    }
    if text.contains(['.', 'e']) {
        return text.parse().map(Token::Float).map_err(|_| wrong());
    }
    text.parse().map(Token::Int).map_err(|_| wrong())
}
