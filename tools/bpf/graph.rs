//! The order in which questions are asked, and none whose answer is known.
//!
//! A condition becomes a graph of questions with two ways out of each. A question that the way to it has answered
//! already is gone around; what nobody can come to is left out; A is not loaded anew when it is what all ways there
//! leave in it.

use super::FilterError;
use super::ast::{Cond, Test};
use std::collections::HashMap;
use uapi::filter::*;

/// Each pass shortens what the one before made possible; what is left after so many is right, if longer.
const PASSES: usize = 8;

/// Answers that are remembered on a way.
const FACTS: usize = 32;

/// Where a way leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum To {
    Accept,
    Reject,
    Ask(usize),
}

/// A question: which, and where its answers lead. Those that it leads to have lower numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Node {
    test: usize,
    yes: To,
    no: To,
}

/// A question that was answered.
type Fact = (usize, bool);

#[derive(Default)]
struct Graph {
    tests: Vec<Test>,
    nodes: Vec<Node>,
    /// To find those that are there.
    known_tests: HashMap<Test, usize>,
    known_nodes: HashMap<Node, usize>,
}

pub(super) fn program(cond: &Cond, accept: u32) -> Result<Vec<SockFilter>, FilterError> {
    let mut graph = Graph::default();
    let mut entry = graph.build(cond, To::Accept, To::Reject);
    if graph.nodes.len() > BPF_MAXINSNS {
        let what = format!(
            "it asks {} questions, and {BPF_MAXINSNS} instructions are the most",
            graph.nodes.len()
        );
        return Err(FilterError { column: 1, what });
    }
    for _ in 0..PASSES {
        let before = (entry, graph.nodes.clone());
        entry = graph.shorten(entry);
        if before.0 == entry && before.1 == graph.nodes {
            break;
        }
    }
    if entry == To::Reject {
        let what = "no packet can be all of that: the conditions contradict each other".to_owned();
        return Err(FilterError { column: 1, what });
    }
    Ok(graph.emit(entry, accept))
}

impl Graph {
    fn build(&mut self, cond: &Cond, yes: To, no: To) -> To {
        match cond {
            Cond::Const(true) => yes,
            Cond::Const(false) => no,
            Cond::Not(cond) => self.build(cond, no, yes),
            Cond::And(a, b) => {
                let then = self.build(b, yes, no);
                self.build(a, then, no)
            }
            Cond::Or(a, b) => {
                let then = self.build(b, yes, no);
                self.build(a, yes, then)
            }
            Cond::Test(_) if yes == no => yes,
            Cond::Test(test) => {
                let next = self.tests.len();
                let number = *self.known_tests.entry(test.clone()).or_insert(next);
                if number == next {
                    self.tests.push(test.clone());
                }
                let node = Node { test: number, yes, no };
                let next = self.nodes.len();
                let at = *self.known_nodes.entry(node).or_insert(next);
                if at == next {
                    self.nodes.push(node);
                }
                To::Ask(at)
            }
        }
    }

    /// Goes around questions that the way to them has answered.
    fn shorten(&mut self, entry: To) -> To {
        // What is known at each, whichever way one came; nobody came yet where there is nothing.
        let mut known: Vec<Option<Vec<Fact>>> = vec![None; self.nodes.len()];
        let entry = self.follow(entry, &[]);
        if let To::Ask(at) = entry {
            known[at] = Some(Vec::new());
        }
        for at in (0..self.nodes.len()).rev() {
            let Some(facts) = known[at].take() else { continue };
            for answer in [true, false] {
                let node = self.nodes[at];
                let mut then = facts.clone();
                // What was asked long ago is forgotten: less is gone around then, and the work stays in proportion.
                if then.len() == FACTS {
                    then.remove(0);
                }
                then.push((node.test, answer));
                let to = self.follow(if answer { node.yes } else { node.no }, &then);
                let node = &mut self.nodes[at];
                *(if answer { &mut node.yes } else { &mut node.no }) = to;
                let To::Ask(next) = to else { continue };
                match &mut known[next] {
                    Some(facts) => facts.retain(|fact| then.contains(fact)),
                    nobody => *nobody = Some(then),
                }
            }
        }
        self.around_the_needless(entry)
    }

    /// A question both of whose answers lead to the same need not be asked.
    fn around_the_needless(&mut self, entry: To) -> To {
        let mut leads: Vec<To> = Vec::with_capacity(self.nodes.len());
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            let now = |to| if let To::Ask(n) = to { leads[n] } else { to };
            (node.yes, node.no) = (now(node.yes), now(node.no));
            leads.push(if node.yes == node.no { node.yes } else { To::Ask(at) });
        }
        if let To::Ask(n) = entry { leads[n] } else { entry }
    }

    /// Where one ends up who knows these facts.
    fn follow(&self, mut to: To, facts: &[Fact]) -> To {
        while let To::Ask(at) = to {
            let node = self.nodes[at];
            let answers = facts.iter().rev();
            let Some(answer) = answers.filter_map(|fact| self.answered(*fact, node.test)).next()
            else {
                break;
            };
            to = if answer { node.yes } else { node.no };
        }
        to
    }

    /// What a fact says to a question.
    fn answered(&self, (test, answer): Fact, question: usize) -> Option<bool> {
        if test == question {
            return Some(answer);
        }
        let (fact, asked) = (&self.tests[test], &self.tests[question]);
        let constants = [fact, asked].iter().all(|test| test.compare & 0x08 == BPF_K);
        if !constants || fact.load != asked.load {
            return None;
        }
        // The least and the greatest that A can be.
        let (least, most) = match (fact.compare & 0xf0, answer) {
            (BPF_JEQ, true) => (fact.k, fact.k),
            (BPF_JGE, true) => (fact.k, u32::MAX),
            (BPF_JGT, false) => (0, fact.k),
            (BPF_JGE, false) => (0, fact.k.checked_sub(1)?),
            (BPF_JGT, true) => (fact.k.checked_add(1)?, u32::MAX),
            _ => return None,
        };
        let k = asked.k;
        match asked.compare & 0xf0 {
            BPF_JEQ if k < least || k > most => Some(false),
            BPF_JEQ | BPF_JSET if least == most => {
                Some(if asked.compare & 0xf0 == BPF_JEQ { least == k } else { least & k != 0 })
            }
            BPF_JGT if least > k => Some(true),
            BPF_JGT if most <= k => Some(false),
            BPF_JGE if least >= k => Some(true),
            BPF_JGE if most < k => Some(false),
            _ => None,
        }
    }

    /// The program, from its end: so each jump knows how far it goes.
    fn emit(&self, entry: To, accept: u32) -> Vec<SockFilter> {
        let used = self.used(entry);
        let left_in_a = self.left_in_a(entry, &used);
        // Places are counted from the end: that of an instruction is how many come with and behind it.
        let mut code =
            vec![SockFilter::stmt(BPF_RET | BPF_K, 0), SockFilter::stmt(BPF_RET | BPF_K, accept)];
        let mut places = vec![0; self.nodes.len()];
        for at in (0..self.nodes.len()).filter(|at| used[*at]) {
            let node = self.nodes[at];
            let test = &self.tests[node.test];
            let place = |to| match to {
                To::Reject => 1,
                To::Accept => 2,
                To::Ask(n) => places[n],
            };
            let [jt, jf] = [node.yes, node.no].map(|to| reach(&mut code, place(to)));
            let skip = |place| (code.len() - place) as u8;
            code.push(SockFilter::jump(test.compare, test.k, skip(jt), skip(jf)));
            if !left_in_a[at] {
                code.extend(test.load.iter().rev());
            }
            places[at] = code.len();
        }
        if let To::Ask(at) = entry {
            // Nothing stands before it that would be lower: its number is the highest that is used.
            code.truncate(places[at]);
        }
        code.reverse();
        code
    }

    /// Those that one can come to.
    fn used(&self, entry: To) -> Vec<bool> {
        let mut used = vec![false; self.nodes.len()];
        if let To::Ask(at) = entry {
            used[at] = true;
        }
        for at in (0..self.nodes.len()).rev() {
            for to in [self.nodes[at].yes, self.nodes[at].no] {
                if let (To::Ask(next), true) = (to, used[at]) {
                    used[next] = true;
                }
            }
        }
        used
    }

    /// Where all ways leave in A what is asked about.
    fn left_in_a(&self, entry: To, used: &[bool]) -> Vec<bool> {
        let mut left = vec![true; self.nodes.len()];
        if let To::Ask(at) = entry {
            left[at] = false;
        }
        for at in (0..self.nodes.len()).filter(|at| used[*at]) {
            let test = &self.tests[self.nodes[at].test];
            for to in [self.nodes[at].yes, self.nodes[at].no] {
                if let To::Ask(next) = to {
                    let asked = &self.tests[self.nodes[next].test];
                    // One that compares with X wants that loaded as well.
                    left[next] &= asked.load == test.load;
                }
            }
        }
        left
    }
}

/// A place that a short jump of the next instructions reaches: the place itself, or a long jump to it. The other
/// side's long jump may come between.
fn reach(code: &mut Vec<SockFilter>, place: usize) -> usize {
    if code.len() + 1 - place <= u8::MAX.into() {
        return place;
    }
    code.push(SockFilter::stmt(BPF_JMP | BPF_JA, (code.len() - place) as u32));
    code.len()
}
