//! What is done for a request.
//!
//! Key type: [`Target`]. Contexts: the event loop's thread, as a task of the machine. Parts: `ip`
//! (devices, addresses), `features`, `route`, `neigh`, `cpu` (CPUs, steering), `sockets`, `look`
//! (interrupts, statistics, settings).
//! Invariant: a request is done whole or not at all; each refusal names the cause.

mod cpu;
pub(crate) mod features;
mod ip;
pub(crate) mod look;
pub(crate) mod neigh;
pub(crate) mod netns;
pub(crate) mod route;
mod sockets;

use self::netns::Names;
use super::wire::{Op, Refusal};
use host::Runtime;
use serde::Serialize;
use serde_json::Value;
use stack::kernel::context::TaskCx;
use stack::kernel::machine::Machine;
use stack::kernel::nsproxy::{NetId, setns};
use stack::kernel::rcupdate::Tables;
use stack::net::core::dev::NetDevice;
use stack::net::net_namespace::NetView;
use std::net::Ipv4Addr;
use std::sync::Arc;
use uapi::errno::Errno;

/// The machine that is asked.
pub(crate) struct Target<'a> {
    pub(crate) runtime: &'a Runtime,
    /// The device that is meant when none is named.
    pub(crate) dev: &'a Arc<NetDevice>,
    /// What its namespaces are called.
    pub(crate) names: &'a Names,
    /// The one that is asked about.
    pub(crate) net: NetId,
}

pub(crate) type Done<T = Value> = Result<T, Refusal>;

pub(crate) fn value(of: impl Serialize) -> Done {
    serde_json::to_value(of).map_err(|e| Refusal::new(Errno::EIO, e.to_string()))
}

/// Why the stack did not do it; where nothing better is known, as `strerror` says.
fn refused(what: impl std::fmt::Display) -> impl Fn(Errno) -> Refusal {
    move |errno| Refusal::new(errno, format!("{what}: {}", errno.text()))
}

impl Target<'_> {
    /// Does it. What attaches and detaches is the server's own.
    pub(crate) fn serve(&self, op: Op) -> Done {
        match op {
            Op::AddrShow { dev } => value(self.links(dev.as_deref(), true)?),
            Op::LinkShow { dev } => value(self.links(dev.as_deref(), false)?),
            Op::AddrAdd { addr, dev } => self.addr_add(&addr, dev.as_deref()),
            Op::AddrDel { addr, dev } => self.addr_del(&addr, dev.as_deref()),
            Op::LinkAdd { dev, peer, peer_netns } => {
                self.link_add(&dev, &peer, peer_netns.as_deref())
            }
            Op::LinkDel { dev } => self.link_del(&dev),
            Op::LinkSet { dev, up, mtu, netns } => match netns {
                Some(netns) if up.is_none() && mtu.is_none() => self.link_move(&dev, &netns),
                Some(_) => Err(invalid(format!("{dev}: move it first, then set the rest there"))),
                None => self.link_set(&dev, up, mtu),
            },
            Op::NetnsShow {} => value(self.netns_show()),
            Op::NetnsAdd { name } => self.netns_add(&name),
            Op::NetnsDel { name } => self.netns_del(&name),
            Op::RouteShow { table } => value(self.routes(table.as_deref())?),
            Op::RouteAdd { dst, via, dev, metric } => {
                self.route_add(&dst, &self.hop(via.as_deref(), dev.as_deref(), metric)?)
            }
            Op::RouteDel { dst, via, dev, metric } => {
                self.route_del(&dst, &self.hop(via.as_deref(), dev.as_deref(), metric)?)
            }
            Op::RouteGet { dst } => value(self.route_get(&dst)?),
            Op::NeighShow { dev } => value(self.neighbours(dev.as_deref())?),
            Op::NeighAdd { addr, lladdr, dev, replace } => {
                self.neigh_add(&addr, &lladdr, dev.as_deref(), replace == Some(true))
            }
            Op::NeighDel { addr, dev } => self.neigh_del(&addr, dev.as_deref()),
            Op::NeighFlush { dev } => value(self.neigh_flush(dev.as_deref())?),
            Op::Sockets { netid, skip, info } => {
                value(self.sockets(netid.as_deref(), skip.unwrap_or(0), info == Some(true))?)
            }
            Op::IrqShow {} => value(self.irqs()),
            Op::IrqSet { irq, affinity } => self.irq_set(irq, &affinity),
            Op::CpuShow {} => value(self.cpus()),
            Op::CpuSet { cpu, online } => value(self.cpu_set(cpu, online)?),
            Op::QueueShow { dev } => value(self.queues(dev.as_deref())?),
            Op::QueueSet { dev, queue, name, value: text } => {
                value(self.queue_set(dev.as_deref(), &queue, &name, &text)?)
            }
            Op::FeaturesShow { dev } => value(self.features(dev.as_deref())?),
            Op::FeaturesSet { dev, features } => {
                value(self.features_set(dev.as_deref(), &features)?)
            }
            Op::Stat { file } => value(self.stat(&file)?),
            Op::SysctlGet { name } => value(self.settings(name.as_deref())?),
            Op::SysctlLoad { settings } => value(self.load(&settings)?),
            Op::SysctlSet { name, value: text } => value(self.set(&name, &text)?),
            Op::WalkAttach { .. }
            | Op::WalkDetach {}
            | Op::DumpAttach { .. }
            | Op::DumpDetach {} => {
                Err(Refusal::new(Errno::EOPNOTSUPP, "walks are watched on the socket alone"))
            }
        }
    }

    fn m(&self) -> &Arc<Machine> {
        self.runtime.machine()
    }

    /// A task in the namespace that is asked about.
    pub(crate) fn task(&self) -> TaskCx {
        let mut cx = self.runtime.task("control");
        // Between a request and its answer nobody takes it away: it is one thread that does both.
        let _there = setns(&mut cx, self.net);
        cx
    }

    /// That namespace, looked at.
    fn view(&self) -> NetView<'_> {
        NetView::new(self.m(), self.net).unwrap_or_else(|| NetView::from(self.m()))
    }

    /// Its tables.
    fn tables(&self) -> Arc<Tables> {
        self.view().t
    }

    /// The same machine, asked about the namespace of that name.
    pub(crate) fn in_netns(self, name: Option<&str>) -> Done<Self> {
        let net = name.map_or(Ok(self.net), |name| self.names.get(name))?;
        Ok(Self { net, ..self })
    }

    /// The device of that name.
    pub(crate) fn dev(&self, name: &str) -> Done<Arc<NetDevice>> {
        let t = self.tables();
        if let Some(dev) = t.net.dev_by_name(name) {
            return Ok(Arc::clone(dev));
        }
        let names: Vec<&str> = t.net.devs.iter().flatten().map(|dev| dev.name.as_str()).collect();
        let there = names.join(", ");
        let text = format!("device {name:?} does not exist: there are {there}");
        Err(Refusal::new(Errno::ENODEV, text))
    }

    /// The same; the machine's own if none is named.
    fn dev_or_ours(&self, name: Option<&str>) -> Done<Arc<NetDevice>> {
        match name {
            Some(name) => self.dev(name),
            None if self.net == NetId::INIT => Ok(Arc::clone(self.dev)),
            None => Err(invalid("which device of the namespace? Name it with dev".to_owned())),
        }
    }
}

fn invalid(text: String) -> Refusal {
    Refusal::new(Errno::EINVAL, text)
}

pub(crate) fn parse_ip(text: &str) -> Done<Ipv4Addr> {
    text.parse().map_err(|_| invalid(format!("{text:?} is no IPv4 address: write 192.0.2.1")))
}

/// An address with the length of its prefix: 32 if none is written.
pub(crate) fn parse_prefix(text: &str) -> Done<(Ipv4Addr, u8)> {
    let (addr, len) = text.split_once('/').unwrap_or((text, "32"));
    let len = len.parse().ok().filter(|len| *len <= 32);
    let len = len.ok_or_else(|| {
        invalid(format!("{text:?} has no prefix length from 0 to 32: write {addr}/24"))
    })?;
    Ok((parse_ip(addr)?, len))
}

#[cfg(test)]
mod tests;
