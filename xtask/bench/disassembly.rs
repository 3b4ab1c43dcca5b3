//! Which instructions lock the bus line: from objdump's listing of x86-64 code, in AT&T form.

use std::collections::BTreeMap;

/// Why an instruction waits for the others' stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locked {
    /// A lock prefix.
    Prefix,
    /// `xchg` with memory locks without being told.
    Exchange,
    /// No lock, but of the same cost: shown, not counted.
    Fence,
}

/// The locked instructions of a listing (`objdump -d --no-show-raw-insn`) by address, with text.
pub fn locked(listing: &str) -> BTreeMap<u64, (Locked, String)> {
    listing.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<(u64, (Locked, String))> {
    let (address, text) = line.split_once(":\t")?;
    let address = u64::from_str_radix(address.trim(), 16).ok()?;
    // Behind `#` and in `<…>` stand explanations.
    let text = text.split(['#', '<']).next()?.trim();
    let kind = classify(text)?;
    let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    Some((address, (kind, text)))
}

fn classify(text: &str) -> Option<Locked> {
    let mut words = text.split_ascii_whitespace().skip_while(|word| {
        matches!(*word, "xacquire" | "xrelease" | "data16" | "cs" | "ds" | "es" | "fs" | "gs")
            || word.starts_with("rex")
    });
    let name = words.next()?;
    let operands = words.collect::<String>();
    match name {
        "lock" => Some(Locked::Prefix),
        "mfence" => Some(Locked::Fence),
        "xchg" | "xchgb" | "xchgw" | "xchgl" | "xchgq" if touches_memory(&operands) => {
            Some(Locked::Exchange)
        }
        _ => None,
    }
}

/// An operand is no plain register.
fn touches_memory(operands: &str) -> bool {
    let plain = |operand: &str| operand.starts_with('%') && !operand.contains([':', '(']);
    operands.contains('(') || !operands.split(',').all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "
target/bench:     file format elf64-x86-64

Disassembly of section .text:

0000000000020840 <stack::send>:
   20840:\tpush   %rbp
   20841:\tlock cmpxchg %rcx,0x8(%rdi)
   20847:\txchg   %ax,%ax
   20849:\txchg   %eax,%ecx
   2084b:\txchg   %al,0x10(%rbx,%rcx,8)
   2084e:\tlock incq 0x3ef1(%rip)        # 61740 <COUNT>
   20855:\txchg   %rax,%fs:0x28
   20860:\tmfence
   20863:\tcall   20840 <stack::lock xchg>
   20868:\trex.W xchg %rax,(%rdi)
";

    #[test]
    fn prefixes_and_exchanges_with_memory_are_found() {
        let found = locked(LISTING);
        let kinds: Vec<_> = found.iter().map(|(at, (kind, _))| (*at, *kind)).collect();
        let expected = [
            (0x20841, Locked::Prefix),
            (0x2084b, Locked::Exchange),
            (0x2084e, Locked::Prefix),
            (0x20855, Locked::Exchange),
            (0x20860, Locked::Fence),
            (0x20868, Locked::Exchange),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(found[&0x2084e].1, "lock incq 0x3ef1(%rip)");
    }
}
