//! Options read one by one, and verified.
//!
//! linux: net/ipv4/ip_options.c (`ip_options_compile`).

use super::{IpOptions, OptFlags};
use uapi::ip::{
    IP_HDR_LEN, IPOPT_CIPSO, IPOPT_END, IPOPT_LSRR, IPOPT_MINOFF, IPOPT_NOOP, IPOPT_OFFSET,
    IPOPT_OLEN, IPOPT_RA, IPOPT_RR, IPOPT_SSRR, IPOPT_TIMESTAMP, IPOPT_TS_PRESPEC,
    IPOPT_TS_TSANDADDR, IPOPT_TS_TSONLY,
};

/// For whom options are read.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    /// An address is another host's.
    pub is_foreign: &'a dyn Fn(u32) -> bool,
    /// Those of a received packet are filled in; `None`: a socket is to send them.
    pub fill: Option<Fill>,
}

/// What is written into options that ask for it.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    /// The address that the packet came to, or goes by.
    pub addr: u32,
    /// Milliseconds since midnight UT.
    pub time: u32,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Reader(fill: {})", self.fill.is_some())
    }
}

/// Options that no host may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// The octet of the header where the problem is (RFC 792, parameter problem).
    pub at: u8,
    /// Those before it.
    pub read: IpOptions,
}

/// Where in an option the problem is.
type Problem = usize;

/// Reads options, which begin behind the fixed part of the header; those that ask for it are filled in and point
/// behind what was written.
///
/// # Errors
/// The place of the first one that is malformed.
///
/// linux: net/ipv4/ip_options.c:__ip_options_compile
pub fn compile(data: &mut [u8], reader: &Reader<'_>) -> Result<IpOptions, Malformed> {
    let optlen = u8::try_from(data.len()).unwrap_or(u8::MAX);
    let mut opt = IpOptions { optlen, ..IpOptions::default() };
    let mut at = 0;
    while let Some(kind) = data.get(at) {
        match *kind {
            IPOPT_END => {
                end(&mut opt, &mut data[at..]);
                break;
            }
            IPOPT_NOOP => {
                at += 1;
                continue;
            }
            _ => (),
        }
        // One that is longer than what is left, or shorter than its own length, is a problem as a whole.
        let len = data.get(at + usize::from(IPOPT_OLEN)).map_or(0, |len| usize::from(*len));
        let whole = (len >= 2).then(|| data.get_mut(at..at + len)).flatten();
        let place = (IP_HDR_LEN + at) as u8;
        let read = whole.ok_or(0).and_then(|option| opt.read(option, place, reader));
        if let Err(problem) = read {
            return Err(Malformed { at: place + problem as u8, read: opt });
        }
        at += len;
    }
    Ok(opt)
}

/// Nothing but ends may follow the end.
fn end(opt: &mut IpOptions, behind: &mut [u8]) {
    if behind.iter().any(|octet| *octet != IPOPT_END) {
        behind.fill(IPOPT_END);
        opt.flags |= OptFlags::CHANGED;
    }
}

impl IpOptions {
    fn read(&mut self, option: &mut [u8], place: u8, reader: &Reader<'_>) -> Result<(), Problem> {
        match option[0] {
            IPOPT_SSRR | IPOPT_LSRR => self.source_route(option, place, reader),
            IPOPT_RR => self.record_route(option, place, reader),
            IPOPT_TIMESTAMP => self.timestamp(option, place, reader),
            IPOPT_RA if option.len() < 4 => Err(1),
            IPOPT_RA => {
                if option[2..4] == [0, 0] {
                    self.router_alert = place;
                }
                Ok(())
            }
            IPOPT_CIPSO if self.cipso != 0 => Err(0),
            IPOPT_CIPSO => {
                self.cipso = place;
                cipso_v4_validate(option)
            }
            // Whoever knows them may use them.
            _ => Ok(()),
        }
    }

    /// RFC 1812 section 5.2.4.1: one source route at most.
    fn source_route(
        &mut self,
        option: &mut [u8],
        place: u8,
        reader: &Reader<'_>,
    ) -> Result<(), Problem> {
        let len = option.len();
        pointer(option, (3, IPOPT_MINOFF))?;
        if self.srr != 0 {
            return Err(0);
        }
        if reader.fill.is_none() {
            // The first hop goes into the header: the list begins with the second, and ends with the packet's end.
            if option[2] != IPOPT_MINOFF || len < 7 || !(len - 3).is_multiple_of(4) {
                return Err(1);
            }
            option[3..].rotate_left(4);
        }
        self.flags.set(OptFlags::STRICTROUTE, option[0] == IPOPT_SSRR);
        self.srr = place;
        Ok(())
    }

    fn record_route(
        &mut self,
        option: &mut [u8],
        place: u8,
        reader: &Reader<'_>,
    ) -> Result<(), Problem> {
        if self.rr != 0 {
            return Err(0);
        }
        let at = pointer(option, (3, IPOPT_MINOFF))?;
        if at <= option.len() {
            let room = room(option, at, 4)?;
            if let Some(fill) = reader.fill {
                room.copy_from_slice(&fill.addr.to_be_bytes());
                self.flags |= OptFlags::CHANGED;
            }
            option[2] += 4;
            self.flags |= OptFlags::RR_NEEDADDR;
        }
        self.rr = place;
        Ok(())
    }

    fn timestamp(
        &mut self,
        option: &mut [u8],
        place: u8,
        reader: &Reader<'_>,
    ) -> Result<(), Problem> {
        if self.ts != 0 {
            return Err(0);
        }
        let at = pointer(option, (4, IPOPT_MINOFF + 1))?;
        let kind = option[3] & 15;
        if at <= option.len() {
            room(option, at, 4)?;
            self.stamp(option, (kind, at), reader)?;
        } else if kind != IPOPT_TS_PRESPEC {
            // Whoever finds no room counts himself, up to fifteen.
            if option[3] >> 4 == 15 {
                return Err(3);
            }
            if reader.fill.is_some() {
                option[3] += 1 << 4;
                self.flags |= OptFlags::CHANGED;
            }
        }
        self.ts = place;
        Ok(())
    }

    fn stamp(
        &mut self,
        option: &mut [u8],
        (kind, at): (u8, usize),
        reader: &Reader<'_>,
    ) -> Result<(), Problem> {
        let (len, time) = match kind {
            IPOPT_TS_TSONLY => (4, room(option, at, 4)?),
            IPOPT_TS_TSANDADDR | IPOPT_TS_PRESPEC => {
                let (addr, time) = room(option, at, 8)?.split_at_mut(4);
                if kind == IPOPT_TS_TSANDADDR {
                    self.flags |= OptFlags::TS_NEEDADDR;
                    if let Some(fill) = reader.fill {
                        addr.copy_from_slice(&fill.addr.to_be_bytes());
                    }
                } else if (reader.is_foreign)(word(addr)) {
                    // Another is to stamp next.
                    return Ok(());
                }
                (8, time)
            }
            _ => return Ok(()),
        };
        if let Some(fill) = reader.fill {
            time.copy_from_slice(&fill.time.to_be_bytes());
            self.flags |= OptFlags::CHANGED;
        }
        option[2] += len;
        self.flags |= OptFlags::TS_NEEDTIME;
        Ok(())
    }
}

/// Where the next entry of an option begins, counted from one; an option has at least so many octets, and its first
/// entry begins at least there.
fn pointer(option: &[u8], (len, first): (usize, u8)) -> Result<usize, Problem> {
    if option.len() < len {
        return Err(IPOPT_OLEN.into());
    }
    match option[usize::from(IPOPT_OFFSET)] {
        at if at < first => Err(IPOPT_OFFSET.into()),
        at => Ok(at.into()),
    }
}

/// An entry, which must end within the option.
fn room(option: &mut [u8], at: usize, len: usize) -> Result<&mut [u8], Problem> {
    option.get_mut(at - 1..at - 1 + len).ok_or(IPOPT_OFFSET.into())
}

/// Four octets.
pub(super) fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// No domain of interpretation is known.
///
/// linux: net/ipv4/cipso_ipv4.c:cipso_v4_validate
fn cipso_v4_validate(option: &[u8]) -> Result<(), Problem> {
    Err(if option.len() < 8 { 1 } else { 2 })
}
