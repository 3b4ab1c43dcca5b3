//! Options of polling for packets.

use super::checks;
use crate::Probe;
use uapi::socket::{
    MSG_DONTWAIT, SO_BUSY_POLL, SO_BUSY_POLL_BUDGET, SO_INCOMING_NAPI_ID, SO_PREFER_BUSY_POLL,
    SOL_SOCKET,
};

checks! {
    values_of_busy_poll
    values_of_busy_poll_budget
    values_of_prefer_busy_poll
    polling_where_nothing_comes
}

fn values(p: &mut Probe<'_>, option: i32) {
    let fd = p.udp();
    let option = (SOL_SOCKET, option);
    p.get("before", fd, option);
    for value in [1, 0, 50, -1, 65_535, 65_536, i32::MAX] {
        let _ = p.set(&format!("set {value}"), fd, option, value);
        p.get("now", fd, option);
    }
    let _ = p.set_bytes("short", fd, option, &[1, 0]);
}

fn values_of_busy_poll(p: &mut Probe<'_>) {
    values(p, SO_BUSY_POLL);
}

fn values_of_busy_poll_budget(p: &mut Probe<'_>) {
    values(p, SO_BUSY_POLL_BUDGET);
}

fn values_of_prefer_busy_poll(p: &mut Probe<'_>) {
    values(p, SO_PREFER_BUSY_POLL);
}

fn polling_where_nothing_comes(p: &mut Probe<'_>) {
    let reader = p.bound(crate::probe::LO, 4000);
    p.with(reader, (SOL_SOCKET, SO_BUSY_POLL), 50);
    p.get("by nobody", reader, (SOL_SOCKET, SO_INCOMING_NAPI_ID));
    p.recvfrom("nothing", reader, 100, MSG_DONTWAIT);
    let fd = p.joined(4001, 4000);
    let _ = p.send("sent", fd, b"0123456789", 0);
    p.get("by loopback", reader, (SOL_SOCKET, SO_INCOMING_NAPI_ID));
    p.recvfrom("received", reader, 100, 0);
    p.recvfrom("nothing", reader, 100, 0);
}
