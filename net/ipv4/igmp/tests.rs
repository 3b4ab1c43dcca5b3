//! The groups of a device, by literal messages at literal times.

use super::device::{Effects, FilterOp, IgmpCx, IgmpParms, McDev, Message};
use super::group::{Filter, SfMode};
use super::rx::{Query, igmpv3_exp};
use crate::kernel::time::Ktime;
use klib::random::Csprng;
use std::time::Duration;
use uapi::errno::Errno;
use uapi::igmp::{
    IGMP_HOST_LEAVE_MESSAGE, IGMP_HOST_MEMBERSHIP_REPORT, IGMPV2_HOST_MEMBERSHIP_REPORT,
};

const G: u32 = 0xef01_0203;
const LINK: u32 = 0xe000_0009;
const S1: u32 = 0xc000_0201;
const S2: u32 = 0xc000_0202;

/// A device that is up, at a time.
struct Rig {
    mc: McDev,
    now: Ktime,
    parms: IgmpParms,
    rng: Csprng,
}

impl Rig {
    fn new() -> Self {
        let parms = IgmpParms {
            qrv: 2,
            llm_reports: true,
            force_version: 0,
            v2_interval: Duration::from_secs(10),
            v3_interval: Duration::from_secs(1),
            mtu: 1500,
        };
        let rng = Csprng::from_seed([7; 32]);
        let mut rig = Self { mc: McDev::default(), now: Ktime::from_secs(100), parms, rng };
        assert_eq!(rig.event(McDev::ip_mc_up).1, (vec![], vec![FilterOp::Add(0xe000_0001)]));
        rig
    }

    fn event<R>(
        &mut self,
        event: impl FnOnce(&mut McDev, &mut IgmpCx<'_>) -> R,
    ) -> (R, (Vec<Message>, Vec<FilterOp>)) {
        let (now, parms) = (self.now, self.parms);
        let mut cx = IgmpCx { now, parms, rng: &mut self.rng, out: Effects::default() };
        let result = event(&mut self.mc, &mut cx);
        (result, (cx.out.send, cx.out.filter))
    }

    fn join(&mut self, group: u32, sfmode: SfMode) -> Vec<FilterOp> {
        let (_, (sent, filter)) = self.event(|mc, cx| mc.ip_mc_inc_group(cx, group, sfmode));
        assert_eq!(sent, [], "a while later at the earliest");
        filter
    }

    fn leave(&mut self, group: u32) -> Vec<Message> {
        let none = Filter { sfmode: SfMode::Exclude, sources: &[], delta: false };
        self.event(|mc, cx| {
            mc.ip_mc_del_src(cx, group, none).expect("there");
            mc.ip_mc_dec_group(cx, group);
        })
        .1
        .0
    }

    fn add(&mut self, sfmode: SfMode, sources: &[u32]) {
        let filter = Filter { sfmode, sources, delta: true };
        let (done, _) = self.event(|mc, cx| mc.ip_mc_add_src(cx, G, filter));
        assert_eq!(done, Ok(()));
    }

    /// Lets time pass: the messages, each with when it was sent, in milliseconds from now.
    fn pass(&mut self, time: Duration) -> Vec<(u64, Message)> {
        let (start, end) = (self.now, self.now + time);
        let mut all = Vec::new();
        while let Some(at) = self.mc.next_timer().filter(|at| *at <= end) {
            self.now = at.max(self.now);
            let ms = self.now.since(start).as_millis() as u64;
            let (_, (sent, _)) = self.event(McDev::run_timers);
            all.extend(sent.into_iter().map(|message| (ms, message)));
        }
        self.now = end;
        all
    }

    fn hear(&mut self, query: &[u8]) -> bool {
        let query = Query::of(query, query.len()).expect("a header");
        self.event(|mc, cx| mc.igmp_heard_query(cx, &query)).0
    }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A record of a report without others.
fn record(kind: u8, group: u32, sources: &[u32]) -> Message {
    let mut bytes = vec![0x22, 0, 0, 0, 0, 0, 0, 1, kind, 0, 0, sources.len() as u8];
    bytes.extend(group.to_be_bytes());
    sources.iter().for_each(|source| bytes.extend(source.to_be_bytes()));
    Message::V3(bytes)
}

fn query(code: u8, group: u32, tail: [u8; 2], sources: &[u32]) -> Vec<u8> {
    let mut query = vec![0x11, code, 0, 0];
    query.extend(group.to_be_bytes());
    query.extend(tail);
    query.extend((sources.len() as u16).to_be_bytes());
    sources.iter().for_each(|source| query.extend(source.to_be_bytes()));
    query
}

fn only(sent: Vec<(u64, Message)>) -> Vec<Message> {
    sent.into_iter().map(|(_, message)| message).collect()
}

#[test]
fn a_group_is_told_of_as_often_as_the_robustness_variable_says() {
    let mut rig = Rig::new();
    assert_eq!(rig.join(G, SfMode::Exclude), [FilterOp::Add(G)]);
    let sent = rig.pass(seconds(20));
    assert_eq!(sent[0], (2, record(4, G, &[])));
    assert!(sent[1].0 <= 2 + 1000 + 2, "{sent:?}");
    assert_eq!(only(sent)[1..], [record(4, G, &[])]);
    assert_eq!(rig.leave(G), [], "version 3 tells of it later");
    assert_eq!(only(rig.pass(seconds(20))), [record(3, G, &[]), record(3, G, &[])]);
    assert_eq!(rig.mc.tombs.len(), 0, "nothing is left of it");
}

#[test]
fn the_group_of_all_hosts_is_never_told_of_and_those_of_the_link_if_asked_for() {
    let mut rig = Rig::new();
    assert_eq!(rig.join(0xe000_0001, SfMode::Exclude), [], "a member already");
    assert_eq!(only(rig.pass(seconds(20))), []);
    rig.join(LINK, SfMode::Exclude);
    assert_eq!(only(rig.pass(seconds(20))).len(), 2);
    rig.leave(LINK);
    rig.pass(seconds(20));
    rig.parms.llm_reports = false;
    rig.join(LINK, SfMode::Exclude);
    assert_eq!(only(rig.pass(seconds(20))), []);
}

#[test]
fn sources_are_told_of_as_they_come_and_go() {
    let mut rig = Rig::new();
    rig.join(G, SfMode::Include);
    rig.add(SfMode::Include, &[S1]);
    assert_eq!(only(rig.pass(seconds(20))), [record(5, G, &[S1]), record(5, G, &[S1])]);
    rig.add(SfMode::Include, &[S2]);
    let one = Filter { sfmode: SfMode::Include, sources: &[S1], delta: true };
    let (gone, _) = rig.event(|mc, cx| mc.ip_mc_del_src(cx, G, one));
    assert_eq!(gone, Ok(()));
    // Both changes go into one message.
    let both = [5, 0, 0, 1, 239, 1, 2, 3, 192, 0, 2, 2, 6, 0, 0, 1, 239, 1, 2, 3, 192, 0, 2, 1];
    let head = [0x22, 0, 0, 0, 0, 0, 0, 2];
    let both = Message::V3([&head[..], &both].concat());
    assert_eq!(only(rig.pass(seconds(20))), [both.clone(), both]);
    let (none, _) = rig.event(|mc, cx| mc.ip_mc_del_src(cx, G, one));
    assert_eq!(none, Err(Errno::ESRCH));
}

#[test]
fn a_filter_that_excludes_changes_the_mode() {
    let mut rig = Rig::new();
    rig.join(G, SfMode::Include);
    rig.add(SfMode::Include, &[S1]);
    rig.pass(seconds(20));
    let all = Filter { sfmode: SfMode::Exclude, sources: &[S2], delta: false };
    let (done, _) = rig.event(|mc, cx| mc.ip_mc_add_src(cx, G, all));
    assert_eq!(done, Ok(()));
    assert_eq!(only(rig.pass(seconds(20))), [record(4, G, &[S2]), record(4, G, &[S2])]);
    let (done, _) = rig.event(|mc, cx| mc.ip_mc_del_src(cx, G, all));
    assert_eq!(done, Ok(()));
    assert_eq!(only(rig.pass(seconds(20))), [record(3, G, &[S1]), record(3, G, &[S1])]);
}

#[test]
fn a_general_query_is_answered_within_its_time() {
    let mut rig = Rig::new();
    rig.join(G, SfMode::Exclude);
    rig.pass(seconds(20));
    for (code, most) in [(0, 1), (10, 1000), (100, 10_000), (0x80 | 0x1f, 248_000)] {
        assert!(rig.hear(&query(code, 0, [2, 125], &[])));
        // A second one brings the answer forward at most.
        assert!(rig.hear(&query(code, 0, [2, 125], &[])));
        let sent = rig.pass(seconds(4000));
        assert!(sent[0].0 <= most + 2, "{code}: {sent:?}");
        assert_eq!(only(sent), [record(2, G, &[])]);
    }
    assert!(!rig.hear(&query(10, 0, [2, 125], &[S1])), "sources of no group");
    assert_eq!(rig.pass(seconds(4000)), []);
}

#[test]
fn codes_above_127_are_a_number_with_an_exponent() {
    let codes = [(0, 0), (127, 127), (128, 128), (143, 248), (0xff, 31_744)];
    for (code, value) in codes {
        assert_eq!(igmpv3_exp(code), value, "{code:#x}");
    }
}

#[test]
fn a_query_of_sources_is_answered_with_those_that_are_wanted() {
    let mut rig = Rig::new();
    rig.join(G, SfMode::Include);
    rig.add(SfMode::Include, &[S1, S2]);
    rig.pass(seconds(20));
    assert!(rig.hear(&query(10, G, [2, 125], &[S2, 0x0a00_0001])));
    assert_eq!(only(rig.pass(seconds(20))), [record(1, G, &[S2])]);
    assert!(rig.hear(&query(10, G, [2, 125], &[0x0a00_0001])));
    assert_eq!(rig.pass(seconds(20)), [], "none of ours");
    // A query of the group while one of its sources is due asks for all.
    assert!(rig.hear(&query(100, G, [2, 125], &[S2])));
    assert!(rig.hear(&query(100, G, [2, 125], &[])));
    assert_eq!(only(rig.pass(seconds(20))), [record(1, G, &[S1, S2])]);
}

#[test]
fn a_querier_of_version_2_makes_it_speak_that_for_so_long() {
    let mut rig = Rig::new();
    rig.join(G, SfMode::Exclude);
    assert!(rig.hear(&[0x11, 100, 0, 0, 0, 0, 0, 0]));
    let report = |kind| Message::Plain { kind, group: G };
    let sent = rig.pass(seconds(20));
    assert!(sent[0].0 <= 10_002, "{sent:?}");
    assert_eq!(
        only(sent),
        [report(IGMPV2_HOST_MEMBERSHIP_REPORT)],
        "what was to be told of in version 3 is not"
    );
    // Twice the interval of 125 seconds, and 10 for answers (RFC 3376 section 8.12).
    rig.pass(seconds(239));
    assert_eq!(rig.leave(G), [report(IGMP_HOST_LEAVE_MESSAGE)], "the last report was ours");
    rig.join(G, SfMode::Exclude);
    let sent = rig.pass(Duration::from_millis(10));
    assert_eq!(only(sent), [report(IGMPV2_HOST_MEMBERSHIP_REPORT)]);
    rig.pass(seconds(2));
    rig.leave(G);
    rig.join(G, SfMode::Exclude);
    assert_eq!(only(rig.pass(seconds(1)))[0], record(4, G, &[]), "version 3 again");
}

#[test]
fn a_querier_of_version_1_is_told_of_no_leaving() {
    let mut rig = Rig::new();
    assert!(rig.hear(&[0x11, 0, 0, 0, 0, 0, 0, 0]));
    rig.join(G, SfMode::Exclude);
    let sent = only(rig.pass(seconds(30)));
    let report = Message::Plain { kind: IGMP_HOST_MEMBERSHIP_REPORT, group: G };
    assert_eq!(sent, [report.clone(), report]);
    assert_eq!(rig.leave(G), []);
    assert_eq!(rig.pass(seconds(30)), []);
}

#[test]
fn a_report_of_another_makes_ours_needless() {
    let mut rig = Rig::new();
    rig.parms.force_version = 2;
    rig.join(G, SfMode::Exclude);
    rig.event(|mc, cx| mc.igmp_heard_report(cx, G));
    assert_eq!(rig.pass(seconds(30)), []);
    assert_eq!(rig.leave(G), [], "another is there who has told of it");
}

#[test]
fn a_timer_that_is_due_earlier_than_asked_stays() {
    let mut rig = Rig::new();
    rig.parms.force_version = 2;
    rig.join(G, SfMode::Exclude);
    rig.pass(seconds(60));
    assert!(rig.hear(&[0x11, 1, 0, 0, 0, 0, 0, 0]));
    let due = rig.mc.next_timer();
    (0..100).for_each(|_| assert!(rig.hear(&[0x11, 200, 0, 0, 0, 0, 0, 0])));
    assert_eq!(rig.mc.next_timer(), due, "no flood of queries puts it off");
}

#[test]
fn more_sources_than_fit_take_several_messages_or_are_cut_off() {
    let mut rig = Rig::new();
    rig.parms.mtu = 24 + 8 + 8 + 4 * 30;
    let sources: Vec<u32> = (0..70).map(|n| S1 + n).collect();
    rig.join(G, SfMode::Include);
    rig.add(SfMode::Include, &sources);
    let lens = |sent: Vec<(u64, Message)>| -> Vec<usize> {
        let len = |message: Message| match message {
            Message::V3(bytes) => bytes.len(),
            Message::Plain { .. } => 0,
        };
        only(sent).into_iter().map(len).collect()
    };
    let once = [16 + 120, 16 + 120, 16 + 40];
    assert_eq!(lens(rig.pass(seconds(20))), [once, once].concat());
    rig.join(G, SfMode::Exclude);
    rig.add(SfMode::Exclude, &[]);
    rig.pass(seconds(20));
    let refused: Vec<u32> = (0..70).map(|n| 0x0a00_0000 + n).collect();
    rig.add(SfMode::Exclude, &refused);
    rig.pass(seconds(20));
    assert!(rig.hear(&query(0, 0, [2, 125], &[])));
    assert_eq!(lens(rig.pass(seconds(20))), [16 + 120], "what is excluded can't be told in parts");
}

#[test]
fn sources_let_in_what_any_filter_wants() {
    let mut rig = Rig::new();
    rig.join(G, SfMode::Include);
    let lets_in = |rig: &Rig, source| rig.mc.get(G).expect("joined").lets_in(source);
    assert!(!lets_in(&rig, S1) && lets_in(&rig, 0));
    rig.add(SfMode::Include, &[S1]);
    assert!(lets_in(&rig, S1) && !lets_in(&rig, S2));
    let refuses = Filter { sfmode: SfMode::Exclude, sources: &[S1, S2], delta: false };
    rig.event(|mc, cx| mc.ip_mc_add_src(cx, G, refuses)).0.expect("there");
    assert!(lets_in(&rig, S1), "one wants it");
    assert!(!lets_in(&rig, S2), "all refuse it");
    assert!(lets_in(&rig, 0x0a00_0001), "one takes all but two");
}

#[test]
fn queries_cut_short_are_none() {
    let mut rig = Rig::new();
    let whole = query(0, G, [2, 125], &[]);
    for len in 9..12 {
        assert!(!rig.hear(&whole[..len]), "{len}");
    }
    assert!(rig.hear(&whole));
    assert!(Query::of(&whole[..7], 7).is_none());
}
