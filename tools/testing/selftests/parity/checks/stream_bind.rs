//! bind(2) of stream sockets: who may share a port with whom.

use super::checks;
use super::stream_lib::{
    accepted, bound, disconnect, end, joined, listener, look, pair, shut, tcp,
};
use crate::Probe;
use crate::probe::{ANY, BROADCAST, ETH, FOREIGN, GROUP, LO, NET, sa};
use uapi::in_::IP_FREEBIND;
use uapi::socket::{AF_INET6, AF_UNSPEC, SHUT_WR, SO_REUSEADDR, SO_REUSEPORT, SOL_IP, SOL_SOCKET};

checks! {
    stream_addresses_to_bind
    stream_names_to_bind
    stream_bound_twice
    stream_port_zero_is_chosen
    stream_sharing_with_a_bound_socket
    stream_sharing_with_a_listener
    stream_sharing_with_a_connection
    stream_sharing_with_a_client
    stream_sharing_with_what_waits_after_the_end
    stream_addresses_that_conflict
    stream_two_listeners_at_one_port
    stream_a_shared_port_becomes_a_listener
    stream_groups_share_their_callers
    stream_sharing_is_asked_too_late
    stream_sharing_is_taken_back
    stream_the_port_of_datagrams_is_another
    stream_listening_after_the_end
    stream_a_port_is_free_after_a_refusal
    stream_a_port_is_free_after_disconnecting
    stream_binding_what_is_not_ours
}

fn stream_addresses_to_bind(p: &mut Probe<'_>) {
    for ip in [ANY, LO, [127, 9, 8, 7], NET, ETH, [192, 0, 2, 77], FOREIGN, GROUP, BROADCAST] {
        let fd = tcp(p);
        let _ = p.bind(&format!("{ip:?}"), fd, ip, 4000);
        p.names("names", fd);
        let ret = p.calls.listen(fd, 1);
        let _ = p.ret("listen", ret);
        end(p, "close", fd);
    }
    for port in [1, 79, 1023, 65_535] {
        let fd = tcp(p);
        let ret = p.calls.bind(fd, &sa(LO, port));
        let _ = p.ret(&format!("port {port}"), ret);
    }
}

fn stream_names_to_bind(p: &mut Probe<'_>) {
    let named = |family: i32, ip| {
        let mut name = sa(ip, 4000);
        name[..2].copy_from_slice(&(family as u16).to_ne_bytes());
        name
    };
    for (label, name) in [
        ("nothing", Vec::new()),
        ("a family", sa(LO, 4000)[..2].to_vec()),
        ("one octet less", sa(LO, 4000)[..15].to_vec()),
        ("IPv6", named(AF_INET6, LO)),
        ("none, any address", named(AF_UNSPEC, ANY)),
        ("none, an address", named(AF_UNSPEC, LO)),
        ("longer", [sa(LO, 4001), vec![1; 16]].concat()),
        ("much too long", [sa(LO, 4002), vec![0; 200]].concat()),
    ] {
        let fd = tcp(p);
        let ret = p.calls.bind(fd, &name);
        let _ = p.ret(label, ret);
        p.names("names", fd);
    }
}

fn stream_bound_twice(p: &mut Probe<'_>) {
    let fd = bound(p, 4000);
    let _ = p.bind("the same", fd, LO, 4000);
    let _ = p.bind("another", fd, LO, 4001);
    let fd = tcp(p);
    let _ = p.bind("an address", fd, NET, 0);
    let _ = p.bind("a port, too", fd, NET, 4002);
}

fn stream_port_zero_is_chosen(p: &mut Probe<'_>) {
    for ip in [ANY, LO, NET] {
        let fd = tcp(p);
        let _ = p.bind("bind", fd, ip, 0);
        p.names("names", fd);
        let ret = p.calls.listen(fd, 1);
        let _ = p.ret("listen", ret);
        p.names("names", fd);
    }
}

const NONE: &[i32] = &[];
const ADDR: &[i32] = &[SO_REUSEADDR];
const PORT: &[i32] = &[SO_REUSEPORT];
const BOTH: &[i32] = &[SO_REUSEADDR, SO_REUSEPORT];
const KINDS: [(&str, &[i32]); 4] = [("none", NONE), ("addr", ADDR), ("port", PORT), ("both", BOTH)];

fn willing(p: &mut Probe<'_>, options: &[i32]) -> i32 {
    let fd = tcp(p);
    options.iter().for_each(|option| p.with(fd, (SOL_SOCKET, *option), 1));
    fd
}

/// What others get at a port that is held by somebody, and whether they may listen there.
fn share(p: &mut Probe<'_>, port: u16) {
    for (label, options) in KINDS {
        let fd = willing(p, options);
        let ret = p.calls.bind(fd, &sa(LO, port));
        let _ = p.ret(&format!("{label} binds"), ret);
        if ret.is_ok() {
            let ret = p.calls.listen(fd, 1);
            let _ = p.ret(&format!("{label} listens"), ret);
        }
        end(p, "gone", fd);
    }
}

/// The same for each way to hold it, each with a port of its own.
fn shared(p: &mut Probe<'_>, hold: fn(&mut Probe<'_>, i32, u16)) {
    for (number, (label, options)) in KINDS.into_iter().enumerate() {
        let port = 4000 + 10 * number as u16;
        p.within(&format!("held by {label}"));
        let fd = willing(p, options);
        let ret = p.calls.bind(fd, &sa(LO, port));
        let _ = p.ret("bind", ret);
        hold(p, fd, port);
        share(p, port);
    }
    p.within("");
}

fn stream_sharing_with_a_bound_socket(p: &mut Probe<'_>) {
    shared(p, |_, _, _| ());
}

fn stream_sharing_with_a_listener(p: &mut Probe<'_>) {
    shared(p, |p, fd, _| {
        let ret = p.calls.listen(fd, 1);
        let _ = p.ret("listen", ret);
    });
}

/// The listener has gone, who was accepted has its port.
fn stream_sharing_with_a_connection(p: &mut Probe<'_>) {
    shared(p, |p, fd, port| {
        let ret = p.calls.listen(fd, 1);
        let _ = p.ret("listen", ret);
        joined(p, port);
        accepted(p, fd);
        end(p, "listener", fd);
    });
}

fn stream_sharing_with_a_client(p: &mut Probe<'_>) {
    shared(p, |p, fd, port| {
        let _peer = listener(p, port + 1);
        let ret = p.calls.connect(fd, &sa(LO, port + 1));
        let _ = p.ret("connect", ret);
        p.calls.settle();
    });
}

/// Who was accepted ended first and is in TIME-WAIT.
fn stream_sharing_with_what_waits_after_the_end(p: &mut Probe<'_>) {
    shared(p, |p, fd, port| {
        let ret = p.calls.listen(fd, 1);
        let _ = p.ret("listen", ret);
        let client = joined(p, port);
        let server = accepted(p, fd);
        end(p, "server", server);
        end(p, "client", client);
        end(p, "listener", fd);
    });
}

fn stream_addresses_that_conflict(p: &mut Probe<'_>) {
    for (number, held) in [ANY, LO, NET].into_iter().enumerate() {
        let port = 4000 + 10 * number as u16;
        p.within(&format!("{held:?}"));
        let fd = tcp(p);
        let _ = p.bind("bind", fd, held, port);
        let ret = p.calls.listen(fd, 1);
        let _ = p.ret("listen", ret);
        for ip in [ANY, LO, NET, ETH] {
            let fd = tcp(p);
            let _ = p.bind(&format!("{ip:?}"), fd, ip, port);
            end(p, "gone", fd);
        }
    }
    p.within("");
}

/// The more exact address is the listener.
fn stream_two_listeners_at_one_port(p: &mut Probe<'_>) {
    let [any, exact] = [ANY, LO].map(|ip| {
        let fd = willing(p, BOTH);
        let _ = p.bind("bind", fd, ip, 4000);
        let ret = p.calls.listen(fd, 4);
        let _ = p.ret("listen", ret);
        fd
    });
    for ip in [LO, NET] {
        let fd = tcp(p);
        let _ = p.connect("connect", fd, ip, 4000);
        p.calls.settle();
        p.poll("any, exact", &[(any, 0x7fff), (exact, 0x7fff)], 0);
    }
    end(p, "exact", exact);
    joined(p, 4000);
    p.mask("any", any);
}

fn stream_a_shared_port_becomes_a_listener(p: &mut Probe<'_>) {
    let [one, two] = [willing(p, ADDR), willing(p, ADDR)];
    for fd in [one, two] {
        let _ = p.bind("bind", fd, LO, 4000);
    }
    let ret = p.calls.listen(one, 1);
    let _ = p.ret("one listens", ret);
    let ret = p.calls.listen(two, 1);
    let _ = p.ret("the other listens", ret);
    look(p, two);
    let third = willing(p, ADDR);
    let _ = p.bind("a third binds", third, LO, 4000);
    end(p, "one", one);
    let ret = p.calls.listen(two, 1);
    let _ = p.ret("the other listens", ret);
}

/// Which of a group gets a caller is the host's business; that each is got once is not.
fn stream_groups_share_their_callers(p: &mut Probe<'_>) {
    let group: Vec<i32> = (0..3)
        .map(|_| {
            let fd = willing(p, PORT);
            let _ = p.bind("bind", fd, LO, 4000);
            let ret = p.calls.listen(fd, 32);
            let _ = p.ret("listen", ret);
            super::stream_lib::no_waiting(p, fd);
            fd
        })
        .collect();
    let got = |p: &mut Probe<'_>, group: &[i32]| {
        let mut accepted = 0;
        for fd in group {
            while p.calls.accept4(*fd, 0).is_ok() {
                accepted += 1;
            }
        }
        accepted
    };
    for _ in 0..24 {
        joined(p, 4000);
    }
    let accepted = got(p, &group);
    p.note("accepted", accepted);
    end(p, "one goes", group[0]);
    for _ in 0..24 {
        joined(p, 4000);
    }
    let accepted = got(p, &group[1..]);
    p.note("accepted", accepted);
}

fn stream_sharing_is_asked_too_late(p: &mut Probe<'_>) {
    for option in [SO_REUSEADDR, SO_REUSEPORT] {
        p.within(&format!("option {option}"));
        let port = 4000 + option as u16;
        let one = bound(p, port);
        let _ = p.set("after binding", one, (SOL_SOCKET, option), 1);
        let two = willing(p, &[option]);
        let _ = p.bind("another", two, LO, port);
    }
    p.within("");
}

fn stream_sharing_is_taken_back(p: &mut Probe<'_>) {
    for option in [SO_REUSEADDR, SO_REUSEPORT] {
        p.within(&format!("option {option}"));
        let port = 4000 + option as u16;
        let one = willing(p, &[option]);
        let _ = p.bind("bind", one, LO, port);
        let _ = p.set("taken back", one, (SOL_SOCKET, option), 0);
        let two = willing(p, &[option]);
        let _ = p.bind("another", two, LO, port);
        let three = willing(p, NONE);
        let _ = p.bind("a third", three, LO, port);
    }
    p.within("");
}

fn stream_the_port_of_datagrams_is_another(p: &mut Probe<'_>) {
    let datagrams = p.bound(LO, 4000);
    let stream = listener(p, 4000);
    p.names("datagrams", datagrams);
    p.names("stream", stream);
}

/// Who was accepted and ended first leaves its port in TIME-WAIT: a listener comes back only if it may
/// share.
fn stream_listening_after_the_end(p: &mut Probe<'_>) {
    for (label, options) in KINDS {
        p.within(label);
        let port = 4000 + 10 * options.iter().sum::<i32>() as u16;
        let fd = willing(p, options);
        let _ = p.bind("bind", fd, LO, port);
        let ret = p.calls.listen(fd, 1);
        let _ = p.ret("listen", ret);
        let client = joined(p, port);
        let server = accepted(p, fd);
        shut(p, "server", server, SHUT_WR);
        p.calls.settle();
        shut(p, "client", client, SHUT_WR);
        p.calls.settle();
        end(p, "server", server);
        end(p, "client", client);
        end(p, "listener", fd);
        let fd = willing(p, options);
        let _ = p.bind("bind again", fd, LO, port);
        let ret = p.calls.listen(fd, 1);
        let _ = p.ret("listen again", ret);
        let client = tcp(p);
        let ret = p.calls.connect(client, &sa(LO, port));
        let _ = p.ret("connect", ret);
    }
    p.within("");
}

fn stream_a_port_is_free_after_a_refusal(p: &mut Probe<'_>) {
    let fd = bound(p, 4000);
    let _ = p.connect("refused", fd, LO, 4001);
    let other = tcp(p);
    let _ = p.bind("held still", other, LO, 4000);
    end(p, "close", fd);
    let _ = p.bind("free", other, LO, 4000);
}

fn stream_a_port_is_free_after_disconnecting(p: &mut Probe<'_>) {
    let first = pair(p, 4000);
    let name = p.calls.getsockname(first.client).unwrap_or_default();
    disconnect(p, "disconnect", first.client);
    let fd = tcp(p);
    let ret = p.calls.bind(fd, &name);
    let _ = p.ret("its port", ret);
    end(p, "client", first.client);
    let fd = tcp(p);
    let ret = p.calls.bind(fd, &name);
    let _ = p.ret("its port", ret);
}

fn stream_binding_what_is_not_ours(p: &mut Probe<'_>) {
    let fd = tcp(p);
    let _ = p.bind("refused", fd, FOREIGN, 4000);
    let _ = p.set("free", fd, (SOL_IP, IP_FREEBIND), 1);
    let _ = p.bind("allowed", fd, FOREIGN, 4000);
    let ret = p.calls.listen(fd, 1);
    let _ = p.ret("listen", ret);
    p.names("names", fd);
}
