use crate::up::{Up, args, counter, socket_to, with_up};
use host::testing::{Need, in_fresh_netns, need, recv};
use netkeel::up::UpError;
use std::thread;
use std::time::{Duration, Instant};

fn echoes() -> bool {
    let socket = socket_to(7);
    socket.send(b"hello").unwrap();
    recv(&socket, &mut [0; 16]).is_ok_and(|len| len == 5)
}

#[test]
fn a_link_that_is_down_is_no_carrier_and_up_again_it_works() {
    let output = with_up(|ns, up| {
        assert!(echoes());
        ns.ip("link set nk0 down");
        up.out.wait_for("nk0: link down: no carrier");
        ns.ip("link set nk0 up");
        let start = Instant::now();
        while up.out.text().matches("nk0: link up").count() < 2 {
            assert!(start.elapsed() < Duration::from_secs(60), "{}", up.out.text());
            thread::sleep(Duration::from_millis(2));
        }
        assert!(echoes());
    });
    let Some(output) = output else { return };
    assert!(counter(&output, "InDatagrams") >= 2, "{output}");
}

#[test]
fn a_tap_deleted_while_in_use_ends_it_with_its_name() {
    if !(need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip"))) {
        return;
    }
    in_fresh_netns(|ns| {
        let up = Up::start(args(|_| ()));
        up.join(ns);
        ns.ip("link del nk0");
        let start = Instant::now();
        while !up.is_finished() {
            assert!(start.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(2));
        }
        let out = up.out.clone();
        let error = up.stop().unwrap_err();
        assert!(matches!(error, UpError::Gone(_)), "{error:?}");
        assert_eq!(error.to_string(), "TAP nk0 was deleted: create it again, then start anew");
        assert_eq!(error.exit_code(), 1);
        assert!(out.text().contains("nk0: deleted\nnk0: rx_packets"), "{}", out.text());
    });
}

#[test]
fn a_tap_made_beforehand_and_up_is_used_and_left_there() {
    if !(need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip"))) {
        return;
    }
    in_fresh_netns(|ns| {
        ns.ip("tuntap add dev nk0 mode tap");
        ns.ip("link set nk0 up mtu 1400");
        ns.ip("addr add 192.0.2.1/24 dev nk0");
        let up = Up::start(args(|args| args.echo = true));
        let text = up.out.text();
        // A persistent TAP has carrier, and so an echo, only once its descriptor is open.
        assert!(text.contains("MTU 1400, link up"), "{text}");
        assert!(echoes());
        up.stop().unwrap();
        ns.ip("link show nk0");
    });
}

#[test]
fn a_tap_is_free_again_when_the_stack_on_it_has_ended() {
    if !(need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip"))) {
        return;
    }
    in_fresh_netns(|ns| {
        ns.ip("tuntap add dev nk0 mode tap");
        ns.ip("link set nk0 up");
        ns.ip("addr add 192.0.2.1/24 dev nk0");
        for _ in 0..3 {
            // A single-queue TAP refuses a second descriptor with EBUSY, so a stack that kept
            // its own alive would fail the next round's start.
            let up = Up::start_anew(&args(|args| args.echo = true));
            assert!(echoes());
            up.stop().unwrap();
        }
    });
}
