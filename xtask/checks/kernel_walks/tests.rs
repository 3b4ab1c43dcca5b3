use super::*;

const EVENTS: &str = "points! { \"a.c\" { irq sched poll gro alloc done up udp_rcv napi_gro_receive udp_sendmsg xmit } }";
const TABLE: &str = "# comment\nirq\tirq\n__poll\tpoll\nalloc\talloc\ngro\tgro\nudp_rcv\tudp_rcv\nhelper\t-\tpart of poll\nudp_sendmsg\tudp_sendmsg\nxmit\txmit\n";
const SENT: &str = "p [0] ..... 1.0: udp_sendmsg <-call\np [0] ..... 1.1: xmit <-ip\n";
const SENT_OURS: &str = "A0 task      s1  udp_sendmsg\nA0 bh        p1  xmit eth0\n";

fn flat(functions: &str) -> String {
    functions
        .split(' ')
        .map(|name| format!("<idle>-0 [001] ..s1. 4.2: {name} <-caller\n"))
        .collect()
}

fn golden(machine: &str, stations: &str) -> String {
    let line = |station| format!("{machine}0 softirq   p1  {station} extra\n");
    stations.split(' ').map(line).collect()
}

/// The findings of a tree with this receive side; the send side is in order.
fn found(kernel: &str, ours: &str, document: &str) -> Vec<String> {
    let tree = Tree::of(&[
        (NAMES, TABLE),
        (POINTS, EVENTS),
        (&format!("{KERNEL}udp-rx.flat.txt"), kernel),
        (&format!("{KERNEL}udp-tx.flat.txt"), SENT),
        (&format!("{KERNEL}tcp-rx.flat.txt"), &flat("helper gro not_named")),
        (&format!("{GOLDEN}udp-in-igb.txt"), ours),
        (&format!("{GOLDEN}udp-out-igb.txt"), SENT_OURS),
        (DOCUMENT, document),
    ]);
    run_pairs(&tree, &PAIRS[..2]).into_iter().map(|finding| finding.to_string()).collect()
}

const ALL: &str = "irq __poll helper alloc gro udp_rcv";

#[test]
fn the_same_order_with_more_between() {
    let ours = golden("B", "irq sched poll alloc gro up udp_rcv done");
    assert_eq!(found(&flat(ALL), &ours, ""), Vec::<String>::new());
}

#[test]
fn another_order_must_be_listed_with_its_reason() {
    let ours = golden("B", "irq poll gro udp_rcv alloc");
    let all = found(&flat(ALL), &ours, "");
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].contains("| udp-in | alloc | order |"), "{all:?}");
    assert!(found(&flat(ALL), &ours, "| udp-in | `alloc` | order | refilled last |").is_empty());
    assert_eq!(found(&flat(ALL), &ours, "| udp-in | alloc | order | |").len(), 1, "no reason");
    let wrong = "| udp-in | alloc | missing | refilled last |";
    assert_eq!(found(&flat(ALL), &ours, wrong).len(), 2, "one lacks, one is too much");
}

#[test]
fn a_row_that_nothing_needs() {
    let ours = golden("B", "irq poll alloc gro udp_rcv");
    let all = found(&flat(ALL), &ours, "\n| udp-in | alloc | order | was so once |");
    assert_eq!(all.len(), 1, "{all:?}");
    assert!(all[0].contains(":2:") && all[0].contains("take the row out"), "{all:?}");
    let twice = "| udp-in | alloc | order | x |\n| udp-in | alloc | order | x |";
    assert_eq!(found(&flat(ALL), &golden("B", "irq poll gro udp_rcv alloc"), twice).len(), 1);
}

#[test]
fn a_second_visit_is_compared_too() {
    let kernel = flat("irq __poll alloc udp_rcv irq __poll");
    let once = golden("B", "irq poll alloc gro udp_rcv");
    let all = found(&kernel, &once, "");
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all.iter().any(|what| what.contains("| udp-in | irq#2 | missing |")), "{all:?}");
    let rows = "| udp-in | irq#2 | missing | x |\n| udp-in | poll#2 | missing | x |";
    assert!(found(&kernel, &once, rows).is_empty());
    let twice = golden("B", "irq poll alloc udp_rcv irq poll");
    assert!(found(&kernel, &twice, "").is_empty());
}

#[test]
fn only_the_machine_and_the_leg_that_the_kernel_walked() {
    let other = golden("A", "alloc irq poll");
    let ours = golden("B", "irq poll alloc gro udp_rcv");
    let after = golden("B", "udp_sendmsg irq poll");
    assert!(found(&flat(ALL), &format!("{other}{ours}{after}"), "").is_empty());
    let kernel = flat("irq __poll alloc udp_rcv irq");
    assert_eq!(found(&kernel, &format!("{ours}{after}"), "").len(), 1, "the answer's interrupt");
}

#[test]
fn what_is_not_there() {
    let all = found(&flat(ALL), &golden("B", "irq poll alloc"), "");
    assert!(all[0].contains("no machine passes udp_rcv"), "{all:?}");
    let tree = Tree::of(&[
        (NAMES, TABLE),
        (POINTS, EVENTS),
        (&format!("{KERNEL}udp-rx.flat.txt"), &flat(ALL)),
        (&format!("{KERNEL}udp-tx.flat.txt"), SENT),
        (DOCUMENT, "| udp-in | alloc | order | not judged while there is no golden |"),
    ]);
    let all = run_pairs(&tree, &PAIRS[..2]);
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all.iter().all(|finding| finding.what.starts_with("golden missing")), "{all:?}");
    assert_eq!(run(&Tree::of(&[])).len(), 1, "no table of names");
}

#[test]
fn the_table_of_names() {
    let ours = golden("B", "irq poll alloc gro udp_rcv");
    let all = found(&flat("irq __poll helper alloc udp_rcv new_one"), &ours, "");
    assert!(all.len() == 1 && all[0].contains("new_one"), "{all:?}");
    let tree = Tree::of(&[(NAMES, "gone\tirq\n"), (POINTS, "irq")]);
    assert!(
        run_pairs(&tree, &PAIRS[..2])
            .iter()
            .any(|finding| finding.what.contains("gone is in no walk"))
    );
    let tree = Tree::of(&[(NAMES, "irq\tiqr\n"), (POINTS, "irq")]);
    assert!(
        run_pairs(&tree, &PAIRS[..2])
            .iter()
            .any(|finding| finding.what.contains("iqr is no station"))
    );
    let rows = |text| {
        let mut found = Vec::new();
        let names = names(text, &mut found).len();
        (names, found.len())
    };
    assert_eq!(rows("a\tb\nc\t-\twhy\n"), (2, 0));
    assert_eq!(rows("a\nb\t-\nc\t-\t\nd e\n"), (0, 4));
    assert_eq!(rows("a\tb\na\tc\n"), (1, 1));
    let broken = format!("{}nothing\n", flat(ALL));
    assert_eq!(found(&broken, &ours, "").len(), 1);
}

#[test]
fn what_is_beside_is_not_compared() {
    let pair = Pair { beside: &["irq"], ..PAIRS[0] };
    let tree = Tree::of(&[
        (NAMES, TABLE),
        (POINTS, EVENTS),
        (&format!("{KERNEL}udp-rx.flat.txt"), &flat("irq alloc irq udp_rcv")),
        (&format!("{GOLDEN}udp-in-igb.txt"), &golden("B", "udp_rcv irq")),
    ]);
    let found = run_pairs(&tree, &[pair]);
    let differs: Vec<_> = found.iter().filter(|finding| finding.what.contains("differs")).collect();
    assert_eq!(differs.len(), 1, "{differs:?}");
    assert!(differs[0].what.contains("| udp-in | alloc | missing |"), "{differs:?}");
}

#[test]
fn the_fewest_visits_are_out_of_order_and_the_earlier_stay() {
    let of = |text: &str| visits(text.split(' '));
    let names = |kernel, ours| {
        let all = differences(&of(kernel), &of(ours));
        all.iter().map(|(visit, kind)| format!("{visit} {kind}")).collect::<Vec<_>>()
    };
    assert_eq!(names("a b c d e", "a c d e b"), ["b order"]);
    assert_eq!(names("a b", "b a"), ["b order"]);
    assert_eq!(names("a b a b", "a b b a"), ["b#2 order"]);
    assert_eq!(names("a b", ""), ["a missing", "b missing"]);
    assert!(names("a b", "x a y a b").is_empty());
}
