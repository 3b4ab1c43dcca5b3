//! Programs that somebody attached.

use crate::input::Input;
use stack::net::core::filter::{BpfProg, bpf_check_classic};
use uapi::filter::*;

/// Instructions of a program at most.
const LONGEST: usize = 512;

/// Checks a program: it is refused, or it ends, within as many steps as it has instructions, with what a second
/// evaluation says.
pub fn cbpf(data: &[u8]) {
    let mut input = Input::new(data);
    let packet = input.string(1500);
    let mut program = Vec::new();
    while !input.is_empty() && program.len() < LONGEST {
        program.push(instruction(&mut input));
    }
    if input.is_empty() && data.len().is_multiple_of(2) {
        // Few programs end by chance.
        program.push(SockFilter::stmt(BPF_RET | BPF_A, 0));
    }
    let Ok(checked) = bpf_check_classic(&program) else { return };
    assert_eq!(checked.instructions(), program);
    judged(&checked, packet);
    judged(&checked, &packet[..packet.len() / 2]);
}

/// One that there is, most times, and its constants small, most times: a jump stays in its program.
fn instruction(input: &mut Input<'_>) -> SockFilter {
    let (code, kind) = (input.u8(), input.u8());
    let (jt, jf) = (input.u8(), input.u8());
    let k = match kind & 7 {
        0..=3 => u32::from(jt) % 16,
        4 => u32::from(jt) << 8 | u32::from(jf),
        5 => (SKF_AD_OFF + i32::from(jt & 0x3f)) as u32,
        6 => ([SKF_NET_OFF, SKF_LL_OFF][usize::from(jf & 1)] + i32::from(jt)) as u32,
        _ => input.u32(),
    };
    let code = u16::from(code) | u16::from(kind & 0x80 != 0 && kind & 0x40 != 0) << 8;
    let jump = code & 7 == BPF_JMP;
    let near = if jump && kind & 0x10 == 0 { 7 } else { 255 };
    if jump { SockFilter::jump(code, k, jt & near, jf & near) } else { SockFilter::stmt(code, k) }
}

fn judged(program: &BpfProg, packet: &[u8]) {
    let (says, steps) = evaluated(program.instructions(), packet);
    assert!(steps <= program.instructions().len(), "{steps} steps");
    assert_eq!(program.bpf_prog_run(packet), says.unwrap_or(0), "{program:?}");
}

/// What it says of a packet, by the book: McCanne and Jacobson, The BSD Packet Filter (1993); and its steps.
fn evaluated(program: &[SockFilter], packet: &[u8]) -> (Option<u32>, usize) {
    let (mut a, mut x, mut m) = (0_u32, 0_u32, [0_u32; BPF_MEMWORDS]);
    let (mut pc, mut steps) = (0_usize, 0);
    loop {
        let SockFilter { code, jt, jf, k } = program[pc];
        (pc, steps) = (pc + 1, steps + 1);
        let by = if code & 8 == 0 { k } else { x };
        match code {
            0x00 => a = k,
            0x01 => x = k,
            0x60 => a = m[k as usize],
            0x61 => x = m[k as usize],
            0x80 => a = packet.len() as u32,
            0x81 => x = packet.len() as u32,
            0x20 | 0x28 | 0x30 | 0x40 | 0x48 | 0x50 => {
                let indirect = code & 0x40 != 0;
                if !indirect && k == (SKF_AD_OFF + SKF_AD_ALU_XOR_X) as u32 {
                    a ^= x;
                    continue;
                }
                let at = if indirect { x.wrapping_add(k) } else { k };
                let octets = [4, 2, 1][usize::from(code >> 3 & 3)];
                match number(packet, at, octets) {
                    Some(number) => a = number,
                    None => return (None, steps),
                }
            }
            0xb1 => match number(packet, k, 1) {
                Some(octet) => x = (octet % 16) * 4,
                None => return (None, steps),
            },
            0x02 => m[k as usize] = a,
            0x03 => m[k as usize] = x,
            0x04 | 0x0c => a = (u64::from(a) + u64::from(by)) as u32,
            0x14 | 0x1c => a = (u64::from(a) + (1 << 32) - u64::from(by)) as u32,
            0x24 | 0x2c => a = (u64::from(a) * u64::from(by)) as u32,
            0x34 | 0x3c if by == 0 => return (None, steps),
            0x94 | 0x9c if by == 0 => return (None, steps),
            0x34 | 0x3c => a /= by,
            0x94 | 0x9c => a %= by,
            0x44 | 0x4c => a |= by,
            0x54 | 0x5c => a &= by,
            0xa4 | 0xac => a ^= by,
            0x64 | 0x6c => a = (u64::from(a) << (by % 32)) as u32,
            0x74 | 0x7c => a >>= by % 32,
            0x84 => a = (!a).wrapping_add(1),
            0x05 => pc += k as usize,
            0x15 | 0x1d => pc += usize::from(if a == by { jt } else { jf }),
            0x25 | 0x2d => pc += usize::from(if a > by { jt } else { jf }),
            0x35 | 0x3d => pc += usize::from(if a >= by { jt } else { jf }),
            0x45 | 0x4d => pc += usize::from(if a & by != 0 { jt } else { jf }),
            0x06 => return (Some(k), steps),
            0x16 => return (Some(a), steps),
            0x07 => x = a,
            0x87 => a = x,
            _ => panic!("the verifier took {code:#x}"),
        }
    }
}

/// So many octets of a packet from there on, if they are there.
fn number(packet: &[u8], at: u32, octets: usize) -> Option<u32> {
    let from = i32::try_from(at).ok()? as usize;
    let octets = packet.get(from..from.checked_add(octets)?)?;
    Some(octets.iter().fold(0, |sum, octet| sum << 8 | u32::from(*octet)))
}
