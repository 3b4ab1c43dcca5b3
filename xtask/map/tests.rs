//! Rows, tags, and what makes a station present.

use super::*;
use crate::source::Source;

const FN: &str = "rx\tip\tip_rcv\tfn\tnet/ipv4/ip_input.c:375\tvalidate\twalk\n";

fn missing(rows: &str, code: &str, walk: &str) -> Vec<String> {
    let tree = Tree::of(&[
        (ROWS, rows),
        ("net/a.rs", code),
        ("tools/testing/selftests/walks/udp.txt", walk),
    ]);
    let map = Map::read(&tree).expect("the fixture is a map");
    map.missing_list().lines().map(str::to_owned).collect()
}

#[test]
fn a_station_wants_tag_walk_and_golden() {
    let good = "/// linux: net/ipv4/ip_input.c:ip_rcv (3.10)\n#[inline]\npub fn ip_rcv(cx: u8) { walk!(cx, skb, ip_rcv); }";
    assert!(missing(FN, good, "ip_rcv net/ipv4").is_empty());
    let gone = ["net/ipv4/ip_input.c:ip_rcv\twalk"];
    assert_eq!(missing(FN, good, "ip_rcv_finish"), gone);
    assert_eq!(missing(FN, &good.replace("rcv);", "rcv_finish);"), "ip_rcv"), gone);
    assert_eq!(missing(FN, &good.replace("walk!", "f(); walk!"), "ip_rcv"), gone);
    assert_eq!(missing(FN, &good.replace("ip_input.c:ip_rcv", "ip_input.c:rcv"), "ip_rcv"), gone);
    assert_eq!(missing(FN, &good.replace("ip_input.c", "arp.c"), "ip_rcv"), gone);
    assert_eq!(missing(FN, &good.replace("///", "//"), "ip_rcv"), gone);
    assert_eq!(missing(FN, &good.replace("///", "//!"), "ip_rcv"), gone);
}

#[test]
fn what_may_stand_before_the_walk() {
    let code = |body: &str| {
        let code = format!("/// linux: net/ipv4/ip_input.c:ip_rcv\nfn f(cx: u8) {{ {body} }}");
        tags::of(&Source::new("a.rs", &code))[0].walk.clone()
    };
    let walk = Some("ip_rcv".to_owned());
    assert_eq!(code("cx.watch(&mut skb);\n walk!(cx, skb, ip_rcv);"), walk);
    assert_eq!(code("stack::walk!(cx, ip_rcv => f(a, b));"), walk);
    assert_eq!(code("cx.enter_call(); crate::walk!(cx, ip_rcv)"), walk);
    assert_eq!(code("// why\n walk!(cx, skb, ip_rcv => 1);"), walk);
    assert_eq!(code("let a = 1; walk!(cx, ip_rcv);"), None);
    assert_eq!(code("sidewalk!(cx, ip_rcv);"), None);
    let step = "let n = 0; SockCall::new(move |cx, wait| { walk!(cx, ip_rcv); f(n) })";
    assert_eq!(code(step), walk);
    assert_eq!(code(""), None);
}

#[test]
fn an_alias_is_a_name() {
    let code = "/// linux: net/ipv4/ip_input.c:other\n#[doc(alias = \"ip_rcv\")]\nfn f(cx: u8) { walk!(cx, ip_rcv); }";
    assert!(missing(FN, code, "ip_rcv").is_empty());
}

#[test]
fn accessors_and_boot_stages_want_the_tag_only() {
    let row = "rx\tinit\tinet_init\tfn\tnet/ipv4/af_inet.c:1\tx\twalk\n";
    assert!(missing(row, "/// linux: net/ipv4/af_inet.c:inet_init\nfn f() {}", "").is_empty());
    assert!(missing(row, "//! linux: net/ipv4/af_inet.c:inet_init. More.", "").is_empty());
}

#[test]
fn phrases_lists_and_members() {
    let row = "rx\tx\tsoftirq numbers\tenum\tinclude/linux/interrupt.h:453\tx\twalk\n";
    for name in ["softirq numbers", "softirq"] {
        let code = format!("/// linux: include/linux/interrupt.h:{name}\nenum A {{}}");
        assert!(missing(row, &code, "").is_empty(), "{name}");
    }
    let row =
        "rx\tx\trmem_default, rmem_max\tknob\tnet.core.rmem_default, net.core.rmem_max\tx\twalk\n";
    let code = "struct S {\n/// linux: net.core.rmem_default:rmem_default\na: u8 }";
    assert_eq!(missing(row, code, ""), ["net.core.rmem_max:rmem_max\twalk"]);
    let row = "tx\tx\ttcp_close tcp_ioctl\tmembers\tnet/ipv4/tcp_ipv4.c:2880\tx\ttcp\n";
    let code = "/// linux: net/ipv4/tcp.c:tcp_close\nfn f() {}";
    assert_eq!(missing(row, code, ""), ["net/ipv4/tcp_ipv4.c:tcp_ioctl\ttcp"]);
}

#[test]
fn several_tags_on_a_line() {
    let code = "/// linux: net/a.c:one (3.10), two, net/b.c:three. And words.\nfn f() {}";
    let tags = tags::of(&Source::new("a.rs", code));
    let pairs: Vec<_> = tags.iter().map(|tag| (tag.file.as_str(), tag.name.as_str())).collect();
    assert_eq!(pairs, [("net/a.c", "one"), ("net/a.c", "two"), ("net/b.c", "three")]);
    assert!(tags::of(&Source::new("a.rs", "//! linux: net/a.c, net/b.c.")).is_empty());
}

#[test]
fn a_header_of_the_same_stem_counts() {
    let row = "rx\tx\tdst_entry\tstruct\tinclude/net/dst.h\tx\twalk\n";
    assert!(missing(row, "/// linux: net/core/dst.c:dst_entry\nstruct D;", "").is_empty());
}

#[test]
fn the_list_may_only_shrink() {
    let code = "/// linux: net/ipv4/ip_input.c:ip_rcv\nfn f(cx: u8) { walk!(cx, ip_rcv); }";
    let check_with = |code: &str, list: &str| {
        let walk = ("tools/testing/selftests/walks/udp.txt", "ip_rcv");
        let row = FN.replace("\twalk\n", "\ttcp\n");
        check(&Tree::of(&[(ROWS, &row), ("net/a.rs", code), walk, (MISSING, list)])).len()
    };
    let line = "net/ipv4/ip_input.c:ip_rcv\ttcp\n";
    assert_eq!(check_with(code, ""), 0);
    assert_eq!(check_with(code, line), 1);
    assert_eq!(check_with("", line), 0);
    assert_eq!(check_with("", ""), 1);
}

#[test]
fn nothing_of_a_part_that_is_complete_may_be_missing() {
    let listed = (MISSING, "net/ipv4/ip_input.c:ip_rcv\twalk\n");
    let found = check(&Tree::of(&[(ROWS, FN), listed]));
    assert_eq!(found.len(), 1);
    assert!(found[0].what.contains("only rows of tcp or map"), "{}", found[0]);
}

#[test]
fn the_document_is_what_the_code_says() {
    let row = FN.replace("\twalk\n", "\ttcp\n");
    let listed = (MISSING, "net/ipv4/ip_input.c:ip_rcv\ttcp\n");
    let files = [(ROWS, row.as_str()), listed, ("README.md", "")];
    assert_eq!(check(&Tree::of(&files)).len(), 1);
    let text = Map::read(&Tree::of(&files)).expect("the fixture is a map").document();
    assert!(text.contains("| `ip_rcv` | net/ipv4/ip_input.c:375 | to come: tcp |  |"), "{text}");
    let with = [files[0], files[1], files[2], (DOCUMENT, &text)];
    assert!(check(&Tree::of(&with)).is_empty());
}

#[test]
fn a_broken_row_is_found() {
    assert_eq!(check(&Tree::of(&[(ROWS, "# head\nrx\tip\n")]))[0].line, 2);
}
