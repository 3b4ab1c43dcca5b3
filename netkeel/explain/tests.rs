use super::story::Lines;

fn explained(text: &str) -> Result<String, String> {
    let mut out = Vec::new();
    for story in Lines::new(Box::new(std::io::Cursor::new(text.to_owned()))) {
        story?.write(&mut out, None).expect("memory");
    }
    Ok(String::from_utf8(out).expect("text"))
}

fn line(packet: u64, point: &str, more: &str) -> String {
    format!(
        "{{\"v\":1,\"packet\":{packet},\"span\":null,\"point\":\"{point}\",\"file\":\"net/x.c\",\"cpu\":0,\
         \"context\":\"softirq\",\"ns\":5,\"dev\":\"nk0\",\"len\":42,\"link\":null,\"drop\":null{more}}}\n"
    )
    .replace("\"drop\":null,\"drop\"", "\"drop\"")
}

const HEAD: &str = ",\"frame\":47,\"head\":\"02000000000202000000000108004500002100004000401100000a0000010a0000029c40004d000d000068656c6c6f\"";

#[test]
fn a_packet_that_was_dropped_is_explained() {
    let text = [
        line(3, "netif_receive_skb", HEAD),
        line(4, "netif_receive_skb", ""),
        line(3, "__udp4_lib_rcv", ""),
        line(4, "consume_skb", ""),
        line(3, "kfree_skb", ",\"drop\":\"NO_SOCKET\""),
    ]
    .concat();
    let said = explained(&text).unwrap();
    assert_eq!(
        said,
        "packet 3: IP 10.0.0.1.40000 > 10.0.0.2.77: UDP, length 5\n\
        \x20 way:    netif_receive_skb > __udp4_lib_rcv > kfree_skb (nk0)\n\
        \x20 ended:  in __udp4_lib_rcv (net/x.c), NO_SOCKET\n\
        \x20 why:    No socket is bound to the destination.\n\
        \x20 state:  ask: netkeel ss -tuan\n\
        \x20 change: bind a socket to its destination port, or send to one that is bound\n\n"
    );
}

#[test]
fn files_that_are_none_are_refused_with_the_place() {
    for (text, said) in [
        ("{\"v\":1,", "line 1, column "),
        ("\n\nhello\n", "line 3, column 1: "),
        (&line(1, "ip_rcv", "").replace("\"v\":1", "\"v\":9"), "version 9"),
        ("[1,2]", "line 1, column "),
    ] {
        let error = explained(text).unwrap_err();
        assert!(error.contains(said), "{text}: {error}");
    }
    let long = "x".repeat(2 << 20);
    assert!(explained(&long).unwrap_err().contains("longer than"));
}

/// Packets that never end are forgotten, a packet that never ends to walk is cut.
#[test]
fn a_file_without_end_takes_no_memory_without_end() {
    let mut text = String::new();
    for packet in 0..200 {
        text += &line(packet, "ip_rcv", "");
    }
    for _ in 0..3000 {
        text += &line(7, "ip_rcv", "");
    }
    text += &line(7, "kfree_skb", ",\"drop\":\"NOMEM\"");
    let said = explained(&text).unwrap();
    assert!(said.starts_with("packet 7\n") && said.contains(" > ... > "), "{said}");
}
