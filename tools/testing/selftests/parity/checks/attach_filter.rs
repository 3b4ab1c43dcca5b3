//! Programs of classic BPF on sockets.

use super::checks;
use crate::Probe;
use crate::probe::LO;
use uapi::filter::*;
use uapi::socket::{
    MSG_DONTWAIT, MSG_TRUNC, SO_ATTACH_FILTER, SO_DETACH_FILTER, SO_LOCK_FILTER, SO_RXQ_OVFL,
    SOL_SOCKET,
};
use zerocopy::IntoBytes;

checks! {
    programs_that_may_be_attached
    programs_that_may_not
    filters_attached_detached_and_read
    filters_locked
    filters_say_how_much
    filters_see_a_datagram_from_its_header
    filters_see_the_headers_before
    filters_ask_about_a_packet
    filters_of_sums_and_words
    filters_are_counted
    filters_do_not_touch_what_is_queued
}

pub(super) const FILTER: (i32, i32) = (SOL_SOCKET, SO_ATTACH_FILTER);
pub(super) const DETACH: (i32, i32) = (SOL_SOCKET, SO_DETACH_FILTER);
pub(super) const LOCK: (i32, i32) = (SOL_SOCKET, SO_LOCK_FILTER);

pub(super) fn ret(k: u32) -> SockFilter {
    SockFilter::stmt(BPF_RET | BPF_K, k)
}

pub(super) fn ld(code: u16, k: i32) -> SockFilter {
    SockFilter::stmt(BPF_LD | code, k as u32)
}

pub(super) fn st(code: u16, k: u32) -> SockFilter {
    SockFilter::stmt(code, k)
}

/// All of a packet of which A is `k`, and nothing of others.
pub(super) fn equal(loads: &[SockFilter], k: u32) -> Vec<SockFilter> {
    let jump = SockFilter::jump(BPF_JMP | BPF_JEQ, k, 0, 1);
    [loads, &[jump, ret(u32::MAX), ret(0)]].concat()
}

pub(super) fn attach(p: &mut Probe<'_>, fd: i32, program: &[SockFilter]) {
    let _ = p.set_bytes("attached", fd, FILTER, program.as_bytes());
}

/// A reader at port 4000 with that program, and a sender.
fn filtered(p: &mut Probe<'_>, program: &[SockFilter]) -> (i32, i32) {
    let reader = p.bound(LO, 4000);
    attach(p, reader, program);
    (reader, p.joined(4001, 4000))
}

/// Whether such a datagram comes, and what of it.
fn comes(p: &mut Probe<'_>, (reader, sender): (i32, i32), data: &[u8]) {
    let _ = p.send("sent", sender, data, 0);
    p.recvfrom("comes", reader, 100, MSG_DONTWAIT | MSG_TRUNC);
}

fn programs_that_may_be_attached(p: &mut Probe<'_>) {
    let fd = p.udp();
    let long = vec![ret(0); BPF_MAXINSNS];
    let stored = [st(BPF_ST, 15), ld(BPF_MEM, 15), ret(0)];
    let far = [SockFilter::stmt(BPF_JMP | BPF_JA, 1), ret(0), ret(1)];
    let programs: [&[SockFilter]; 6] = [
        &[ret(0)],
        &[st(BPF_RET | BPF_A, 0)],
        &long,
        &stored,
        &far,
        &[ld(BPF_W | BPF_ABS, -1), ret(0)],
    ];
    for program in programs {
        attach(p, fd, program);
    }
    for about in (SKF_AD_PROTOCOL..=SKF_AD_MAX).step_by(4) {
        p.note("about", about);
        attach(p, fd, &[ld(BPF_W | BPF_ABS, SKF_AD_OFF + about), ret(0)]);
        attach(p, fd, &[ld(BPF_B | BPF_ABS, SKF_AD_OFF + about), ret(0)]);
    }
}

fn programs_that_may_not(p: &mut Probe<'_>) {
    let fd = p.udp();
    let jump = |k, jt, jf| SockFilter::jump(BPF_JMP | BPF_JEQ, k, jt, jf);
    let programs: [&[SockFilter]; 22] = [
        &[],
        &[ld(BPF_IMM, 0)],
        &[ret(0), ld(BPF_IMM, 0)],
        &[st(BPF_JMP | BPF_JA, 1), ret(0)],
        &[st(BPF_JMP | BPF_JA, u32::MAX), ret(0)],
        &[jump(0, 1, 0), ret(0)],
        &[jump(0, 0, 1), ret(0)],
        &[jump(0, 255, 255), ret(0)],
        &[st(BPF_ST, 16), ret(0)],
        &[st(BPF_STX, 16), ret(0)],
        &[ld(BPF_MEM, 16), ret(0)],
        &[ld(BPF_MEM, 0), ret(0)],
        &[st(BPF_LDX | BPF_MEM, 3), ret(0)],
        &[jump(0, 0, 1), st(BPF_ST, 2), ld(BPF_MEM, 2), ret(0)],
        &[st(BPF_ALU | BPF_DIV | BPF_K, 0), ret(0)],
        &[st(BPF_ALU | BPF_MOD | BPF_K, 0), ret(0)],
        &[st(BPF_ALU | BPF_LSH | BPF_K, 32), ret(0)],
        &[st(0xffff, 0), ret(0)],
        &[st(BPF_LDX | BPF_H | BPF_MSH, 0), ret(0)],
        &[st(BPF_LDX | BPF_W | BPF_ABS, 0), ret(0)],
        &[ld(BPF_W | BPF_ABS, SKF_AD_OFF + 2), ret(0)],
        &[ld(BPF_W | BPF_ABS, SKF_AD_OFF + SKF_AD_MAX), ret(0)],
    ];
    for (nth, program) in programs.iter().enumerate() {
        p.note("program", nth);
        attach(p, fd, program);
    }
    let _ = p.set_bytes("too long", fd, FILTER, vec![ret(0); BPF_MAXINSNS + 1].as_bytes());
    p.get_bytes("none of them", fd, FILTER, 64);
}

fn filters_attached_detached_and_read(p: &mut Probe<'_>) {
    let fd = p.udp();
    p.get_bytes("none", fd, FILTER, 64);
    let _ = p.set("detached", fd, DETACH, 0);
    let _ = p.set_bytes("detached, short", fd, DETACH, &[]);
    attach(p, fd, &equal(&[ld(BPF_LEN, 0)], 5));
    p.get_bytes("read", fd, FILTER, 64);
    p.get_bytes("into little room", fd, FILTER, 24);
    attach(p, fd, &[ret(3)]);
    p.get_bytes("replaced", fd, FILTER, 64);
    attach(p, fd, &[]);
    p.get_bytes("the same", fd, FILTER, 64);
    let _ = p.set("detached", fd, DETACH, 1);
    p.get_bytes("none", fd, FILTER, 64);
    let _ = p.set("again", fd, DETACH, 1);
}

fn filters_locked(p: &mut Probe<'_>) {
    let fd = p.bound(LO, 4000);
    p.get("open", fd, LOCK);
    let _ = p.set("unlocked", fd, LOCK, 0);
    attach(p, fd, &[ret(4)]);
    let _ = p.set("locked", fd, LOCK, 7);
    p.get("locked", fd, LOCK);
    attach(p, fd, &[ret(9)]);
    let _ = p.set("detached", fd, DETACH, 0);
    let _ = p.set("unlocked", fd, LOCK, 0);
    let _ = p.set("locked again", fd, LOCK, 1);
    p.get_bytes("it stays", fd, FILTER, 64);
}

fn filters_say_how_much(p: &mut Probe<'_>) {
    for wanted in [0, 1, 7, 8, 9, 13, 18, 1000, u32::MAX] {
        p.note("wanted", wanted);
        let ends = filtered(p, &[ret(wanted)]);
        comes(p, ends, b"0123456789");
        comes(p, ends, b"");
        p.drop_all(&[ends.0, ends.1]);
    }
}

fn filters_see_a_datagram_from_its_header(p: &mut Probe<'_>) {
    let by_port = equal(&[ld(BPF_H | BPF_ABS, 0)], 4001);
    let by_length = equal(&[ld(BPF_LEN, 0)], 12);
    let by_data = equal(&[ld(BPF_W | BPF_ABS, 8)], u32::from_be_bytes(*b"good"));
    let beyond = equal(&[ld(BPF_B | BPF_ABS, 12)], 0);
    for program in [by_port, by_length, by_data, beyond] {
        let ends = filtered(p, &program);
        for data in [&b"good"[..], b"evil", b"goodies", b"\0\0\0\0\0", b""] {
            comes(p, ends, data);
        }
        p.drop_all(&[ends.0, ends.1]);
    }
}

fn filters_see_the_headers_before(p: &mut Probe<'_>) {
    let source = equal(&[ld(BPF_W | BPF_ABS, SKF_NET_OFF + 12)], 0x7f00_0001);
    let ttl = equal(&[ld(BPF_B | BPF_ABS, SKF_NET_OFF + 8)], 64);
    let through = equal(&[ld(BPF_W | BPF_ABS, SKF_NET_OFF + 28)], u32::from_be_bytes(*b"good"));
    let link = equal(&[ld(BPF_H | BPF_ABS, SKF_LL_OFF + 12)], 0x0800);
    let over = equal(&[ld(BPF_H | BPF_ABS, SKF_NET_OFF + 500)], 0);
    let other = equal(&[ld(BPF_B | BPF_ABS, SKF_NET_OFF + 8)], 63);
    for program in [source, ttl, through, link, over, other] {
        let ends = filtered(p, &program);
        comes(p, ends, b"good");
        p.drop_all(&[ends.0, ends.1]);
    }
}

fn filters_ask_about_a_packet(p: &mut Probe<'_>) {
    let about = |what| ld(BPF_W | BPF_ABS, SKF_AD_OFF + what);
    let xor = [st(BPF_LDX | BPF_IMM, 0b1100), ld(BPF_IMM, 0b1010), about(SKF_AD_ALU_XOR_X)];
    let programs = [
        equal(&[about(SKF_AD_PROTOCOL)], 0x0800),
        equal(&[about(SKF_AD_PKTTYPE)], 0),
        equal(&[about(SKF_AD_IFINDEX)], 1),
        equal(&[about(SKF_AD_HATYPE)], 772),
        equal(&[about(SKF_AD_MARK)], 0),
        equal(&[about(SKF_AD_VLAN_TAG_PRESENT)], 0),
        equal(&[about(SKF_AD_PAY_OFFSET)], 8),
        equal(&xor, 0b0110),
    ];
    for (nth, program) in programs.iter().enumerate() {
        p.note("program", nth);
        let ends = filtered(p, program);
        comes(p, ends, b"good");
        p.drop_all(&[ends.0, ends.1]);
    }
}

fn filters_of_sums_and_words(p: &mut Probe<'_>) {
    let data = ld(BPF_B | BPF_ABS, 8);
    let x = st(BPF_LDX | BPF_IMM, 3);
    let programs = [
        equal(
            &[data, st(BPF_ALU | BPF_SUB, b'0'.into()), st(BPF_ALU | BPF_NEG, 0)],
            7_u32.wrapping_neg(),
        ),
        equal(&[x, data, st(BPF_ALU | BPF_MOD | BPF_X, 0)], 1),
        equal(&[st(BPF_LDX | BPF_IMM, 0), data, st(BPF_ALU | BPF_DIV | BPF_X, 0)], 0),
        equal(&[st(BPF_LDX | BPF_IMM, 33), data, st(BPF_ALU | BPF_LSH | BPF_X, 0)], 110),
        equal(
            &[data, st(BPF_ST, 1), st(BPF_LDX | BPF_MEM, 1), st(BPF_MISC | BPF_TXA, 0)],
            b'7'.into(),
        ),
        equal(&[st(BPF_LDX | BPF_B | BPF_MSH, 8), st(BPF_MISC | BPF_TXA, 0)], 28),
        equal(&[x, ld(BPF_B | BPF_IND, 5)], b'7'.into()),
        equal(&[st(BPF_LDX | BPF_IMM, u32::MAX), ld(BPF_B | BPF_IND, 9)], b'7'.into()),
    ];
    for (nth, program) in programs.iter().enumerate() {
        p.note("program", nth);
        let ends = filtered(p, program);
        comes(p, ends, b"7");
        comes(p, ends, b"8");
        p.drop_all(&[ends.0, ends.1]);
    }
}

fn filters_are_counted(p: &mut Probe<'_>) {
    let ends = filtered(p, &equal(&[ld(BPF_LEN, 0)], 9));
    p.with(ends.0, (SOL_SOCKET, SO_RXQ_OVFL), 1);
    for data in [&b"12"[..], b"123", b"1"] {
        let _ = p.send("sent", ends.1, data, 0);
    }
    p.recvmsg("and what was dropped", ends.0, (100, 100), MSG_DONTWAIT);
}

fn filters_do_not_touch_what_is_queued(p: &mut Probe<'_>) {
    let reader = p.bound(LO, 4000);
    let sender = p.joined(4001, 4000);
    let _ = p.send("before", sender, b"before", 0);
    attach(p, reader, &[ret(0)]);
    let _ = p.send("meanwhile", sender, b"meanwhile", 0);
    let _ = p.set("detached", reader, DETACH, 0);
    let _ = p.send("after", sender, b"after", 0);
    for _ in 0..3 {
        p.recvfrom("comes", reader, 100, MSG_DONTWAIT);
    }
}
