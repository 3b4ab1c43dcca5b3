//! What a program does with a packet.
//!
//! linux: kernel/bpf/core.c.

use std::sync::Arc;
use uapi::filter::*;

/// A checked program. A copy is the same program.
///
/// linux: include/linux/filter.h:bpf_prog
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpfProg(Arc<[SockFilter]>);

impl BpfProg {
    /// One that was checked.
    pub(crate) fn checked(program: &[SockFilter]) -> Self {
        Self(program.into())
    }

    /// Its instructions.
    pub fn instructions(&self) -> &[SockFilter] {
        &self.0
    }

    /// How many octets of the packet are wanted, from its front; 0: none, it is not.
    ///
    /// linux: kernel/bpf/core.c:___bpf_prog_run
    pub fn bpf_prog_run<S: BpfSource + ?Sized>(&self, packet: &S) -> u32 {
        run(&self.0, packet)
    }
}

/// What a program looks at.
pub trait BpfSource {
    /// Octets in all.
    fn len(&self) -> u32;

    /// There is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies octets out; an offset below zero is one of `SKF_NET_OFF` or `SKF_LL_OFF`. None where they are not
    /// all there, which ends the program with 0.
    fn octets<const N: usize>(&self, at: i32) -> Option<[u8; N]>;

    /// What it knows about the packet beside its octets, `SKF_AD_*`, which may ask for A and X. None where nobody
    /// knows.
    fn about(&self, what: i32, a: u32, x: u32) -> Option<u32>;
}

/// A frame by itself, as one in a file: nothing is known beside it.
impl BpfSource for [u8] {
    fn len(&self) -> u32 {
        self.len() as u32
    }

    fn octets<const N: usize>(&self, at: i32) -> Option<[u8; N]> {
        let at = usize::try_from(at).ok()?;
        self.get(at..)?.first_chunk().copied()
    }

    fn about(&self, what: i32, a: u32, x: u32) -> Option<u32> {
        (what == SKF_AD_ALU_XOR_X).then_some(a ^ x)
    }
}

struct Registers {
    a: u32,
    x: u32,
    m: [u32; BPF_MEMWORDS],
}

/// What comes after an instruction.
enum Next {
    /// The one behind it.
    Goes,
    /// So many are skipped.
    Skips(usize),
    Ends(u32),
}

fn run<S: BpfSource + ?Sized>(program: &[SockFilter], packet: &S) -> u32 {
    let mut registers = Registers { a: 0, x: 0, m: [0; BPF_MEMWORDS] };
    let mut rest = program.iter();
    while let Some(insn) = rest.next() {
        match registers.step(insn, packet) {
            Some(Next::Goes) => {}
            Some(Next::Skips(0)) => {}
            Some(Next::Skips(n)) => drop(rest.nth(n - 1)),
            Some(Next::Ends(len)) => return len,
            None => return 0,
        }
    }
    // Not in a checked program.
    0
}

impl Registers {
    /// None: it asked for what is not there.
    fn step<S: BpfSource + ?Sized>(&mut self, insn: &SockFilter, packet: &S) -> Option<Next> {
        let k = insn.k;
        match insn.code & 0x07 {
            BPF_LD => self.a = self.load(insn, packet)?,
            BPF_LDX => {
                self.x = match insn.code & 0xe0 {
                    BPF_IMM => k,
                    BPF_MEM => self.word(k),
                    BPF_LEN => packet.len(),
                    // BPF_MSH
                    _ => u32::from(packet.octets::<1>(k as i32)?[0] & 0x0f) << 2,
                }
            }
            BPF_ST => self.store(k, self.a),
            BPF_STX => self.store(k, self.x),
            BPF_ALU => self.a = self.computed(insn)?,
            BPF_JMP => return Some(Next::Skips(self.jump(insn))),
            BPF_RET => return Some(Next::Ends(if insn.code & 0x18 == BPF_A { self.a } else { k })),
            // BPF_MISC
            _ if insn.code & 0xf8 == BPF_TXA => self.a = self.x,
            _ => self.x = self.a,
        }
        Some(Next::Goes)
    }

    fn word(&self, k: u32) -> u32 {
        self.m[k as usize % BPF_MEMWORDS]
    }

    fn store(&mut self, k: u32, value: u32) {
        self.m[k as usize % BPF_MEMWORDS] = value;
    }

    fn load<S: BpfSource + ?Sized>(&self, insn: &SockFilter, packet: &S) -> Option<u32> {
        let at = match insn.code & 0xe0 {
            BPF_IMM => return Some(insn.k),
            BPF_MEM => return Some(self.word(insn.k)),
            BPF_LEN => return Some(packet.len()),
            BPF_IND => insn.k.wrapping_add(self.x) as i32,
            // BPF_ABS
            _ => match insn.k as i32 {
                k if (SKF_AD_OFF..0).contains(&k) => {
                    return packet.about(k - SKF_AD_OFF, self.a, self.x);
                }
                k => k,
            },
        };
        match insn.code & 0x18 {
            BPF_W => packet.octets(at).map(u32::from_be_bytes),
            BPF_H => packet.octets(at).map(u16::from_be_bytes).map(u32::from),
            _ => packet.octets(at).map(|[octet]| octet.into()),
        }
    }

    fn computed(&self, insn: &SockFilter) -> Option<u32> {
        let (a, by) = (self.a, if insn.code & 0x08 == BPF_X { self.x } else { insn.k });
        Some(match insn.code & 0xf0 {
            BPF_ADD => a.wrapping_add(by),
            BPF_SUB => a.wrapping_sub(by),
            BPF_MUL => a.wrapping_mul(by),
            BPF_DIV => a.checked_div(by)?,
            BPF_MOD => a.checked_rem(by)?,
            BPF_OR => a | by,
            BPF_AND => a & by,
            BPF_XOR => a ^ by,
            BPF_LSH => a.wrapping_shl(by),
            BPF_RSH => a.wrapping_shr(by),
            // BPF_NEG
            _ => a.wrapping_neg(),
        })
    }

    /// How many instructions are skipped.
    fn jump(&self, insn: &SockFilter) -> usize {
        let (a, with) = (self.a, if insn.code & 0x08 == BPF_X { self.x } else { insn.k });
        let holds = match insn.code & 0xf0 {
            BPF_JA => return insn.k as usize,
            BPF_JEQ => a == with,
            BPF_JGT => a > with,
            BPF_JGE => a >= with,
            // BPF_JSET
            _ => a & with != 0,
        };
        if holds { insn.jt.into() } else { insn.jf.into() }
    }
}
