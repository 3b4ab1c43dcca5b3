//! `netkeel irq --balance` on a machine under traffic.

use crate::control::{ask, netkeel};
use crate::up::{HANG, with_up_of};
use std::net::UdpSocket;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Sends to the discard service from many ports, until it is told to stop. What is not answered the host spreads over
/// the queues by its hash.
fn traffic(stop: &AtomicBool) {
    let sockets: Vec<UdpSocket> = (0..32).map(|_| crate::up::socket_to(9)).collect();
    while !stop.load(Ordering::Relaxed) {
        for socket in &sockets {
            socket.send(b"x").unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Where the queues' interrupts are taken.
fn homes() -> Vec<u64> {
    let irqs: serde_json::Value = serde_json::from_str(&ask("irq --json")).unwrap();
    let of_queues = irqs.as_array().unwrap().iter().filter(|irq| {
        let name = irq["name"].as_str().unwrap();
        name.starts_with("nk0") && !name.contains("link")
    });
    of_queues.map(|irq| irq["effective"].as_u64().unwrap()).collect()
}

#[test]
fn two_busy_interrupts_of_one_cpu_are_parted_and_stay_parted() {
    let two = |args: &mut netkeel::up::UpArgs| (args.cpus, args.queues) = (2, 2);
    with_up_of(two, |_, _| {
        for irq in 0..8 {
            // Those there are: all on CPU 0.
            let _ = netkeel(&format!("irq {irq} smp_affinity 1")).output();
        }
        assert_eq!(homes(), [0, 0]);
        let mut balancer = netkeel("irq --balance --interval 0.1");
        let mut balancer = balancer.stdout(Stdio::piped()).spawn().unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| traffic(&stop));
            let start = Instant::now();
            while homes() == [0, 0] && start.elapsed() < HANG {
                std::thread::sleep(Duration::from_millis(50));
            }
            // Twenty more looks.
            std::thread::sleep(Duration::from_secs(2));
            stop.store(true, Ordering::Relaxed);
        });
        let after = homes();
        balancer.kill().unwrap();
        let out = balancer.wait_with_output().unwrap();
        let said = String::from_utf8(out.stdout).unwrap();
        assert!(after == [0, 1] || after == [1, 0], "{after:?}: {said}");
        assert!((1..=2).contains(&said.lines().count()), "{said}");
        assert!(said.starts_with("irq ") && said.contains("CPU 0 -> CPU 1"), "{said}");
    });
}
