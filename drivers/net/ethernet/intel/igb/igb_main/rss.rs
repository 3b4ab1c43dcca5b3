//! Receive-side scaling: which queue a received flow goes to, and how that changes under traffic.
//!
//! linux: drivers/net/ethernet/intel/igb/{igb_main,igb_ethtool}.c. Key type: [`IgbRss`]. Context: task; changes under
//! `rtnl_lock`. Locks: `class::Ring` around the settings.
//! Invariant: a change is made with no poll running and no backlog of another CPU filled. In each step flows move to one
//! queue only, and what the others held of them goes up before anybody looks at that one: a flow can't overtake itself.
//! DIVERGES: Linux writes the new table under traffic, and flows that move may be reordered. The data sheet does not say
//! at which frame a new table takes effect: what a real device has between its filter and its rings when the table is
//! written is beyond the driver's sight. The model has nothing there.

use super::super::e1000_regs::*;
use super::super::igb::*;
use super::irq::{igb_irq_enable, raise_queue_interrupts};
use super::rx::igb_clean_rx_irq;
use stack::kernel::context::TaskCx;
use stack::net::core::dev::{
    NetDevice, flush_all_backlogs, napi_disable, napi_enable, napi_gro_flush, receive_here,
};
use stack::net::core::skbuff::SkbList;
use std::sync::Arc;

/// Entries of the indirection table.
pub(in super::super) type RssTable = [u8; E1000_RETA_ENTRIES];

/// How flows are spread.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct IgbRss {
    /// The indirection table; `None`: the flows evenly over all queues.
    pub(in super::super) table: Option<RssTable>,
    pub(in super::super) key: [u8; E1000_RSSRK_BYTES],
    /// The ports of UDP over IPv4 are hashed, too.
    pub(in super::super) udp_ports: bool,
}

impl IgbRss {
    pub(in super::super) fn new(key: [u8; E1000_RSSRK_BYTES]) -> Self {
        Self { table: None, key, udp_ports: false }
    }

    /// The table that holds for so many queues.
    pub(in super::super) fn table(&self, queues: usize) -> RssTable {
        let even = || std::array::from_fn(|n| (n * queues.max(1) / E1000_RETA_ENTRIES) as u8);
        // A device that fell back to fewer queues has no use for one made for more.
        self.table
            .filter(|table| table.iter().all(|queue| usize::from(*queue) < queues))
            .unwrap_or_else(even)
    }
}

/// Spreads received flows over the queues, by addresses, and by ports for TCP only unless somebody asks for UDP's: the
/// fragments of a UDP datagram have no ports and would overtake it.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_setup_mrqc
pub(super) fn igb_setup_mrqc(adapter: &IgbAdapter) {
    let hw = &*adapter.hw;
    let rss = *adapter.rss.lock();
    write_key(hw, &rss);
    let table = rss.table(adapter.vectors().len());
    for (register, entries) in table.as_chunks::<4>().0.iter().enumerate() {
        hw.wr32(E1000_RETA(register as u32), u32::from_le_bytes(*entries));
    }
    // The hash takes the place of the packet's checksum in the descriptor.
    let rxcsum = E1000_RXCSUM_PCSD | E1000_RXCSUM_IPOFL | E1000_RXCSUM_TUOFL;
    hw.wr32(E1000_RXCSUM, hw.rd32(E1000_RXCSUM) | rxcsum);
}

/// The key, and what is hashed.
fn write_key(hw: &IgbHw, rss: &IgbRss) {
    for (n, bytes) in rss.key.as_chunks::<4>().0.iter().enumerate() {
        hw.wr32(E1000_RSSRK(n as u32), u32::from_le_bytes(*bytes));
    }
    let udp = if rss.udp_ports { E1000_MRQC_RSS_FIELD_IPV4_UDP } else { 0 };
    hw.wr32(
        E1000_MRQC,
        E1000_MRQC_ENABLE_RSS_4Q
            | E1000_MRQC_RSS_FIELD_IPV4
            | E1000_MRQC_RSS_FIELD_IPV4_TCP
            | E1000_MRQC_RSS_FIELD_IPV6
            | E1000_MRQC_RSS_FIELD_IPV6_TCP
            | E1000_MRQC_RSS_FIELD_IPV6_TCP_EX
            | udp,
    );
}

/// Changes how flows are spread; a device that is down takes it when it comes up.
///
/// linux: drivers/net/ethernet/intel/igb/igb_ethtool.c:igb_write_rss_indir_tbl
pub(in super::super) fn igb_change_rss(
    cx: &mut TaskCx,
    adapter: &IgbAdapter,
    change: impl FnOnce(&mut IgbRss),
) {
    let (before, after) = {
        let mut rss = adapter.rss.lock();
        let before = *rss;
        change(&mut rss);
        (before, *rss)
    };
    let Some(dev) = adapter.netdev().filter(|_| !adapter.hw.is_down()) else { return };
    for vector in adapter.vectors() {
        napi_disable(cx, &vector.napi);
    }
    // From here on nothing goes up but what is drained below, in the order in which it is.
    flush_all_backlogs(cx);
    let queues = adapter.vectors().len();
    let (now, then) = (before.table(queues), after.table(queues));
    if before.key == after.key && before.udp_ports == after.udp_ports {
        write_table(cx, adapter, &dev, (&now, &then));
    } else {
        // With another hash every flow may move: all wait in one queue meanwhile.
        let first = [0; E1000_RETA_ENTRIES];
        write_table(cx, adapter, &dev, (&now, &first));
        write_key(&adapter.hw, &after);
        drain(cx, adapter, &dev, |queue| queue == 0);
        write_table(cx, adapter, &dev, (&first, &then));
    }
    for vector in adapter.vectors() {
        napi_enable(&vector.napi);
    }
    igb_irq_enable(&adapter.hw);
    raise_queue_interrupts(adapter);
}

/// Writes what has changed of the table, one queue's gain after the other.
fn write_table(
    cx: &mut TaskCx,
    adapter: &IgbAdapter,
    dev: &Arc<NetDevice>,
    (now, then): (&RssTable, &RssTable),
) {
    let mut stands = *now;
    for gains in 0..adapter.vectors().len() as u8 {
        // Entries that go to a later queue still stand as they were.
        let next: RssTable =
            std::array::from_fn(|n| if then[n] == gains { gains } else { stands[n] });
        if next == stands {
            continue;
        }
        let words = next.as_chunks::<4>().0.iter().zip(stands.as_chunks::<4>().0).enumerate();
        for (register, (new, _)) in words.filter(|(_, (new, old))| new != old) {
            adapter.hw.wr32(E1000_RETA(register as u32), u32::from_le_bytes(*new));
        }
        stands = next;
        drain(cx, adapter, dev, |queue| queue != u32::from(gains));
    }
}

/// Hands up what the device has put into some queues so far. The polls are disabled.
fn drain(cx: &mut TaskCx, adapter: &IgbAdapter, dev: &Arc<NetDevice>, which: impl Fn(u32) -> bool) {
    for vector in adapter.vectors().iter().filter(|vector| which(vector.q.index)) {
        let q = &*vector.q;
        let head = adapter.hw.rd32(E1000_RDH(q.index)) as usize;
        loop {
            let mut taken = q.take_poll();
            let Some(state) = taken.get() else { break };
            let count = state.rx.desc.count();
            // A device that is gone says anything.
            let left = (head % count + count - state.rx.next_to_clean) % count;
            let budget = left.min(SkbList::MAX) as u32;
            if budget == 0 {
                break;
            }
            let done = cx.local_bh_disable(|bh| {
                receive_here(bh, |bh| {
                    let done = igb_clean_rx_irq(bh, (q, dev), state, budget);
                    napi_gro_flush(bh);
                    done
                })
            });
            if done == 0 {
                break;
            }
        }
    }
}
