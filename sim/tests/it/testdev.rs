//! A device whose driver does what a test says.

use stack::kernel::context::{BhCx, HardirqCx, TaskCx};
use stack::kernel::cpu::CpuId;
use stack::kernel::irq::{IrqLine, IrqReturn};
use stack::kernel::machine::{Machine, request_irq};
use stack::net::core::dev::device::DeviceSpec;
use stack::net::core::dev::tx::dev_kfree_skb_irq;
use stack::net::core::dev::{
    LinkStats, NapiPoll, NapiStruct, NetDevice, NetDeviceOps, NetdevFeatures, dev_open,
    napi_complete, napi_enable, napi_gro_receive, napi_schedule, register_netdevice,
};
use stack::net::core::skbuff::{Skb, SkbList, consume_skb, netdev_alloc_skb};
use stack::net::ethernet::eth::eth_type_trans;
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use uapi::errno::Errno;

use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};

/// The test's handle on the device.
#[derive(Default)]
pub struct TestDev {
    /// Frames that the next polls deliver.
    pub rx: Mutex<VecDeque<Vec<u8>>>,
    /// Frames that were sent.
    pub tx: Mutex<Vec<Vec<u8>>>,
    /// The pieces of memory that the driver was given beside the frame's first: where, and how long.
    pub pieces: Mutex<Vec<(usize, usize)>>,
    /// The next transmissions find no room.
    pub busy: AtomicU32,
    /// What a poll takes goes up in one list, not each frame by itself.
    pub together: AtomicBool,
    /// Every poll delivers this frame, for ever.
    pub endless: Mutex<Option<Vec<u8>>>,
    /// The next poll raises the interrupt while it runs.
    pub irq_in_poll: AtomicBool,
    /// The next poll panics.
    pub panic_in_poll: AtomicBool,
    /// The poll that takes the last of so many frames panics after it; zero: none does.
    pub panic_after: AtomicU32,
    /// So many of the next transmissions panic.
    pub panic_in_xmit: AtomicU32,
    /// What was sent is freed by NET_TX_SOFTIRQ.
    pub free_by_softirq: AtomicBool,
    /// Frames that came in when there was no memory for them.
    pub no_memory: AtomicU32,
    /// Polls made.
    pub polls: AtomicU32,
    /// CPUs on which polls ran.
    pub polled_on: Mutex<Vec<CpuId>>,
    pub line: Mutex<Option<IrqLine>>,
    pub dev: Mutex<Option<Arc<NetDevice>>>,
}

struct Ops(Arc<TestDev>);
struct Poll(Arc<TestDev>);

impl TestDev {
    /// A device with an address, up, on a machine.
    pub fn add(cx: &mut TaskCx, addr: Ipv4Addr, tx_queue_len: u32) -> Arc<Self> {
        Self::with_queues(cx, addr, tx_queue_len, 1)
    }

    /// The same with several transmit queues.
    pub fn with_queues(
        cx: &mut TaskCx,
        addr: Ipv4Addr,
        tx_queue_len: u32,
        tx_queues: u16,
    ) -> Arc<Self> {
        let this = Arc::new(Self::default());
        let spec = DeviceSpec {
            name: "test%d".to_owned(),
            addr: Self::MAC,
            mtu: 1500,
            flags: uapi::if_::IFF_BROADCAST | uapi::if_::IFF_MULTICAST,
            kind: uapi::if_arp::ARPHRD_ETHER,
            features: NetdevFeatures::RXCSUM | NetdevFeatures::GRO,
            hw_features: NetdevFeatures::empty(),
            tx_queues,
            tx_queue_len,
        };
        let ops = Arc::new(Ops(Arc::clone(&this)));
        let dev = register_netdevice(cx, NetDevice::new(spec, ops, None)).expect("registered");
        let poll = Box::new(Poll(Arc::clone(&this)));
        let napi = NapiStruct::netif_napi_add(dev.ifindex, poll, 64);
        napi_enable(&napi);
        let handler = move |cx: &mut HardirqCx<'_>, _| {
            napi_schedule(cx, &napi);
            IrqReturn::Handled
        };
        let line = request_irq(cx, "test", Box::new(handler)).expect("a line");
        *this.line.lock().expect("no panic under it") = Some(line);
        let ifa = IfAddr::new(addr, 24).expect("a host address");
        inet_insert_ifa(cx, &dev, ifa).expect("a new address");
        dev_open(cx, &dev).expect("opens");
        *this.dev.lock().expect("no panic under it") = Some(dev);
        this
    }

    /// Its address.
    pub const MAC: [u8; 6] = [2, 0, 0, 0, 9, 9];

    /// Delivers frames by an interrupt.
    pub fn deliver(&self, frames: impl IntoIterator<Item = Vec<u8>>) {
        self.rx.lock().expect("no panic under it").extend(frames);
        self.interrupt();
    }

    pub fn interrupt(&self) {
        self.line.lock().expect("no panic under it").as_ref().expect("requested").raise();
    }

    pub fn irq_affinity(&self, cpu: u8) {
        let line = self.line.lock().expect("no panic under it");
        let desc = line.as_ref().and_then(IrqLine::desc).expect("of a machine");
        let mask = klib::bitmap::CpuMask::from_bits(1 << cpu);
        desc.set_affinity(mask).expect("a CPU of the machine");
    }

    pub fn dev(&self) -> Arc<NetDevice> {
        Arc::clone(self.dev.lock().expect("no panic under it").as_ref().expect("registered"))
    }

    fn count_down(&self) {
        let left = self.panic_after.load(Ordering::Relaxed);
        self.panic_after.store(left.saturating_sub(1), Ordering::Relaxed);
        assert_ne!(left, 1, "told to panic");
    }

    /// What was sent.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.tx.lock().expect("no panic under it"))
    }
}

impl NetDeviceOps for Ops {
    fn ndo_open(&self, _: &mut TaskCx, _: &Arc<NetDevice>) -> Result<(), Errno> {
        Ok(())
    }
    fn ndo_stop(&self, _: &mut TaskCx, _: &Arc<NetDevice>) {}
    fn ndo_start_xmit(
        &self,
        cx: &mut BhCx<'_>,
        _: &Arc<NetDevice>,
        _: u16,
        skb: Skb,
    ) -> Result<(), Skb> {
        let take_one = |left: &AtomicU32| {
            let before = left.load(Ordering::Relaxed);
            left.store(before.saturating_sub(1), Ordering::Relaxed);
            before != 0
        };
        assert!(!take_one(&self.0.panic_in_xmit), "told to panic");
        if take_one(&self.0.busy) {
            return Err(skb);
        }
        self.0.tx.lock().expect("no panic under it").push(skb.data().to_vec());
        let pieces = skb.parts().skip(1).map(|piece| (piece.as_ptr() as usize, piece.len()));
        self.0.pieces.lock().expect("no panic under it").extend(pieces);
        if self.0.free_by_softirq.load(Ordering::Relaxed) {
            dev_kfree_skb_irq(cx, skb);
        } else {
            consume_skb(cx, skb);
        }
        Ok(())
    }
    fn ndo_get_stats64(&self) -> LinkStats {
        LinkStats::default()
    }
}

impl NapiPoll for Poll {
    fn poll(&self, cx: &mut BhCx<'_>, napi: &Arc<NapiStruct>, budget: u32) -> u32 {
        let this = &self.0;
        this.polls.fetch_add(1, Ordering::Relaxed);
        this.polled_on.lock().expect("no panic under it").push(cx.cpu_id());
        if this.irq_in_poll.swap(false, Ordering::Relaxed) {
            // The hardware does not wait: the handler runs while this poll does. Here it runs when
            // the CPU looks, so the bit is set as the handler would.
            napi_schedule(cx, napi);
        }
        assert!(!this.panic_in_poll.swap(false, Ordering::Relaxed), "told to panic");
        let dev = this.dev();
        let together = this.together.load(Ordering::Relaxed);
        let mut list = cx.skb_list();
        let mut work = 0;
        while work < budget {
            let endless = this.endless.lock().expect("no panic under it").clone();
            let next = this.rx.lock().expect("no panic under it").pop_front().or(endless);
            let Some(frame) = next else { break };
            work += 1;
            let Some(mut skb) = netdev_alloc_skb(cx, dev.ifindex, frame.len()) else {
                this.no_memory.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            skb.skb_put(frame.len()).expect("room").copy_from_slice(&frame);
            list.push(skb);
            if !together {
                let alone = std::mem::replace(&mut list, cx.skb_list());
                hand_up(cx, alone, &dev);
            }
            this.count_down();
        }
        hand_up(cx, list, &dev);
        if work < budget {
            let _again_or_done = napi_complete(cx, napi);
        }
        work
    }
}

fn hand_up(cx: &mut BhCx<'_>, mut list: Box<SkbList>, dev: &Arc<NetDevice>) {
    let protocol = eth_type_trans(cx, &mut list, dev);
    napi_gro_receive(cx, list, dev, protocol);
}

/// Frames as a peer at 192.0.2.9 would send them.
pub mod frame {
    use klib::checksum::{csum_fold, csum_partial, csum_tcpudp_magic, ip_fast_csum};
    use std::net::Ipv4Addr;

    pub const PEER_MAC: [u8; 6] = [2, 0, 0, 0, 8, 8];
    pub const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

    pub fn ether(to: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
        [&to[..], &PEER_MAC, &kind.to_be_bytes(), payload].concat()
    }

    /// An IPv4 packet without options.
    pub fn ip(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
        let mut header = [0_u8; 20];
        header[0] = 0x45;
        header[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
        header[8] = 64;
        header[9] = protocol;
        header[12..16].copy_from_slice(&from.octets());
        header[16..20].copy_from_slice(&to.octets());
        let check = ip_fast_csum(&header);
        header[10..12].copy_from_slice(&check.to_be_bytes());
        [&header[..], payload].concat()
    }

    pub fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16), data: &[u8]) -> Vec<u8> {
        let len = 8 + data.len() as u16;
        let mut udp =
            [&from.1.to_be_bytes()[..], &to.1.to_be_bytes(), &len.to_be_bytes(), &[0; 2]].concat();
        udp.extend_from_slice(data);
        let sum = csum_partial(&udp, 0);
        let check = csum_tcpudp_magic(from.0.into(), to.0.into(), u32::from(len), 17, sum);
        udp[6..8].copy_from_slice(&check.to_be_bytes());
        ip(17, from.0, to.0, &udp)
    }

    /// A segment without options from port 5000 of the peer to port 80.
    pub fn tcp(numbers: (u32, u32), flags: u8, data: &[u8]) -> Vec<u8> {
        tcp_from(5000, numbers, flags, data)
    }

    /// The same from another port.
    pub fn tcp_from(port: u16, numbers: (u32, u32), flags: u8, data: &[u8]) -> Vec<u8> {
        tcp_of((PEER, port), numbers, flags, data)
    }

    /// The same of anybody.
    pub fn tcp_of(
        (from, port): (Ipv4Addr, u16),
        (seq, ack): (u32, u32),
        flags: u8,
        data: &[u8],
    ) -> Vec<u8> {
        let mut segment = [&port.to_be_bytes()[..], &80_u16.to_be_bytes()].concat();
        segment.extend([seq.to_be_bytes(), ack.to_be_bytes()].concat());
        segment.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend_from_slice(data);
        let (len, sum) = (segment.len() as u32, csum_partial(&segment, 0));
        let check = csum_tcpudp_magic(from.into(), crate::lone::LOCAL.into(), len, 6, sum);
        segment[16..18].copy_from_slice(&check.to_be_bytes());
        ip(6, from, crate::lone::LOCAL, &segment)
    }

    pub fn icmp(kind: u8, code: u8, rest: [u8; 4], data: &[u8]) -> Vec<u8> {
        let mut icmp = [&[kind, code, 0, 0][..], &rest, data].concat();
        let check = csum_fold(csum_partial(&icmp, 0));
        icmp[2..4].copy_from_slice(&check.to_be_bytes());
        icmp
    }

    pub fn arp(op: u16, sip: Ipv4Addr, tip: Ipv4Addr, tha: [u8; 6]) -> Vec<u8> {
        [&[0, 1, 8, 0, 6, 4][..], &op.to_be_bytes(), &PEER_MAC, &sip.octets(), &tha, &tip.octets()]
            .concat()
    }
}

/// CPUs on which softirqs of `nr` ran.
pub fn ran_on(machine: &Machine, nr: usize) -> Vec<u8> {
    let runs = machine.softirq_runs();
    (0..runs.len() as u8).filter(|cpu| runs[usize::from(*cpu)][nr] != 0).collect()
}
