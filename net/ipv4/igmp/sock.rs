//! The groups that a socket belongs to. Context: task, but for [`ip_mc_sf_allow`] (BH, under the socket's state).
//!
//! linux: net/ipv4/igmp.c. Key type: [`IpMcSocklist`]. Locks: `class::Rtnl` around each change; under it, one after
//! the other, `class::Sock` and `class::Igmp`. Invariant: each group in a socket's list counts once as a user of its
//! device's group, and its filter once as one of that group's, as long as the device is there.

use super::group::{Filter, SfMode};
use super::{change, device::IgmpCx, device::McDev};
use crate::kernel::context::TaskCx;
use crate::net::core::dev::{DevId, NetDevice};
use crate::net::core::sock::{Sock, SockState};
use crate::net::ipv4::devinet::ip_dev_find;
use crate::net::ipv4::route::{Flow4, ip_route_output_flow};
use std::sync::Arc;
use uapi::errno::Errno;
use uapi::in_::{IpMreqn, ipv4_is_multicast};

/// What the socket is charged with for a group.
///
/// linux: include/linux/igmp.h:ip_mc_socklist
const SOCKLIST: usize = 40;
/// What it is charged with for a list of sources, and for each.
///
/// linux: include/linux/igmp.h:ip_sf_socklist
const SFLIST: usize = 24;
/// Sources that a list grows by.
///
/// linux: include/linux/igmp.h:IP_SFBLOCK
const IP_SFBLOCK: usize = 10;

/// A group that a socket belongs to at a device, and its filter.
///
/// linux: include/linux/igmp.h:ip_mc_socklist
#[derive(Clone, Debug)]
pub(crate) struct IpMcSocklist {
    /// The group, and the device by its index and the address it was named by.
    pub multi: IpMreqn,
    /// What the list of sources means.
    pub sfmode: SfMode,
    /// The sources; `None`: all, or none, by the mode.
    pub sflist: Option<SfList>,
}

/// What a socket has to do with groups.
///
/// linux: include/net/inet_sock.h:inet_sock
#[derive(Debug, Default)]
pub(crate) struct IpMcSock {
    /// Those that it belongs to, the one joined last first.
    pub list: Vec<IpMcSocklist>,
    /// `IP_MULTICAST_IF`: the device that groups are sent to by; 0: by the route.
    pub index: u16,
    /// The address they are sent from; zero: by the route.
    pub addr: u32,
    /// `IP_MULTICAST_ALL` is off: of groups that others have joined it takes nothing.
    pub few: bool,
}

/// A filter's sources, and how many it has room for.
///
/// linux: include/linux/igmp.h:ip_sf_socklist
#[derive(Clone, Debug, Default)]
pub(crate) struct SfList {
    pub addrs: Vec<u32>,
    max: usize,
}

impl SfList {
    fn charge(max: usize) -> usize {
        SFLIST + 4 * max
    }
}

impl IpMcSocklist {
    fn is(&self, group: u32, ifindex: i32) -> bool {
        self.multi.multiaddr == group && self.multi.ifindex == ifindex
    }

    fn sources(&self) -> &[u32] {
        self.sflist.as_ref().map_or(&[], |list| &list.addrs)
    }

    fn charge(&self) -> usize {
        self.sflist.as_ref().map_or(0, |list| SfList::charge(list.max))
    }
}

/// The socket's groups, the one joined last first.
fn mc_list(state: &SockState) -> &[IpMcSocklist] {
    state.rare().map_or(&[], |rare| &rare.mc.list)
}

fn find(sk: &Sock, group: u32, ifindex: i32) -> Option<IpMcSocklist> {
    mc_list(&sk.state()).iter().find(|iml| iml.is(group, ifindex)).cloned()
}

/// Changes a group in the socket's list.
fn update(sk: &Sock, new: IpMcSocklist) {
    let mut state = sk.state();
    let list = &mut state.rare_mut().mc.list;
    let place = list.iter_mut().find(|iml| iml.is(new.multi.multiaddr, new.multi.ifindex));
    if let Some(place) = place {
        *place = new;
    }
}

/// The device that is meant: by its index, by an address, or by the way to the group, whose index is noted then.
///
/// linux: net/ipv4/igmp.c:ip_mc_find_dev
fn ip_mc_find_dev(cx: &mut TaskCx, imr: &mut IpMreqn) -> Option<Arc<NetDevice>> {
    let t = cx.tables();
    let by_index = |index: i32| t.net.dev(DevId(u16::try_from(index).ok()?)).cloned();
    if imr.ifindex != 0 {
        return by_index(imr.ifindex);
    }
    let id = if imr.address != 0 {
        ip_dev_find(&t, imr.address)?
    } else {
        let flow = Flow4 { daddr: imr.multiaddr, ..Flow4::default() };
        cx.local_bh_disable(|bh| {
            let dst = ip_route_output_flow(bh, &flow).ok()?;
            let dev = dst.dev;
            bh.cpu.routes.give_back(dst);
            Some(dev)
        })?
    };
    imr.ifindex = id.0.into();
    by_index(imr.ifindex)
}

/// Takes the configuration lock for a change of groups.
fn with_rtnl<R>(cx: &mut TaskCx, f: impl FnOnce(&mut TaskCx) -> R) -> R {
    let m = Arc::clone(cx.machine());
    let _rtnl = m.rtnl.lock();
    f(cx)
}

/// The socket joins a group, for all sources or for none yet. The device's index is noted in `imr`.
///
/// # Errors
/// EINVAL for what is no group; ENODEV without a device; EADDRINUSE for a group that it belongs to; ENOBUFS beyond
/// `igmp_max_memberships` or `optmem_max`.
///
/// linux: net/ipv4/igmp.c:ip_mc_join_group, ip_mc_join_group_ssm
pub(super) fn ip_mc_join_group(
    cx: &mut TaskCx,
    sk: &Sock,
    imr: &mut IpMreqn,
    sfmode: SfMode,
) -> Result<(), Errno> {
    if !ipv4_is_multicast(imr.multiaddr) {
        return Err(Errno::EINVAL);
    }
    with_rtnl(cx, |cx| {
        let dev = ip_mc_find_dev(cx, imr).ok_or(Errno::ENODEV)?;
        let sysctl = Arc::clone(&cx.tables().net.sysctl);
        {
            let mut state = sk.state();
            let list = mc_list(&state);
            if list.iter().any(|iml| iml.is(imr.multiaddr, imr.ifindex)) {
                return Err(Errno::EADDRINUSE);
            }
            if list.len() >= sysctl.igmp.max_memberships as usize {
                return Err(Errno::ENOBUFS);
            }
            let rare = state.rare_mut();
            if !rare.sock_kmalloc(SOCKLIST, sysctl.optmem_max) {
                return Err(Errno::ENOBUFS);
            }
            rare.mc.list.insert(0, IpMcSocklist { multi: *imr, sfmode, sflist: None });
        }
        change(cx, &dev, |mc, igmp| mc.ip_mc_inc_group(igmp, imr.multiaddr, sfmode));
        Ok(())
    })
}

/// The socket leaves a group.
///
/// # Errors
/// ENODEV without a device; EADDRNOTAVAIL for a group that it does not belong to there.
///
/// linux: net/ipv4/igmp.c:ip_mc_leave_group
pub(super) fn ip_mc_leave_group(cx: &mut TaskCx, sk: &Sock, mut imr: IpMreqn) -> Result<(), Errno> {
    with_rtnl(cx, |cx| leave_group(cx, sk, &mut imr))
}

fn leave_group(cx: &mut TaskCx, sk: &Sock, imr: &mut IpMreqn) -> Result<(), Errno> {
    let dev = ip_mc_find_dev(cx, imr);
    if imr.ifindex == 0 && imr.address == 0 && dev.is_none() {
        return Err(Errno::ENODEV);
    }
    let meant = |iml: &IpMcSocklist| {
        iml.multi.multiaddr == imr.multiaddr
            && match imr.ifindex {
                0 => imr.address == 0 || imr.address == iml.multi.address,
                index => iml.multi.ifindex == index,
            }
    };
    let iml = {
        let mut state = sk.state();
        let at = mc_list(&state).iter().position(meant).ok_or(Errno::EADDRNOTAVAIL)?;
        take(&mut state, at)
    };
    if let Some(dev) = dev {
        leave_src_and_group(cx, &dev, &iml);
    }
    Ok(())
}

/// Takes a group out of the socket's list, and off its charge.
fn take(state: &mut SockState, at: usize) -> IpMcSocklist {
    let rare = state.rare_mut();
    let iml = rare.mc.list.remove(at);
    rare.sock_kfree(SOCKLIST + iml.charge());
    iml
}

/// The device's group has one filter less, and one user.
///
/// linux: net/ipv4/igmp.c:ip_mc_leave_src
fn leave_src_and_group(cx: &mut TaskCx, dev: &Arc<NetDevice>, iml: &IpMcSocklist) {
    let group = iml.multi.multiaddr;
    change(cx, dev, |mc, igmp| {
        let filter = Filter { sfmode: iml.sfmode, sources: iml.sources(), delta: false };
        // A device that was taken away and came again knows nothing of it.
        let _known = mc.ip_mc_del_src(igmp, group, filter);
        mc.ip_mc_dec_group(igmp, group);
    });
}

/// A socket that is closed leaves all its groups.
///
/// linux: net/ipv4/igmp.c:ip_mc_drop_socket
pub(crate) fn ip_mc_drop_socket(cx: &mut TaskCx, sk: &Sock) {
    if mc_list(&sk.state_in_drop()).is_empty() {
        return;
    }
    with_rtnl(cx, |cx| {
        loop {
            let iml = {
                let mut state = sk.state_in_drop();
                if mc_list(&state).is_empty() {
                    break;
                }
                take(&mut state, 0)
            };
            let t = cx.tables();
            let id = u16::try_from(iml.multi.ifindex).ok();
            if let Some(dev) = id.and_then(|id| t.net.dev(DevId(id))) {
                leave_src_and_group(cx, dev, &iml);
            }
        }
    });
}

/// Which of a socket's filters changes, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct McSource {
    pub imr: IpMreqn,
    pub source: u32,
    pub omode: SfMode,
    pub op: SourceOp,
}

/// A source comes into a filter's list, or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceOp {
    Add,
    Del,
}

/// Adds a source to a socket's filter of a group, or takes one out. Without its last source a filter that includes
/// leaves the group.
///
/// # Errors
/// EINVAL for what is no group or one the socket does not belong to, or whose filter means the contrary; ENODEV;
/// EADDRNOTAVAIL for a source that is there, or is not; ENOBUFS beyond `igmp_max_msf` or `optmem_max`.
///
/// linux: net/ipv4/igmp.c:ip_mc_source
pub(super) fn ip_mc_source(cx: &mut TaskCx, sk: &Sock, mut what: McSource) -> Result<(), Errno> {
    let group = what.imr.multiaddr;
    if !ipv4_is_multicast(group) {
        return Err(Errno::EINVAL);
    }
    with_rtnl(cx, |cx| {
        let dev = ip_mc_find_dev(cx, &mut what.imr).ok_or(Errno::ENODEV)?;
        let mut pmc = find(sk, group, what.imr.ifindex).ok_or(Errno::EINVAL)?;
        if pmc.sfmode != what.omode {
            if pmc.sflist.is_some() {
                return Err(Errno::EINVAL);
            }
            // A filter of nothing may change what it means.
            switch_mode(cx, &dev, &mut pmc, what.omode)?;
            update(sk, pmc.clone());
        }
        match what.op {
            SourceOp::Add => add_source(cx, (sk, &dev), pmc, &what),
            SourceOp::Del => del_source(cx, (sk, &dev), pmc, &mut what),
        }
    })
}

fn switch_mode(
    cx: &mut TaskCx,
    dev: &Arc<NetDevice>,
    pmc: &mut IpMcSocklist,
    omode: SfMode,
) -> Result<(), Errno> {
    let before = std::mem::replace(&mut pmc.sfmode, omode);
    let none = |sfmode| Filter { sfmode, sources: &[], delta: false };
    replace_filter(cx, dev, pmc.multi.multiaddr, (none(omode), none(before)))
}

/// A filter of the device's group gives way to another.
fn replace_filter(
    cx: &mut TaskCx,
    dev: &Arc<NetDevice>,
    group: u32,
    (new, old): (Filter<'_>, Filter<'_>),
) -> Result<(), Errno> {
    let swap = |mc: &mut McDev, igmp: &mut IgmpCx<'_>| {
        mc.ip_mc_add_src(igmp, group, new)?;
        mc.ip_mc_del_src(igmp, group, old)
    };
    change(cx, dev, swap).unwrap_or(Err(Errno::ENODEV))
}

fn del_source(
    cx: &mut TaskCx,
    (sk, dev): (&Sock, &Arc<NetDevice>),
    mut pmc: IpMcSocklist,
    what: &mut McSource,
) -> Result<(), Errno> {
    let list = pmc.sflist.as_mut().ok_or(Errno::EADDRNOTAVAIL)?;
    let at = list.addrs.iter().position(|addr| *addr == what.source);
    let at = at.ok_or(Errno::EADDRNOTAVAIL)?;
    if list.addrs.len() == 1 && what.omode == SfMode::Include {
        return leave_group(cx, sk, &mut what.imr);
    }
    list.addrs.remove(at);
    update(sk, pmc);
    let filter = Filter { sfmode: what.omode, sources: &[what.source], delta: true };
    // The source was in the socket's list, so that it is in the device's, if that is still the same.
    change(cx, dev, |mc, igmp| mc.ip_mc_del_src(igmp, what.imr.multiaddr, filter).ok());
    Ok(())
}

fn add_source(
    cx: &mut TaskCx,
    (sk, dev): (&Sock, &Arc<NetDevice>),
    mut pmc: IpMcSocklist,
    what: &McSource,
) -> Result<(), Errno> {
    let sysctl = Arc::clone(&cx.tables().net.sysctl);
    let (len, max) = pmc.sflist.as_ref().map_or((0, 0), |list| (list.addrs.len(), list.max));
    if pmc.sflist.is_some() && len >= sysctl.igmp.max_msf as usize {
        return Err(Errno::ENOBUFS);
    }
    if len == max {
        let more = max + IP_SFBLOCK;
        let mut state = sk.state();
        let rare = state.rare_mut();
        if !rare.sock_kmalloc(SfList::charge(more), sysctl.optmem_max) {
            return Err(Errno::ENOBUFS);
        }
        rare.sock_kfree(pmc.charge());
        pmc.sflist.get_or_insert_default().max = more;
        drop(state);
        update(sk, pmc.clone());
    }
    let list = pmc.sflist.get_or_insert_default();
    if list.addrs.contains(&what.source) {
        return Err(Errno::EADDRNOTAVAIL);
    }
    list.addrs.push(what.source);
    update(sk, pmc);
    let filter = Filter { sfmode: what.omode, sources: &[what.source], delta: true };
    change(cx, dev, |mc, igmp| mc.ip_mc_add_src(igmp, what.imr.multiaddr, filter).ok());
    Ok(())
}

/// Gives a socket another filter for a group. One that includes nobody leaves the group.
///
/// # Errors
/// EINVAL for what is no group, or one the socket does not belong to; ENODEV; ENOBUFS beyond `optmem_max`.
///
/// linux: net/ipv4/igmp.c:ip_mc_msfilter
pub(super) fn ip_mc_msfilter(
    cx: &mut TaskCx,
    sk: &Sock,
    mut imr: IpMreqn,
    (sfmode, sources): (SfMode, Vec<u32>),
) -> Result<(), Errno> {
    let group = imr.multiaddr;
    if !ipv4_is_multicast(group) {
        return Err(Errno::EINVAL);
    }
    with_rtnl(cx, |cx| {
        let dev = ip_mc_find_dev(cx, &mut imr).ok_or(Errno::ENODEV)?;
        if sfmode == SfMode::Include && sources.is_empty() {
            return leave_group(cx, sk, &mut imr);
        }
        let old = find(sk, group, imr.ifindex).ok_or(Errno::EINVAL)?;
        let max = sources.len();
        let sflist = (max != 0).then_some(SfList { addrs: sources, max });
        let new = IpMcSocklist { multi: old.multi, sfmode, sflist };
        let optmem_max = cx.tables().net.sysctl.optmem_max;
        {
            let mut state = sk.state();
            let rare = state.rare_mut();
            if max != 0 && !rare.sock_kmalloc(new.charge(), optmem_max) {
                return Err(Errno::ENOBUFS);
            }
            rare.sock_kfree(old.charge());
        }
        update(sk, new.clone());
        let of = |iml: &'_ IpMcSocklist| (iml.sfmode, iml.sources().to_vec());
        let ((new_mode, new_list), (old_mode, old_list)) = (of(&new), of(&old));
        let filters = (
            Filter { sfmode: new_mode, sources: &new_list, delta: false },
            Filter { sfmode: old_mode, sources: &old_list, delta: false },
        );
        // A device that knows nothing of the group any more has no filter of it.
        let _known = replace_filter(cx, &dev, group, filters);
        Ok(())
    })
}

/// A socket's filter of a group.
///
/// # Errors
/// EINVAL for what is no group; ENODEV; EADDRNOTAVAIL for a group that the socket does not belong to.
///
/// linux: net/ipv4/igmp.c:ip_mc_msfget
pub(super) fn ip_mc_msfget(
    cx: &mut TaskCx,
    sk: &Sock,
    mut imr: IpMreqn,
) -> Result<(SfMode, Vec<u32>), Errno> {
    if !ipv4_is_multicast(imr.multiaddr) {
        return Err(Errno::EINVAL);
    }
    ip_mc_find_dev(cx, &mut imr).ok_or(Errno::ENODEV)?;
    ip_mc_gsfget(sk, imr.multiaddr, imr.ifindex)
}

/// The same of a device by its index.
///
/// # Errors
/// As [`ip_mc_msfget`], but for ENODEV.
///
/// linux: net/ipv4/igmp.c:ip_mc_gsfget
pub(super) fn ip_mc_gsfget(
    sk: &Sock,
    group: u32,
    ifindex: i32,
) -> Result<(SfMode, Vec<u32>), Errno> {
    if !ipv4_is_multicast(group) {
        return Err(Errno::EINVAL);
    }
    let pmc = find(sk, group, ifindex).ok_or(Errno::EADDRNOTAVAIL)?;
    Ok((pmc.sfmode, pmc.sources().to_vec()))
}

impl SockState {
    /// The device and the source address of what it sends to a group (`IP_MULTICAST_IF`); zeros: the route's, or the
    /// destination is no group.
    pub(crate) fn way_to_groups(&self, daddr: u32) -> (u16, u32) {
        let mc = self.rare().filter(|_| ipv4_is_multicast(daddr)).map(|rare| &rare.mc);
        mc.map_or((0, 0), |mc| (mc.index, mc.addr))
    }
}

/// The socket takes a datagram that `saddr` sent to `group` and that came in at `dif`: its filter lets it in; of
/// groups that it does not belong to there, those of others if it takes them (`IP_MULTICAST_ALL`).
///
/// linux: net/ipv4/igmp.c:ip_mc_sf_allow
pub(crate) fn ip_mc_sf_allow(state: &SockState, group: u32, saddr: u32, dif: u16) -> bool {
    match mc_list(state).iter().find(|iml| iml.is(group, dif.into())) {
        None => !state.rare().is_some_and(|rare| rare.mc.few),
        Some(iml) => iml.sources().contains(&saddr) == (iml.sfmode == SfMode::Include),
    }
}
