use super::*;
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use zerocopy::IntoBytes;

use klib::checksum::{csum_fold, csum_partial};
use klib::random::Csprng;
use stack::kernel::cpu::CpuId;
use stack::kernel::machine::{Machine, Platform};
use stack::kernel::sched::{Operation, TaskStruct};
use stack::kernel::time::Ktime;
use stack::net::core::dev::{dev_close, dev_open};
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::socket::{sys_bind, sys_recvfrom, sys_sendto, sys_socket};
use uapi::in_::SockaddrIn;
use uapi::snmp::{IcmpMib, UdpMib};
use uapi::socket::{AF_INET, MSG_DONTWAIT, SOCK_DGRAM};
use uapi::virtio_net::{VIRTIO_NET_HDR_F_DATA_VALID, VIRTIO_NET_HDR_F_NEEDS_CSUM, VirtioNetHdr};
use zerocopy::{FromBytes, FromZeros};

mod segments;

const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const CPU: CpuId = CpuId(0);

#[derive(Default)]
struct Clock(AtomicU64);

impl Platform for Clock {
    fn ktime_get(&self) -> Ktime {
        Ktime(1_000_000_000 + self.0.fetch_add(100, Ordering::Relaxed))
    }
    fn ktime_get_real(&self) -> u64 {
        0
    }
    fn wake_cpu(&self, _cpu: CpuId) {}
    fn relax(&self, _spins: u32) {
        std::hint::spin_loop();
    }
}

/// A TAP in memory: frames to be read, frames written, and how it is to fail.
#[derive(Default)]
struct FakePort {
    incoming: Mutex<VecDeque<Vec<u8>>>,
    written: Mutex<Vec<(VirtioNetHdr, Vec<u8>)>>,
    write_fault: Mutex<Option<TapFault>>,
    read_fault: Mutex<Option<TapFault>>,
    down: AtomicBool,
    unmasked: Mutex<Option<Wants>>,
    reads: AtomicUsize,
    /// Frames of several segments and datagrams come, and go.
    whole: bool,
}

impl FakePort {
    /// There is what the driver waits for.
    fn would_interrupt(&self) -> bool {
        let faulty = self.read_fault.lock().unwrap().is_some();
        let more = !self.incoming.lock().unwrap().is_empty();
        !faulty && more && self.unmasked.lock().unwrap().is_some()
    }
}

impl TapPort for FakePort {
    fn takes_segments(&self) -> bool {
        self.whole
    }

    fn takes_datagrams(&self) -> bool {
        self.whole
    }

    fn read_frame(&self, parts: &mut [IoSliceMut<'_>]) -> Result<Option<usize>, TapFault> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if let Some(fault) = *self.read_fault.lock().unwrap() {
            return Err(fault);
        }
        let Some(frame) = self.incoming.lock().unwrap().pop_front() else { return Ok(None) };
        let mut len = 0;
        for part in parts {
            let here = part.len().min(frame.len() - len);
            part[..here].copy_from_slice(&frame[len..len + here]);
            len += here;
        }
        Ok(Some(len))
    }

    fn write_frame(&self, hdr: &[u8], parts: &[&[u8]]) -> Result<(), TapFault> {
        if let Some(fault) = *self.write_fault.lock().unwrap() {
            return Err(fault);
        }
        assert_eq!(hdr.len(), VNET_HDR_LEN);
        let (hdr, _) = VirtioNetHdr::read_from_prefix(hdr).unwrap();
        self.written.lock().unwrap().push((hdr, parts.concat()));
        Ok(())
    }

    fn link_up(&self) -> bool {
        !self.down.load(Ordering::Relaxed)
    }

    fn irq_mask(&self) {
        *self.unmasked.lock().unwrap() = None;
    }

    fn irq_unmask(&self, wants: Wants) {
        *self.unmasked.lock().unwrap() = Some(wants);
    }
}

struct Bed {
    m: Arc<Machine>,
    cx: TaskCx,
    port: Arc<FakePort>,
    tun: TunDevice,
}

impl Bed {
    fn new() -> Self {
        Self::with(FakePort::default(), 1500)
    }

    fn with(port: FakePort, mtu: u32) -> Self {
        let m = Machine::builder().seed([7; 32]).boot(Box::new(Clock::default())).unwrap();
        let mut cx = TaskCx::new(&m, TaskStruct::new("test", CPU));
        let port = Arc::new(port);
        let spec = TunSpec { name: "nk0".to_owned(), addr: OUR_MAC, mtu };
        let tun = tun_set_iff(&mut cx, vec![Arc::clone(&port) as _], spec).unwrap();
        dev_open(&mut cx, &tun.dev).unwrap();
        inet_insert_ifa(&mut cx, &tun.dev, IfAddr::new(US, 24).unwrap()).unwrap();
        Self { m, cx, port, tun }
    }

    /// Lets the CPU run until nothing is left.
    fn run(&mut self) {
        loop {
            let next = self.m.run_cpu(CPU);
            if next.ksoftirqd || next.pending {
                self.m.run_ksoftirqd(CPU);
            } else if self.port.would_interrupt() {
                self.tun.irqs[0].raise();
            } else {
                return;
            }
        }
    }

    /// These frames arrive.
    fn arrive(&mut self, frames: impl IntoIterator<Item = Vec<u8>>) {
        self.port.incoming.lock().unwrap().extend(frames);
        self.tun.irqs[0].raise();
        self.run();
    }

    fn written(&self) -> Vec<(VirtioNetHdr, Vec<u8>)> {
        std::mem::take(&mut self.port.written.lock().unwrap())
    }

    fn stats(&self) -> LinkStats {
        self.tun.dev.ops.ndo_get_stats64()
    }

    fn unmasked(&self) -> Option<Wants> {
        *self.port.unmasked.lock().unwrap()
    }

    fn socket(&mut self, port: u16) -> i32 {
        let fd = sys_socket(&mut self.cx, AF_INET, SOCK_DGRAM, 0).unwrap();
        sys_bind(&mut self.cx, fd, &SockaddrIn::new(0, port).to_bytes()).unwrap();
        fd
    }

    fn send(&mut self, fd: i32, data: &[u8]) {
        let peer = SockaddrIn::new(PEER.into(), 9).to_bytes();
        let sent = sys_sendto(fd, data, 0, Some(&peer)).poll(&mut self.cx);
        assert_eq!(sent, std::task::Poll::Ready(Ok(data.len())));
        self.run();
    }

    fn receive(&mut self, fd: i32) -> Option<Vec<u8>> {
        let mut buf = [0; 2048];
        let polled = sys_recvfrom(fd, &mut buf, MSG_DONTWAIT).poll(&mut self.cx);
        match polled {
            std::task::Poll::Ready(Ok((len, _))) => Some(buf[..len].to_vec()),
            std::task::Poll::Ready(Err(Errno::EAGAIN)) => None,
            other => panic!("{other:?}"),
        }
    }

    /// The neighbour's address is known from a request of his.
    fn introduce(&mut self) {
        self.arrive([arp_request()]);
        assert_eq!(self.written().len(), 1, "an answer");
    }

    /// Takes all down; nothing may be left.
    fn end(mut self) {
        stack::fs::exit_files(&mut self.cx);
        self.cx.flush();
        tun_detach(&mut self.cx, self.tun);
        assert_eq!(self.m.live_skbs(), 0, "packets leaked");
        assert_eq!(self.m.contained_panics(), 0);
    }
}

fn frame(hdr: VirtioNetHdr, proto: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = hdr.as_bytes().to_vec();
    frame.extend([0, 0]);
    frame.extend(OUR_MAC);
    frame.extend(PEER_MAC);
    frame.extend(proto.to_be_bytes());
    frame.extend(payload);
    frame
}

fn no_header() -> VirtioNetHdr {
    VirtioNetHdr::new_zeroed()
}

fn arp_request() -> Vec<u8> {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend(PEER_MAC);
    arp.extend(PEER.octets());
    arp.extend([0; 6]);
    arp.extend(US.octets());
    frame(no_header(), 0x0806, &arp)
}

fn ipv4(proto: u8, payload: &[u8]) -> Vec<u8> {
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, proto, 0, 0];
    ip[2..4].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
    ip.extend(PEER.octets());
    ip.extend(US.octets());
    let check = csum_fold(csum_partial(&ip, 0));
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    ip.extend(payload);
    ip
}

/// A datagram whose checksum field is what is given.
fn udp(port: u16, check: u16, data: &[u8]) -> Vec<u8> {
    let mut udp = Vec::new();
    udp.extend(4000u16.to_be_bytes());
    udp.extend(port.to_be_bytes());
    udp.extend(((8 + data.len()) as u16).to_be_bytes());
    udp.extend(check.to_be_bytes());
    udp.extend(data);
    ipv4(17, &udp)
}

#[test]
fn a_ping_is_answered() {
    let mut bed = Bed::new();
    let mut echo = vec![8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let check = csum_fold(csum_partial(&echo, 0));
    echo[2..4].copy_from_slice(&check.to_be_bytes());
    bed.introduce();
    bed.arrive([frame(no_header(), 0x0800, &ipv4(1, &echo))]);
    let written = bed.written();
    assert_eq!(written.len(), 1);
    let (_, reply) = &written[0];
    assert_eq!(reply[..6], PEER_MAC);
    assert_eq!(reply[6..12], OUR_MAC);
    assert_eq!((reply[34], &reply[38..]), (0, &echo[4..]));
    assert_eq!(bed.m.mib().get(IcmpMib::InEchos), 1);
    let stats = bed.stats();
    assert_eq!((stats.rx_packets, stats.tx_packets), (2, 2));
    assert_eq!(stats.rx_bytes, 42 + 14 + 20 + 12);
    assert_eq!(bed.unmasked(), Some(Wants::Frames), "armed again");
    bed.end();
}

#[test]
fn a_datagram_leaves_with_its_checksum_left_to_the_host() {
    let mut bed = Bed::new();
    bed.introduce();
    let fd = bed.socket(5000);
    bed.send(fd, b"hello");
    let written = bed.written();
    let (hdr, out) = &written[0];
    assert_eq!(hdr.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
    assert_eq!((hdr.csum_start.get(), hdr.csum_offset.get()), (34, 6));
    assert_eq!((hdr.gso_type, hdr.gso_size.get()), (0, 0));
    assert_eq!(&out[42..], b"hello");
    bed.end();
}

#[test]
fn a_datagram_without_its_checksum_is_believed_as_linux_does() {
    let mut bed = Bed::new();
    let fd = bed.socket(7);
    let unfinished = VirtioNetHdr {
        flags: VIRTIO_NET_HDR_F_NEEDS_CSUM,
        csum_start: 34.into(),
        csum_offset: 6.into(),
        ..no_header()
    };
    let valid = VirtioNetHdr { flags: VIRTIO_NET_HDR_F_DATA_VALID, ..no_header() };
    bed.arrive([
        frame(unfinished, 0x0800, &udp(7, 0x1234, b"partial")),
        frame(valid, 0x0800, &udp(7, 0x1234, b"checked")),
        frame(no_header(), 0x0800, &udp(7, 0x1234, b"wrong")),
        frame(no_header(), 0x0800, &udp(7, 0, b"none")),
    ]);
    assert_eq!(bed.receive(fd).unwrap(), b"partial");
    assert_eq!(bed.receive(fd).unwrap(), b"checked");
    assert_eq!(bed.receive(fd).unwrap(), b"none");
    assert_eq!(bed.receive(fd), None);
    assert_eq!(bed.m.mib().get(UdpMib::InCsumErrors), 1);
    bed.end();
}

#[test]
fn a_header_that_contradicts_its_frame_drops_it() {
    let mut bed = Bed::new();
    let needs = |start: u16, offset: u16| VirtioNetHdr {
        flags: VIRTIO_NET_HDR_F_NEEDS_CSUM,
        csum_start: start.into(),
        csum_offset: offset.into(),
        ..no_header()
    };
    let packet = udp(7, 0, b"x");
    let len = 14 + packet.len() as u16;
    bed.arrive([
        frame(needs(len, 0), 0x0800, &packet),
        frame(needs(len - 1, 0), 0x0800, &packet),
        frame(needs(u16::MAX, u16::MAX), 0x0800, &packet),
        frame(VirtioNetHdr { gso_type: 5, ..no_header() }, 0x0800, &packet),
    ]);
    let mib = bed.m.mib();
    assert_eq!(mib.drops(DropReason::SkbCsum), 3);
    assert_eq!(mib.drops(DropReason::SkbGsoSeg), 1);
    assert_eq!((bed.stats().rx_errors, bed.stats().rx_packets), (4, 0));
    bed.end();
}

#[test]
fn frames_too_short_and_too_long_are_told_apart() {
    let mut bed = Bed::new();
    let runts = [0, 1, 11, 12, 25].map(|len| vec![0; len]);
    bed.arrive(runts);
    bed.arrive([vec![0xff; 9000], frame(no_header(), 0x0800, &[0; 1509])]);
    let mib = bed.m.mib();
    assert_eq!(mib.drops(DropReason::HdrTrunc), 5);
    assert_eq!(mib.drops(DropReason::PktTooBig), 2);
    assert_eq!(bed.stats().rx_length_errors, 7);
    bed.end();
}

#[test]
fn whatever_the_header_and_frame_say_nothing_panics_or_leaks() {
    whatever_comes(Bed::new());
    whatever_comes(Bed::with(FakePort { whole: true, ..FakePort::default() }, 1500));
}

fn whatever_comes(mut bed: Bed) {
    let fd = bed.socket(7);
    let mut rng = Csprng::from_seed([3; 32]);
    for _ in 0..300 {
        let frames: Vec<Vec<u8>> = (0..16)
            .map(|_| {
                let mut hdr = [0; 10];
                hdr.fill_with(|| rng.next_u32() as u8);
                // Often enough what leads further in.
                if rng.below(2) == 0 {
                    hdr[0] &= 1;
                    hdr[1] = [0, 0, 1, 5][rng.below(4) as usize];
                    hdr[6..].copy_from_slice(&[rng.below(70) as u8, 0, rng.below(70) as u8, 0]);
                }
                let (hdr, _) = VirtioNetHdr::read_from_prefix(&hdr).unwrap();
                let mut data = vec![0; rng.below(60) as usize];
                data.fill_with(|| rng.next_u32() as u8);
                let mut packet = udp(7, 0, &data);
                let cut = rng.below(packet.len() as u32 + 1) as usize;
                packet.truncate(cut);
                if let Some(at) = packet.get_mut(rng.below(48) as usize) {
                    *at ^= rng.next_u32() as u8;
                }
                let proto = [0x0800, 0x0806, 0x86dd, rng.next_u32() as u16][rng.below(4) as usize];
                frame(hdr, proto, &packet)
            })
            .collect();
        bed.arrive(frames);
        while bed.receive(fd).is_some() {}
    }
    assert_eq!(bed.unmasked(), Some(Wants::Frames));
    bed.end();
}

#[test]
fn without_room_the_queue_stops_and_all_goes_out_in_order_later() {
    let mut bed = Bed::new();
    bed.introduce();
    let fd = bed.socket(5000);
    *bed.port.write_fault.lock().unwrap() = Some(TapFault::WouldBlock);
    for n in 0..5 {
        bed.send(fd, &[n]);
    }
    assert!(bed.tun.dev.tx_queues[0].stopped());
    assert_eq!(bed.unmasked(), Some(Wants::FramesAndRoom));
    assert_eq!(bed.tun.dev.tx_queues[0].qdisc().qlen(), 5);
    // An interrupt for frames alone tries again, and is told to wait for room again.
    bed.arrive([]);
    assert_eq!(bed.unmasked(), Some(Wants::FramesAndRoom));
    *bed.port.write_fault.lock().unwrap() = None;
    bed.tun.irqs[0].raise();
    bed.run();
    let sent: Vec<u8> = bed.written().iter().map(|(_, out)| out[42]).collect();
    assert_eq!(sent, [0, 1, 2, 3, 4]);
    assert!(!bed.tun.dev.tx_queues[0].stopped());
    assert_eq!(bed.stats().tx_dropped, 0);
    bed.end();
}

#[test]
fn a_host_side_that_is_down_is_no_carrier_until_it_is_up() {
    let mut bed = Bed::new();
    bed.introduce();
    let fd = bed.socket(5000);
    bed.port.down.store(true, Ordering::Relaxed);
    *bed.port.write_fault.lock().unwrap() = Some(TapFault::LinkDown);
    bed.send(fd, b"lost");
    assert!(!bed.tun.dev.carrier());
    assert_eq!(bed.stats().tx_dropped, 1);
    assert_eq!(bed.m.mib().drops(DropReason::DevReady), 1);
    bed.port.down.store(false, Ordering::Relaxed);
    *bed.port.write_fault.lock().unwrap() = None;
    bed.tun.link_irq.raise();
    bed.run();
    assert!(bed.tun.dev.carrier());
    bed.send(fd, b"back");
    assert_eq!(bed.written().len(), 1);
    bed.port.down.store(true, Ordering::Relaxed);
    bed.tun.link_irq.raise();
    bed.run();
    assert!(!bed.tun.dev.carrier());
    bed.end();
}

#[test]
fn a_link_that_came_up_while_a_write_failed_stays_up() {
    let mut bed = Bed::new();
    bed.introduce();
    let fd = bed.socket(5000);
    *bed.port.write_fault.lock().unwrap() = Some(TapFault::LinkDown);
    bed.send(fd, b"lost");
    assert!(bed.tun.dev.carrier(), "asked anew: it is up");
    bed.end();
}

#[test]
fn a_deleted_tap_is_not_read_again_and_again() {
    let mut bed = Bed::new();
    *bed.port.read_fault.lock().unwrap() = Some(TapFault::Gone);
    bed.arrive([]);
    assert_eq!(bed.unmasked(), None, "its descriptor reports an error for ever");
    assert!(!bed.tun.dev.carrier());
    assert_eq!(bed.port.reads.load(Ordering::Relaxed), 1);
    bed.end();
}

#[test]
fn a_frame_the_host_refuses_is_an_error_of_ours() {
    let mut bed = Bed::new();
    bed.introduce();
    let fd = bed.socket(5000);
    *bed.port.write_fault.lock().unwrap() = Some(TapFault::Other);
    bed.send(fd, b"refused");
    assert_eq!(bed.stats().tx_errors, 1);
    assert!(bed.tun.dev.carrier());
    bed.end();
}

#[test]
fn a_poll_takes_its_weight_and_comes_back_for_the_rest() {
    let mut bed = Bed::new();
    let fd = bed.socket(7);
    let many = NAPI_POLL_WEIGHT as usize * 3 + 5;
    bed.arrive((0..many).map(|_| frame(no_header(), 0x0800, &udp(7, 0, b"x"))));
    let mut got = 0;
    while bed.receive(fd).is_some() {
        got += 1;
    }
    // The receive buffer does not hold them all.
    assert_eq!(got + bed.m.mib().drops(DropReason::SocketRcvbuff), many as u64);
    assert_eq!(bed.stats().rx_packets, many as u64);
    bed.end();
}

#[test]
fn frames_that_come_one_by_one_are_read_without_a_second_look() {
    let mut bed = Bed::new();
    let ping = || frame(no_header(), 0x0806, &arp_request());
    let mut reads = || {
        bed.arrive([ping()]);
        bed.port.reads.swap(0, Ordering::Relaxed)
    };
    assert_eq!([reads(), reads(), reads(), reads()], [2; 4], "and nothing behind it");
    assert_eq!([reads(), reads(), reads(), reads()], [1; 4]);
    assert_eq!(reads(), 2, "now and then it looks");
    reads();
    // Many at once are all read, one by one at first, until it looks.
    bed.arrive((0..100).map(|_| ping()));
    assert_eq!(bed.stats().rx_packets, 110);
    assert!(bed.port.reads.swap(0, Ordering::Relaxed) <= 100 + LOOK_EVERY as usize);
    bed.arrive((0..100).map(|_| ping()));
    assert_eq!(bed.port.reads.swap(0, Ordering::Relaxed), 101, "in one poll after the other");
}

#[test]
fn the_walk_names_interrupt_poll_and_transmission() {
    use stack::kernel::trace::events::Point;
    let mut bed = Bed::new();
    bed.m.tracer.start(None);
    bed.introduce();
    let (records, _) = bed.m.tracer.take();
    let points: Vec<Point> = records.iter().map(|record| record.point).collect();
    let at = |point| points.iter().position(|p| *p == point).unwrap();
    let order =
        [Point::tun_interrupt, Point::tun_poll, Point::eth_type_trans, Point::tun_net_xmit].map(at);
    assert!(order.is_sorted(), "{points:?}");
    bed.m.tracer.stop();
    bed.end();
}

#[test]
fn down_and_up_again_it_works_as_before() {
    let mut bed = Bed::new();
    let dev = Arc::clone(&bed.tun.dev);
    dev_close(&mut bed.cx, &dev);
    assert_eq!(bed.unmasked(), None);
    bed.arrive([arp_request()]);
    assert_eq!(bed.written().len(), 0, "a device that is down reads nothing");
    dev_open(&mut bed.cx, &dev).unwrap();
    assert_eq!(bed.unmasked(), Some(Wants::Frames));
    bed.arrive([]);
    assert_eq!(bed.written().len(), 1, "what waited in the TAP");
    drop(dev);
    bed.end();
}

#[test]
fn an_mtu_out_of_bounds_and_a_name_that_is_taken_are_refused() {
    let mut bed = Bed::new();
    let mut make = |name: &str, mtu| {
        let spec = TunSpec { name: name.to_owned(), addr: OUR_MAC, mtu };
        tun_set_iff(&mut bed.cx, vec![Arc::clone(&bed.port) as _], spec).map(drop)
    };
    assert_eq!(make("nk1", MAX_MTU + 1), Err(Errno::EINVAL));
    assert_eq!(make("nk1", 67), Err(Errno::EINVAL));
    assert_eq!(make("nk0", 1500), Err(Errno::EEXIST));
    bed.end();
}

#[test]
fn each_port_is_a_queue_with_its_own_interrupt() {
    let m = Machine::builder().cpus(2).seed([7; 32]).boot(Box::new(Clock::default())).unwrap();
    let mut cx = TaskCx::new(&m, TaskStruct::new("test", CPU));
    let ports: Vec<Arc<FakePort>> = (0..2).map(|_| Arc::default()).collect();
    let spec = TunSpec { name: "nk0".to_owned(), addr: OUR_MAC, mtu: 1500 };
    assert_eq!(tun_set_iff(&mut cx, Vec::new(), spec.clone()).map(drop), Err(Errno::EINVAL));
    let shared = ports.iter().map(|port| Arc::clone(port) as Arc<dyn TapPort>).collect();
    let tun = tun_set_iff(&mut cx, shared, spec).unwrap();
    dev_open(&mut cx, &tun.dev).unwrap();
    inet_insert_ifa(&mut cx, &tun.dev, IfAddr::new(US, 24).unwrap()).unwrap();
    let names: Vec<_> = tun.irqs.iter().map(|line| line.desc().unwrap().name.clone()).collect();
    assert_eq!(
        (names.as_slice(), tun.dev.tx_queues.len()),
        (&["nk0-0", "nk0-1"].map(String::from)[..], 2)
    );
    // The second one's interrupt polls its own port, on its own CPU, and the answer leaves by the
    // CPU's queue.
    tun.irqs[1].desc().unwrap().irq_affinity_proc_write("2").unwrap();
    for port in &ports {
        port.incoming.lock().unwrap().push_back(arp_request());
    }
    tun.irqs[1].raise();
    m.run_cpu(CpuId(0));
    m.run_cpu(CpuId(1));
    let left: Vec<_> = ports.iter().map(|port| port.incoming.lock().unwrap().len()).collect();
    let sent: Vec<_> = ports.iter().map(|port| port.written.lock().unwrap().len()).collect();
    assert_eq!((left.as_slice(), sent.as_slice()), (&[1, 0][..], &[0, 1][..]));
    // One without room stops its own queue alone.
    *ports[0].write_fault.lock().unwrap() = Some(TapFault::WouldBlock);
    tun.irqs[0].desc().unwrap().irq_affinity_proc_write("1").unwrap();
    tun.irqs[0].raise();
    m.run_cpu(CpuId(0));
    let stopped: Vec<_> = tun.dev.tx_queues.iter().map(|queue| queue.stopped()).collect();
    assert_eq!(stopped, [true, false]);
    assert_eq!(*ports[0].unmasked.lock().unwrap(), Some(Wants::FramesAndRoom));
    *ports[0].write_fault.lock().unwrap() = None;
    tun.irqs[0].raise();
    m.run_cpu(CpuId(0));
    assert_eq!(ports[0].written.lock().unwrap().len(), 1, "sent when there was room");
    assert_eq!(tun.dev.ops.ndo_get_stats64().rx_packets, 2, "of both queues");
    cx.flush();
    tun_detach(&mut cx, tun);
    drop(cx);
    assert_eq!((m.live_skbs(), m.contained_panics()), (0, 0));
}
