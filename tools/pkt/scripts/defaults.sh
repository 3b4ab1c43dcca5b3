#!/bin/bash
# What TCP scripts count on. Where Linux begins with the value, the line says so: a machine without the
# setting is then as it should be.
sysctl -q net.ipv4.tcp_rmem="4096 540000 15728640"
sysctl -q net.ipv4.tcp_wmem="4096 262144 4194304"
sysctl -q net.ipv4.tcp_timestamps=1 # as Linux begins
sysctl -q net.ipv4.tcp_syn_retries=5
sysctl -q net.ipv4.tcp_synack_retries=5 # as Linux begins
sysctl -q net.ipv4.tcp_frto=2 # as Linux begins
sysctl -q net.ipv4.tcp_sack=1 # as Linux begins
sysctl -q net.ipv4.tcp_dsack=1 # as Linux begins
sysctl -q net.ipv4.tcp_fack=0 # as Linux begins
sysctl -q net.ipv4.tcp_reordering=3 # as Linux begins
sysctl -q net.ipv4.tcp_congestion_control=cubic
sysctl -q net.ipv4.tcp_slow_start_after_idle=0
sysctl -q net.ipv4.tcp_early_retrans=4
sysctl -q net.ipv4.tcp_recovery=1 # as Linux begins
sysctl -q net.ipv4.tcp_tso_win_divisor=3 # as Linux begins
sysctl -q net.ipv4.tcp_ecn=0
sysctl -q net.ipv4.tcp_pacing_ss_ratio=200 # as Linux begins
sysctl -q net.ipv4.tcp_pacing_ca_ratio=120 # as Linux begins
sysctl -q net.ipv4.tcp_notsent_lowat=4294967295 # as Linux begins
sysctl -q net.ipv4.tcp_fastopen=0x70403
sysctl -q net.ipv4.tcp_fastopen_key=a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4
sysctl -q net.ipv4.tcp_syncookies=1 # as Linux begins
# The device sends at once: no pacing by a queueing discipline.
tc qdisc add dev tun0 root pfifo
