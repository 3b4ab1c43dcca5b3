//! Much over TCP, from the stack to the host's kernel and back, with a hash at both ends; and the host's own
//! programs at the other end.
//!
//! `NETKEEL_BYTES` says how much goes each way, with `M` or `G` behind it; unset, as much as a debug build moves
//! in some seconds.

use crate::up::{HANG, HOST, OUR_MAC, US, tool, with_up};
use host::tap::{Tap, TapOptions};
use host::testing::{Need, NetNs, in_fresh_netns, need};
use host::{Runtime, TapSpec, block_on};
use stack::fs::{exit_files, sys_close, sys_read, sys_write};
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::net::core::dev::{NetDevice, dev_open};
use stack::net::ipv4::devinet::{IfAddr, inet_insert_ifa};
use stack::net::socket::{
    sys_accept4, sys_bind, sys_connect, sys_listen, sys_shutdown, sys_socket,
};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use uapi::errno::Errno;
use uapi::in_::SockaddrIn;
use uapi::socket::{AF_INET, SHUT_WR, SOCK_STREAM};

/// Octets each way.
fn octets() -> u64 {
    octets_of("NETKEEL_BYTES").unwrap_or(64 << 20)
}

/// How many octets a variable of the environment asks for.
pub fn octets_of(variable: &str) -> Option<u64> {
    let asked = std::env::var(variable).ok()?;
    let shift = match asked.chars().last() {
        Some('G') => 30,
        Some('M') => 20,
        _ => 0,
    };
    let number: u64 = asked.trim_end_matches(['G', 'M']).parse().expect("a number of octets");
    Some(number << shift)
}

/// Octets that never repeat, or what came, and a hash of them (FNV-1a over words of eight).
struct Hashed {
    state: u64,
    hash: u64,
    word: [u8; 8],
    len: u64,
}

impl Hashed {
    fn new(seed: u64) -> Self {
        Self { state: seed, hash: 0xcbf2_9ce4_8422_2325, word: [0; 8], len: 0 }
    }

    /// The next octets.
    fn fill(&mut self, room: &mut [u8]) {
        for eight in room.chunks_mut(8) {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            eight.copy_from_slice(&(self.state ^ self.state >> 29).to_le_bytes()[..eight.len()]);
        }
    }

    fn see(&mut self, data: &[u8]) {
        let (mut data, mut at) = (data, (self.len % 8) as usize);
        self.len += data.len() as u64;
        while !data.is_empty() {
            let some = data.len().min(8 - at);
            self.word[at..at + some].copy_from_slice(&data[..some]);
            data = &data[some..];
            at = (at + some) % 8;
            if at == 0 {
                self.hash =
                    (self.hash ^ u64::from_le_bytes(self.word)).wrapping_mul(0x100_0000_01b3);
            }
        }
    }

    /// How much it was, and its hash. What is behind the last word counts, too.
    fn end(self) -> (u64, u64, [u8; 8]) {
        (self.len, self.hash, self.word)
    }
}

pub type Sum = (u64, u64, [u8; 8]);

pub fn host_sends(stream: &mut TcpStream, len: u64) -> Sum {
    let (mut hashed, mut room) = (Hashed::new(1), vec![0; 1 << 16]);
    while hashed.len < len {
        let some = room.len().min((len - hashed.len) as usize);
        hashed.fill(&mut room[..some]);
        hashed.see(&room[..some]);
        stream.write_all(&room[..some]).unwrap();
    }
    stream.shutdown(Shutdown::Write).unwrap();
    hashed.end()
}

pub fn host_receives(stream: &mut TcpStream) -> Sum {
    let (mut hashed, mut room) = (Hashed::new(0), vec![0; 1 << 16]);
    loop {
        match stream.read(&mut room).unwrap() {
            0 => return hashed.end(),
            len => hashed.see(&room[..len]),
        }
    }
}

fn read(cx: &mut TaskCx, fd: i32, room: &mut [u8]) -> usize {
    block_on(cx, &mut sys_read(fd, room)).unwrap()
}

fn read_to_end(cx: &mut TaskCx, fd: i32) -> Vec<u8> {
    let (mut got, mut room) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match read(cx, fd, &mut room) {
            0 => return got,
            len => got.extend_from_slice(&room[..len]),
        }
    }
}

fn write_all(cx: &mut TaskCx, fd: i32, data: &[u8]) {
    let mut at = 0;
    while at < data.len() {
        at += block_on(cx, &mut sys_write(fd, &data[at..])).unwrap();
    }
}

pub fn stack_sends(cx: &mut TaskCx, fd: i32, len: u64) -> Sum {
    let (mut hashed, mut room) = (Hashed::new(2), vec![0; 1 << 16]);
    while hashed.len < len {
        let some = room.len().min((len - hashed.len) as usize);
        hashed.fill(&mut room[..some]);
        hashed.see(&room[..some]);
        write_all(cx, fd, &room[..some]);
    }
    sys_shutdown(cx, fd, SHUT_WR).unwrap();
    hashed.end()
}

pub fn stack_receives(cx: &mut TaskCx, fd: i32) -> Sum {
    let (mut hashed, mut room) = (Hashed::new(0), vec![0; 1 << 16]);
    loop {
        match read(cx, fd, &mut room) {
            0 => return hashed.end(),
            len => hashed.see(&room[..len]),
        }
    }
}

/// A machine on a TAP whose tasks the test writes: `f` is one of them. Nothing may be left of it.
fn with_stack(f: impl FnOnce(&NetNs, &mut TaskCx) + Send) {
    with_stack_of(TapOptions::default(), 1500, |ns, cx, _| f(ns, cx));
}

/// The same with other options and another MTU; whether it was run.
pub fn with_stack_of(
    options: TapOptions,
    mtu: u32,
    f: impl FnOnce(&NetNs, &mut TaskCx, &Arc<NetDevice>) + Send,
) -> bool {
    if !(need(Need::Root) && need(Need::DevNetTun) && need(Need::Tool("ip"))) {
        return false;
    }
    in_fresh_netns(|ns| {
        let tap = Tap::open("nk0", options).unwrap();
        ns.ip(&format!("addr add {HOST}/24 dev nk0"));
        ns.ip(&format!("link set nk0 up mtu {mtu}"));
        let mut runtime = Runtime::builder().boot().unwrap();
        let spec = TapSpec { addr: OUR_MAC, mtu, cpu: CpuId(0) };
        let dev = runtime.add_tap(tap, spec).unwrap();
        let mut cx = runtime.task("test");
        inet_insert_ifa(&mut cx, &dev, IfAddr::new(US, 24).unwrap()).unwrap();
        dev_open(&mut cx, &dev).unwrap();
        let start = Instant::now();
        while !dev.carrier() {
            assert!(start.elapsed() < HANG, "no carrier");
            thread::sleep(Duration::from_millis(1));
        }
        f(ns, &mut cx, &dev);
        exit_files(&mut cx);
        drop((cx, dev));
        let machine = Arc::clone(runtime.machine());
        runtime.shutdown().unwrap();
        assert_eq!((machine.live_skbs(), machine.contained_panics()), (0, 0));
    });
    true
}

/// A connection of the stack's to a port of the host, tried until somebody listens there.
pub fn connect(cx: &mut TaskCx, port: u16) -> i32 {
    let to = SockaddrIn::new(HOST.into(), port).to_bytes();
    let start = Instant::now();
    loop {
        let fd = sys_socket(cx, AF_INET, SOCK_STREAM, 0).unwrap();
        match block_on(cx, &mut sys_connect(fd, &to)) {
            Ok(()) => return fd,
            Err(error) => assert_eq!(error, Errno::ECONNREFUSED),
        }
        sys_close(cx, fd).unwrap();
        assert!(start.elapsed() < HANG, "nobody listens");
        thread::sleep(Duration::from_millis(5));
    }
}

fn listen(cx: &mut TaskCx, port: u16) -> i32 {
    let fd = sys_socket(cx, AF_INET, SOCK_STREAM, 0).unwrap();
    sys_bind(cx, fd, &SockaddrIn::new(0, port).to_bytes()).unwrap();
    sys_listen(cx, fd, 5).unwrap();
    fd
}

fn rate(what: &str, len: u64, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{what}: {len} octets in {seconds:.2} s, {:.0} MiB/s",
        len as f64 / seconds / f64::from(1 << 20)
    );
}

/// The stack sends, then the host does.
fn there_and_back(cx: &mut TaskCx, fd: i32, host: impl FnOnce() -> TcpStream + Send + 'static) {
    let len = octets();
    let host = thread::spawn(move || {
        let mut stream = host();
        let got = host_receives(&mut stream);
        (got, host_sends(&mut stream, len))
    });
    let start = Instant::now();
    let sent = stack_sends(cx, fd, len);
    let got = stack_receives(cx, fd);
    rate("one way and then the other", 2 * len, start);
    assert_eq!((got.0, sent.0), (len, len));
    assert!(host.join().unwrap() == (sent, got), "the hashes are the same at both ends");
}

#[test]
fn a_client_on_the_stack_sends_and_receives_and_nothing_is_changed_on_the_way() {
    with_stack(|_, cx| {
        let listener = TcpListener::bind((HOST, 5001)).unwrap();
        let fd = connect(cx, 5001);
        there_and_back(cx, fd, move || listener.accept().unwrap().0);
    });
}

#[test]
fn a_server_on_the_stack_sends_and_receives_and_nothing_is_changed_on_the_way() {
    with_stack(|_, cx| {
        let listening = listen(cx, 5001);
        let stream = TcpStream::connect((US, 5001)).unwrap();
        let (fd, _) = block_on(cx, &mut sys_accept4(listening, 0)).unwrap();
        there_and_back(cx, fd, move || stream);
    });
}

/// A program that the test has started, and that ends with it.
struct Program(Child);

impl Program {
    fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ended_before = self.0.kill();
        self.0.wait().unwrap();
    }
}

const PYTHON_ECHO: &str = "
import socket
with socket.create_server(('192.0.2.1', 5002)) as listener:
    connection, peer = listener.accept()
    assert peer[0] == '192.0.2.2', peer
    with connection:
        connection.settimeout(60)
        while data := connection.recv(20000):
            connection.sendall(data)
";

#[test]
fn python_sends_back_what_the_stack_sent() {
    if !need(Need::Tool("python3")) {
        return;
    }
    with_stack(|_, cx| {
        let _python = Program::start(Command::new("python3").args(["-c", PYTHON_ECHO]));
        let fd = connect(cx, 5002);
        let (mut all, mut got) = (vec![0; 300_000], Vec::new());
        Hashed::new(3).fill(&mut all);
        let mut room = vec![0; 100_000];
        for part in all.chunks(30_000) {
            write_all(cx, fd, part);
            // No more on the way than fits into the buffers.
            while got.len() < part.len() {
                let len = read(cx, fd, &mut room);
                assert_ne!(len, 0, "it ends when we do");
                got.extend_from_slice(&room[..len]);
            }
            assert!(got == part);
            got.clear();
        }
        sys_shutdown(cx, fd, SHUT_WR).unwrap();
        assert_eq!(read(cx, fd, &mut room), 0);
    });
}

const PYTHON_CLIENT: &str = "
import os, socket, struct, threading
data = os.urandom(2_000_000)
with socket.create_connection(('192.0.2.2', 7), timeout=60) as connection:
    assert connection.getpeername() == ('192.0.2.2', 7)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    def write():
        for at in range(0, len(data), 7777):
            connection.sendall(data[at:at + 7777])
        connection.shutdown(socket.SHUT_WR)
    writing = threading.Thread(target=write)
    writing.start()
    first = connection.recv(1, socket.MSG_PEEK)
    got = b''.join(iter(lambda: connection.recv(65536), b''))
    writing.join()
    assert first == data[:1] and got == data, (len(got), len(data))
# Ends that are none: reset at once, and nothing said.
for _ in range(20):
    with socket.create_connection(('192.0.2.2', 7), timeout=60) as connection:
        connection.send(b'x' * 1000)
        linger = struct.pack('ii', 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    socket.create_connection(('192.0.2.2', 7), timeout=60).close()
with socket.create_connection(('192.0.2.2', 7), timeout=60) as connection:
    connection.sendall(b'still there')
    assert connection.recv(100, socket.MSG_WAITALL | socket.MSG_PEEK | socket.MSG_TRUNC) is not None
    assert connection.recv(100).startswith(b'still')
print('done')
";

#[test]
fn python_is_a_client_of_the_echo_service() {
    if !need(Need::Tool("python3")) {
        return;
    }
    with_up(|_, _| assert_eq!(tool(&["python3", "-c", PYTHON_CLIENT]), "done\n"));
}

/// Answers a request of HTTP with so many octets.
fn serve_http(cx: &mut TaskCx, listening: i32, body: &[u8]) {
    let (fd, _) = block_on(cx, &mut sys_accept4(listening, 0)).unwrap();
    let (mut request, mut room) = (Vec::new(), [0; 1000]);
    while !request.ends_with(b"\r\n\r\n") {
        let len = read(cx, fd, &mut room);
        assert_ne!(len, 0, "a whole request");
        request.extend_from_slice(&room[..len]);
    }
    assert!(request.starts_with(b"GET /file HTTP/1.1\r\n"));
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    write_all(cx, fd, head.as_bytes());
    write_all(cx, fd, body);
    sys_close(cx, fd).unwrap();
}

#[test]
fn curl_gets_a_file_from_a_server_on_the_stack() {
    if !need(Need::Tool("curl")) {
        return;
    }
    with_stack(|_, cx| {
        let listening = listen(cx, 80);
        let mut body = vec![0; 10 << 20];
        Hashed::new(4).fill(&mut body);
        for _ in 0..2 {
            let curl = thread::spawn(|| {
                let args = ["-s", "-f", "--noproxy", "*", "-m", "60", "http://192.0.2.2/file"];
                Command::new("curl").args(args).output().unwrap()
            });
            serve_http(cx, listening, &body);
            let got = curl.join().unwrap();
            assert!(got.status.success() && got.stdout == body, "{} octets", got.stdout.len());
        }
    });
}

/// A folder for one program's files, gone with it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn a_client_on_the_stack_gets_a_file_from_nginx() {
    if !need(Need::Tool("nginx")) {
        return;
    }
    let name = format!("netkeel-nginx-{}", std::process::id());
    let folder = Folder(std::env::temp_dir().join(name));
    let at = folder.0.display();
    std::fs::create_dir_all(folder.0.join("logs")).unwrap();
    let mut file = vec![0; 10 << 20];
    Hashed::new(5).fill(&mut file);
    std::fs::write(folder.0.join("file"), &file).unwrap();
    let conf = format!(
        "daemon off; master_process off; pid {at}/pid; error_log stderr crit;\n\
         events {{}}\n\
         http {{ access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;\n\
         fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;\n\
         server {{ listen 192.0.2.1:80; root {at}; }} }}\n"
    );
    std::fs::write(folder.0.join("conf"), conf).unwrap();
    with_stack(|_, cx| {
        let conf = folder.0.join("conf");
        let _nginx = Program::start(
            Command::new("nginx")
                .arg("-p")
                .arg(&folder.0)
                .arg("-c")
                .arg(conf)
                .stderr(Stdio::null()),
        );
        for _ in 0..2 {
            let fd = connect(cx, 80);
            write_all(cx, fd, b"GET /file HTTP/1.0\r\nHost: host\r\n\r\n");
            let got = read_to_end(cx, fd);
            let head = got.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
            assert!(got.starts_with(b"HTTP/1.1 200 OK\r\n"));
            assert!(got[head..] == file, "{} octets", got.len() - head);
            sys_close(cx, fd).unwrap();
        }
    });
}

#[test]
fn nc_at_either_end() {
    if !need(Need::Tool("nc")) {
        return;
    }
    with_up(|_, _| {
        let text = tool(&["sh", "-c", "seq 1 20000 | nc -N -w 20 192.0.2.2 7 | md5sum"]);
        assert_eq!(text, tool(&["sh", "-c", "seq 1 20000 | md5sum"]));
    });
    with_stack(|_, cx| {
        let mut nc = Program::start(
            Command::new("nc")
                .args(["-N", "-l", "192.0.2.1", "5003"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped()),
        );
        let fd = connect(cx, 5003);
        nc.0.stdin.take().unwrap().write_all(b"from nc\n").unwrap();
        assert_eq!(read_to_end(cx, fd), b"from nc\n");
        write_all(cx, fd, b"from the stack\n");
        sys_shutdown(cx, fd, SHUT_WR).unwrap();
        let mut said = String::new();
        nc.0.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(said, "from the stack\n");
    });
}
