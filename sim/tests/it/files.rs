//! Descriptor tables: how far they go, and calls that outlive their descriptor.

use crate::util::{A, Pair, udp};
use stack::fs::select::FdSets;
use stack::fs::{exit_files, sys_close, sys_dup2, sys_select};
use std::time::Duration;
use uapi::errno::Errno;

fn read(fds: &[i32]) -> FdSets {
    FdSets { read: fds.to_vec(), ..FdSets::default() }
}

#[test]
fn select_looks_no_further_than_the_table_goes() {
    let mut pair = Pair::new(60);
    let mut cx = pair.on_a();
    let fd = udp(&mut cx, A, 4000);
    let now = Some(Duration::ZERO);
    let mut select = |cx: &mut _, sets: &mut FdSets| pair.run(cx, sys_select(sets, now));
    assert_eq!(select(&mut cx, &mut read(&[63])), Err(Errno::EBADF), "the last one with room");
    let mut beyond = FdSets { read: vec![64, 1023], write: vec![fd, 64], except: vec![] };
    assert_eq!(select(&mut cx, &mut beyond), Ok(1), "only the one that is writable counts");
    let after = FdSets { read: vec![64, 1023], write: vec![fd, 64], except: vec![] };
    assert_eq!(beyond, after, "not looked at: as they were");
    // The table grows with what is opened, to the next power of two, and stays so.
    for (high, end) in [(64, 128), (128, 256), (700, 1024)] {
        assert_eq!(sys_dup2(&mut cx, fd, high), Ok(high));
        sys_close(&mut cx, high).expect("open");
        assert_eq!(select(&mut cx, &mut read(&[end - 1])), Err(Errno::EBADF));
        let mut beyond = read(&[end]);
        assert_eq!(select(&mut cx, &mut beyond), Ok(0));
        assert_eq!(beyond, read(&[end]));
    }
    let child = cx.task().files().dup_fd();
    let task = stack::kernel::sched::TaskStruct::with_files("child", cx.cpu(), child);
    let mut child = stack::kernel::context::TaskCx::new(&pair.a, task);
    let mut select = |cx: &mut _, sets: &mut FdSets| pair.run(cx, sys_select(sets, now));
    assert_eq!(select(&mut child, &mut read(&[64])), Ok(0), "a copy has what is needed");
    exit_files(&mut child);
    exit_files(&mut cx);
    drop((child, cx));
    pair.assert_clean();
}
