//! Scanners of networks: what they take the stack for, and what they leave behind.

use crate::control::ask;
use crate::pcap::Scratch;
use crate::up::{tool, with_up};
use host::testing::{Need, need};

#[test]
fn nmap_takes_us_for_linux_and_leaves_nothing_behind() {
    if !need(Need::Tool("nmap")) {
        return;
    }
    with_up(|_, up| {
        let nmap = |words: &str| {
            tool(&["sh", "-c", &format!("exec timeout 60 nmap -n -Pn {words} 192.0.2.2")])
        };
        let sockets = ask("ss -tuan");
        let said = nmap("-O -p 1-100");
        let details = said.lines().find(|line| line.starts_with("OS details: ")).expect(&said);
        assert!(details.contains("Linux"), "{said}");
        for port in ["7/tcp  open  echo", "9/tcp  open  discard", "19/tcp open  chargen"] {
            assert!(said.contains(port), "{said}");
        }
        // By SYN, UDP, protocol, in fragments, with wrong sums.
        assert!(nmap("-sS -p 1-1000").contains("19/tcp open"));
        nmap("-sU -p 5-12 --max-retries 1");
        nmap("-sO -p 1,2,6,17,47,132,200 --max-retries 1");
        assert!(nmap("-f -sS -p 7,81").contains("7/tcp  open"));
        assert!(nmap("--badsum -sS -p 7,81").contains("filtered"), "nobody answers what is spoilt");
        // What was half open is reset by the scanner's own kernel.
        let left = ask("stat sockstat");
        assert!(
            left.contains("orphan 0 tw 0 alloc 3 mem 0") && left.contains("FRAG: inuse 0"),
            "{left}"
        );
        assert_eq!(ask("ss -tuan"), sockets);
        assert!(!up.is_finished());
    });
}

#[test]
fn p0f_reads_our_syn_as_linux() {
    if !need(Need::Tool("p0f")) {
        return;
    }
    let file = Scratch::new("syn.pcapng");
    tool(&[
        env!("CARGO_BIN_EXE_netkeel"),
        "walk",
        "tcp",
        "--format",
        "pcapng",
        "--out",
        file.path(),
    ]);
    let said = tool(&["p0f", "-r", file.path()]);
    let syn = said.split(".-[").find(|part| part.contains("(syn)")).expect(&said);
    let os = syn.lines().find(|line| line.starts_with("| os")).expect(&said);
    assert!(os.contains("Linux"), "{said}");
}
