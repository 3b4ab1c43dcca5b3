//! Who watches frames over the control socket.
//!
//! Key type: [`Dump`]. Contexts: the event loop of `netkeel up`.

use super::server::Server;
use super::wire::{Dumped, Event, hex, to_line};
use crate::up::frame_tap::{Frame, FrameTap, Registered, Wanted};
use host::wait::Waiter;
use hw::capture::Direction;
use stack::kernel::context::TaskCx;
use stack::kernel::machine::Machine;
use std::collections::VecDeque;
use std::sync::Arc;

/// One who watches, and the frames that wait to be told.
pub(crate) struct Dump {
    pub(crate) client: usize,
    tap: Arc<FrameTap>,
    registered: Registered,
    waiting: VecDeque<Frame>,
}

impl Dump {
    /// Starts watching for a client.
    pub(crate) fn start(
        client: usize,
        wanted: Wanted,
        waiter: &Arc<Waiter>,
        cx: &mut TaskCx,
    ) -> Self {
        let tap = FrameTap::new(waiter, wanted);
        let registered = tap.register(cx);
        Self { client, tap, registered, waiting: VecDeque::new() }
    }

    /// Tells what has passed since the last time, as far as the connection takes it.
    pub(crate) fn tell(&mut self, m: &Machine, server: &mut Server) {
        loop {
            if self.waiting.is_empty() {
                self.waiting = self.tap.take();
            }
            let Some(frame) = self.waiting.front() else { return };
            if !server.tell(self.client, &to_line(&event(m, frame))) {
                return;
            }
            self.waiting.pop_front();
        }
    }

    /// Frames wait until the connection takes more.
    pub(crate) fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// No more; how it went.
    pub(crate) fn stop(self, cx: &mut TaskCx) -> Dumped {
        self.registered.remove(cx);
        let (received, dropped) = self.tap.counts();
        Dumped { received, dropped }
    }
}

fn event(m: &Machine, frame: &Frame) -> Event {
    let root = m.tables();
    // No two devices have one index, whatever namespaces they are in.
    let dev = root.all().find_map(|t| t.net.dev(frame.dev));
    let name = dev.map_or_else(|| frame.dev.0.to_string(), |dev| dev.name.clone());
    Event::Frame {
        time: frame.real.as_nanos() as u64,
        dev: name,
        out: frame.direction == Direction::Out,
        len: frame.len,
        octets: hex(&frame.bytes),
    }
}
