//! Fast open between two machines: the first connection asks for a cookie, those after it save a round trip.

use crate::util::{B, Pair, addr, info, listener, seeds, stream};
use sim::{Fate, Impairment};
use stack::fs::{sys_close, sys_read, sys_write};
use stack::kernel::context::TaskCx;
use stack::kernel::machine::Machine;
use stack::net::core::sysctl::update_sysctls;
use stack::net::ipv4::tcp_fastopen::tcp_metrics_show;
use stack::net::socket::{sys_accept4, sys_connect, sys_sendto, sys_setsockopt, sys_shutdown};
use std::time::Duration;
use uapi::snmp::LinuxMib;
use uapi::socket::{MSG_FASTOPEN, SHUT_WR, SOL_TCP};
use uapi::tcp::{TCP_FASTOPEN, TCP_FASTOPEN_CONNECT, TCPI_OPT_SYN_DATA, TCPI_OPT_TFO_CHILD};

const PORT: u16 = 80;
/// What is left of a connection at the end dies out within this time.
const REST: Duration = Duration::from_secs(1200);

fn count(machine: &Machine, mib: LinuxMib) -> u64 {
    machine.mib().get(mib)
}

/// A listener of the second machine that takes data of SYNs.
fn fast_listener(b: &mut TaskCx) -> i32 {
    update_sysctls(b, |settings| settings.tcp.fastopen = 3);
    let listening = listener(b, B, PORT, 16);
    sys_setsockopt(b, listening, SOL_TCP, TCP_FASTOPEN, &16_i32.to_ne_bytes()).expect("a listener");
    listening
}

/// Sends `data` on a new connection; both ends, and what came.
fn send(
    pair: &mut Pair,
    (a, b): (&mut TaskCx, &mut TaskCx),
    listening: i32,
    data: &[u8],
) -> (i32, i32, Vec<u8>) {
    let near = stream(a);
    let to = addr(B, PORT);
    assert_eq!(pair.run(a, sys_sendto(near, data, MSG_FASTOPEN, Some(&to))), Ok(data.len()));
    let (far, _) = pair.run(b, sys_accept4(listening, 0)).expect("it is there");
    let mut came = Vec::new();
    while came.len() < data.len() {
        let mut room = [0; 4096];
        let len = pair.run(b, sys_read(far, &mut room)).expect("data");
        assert_ne!(len, 0, "{} of {} octets", came.len(), data.len());
        came.extend(&room[..len]);
    }
    pair.check();
    (near, far, came)
}

#[test]
fn the_second_connection_has_its_data_in_the_syn() {
    let delay = Duration::from_millis(20);
    let mut pair = Pair::new(1, Impairment { delay, ..Impairment::default() });
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let listening = fast_listener(&mut b);
    for (n, expected) in [(0, 0), (1, TCPI_OPT_SYN_DATA), (2, TCPI_OPT_SYN_DATA)] {
        let data = vec![n; 700];
        let (near, far, came) = send(&mut pair, (&mut a, &mut b), listening, &data);
        assert_eq!(came, data);
        assert_eq!(info(&mut a, near).tcpi_options & TCPI_OPT_SYN_DATA, expected);
        let child = if expected == 0 { 0 } else { expected | TCPI_OPT_TFO_CHILD };
        let both = TCPI_OPT_SYN_DATA | TCPI_OPT_TFO_CHILD;
        assert_eq!(info(&mut b, far).tcpi_options & both, child);
        assert_eq!(info(&mut b, far).tcpi_bytes_received, 700);
        assert_eq!(info(&mut a, near).tcpi_total_retrans, 0);
        sys_close(&mut a, near).expect("open");
        sys_close(&mut b, far).expect("open");
    }
    assert_eq!(count(&pair.b, LinuxMib::TCPFastOpenCookieReqd), 1);
    assert_eq!(count(&pair.b, LinuxMib::TCPFastOpenPassive), 2);
    assert_eq!(count(&pair.a, LinuxMib::TCPFastOpenActive), 2);
    sys_close(&mut b, listening).expect("open");
    let _seen = pair.end(REST);
}

/// SYNs with data are lost, twice in a row: it is counted and told by server, and the next SYN has data all the same.
#[test]
fn lost_syns_of_a_server_are_counted() {
    // The SYNs of the second and the third connection; of each the data goes again.
    let fates = &[(2, Fate::Lost), (4, Fate::Lost)];
    let mut pair = Pair::new(1, Impairment { fates, ..Impairment::default() });
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let listening = fast_listener(&mut b);
    for (n, fails, told) in
        [(0, 0, ""), (1, 1, " fo_syn_drops 1/"), (2, 2, " fo_syn_drops 2/"), (3, 2, "")]
    {
        let data = vec![n; 700];
        let (near, far, came) = send(&mut pair, (&mut a, &mut b), listening, &data);
        assert_eq!(came, data);
        assert_eq!(count(&pair.a, LinuxMib::TCPFastOpenActiveFail), fails);
        let metrics = tcp_metrics_show(&pair.a);
        assert!(metrics.starts_with(&format!("{B} fo_mss 1460{told}")), "{n}: {metrics}");
        assert!(metrics.contains(" fo_cookie "), "{metrics}");
        assert_eq!(metrics.contains("fo_syn_drops"), !told.is_empty(), "{n}: {metrics}");
        sys_close(&mut a, near).expect("open");
        sys_close(&mut b, far).expect("open");
    }
    assert_eq!(count(&pair.a, LinuxMib::TCPFastOpenActive), 1);
    assert_eq!(count(&pair.a, LinuxMib::TCPFastOpenBlackhole), 0, "one time-out each: no pause");
    sys_close(&mut b, listening).expect("open");
    let _seen = pair.end(REST);
}

#[test]
fn connect_waits_for_data_where_the_cookie_is_known() {
    let mut pair = Pair::new(2, Impairment::default());
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let listening = fast_listener(&mut b);
    for known in [false, true] {
        let near = stream(&mut a);
        let on = 1_i32.to_ne_bytes();
        sys_setsockopt(&mut a, near, SOL_TCP, TCP_FASTOPEN_CONNECT, &on).expect("fresh");
        assert_eq!(pair.run(&mut a, sys_connect(near, &addr(B, PORT))), Ok(()));
        let passive = count(&pair.b, LinuxMib::TCPFastOpenPassive);
        assert_eq!(pair.run(&mut a, sys_write(near, &[7; 3000])), Ok(3000));
        let (far, _) = pair.run(&mut b, sys_accept4(listening, 0)).expect("it is there");
        let mut left = 3000;
        while left != 0 {
            let mut room = [0; 4096];
            left -= pair.run(&mut b, sys_read(far, &mut room)).expect("data");
        }
        assert_eq!(count(&pair.b, LinuxMib::TCPFastOpenPassive) - passive, u64::from(known));
        pair.check();
        sys_close(&mut a, near).expect("open");
        sys_close(&mut b, far).expect("open");
    }
    sys_close(&mut b, listening).expect("open");
    let _seen = pair.end(REST);
}

/// Whatever is lost of SYNs, SYN-ACKs and data, each octet comes once.
#[test]
fn data_of_syns_comes_once_on_a_bad_way() {
    for seed in 0..seeds(12) {
        let delay = Duration::from_millis(10);
        let weather =
            Impairment { delay, jitter: delay, loss: 0.2, reorder: 0.1, ..Impairment::default() };
        let mut pair = Pair::new(seed, weather);
        let (mut a, mut b) = (pair.on_a(), pair.on_b());
        let listening = fast_listener(&mut b);
        for n in 0..6 {
            let data: Vec<u8> = (0..2500_u32).map(|at| (at * 7 + n) as u8).collect();
            let (near, far, came) = send(&mut pair, (&mut a, &mut b), listening, &data);
            assert_eq!(came, data, "seed {seed}, connection {n}");
            // Closed, it would give up after 102 s, which is two timeouts where the first round trip, with SYNs
            // lost, took seconds.
            sys_shutdown(&mut a, near, SHUT_WR).expect("open");
            assert_eq!(pair.run(&mut b, sys_read(far, &mut [0; 10])), Ok(0), "their FIN");
            sys_close(&mut a, near).expect("open");
            sys_close(&mut b, far).expect("open");
        }
        sys_close(&mut b, listening).expect("open");
        let _seen = pair.end(REST);
    }
}

/// Where the third SYN in a row is not answered, fast open pauses for the time that is set.
#[test]
fn it_pauses_where_nothing_comes_back() {
    let mut pair = Pair::new(3, Impairment::default());
    let (mut a, mut b) = (pair.on_a(), pair.on_b());
    let hour = Duration::from_secs(3600);
    update_sysctls(&mut a, |settings| settings.tcp.fastopen_blackhole_timeout = hour);
    let listening = fast_listener(&mut b);
    let open = |pair: &mut Pair, a: &mut TaskCx, b: &mut TaskCx| {
        let (near, far, _) = send(pair, (a, b), listening, &[1; 100]);
        sys_close(a, near).expect("open");
        sys_close(b, far).expect("open");
        count(&pair.b, LinuxMib::TCPFastOpenPassive)
    };
    open(&mut pair, &mut a, &mut b);
    assert_eq!(open(&mut pair, &mut a, &mut b), 1, "with a cookie");
    // Nobody answers at this address.
    let nobody = std::net::Ipv4Addr::new(192, 0, 2, 77);
    let lost = stream(&mut a);
    let to = addr(nobody, PORT);
    let sent = sys_sendto(lost, &[1; 100], MSG_FASTOPEN, Some(&to));
    let failed = pair.run(&mut a, sent);
    assert!(failed.is_err(), "{failed:?}");
    sys_close(&mut a, lost).expect("open");
    assert_eq!(count(&pair.a, LinuxMib::TCPFastOpenBlackhole), 1);
    assert_eq!(open(&mut pair, &mut a, &mut b), 1, "it pauses");
    pair.world.run_for(hour);
    assert_eq!(open(&mut pair, &mut a, &mut b), 2, "and goes on");
    sys_close(&mut b, listening).expect("open");
    let _seen = pair.end(REST);
}
