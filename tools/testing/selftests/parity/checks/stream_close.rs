//! The ways a connection ends.

use super::checks;
use super::stream_lib::{
    Pair, acknowledge, end, joined, linger, listener, look, pair, reset, shut, state,
};
use crate::Probe;
use uapi::socket::{
    MSG_NOSIGNAL, SHUT_RD, SHUT_RDWR, SHUT_WR, SO_ERROR, SO_LINGER, SO_SNDBUF, SOL_SOCKET, SOL_TCP,
};
use uapi::sockios::FIONREAD;
use uapi::tcp::TCP_LINGER2;

checks! {
    stream_half_closed_by_the_client
    stream_half_closed_by_the_server
    stream_states_of_who_ends_first
    stream_states_of_who_ends_second
    stream_shut_again_and_again
    stream_shut_one_way_after_the_other
    stream_closed_with_unread_data
    stream_closed_after_all_was_read
    stream_lingering_no_time
    stream_lingering_no_time_with_data_on_its_way
    stream_lingering_no_time_by_a_duplicate
    stream_lingering_while_all_has_arrived
    stream_values_of_linger
    stream_a_duplicate_keeps_it_open
    stream_a_duplicate_is_shut_too
    stream_closed_while_the_peer_sends
    stream_reset_by_both
    stream_shut_after_a_reset
    stream_shut_for_receiving_then_closed
    stream_the_end_of_a_half_closed_one
    stream_closing_does_not_disturb_others
    stream_errors_are_taken_once
    stream_the_time_in_fin_wait_2
    stream_data_with_the_end
}

fn stream_half_closed_by_the_client(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    half_closed(p, client, server);
}

fn stream_half_closed_by_the_server(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    half_closed(p, server, client);
}

/// One way is shut, the other works on.
fn half_closed(p: &mut Probe<'_>, one: i32, other: i32) {
    let _ = p.send("before", one, b"question", 0);
    shut(p, "shut", one, SHUT_WR);
    p.recvfrom("the question", other, 100, 0);
    p.recvfrom("the end", other, 100, 0);
    acknowledge(p, other);
    for _ in 0..3 {
        let _ = p.send("answer", other, b"answer", 0);
        p.recvfrom("the answer", one, 100, 0);
    }
    look(p, one);
    look(p, other);
    shut(p, "shut, too", other, SHUT_WR);
    p.recvfrom("the end", one, 100, 0);
    look(p, one);
    look(p, other);
}

fn states(p: &mut Probe<'_>, [one, other]: [i32; 2]) {
    state(p, "one", one);
    state(p, "the other", other);
}

fn stream_states_of_who_ends_first(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let both = [client, server];
    states(p, both);
    shut(p, "one is done", client, SHUT_WR);
    acknowledge(p, server);
    states(p, both);
    shut(p, "and the other", server, SHUT_WR);
    states(p, both);
    end(p, "one", client);
    look(p, server);
}

fn stream_states_of_who_ends_second(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    shut(p, "one is done", server, SHUT_WR);
    acknowledge(p, client);
    states(p, [server, client]);
    end(p, "one is closed", server);
    state(p, "the other", client);
    let _ = p.send("refused", client, b"x", MSG_NOSIGNAL);
    look(p, client);
}

fn stream_shut_again_and_again(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    for how in [SHUT_WR, SHUT_WR, SHUT_RD, SHUT_RD, SHUT_RDWR, SHUT_WR] {
        shut(p, &format!("shut {how}"), client, how);
        p.mask("mask", client);
        p.mask("peer", server);
    }
    shut(p, "the peer", server, SHUT_WR);
    for how in [SHUT_WR, SHUT_RD, SHUT_RDWR] {
        shut(p, &format!("shut {how}"), client, how);
    }
    look(p, client);
}

fn stream_shut_one_way_after_the_other(p: &mut Probe<'_>) {
    for (first, second) in [(SHUT_RD, SHUT_WR), (SHUT_WR, SHUT_RD)] {
        p.within(&format!("{first} then {second}"));
        let Pair { client, server, .. } = pair(p, 4000 + 10 * first as u16);
        for how in [first, second] {
            shut(p, &format!("shut {how}"), client, how);
            acknowledge(p, server);
            state(p, "state", client);
            p.mask("mask", client);
            p.recvfrom("receive", client, 8, 0);
            let _ = p.send("send", client, b"x", MSG_NOSIGNAL);
        }
        look(p, server);
    }
    p.within("");
}

/// What was not read is lost, and the peer is told so by a reset.
fn stream_closed_with_unread_data(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let _ = p.send("sent", client, b"data", 0);
    let _ = p.send("the other way", server, b"data", 0);
    end(p, "close", server);
    state(p, "state", client);
    p.mask("mask", client);
    p.recvfrom("what came before", client, 8, 0);
    look(p, client);
}

fn stream_closed_after_all_was_read(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let _ = p.send("sent", client, b"data", 0);
    p.recvfrom("read", server, 8, 0);
    end(p, "close", server);
    look(p, client);
    p.recvfrom("the end", client, 8, 0);
}

fn stream_lingering_no_time(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let _ = p.set_bytes("linger", server, (SOL_SOCKET, SO_LINGER), &linger(1, 0));
    p.get_bytes("read back", server, (SOL_SOCKET, SO_LINGER), 8);
    end(p, "close", server);
    state(p, "state", client);
    p.mask("mask", client);
    p.recvfrom("receive", client, 8, 0);
    look(p, client);
}

fn stream_lingering_no_time_with_data_on_its_way(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let _ = p.send("sent", server, b"data", 0);
    reset(p, server);
    p.recvfrom("receive", client, 8, 0);
    p.recvfrom("the error", client, 8, 0);
    p.recvfrom("the end", client, 8, 0);
}

fn stream_lingering_no_time_by_a_duplicate(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let dup = p.calls.dup(server);
    let dup = p.ret("dup", dup).unwrap_or(-1) as i32;
    reset(p, server);
    look(p, client);
    let _ = p.send("send", dup, b"alive", 0);
    p.recvfrom("receive", client, 8, 0);
    end(p, "the duplicate", dup);
    look(p, client);
}

fn stream_lingering_while_all_has_arrived(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    shut(p, "the peer is done", client, SHUT_WR);
    let _ = p.send("sent", server, b"data", 0);
    let _ = p.set_bytes("linger", server, (SOL_SOCKET, SO_LINGER), &linger(1, 5));
    // Its end is acknowledged at once, for the peer has ended.
    end(p, "close", server);
    p.recvfrom("receive", client, 8, 0);
    p.recvfrom("the end", client, 8, 0);
    look(p, client);
}

fn stream_values_of_linger(p: &mut Probe<'_>) {
    let Pair { client, .. } = pair(p, 4000);
    let option = (SOL_SOCKET, SO_LINGER);
    p.get_bytes("none", client, option, 8);
    for (on, seconds) in [(1, 5), (0, 7), (-1, 3), (2, i32::MAX), (0, 0)] {
        let _ = p.set_bytes(&format!("{on}, {seconds}"), client, option, &linger(on, seconds));
        p.get_bytes("read back", client, option, 8);
    }
    let _ = p.set_bytes("short", client, option, &linger(1, 1)[..7]);
    p.get_bytes("into little room", client, option, 5);
    p.get_bytes("into more room", client, option, 20);
}

fn stream_a_duplicate_keeps_it_open(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let dup = p.calls.dup(client);
    let dup = p.ret("dup", dup).unwrap_or(-1) as i32;
    end(p, "the original", client);
    look(p, server);
    let _ = p.send("send", dup, b"data", 0);
    p.recvfrom("receive", server, 8, 0);
    end(p, "the duplicate", dup);
    look(p, server);
}

fn stream_a_duplicate_is_shut_too(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let dup = p.calls.dup(client);
    let dup = p.ret("dup", dup).unwrap_or(-1) as i32;
    shut(p, "shut", dup, SHUT_WR);
    let _ = p.send("send", client, b"x", MSG_NOSIGNAL);
    p.recvfrom("the end", server, 8, 0);
}

fn stream_closed_while_the_peer_sends(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    end(p, "close", server);
    for _ in 0..3 {
        let _ = p.send("send", client, b"x", MSG_NOSIGNAL);
        p.mask("mask", client);
    }
    look(p, client);
}

fn stream_reset_by_both(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    reset(p, client);
    look(p, server);
    let set = p.calls.setsockopt(server, SOL_SOCKET, SO_LINGER, &linger(1, 0));
    let _ = p.ret("linger", set);
    end(p, "close", server);
}

fn stream_shut_after_a_reset(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    reset(p, server);
    for how in [SHUT_WR, SHUT_RD, SHUT_RDWR] {
        shut(p, &format!("shut {how}"), client, how);
    }
    look(p, client);
}

fn stream_shut_for_receiving_then_closed(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    shut(p, "no reading", client, SHUT_RD);
    let _ = p.send("sent", server, b"data", 0);
    let _ = p.ioctl("to read", client, FIONREAD, 77);
    end(p, "close", client);
    look(p, server);
}

/// It has ended for its peer, whose data are refused with a reset.
fn stream_the_end_of_a_half_closed_one(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    shut(p, "done sending", client, SHUT_WR);
    acknowledge(p, server);
    let _ = p.send("arrives", server, b"one", 0);
    p.recvfrom("receive", client, 8, 0);
    end(p, "close", client);
    let _ = p.send("nobody reads", server, b"two", MSG_NOSIGNAL);
    state(p, "state", server);
    p.mask("mask", server);
    let _ = p.send("the error", server, b"x", MSG_NOSIGNAL);
    look(p, server);
}

fn stream_closing_does_not_disturb_others(p: &mut Probe<'_>) {
    let listener = listener(p, 4000);
    let clients = [0, 1, 2].map(|_| joined(p, 4000));
    let servers = [0, 1, 2].map(|_| super::stream_lib::accepted(p, listener));
    end(p, "first", clients[0]);
    reset(p, clients[1]);
    for server in servers {
        look(p, server);
    }
    let _ = p.send("send", clients[2], b"data", 0);
    p.recvfrom("receive", servers[2], 8, 0);
}

fn stream_errors_are_taken_once(p: &mut Probe<'_>) {
    for (number, label) in ["option", "receive", "send", "shutdown"].into_iter().enumerate() {
        p.within(label);
        let Pair { client, server, .. } = pair(p, 4000 + 10 * number as u16);
        reset(p, server);
        match label {
            "option" => p.get("first", client, (SOL_SOCKET, SO_ERROR)),
            "receive" => drop(p.recvfrom("first", client, 8, 0)),
            "send" => drop(p.send("first", client, b"x", MSG_NOSIGNAL)),
            _ => shut(p, "first", client, SHUT_WR),
        }
        p.get("then", client, (SOL_SOCKET, SO_ERROR));
        p.mask("mask", client);
    }
    p.within("");
}

fn stream_the_time_in_fin_wait_2(p: &mut Probe<'_>) {
    let Pair { client, .. } = pair(p, 4000);
    let option = (SOL_TCP, TCP_LINGER2);
    p.get("by default", client, option);
    for value in [10, 1, 59, 60, 120, 121, i32::MAX, -1, -5, 0] {
        let _ = p.set(&format!("{value} seconds"), client, option, value);
        p.get("read back", client, option);
    }
}

fn stream_data_with_the_end(p: &mut Probe<'_>) {
    let Pair { client, server, .. } = pair(p, 4000);
    let _ = p.set("little room", client, (SOL_SOCKET, SO_SNDBUF), 30_000);
    let data: Vec<u8> = (0..20_000_u32).map(|n| (n % 251) as u8).collect();
    let _ = p.send("send", client, &data, 0);
    end(p, "close", client);
    let got = p.calls.recvfrom(server, 30_000, 0x100);
    p.note("all came", got.data == data);
    p.recvfrom("the end", server, 8, 0);
    look(p, server);
}
