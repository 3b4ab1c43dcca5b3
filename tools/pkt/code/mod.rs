//! `%{ … }%`: statements and expressions as Python writes them, without Python.
//!
//! Key types: [`Program`], [`Env`], [`Value`]. Part: `read` (text into statements). Contexts: any.
//! Invariants: what is not understood is an error that names it; sums that do not fit are errors;
//! recursion is bounded by the reader.

mod read;

use std::collections::BTreeMap;
use std::fmt;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`
    None,
    /// `True`, `False`
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A number with a point.
    Float(f64),
    /// Text.
    Str(String),
    /// A tuple or list.
    List(Vec<Value>),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Bool(true) => f.write_str("True"),
            Self::Bool(false) => f.write_str("False"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value}"),
            Self::Str(text) => f.write_str(text),
            Self::List(all) => {
                let all: Vec<String> = all.iter().map(Value::to_string).collect();
                write!(f, "({})", all.join(", "))
            }
        }
    }
}

impl Value {
    /// What counts as true.
    fn truth(&self) -> bool {
        match self {
            Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) => !text.is_empty(),
            Self::List(all) => !all.is_empty(),
        }
    }

    fn int(&self) -> Option<i128> {
        match self {
            Self::Int(value) => Some(*value),
            Self::Bool(value) => Some((*value).into()),
            _ => None,
        }
    }

    fn float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            other => other.int().map(|value| value as f64),
        }
    }
}

/// Names and their values.
pub type Env = BTreeMap<String, Value>;

/// Statements.
#[derive(Clone, Debug)]
pub struct Program(Vec<Statement>);

#[derive(Clone, Debug)]
enum Statement {
    Assert {
        condition: Node,
        message: Option<Node>,
        text: String,
    },
    Assign(String, Node),
    If(Vec<(Option<Node>, Vec<Statement>)>),
    /// `print(…)`, `import …`, `pass`: nothing.
    Nothing,
    Value(Node),
}

#[derive(Clone, Debug)]
enum Node {
    Const(Value),
    Name(String),
    List(Vec<Node>),
    Not(Box<Node>),
    Neg(Box<Node>),
    Invert(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    /// `a < b < c`
    Compare(Box<Node>, Vec<(&'static str, Node)>),
    Binary(&'static str, Box<Node>, Box<Node>),
    Call(String, Vec<Node>),
    Index(Box<Node>, Box<Node>),
    /// `a if condition else b`
    Choice(Box<[Node; 3]>),
}

type Done<T> = Result<T, String>;

impl Program {
    /// Reads statements.
    ///
    /// # Errors
    /// What is not understood.
    pub fn parse(text: &str) -> Done<Self> {
        read::program(text).map(Self)
    }

    /// Names it reads.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.0.iter().for_each(|statement| statement.names(&mut names));
        names
    }

    /// Runs the statements; what they assign stays in `env`.
    ///
    /// # Errors
    /// An assertion that does not hold, with the values of its names; what can't be computed.
    pub fn run(&self, env: &mut Env) -> Done<()> {
        self.0.iter().try_for_each(|statement| statement.run(env))
    }
}

impl Statement {
    fn names(&self, into: &mut Vec<String>) {
        match self {
            Self::Assert { condition, message, .. } => {
                condition.names(into);
                message.iter().for_each(|node| node.names(into));
            }
            Self::Assign(_, node) | Self::Value(node) => node.names(into),
            Self::If(branches) => {
                for (condition, body) in branches {
                    condition.iter().for_each(|node| node.names(into));
                    body.iter().for_each(|statement| statement.names(into));
                }
            }
            Self::Nothing => {}
        }
    }

    fn run(&self, env: &mut Env) -> Done<()> {
        match self {
            Self::Nothing => {}
            Self::Value(node) => drop(node.value(env)?),
            Self::Assign(name, node) => {
                let value = node.value(env)?;
                env.insert(name.clone(), value);
            }
            Self::Assert { condition, message, text } => {
                if !condition.value(env)?.truth() {
                    let said = message.as_ref().map(|node| node.value(env)).transpose()?;
                    return Err(failed(condition, text, said, env));
                }
            }
            Self::If(branches) => {
                for (condition, body) in branches {
                    let holds = match condition {
                        Some(node) => node.value(env)?.truth(),
                        None => true,
                    };
                    if holds {
                        return body.iter().try_for_each(|statement| statement.run(env));
                    }
                }
            }
        }
        Ok(())
    }
}

fn failed(condition: &Node, text: &str, said: Option<Value>, env: &Env) -> String {
    let mut names = Vec::new();
    condition.names(&mut names);
    names.sort();
    names.dedup();
    let value = |name: &String| env.get(name).map(|value| format!("{name} = {value}"));
    let values: Vec<String> = names.iter().filter_map(value).collect();
    let said = said.map_or(String::new(), |value| format!(": {value}"));
    format!("assertion does not hold: {text}{said} ({})", values.join(", "))
}

impl Node {
    fn names(&self, into: &mut Vec<String>) {
        match self {
            Self::Const(_) => {}
            Self::Name(name) => into.push(name.clone()),
            Self::List(all) | Self::Call(_, all) => all.iter().for_each(|node| node.names(into)),
            Self::Not(node) | Self::Neg(node) | Self::Invert(node) => node.names(into),
            Self::And(a, b) | Self::Or(a, b) | Self::Binary(_, a, b) | Self::Index(a, b) => {
                a.names(into);
                b.names(into);
            }
            Self::Compare(first, rest) => {
                first.names(into);
                rest.iter().for_each(|(_, node)| node.names(into));
            }
            Self::Choice(all) => all.iter().for_each(|node| node.names(into)),
        }
    }

    fn value(&self, env: &Env) -> Done<Value> {
        Ok(match self {
            Self::Const(value) => value.clone(),
            Self::Name(name) => env.get(name).cloned().ok_or_else(|| unknown(name))?,
            Self::List(all) => {
                Value::List(all.iter().map(|node| node.value(env)).collect::<Done<_>>()?)
            }
            Self::Not(node) => Value::Bool(!node.value(env)?.truth()),
            Self::Neg(node) => match node.value(env)? {
                Value::Float(value) => Value::Float(-value),
                other => {
                    int_of(&other, "-")?.checked_neg().map(Value::Int).ok_or_else(too_large)?
                }
            },
            Self::Invert(node) => Value::Int(!int_of(&node.value(env)?, "~")?),
            Self::And(a, b) => {
                let first = a.value(env)?;
                if first.truth() { b.value(env)? } else { first }
            }
            Self::Or(a, b) => {
                let first = a.value(env)?;
                if first.truth() { first } else { b.value(env)? }
            }
            Self::Compare(first, rest) => {
                let mut left = first.value(env)?;
                for (sign, node) in rest {
                    let right = node.value(env)?;
                    if !compare(&left, sign, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Value::Bool(true)
            }
            Self::Binary(sign, a, b) => binary(sign, &a.value(env)?, &b.value(env)?)?,
            Self::Call(name, args) => {
                let args: Vec<Value> =
                    args.iter().map(|node| node.value(env)).collect::<Done<_>>()?;
                call(name, &args)?
            }
            Self::Index(list, at) => index(&list.value(env)?, &at.value(env)?)?,
            Self::Choice(all) => {
                let [yes, condition, no] = &**all;
                if condition.value(env)?.truth() { yes.value(env)? } else { no.value(env)? }
            }
        })
    }
}

fn unknown(name: &str) -> String {
    format!(
        "`{name}` has no value: fields of struct tcp_info (tcpi_…), SK_MEMINFO_…, TCP_… states and \
         names that the script assigned have"
    )
}

fn too_large() -> String {
    "the number can't be computed: it is too large".to_owned()
}

fn int_of(value: &Value, sign: &str) -> Done<i128> {
    value.int().ok_or_else(|| format!("`{sign}` wants whole numbers, not {value}"))
}

fn compare(left: &Value, sign: &str, right: &Value) -> Done<bool> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    if sign == "in" || sign == "not in" {
        let found = match right {
            Value::List(all) => {
                let mut found = false;
                for one in all {
                    found |= compare(left, "==", one)?;
                }
                found
            }
            Value::Str(text) => matches!(left, Value::Str(part) if text.contains(part)),
            other => return Err(format!("`{sign}` wants a list, not {other}")),
        };
        return Ok(found == (sign == "in"));
    }
    let order = match (left, right) {
        (Value::Str(a), Value::Str(b)) => Some(a.cmp(b)),
        (Value::List(a), Value::List(b)) if matches!(sign, "==" | "!=") => {
            let mut same = a.len() == b.len();
            for (a, b) in a.iter().zip(b) {
                same = same && compare(a, "==", b)?;
            }
            Some(if same { Equal } else { Less })
        }
        _ => match (left.int(), right.int()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => match (left.float(), right.float()) {
                (Some(a), Some(b)) => a.partial_cmp(&b),
                _ => None,
            },
        },
    };
    Ok(match (sign, order) {
        ("==" | "is", order) => order == Some(Equal) || (left == right),
        ("!=" | "is not", order) => order != Some(Equal) && left != right,
        (_, None) => return Err(format!("{left} and {right} have no order")),
        ("<", order) => order == Some(Less),
        (">", order) => order == Some(Greater),
        ("<=", order) => order != Some(Greater),
        (_, order) => order != Some(Less),
    })
}

fn binary(sign: &str, a: &Value, b: &Value) -> Done<Value> {
    if let (Value::Str(text), "%") = (a, sign) {
        return format(text, b).map(Value::Str);
    }
    if let (Value::Str(a), Value::Str(b), "+") = (a, b, sign) {
        return Ok(Value::Str(format!("{a}{b}")));
    }
    if let (Value::List(a), Value::List(b), "+") = (a, b, sign) {
        return Ok(Value::List([&a[..], &b[..]].concat()));
    }
    match (a.int(), b.int()) {
        (Some(a), Some(b)) if sign != "/" => whole(sign, a, b),
        _ => {
            let pair = (a.float(), b.float());
            let (Some(x), Some(y)) = pair else {
                return Err(format!("{a} {sign} {b}: no numbers"));
            };
            with_point(sign, x, y)
        }
    }
}

fn whole(sign: &str, a: i128, b: i128) -> Done<Value> {
    let shift = u32::try_from(b).ok().filter(|by| *by < 96);
    let done = match sign {
        "+" => a.checked_add(b),
        "-" => a.checked_sub(b),
        "*" => a.checked_mul(b),
        // Rounded down, as the language has it.
        "//" => a.checked_div_euclid(b).map(|q| if b < 0 && a % b != 0 { q - 1 } else { q }),
        "%" => a.checked_rem_euclid(b).map(|r| if b < 0 && r != 0 { r + b } else { r }),
        "**" => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
        "<<" => shift.and_then(|by| a.checked_mul(1_i128 << by)),
        ">>" => shift.map(|by| a >> by),
        "&" => Some(a & b),
        "|" => Some(a | b),
        _ => Some(a ^ b),
    };
    done.map(Value::Int).ok_or_else(|| format!("{a} {sign} {b} can't be computed"))
}

fn with_point(sign: &str, a: f64, b: f64) -> Done<Value> {
    let done = match sign {
        "+" => a + b,
        "-" => a - b,
        "*" => a * b,
        "/" | "//" | "%" if b == 0.0 => return Err(format!("{a} {sign} 0: division by zero")),
        "/" => a / b,
        "//" => (a / b).floor(),
        "%" => a - b * (a / b).floor(),
        "**" => a.powf(b),
        _ => return Err(format!("`{sign}` wants whole numbers, not {a} and {b}")),
    };
    Ok(Value::Float(done))
}

/// `'cwnd=%d' % value`
fn format(text: &str, values: &Value) -> Done<String> {
    let values = match values {
        Value::List(all) => all.clone(),
        one => vec![one.clone()],
    };
    let (mut out, mut next) = (String::new(), values.iter());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut kind = rest.next();
        while kind.is_some_and(|c| c.is_ascii_digit() || matches!(c, '.' | '-' | '+' | 'l')) {
            kind = rest.next();
        }
        if kind == Some('%') {
            out.push('%');
            continue;
        }
        let value = next.next().ok_or_else(|| format!("'{text}' wants more values"))?;
        match kind {
            Some('d' | 'i' | 'u') => {
                out += &value.int().map_or(value.to_string(), |v| v.to_string())
            }
            Some('x') => out += &value.int().map_or(value.to_string(), |v| format!("{v:x}")),
            Some('f') => out += &value.float().map_or(value.to_string(), |v| format!("{v:.6}")),
            Some('s' | 'r' | 'g') => out += &value.to_string(),
            other => return Err(format!("'{text}': %{} is unknown", other.unwrap_or(' '))),
        }
    }
    Ok(out)
}

fn call(name: &str, args: &[Value]) -> Done<Value> {
    let numbers = || -> Done<Vec<f64>> {
        let all = match args {
            [Value::List(all)] => &all[..],
            all => all,
        };
        let number = |value: &Value| value.float().ok_or_else(|| format!("{value} is no number"));
        all.iter().map(number).collect()
    };
    let pick = |better: fn(f64, f64) -> bool| -> Done<Value> {
        let all = match args {
            [Value::List(all)] => &all[..],
            all => all,
        };
        let floats = numbers()?;
        let mut best = 0;
        for (at, value) in floats.iter().enumerate() {
            if better(*value, floats[best]) {
                best = at;
            }
        }
        all.get(best).cloned().ok_or_else(|| format!("{name}() of nothing"))
    };
    match (name, args) {
        ("abs", [Value::Float(value)]) => Ok(Value::Float(value.abs())),
        ("abs", [value]) => {
            int_of(value, "abs")?.checked_abs().map(Value::Int).ok_or_else(too_large)
        }
        ("int", [value]) => match value {
            Value::Float(value) => Ok(Value::Int(*value as i128)),
            Value::Str(text) => {
                let parsed = text.trim().parse().map(Value::Int);
                parsed.map_err(|_| format!("int('{text}'): no number"))
            }
            other => int_of(other, "int").map(Value::Int),
        },
        ("float", [value]) => {
            value.float().map(Value::Float).ok_or_else(|| format!("float({value}): no number"))
        }
        ("len", [Value::List(all)]) => Ok(Value::Int(all.len() as i128)),
        ("len", [Value::Str(text)]) => Ok(Value::Int(text.chars().count() as i128)),
        ("str" | "repr", [value]) => Ok(Value::Str(value.to_string())),
        ("bool", [value]) => Ok(Value::Bool(value.truth())),
        ("round", [value]) => value
            .float()
            .map(|value| Value::Int(value.round_ties_even() as i128))
            .ok_or_else(|| format!("round({value}): no number")),
        ("min", _) => pick(|a, b| a < b),
        ("max", _) => pick(|a, b| a > b),
        _ => Err(format!(
            "{name}() with {} arguments is unknown: abs, int, float, len, str, bool, round, min, max \
             are known",
            args.len()
        )),
    }
}

fn index(list: &Value, at: &Value) -> Done<Value> {
    let Value::List(all) = list else { return Err(format!("{list} is no list")) };
    let at = int_of(at, "[]")?;
    let at = if at < 0 { at + all.len() as i128 } else { at };
    let found = usize::try_from(at).ok().and_then(|at| all.get(at));
    found.cloned().ok_or_else(|| format!("the list of {} has no place {at}", all.len()))
}

#[cfg(test)]
mod tests;
