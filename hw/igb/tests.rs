//! The model under a small driver that knows the bus trait only.

mod device;
mod hostile;
mod interrupts;
mod receive;
mod threads;
mod transmit;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use drivers::net::ethernet::intel::igb::e1000_regs::*;
use drivers::net::wire_port::{FrameBatch, FrameMeta};
use drivers::pci::{DmaBuf, DmaSpace, PciDev};
use stack::kernel::irq::IrqLine;

use super::I82576;
use crate::wire::{Outside, Wire, WireEnd};

const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
const MAC_B: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x57];
const RING: u32 = 8;
const BUF: usize = 2048;

/// Interrupt lines that count.
struct Lines(Vec<Arc<AtomicU32>>);

impl Lines {
    fn new(n: usize) -> (Self, Vec<IrqLine>) {
        let counts: Vec<_> = (0..n).map(|_| Arc::new(AtomicU32::new(0))).collect();
        let lines = counts.iter().map(|c| {
            let c = Arc::clone(c);
            IrqLine::from_fn(move || {
                c.fetch_add(1, Ordering::Relaxed);
            })
        });
        let lines = lines.collect();
        (Self(counts), lines)
    }

    /// How often line `n` was raised since last asked.
    fn taken(&self, n: usize) -> u32 {
        self.0[n].swap(0, Ordering::Relaxed)
    }
}

/// One ring with a buffer for each descriptor.
struct TestRing {
    desc: DmaBuf,
    data: DmaBuf,
    /// Next to use, next to clean.
    next: u32,
    clean: u32,
}

impl TestRing {
    fn new(dev: &dyn PciDev) -> Self {
        let desc = dev.dma_alloc_coherent(RING as usize * 16, 128).unwrap();
        let data = dev.dma_alloc_coherent(RING as usize * BUF, 4096).unwrap();
        Self { desc, data, next: 0, clean: 0 }
    }

    fn buf(&self, n: u32) -> u64 {
        self.data.bus_addr() + u64::from(n) * BUF as u64
    }
}

/// A received frame with its write-back.
#[derive(Debug)]
struct Got {
    bytes: Vec<u8>,
    info: u32,
    hash: u32,
    status: u32,
    vlan: u16,
    id: u64,
}

/// The driver: queues of eight descriptors, 2 KiB buffers.
struct Driver {
    dev: Arc<I82576>,
    rx: Vec<TestRing>,
    tx: Vec<TestRing>,
}

impl Driver {
    fn new(dev: Arc<I82576>, queues: usize) -> Self {
        dev.set_master();
        dev.write32(E1000_CTRL, E1000_CTRL_RST);
        dev.write32(E1000_CTRL, E1000_CTRL_SLU | E1000_CTRL_FD);
        let mut driver = Self { dev, rx: Vec::new(), tx: Vec::new() };
        for q in 0..queues as u32 {
            driver.set_up(q);
        }
        driver.dev.write32(E1000_TCTL, E1000_TCTL_EN | E1000_TCTL_PSP);
        driver.dev.write32(E1000_RCTL, E1000_RCTL_EN | E1000_RCTL_BAM | E1000_RCTL_SECRC);
        driver
    }

    fn set_up(&mut self, q: u32) {
        let dev = &self.dev;
        let (rx, tx) = (TestRing::new(&**dev), TestRing::new(&**dev));
        for (bal, bah, len, ring) in [
            (E1000_RDBAL(q), E1000_RDBAH(q), E1000_RDLEN(q), &rx),
            (E1000_TDBAL(q), E1000_TDBAH(q), E1000_TDLEN(q), &tx),
        ] {
            dev.write32(bal, ring.desc.bus_addr() as u32);
            dev.write32(bah, (ring.desc.bus_addr() >> 32) as u32);
            dev.write32(len, RING * 16);
        }
        dev.write32(E1000_SRRCTL(q), E1000_SRRCTL_DESCTYPE_ADV_ONEBUF | 2);
        dev.write32(E1000_RXDCTL(q), E1000_RXDCTL_QUEUE_ENABLE);
        dev.write32(E1000_TXDCTL(q), E1000_TXDCTL_QUEUE_ENABLE);
        self.rx.push(rx);
        self.tx.push(tx);
        for _ in 0..RING - 1 {
            self.arm(q as usize);
        }
        self.rx_doorbell(q as usize);
    }

    /// Gives one receive buffer to the device, without telling it.
    fn arm(&mut self, q: usize) {
        let ring = &mut self.rx[q];
        let at = ring.next as usize * 16;
        ring.desc.write64(at, ring.buf(ring.next));
        ring.desc.write64(at + 8, 0);
        ring.next = (ring.next + 1) % RING;
    }

    fn rx_doorbell(&self, q: usize) {
        self.dev.write32(E1000_RDT(q as u32), self.rx[q].next);
    }

    /// Takes what was received, descriptor by descriptor, without giving buffers back.
    fn take(&mut self, q: usize) -> Vec<Got> {
        let mut all = Vec::new();
        let ring = &mut self.rx[q];
        while ring.clean != ring.next {
            let at = ring.clean as usize * 16;
            let word = ring.desc.read64_acquire(at + 8);
            if word as u32 & E1000_RXD_STAT_DD == 0 {
                break;
            }
            let mut bytes = vec![0; (word >> 32) as usize & 0xFFFF];
            ring.data.read_bytes(ring.clean as usize * BUF, &mut bytes).unwrap();
            let head = ring.desc.read64(at);
            let id = self.dev.trace_rx(ring.buf(ring.clean));
            let (info, hash) = (head as u32, (head >> 32) as u32);
            all.push(Got { bytes, info, hash, status: word as u32, vlan: (word >> 48) as u16, id });
            ring.clean = (ring.clean + 1) % RING;
        }
        all
    }

    /// Takes what was received and gives the buffers back.
    fn poll(&mut self, q: usize) -> Vec<Got> {
        let all = self.take(q);
        for _ in 0..all.len() {
            self.arm(q);
        }
        self.rx_doorbell(q);
        all
    }

    fn put(&mut self, q: usize, lo: u64, hi: u64) {
        let ring = &mut self.tx[q];
        let at = ring.next as usize * 16;
        ring.desc.write64(at, lo);
        ring.desc.write64(at + 8, hi);
        ring.next = (ring.next + 1) % RING;
    }

    /// Queues a data descriptor with `bytes` in its buffer; returns the buffer's address.
    fn put_data(&mut self, q: usize, bytes: &[u8], cmd: u32, options: u32) -> u64 {
        let n = self.tx[q].next;
        self.tx[q].data.write_bytes(n as usize * BUF, bytes).unwrap();
        let addr = self.tx[q].buf(n);
        let cmd = cmd | bytes.len() as u32 | E1000_ADVTXD_DTYP_DATA | E1000_ADVTXD_DCMD_DEXT;
        self.put(q, addr, u64::from(options) << 32 | u64::from(cmd));
        addr
    }

    fn tx_doorbell(&self, q: usize) {
        self.dev.write32(E1000_TDT(q as u32), self.tx[q].next);
    }

    /// Sends one whole frame.
    fn send(&mut self, q: usize, frame: &[u8], options: u32) {
        self.put_data(q, frame, E1000_ADVTXD_DCMD_EOP | E1000_ADVTXD_DCMD_RS, options);
        self.tx_doorbell(q);
    }

    /// Whether descriptor `n` is reported done.
    fn tx_done(&self, q: usize, n: u32) -> bool {
        self.tx[q].desc.read32_acquire(n as usize * 16 + 12) & E1000_TXD_STAT_DD != 0
    }
}

/// A driver on a device whose other end the test holds.
fn rig(queues: usize) -> (Driver, Outside) {
    let (end, outside) = WireEnd::open(1024);
    let dev = I82576::new(MAC, Arc::new(end), DmaSpace::new(64 << 20));
    (Driver::new(dev, queues), outside)
}

/// Two drivers, their devices on one wire.
fn pair() -> (Driver, Driver) {
    let (a, b) = Wire::pair(256);
    let [a, b] = [(MAC, a), (MAC_B, b)]
        .map(|(mac, end)| Driver::new(I82576::new(mac, Arc::new(end), DmaSpace::new(64 << 20)), 1));
    (a, b)
}

fn sent(outside: &Outside) -> Vec<Vec<u8>> {
    let mut batch = FrameBatch::new();
    outside.drain(usize::MAX, &mut batch);
    batch.iter().map(|(f, _)| f.to_vec()).collect()
}

fn inject(outside: &Outside, frame: &[u8]) {
    assert!(outside.inject(frame, FrameMeta::default()));
}

/// A frame of `len` bytes to `dst`, of an unknown type.
fn plain(dst: [u8; 6], len: usize, salt: u8) -> Vec<u8> {
    let mut f = vec![salt; len];
    f[..6].copy_from_slice(&dst);
    f[6..12].copy_from_slice(&MAC_B);
    f[12..14].copy_from_slice(&[0x88, 0xB5]);
    f
}

/// The textbook's checksum: word by word, independent of the model's.
fn rfc1071(parts: &[&[u8]]) -> u16 {
    let bytes: Vec<u8> = parts.concat();
    let mut total = 0u32;
    for pair in bytes.chunks(2) {
        total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        total = (total & 0xFFFF) + (total >> 16);
    }
    !(total as u16)
}

/// What an IPv4 test packet is made of.
#[derive(Clone, Copy)]
struct Ip4<'a> {
    src: [u8; 4],
    dst: [u8; 4],
    protocol: u8,
    sport: u16,
    dport: u16,
    payload: &'a [u8],
}

const UDP: Ip4<'_> = Ip4 {
    src: [192, 0, 2, 1],
    dst: [192, 0, 2, 2],
    protocol: 17,
    sport: 1000,
    dport: 7,
    payload: b"some payload, odd",
};

impl Ip4<'_> {
    fn pseudo(&self, len: usize) -> Vec<u8> {
        let mut p = [self.src, self.dst].concat();
        p.extend([0, self.protocol]);
        p.extend((len as u16).to_be_bytes());
        p
    }

    /// The frame with all checksums in place.
    fn frame(&self) -> Vec<u8> {
        let mut l4 = [self.sport.to_be_bytes(), self.dport.to_be_bytes()].concat();
        let field = if self.protocol == 6 {
            // Sequence 0x01020304, data offset 5, flags CWR ACK PSH FIN.
            l4.extend([1, 2, 3, 4, 0, 0, 0, 9, 0x50, 0x99, 0x10, 0, 0, 0, 0, 0]);
            16
        } else {
            l4.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            l4.extend([0, 0]);
            6
        };
        l4.extend(self.payload);
        let check = rfc1071(&[&self.pseudo(l4.len()), &l4]);
        l4[field..field + 2].copy_from_slice(&check.to_be_bytes());
        let mut ip = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 64, self.protocol, 0, 0];
        ip[2..4].copy_from_slice(&((20 + l4.len()) as u16).to_be_bytes());
        ip.extend([self.src, self.dst].concat());
        let check = rfc1071(&[&ip]);
        ip[10..12].copy_from_slice(&check.to_be_bytes());
        let mut frame = plain(MAC, 14, 0);
        frame[12..14].copy_from_slice(&[8, 0]);
        [frame, ip, l4].concat()
    }
}
