//! Netfilter's five points: hooks by priority, each with a verdict.
//!
//! linux: net/netfilter/core.c, include/linux/netfilter.h. Key types: [`NfHooks`], [`NfHook`].
//! Contexts: hooks run in BH. Registered hooks are part of the read-mostly tables; one word tells
//! which points are empty.

use crate::kernel::context::{BhCx, TaskCx};
use crate::kernel::rcupdate::update_tables;
use crate::kernel::trace::drop_reason::DropReason;
use crate::net::core::dev::{DevId, tx::Lost};
use crate::net::core::skbuff::{SkBuff, Skb, SkbList, kfree_skb};
use crate::net::net_namespace::NetView;
use std::fmt;
use std::sync::Arc;

/// The points of IPv4, by Linux's numbers.
///
/// linux: include/uapi/linux/netfilter.h:nf_inet_hooks
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum NfInetHook {
    /// Arrived, before routing.
    PreRouting,
    /// For this machine.
    LocalIn,
    /// Through this machine.
    Forward,
    /// Made by this machine.
    LocalOut,
    /// About to leave.
    PostRouting,
}

/// How many points there are.
pub const NF_INET_NUMHOOKS: usize = 5;

/// What a hook says of a packet.
#[derive(Debug)]
pub enum Verdict {
    /// On to the next hook.
    Accept(Skb),
    /// Drop it.
    Drop(Skb),
    /// The hook keeps it or has ended it.
    Stolen,
}

/// What a hook may look at beside the packet.
#[derive(Clone, Copy, Debug)]
pub struct NfHookState {
    /// The point.
    pub hook: NfInetHook,
    /// The device it came in at.
    pub indev: Option<DevId>,
    /// The device it is to leave by.
    pub outdev: Option<DevId>,
}

/// A hook. Context: BH, no lock held; it must not sleep.
pub trait NfHook: Send + Sync {
    /// Looks at a packet, may change it, and says what becomes of it.
    fn hook(&self, cx: &mut BhCx<'_>, state: &NfHookState, skb: Skb) -> Verdict;

    /// What people are told it is.
    fn name(&self) -> &str {
        std::any::type_name::<Self>()
    }
}

#[derive(Clone)]
struct Entry {
    priority: i32,
    hook: Arc<dyn NfHook>,
}

/// The hooks of every point, lowest priority number first.
#[derive(Clone, Default)]
pub struct NfHooks {
    points: [Vec<Entry>; NF_INET_NUMHOOKS],
    /// A bit for each point that has hooks.
    active: u8,
}

impl fmt::Debug for NfHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NfHooks({:?})", self.points.each_ref().map(Vec::len))
    }
}

/// Registers a hook; on return every packet passes it. Hooks of equal priority run in the order of
/// registration.
///
/// linux: net/netfilter/core.c:nf_register_hook
pub fn nf_register_hook(cx: &mut TaskCx, at: NfInetHook, priority: i32, hook: Arc<dyn NfHook>) {
    let done: Result<(), std::convert::Infallible> = update_tables(cx, |t| {
        let point = &mut t.net.nf.points[at as usize];
        let index = point.partition_point(|entry| entry.priority <= priority);
        point.insert(index, Entry { priority, hook });
        t.net.nf.active |= 1 << at as u8;
        Ok(())
    });
    let Ok(()) = done;
}

/// Takes a hook out of every point; on return it runs no more.
///
/// linux: net/netfilter/core.c:nf_unregister_hook
pub fn nf_unregister_hook(cx: &mut TaskCx, hook: &Arc<dyn NfHook>) {
    let done: Result<(), std::convert::Infallible> = update_tables(cx, |t| {
        let nf = &mut t.net.nf;
        for (at, point) in nf.points.iter_mut().enumerate() {
            point.retain(|entry| !Arc::ptr_eq(&entry.hook, hook));
            if point.is_empty() {
                nf.active &= !(1 << at);
            }
        }
        Ok(())
    });
    let Ok(()) = done;
}

/// The hooks of a namespace, as they run: a line each.
///
/// linux: net/netfilter/nfnetlink_hook.c
pub fn nf_hooks_seq_show<'a>(of: impl Into<NetView<'a>>) -> String {
    let of = of.into();
    let mut text = format!("{:<13}{:>11}  hook\n", "point", "priority");
    let points = ["PRE_ROUTING", "LOCAL_IN", "FORWARD", "LOCAL_OUT", "POST_ROUTING"];
    for (point, entries) in points.iter().zip(&of.t.net.nf.points) {
        for Entry { priority, hook } in entries {
            text += &format!("{point:<13}{priority:>11}  {}\n", hook.name());
        }
    }
    text
}

/// A hook ended a packet's way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It was dropped: its sender gets EPERM.
    Dropped,
    /// The hook has it now.
    Stolen,
}

/// Runs the hooks of a point by priority, then the continuation. `devs` says by which devices the
/// packet came in and is to leave; nobody asks at a point without hooks.
///
/// # Errors
/// How a hook ended the packet's way.
///
/// linux: include/linux/netfilter.h:NF_HOOK
#[inline(always)]
#[allow(non_snake_case, reason = "Linux's name")]
pub fn NF_HOOK<R>(
    cx: &mut BhCx<'_>,
    hook: NfInetHook,
    skb: Skb,
    devs: impl FnOnce(&SkBuff) -> (Option<DevId>, Option<DevId>),
    okfn: impl FnOnce(&mut BhCx<'_>, Skb) -> R,
) -> Result<R, Stopped> {
    walk!(cx, skb, NF_HOOK => hook as u64);
    let skb = if cx.t.net.nf.active & 1 << hook as u8 == 0 {
        skb
    } else {
        let (indev, outdev) = devs(&skb);
        let index = |dev: Option<DevId>| dev.map_or(0, |dev| dev.0);
        match nf_hook_slow(cx, skb, hook, index(indev), index(outdev)) {
            (Some(skb), _) => skb,
            (None, stopped) => return Err(stopped),
        }
    };
    // The one place that calls it, so that it is inlined.
    Ok(okfn(cx, skb))
}

/// Runs the hooks of a point for each packet of a list; those that pass stay in it. `devs` says by
/// which devices they came in and are to leave. What the hooks dropped.
///
/// linux: include/linux/netfilter.h:NF_HOOK_LIST
#[inline(always)]
#[allow(non_snake_case, reason = "Linux's name")]
pub fn NF_HOOK_LIST(
    cx: &mut BhCx<'_>,
    hook: NfInetHook,
    list: &mut SkbList,
    devs: impl FnOnce(&SkbList) -> (Option<DevId>, Option<DevId>),
) -> Lost {
    walk!(cx, list, NF_HOOK => hook as u64);
    if cx.t.net.nf.active & 1 << hook as u8 == 0 {
        return Lost::default();
    }
    let (indev, outdev) = devs(list);
    nf_hook_slow_list(cx, hook, list, (indev, outdev))
}

/// A list passes a point that has no hooks, as its caller has seen ([`NfHooks`]).
#[inline(always)]
pub(crate) fn nf_pass(cx: &BhCx<'_>, hook: NfInetHook, list: &SkbList) {
    walk!(cx, list, NF_HOOK => hook as u64);
}

#[cold]
#[inline(never)]
fn nf_hook_slow_list(
    cx: &mut BhCx<'_>,
    hook: NfInetHook,
    list: &mut SkbList,
    (indev, outdev): (Option<DevId>, Option<DevId>),
) -> Lost {
    let index = |dev: Option<DevId>| dev.map_or(0, |dev| dev.0);
    let (mut lost, mut passed) = (Lost::default(), cx.skb_list());
    list.hand_out(|skb| {
        match nf_hook_slow(cx, skb, hook, index(indev), index(outdev)) {
            (Some(mut skb), _) => {
                // The list has the route: hooks can look at it, and none changes it yet.
                if let Some(dst) = skb.dst.take() {
                    cx.cpu.routes.give_back(dst);
                }
                passed.push(skb);
            }
            (None, Stopped::Dropped) => lost.refused += 1,
            (None, Stopped::Stolen) => (),
        }
        Ok(())
    });
    list.append(&mut passed);
    cx.free_skb_list(passed);
    list.look_again();
    lost
}

impl NfHooks {
    /// A point has hooks.
    #[inline]
    pub(crate) fn see(&self, hook: NfInetHook) -> bool {
        self.active & 1 << hook as u8 != 0
    }

    /// A point that packets for this machine pass has hooks.
    #[inline]
    pub(crate) fn see_input(&self) -> bool {
        self.active & (1 << NfInetHook::PreRouting as u8 | 1 << NfInetHook::LocalIn as u8) != 0
    }

    /// A point that packets pass on their way out has hooks.
    #[inline]
    pub(crate) fn see_output(&self) -> bool {
        self.active & (1 << NfInetHook::LocalOut as u8 | 1 << NfInetHook::PostRouting as u8) != 0
    }
}

/// The packet, if every hook let it pass; else how it ended. Plain numbers go in (0: no device) and
/// come out: who calls keeps nothing of this on its stack, and packets that meet no hook pass by it.
///
/// linux: net/netfilter/core.c:nf_hook_slow
#[cold]
#[inline(never)]
fn nf_hook_slow(
    cx: &mut BhCx<'_>,
    mut skb: Skb,
    hook: NfInetHook,
    indev: u16,
    outdev: u16,
) -> (Option<Skb>, Stopped) {
    walk!(cx, skb, nf_hook_slow => hook as u64);
    let dev = |index| (index != 0).then_some(DevId(index));
    let state = NfHookState { hook, indev: dev(indev), outdev: dev(outdev) };
    let t = cx.t;
    for entry in &t.net.nf.points[hook as usize] {
        match entry.hook.hook(cx, &state, skb) {
            Verdict::Accept(passed) => skb = passed,
            Verdict::Stolen => return (None, Stopped::Stolen),
            Verdict::Drop(refused) => {
                kfree_skb(cx, refused, DropReason::NetfilterDrop);
                return (None, Stopped::Dropped);
            }
        }
    }
    (Some(skb), Stopped::Stolen)
}
