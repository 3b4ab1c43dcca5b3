//! What the driver tells and sets beside its traffic.
//!
//! linux: drivers/net/ethernet/intel/igb/igb_ethtool.c. Context: task.

use super::e1000_regs::*;
use super::igb::*;
use super::igb_main::rss::igb_change_rss;
use super::igb_main::{igb_change_rings, itr_setting, itr_valid, stats::igb_update_stats};
use stack::kernel::context::TaskCx;
use stack::net::core::ethtool::{
    Channels, Coalesce, DrvInfo, EthtoolOps, LinkSettings, RingParam, Rxfh, RxfhFields,
};
use std::sync::atomic::Ordering;
use uapi::errno::Errno;

/// Statistics that are one register each, by the names ethtool shows.
const GLOBAL_STATS: [(&str, u32); 24] = [
    ("rx_packets", E1000_GPRC),
    ("tx_packets", E1000_GPTC),
    ("rx_broadcast", E1000_BPRC),
    ("tx_broadcast", E1000_BPTC),
    ("rx_multicast", E1000_MPRC),
    ("tx_multicast", E1000_MPTC),
    ("multicast", E1000_MPRC),
    ("collisions", E1000_COLC),
    ("rx_crc_errors", E1000_CRCERRS),
    ("rx_no_buffer_count", E1000_RNBC),
    ("rx_missed_errors", E1000_MPC),
    ("tx_aborted_errors", E1000_ECOL),
    ("tx_carrier_errors", E1000_TNCRS),
    ("tx_window_errors", E1000_LATECOL),
    ("tx_abort_late_coll", E1000_LATECOL),
    ("tx_deferred_ok", E1000_DC),
    ("tx_single_coll_ok", E1000_SCC),
    ("tx_multi_coll_ok", E1000_MCC),
    ("rx_long_length_errors", E1000_ROC),
    ("rx_short_length_errors", E1000_RUC),
    ("rx_align_errors", E1000_ALGNERRC),
    ("tx_tcp_seg_good", E1000_TSCTC),
    ("rx_flow_control_xon", E1000_XONRXC),
    ("rx_flow_control_xoff", E1000_XOFFRXC),
];

/// A ring size as Linux corrects it: within bounds, a multiple of eight.
fn ring_size(wanted: u32) -> u32 {
    wanted.clamp(IGB_MIN_RING, IGB_MAX_RING).next_multiple_of(RING_MULTIPLE)
}

/// linux: drivers/net/ethernet/intel/igb/igb_ethtool.c:igb_ethtool_ops
impl EthtoolOps for IgbAdapter {
    /// linux: drivers/net/ethernet/intel/igb/igb_ethtool.c:igb_get_drvinfo
    fn get_drvinfo(&self) -> DrvInfo {
        DrvInfo {
            driver: "igb".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            bus_info: String::new(),
            fw_version: String::new(),
        }
    }

    /// linux: drivers/net/ethernet/intel/igb/igb_ethtool.c:igb_get_settings
    fn get_link_settings(&self) -> LinkSettings {
        let status = self.hw.rd32(E1000_STATUS);
        if status == !0 || status & E1000_STATUS_LU == 0 {
            return LinkSettings { speed: None, full_duplex: false, autoneg: true };
        }
        // Two bits: 10, 100, and two ways to say 1000.
        let speed = match status >> 6 & 3 {
            0 => 10,
            1 => 100,
            _ => 1000,
        };
        let full_duplex = status & E1000_STATUS_FD != 0;
        LinkSettings { speed: Some(speed), full_duplex, autoneg: true }
    }

    /// linux: drivers/net/ethernet/intel/igb/igb_ethtool.c:igb_get_ringparam
    fn get_ringparam(&self) -> Result<RingParam, Errno> {
        Ok(RingParam {
            rx: (IGB_MAX_RING, self.rx_ring_count.load(Ordering::Relaxed)),
            tx: (IGB_MAX_RING, self.tx_ring_count.load(Ordering::Relaxed)),
        })
    }

    /// linux: drivers/net/ethernet/intel/igb/igb_ethtool.c:igb_set_ringparam
    fn set_ringparam(&self, cx: &mut TaskCx, ring: RingParam) -> Result<(), Errno> {
        igb_change_rings(cx, self, ring_size(ring.rx.1), ring_size(ring.tx.1))
    }

    /// linux: drivers/net/ethernet/intel/igb/igb_ethtool.c:igb_get_channels
    fn get_channels(&self) -> Result<Channels, Errno> {
        Ok(Channels { combined: (self.max_queues as u32, self.vectors().len() as u32) })
    }

    /// linux: drivers/net/ethernet/intel/igb/igb_ethtool.c:igb_get_rxfh
    fn get_rxfh(&self) -> Result<Rxfh, Errno> {
        let rss = *self.rss.lock();
        let indir = rss.table(self.vectors().len()).iter().map(|queue| u32::from(*queue)).collect();
        Ok(Rxfh { indir, key: rss.key.to_vec() })
    }

    /// linux: drivers/net/ethernet/intel/igb/igb_ethtool.c:igb_set_rxfh
    fn set_rxfh(&self, cx: &mut TaskCx, rxfh: Rxfh) -> Result<(), Errno> {
        let key = rxfh.key.try_into().map_err(|_| Errno::EINVAL)?;
        let queues = self.vectors().len() as u32;
        if rxfh.indir.len() != E1000_RETA_ENTRIES || rxfh.indir.iter().any(|q| *q >= queues) {
            return Err(Errno::EINVAL);
        }
        let table = std::array::from_fn(|n| rxfh.indir[n] as u8);
        igb_change_rss(cx, self, |rss| (rss.table, rss.key) = (Some(table), key));
        Ok(())
    }

    /// linux: drivers/net/ethernet/intel/igb/igb_ethtool.c:igb_get_rxfh_fields
    fn get_rxfh_fields(&self) -> Result<RxfhFields, Errno> {
        Ok(RxfhFields { udp4_ports: self.rss.lock().udp_ports })
    }

    /// linux: drivers/net/ethernet/intel/igb/igb_ethtool.c:igb_set_rxfh_fields
    fn set_rxfh_fields(&self, cx: &mut TaskCx, fields: RxfhFields) -> Result<(), Errno> {
        igb_change_rss(cx, self, |rss| rss.udp_ports = fields.udp4_ports);
        Ok(())
    }

    /// linux: drivers/net/ethernet/intel/igb/igb_ethtool.c:igb_get_coalesce
    fn get_coalesce(&self) -> Result<Coalesce, Errno> {
        let setting = self.hw.rx_itr_setting.load(Ordering::Relaxed);
        let rx_usecs = if setting <= 3 { setting } else { setting >> E1000_EITR_INTERVAL_SHIFT };
        Ok(Coalesce { rx_usecs, tx_usecs: 0 })
    }

    /// A pair of queues has one vector, so there is nothing to set for transmitting.
    ///
    /// linux: drivers/net/ethernet/intel/igb/igb_ethtool.c:igb_set_coalesce
    fn set_coalesce(&self, _cx: &mut TaskCx, coalesce: Coalesce) -> Result<(), Errno> {
        if !itr_valid(coalesce.rx_usecs) || coalesce.tx_usecs != 0 {
            return Err(Errno::EINVAL);
        }
        let setting = itr_setting(coalesce.rx_usecs);
        self.hw.rx_itr_setting.store(setting, Ordering::Relaxed);
        let itr = if matches!(setting, 1..=3) { IGB_START_ITR } else { setting };
        for vector in self.vectors() {
            vector.q.itr_val.store(itr, Ordering::Relaxed);
            vector.q.set_itr.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// linux: drivers/net/ethernet/intel/igb/igb_ethtool.c:igb_get_ethtool_stats
    fn get_ethtool_stats(&self) -> Vec<(String, u64)> {
        igb_update_stats(self);
        let hw = self.hw_stats.lock();
        let mut all: Vec<(String, u64)> =
            GLOBAL_STATS.iter().map(|(name, reg)| ((*name).to_owned(), hw.get(*reg))).collect();
        for (name, value) in [
            ("rx_bytes", hw.gorc),
            ("tx_bytes", hw.gotc),
            ("tx_dma_out_of_sync", hw.doosync),
            ("rx_errors", hw.rx_errors()),
            ("tx_errors", hw.tx_errors()),
            ("rx_length_errors", hw.rx_length_errors()),
            ("rx_fifo_errors", hw.rx_fifo_errors()),
        ] {
            all.push((name.to_owned(), value));
        }
        let rqdpc = hw.rqdpc;
        drop(hw);
        for vector in self.vectors() {
            let (n, s) = (vector.q.index, &vector.q.stats);
            let queue_drops = rqdpc.get(n as usize).copied().unwrap_or(0);
            for (name, value) in [
                ("tx_queue_{}_packets", s.tx_packets.get()),
                ("tx_queue_{}_bytes", s.tx_bytes.get()),
                ("tx_queue_{}_restart", s.tx_restart.get()),
                ("rx_queue_{}_packets", s.rx_packets.get()),
                ("rx_queue_{}_bytes", s.rx_bytes.get()),
                ("rx_queue_{}_drops", queue_drops),
                ("rx_queue_{}_csum_err", s.rx_csum_err.get()),
                ("rx_queue_{}_alloc_failed", s.rx_drops.get()),
            ] {
                all.push((name.replacen("{}", &n.to_string(), 1), value));
            }
        }
        all
    }
}
