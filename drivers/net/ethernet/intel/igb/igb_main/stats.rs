//! Counters: the device's, which clear when they are read, and the driver's own.
//!
//! linux: drivers/net/ethernet/intel/igb/igb_main.c. Contexts: any. Locks: `class::Ring`, the hardware counters'.

use super::super::e1000_regs::*;
use super::super::igb::*;
use stack::net::core::dev::LinkStats;

/// Registers that are added up.
const REGISTERS: [u32; 25] = [
    E1000_GPRC,
    E1000_GPTC,
    E1000_BPRC,
    E1000_BPTC,
    E1000_MPRC,
    E1000_MPTC,
    E1000_COLC,
    E1000_CRCERRS,
    E1000_RNBC,
    E1000_MPC,
    E1000_ECOL,
    E1000_TNCRS,
    E1000_LATECOL,
    E1000_DC,
    E1000_SCC,
    E1000_MCC,
    E1000_ROC,
    E1000_RUC,
    E1000_ALGNERRC,
    E1000_TSCTC,
    E1000_XONRXC,
    E1000_XOFFRXC,
    E1000_XONTXC,
    E1000_XOFFTXC,
    E1000_RXERRC,
];

/// What the device has counted since it was taken over.
///
/// linux: drivers/net/ethernet/intel/igb/e1000_hw.h:e1000_hw_stats
#[derive(Debug, Default)]
pub(in super::super) struct HwStats {
    counts: [u64; REGISTERS.len()],
    /// Good bytes received and sent.
    pub(in super::super) gorc: u64,
    pub(in super::super) gotc: u64,
    /// Frames that a queue dropped for want of a descriptor.
    pub(in super::super) rqdpc: [u64; IGB_MAX_QUEUES],
    /// Times the device said that its DMA was out of step.
    pub(in super::super) doosync: u64,
}

impl HwStats {
    /// What a register has counted.
    pub(in super::super) fn get(&self, register: u32) -> u64 {
        REGISTERS.iter().position(|r| *r == register).map_or(0, |at| self.counts[at])
    }

    /// Frames a receive queue had no descriptor for, all queues together.
    pub(in super::super) fn rx_fifo_errors(&self) -> u64 {
        self.rqdpc.iter().sum()
    }

    /// Frames too short or too long.
    pub(in super::super) fn rx_length_errors(&self) -> u64 {
        self.get(E1000_RUC) + self.get(E1000_ROC)
    }

    /// Frames that the device found bad.
    pub(in super::super) fn rx_errors(&self) -> u64 {
        self.get(E1000_RXERRC)
            + self.get(E1000_CRCERRS)
            + self.get(E1000_ALGNERRC)
            + self.rx_length_errors()
    }

    /// Frames that the device could not send.
    pub(in super::super) fn tx_errors(&self) -> u64 {
        self.get(E1000_ECOL) + self.get(E1000_LATECOL)
    }
}

/// Adds up what the device has counted since last time.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_update_stats
pub(in super::super) fn igb_update_stats(adapter: &IgbAdapter) {
    let hw = &*adapter.hw;
    // A device that has gone counts nothing.
    if hw.rd32(E1000_STATUS) == !0 {
        return;
    }
    let mut stats = adapter.hw_stats.lock();
    for (register, count) in REGISTERS.iter().zip(&mut stats.counts) {
        *count = count.wrapping_add(u64::from(hw.rd32(*register)));
    }
    // The high half clears both.
    let wide = |low, high| {
        let low = u64::from(hw.rd32(low));
        u64::from(hw.rd32(high)) << 32 | low
    };
    stats.gorc = stats.gorc.wrapping_add(wide(E1000_GORCL, E1000_GORCH));
    stats.gotc = stats.gotc.wrapping_add(wide(E1000_GOTCL, E1000_GOTCH));
    for (queue, count) in stats.rqdpc.iter_mut().enumerate().take(adapter.max_queues) {
        *count += u64::from(hw.rd32(E1000_RQDPC(queue as u32)) & 0xFFF);
    }
}

/// The device's counters as every device has them.
///
/// `rx_missed` has the frames that found no descriptor as well: there is no `rx_fifo_errors`.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_get_stats64
pub(super) fn igb_get_stats64(adapter: &IgbAdapter) -> LinkStats {
    igb_update_stats(adapter);
    let hw = adapter.hw_stats.lock();
    let mut sum = LinkStats {
        rx_errors: hw.rx_errors(),
        rx_missed: hw.get(E1000_MPC) + hw.rx_fifo_errors(),
        multicast: hw.get(E1000_MPRC),
        rx_crc_errors: hw.get(E1000_CRCERRS),
        rx_length_errors: hw.rx_length_errors(),
        tx_errors: hw.tx_errors(),
        ..LinkStats::default()
    };
    drop(hw);
    for vector in adapter.q_vectors.get().into_iter().flatten() {
        let stats = &vector.q.stats;
        sum.rx_packets += stats.rx_packets.get();
        sum.rx_bytes += stats.rx_bytes.get();
        sum.rx_dropped += stats.rx_drops.get();
        sum.rx_errors += stats.rx_errors.get() + stats.rx_length_errors.get();
        sum.rx_length_errors += stats.rx_length_errors.get();
        sum.tx_packets += stats.tx_packets.get();
        sum.tx_bytes += stats.tx_bytes.get();
        sum.tx_dropped += stats.tx_dropped.get();
    }
    sum
}
