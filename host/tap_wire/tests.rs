use super::*;
use crate::testing::{Need, NetNs, in_fresh_netns, need, recv_from};
use drivers::net::wire_port::VnetMeta;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use uapi::virtio_net::{
    VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, VirtioNetHdrMrgRxbuf,
};
use zerocopy::FromZeros;

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const HANG: Duration = Duration::from_secs(30);

fn vnet(vnet: VnetMeta) -> FrameMeta {
    FrameMeta { packet_id: 0, vnet: Some(vnet) }
}

fn header(frame: &[u8], meta: &FrameMeta) -> Option<VirtioNetHdrMrgRxbuf> {
    virtio_net_hdr(&meta.vnet.unwrap_or_default(), frame.len())
}

fn read(hdr: VirtioNetHdr, frame: &[u8]) -> Vec<u8> {
    [hdr.as_bytes(), &[0, 0], frame].concat()
}

#[test]
fn what_is_left_to_do_survives_the_way_out_and_back() {
    let frame = [7; 60];
    let open = VnetMeta { csum_start: Some(34), csum_offset: 6, ..VnetMeta::default() };
    let checked = VnetMeta { data_valid: true, ..VnetMeta::default() };
    for meta in [vnet(open), vnet(checked), FrameMeta::default()] {
        let read = [header(&frame, &meta).unwrap().as_bytes(), &frame].concat();
        assert_eq!(check(&read), Some((&frame[..], meta)));
    }
}

#[test]
fn a_header_that_contradicts_its_frame_is_not_believed() {
    let needs = |start: u16, offset: u16| {
        let mut hdr = VirtioNetHdr::new_zeroed();
        hdr.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
        hdr.csum_start.set(start);
        hdr.csum_offset.set(offset);
        hdr
    };
    let frame = [0; 60];
    assert!(check(&read(needs(34, 24), &frame)).is_some(), "the last two octets");
    for hdr in [needs(34, 25), needs(60, 0), needs(u16::MAX, u16::MAX)] {
        assert_eq!(check(&read(hdr, &frame)), None);
        let (start, offset) = (hdr.csum_start.get(), hdr.csum_offset.get());
        let meta = VnetMeta { csum_start: Some(start), csum_offset: offset, ..VnetMeta::default() };
        assert!(header(&frame, &vnet(meta)).is_none());
    }
    let mut gso = VirtioNetHdr::new_zeroed();
    gso.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
    assert_eq!(check(&read(gso, &frame)), None, "never asked for");
    assert_eq!(check(&read(VirtioNetHdr::new_zeroed(), &[0; 13])), None, "no frame");
    for len in 0..VNET_HDR_LEN {
        assert_eq!(check(&vec![0; len]), None);
    }
}

/// A wire in a fresh namespace, its host side up, with what it was notified of.
fn with_wire(f: impl FnOnce(&NetNs, TapWire, mpsc::Receiver<WireEvent>) + Send) {
    if !(need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip"))) {
        return;
    }
    in_fresh_netns(|ns| {
        let wire = TapWire::open("nk0").unwrap();
        let (tell, told) = mpsc::channel();
        // The test may have ended by the time of the last.
        wire.set_notify(Box::new(move |event| tell.send(event).unwrap_or_default())).unwrap();
        assert!(!wire.carrier(), "nobody has brought it up");
        // What else the host has to say to a new link does not matter here.
        std::fs::write("/proc/sys/net/ipv6/conf/nk0/disable_ipv6", "1").unwrap();
        ns.ip("addr add 192.0.2.1/24 dev nk0");
        ns.ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev nk0 nud permanent");
        ns.ip("link set nk0 up");
        assert_eq!(next(&told, WireEvent::Carrier), WireEvent::Carrier);
        assert!(wire.carrier());
        f(ns, wire, told);
    });
}

/// The next event of this kind.
fn next(told: &mpsc::Receiver<WireEvent>, wanted: WireEvent) -> WireEvent {
    loop {
        let event = told.recv_timeout(HANG).expect("an event");
        if event == wanted {
            return event;
        }
    }
}

/// Waits until it holds.
fn until(mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < HANG);
        thread::sleep(Duration::from_millis(1));
    }
}

/// UDP payloads to port 9 among what has arrived.
fn payloads(wire: &TapWire) -> Vec<u32> {
    let mut batch = FrameBatch::new();
    wire.receive(usize::MAX, &mut batch);
    let to_discard = |frame: &[u8]| frame.len() == 46 && frame[12..14] == [8, 0] && frame[37] == 9;
    let number = |frame: &[u8]| u32::from_be_bytes(frame[42..46].try_into().unwrap());
    batch.iter().filter(|(frame, _)| to_discard(frame)).map(|(frame, _)| number(frame)).collect()
}

#[test]
fn the_carrier_is_the_host_side_and_a_deleted_tap_has_none() {
    with_wire(|ns, wire, told| {
        ns.ip("link set nk0 down");
        next(&told, WireEvent::Carrier);
        assert!(!wire.carrier());
        let mut batch = FrameBatch::new();
        assert!(batch.push(&[0; 60], FrameMeta::default()));
        assert_eq!((wire.transmit(&mut batch), batch.len()), (0, 1), "stays with the sender");
        assert_eq!((wire.tx_refused(), wire.tx_bad()), (1, 0));
        ns.ip("link set nk0 up");
        next(&told, WireEvent::Carrier);
        assert!(wire.carrier());
        ns.ip("link del nk0");
        next(&told, WireEvent::Carrier);
        assert!(!wire.carrier());
        assert_eq!(wire.transmit(&mut batch), 0);
    });
}

#[test]
fn a_device_that_does_not_receive_stops_the_reader_and_loses_nothing_already_read() {
    with_wire(|_, wire, told| {
        let socket = UdpSocket::bind((HOST, 0)).unwrap();
        let send = |n: u32| socket.send_to(&n.to_be_bytes(), ("192.0.2.2", 9)).unwrap();
        // More than the wire's queue and the TAP's together.
        for n in 0..4000 {
            send(n);
        }
        until(|| wire.pending() + READ_BATCH > CAPACITY);
        thread::sleep(Duration::from_millis(20));
        assert!(wire.pending() <= CAPACITY);
        next(&told, WireEvent::Frames);
        let mut got = Vec::new();
        until(|| {
            got.extend(payloads(&wire));
            got.len() > CAPACITY
        });
        assert!(got.is_sorted(), "in order");
        assert!(got.len() < 4000, "the host dropped the rest");
        // Until all of them are out, then the reader must be awake again.
        until(|| {
            let before = got.len();
            got.extend(payloads(&wire));
            before == got.len()
        });
        send(5000);
        until(|| {
            got.extend(payloads(&wire));
            got.last() == Some(&5000)
        });
        assert_eq!(wire.rx_bad(), 0);
    });
}

#[test]
fn the_host_fills_in_a_sum_that_is_left_to_it_and_refuses_nonsense() {
    with_wire(|_, wire, _| {
        let mac = wire.tap().mac().unwrap();
        let socket = UdpSocket::bind((HOST, 9)).unwrap();
        socket.set_read_timeout(Some(HANG)).unwrap();
        let mut frame = [&mac[..], &[2, 0, 0, 0, 0, 2, 8, 0]].concat();
        let ip = [0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0xf6, 0xc9, 192, 0, 2, 2, 192, 0, 2, 1];
        frame.extend(ip);
        // The sum's field holds that of the pseudo-header, and is to be completed.
        frame.extend([16, 0, 0, 9, 0, 12, 0x84, 0x21, b'd', b'a', b't', b'a']);
        let open = VnetMeta { csum_start: Some(34), csum_offset: 6, ..VnetMeta::default() };
        let wrong = VnetMeta { csum_start: Some(46), ..open };
        let mut batch = FrameBatch::new();
        assert!(batch.push(&frame, vnet(wrong)));
        assert!(batch.push(&frame, vnet(open)));
        assert_eq!((wire.transmit(&mut batch), batch.len()), (2, 0));
        assert_eq!((wire.tx_bad(), wire.tx_refused()), (1, 0));
        let mut buf = [0; 16];
        let (len, from) = recv_from(&socket, &mut buf).unwrap();
        assert_eq!((&buf[..len], from.port()), (&b"data"[..], 0x1000));
    });
}

/// Opens a TAP just closed: a program that another test starts at this moment has a copy of the descriptor from its fork
/// to its exec.
fn reopen(name: &str) -> TapWire {
    loop {
        match TapWire::open(name) {
            Err(TapError::Busy { .. }) => thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

#[test]
fn dropped_it_gives_the_tap_back_even_from_its_own_thread() {
    with_wire(|ns, wire, told| {
        drop(told);
        let before = Arc::downgrade(&wire.shared);
        drop(wire);
        assert!(before.upgrade().is_none(), "no thread has it any more");
        let wire = Arc::new(reopen("nk0"));
        let held = Mutex::new(Some(Arc::clone(&wire)));
        let last = move |_| drop(held.lock().unwrap().take());
        wire.set_notify(Box::new(last)).unwrap();
        let shared = Arc::downgrade(&wire.shared);
        drop(wire);
        ns.ip("link set nk0 up");
        until(|| shared.upgrade().is_none());
    });
}
