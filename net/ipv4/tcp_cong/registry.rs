//! The algorithms that are registered, by name.

use super::{TcpCongestionOps, TcpReno};
use crate::kernel::context::TaskCx;
use crate::kernel::machine::Machine;
use crate::kernel::rcupdate::update_tables;
use crate::net::core::dev::NetTables;
use crate::net::ipv4::tcp_bbr::TCP_BBR;
use crate::net::ipv4::tcp_cubic::CUBICTCP;
use std::sync::Arc;
use uapi::errno::Errno;

/// Octets of a name, its terminating zero included.
///
/// linux: include/net/tcp.h:TCP_CA_NAME_MAX
pub const TCP_CA_NAME_MAX: usize = 16;

/// An algorithm, as it is registered.
#[derive(Clone, Copy, Debug)]
pub struct TcpCa {
    /// Its name.
    pub name: &'static str,
    /// Begins to work for a connection.
    pub make: fn() -> Box<dyn TcpCongestionOps>,
    /// Programs without privileges may not choose it: it is not in
    /// `tcp_allowed_congestion_control`.
    pub restricted: bool,
}

/// linux: net/ipv4/tcp_cong.c:tcp_reno
const TCP_RENO: TcpCa =
    TcpCa { name: "reno", make: || Box::<TcpReno>::default(), restricted: false };

/// Registers what the stack itself has, at boot.
pub fn tcp_cong_init(m: &mut Machine) {
    for ca in [TCP_RENO, CUBICTCP, TCP_BBR] {
        tcp_register_congestion_control(m, ca).expect("names of our own, each once");
    }
}

/// Registers an algorithm, at boot.
///
/// # Errors
/// EEXIST: there is one of its name; EINVAL: the name is empty, longer than 15 octets, or has a space.
///
/// linux: net/ipv4/tcp_cong.c:tcp_register_congestion_control
pub fn tcp_register_congestion_control(m: &mut Machine, ca: TcpCa) -> Result<(), Errno> {
    let mut result = Ok(());
    m.boot_tables(|t| result = register(&mut t.net, ca));
    result
}

fn register(t: &mut NetTables, ca: TcpCa) -> Result<(), Errno> {
    if ca.name.is_empty()
        || ca.name.len() >= TCP_CA_NAME_MAX
        || ca.name.contains(char::is_whitespace)
    {
        return Err(Errno::EINVAL);
    }
    if tcp_ca_find(t, ca.name).is_some() {
        return Err(Errno::EEXIST);
    }
    t.tcp_cong_list.push(ca);
    Ok(())
}

/// The algorithm of a name.
///
/// linux: net/ipv4/tcp_cong.c:tcp_ca_find
pub fn tcp_ca_find<'a>(t: &'a NetTables, name: &str) -> Option<&'a TcpCa> {
    t.tcp_cong_list.iter().find(|ca| ca.name == name)
}

/// Begins to work for a new connection: the default, which is one that is registered.
///
/// linux: net/ipv4/tcp_cong.c:tcp_assign_congestion_control
pub fn tcp_assign_congestion_control(t: &NetTables) -> Box<dyn TcpCongestionOps> {
    let default = tcp_ca_find(t, t.sysctl.tcp.congestion_control);
    (default.unwrap_or(&TCP_RENO).make)()
}

/// Begins to work for a connection that asks for it: `TCP_CONGESTION`. There is no program without
/// privileges here, so that none is refused a restricted one.
///
/// # Errors
/// ENOENT: there is none of that name.
///
/// linux: net/ipv4/tcp_cong.c:tcp_set_congestion_control
pub fn tcp_set_congestion_control(
    t: &NetTables,
    name: &str,
) -> Result<Box<dyn TcpCongestionOps>, Errno> {
    tcp_ca_find(t, name).map(|ca| (ca.make)()).ok_or(Errno::ENOENT)
}

fn names<'a>(all: impl Iterator<Item = &'a TcpCa>) -> String {
    all.map(|ca| ca.name).collect::<Vec<_>>().join(" ")
}

/// `net.ipv4.tcp_available_congestion_control`: every name.
///
/// linux: net/ipv4/tcp_cong.c:tcp_get_available_congestion_control
pub fn tcp_get_available_congestion_control(t: &NetTables) -> String {
    names(t.tcp_cong_list.iter())
}

/// `net.ipv4.tcp_allowed_congestion_control`: the names that any program may choose.
///
/// linux: net/ipv4/tcp_cong.c:tcp_get_allowed_congestion_control
pub fn tcp_get_allowed_congestion_control(t: &NetTables) -> String {
    names(t.tcp_cong_list.iter().filter(|ca| !ca.restricted))
}

/// Sets the names that any program may choose.
///
/// # Errors
/// ENOENT: there is none of one of the names; then nothing was changed.
///
/// linux: net/ipv4/tcp_cong.c:tcp_set_allowed_congestion_control
pub fn tcp_set_allowed_congestion_control(cx: &mut TaskCx, text: &str) -> Result<(), Errno> {
    update_tables(cx, |t| {
        let names: Vec<&str> = text.split_whitespace().collect();
        if names.iter().any(|name| tcp_ca_find(&t.net, name).is_none()) {
            return Err(Errno::ENOENT);
        }
        t.net.tcp_cong_list.iter_mut().for_each(|ca| ca.restricted = !names.contains(&ca.name));
        Ok(())
    })
}

/// Sets what new connections use; any program may choose it from then on.
///
/// # Errors
/// ENOENT: there is none of that name; then nothing was changed.
///
/// linux: net/ipv4/tcp_cong.c:tcp_set_default_congestion_control
pub fn tcp_set_default_congestion_control(cx: &mut TaskCx, name: &str) -> Result<(), Errno> {
    update_tables(cx, |t| {
        let ca = t.net.tcp_cong_list.iter_mut().find(|ca| ca.name == name).ok_or(Errno::ENOENT)?;
        ca.restricted = false;
        let name = ca.name;
        Arc::make_mut(&mut t.net.sysctl).tcp.congestion_control = name;
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> NetTables {
        let mut t = NetTables::default();
        for ca in [TCP_RENO, CUBICTCP] {
            register(&mut t, ca).unwrap();
        }
        t
    }

    #[test]
    fn a_name_is_registered_once_and_fits_an_option() {
        let mut t = tables();
        let named = |name| TcpCa { name, ..TCP_RENO };
        assert_eq!(register(&mut t, named("reno")), Err(Errno::EEXIST));
        for name in ["", "sixteen-octets--", "two words"] {
            assert_eq!(register(&mut t, named(name)), Err(Errno::EINVAL), "{name:?}");
        }
        assert_eq!(register(&mut t, named("fifteen-octets-")), Ok(()));
        assert_eq!(tcp_get_available_congestion_control(&t), "reno cubic fifteen-octets-");
    }

    #[test]
    fn a_connection_begins_with_the_default_or_what_it_asks_for() {
        let mut t = tables();
        assert_eq!(tcp_assign_congestion_control(&t).name(), "cubic");
        Arc::make_mut(&mut t.sysctl).tcp.congestion_control = "reno";
        assert_eq!(tcp_assign_congestion_control(&t).name(), "reno");
        assert_eq!(tcp_assign_congestion_control(&NetTables::default()).name(), "reno");
        assert_eq!(tcp_set_congestion_control(&t, "cubic").unwrap().name(), "cubic");
        assert_eq!(tcp_set_congestion_control(&t, "none").err(), Some(Errno::ENOENT));
        assert!(t.tcp_cong_list.iter().all(|ca| (ca.make)().name() == ca.name));
    }
}
