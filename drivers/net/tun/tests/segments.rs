//! Frames of several datagrams or segments, and those of a large MTU.

use super::*;
use stack::net::core::dev::device::dev_set_mtu;
use stack::net::socket::sys_setsockopt;
use uapi::socket::SOL_UDP;
use uapi::udp::{UDP_GRO, UDP_SEGMENT};
use uapi::virtio_net::{VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_UDP_L4};

fn whole() -> Bed {
    Bed::with(FakePort { whole: true, ..FakePort::default() }, 1500)
}

fn octets(len: usize) -> Vec<u8> {
    (0..len as u32).map(|at| (at.wrapping_mul(0x9e37_79b9) >> 24) as u8).collect()
}

/// Of datagrams of so many octets each, behind Ethernet and IP.
fn of_datagrams(size: u16) -> VirtioNetHdr {
    VirtioNetHdr {
        flags: VIRTIO_NET_HDR_F_NEEDS_CSUM,
        gso_type: VIRTIO_NET_HDR_GSO_UDP_L4,
        hdr_len: 42.into(),
        gso_size: size.into(),
        csum_start: 34.into(),
        csum_offset: 6.into(),
    }
}

fn set(bed: &mut Bed, fd: i32, name: i32, value: i32) {
    sys_setsockopt(&mut bed.cx, fd, SOL_UDP, name, &value.to_ne_bytes()).unwrap();
}

fn receive(bed: &mut Bed, fd: i32) -> Option<Vec<u8>> {
    let mut buf = vec![0; 65_536];
    let polled = sys_recvfrom(fd, &mut buf, MSG_DONTWAIT).poll(&mut bed.cx);
    match polled {
        std::task::Poll::Ready(Ok((len, _))) => Some(buf[..len].to_vec()),
        _ => None,
    }
}

#[test]
fn datagrams_come_whole_and_are_cut_for_who_did_not_ask() {
    let mut bed = whole();
    assert!(bed.tun.dev.features().contains(NetdevFeatures::GSO_UDP_L4 | NetdevFeatures::TSO));
    let (plain, merged) = (bed.socket(7), bed.socket(8));
    set(&mut bed, merged, UDP_GRO, 1);
    let data = octets(20_500);
    bed.arrive([7, 8].map(|port| frame(of_datagrams(1000), 0x0800, &udp(port, 1, &data))));
    assert_eq!(receive(&mut bed, merged).as_ref(), Some(&data));
    let apart: Vec<Vec<u8>> = std::iter::from_fn(|| receive(&mut bed, plain)).collect();
    assert_eq!(
        apart.iter().map(Vec::len).collect::<Vec<_>>(),
        [[1000; 20].as_slice(), &[500]].concat()
    );
    assert_eq!(apart.concat(), data);
    bed.end();
}

#[test]
fn datagrams_go_whole_to_a_host_that_takes_them_and_cut_to_one_that_does_not() {
    let data = octets(2500);
    for (mut bed, expected) in [
        (whole(), vec![(5, 1000, 2500)]),
        (Bed::new(), vec![(0, 0, 1000), (0, 0, 1000), (0, 0, 500)]),
    ] {
        bed.introduce();
        let fd = bed.socket(5000);
        set(&mut bed, fd, UDP_SEGMENT, 1000);
        bed.send(fd, &data);
        let written = bed.written();
        let seen: Vec<_> = written
            .iter()
            .map(|(hdr, out)| {
                assert_eq!(hdr.flags, VIRTIO_NET_HDR_F_NEEDS_CSUM);
                assert_eq!((hdr.csum_start.get(), hdr.csum_offset.get()), (34, 6));
                assert_eq!(usize::from(u16::from_be_bytes([out[38], out[39]])), out.len() - 34);
                (hdr.gso_type, hdr.gso_size.get(), out.len() - 42)
            })
            .collect();
        assert_eq!(seen, expected);
        assert_eq!(
            written.iter().flat_map(|(_, out)| out[42..].to_vec()).collect::<Vec<_>>(),
            data
        );
        bed.end();
    }
}

#[test]
fn what_nobody_asked_for_or_no_sender_can_make_is_dropped() {
    let data = octets(1200);
    let good = || of_datagrams(100);
    let segments = VirtioNetHdr { gso_type: VIRTIO_NET_HDR_GSO_TCPV4, ..good() };
    let mut bed = Bed::new();
    bed.arrive([good(), segments].map(|hdr| frame(hdr, 0x0800, &udp(7, 1, &data))));
    assert_eq!(bed.m.mib().drops(DropReason::SkbGsoSeg), 2, "never asked for");
    bed.end();
    let mut bed = whole();
    let fd = bed.socket(7);
    let bad = [
        VirtioNetHdr { gso_size: 0.into(), ..good() },
        // 1,200 octets are more than 128 of 9.
        VirtioNetHdr { gso_size: 9.into(), ..good() },
        VirtioNetHdr { csum_offset: 16.into(), ..good() },
        VirtioNetHdr { flags: 0, ..good() },
        VirtioNetHdr { gso_type: 3, ..good() },
    ];
    let dropped = bad.len() as u64;
    bed.arrive(bad.map(|hdr| frame(hdr, 0x0800, &udp(7, 1, &data))));
    assert_eq!(bed.m.mib().drops(DropReason::SkbGsoSeg), dropped);
    assert_eq!(receive(&mut bed, fd), None);
    // As many as there may be; what the header says of its own length does not count.
    bed.arrive(
        [VirtioNetHdr { gso_size: 10.into(), hdr_len: 7.into(), ..good() }]
            .map(|hdr| frame(hdr, 0x0800, &udp(7, 1, &data))),
    );
    let apart: Vec<Vec<u8>> = std::iter::from_fn(|| receive(&mut bed, fd)).collect();
    assert_eq!((apart.len(), apart.concat()), (120, data));
    bed.end();
}

#[test]
fn frames_of_a_large_mtu_come_and_go_and_longer_ones_do_not() {
    for mut bed in [Bed::with(FakePort::default(), 9000), whole(), Bed::new()] {
        dev_set_mtu(&mut bed.cx, &bed.tun.dev, 9000).unwrap();
        bed.introduce();
        let fd = bed.socket(7);
        let data = octets(9000 - 28);
        bed.arrive([frame(no_header(), 0x0800, &udp(7, 0, &data))]);
        assert_eq!(receive(&mut bed, fd).as_ref(), Some(&data));
        bed.send(fd, &data);
        assert_eq!(bed.written()[0].1[42..], data);
        bed.arrive([frame(no_header(), 0x0800, &udp(7, 0, &octets(9010 - 28)))]);
        assert_eq!(bed.m.mib().drops(DropReason::PktTooBig), 1);
        // And back: the room goes with it.
        dev_set_mtu(&mut bed.cx, &bed.tun.dev, 1400).unwrap();
        bed.arrive([frame(no_header(), 0x0800, &udp(7, 0, &octets(1410 - 28)))]);
        assert_eq!(bed.m.mib().drops(DropReason::PktTooBig), 2);
        bed.arrive([frame(no_header(), 0x0800, &udp(7, 0, &octets(1400 - 28)))]);
        assert_eq!(receive(&mut bed, fd), Some(octets(1400 - 28)));
        bed.end();
    }
}
