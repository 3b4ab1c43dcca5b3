//! What the arguments of `netkeel up` mean, and what is wrong with them.

use super::{UpArgs, UpError};
use crate::control::wire::Wanted;
use crate::sysctl_conf::wanted;
use klib::bitmap::CpuMask;
use stack::kernel::bpf::BpfProg;
use stack::net::ipv4::devinet::{IfAddr, mask};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// The arguments, understood.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) tap: String,
    pub(super) addr: IfAddr,
    pub(super) gw: Option<Ipv4Addr>,
    pub(super) echo: bool,
    /// Whether walks are watched, and of which packets: none named, all.
    pub(super) walk: Option<Option<BpfProg>>,
    pub(super) pcap: Option<PathBuf>,
    pub(super) control: Option<PathBuf>,
    pub(super) cpus: u8,
    pub(super) queues: u8,
    pub(super) busy_poll: Duration,
    pub(super) qdisc: Option<String>,
    /// Settings, each with the place where it was written.
    pub(super) sysctl: Vec<Wanted>,
}

fn usage(text: String) -> UpError {
    UpError::Usage(text)
}

impl Plan {
    pub(super) fn of(args: &UpArgs) -> Result<Self, UpError> {
        let addr = parse_addr(&args.addr)?;
        let gw = args.gw.as_deref().map(|gw| parse_gw(gw, &addr)).transpose()?;
        let walk = args.walk.as_deref().map(|text| parse_filter("--walk", text)).transpose()?;
        let (tap, pcap, control) = (args.tap.clone(), args.pcap.clone(), args.control.clone());
        let (cpus, queues) = (args.cpus.max(1), args.queues.max(1));
        let busy_poll = Duration::from_micros(args.busy_poll.into());
        let (echo, qdisc) = (args.echo, args.qdisc.clone());
        let sysctl = args.sysctl.as_deref().map_or(Ok(Vec::new()), wanted).map_err(usage)?;
        Ok(Self {
            tap,
            addr,
            gw,
            echo,
            walk,
            pcap,
            control,
            cpus,
            queues,
            busy_poll,
            qdisc,
            sysctl,
        })
    }

    /// The CPUs whose packets leave by each queue, when there are several: each CPU has one, and where
    /// there are enough CPUs it is the one whose interrupts the CPU takes. The kernel sends a flow's next
    /// frame to the queue that the answer came from, so a flow stays where it is served.
    pub(super) fn xps(&self) -> impl Iterator<Item = (u16, CpuMask)> + use<> {
        let (cpus, queues) = (usize::from(self.cpus), usize::from(self.queues));
        let several = if queues > 1 { 0..queues } else { 0..0 };
        several.map(move |queue| {
            let mine = (queue..cpus).step_by(queues);
            (queue as u16, CpuMask::from_bits(mine.fold(0, |bits, cpu| bits | 1 << cpu)))
        })
    }

    /// The host side's address in the commands we print: the gateway's, or the network's first
    /// that is not ours.
    pub(super) fn host(&self) -> Ipv4Addr {
        self.gw.unwrap_or_else(|| {
            let network = self.addr.local & mask(self.addr.prefixlen);
            let first = if self.addr.prefixlen == 31 { network } else { network + 1 };
            Ipv4Addr::from(if first == self.addr.local { first + 1 } else { first })
        })
    }

    /// Our link address: made of our IP address, so that a neighbour who remembers us from the
    /// last time remembers rightly. Local and unicast; never the host side's own.
    pub(super) fn mac(&self, host: [u8; 6]) -> [u8; 6] {
        let [a, b, c, d] = self.addr.local.to_be_bytes();
        let ours = [0x02, b'K', a, b, c, d];
        if ours == host { [0x02, b'k', a, b, c, d] } else { ours }
    }
}

/// An address of a host, with its network.
pub(crate) fn parse_addr(text: &str) -> Result<IfAddr, UpError> {
    let form = || {
        usage(format!(
            "--addr {text:?} is no IPv4 address with a prefix length: write it as 192.0.2.2/24"
        ))
    };
    let (addr, prefix) = text.split_once('/').ok_or_else(form)?;
    let addr: Ipv4Addr = addr.parse().map_err(|_| form())?;
    let prefix: u8 = prefix.parse().map_err(|_| form())?;
    if !(1..=31).contains(&prefix) {
        return Err(usage(format!(
            "--addr {text}: a prefix of {prefix} bits leaves no network to share with the host: \
             use 1 to 31, such as {addr}/24"
        )));
    }
    let host = "use an address of a host, such as 192.0.2.2/24";
    let ifa = IfAddr::new(addr, prefix)
        .ok()
        .filter(|_| !addr.is_loopback())
        .ok_or_else(|| usage(format!("--addr {text}: no host can have {addr}: {host}")))?;
    match edge_of(&ifa, ifa.local) {
        Some(what) => Err(usage(format!("--addr {text}: {addr} is the network's {what}: {host}"))),
        None => Ok(ifa),
    }
}

/// What no host can be called in this network.
fn edge_of(ifa: &IfAddr, addr: u32) -> Option<&'static str> {
    let network = ifa.local & mask(ifa.prefixlen);
    match addr {
        _ if ifa.prefixlen >= 31 => None,
        addr if addr == network => Some("own address"),
        addr if addr == network | !mask(ifa.prefixlen) => Some("broadcast address"),
        _ => None,
    }
}

/// A gateway in that network.
pub(crate) fn parse_gw(text: &str, ifa: &IfAddr) -> Result<Ipv4Addr, UpError> {
    let network = Ipv4Addr::from(ifa.local & mask(ifa.prefixlen));
    let link = format!("{network}/{}", ifa.prefixlen);
    let gw: Ipv4Addr = text.parse().map_err(|_| {
        usage(format!("--gw {text:?} is no IPv4 address: name a neighbour in {link}"))
    })?;
    let addr = u32::from(gw);
    let why = if !ifa.on_link(addr) {
        "is not on the link"
    } else if addr == ifa.local {
        "is our own address"
    } else if edge_of(ifa, addr).is_some() {
        "is no host's address"
    } else {
        return Ok(gw);
    };
    Err(usage(format!("--gw {gw} {why}: name a neighbour in {link}")))
}

/// What to watch, in tcpdump's language; `flag` is what the text was written behind. None: all.
pub(crate) fn parse_filter(flag: &str, text: &str) -> Result<Option<BpfProg>, UpError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let explained = |e| usage(format!("{flag} {text:?}, {e}"));
    pcap_filter::compile(text).map(Some).map_err(explained)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(addr: &str, gw: Option<&str>, walk: Option<&str>) -> Result<Plan, String> {
        let args = UpArgs {
            tap: "nk0".to_owned(),
            addr: addr.to_owned(),
            gw: gw.map(str::to_owned),
            walk: walk.map(str::to_owned),
            ..UpArgs::default()
        };
        Plan::of(&args).map_err(|error| {
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        })
    }

    #[test]
    fn addresses() {
        for wrong in ["", "x", "192.0.2.2", "192.0.2.2/", "192.0.2.2/x", "1.2.3/24", "1.2.3.4/-1"] {
            assert!(plan(wrong, None, None).unwrap_err().contains("write it as"), "{wrong}");
        }
        for (wrong, why) in [
            ("192.0.2.2/0", "use 1 to 31"),
            ("192.0.2.2/32", "use 1 to 31"),
            ("192.0.2.2/33", "use 1 to 31"),
            ("192.0.2.0/24", "own address"),
            ("192.0.2.255/24", "broadcast address"),
            ("127.0.0.1/8", "no host can have"),
            ("224.0.0.1/4", "no host can have"),
            ("0.0.0.0/8", "no host can have"),
        ] {
            let text = plan(wrong, None, None).unwrap_err();
            assert!(text.contains(why), "{wrong}: {text}");
            assert!(!text.contains('\n'), "one line: {text}");
        }
        assert!(plan("192.0.2.0/31", None, None).is_ok());
    }

    #[test]
    fn gateways() {
        for (wrong, why) in [
            ("x", "is no IPv4 address"),
            ("198.51.100.1", "is not on the link"),
            ("192.0.2.2", "is our own address"),
            ("192.0.2.0", "is no host's address"),
            ("192.0.2.255", "is no host's address"),
        ] {
            let text = plan("192.0.2.2/24", Some(wrong), None).unwrap_err();
            assert!(text.contains(why) && text.ends_with("192.0.2.0/24"), "{text}");
        }
        let gw = plan("192.0.2.2/24", Some("192.0.2.9"), None).unwrap();
        assert_eq!(gw.host(), Ipv4Addr::new(192, 0, 2, 9));
    }

    #[test]
    fn the_hosts_address_is_another_than_ours() {
        let host = |addr| plan(addr, None, None).unwrap().host().to_string();
        assert_eq!(host("192.0.2.2/24"), "192.0.2.1");
        assert_eq!(host("192.0.2.1/24"), "192.0.2.2");
        assert_eq!(host("192.0.2.0/31"), "192.0.2.1");
        assert_eq!(host("192.0.2.1/31"), "192.0.2.0");
    }

    #[test]
    fn our_link_address_is_local_unicast_and_not_the_hosts() {
        let plan = plan("192.0.2.2/24", None, None).unwrap();
        let ours = plan.mac([0; 6]);
        assert_eq!(ours[0] & 3, 2);
        assert_ne!(plan.mac(ours), ours);
    }

    #[test]
    fn every_cpu_has_one_queue_to_send_by() {
        let xps = |cpus, queues| {
            let plan = Plan { cpus, queues, ..plan("192.0.2.2/24", None, None).unwrap() };
            plan.xps().map(|(queue, cpus)| (queue, cpus.to_list())).collect::<Vec<_>>()
        };
        assert_eq!(xps(4, 1), []);
        assert_eq!(xps(2, 2), [(0, "0".to_owned()), (1, "1".to_owned())]);
        assert_eq!(xps(5, 2), [(0, "0,2,4".to_owned()), (1, "1,3".to_owned())]);
        assert_eq!(xps(1, 2), [(0, "0".to_owned()), (1, String::new())]);
        assert_eq!(xps(64, 32)[31], (31, "31,63".to_owned()));
    }

    #[test]
    fn filters() {
        let filter = |text| plan("192.0.2.2/24", None, Some(text)).map(|plan| plan.walk.unwrap());
        assert_eq!(filter("").unwrap(), None);
        let program = pcap_filter::compile("udp port 7 and host 192.0.2.1").unwrap();
        assert_eq!(filter("udp port 7 and host 192.0.2.1").unwrap(), Some(program));
        let error = filter("udp prot 7").unwrap_err();
        assert!(error.contains("--walk \"udp prot 7\", column 5: "), "{error}");
    }
}
