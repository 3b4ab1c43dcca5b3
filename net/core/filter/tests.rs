use super::*;
use uapi::errno::Errno;
use uapi::filter::*;

const ACCEPT: SockFilter = SockFilter::stmt(BPF_RET | BPF_K, 0xffff);

fn run(program: &[SockFilter], packet: &[u8]) -> u32 {
    bpf_check_classic(program).unwrap().bpf_prog_run(packet)
}

/// What A is in the end.
fn a_of(program: &[SockFilter], packet: &[u8]) -> u32 {
    run(&[program, &[SockFilter::stmt(BPF_RET | BPF_A, 0)]].concat(), packet)
}

fn ld(code: u16, k: u32) -> SockFilter {
    SockFilter::stmt(BPF_LD | code, k)
}

fn alu(code: u16, k: u32) -> SockFilter {
    SockFilter::stmt(BPF_ALU | code, k)
}

#[test]
fn loads_take_octets_in_the_order_of_the_wire() {
    let packet = [0x45, 1, 2, 3, 4];
    assert_eq!(a_of(&[ld(BPF_W | BPF_ABS, 1)], &packet), 0x0102_0304);
    assert_eq!(a_of(&[ld(BPF_H | BPF_ABS, 0)], &packet), 0x4501);
    assert_eq!(a_of(&[ld(BPF_B | BPF_ABS, 4)], &packet), 4);
    assert_eq!(a_of(&[ld(BPF_W | BPF_LEN, 0)], &packet), 5);
    let msh = SockFilter::stmt(BPF_LDX | BPF_B | BPF_MSH, 0);
    let txa = SockFilter::stmt(BPF_MISC | BPF_TXA, 0);
    assert_eq!(a_of(&[msh, txa], &packet), 20);
    let ind = [SockFilter::stmt(BPF_LDX | BPF_W | BPF_IMM, 3), ld(BPF_B | BPF_IND, 1)];
    assert_eq!(a_of(&ind, &packet), 4);
}

#[test]
fn who_looks_beyond_the_packet_gets_none_of_it() {
    for k in [2, 5, 0x7fff_ffff, SKF_LL_OFF as u32, SKF_NET_OFF as u32] {
        assert_eq!(run(&[ld(BPF_W | BPF_ABS, k), ACCEPT], &[0; 5]), 0, "{k:#x}");
    }
    let ind =
        [SockFilter::stmt(BPF_LDX | BPF_W | BPF_IMM, u32::MAX), ld(BPF_B | BPF_IND, 1), ACCEPT];
    assert_eq!(run(&ind, &[7]), 0xffff, "X and the constant are added without regard to a carry");
}

#[test]
fn sums_go_round_and_nothing_is_divided_by_zero() {
    let of = |a, code, by| a_of(&[ld(BPF_W | BPF_IMM, a), alu(code | BPF_K, by)], &[]);
    assert_eq!(of(u32::MAX, BPF_ADD, 2), 1);
    assert_eq!(of(1, BPF_SUB, 2), u32::MAX);
    assert_eq!(of(0x8000_0001, BPF_MUL, 2), 2);
    assert_eq!(of(17, BPF_DIV, 5), 3);
    assert_eq!(of(17, BPF_MOD, 5), 2);
    assert_eq!(of(0b1100, BPF_AND, 0b0110), 0b0100);
    assert_eq!(of(0b1100, BPF_OR, 0b0110), 0b1110);
    assert_eq!(of(0b1100, BPF_XOR, 0b0110), 0b1010);
    assert_eq!(of(1, BPF_LSH, 31), 1 << 31);
    assert_eq!(of(1 << 31, BPF_RSH, 31), 1);
    assert_eq!(of(1, BPF_NEG, 0), u32::MAX);
    for code in [BPF_DIV, BPF_MOD] {
        assert_eq!(run(&[alu(code | BPF_X, 0), ACCEPT], &[]), 0);
        assert_eq!(bpf_check_classic(&[alu(code | BPF_K, 0), ACCEPT]), Err(Errno::EINVAL));
    }
}

#[test]
fn jumps_compare_without_signs() {
    let takes = |code, a, k| {
        let jump = SockFilter::jump(BPF_JMP | code, k, 1, 0);
        let no = SockFilter::stmt(BPF_RET | BPF_K, 0);
        run(&[ld(BPF_W | BPF_IMM, a), jump, no, ACCEPT], &[]) != 0
    };
    assert!(takes(BPF_JEQ, 3, 3) && !takes(BPF_JEQ, 3, 4));
    assert!(takes(BPF_JGT, u32::MAX, 1) && !takes(BPF_JGT, 1, 1));
    assert!(takes(BPF_JGE, 1, 1) && !takes(BPF_JGE, 1, u32::MAX));
    assert!(takes(BPF_JSET, 6, 2) && !takes(BPF_JSET, 6, 1));
}

#[test]
fn a_program_is_checked_before_it_runs() {
    let ja = |k| SockFilter::stmt(BPF_JMP | BPF_JA, k);
    let refused: [&[SockFilter]; 12] = [
        &[],
        &[ld(BPF_W | BPF_IMM, 0)],
        &[ja(1), ACCEPT],
        &[ja(u32::MAX), ACCEPT],
        &[SockFilter::jump(BPF_JMP | BPF_JEQ, 0, 1, 0), ACCEPT],
        &[SockFilter::stmt(BPF_ST, 16), ACCEPT],
        &[ld(BPF_W | BPF_MEM, 16), ACCEPT],
        &[alu(BPF_LSH | BPF_K, 32), ACCEPT],
        &[SockFilter::stmt(0x100, 0), ACCEPT],
        &[SockFilter::stmt(BPF_LDX | BPF_H | BPF_MSH, 0), ACCEPT],
        &[SockFilter::stmt(BPF_RET | BPF_X, 0)],
        &[ld(BPF_W | BPF_ABS, (SKF_AD_OFF + SKF_AD_MAX) as u32), ACCEPT],
    ];
    for program in refused {
        assert_eq!(bpf_check_classic(program), Err(Errno::EINVAL), "{program:?}");
    }
    assert_eq!(bpf_check_classic(&vec![ACCEPT; BPF_MAXINSNS + 1]), Err(Errno::EINVAL));
    assert!(bpf_check_classic(&vec![ACCEPT; BPF_MAXINSNS]).is_ok());
}

#[test]
fn a_word_is_stored_on_every_way_to_its_load() {
    let st = SockFilter::stmt(BPF_ST, 3);
    let load = ld(BPF_W | BPF_MEM, 3);
    let jump = |jt, jf| SockFilter::jump(BPF_JMP | BPF_JEQ, 0, jt, jf);
    assert!(bpf_check_classic(&[load, ACCEPT]).is_err());
    assert!(bpf_check_classic(&[st, load, ACCEPT]).is_ok());
    assert!(bpf_check_classic(&[jump(0, 1), st, load, ACCEPT]).is_err(), "one way goes around");
    assert!(bpf_check_classic(&[st, jump(0, 1), st, load, ACCEPT]).is_ok());
    let over = SockFilter::stmt(BPF_JMP | BPF_JA, 1);
    assert!(bpf_check_classic(&[st, over, ACCEPT, load, ACCEPT]).is_ok());
}
