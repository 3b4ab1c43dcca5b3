//! What the device's parser finds in a frame.

/// Network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum L3 {
    /// None that the device knows, or a broken one.
    None,
    /// IPv4 with a whole header of this many bytes.
    V4 { header: usize },
    /// IPv6 without extension headers.
    V6,
    /// IPv6 with extension headers, not looked into.
    V6Ext,
}

/// Transport header, whole as far as the device needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum L4 {
    None,
    Tcp,
    Udp,
}

/// Where a frame's headers are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Headers {
    pub(super) l3: L3,
    pub(super) l3_at: usize,
    pub(super) l4: L4,
    pub(super) l4_at: usize,
    /// End of the IP packet: what follows is padding.
    pub(super) end: usize,
}

/// Reads 16 bits, big-endian.
pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([pair[0], pair[1]]))
}

/// The VLAN tag of a frame, if it carries one of type `vet`.
pub(super) fn vlan_tag(frame: &[u8], vet: u16) -> Option<u16> {
    (be16(frame, 12)? == vet).then(|| be16(frame, 14)).flatten()
}

/// Finds the headers of a frame; a VLAN tag, `tag`, precedes the ether type.
pub(super) fn headers(frame: &[u8], tag: Option<u16>) -> Headers {
    let type_at = if tag.is_some() { 16 } else { 12 };
    let l3_at = type_at + 2;
    let mut h = Headers { l3: L3::None, l3_at, l4: L4::None, l4_at: 0, end: 0 };
    match be16(frame, type_at) {
        Some(0x0800) => ipv4(frame, &mut h),
        Some(0x86DD) => ipv6(frame, &mut h),
        _ => {}
    }
    h
}

fn ipv4(frame: &[u8], h: &mut Headers) {
    let ip = frame.get(h.l3_at..).unwrap_or_default();
    if ip.len() < 20 || ip[0] >> 4 != 4 {
        return;
    }
    let header = usize::from(ip[0] & 15) * 4;
    let total = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    if header < 20 || header > ip.len() {
        return;
    }
    h.l3 = L3::V4 { header };
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3FFF != 0;
    if total < header || total > ip.len() || fragment {
        return;
    }
    h.end = h.l3_at + total;
    transport(ip[9], h.l3_at + header, h);
}

fn ipv6(frame: &[u8], h: &mut Headers) {
    let ip = frame.get(h.l3_at..).unwrap_or_default();
    if ip.len() < 40 || ip[0] >> 4 != 6 {
        return;
    }
    h.l3 = if matches!(ip[6], 0 | 43 | 44 | 51 | 60 | 135) { L3::V6Ext } else { L3::V6 };
    let payload = usize::from(u16::from_be_bytes([ip[4], ip[5]]));
    if h.l3 == L3::V6 && payload + 40 <= ip.len() {
        h.end = h.l3_at + 40 + payload;
        transport(ip[6], h.l3_at + 40, h);
    }
}

fn transport(protocol: u8, at: usize, h: &mut Headers) {
    let room = h.end.saturating_sub(at);
    h.l4_at = at;
    h.l4 = match protocol {
        6 if room >= 20 => L4::Tcp,
        17 if room >= 8 => L4::Udp,
        _ => L4::None,
    };
}
