//! Sockets: UDP's by port, then TCP's, listeners first.

use super::super::wire::{SOCKETS, SkMem, Socket, Timer};
use super::{Done, Target, invalid};
use stack::net::core::sock::{MemInfo, Sock};
use stack::net::ipv4::tcp_diag::{InetDiagMsg, InetDiagTimer, tcp_diag_dump};
use std::net::Ipv4Addr;

impl Target<'_> {
    pub(super) fn sockets(
        &self,
        netid: Option<&str>,
        skip: usize,
        info: bool,
    ) -> Done<Vec<Socket>> {
        let (udp, tcp) = match netid {
            None => (true, true),
            Some("udp") => (true, false),
            Some("tcp") => (false, true),
            Some(other) => {
                return Err(invalid(format!(
                    "there are no sockets of {other:?}: write udp or tcp"
                )));
            }
        };
        let mut datagrams = if udp { self.tables().ns.udp_table.dump() } else { Vec::new() };
        datagrams.sort_by_key(|sk| sk.inet_num());
        let before = datagrams.len();
        let shown = datagrams.iter().skip(skip).take(SOCKETS);
        let mut sockets: Vec<Socket> = shown.map(|sk| datagram(sk)).collect();
        if tcp && sockets.len() < SOCKETS {
            let (skip, most) = (skip.saturating_sub(before), SOCKETS - sockets.len());
            let streams = tcp_diag_dump(self.view(), skip, most);
            sockets.extend(streams.iter().map(|msg| stream(msg, info)));
        }
        Ok(sockets)
    }
}

fn addr(addr: u32) -> String {
    Ipv4Addr::from(addr).to_string()
}

fn skmem(mem: &MemInfo) -> SkMem {
    SkMem {
        r: mem.rmem_alloc,
        rb: mem.rcvbuf,
        t: mem.wmem_alloc,
        tb: mem.sndbuf,
        f: mem.fwd_alloc,
        w: mem.wmem_queued,
        bl: mem.backlog,
        d: mem.drops,
    }
}

fn datagram(sk: &Sock) -> Socket {
    let (mem, bpf) = (sk.sk_get_meminfo(), sk.filter_len());
    let state = sk.state();
    let inet = &state.inet;
    Socket {
        netid: sk.sk_prot.name.to_lowercase(),
        state: if inet.dport != 0 { "ESTAB" } else { "UNCONN" }.to_owned(),
        recv_q: mem.rmem_alloc,
        send_q: mem.wmem_alloc,
        local_addr: addr(inet.rcv_saddr),
        local_port: inet.num,
        peer_addr: addr(inet.daddr),
        peer_port: inet.dport,
        sk: sk.cookie,
        shutdown: Some(state.shutdown),
        timer: None,
        skmem: Some(skmem(&mem)),
        bpf,
        cong: None,
        bbr: None,
        tcp_info: None,
    }
}

fn stream(msg: &InetDiagMsg, info: bool) -> Socket {
    let sock = msg.sock.as_ref();
    let told = sock.filter(|_| info);
    Socket {
        netid: "tcp".to_owned(),
        state: msg.state.name().to_owned(),
        recv_q: msg.rqueue as usize,
        send_q: msg.wqueue as usize,
        local_addr: addr(msg.tuple.laddr),
        local_port: msg.tuple.lport,
        peer_addr: addr(msg.tuple.raddr),
        peer_port: msg.tuple.rport,
        sk: msg.cookie,
        shutdown: sock.map(|sock| sock.shutdown),
        timer: timer(msg),
        skmem: sock.map(|sock| skmem(&sock.mem)),
        bpf: sock.and_then(|sock| sock.filter),
        cong: told.map(|sock| sock.cong.to_owned()),
        bbr: told.and_then(|sock| sock.bbr).map(Into::into),
        tcp_info: told.map(|sock| sock.info.into()),
    }
}

fn timer(msg: &InetDiagMsg) -> Option<Timer> {
    let name = match msg.timer {
        InetDiagTimer::Off => return None,
        InetDiagTimer::On => "on",
        InetDiagTimer::Keepalive => "keepalive",
        InetDiagTimer::Timewait => "timewait",
        InetDiagTimer::Persist => "persist",
    };
    let expires = u64::try_from(msg.expires.as_millis()).unwrap_or(u64::MAX);
    Some(Timer { name: name.to_owned(), expires, retrans: msg.retrans })
}
