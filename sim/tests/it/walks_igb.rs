//! Golden walks of the igb driver beside its traffic: start, open, close, link, and the interrupts
//! it falls back to.

use crate::golden;
use crate::util::{A, B, addr, udp};
use drivers::net::ethernet::intel::igb::{IgbOptions, igb_init_module};
use drivers::pci::{DmaBuf, DmaError, DmaSpace, IrqError, PciDev};
use hw::igb::I82576;
use sim::{Digest, LinkSpec, MachineSpec, World};
use stack::fs::exit_files;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::irq::IrqLine;
use stack::net::core::dev::{NetDevice, dev_close, dev_open};
use stack::net::core::ethtool::RingParam;
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::socket::{sys_recvfrom, sys_sendto};
use std::sync::Arc;
use std::time::Duration;

/// The best kind of interrupt that a bus grants.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum Grants {
    Intx,
    Msi,
    Msix,
}

struct Bus(Arc<I82576>, Grants);

impl PciDev for Bus {
    fn config_read32(&self, offset: u16) -> u32 {
        self.0.config_read32(offset)
    }
    fn config_write32(&self, offset: u16, value: u32) {
        self.0.config_write32(offset, value);
    }
    fn read32(&self, offset: u32) -> u32 {
        self.0.read32(offset)
    }
    fn write32(&self, offset: u32, value: u32) {
        self.0.write32(offset, value);
    }
    fn dma_alloc_coherent(&self, len: usize, align: usize) -> Result<DmaBuf, DmaError> {
        self.0.dma_alloc_coherent(len, align)
    }
    fn msix_count(&self) -> usize {
        self.0.msix_count()
    }
    fn enable_msix(&self, lines: &[IrqLine]) -> Result<(), IrqError> {
        if self.1 < Grants::Msix { Err(IrqError::Host) } else { self.0.enable_msix(lines) }
    }
    fn disable_msix(&self) {
        self.0.disable_msix();
    }
    fn enable_msi(&self, line: IrqLine) -> Result<(), IrqError> {
        if self.1 < Grants::Msi { Err(IrqError::Unsupported) } else { self.0.enable_msi(line) }
    }
    fn disable_msi(&self) {
        self.0.disable_msi();
    }
    fn request_intx(&self, line: IrqLine) -> Result<(), IrqError> {
        self.0.request_intx(line)
    }
    fn free_intx(&self) {
        self.0.free_intx();
    }
    fn trace_tx(&self, bus_addr: u64, packet_id: u64) {
        self.0.trace_tx(bus_addr, packet_id);
    }
    fn trace_rx(&self, bus_addr: u64) -> u64 {
        self.0.trace_rx(bus_addr)
    }
}

struct End {
    cx: TaskCx,
    dev: Arc<NetDevice>,
}

/// Two machines with a card each, whose drivers have started and devices are down.
fn cold(grants: Grants) -> (World, [End; 2]) {
    let mut world = World::recorded(111);
    let ports = world.link(LinkSpec::Wire);
    let ends = ports.map(|port| {
        let machine = world.machine(&MachineSpec::default());
        let mut cx = world.task_cx(&machine, CpuId(0));
        let mac = [2, 0, 0, 0, 0, machine.id as u8 + 1];
        let model = I82576::new(mac, port, DmaSpace::new(64 << 20));
        let clock = Arc::downgrade(&model);
        world.model(Box::new(move |now| clock.upgrade()?.advance(now)));
        let bus: Arc<dyn PciDev> = Arc::new(Bus(model, grants));
        // Spans, and no packet.
        world.watch(pcap_filter::compile("port 1").ok());
        cx.enter_call();
        igb_init_module(vec![bus], IgbOptions::default())(&mut cx).expect("probed");
        let dev = Arc::clone(machine.tables().net.dev_by_name("eth0").expect("registered"));
        End { cx, dev }
    });
    (world, ends)
}

fn up(world: &mut World, ends: &mut [End; 2]) {
    for (end, ip) in ends.iter_mut().zip([A, B]) {
        end.cx.enter_call();
        let ifa = IfAddr::new(ip, 24).expect("a host's");
        inet_insert_ifa(&mut end.cx, &end.dev, ifa).expect("new");
        dev_open(&mut end.cx, &end.dev).expect("opens");
    }
    world.settle();
}

fn finish(mut world: World, ends: [End; 2]) -> Digest {
    for mut end in ends {
        exit_files(&mut end.cx);
    }
    world.run_for(Duration::from_secs(1));
    world.end()
}

/// What the second machine recorded.
fn second(world: &World) -> Vec<(u16, stack::kernel::trace::Record)> {
    world.take_walk().into_iter().filter(|(machine, _)| *machine == 1).collect()
}

stepped!(a_driver_starts_opens_restarts_and_closes);
fn a_driver_starts_opens_restarts_and_closes() -> Digest {
    let (mut world, mut ends) = cold(Grants::Msix);
    up(&mut world, &mut ends);
    ends[1].cx.enter_call();
    let dev = Arc::clone(&ends[1].dev);
    let ethtool = dev.ethtool.clone().expect("has ethtool");
    let ring = ethtool.get_ringparam().expect("has rings");
    let larger = RingParam { rx: (ring.rx.0, 2 * ring.rx.1), ..ring };
    ethtool.set_ringparam(&mut ends[1].cx, larger).expect("there is memory");
    world.settle();
    ends[1].cx.enter_call();
    dev_close(&mut ends[1].cx, &dev);
    world.settle();
    golden::check_walk(&second(&world), "igb-open-close");
    finish(world, ends)
}

stepped!(a_link_goes_and_comes);
fn a_link_goes_and_comes() -> Digest {
    let (mut world, mut ends) = cold(Grants::Msix);
    up(&mut world, &mut ends);
    world.run_for(Duration::from_secs(1));
    let _ = world.take_walk();
    world.watch(None);
    world.set_carrier(false);
    world.run_for(Duration::from_millis(10));
    assert!(!ends[1].dev.carrier());
    world.set_carrier(true);
    world.run_for(Duration::from_millis(10));
    assert!(ends[1].dev.carrier());
    golden::check_walk(&second(&world), "igb-link");
    finish(world, ends)
}

/// A datagram in by such interrupts.
fn a_datagram_by(grants: Grants, name: &str) -> Digest {
    let (mut world, mut ends) = cold(grants);
    up(&mut world, &mut ends);
    let _ = world.take_walk();
    let client = udp(&mut ends[0].cx, A, 4000);
    let server = udp(&mut ends[1].cx, B, 7);
    let to = addr(B, 7);
    // The first one resolves the way.
    for data in [b"first", b"again"] {
        world.watch(None);
        let mut op = sys_sendto(client, data, 0, Some(&to));
        let sent = world.block_on(&mut ends[0].cx, &mut op, Duration::from_secs(1));
        assert_eq!(sent, Some(Ok(5)));
        drop(op);
        world.settle();
        let walk = second(&world);
        if data == b"again" {
            golden::check_walk(&walk, name);
        }
        let mut buffer = [0; 8];
        let mut op = sys_recvfrom(server, &mut buffer, 0);
        let got = world.block_on(&mut ends[1].cx, &mut op, Duration::from_secs(1));
        drop(op);
        assert_eq!(got.map(|got| got.map(|(len, _)| len)), Some(Ok(5)));
        world.run_for(Duration::from_secs(1));
        let _ = world.take_walk();
    }
    finish(world, ends)
}

stepped!(a_datagram_in_by_msi);
fn a_datagram_in_by_msi() -> Digest {
    a_datagram_by(Grants::Msi, "udp-in-igb-msi")
}

stepped!(a_datagram_in_by_the_old_interrupt);
fn a_datagram_in_by_the_old_interrupt() -> Digest {
    a_datagram_by(Grants::Intx, "udp-in-igb-intx")
}
