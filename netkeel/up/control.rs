//! The control socket of a running machine, on its event loop.
//!
//! Key type: [`Control`]. Contexts: the command's thread.

use super::UpError;
use super::plan::{Plan, parse_filter};
use crate::control::ops::Target;
use crate::control::server::{Counts, Served, Server};
use crate::control::watch::Watch;
use crate::control::wire::{Op, Refusal};
use host::Runtime;
use host::private_socket::{SocketError, private_folder, runtime_folder};
use host::wait::{Token, Waiter};
use serde_json::{Value, json};
use stack::net::core::dev::NetDevice;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use uapi::errno::Errno;

/// The socket, who is connected, and who of them watches.
pub(super) struct Control {
    server: Server,
    watch: Option<Watch>,
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
}

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
        Ok(Ok(Self { server, watch: None }))
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
        self.server.pace()
    }

    /// Something was reported for a token; false: it is not the socket's.
    pub(super) fn reported(&mut self, token: Token, at: &Machinery<'_>) -> bool {
        let mut desk = Desk { at, watch: &mut self.watch };
        self.server.reported(token, &mut desk)
    }

    /// Tells who watches what has ended, and sees who has stalled.
    pub(super) fn look(&mut self, at: &Machinery<'_>) {
        if let Some(watch) = &mut self.watch {
            let client = watch.client;
            watch.tell(at.runtime.machine(), &mut self.server);
            self.server.send(client, &mut Desk { at, watch: &mut self.watch });
        }
        self.server.tick(&mut Desk { at, watch: &mut self.watch });
    }
}

impl Served for Desk<'_> {
    fn serve(&mut self, client: usize, op: Op) -> Result<Value, Refusal> {
        match op {
            Op::WalkAttach { filter } => self.attach(client, filter.as_deref().unwrap_or("")),
            Op::WalkDetach {} => {
                self.gone(client);
                Ok(Value::Null)
            }
            op => Target { runtime: self.at.runtime, dev: self.at.dev }.serve(op),
        }
    }

    fn gone(&mut self, client: usize) {
        if self.watch.as_ref().is_some_and(|watch| watch.client == client) {
            *self.watch = None;
            self.at.runtime.machine().tracer.stop();
        }
    }
}

impl Desk<'_> {
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
