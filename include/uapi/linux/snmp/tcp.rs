//! Counters of TCP: the standard's, and Linux's own of the `TcpExt` line.

mib! {
    /// Counters of TCP, after the four constants that the `Tcp` line begins with: RtoAlgorithm,
    /// RtoMin, RtoMax and MaxConn.
    TcpMib {
        /// Connections opened.
        ActiveOpens,
        /// Connections accepted.
        PassiveOpens,
        /// Connections that failed while being opened.
        AttemptFails,
        /// Connections reset.
        EstabResets,
        /// Connections there are now: a gauge, which goes down, too.
        CurrEstab,
        /// Segments received.
        InSegs,
        /// Segments sent, but for those sent again.
        OutSegs,
        /// Segments sent again.
        RetransSegs,
        /// Segments received that were in error.
        InErrs,
        /// Segments sent with RST.
        OutRsts,
        /// Segments with a bad checksum.
        InCsumErrors,
    }
}

mib! {
    /// Counters of the `TcpExt` line, in the order of that line; some are not about TCP.
    LinuxMib {
        /// SYN cookies sent.
        SyncookiesSent,
        /// SYN cookies that came back good.
        SyncookiesRecv,
        /// SYN cookies that came back bad.
        SyncookiesFailed,
        /// Resets of half-open connections.
        EmbryonicRsts,
        /// Times a receive queue was pruned for want of memory.
        PruneCalled,
        /// Times pruning had to throw received data away.
        RcvPruned,
        /// Times the queue out of order was thrown away.
        OfoPruned,
        /// ICMP errors that quote a sequence number out of the window.
        OutOfWindowIcmps,
        /// ICMP errors dropped because the socket was in use.
        LockDroppedIcmps,
        /// ARP requests the device's filter rejected.
        ArpFilter,
        /// TIME-WAIT sockets that ran their time.
        TW,
        /// TIME-WAIT sockets used again by a new connection.
        TWRecycled,
        /// TIME-WAIT sockets ended early.
        TWKilled,
        /// SYN-ACKs rejected for their timestamp.
        PAWSActive,
        /// Segments of connections rejected for their timestamp.
        PAWSEstab,
        /// Segments with data beyond the window.
        BeyondWindow,
        /// Segments rejected for the timestamp they echo.
        TSEcrRejected,
        /// Old acknowledgements rejected for their timestamp.
        PAWSOldAck,
        /// Segments to TIME-WAIT sockets rejected for their timestamp.
        PAWSTimewait,
        /// Delayed acknowledgements sent.
        DelayedACKs,
        /// Delayed acknowledgements put off because the socket was in use.
        DelayedACKLocked,
        /// Segments sent again because the acknowledgement was lost or late.
        DelayedACKLost,
        /// Connections refused because the accept queue was full.
        ListenOverflows,
        /// Connections a listener refused for any reason.
        ListenDrops,
        /// Segments with data that took the fast path.
        TCPHPHits,
        /// Acknowledgements without data that took the slow path.
        TCPPureAcks,
        /// Acknowledgements that took the fast path.
        TCPHPAcks,
        /// Fast recoveries without selective acknowledgements.
        TCPRenoRecovery,
        /// Fast recoveries with selective acknowledgements.
        TCPSackRecovery,
        /// Times a peer took a selective acknowledgement back.
        TCPSACKReneging,
        /// Reorderings seen by selective acknowledgements.
        TCPSACKReorder,
        /// Reorderings seen by duplicate acknowledgements.
        TCPRenoReorder,
        /// Reorderings seen by timestamps.
        TCPTSReorder,
        /// Reductions undone whole.
        TCPFullUndo,
        /// Reductions undone in part.
        TCPPartialUndo,
        /// Reductions undone because the peer told of duplicates.
        TCPDSACKUndo,
        /// Reductions after timeouts undone.
        TCPLossUndo,
        /// Segments sent again that were lost again.
        TCPLostRetransmit,
        /// Timeouts during recovery without selective acknowledgements.
        TCPRenoFailures,
        /// Timeouts during recovery with selective acknowledgements.
        TCPSackFailures,
        /// Timeouts during recovery from a timeout.
        TCPLossFailures,
        /// Segments sent again in fast recovery.
        TCPFastRetrans,
        /// Segments sent again in slow start.
        TCPSlowStartRetrans,
        /// Retransmission timeouts.
        TCPTimeouts,
        /// Tail loss probes sent.
        TCPLossProbes,
        /// Losses repaired by a tail loss probe.
        TCPLossProbeRecovery,
        /// Recoveries without selective acknowledgements that failed to send.
        TCPRenoRecoveryFail,
        /// Recoveries with selective acknowledgements that failed to send.
        TCPSackRecoveryFail,
        /// Segments merged in a receive queue to save memory.
        TCPRcvCollapsed,
        /// Segments merged in a socket's backlog.
        TCPBacklogCoalesce,
        /// Duplicates of old data told to the peer.
        TCPDSACKOldSent,
        /// Duplicates of data out of order told to the peer.
        TCPDSACKOfoSent,
        /// Duplicates of old data that the peer told of.
        TCPDSACKRecv,
        /// Duplicates of data out of order that the peer told of.
        TCPDSACKOfoRecv,
        /// Connections reset because data came after the end.
        TCPAbortOnData,
        /// Connections reset because unread data was left on close.
        TCPAbortOnClose,
        /// Connections reset for want of memory.
        TCPAbortOnMemory,
        /// Connections given up after too many timeouts.
        TCPAbortOnTimeout,
        /// Connections reset because lingering ran out.
        TCPAbortOnLinger,
        /// Resets that could not be sent.
        TCPAbortFailed,
        /// Times memory became tight.
        TCPMemoryPressures,
        /// Milliseconds for which memory was tight.
        TCPMemoryPressuresChrono,
        /// Selective acknowledgements that made no sense.
        TCPSACKDiscard,
        /// Duplicates told of that were too old to learn from.
        TCPDSACKIgnoredOld,
        /// Duplicates told of with nothing to undo.
        TCPDSACKIgnoredNoUndo,
        /// Timeouts found to be spurious.
        TCPSpuriousRTOs,
        /// Segments without the signature there should be.
        TCPMD5NotFound,
        /// Segments with a signature there should not be.
        TCPMD5Unexpected,
        /// Segments with a bad signature.
        TCPMD5Failure,
        /// Segments shifted into a neighbour when acknowledged selectively.
        TCPSackShifted,
        /// Segments merged into a neighbour when acknowledged selectively.
        TCPSackMerged,
        /// Segments that could not be shifted.
        TCPSackShiftFallback,
        /// Segments dropped because a socket's backlog was full.
        TCPBacklogDrop,
        /// Packets dropped because only sockets that free memory could take them.
        PFMemallocDrop,
        /// Segments dropped for a time to live too small.
        TCPMinTTLDrop,
        /// Acknowledgements dropped because a listener waits for data.
        TCPDeferAcceptDrop,
        /// Packets dropped by reverse path filtering.
        IPReversePathFilter,
        /// TIME-WAIT sockets not made because there were too many.
        TCPTimeWaitOverflow,
        /// SYNs answered with a cookie because the queue was full.
        TCPReqQFullDoCookies,
        /// SYNs dropped because the queue was full.
        TCPReqQFullDrop,
        /// Retransmissions that could not be sent.
        TCPRetransFail,
        /// Received segments merged with the one before.
        TCPRcvCoalesce,
        /// Segments queued out of order.
        TCPOFOQueue,
        /// Segments out of order dropped for want of room.
        TCPOFODrop,
        /// Segments out of order that repeat what is queued.
        TCPOFOMerge,
        /// Challenge acknowledgements sent.
        TCPChallengeACK,
        /// Challenge acknowledgements sent to a SYN.
        TCPSYNChallenge,
        /// Fast opens that succeeded.
        TCPFastOpenActive,
        /// Fast opens that failed.
        TCPFastOpenActiveFail,
        /// Fast opens accepted.
        TCPFastOpenPassive,
        /// Fast opens refused.
        TCPFastOpenPassiveFail,
        /// Fast opens refused because too many were pending.
        TCPFastOpenListenOverflow,
        /// Requests for a fast open cookie.
        TCPFastOpenCookieReqd,
        /// Times fast open was given up for a while.
        TCPFastOpenBlackhole,
        /// Segments not sent again because they still lie in a queue of the host.
        TCPSpuriousRtxHostQueues,
        /// Packets received by busy polling.
        BusyPollRxPackets,
        /// Times a small segment waited for one in a queue of the host.
        TCPAutoCorking,
        /// Windows that opened again.
        TCPFromZeroWindowAdv,
        /// Windows that closed.
        TCPToZeroWindowAdv,
        /// Windows that should have closed and could not.
        TCPWantZeroWindowAdv,
        /// SYNs and SYN-ACKs sent again.
        TCPSynRetrans,
        /// Segments with data sent for the first time.
        TCPOrigDataSent,
        /// Slow starts ended by the length of an acknowledgement train.
        TCPHystartTrainDetect,
        /// Sum of the windows they ended at.
        TCPHystartTrainCwnd,
        /// Slow starts ended by a longer delay.
        TCPHystartDelayDetect,
        /// Sum of the windows they ended at.
        TCPHystartDelayCwnd,
        /// Acknowledgements held back in SYN-RECEIVED.
        TCPACKSkippedSynRecv,
        /// Acknowledgements held back after a bad timestamp.
        TCPACKSkippedPAWS,
        /// Acknowledgements held back after a bad sequence number.
        TCPACKSkippedSeq,
        /// Acknowledgements held back in FIN-WAIT-2.
        TCPACKSkippedFinWait2,
        /// Acknowledgements held back in TIME-WAIT.
        TCPACKSkippedTimeWait,
        /// Challenge acknowledgements held back.
        TCPACKSkippedChallenge,
        /// Window probes sent.
        TCPWinProbe,
        /// Keepalives sent.
        TCPKeepAlive,
        /// Probes of the path MTU that failed.
        TCPMTUPFail,
        /// Probes of the path MTU that succeeded.
        TCPMTUPSuccess,
        /// Segments that arrived.
        TCPDelivered,
        /// Segments that arrived with a congestion mark.
        TCPDeliveredCE,
        /// Acknowledgements saved by compression.
        TCPAckCompressed,
        /// Segments dropped because the window was closed.
        TCPZeroWindowDrop,
        /// Segments dropped because the receive queue was full.
        TCPRcvQDrop,
        /// Splits refused because the write queue had grown too long.
        TCPWqueueTooBig,
        /// Fast opens accepted with the second key.
        TCPFastOpenPassiveAltKey,
        /// Other paths tried after a timeout.
        TcpTimeoutRehash,
        /// Other paths tried after duplicate data.
        TcpDuplicateDataRehash,
        /// Segments in the duplicates that the peer told of.
        TCPDSACKRecvSegs,
        /// Duplicates told of that cannot be true.
        TCPDSACKIgnoredDubious,
        /// Connections moved to another listener.
        TCPMigrateReqSuccess,
        /// Connections that could not be moved.
        TCPMigrateReqFailure,
        /// Other paths tried by load balancing.
        TCPPLBRehash,
        /// Segments without the authentication there should be.
        TCPAORequired,
        /// Segments with bad authentication.
        TCPAOBad,
        /// Segments with an unknown authentication key.
        TCPAOKeyNotFound,
        /// Segments with good authentication.
        TCPAOGood,
        /// ICMP errors dropped because the connection is authenticated.
        TCPAODroppedIcmps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of a group on the host.
    fn host_names(file: &str, group: &str) -> Vec<String> {
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(group)).unwrap();
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_tcp_line_reads_as_the_hosts() {
        let names: Vec<&str> = TcpMib::ALL.iter().map(|item| item.name()).collect();
        assert_eq!(&host_names("/proc/net/snmp", "Tcp:")[4..], names);
    }

    /// A newer kernel counts more, an older one less; what both know stands in one order, but for
    /// what kernels themselves have moved.
    #[test]
    fn the_tcp_ext_line_has_every_name_of_the_hosts() {
        // The list above is 6.18's.
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).flat_map(str::parse::<u32>);
        let version = (numbers.next().unwrap(), numbers.next().unwrap());
        let host = host_names("/proc/net/netstat", "TcpExt:");
        let ours: Vec<&str> = LinuxMib::ALL.iter().map(|item| item.name()).collect();
        let unknown: Vec<_> = host.iter().filter(|name| !ours.contains(&name.as_str())).collect();
        assert!(unknown.is_empty() || version > (6, 18), "{unknown:?} of {release}");
        let shared: Vec<_> = ours.iter().filter(|n| host.iter().any(|h| h == *n)).collect();
        let in_order: Vec<_> = host.iter().filter(|name| ours.contains(&name.as_str())).collect();
        assert_eq!(shared, in_order);
        assert!(version < (6, 1) || shared.len() > 120, "{} shared", shared.len());
        assert!(LinuxMib::ALL.iter().enumerate().all(|(i, m)| *m as usize == i));
    }
}
