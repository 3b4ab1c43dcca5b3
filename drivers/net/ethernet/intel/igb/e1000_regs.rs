//! Registers of the Intel 82576: where they are in BAR 0, and their bits.
//!
//! Sources: the Intel 82576 data sheet's chapters "Programming Interface", "Inline Functions" (descriptor formats) and
//! "Interrupts"; names as in the field's headers, so that a reader of Linux's igb finds them. Driver and device model
//! both use this table: an error here is seen only on a device that others wrote.
//!
//! Key items: `E1000_*` constants, grouped by unit. No state, no locks.

/// Declares constants, each with its short meaning as documentation.
macro_rules! table {
    ($($name:ident = $value:expr, $doc:literal;)*) => {
        $(#[doc = $doc] pub const $name: u32 = $value;)*
    };
}

/// Size of BAR 0 in bytes.
pub const E1000_BAR0_LEN: u32 = 0x2_0000;
/// Queues in each direction.
pub const E1000_QUEUES: usize = 16;
/// Entries of the RSS indirection table.
pub const E1000_RETA_ENTRIES: usize = 128;
/// Bytes of the RSS hash key.
pub const E1000_RSSRK_BYTES: usize = 40;
/// Receive address registers.
pub const E1000_RAR_ENTRIES: usize = 24;
/// Interrupt vectors that have an EITR.
pub const E1000_EITR_COUNT: usize = 25;
/// What the first 64 words of the NVM add up to.
pub const E1000_NVM_SUM: u16 = 0xBABA;

// Device.
table! {
    E1000_CTRL = 0x0000, "Device control.";
    E1000_STATUS = 0x0008, "Device status.";
    E1000_EECD = 0x0010, "NVM control.";
    E1000_EERD = 0x0014, "NVM read.";
    E1000_CTRL_EXT = 0x0018, "Extended device control.";
    E1000_MDIC = 0x0020, "MDI control: access to the PHY.";
    E1000_SCTL = 0x0024, "SerDes control.";
    E1000_FCAL = 0x0028, "Flow control address, low.";
    E1000_FCAH = 0x002C, "Flow control address, high.";
    E1000_FCT = 0x0030, "Flow control type.";
    E1000_CONNSW = 0x0034, "Copper and fibre switch control.";
    E1000_VET = 0x0038, "VLAN ether type.";
    E1000_FCTTV = 0x0170, "Flow control transmit timer value.";
    E1000_LEDCTL = 0x0E00, "LED control.";
    E1000_EEMNGCTL = 0x1010, "Manageability NVM control: configuration done.";
    E1000_FCRTL = 0x2160, "Flow control receive threshold, low.";
    E1000_FCRTH = 0x2168, "Flow control receive threshold, high.";
    E1000_FCRTV = 0x2460, "Flow control refresh threshold.";
    E1000_WUC = 0x5800, "Wake-up control.";
    E1000_WUFC = 0x5808, "Wake-up filter control.";
    E1000_WUS = 0x5810, "Wake-up status.";
    E1000_MANC = 0x5820, "Management control.";
    E1000_GCR = 0x5B00, "PCIe control.";
    E1000_FACTPS = 0x5B30, "Function active and power state.";
    E1000_SWSM = 0x5B50, "Software semaphore.";
    E1000_FWSM = 0x5B54, "Firmware semaphore.";
    E1000_SW_FW_SYNC = 0x5B5C, "Software and firmware synchronisation.";
}

table! {
    E1000_CTRL_FD = 0x0000_0001, "CTRL: full duplex.";
    E1000_CTRL_GIO_MASTER_DISABLE = 0x0000_0004, "CTRL: stop new bus master requests.";
    E1000_CTRL_SLU = 0x0000_0040, "CTRL: set link up.";
    E1000_CTRL_FRCSPD = 0x0000_0800, "CTRL: force speed.";
    E1000_CTRL_FRCDPX = 0x0000_1000, "CTRL: force duplex.";
    E1000_CTRL_RST = 0x0400_0000, "CTRL: device reset, clears itself.";
    E1000_CTRL_RFCE = 0x0800_0000, "CTRL: receive flow control.";
    E1000_CTRL_TFCE = 0x1000_0000, "CTRL: transmit flow control.";
    E1000_CTRL_VME = 0x4000_0000, "CTRL: VLAN mode: strip tags from received frames.";
    E1000_CTRL_PHY_RST = 0x8000_0000, "CTRL: PHY reset.";
    E1000_STATUS_FD = 0x0000_0001, "STATUS: full duplex.";
    E1000_STATUS_LU = 0x0000_0002, "STATUS: link up.";
    E1000_STATUS_SPEED_1000 = 0x0000_0080, "STATUS: 1000 Mb/s.";
    E1000_STATUS_PHYRA = 0x0000_0400, "STATUS: PHY reset asserted.";
    E1000_STATUS_GIO_MASTER_ENABLE = 0x0008_0000, "STATUS: bus master requests are still possible.";
    E1000_STATUS_PF_RST_DONE = 0x0020_0000, "STATUS: reset done.";
    E1000_EECD_REQ = 0x0000_0040, "EECD: request direct NVM access.";
    E1000_EECD_GNT = 0x0000_0080, "EECD: direct NVM access granted.";
    E1000_EECD_PRES = 0x0000_0100, "EECD: an NVM is present.";
    E1000_EECD_AUTO_RD = 0x0000_0200, "EECD: automatic load from NVM done.";
    E1000_EECD_SIZE_EX_MASK = 0x0000_7800, "EECD: size of the NVM.";
    E1000_EECD_SIZE_EX_SHIFT = 11, "EECD: position of the size.";
    E1000_NVM_RW_REG_START = 0x0000_0001, "EERD: start the read.";
    E1000_NVM_RW_REG_DONE = 0x0000_0002, "EERD: read done.";
    E1000_NVM_RW_ADDR_SHIFT = 2, "EERD: position of the word address.";
    E1000_NVM_RW_ADDR_MASK = 0x0000_3FFF, "EERD: width of the word address.";
    E1000_NVM_RW_REG_DATA = 16, "EERD: position of the data.";
    E1000_NVM_CFG_DONE_PORT_0 = 0x0004_0000, "EEMNGCTL: port 0 configured.";
    E1000_NVM_CFG_DONE_PORT_1 = 0x0008_0000, "EEMNGCTL: port 1 configured.";
    E1000_CTRL_EXT_IAME = 0x0800_0000, "CTRL_EXT: interrupt acknowledge auto-mask.";
    E1000_CTRL_EXT_DRV_LOAD = 0x1000_0000, "CTRL_EXT: a driver is loaded.";
    E1000_CTRL_EXT_EIAME = 0x0100_0000, "CTRL_EXT: extended auto-mask (82575).";
    E1000_SWSM_SMBI = 0x0000_0001, "SWSM: semaphore between driver and driver, taken by reading.";
    E1000_SWSM_SWESMBI = 0x0000_0002, "SWSM: semaphore between driver and firmware.";
    E1000_SWFW_PHY0_SM = 0x0000_0002, "SW_FW_SYNC: PHY of port 0.";
    E1000_SWFW_EEP_SM = 0x0000_0001, "SW_FW_SYNC: NVM.";
}

// PHY, through MDIC.
table! {
    E1000_MDIC_DATA_MASK = 0x0000_FFFF, "MDIC: data.";
    E1000_MDIC_REG_SHIFT = 16, "MDIC: position of the register.";
    E1000_MDIC_REG_MASK = 0x001F_0000, "MDIC: register.";
    E1000_MDIC_PHY_SHIFT = 21, "MDIC: position of the PHY address.";
    E1000_MDIC_PHY_MASK = 0x03E0_0000, "MDIC: PHY address.";
    E1000_MDIC_OP_WRITE = 0x0400_0000, "MDIC: write.";
    E1000_MDIC_OP_READ = 0x0800_0000, "MDIC: read.";
    E1000_MDIC_OP_MASK = 0x0C00_0000, "MDIC: operation.";
    E1000_MDIC_READY = 0x1000_0000, "MDIC: operation done.";
    E1000_MDIC_INT_EN = 0x2000_0000, "MDIC: interrupt when done.";
    E1000_MDIC_ERROR = 0x4000_0000, "MDIC: no answer.";
    IGP03E1000_E_PHY_ID = 0x02A8_0390, "Identifier of the 82576's internal PHY, revision masked.";
    PHY_REVISION_MASK = 0xFFFF_FFF0, "What of the identifier is not revision.";
    PHY_CONTROL = 0x00, "PHY register: control.";
    PHY_STATUS = 0x01, "PHY register: status.";
    PHY_ID1 = 0x02, "PHY register: identifier, high half.";
    PHY_ID2 = 0x03, "PHY register: identifier, low half.";
    PHY_AUTONEG_ADV = 0x04, "PHY register: abilities advertised.";
    PHY_LP_ABILITY = 0x05, "PHY register: abilities of the link partner.";
    PHY_AUTONEG_EXP = 0x06, "PHY register: autonegotiation expansion.";
    PHY_1000T_CTRL = 0x09, "PHY register: 1000BASE-T control.";
    PHY_1000T_STATUS = 0x0A, "PHY register: 1000BASE-T status.";
    PHY_EXT_STATUS = 0x0F, "PHY register: extended status.";
    IGP01E1000_PHY_PORT_CONFIG = 0x10, "PHY register: port configuration.";
    IGP01E1000_PHY_PORT_STATUS = 0x11, "PHY register: port status.";
    IGP01E1000_PHY_PORT_CTRL = 0x12, "PHY register: port control.";
    IGP01E1000_PHY_PAGE_SELECT = 0x1F, "PHY register: page select.";
    MII_CR_LOOPBACK = 0x4000, "PHY control: loopback.";
    MII_CR_RESET = 0x8000, "PHY control: reset, clears itself.";
    MII_CR_AUTO_NEG_EN = 0x1000, "PHY control: autonegotiation enabled.";
    MII_CR_POWER_DOWN = 0x0800, "PHY control: power down.";
    MII_CR_RESTART_AUTO_NEG = 0x0200, "PHY control: restart autonegotiation, clears itself.";
    MII_CR_FULL_DUPLEX = 0x0100, "PHY control: full duplex.";
    MII_CR_SPEED_1000 = 0x0040, "PHY control: 1000 Mb/s.";
    MII_SR_AUTONEG_COMPLETE = 0x0020, "PHY status: autonegotiation complete.";
    MII_SR_AUTONEG_CAPS = 0x0008, "PHY status: can autonegotiate.";
    MII_SR_LINK_STATUS = 0x0004, "PHY status: link is up; latches low until read.";
    IGP01E1000_PSSR_SPEED_1000MBPS = 0xC000, "Port status: 1000 Mb/s.";
    IGP01E1000_PSSR_FULL_DUPLEX = 0x0200, "Port status: full duplex.";
    IGP01E1000_PSSR_LINK_UP = 0x0400, "Port status: link up.";
}

// Interrupts.
table! {
    E1000_ICR = 0x1500, "Interrupt cause; clears on read.";
    E1000_ICS = 0x1504, "Interrupt cause set.";
    E1000_IMS = 0x1508, "Interrupt mask set.";
    E1000_IMC = 0x150C, "Interrupt mask clear.";
    E1000_IAM = 0x1510, "Interrupt acknowledge auto-mask.";
    E1000_GPIE = 0x1514, "General purpose interrupt enable.";
    E1000_ICR_LEGACY = 0x00C0, "Interrupt cause, at its older address.";
    E1000_ICS_LEGACY = 0x00C8, "Interrupt cause set, at its older address.";
    E1000_IMS_LEGACY = 0x00D0, "Interrupt mask set, at its older address.";
    E1000_IMC_LEGACY = 0x00D8, "Interrupt mask clear, at its older address.";
    E1000_IAM_LEGACY = 0x00E0, "Interrupt acknowledge auto-mask, at its older address.";
    E1000_EICS = 0x1520, "Extended interrupt cause set.";
    E1000_EIMS = 0x1524, "Extended interrupt mask set.";
    E1000_EIMC = 0x1528, "Extended interrupt mask clear.";
    E1000_EIAC = 0x152C, "Extended interrupt auto-clear.";
    E1000_EIAM = 0x1530, "Extended interrupt auto-mask.";
    E1000_EICR = 0x1580, "Extended interrupt cause.";
    E1000_EITR_BASE = 0x1680, "Interrupt throttle of vector 0.";
    E1000_IVAR0 = 0x1700, "Interrupt vector allocation of queues 0 and 8.";
    E1000_IVAR_MISC = 0x1740, "Interrupt vector allocation of other causes.";
}

table! {
    E1000_ICR_TXDW = 0x0000_0001, "ICR: transmit descriptor written back.";
    E1000_ICR_TXQE = 0x0000_0002, "ICR: transmit queue empty.";
    E1000_ICR_LSC = 0x0000_0004, "ICR: link status change.";
    E1000_ICR_RXSEQ = 0x0000_0008, "ICR: receive sequence error.";
    E1000_ICR_RXDMT0 = 0x0000_0010, "ICR: receive descriptors below their threshold.";
    E1000_ICR_RXO = 0x0000_0040, "ICR: receiver overrun: a frame was missed.";
    E1000_ICR_RXT0 = 0x0000_0080, "ICR: receive descriptor written back.";
    E1000_ICR_MDAC = 0x0000_0200, "ICR: MDI access done.";
    E1000_ICR_DOUTSYNC = 0x1000_0000, "ICR: DMA out of sync.";
    E1000_ICR_DRSTA = 0x4000_0000, "ICR: device reset asserted.";
    E1000_ICR_INT_ASSERTED = 0x8000_0000, "ICR: the interrupt is asserted.";
    E1000_EICR_VECTORS = 0x01FF_FFFF, "EICR with several vectors: one bit each.";
    E1000_EICR_QUEUES = 0x0000_FFFF, "EICR with one vector: queue causes.";
    E1000_EICR_OTHER = 0x8000_0000, "EICR with one vector: a cause in ICR.";
    E1000_GPIE_NSICR = 0x0000_0001, "GPIE: reading ICR always clears it.";
    E1000_GPIE_MSIX_MODE = 0x0000_0010, "GPIE: several MSI-X vectors.";
    E1000_GPIE_EIAME = 0x4000_0000, "GPIE: EIAM applies when a message is sent.";
    E1000_GPIE_PBA = 0x8000_0000, "GPIE: pending bits follow EICR.";
    E1000_EITR_INTERVAL_SHIFT = 2, "EITR: position of the interval, in microseconds.";
    E1000_EITR_INTERVAL_MASK = 0x0000_1FFF, "EITR: width of the interval.";
    E1000_EITR_CNT_IGNR = 0x8000_0000, "EITR: do not touch the running counter.";
    E1000_IVAR_VALID = 0x80, "IVAR: the entry is valid.";
    E1000_IVAR_VECTOR_MASK = 0x1F, "IVAR: vector of the entry.";
}

// Receive.
table! {
    E1000_RCTL = 0x0100, "Receive control.";
    E1000_PSRCTL = 0x2170, "Packet split control.";
    E1000_RXPBS = 0x2404, "Receive packet buffer size.";
    E1000_RXCSUM = 0x5000, "Receive checksum control.";
    E1000_RLPML = 0x5004, "Longest frame received, with CRC.";
    E1000_RFCTL = 0x5008, "Receive filter control.";
    E1000_MTA = 0x5200, "Multicast table, 128 registers.";
    E1000_RA = 0x5400, "Receive addresses 0 to 15.";
    E1000_RA2 = 0x54E0, "Receive addresses 16 to 23.";
    E1000_PSRTYPE_BASE = 0x5480, "Packet split type of queue 0.";
    E1000_VFTA = 0x5600, "VLAN filter table, 128 registers.";
    E1000_MRQC = 0x5818, "Multiple receive queues command.";
    E1000_VT_CTL = 0x581C, "Virtualisation control.";
    E1000_RETA_BASE = 0x5C00, "RSS indirection table, 32 registers.";
    E1000_RSSRK_BASE = 0x5C80, "RSS key, 10 registers.";
    E1000_VMOLR_BASE = 0x5AD0, "Offload control of pool 0.";
}

table! {
    E1000_RCTL_EN = 0x0000_0002, "RCTL: enable.";
    E1000_RCTL_SBP = 0x0000_0004, "RCTL: store bad packets.";
    E1000_RCTL_UPE = 0x0000_0008, "RCTL: unicast promiscuous.";
    E1000_RCTL_MPE = 0x0000_0010, "RCTL: multicast promiscuous.";
    E1000_RCTL_LPE = 0x0000_0020, "RCTL: long packets.";
    E1000_RCTL_LBM_MAC = 0x0000_0040, "RCTL: MAC loopback.";
    E1000_RCTL_MO_SHIFT = 12, "RCTL: position of the multicast offset.";
    E1000_RCTL_BAM = 0x0000_8000, "RCTL: accept broadcast.";
    E1000_RCTL_SZ_SHIFT = 16, "RCTL: position of the buffer size (2048, 1024, 512, 256).";
    E1000_RCTL_VFE = 0x0004_0000, "RCTL: VLAN filter.";
    E1000_RCTL_SECRC = 0x0400_0000, "RCTL: strip the CRC.";
    E1000_RXDCTL_QUEUE_ENABLE = 0x0200_0000, "RXDCTL: the queue is enabled.";
    E1000_SRRCTL_BSIZEPKT_MASK = 0x0000_007F, "SRRCTL: buffer size in KiB.";
    E1000_SRRCTL_BSIZEHDRSIZE_MASK = 0x0000_3F00, "SRRCTL: header buffer size in 64 bytes.";
    E1000_SRRCTL_DESCTYPE_MASK = 0x0E00_0000, "SRRCTL: descriptor type.";
    E1000_SRRCTL_DESCTYPE_ADV_ONEBUF = 0x0200_0000, "SRRCTL: advanced descriptors, one buffer.";
    E1000_SRRCTL_DROP_EN = 0x8000_0000, "SRRCTL: drop when there is no descriptor.";
    E1000_RAH_AV = 0x8000_0000, "RAH: the address is valid.";
    E1000_RXCSUM_IPOFL = 0x0000_0100, "RXCSUM: check IPv4 headers.";
    E1000_RXCSUM_TUOFL = 0x0000_0200, "RXCSUM: check TCP and UDP.";
    E1000_RXCSUM_PCSD = 0x0000_2000, "RXCSUM: report the RSS hash, not the packet checksum.";
    E1000_MRQC_ENABLE_MASK = 0x0000_0007, "MRQC: mode.";
    E1000_MRQC_ENABLE_RSS_4Q = 0x0000_0002, "MRQC: RSS (named for the 82575; 16 queues here).";
    E1000_MRQC_RSS_FIELD_IPV4_TCP = 0x0001_0000, "MRQC: hash TCP over IPv4.";
    E1000_MRQC_RSS_FIELD_IPV4 = 0x0002_0000, "MRQC: hash IPv4.";
    E1000_MRQC_RSS_FIELD_IPV6_TCP_EX = 0x0004_0000, "MRQC: hash TCP over IPv6 with extensions.";
    E1000_MRQC_RSS_FIELD_IPV6_EX = 0x0008_0000, "MRQC: hash IPv6 with extensions.";
    E1000_MRQC_RSS_FIELD_IPV6 = 0x0010_0000, "MRQC: hash IPv6.";
    E1000_MRQC_RSS_FIELD_IPV6_TCP = 0x0020_0000, "MRQC: hash TCP over IPv6.";
    E1000_MRQC_RSS_FIELD_IPV4_UDP = 0x0040_0000, "MRQC: hash UDP over IPv4.";
    E1000_MRQC_RSS_FIELD_IPV6_UDP = 0x0080_0000, "MRQC: hash UDP over IPv6.";
    E1000_MRQC_RSS_FIELD_IPV6_UDP_EX = 0x0100_0000, "MRQC: hash UDP over IPv6 with extensions.";
}

// Receive descriptors, advanced, written back: status and error word, packet information word.
table! {
    E1000_RXD_STAT_DD = 0x0000_0001, "RX status: descriptor done.";
    E1000_RXD_STAT_EOP = 0x0000_0002, "RX status: end of packet.";
    E1000_RXD_STAT_IXSM = 0x0000_0004, "RX status: checksum bits are meaningless.";
    E1000_RXD_STAT_VP = 0x0000_0008, "RX status: a VLAN tag was stripped.";
    E1000_RXD_STAT_UDPCS = 0x0000_0010, "RX status: UDP checksum checked.";
    E1000_RXD_STAT_TCPCS = 0x0000_0020, "RX status: L4 checksum checked.";
    E1000_RXD_STAT_IPCS = 0x0000_0040, "RX status: IPv4 header checksum checked.";
    E1000_RXD_STAT_PIF = 0x0000_0080, "RX status: passed by an inexact filter only.";
    E1000_RXDEXT_STATERR_L4E = 0x2000_0000, "RX error: L4 checksum.";
    E1000_RXDEXT_STATERR_TCPE = 0x2000_0000, "RX error: L4 checksum (its older name).";
    E1000_RXDEXT_STATERR_IPE = 0x4000_0000, "RX error: IPv4 header checksum.";
    E1000_RXDEXT_STATERR_RXE = 0x8000_0000, "RX error: receive or DMA error.";
    E1000_RXDADV_RSSTYPE_MASK = 0x0000_000F, "RX packet information: RSS type.";
    E1000_RXDADV_PKTTYPE_IPV4 = 0x0000_0010, "RX packet type: IPv4.";
    E1000_RXDADV_PKTTYPE_IPV4_EX = 0x0000_0020, "RX packet type: IPv4 with options.";
    E1000_RXDADV_PKTTYPE_IPV6 = 0x0000_0040, "RX packet type: IPv6.";
    E1000_RXDADV_PKTTYPE_IPV6_EX = 0x0000_0080, "RX packet type: IPv6 with extensions.";
    E1000_RXDADV_PKTTYPE_TCP = 0x0000_0100, "RX packet type: TCP.";
    E1000_RXDADV_PKTTYPE_UDP = 0x0000_0200, "RX packet type: UDP.";
    E1000_RXDADV_RSSTYPE_IPV4_TCP = 1, "RSS type: TCP over IPv4.";
    E1000_RXDADV_RSSTYPE_IPV4 = 2, "RSS type: IPv4.";
    E1000_RXDADV_RSSTYPE_IPV6_TCP = 3, "RSS type: TCP over IPv6.";
    E1000_RXDADV_RSSTYPE_IPV6 = 5, "RSS type: IPv6.";
    E1000_RXDADV_RSSTYPE_IPV4_UDP = 7, "RSS type: UDP over IPv4.";
    E1000_RXDADV_RSSTYPE_IPV6_UDP = 8, "RSS type: UDP over IPv6.";
}

// Transmit, and its advanced descriptors.
table! {
    E1000_TCTL = 0x0400, "Transmit control.";
    E1000_TCTL_EXT = 0x0404, "Extended transmit control.";
    E1000_TIPG = 0x0410, "Gap between frames.";
    E1000_TXPBS = 0x3404, "Transmit packet buffer size.";
    E1000_DTXSWC = 0x3500, "DMA transmit switch control.";
    E1000_DTXCTL = 0x3590, "DMA transmit control.";
    E1000_TCTL_EN = 0x0000_0002, "TCTL: enable.";
    E1000_TCTL_PSP = 0x0000_0008, "TCTL: pad short packets.";
    E1000_TXDCTL_QUEUE_ENABLE = 0x0200_0000, "TXDCTL: the queue is enabled.";
    E1000_TX_HEAD_WB_ENABLE = 0x0000_0001, "TDWBAL: write the head back instead of DD.";
    E1000_ADVTXD_DTYP_MASK = 0x00F0_0000, "TX command: descriptor type.";
    E1000_ADVTXD_DTYP_CTXT = 0x0020_0000, "TX command: context descriptor.";
    E1000_ADVTXD_DTYP_DATA = 0x0030_0000, "TX command: data descriptor.";
    E1000_ADVTXD_DTALEN_MASK = 0x0000_FFFF, "TX command: bytes in the buffer.";
    E1000_ADVTXD_DCMD_EOP = 0x0100_0000, "TX command: end of packet.";
    E1000_ADVTXD_DCMD_IFCS = 0x0200_0000, "TX command: insert the CRC.";
    E1000_ADVTXD_DCMD_RS = 0x0800_0000, "TX command: report status.";
    E1000_ADVTXD_DCMD_DEXT = 0x2000_0000, "TX command: advanced descriptor.";
    E1000_ADVTXD_DCMD_VLE = 0x4000_0000, "TX command: insert the context's VLAN tag.";
    E1000_ADVTXD_DCMD_TSE = 0x8000_0000, "TX command: segment.";
    E1000_TXD_STAT_DD = 0x0000_0001, "TX status: descriptor done.";
    E1000_ADVTXD_IDX_SHIFT = 4, "TX: position of the context index.";
    E1000_TXD_POPTS_IXSM = 0x0000_0100, "TX options: insert the IPv4 header checksum.";
    E1000_TXD_POPTS_TXSM = 0x0000_0200, "TX options: insert the L4 checksum.";
    E1000_ADVTXD_PAYLEN_SHIFT = 14, "TX options: position of the payload length.";
    E1000_ADVTXD_MACLEN_SHIFT = 9, "TX context: position of the MAC header's length.";
    E1000_ADVTXD_IPLEN_MASK = 0x0000_01FF, "TX context: length of the IP header.";
    E1000_ADVTXD_VLAN_SHIFT = 16, "TX context: position of the VLAN tag.";
    E1000_ADVTXD_TUCMD_IPV4 = 0x0000_0400, "TX context: IPv4.";
    E1000_ADVTXD_TUCMD_L4T_UDP = 0x0000_0000, "TX context: UDP.";
    E1000_ADVTXD_TUCMD_L4T_TCP = 0x0000_0800, "TX context: TCP.";
    E1000_ADVTXD_TUCMD_L4T_SCTP = 0x0000_1000, "TX context: SCTP.";
    E1000_ADVTXD_L4LEN_SHIFT = 8, "TX context: position of the L4 header's length.";
    E1000_ADVTXD_MSS_SHIFT = 16, "TX context: position of the segment size.";
}

// Statistics: each clears when read; of a 64-bit pair, reading the high half clears both.
table! {
    E1000_STATS_FIRST = 0x4000, "First statistics register.";
    E1000_STATS_END = 0x4140, "Past the last statistics register.";
    E1000_CRCERRS = 0x4000, "Statistics: CRC errors.";
    E1000_ALGNERRC = 0x4004, "Statistics: alignment errors.";
    E1000_SYMERRS = 0x4008, "Statistics: symbol errors.";
    E1000_RXERRC = 0x400C, "Statistics: receive errors.";
    E1000_MPC = 0x4010, "Statistics: missed packets: no room in the packet buffer.";
    E1000_SCC = 0x4014, "Statistics: single collisions.";
    E1000_ECOL = 0x4018, "Statistics: excessive collisions.";
    E1000_MCC = 0x401C, "Statistics: multiple collisions.";
    E1000_LATECOL = 0x4020, "Statistics: late collisions.";
    E1000_COLC = 0x4028, "Statistics: collisions.";
    E1000_DC = 0x4030, "Statistics: deferrals.";
    E1000_TNCRS = 0x4034, "Statistics: transmitted without carrier.";
    E1000_RLEC = 0x4040, "Statistics: receive length errors.";
    E1000_XONRXC = 0x4048, "Statistics: XON received.";
    E1000_XONTXC = 0x404C, "Statistics: XON sent.";
    E1000_XOFFRXC = 0x4050, "Statistics: XOFF received.";
    E1000_XOFFTXC = 0x4054, "Statistics: XOFF sent.";
    E1000_FCRUC = 0x4058, "Statistics: unsupported flow control received.";
    E1000_PRC64 = 0x405C, "Statistics: received, 64 bytes.";
    E1000_PRC127 = 0x4060, "Statistics: received, 65 to 127 bytes.";
    E1000_PRC255 = 0x4064, "Statistics: received, 128 to 255 bytes.";
    E1000_PRC511 = 0x4068, "Statistics: received, 256 to 511 bytes.";
    E1000_PRC1023 = 0x406C, "Statistics: received, 512 to 1023 bytes.";
    E1000_PRC1522 = 0x4070, "Statistics: received, 1024 bytes and more.";
    E1000_GPRC = 0x4074, "Statistics: good packets received.";
    E1000_BPRC = 0x4078, "Statistics: broadcasts received.";
    E1000_MPRC = 0x407C, "Statistics: multicasts received.";
    E1000_GPTC = 0x4080, "Statistics: good packets sent.";
    E1000_GORCL = 0x4088, "Statistics: good bytes received, low.";
    E1000_GORCH = 0x408C, "Statistics: good bytes received, high.";
    E1000_GOTCL = 0x4090, "Statistics: good bytes sent, low.";
    E1000_GOTCH = 0x4094, "Statistics: good bytes sent, high.";
    E1000_RNBC = 0x40A0, "Statistics: frames that found no receive descriptor.";
    E1000_RUC = 0x40A4, "Statistics: undersized.";
    E1000_RFC = 0x40A8, "Statistics: fragments.";
    E1000_ROC = 0x40AC, "Statistics: oversized.";
    E1000_RJC = 0x40B0, "Statistics: jabbers.";
    E1000_MGTPRC = 0x40B4, "Statistics: management packets received.";
    E1000_MGTPDC = 0x40B8, "Statistics: management packets dropped.";
    E1000_MGTPTC = 0x40BC, "Statistics: management packets sent.";
    E1000_TORL = 0x40C0, "Statistics: all bytes received, low.";
    E1000_TORH = 0x40C4, "Statistics: all bytes received, high.";
    E1000_TOTL = 0x40C8, "Statistics: all bytes sent, low.";
    E1000_TOTH = 0x40CC, "Statistics: all bytes sent, high.";
    E1000_TPR = 0x40D0, "Statistics: all packets received.";
    E1000_TPT = 0x40D4, "Statistics: all packets sent.";
    E1000_PTC64 = 0x40D8, "Statistics: sent, 64 bytes.";
    E1000_PTC127 = 0x40DC, "Statistics: sent, 65 to 127 bytes.";
    E1000_PTC255 = 0x40E0, "Statistics: sent, 128 to 255 bytes.";
    E1000_PTC511 = 0x40E4, "Statistics: sent, 256 to 511 bytes.";
    E1000_PTC1023 = 0x40E8, "Statistics: sent, 512 to 1023 bytes.";
    E1000_PTC1522 = 0x40EC, "Statistics: sent, 1024 bytes and more.";
    E1000_MPTC = 0x40F0, "Statistics: multicasts sent.";
    E1000_BPTC = 0x40F4, "Statistics: broadcasts sent.";
    E1000_TSCTC = 0x40F8, "Statistics: segmented packets.";
    E1000_IAC = 0x4100, "Statistics: interrupts asserted.";
    E1000_RPTHC = 0x4104, "Statistics: packets received to the host.";
    E1000_HGPTC = 0x4118, "Statistics: packets sent by the host.";
    E1000_RXDMTC = 0x4120, "Statistics: receive descriptors below their threshold.";
    E1000_HGORCL = 0x4128, "Statistics: host bytes received, low.";
    E1000_HGORCH = 0x412C, "Statistics: host bytes received, high.";
    E1000_HGOTCL = 0x4130, "Statistics: host bytes sent, low.";
    E1000_HGOTCH = 0x4134, "Statistics: host bytes sent, high.";
    E1000_LENERRS = 0x4138, "Statistics: length errors.";
}

// Registers of one queue: their distance from the queue's base.
table! {
    E1000_Q_BAL = 0x00, "Queue: ring base, low.";
    E1000_Q_BAH = 0x04, "Queue: ring base, high.";
    E1000_Q_LEN = 0x08, "Queue: ring length in bytes.";
    E1000_Q_SRRCTL = 0x0C, "Receive queue: split and replication control.";
    E1000_Q_HEAD = 0x10, "Queue: head.";
    E1000_Q_DCA = 0x14, "Queue: cache hints.";
    E1000_Q_TAIL = 0x18, "Queue: tail, the doorbell.";
    E1000_Q_DCTL = 0x28, "Queue: descriptor control.";
    E1000_Q_RQDPC = 0x30, "Receive queue: frames dropped for want of a descriptor.";
    E1000_Q_WBAL = 0x38, "Transmit queue: head write-back address, low.";
    E1000_Q_WBAH = 0x3C, "Transmit queue: head write-back address, high.";
    E1000_RXQ_BASE = 0xC000, "Receive queue 0; the others follow at 0x40.";
    E1000_TXQ_BASE = 0xE000, "Transmit queue 0; the others follow at 0x40.";
    E1000_RXQ_LEGACY = 0x2800, "Receive queues 0 to 3 at their older address, 0x100 apart.";
    E1000_TXQ_LEGACY = 0x3800, "Transmit queues 0 to 3 at their older address, 0x100 apart.";
}

/// Declares the registers that exist once a queue, vector or entry.
macro_rules! indexed {
    ($($name:ident($n:ident) = $value:expr, $doc:literal;)*) => {
        $(#[doc = $doc] #[allow(non_snake_case)] #[must_use] pub const fn $name($n: u32) -> u32 { $value })*
    };
}

/// Base of receive queue `n`'s registers: the older address for 0 to 3.
const fn rxq(n: u32) -> u32 {
    if n < 4 {
        E1000_RXQ_LEGACY + n * 0x100
    } else {
        E1000_RXQ_BASE.wrapping_add(n.wrapping_mul(0x40))
    }
}

/// Base of transmit queue `n`'s registers: the older address for 0 to 3.
const fn txq(n: u32) -> u32 {
    if n < 4 {
        E1000_TXQ_LEGACY + n * 0x100
    } else {
        E1000_TXQ_BASE.wrapping_add(n.wrapping_mul(0x40))
    }
}

indexed! {
    E1000_RDBAL(n) = rxq(n) + E1000_Q_BAL, "Receive queue: ring base, low.";
    E1000_RDBAH(n) = rxq(n) + E1000_Q_BAH, "Receive queue: ring base, high.";
    E1000_RDLEN(n) = rxq(n) + E1000_Q_LEN, "Receive queue: ring length in bytes.";
    E1000_SRRCTL(n) = rxq(n) + E1000_Q_SRRCTL, "Receive queue: split and replication control.";
    E1000_RDH(n) = rxq(n) + E1000_Q_HEAD, "Receive queue: head.";
    E1000_RDT(n) = rxq(n) + E1000_Q_TAIL, "Receive queue: tail.";
    E1000_RXDCTL(n) = rxq(n) + E1000_Q_DCTL, "Receive queue: descriptor control.";
    E1000_DCA_RXCTRL(n) = rxq(n) + E1000_Q_DCA, "Receive queue: cache hints.";
    E1000_RQDPC(n) = rxq(n) + E1000_Q_RQDPC, "Receive queue: dropped for want of a descriptor; clears on read.";
    E1000_TDBAL(n) = txq(n) + E1000_Q_BAL, "Transmit queue: ring base, low.";
    E1000_TDBAH(n) = txq(n) + E1000_Q_BAH, "Transmit queue: ring base, high.";
    E1000_TDLEN(n) = txq(n) + E1000_Q_LEN, "Transmit queue: ring length in bytes.";
    E1000_TDH(n) = txq(n) + E1000_Q_HEAD, "Transmit queue: head.";
    E1000_TDT(n) = txq(n) + E1000_Q_TAIL, "Transmit queue: tail.";
    E1000_TXDCTL(n) = txq(n) + E1000_Q_DCTL, "Transmit queue: descriptor control.";
    E1000_DCA_TXCTRL(n) = txq(n) + E1000_Q_DCA, "Transmit queue: cache hints.";
    E1000_TDWBAL(n) = txq(n) + E1000_Q_WBAL, "Transmit queue: head write-back address, low.";
    E1000_TDWBAH(n) = txq(n) + E1000_Q_WBAH, "Transmit queue: head write-back address, high.";
    E1000_EITR(n) = E1000_EITR_BASE.wrapping_add(n.wrapping_mul(4)), "Interrupt throttle of a vector.";
    E1000_IVAR(n) = E1000_IVAR0.wrapping_add((n & 7) * 4), "Vector allocation of queues `n` and `n + 8`.";
    E1000_RETA(n) = E1000_RETA_BASE + (n & 31) * 4, "RSS indirection, four entries a register.";
    E1000_RSSRK(n) = E1000_RSSRK_BASE.wrapping_add(n.wrapping_mul(4)), "RSS key, four bytes a register.";
    E1000_MTA_N(n) = E1000_MTA + (n & 127) * 4, "Multicast table, 32 bits a register.";
    E1000_VFTA_N(n) = E1000_VFTA + (n & 127) * 4, "VLAN filter table, 32 bits a register.";
    E1000_PSRTYPE(n) = E1000_PSRTYPE_BASE.wrapping_add(n.wrapping_mul(4)), "Packet split type of a queue.";
    E1000_RAL(n) = if n < 16 { E1000_RA + n * 8 } else { E1000_RA2.wrapping_add((n & 7) * 8) }, "Receive address, low.";
    E1000_RAH(n) = E1000_RAL(n) + 4, "Receive address, high, with its valid bit.";
}
