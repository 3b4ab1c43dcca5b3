//! `netkeel addr`, `link`, `route`, `neigh`: as iproute2's `ip`.

use super::{Asking, Words, checked, number, owned, usage};
use crate::cli::Failure;
use crate::control::ops::neigh::parse_mac;
use crate::control::ops::route::parse_destination;
use crate::control::ops::{parse_ip, parse_prefix};
use crate::control::wire::{AddrInfo, Link, Neigh, Op, Route};
use clap::Args;
use std::fmt::Write;

const ADDR_EXAMPLES: &str = "\
Examples:
  netkeel addr                              all devices with their addresses
  netkeel addr show dev nk0
  netkeel addr add 192.0.2.9/24             to the machine's TAP; to another with `dev lo`
  netkeel addr del 192.0.2.9/24 dev nk0
  netkeel addr --json | jq '.[].addr_info'
  netkeel addr --machine nk1                of one of several machines";

const LINK_EXAMPLES: &str = "\
Examples:
  netkeel link                              all devices
  netkeel link set nk0 down                 its routes go, as on Linux
  netkeel link set nk0 up mtu 1400
  netkeel link add veth0 type veth peer eth0 netns blue     see netkeel netns --help
  netkeel link set veth0 netns blue
  netkeel link del veth0                    and its peer";

const ROUTE_EXAMPLES: &str = "\
Examples:
  netkeel route                             the main table
  netkeel route show table local            or default, or all
  netkeel route get 198.51.100.1            the way a packet would go
  netkeel route add default via 192.0.2.1
  netkeel route add 198.51.100.0/24 via 192.0.2.1 metric 10
  netkeel route del 198.51.100.0/24";

const NEIGH_EXAMPLES: &str = "\
Examples:
  netkeel neigh                             link addresses of neighbours, and their states
  netkeel neigh add 192.0.2.7 lladdr 02:00:00:00:00:07
  netkeel neigh replace 192.0.2.7 lladdr 02:00:00:00:00:08 dev nk0
  netkeel neigh del 192.0.2.7
  netkeel neigh flush                       forgets those that were learnt";

/// Show or change the addresses of a running machine
#[derive(Args, Clone, Debug)]
#[command(after_help = ADDR_EXAMPLES)]
pub struct AddrArgs {
    /// show [dev D], add A/P [dev D], del A/P [dev D]
    words: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

/// Show or change the devices of a running machine
#[derive(Args, Clone, Debug)]
#[command(after_help = LINK_EXAMPLES)]
pub struct LinkArgs {
    /// show [dev D], set D [up|down] [mtu N], set D netns N, add D type veth peer P [netns N], del D
    words: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

/// Show or change the routes of a running machine
#[derive(Args, Clone, Debug)]
#[command(after_help = ROUTE_EXAMPLES)]
pub struct RouteArgs {
    /// show [table T], get A, add DST [via A] [dev D] [metric N], del DST [via A] [dev D] [metric N];
    /// DST is A/P, A or default
    words: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

/// Show or change the neighbours of a running machine
#[derive(Args, Clone, Debug)]
#[command(after_help = NEIGH_EXAMPLES)]
pub struct NeighArgs {
    /// show [dev D], add A lladdr L [dev D], replace A lladdr L [dev D], del A [dev D], flush [dev D]
    words: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

impl AddrArgs {
    /// Does it.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        let mut words = Words::new("addr", &self.words);
        match words.verb() {
            "show" => {
                let [dev] = words.values(["dev"])?;
                let links: Vec<Link> = self.asking.ask(&Op::AddrShow { dev: owned(dev) })?;
                self.asking.show(&links, |links| links.iter().map(link_text).collect())
            }
            verb @ ("add" | "del") => {
                let addr = words.need("the address, as 192.0.2.9/24,")?.to_owned();
                checked(parse_prefix(&addr))?;
                let [dev] = words.values(["dev"])?;
                let dev = owned(dev);
                self.asking.order(&match verb {
                    "add" => Op::AddrAdd { addr, dev },
                    _ => Op::AddrDel { addr, dev },
                })
            }
            other => Err(words.unknown(other, &["show", "add", "del"])),
        }
    }
}

impl LinkArgs {
    /// Does it.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        let mut words = Words::new("link", &self.words);
        match words.verb() {
            "show" => {
                let [dev] = words.values(["dev"])?;
                let links: Vec<Link> = self.asking.ask(&Op::LinkShow { dev: owned(dev) })?;
                self.asking.show(&links, |links| links.iter().map(link_text).collect())
            }
            "set" => {
                let mut dev = words.need("the device")?;
                if dev == "dev" {
                    dev = words.need("the device")?;
                }
                let (mut up, mut mtu, mut netns) = (None, None, None);
                while let Some(word) = words.next() {
                    match word {
                        "up" => up = Some(true),
                        "down" => up = Some(false),
                        "mtu" => mtu = Some(number("mtu", words.need("what follows mtu")?)?),
                        "netns" => netns = Some(words.need("what follows netns")?.to_owned()),
                        other => {
                            return Err(
                                words.unknown(other, &["up", "down", "mtu N", "netns NAME"])
                            );
                        }
                    }
                }
                if up.is_none() && mtu.is_none() && netns.is_none() {
                    return Err(usage(format!(
                        "link set {dev}: write up, down, mtu N or netns NAME behind it"
                    )));
                }
                if netns.is_some() && (up.is_some() || mtu.is_some()) {
                    return Err(usage(format!(
                        "link set {dev}: move it by itself, then set the rest where it is"
                    )));
                }
                self.asking.order(&Op::LinkSet { dev: dev.to_owned(), up, mtu, netns })
            }
            "add" => self.add(words),
            "del" => {
                let mut dev = words.need("the device")?;
                if dev == "dev" {
                    dev = words.need("the device")?;
                }
                let [] = words.values([])?;
                self.asking.order(&Op::LinkDel { dev: dev.to_owned() })
            }
            other => Err(words.unknown(other, &["show", "set", "add", "del"])),
        }
    }
}

impl LinkArgs {
    /// `add D type veth peer [name] P [netns N]`.
    fn add(&self, mut words: Words<'_>) -> Result<(), Failure> {
        let mut dev = words.need("the device")?;
        if matches!(dev, "dev" | "name") {
            dev = words.need("the device")?;
        }
        let (keyword, kind) = (words.need("type veth")?, words.need("what follows type")?);
        if (keyword, kind) != ("type", "veth") {
            let text = "pairs of veth alone can be made: write type veth peer NAME";
            return Err(usage(format!("link add {dev}: {text}")));
        }
        match words.need("peer and a name")? {
            "peer" => (),
            other => return Err(words.unknown(other, &["peer NAME"])),
        }
        let mut peer = words.need("the peer's name")?;
        if peer == "name" {
            peer = words.need("the peer's name")?;
        }
        let (dev, peer) = (dev.to_owned(), peer.to_owned());
        let [netns] = words.values(["netns"])?;
        self.asking
            .ask::<[String; 2]>(&Op::LinkAdd { dev, peer, peer_netns: owned(netns) })
            .map(|_names| ())
    }
}

impl RouteArgs {
    /// Does it.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        let mut words = Words::new("route", &self.words);
        match words.verb() {
            "show" => {
                let [table] = words.values(["table"])?;
                let routes: Vec<Route> = self.asking.ask(&Op::RouteShow { table: owned(table) })?;
                self.asking.show(&routes, |routes| routes.iter().map(route_text).collect())
            }
            "get" => {
                let dst = words.need("the address")?.to_owned();
                checked(parse_ip(&dst))?;
                let [] = words.values([])?;
                let way: Route = self.asking.ask(&Op::RouteGet { dst })?;
                self.asking.show(&vec![way], |ways| ways.iter().map(route_text).collect())
            }
            verb @ ("add" | "del") => {
                let dst = words.need("the destination, as 198.51.100.0/24 or default,")?.to_owned();
                checked(parse_destination(&dst))?;
                let [via, dev, metric] = words.values(["via", "dev", "metric"])?;
                via.map(|via| checked(parse_ip(via))).transpose()?;
                if verb == "add" && via.is_none() && dev.is_none() {
                    let text = "name the way behind it, as via 192.0.2.1 or dev nk0";
                    return Err(usage(format!("route add {dst}: {text}")));
                }
                let metric = metric.map(|text| number("metric", text)).transpose()?;
                let (via, dev) = (owned(via), owned(dev));
                self.asking.order(&match verb {
                    "add" => Op::RouteAdd { dst, via, dev, metric },
                    _ => Op::RouteDel { dst, via, dev, metric },
                })
            }
            other => Err(words.unknown(other, &["show", "get", "add", "del"])),
        }
    }
}

impl NeighArgs {
    /// Does it.
    ///
    /// # Errors
    /// With the cause and the way out.
    pub fn run(&self) -> Result<(), Failure> {
        let mut words = Words::new("neigh", &self.words);
        match words.verb() {
            "show" => {
                let [dev] = words.values(["dev"])?;
                let found: Vec<Neigh> = self.asking.ask(&Op::NeighShow { dev: owned(dev) })?;
                self.asking.show(&found, |found| found.iter().map(neigh_text).collect())
            }
            verb @ ("add" | "replace") => {
                let addr = words.need("the address")?.to_owned();
                checked(parse_ip(&addr))?;
                let [lladdr, dev] = words.values(["lladdr", "dev"])?;
                let lladdr = lladdr.ok_or_else(|| {
                    usage(format!("neigh {verb} {addr}: write lladdr 02:00:00:00:00:01 behind it"))
                })?;
                checked(parse_mac(lladdr))?;
                let (lladdr, dev, replace) =
                    (lladdr.to_owned(), owned(dev), Some(verb == "replace"));
                self.asking.order(&Op::NeighAdd { addr, lladdr, dev, replace })
            }
            "del" => {
                let addr = words.need("the address")?.to_owned();
                checked(parse_ip(&addr))?;
                let [dev] = words.values(["dev"])?;
                self.asking.order(&Op::NeighDel { addr, dev: owned(dev) })
            }
            "flush" => {
                let [dev] = words.values(["dev"])?;
                let count: usize = self.asking.ask(&Op::NeighFlush { dev: owned(dev) })?;
                self.asking.show(&count, |count| format!("{count} forgotten\n"))
            }
            other => Err(words.unknown(other, &["show", "add", "replace", "del", "flush"])),
        }
    }
}

fn link_text(link: &Link) -> String {
    let mode = link.linkmode.as_ref().map(|mode| format!("mode {mode} ")).unwrap_or_default();
    let mut text = format!(
        "{}: {}: <{}> mtu {} qdisc {} state {} {mode}group {} qlen {}\n    link/{} {} brd {}\n",
        link.ifindex,
        link.ifname,
        link.flags.join(","),
        link.mtu,
        link.qdisc,
        link.operstate,
        link.group,
        link.txqlen,
        link.link_type,
        link.address,
        link.broadcast
    );
    for AddrInfo { family, local, prefixlen, broadcast, scope, secondary, label, .. } in
        link.addr_info.iter().flatten()
    {
        let broadcast = broadcast.as_ref().map(|b| format!("brd {b} ")).unwrap_or_default();
        let secondary = if *secondary { "secondary " } else { "" };
        let _ = writeln!(
            text,
            "    {family} {local}/{prefixlen} {broadcast}scope {scope} {secondary}{label}\n       \
             valid_lft forever preferred_lft forever"
        );
    }
    text
}

fn route_text(route: &Route) -> String {
    let mut text = String::new();
    if let Some(kind) = &route.kind {
        let _ = write!(text, "{kind} ");
    }
    let _ = write!(text, "{} ", route.dst);
    let parts = [
        ("via", &route.gateway),
        ("dev", &route.dev),
        ("table", &route.table),
        ("proto", &route.protocol),
        ("scope", &route.scope),
        ("src", &route.prefsrc),
    ];
    for (name, part) in parts {
        if let Some(part) = part {
            let _ = write!(text, "{name} {part} ");
        }
    }
    if let Some(metric) = route.metric {
        let _ = write!(text, "metric {metric} ");
    }
    for flag in &route.flags {
        let _ = write!(text, "{flag} ");
    }
    if let Some(cache) = &route.cache {
        text += "\n    cache ";
        if !cache.is_empty() {
            let _ = write!(text, "<{}> ", cache.join(","));
        }
    }
    text.push('\n');
    text
}

fn neigh_text(neigh: &Neigh) -> String {
    let lladdr = neigh.lladdr.as_ref().map(|l| format!("lladdr {l} ")).unwrap_or_default();
    format!("{} dev {} {lladdr}{} \n", neigh.dst, neigh.dev, neigh.state.join(","))
}
