//! Pipes whose readers and writers wait, and files that go through connections.

use crate::util::{B, Pair, addr};
use sim::{Digest, Task};
use stack::fs::{
    exit_files, sys_close, sys_lseek, sys_memfd_create, sys_pipe, sys_read, sys_sendfile,
    sys_splice, sys_write,
};
use stack::kernel::context::TaskCx;
use stack::kernel::cpu::CpuId;
use stack::kernel::sched::{TaskStruct, poll_operation};
use stack::net::socket::{sys_accept4, sys_bind, sys_connect, sys_listen, sys_socket};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Wake, Waker};
use std::time::Duration;
use uapi::errno::Errno;
use uapi::fcntl::SEEK_SET;
use uapi::socket::{AF_INET, SOCK_STREAM};

fn octets(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 256) as u8).collect()
}

/// Counts how often it is woken.
#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Another task with the same files.
fn beside(pair: &Pair, cx: &TaskCx) -> TaskCx {
    let files = Arc::clone(cx.task().files());
    TaskCx::new(&pair.a, TaskStruct::with_files("other", cx.cpu(), files))
}

#[test]
fn a_reader_waits_for_a_writer_and_one_is_woken_at_a_time() {
    let pair = Pair::new(200);
    let mut writer = pair.on_a();
    let (mut one, mut two) = (beside(&pair, &writer), beside(&pair, &writer));
    let [from, to] = sys_pipe(&mut writer).expect("descriptors are free");
    let counts = [Arc::new(Count::default()), Arc::new(Count::default())];
    let wakers = counts.clone().map(Waker::from);
    let woken = || counts.clone().map(|count| count.0.load(Ordering::SeqCst));
    let (mut first, mut second) = ([0; 5], [0; 5]);
    let mut reads = [sys_read(from, &mut first), sys_read(from, &mut second)];
    assert_eq!(poll_operation(&mut one, &wakers[0], &mut reads[0]), Poll::Pending);
    assert_eq!(poll_operation(&mut two, &wakers[1], &mut reads[1]), Poll::Pending);
    let mut write = sys_write(to, b"0123456789");
    assert_eq!(poll_operation(&mut writer, Waker::noop(), &mut write), Poll::Ready(Ok(10)));
    assert_eq!(woken(), [1, 0], "the first alone");
    assert_eq!(poll_operation(&mut one, &wakers[0], &mut reads[0]), Poll::Ready(Ok(5)));
    assert_eq!(woken(), [1, 1], "which leaves something for the second");
    assert_eq!(poll_operation(&mut two, &wakers[1], &mut reads[1]), Poll::Ready(Ok(5)));
    drop(reads);
    assert_eq!((&first, &second), (b"01234", b"56789"));
    // One that waits hears of the end.
    let mut into = [0; 5];
    let mut last = sys_read(from, &mut into);
    assert_eq!(poll_operation(&mut one, &wakers[0], &mut last), Poll::Pending);
    sys_close(&mut writer, to).expect("open");
    assert_eq!(woken(), [2, 1]);
    assert_eq!(poll_operation(&mut one, &wakers[0], &mut last), Poll::Ready(Ok(0)));
    drop(last);
    exit_files(&mut writer);
    drop((writer, one, two));
    let _digest = pair.end();
}

#[test]
fn a_writer_waits_for_room_and_tells_what_it_wrote_when_nobody_reads_on() {
    let pair = Pair::new(201);
    let mut writer = pair.on_a();
    let mut reader = beside(&pair, &writer);
    let [from, to] = sys_pipe(&mut writer).expect("descriptors are free");
    let data = octets(200_000);
    let mut write = sys_write(to, &data);
    let count = Arc::new(Count::default());
    let waker = Waker::from(Arc::clone(&count));
    let mut got = Vec::new();
    let mut into = vec![0; 10_000];
    assert_eq!(poll_operation(&mut writer, &waker, &mut write), Poll::Pending);
    while got.len() < 100_000 {
        let mut read = sys_read(from, &mut into);
        let Poll::Ready(Ok(len)) = poll_operation(&mut reader, Waker::noop(), &mut read) else {
            panic!("something is there");
        };
        drop(read);
        got.extend_from_slice(&into[..len]);
        assert_eq!(poll_operation(&mut writer, &waker, &mut write), Poll::Pending);
    }
    assert!(count.0.load(Ordering::SeqCst) >= 10, "woken as pages become free");
    assert!(got == data[..got.len()], "in order");
    sys_close(&mut reader, from).expect("open");
    let Poll::Ready(Ok(written)) = poll_operation(&mut writer, &waker, &mut write) else {
        panic!("a part was written");
    };
    assert!((got.len()..data.len()).contains(&written), "{written}");
    drop(write);
    let mut more = sys_write(to, b"x");
    let refused = poll_operation(&mut writer, &waker, &mut more);
    assert_eq!(refused, Poll::Ready(Err(Errno::EPIPE)));
    drop(more);
    exit_files(&mut writer);
    drop((writer, reader));
    let _digest = pair.end();
}

#[test]
fn a_call_that_sleeps_keeps_its_pipe_and_is_interrupted() {
    let pair = Pair::new(202);
    let mut cx = pair.on_a();
    let mut other = beside(&pair, &cx);
    let [from, to] = sys_pipe(&mut cx).expect("descriptors are free");
    let mut into = [0; 5];
    let mut read = sys_read(from, &mut into);
    assert_eq!(poll_operation(&mut cx, Waker::noop(), &mut read), Poll::Pending);
    // The descriptor goes; the reader is still one.
    sys_close(&mut other, from).expect("open");
    let mut write = sys_write(to, b"x");
    assert_eq!(poll_operation(&mut other, Waker::noop(), &mut write), Poll::Ready(Ok(1)));
    assert_eq!(poll_operation(&mut cx, Waker::noop(), &mut read), Poll::Ready(Ok(1)));
    drop(read);
    let mut write = sys_write(to, b"x");
    assert_eq!(
        poll_operation(&mut other, Waker::noop(), &mut write),
        Poll::Ready(Err(Errno::EPIPE))
    );
    let [from, _to] = sys_pipe(&mut cx).expect("descriptors are free");
    let mut read = sys_read(from, &mut into);
    assert_eq!(poll_operation(&mut cx, Waker::noop(), &mut read), Poll::Pending);
    cx.task().interrupt();
    assert_eq!(poll_operation(&mut cx, Waker::noop(), &mut read), Poll::Ready(Err(Errno::EINTR)));
    drop(read);
    exit_files(&mut cx);
    drop((cx, other));
    let _digest = pair.end();
}

/// Octets of the file: more than the buffers of a connection and a pipe hold.
const FILE: usize = 3 << 20;

async fn receive(task: Task, listener: i32, got: Rc<RefCell<Vec<u8>>>) {
    let (fd, _) = task.call(sys_accept4(listener, 0)).await.expect("a connection");
    let [from, to] = task.now(sys_pipe).expect("descriptors are free");
    let mut buffer = vec![0; 1 << 16];
    loop {
        let came = task.call(sys_splice((fd, None), (to, None), 1 << 20, 0)).await;
        let came = came.expect("octets or the end");
        if came == 0 {
            return task.now(exit_files);
        }
        let mut left = came;
        while left != 0 {
            let len = task.call(sys_read(from, &mut buffer)).await.expect("they are there");
            got.borrow_mut().extend_from_slice(&buffer[..len]);
            left -= len;
        }
    }
}

async fn send(task: Task, fd: i32, sent: Rc<RefCell<usize>>) {
    task.call(sys_connect(fd, &addr(B, 80))).await.expect("it listens");
    let file = task.now(|cx| sys_memfd_create(cx, "file", 0)).expect("descriptors are free");
    task.call(sys_write(file, &octets(FILE))).await.expect("there is room");
    task.now(|cx| sys_lseek(cx, file, 0, SEEK_SET)).expect("a file");
    let whole = task.call(sys_sendfile(fd, file, None, FILE + 100)).await;
    *sent.borrow_mut() = whole.expect("all of it");
    // The same once more, by a pipe.
    let [from, to] = task.now(sys_pipe).expect("descriptors are free");
    let mut place = 0;
    while (place as usize) < FILE {
        let read = task.call(sys_splice((file, Some(&mut place)), (to, None), FILE, 0)).await;
        let mut left = read.expect("octets of the file");
        while left != 0 {
            left -= task.call(sys_splice((from, None), (fd, None), left, 0)).await.expect("sent");
        }
    }
    task.now(exit_files);
}

stepped!(a_file_goes_through_a_connection_by_sendfile_and_by_splice);
fn a_file_goes_through_a_connection_by_sendfile_and_by_splice() -> Digest {
    let mut pair = Pair::new(203);
    let got = Rc::new(RefCell::new(Vec::new()));
    let sent = Rc::new(RefCell::new(0));
    let (a, b) = (Arc::clone(&pair.a), Arc::clone(&pair.b));
    let theirs = Rc::clone(&got);
    pair.world.spawn(&b, CpuId(0), |task| {
        let listener = task.now(|cx| {
            let fd = sys_socket(cx, AF_INET, SOCK_STREAM, 0).expect("a socket");
            sys_bind(cx, fd, &addr(B, 80)).expect("a free port");
            sys_listen(cx, fd, 1).expect("it listens");
            fd
        });
        receive(task, listener, theirs)
    });
    let ours = Rc::clone(&sent);
    pair.world.spawn(&a, CpuId(0), |task| {
        let fd = task.now(|cx| sys_socket(cx, AF_INET, SOCK_STREAM, 0).expect("a socket"));
        send(task, fd, ours)
    });
    assert!(pair.world.run_tasks(Duration::from_secs(600)), "both come to their end");
    assert_eq!(*sent.borrow(), FILE);
    let data = octets(FILE);
    let got = got.borrow();
    assert_eq!(got.len(), 2 * FILE);
    assert!(got[..FILE] == data && got[FILE..] == data, "in order");
    pair.world.run_for(Duration::from_secs(70));
    pair.end()
}
