//! Keys for signatures of segments (`TCP_MD5SIG`), and what becomes of segments without.

use super::checks;
use super::stream_lib::{accepted, acknowledge, listener, state, tcp_now};
use crate::Probe;
use crate::probe::{ANY, ETH, Ip, LO, NET, sa};
use uapi::socket::{MSG_DONTWAIT, SOL_TCP};
use uapi::tcp::{TCP_MD5SIG, TCP_MD5SIG_EXT, TCP_MD5SIG_FLAG_IFINDEX, TCP_MD5SIG_FLAG_PREFIX};

checks! {
    stream_values_of_keys
    stream_keys_of_networks
    stream_keys_taken_away
    stream_both_with_a_key
    stream_much_with_a_key
    stream_only_one_with_a_key
    stream_different_keys
    stream_a_key_for_another
    stream_a_key_in_the_middle
}

const KEY: (i32, i32) = (SOL_TCP, TCP_MD5SIG);
const EXT: (i32, i32) = (SOL_TCP, TCP_MD5SIG_EXT);

/// `struct tcp_md5sig`, with flags, prefix and device.
fn md5sig(ip: Ip, (flags, prefix, ifindex): (u8, u8, i32), key: &[u8], len: u16) -> Vec<u8> {
    let mut bytes = sa(ip, 0);
    bytes.resize(128, 0);
    bytes.extend([flags, prefix]);
    bytes.extend(len.to_ne_bytes());
    bytes.extend(ifindex.to_ne_bytes());
    bytes.extend(key);
    bytes.resize(216, 0);
    bytes
}

fn plain(ip: Ip, key: &[u8]) -> Vec<u8> {
    md5sig(ip, (0, 0, 0), key, key.len() as u16)
}

fn key(p: &mut Probe<'_>, fd: i32, key: &[u8]) {
    if let Err(error) = p.calls.setsockopt(fd, KEY.0, KEY.1, &plain(LO, key)) {
        let _ = p.ret("a key", Err(error));
    }
}

fn stream_values_of_keys(p: &mut Probe<'_>) {
    let fd = super::stream_lib::tcp(p);
    p.get_bytes("not told", fd, KEY, 216);
    let _ = p.set_bytes("a key", fd, KEY, &plain(LO, b"secret"));
    p.get_bytes("not told", fd, KEY, 216);
    let _ = p.set_bytes("again", fd, KEY, &plain(LO, b"other"));
    let _ = p.set_bytes("the longest", fd, KEY, &plain(NET, &[7; 80]));
    let _ = p.set_bytes("too long", fd, KEY, &md5sig(NET, (0, 0, 0), b"x", 81));
    let _ = p.set_bytes("short", fd, KEY, &plain(LO, b"secret")[..215]);
    let _ = p.set_bytes("long", fd, KEY, &[plain(LO, b"secret"), vec![1; 9]].concat());
    let _ = p.set_bytes("of nobody", fd, KEY, &plain(ANY, b"secret"));
    let mut other = plain(LO, b"secret");
    other[0] = 10;
    let _ = p.set_bytes("another family", fd, KEY, &other);
}

fn stream_keys_of_networks(p: &mut Probe<'_>) {
    let fd = super::stream_lib::tcp(p);
    let prefix = TCP_MD5SIG_FLAG_PREFIX;
    for length in [0, 8, 32, 33] {
        let value = md5sig(LO, (prefix, length, 0), b"secret", 6);
        let _ = p.set_bytes(&format!("of {length}"), fd, EXT, &value);
        let _ = p.set_bytes(&format!("of {length}, not extended"), fd, KEY, &value);
    }
    let device = md5sig(LO, (TCP_MD5SIG_FLAG_IFINDEX, 0, 1), b"secret", 6);
    let _ = p.set_bytes("of a device", fd, EXT, &device);
    let _ = p.set_bytes("not extended", fd, KEY, &device);
    let gone = md5sig(LO, (prefix, 8, 0), b"", 0);
    let _ = p.set_bytes("taken away", fd, EXT, &gone);
    let _ = p.set_bytes("not twice", fd, EXT, &gone);
}

fn stream_keys_taken_away(p: &mut Probe<'_>) {
    let fd = super::stream_lib::tcp(p);
    let none = plain(LO, b"");
    let _ = p.set_bytes("not there", fd, KEY, &none);
    let _ = p.set_bytes("a key", fd, KEY, &plain(LO, b"secret"));
    let _ = p.set_bytes("of another", fd, KEY, &plain(ETH, b""));
    let _ = p.set_bytes("taken away", fd, KEY, &none);
    let _ = p.set_bytes("not twice", fd, KEY, &none);
}

/// A listener and who connects there, each with its key, if it has one.
fn try_keys(p: &mut Probe<'_>, theirs: Option<&[u8]>, ours: Option<&[u8]>) -> (i32, i32) {
    let listening = listener(p, 4000);
    let fd = tcp_now(p);
    if let Some(theirs) = theirs {
        key(p, listening, theirs);
    }
    if let Some(ours) = ours {
        key(p, fd, ours);
    }
    let _in_progress = p.calls.connect(fd, &sa(LO, 4000));
    p.calls.settle();
    state(p, "state", fd);
    (listening, fd)
}

fn stream_both_with_a_key(p: &mut Probe<'_>) {
    let (listening, fd) = try_keys(p, Some(b"secret"), Some(b"secret"));
    let server = accepted(p, listening);
    let _ = p.send("there", fd, b"hello", 0);
    p.recvfrom("came", server, 100, 0);
    let _ = p.send("and back", server, b"good bye", 0);
    p.recvfrom("came", fd, 100, 0);
    acknowledge(p, server);
    super::stream_lib::end(p, "closed", fd);
    p.recvfrom("the end", server, 100, 0);
    super::stream_lib::end(p, "closed", server);
}

fn stream_much_with_a_key(p: &mut Probe<'_>) {
    let (listening, fd) = try_keys(p, Some(b"secret"), Some(b"secret"));
    let server = accepted(p, listening);
    let mut came = 0;
    for _ in 0..20 {
        let sent = p.calls.sendto(fd, &[7; 5000], MSG_DONTWAIT, None);
        if sent != Ok(5000) {
            let _ = p.ret("sent", sent);
        }
        p.calls.settle();
        let got = p.calls.recvfrom(server, 10_000, MSG_DONTWAIT);
        came += got.ret.unwrap_or(0);
    }
    p.note("came", came);
}

fn stream_only_one_with_a_key(p: &mut Probe<'_>) {
    let (listening, _fd) = try_keys(p, Some(b"secret"), None);
    super::stream_lib::no_waiting(p, listening);
    let nobody = p.calls.accept4(listening, 0);
    let _ = p.ret("nobody", nobody);
    let other = listener(p, 4001);
    let fd = tcp_now(p);
    key(p, fd, b"secret");
    let _in_progress = p.calls.connect(fd, &sa(LO, 4001));
    p.calls.settle();
    state(p, "the other way round", fd);
    super::stream_lib::no_waiting(p, other);
    let nobody = p.calls.accept4(other, 0);
    let _ = p.ret("nobody", nobody);
}

fn stream_different_keys(p: &mut Probe<'_>) {
    let (listening, _fd) = try_keys(p, Some(b"secret"), Some(b"secrex"));
    super::stream_lib::no_waiting(p, listening);
    let nobody = p.calls.accept4(listening, 0);
    let _ = p.ret("nobody", nobody);
}

fn stream_a_key_for_another(p: &mut Probe<'_>) {
    let listening = listener(p, 4000);
    let set = p.calls.setsockopt(listening, KEY.0, KEY.1, &plain(NET, b"secret"));
    let _ = p.ret("for another", set);
    let fd = tcp_now(p);
    let _in_progress = p.calls.connect(fd, &sa(LO, 4000));
    p.calls.settle();
    state(p, "state", fd);
    let server = accepted(p, listening);
    let _ = p.send("there", fd, b"hello", 0);
    p.recvfrom("came", server, 100, 0);
}

fn stream_a_key_in_the_middle(p: &mut Probe<'_>) {
    let pair = super::stream_lib::pair(p, 4000);
    key(p, pair.client, b"secret");
    let _ = p.send("not taken", pair.client, b"hello", 0);
    p.recvfrom("nothing", pair.server, 100, 0);
    let _ = p.send("nor back", pair.server, b"good bye", 0);
    p.recvfrom("nothing", pair.client, 100, 0);
    key(p, pair.server, b"secret");
    let _ = p.send("now", pair.server, b"!", 0);
    state(p, "state", pair.client);
}
