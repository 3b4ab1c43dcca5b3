//! What decided about a packet, as the machine has it now; or how to ask for it.

use super::Asked;
use super::advice::Look;
use super::story::{Flow, Story, needs_flow};
use crate::control::client::Connection;
use crate::control::wire::{Link, Neigh, Op, Route, Setting, Socket, Stat};
use uapi::ip::{IPPROTO_TCP, IPPROTO_UDP};

/// Lines about it. Whatever can't be asked is said with the command that asks it.
pub(super) fn look(look: Look, story: &Story, asked: Asked<'_>) -> Vec<String> {
    let flow = story.flow();
    if needs_flow(look) && flow.is_none() {
        return Vec::new();
    }
    let dev = story.dev().unwrap_or("DEV");
    let Some(connection) = asked else { return vec![format!("ask: {}", command(look, flow, dev))] };
    let lines = match look {
        Look::Sysctl(name) => setting(connection, &name.replace("DEV", dev)),
        Look::RouteTo => route(connection, flow.map(|flow| flow.dst)),
        Look::RouteFrom => route(connection, flow.map(|flow| flow.src)),
        Look::Neigh => neighbours(connection, dev, flow),
        Look::Sockets => sockets(connection, flow),
        Look::Link => links(connection, dev, false),
        Look::Addrs => links(connection, dev, true),
        Look::Counters(file, names) => counters(connection, file, names),
    };
    // Who has ended meanwhile, or does not know, says nothing of it.
    lines.unwrap_or_default()
}

fn command(look: Look, flow: Option<Flow>, dev: &str) -> String {
    let addr = |of: fn(Flow) -> std::net::Ipv4Addr| {
        flow.map_or("A".to_owned(), |flow| of(flow).to_string())
    };
    match look {
        Look::Sysctl(name) => format!("netkeel sysctl {}", name.replace("DEV", dev)),
        Look::RouteTo => format!("netkeel route get {}", addr(|flow| flow.dst)),
        Look::RouteFrom => format!("netkeel route get {}", addr(|flow| flow.src)),
        Look::Neigh => format!("netkeel neigh show dev {dev}"),
        Look::Sockets => "netkeel ss -tuan".to_owned(),
        Look::Link => format!("netkeel link show {dev}"),
        Look::Addrs => "netkeel addr".to_owned(),
        Look::Counters(file, _) => format!("netkeel stat {file}"),
    }
}

fn setting(connection: &mut Connection, name: &str) -> Option<Vec<String>> {
    let settings: Vec<Setting> =
        connection.ask(&Op::SysctlGet { name: Some(name.to_owned()) }).ok()?;
    Some(settings.iter().map(|setting| format!("{} = {}", setting.name, setting.value)).collect())
}

fn route(connection: &mut Connection, to: Option<std::net::Ipv4Addr>) -> Option<Vec<String>> {
    let to = to?;
    let answer: Result<Route, _> = connection.ask(&Op::RouteGet { dst: to.to_string() });
    let line = match answer {
        Err(why) => format!("route to {to}: {why}"),
        Ok(route) => {
            let via = route.gateway.map_or(String::new(), |gateway| format!(" via {gateway}"));
            let kind = route.kind.map_or(String::new(), |kind| format!(" ({kind})"));
            format!("route to {to}: dev {}{via}{kind}", route.dev.unwrap_or_default())
        }
    };
    Some(vec![line])
}

fn neighbours(connection: &mut Connection, dev: &str, flow: Option<Flow>) -> Option<Vec<String>> {
    let all: Vec<Neigh> = connection.ask(&Op::NeighShow { dev: Some(dev.to_owned()) }).ok()?;
    let mut lines = vec![format!("{} neighbours on {dev}", all.len())];
    let next = flow.map(|flow| flow.dst.to_string());
    for neigh in all.iter().filter(|neigh| next.as_ref() == Some(&neigh.dst)) {
        let lladdr = neigh.lladdr.as_deref().unwrap_or("no link address");
        lines.push(format!("{} is at {lladdr}, {}", neigh.dst, neigh.state.join(",")));
    }
    Some(lines)
}

fn sockets(connection: &mut Connection, flow: Option<Flow>) -> Option<Vec<String>> {
    let flow = flow?;
    let netid = match flow.proto {
        IPPROTO_TCP => "tcp",
        IPPROTO_UDP => "udp",
        _ => return None,
    };
    let op = Op::Sockets { netid: Some(netid.to_owned()), skip: None, info: None };
    let all: Vec<Socket> = connection.ask(&op).ok()?;
    let there: Vec<String> =
        all.iter().filter(|socket| socket.local_port == flow.port).map(told).collect();
    if there.is_empty() {
        return Some(vec![format!("no {netid} socket has port {}", flow.port)]);
    }
    Some(there)
}

fn told(socket: &Socket) -> String {
    let Socket { netid, state, recv_q, local_addr, local_port, peer_addr, peer_port, .. } = socket;
    let memory = socket.skmem.as_ref().map_or(String::new(), |mem| {
        format!(", {} of {} octets of its receive buffer taken, {} dropped", mem.r, mem.rb, mem.d)
    });
    let filter =
        socket.bpf.map_or(String::new(), |len| format!(", its filter has {len} instructions"));
    format!(
        "{netid} {local_addr}:{local_port} {peer_addr}:{peer_port} {state}, {recv_q} to read{memory}{filter}"
    )
}

fn links(connection: &mut Connection, dev: &str, addrs: bool) -> Option<Vec<String>> {
    let op = match addrs {
        true => Op::AddrShow { dev: None },
        false => Op::LinkShow { dev: Some(dev.to_owned()) },
    };
    let all: Vec<Link> = connection.ask(&op).ok()?;
    let line = |link: &Link| match addrs {
        true => {
            let infos = link.addr_info.iter().flatten();
            let addrs: Vec<String> =
                infos.map(|addr| format!("{}/{}", addr.local, addr.prefixlen)).collect();
            format!(
                "{}: {}",
                link.ifname,
                if addrs.is_empty() { "no address".to_owned() } else { addrs.join(" ") }
            )
        }
        false => format!(
            "{}: {}, mtu {}, qdisc {}, qlen {}, {}",
            link.ifname, link.operstate, link.mtu, link.qdisc, link.txqlen, link.address
        ),
    };
    Some(all.iter().map(line).collect())
}

fn counters(connection: &mut Connection, file: &str, names: &[&str]) -> Option<Vec<String>> {
    let stat: Stat = connection.ask(&Op::Stat { file: file.to_owned() }).ok()?;
    let wanted = |line: &&str| names.is_empty() || names.iter().any(|name| line.starts_with(name));
    Some(stat.text.lines().filter(wanted).take(8).map(|line| format!("{file}: {line}")).collect())
}
