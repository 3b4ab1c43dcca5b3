//! What is known of stations beside their names: their layer, whether they return before the walk
//! goes on, and what a newcomer should read there.

use stack::kernel::trace::events::Point;

/// Where a station stands. A step into a layer that is not yet open is a call into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Begins anew at this depth of a call or interrupt.
    Frame(usize),
    /// In a layer of the stack.
    Layer(&'static str),
    /// Does its work and returns: a side branch of the station before.
    Helper,
    /// Where the walk is already.
    Here,
}

/// The place of a station.
pub(super) fn place(point: Point) -> Place {
    if let Some(place) = special(point) {
        return place;
    }
    match point.file() {
        "net/socket.c" | "fs/select.c" | "fs/eventpoll.c" | "fs/read_write.c" => {
            Place::Layer("socket")
        }
        "net/ipv4/af_inet.c" => Place::Layer("family"),
        "net/ipv4/udp.c" => Place::Layer("udp"),
        "net/ipv4/icmp.c" => Place::Layer("icmp"),
        "net/ipv4/inet_connection_sock.c" => Place::Layer("tcp"),
        file if file.starts_with("net/ipv4/tcp") => Place::Layer("tcp"),
        "net/core/sock.c" | "include/net/sock.h" | "net/core/datagram.c" => Place::Layer("sock"),
        "net/ipv4/ip_input.c" | "net/ipv4/ip_output.c" | "net/ipv4/ip_forward.c" => {
            Place::Layer("ip")
        }
        "net/core/neighbour.c" | "net/ipv4/arp.c" => Place::Layer("neighbour"),
        "net/core/dev.c" | "net/sched/sch_generic.c" | "include/linux/netdevice.h" => {
            Place::Layer("device")
        }
        file if file.starts_with("drivers/") => Place::Layer("driver"),
        _ => Place::Here,
    }
}

/// Stations whose place is not their file's.
fn special(point: Point) -> Option<Place> {
    use Point as P;
    Some(match point {
        P::irq_enter | P::irq_exit | P::__do_softirq | P::run_ksoftirqd | P::wakeup_softirqd => {
            Place::Frame(0)
        }
        P::wire_interrupt | P::tun_interrupt | P::igb_msix_ring | P::igb_msix_other => {
            Place::Frame(1)
        }
        P::igb_intr | P::igb_intr_msi | P::net_rx_action | P::net_tx_action => Place::Frame(1),
        P::run_timer_softirq => Place::Frame(1),
        P::wire_poll | P::tun_poll | P::igb_poll | P::process_backlog => Place::Frame(2),
        P::igb_clean_tx_irq | P::igb_clean_rx_irq | P::igb_alloc_rx_buffers | P::napi_complete => {
            Place::Frame(3)
        }
        P::dst_neigh_output => Place::Layer("neighbour"),
        P::sockfd_lookup_light
        | P::ip_make_skb
        | P::ip_route_input_noref
        | P::ip_route_input_slow
        | P::ip_route_output_ports
        | P::ip_route_output_flow
        | P::__ip_route_output_key
        | P::__ipv4_neigh_lookup_noref
        | P::__neigh_create
        | P::netdev_pick_tx
        | P::netif_skb_features
        | P::dev_queue_xmit_nit
        | P::inet_gro_receive
        | P::udp4_gro_receive
        | P::__udp4_lib_lookup_skb
        | P::sk_stream_alloc_skb
        | P::tcp_v4_syn_recv_sock
        | P::tcp_time_wait
        | P::eth_type_trans
        | P::skb_clone
        | P::____napi_schedule
        | P::raise_softirq_irqoff
        | P::__raise_softirq_irqoff
        | P::igb_write_itr
        | P::igb_tx_csum
        | P::nf_hook_slow
        | P::arp_solicit => Place::Helper,
        _ => return None,
    })
}

/// A few words for whoever meets the station for the first time.
pub(super) fn gloss(point: Point) -> Option<&'static str> {
    use Point as P;
    Some(match point {
        P::sys_sendto => "the program sends",
        P::sys_recvfrom => "the program wants a datagram",
        P::sys_connect => "the program wants a connection",
        P::sys_accept4 => "the program takes a connection",
        P::sys_write => "the program writes",
        P::sys_read => "the program wants to read",
        P::tcp_v4_connect => "the way, and the first number",
        P::tcp_connect => "a SYN",
        P::tcp_conn_request => "a SYN came: a request, no socket",
        P::tcp_check_req => "the request's ACK came",
        P::tcp_v4_syn_recv_sock => "the request becomes a socket",
        P::tcp_sendmsg => "octets become segments",
        P::tcp_write_xmit => "as far as the windows reach",
        P::tcp_transmit_skb => "the header, before a copy leaves",
        P::tcp_rcv_established => "a connection's segment",
        P::tcp_rcv_state_process => "what it does to the state",
        P::tcp_queue_rcv => "into the socket's queue",
        P::tcp_recvmsg => "octets for the program",
        P::tcp_send_ack => "tells what has come",
        P::tcp_send_fin => "no more will come",
        P::tcp_time_wait => "a small socket waits for strays",
        P::wait_for_more_packets => "nothing there: it sleeps",
        P::skb_copy_datagram_iovec => "into the program's buffer",
        P::sock_queue_rcv_skb => "into the socket's queue",
        P::sock_def_readable => "wakes the reader",
        P::__udp4_lib_lookup_skb => "which socket?",
        P::ip_make_skb => "data and headers become a packet",
        P::ip_finish_output2 => "who is the next hop?",
        P::netdev_pick_tx => "which queue of the card?",
        P::__dev_xmit_skb => "the queueing discipline",
        P::sch_direct_xmit => "past an empty queue",
        P::wire_start_xmit => "onto the wire",
        P::igb_tx_map => "descriptors, then the doorbell",
        P::igb_clean_tx_irq => "frees what was sent",
        P::loopback_xmit => "turns round",
        P::enqueue_to_backlog => "this CPU's backlog",
        P::wire_interrupt | P::igb_msix_ring | P::tun_interrupt => "the card's interrupt",
        P::napi_schedule => "poll me later",
        P::wire_poll | P::igb_poll | P::tun_poll => "takes frames off the card",
        P::process_backlog => "takes packets off the backlog",
        P::napi_complete => "empty: interrupt on again",
        P::netif_receive_skb => "into the stack",
        P::ip_local_deliver => "it is for this machine",
        P::neigh_event_send => "address unknown: the packet waits",
        P::icmp_send => "tells the sender why",
        P::udp_err => "the error reaches the socket",
        _ => return of_a_connection(point),
    })
}

/// The same of what happens to a connection.
fn of_a_connection(point: Point) -> Option<&'static str> {
    use Point as P;
    Some(match point {
        P::tcp_data_queue_ofo => "beyond a hole: it waits",
        P::tcp_sacktag_write_queue => "what has arrived beyond a hole",
        P::tcp_check_dsack => "it went again for nothing",
        P::tcp_fastretrans_alert => "something is amiss",
        P::tcp_rack_mark_lost => "later ones have arrived",
        P::tcp_rack_reo_timeout => "it has had its time",
        P::tcp_rack_update_reo_wnd => "others get more time",
        P::tcp_enter_recovery => "fast recovery begins",
        P::tcp_cwnd_reduction => "PRR",
        P::tcp_end_cwnd_reduction => "the window is where it should be",
        P::tcp_xmit_retransmit_queue => "what is lost goes again",
        P::tcp_try_undo_recovery => "all that was out has arrived",
        P::tcp_undo_cwnd_reduction => "nothing was lost: all as before",
        P::tcp_send_loss_probe => "nothing came for two round trips",
        P::tcp_process_tlp_ack => "the probe's acknowledgement",
        P::tcp_send_syn_data => "a SYN with data, if it may",
        P::tcp_fastopen_cookie_check => "a cookie of that server?",
        P::tcp_try_fastopen => "is the cookie ours?",
        P::tcp_fastopen_create_child => "a socket before the handshake ends",
        P::tcp_rcv_fastopen_synack => "a cookie? was the data taken?",
        P::tcp_pacing_check => "held back to the pace",
        P::tcp_pace_kick => "the next may leave",
        P::bbr_main => "a new state",
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
