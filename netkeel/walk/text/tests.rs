use super::*;
use crate::scenario::Subject;
use crate::walk::tests::scene;

fn text(subject: Subject, options: Options) -> String {
    let scene = scene(subject, false);
    let mut out = Vec::new();
    write(&mut out, &Story::new(&scene), options).expect("a vector takes all");
    String::from_utf8(out).expect("text is UTF-8")
}

/// The lines with these words, in this order.
fn assert_in_order(text: &str, words: &[&str]) {
    let mut rest = text;
    for word in words {
        let at = rest.find(word);
        assert!(at.is_some(), "no {word:?} in what follows:\n{rest}");
        rest = &rest[at.unwrap_or(0) + word.len()..];
    }
}

#[test]
fn the_same_seed_gives_the_same_text() {
    let options = Options::default();
    assert_eq!(text(Subject::Udp, options), text(Subject::Udp, options));
}

#[test]
fn udp_reads_from_call_to_call() {
    assert_in_order(
        &text(Subject::Udp, Options::default()),
        &[
            "── A · CPU 0 · system call sys_sendto ─",
            "#1  33 bytes\n",
            "NF_HOOK  LOCAL_OUT",
            "wire_start_xmit",
            "── B · CPU 0 · hard interrupt ─",
            "__raise_softirq_irqoff  NET_RX",
            "── B · CPU 0 · softirq, leaving the interrupt ─",
            "__do_softirq  NET_RX",
            "#1  47 bytes, eth0, from A\n",
            "napi_skb_finish  GRO_NORMAL",
            "sock_queue_rcv_skb",
            "── B · CPU 0 · woken in sys_recvfrom ─",
            "skb_copy_datagram_iovec",
            "#2  47 bytes, eth0, from B\n",
            "── A · CPU 0 · woken in sys_recvfrom ─",
            "#1  ",
            "#2  ",
        ],
    );
}

#[test]
fn tcp_reads_from_connect_to_close() {
    assert_in_order(
        &text(Subject::Tcp, Options::default()),
        &[
            "── B · CPU 0 · system call sys_accept4 ─",
            "── A · CPU 0 · system call sys_connect ─",
            "tcp_connect  (a SYN)",
            "#1.1  40 bytes, clone of #1\n",
            "── B · CPU 0 · softirq, leaving the interrupt ─",
            "#1.1  74 bytes, eth0, from A\n",
            "tcp_conn_request",
            "#2  60 bytes, made for #1.1\n",
            "── A · CPU 0 · softirq, leaving the interrupt ─",
            "tcp_rcv_state_process",
            "#3  32 bytes, made for #2\n",
            "tcp_check_req",
            "tcp_v4_syn_recv_sock",
            "── B · CPU 0 · woken in sys_accept4 ─",
            "── A · CPU 0 · woken in sys_connect ─",
            "── A · CPU 0 · system call sys_write ─",
            "tcp_write_xmit",
            "tcp_rcv_established",
            "tcp_queue_rcv  5 bytes",
            "── B · CPU 0 · woken in sys_read ─",
            "── B · CPU 0 · system call sys_write ─",
            "── A · CPU 0 · woken in sys_read ─",
            "tcp_send_fin",
            "tcp_send_fin",
            "tcp_time_wait",
        ],
    );
}

#[test]
fn a_drop_says_why_and_an_answer_whose() {
    let icmp = text(Subject::Icmp, Options::default());
    assert_in_order(&icmp, &["#2  61 bytes, made for #1", "kfree_skb  NO_SOCKET: No socket"]);
}

#[test]
fn loopback_ends_its_section_in_a_softirq() {
    let lo = text(Subject::Loopback, Options::default());
    assert_in_order(
        &lo,
        &["loopback_xmit", "softirq, leaving the call's section", "#1  33 bytes, lo"],
    );
}

#[test]
fn files_stand_where_they_fit_or_where_asked_for() {
    let stations = |text: &str| {
        let times = text.lines().filter(|line| line.starts_with("   "));
        times.filter(|line| !line.trim_start().starts_with('#')).map(str::to_owned).collect()
    };
    let narrow: Vec<String> = stations(&text(Subject::Udp, Options { files: false, width: 80 }));
    assert!(narrow.iter().all(|line| line.chars().count() <= 80));
    let all: Vec<String> = stations(&text(Subject::Udp, Options { files: true, width: 0 }));
    for line in all {
        let file = line.rsplit(' ').next().unwrap_or_default();
        assert!(Point::ALL.iter().any(|point| point.file() == file), "{line}");
    }
}

#[test]
fn side_branches_stand_one_deeper() {
    let udp = text(Subject::Udp, Options::default());
    let indent = |name: &str| {
        let mut stations = udp.lines().filter(|line| line.starts_with("   "));
        let line = stations.find(|line| line.contains(name)).expect("a station");
        line.find(name).expect("its place")
    };
    assert_eq!(indent("sockfd_lookup_light"), indent("sock_recvmsg") + 2);
    assert_eq!(indent("sock_recvmsg"), indent("sys_recvfrom"));
    assert!(indent("wire_poll") > indent("net_rx_action"));
}
