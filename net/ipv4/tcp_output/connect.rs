//! SYN, FIN and RST.
//!
//! linux: net/ipv4/tcp_output.c (`tcp_connect`, `tcp_send_fin`, `tcp_send_active_reset`).

use super::options::MAX_TCP_OPTION_SPACE;
use super::transmit::transmit_bare;
use super::{
    __tcp_push_pending_frames, Burst, SEGMENT_OVERHEAD, cb, cb_mut, ipv4_default_advmss, path_mtu,
    tcp_current_mss, tcp_full_space, tcp_mss_clamp, tcp_mtup_init, tcp_select_initial_window,
    tcp_sync_mss, tcp_transmit_skb, tcp_wmem_free_skb, tcp_write_queue_purge, watch_segment,
};
use crate::kernel::context::BhCx;
use crate::kernel::time::Ktime;
use crate::net::core::skbuff::{Cb, Skb, SkbFrag};
use crate::net::core::stream::sk_forced_mem_charge;
use crate::net::ipv4::inet_connection_sock::inet_csk_reset_xmit_timer;
use crate::net::ipv4::tcp::{
    IcskPending, Nonagle, SeqNr, TCP_TIMEOUT_INIT, TcpSk, TcpSkbCb, TcpSock, copy_from_iov,
};
use crate::net::ipv4::tcp_ecn::{tcp_ecn_send_syn, tcp_ecn_send_synack};
use crate::net::ipv4::tcp_fastopen::{FastopenReq, Tfo, tcp_fastopen_cookie_check};
use crate::net::ipv4::tcp_input::tcp_initialize_rcv_mss;
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::snmp::{LinuxMib, TcpMib};
use uapi::tcp::{TCPHDR_ACK, TCPHDR_FIN, TCPHDR_PSH, TCPHDR_RST, TCPHDR_SYN};

/// A segment of a queue that has no data.
///
/// linux: net/ipv4/tcp_output.c:tcp_init_nondata_skb
fn tcp_init_nondata_skb(cx: &mut BhCx<'_>, seq: SeqNr, flags: u8) -> Option<Skb> {
    let mut skb = cx.cpu.pool.alloc_handle()?;
    skb.truesize = SEGMENT_OVERHEAD as u32;
    skb.gso.segs = 1;
    let end_seq = seq + u32::from(flags & (TCPHDR_SYN | TCPHDR_FIN) != 0);
    skb.cb = Cb::Tcp(TcpSkbCb { seq, end_seq, tcp_flags: flags, ..TcpSkbCb::NONE });
    Some(skb)
}

/// Everything that a connection begins with.
///
/// linux: net/ipv4/tcp_output.c:tcp_connect_init
fn tcp_connect_init(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let sysctl = &cx.t.net.sysctl.tcp;
    sk.tp.tcp_header_len = if sysctl.timestamps != 0 { 32 } else { 20 };
    if sk.tp.rx_opt.user_mss != 0 {
        sk.tp.rx_opt.mss_clamp = sk.tp.rx_opt.user_mss;
    }
    sk.tp.max_window = 0;
    sk.tp.min_snd_mss = sysctl.min_snd_mss.min(0xffff) as u16;
    tcp_mtup_init(cx, sk);
    let mtu = path_mtu(sk.tp);
    tcp_sync_mss(sk, mtu);
    sk.tp.advmss = tcp_mss_clamp(sk.tp.rx_opt.user_mss, ipv4_default_advmss(mtu));
    tcp_initialize_rcv_mss(sk.tp);
    let space = tcp_full_space(sk);
    if sk.tp.rcvbuf_locked && (sk.tp.window_clamp == 0 || i64::from(sk.tp.window_clamp) > space) {
        sk.tp.window_clamp = space as u32;
    }
    let options = if sk.tp.rx_opt.ts_recent_stamp != 0 { sk.tp.tcp_header_len - 20 } else { 0 };
    let mss = sk.tp.advmss.saturating_sub(options.into());
    let first =
        tcp_select_initial_window(cx, (space, mss), sk.tp.window_clamp, sysctl.window_scaling);
    sk.tp.rcv_wnd = first.rcv_wnd;
    sk.tp.window_clamp = first.window_clamp;
    sk.tp.rx_opt.rcv_wscale = first.rcv_wscale;
    sk.tp.rcv_ssthresh = first.rcv_wnd;
    sk.st.err = None;
    sk.tp.sk_err_soft = None;
    tcp_write_queue_purge(cx, sk);
    let tp: &mut TcpSock = sk.tp;
    (tp.snd_wnd, tp.snd_wl1) = (0, SeqNr(0));
    let seq = tp.write_seq;
    (tp.snd_una, tp.snd_sml, tp.snd_up, tp.snd_nxt) = (seq, seq, seq, seq);
    tp.rcv_nxt = SeqNr(0);
    (tp.rcv_wup, tp.copied_seq) = (tp.rcv_nxt, tp.rcv_nxt);
    (tp.rto, tp.retransmits, tp.probes_out, tp.backoff) = (TCP_TIMEOUT_INIT, 0, 0, 0);
    tp.retrans_stamp = Ktime::ZERO;
}

/// Sends the SYN; `req`: with the option of fast open and, where a cookie is known, with data.
///
/// # Errors
/// ENOBUFS without memory.
///
/// linux: net/ipv4/tcp_output.c:tcp_connect
pub(crate) fn tcp_connect(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    req: Option<&mut FastopenReq<'_>>,
) -> Result<(), Errno> {
    walk!(cx, tcp_connect);
    tcp_connect_init(cx, sk);
    let seq = sk.tp.write_seq;
    let flags = TCPHDR_SYN | tcp_ecn_send_syn(cx, sk);
    let mut skb = tcp_init_nondata_skb(cx, seq, flags).ok_or(Errno::ENOBUFS)?;
    watch_segment(cx, sk, &mut skb);
    charge(cx, sk, &skb);
    sk.tp.retrans_stamp = cx.now();
    sk.tp.write_seq = cb(&skb).end_seq;
    sk.tp.packets_out += 1;
    let mut burst = Burst::new(cx);
    let data = req.and_then(|req| tcp_send_syn_data(cx, sk, &mut skb, (req, &mut burst)));
    if data.is_none() {
        // Without memory the timer sends it.
        let _sent = tcp_transmit_skb(cx, sk, &mut skb, (&mut burst, u32::MAX));
    }
    // SYNs that go again don't have it.
    if let Some(tfo) = &mut sk.tp.fastopen {
        let cookie = tfo.cookie.take();
        if let Some(cookie) = cookie {
            tfo.flags |= Tfo::SYN_FASTOPEN;
            tfo.flags.set(Tfo::SYN_FASTOPEN_EXP, cookie.exp);
        }
    }
    sk.tp.rtx_queue.push_back(skb);
    sk.tp.rtx_queue.extend(data);
    sk.tp.snd_nxt = sk.tp.write_seq;
    sk.tp.pushed_seq = sk.tp.write_seq;
    burst.finish(cx, sk);
    cx.count(TcpMib::ActiveOpens);
    let rto = sk.tp.rto.into();
    inet_csk_reset_xmit_timer(cx, sk, IcskPending::Retrans, rto);
    Ok(())
}

/// What the SYN of a fast open has: with a cookie, data, sent here as one packet with the SYN and kept as a segment
/// of its own, so that the SYN can go again without; without one, the request for it, and the SYN is the caller's to
/// send.
///
/// linux: net/ipv4/tcp_output.c:tcp_send_syn_data
fn tcp_send_syn_data(
    cx: &mut BhCx<'_>,
    sk: &mut TcpSk<'_>,
    syn: &mut Skb,
    (req, burst): (&mut FastopenReq<'_>, &mut Burst),
) -> Option<Skb> {
    walk!(cx, tcp_send_syn_data);
    sk.tp.rx_opt.mss_clamp = sk.tp.advmss as u16;
    let known = tcp_fastopen_cookie_check(cx, sk);
    walk!(cx, tcp_fastopen_cookie_check => known.data.into());
    sk.tp.tfo_mut().cookie = known.cookie;
    if let Some(mss) = known.mss {
        sk.tp.rx_opt.mss_clamp = tcp_mss_clamp(sk.tp.rx_opt.user_mss, mss.into()) as u16;
    }
    if !known.data {
        return None;
    }
    let mtu = sk.tp.pmtu_cookie;
    tcp_sync_mss(sk, mtu);
    let mss = ipv4_default_advmss(mtu).min(sk.tp.rx_opt.mss_clamp.into());
    let space = mss.saturating_sub(MAX_TCP_OPTION_SPACE as u32);
    let seq = cb(syn).seq;
    let data = tcp_init_nondata_skb(cx, seq, cb(syn).tcp_flags);
    let mut data = data.and_then(|data| fill(cx, data, (req, space as usize)))?;
    watch_segment(cx, sk, &mut data);
    charge(cx, sk, &data);
    let before = sk.tp.write_seq;
    sk.tp.write_seq = cb(&data).end_seq;
    sk.tp.packets_out += 1;
    let sent = tcp_transmit_skb(cx, sk, &mut data, (burst, u32::MAX));
    if sent.is_err() {
        (req.copied, sk.tp.write_seq) = (0, before);
        sk.tp.packets_out -= 1;
        tcp_wmem_free_skb(cx, sk, data);
        return None;
    }
    let own = cb_mut(&mut data);
    own.seq += 1;
    own.tcp_flags = TCPHDR_ACK | TCPHDR_PSH;
    syn.set_tstamp(data.tstamp());
    syn.tcp_tx = data.tcp_tx;
    sk.tp.tfo_mut().flags |= Tfo::SYN_DATA;
    cx.count(LinuxMib::TCPOrigDataSent);
    Some(data)
}

/// Lets a SYN have the first octets of a message, up to `space`; `None`: there are none, or there is no memory.
fn fill(
    cx: &mut BhCx<'_>,
    mut syn: Skb,
    (req, space): (&mut FastopenReq<'_>, usize),
) -> Option<Skb> {
    let all: usize = req.iov.iter().map(|part| part.len()).sum();
    let Some(piece) = first_octets(cx, req, space.min(all)) else {
        cx.free_skb(syn);
        return None;
    };
    let size = piece.size;
    syn.frags.push(piece);
    (syn.len, syn.data_len) = (size, size);
    syn.truesize += size;
    cb_mut(&mut syn).end_seq += size;
    req.copied = size as usize;
    Some(syn)
}

/// A copy of up to `len` octets from the front of a message.
fn first_octets(cx: &mut BhCx<'_>, req: &FastopenReq<'_>, len: usize) -> Option<SkbFrag> {
    if len == 0 {
        return None;
    }
    if req.ubuf.is_some() {
        let mut bytes = vec![0; len];
        copy_from_iov(req.iov, 0, &mut bytes);
        let page = cx.copied_page(&bytes, req.ubuf)?;
        return Some(SkbFrag { page, offset: 0, size: len as u32 });
    }
    let frag = cx.cpu.pool.page_frag_refill()?;
    let (page, offset) = (Arc::clone(frag.place().0), frag.place().1);
    let size = frag.append(len, |to| copy_from_iov(req.iov, 0, to));
    Some(SkbFrag { page, offset, size })
}

fn charge(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>, skb: &Skb) {
    let size = skb.truesize as usize;
    sk.tp.wmem_queued += size;
    sk_forced_mem_charge(cx, sk, size);
}

/// Both sides opened at once: the SYN goes again, with the acknowledgement of theirs.
///
/// linux: net/ipv4/tcp_output.c:tcp_send_synack
pub(crate) fn tcp_send_synack(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    let Some(mut skb) = sk.tp.rtx_queue.pop_front() else { return };
    if cb(&skb).tcp_flags & TCPHDR_SYN != 0 {
        cb_mut(&mut skb).tcp_flags |= TCPHDR_ACK;
        tcp_ecn_send_synack(sk.tp, cb_mut(&mut skb));
        let mut burst = Burst::new(cx);
        let _sent = tcp_transmit_skb(cx, sk, &mut skb, (&mut burst, u32::MAX));
        burst.finish(cx, sk);
    }
    sk.tp.rtx_queue.push_front(skb);
}

/// Sends the FIN: with the last data that waits, or alone.
///
/// linux: net/ipv4/tcp_output.c:tcp_send_fin
pub(crate) fn tcp_send_fin(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    walk!(cx, tcp_send_fin);
    match sk.tp.write_queue.back_mut() {
        Some(tail) => {
            let own = cb_mut(tail);
            own.tcp_flags |= TCPHDR_FIN;
            own.end_seq += 1;
        }
        None => {
            let seq = sk.tp.write_seq;
            let Some(mut skb) = tcp_init_nondata_skb(cx, seq, TCPHDR_ACK | TCPHDR_FIN) else {
                // The last segment under way takes it along when it goes again.
                if let Some(tail) = sk.tp.rtx_queue.back_mut() {
                    let own = cb_mut(tail);
                    own.tcp_flags |= TCPHDR_FIN;
                    own.end_seq += 1;
                    sk.tp.write_seq += 1;
                    sk.tp.snd_nxt += 1;
                }
                return;
            };
            watch_segment(cx, sk, &mut skb);
            charge(cx, sk, &skb);
            sk.tp.tcp_add_write_queue_tail(cx, skb);
        }
    }
    sk.tp.write_seq += 1;
    let mss = tcp_current_mss(sk);
    __tcp_push_pending_frames(cx, sk, mss, Nonagle::OFF);
}

/// Where a segment without data stands: at the end of what was sent, or of what the peer takes.
///
/// linux: net/ipv4/tcp_output.c:tcp_acceptable_seq
pub(super) fn tcp_acceptable_seq(tp: &TcpSock) -> SeqNr {
    let end = tp.tcp_wnd_end();
    let over = tp.snd_nxt.distance(end);
    if over <= 0 || (tp.rx_opt.wscale_ok && (over as u32) < 1 << tp.rx_opt.rcv_wscale) {
        tp.snd_nxt
    } else {
        end
    }
}

/// Ends the connection at once and tells the peer.
///
/// linux: net/ipv4/tcp_output.c:tcp_send_active_reset
pub(crate) fn tcp_send_active_reset(cx: &mut BhCx<'_>, sk: &mut TcpSk<'_>) {
    cx.count(TcpMib::OutRsts);
    let seq = tcp_acceptable_seq(sk.tp);
    if transmit_bare(cx, sk, (seq, TCPHDR_ACK | TCPHDR_RST)).is_err() {
        cx.count(LinuxMib::TCPAbortFailed);
    }
}
