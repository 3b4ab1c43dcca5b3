//! A wire that ends in a TAP: the host's kernel talks to a machine whose device is a model of hardware, or stands on
//! the wire itself.

use crate::up::{HANG, HOST, US, socket_to, tool};
use drivers::net::ethernet::intel::igb::{IgbOptions, igb_probe};
use drivers::net::wire::wire_probe;
use drivers::pci::DmaSpace;
use host::tap_wire::TapWire;
use host::testing::{Need, in_fresh_netns, need, recv};
use host::{Runtime, block_on, clock};
use hw::igb::I82576;
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::net::core::dev::{NetDevice, dev_close, dev_open};
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::socket::{sys_bind, sys_recvfrom, sys_sendto, sys_socket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, SOCK_DGRAM};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

fn echo(cx: &mut TaskCx) {
    let fd = sys_socket(cx, AF_INET, SOCK_DGRAM, 0).unwrap();
    sys_bind(cx, fd, &SockaddrIn::new(0, 7).to_bytes()).unwrap();
    let mut buf = [0; 2048];
    loop {
        let received = block_on(cx, &mut sys_recvfrom(fd, &mut buf, 0));
        // Interrupted: the machine is going down.
        let Ok((len, from)) = received else { return };
        let to = from.unwrap().to_bytes();
        block_on(cx, &mut sys_sendto(fd, &buf[..len], 0, Some(&to))).unwrap();
    }
}

/// What the host's kernel sees of a machine with the device that `probe` makes on the wire.
fn talks_to_the_host(probe: impl FnOnce(&mut TaskCx, Arc<TapWire>) -> Arc<NetDevice> + Send) {
    let tools = need(Need::Tool("ip")) && need(Need::Tool("ping"));
    if !(tools && need(Need::Root) && need(Need::DevNetTun)) {
        return;
    }
    in_fresh_netns(|ns| {
        let mut runtime = Runtime::builder().boot().unwrap();
        let mut cx = runtime.task("init");
        let wire = Arc::new(TapWire::open("nk0").unwrap());
        let dev = probe(&mut cx, Arc::clone(&wire));
        inet_insert_ifa(&mut cx, &dev, IfAddr::new(US, 24).unwrap()).unwrap();
        dev_open(&mut cx, &dev).unwrap();
        runtime.spawn("echo", CpuId(0), echo).unwrap();
        ns.ip(&format!("addr add {HOST}/24 dev nk0"));
        ns.ip("link set nk0 up");
        let start = Instant::now();
        while !dev.carrier() {
            assert!(start.elapsed() < HANG, "no carrier");
            thread::sleep(Duration::from_millis(1));
        }

        let text = tool(&["ping", "-n", "-q", "-c", "100", "-i", "0.01", "192.0.2.2"]);
        assert!(text.contains(" 0% packet loss"), "{text}");
        let socket = socket_to(7);
        let data: Vec<u8> = (0..1472u32).map(|n| (n * 31) as u8).collect();
        for size in (0..=1472).step_by(23) {
            socket.send(&data[..size]).unwrap();
            let mut buf = [0; 2048];
            let got = recv(&socket, &mut buf).unwrap();
            assert_eq!(buf[..got], data[..size]);
        }
        let closed = socket_to(4);
        closed.send(b"anybody there?").unwrap();
        let error = recv(&closed, &mut [0; 16]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
        assert_eq!((wire.rx_bad(), wire.tx_bad(), wire.tx_refused()), (0, 0, 0));

        dev_close(&mut cx, &dev);
        drop(cx);
        let machine = Arc::clone(runtime.machine());
        runtime.shutdown().unwrap();
        assert_eq!(machine.live_skbs(), 0);
    });
}

#[test]
fn the_host_talks_to_a_device_on_a_wire() {
    talks_to_the_host(|cx, wire| wire_probe(cx, "eth%d", MAC, wire).unwrap());
}

/// The model knows time only by being told; on a machine of threads somebody has to.
struct Clock {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Clock {
    fn start(model: &Arc<I82576>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (theirs, model) = (Arc::clone(&stop), Arc::downgrade(model));
        let body = move || {
            while !theirs.load(Ordering::SeqCst)
                && let Some(model) = model.upgrade()
            {
                model.advance(clock::monotonic_ns());
                drop(model);
                thread::sleep(Duration::from_micros(50));
            }
        };
        Self { stop, thread: Some(thread::spawn(body)) }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

#[test]
fn the_host_talks_to_igb_on_the_model_of_an_82576() {
    let mut ticking = None;
    talks_to_the_host(|cx, wire| {
        let model = I82576::new(MAC, wire, DmaSpace::new(16 << 20));
        ticking = Some(Clock::start(&model));
        igb_probe(cx, model, IgbOptions::default()).unwrap()
    });
    drop(ticking);
}
