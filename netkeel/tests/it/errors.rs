use crate::up::args;
use host::tap::{Tap, TapOptions};
use host::testing::{Need, NetNs, TunNode, in_fresh_netns, need};
use netkeel::up::{UpArgs, serve};

/// The text and exit code of a start that fails.
fn failure(args: &UpArgs) -> (String, u8) {
    let (end, _stop) = std::io::pipe().unwrap();
    let mut out = Vec::new();
    let error = serve(args, &mut out, &end).unwrap_err();
    assert!(out.is_empty(), "nothing on standard output: {out:?}");
    let text = error.to_string();
    assert!(!text.contains('\n'), "one line: {text}");
    (text, error.exit_code())
}

#[test]
fn mistakes_in_the_arguments_are_usage_errors() {
    let (text, code) = failure(&args(|args| args.addr = "192.0.2.2".to_owned()));
    assert_eq!(code, 2);
    assert_eq!(
        text,
        "--addr \"192.0.2.2\" is no IPv4 address with a prefix length: write it as 192.0.2.2/24"
    );
    let (text, code) = failure(&args(|args| args.gw = Some("198.51.100.1".to_owned())));
    assert_eq!(code, 2);
    assert_eq!(text, "--gw 198.51.100.1 is not on the link: name a neighbour in 192.0.2.0/24");
    let (text, code) = failure(&args(|args| args.tap = "a/b".to_owned()));
    assert_eq!(code, 2);
    assert!(text.contains("choose another, such as nk0"), "{text}");
}

fn in_netns(f: impl FnOnce(&NetNs) + Send) {
    if need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip")) {
        in_fresh_netns(f);
    }
}

#[test]
fn a_tap_that_is_taken_is_named() {
    in_netns(|_| {
        let _tap = Tap::open("nk0", TapOptions::default()).unwrap();
        let (text, code) = failure(&args(|_| ()));
        assert_eq!(code, 1);
        assert!(text.starts_with("TAP nk0 is in use: stop the process"), "{text}");
    });
}

#[test]
fn a_tun_is_no_tap() {
    in_netns(|ns| {
        ns.ip("tuntap add dev nk0 mode tun");
        let (text, code) = failure(&args(|_| ()));
        assert_eq!(code, 1);
        assert!(text.starts_with("nk0 is a TUN"), "{text}");
    });
}

#[test]
fn without_permission_the_remedy_is_told() {
    in_netns(|ns| {
        ns.tun_node(TunNode::Mode(0o600));
        let (text, code) = ns.as_nobody(|| failure(&args(|_| ())));
        assert_eq!(code, 1);
        assert!(text.starts_with("no permission to open /dev/net/tun: run as root"), "{text}");
    });
    in_netns(|ns| {
        ns.tun_node(TunNode::Mode(0o666));
        let (text, code) = ns.as_nobody(|| failure(&args(|_| ())));
        assert_eq!(code, 1);
        assert!(text.starts_with("no TAP nk0, and no right to create it: sudo ip"), "{text}");
    });
}
