//! Everything of the device that its lock protects, and what changes it as a whole: reset and link.

use std::collections::BTreeMap;

use drivers::net::ethernet::intel::igb::e1000_regs::*;
use drivers::net::wire_port::FrameBatch;

use super::Counters;
use super::config::{Config, ConfigEvent};
use super::irq::{Fired, Irq, Mode};
use super::phy::{Phy, PhyEvent, nvm_image};
use super::rx::RxQueue;
use super::stats::Stats;
use super::tx::TxQueue;

/// Words of BAR 0 that are kept; nothing is modelled beyond.
const WORDS: usize = 0x1_0000 / 4;
/// Packet identifiers kept at most; beyond that new ones are not remembered.
const MAX_IDS: usize = 16 * 1024;

/// Packet identifiers by buffer address: what tracing carries past the hardware.
#[derive(Default)]
pub(super) struct Ids(BTreeMap<u64, u64>);

impl Ids {
    /// Remembers the packet at an address; 0 forgets.
    pub(super) fn insert(&mut self, addr: u64, id: u64) {
        if id == 0 {
            self.0.remove(&addr);
        } else if self.0.len() < MAX_IDS || self.0.contains_key(&addr) {
            self.0.insert(addr, id);
        }
    }

    /// The packet at an address, once; 0 when unknown.
    pub(super) fn take(&mut self, addr: u64) -> u64 {
        self.0.remove(&addr).unwrap_or(0)
    }
}

/// The device's state.
pub(super) struct State {
    /// Registers without behaviour, and those whose value is all their state.
    regs: Box<[u32]>,
    pub(super) config: Config,
    pub(super) irq: Irq,
    pub(super) rx: [RxQueue; E1000_QUEUES],
    pub(super) tx: [TxQueue; E1000_QUEUES],
    pub(super) phy: Phy,
    pub(super) nvm: [u16; 64],
    pub(super) stats: Stats,
    pub(super) counters: Counters,
    pub(super) now: u64,
    /// What the wire says.
    pub(super) carrier: bool,
    /// What the driver is told (`STATUS.LU`).
    link: bool,
    /// Queues with transmit work.
    pub(super) tx_kick: u32,
    /// Queues whose frames somebody is putting on the wire.
    pub(super) tx_sending: u32,
    /// Receiving may go on where it had stopped.
    pub(super) rx_kick: bool,
    /// Frames wait for descriptors.
    pub(super) rx_stalled: bool,
    /// Memory for the next batches: as many as were ever on their way together.
    pub(super) spare: Vec<FrameBatch>,
    pub(super) tx_ids: Ids,
    pub(super) rx_ids: Ids,
}

impl State {
    pub(super) fn new(mac: [u8; 6], carrier: bool) -> Self {
        let mut st = Self {
            regs: vec![0; WORDS].into_boxed_slice(),
            config: Config::new(),
            irq: Irq::new(),
            rx: std::array::from_fn(RxQueue::new),
            tx: std::array::from_fn(TxQueue::new),
            phy: Phy::new(),
            nvm: nvm_image(mac),
            stats: Stats::new(),
            counters: Counters::default(),
            now: 0,
            carrier,
            link: false,
            tx_kick: 0,
            tx_sending: 0,
            rx_kick: false,
            rx_stalled: false,
            spare: Vec::new(),
            tx_ids: Ids::default(),
            rx_ids: Ids::default(),
        };
        // Packet buffers in KiB; a reset leaves them.
        st.set(E1000_RXPBS, 64);
        st.set(E1000_TXPBS, 40);
        st.reset();
        st
    }

    /// A register's stored value.
    #[inline]
    pub(super) fn get(&self, offset: u32) -> u32 {
        self.regs.get(offset as usize / 4).copied().unwrap_or(0)
    }

    /// Stores a register's value.
    #[inline]
    pub(super) fn set(&mut self, offset: u32, value: u32) {
        if let Some(r) = self.regs.get_mut(offset as usize / 4) {
            *r = value;
        }
    }

    /// `CTRL.RST`: all but packet buffer sizes, throttle intervals, PHY and the bus's side.
    pub(super) fn reset(&mut self) {
        let (rxpbs, txpbs) = (self.get(E1000_RXPBS), self.get(E1000_TXPBS));
        self.regs.fill(0);
        self.set(E1000_RXPBS, rxpbs);
        self.set(E1000_TXPBS, txpbs);
        self.set(E1000_CTRL, E1000_CTRL_FD);
        self.set(E1000_EECD, E1000_EECD_PRES | E1000_EECD_AUTO_RD);
        self.set(E1000_EEMNGCTL, E1000_NVM_CFG_DONE_PORT_0 | E1000_NVM_CFG_DONE_PORT_1);
        self.set(E1000_VET, 0x8100);
        self.set(E1000_RLPML, 0x2600);
        self.set(E1000_RXCSUM, E1000_RXCSUM_IPOFL | E1000_RXCSUM_TUOFL);
        self.set(E1000_LEDCTL, 0x0706_8302);
        self.set(E1000_MDIC, E1000_MDIC_READY);
        let [a, b, c] = [self.nvm[0], self.nvm[1], self.nvm[2]].map(u32::from);
        self.set(E1000_RAL(0), a | b << 16);
        self.set(E1000_RAH(0), c | E1000_RAH_AV);
        self.irq.reset();
        self.rx = std::array::from_fn(RxQueue::new);
        self.tx = std::array::from_fn(TxQueue::new);
        self.stats = Stats::new();
        self.link = false;
        self.tx_kick = 0;
        // What waits in the packet buffer is discarded: receiving is off now.
        self.rx_kick = true;
        self.rx_stalled = false;
    }

    /// Sends what interrupts may be sent now.
    pub(super) fn fire(&mut self) -> Fired {
        // Messages are bus writes; the pin is not.
        let cut_off = match self.irq.mode {
            Mode::Off => true,
            Mode::Intx => self.config.intx_disabled(),
            Mode::Msi | Mode::Msix => !self.config.master(),
        };
        if cut_off {
            return Fired::default();
        }
        let fired = self.irq.evaluate(self.now);
        let count = fired.count();
        if count != 0 {
            self.counters.irqs += u64::from(count);
            self.stats.add(E1000_IAC, count);
        }
        fired
    }

    /// Whether transmitted frames come back to the receiver.
    pub(super) fn loopback(&self) -> bool {
        self.phy.loopback() || self.get(E1000_RCTL) & 0xC0 == E1000_RCTL_LBM_MAC
    }

    /// The PHY's link.
    pub(super) fn phy_link(&self) -> bool {
        self.phy.powered() && (self.carrier || self.loopback())
    }

    pub(super) fn link(&self) -> bool {
        self.link
    }

    /// Follows the PHY: `STATUS.LU`, the link interrupt, stopped transmit queues.
    pub(super) fn link_update(&mut self) {
        let up = self.phy_link() && self.get(E1000_CTRL) & E1000_CTRL_SLU != 0;
        if up == self.link {
            return;
        }
        self.link = up;
        if up {
            self.tx_kick = !0 >> (32 - E1000_QUEUES);
            self.rx_kick = true;
        } else {
            self.phy.link_lost();
        }
        self.irq.other_cause(E1000_ICR_LSC);
    }

    /// Carries out an MDIC command.
    pub(super) fn mdic(&mut self, command: u32) {
        let link = self.phy_link();
        let (value, event) = self.phy.mdic(command, link);
        self.set(E1000_MDIC, value);
        match event {
            PhyEvent::None => {}
            PhyEvent::Link => self.link_update(),
            PhyEvent::Restarted => {
                let before = self.link;
                self.link_update();
                if before && self.link {
                    // Down and up again in no time.
                    self.phy.link_lost();
                    self.irq.other_cause(E1000_ICR_LSC);
                }
            }
        }
        if command & E1000_MDIC_INT_EN != 0 {
            self.irq.other_cause(E1000_ICR_MDAC);
        }
    }

    /// Writes configuration space.
    pub(super) fn config_write(&mut self, offset: u16, value: u32) {
        match self.config.write(offset, value) {
            ConfigEvent::None => {}
            ConfigEvent::Command => {
                self.tx_kick = !0 >> (32 - E1000_QUEUES);
                self.rx_kick = true;
            }
            ConfigEvent::Reset => {
                self.irq.connect(Mode::Off, &[]);
                self.phy = Phy::new();
                self.reset();
            }
        }
    }
}
