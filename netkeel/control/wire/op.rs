//! What can be asked.

use super::Wanted;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are those of the commands; Documentation/control.md")]
pub enum Op {
    /// Devices with their addresses: [`Link`](super::Link)s.
    #[serde(rename = "addr.show")]
    AddrShow { dev: Option<String> },
    /// Adds an address, written `A/P`.
    #[serde(rename = "addr.add")]
    AddrAdd { addr: String, dev: Option<String> },
    /// Takes an address away.
    #[serde(rename = "addr.del")]
    AddrDel { addr: String, dev: Option<String> },
    /// Devices: [`Link`](super::Link)s.
    #[serde(rename = "link.show")]
    LinkShow { dev: Option<String> },
    /// Brings a device up or down, changes its MTU; or moves it to a namespace, "" being the first.
    #[serde(rename = "link.set")]
    LinkSet { dev: String, up: Option<bool>, mtu: Option<u32>, netns: Option<String> },
    /// Makes two devices that are each other's peer, the second in a namespace of its own if one is named.
    #[serde(rename = "link.add")]
    LinkAdd { dev: String, peer: String, peer_netns: Option<String> },
    /// Takes a device away that was made so, and its peer.
    #[serde(rename = "link.del")]
    LinkDel { dev: String },
    /// [`Netns`](super::Netns)s.
    #[serde(rename = "netns.show")]
    NetnsShow {},
    /// Makes a namespace.
    #[serde(rename = "netns.add")]
    NetnsAdd { name: String },
    /// Takes it away, and its devices.
    #[serde(rename = "netns.del")]
    NetnsDel { name: String },
    /// [`Route`](super::Route)s of a table: `main` if none is named, `local`, `default`, `all`.
    #[serde(rename = "route.show")]
    RouteShow { table: Option<String> },
    /// Adds a route: `dst` is `A/P`, `A` or `default`.
    #[serde(rename = "route.add")]
    RouteAdd { dst: String, via: Option<String>, dev: Option<String>, metric: Option<u32> },
    /// Takes away the first route that fits.
    #[serde(rename = "route.del")]
    RouteDel { dst: String, via: Option<String>, dev: Option<String>, metric: Option<u32> },
    /// The way to an address: a [`Route`](super::Route).
    #[serde(rename = "route.get")]
    RouteGet { dst: String },
    /// [`Neigh`](super::Neigh)s.
    #[serde(rename = "neigh.show")]
    NeighShow { dev: Option<String> },
    /// Adds a permanent neighbour; `replace`: also in the place of one that is there.
    #[serde(rename = "neigh.add")]
    NeighAdd { addr: String, lladdr: String, dev: Option<String>, replace: Option<bool> },
    /// Takes a neighbour away.
    #[serde(rename = "neigh.del")]
    NeighDel { addr: String, dev: Option<String> },
    /// Forgets all neighbours that were learnt; how many.
    #[serde(rename = "neigh.flush")]
    NeighFlush { dev: Option<String> },
    /// Sockets that have a port: [`Socket`](super::Socket)s, [`SOCKETS`](super::SOCKETS) at the most, without the first `skip`; `info`: with
    /// what TCP tells of each.
    #[serde(rename = "sockets")]
    Sockets { netid: Option<String>, skip: Option<usize>, info: Option<bool> },
    /// [`Irq`](super::Irq)s.
    #[serde(rename = "irq.show")]
    IrqShow {},
    /// Names the CPUs that may take an interrupt: a mask as in `smp_affinity`.
    #[serde(rename = "irq.set")]
    IrqSet { irq: u8, affinity: String },
    /// [`Cpu`](super::Cpu)s.
    #[serde(rename = "cpu.show")]
    CpuShow {},
    /// Takes a CPU down, or back into use: the [`Cpu`](super::Cpu) as it is then.
    #[serde(rename = "cpu.set")]
    CpuSet { cpu: u8, online: bool },
    /// Queues of a device: [`Queue`](super::Queue)s.
    #[serde(rename = "queue.show")]
    QueueShow { dev: Option<String> },
    /// Sets `rps_cpus`, `rps_flow_cnt` or `xps_cpus` of a queue: the [`Queue`](super::Queue) as it is then.
    #[serde(rename = "queue.set")]
    QueueSet { dev: Option<String>, queue: String, name: String, value: String },
    /// What a device does for the stack: [`Features`](super::Features).
    #[serde(rename = "features.show")]
    FeaturesShow { dev: Option<String> },
    /// Switches it, by ethtool's names: the [`Features`](super::Features) as they are then.
    #[serde(rename = "features.set")]
    FeaturesSet { dev: Option<String>, features: BTreeMap<String, bool> },
    /// A file of statistics: [`Stat`](super::Stat).
    #[serde(rename = "stat")]
    Stat { file: String },
    /// [`Setting`](super::Setting)s: that one, those below it, or all.
    #[serde(rename = "sysctl.get")]
    SysctlGet { name: Option<String> },
    /// Sets one; what it is then.
    #[serde(rename = "sysctl.set")]
    SysctlSet { name: String, value: String },
    /// Sets several, all of them or none; what they are then.
    #[serde(rename = "sysctl.load")]
    SysctlLoad { settings: Vec<Wanted> },
    /// From now on each watched packet's walk comes as an [`Event`](super::Event), as it ends.
    #[serde(rename = "walk.attach")]
    WalkAttach { filter: Option<String> },
    /// No more.
    #[serde(rename = "walk.detach")]
    WalkDetach {},
    /// From now on each frame that passes `dev`, or any device, and that `filter` wants, comes as an [`Event`](super::Event),
    /// `snaplen` octets of it at the most.
    #[serde(rename = "dump.attach")]
    DumpAttach { dev: Option<String>, filter: Option<String>, snaplen: Option<usize> },
    /// No more: [`Dumped`](super::Dumped).
    #[serde(rename = "dump.detach")]
    DumpDetach {},
}
