//! What calls give back, beside their result: data, options, events.

use super::Runner;
use super::args::{int, kind, option_value};
use super::call::epoll_event;
use super::message;
use crate::backend::{Call, Done};
use crate::parse::script::{CallSpec, Expr};
use crate::wire::{TCP, pattern};

type Read<T> = Result<T, String>;

impl Runner<'_> {
    pub(super) fn check_output(&mut self, spec: &CallSpec, call: &Call, done: &Done) -> Read<()> {
        if done.errno != 0 {
            return Ok(());
        }
        match call {
            Call::Read(fd, _) => self.check_data(spec, (*fd, 0), done),
            Call::Recv(fd, _, flags) => {
                self.check_data(spec, (*fd, *flags), done)?;
                if spec.name != "recvmsg" {
                    return Ok(());
                }
                let wall = self.start + self.backend.wall_offset();
                message::header(&spec.args[1])?.check(done, (wall, self.config.tolerance))
            }
            Call::GetOpt(..) => check_option(spec, done),
            Call::Ioctl(..) => match &spec.args[2] {
                Expr::List(_) => {
                    let wanted = option_value(&spec.args[2], Some(4))?;
                    same("value", &wanted, &done.data[..4])
                }
                _ => Ok(()),
            },
            Call::SockName(_) | Call::PeerName(_) | Call::Accept(..) => {
                match spec.args.get(1).map(super::args::sockaddr).transpose()?.flatten() {
                    Some(name) => same("address", &name, &done.name),
                    None => Ok(()),
                }
            }
            Call::Poll(fds, _) => check_poll(spec, fds.len(), done),
            Call::EpollWait(..) => check_events(&spec.args[1], done),
            _ => Ok(()),
        }
    }

    /// Data that was read is what the script's packets brought: the pattern, or what is written.
    fn check_data(&mut self, spec: &CallSpec, (fd, flags): (i32, i32), done: &Done) -> Read<()> {
        let len = usize::try_from(done.ret).unwrap_or(0);
        let special = libc::MSG_OOB | libc::MSG_ERRQUEUE | libc::MSG_TRUNC;
        let data = &done.data[..len.min(done.data.len())];
        if let Some(Expr::Str(text)) = spec.args.get(1) {
            return if data.starts_with(text) {
                Ok(())
            } else {
                let [text, data] = [text, data].map(String::from_utf8_lossy);
                Err(format!("Expected data \"{text}\" but got \"{data}\""))
            };
        }
        let Some(at) = self.fds.values().find(|known| known.live == fd).map(|fd| fd.sock) else {
            return Ok(());
        };
        let urgent = self.socks[at].flow.is_some_and(|flow| self.flows[flow].urgent);
        let sock = &mut self.socks[at];
        if sock.protocol == 0 || flags & (libc::MSG_OOB | libc::MSG_ERRQUEUE) != 0 {
            return Ok(());
        }
        let begin = if sock.protocol == TCP { sock.read } else { 0 };
        if sock.protocol == TCP && flags & libc::MSG_PEEK == 0 {
            sock.read += len;
        }
        if urgent || sock.opaque || flags & special != 0 {
            return Ok(());
        }
        let wrong = data.iter().enumerate().find(|(place, byte)| **byte != pattern(begin + place));
        match wrong {
            Some((place, _)) => {
                Err(format!("the data is not what the packets brought, from byte {place} on"))
            }
            None => Ok(()),
        }
    }
}

fn same(what: &str, wanted: &[u8], there: &[u8]) -> Read<()> {
    if wanted == there {
        return Ok(());
    }
    let number = |bytes: &[u8]| match bytes {
        [a, b, c, d] => i32::from_ne_bytes([*a, *b, *c, *d]).to_string(),
        [one] => one.to_string(),
        bytes => format!("{bytes:?}"),
    };
    Err(format!("bad {what}: expected: {} actual: {}", number(wanted), number(there)))
}

fn check_option(spec: &CallSpec, done: &Done) -> Read<()> {
    let (value, room) = (&spec.args[3], &spec.args[4]);
    if *room != Expr::Any
        && let Expr::List(_) = room
        && int(room)? != done.data.len() as i64
        && *value != Expr::Any
        && !matches!(value, Expr::Str(_))
    {
        return Err(format!("bad length: expected: {} actual: {}", int(room)?, done.data.len()));
    }
    match value {
        Expr::Any => Ok(()),
        // A name ends in zeroes.
        Expr::Str(text) => {
            let end = done.data.iter().position(|byte| *byte == 0).unwrap_or(done.data.len());
            let [text, there] = [text, &done.data[..end]].map(String::from_utf8_lossy);
            if text == there {
                return Ok(());
            }
            Err(format!("bad value: expected: \"{text}\" actual: \"{there}\""))
        }
        value => {
            let list = matches!(value, Expr::List(_) | Expr::Struct(_));
            if !list {
                return Err(format!("expected [value], found {}", kind(value)));
            }
            let len = Some(done.data.len())
                .filter(|_| matches!(value, Expr::List(all) if all.len() == 1));
            same("value", &option_value(value, len)?, &done.data)
        }
    }
}

fn check_poll(spec: &CallSpec, count: usize, done: &Done) -> Read<()> {
    let Expr::List(fds) = &spec.args[0] else { return Ok(()) };
    for (fd, (there, _)) in fds.iter().zip(&done.ready).take(count) {
        let wanted = fd.field("revents").map_or(Ok(0), int)?;
        if wanted != i64::from(*there) {
            return Err(format!("bad revents: expected: {wanted:#x} actual: {there:#x}"));
        }
    }
    Ok(())
}

fn check_events(wanted: &Expr, done: &Done) -> Read<()> {
    let wanted = match wanted {
        Expr::List(all) => &all[..],
        Expr::Any => return Ok(()),
        one => std::slice::from_ref(one),
    };
    for (wanted, (events, data)) in wanted.iter().zip(&done.ready) {
        let (want_events, want_data) = epoll_event(wanted)?;
        if want_events != *events {
            return Err(format!("bad events: expected: {want_events:#x} actual: {events:#x}"));
        }
        if want_data != *data {
            return Err(format!("bad data of the event: expected: {want_data} actual: {data}"));
        }
    }
    Ok(())
}
