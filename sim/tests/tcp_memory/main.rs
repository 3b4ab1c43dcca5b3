//! What a connection costs: octets of an idle one and of a TIME_WAIT, counted by the allocator; and as many
//! connections at once as a program of some size has.
//!
//! One test in a binary of its own: whatever else ran would be counted, too.

#[path = "../tcp/util.rs"]
#[allow(dead_code)] // Its other half is the other binary's.
mod util;

use sim::Impairment;
use stack::fs::{exit_files, sys_close};
use stack::kernel::machine::Machine;
use stack::net::core::sysctl::update_sysctls;
use stack::net::ipv4::proc::sockstat_seq_show;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use util::{B, Pair, connected, listener};

struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as the caller promises to `System`.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }
    // SAFETY: as the caller promises to `System`.
    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Connections at once.
const ALL: usize = if cfg!(debug_assertions) { 2_000 } else { 100_000 };
/// What one end of an idle connection may cost: socket, TCP's part, algorithm, entries in the tables, file.
const ESTABLISHED: usize = 2048;
/// What is left of one may, with its entries in the tables.
const TIME_WAIT: usize = 512;

fn live() -> usize {
    LIVE.load(Ordering::Relaxed)
}

fn tcp_of(machine: &Machine) -> String {
    let stat = sockstat_seq_show(machine);
    stat.lines().next().expect("TCP's line").to_owned()
}

#[test]
fn an_idle_connection_costs_two_kibibytes_an_end_and_a_time_wait_little() {
    let wire = Impairment { delay: Duration::from_micros(10), ..Impairment::default() };
    let mut pair = Pair::new(1, wire);
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    for cx in [&mut a, &mut b] {
        update_sysctls(cx, |sysctl| sysctl.tcp.max_tw_buckets = 1 << 20);
    }
    // To each port there are fourteen thousand to connect from before those that are left to others.
    let listeners: Vec<i32> =
        (0..ALL.div_ceil(10_000) as u16).map(|n| listener(&mut b, B, 80 + n, 16)).collect();
    // What is allocated once and kept.
    let (first, _) = connected(&mut pair, &mut a, &mut b, listeners[0]);
    pair.world.run_for(Duration::from_secs(10));
    let before = live();
    let mut ends = Vec::with_capacity(ALL);
    for n in 0..ALL {
        ends.push(connected(&mut pair, &mut a, &mut b, listeners[n % listeners.len()]));
    }
    // The timers of the handshake pass.
    pair.world.run_for(Duration::from_secs(10));
    pair.check();
    let each = (live() - before - ALL * size_of::<(i32, i32)>()) / ALL / 2;
    assert_eq!(tcp_of(&pair.a), format!("TCP: inuse {0} orphan 0 tw 0 alloc {0} mem 0", ALL + 1));
    println!("{each} octets an end of an idle connection, of {ALL}");
    assert!(each <= ESTABLISHED, "{each} octets an end of an idle connection");
    // Some at a time: the wire holds a thousand frames.
    for some in ends.chunks(256) {
        for (near, _) in some {
            sys_close(&mut a, *near).expect("open");
        }
        pair.world.run_for(Duration::from_millis(1));
        for (_, far) in some {
            sys_close(&mut b, *far).expect("open");
        }
        pair.world.run_for(Duration::from_millis(1));
    }
    exit_files(&mut b);
    pair.world.run_for(Duration::from_secs(1));
    // Of the first one the peer's FIN is there to be read.
    assert_eq!(tcp_of(&pair.a), format!("TCP: inuse 1 orphan 0 tw {ALL} alloc 1 mem 1"));
    let waiting = live();
    pair.world.run_for(Duration::from_secs(65));
    assert_eq!(tcp_of(&pair.a), "TCP: inuse 1 orphan 0 tw 0 alloc 1 mem 1");
    let left = (waiting - live()) / ALL;
    println!("{left} octets a TIME_WAIT");
    assert!(left <= TIME_WAIT, "{left} octets a TIME_WAIT");
    sys_close(&mut a, first).expect("open");
    drop((a, b));
    let _digest = pair.end(Duration::from_secs(1200));
}
