//! The points of the walk: one list of every station, its Linux file and its direction.
//!
//! Adding a station changes this list, the golden walk that shows it and the document.

macro_rules! points {
    ($($file:literal { $($name:ident)* })*) => {
        /// A station of the walk, by its Linux name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        #[allow(non_camel_case_types, missing_docs, reason = "the names are Linux's; FILE says where")]
        pub enum Point { $($($name,)*)* }

        impl Point {
            /// Every point, in the order of the declaration.
            pub const ALL: &[Self] = &[$($(Self::$name,)*)*];

            /// The station's name in Linux.
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$name => stringify!($name),)*)* }
            }

            /// The file in Linux 3.10 where the station stands.
            pub const fn file(self) -> &'static str {
                match self { $($(Self::$name)|* => $file,)* }
            }
        }
    };
}

points! {
    "kernel/softirq.c" {
        spawn_ksoftirqd ksoftirqd_should_run run_ksoftirqd wakeup_softirqd open_softirq
        raise_softirq_irqoff __raise_softirq_irqoff __do_softirq irq_enter irq_exit
    }
    "kernel/smpboot.c" { smpboot_register_percpu_thread }
    "kernel/timer.c" { run_timer_softirq }
    "net/core/dev.c" {
        net_dev_init dev_add_pack netif_napi_add ____napi_schedule net_rx_action napi_gro_receive
        dev_gro_receive napi_skb_finish napi_gro_flush napi_gro_complete napi_complete napi_busy_loop netif_receive_skb
        __netif_receive_skb_core enqueue_to_backlog process_backlog netif_rx dev_queue_xmit
        dev_queue_xmit_nit __dev_xmit_skb __netif_schedule __netif_reschedule net_tx_action
        dev_hard_start_xmit netif_skb_features skb_gso_segment dev_open dev_close dev_change_net_namespace dev_kfree_skb_irq
        get_rps_cpu rps_trigger_softirq net_rps_action_and_irq_enable
    }
    "include/linux/netdevice.h" { napi_schedule }
    "net/core/flow_dissector.c" { netdev_pick_tx }
    "net/sched/sch_fq.c" { fq_enqueue }
    "net/core/skbuff.c" { skb_clone consume_skb kfree_skb }
    "net/core/sock.c" {
        sock_queue_rcv_skb sock_def_readable lock_sock release_sock __release_sock
    }
    "include/net/sock.h" { sk_add_backlog }
    "net/core/datagram.c" { __skb_recv_datagram wait_for_more_packets skb_copy_datagram_iovec }
    "net/core/neighbour.c" {
        __neigh_create neigh_resolve_output neigh_connected_output neigh_event_send neigh_update
        neigh_timer_handler neigh_destroy
    }
    "include/net/dst.h" { dst_input dst_output dst_neigh_output }
    "include/net/arp.h" { __ipv4_neigh_lookup_noref }
    "net/ethernet/eth.c" { eth_type_trans }
    "net/packet/af_packet.c" { packet_rcv tpacket_rcv prb_retire_rx_blk_timer_expired packet_rcv_fanout packet_sendmsg packet_snd packet_xmit packet_recvmsg }
    "net/netfilter/core.c" { nf_hook_slow }
    "include/linux/netfilter.h" { NF_HOOK }
    "net/ipv4/af_inet.c" {
        inet_init inet_recvmsg inet_sendmsg inet_gro_receive inet_bind inet_dgram_connect
        inet_stream_connect inet_listen inet_accept
    }
    "net/ipv4/protocol.c" { inet_add_protocol }
    "net/ipv4/arp.c" { arp_rcv arp_process arp_solicit arp_send arp_xmit }
    "net/ipv4/ip_input.c" { ip_rcv ip_rcv_finish ip_local_deliver ip_local_deliver_finish }
    "net/ipv4/ip_options.c" {
        ip_options_compile ip_options_rcv_srr ip_forward_options ip_options_echo ip_options_build ip_options_fragment
    }
    "net/ipv4/ip_fragment.c" { ip_defrag ip_frag_queue ip_frag_reasm ip_expire }
    "net/ipv4/route.c" {
        ip_route_input_noref ip_route_input_slow ip_route_input_mc ip_route_output_flow __ip_route_output_key ip_error
    }
    "include/net/route.h" { ip_route_output_ports }
    "net/ipv4/ping.c" { ping_rcv ping_err ping_sendmsg }
    "net/ipv4/raw.c" {
        raw_local_deliver raw_v4_input raw_rcv raw_err raw_sendmsg raw_send_hdrinc raw_recvmsg
    }
    "net/ipv4/ip_forward.c" { ip_forward ip_forward_finish }
    "net/ipv4/ip_output.c" {
        ip_make_skb ip_send_skb __ip_local_out ip_local_out ip_output
        ip_mc_output ip_finish_output ip_fragment ip_finish_output2 ip_queue_xmit
    }
    "net/ipv4/icmp.c" { icmp_rcv icmp_echo icmp_unreach icmp_send icmp_reply icmp_push_reply }
    "net/ipv4/igmp.c" { igmp_rcv igmp_send_report igmp_timer_expire }
    "net/ipv4/udp.c" {
        udp_rcv __udp4_lib_lookup_skb __udp4_lib_mcast_deliver udp_queue_rcv_skb __udp_queue_rcv_skb udp_sendmsg
        udp_send_skb udp_recvmsg udp_err
    }
    "net/ipv4/inet_connection_sock.c" { inet_csk_accept }
    "net/ipv4/tcp.c" {
        tcp_sendmsg tcp_recvmsg tcp_close sk_stream_alloc_skb skb_entail tcp_add_write_queue_tail
    }
    "net/ipv4/tcp_ipv4.c" {
        tcp_v4_rcv tcp_v4_do_rcv tcp_v4_connect tcp_v4_err tcp_v4_send_reset tcp_v4_syn_recv_sock
    }
    "net/ipv4/tcp_input.c" {
        tcp_rcv_established tcp_rcv_state_process tcp_ack tcp_data_queue tcp_queue_rcv tcp_conn_request
        tcp_reset tcp_data_queue_ofo tcp_sacktag_write_queue tcp_check_dsack tcp_fastretrans_alert
        tcp_enter_recovery tcp_cwnd_reduction tcp_end_cwnd_reduction tcp_try_undo_recovery
        tcp_undo_cwnd_reduction tcp_process_tlp_ack tcp_rcv_fastopen_synack
    }
    "net/ipv4/tcp_recovery.c" { tcp_rack_mark_lost tcp_rack_reo_timeout tcp_rack_update_reo_wnd }
    "net/ipv4/tcp_minisocks.c" { tcp_check_req tcp_child_process tcp_time_wait }
    "net/ipv4/tcp_output.c" {
        tcp_connect tcp_write_xmit tcp_transmit_skb __tcp_push_pending_frames tcp_push_one
        tcp_send_ack tcp_send_fin tcp_retransmit_skb tcp_xmit_retransmit_queue tcp_send_loss_probe
        tcp_pacing_check tcp_pace_kick tcp_send_syn_data
    }
    "net/ipv4/tcp_fastopen.c" {
        tcp_fastopen_cookie_check tcp_try_fastopen tcp_fastopen_create_child
    }
    "net/ipv4/tcp_bbr.c" { bbr_main }
    "net/ipv4/tcp_timer.c" { tcp_retransmit_timer }
    "net/ipv4/tcp_offload.c" { tcp4_gro_receive }
    "net/ipv4/udp_offload.c" { udp4_gro_receive }
    "net/sched/sch_generic.c" {
        __qdisc_run qdisc_restart dequeue_skb sch_direct_xmit pfifo_fast_enqueue dev_requeue_skb
    }
    "net/socket.c" {
        sys_socket sys_bind sys_connect sys_listen sys_accept4 sys_send sys_sendto sys_sendmsg sys_sendmmsg sys_recvfrom
        sys_recvmsg sys_recvmmsg sys_getsockname sys_getpeername sys_setsockopt sys_getsockopt
        sys_shutdown sockfd_lookup_light sock_sendmsg sock_recvmsg sock_aio_read sock_aio_write
        sock_poll sock_close
    }
    "fs/select.c" { sys_poll sys_select }
    "fs/eventpoll.c" { sys_epoll_wait ep_poll_callback }
    "fs/read_write.c" { sys_read sys_write }
    "drivers/net/loopback.c" { loopback_xmit }
    "drivers/net/veth.c" { veth_xmit }
    "drivers/net/wire" { wire_start_xmit wire_interrupt wire_poll }
    "drivers/net/tun.c" { tun_net_xmit tun_interrupt tun_poll }
    "drivers/net/ethernet/intel/igb/igb_main.c" {
        igb_init_module igb_probe igb_alloc_q_vector igb_open __igb_open igb_close
        igb_setup_all_rx_resources igb_setup_all_tx_resources igb_request_irq igb_request_msix
        igb_msix_ring igb_msix_other igb_intr igb_intr_msi igb_write_itr igb_poll igb_clean_rx_irq
        igb_alloc_rx_buffers igb_clean_tx_irq igb_xmit_frame igb_xmit_frame_ring igb_tx_csum
        igb_tx_map igb_watchdog_task igb_configure igb_up igb_down
    }
    "netkeel" { link_span link_clone link_merge }
}
