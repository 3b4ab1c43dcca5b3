//! Who watches walks over the control socket.
//!
//! Key type: [`Watch`]. Contexts: the event loop of `netkeel up`.
//! Invariant: while nobody watches, the machine records nothing.

use super::server::Server;
use super::wire::{Event, Head, short, to_line};
use crate::up::walk::WalkLog;
use stack::kernel::bpf::BpfProg;
use stack::kernel::machine::Machine;

/// The one who watches, and what waits to be told.
pub(crate) struct Watch {
    pub(crate) client: usize,
    log: WalkLog,
    lost_records: u64,
    lost_walks: u64,
}

impl Watch {
    /// Starts watching for a client.
    pub(crate) fn start(client: usize, filter: Option<BpfProg>, m: &Machine) -> Self {
        // What is still there is of an earlier watch.
        m.tracer.take();
        m.tracer.keep_heads(true);
        m.tracer.start(filter);
        Self { client, log: WalkLog::new(m), lost_records: 0, lost_walks: 0 }
    }

    /// Tells what has ended since the last time.
    pub(crate) fn tell(&mut self, m: &Machine, server: &mut Server) {
        self.log.take(m);
        self.lost_records += self.log.take_lost();
        for (id, records) in self.log.take_ended() {
            let stations =
                records.iter().map(|record| self.log.station(record)).collect::<Vec<_>>();
            let head = self.log.head(id).map(|head| Head::of(&head));
            let event = Event::Walk { packet: short(id.0), head, stations };
            self.lost_walks += u64::from(!server.tell(self.client, &to_line(&event)));
        }
        if self.lost_records + self.lost_walks != 0 {
            let event = Event::Lost { records: self.lost_records, walks: self.lost_walks };
            if server.tell(self.client, &to_line(&event)) {
                (self.lost_records, self.lost_walks) = (0, 0);
            }
        }
    }
}
