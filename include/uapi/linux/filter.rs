//! Classic BPF: instructions of a filter, and what they are made of.

/// One instruction, as `SO_ATTACH_FILTER` takes it: eight octets in the host's order.
#[repr(C)]
#[derive(
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    Default,
)]
pub struct SockFilter {
    /// What it does: a class and what belongs to it.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jt: u8,
    /// The same when it does not.
    pub jf: u8,
    /// Its constant.
    pub k: u32,
}

impl SockFilter {
    /// One that is no jump.
    pub const fn stmt(code: u16, k: u32) -> Self {
        Self { code, jt: 0, jf: 0, k }
    }

    /// A jump.
    pub const fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Self {
        Self { code, jt, jf, k }
    }
}

consts! { u16:
    /// Class: load into A.
    BPF_LD = 0x00;
    /// Class: load into X.
    BPF_LDX = 0x01;
    /// Class: store A.
    BPF_ST = 0x02;
    /// Class: store X.
    BPF_STX = 0x03;
    /// Class: compute with A.
    BPF_ALU = 0x04;
    /// Class: jump.
    BPF_JMP = 0x05;
    /// Class: end.
    BPF_RET = 0x06;
    /// Class: between A and X.
    BPF_MISC = 0x07;
    /// Size: four octets.
    BPF_W = 0x00;
    /// Size: two octets.
    BPF_H = 0x08;
    /// Size: one octet.
    BPF_B = 0x10;
    /// Mode: the constant itself.
    BPF_IMM = 0x00;
    /// Mode: the packet at the constant.
    BPF_ABS = 0x20;
    /// Mode: the packet at X and the constant.
    BPF_IND = 0x40;
    /// Mode: a word of the scratch memory.
    BPF_MEM = 0x60;
    /// Mode: the packet's length.
    BPF_LEN = 0x80;
    /// Mode: four times the low half of an octet, an IP header's length.
    BPF_MSH = 0xa0;
    /// Operation: add.
    BPF_ADD = 0x00;
    /// Operation: subtract.
    BPF_SUB = 0x10;
    /// Operation: multiply.
    BPF_MUL = 0x20;
    /// Operation: divide.
    BPF_DIV = 0x30;
    /// Operation: or.
    BPF_OR = 0x40;
    /// Operation: and.
    BPF_AND = 0x50;
    /// Operation: shift left.
    BPF_LSH = 0x60;
    /// Operation: shift right.
    BPF_RSH = 0x70;
    /// Operation: negate.
    BPF_NEG = 0x80;
    /// Operation: remainder.
    BPF_MOD = 0x90;
    /// Operation: exclusive or.
    BPF_XOR = 0xa0;
    /// Jump: always, by the constant.
    BPF_JA = 0x00;
    /// Jump: A equals.
    BPF_JEQ = 0x10;
    /// Jump: A is greater.
    BPF_JGT = 0x20;
    /// Jump: A is greater or equal.
    BPF_JGE = 0x30;
    /// Jump: A has one of the bits.
    BPF_JSET = 0x40;
    /// Operand: the constant.
    BPF_K = 0x00;
    /// Operand: X.
    BPF_X = 0x08;
    /// Operand of an end: A.
    BPF_A = 0x10;
    /// A goes to X.
    BPF_TAX = 0x00;
    /// X goes to A.
    BPF_TXA = 0x80;
}

/// Instructions of a program at most.
pub const BPF_MAXINSNS: usize = 4096;
/// Words of the scratch memory.
pub const BPF_MEMWORDS: usize = 16;

consts! { i32:
    /// Offsets from here up ask about the packet, not for its octets.
    SKF_AD_OFF = -0x1000;
    /// Its protocol, as its link type says.
    SKF_AD_PROTOCOL = 0;
    /// Whom it is for, `PACKET_*`.
    SKF_AD_PKTTYPE = 4;
    /// The device's index.
    SKF_AD_IFINDEX = 8;
    /// An attribute of netlink.
    SKF_AD_NLATTR = 12;
    /// The same, nested.
    SKF_AD_NLATTR_NEST = 16;
    /// Its mark.
    SKF_AD_MARK = 20;
    /// The device's queue.
    SKF_AD_QUEUE = 24;
    /// The device's type.
    SKF_AD_HATYPE = 28;
    /// Its flow's hash.
    SKF_AD_RXHASH = 32;
    /// The CPU.
    SKF_AD_CPU = 36;
    /// A = A xor X.
    SKF_AD_ALU_XOR_X = 40;
    /// Its VLAN's tag.
    SKF_AD_VLAN_TAG = 44;
    /// Whether it has one.
    SKF_AD_VLAN_TAG_PRESENT = 48;
    /// Where its payload begins.
    SKF_AD_PAY_OFFSET = 52;
    /// A random word.
    SKF_AD_RANDOM = 56;
    /// Its VLAN's protocol.
    SKF_AD_VLAN_TPID = 60;
    /// The first that is not known.
    SKF_AD_MAX = 64;
    /// Offsets from here up are from the network header.
    SKF_NET_OFF = -0x10_0000;
    /// Offsets from here up are from the link header.
    SKF_LL_OFF = -0x20_0000;
}
