//! What a program must be before it may run.

use super::BpfProg;
use uapi::errno::Errno;
use uapi::filter::*;

/// Checks a program: only instructions that there are, constants that make sense, jumps that stay inside, words of
/// the scratch memory that were stored before on every way there, an end at the end.
///
/// linux: `net/core/filter.c:bpf_check_classic`
///
/// # Errors
/// EINVAL.
pub fn bpf_check_classic(program: &[SockFilter]) -> Result<BpfProg, Errno> {
    if program.is_empty() || program.len() > BPF_MAXINSNS {
        return Err(Errno::EINVAL);
    }
    let sound =
        |(at, insn): (usize, &SockFilter)| known(insn.code) && holds(program.len(), at, insn);
    if !program.iter().enumerate().all(sound) || !ends(program) || !loads_are_stored(program) {
        return Err(Errno::EINVAL);
    }
    Ok(BpfProg::checked(program))
}

/// There is such an instruction.
fn known(code: u16) -> bool {
    let (class, low) = (code & 0x07, code & 0x18);
    if code > 0xff {
        return false;
    }
    match class {
        BPF_LD => match code & 0xe0 {
            BPF_IMM | BPF_MEM | BPF_LEN => low == BPF_W,
            BPF_ABS | BPF_IND => low <= BPF_B,
            _ => false,
        },
        BPF_LDX => match code & 0xe0 {
            BPF_IMM | BPF_MEM | BPF_LEN => low == BPF_W,
            BPF_MSH => low == BPF_B,
            _ => false,
        },
        BPF_ST | BPF_STX => code == class,
        BPF_ALU => match code & 0xf0 {
            BPF_NEG => code & 0x08 == 0,
            op => op <= BPF_XOR,
        },
        BPF_JMP => match code & 0xf0 {
            BPF_JA => code & 0x08 == 0,
            op => op <= BPF_JSET,
        },
        BPF_RET => matches!(code & 0xf8, BPF_K | BPF_A),
        // BPF_MISC
        _ => matches!(code & 0xf8, BPF_TAX | BPF_TXA),
    }
}

/// Its constant makes sense, and its jumps stay within the program.
fn holds(len: usize, at: usize, insn: &SockFilter) -> bool {
    let inside = |skip: usize| at + 1 + skip < len;
    match insn.code & 0x07 {
        BPF_ALU if insn.code & 0x08 == BPF_K => match insn.code & 0xf0 {
            BPF_DIV | BPF_MOD => insn.k != 0,
            BPF_LSH | BPF_RSH => insn.k < 32,
            _ => true,
        },
        BPF_ST | BPF_STX => (insn.k as usize) < BPF_MEMWORDS,
        BPF_LD | BPF_LDX if insn.code & 0xe0 == BPF_MEM => (insn.k as usize) < BPF_MEMWORDS,
        BPF_LD if insn.code & 0xe0 == BPF_ABS => asks_for_what_there_is(insn.k as i32),
        BPF_JMP if insn.code & 0xf0 == BPF_JA => inside(insn.k as usize),
        BPF_JMP => inside(insn.jt.into()) && inside(insn.jf.into()),
        _ => true,
    }
}

/// No question about the packet that nobody knows an answer to.
fn asks_for_what_there_is(k: i32) -> bool {
    let about = k.wrapping_sub(SKF_AD_OFF);
    !(SKF_AD_OFF..0).contains(&k) || ((0..SKF_AD_MAX).contains(&about) && about % 4 == 0)
}

/// The last instruction is an end, so each way has one: jumps go forwards.
fn ends(program: &[SockFilter]) -> bool {
    program.last().is_some_and(|last| last.code & 0x07 == BPF_RET)
}

/// A word of the scratch memory that is loaded was stored on every way there.
///
/// linux: `net/core/filter.c:check_load_and_stores`
fn loads_are_stored(program: &[SockFilter]) -> bool {
    // Which words are stored when an instruction is reached; jumps go forwards, so each is met after all that lead to it.
    let mut at_entry = vec![u16::MAX; program.len()];
    let mut stored = 0_u16;
    for (at, insn) in program.iter().enumerate() {
        stored &= at_entry[at];
        let word = 1_u16.wrapping_shl(insn.k);
        let mut meet = |skip: usize, stored| {
            if let Some(there) = at_entry.get_mut(at + 1 + skip) {
                *there &= stored;
            }
        };
        match insn.code & 0x07 {
            BPF_ST | BPF_STX => stored |= word,
            BPF_LD | BPF_LDX if insn.code & 0xe0 == BPF_MEM && stored & word == 0 => return false,
            BPF_JMP if insn.code & 0xf0 == BPF_JA => {
                meet(insn.k as usize, stored);
                // Nothing comes here from above; what jumps here says what is stored.
                stored = u16::MAX;
            }
            BPF_JMP => {
                meet(insn.jt.into(), stored);
                meet(insn.jf.into(), stored);
                stored = u16::MAX;
            }
            _ => {}
        }
    }
    true
}
