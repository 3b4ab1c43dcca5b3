//! Programs of classic BPF on connections and listeners.

use super::attach_filter::{DETACH, FILTER, LOCK, attach, equal, ld, ret, st};
use super::checks;
use super::stream_lib;
use crate::Probe;
use crate::probe::LO;
use uapi::filter::*;
use uapi::poll::POLLIN;
use uapi::socket::MSG_DONTWAIT;

checks! {
    stream_filters_of_connections
    stream_filters_cut_segments
    stream_filters_of_listeners
}

fn stream_filters_of_connections(p: &mut Probe<'_>) {
    let pair = stream_lib::pair(p, 5000);
    let (near, far) = (pair.client, pair.server);
    // No data that begins with `e`, but segments without data.
    let jump = |k, jt, jf| SockFilter::jump(BPF_JMP | BPF_JEQ, k, jt, jf);
    let header = [
        ld(BPF_B | BPF_ABS, 12),
        st(BPF_ALU | BPF_RSH, 2),
        st(BPF_MISC | BPF_TAX, 0),
        ld(BPF_LEN, 0),
        SockFilter::jump(BPF_JMP | BPF_JEQ | BPF_X, 0, 2, 0),
        ld(BPF_B | BPF_IND, 0),
        jump(b'e'.into(), 1, 0),
        ret(u32::MAX),
        ret(0),
    ];
    attach(p, far, &header);
    let _ = p.send("sent", near, b"good", 0);
    p.recvfrom("comes", far, 100, 0);
    let _ = p.send("sent", near, b"evil", 0);
    p.recvfrom("does not", far, 100, MSG_DONTWAIT);
    let _ = p.set("detached", far, DETACH, 0);
    p.poll("sent again", &[(far, POLLIN)], 2000);
    p.recvfrom("comes", far, 100, 0);
}

fn stream_filters_cut_segments(p: &mut Probe<'_>) {
    let pair = stream_lib::pair(p, 5000);
    let (near, far) = (pair.client, pair.server);
    // Of each segment two octets: the rest is sent again, until all of it came.
    attach(
        p,
        far,
        &[
            ld(BPF_B | BPF_ABS, 12),
            st(BPF_ALU | BPF_RSH, 2),
            st(BPF_ALU | BPF_ADD, 2),
            st(BPF_RET | BPF_A, 0),
        ],
    );
    let _ = p.send("sent", near, b"0123", 0);
    p.recvfrom("comes", far, 100, 0);
    p.poll("sent again", &[(far, POLLIN)], 2000);
    p.recvfrom("then", far, 100, 0);
}

fn stream_filters_of_listeners(p: &mut Probe<'_>) {
    let listener = stream_lib::listener(p, 5000);
    attach(p, listener, &equal(&[ld(BPF_H | BPF_ABS, 2)], 5000));
    let near = stream_lib::joined(p, 5000);
    let far = stream_lib::accepted(p, listener);
    p.get_bytes("a connection has it", far, FILTER, 64);
    p.get("and may change it", far, LOCK);
    let _ = p.send("sent", near, b"good", 0);
    p.recvfrom("comes", far, 100, 0);
    let _ = p.set("locked", listener, LOCK, 1);
    let held = stream_lib::joined(p, 5000);
    let locked = stream_lib::accepted(p, listener);
    p.get("one that may not", locked, LOCK);
    let _ = p.set("detached", locked, DETACH, 0);
    p.drop_all(&[held, locked, listener]);
    let listener = stream_lib::listener(p, 5001);
    attach(p, listener, &[ret(0)]);
    p.get_bytes("the old one", far, FILTER, 64);
    let late = stream_lib::tcp_now(p);
    let _ = p.connect("no answer", late, LO, 5001);
    p.poll("nothing", &[(listener, POLLIN)], 20);
}
