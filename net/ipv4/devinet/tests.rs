//! Which address is primary, and what becomes of the others when it goes.

use super::*;

fn ifa(addr: &str) -> IfAddr {
    let (addr, len) = addr.split_once('/').expect("a prefix");
    IfAddr::new(addr.parse().expect("an address"), len.parse().expect("a length")).expect("a host")
}

fn with(addrs: &[&str]) -> InDevice {
    let mut in_dev = InDevice::default();
    addrs.iter().for_each(|addr| in_dev.insert(ifa(addr)).expect("new"));
    in_dev
}

/// The addresses in their order, the secondary ones with the one that speaks for them.
fn list(in_dev: &InDevice) -> Vec<String> {
    let text = |ifa: &IfAddr| {
        let own = format!("{}/{}", Ipv4Addr::from(ifa.local), ifa.prefixlen);
        let speaker = Ipv4Addr::from(in_dev.speaker(ifa));
        if ifa.secondary { format!("{own} of {speaker}") } else { own }
    };
    in_dev.ifa_list.iter().map(text).collect()
}

fn remove(in_dev: &mut InDevice, addr: &str) {
    let gone = ifa(addr);
    let same = |there: &IfAddr| (there.local, there.prefixlen) == (gone.local, gone.prefixlen);
    in_dev.remove(in_dev.ifa_list.iter().position(same).expect("there"));
}

#[test]
fn the_first_of_a_network_speaks_for_it() {
    let mut in_dev =
        with(&["10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/25", "10.0.1.1/24", "127.0.0.1/8"]);
    let all =
        ["127.0.0.1/8", "10.0.0.1/24", "10.0.0.3/25", "10.0.1.1/24", "10.0.0.2/24 of 10.0.0.1"];
    assert_eq!(list(&in_dev), all, "a host's own scope first, the secondary ones last");
    assert_eq!(in_dev.insert(ifa("10.0.0.2/24")), Err(Errno::EEXIST));
    let near = IfAddr { scope: RT_SCOPE_LINK, ..ifa("10.0.0.9/24") };
    assert_eq!(in_dev.insert(near), Err(Errno::EINVAL), "one network has one scope");
    assert_eq!(in_dev.insert(ifa("10.0.0.2/25")), Ok(()), "the same with another prefix");
    assert_eq!(list(&in_dev)[5], "10.0.0.2/25 of 10.0.0.3");
}

#[test]
fn secondaries_go_with_their_primary_or_follow_it() {
    let all = ["10.0.0.1/24", "10.0.0.2/24", "10.0.0.3/24", "10.0.1.1/24"];
    let mut in_dev = with(&all);
    remove(&mut in_dev, "10.0.0.2/24");
    assert_eq!(list(&in_dev), ["10.0.0.1/24", "10.0.1.1/24", "10.0.0.3/24 of 10.0.0.1"]);
    remove(&mut in_dev, "10.0.0.1/24");
    assert_eq!(list(&in_dev), ["10.0.1.1/24"]);
    let mut in_dev = with(&all);
    in_dev.cnf.promote_secondaries = true;
    remove(&mut in_dev, "10.0.0.1/24");
    assert_eq!(list(&in_dev), ["10.0.1.1/24", "10.0.0.2/24", "10.0.0.3/24 of 10.0.0.2"]);
    remove(&mut in_dev, "10.0.0.2/24");
    remove(&mut in_dev, "10.0.0.3/24");
    assert_eq!(list(&in_dev), ["10.0.1.1/24"]);
}
