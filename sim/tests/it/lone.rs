//! One machine with a test's device, whose peer's address is known.

use crate::testdev::{TestDev, frame};
use sim::{Digest, MachineSpec, World};
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::Machine;
use stack::kernel::sched::Operation;
use stack::kernel::trace::drop_reason::DropReason;
use stack::net::core::neighbour::{NeighKey, neigh_add};
use stack::net::core::sysctl::names::sysctl_write;
use stack::net::core::sysctl::{Sysctls, update_sysctls};
use stack::net::ipv4::devinet::{Ipv4DevConf, update_devconf};
use stack::net::socket::{sys_recvfrom, sys_sendto};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::socket::MSG_DONTWAIT;

/// The machine's address.
pub const LOCAL: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

pub struct Lone {
    pub world: World,
    pub machine: Arc<Machine>,
    pub cx: TaskCx,
    pub dev: Arc<TestDev>,
}

impl Lone {
    pub fn new() -> Self {
        Self::with(MachineSpec::default(), 1000)
    }

    /// With a queue of so many packets; zero: none.
    pub fn with(spec: MachineSpec, tx_queue_len: u32) -> Self {
        let mut world = World::recorded(31);
        let machine = world.machine(&spec);
        let mut cx = world.task_cx(&machine, CpuId(0));
        let dev = TestDev::add(&mut cx, LOCAL, tx_queue_len);
        let key = NeighKey { dev: dev.dev().ifindex, addr: frame::PEER.into() };
        let state = uapi::neighbour::NUD_PERMANENT as u8;
        neigh_add(&mut cx, key, frame::PEER_MAC, state).expect("room for one");
        world.settle();
        Self { world, machine, cx, dev }
    }

    /// Changes settings of the machine.
    pub fn sysctl(&mut self, change: impl FnOnce(&mut Sysctls)) {
        update_sysctls(&mut self.cx, change);
    }

    /// Sets by name, as advice names it; `DEV` is the device.
    pub fn set(&mut self, name: &str, value: &str) {
        let name = name.replace("DEV", &self.dev.dev().name);
        sysctl_write(&mut self.cx, &name, value).expect("a setting");
    }

    /// Changes settings of the device.
    pub fn devconf(&mut self, change: impl FnOnce(&mut Ipv4DevConf)) {
        let id = self.dev.dev().ifindex;
        update_devconf(&mut self.cx, id, change).expect("there");
    }

    /// Runs a call to its end.
    pub fn run<O: Operation>(&mut self, mut op: O) -> O::Output {
        let ended = self.world.block_on(&mut self.cx, &mut op, Duration::from_secs(1));
        ended.expect("it does not wait for ever")
    }

    /// Sends without waiting for more than room.
    pub fn send(&mut self, fd: i32, data: &[u8], to: (Ipv4Addr, u16)) -> Result<usize, Errno> {
        let to = crate::util::addr(to.0, to.1);
        self.run(sys_sendto(fd, data, 0, Some(&to)))
    }

    /// What is there to read, datagram by datagram.
    pub fn recv_all(&mut self, fd: i32) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let mut data = vec![0; 2048];
            match self.run(sys_recvfrom(fd, &mut data, MSG_DONTWAIT)) {
                Ok((len, _)) => all.push(data[..len].to_vec()),
                Err(error) => {
                    assert_eq!(error, Errno::EAGAIN);
                    return all;
                }
            }
        }
    }

    /// Delivers a frame; why what it set off was dropped.
    pub fn take(&mut self, frame: Vec<u8>) -> Vec<DropReason> {
        self.world.watch(None);
        self.dev.deliver([frame]);
        self.world.settle();
        let walk = self.world.take_walk();
        walk.iter().filter_map(|(_, record)| record.drop_reason()).collect()
    }

    /// Delivers an IP packet that is addressed to this machine's card.
    pub fn take_ip(&mut self, packet: &[u8]) -> Vec<DropReason> {
        self.take(frame::ether(TestDev::MAC, 0x0800, packet))
    }

    /// Packets dropped for `reason` so far.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.machine.mib().drops(reason)
    }

    pub fn end(mut self) -> Digest {
        exit_files(&mut self.cx);
        drop(self.cx);
        // What waits for its neighbour, or for other fragments, is given up.
        self.world.run_for(Duration::from_secs(31));
        self.world.end()
    }
}
