//! Namespaces by name, pairs of devices between them, and devices that move.

use super::super::wire::{Netns, Refusal};
use super::{Done, Target, invalid, refused, value};
use drivers::net::veth::{VethEnd, veth_newlink};
use serde_json::Value;
use stack::kernel::nsproxy::NetId;
use stack::net::core::dev::dev_change_net_namespace;
use stack::net::net_namespace::{NETS_MAX, copy_net_ns, put_net};
use std::cell::RefCell;
use std::collections::BTreeMap;
use uapi::errno::Errno;

/// Octets of a namespace's name at the most.
const NAME_MAX: usize = 64;

/// What the namespaces are called, but the first, which has no name.
#[derive(Debug, Default)]
pub(crate) struct Names(RefCell<BTreeMap<String, NetId>>);

impl Names {
    /// The namespace of that name.
    pub(crate) fn get(&self, name: &str) -> Done<NetId> {
        let names = self.0.borrow();
        names.get(name).copied().ok_or_else(|| {
            let there: Vec<&str> = names.keys().map(String::as_str).collect();
            let hint = match &there[..] {
                [] => format!("there is none yet: `netkeel netns add {name}`"),
                there => format!("there are {}", there.join(", ")),
            };
            Refusal::new(Errno::ENOENT, format!("no namespace {name:?}: {hint}"))
        })
    }
}

impl Target<'_> {
    pub(super) fn netns_show(&self) -> Vec<Netns> {
        let names = self.names.0.borrow();
        names.iter().map(|(name, net)| Netns { name: name.clone(), id: net.0 }).collect()
    }

    pub(super) fn netns_add(&self, name: &str) -> Done {
        let well_formed = (1..=NAME_MAX).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_graphic() && c != '/')
            && !name.starts_with('.');
        if !well_formed {
            let text = "a namespace is named by 1 to 64 characters without blanks or a slash";
            return Err(invalid(format!("{name:?}: {text}, and no dot in front")));
        }
        if self.names.0.borrow().contains_key(name) {
            let text = format!("there is a namespace {name:?} already");
            return Err(Refusal::new(Errno::EEXIST, text));
        }
        let full = |errno| {
            let text = format!("a machine has {NETS_MAX} namespaces at the most: take one away");
            Refusal::new(errno, text)
        };
        let net = copy_net_ns(&mut self.task()).map_err(full)?;
        self.names.0.borrow_mut().insert(name.to_owned(), net);
        Ok(Value::Null)
    }

    pub(super) fn netns_del(&self, name: &str) -> Done {
        let net = self.names.get(name)?;
        let why = |errno| match errno {
            Errno::EBUSY => {
                let text = format!("somebody is in namespace {name:?}, or has a socket there");
                Refusal::new(errno, text)
            }
            errno => refused(format!("namespace {name:?}"))(errno),
        };
        put_net(&mut self.task(), net).map_err(why)?;
        self.names.0.borrow_mut().remove(name);
        Ok(Value::Null)
    }

    /// A pair of devices: one here, its peer in the same namespace or another.
    pub(super) fn link_add(&self, name: &str, peer: &str, to: Option<&str>) -> Done {
        let there = to.map_or(Ok(self.net), |name| self.names.get(name))?;
        let ends = [VethEnd { net: self.net, name }, VethEnd { net: there, name: peer }];
        let why = |errno| match errno {
            Errno::EINVAL => invalid(format!(
                "{name:?} and {peer:?} can't both be names of devices: write up to 15 characters, as veth0"
            )),
            Errno::EEXIST if there == self.net && name == peer => {
                invalid(format!("two devices of a namespace can't both be {name}"))
            }
            Errno::EEXIST => {
                Refusal::new(errno, format!("there is a device {name} or {peer} already"))
            }
            errno => refused(format!("{name} and {peer}"))(errno),
        };
        let devs = veth_newlink(&mut self.task(), ends).map_err(why)?;
        value(devs.map(|dev| dev.name.clone()))
    }

    pub(super) fn link_del(&self, name: &str) -> Done {
        let dev = self.dev(name)?;
        if dev.ops.dellink(&mut self.task(), &dev) {
            return Ok(Value::Null);
        }
        let text = format!("{name} is no device that can be taken away: it was not made so");
        Err(Refusal::new(Errno::EOPNOTSUPP, text))
    }

    /// Moves a device to another namespace; to the first without a name.
    pub(super) fn link_move(&self, name: &str, to: &str) -> Done {
        let dev = self.dev(name)?;
        let net = if to.is_empty() { NetId::INIT } else { self.names.get(to)? };
        let why = |errno| match errno {
            Errno::EINVAL => Refusal::new(errno, format!("{name} stays: each namespace has one")),
            Errno::EEXIST => Refusal::new(errno, format!("there is a {name} in {to:?} already")),
            errno => refused(name)(errno),
        };
        dev_change_net_namespace(&mut self.task(), &dev, net).map_err(why)?;
        Ok(Value::Null)
    }
}
