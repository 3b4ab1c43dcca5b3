//! The worlds that `netkeel walk` shows: two machines, a wire between them, and one small thing
//! that happens.
//!
//! Key types: [`Setup`] says what, [`run`] does it, [`Scene`] is what was seen.
//! Contexts: the caller's thread, which steps the world. No lock is held by anything here.
//! Invariants: sockets are made, and neighbours resolved where that is not the subject, before the
//! walk begins; the same [`Setup`] gives the same [`Scene`], to the nanosecond.

mod capture;
mod play;

pub use capture::Frame;

use self::play::kinds;
use drivers::net::ethernet::intel::igb::IgbOptions;
use sim::{LinkSpec, MachineSpec, World};
use stack::kernel::machine::Machine;
use stack::kernel::trace::Record;
use stack::net::core::dev::DevId;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use uapi::errno::Errno;

/// The address of machine A.
pub const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The address of machine B.
pub const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// The most octets a datagram carries.
pub const MAX_SIZE: u16 = 65_507;

/// What happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Subject {
    /// A datagram from A to B, which waits for it, and B's answer.
    #[default]
    Udp,
    /// A datagram to a closed port, the ICMP error it brings, and an echo.
    Icmp,
    /// A datagram to a neighbour whose address on the link must be asked for first.
    Arp,
    /// A datagram to 127.0.0.1 on one machine.
    Loopback,
    /// A connection from A to B: made, written to, answered and closed.
    Tcp,
    /// A datagram to a group that B joins and leaves.
    Multicast,
    /// What hosts and routers say of groups: B's reports, A's query, B's answer.
    Igmp,
    /// An echo from a ping socket.
    Ping,
    /// An echo from a raw socket.
    Raw,
    /// A frame from one packet socket to another.
    Packet,
    /// A datagram by a router between A and B, and the answer.
    Forward,
    /// A datagram from one namespace of a machine to another, and the answer.
    Veth,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum TcpScenario {
    /// Two segments are lost: SACK tells, RACK marks them, they go again at once.
    Loss,
    /// Segments come late: RACK waits, or they go again for nothing, which is undone.
    Reorder,
    /// The last segment is lost: a probe by time brings it.
    Tlp,
    /// Two connections: the first asks for a cookie, the second has data in its SYN.
    Fastopen,
    /// BBR's states and its pace, over a link of a megabyte a second.
    Bbr,
}

/// The network cards of the machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Nic {
    /// The least a driver can be: no registers, frames straight onto the wire.
    Wire,
    /// The igb driver on the model of an Intel 82576.
    #[default]
    Igb,
}

/// What to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setup {
    /// What happens.
    pub subject: Subject,
    /// What happens to TCP's connection; `None`: nothing special.
    pub scenario: Option<TcpScenario>,
    /// The machines' network cards.
    pub nic: Nic,
    /// Octets of the datagram, at most [`MAX_SIZE`]; `None`: a word.
    pub size: Option<u16>,
    /// Virtual CPUs of each machine, 1 to 64.
    pub cpus: u8,
    /// Queues of each network card.
    pub queues: u8,
    /// The world's seed.
    pub seed: u64,
    /// Keep the frames that pass the devices. The taps this takes are part of the walk then.
    pub frames: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let (subject, nic) = (Subject::default(), Nic::default());
        Self {
            subject,
            scenario: None,
            nic,
            size: None,
            cpus: 1,
            queues: 1,
            seed: 1,
            frames: false,
        }
    }
}

/// A machine as output names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// "A" or "B".
    pub name: String,
    /// Virtual CPUs.
    pub cpus: u8,
    /// Its devices by index.
    pub devs: Vec<(DevId, String)>,
}

impl Host {
    fn of(name: &str, machine: &Machine) -> Self {
        // No two devices of a machine have one index, whatever namespaces they are in.
        let root = machine.tables();
        let devs = root.all().flat_map(|t| t.net.devs.iter().flatten());
        Self {
            name: name.to_owned(),
            cpus: machine.cpu_ids().count() as u8,
            devs: devs.map(|dev| (dev.ifindex, dev.name.clone())).collect(),
        }
    }

    /// The name of the device with this index.
    pub fn dev(&self, index: u16) -> Option<&str> {
        self.devs.iter().find(|(id, _)| id.0 == index).map(|(_, name)| name.as_str())
    }
}

/// What was seen.
#[derive(Clone, Debug)]
pub struct Scene {
    /// One sentence on what happens.
    pub title: String,
    /// The machines; a record's machine is an index here.
    pub hosts: Vec<Host>,
    /// `(machine, record)`, by time.
    pub records: Vec<(u16, Record)>,
    /// Frames at the devices, by time; empty unless asked for.
    pub frames: Vec<Frame>,
}

/// Why a scene can't be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScenarioError {
    /// The network card does not have so many queues.
    Queues(Nic, u8),
    /// A machine or its device did not come up.
    Boot(Errno),
    /// A system call failed.
    Call(&'static str, Errno),
    /// It did not come to its end.
    Unfinished(&'static str),
    /// The scenario is one of TCP.
    NotTcp,
    /// Only a datagram can be of any size.
    NotUdp,
}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queues(Nic::Wire, queues) => {
                write!(f, "a wire device has 1 queue, not {queues}; leave --queues out")
            }
            Self::Queues(Nic::Igb, queues) => {
                write!(
                    f,
                    "an igb device has 1 to 8 queues, not {queues}; choose fewer with --queues"
                )
            }
            Self::Boot(errno) => write!(f, "a machine did not start: {errno}; this is a defect"),
            Self::Call(call, errno) => write!(f, "{call} failed with {errno}; this is a defect"),
            Self::NotTcp => {
                write!(f, "scenarios are TCP's: write walk tcp --scenario, or leave it out")
            }
            Self::NotUdp => {
                write!(f, "--size is a datagram's: write walk udp --size, or leave it out")
            }
            Self::Unfinished(what) => write!(f, "{what} never happened; this is a defect"),
        }
    }
}

impl std::error::Error for ScenarioError {}

/// Joins two machines by a network card each, up, with these addresses and `queues` queues.
///
/// # Errors
/// When the card is not there, has not so many queues, or does not come up.
fn attach(
    world: &mut World,
    (nic, link): (Nic, LinkSpec),
    queues: u8,
    ends: [(&Arc<Machine>, Ipv4Addr); 2],
) -> Result<(), ScenarioError> {
    match nic {
        Nic::Wire if queues != 1 => Err(ScenarioError::Queues(nic, queues)),
        Nic::Wire => world.wire(link, ends).map(|_devs| ()).map_err(ScenarioError::Boot),
        Nic::Igb if !(1..=8).contains(&queues) => Err(ScenarioError::Queues(nic, queues)),
        Nic::Igb => {
            let options = IgbOptions { queues: Some(queues), ..IgbOptions::default() };
            world.igb(link, options, ends).map(|_devs| ()).map_err(ScenarioError::Boot)
        }
    }
}

/// Plays what `setup` says.
///
/// # Errors
/// When the network card is not to be had; anything else is a defect of the stack.
pub fn run(setup: &Setup) -> Result<Scene, ScenarioError> {
    if setup.scenario.is_some() && setup.subject != Subject::Tcp {
        return Err(ScenarioError::NotTcp);
    }
    if setup.size.is_some() && !matches!(setup.subject, Subject::Udp | Subject::Loopback) {
        return Err(ScenarioError::NotUdp);
    }
    let mut world = World::new(setup.seed);
    let spec = MachineSpec { cpus: setup.cpus, ..MachineSpec::default() };
    let a = world.machine(&spec);
    let mut machines = vec![("A", a)];
    let link = setup.scenario.map_or(LinkSpec::Wire, TcpScenario::link);
    match setup.subject {
        Subject::Loopback | Subject::Veth => (),
        Subject::Forward => {
            machines.extend(["R", "B"].map(|name| (name, world.machine(&spec))));
            let [near, far] = [(&machines[0].1, A), (&machines[1].1, kinds::NEAR_R)];
            attach(&mut world, (setup.nic, link), setup.queues, [near, far])?;
            let [near, far] = [(&machines[1].1, kinds::FAR_R), (&machines[2].1, kinds::FAR_B)];
            attach(&mut world, (setup.nic, link), setup.queues, [near, far])?;
        }
        _ => {
            machines.push(("B", world.machine(&spec)));
            let ends = [(&machines[0].1, A), (&machines[1].1, B)];
            attach(&mut world, (setup.nic, link), setup.queues, ends)?;
        }
    }
    let stage = play::Stage::new(world, machines);
    stage.play(setup)
}

#[cfg(test)]
mod tests;
