//! ICMP errors that nobody's router sent (RFC 5927).

use super::peer::{Conn, PORT, Victim};
use crate::hostile::PEER;
use uapi::errno::Errno;
use uapi::icmp::*;
use uapi::snmp::LinuxMib;

/// Ports as the machine's segments have them.
fn ports(conn: &Conn) -> (u16, u16) {
    conn.ports
}

/// A connection with 1000 octets under way.
fn sending(victim: &mut Victim) -> Conn {
    let conn = victim.connect(9001);
    let (wrote, said) = victim.write(&conn, &[1; 1000]);
    assert_eq!((wrote, said.len()), (1000, 1));
    conn
}

#[test]
fn attack_icmp_unreachable() {
    let mut victim = Victim::new();
    let conn = sending(&mut victim);
    let codes = [
        ICMP_NET_UNREACH,
        ICMP_HOST_UNREACH,
        ICMP_PROT_UNREACH,
        ICMP_PORT_UNREACH,
        ICMP_FRAG_NEEDED,
    ];
    // Off what is under way.
    for code in codes {
        for at in [0_u32.wrapping_sub(1), 1001, 1 << 31] {
            victim.icmp_error(code, 600, (ports(&conn), conn.first.wrapping_add(at)));
        }
    }
    assert_eq!(victim.count(LinuxMib::OutOfWindowIcmps), 15);
    let mss = victim.info(&conn).tcpi_snd_mss;
    assert_eq!(mss, 1460);
    // Of other ports.
    for code in codes {
        victim.icmp_error(code, 600, ((PORT, 9002), conn.first));
        victim.icmp_error(code, 600, ((PORT + 1, 9001), conn.first));
    }
    assert_eq!(victim.info(&conn).tcpi_snd_mss, mss);
    // Even what is quoted rightly ends no connection that stands (RFC 1122 section 4.2.3.9).
    for code in &codes[..4] {
        victim.icmp_error(*code, 0, (ports(&conn), conn.first));
        assert!(victim.is_established(&conn));
    }
    assert_eq!(victim.read(&conn, &mut [0; 8]), Err(Errno::EAGAIN));
    victim.end();
}

#[test]
fn attack_icmp_frag_needed() {
    let mut victim = Victim::new();
    let conn = sending(&mut victim);
    let quoted = (ports(&conn), conn.first);
    victim.icmp_error(ICMP_FRAG_NEEDED, 1000, quoted);
    assert_eq!(victim.info(&conn).tcpi_snd_mss, 960);
    // It makes nothing wider again.
    for mtu in [1001, 1400, 1500, 65_535] {
        victim.icmp_error(ICMP_FRAG_NEEDED, mtu, quoted);
        let (_, said) = victim.write(&conn, &[1; 3000]);
        assert!(said.iter().all(|said| said.flow.len <= 960), "{mtu}");
        assert_eq!(victim.info(&conn).tcpi_snd_mss, 960, "{mtu}");
        victim.tell(&conn.ack(1000));
    }
    victim.end();
}

#[test]
fn attack_icmp_tiny_mtu() {
    for mtu in [0, 1, 39, 40, 41, 68, 551] {
        let mut victim = Victim::new();
        let conn = sending(&mut victim);
        victim.icmp_error(ICMP_FRAG_NEEDED, mtu, (ports(&conn), conn.first));
        let mss = victim.info(&conn).tcpi_snd_mss;
        assert!((512..=1460).contains(&mss), "{mss} of {mtu}");
        victim.end();
    }
}

/// Who is not asked yet can be told that nobody is there, but by its own number alone.
#[test]
fn attack_icmp_while_connecting() {
    let mut victim = Victim::new();
    let (fd, syn) = victim.begin_to(PEER, 9001);
    for at in [2, 1000, 1 << 31, u32::MAX, 0] {
        let quoted = (syn.flow.ports, syn.seq().wrapping_add(at));
        victim.icmp_error(ICMP_PORT_UNREACH, 0, quoted);
        let state = crate::util::info(&mut victim.abuse.cx, fd).tcpi_state;
        if at != 0 {
            assert_eq!(state, uapi::tcp::TCP_SYN_SENT, "{at}");
        } else {
            assert_eq!(state, uapi::tcp::TCP_CLOSE, "its own");
        }
    }
    victim.end();
}
