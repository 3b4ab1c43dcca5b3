//! What the peer reports by SACK.
//!
//! linux: net/ipv4/tcp_input.c (`tcp_sacktag_write_queue`); RFC 2018, RFC 2883, RFC 6675.
//! Blocks come from anybody who can make segments: they are bounded, checked against what was sent, and what
//! was worked off before is passed over, so that the work follows what is new in them.

use super::{AckFlags, TcpOptions};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::ipv4::tcp::{CaState, SackBlock, Sacked, SeqNr, TcpSk, TcpSock};
use crate::net::ipv4::tcp_cong::RateSample;
use crate::net::ipv4::tcp_output::{cb, cb_mut, tcp_fragment_at, tcp_skb_mss, tcp_skb_pcount};
use crate::net::ipv4::tcp_rate::tcp_rate_skb_delivered;
use crate::net::ipv4::tcp_recovery::tcp_rack_advance;
use uapi::snmp::LinuxMib;

/// What the blocks of an acknowledgement showed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SackState {
    /// When the acknowledgement came.
    pub now: Ktime,
    pub flag: AckFlags,
    /// The lowest segment that arrived though later ones had.
    pub reord: Option<SeqNr>,
    /// When the oldest and the latest of those reported now were sent.
    pub first_sackt: Option<Ktime>,
    pub last_sackt: Option<Ktime>,
    /// Segments delivered by them.
    pub delivered: u32,
    /// The rate that they show.
    pub rate: RateSample,
}

/// The place of the first segment that ends behind `seq`.
pub(crate) fn rtx_position(tp: &TcpSock, seq: SeqNr) -> usize {
    tp.rtx_queue.partition_point(|skb| !cb(skb).end_seq.after(seq))
}

/// Behind the highest octet known to have arrived.
///
/// linux: include/net/tcp.h:tcp_highest_sack_seq
pub(super) fn tcp_highest_sack_seq(tp: &TcpSock) -> SeqNr {
    if tp.sacked_out == 0 { tp.snd_una } else { tp.highest_sack }
}

/// A block lies in what was sent.
///
/// linux: net/ipv4/tcp_input.c:tcp_is_sackblock_valid
fn tcp_is_sackblock_valid(tp: &TcpSock, block: SackBlock, dsack: bool) -> bool {
    let SackBlock { start, end } = block;
    if end.after(tp.snd_nxt) || !start.before(end) || !start.before(tp.snd_nxt) {
        return false;
    }
    if start.after(tp.snd_una) {
        return true;
    }
    let Some(marker) = tp.undo_marker.filter(|_| dsack) else { return false };
    // What came twice is acknowledged, or it is no duplicate.
    if end.after(tp.snd_una) {
        return false;
    }
    if !start.before(marker) {
        return true;
    }
    end.after(marker) && !start.before(end - tp.max_window)
}

/// The first block says what came twice (RFC 2883).
///
/// linux: net/ipv4/tcp_input.c:tcp_check_dsack
fn tcp_check_dsack(
    cx: &mut BhCx<'_>,
    tp: &mut TcpSock,
    options: &TcpOptions,
    (ack, prior_una): (SeqNr, SeqNr),
    state: &mut SackState,
) -> bool {
    let first = options.sacks[0];
    if first.start.before(ack) {
        cx.count(LinuxMib::TCPDSACKRecv);
    } else if options.num_sacks > 1
        && !first.end.after(options.sacks[1].end)
        && !first.start.before(options.sacks[1].start)
    {
        cx.count(LinuxMib::TCPDSACKOfoRecv);
    } else {
        return false;
    }
    let Some(segs) = tcp_dsack_seen(tp, first, state) else {
        cx.count(LinuxMib::TCPDSACKIgnoredDubious);
        return false;
    };
    cx.cpu.mib.add(LinuxMib::TCPDSACKRecvSegs.into(), segs.into());
    walk!(cx, tcp_check_dsack => segs.into());
    // It tells of octets that are acknowledged and forgotten: they can only be counted.
    if let Some(marker) = tp.undo_marker
        && tp.undo_retrans > 0
        && !first.end.after(prior_una)
        && first.end.after(marker)
    {
        tp.undo_retrans = (tp.undo_retrans - segs as i32).max(0);
    }
    true
}

/// Something arrived twice: so many segments. `None`: it can't be what was sent again.
///
/// linux: net/ipv4/tcp_input.c:tcp_dsack_seen
fn tcp_dsack_seen(tp: &mut TcpSock, block: SackBlock, state: &mut SackState) -> Option<u32> {
    if !block.start.before(block.end) || block.end - block.start > tp.max_window {
        return None;
    }
    let len = block.end - block.start;
    let segs = len.div_ceil(tp.mss_cache.max(1));
    if segs == 1 && tp.tlp_high_seq == Some(block.end) {
        state.flag |= AckFlags::DSACK_TLP;
    }
    tp.stats.dsack_dups = tp.stats.dsack_dups.wrapping_add(segs);
    // The way has made the duplicate.
    if tp.stats.dsack_dups > tp.stats.total_retrans {
        return None;
    }
    if tp.stats.reord_seen != 0 && !state.flag.contains(AckFlags::DSACK_TLP) {
        tp.rack.dsack_seen = true;
    }
    state.flag |= AckFlags::DSACKING_ACK;
    state.delivered += segs;
    Some(segs)
}

/// Works off the blocks of an acknowledgement of `ack`.
///
/// linux: net/ipv4/tcp_input.c:tcp_sacktag_write_queue
pub(super) fn tcp_sacktag_write_queue(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    options: &TcpOptions,
    (ack, prior_una): (SeqNr, SeqNr),
    state: &mut SackState,
) {
    walk!(cx, tcp_sacktag_write_queue => options.num_sacks.into());
    let dsack = tcp_check_dsack(cx, sk.tp, options, (ack, prior_una), state);
    if ack.before(prior_una - sk.tp.max_window) || sk.tp.packets_out == 0 {
        return;
    }
    let fack = tcp_highest_sack_seq(sk.tp);
    let mut blocks = [SackBlock::default(); 4];
    let mut used = 0;
    for (at, block) in options.sacks[..usize::from(options.num_sacks)].iter().enumerate() {
        let dup = dsack && at == 0;
        if !tcp_is_sackblock_valid(sk.tp, *block, dup) {
            cx.count(match (dup, sk.tp.undo_marker) {
                (true, None) => LinuxMib::TCPDSACKIgnoredNoUndo,
                (true, Some(_)) => LinuxMib::TCPDSACKIgnoredOld,
                (false, _) => LinuxMib::TCPSACKDiscard,
            });
            continue;
        }
        if dup {
            walk_block(cx, sk, (*block, *block), state, true);
            continue;
        }
        blocks[used] = *block;
        used += 1;
    }
    let (una, blocks) = (sk.tp.snd_una, &mut blocks[..used]);
    blocks.sort_by_key(|block| block.start - una);
    for block in blocks.iter() {
        new_parts(sk.tp, *block).into_iter().flatten().for_each(|part| {
            walk_block(cx, sk, (part, *block), state, false);
        });
    }
    sk.tp.recv_sack_cache = [SackBlock::default(); 4];
    sk.tp.recv_sack_cache[..used].copy_from_slice(blocks);
    if let Some(reord) = state.reord
        && reord.before(fack)
        && (sk.tp.ca_state != CaState::Loss || sk.tp.undo_marker.is_some())
    {
        tcp_check_sack_reordering(cx, sk, reord, LinuxMib::TCPSACKReorder);
    }
}

/// What of a block was not in the last acknowledgement's.
fn new_parts(tp: &TcpSock, block: SackBlock) -> [Option<SackBlock>; 2] {
    let known = tp.recv_sack_cache.iter().find(|known| {
        known.start != known.end && known.start.before(block.end) && block.start.before(known.end)
    });
    let Some(known) = known else { return [Some(block), None] };
    let front = SackBlock { start: block.start, end: known.start };
    let back = SackBlock { start: known.end, end: block.end };
    [front, back].map(|part| part.start.before(part.end).then_some(part))
}

/// Every segment of a part that lies in the block, whole: what of it was known before may have ended in the
/// middle of one.
///
/// linux: net/ipv4/tcp_input.c:tcp_sacktag_walk
fn walk_block(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    (part, block): (SackBlock, SackBlock),
    state: &mut SackState,
    dup: bool,
) {
    let mut at = rtx_position(sk.tp, part.start);
    while let Some(skb) = sk.tp.rtx_queue.get(at) {
        let own = cb(skb);
        if !own.seq.before(part.end) {
            break;
        }
        let whole = !own.seq.before(block.start) && !own.end_seq.after(block.end);
        if !whole && tcp_skb_pcount(skb) > 1 && !own.sacked.contains(Sacked::ACKED) {
            split_at_block(cx, sk, at, block);
        }
        let Some(skb) = sk.tp.rtx_queue.get(at) else { break };
        let own = cb(skb);
        if !own.seq.before(block.start) && !own.end_seq.after(block.end) {
            tcp_sacktag_one(sk.tp, at, state, dup);
        }
        at += 1;
    }
}

/// Cuts a packet of several segments where a block begins or ends, at whole segments.
///
/// linux: net/ipv4/tcp_input.c:tcp_match_skb_to_sack
fn split_at_block(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, at: usize, block: SackBlock) {
    let Some(skb) = sk.tp.rtx_queue.get(at) else { return };
    let (own, mss) = (cb(skb), tcp_skb_mss(skb));
    let inside_from = if own.seq.before(block.start) { block.start - own.seq } else { 0 };
    let cut = if inside_from != 0 {
        // What the block does not cover stays whole in front.
        inside_from.div_ceil(mss) * mss
    } else {
        let covered = block.end - own.seq;
        covered - covered % mss
    };
    let _cut = tcp_fragment_at(cx, sk, at, (cut, mss));
}

/// A segment has arrived.
///
/// linux: net/ipv4/tcp_input.c:tcp_sacktag_one
pub(super) fn tcp_sacktag_one(tp: &mut TcpSock, at: usize, state: &mut SackState, dup: bool) {
    let Some(skb) = tp.rtx_queue.get(at) else { return };
    let (own, segs, sent) = (*cb(skb), tcp_skb_pcount(skb), skb.tstamp());
    let mut sacked = own.sacked;
    let lower = |reord: &mut Option<SeqNr>| {
        if reord.is_none_or(|known| own.seq.before(known)) {
            *reord = Some(own.seq);
        }
    };
    if dup && sacked.contains(Sacked::RETRANS) {
        if tp.undo_retrans > 0 && tp.undo_marker.is_some_and(|marker| own.end_seq.after(marker)) {
            tp.undo_retrans = (tp.undo_retrans - segs as i32).max(0);
        }
        if sacked.contains(Sacked::ACKED) {
            lower(&mut state.reord);
        }
    }
    if !own.end_seq.after(tp.snd_una) {
        return;
    }
    if !sacked.contains(Sacked::ACKED) {
        tcp_rack_advance(tp, sacked, own.end_seq, (sent, state.now));
        if sacked.contains(Sacked::RETRANS) {
            // One that was not lost after all: its copy is still under way.
            if sacked.contains(Sacked::LOST) {
                sacked -= Sacked::LOST | Sacked::RETRANS;
                tp.lost_out = tp.lost_out.saturating_sub(segs);
                tp.retrans_out = tp.retrans_out.saturating_sub(segs);
            }
        } else {
            if !sacked.contains(Sacked::EVER_RETRANS) {
                if own.seq.before(tcp_highest_sack_seq(tp)) {
                    lower(&mut state.reord);
                }
                if !own.end_seq.after(tp.high_seq) {
                    state.flag |= AckFlags::ORIG_SACK_ACKED;
                }
                state.first_sackt.get_or_insert(sent);
                state.last_sackt = Some(sent);
            }
            if sacked.contains(Sacked::LOST) {
                sacked -= Sacked::LOST;
                tp.lost_out = tp.lost_out.saturating_sub(segs);
            }
        }
        sacked |= Sacked::ACKED;
        state.flag |= AckFlags::DATA_SACKED;
        let end = own.end_seq;
        tp.highest_sack = if tp.sacked_out == 0 { end } else { tp.highest_sack.max(end) };
        tp.sacked_out += segs;
        state.delivered += segs;
    }
    if dup && sacked.contains(Sacked::RETRANS) {
        sacked -= Sacked::RETRANS;
        tp.retrans_out = tp.retrans_out.saturating_sub(segs);
    }
    let newly = sacked.contains(Sacked::ACKED) && !own.sacked.contains(Sacked::ACKED);
    let Some(skb) = tp.rtx_queue.get_mut(at) else { return };
    cb_mut(skb).sacked = sacked;
    if newly {
        let mut tx = skb.tcp_tx;
        tcp_rate_skb_delivered(tp, (own.end_seq, sacked), (&mut tx, sent), &mut state.rate);
        if let Some(skb) = tp.rtx_queue.get_mut(at) {
            skb.tcp_tx = tx;
        }
    }
}

/// The way changes the order of segments: `low` came behind the highest that arrived.
///
/// linux: net/ipv4/tcp_input.c:tcp_check_sack_reordering
pub(super) fn tcp_check_sack_reordering(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    low: SeqNr,
    mib: LinuxMib,
) {
    let fack = tcp_highest_sack_seq(sk.tp);
    if !low.before(fack) {
        return;
    }
    let (metric, mss) = (fack - low, sk.tp.mss_cache);
    if mss != 0 && metric > sk.tp.reordering.saturating_mul(mss) {
        let most = cx.t.net.sysctl.tcp.max_reordering;
        sk.tp.reordering = metric.div_ceil(mss).min(most);
    }
    sk.tp.stats.reord_seen = sk.tp.stats.reord_seen.wrapping_add(1);
    cx.count(mib);
}
