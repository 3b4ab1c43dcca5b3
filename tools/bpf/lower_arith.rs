//! Numbers: constants are computed here, the rest by the program, with its scratch memory.

use super::FilterError;
use super::ast::{Arith, Cond, Place, Proto, RelOp, Relation, Test};
use super::lower::{IP6_HLEN, ld};
use uapi::filter::*;

/// A number: known now, or left in A by instructions.
enum Value {
    Const(u32),
    Code(Vec<SockFilter>),
}

struct Coder {
    column: usize,
    words: u32,
    /// What must hold for the headers that octets are taken from, in their order.
    guards: Vec<Cond>,
}

pub(super) fn relation(relation: &Relation) -> Result<Cond, FilterError> {
    let mut coder = Coder { column: relation.column, words: 0, guards: Vec::new() };
    let left = coder.value(&relation.left)?;
    let right = coder.value(&relation.right)?;
    let cond = match (left, right) {
        (Value::Const(a), Value::Const(b)) => Cond::Const(relation.op.holds(a, b)),
        (Value::Code(load), Value::Const(k)) => compared(load, relation.op, BPF_K, k),
        (Value::Const(k), Value::Code(load)) => compared(load, relation.op.turned(), BPF_K, k),
        (Value::Code(a), Value::Code(b)) => {
            let load = coder.both(a, b)?;
            compared(load, relation.op, BPF_X, 0)
        }
    };
    Ok(coder.guards.into_iter().rev().fold(cond, |cond, guard| guard.and(cond)))
}

fn compared(load: Vec<SockFilter>, op: RelOp, operand: u16, k: u32) -> Cond {
    let (jump, negated) = match op {
        RelOp::Eq => (BPF_JEQ, false),
        RelOp::Ne => (BPF_JEQ, true),
        RelOp::Gt => (BPF_JGT, false),
        RelOp::Le => (BPF_JGT, true),
        RelOp::Ge => (BPF_JGE, false),
        RelOp::Lt => (BPF_JGE, true),
    };
    let test = Cond::Test(Test { load, compare: BPF_JMP | jump | operand, k });
    if negated { test.negated() } else { test }
}

impl RelOp {
    fn holds(self, a: u32, b: u32) -> bool {
        match self {
            Self::Eq => a == b,
            Self::Ne => a != b,
            Self::Gt => a > b,
            Self::Ge => a >= b,
            Self::Lt => a < b,
            Self::Le => a <= b,
        }
    }

    /// The same with its sides changed.
    fn turned(self) -> Self {
        match self {
            Self::Gt => Self::Lt,
            Self::Ge => Self::Le,
            Self::Lt => Self::Gt,
            Self::Le => Self::Ge,
            same => same,
        }
    }
}

fn alu(code: u16, k: u32) -> SockFilter {
    SockFilter::stmt(BPF_ALU | code, k)
}

const TAX: SockFilter = SockFilter::stmt(BPF_MISC | BPF_TAX, 0);

impl Coder {
    fn error(&self, what: &str) -> FilterError {
        FilterError { column: self.column, what: what.to_owned() }
    }

    /// A word of the scratch memory that nothing else uses.
    fn scratch(&mut self) -> Result<u32, FilterError> {
        if self.words as usize == BPF_MEMWORDS {
            return Err(self.error("the sum is too long: compare in parts, with `and` between"));
        }
        self.words += 1;
        Ok(self.words - 1)
    }

    /// `a` to A and `b` to X.
    fn both(
        &mut self,
        a: Vec<SockFilter>,
        b: Vec<SockFilter>,
    ) -> Result<Vec<SockFilter>, FilterError> {
        let word = self.scratch()?;
        let mut code = b;
        code.push(SockFilter::stmt(BPF_ST, word));
        code.extend(a);
        code.push(SockFilter::stmt(BPF_LDX | BPF_W | BPF_MEM, word));
        Ok(code)
    }

    fn value(&mut self, arith: &Arith) -> Result<Value, FilterError> {
        Ok(match arith {
            Arith::Num(n) => Value::Const(*n),
            Arith::Len => Value::Code(vec![SockFilter::stmt(BPF_LD | BPF_W | BPF_LEN, 0)]),
            Arith::Neg(of) => match self.value(of)? {
                Value::Const(n) => Value::Const(n.wrapping_neg()),
                Value::Code(mut code) => {
                    code.push(alu(BPF_NEG, 0));
                    Value::Code(code)
                }
            },
            Arith::Binary(op, a, b) => self.binary(*op, a, b)?,
            Arith::Load { proto, offset, size, at } => self.load(*proto, offset, *size, *at)?,
        })
    }

    fn binary(&mut self, op: u16, a: &Arith, b: &Arith) -> Result<Value, FilterError> {
        let left = self.value(a)?;
        let right = self.value(b)?;
        if let Value::Const(k) = right {
            if k == 0 && matches!(op, BPF_DIV | BPF_MOD) {
                return Err(self.error("nothing can be divided by zero"));
            }
            if k > 31 && matches!(op, BPF_LSH | BPF_RSH) {
                return Err(self.error("words of 32 bits are shifted by 31 at most"));
            }
        }
        let code = match (left, right) {
            (Value::Const(a), Value::Const(b)) => return Ok(Value::Const(folded(op, a, b))),
            (Value::Code(mut code), Value::Const(k)) => {
                code.push(alu(op | BPF_K, k));
                code
            }
            (left, Value::Code(right)) => {
                let mut code = self.both(left.into_code(), right)?;
                code.push(alu(op | BPF_X, 0));
                code
            }
        };
        Ok(Value::Code(code))
    }

    fn load(
        &mut self,
        proto: Proto,
        offset: &Arith,
        size: u8,
        at: Place,
    ) -> Result<Value, FilterError> {
        let offset = self.value(offset)?;
        self.guards.push(at.guard(proto));
        let size = match size {
            1 => BPF_B,
            2 => BPF_H,
            _ => BPF_W,
        };
        // Where the header is, and whether behind one of a length of its own.
        let (base, behind) = match proto {
            Proto::Ether => (0, false),
            Proto::Transport(_, super::ast::Carriers::Only6) => (at.net() + IP6_HLEN, false),
            Proto::Transport(..) => (at.net(), true),
            _ => (at.net(), false),
        };
        let ind = |k: u32| SockFilter::stmt(BPF_LD | size | BPF_IND, k);
        // Below a header is what comes before it, down to the frame's front.
        let sum = |k: u32| Some(base.wrapping_add(k)).filter(|k| *k <= i32::MAX as u32);
        Ok(Value::Code(match offset {
            Value::Const(k) => {
                let k = sum(k).ok_or_else(|| self.error("no packet is that long"))?;
                if behind { vec![at.header_len(), ind(k)] } else { vec![ld(size, k)] }
            }
            Value::Code(mut code) if behind => {
                let word = self.scratch()?;
                code.extend([
                    SockFilter::stmt(BPF_ST, word),
                    at.header_len(),
                    SockFilter::stmt(BPF_LD | BPF_W | BPF_MEM, word),
                    alu(BPF_ADD | BPF_X, 0),
                    TAX,
                    ind(base),
                ]);
                code
            }
            Value::Code(mut code) => {
                code.extend([TAX, ind(base)]);
                code
            }
        }))
    }
}

impl Value {
    fn into_code(self) -> Vec<SockFilter> {
        match self {
            Self::Code(code) => code,
            Self::Const(k) => vec![SockFilter::stmt(BPF_LD | BPF_W | BPF_IMM, k)],
        }
    }
}

/// As the program would compute it; a divisor of zero and long shifts were refused.
fn folded(op: u16, a: u32, b: u32) -> u32 {
    match op {
        BPF_ADD => a.wrapping_add(b),
        BPF_SUB => a.wrapping_sub(b),
        BPF_MUL => a.wrapping_mul(b),
        BPF_DIV => a.checked_div(b).unwrap_or(0),
        BPF_MOD => a.checked_rem(b).unwrap_or(0),
        BPF_OR => a | b,
        BPF_AND => a & b,
        BPF_XOR => a ^ b,
        BPF_LSH => a.wrapping_shl(b),
        _ => a.wrapping_shr(b),
    }
}
