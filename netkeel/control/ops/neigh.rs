//! Neighbours.

use super::super::wire::{Neigh, Refusal};
use super::{Done, Target, invalid, parse_ip, refused};
use crate::dump::Mac;
use serde_json::Value;
use stack::net::core::neighbour::{NeighKey, neigh_add, neigh_delete};
use std::net::Ipv4Addr;
use uapi::errno::Errno;
use uapi::neighbour::NUD_PERMANENT;

impl Target<'_> {
    pub(super) fn neighbours(&self, dev: Option<&str>) -> Done<Vec<Neigh>> {
        let (t, only) = (self.tables(), dev.map(|name| self.dev(name)).transpose()?);
        let mut found = Vec::new();
        for entry in t.ns.arp_tbl.dump() {
            let Some(dev) = t.net.dev(entry.key.dev) else { continue };
            let wanted = only.as_ref().is_none_or(|only| only.ifindex == dev.ifindex);
            // As `ip neigh` does: those that need no address are not shown.
            if wanted && entry.state != "NOARP" {
                found.push(Neigh {
                    dst: Ipv4Addr::from(entry.key.addr).to_string(),
                    dev: dev.name.clone(),
                    lladdr: entry.lladdr.map(|lladdr| Mac(lladdr).to_string()),
                    state: vec![entry.state.to_owned()],
                });
            }
        }
        Ok(found)
    }

    fn key(&self, addr: &str, dev: Option<&str>) -> Done<NeighKey> {
        let addr = u32::from(parse_ip(addr)?);
        Ok(NeighKey { dev: self.dev_or_ours(dev)?.ifindex, addr })
    }

    pub(super) fn neigh_add(
        &self,
        addr: &str,
        lladdr: &str,
        dev: Option<&str>,
        replace: bool,
    ) -> Done {
        let key = self.key(addr, dev)?;
        let lladdr = parse_mac(lladdr)?;
        let there = || self.tables().ns.arp_tbl.dump().iter().any(|entry| entry.key == key);
        if !replace && there() {
            let text = format!("neighbour {addr} is there already: `replace` changes it");
            return Err(Refusal::new(Errno::EEXIST, text));
        }
        neigh_add(&mut self.task(), key, lladdr, NUD_PERMANENT as u8)
            .map_err(refused(format!("neighbour {addr}")))?;
        Ok(Value::Null)
    }

    pub(super) fn neigh_del(&self, addr: &str, dev: Option<&str>) -> Done {
        let key = self.key(addr, dev)?;
        let why = |errno| Refusal::new(errno, format!("there is no neighbour {addr}"));
        neigh_delete(&mut self.task(), key).map_err(why)?;
        Ok(Value::Null)
    }

    /// How many were forgotten.
    pub(super) fn neigh_flush(&self, dev: Option<&str>) -> Done<usize> {
        let only = dev.map(|name| self.dev(name)).transpose()?;
        let mut cx = self.task();
        let learnt = |state| !matches!(state, "PERMANENT" | "NOARP");
        let all = self.tables().ns.arp_tbl.dump();
        let wanted = all.iter().filter(|entry| {
            learnt(entry.state) && only.as_ref().is_none_or(|dev| dev.ifindex == entry.key.dev)
        });
        Ok(wanted.filter(|entry| neigh_delete(&mut cx, entry.key).is_ok()).count())
    }
}

/// A link address of a host.
pub(crate) fn parse_mac(text: &str) -> Done<[u8; 6]> {
    let mut addr = [0; 6];
    let mut octets = text.split(':');
    for octet in &mut addr {
        let digits = octets.next().filter(|digits| (1..=2).contains(&digits.len()));
        let parsed = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        *octet = parsed.ok_or_else(|| no_mac(text))?;
    }
    if octets.next().is_some() || addr[0] & 1 != 0 || addr == [0; 6] {
        return Err(no_mac(text));
    }
    Ok(addr)
}

fn no_mac(text: &str) -> Refusal {
    invalid(format!("{text:?} is no link address of a host: write 02:00:00:00:00:01"))
}
