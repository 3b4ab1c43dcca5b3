//! The namespaces and devices of a measurement.
//!
//! Key type: [`Place`]. The host's side of the TAP and one end of the veth pair are in the calling
//! thread's namespace, the other end in a second one, which lives as long as a thread that sleeps in it.

use super::figure::Sample;
use super::{BenchError, refused, system};
use host::netns::{Beside, NetNs, bind_thread, in_own_netns, processors};
use host::socket::device_offloads;
use host::tap::{Tap, TapOptions};
use std::net::Ipv4Addr;
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use uapi::errno::Errno;

pub(super) const TAP: &str = "nkbench";
/// The host on the TAP, and what answers there.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(super) const OURS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
pub(super) const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The two ends of the veth pair.
pub(super) const NEAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(super) const FAR: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// Where the host's peer listens; what it gets there it echoes, or counts.
pub(super) const PORT: u16 = 7;

pub(super) type Job = Box<dyn FnOnce() -> Result<Sample, BenchError> + Send>;

/// A thread in a namespace of its own that does what it is asked to.
struct Far {
    /// First to go: that ends the thread.
    jobs: SyncSender<Job>,
    results: Receiver<Result<Sample, BenchError>>,
    _thread: Beside,
}

/// See the module.
pub(super) struct Place<'a> {
    ns: &'a NetNs,
    far: Far,
    /// For the two ends.
    processors: (usize, usize),
}

/// The processors of the two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seats {
    /// Of the host's end.
    pub(super) there: usize,
    /// Of the measured end.
    pub(super) here: usize,
}

impl<'a> Place<'a> {
    pub(super) fn make(ns: &'a NetNs) -> Result<Self, BenchError> {
        let far = Far::start(ns)?;
        let all = processors();
        let first = all.first().copied().unwrap_or(0);
        let processors = (first, all.get(1).copied().unwrap_or(first));
        Ok(Self { ns, far, processors })
    }

    pub(super) fn one_seat(&self) -> Seats {
        Seats { there: self.processors.1, here: self.processors.1 }
    }

    pub(super) fn two_seats(&self) -> Seats {
        Seats { there: self.processors.0, here: self.processors.1 }
    }

    /// Does it at the far end of the veth pair.
    pub(super) fn far(&self, job: Job) -> Result<Sample, BenchError> {
        self.far.ask(job)
    }

    /// Sums, segments and merging are left to both ends of the veth pair, or to neither.
    pub(super) fn veth_offloads(&self, on: bool) -> Result<(), BenchError> {
        let failed = system("offloads of the veth pair");
        device_offloads("nknear", on).map_err(&failed)?;
        let job = move || device_offloads("nkfar", on).map_err(failed).map(|()| Sample::NONE);
        self.far(Box::new(job)).map(drop)
    }

    /// The host answers each SYN that comes by the TAP with a cookie, wherever it says that it comes from.
    pub(super) fn cookies_by_tap(&self) -> Result<(), BenchError> {
        let failed = system("cookies of the host");
        self.ns.sysctl("ipv4.tcp_syncookies", "2").map_err(&failed)?;
        self.ns.ip(&format!("route replace default via {OURS} dev {TAP}")).map_err(failed)
    }

    /// A TAP with its host side up, addressed, and knowing us; the host may leave us `offloads`, `TUN_F_*`.
    pub(super) fn open_tap(&self, offloads: u32) -> Result<Tap, BenchError> {
        let options = TapOptions { offloads, ..TapOptions::default() };
        let tap = Tap::open(TAP, options)?;
        let mac = OUR_MAC.map(|octet| format!("{octet:02x}")).join(":");
        for words in [
            format!("addr add {HOST}/24 dev {TAP}"),
            format!("link set {TAP} up"),
            format!("neigh replace {OURS} lladdr {mac} dev {TAP} nud permanent"),
        ] {
            self.ns.ip(&words).map_err(system("the host's side of the TAP"))?;
        }
        Ok(tap)
    }
}

impl Seats {
    /// Puts the measured end on its processor.
    pub(super) fn settle(self) -> Result<(), BenchError> {
        bind_thread(self.here).map_err(system("a processor for the measured end"))
    }
}

impl Far {
    fn start(ns: &NetNs) -> Result<Self, BenchError> {
        let (jobs, todo) = sync_channel::<Job>(1);
        let (done, results) = channel();
        let (ready, id) = channel();
        let failed = done.clone();
        let thread = Beside::start(move || {
            let ended = in_own_netns(move |far| {
                // Nobody waits for it any more: the place is gone.
                let _ = ready.send(far.id());
                let Ok(up) = todo.recv() else { return };
                let configured = up().and_then(|nothing| {
                    far.ip(&format!("addr add {FAR}/24 dev nkfar"))
                        .and_then(|()| far.ip("link set nkfar up"))
                        .map_err(system("the far end of the veth pair"))?;
                    Ok(nothing)
                });
                let _ = done.send(configured);
                while let Ok(job) = todo.recv() {
                    let _ = done.send(job());
                }
            });
            if let Err(e) = ended {
                let _ = failed.send(Err(system("a network namespace")(e)));
            }
        });
        let thread = thread.map_err(system("a thread for the far end"))?;
        let far = Self { jobs, results, _thread: thread };
        let Ok(id) = id.recv() else { return Err(far.lost()) };
        for words in [
            format!("link add nknear type veth peer name nkfar netns {id}"),
            format!("addr add {NEAR}/24 dev nknear"),
            "link set nknear up".to_owned(),
        ] {
            ns.ip(&words).map_err(system("a veth pair"))?;
        }
        far.ask(Box::new(|| Ok(Sample::NONE)))?;
        Ok(far)
    }

    fn ask(&self, job: Job) -> Result<Sample, BenchError> {
        match self.jobs.send(job) {
            Ok(()) => self.results.recv().unwrap_or_else(|_| Err(self.lost())),
            Err(_) => Err(self.lost()),
        }
    }

    /// Why it has ended. It may be about to say so: whoever could say it, does or is gone soon.
    fn lost(&self) -> BenchError {
        let mut said = self.results.iter().filter_map(Result::err);
        said.next().unwrap_or_else(|| refused("the far end ended early")(Errno::EIO))
    }
}
