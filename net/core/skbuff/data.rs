//! Reading and moving a packet's data: push, pull, put, trim, copy, sum.

use super::{IpSummed, SkBuff, Skb, SkbFlags};
use klib::checksum::{csum_block_add, csum_fold, csum_partial};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Parts of a packet's data on their way into one piece.
struct Copy<'a> {
    /// Octets to pass over first.
    skip: usize,
    to: &'a mut [u8],
    done: usize,
}

impl Copy<'_> {
    #[inline]
    fn part(&mut self, part: &[u8]) {
        let Some(part) = part.get(self.skip..) else {
            self.skip -= part.len();
            return;
        };
        self.skip = 0;
        let room = &mut self.to[self.done..];
        let len = part.len().min(room.len());
        room[..len].copy_from_slice(&part[..len]);
        self.done += len;
    }

    #[inline]
    fn own_parts(&mut self, skb: &SkBuff) {
        self.part(skb.data());
        for frag in &skb.frags {
            self.part(frag.bytes());
        }
    }
}

impl SkBuff {
    /// Bytes in all.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "a packet of no bytes is no special case")]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Bytes of the linear part.
    #[inline]
    pub fn headlen(&self) -> usize {
        self.head.len()
    }

    /// Bytes free in front of the data.
    #[inline]
    pub fn headroom(&self) -> usize {
        self.head.data_offset()
    }

    /// Bytes free behind the linear data; none in a packet that has fragments, or whose data is a clone's.
    #[inline]
    pub fn tailroom(&self) -> usize {
        if self.data_len != 0 || self.head.is_shared() { 0 } else { self.head.tailroom() }
    }

    /// The linear data.
    #[inline]
    pub fn data(&self) -> &[u8] {
        self.head.linear()
    }

    /// The linear data, writable: `None` in a clone.
    #[inline]
    pub fn data_mut(&mut self) -> Option<&mut [u8]> {
        self.head.linear_mut()
    }

    /// Makes room of `len` bytes in front of the still empty data.
    ///
    /// # Panics
    /// In debug builds, when the packet has data.
    ///
    /// linux: include/linux/skbuff.h:skb_reserve
    #[inline]
    pub fn skb_reserve(&mut self, len: usize) {
        debug_assert_eq!(self.len, 0, "reserved in a packet with data");
        self.head.reserve(len);
    }

    /// Makes room of `front` bytes and lends `len` behind it, as the data of a new packet: `skb_reserve`
    /// and `skb_put` in one. `None` when there is not so much room.
    ///
    /// # Panics
    /// In debug builds, when the packet is not new.
    #[inline]
    #[must_use]
    pub(crate) fn skb_open(&mut self, front: usize, len: usize) -> Option<&mut [u8]> {
        let opened = self.head.open(front, len)?;
        self.len = len as u32;
        Some(opened)
    }

    /// Adds `len` bytes in front and lends them; `None` when the head room is too small or the
    /// data is a clone's.
    ///
    /// linux: net/core/skbuff.c:skb_push
    #[inline]
    #[must_use]
    pub fn skb_push(&mut self, len: usize) -> Option<&mut [u8]> {
        let pushed = self.head.push(len)?;
        self.len += len as u32;
        Some(pushed)
    }

    /// Takes `len` bytes off the front of the linear data; false when there are fewer.
    ///
    /// linux: net/core/skbuff.c:skb_pull
    #[inline]
    #[must_use]
    pub fn skb_pull(&mut self, len: usize) -> bool {
        let pulled = self.head.pull(len);
        if pulled {
            self.len -= len as u32;
        }
        pulled
    }

    /// Takes back what was pulled off the front, `len` bytes of it: they are read, in a clone too. False when the
    /// head has not so many in front of the data.
    ///
    /// linux: include/linux/skbuff.h:__skb_push
    #[must_use]
    pub(crate) fn skb_unpull(&mut self, len: usize) -> bool {
        let there = self.head.unpull(len);
        if there {
            self.len += len as u32;
        }
        there
    }

    /// Takes off what lies in front of the transport header, and the first `more` bytes of that; false
    /// when it is not there.
    #[inline]
    #[must_use]
    pub fn pull_to_transport(&mut self, more: usize) -> bool {
        match usize::from(self.transport_header).checked_sub(self.headroom()) {
            Some(front) => self.skb_pull(front + more),
            None => false,
        }
    }

    /// Adds `len` bytes behind the linear data and lends them; `None` when there is no room or the
    /// data is a clone's.
    ///
    /// linux: net/core/skbuff.c:skb_put
    #[inline]
    #[must_use]
    pub fn skb_put(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.data_len != 0 {
            return None;
        }
        let put = self.head.put(len)?;
        self.len += len as u32;
        Some(put)
    }

    /// Cuts the packet to `len` bytes, if it is longer.
    ///
    /// linux: net/core/skbuff.c:pskb_trim
    #[inline]
    pub fn pskb_trim(&mut self, len: usize) {
        if len < self.len() {
            self.trim(len);
        }
    }

    fn trim(&mut self, len: usize) {
        if self.ip_summed == IpSummed::Complete {
            // The sum covers what is cut.
            self.ip_summed = IpSummed::None;
        }
        let linear = self.headlen();
        if len <= linear {
            self.clear_frags();
            self.head.truncate(len);
        } else {
            let mut left = (len - linear) as u32;
            self.data_len = left;
            self.frags.retain_mut(|frag| {
                frag.size = frag.size.min(left);
                left -= frag.size;
                frag.size != 0
            });
            if let Some(merged) = &mut self.frag_list {
                merged.packets.retain_mut(|skb| {
                    skb.pskb_trim(left as usize);
                    left -= skb.len;
                    skb.len != 0
                });
            }
        }
        self.len = len as u32;
    }

    /// The first `len` bytes are linear, pulled from the fragments if need be; false when the
    /// packet is shorter, or the head has no room for them.
    ///
    /// linux: include/linux/skbuff.h:pskb_may_pull
    #[inline]
    #[must_use]
    pub fn pskb_may_pull(&mut self, len: usize) -> bool {
        len <= self.headlen() || self.pull_tail(len)
    }

    /// What lies `at` bytes behind the data's start, pulled from the fragments if need be; `None` when
    /// the packet is shorter, or the head has no room for it. [`SkBuff::pskb_may_pull`] and a look in one.
    #[inline(always)]
    pub(crate) fn header_at<const N: usize>(&mut self, at: usize) -> Option<[u8; N]> {
        match self.data().get(at..at.checked_add(N)?) {
            Some(header) => header.try_into().ok(),
            None => self.pull_header(at),
        }
    }

    #[cold]
    #[inline(never)]
    fn pull_header<const N: usize>(&mut self, at: usize) -> Option<[u8; N]> {
        if !self.pskb_may_pull(at + N) {
            return None;
        }
        self.data().get(at..at + N)?.try_into().ok()
    }

    /// linux: net/core/skbuff.c:__pskb_pull_tail
    #[cold]
    fn pull_tail(&mut self, len: usize) -> bool {
        let missing = len - self.headlen();
        if missing > self.data_len as usize {
            return false;
        }
        let Some(mut room) = self.head.put(missing) else { return false };
        for frag in &mut self.frags {
            let take = room.len().min(frag.size as usize);
            let (here, rest) = room.split_at_mut(take);
            here.copy_from_slice(frag.bytes().get(..take).unwrap_or(&[]));
            frag.offset += take as u32;
            frag.size -= take as u32;
            room = rest;
        }
        self.frags.retain(|frag| frag.size != 0);
        for skb in self.frag_list.iter_mut().flat_map(|merged| &mut merged.packets) {
            let take = room.len().min(skb.headlen());
            let (here, rest) = room.split_at_mut(take);
            here.copy_from_slice(&skb.data()[..take]);
            let _taken = skb.skb_pull(take);
            room = rest;
        }
        // What was merged is linear, or the caller asks for more than any header has.
        debug_assert!(room.is_empty(), "so much was counted");
        self.data_len -= missing as u32;
        true
    }

    /// Lets go of the data that is not linear; `len` still counts it.
    pub(super) fn clear_frags(&mut self) {
        if self.data_len != 0 {
            self.frags.clear();
            self.frag_list = None;
            self.data_len = 0;
        }
    }

    /// Appends a piece of a shared page; an empty one is none.
    ///
    /// linux: include/linux/skbuff.h:skb_add_rx_frag
    pub fn add_frag(&mut self, frag: super::SkbFrag) {
        if frag.size == 0 {
            return;
        }
        self.len += frag.size;
        self.data_len += frag.size;
        self.truesize += frag.size;
        self.frags.push(frag);
    }

    /// The parts of the data, in order: the linear one, then the fragments, then those of what was merged.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        let merged = self.frag_list.iter().flat_map(|merged| merged.packets.iter());
        self.own_parts().chain(merged.flat_map(|skb| skb.own_parts()))
    }

    fn own_parts(&self) -> impl Iterator<Item = &[u8]> {
        std::iter::once(self.data()).chain(self.frags.iter().map(super::SkbFrag::bytes))
    }

    /// Copies the data from `offset` on into `to`; how many bytes there were.
    ///
    /// linux: net/core/skbuff.c:skb_copy_bits
    #[inline]
    pub fn skb_copy_bits(&self, offset: usize, to: &mut [u8]) -> usize {
        if self.data_len != 0 {
            return self.copy_parts(offset, to);
        }
        let from = self.data().get(offset..).unwrap_or(&[]);
        let len = from.len().min(to.len());
        to[..len].copy_from_slice(&from[..len]);
        len
    }

    /// The same from data in several parts.
    // Not a part of its caller, whose registers its loops would take.
    #[inline(never)]
    fn copy_parts(&self, offset: usize, to: &mut [u8]) -> usize {
        let mut copy = Copy { skip: offset, to, done: 0 };
        copy.own_parts(self);
        for skb in self.frag_list.iter().flat_map(|merged| merged.iter()) {
            if copy.done == copy.to.len() {
                break;
            }
            copy.own_parts(skb);
        }
        copy.done
    }

    /// The sum over the data from `offset` on, added to `sum`.
    ///
    /// linux: net/core/skbuff.c:skb_checksum
    pub fn skb_checksum(&self, offset: usize, sum: u32) -> u32 {
        if self.data_len == 0 {
            return csum_partial(self.data().get(offset..).unwrap_or(&[]), sum);
        }
        let (mut skip, mut at, mut total) = (offset, 0, sum);
        for part in self.parts() {
            let cut = skip.min(part.len());
            skip -= cut;
            let part = &part[cut..];
            total = csum_block_add(total, csum_partial(part, 0), at);
            at += part.len();
        }
        total
    }

    /// Fills in a `Partial` checksum in software. False when the offsets lie outside the packet
    /// or its data is a clone's.
    ///
    /// linux: net/core/dev.c:skb_checksum_help
    #[must_use]
    pub fn skb_checksum_help(&mut self) -> bool {
        let Some(start) = usize::from(self.csum_start).checked_sub(self.headroom()) else {
            return false;
        };
        let at = start + usize::from(self.csum_offset);
        if at + 2 > self.headlen() {
            return false;
        }
        let sum = match csum_fold(self.skb_checksum(start, 0)) {
            // RFC 768: a computed zero is sent as all ones. No other protocol minds.
            0 => 0xffff,
            sum => sum,
        };
        let Some(data) = self.data_mut() else { return false };
        data[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        self.ip_summed = IpSummed::None;
        true
    }

    /// The link-layer header begins where the data does now.
    #[inline]
    pub fn reset_mac_header(&mut self) {
        self.mac_header = self.headroom() as u16;
    }

    /// The network header begins where the data does now.
    #[inline]
    pub fn reset_network_header(&mut self) {
        self.network_header = self.headroom() as u16;
    }

    /// The transport header begins where the data does now.
    #[inline]
    pub fn reset_transport_header(&mut self) {
        self.transport_header = self.headroom() as u16;
    }

    /// The transport header begins `offset` bytes behind the data's start.
    #[inline]
    pub(crate) fn set_transport_header(&mut self, offset: usize) {
        self.transport_header = self.headroom() as u16 + offset as u16;
    }

    /// From the data's start to the network header; negative once it was pulled.
    #[inline]
    pub fn network_offset(&self) -> isize {
        self.network_header as isize - self.headroom() as isize
    }

    /// From the data's start to the link-layer header; negative once it was pulled.
    #[inline]
    pub fn mac_offset(&self) -> isize {
        self.mac_header as isize - self.headroom() as isize
    }

    /// Octets at an offset from the data's start, those in headers that were pulled too.
    pub(crate) fn octets_at<const N: usize>(&self, at: isize) -> Option<[u8; N]> {
        let in_head = usize::try_from(self.headroom() as isize + at).ok()?;
        if let Some(octets) = self.head.linear_at(in_head).and_then(|rest| rest.first_chunk()) {
            return Some(*octets);
        }
        let mut octets = [0; N];
        let have = self.skb_copy_bits(usize::try_from(at).ok()?, &mut octets);
        (have == N).then_some(octets)
    }

    /// From the data's start to the transport header; negative once it was pulled.
    #[inline]
    pub fn transport_offset(&self) -> isize {
        self.transport_header as isize - self.headroom() as isize
    }

    /// The header of type `T` at the data's front, if it is linear.
    #[inline]
    pub fn front<T: FromBytes + Immutable + KnownLayout + Unaligned>(&self) -> Option<&T> {
        T::ref_from_prefix(self.data()).ok().map(|(view, _)| view)
    }

    /// The same, writable; `None` in a clone.
    #[inline]
    pub fn front_mut<T>(&mut self) -> Option<&mut T>
    where
        T: FromBytes + IntoBytes + KnownLayout + Unaligned,
    {
        T::mut_from_prefix(self.data_mut()?).ok().map(|(view, _)| view)
    }

    /// What lies at `offset` of the head, up to the linear end.
    #[inline]
    fn at<T: FromBytes + Immutable + KnownLayout + Unaligned>(&self, offset: u16) -> Option<&T> {
        let bytes = self.head.linear_at(usize::from(offset))?;
        T::ref_from_prefix(bytes).ok().map(|(view, _)| view)
    }

    /// The link-layer header.
    #[inline]
    pub fn mac<T: FromBytes + Immutable + KnownLayout + Unaligned>(&self) -> Option<&T> {
        self.at(self.mac_header)
    }

    /// The network header.
    #[inline]
    pub fn network<T: FromBytes + Immutable + KnownLayout + Unaligned>(&self) -> Option<&T> {
        self.at(self.network_header)
    }

    /// The transport header.
    #[inline]
    pub fn transport<T: FromBytes + Immutable + KnownLayout + Unaligned>(&self) -> Option<&T> {
        self.at(self.transport_header)
    }

    /// The linear bytes from the network header on.
    #[inline]
    pub fn network_bytes(&self) -> &[u8] {
        self.head.linear_at(usize::from(self.network_header)).unwrap_or(&[])
    }

    /// The linear bytes from the link-layer header on.
    pub fn mac_bytes(&self) -> &[u8] {
        self.head.linear_at(usize::from(self.mac_header)).unwrap_or(&[])
    }

    /// Where summing starts, from the data's start, when the checksum is still to be filled in.
    pub fn csum_start_offset(&self) -> Option<u16> {
        self.csum_start.checked_sub(self.headroom() as u16)
    }

    pub(super) fn shift_headers(&mut self, by: i64) {
        let shift = |at: u16| (i64::from(at) + by).clamp(0, i64::from(u16::MAX)) as u16;
        self.mac_header = shift(self.mac_header);
        self.network_header = shift(self.network_header);
        self.transport_header = shift(self.transport_header);
        self.csum_start = shift(self.csum_start);
    }

    /// It has a route or data beside the linear part. One test of all, without a branch each.
    #[inline(always)]
    pub(super) fn has_more_than_bytes(&self) -> bool {
        self.dst.is_some() | (self.data_len != 0)
    }

    /// Nothing but a head of its own of `size` bytes: no owner, no route, no data elsewhere.
    #[inline(always)]
    pub(super) fn is_plain(&self, size: usize) -> bool {
        !(self.has_more_than_bytes() | !self.owner.is_none() | self.head.is_shared())
            && self.head.size() == size
    }

    /// Every field as in a new packet. The parts that own something were given back before.
    // Every field is named, so that a new one can't be forgotten; the fields are set in place, since
    // building a new packet and moving it here would write the memory twice.
    pub(super) fn reset(&mut self) {
        let Self {
            head,
            len,
            data_len,
            walk_id,
            mac_header,
            network_header,
            transport_header,
            protocol,
            pkt_type,
            ip_summed,
            l4_hash,
            dev,
            queue_mapping,
            csum_start,
            csum_offset,
            hash,
            priority,
            mark,
            truesize,
            gso,
            flags,
            owner: _,
            dst: _,
            cb,
            frags: _,
            frag_list: _,
            // Without meaning now that the fields which tell of them are as in a new packet.
            csum: _,
            tstamp: _,
            tcp_tx: _,
            home: _,
        } = self;
        head.clear();
        (*len, *data_len) = (0, 0);
        (*mac_header, *network_header, *transport_header, *protocol) = (0, 0, 0, 0);
        (*csum_start, *csum_offset, *queue_mapping) = (0, 0, 0);
        (*hash, *priority, *mark, *truesize) = (0, 0, 0, 0);
        (*walk_id, *flags, *gso) = Default::default();
        (*pkt_type, *ip_summed, *l4_hash, *dev, *cb) = Default::default();
    }

    /// Becomes a clone of `other`: the same data and description, no owner.
    pub(super) fn share(&mut self, other: &mut Skb) {
        *self = Self {
            head: other.head.share(),
            len: other.len,
            data_len: other.data_len,
            mac_header: other.mac_header,
            network_header: other.network_header,
            transport_header: other.transport_header,
            protocol: other.protocol,
            pkt_type: other.pkt_type,
            ip_summed: other.ip_summed,
            l4_hash: other.l4_hash,
            dev: other.dev,
            queue_mapping: other.queue_mapping,
            csum: other.csum,
            csum_start: other.csum_start,
            csum_offset: other.csum_offset,
            hash: other.hash,
            priority: other.priority,
            mark: other.mark,
            truesize: other.truesize,
            gso: other.gso,
            flags: other.flags & SkbFlags::STAMPED,
            tstamp: other.tstamp,
            dst: other.dst.clone(),
            cb: other.cb,
            frags: other.frags.clone(),
            frag_list: None,
            home: std::mem::take(&mut self.home),
            ..Self::default()
        };
    }
}
