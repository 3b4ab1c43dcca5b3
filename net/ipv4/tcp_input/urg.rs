//! Urgent data.
//!
//! linux: net/ipv4/tcp_input.c (`tcp_urg`, `tcp_check_urg`); RFC 6093.

use super::Segment;
use crate::kernel::context::BhCx;
use crate::net::core::skbuff::SkBuff;
use crate::net::core::stream::sk_mem_uncharge;
use crate::net::ipv4::tcp::{TcpSk, UrgData};
use crate::net::ipv4::tcp_output::cb;
use uapi::poll::POLLPRI;

/// What a segment says of urgent data; its data begins with its header.
///
/// linux: net/ipv4/tcp_input.c:tcp_urg
pub(super) fn tcp_urg(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, skb: &SkBuff, seg: &Segment) {
    if seg.th.has(uapi::tcp::TCPHDR_URG) {
        tcp_check_urg(cx, sk, seg);
    }
    if sk.tp.urg_data != UrgData::NotYet {
        return;
    }
    let at = sk.tp.urg_seq.distance(seg.cb.seq) - i32::from(seg.th.syn());
    let Ok(at) = usize::try_from(at) else { return };
    let mut octet = [0];
    if skb.skb_copy_bits(seg.th.doff() + at, &mut octet) == 1 {
        sk.tp.urg_data = UrgData::Valid(octet[0]);
        if !sk.tp.orphan {
            sk.st.sk_data_ready(cx);
        }
    }
}

/// A segment has an urgent pointer: it may be a new one.
///
/// linux: net/ipv4/tcp_input.c:tcp_check_urg
#[cold]
fn tcp_check_urg(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, seg: &Segment) {
    let mut ptr = u32::from(seg.th.urg_ptr.get());
    if ptr != 0 && !cx.t.net.sysctl.tcp.stdurg {
        ptr -= 1;
    }
    let ptr = seg.cb.seq + ptr;
    let tp = &mut *sk.tp;
    if tp.copied_seq.after(ptr) || ptr.before(tp.rcv_nxt) {
        return;
    }
    if tp.urg_data != UrgData::None && !ptr.after(tp.urg_seq) {
        return;
    }
    // The reader stands in front of the last one, which he may not have in the stream: it is passed over.
    if tp.urg_seq == tp.copied_seq
        && tp.urg_data != UrgData::None
        && !sk.st.opts.urginline
        && tp.copied_seq != tp.rcv_nxt
    {
        tp.copied_seq += 1;
        let copied = tp.copied_seq;
        if sk.st.receive_queue.skb_peek().is_some_and(|skb| !copied.before(cb(skb).end_seq))
            && let Some(skb) = sk.st.receive_queue.skb_dequeue()
        {
            let size = skb.truesize as usize;
            sk.st.rmem_alloc = sk.st.rmem_alloc.saturating_sub(size);
            sk_mem_uncharge(cx, sk, size);
            walk!(cx, skb, consume_skb);
            cx.free_skb(skb);
        }
    }
    sk.tp.urg_data = UrgData::NotYet;
    sk.tp.urg_seq = ptr;
    if !sk.tp.orphan {
        sk.st.wake_up_all(cx, POLLPRI as u32);
    }
}
