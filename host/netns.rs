//! Network namespaces of one's own, processors to be on, threads beside: what measuring needs of the host.
//!
//! Key types: [`NetNs`], [`Beside`]. Contexts: threads made for it. Invariant: nothing outside the namespaces made
//! here is changed, and they go with the last thread that lives in them.

use crate::ifreq::{IfReq, IfRequest};
use rustix::thread::{CpuSet, UnshareFlags, sched_getaffinity, sched_setaffinity};
use std::io;
use std::marker::PhantomData;
use std::os::unix::net::UnixDatagram;
use std::panic::resume_unwind;
use std::process::Command;
use std::thread::{self, JoinHandle};
use uapi::if_::IFF_UP;

/// A network namespace, seen from the thread that lives in it. Threads and programs started by that
/// thread live in it too. It goes with the last of them.
#[derive(Debug)]
pub struct NetNs {
    /// Not to be handed to a thread that may live elsewhere.
    here: PhantomData<*const ()>,
}

/// Runs `f` on a thread in a fresh network namespace, whose only device is `lo`, and up.
///
/// # Errors
/// The system's, when the namespace can't be made: that takes root.
///
/// # Panics
/// As `f` does.
pub fn in_own_netns<R: Send>(f: impl FnOnce(&NetNs) -> R + Send) -> io::Result<R> {
    on_own_thread(|| Ok(f(&NetNs::enter(UnshareFlags::NEWNET)?)))
}

pub(crate) fn on_own_thread<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    let result = thread::scope(|scope| scope.spawn(f).join());
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

impl NetNs {
    /// The calling thread never returns from it, so it has to be one made for this.
    pub(crate) fn enter(namespaces: UnshareFlags) -> io::Result<Self> {
        debug_assert!(!namespaces.contains(UnshareFlags::FILES));
        // SAFETY: the call is unsafe for UnshareFlags::FILES alone, which is not among these; so
        // no descriptor of another thread is closed or opened.
        unsafe { rustix::thread::unshare_unsafe(namespaces)? };
        let socket = UnixDatagram::unbound()?;
        let mut request = IfReq::new("lo");
        request.set_flags(IFF_UP as u16);
        request.ioctl(&socket, IfRequest::SetFlags)?;
        Ok(Self { here: PhantomData })
    }

    /// Runs the `ip` command with these words.
    ///
    /// # Errors
    /// That there is no such program, or what it said.
    pub fn ip(&self, words: &str) -> io::Result<()> {
        let output = Command::new("ip")
            .args(words.split_whitespace())
            .output()
            .map_err(|e| io::Error::other(format!("ip: {e}; install iproute2")))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("ip {words}: {}", said.trim())))
    }

    /// Writes a setting under `net` of this namespace, as `sysctl -w` does: `ipv4.tcp_syncookies`.
    ///
    /// # Errors
    /// The system's, for a setting that there is not or a value it can't have; it names the setting.
    pub fn sysctl(&self, name: &str, value: &str) -> io::Result<()> {
        let path = format!("/proc/sys/net/{}", name.replace('.', "/"));
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{path}: {e}"));
        std::fs::write(&path, value).map_err(named)
    }

    /// The calling thread's number, by which `ip link set … netns` finds the namespace.
    #[must_use]
    pub fn id(&self) -> i32 {
        rustix::thread::gettid().as_raw_nonzero().get()
    }
}

/// The processors that the calling thread may run on.
#[must_use]
pub fn processors() -> Vec<usize> {
    let set = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    (0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
}

/// Binds the calling thread to one processor; threads it starts begin there.
///
/// # Errors
/// The system's, for a processor that the thread may not run on.
pub fn bind_thread(processor: usize) -> io::Result<()> {
    if processor >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(processor);
    Ok(sched_setaffinity(None, &set)?)
}

/// A thread that works beside the caller's, in the same namespace; dropping it waits for its end, so what
/// tells it to end comes before.
#[derive(Debug)]
pub struct Beside(Option<JoinHandle<()>>);

impl Beside {
    /// Starts it.
    ///
    /// # Errors
    /// The system's, when no thread can be had.
    pub fn start(f: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        Ok(Self(Some(thread::Builder::new().spawn(f)?)))
    }

    /// Lets another thread have the processor; called by the thread itself.
    pub fn make_way() {
        thread::yield_now();
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            // A panic there has been reported already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_beside_has_ended_when_it_is_dropped() {
        let done = std::sync::Arc::new(std::sync::Mutex::new(false));
        let theirs = std::sync::Arc::clone(&done);
        let held = done.lock().unwrap();
        let beside = Beside::start(move || *theirs.lock().unwrap() = true).unwrap();
        drop(held);
        drop(beside);
        assert!(*done.lock().unwrap());
    }

    #[test]
    fn a_setting_is_the_namespaces_own() {
        use crate::testing::{Need, need};
        if !need(Need::Root) {
            return;
        }
        let (name, path) = ("ipv4.tcp_syncookies", "/proc/sys/net/ipv4/tcp_syncookies");
        let outside = std::fs::read_to_string(path).unwrap();
        in_own_netns(|ns| {
            for value in ["0", "2"] {
                ns.sysctl(name, value).unwrap();
                assert_eq!(std::fs::read_to_string(path).unwrap().trim(), value);
            }
            assert!(ns.sysctl("ipv4.no_such", "1").unwrap_err().to_string().contains("no_such"));
        })
        .unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), outside);
    }

    #[test]
    fn a_thread_is_bound_to_a_processor_it_may_run_on() {
        on_own_thread(|| {
            let last = *processors().last().expect("at least one");
            bind_thread(last).unwrap();
            assert_eq!(processors(), [last]);
            assert_eq!(rustix::thread::sched_getcpu(), last);
            assert!(bind_thread(CpuSet::MAX_CPU).is_err());
            assert_eq!(processors(), [last]);
        });
    }
}
