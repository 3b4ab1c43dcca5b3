//! Register accesses: which have behaviour; all others are storage.

use drivers::net::ethernet::intel::igb::e1000_regs::*;

use super::phy::{Phy, eerd};
use super::state::State;
use super::stats::Stats;

/// A register of one queue.
enum QueueReg {
    Rx(usize, u32),
    Tx(usize, u32),
}

/// Which queue's register is at `offset`, at either of its addresses.
fn queue_reg(offset: u32) -> Option<QueueReg> {
    let old = |base: u32| (((offset - base) >> 8) as usize, offset & 0xFF);
    let new = |base: u32| (((offset - base) >> 6) as usize, offset & 0x3F);
    let ((queue, reg), rx) = match offset {
        0x2800..0x2C00 => (old(E1000_RXQ_LEGACY), true),
        0x3800..0x3C00 => (old(E1000_TXQ_LEGACY), false),
        0xC000..0xC400 => (new(E1000_RXQ_BASE), true),
        0xE000..0xE400 => (new(E1000_TXQ_BASE), false),
        _ => return None,
    };
    if reg >= 0x40 || queue >= E1000_QUEUES {
        return None;
    }
    Some(if rx { QueueReg::Rx(queue, reg) } else { QueueReg::Tx(queue, reg) })
}

/// Index of a vector's EITR.
fn eitr_index(offset: u32) -> Option<usize> {
    let n = (offset.checked_sub(E1000_EITR_BASE)? / 4) as usize;
    (n < E1000_EITR_COUNT).then_some(n)
}

impl State {
    /// A driver reads a register.
    pub(super) fn read(&mut self, offset: u32) -> u32 {
        let offset = offset & !3;
        if offset >= E1000_BAR0_LEN {
            return !0;
        }
        if let Some(reg) = queue_reg(offset) {
            return match reg {
                QueueReg::Rx(q, reg) => self.rx[q].read(reg),
                QueueReg::Tx(q, reg) => self.tx[q].read(reg),
            };
        }
        if Stats::holds(offset) {
            return self.stats.read(offset);
        }
        match offset {
            E1000_STATUS => self.status(),
            E1000_ICR | E1000_ICR_LEGACY => self.irq.read_icr(),
            E1000_ICS | E1000_ICS_LEGACY => self.irq.icr(),
            E1000_IMS | E1000_IMS_LEGACY | E1000_IMC | E1000_IMC_LEGACY => self.irq.ims(),
            E1000_IAM | E1000_IAM_LEGACY => self.irq.iam,
            E1000_GPIE => self.irq.gpie,
            E1000_EICR => self.irq.read_eicr(),
            E1000_EICS => self.irq.eicr(),
            E1000_EIMS | E1000_EIMC => self.irq.eims(),
            E1000_EIAC => self.irq.eiac,
            E1000_EIAM => self.irq.eiam,
            E1000_IVAR_MISC => self.irq.ivar_misc,
            0x1700..0x1720 => self.irq.ivar[((offset >> 2) & 7) as usize],
            E1000_SWSM => {
                let value = self.get(offset);
                self.set(offset, value | E1000_SWSM_SMBI);
                value
            }
            _ => match eitr_index(offset) {
                Some(n) => self.irq.eitr[n],
                None => self.get(offset),
            },
        }
    }

    fn status(&self) -> u32 {
        let ctrl = self.get(E1000_CTRL);
        let mut status = E1000_STATUS_PF_RST_DONE | self.get(E1000_STATUS) & E1000_STATUS_PHYRA;
        if self.link() {
            status |= E1000_STATUS_LU | E1000_STATUS_FD | E1000_STATUS_SPEED_1000;
        }
        if ctrl & E1000_CTRL_GIO_MASTER_DISABLE == 0 {
            status |= E1000_STATUS_GIO_MASTER_ENABLE;
        }
        status
    }

    /// A driver writes a register.
    pub(super) fn write(&mut self, offset: u32, value: u32) {
        let offset = offset & !3;
        if offset >= E1000_BAR0_LEN {
            return;
        }
        match queue_reg(offset) {
            Some(QueueReg::Tx(q, reg)) => self.write_txq(q, reg, value),
            Some(QueueReg::Rx(q, reg)) => self.write_rxq(q, reg, value),
            None if Stats::holds(offset) => {}
            None => self.write_plain(offset, value),
        }
    }

    fn write_txq(&mut self, queue: usize, reg: u32, value: u32) {
        self.tx[queue].write(reg, value);
        if matches!(reg, E1000_Q_TAIL | E1000_Q_DCTL) {
            self.tx_kick |= 1 << queue;
        }
    }

    fn write_rxq(&mut self, queue: usize, reg: u32, value: u32) {
        self.rx[queue].write(reg, value);
        if matches!(reg, E1000_Q_TAIL | E1000_Q_DCTL) && self.rx_stalled {
            self.rx_kick = true;
        }
    }

    fn write_plain(&mut self, offset: u32, value: u32) {
        match offset {
            E1000_CTRL => self.write_ctrl(value),
            E1000_STATUS => {
                let kept = self.get(E1000_STATUS) & value;
                self.set(E1000_STATUS, kept);
            }
            E1000_EECD => {
                let grant = if value & E1000_EECD_REQ != 0 { E1000_EECD_GNT } else { 0 };
                let fixed = E1000_EECD_PRES | E1000_EECD_AUTO_RD;
                self.set(
                    offset,
                    value & !(E1000_EECD_GNT | E1000_EECD_SIZE_EX_MASK) | fixed | grant,
                );
            }
            E1000_EERD => {
                let result = eerd(&self.nvm, value);
                self.set(offset, result);
            }
            E1000_MDIC => self.mdic(value),
            E1000_RCTL => {
                self.set(offset, value);
                self.rx_kick = true;
                self.link_update();
            }
            E1000_TCTL => {
                self.set(offset, value);
                self.tx_kick = !0 >> (32 - E1000_QUEUES);
            }
            _ => self.write_irq(offset, value),
        }
    }

    fn write_ctrl(&mut self, value: u32) {
        if value & E1000_CTRL_PHY_RST != 0 {
            self.phy = Phy::new();
            let status = self.get(E1000_STATUS);
            self.set(E1000_STATUS, status | E1000_STATUS_PHYRA);
        }
        if value & E1000_CTRL_RST != 0 {
            return self.reset();
        }
        self.set(E1000_CTRL, value & !E1000_CTRL_PHY_RST);
        self.link_update();
    }

    fn write_irq(&mut self, offset: u32, value: u32) {
        let irq = &mut self.irq;
        match offset {
            E1000_ICR | E1000_ICR_LEGACY => irq.write_icr(value),
            E1000_ICS | E1000_ICS_LEGACY => irq.other_cause(value),
            E1000_IMS | E1000_IMS_LEGACY => irq.set_ims(value),
            E1000_IMC | E1000_IMC_LEGACY => irq.clear_ims(value),
            E1000_IAM | E1000_IAM_LEGACY => irq.iam = value,
            E1000_GPIE => irq.gpie = value,
            E1000_EICR => irq.write_eicr(value),
            E1000_EICS => irq.set_eicr(value),
            E1000_EIMS => irq.set_eims(value),
            E1000_EIMC => irq.clear_eims(value),
            E1000_EIAC => irq.eiac = value,
            E1000_EIAM => irq.eiam = value,
            E1000_IVAR_MISC => irq.ivar_misc = value,
            0x1700..0x1720 => irq.ivar[((offset >> 2) & 7) as usize] = value,
            _ => match eitr_index(offset) {
                Some(n) => irq.eitr[n] = value & !E1000_EITR_CNT_IGNR,
                None => self.set(offset, value),
            },
        }
    }
}
