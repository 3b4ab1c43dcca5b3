//! The control socket of a running machine, on its event loop.
//!
//! Key type: [`Control`]. Contexts: the command's thread.

use super::UpError;
use super::frame_tap::Wanted;
use super::plan::{Plan, parse_filter};
use crate::control::dump::Dump;
use crate::control::ops::netns::Names;
use crate::control::ops::{Target, value};
use crate::control::server::{Counts, Served, Server};
use crate::control::watch::Watch;
use crate::control::wire::{Dumped, Op, Refusal, Request};
use host::Runtime;
use host::private_socket::{SocketError, private_folder, runtime_folder};
use host::wait::{Token, Waiter};
use serde_json::{Value, json};
use stack::kernel::nsproxy::NetId;
use stack::net::core::dev::NetDevice;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;

/// The socket, who is connected, and who of them watches.
pub(super) struct Control {
    server: Server,
    watch: Option<Watch>,
    dumps: Vec<Dump>,
    waiter: Arc<Waiter>,
    names: Names,
}

/// The machine, for the time of a turn.
pub(super) struct Machinery<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) dev: &'a Arc<NetDevice>,
    /// Its own `--walk` prints the walks.
    pub(super) prints_walks: bool,
}

struct Desk<'a> {
    at: &'a Machinery<'a>,
    watch: &'a mut Option<Watch>,
    dumps: &'a mut Vec<Dump>,
    waiter: &'a Arc<Waiter>,
    names: &'a Names,
}

/// Who may look at frames at a time.
const DUMPS: usize = 8;
/// What tcpdump takes of a frame.
const SNAPLEN: usize = 262_144;

impl Control {
    /// Opens the socket: where the arguments say, or in the user's own folder. There it is not worth
    /// a machine: the text then says why there is none.
    ///
    /// # Errors
    /// Why there is none where the arguments say; a machine of this name that runs.
    pub(super) fn open(plan: &Plan, waiter: &Arc<Waiter>) -> Result<Result<Self, String>, UpError> {
        let server = match &plan.control {
            Some(path) => Server::start(path, &plan.tap, waiter)?,
            None => {
                let folder = runtime_folder();
                let path = folder.join(format!("{}.sock", plan.tap));
                let started =
                    private_folder(&folder).and_then(|()| Server::start(&path, &plan.tap, waiter));
                match started {
                    Ok(server) => server,
                    Err(live @ SocketError::Live(_)) => return Err(live.into()),
                    Err(e) => return Ok(Err(e.to_string())),
                }
            }
        };
        let (dumps, waiter) = (Vec::new(), Arc::clone(waiter));
        Ok(Ok(Self { server, watch: None, dumps, waiter, names: Names::default() }))
    }

    pub(super) fn path(&self) -> &Path {
        self.server.path()
    }

    pub(super) fn counts(&self) -> Counts {
        self.server.counts()
    }

    /// Somebody watches walks.
    pub(super) fn watched(&self) -> bool {
        self.watch.is_some()
    }

    /// How long a wait may last at most.
    pub(super) fn pace(&self) -> Option<Duration> {
        // What there was no room for is told next; who has not taken what he was sent tells when he does.
        let more = |dump: &Dump| dump.is_behind() && !self.server.is_behind(dump.client);
        if self.dumps.iter().any(more) { Some(Duration::ZERO) } else { self.server.pace() }
    }

    /// Something was reported for a token; false: it is not the socket's.
    pub(super) fn reported(&mut self, token: Token, at: &Machinery<'_>) -> bool {
        let Self { server, watch, dumps, waiter, names } = self;
        server.reported(token, &mut Desk { at, watch, dumps, waiter, names })
    }

    /// Tells who watches what has ended, and sees who has stalled.
    pub(super) fn look(&mut self, at: &Machinery<'_>) {
        let Self { server, watch, dumps, waiter, names } = self;
        let mut told: Vec<usize> = Vec::new();
        if let Some(watch) = watch {
            watch.tell(at.runtime.machine(), server);
            told.push(watch.client);
        }
        for dump in dumps.iter_mut() {
            dump.tell(at.runtime.machine(), server);
            told.push(dump.client);
        }
        let mut desk = Desk { at, watch, dumps, waiter, names };
        told.iter().for_each(|client| server.send(*client, &mut desk));
        server.tick(&mut desk);
    }
}

impl Served for Desk<'_> {
    fn serve(&mut self, client: usize, request: Request) -> Result<Value, Refusal> {
        let netns = request.netns.as_deref();
        match request.op {
            Op::WalkAttach { filter } => self.attach(client, filter.as_deref().unwrap_or("")),
            Op::WalkDetach {} => {
                self.end_watch(client);
                Ok(Value::Null)
            }
            Op::DumpAttach { dev, filter, snaplen } => {
                let snaplen = snaplen.unwrap_or(SNAPLEN);
                let frames = (dev.as_deref(), filter.as_deref().unwrap_or(""));
                self.dump((client, netns), frames, snaplen)
            }
            Op::DumpDetach {} => value(self.end_dump(client).unwrap_or_default()),
            op => self.target(netns)?.serve(op),
        }
    }

    fn gone(&mut self, client: usize) {
        self.end_watch(client);
        self.end_dump(client);
    }
}

impl Desk<'_> {
    fn end_watch(&mut self, client: usize) {
        if self.watch.as_ref().is_some_and(|watch| watch.client == client) {
            *self.watch = None;
            let tracer = &self.at.runtime.machine().tracer;
            tracer.stop();
            tracer.keep_heads(false);
        }
    }

    fn end_dump(&mut self, client: usize) -> Option<Dumped> {
        let at = self.dumps.iter().position(|dump| dump.client == client)?;
        Some(self.dumps.swap_remove(at).stop(&mut self.at.runtime.task("control")))
    }

    fn target(&self, netns: Option<&str>) -> Result<Target<'_>, Refusal> {
        let Machinery { runtime, dev, .. } = *self.at;
        Target { runtime, dev, names: self.names, net: NetId::INIT }.in_netns(netns)
    }

    fn dump(
        &mut self,
        (client, netns): (usize, Option<&str>),
        (dev, filter): (Option<&str>, &str),
        snaplen: usize,
    ) -> Result<Value, Refusal> {
        let filter = parse_filter("filter", filter)
            .map_err(|e| Refusal::new(Errno::EINVAL, e.to_string()))?;
        let target = self.target(netns)?;
        let dev = dev.map(|name| target.dev(name)).transpose()?.map(|dev| dev.ifindex);
        let mut cx = target.task();
        // Another of his takes the place of the first.
        self.end_dump(client);
        if self.dumps.len() == DUMPS {
            let text = format!("{DUMPS} look at frames already: wait for one to end");
            return Err(Refusal::new(Errno::EBUSY, text));
        }
        let wanted = Wanted { dev, filter, snaplen: snaplen.clamp(1, SNAPLEN) };
        self.dumps.push(Dump::start(client, wanted, self.waiter, &mut cx));
        Ok(Value::Null)
    }

    fn attach(&mut self, client: usize, filter: &str) -> Result<Value, Refusal> {
        let filter = parse_filter("filter", filter)
            .map_err(|e| Refusal::new(Errno::EINVAL, e.to_string()))?;
        let busy = |text: &str| Err(Refusal::new(Errno::EBUSY, text));
        if self.at.prints_walks {
            return busy("this machine prints walks itself: start it without --walk to attach");
        }
        if self.watch.is_some() {
            return busy("somebody watches this machine already: one at a time can");
        }
        let m = self.at.runtime.machine();
        let start = m.ktime_get().0;
        *self.watch = Some(Watch::start(client, filter, m));
        Ok(json!({ "start": start }))
    }
}
