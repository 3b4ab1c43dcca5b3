use super::*;
use crate::wait::{Token, Trigger, Waiter};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::os::unix::thread::JoinHandleExt;
use std::process::Command;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

/// Signals are the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn raise(signal: libc::c_int) {
    // SAFETY: raise takes any number; the handler it runs is the one under test.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

#[test]
fn each_signal_stops_and_wakes_a_waiter() {
    let _alone = alone();
    for signal in STOPPING {
        let stop = StopSignal::install().unwrap();
        let waiter = Waiter::new().unwrap();
        waiter.add(&stop, Token(1), Trigger::Level).unwrap();
        assert!(!stop.stopped(), "an earlier one is forgotten");
        assert_eq!(waiter.wait(Some(Duration::ZERO)).unwrap().next(), None);
        raise(signal);
        assert_eq!(stop.signal(), Some(signal));
        assert_eq!(waiter.wait(None).unwrap().next(), Some(Token(1)));
        assert_eq!(waiter.wait(None).unwrap().next(), Some(Token(1)), "for good");
    }
}

#[test]
fn the_first_of_two_counts_and_errno_is_kept() {
    let _alone = alone();
    let stop = StopSignal::install().unwrap();
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() = 42 };
    raise(libc::SIGTERM);
    assert_eq!(io::Error::last_os_error().raw_os_error(), Some(42));
    raise(libc::SIGINT);
    assert_eq!(stop.signal(), Some(libc::SIGTERM));
}

#[test]
fn there_is_one_at_a_time() {
    let _alone = alone();
    let stop = StopSignal::install().unwrap();
    assert_eq!(StopSignal::install().unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    drop(stop);
    StopSignal::install().unwrap();
}

#[test]
fn dropped_it_restores_what_was() {
    let _alone = alone();
    // SAFETY: to ignore a signal and to take its default again are sound at any time.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
    drop(StopSignal::install().unwrap());
    raise(libc::SIGTERM);
    // SAFETY: as above.
    let was = unsafe { libc::signal(libc::SIGTERM, libc::SIG_DFL) };
    assert_eq!(was, libc::SIG_IGN);
}

#[test]
fn a_signal_ends_a_wait_early_and_without_error() {
    let _alone = alone();
    let stop = StopSignal::install().unwrap();
    let waiter = Arc::new(Waiter::new().unwrap());
    let (started, ready) = mpsc::channel();
    let sleeper = {
        let waiter = Arc::clone(&waiter);
        thread::spawn(move || {
            started.send(rustix::thread::gettid()).unwrap();
            let mut events = waiter.wait(None).unwrap();
            (events.woken(), events.next())
        })
    };
    let stat = format!("/proc/self/task/{}/stat", ready.recv().unwrap());
    while !std::fs::read_to_string(&stat).unwrap().contains(") S ") {
        thread::yield_now();
    }
    // SAFETY: the thread is not yet joined, so its handle is valid.
    unsafe { libc::pthread_kill(sleeper.as_pthread_t(), libc::SIGINT) };
    assert_eq!(sleeper.join().unwrap(), (false, None));
    assert!(stop.stopped());
}

/// Set in the process that the next test starts to be killed.
const VICTIM: &str = "NETKEEL_TEST_KILLED_BY_SIGNAL";

#[test]
fn killed_by_a_second_signal() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let stop = StopSignal::install().unwrap();
    raise(libc::SIGINT);
    assert!(stop.stopped());
    raise(libc::SIGINT);
}

#[test]
fn a_second_signal_of_its_kind_kills() {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "signal::tests::killed_by_a_second_signal"])
        .env(VICTIM, "1")
        .output()
        .unwrap()
        .status;
    assert_eq!(status.signal(), Some(libc::SIGINT), "{status}");
}

#[test]
fn a_closed_pipe_is_told_from_other_failures() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    drop(reader);
    assert!(is_closed_pipe(&writer.write_all(b"x").unwrap_err()));
    assert!(!is_closed_pipe(&io::ErrorKind::NotFound.into()));
}
