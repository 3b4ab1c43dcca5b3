use super::*;
use crate::testing::{Need, NetNs, TunNode, in_fresh_netns, need, recv_from};
use crate::wait::{Token, Trigger, Waiter};
use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;
use uapi::if_tun::{TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_USO4, TUN_F_USO6};
use uapi::virtio_net::{VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_UDP_L4, VirtioNetHdr};
use zerocopy::FromBytes;

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const US: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SINGLE: TapOptions = TapOptions { offloads: 0, wished: 0, queues: Queues::Single };
const MULTI: TapOptions = TapOptions { queues: Queues::Multi, ..SINGLE };

/// After so long a frame is taken for lost, rather than waited for without end.
const HANG: Duration = Duration::from_secs(30);

/// Where in what is read the Ethernet, IPv4 and UDP headers and the data begin.
const ETH: usize = VNET_HDR_LEN;
const IP: usize = ETH + 14;
const UDP: usize = IP + 20;
const DATA: usize = UDP + 8;

fn in_netns_with_tap(f: impl FnOnce(&NetNs) + Send) {
    if need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip")) {
        in_fresh_netns(f);
    }
}

/// Opens nk0, brings its host side up with an address, and makes us known to it.
fn open_joined(ns: &NetNs, options: TapOptions) -> Tap {
    joined(ns, Tap::open("nk0", options).unwrap())
}

fn joined(ns: &NetNs, tap: Tap) -> Tap {
    ns.ip("addr add 192.0.2.1/24 dev nk0");
    ns.ip("link set nk0 up");
    ns.ip("neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 dev nk0 nud permanent");
    tap
}

/// Opens a TAP just closed. A program another test starts at this moment has a copy of our
/// descriptor from its fork to its exec.
fn reopen(name: &str) -> Tap {
    open_again(name, SINGLE)
}

/// The same with other options.
fn open_again(name: &str, options: TapOptions) -> Tap {
    loop {
        match Tap::open(name, options) {
            Err(TapError::Busy { .. }) => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    }
}

/// Waits for the UDP datagram to us; what else the host says on its own (IPv6, IGMP) is no news.
fn read_udp(tap: &Tap, buf: &mut [u8]) -> usize {
    let waiter = Waiter::new().unwrap();
    waiter.add(tap, Token(0), Trigger::Level).unwrap();
    loop {
        match tap.read_frame(buf).unwrap() {
            Some(n) if is_udp_to_us(&buf[..n]) => return n,
            Some(_) => {}
            None => assert_eq!(waiter.wait(Some(HANG)).unwrap().next(), Some(Token(0))),
        }
    }
}

fn is_udp_to_us(read: &[u8]) -> bool {
    read.len() >= DATA && read[ETH + 12..IP] == [8, 0] && read[IP + 9] == 17 && {
        read[IP + 16..UDP] == US.octets()
    }
}

/// The sum of 16-bit words, folded; 0xffff over all that a checksum covers, itself included.
fn sum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let total: u32 =
        words.map(|w| u32::from(u16::from_be_bytes([w[0], w.get(1).copied().unwrap_or(0)]))).sum();
    let folded = (total & 0xffff) + (total >> 16);
    ((folded & 0xffff) + (folded >> 16)) as u16
}

fn udp_sum(read: &[u8]) -> u16 {
    let len = ((read.len() - UDP) as u16).to_be_bytes();
    sum(&[&read[IP + 12..UDP], &[0, 17], &len, &read[UDP..]])
}

/// A virtio-net header and a datagram from port 9 of ours, without a UDP checksum.
fn udp_to_host(mac: [u8; 6], port: u16, data: &[u8]) -> Vec<u8> {
    let mut out = vec![0; VNET_HDR_LEN];
    out.extend(mac);
    out.extend(OUR_MAC);
    out.extend([8, 0]);
    let total = (28 + data.len()) as u16;
    let mut ip = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip[12..16].copy_from_slice(&US.octets());
    ip[16..20].copy_from_slice(&HOST.octets());
    let check = !sum(&[&ip]);
    ip[10..12].copy_from_slice(&check.to_be_bytes());
    out.extend(ip);
    out.extend([0, 9]);
    out.extend(port.to_be_bytes());
    out.extend((total - 20).to_be_bytes());
    out.extend([0, 0]);
    out.extend(data);
    out
}

#[test]
fn with_checksum_offload_a_datagram_comes_unfinished() {
    in_netns_with_tap(|ns| {
        let options = TapOptions { offloads: TUN_F_CSUM, ..SINGLE };
        let tap = open_joined(ns, options);
        let socket = UdpSocket::bind((HOST, 0)).unwrap();
        socket.send_to(b"hello", (US, 7)).unwrap();
        let mut buf = [0; 2048];
        let n = read_udp(&tap, &mut buf);
        assert_eq!(n, DATA + 5);
        assert_eq!(&buf[DATA..n], b"hello");
        let (hdr, _) = VirtioNetHdr::read_from_prefix(&buf).unwrap();
        assert_eq!(hdr.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
        assert_eq!((hdr.csum_start.get(), hdr.csum_offset.get()), (34, 6));
        assert_ne!(udp_sum(&buf[..n]), 0xffff, "only the pseudo header is summed");
    });
}

#[test]
fn without_offloads_a_datagram_comes_finished() {
    in_netns_with_tap(|ns| {
        // Offloads a persistent TAP keeps from its last user must not be ours.
        ns.ip("tuntap add dev nk0 mode tap");
        let options = TapOptions { offloads: TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6, ..SINGLE };
        drop(Tap::open("nk0", options).unwrap());
        let tap = joined(ns, reopen("nk0"));
        let socket = UdpSocket::bind((HOST, 0)).unwrap();
        for len in [0, 1, 1472] {
            socket.send_to(&vec![0x5a; len], (US, 7)).unwrap();
            let mut buf = [0xff; MAX_READ];
            let n = read_udp(&tap, &mut buf);
            assert_eq!(n, DATA + len);
            assert_eq!(buf[..VNET_HDR_LEN], [0; VNET_HDR_LEN]);
            assert_eq!(udp_sum(&buf[..n]), 0xffff);
            assert_eq!(buf[ETH..ETH + 6], OUR_MAC);
            assert_eq!(buf[ETH + 6..ETH + 12], tap.mac().unwrap());
        }
    });
}

#[test]
fn with_segmentation_offload_one_read_brings_many_datagrams() {
    in_netns_with_tap(|ns| {
        let offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_USO4 | TUN_F_USO6;
        let tap = match Tap::open("nk0", TapOptions { offloads, ..SINGLE }) {
            // Before Linux 6.2.
            Err(TapError::Offloads { .. }) => return,
            other => other.unwrap(),
        };
        let tap = joined(ns, tap);
        let socket = UdpSocket::bind((HOST, 0)).unwrap();
        set_udp_segment(&socket, 1000);
        socket.send_to(&[1; 30_500], (US, 7)).unwrap();
        let mut buf = [0; MAX_READ];
        let n = read_udp(&tap, &mut buf);
        assert_eq!(n, DATA + 30_500);
        let (hdr, _) = VirtioNetHdr::read_from_prefix(&buf).unwrap();
        assert_eq!((hdr.gso_type, hdr.gso_size.get()), (VIRTIO_NET_HDR_GSO_UDP_L4, 1000));
    });
}

#[test]
fn a_wish_is_granted_as_a_whole_or_not_at_all() {
    in_netns_with_tap(|ns| {
        for (wished, granted) in [
            (TUN_F_TSO4 | TUN_F_TSO6, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6),
            (TUN_F_TSO4 | 1 << 31, TUN_F_CSUM),
            // The kernel takes both of these, or none.
            (TUN_F_USO4, TUN_F_CSUM),
        ] {
            let options = TapOptions { offloads: TUN_F_CSUM, wished, ..SINGLE };
            let tap = joined(ns, open_again("nk0", options));
            assert_eq!(tap.offloads(), granted, "{wished:#x}");
            let socket = UdpSocket::bind((HOST, 0)).unwrap();
            socket.send_to(b"hello", (US, 7)).unwrap();
            let mut buf = [0; 2048];
            read_udp(&tap, &mut buf);
            assert_eq!(buf[0], VIRTIO_NET_HDR_F_NEEDS_CSUM, "what is there without a wish stays");
        }
    });
}

fn set_udp_segment(socket: &UdpSocket, size: libc::c_int) {
    // SAFETY: the option reads one int, which lives during the call.
    let result = unsafe {
        let value = std::ptr::from_ref(&size).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, value, 4)
    };
    assert_eq!(result, 0);
}

#[test]
fn a_frame_we_write_reaches_the_hosts_socket() {
    in_netns_with_tap(|ns| {
        let tap = open_joined(ns, SINGLE);
        let socket = UdpSocket::bind((HOST, 0)).unwrap();
        let frame = udp_to_host(tap.mac().unwrap(), socket.local_addr().unwrap().port(), b"up");
        let (header, rest) = frame.split_at(VNET_HDR_LEN);
        let (first, second) = rest.split_at(20);
        tap.write_frame(&[header, first, second].map(IoSlice::new)).unwrap();
        socket.set_read_timeout(Some(HANG)).unwrap();
        let mut buf = [0; 16];
        let (n, from) = recv_from(&socket, &mut buf).unwrap();
        assert_eq!((&buf[..n], from), (&b"up"[..], SocketAddrV4::new(US, 9).into()));
    });
}

#[test]
fn frames_that_are_none_are_refused() {
    in_netns_with_tap(|ns| {
        let tap = open_joined(ns, SINGLE);
        let code = |bytes: &[u8]| {
            tap.write_frame(&[IoSlice::new(bytes)]).unwrap_err().raw_os_error().unwrap()
        };
        assert_eq!(code(&[0; VNET_HDR_LEN - 1]), libc::EINVAL);
        assert_eq!(code(&[0; VNET_HDR_LEN + 13]), libc::EINVAL);
        let slices = vec![IoSlice::new(b"x"); IOV_MAX + 1];
        let error = tap.write_frame(&slices).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    });
}

#[test]
fn a_batch_fills_buffer_after_buffer_and_cuts_what_is_too_long() {
    in_netns_with_tap(|ns| {
        fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap();
        let tap = open_joined(ns, SINGLE);
        let mut bufs = vec![vec![0; DATA + 8]; 64];
        let mut lens = [0; 64];
        // What the host said when the device came up.
        while tap.read_batch(&mut bufs, &mut lens).unwrap() > 0 {}
        let socket = UdpSocket::bind((HOST, 0)).unwrap();
        for n in 0..5u8 {
            socket.send_to(&vec![n; usize::from(n) * 3], (US, 7)).unwrap();
        }
        // Sending puts a frame into the queue of the TAP before it returns.
        assert_eq!(tap.read_batch(&mut bufs[..2], &mut lens).unwrap(), 2);
        assert_eq!(lens[..2], [DATA, DATA + 3]);
        assert_eq!(tap.read_batch(&mut bufs, &mut lens).unwrap(), 3);
        assert_eq!(lens[..3], [DATA + 6, DATA + 8, DATA + 8]);
        assert_eq!(bufs[2][DATA..], [4; 8]);
        assert_eq!(tap.read_batch(&mut bufs, &mut lens).unwrap(), 0);
    });
}

#[test]
fn a_device_that_is_down_has_no_carrier() {
    in_netns_with_tap(|ns| {
        let tap = Tap::open("nk0", SINGLE).unwrap();
        let frame = udp_to_host([2, 0, 0, 0, 0, 1], 9, b"");
        let write = || tap.write_frame(&[IoSlice::new(&frame)]);
        assert!(!tap.link_up().unwrap());
        let error = write().unwrap_err();
        assert!(is_link_down(&error) && !is_gone(&error), "{error}");
        assert_eq!(tap.read_frame(&mut [0; 64]).unwrap(), None);
        ns.ip("link set nk0 up");
        assert!(tap.link_up().unwrap());
        write().unwrap();
        ns.ip("link set nk0 down");
        assert!(!tap.link_up().unwrap());
        assert!(is_link_down(&write().unwrap_err()));
    });
}

#[test]
fn a_link_watch_tells_of_up_and_down() {
    in_netns_with_tap(|ns| {
        let watch = LinkWatch::new().unwrap();
        let waiter = Waiter::new().unwrap();
        waiter.add(&watch, Token(3), Trigger::Level).unwrap();
        assert!(!watch.drain());
        let tap = Tap::open("nk0", SINGLE).unwrap();
        for (word, up) in [("up", true), ("down", false)] {
            let _ = watch.drain();
            ns.ip(&format!("link set nk0 {word}"));
            assert_eq!(waiter.wait(None).unwrap().next(), Some(Token(3)));
            assert!(watch.drain());
            assert_eq!(tap.link_up().unwrap(), up);
        }
    });
}

#[test]
fn a_deleted_device_is_gone() {
    in_netns_with_tap(|ns| {
        let tap = open_joined(ns, SINGLE);
        let waiter = Waiter::new().unwrap();
        ns.ip("link set nk0 down");
        while tap.read_frame(&mut [0; 64]).unwrap().is_some() {}
        waiter.add(&tap, Token(1), Trigger::OneShot).unwrap();
        ns.ip("link del nk0");
        assert_eq!(waiter.wait(None).unwrap().next(), Some(Token(1)), "told like a frame");
        assert!(is_gone(&tap.read_frame(&mut [0; 64]).unwrap_err()));
        assert!(is_gone(&tap.write_frame(&[IoSlice::new(&[0; 80])]).unwrap_err()));
        assert!(is_gone(&tap.link_up().unwrap_err()));
        let mut lens = [0];
        let error = tap.read_batch(&mut [[0; 64]], &mut lens).unwrap_err();
        assert!(is_gone(&error) && !is_link_down(&error));
    });
}

#[test]
fn name_mac_and_mtu_are_the_devices() {
    in_netns_with_tap(|ns| {
        ns.ip("tuntap add dev fifteen-letters mode tap");
        ns.ip("link set fifteen-letters address 02:00:00:00:00:11 mtu 1400");
        let tap = Tap::open("fifteen-letters", SINGLE).unwrap();
        assert_eq!(tap.name(), "fifteen-letters");
        assert_eq!(tap.mac().unwrap(), [2, 0, 0, 0, 0, 0x11]);
        assert_eq!(tap.mtu().unwrap(), 1400);
    });
}

#[test]
fn several_queues_bring_each_datagram_once() {
    in_netns_with_tap(|ns| {
        let first = open_joined(ns, MULTI);
        let second = Tap::open("nk0", MULTI).unwrap();
        let sockets: Vec<_> = (0..16).map(|_| UdpSocket::bind((HOST, 0)).unwrap()).collect();
        for (n, socket) in sockets.iter().enumerate() {
            socket.send_to(&[n as u8], (US, 7)).unwrap();
        }
        let mut seen = Vec::new();
        let mut buf = [0; 2048];
        for tap in [&first, &second] {
            while let Some(n) = tap.read_frame(&mut buf).unwrap() {
                if is_udp_to_us(&buf[..n]) {
                    seen.push(buf[DATA]);
                }
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..16).collect::<Vec<_>>());
    });
}

fn text(name: &str, options: TapOptions) -> String {
    Tap::open(name, options).unwrap_err().to_string()
}

#[test]
fn bad_names_are_refused_before_the_system_is_asked() {
    let bad = |name: &str, why: &str| {
        let expected = format!("TAP name {name:?} {why}: choose another, such as nk0");
        assert_eq!(text(name, SINGLE), expected);
    };
    bad("", "is empty");
    bad("sixteen-letters-", "is longer than 15 octets");
    bad("..", "is no device name");
    for name in ["a b", "a/b", "a:b", "nk%d", "a\0b", "a\u{1b}b"] {
        bad(name, "has a blank, '/', ':', '%' or a control character in it");
    }
}

#[test]
fn names_of_other_devices_are_told_apart() {
    in_netns_with_tap(|ns| {
        ns.ip("tuntap add dev tun0 mode tun");
        ns.ip("tuntap add dev many mode tap multi_queue");
        ns.ip("tuntap add dev one mode tap");
        assert_eq!(
            text("tun0", SINGLE),
            "tun0 is a TUN, which carries IP packets, not Ethernet frames: choose another name"
        );
        assert_eq!(text("lo", SINGLE), "lo exists and is no TAP: choose another name");
        assert_eq!(
            text("many", SINGLE),
            "TAP many was created with multi_queue: ask for several queues, or create it anew \
             without (sudo ip tuntap del dev many mode tap multi_queue && \
             sudo ip tuntap add dev many mode tap user $USER)"
        );
        assert_eq!(
            text("one", MULTI),
            "TAP one was created without multi_queue: ask for one queue, or create it anew \
             (sudo ip tuntap del dev one mode tap && \
             sudo ip tuntap add dev one mode tap multi_queue user $USER)"
        );
        // The remedies are commands that work.
        ns.ip("tuntap del dev many mode tap multi_queue");
        ns.ip("tuntap add dev many mode tap user nobody");
        Tap::open("many", SINGLE).unwrap();
    });
}

#[test]
fn a_tap_in_use_is_told() {
    in_netns_with_tap(|_| {
        let _tap = Tap::open("nk0", SINGLE).unwrap();
        let said = text("nk0", SINGLE);
        assert!(said.starts_with("TAP nk0 is in use: stop the process that has it"), "{said}");
        let command = said.split('(').nth(1).unwrap().split(')').next().unwrap();
        let command = command.strip_prefix("sudo ").unwrap().strip_suffix(" names it").unwrap();
        let found = std::process::Command::new("sh").args(["-c", command]).output().unwrap();
        let holder = format!("/proc/{}/fdinfo/", std::process::id());
        assert!(String::from_utf8_lossy(&found.stdout).contains(&holder), "{command}");
    });
}

#[test]
fn unknown_offloads_are_told() {
    in_netns_with_tap(|_| {
        let alone = TapOptions { offloads: TUN_F_TSO4, ..SINGLE };
        assert!(matches!(Tap::open("nk1", alone), Err(TapError::Offloads { .. })));
        let options = TapOptions { offloads: 1 << 31, ..SINGLE };
        assert_eq!(
            text("nk0", options),
            "TAP nk0: the kernel refuses offloads 0x80000000: ask for fewer (segmentation \
             needs TUN_F_CSUM, 0x1; UDP segmentation needs Linux 6.2)"
        );
    });
}

#[test]
fn without_rights_one_may_open_ones_own_only() {
    in_netns_with_tap(|ns| {
        ns.tun_node(TunNode::Mode(0o666));
        ns.ip("tuntap add dev mine mode tap user 65534");
        ns.ip("tuntap add dev theirs mode tap user 1");
        ns.as_nobody(|| {
            let tap = Tap::open("mine", SINGLE).unwrap();
            assert!(!tap.link_up().unwrap());
            assert!(!LinkWatch::new().unwrap().drain());
            assert_eq!(
                text("theirs", SINGLE),
                "TAP theirs belongs to another user: run as that user or as root, or make it \
                 yours (sudo ip tuntap del dev theirs mode tap && \
                 sudo ip tuntap add dev theirs mode tap user $USER)"
            );
            assert_eq!(
                text("nk0", SINGLE),
                "no TAP nk0, and no right to create it: \
                 sudo ip tuntap add dev nk0 mode tap user $USER, or run as root"
            );
            assert_eq!(
                text("nk0", MULTI),
                "no TAP nk0, and no right to create it: \
                 sudo ip tuntap add dev nk0 mode tap user $USER multi_queue, or run as root"
            );
            assert_eq!(text("lo", SINGLE), "lo exists and is no TAP: choose another name");
        });
    });
}

#[test]
fn a_closed_device_node_is_told() {
    in_netns_with_tap(|ns| {
        ns.tun_node(TunNode::Mode(0o600));
        let said = ns.as_nobody(|| text("nk0", SINGLE));
        assert_eq!(
            said,
            "no permission to open /dev/net/tun: run as root, or have root open it to all \
             (sudo chmod 0666 /dev/net/tun); in a container also pass --device /dev/net/tun"
        );
    });
}

#[test]
fn a_missing_device_node_is_told() {
    in_netns_with_tap(|ns| {
        ns.tun_node(TunNode::Missing);
        assert_eq!(
            text("nk0", SINGLE),
            "no /dev/net/tun: load the driver (sudo modprobe tun), or give the container the \
             device (--device /dev/net/tun)"
        );
    });
}

#[test]
fn the_descriptor_is_closed_on_exec_and_does_not_block() {
    in_netns_with_tap(|_| {
        let tap = Tap::open("nk0", SINGLE).unwrap();
        let flags = rustix::fs::fcntl_getfl(&tap).unwrap();
        assert!(flags.contains(rustix::fs::OFlags::NONBLOCK));
        let flags = rustix::io::fcntl_getfd(&tap).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    });
}
