//! The stack: a machine of a stepped world, whose device's other end is the script. Virtual time:
//! waiting costs nothing, and a script run twice gives the same packets at the same times.
//!
//! Key type: [`Stack`]. Parts: `calls` (the system calls of a task), `commands` (what commands of
//! scripts mean here), `cut` (what the device does). Contexts: the caller's thread.
//! Invariants: frames are seen in the turn of the world in which they leave; nothing of the operating
//! system is used.

mod calls;
mod commands;
mod cut;

use crate::backend::{Backend, Call, Config, Done, Sent};
use crate::parse::script::Us;
use crate::wire::Csum;
use ::stack::kernel::context::TaskCx;
use ::stack::kernel::cpu::CpuId;
use ::stack::kernel::sched::TaskStruct;
use ::stack::kernel::time::Ktime;
use ::stack::net::core::dev::device::dev_set_mtu;
use ::stack::net::core::dev::{NetdevFeatures, dev_open};
use ::stack::net::core::neighbour::{NeighKey, neigh_add};
use ::stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use ::stack::net::ipv4::fib::{FibInfo, fib_new_route};
use ::stack::net::socket::__sys_getsockopt;
use calls::{Slot, caller};
use drivers::net::wire::wire_probe;
use drivers::net::wire_port::{FrameBatch, FrameMeta, WirePort};
use hw::wire::{Outside, WireEnd};
use sim::{MachineSpec, World};
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::neighbour::NUD_PERMANENT;

/// The link addresses: the machine's, and of whoever is at the other end.
const MACS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
/// `ETH_P_IP`
const ETH_P_IP: [u8; 2] = [8, 0];
const ETH_HLEN: usize = 14;
/// Frames the device's wire holds.
const WIRE: usize = 4096;

/// A machine under virtual time as a script sees it.
pub struct Stack {
    world: Option<World>,
    cx: TaskCx,
    /// Shares the files of the task that makes the calls.
    beside: TaskCx,
    outside: Outside,
    batch: FrameBatch,
    sent: VecDeque<Sent>,
    slot: Rc<Slot>,
}

impl std::fmt::Debug for Stack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stack({:?})", self.cx)
    }
}

fn us(time: Ktime) -> Us {
    (time.0 / 1_000) as Us
}

fn ktime(time: Us) -> Ktime {
    Ktime(u64::try_from(time).unwrap_or(0).saturating_mul(1_000))
}

impl Stack {
    /// A machine with a device `tun0`, its address, and a route to everywhere through the gateway.
    ///
    /// # Errors
    /// What of the configuration the machine refuses.
    pub fn new(config: &Config) -> Result<Self, String> {
        let mut world = World::new(1);
        let machine = world.machine(&MachineSpec::default());
        let mut cx = world.task_cx(&machine, CpuId(0));
        let (device, outside) = WireEnd::open(WIRE);
        let refused = |what: &str| {
            let what = what.to_owned();
            move |errno: Errno| format!("{what}: {errno}")
        };
        let dev =
            wire_probe(&mut cx, "tun0", MACS[0], Arc::new(device)).map_err(refused("tun0"))?;
        dev_set_mtu(&mut cx, &dev, config.mtu)
            .map_err(refused(&format!("an MTU of {}", config.mtu)))?;
        let addr = IfAddr::new(config.local, config.prefix)
            .map_err(refused(&format!("the address {}/{}", config.local, config.prefix)))?;
        inet_insert_ifa(&mut cx, &dev, addr).map_err(refused("the address"))?;
        dev_open(&mut cx, &dev).map_err(refused("bringing tun0 up"))?;
        match config.offloads {
            None => (),
            Some(true) => {
                dev.set_features(dev.features() | NetdevFeatures::HW_CSUM | NetdevFeatures::TSO);
            }
            Some(false) => dev.set_features(dev.features() - NetdevFeatures::GRO),
        }
        let info = FibInfo { gateway: config.gateway.into(), ..FibInfo::default() };
        fib_new_route(&mut cx, 0, 0, info)
            .map_err(refused(&format!("the gateway {} of {}", config.gateway, config.local)))?;
        let permanent = |cx: &mut TaskCx, addr: std::net::Ipv4Addr| {
            let key = NeighKey { dev: dev.ifindex, addr: addr.into() };
            neigh_add(cx, key, MACS[1], NUD_PERMANENT as u8)
                .map_err(refused("the gateway's neighbour"))
        };
        permanent(&mut cx, config.gateway)?;
        // On the machine's own network it is reached without the gateway.
        if addr.on_link(config.remote.into()) {
            permanent(&mut cx, config.remote)?;
        }
        let slot = Rc::new(Slot::new(Arc::clone(world.clock())));
        let theirs = Rc::clone(&slot);
        world.spawn(&machine, CpuId(0), |task| caller(task, theirs));
        world.settle();
        let files = slot.files().ok_or("the task that makes the calls did not start")?;
        let beside = TaskCx::new(&machine, TaskStruct::with_files("pkt", CpuId(0), files));
        let (batch, sent) = (FrameBatch::new(), VecDeque::new());
        Ok(Self { world: Some(world), cx, beside, outside, batch, sent, slot })
    }

    fn world(&mut self) -> &mut World {
        self.world.as_mut().expect("it is taken only when it ends")
    }

    /// Takes what the device has sent up to now.
    fn collect(&mut self) {
        let at = us(self.world().clock().peek());
        while self.outside.drain(64, &mut self.batch) != 0 {
            for (frame, meta) in self.batch.iter() {
                // ARP is between the machine and its link, and none of a script's.
                if frame.len() > ETH_HLEN && frame[12..ETH_HLEN] == ETH_P_IP {
                    for whole in cut::finish(frame, meta.vnet.as_ref()) {
                        let bytes = whole[ETH_HLEN..].to_vec();
                        self.sent.push_back(Sent { at, bytes, csum: Csum::Full });
                    }
                }
            }
            self.batch.clear();
        }
    }

    /// Runs until `at`, or until a call has ended or, if asked for, a packet has left.
    fn run(&mut self, at: Us, stop: Stop) {
        loop {
            let (slot, end) = (Rc::clone(&self.slot), self.outside.end().clone());
            let stopped = self.world().run_until_done(ktime(at), move || {
                end.pending() != 0 || (stop == Stop::Call && slot.has_ended())
            });
            self.collect();
            let enough = match stop {
                Stop::Time => false,
                Stop::Packet => !self.sent.is_empty(),
                Stop::Call => self.slot.has_ended(),
            };
            if !stopped || enough {
                return;
            }
        }
    }
}

/// What a run ends with, besides its time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stop {
    Time,
    Packet,
    Call,
}

impl Backend for Stack {
    fn name(&self) -> &'static str {
        "stack"
    }

    fn now(&mut self) -> Us {
        us(self.world().clock().peek())
    }

    fn wall_offset(&self) -> Us {
        (sim::clock::REAL_EPOCH / 1_000) as Us
    }

    fn wait_until(&mut self, at: Us) -> Result<(), String> {
        self.run(at, Stop::Time);
        Ok(())
    }

    fn inject(&mut self, packet: &[u8]) -> Result<(), String> {
        let mut frame = Vec::with_capacity(ETH_HLEN + packet.len());
        frame.extend(MACS[0]);
        frame.extend(MACS[1]);
        frame.extend(ETH_P_IP);
        frame.extend(packet);
        if !self.outside.inject(&frame, FrameMeta::default()) {
            return Err(format!("a packet of {} bytes does not go onto the wire", packet.len()));
        }
        let now = self.now();
        self.run(now, Stop::Time);
        Ok(())
    }

    fn next_packet(&mut self, until: Us) -> Result<Option<Sent>, String> {
        if self.sent.is_empty() {
            self.run(until, Stop::Packet);
        }
        Ok(self.sent.pop_front())
    }

    fn start(&mut self, call: Call) -> Result<(), String> {
        self.slot.hand_in(call);
        let now = self.now();
        self.run(now, Stop::Call);
        Ok(())
    }

    fn finish(&mut self, until: Us) -> Result<Option<(Done, Us)>, String> {
        if !self.slot.has_ended() {
            self.run(until, Stop::Call);
        }
        Ok(self.slot.take_ended())
    }

    fn option(&mut self, fd: i32, option: (i32, i32), room: i32) -> Result<Done, String> {
        let done = __sys_getsockopt(&mut self.beside, fd, option.0, option.1, room);
        Ok(done.map_or_else(|errno| Done::failed(errno.0), |data| Done { data, ..Done::ok(0) }))
    }

    fn command(&mut self, command: &str, _dir: &Path) -> Result<(), String> {
        commands::run(&mut self.cx, command)?;
        let now = self.now();
        self.run(now, Stop::Time);
        Ok(())
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(world) = self.world.take() {
            // Packets of connections that the script leaves open go with the machine.
            let _digest = world.abandon();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Room;

    #[test]
    fn an_option_is_read_beside_a_call_that_sleeps() {
        let mut stack = Stack::new(&Config::default()).unwrap();
        let call = |stack: &mut Stack, call| {
            stack.start(call).unwrap();
            let now = stack.now();
            stack.finish(now).unwrap()
        };
        let (done, _) = call(&mut stack, Call::Socket(libc::AF_INET, libc::SOCK_DGRAM, 0)).unwrap();
        let fd = done.ret as i32;
        let room = Room { parts: vec![10], control: 0 };
        assert_eq!(call(&mut stack, Call::Recv(fd, room, 0)), None, "it sleeps");
        let done = stack.option(fd, (libc::SOL_SOCKET, libc::SO_TYPE), 4).unwrap();
        assert_eq!(done.data, libc::SOCK_DGRAM.to_ne_bytes());
        let bad = stack.option(fd + 1, (libc::SOL_SOCKET, libc::SO_TYPE), 4).unwrap();
        assert_eq!(bad.errno, libc::EBADF);
    }

    #[test]
    fn waiting_costs_nothing_and_moves_the_clock() {
        let mut stack = Stack::new(&Config::default()).unwrap();
        let begin = stack.now();
        stack.wait_until(begin + 86_400_000_000).unwrap();
        assert_eq!(stack.now(), begin + 86_400_000_000);
    }
}
