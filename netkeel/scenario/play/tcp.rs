//! What can happen to a connection: losses, segments out of order, probes, fast open, BBR.

use super::super::{A, B, ScenarioError, TcpScenario};
use super::{Outcome, SERVER, Stage, address, called, listener};
use crate::walk::is_link;
use sim::{Bottleneck, Fate, Impairment, LinkSpec, Task};
use stack::fs::{sys_close, sys_read, sys_write};
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::trace::events::Point;
use stack::kernel::trace::{Record, WalkId};
use stack::net::core::sysctl::update_sysctls;
use stack::net::socket::{sys_accept4, sys_connect, sys_sendto, sys_setsockopt, sys_socket};
use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;
use uapi::socket::{AF_INET, MSG_FASTOPEN, SOCK_STREAM, SOL_TCP};
use uapi::tcp::{TCP_CONGESTION, TCP_FASTOPEN};

/// Octets of a full segment with time stamps, and without.
const MSS: usize = 1448;
const BARE_MSS: usize = 1460;
/// What the client says first, so that both sides know how far apart they are. Its segment is the first with data.
const FIRST: &[u8] = b"hello";

/// Of three times six segments, the first being one by itself: the fourth, which two overtake; the second; when that
/// has gone again, the second once more.
const LATE: &[(u32, Fate)] = &[
    (5, Fate::Late(Duration::from_millis(5))),
    (9, Fate::Late(Duration::from_millis(18))),
    (16, Fate::Late(Duration::from_millis(18))),
];

impl TcpScenario {
    /// The way between the machines.
    pub(in crate::scenario) fn link(self) -> LinkSpec {
        let way = |fates: &'static [(u32, Fate)]| {
            let delay = Duration::from_millis(5);
            Impairment { delay, fates, ..Impairment::default() }
        };
        LinkSpec::Impaired(match self {
            Self::Loss => way(&[(4, Fate::Lost), (5, Fate::Lost)]),
            // So far that a quarter of the round trip is more than a tick of the timers.
            Self::Reorder => Impairment { delay: Duration::from_millis(20), ..way(LATE) },
            Self::Tlp => way(&[(4, Fate::Lost)]),
            Self::Fastopen => way(&[]),
            Self::Bbr => {
                let rate = NonZeroU64::MIN.saturating_add(1_000_000 - 1);
                let bottleneck = Some(Bottleneck { rate, queue: 100_000, mark: None });
                Impairment { bottleneck, ..way(&[]) }
            }
        })
    }

    /// One sentence on what happens, and what is shown.
    pub(super) fn title(self) -> String {
        let what = match self {
            Self::Loss => {
                "of 20 segments from A to B the third and fourth are lost; SACK tells of those behind, RACK marks \
                 the two, they go again in fast recovery, and PRR brings the window down"
            }
            Self::Reorder => {
                "A sends three times 6 segments to B, and one of each comes late. Of the first, by 5 ms: RACK waits a \
                 quarter of the round trip, and nothing is done. Of the second, by 18 ms: it goes again for nothing, \
                 D-SACK says so, the reduction is undone, and RACK waits longer. Of the third, by 18 ms: RACK waits"
            }
            Self::Tlp => {
                "the last of 3 segments from A to B is lost: nothing comes that would tell, so A sends it again as a \
                 probe; the first acknowledgement beyond it shows that something was lost, and the window is reduced"
            }
            Self::Fastopen => {
                "A connects to B twice with data in the call: the first SYN asks for a cookie, the second has it \
                 and the data, which B's program reads before the handshake ends"
            }
            Self::Bbr => {
                "A sends 400,000 octets to B by BBR over a link of 1,000,000 octets a second: STARTUP until the \
                 rate grows no more, DRAIN, PROBE_BW, each segment at its pace"
            }
        };
        let shown = match self {
            Self::Bbr => "Of A only the states, the pace and the segments that leave are shown",
            _ => "Stations below TCP are left out: `walk tcp` shows them",
        };
        format!("TCP: {what} (A {A}, B {B})\n{shown}.")
    }

    /// The walk begins when the connection stands.
    pub(super) fn begins_connected(self) -> bool {
        self != Self::Fastopen
    }

    /// Keeps of a walk what is part of it.
    pub(super) fn pick(self, records: &mut Vec<(u16, Record)>) {
        let shown = |(machine, record): &(u16, Record)| self.shows(*machine, record.point);
        let ids: BTreeSet<WalkId> =
            records.iter().filter(|one| shown(one)).map(|(_, record)| record.id).collect();
        records.retain(|one| {
            let record = &one.1;
            // Where a packet comes from is told of those that pass some station.
            shown(one) || is_link(record.point) && ids.contains(&record.id)
        });
    }

    fn shows(self, machine: u16, point: Point) -> bool {
        use Point as P;
        if self == Self::Bbr {
            let shown = [P::bbr_main, P::tcp_pacing_check, P::tcp_pace_kick, P::tcp_transmit_skb];
            return machine == 0 && (shown.contains(&point) || point == P::sys_write);
        }
        // On the way of every segment, and nothing of what happens here.
        let common = [P::tcp4_gro_receive, P::tcp_v4_rcv, P::tcp_v4_do_rcv, P::skb_entail];
        let calls = point.name().starts_with("sys_");
        let ends = matches!(point, P::consume_skb | P::kfree_skb);
        calls || ends || point.file().starts_with("net/ipv4/tcp") && !common.contains(&point)
    }

    /// Bursts of so many octets, each of which is answered.
    fn bursts(self) -> &'static [usize] {
        match self {
            Self::Loss => &[20 * MSS],
            Self::Reorder => &[6 * BARE_MSS, 6 * BARE_MSS, 6 * BARE_MSS],
            Self::Tlp => &[3 * MSS, MSS],
            Self::Bbr => &[400_000],
            Self::Fastopen => &[],
        }
    }
}

impl Stage {
    /// Puts the tasks of a scenario on.
    pub(super) fn cast_tcp(&mut self, scenario: TcpScenario, last: CpuId) -> Outcome {
        for (_, machine) in &self.machines {
            let mut cx = self.world.task_cx(machine, CpuId(0));
            update_sysctls(&mut cx, |sysctl| match scenario {
                // Both sides of it.
                TcpScenario::Fastopen => sysctl.tcp.fastopen = 3,
                // Time stamps would tell before D-SACK does.
                TcpScenario::Reorder => sysctl.tcp.timestamps = 0,
                _ => {}
            });
        }
        if scenario == TcpScenario::Fastopen {
            self.take_early(last)?;
            return self.send_early();
        }
        self.take_bursts(scenario.bursts(), last)?;
        self.send_bursts(scenario)
    }

    /// A server that answers what comes first, then each burst with an octet.
    fn take_bursts(&mut self, bursts: &'static [usize], cpu: CpuId) -> Outcome {
        self.spawn(1, cpu, |task| {
            let listening = task.now(listener)?;
            Ok(async move {
                let (fd, _) = called("accept", task.call(sys_accept4(listening, 0)).await)?;
                read_all(&task, fd, FIRST.len()).await?;
                called("write", task.call(sys_write(fd, b"y")).await)?;
                for burst in bursts {
                    read_all(&task, fd, *burst).await?;
                    called("write", task.call(sys_write(fd, b"y")).await)?;
                }
                read_all(&task, fd, 1).await.or_else(ended)?;
                called("close", task.now(|cx| sys_close(cx, fd)))
            })
        })
    }

    /// A client that sends them.
    fn send_bursts(&mut self, scenario: TcpScenario) -> Outcome {
        let watched: Vec<Arc<Machine>> =
            self.machines.iter().map(|(_, machine)| Arc::clone(machine)).collect();
        self.spawn(0, CpuId(0), |task| {
            let fd = called("socket", task.now(|cx| sys_socket(cx, AF_INET, SOCK_STREAM, 0)))?;
            if scenario == TcpScenario::Bbr {
                let set = task.now(|cx| sys_setsockopt(cx, fd, SOL_TCP, TCP_CONGESTION, b"bbr"));
                called("setsockopt", set)?;
            }
            Ok(async move {
                called("connect", task.call(sys_connect(fd, &address(B, SERVER))).await)?;
                called("write", task.call(sys_write(fd, FIRST)).await)?;
                read_all(&task, fd, 1).await?;
                watched.iter().for_each(|machine| machine.tracer.start(None));
                for burst in scenario.bursts() {
                    let data = vec![0; *burst];
                    let mut sent = 0;
                    while sent < data.len() {
                        sent += called("write", task.call(sys_write(fd, &data[sent..])).await)?;
                    }
                    read_all(&task, fd, 1).await?;
                }
                watched.iter().for_each(|machine| machine.tracer.stop());
                called("close", task.now(|cx| sys_close(cx, fd)))
            })
        })
    }

    /// A server that takes two connections with data in their SYN, if they have it.
    fn take_early(&mut self, cpu: CpuId) -> Outcome {
        self.spawn(1, cpu, |task| {
            let listening = task.now(listener)?;
            let most = 5_i32.to_ne_bytes();
            let set = task.now(|cx| sys_setsockopt(cx, listening, SOL_TCP, TCP_FASTOPEN, &most));
            called("setsockopt", set)?;
            Ok(async move {
                for _ in 0..2 {
                    let (fd, _) = called("accept", task.call(sys_accept4(listening, 0)).await)?;
                    read_all(&task, fd, FIRST.len()).await?;
                    called("write", task.call(sys_write(fd, b"y")).await)?;
                    read_all(&task, fd, 1).await.or_else(ended)?;
                    called("close", task.now(|cx| sys_close(cx, fd)))?;
                }
                Ok(())
            })
        })
    }

    /// A client that connects twice and sends with it.
    fn send_early(&mut self) -> Outcome {
        self.spawn(0, CpuId(0), |task| {
            Ok(async move {
                for _ in 0..2 {
                    let fd = task.now(|cx| sys_socket(cx, AF_INET, SOCK_STREAM, 0));
                    let fd = called("socket", fd)?;
                    let to = address(B, SERVER);
                    let sent = sys_sendto(fd, FIRST, MSG_FASTOPEN, Some(&to));
                    called("sendto", task.call(sent).await)?;
                    read_all(&task, fd, 1).await?;
                    called("close", task.now(|cx| sys_close(cx, fd)))?;
                }
                Ok(())
            })
        })
    }
}

/// What a peer says who has closed instead of sending.
const CLOSED: ScenarioError = ScenarioError::Unfinished("the peer's answer");

/// That is the end which was waited for.
fn ended(error: ScenarioError) -> Outcome {
    if error == CLOSED { Ok(()) } else { Err(error) }
}

/// Reads so many octets.
async fn read_all(task: &Task, fd: i32, len: usize) -> Outcome {
    let (mut room, mut left) = (vec![0; len.min(1 << 16)], len);
    while left != 0 {
        let most = room.len().min(left);
        match called("read", task.call(sys_read(fd, &mut room[..most])).await)? {
            0 => return Err(CLOSED),
            read => left -= read,
        }
    }
    Ok(())
}
