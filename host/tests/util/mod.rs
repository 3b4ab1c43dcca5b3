//! A machine on threads with an igb card on a wire.

use drivers::net::ethernet::intel::igb::{IgbOptions, igb_init_module};
use drivers::pci::{DmaSpace, PciDev};
use host::{Runtime, RuntimeBuilder};
use hw::igb::I82576;
use hw::wire::WireEnd;
use stack::net::core::dev::{NetDevice, dev_open};
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use std::net::Ipv4Addr;
use std::sync::Arc;
use uapi::in_::SockaddrIn;

pub fn sockaddr(ip: Ipv4Addr, port: u16) -> [u8; 16] {
    SockaddrIn::new(ip.into(), port).to_bytes()
}

/// The machine, its card up and addressed.
pub fn runtime(
    machine: RuntimeBuilder,
    queues: u8,
    addr: Ipv4Addr,
    wire: WireEnd,
) -> (Runtime, Arc<NetDevice>) {
    let mac = [2, 0, 0, 0, 0, addr.octets()[3]];
    let nic = I82576::new(mac, Arc::new(wire), DmaSpace::new(64 << 20));
    // Without throttling the model needs no clock.
    let options = IgbOptions { queues: Some(queues), itr: 0, ..IgbOptions::default() };
    let init = igb_init_module(vec![nic as Arc<dyn PciDev>], options);
    let runtime = machine.machine(|b| b.module_init(init)).boot().expect("boots");
    let dev = runtime.machine().tables().net.dev_by_name("eth0").cloned().expect("registered");
    let mut cx = runtime.task("ip");
    inet_insert_ifa(&mut cx, &dev, IfAddr::new(addr, 24).expect("a host's")).expect("new");
    dev_open(&mut cx, &dev).expect("opens");
    drop(cx);
    (runtime, dev)
}
