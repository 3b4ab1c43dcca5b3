//! How a capture of `--pcap` ends: by a signal, a full disk, a reader that goes or sleeps.

use crate::pcap::{Scratch, read_ours};
use crate::up::{Up, args, socket_to, tool};
use host::testing::{Need, NetNs, in_fresh_netns, need, recv};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

fn in_netns(f: impl FnOnce(&NetNs) + Send) {
    if need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip")) {
        in_fresh_netns(f);
    }
}

/// So many datagrams of this length there and back.
fn echoes(count: usize, len: usize) {
    let socket = socket_to(7);
    for _ in 0..count {
        socket.send(&vec![0x55; len]).unwrap();
        assert_eq!(recv(&socket, &mut [0; 2048]).unwrap(), len);
    }
}

fn up(ns: &NetNs, file: &Path) -> Up {
    let up = Up::start(args(|args| {
        args.echo = true;
        args.pcap = Some(file.to_owned());
    }));
    up.join(ns);
    up
}

/// The program itself, joined.
fn program(ns: &NetNs, file: &str) -> Child {
    ns.ip("tuntap add dev nk0 mode tap");
    ns.ip("link set nk0 up");
    ns.ip("addr add 192.0.2.1/24 dev nk0");
    Command::new(env!("CARGO_BIN_EXE_netkeel"))
        .args(["up", "--tap", "nk0", "--addr", "192.0.2.2/24", "--echo", "--pcap", file])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn wait_for_start(lines: &mut impl Iterator<Item = std::io::Result<String>>) {
    assert!(lines.any(|line| line.unwrap().starts_with("Ctrl-C stops")));
}

#[test]
fn after_a_signal_the_file_is_whole() {
    in_netns(|ns| {
        let file = Scratch::new("signal.pcapng");
        let mut child = program(ns, file.path());
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        wait_for_start(&mut lines);
        echoes(30, 100);
        tool(&["sh", "-c", &format!("kill -INT {}", child.id())]);
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        assert!(child.wait().unwrap().success());
        let ours = read_ours(&file.0);
        assert!(ours.frames.len() >= 60);
        assert_eq!(ours.statistics, Some((ours.frames.len() as u64, 0)));
        let line = format!("capture: {} frames in {}", ours.frames.len(), file.path());
        assert!(rest.iter().any(|said| said.starts_with(&line)), "{rest:?}");
    });
}

#[test]
fn standard_output_takes_the_capture_and_a_reader_that_goes_ends_it_quietly() {
    in_netns(|ns| {
        let mut child = program(ns, "-");
        let mut said = BufReader::new(child.stderr.take().unwrap());
        wait_for_start(&mut (&mut said).lines());
        let mut capture = child.stdout.take().unwrap();
        let mut header = [0; 4];
        capture.read_exact(&mut header).unwrap();
        assert_eq!(header, [0x0a, 0x0d, 0x0d, 0x0a], "before any frame");
        echoes(3, 100);
        // Nothing passes any more: it must be seen all the same.
        drop(capture);
        assert!(child.wait().unwrap().success());
        let mut rest = String::new();
        said.read_to_string(&mut rest).unwrap();
        assert!(!rest.contains("netkeel:") && !rest.contains("can't"), "{rest}");
    });
}

#[test]
fn a_file_that_cannot_be_made_is_named() {
    for (path, cause) in
        [("/nonexistent/nk0.pcapng", "No such file or directory"), ("/", "Is a directory")]
    {
        in_netns(|_| {
            let (end, _stop) = std::io::pipe().unwrap();
            let mut out = Vec::new();
            let args = args(|args| args.pcap = Some(PathBuf::from(path)));
            let error = netkeel::up::serve(&args, &mut out, &end).unwrap_err();
            assert_eq!((error.exit_code(), out.len()), (1, 0));
            let text = error.to_string();
            assert!(text.starts_with(&format!("can't write {path}: {cause}")), "{text}");
            assert!(text.ends_with("name another file with --pcap"), "{text}");
        });
    }
}

#[test]
fn a_full_disk_ends_the_capture_and_not_the_stack() {
    in_netns(|ns| {
        // A disk of 64 KiB, in this test's own mounts only.
        let disk = Scratch::new("disk");
        std::fs::create_dir(&disk.0).unwrap();
        tool(&["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk.path()]);
        let file = disk.0.join("full.pcapng");
        let up = up(ns, &file);
        echoes(60, 1000);
        let line = format!(
            "can't write {}: No space left on device (os error 28); going on without the capture\n",
            file.display()
        );
        up.out.wait_for(&line);
        echoes(10, 1000);
        let out = up.out.clone();
        let error = up.stop().unwrap_err();
        assert_eq!(error.exit_code(), 1);
        let text = format!("can't write {}: No space left on device", file.display());
        assert!(error.to_string().starts_with(&text), "{error}");
        assert_eq!(out.text().matches("can't write").count(), 1, "{}", out.text());
        assert!(out.text().contains("nk0: rx_packets"), "{}", out.text());
        let ours = read_ours(&file);
        assert!((40..=66).contains(&ours.frames.len()), "{}", ours.frames.len());
        // Lazily: a program that another test starts may have a copy of the file until its exec.
        tool(&["umount", "-l", disk.path()]);
    });
}

#[test]
fn a_reader_that_sleeps_holds_up_neither_the_stack_nor_the_stop() {
    in_netns(|ns| {
        let pipe = Scratch::new("pipe");
        tool(&["mkfifo", pipe.path()]);
        // Both ends: nobody waits for the other to open it.
        let reader = std::fs::File::options().read(true).write(true).open(&pipe.0).unwrap();
        let up = up(ns, &pipe.0);
        echoes(200, 1400);
        let out = up.out.clone();
        let error = up.stop().unwrap_err();
        let text = format!("can't write {}: nobody reads the pipe; name", pipe.path());
        assert!(error.to_string().starts_with(&text), "{error}");
        assert!(out.text().contains("nk0: rx_packets"), "{}", out.text());
        drop(reader);
    });
}
