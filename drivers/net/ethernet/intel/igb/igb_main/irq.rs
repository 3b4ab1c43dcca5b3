//! Interrupts: vectors, handlers, throttling.
//!
//! linux: drivers/net/ethernet/intel/igb/igb_main.c. Contexts: handlers in hard interrupt; setting up in tasks.
//! Invariants: vector 0 is the link's and the rest's, vector n + 1 queue pair n's; a vector masks itself when it fires
//! and is unmasked by the poll that found its queues empty. A queue pair's handler keeps its
//! vector, and so the bus device, until the line is given back or the adapter goes and disconnects it; the others keep
//! nothing.
//! DIVERGES: throttling off writes an interval of 0 (Linux: 1 microsecond). Every vector adapts by latency classes
//! (Linux: only when there is one, else by the average frame's length).

use super::super::e1000_regs::*;
use super::super::igb::*;
use super::rx::igb_clean_rx_irq;
use super::tx::igb_clean_tx_irq;
use super::{igb_reset, igb_watchdog_task, setup};
use klib::bitmap::CpuMask;
use stack::kernel::context::{BhCx, HardirqCx, TaskCx};
use stack::kernel::irq::{Irq, IrqHandler, IrqLine, IrqReturn};
use stack::kernel::machine::{free_irq, request_irq};
use stack::net::core::dev::napi::NAPI_POLL_WEIGHT;
use stack::net::core::dev::{DevId, NapiPoll, NapiStruct, NetDevice, napi_complete, napi_schedule};
use stack::walk;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use uapi::errno::Errno;

/// Causes beside the queues' that are asked for with several vectors.
const IMS_OTHER: u32 = E1000_ICR_LSC | E1000_ICR_DOUTSYNC | E1000_ICR_DRSTA;
/// All causes that are asked for with one.
const IMS_ENABLE_MASK: u32 =
    IMS_OTHER | E1000_ICR_RXT0 | E1000_ICR_TXDW | E1000_ICR_RXDMT0 | E1000_ICR_RXSEQ;
/// The link's vector.
const OTHER: u32 = 0;

/// Finds out how interrupts can come, and so how many queues there are: as many as asked for by MSI-X, else one.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_set_interrupt_capability
pub(super) fn igb_set_interrupt_capability(hw: &IgbHw, queues: usize) -> usize {
    let queues = queues.min(hw.pdev.msix_count().saturating_sub(1)).max(1);
    let nobody = || IrqLine::from_fn(|| ());
    let lines: Vec<_> = std::iter::repeat_with(nobody).take(queues + 1).collect();
    if hw.pdev.enable_msix(&lines).is_ok() {
        hw.pdev.disable_msix();
        hw.set_mode(IrqMode::Msix);
        return queues;
    }
    if hw.pdev.enable_msi(nobody()).is_ok() {
        hw.pdev.disable_msi();
        hw.set_mode(IrqMode::Msi);
    } else {
        hw.set_mode(IrqMode::Intx);
    }
    1
}

/// A vector with its NAPI context.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_alloc_q_vector
pub(super) fn igb_alloc_q_vector(
    cx: &TaskCx,
    hw: &Arc<IgbHw>,
    index: u32,
    dev: DevId,
) -> Arc<IgbVector> {
    walk!(cx, igb_alloc_q_vector => u64::from(index));
    let q = Arc::new(IgbQVector::new(hw, index));
    walk!(cx, netif_napi_add);
    let poll = Box::new(Poll(Arc::clone(&q)));
    let napi = NapiStruct::netif_napi_add(dev, poll, NAPI_POLL_WEIGHT);
    Arc::new(IgbVector { q, napi })
}

/// Requests the interrupts: by MSI-X, and when the bus refuses by MSI, and then by the pin, with one pair of queues.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_request_irq
pub(super) fn igb_request_irq(
    cx: &mut TaskCx,
    adapter: &IgbAdapter,
    dev: &NetDevice,
) -> Result<(), Errno> {
    walk!(cx, igb_request_irq);
    let hw = &*adapter.hw;
    if hw.mode() == IrqMode::Msix {
        if igb_request_msix(cx, adapter, dev).is_ok() {
            return Ok(());
        }
        fall_back_to_one_queue(cx, adapter, dev)?;
    }
    if hw.mode() == IrqMode::Msi {
        let handler = IgbIntrMsi(adapter.this.clone());
        let line = request_irq(cx, &dev.name, Box::new(handler))?;
        if hw.pdev.enable_msi(line.clone()).is_ok() {
            return keep_single(adapter, line);
        }
        free_lines(cx, &[line]);
        hw.set_mode(IrqMode::Intx);
    }
    let line = request_irq(cx, &dev.name, Box::new(IgbIntr(adapter.this.clone())))?;
    if hw.pdev.request_intx(line.clone()).is_ok() {
        return keep_single(adapter, line);
    }
    free_lines(cx, &[line]);
    Err(Errno::EIO)
}

fn keep_single(adapter: &IgbAdapter, line: IrqLine) -> Result<(), Errno> {
    *adapter.lines.lock() = vec![line];
    igb_configure_msix(adapter);
    Ok(())
}

/// The device starts over with its first pair of queues.
fn fall_back_to_one_queue(cx: &TaskCx, adapter: &IgbAdapter, dev: &NetDevice) -> Result<(), Errno> {
    igb_reset(adapter)?;
    setup::igb_free_all_resources(adapter);
    adapter.num_queues.store(1, Ordering::Relaxed);
    adapter.hw.set_mode(IrqMode::Msi);
    setup::igb_setup_all_tx_resources(cx, adapter)?;
    setup::igb_setup_all_rx_resources(cx, adapter)?;
    setup::igb_configure(cx, adapter, dev);
    Ok(())
}

/// A vector for the link and the rest, and one for each pair of queues, on a CPU of its own while there are enough.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_request_msix
fn igb_request_msix(cx: &mut TaskCx, adapter: &IgbAdapter, dev: &NetDevice) -> Result<(), Errno> {
    walk!(cx, igb_request_msix);
    let mut lines = Vec::new();
    let requested = request_lines(cx, adapter, dev, &mut lines)
        .and_then(|()| adapter.hw.pdev.enable_msix(&lines).map_err(|_| Errno::EIO));
    if let Err(error) = requested {
        free_lines(cx, &lines);
        return Err(error);
    }
    let cpus = cx.machine().cpu_ids().count();
    for (n, line) in lines.iter().skip(1).enumerate() {
        if let Some(desc) = line.desc() {
            let own = CpuMask::from_bits(1 << (n % cpus));
            desc.irq_update_affinity_hint(own);
            // The mask names a CPU of this machine.
            let _ = desc.set_affinity(own);
        }
    }
    *adapter.lines.lock() = lines;
    igb_configure_msix(adapter);
    Ok(())
}

fn request_lines(
    cx: &mut TaskCx,
    adapter: &IgbAdapter,
    dev: &NetDevice,
    lines: &mut Vec<IrqLine>,
) -> Result<(), Errno> {
    lines.push(request_irq(cx, &dev.name, Box::new(IgbMsixOther(adapter.this.clone())))?);
    for vector in adapter.vectors() {
        let name = format!("{}-TxRx-{}", dev.name, vector.q.index);
        lines.push(request_irq(cx, &name, Box::new(IgbMsixRing(Arc::clone(vector))))?);
    }
    Ok(())
}

/// Gives interrupt numbers back.
pub(super) fn free_lines(cx: &mut TaskCx, lines: &[IrqLine]) {
    for desc in lines.iter().filter_map(IrqLine::desc) {
        free_irq(cx, desc.irq);
    }
}

/// The device raises no line of ours any more.
pub(in super::super) fn disconnect(hw: &IgbHw) {
    match hw.mode() {
        IrqMode::Msix => hw.pdev.disable_msix(),
        IrqMode::Msi => hw.pdev.disable_msi(),
        IrqMode::Intx => hw.pdev.free_intx(),
    }
}

/// Tells the device which cause goes to which vector.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_configure_msix
pub(super) fn igb_configure_msix(adapter: &IgbAdapter) {
    let hw = &*adapter.hw;
    if hw.mode() != IrqMode::Msix {
        // One vector: causes are read from ICR, which names no queue.
        hw.eims_enable_mask.store(0, Ordering::Relaxed);
        return;
    }
    let gpie = E1000_GPIE_MSIX_MODE | E1000_GPIE_PBA | E1000_GPIE_EIAME | E1000_GPIE_NSICR;
    hw.wr32(E1000_GPIE, gpie);
    hw.wr32(E1000_IVAR_MISC, (OTHER | E1000_IVAR_VALID) << 8);
    let mut mask = 1 << OTHER;
    for vector in adapter.vectors() {
        igb_assign_vector(&vector.q, vector.q.index + 1);
        mask |= vector.q.eims_value.load(Ordering::Relaxed);
    }
    hw.eims_enable_mask.store(mask, Ordering::Relaxed);
    hw.wrfl();
}

/// Sends both queues' causes to `vector`.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_assign_vector
fn igb_assign_vector(q: &IgbQVector, vector: u32) {
    let entry = vector | E1000_IVAR_VALID;
    // Queues above 7 have the upper half of a register.
    let shift = if q.index & 8 != 0 { 16 } else { 0 };
    let ivar = q.hw.rd32(E1000_IVAR(q.index)) & !(0xFFFF << shift);
    q.hw.wr32(E1000_IVAR(q.index), ivar | (entry | entry << 8) << shift);
    q.eims_value.store(1 << vector, Ordering::Relaxed);
    q.itr_register.store(E1000_EITR(vector), Ordering::Relaxed);
    q.set_itr.store(true, Ordering::Relaxed);
}

/// Lets interrupts come.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_irq_enable
pub(super) fn igb_irq_enable(hw: &IgbHw) {
    if hw.mode() == IrqMode::Msix {
        let mask = hw.eims_enable_mask.load(Ordering::Relaxed);
        hw.wr32(E1000_EIAC, hw.rd32(E1000_EIAC) | mask);
        hw.wr32(E1000_EIAM, hw.rd32(E1000_EIAM) | mask);
        hw.wr32(E1000_IMS, IMS_OTHER);
        hw.wr32(E1000_EIMS, mask);
    } else {
        hw.wr32(E1000_IAM, IMS_ENABLE_MASK);
        hw.wr32(E1000_IMS, IMS_ENABLE_MASK);
    }
}

/// Keeps interrupts from coming.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_irq_disable
pub(in super::super) fn igb_irq_disable(hw: &IgbHw) {
    if hw.mode() == IrqMode::Msix {
        let mask = hw.eims_enable_mask.load(Ordering::Relaxed);
        hw.wr32(E1000_EIAM, hw.rd32(E1000_EIAM) & !mask);
        hw.wr32(E1000_EIMC, mask);
        hw.wr32(E1000_EIAC, hw.rd32(E1000_EIAC) & !mask);
    }
    hw.wr32(E1000_IAM, 0);
    hw.wr32(E1000_IMC, !0);
    hw.wrfl();
}

/// An interrupt on every queue's vector, by software.
pub(super) fn raise_queue_interrupts(adapter: &IgbAdapter) {
    let hw = &*adapter.hw;
    if hw.mode() == IrqMode::Msix {
        let mask = hw.eims_enable_mask.load(Ordering::Relaxed);
        hw.wr32(E1000_EICS, mask & !(1 << OTHER));
    } else {
        hw.wr32(E1000_ICS, E1000_ICR_RXDMT0);
    }
}

struct IgbMsixRing(Arc<IgbVector>);

impl IrqHandler for IgbMsixRing {
    fn handle(&self, cx: &mut HardirqCx<'_>, _irq: Irq) -> IrqReturn {
        igb_msix_ring(cx, &self.0)
    }
}

/// A pair of queues wants to be polled; the vector has masked itself.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_msix_ring
fn igb_msix_ring(cx: &mut HardirqCx<'_>, vector: &IgbVector) -> IrqReturn {
    walk!(cx, igb_msix_ring => u64::from(vector.q.index));
    igb_write_itr(cx, &vector.q);
    napi_schedule(cx, &vector.napi);
    IrqReturn::Handled
}

struct IgbMsixOther(Weak<IgbAdapter>);

impl IrqHandler for IgbMsixOther {
    fn handle(&self, cx: &mut HardirqCx<'_>, _irq: Irq) -> IrqReturn {
        self.0.upgrade().map_or(IrqReturn::None, |adapter| igb_msix_other(cx, &adapter))
    }
}

/// The link has changed, or something is wrong with the device.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_msix_other
fn igb_msix_other(cx: &mut HardirqCx<'_>, adapter: &IgbAdapter) -> IrqReturn {
    walk!(cx, igb_msix_other);
    let icr = adapter.hw.rd32(E1000_ICR);
    other_causes(cx, adapter, icr);
    if !adapter.hw.is_down() {
        adapter.hw.wr32(E1000_EIMS, 1 << OTHER);
    }
    IrqReturn::Handled
}

fn other_causes(cx: &mut HardirqCx<'_>, adapter: &IgbAdapter, icr: u32) {
    if icr & E1000_ICR_DOUTSYNC != 0 {
        adapter.hw_stats.lock().doosync += 1;
    }
    if icr & (E1000_ICR_LSC | E1000_ICR_RXSEQ) != 0
        && !adapter.hw.is_down()
        && let Some(dev) = adapter.netdev()
    {
        // A register read and a few atomics: done on the spot.
        igb_watchdog_task(cx, adapter, &dev);
    }
}

struct IgbIntrMsi(Weak<IgbAdapter>);

impl IrqHandler for IgbIntrMsi {
    fn handle(&self, cx: &mut HardirqCx<'_>, _irq: Irq) -> IrqReturn {
        self.0.upgrade().map_or(IrqReturn::None, |adapter| igb_intr_msi(cx, &adapter))
    }
}

/// The one message: reading the cause masks it.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_intr_msi
fn igb_intr_msi(cx: &mut HardirqCx<'_>, adapter: &IgbAdapter) -> IrqReturn {
    walk!(cx, igb_intr_msi);
    let icr = adapter.hw.rd32(E1000_ICR);
    single(cx, adapter, icr)
}

struct IgbIntr(Weak<IgbAdapter>);

impl IrqHandler for IgbIntr {
    fn handle(&self, cx: &mut HardirqCx<'_>, _irq: Irq) -> IrqReturn {
        self.0.upgrade().map_or(IrqReturn::None, |adapter| igb_intr(cx, &adapter))
    }
}

/// The pin, perhaps another device's.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_intr
fn igb_intr(cx: &mut HardirqCx<'_>, adapter: &IgbAdapter) -> IrqReturn {
    walk!(cx, igb_intr);
    let icr = adapter.hw.rd32(E1000_ICR);
    if icr & E1000_ICR_INT_ASSERTED == 0 || icr == !0 {
        return IrqReturn::None;
    }
    single(cx, adapter, icr)
}

fn single(cx: &mut HardirqCx<'_>, adapter: &IgbAdapter, icr: u32) -> IrqReturn {
    let Some(vector) = adapter.vectors().first() else { return IrqReturn::None };
    igb_write_itr(cx, &vector.q);
    other_causes(cx, adapter, icr);
    napi_schedule(cx, &vector.napi);
    IrqReturn::Handled
}

/// Writes the throttle interval, if the last poll changed it.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_write_itr
fn igb_write_itr(cx: &HardirqCx<'_>, q: &IgbQVector) {
    walk!(cx, igb_write_itr => u64::from(q.itr_val.load(Ordering::Relaxed)));
    // Polled on one CPU at a time, and not while its interrupt is taken: load and store do.
    if !q.set_itr.load(Ordering::Relaxed) {
        return;
    }
    let itr =
        q.itr_val.load(Ordering::Relaxed) & E1000_EITR_INTERVAL_MASK << E1000_EITR_INTERVAL_SHIFT;
    q.hw.wr32(q.itr_register.load(Ordering::Relaxed), itr | E1000_EITR_CNT_IGNR);
    q.set_itr.store(false, Ordering::Relaxed);
}

/// What a vector's NAPI context polls.
struct Poll(Arc<IgbQVector>);

impl NapiPoll for Poll {
    fn poll(&self, cx: &mut BhCx<'_>, napi: &Arc<NapiStruct>, budget: u32) -> u32 {
        igb_poll(cx, &self.0, napi, budget)
    }

    /// The state went back to its slot between two frames, so the rings are whole, and holds nothing else.
    fn reset(&self, _cx: &mut BhCx<'_>) {}
}

/// Ends sent packets, hands up received ones; found both queues empty, lets the vector interrupt again.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_poll
fn igb_poll(cx: &mut BhCx<'_>, q: &IgbQVector, napi: &Arc<NapiStruct>, budget: u32) -> u32 {
    walk!(cx, igb_poll => u64::from(q.index));
    let t = cx.tables();
    let dev = napi.dev.and_then(|id| t.net.dev(id));
    let mut taken = q.take_poll();
    let (Some(dev), Some(state)) = (dev, taken.get()) else {
        drop(taken);
        // Down: nobody schedules it anew.
        let _disabled = napi_complete(cx, napi);
        return 0;
    };
    let clean = igb_clean_tx_irq(cx, q, dev, state);
    let work = igb_clean_rx_irq(cx, (q, dev), state, budget);
    if !clean || work >= budget {
        return budget;
    }
    let new_itr = next_itr(q, state);
    drop(taken);
    if let Some(itr) = new_itr {
        q.itr_val.store(itr, Ordering::Relaxed);
        q.set_itr.store(true, Ordering::Relaxed);
    }
    if napi_complete(cx, napi) {
        igb_ring_irq_enable(q);
    }
    work
}

/// Unmasks the vector.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_ring_irq_enable
fn igb_ring_irq_enable(q: &IgbQVector) {
    if q.hw.is_down() {
        return;
    }
    if q.hw.mode() == IrqMode::Msix {
        q.hw.wr32(E1000_EIMS, q.eims_value.load(Ordering::Relaxed));
    } else {
        igb_irq_enable(&q.hw);
    }
}

/// The interval after this poll, when it is to change.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_set_itr
fn next_itr(q: &IgbQVector, state: &mut IgbPollState) -> Option<u32> {
    let changed = igb_update_itr(&mut state.rx_itr) | igb_update_itr(&mut state.tx_itr);
    let old = q.itr_val.load(Ordering::Relaxed);
    if !changed && old == state.itr_wanted { None } else { choose_itr(q, state, old) }
}

/// The interval for what the two directions want together, when it is not `old`.
#[inline(never)]
fn choose_itr(q: &IgbQVector, state: &mut IgbPollState, old: u32) -> Option<u32> {
    let setting = q.hw.rx_itr_setting.load(Ordering::Relaxed);
    let wanted = match state.rx_itr.itr.max(state.tx_itr.itr) {
        _ if !matches!(setting, 1..=3) => return None,
        Latency::Lowest if setting != 3 => IGB_70K_ITR,
        Latency::Lowest | Latency::Low => IGB_20K_ITR,
        Latency::Bulk => IGB_4K_ITR,
    };
    state.itr_wanted = wanted;
    (wanted != old).then_some(wanted)
}

/// Looks what class one interrupt's traffic of a direction asks for, from the class before, and begins to
/// count anew; true when it is another. A direction without traffic stays as it was: it has no say in
/// what the other wants.
///
/// linux: drivers/net/ethernet/intel/igb/igb_main.c:igb_update_itr
#[inline]
fn igb_update_itr(of: &mut IgbRingContainer) -> bool {
    let (packets, bytes) = (of.total_packets, of.total_bytes);
    if packets == 0 {
        return false;
    }
    (of.total_packets, of.total_bytes) = (0, 0);
    // The usual answer, without a look at how they compare.
    if of.itr == Latency::Lowest && bytes <= LOWEST_BYTES {
        return false;
    }
    let before = of.itr;
    of.itr = latency(before, packets, bytes);
    of.itr != before
}

/// So few bytes ask for an answer at once.
const LOWEST_BYTES: u32 = 512;

fn latency(class: Latency, packets: u32, bytes: u32) -> Latency {
    use Latency::{Bulk, Low, Lowest};
    // Frames longer than `size` on average.
    let longer = |size: u32| u64::from(bytes) >= u64::from(size + 1) * u64::from(packets);
    match class {
        Lowest if bytes <= LOWEST_BYTES => Lowest,
        Lowest if longer(8000) => Bulk,
        Lowest if packets < 5 => Low,
        Low if bytes > 10_000 && (packets < 10 || longer(1200)) => Bulk,
        Low if bytes > 10_000 && packets > 35 => Lowest,
        Low if bytes > 10_000 => Low,
        Low if longer(2000) => Bulk,
        Low if packets <= 2 && bytes < 512 => Lowest,
        Bulk if bytes > 25_000 && packets > 35 => Low,
        Bulk if bytes < 1500 => Low,
        same => same,
    }
}

#[cfg(test)]
mod tests {
    use super::Latency::{Bulk, Low, Lowest};
    use super::{IgbRingContainer, igb_update_itr, latency};

    #[test]
    fn a_direction_without_traffic_has_no_say_in_the_interval() {
        let mut idle = IgbRingContainer::default();
        assert!(!igb_update_itr(&mut idle));
        assert_eq!(idle.itr, Lowest, "so that the other's class is what counts");
        let mut bulk =
            IgbRingContainer { total_packets: 10, total_bytes: 90_000, ..Default::default() };
        assert!(igb_update_itr(&mut bulk));
        assert_eq!((bulk.itr, bulk.total_packets, bulk.total_bytes), (Bulk, 0, 0));
        assert!(!igb_update_itr(&mut bulk), "nothing came: nothing changes");
        assert_eq!(bulk.itr, Bulk);
    }

    #[test]
    fn single_small_packets_ask_for_the_lowest_latency() {
        assert_eq!(latency(Bulk, 1, 64), Low);
        assert_eq!(latency(Low, 1, 64), Lowest);
        assert_eq!(latency(Lowest, 1, 64), Lowest);
    }

    #[test]
    fn full_frames_ask_for_few_interrupts_and_many_small_ones_for_more() {
        assert_eq!(latency(Lowest, 4, 6000), Low);
        assert_eq!(latency(Low, 8, 12_000), Bulk);
        assert_eq!(latency(Bulk, 64, 96_000), Low);
        assert_eq!(latency(Low, 64, 64 * 200), Lowest);
    }
}
