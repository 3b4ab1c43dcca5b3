//! Groups of sockets that share what comes.
//!
//! linux: net/packet/af_packet.c (`packet_rcv_fanout`). Key type: [`PacketFanout`]. Contexts: joining and leaving by
//! tasks, under `class::Rtnl`; choosing in BH. Locks: a group's members, `class::Fanout`, for one look.
//! Invariants: a group's sockets have the same ethertype and device; its hook is in the tables while one of them runs.
//! DIVERGES: no `PACKET_FANOUT_EBPF` and no `PACKET_FANOUT_FLAG_DEFRAG`: EINVAL. A full socket's large flows are
//! not told apart (`tp_huge` stays 0).

use super::rcv::rcv;
use super::{NetnsPacket, PacketSock};
use crate::kernel::bpf::BpfProg;
use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::locking::{SpinLock, lockdep::class};
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::rx::dev_remove_pack;
use crate::net::core::dev::{DevId, NetDevice, PacketFunc, PacketTap, PacketType, dev_add_pack};
use crate::net::core::filter::{SkbFrom, SkbSource, bpf_check_classic};
use crate::net::core::skbuff::{Skb, kfree_skb};
use crate::net::core::sock::Sock;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use uapi::errno::Errno;
use uapi::filter::SockFilter;
use uapi::if_packet::{
    PACKET_FANOUT_CBPF, PACKET_FANOUT_CPU, PACKET_FANOUT_FLAG_DEFRAG,
    PACKET_FANOUT_FLAG_IGNORE_OUTGOING, PACKET_FANOUT_FLAG_ROLLOVER, PACKET_FANOUT_FLAG_UNIQUEID,
    PACKET_FANOUT_HASH, PACKET_FANOUT_LB, PACKET_FANOUT_MAX, PACKET_FANOUT_QM, PACKET_FANOUT_RND,
    PACKET_FANOUT_ROLLOVER,
};
use uapi::socket::AF_PACKET;
use zerocopy::FromBytes;

/// Members of a group whose maker does not say how many.
const LEGACY_MAX: u32 = 256;

/// The groups of a namespace.
pub(super) type FanoutList = SpinLock<Vec<Arc<PacketFanout>>, class::PortHash>;

/// How one of a group's packets is chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FanoutKind {
    Hash,
    Lb,
    Cpu,
    Rollover,
    Rnd,
    Qm,
    Cbpf,
}

impl FanoutKind {
    fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            PACKET_FANOUT_HASH => Self::Hash,
            PACKET_FANOUT_LB => Self::Lb,
            PACKET_FANOUT_CPU => Self::Cpu,
            PACKET_FANOUT_ROLLOVER => Self::Rollover,
            PACKET_FANOUT_RND => Self::Rnd,
            PACKET_FANOUT_QM => Self::Qm,
            PACKET_FANOUT_CBPF => Self::Cbpf,
            _ => return None,
        })
    }

    fn number(self) -> i32 {
        match self {
            Self::Hash => PACKET_FANOUT_HASH,
            Self::Lb => PACKET_FANOUT_LB,
            Self::Cpu => PACKET_FANOUT_CPU,
            Self::Rollover => PACKET_FANOUT_ROLLOVER,
            Self::Rnd => PACKET_FANOUT_RND,
            Self::Qm => PACKET_FANOUT_QM,
            Self::Cbpf => PACKET_FANOUT_CBPF,
        }
    }
}

/// How a socket goes over to others, and how often it did.
///
/// linux: net/packet/internal.h:packet_rollover
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rollover {
    /// The place it looks at first.
    sock: usize,
    num: u64,
    num_failed: u64,
}

impl Rollover {
    /// A `tpacket_rollover_stats`.
    pub(super) fn stats(&self) -> Vec<u8> {
        [self.num, 0, self.num_failed].iter().flat_map(|count| count.to_ne_bytes()).collect()
    }
}

/// The sockets of a group that run, in the order in which they joined, and its program.
#[derive(Clone, Debug, Default)]
struct Members {
    arr: Arc<[Arc<Sock>]>,
    prog: Option<BpfProg>,
}

/// A group.
///
/// linux: net/packet/internal.h:packet_fanout
pub struct PacketFanout {
    id: u16,
    kind: FanoutKind,
    /// `PACKET_FANOUT_FLAG_*`.
    flags: i32,
    max_num_members: u32,
    /// The ethertype and the device of its sockets.
    hook: (u16, Option<DevId>),
    members: SpinLock<Members, class::Fanout>,
    /// Sockets that joined and did not leave.
    sk_ref: AtomicU32,
    rr_cur: AtomicU32,
}

impl fmt::Debug for PacketFanout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PacketFanout({} by {:?})", self.id, self.kind)
    }
}

/// A `fanout_args`, or an older number.
#[derive(Clone, Copy)]
struct FanoutArgs {
    id: u16,
    type_flags: i32,
    max_num_members: u32,
}

impl FanoutArgs {
    fn from_bytes(value: &[u8]) -> Result<Self, Errno> {
        let word = |at: usize| {
            let bytes = value.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_ne_bytes)
        };
        let (Some(first), 4 | 8) = (word(0), value.len()) else { return Err(Errno::EINVAL) };
        let type_flags = (first >> 16) as i32;
        Ok(Self { id: first as u16, type_flags, max_num_members: word(4).unwrap_or(0) })
    }
}

/// Joins a group, or makes it. Under `class::Rtnl`.
///
/// # Errors
/// EINVAL for a kind there is not, and for a group of another kind, ethertype or device; EALREADY in one; ENOSPC in a
/// full one; ENOMEM when no number is free.
///
/// linux: net/packet/af_packet.c:fanout_add
pub(super) fn fanout_add(cx: &mut TaskCx, sk: &Arc<Sock>, value: &[u8]) -> Result<(), Errno> {
    let mut args = FanoutArgs::from_bytes(value)?;
    let kind = FanoutKind::from_number(args.type_flags & 0xff).ok_or(Errno::EINVAL)?;
    let rolls = args.type_flags & PACKET_FANOUT_FLAG_ROLLOVER != 0;
    let refused = args.type_flags & PACKET_FANOUT_FLAG_DEFRAG != 0;
    if refused || kind == FanoutKind::Rollover && rolls {
        return Err(Errno::EINVAL);
    }
    if sk.state().packet().is_some_and(|po| po.fanout.is_some()) {
        return Err(Errno::EALREADY);
    }
    let net = sk.net.clone();
    if args.type_flags & PACKET_FANOUT_FLAG_UNIQUEID != 0 {
        if args.id != 0 {
            return Err(Errno::EINVAL);
        }
        args.id = fanout_find_new_id(&net.packet).ok_or(Errno::ENOMEM)?;
        args.type_flags &= !PACKET_FANOUT_FLAG_UNIQUEID;
    }
    let known = net.packet.fanout_list.lock().iter().find(|f| f.id == args.id).map(Arc::clone);
    let fanout = match known {
        Some(fanout) => fanout.fits(&args)?,
        None => PacketFanout::new(sk, kind, args)?,
    };
    let running = fanout.take_in(sk, kind, rolls)?;
    {
        let mut list = net.packet.fanout_list.lock();
        if !list.iter().any(|there| Arc::ptr_eq(there, &fanout)) {
            list.push(Arc::clone(&fanout));
        }
    }
    if let Some(hook) = running {
        dev_remove_pack(cx, &hook);
        fanout.__fanout_link(cx, sk);
    }
    Ok(())
}

/// A number that no group has, behind the one that was found last.
///
/// linux: net/packet/af_packet.c:fanout_find_new_id
fn fanout_find_new_id(net: &NetnsPacket) -> Option<u16> {
    let list = net.fanout_list.lock();
    let next = net.fanout_next_id.load(Ordering::Relaxed);
    let mut ids = (0..=u16::MAX).map(|step| next.wrapping_add(step));
    let found = ids.find(|id| list.iter().all(|f| f.id != *id))?;
    net.fanout_next_id.store(found.wrapping_add(1), Ordering::Relaxed);
    Some(found)
}

/// A socket leaves its group for good; the last one takes the group with it. Under `class::Rtnl`, and not running.
///
/// linux: net/packet/af_packet.c:fanout_release
pub(super) fn fanout_release(sk: &Arc<Sock>) {
    let Some(fanout) = sk.state().packet().and_then(|po| po.fanout.take()) else { return };
    if fanout.sk_ref.fetch_sub(1, Ordering::SeqCst) == 1 {
        sk.net.packet.fanout_list.lock().retain(|there| !Arc::ptr_eq(there, &fanout));
    }
}

impl PacketFanout {
    fn new(sk: &Arc<Sock>, kind: FanoutKind, args: FanoutArgs) -> Result<Arc<Self>, Errno> {
        if args.max_num_members > PACKET_FANOUT_MAX {
            return Err(Errno::EINVAL);
        }
        let max_num_members =
            if args.max_num_members == 0 { LEGACY_MAX } else { args.max_num_members };
        let hook = {
            let mut state = sk.state();
            let po = state.packet().ok_or(Errno::EBADF)?;
            (po.num, po.dev_id())
        };
        Ok(Arc::new(Self {
            id: args.id,
            kind,
            flags: args.type_flags & !0xff,
            max_num_members,
            hook,
            members: SpinLock::default(),
            sk_ref: AtomicU32::new(0),
            rr_cur: AtomicU32::new(0),
        }))
    }

    /// What somebody says who joins is what its maker said.
    fn fits(self: Arc<Self>, args: &FanoutArgs) -> Result<Arc<Self>, Errno> {
        let members = [0, self.max_num_members].contains(&args.max_num_members);
        let same = self.flags == args.type_flags & !0xff && members;
        if same { Ok(self) } else { Err(Errno::EINVAL) }
    }

    /// Makes a socket a member; its own hook, if it has one in the tables.
    fn take_in(
        self: &Arc<Self>,
        sk: &Arc<Sock>,
        kind: FanoutKind,
        rolls: bool,
    ) -> Result<Option<Arc<dyn PacketTap>>, Errno> {
        let mut state = sk.state();
        let po = state.packet().ok_or(Errno::EBADF)?;
        if po.num == 0 || self.kind != kind || self.hook != (po.num, po.dev_id()) {
            return Err(Errno::EINVAL);
        }
        if self.sk_ref.load(Ordering::SeqCst) >= self.max_num_members {
            return Err(Errno::ENOSPC);
        }
        self.sk_ref.fetch_add(1, Ordering::SeqCst);
        po.fanout = Some(Arc::clone(self));
        po.rollover = (rolls || kind == FanoutKind::Rollover).then(Rollover::default);
        let own = std::mem::take(&mut po.hook).upgrade();
        Ok(own.filter(|_| po.running).map(|hook| hook as Arc<dyn PacketTap>))
    }

    /// What `PACKET_FANOUT` says of it.
    pub(super) fn told(&self) -> u32 {
        let flags = (self.flags >> 8) as u32;
        u32::from(self.id) | (self.kind.number() as u32) << 16 | flags << 24
    }

    /// A member begins to see packets; with the first one the group does.
    ///
    /// linux: net/packet/af_packet.c:__fanout_link
    pub(super) fn __fanout_link(self: &Arc<Self>, cx: &mut TaskCx, sk: &Arc<Sock>) {
        let first = {
            let mut members = self.members.lock();
            let first = members.arr.is_empty();
            members.arr = members.arr.iter().chain([sk]).map(Arc::clone).collect();
            first
        };
        if first {
            let (kind, dev) = self.hook;
            let func = PacketFunc::Tap(Arc::clone(self) as Arc<dyn PacketTap>);
            dev_add_pack(cx, PacketType { kind, dev, func });
        }
    }

    /// It no longer does; the last member takes its place, as in Linux.
    ///
    /// linux: net/packet/af_packet.c:__fanout_unlink
    pub(super) fn __fanout_unlink(self: &Arc<Self>, cx: &mut TaskCx, sk: &Arc<Sock>) {
        let last = {
            let mut members = self.members.lock();
            let mut arr = members.arr.to_vec();
            if let Some(at) = arr.iter().position(|there| Arc::ptr_eq(there, sk)) {
                arr.swap_remove(at);
            }
            members.arr = arr.into();
            members.arr.is_empty()
        };
        if last {
            dev_remove_pack(cx, &(Arc::clone(self) as Arc<dyn PacketTap>));
        } else {
            // Nobody chooses it any more.
            crate::kernel::rcupdate::synchronize_net(cx);
        }
    }

    /// `PACKET_FANOUT_DATA`: the program that chooses.
    ///
    /// # Errors
    /// EINVAL for a group that none chooses in, and for no program; EPERM by a member whose filter is locked.
    ///
    /// linux: net/packet/af_packet.c:fanout_set_data_cbpf
    pub(super) fn fanout_set_data(&self, sk: &Sock, value: &[u8]) -> Result<(), Errno> {
        if self.kind != FanoutKind::Cbpf {
            return Err(Errno::EINVAL);
        }
        if sk.state().filter_locked() {
            return Err(Errno::EPERM);
        }
        const SIZE: usize = size_of::<SockFilter>();
        if !value.len().is_multiple_of(SIZE) {
            return Err(Errno::EINVAL);
        }
        let read = |octets| SockFilter::read_from_bytes(octets).map_err(|_| Errno::EINVAL);
        let program: Result<Vec<_>, _> = value.chunks_exact(SIZE).map(read).collect();
        self.members.lock().prog = Some(bpf_check_classic(&program?)?);
        Ok(())
    }

    /// Whose a packet is, of so many.
    fn choose(&self, cx: &mut BhCx<'_>, skb: &Skb, members: &Members) -> usize {
        let num = members.arr.len() as u32;
        let chosen = match self.kind {
            FanoutKind::Hash => {
                let hash = u64::from(skb.skb_get_hash_symmetric(cx));
                ((hash * u64::from(num)) >> 32) as u32
            }
            FanoutKind::Lb => self.rr_cur.fetch_add(1, Ordering::Relaxed).wrapping_add(1) % num,
            FanoutKind::Cpu => u32::from(cx.cpu.id.0) % num,
            FanoutKind::Rnd => cx.cpu.rng.below(num),
            FanoutKind::Qm => u32::from(skb.queue_mapping) % num,
            FanoutKind::Rollover => return fanout_demux_rollover(members, 0, false),
            FanoutKind::Cbpf => members
                .prog
                .as_ref()
                .map_or(0, |prog| prog.bpf_prog_run(&SkbSource::new(cx, skb, SkbFrom::Data)) % num),
        } as usize;
        if self.flags & PACKET_FANOUT_FLAG_ROLLOVER != 0 {
            return fanout_demux_rollover(members, chosen, true);
        }
        chosen
    }
}

/// How much room a socket has.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    None,
    Low,
    Normal,
}

/// linux: net/packet/af_packet.c:packet_rcv_has_room
fn packet_rcv_has_room(sk: &Sock) -> Room {
    let mut state = sk.state_of_tap();
    if let Some(ring) = state.packet().and_then(|po| po.rx_ring.as_ref()) {
        return ring.room();
    }
    let rcvbuf = state.opts.rcvbuf as usize;
    match rcvbuf.saturating_sub(state.rmem_alloc) {
        0 => Room::None,
        left if left > rcvbuf / 4 => Room::Normal,
        _ => Room::Low,
    }
}

/// Another one with room, where the chosen one has little; the chosen one, where all have.
///
/// linux: net/packet/af_packet.c:fanout_demux_rollover
fn fanout_demux_rollover(members: &Members, chosen: usize, try_self: bool) -> usize {
    let arr = &members.arr;
    if try_self && packet_rcv_has_room(&arr[chosen]) != Room::None {
        return chosen;
    }
    let with = |f: &mut dyn FnMut(&mut Rollover)| {
        let mut state = arr[chosen].state_of_tap();
        let rollover = state.packet().and_then(|po: &mut PacketSock| po.rollover.as_mut());
        if let Some(rollover) = rollover {
            f(rollover);
        }
    };
    let mut first = 0;
    with(&mut |rollover| first = rollover.sock.min(arr.len() - 1));
    let next = (first..arr.len())
        .chain(0..first)
        .find(|at| !(try_self && *at == chosen) && packet_rcv_has_room(&arr[*at]) == Room::Normal);
    with(&mut |rollover| match next {
        Some(next) => (rollover.sock, rollover.num) = (next, rollover.num + 1),
        None => rollover.num_failed += 1,
    });
    next.unwrap_or(chosen)
}

/// Shows a packet to one of a group.
///
/// linux: net/packet/af_packet.c:packet_rcv_fanout
fn packet_rcv_fanout(cx: &mut BhCx<'_>, f: &PacketFanout, skb: Skb, dev: &Arc<NetDevice>) {
    walk!(cx, skb, packet_rcv_fanout);
    let members = f.members.lock().clone();
    if members.arr.is_empty() {
        return kfree_skb(cx, skb, DropReason::NoSocket);
    }
    let chosen = f.choose(cx, &skb, &members);
    rcv(cx, &members.arr[chosen], skb, dev);
}

impl PacketTap for PacketFanout {
    fn packet_rcv(&self, cx: &mut BhCx<'_>, skb: Skb, dev: &Arc<NetDevice>) {
        packet_rcv_fanout(cx, self, skb, dev);
    }

    /// What one of the group sends none of it sees.
    ///
    /// linux: net/packet/af_packet.c:match_fanout_group
    fn skb_loop_sk(&self, sk: &Arc<Sock>) -> bool {
        // A stream's segment leaves under its own socket's lock.
        if sk.sk_prot.family != AF_PACKET {
            return false;
        }
        let mut state = sk.state_of_tap();
        let fanout = state.packet().and_then(|po| po.fanout.as_ref());
        fanout.is_some_and(|own| std::ptr::eq(&raw const **own, self))
    }

    fn ignore_outgoing(&self) -> bool {
        self.flags & PACKET_FANOUT_FLAG_IGNORE_OUTGOING != 0
    }
}
