//! Scenes beside UDP's and TCP's: groups, echoes, raw and packet sockets, a router, namespaces.

use super::super::{A, B, ScenarioError};
use super::{Answer, CLIENT, MESSAGE, Outcome, SERVER, Stage, address, called, udp};
use crate::scenario::Subject;
use drivers::net::veth::{VethEnd, veth_newlink};
use klib::checksum::{csum_fold, csum_partial};
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::nsproxy::{NetId, setns};
use stack::net::core::dev::{NetDevice, dev_open};
use stack::net::core::sysctl::update_sysctls;
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::ipv4::fib::{FibInfo, fib_new_route};
use stack::net::net_namespace::copy_net_ns;
use stack::net::socket::{sys_bind, sys_recvfrom, sys_sendto, sys_setsockopt, sys_socket};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use uapi::if_packet::SockaddrLl;
use uapi::igmp::IGMP_HOST_MEMBERSHIP_QUERY;
use uapi::in_::{IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP, IP_MULTICAST_IF, IP_MULTICAST_LOOP};
use uapi::ip::{IPPROTO_ICMP, IPPROTO_IGMP};
use uapi::socket::{AF_INET, AF_PACKET, SOCK_DGRAM, SOCK_RAW, SOL_IP};

/// The group of the multicast scene, of those for documentation (RFC 5771, 9.2).
const GROUP: Ipv4Addr = Ipv4Addr::new(233, 252, 0, 1);
/// The network behind the router: B's end, and the router's.
pub(in crate::scenario) const FAR_B: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub(in crate::scenario) const FAR_R: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// The router's end on A's side.
pub(in crate::scenario) const NEAR_R: Ipv4Addr = B;
/// By then B's own reports are gone.
const ASKED_AFTER: Duration = Duration::from_secs(3);
/// By then its answer is.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// An ethertype for experiments (IEEE 802).
const EXPERIMENT: u16 = 0x88b5;

/// Whom a client asks.
#[derive(Clone, Copy)]
pub(super) struct Whom {
    pub(super) net: NetId,
    pub(super) at: Ipv4Addr,
}

impl Stage {
    /// Puts the tasks of such a scene on; one sentence on what they will do.
    pub(super) fn cast_kind(
        &mut self,
        subject: Subject,
        last: CpuId,
    ) -> Result<String, ScenarioError> {
        Ok(match subject {
            Subject::Multicast => {
                self.join(last)?;
                self.tell_group()?;
                format!("Multicast: B joins the group {GROUP}, A sends to it, B leaves")
            }
            Subject::Igmp => {
                self.stay_joined(last)?;
                self.query()?;
                format!(
                    "IGMP: B joins the group {GROUP} and reports it; A asks, as a router does, who is in any; B \
                     answers"
                )
            }
            Subject::Ping => {
                self.echo(Echo::Ping)?;
                format!("Ping: A ({A}) sends an echo from a ping socket to B ({B}), and B answers")
            }
            Subject::Raw => {
                self.echo(Echo::Raw)?;
                format!("Raw: A ({A}) sends an echo from a raw socket to B ({B}), and B answers")
            }
            Subject::Packet => {
                self.frames(last)?;
                "Packet: a packet socket of A sends a frame of its own type, one of B sees it"
                    .to_owned()
            }
            Subject::Forward => {
                self.serve((2, NetId::INIT), last, Answer::Yes)?;
                self.ask((0, CpuId(0)), Whom { net: NetId::INIT, at: FAR_B }, MESSAGE.to_vec())?;
                format!("Forward: A ({A}) sends to B ({FAR_B}) by the router R, and B answers")
            }
            _ => {
                let [here, there] = self.namespaces()?;
                self.serve((0, there), last, Answer::Yes)?;
                self.ask((0, CpuId(0)), Whom { net: here, at: B }, MESSAGE.to_vec())?;
                format!("Veth: from one namespace of A ({A}) to another ({B}), and back")
            }
        })
    }

    /// B joins the group, reads one datagram, and leaves.
    fn join(&mut self, cpu: CpuId) -> Outcome {
        self.spawn(1, cpu, |task| {
            let fd = task.now(|cx| udp(cx, SERVER))?;
            Ok(async move {
                task.now(|cx| membership(cx, fd, IP_ADD_MEMBERSHIP))?;
                called("recvfrom", task.call(sys_recvfrom(fd, &mut [0; 64], 0)).await)?;
                task.now(|cx| membership(cx, fd, IP_DROP_MEMBERSHIP))
            })
        })
    }

    /// B joins the group, and is in it until its answer is gone.
    fn stay_joined(&mut self, cpu: CpuId) -> Outcome {
        self.spawn(1, cpu, |task| {
            let fd = task.now(|cx| udp(cx, SERVER))?;
            Ok(async move {
                task.now(|cx| membership(cx, fd, IP_ADD_MEMBERSHIP))?;
                task.sleep_until(task.now(|cx| cx.now()) + ASKED_AFTER + ANSWERED_WITHIN).await;
                Ok(())
            })
        })
    }

    /// A asks who is in which group.
    fn query(&mut self) -> Outcome {
        self.spawn(0, CpuId(0), |task| {
            let fd = task.now(|cx| {
                let kind = sys_socket(cx, AF_INET, SOCK_RAW, IPPROTO_IGMP.into());
                let fd = called("socket", kind)?;
                let by = sys_setsockopt(cx, fd, SOL_IP, IP_MULTICAST_IF, &A.octets());
                called("setsockopt", by)?;
                let alone = sys_setsockopt(cx, fd, SOL_IP, IP_MULTICAST_LOOP, &[0]);
                called("setsockopt", alone)?;
                Ok(fd)
            })?;
            Ok(async move {
                // RFC 3376, 4.1: of all groups, to be answered within a second, robustness 2, interval 125 s.
                let mut query = [IGMP_HOST_MEMBERSHIP_QUERY, 10, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0];
                let sum = csum_fold(csum_partial(&query, 0));
                query[2..4].copy_from_slice(&sum.to_be_bytes());
                task.sleep_until(task.now(|cx| cx.now()) + ASKED_AFTER).await;
                let to = address(Ipv4Addr::new(224, 0, 0, 1), 0);
                called("sendto", task.call(sys_sendto(fd, &query, 0, Some(&to))).await)?;
                Ok(())
            })
        })
    }

    /// A sends one datagram to the group, by its only card.
    fn tell_group(&mut self) -> Outcome {
        self.spawn(0, CpuId(0), |task| {
            let fd = task.now(|cx| {
                let fd = udp(cx, CLIENT)?;
                let by = sys_setsockopt(cx, fd, SOL_IP, IP_MULTICAST_IF, &A.octets());
                called("setsockopt", by)?;
                Ok(fd)
            })?;
            Ok(async move {
                let to = address(GROUP, SERVER);
                called("sendto", task.call(sys_sendto(fd, MESSAGE, 0, Some(&to))).await)?;
                Ok(())
            })
        })
    }

    /// A sends an echo request, and reads the answer.
    fn echo(&mut self, from: Echo) -> Outcome {
        self.spawn(0, CpuId(0), |task| {
            let fd = task.now(|cx| from.socket(cx))?;
            Ok(async move {
                let mut message = [&[8, 0, 0, 0, 0, 1, 0, 1][..], &[b'.'; 56]].concat();
                let sum = csum_fold(csum_partial(&message, 0));
                message[2..4].copy_from_slice(&sum.to_be_bytes());
                let to = address(B, 0);
                called("sendto", task.call(sys_sendto(fd, &message, 0, Some(&to))).await)?;
                called("recvfrom", task.call(sys_recvfrom(fd, &mut [0; 128], 0)).await)?;
                Ok(())
            })
        })
    }

    /// B reads the frame that A sends.
    fn frames(&mut self, cpu: CpuId) -> Outcome {
        self.spawn(1, cpu, |task| {
            let fd = task.now(|cx| packet(cx, EXPERIMENT))?;
            Ok(async move {
                called("recvfrom", task.call(sys_recvfrom(fd, &mut [0; 128], 0)).await)?;
                Ok(())
            })
        })?;
        let dev = self.card(0)?;
        self.spawn(0, CpuId(0), |task| {
            let fd = task.now(|cx| packet(cx, 0))?;
            Ok(async move {
                let protocol = EXPERIMENT.to_be_bytes();
                let frame = [&[0xff; 6][..], &dev.dev_addr(), &protocol, &[b'.'; 46]].concat();
                let ifindex = dev.ifindex.0.into();
                let to = SockaddrLl { ifindex, ..SockaddrLl::default() }.to_bytes();
                called("sendto", task.call(sys_sendto(fd, &frame, 0, Some(&to))).await)?;
                Ok(())
            })
        })
    }

    /// The first device of a machine that is not loopback.
    fn card(&self, machine: usize) -> Result<Arc<NetDevice>, ScenarioError> {
        let t = self.machines[machine].1.tables();
        let mut cards = t.net.devs.iter().flatten().filter(|dev| !dev.is_loopback());
        cards.next().cloned().ok_or(ScenarioError::Unfinished("a device"))
    }

    /// The machine in the middle forwards, the others send by it what is not on their link.
    pub(in crate::scenario) fn route(&mut self) -> Outcome {
        let mut router = self.world.task_cx(&self.machines[1].1, CpuId(0));
        update_sysctls(&mut router, |sysctl| sysctl.ip_forward = true);
        for (machine, gateway) in [(0, NEAR_R), (2, FAR_R)] {
            let mut cx = self.world.task_cx(&self.machines[machine].1, CpuId(0));
            let way = FibInfo { gateway: gateway.into(), ..FibInfo::default() };
            called("a route", fib_new_route(&mut cx, 0, 0, way))?;
        }
        Ok(())
    }

    /// Two namespaces of the first machine, with a pair of devices between them.
    fn namespaces(&mut self) -> Result<[NetId; 2], ScenarioError> {
        let mut cx = self.world.task_cx(&self.machines[0].1, CpuId(0));
        let nets =
            [called("unshare", copy_net_ns(&mut cx))?, called("unshare", copy_net_ns(&mut cx))?];
        let ends = nets.map(|net| VethEnd { net, name: "veth%d" });
        let devs = called("a veth pair", veth_newlink(&mut cx, ends))?;
        for ((net, dev), ip) in nets.into_iter().zip(&devs).zip([A, B]) {
            let up = cx.with_net(net, |cx| {
                inet_insert_ifa(cx, dev, IfAddr::new(ip, 24)?)?;
                dev_open(cx, dev)
            });
            called("a veth device", up.and_then(|up| up))?;
        }
        Ok(nets)
    }
}

/// Goes to a namespace.
pub(super) fn enter(cx: &mut TaskCx, net: NetId) -> Outcome {
    if net == NetId::INIT { Ok(()) } else { called("setns", setns(cx, net)) }
}

/// B joins the group or leaves it.
fn membership(cx: &mut TaskCx, fd: i32, name: i32) -> Outcome {
    let mreq = [GROUP.octets(), B.octets()].concat();
    called("setsockopt", sys_setsockopt(cx, fd, SOL_IP, name, &mreq))
}

/// What an echo is sent from.
#[derive(Clone, Copy)]
enum Echo {
    Ping,
    Raw,
}

impl Echo {
    fn socket(self, cx: &mut TaskCx) -> Result<i32, ScenarioError> {
        match self {
            Self::Ping => {
                update_sysctls(cx, |sysctl| sysctl.ping_group_range = (0, 0));
                let icmp = IPPROTO_ICMP.into();
                let fd = called("socket", sys_socket(cx, AF_INET, SOCK_DGRAM, icmp))?;
                let name = address(Ipv4Addr::UNSPECIFIED, CLIENT);
                called("bind", sys_bind(cx, fd, &name))?;
                Ok(fd)
            }
            Self::Raw => called("socket", sys_socket(cx, AF_INET, SOCK_RAW, IPPROTO_ICMP.into())),
        }
    }
}

/// A packet socket for frames of a type, of all devices.
fn packet(cx: &mut TaskCx, protocol: u16) -> Result<i32, ScenarioError> {
    called("socket", sys_socket(cx, AF_PACKET, SOCK_RAW, protocol.to_be().into()))
}
