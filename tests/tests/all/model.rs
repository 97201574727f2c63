//! The combining commit, searched to its end: every order in which the requests of a few appenders can reach the store,
//! with deaths, lost answers and a compaction in between. In every state no batch is in the log twice, what was
//! acknowledged is in the log, and what is durable is in the log or waits in the inbox.
//!
//! What the next version holds is not modelled: the product's own [`commit::plan`] says it. The requests around it are
//! written down here a second time, in the order of `log/src/append.rs` (to [`Step::Adopt`]) and `log/src/committing.rs`
//! (from [`Step::List`] on): who changes the order there changes it here. `storms.rs` looks for the same rules in what
//! real processes did. Without the rule of any one step the search must come upon a bad state.
//!
//! Where it depends on the clock or on what a process happens to remember, the model goes every way:
//! - Who waits for its turn may list at any moment, or see that its batch is in the log and leave the rest to others.
//! - A committer may pass over an entry whose batch is in the log already, as it does at the first sighting.
//! - A scan knows the versions after each entry's head and none before, though a process may remember those too.
//! - After a put it scans again whatever the answer was, so a lost one is no step; one that was never done is a death.
//!
//! Data files and lanes are left out; and of receipts only the marked ones matter, so putting an empty one is no step.

use std::array::from_fn;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::iter::successors;

use chrono::DateTime;
use lakebed_log::commit::{self, Decision, Found};
use lakebed_log::inbox::{ENTRY_FORMAT, InboxEntry, Receipt};
use lakebed_log::{BatchId, Claims, CommittedBatch, ContentHash};
use lakebed_tests::long;
use uuid::Uuid;

/// Something of each batch.
type Each<T> = [T; 2];

const NAMES: Each<&str> = ["x", "y"];
const X: usize = 0;
const Y: usize = 1;

/// A version of the log. Version 0 makes the table, so it also stands for a batch that is in none.
type Version = u8;

/// What an appender does next, and the rule that it keeps there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Step {
    #[default]
    Head,
    /// A receipt that names a version ends a retry at once: the one rule that only saves requests.
    Receipt,
    Inbox,
    /// An entry that is there is taken over from the earlier send, with its head.
    Adopt,
    List,
    /// The receipts are read after the list.
    Marks,
    /// Every commit since the entry's head is read before a put.
    Scan,
    /// A version is written only if it is absent.
    Put,
    Ack,
    /// The receipt is marked before the inbox entry goes.
    Mark,
    End,
}

/// What an appender has in hand of a batch's inbox entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Held {
    #[default]
    Not,
    /// The entry, with its head.
    Listed(Version),
    /// The receipt too, and it names no version; in the end, a receipt to mark.
    Unmarked(Version),
    /// The receipt names a version: an entry to delete.
    Marked,
}

fn only(batch: usize, held: Held) -> Each<Held> {
    from_fn(|other| if other == batch { held } else { Held::Not })
}

/// An appender: what it will do, how often it died, and what it knows of the head, plans to put and holds.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Appender {
    step: Step,
    died: u8,
    seen: Version,
    todo: Each<bool>,
    held: Each<Held>,
}

impl Appender {
    /// At a step, with nothing in mind but these.
    fn holding(self, held: Each<Held>, step: Step) -> Self {
        Self { step, held, died: self.died, ..Self::default() }
    }
}

/// A batch: the version that has it, the head in its inbox entry, and whether its receipt names a version.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Batch {
    version: Version,
    inbox: Option<Version>,
    marked: bool,
    acked: bool,
    durable: bool,
}

/// The store, and how far everybody is.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct State {
    appenders: [Appender; 3],
    batches: Each<Batch>,
    head: Version,
    compactions: u8,
    twice: bool,
}

impl State {
    fn with(mut self, who: usize, appender: Appender) -> Self {
        self.appenders[who] = appender;
        self
    }

    /// Puts a version, over what may be there.
    fn put(&mut self, version: Version, todo: Each<bool>) {
        for (batch, todo) in self.batches.iter_mut().zip(todo) {
            let there = batch.version == version;
            self.twice |= todo && batch.version > 0 && !there;
            if todo || there {
                batch.version = if todo { version } else { 0 };
            }
        }
        self.head = self.head.max(version);
    }

    fn wrong(&self) -> Option<&'static str> {
        let missing = |rule: fn(&Batch) -> bool| self.batches.iter().any(|batch| batch.version == 0 && rule(batch));
        let rules = [
            (self.twice, "a batch is in the log twice"),
            (missing(|batch| batch.acked), "an acknowledged batch is not in the log"),
            (missing(|batch| batch.durable && batch.inbox.is_none()), "a durable batch is lost"),
        ];
        rules.into_iter().find_map(|(broken, wrong)| broken.then_some(wrong))
    }
}

/// What the product is asked: what is held, and what the scan found of it.
type Question = (Each<Held>, Each<bool>);

/// Which batches the product puts next, when what was committed of them is the staging `unit`; what is held is of unit 1.
fn planned((held, found): Question, unit: u128) -> Each<bool> {
    let (unit, lanes, claims) = (Uuid::from_u128(unit), BTreeMap::new(), Claims::default());
    let (mut entries, mut lines) = (Vec::new(), Found::new());
    for (batch, held) in held.into_iter().enumerate() {
        // No decision depends on which version it is that has a batch.
        let (head, version) = match held {
            Held::Not => continue,
            Held::Listed(head) | Held::Unmarked(head) => (head, None),
            Held::Marked => (0, Some(1)),
        };
        let (id, content) = (BatchId::new(NAMES[batch]), ContentHash::of(NAMES[batch].as_bytes()));
        let receipt = Receipt { id, content, version, unit: version.map(|_| unit) };
        let entry: InboxEntry = serde_json::from_value(json!({
            "format": ENTRY_FORMAT, "unit": Uuid::from_u128(1), "head": head, "id": NAMES[batch], "content": content,
            "source": "model", "rows": 1, "quarantined": 0, "files": [], "columns": [], "staged_at": at(0),
        }))
        .unwrap();
        if found[batch] {
            let mut alone = commit::plan(&[(entry.clone(), None)], &Found::new(), &claims, &lanes, 0);
            lines.insert(entry.key(), (1, CommittedBatch { unit, ..alone.batches.remove(0) }));
        }
        entries.push((entry, Some(receipt)));
    }
    let plan = commit::plan(&entries, &lines, &claims, &lanes, 0);
    for (entry, receipt) in &entries {
        let decision = commit::decide(entry, receipt.as_ref(), &lines, &lanes, &[]);
        let told = matches!(decision, Decision::Done { .. } | Decision::Duplicate { .. });
        assert!(told != plan.batches.iter().any(|batch| batch.id == entry.id), "what is not put is in the log");
    }
    NAMES.map(|name| plan.batches.iter().any(|batch| batch.id.as_str() == name))
}

#[derive(Debug)]
struct Search {
    /// The batch that each appender sends, and how often it may die and send it again.
    appenders: &'static [(usize, u8)],
    /// Versions without batches that may come in between.
    compactions: u8,
    /// The step whose rule is left out.
    without: Option<Step>,
    /// What the product said: it is asked once for each question.
    plans: HashMap<Question, Each<bool>>,
}

impl Search {
    fn keeps(&self, rule: Step) -> bool {
        self.without != Some(rule)
    }

    fn plan(&mut self, question: Question) -> Each<bool> {
        *self.plans.entry(question).or_insert_with(|| {
            let plan = planned(question, 1);
            assert_eq!(plan, planned(question, 2), "it makes no difference whose staging was committed");
            plan
        })
    }

    /// All states that one request, one death or a compaction leads to.
    fn after(&mut self, state: &State, next: &mut Vec<State>) {
        for (who, (own, deaths)) in self.appenders.iter().copied().enumerate() {
            let me = state.appenders[who];
            if !matches!(me.step, Step::Head | Step::End) && me.died < deaths {
                next.push(state.with(who, Appender { died: me.died + 1, ..Appender::default() }));
            }
            self.stage(state, who, own, next);
        }
        // Before the first batch it would only count the versions from elsewhere.
        if state.head > 0 && state.compactions < self.compactions {
            next.push(State { head: state.head + 1, compactions: state.compactions + 1, ..*state });
        }
    }

    /// Up to where the batch is durable.
    fn stage(&mut self, state: &State, who: usize, own: usize, next: &mut Vec<State>) {
        let (me, Batch { inbox, marked, .. }) = (state.appenders[who], state.batches[own]);
        let told = (marked && self.keeps(Step::Receipt)).then(|| me.holding(NOTHING, Step::Ack));
        let listing = |head| me.holding(only(own, Held::Listed(head)), Step::List);
        let appender = match me.step {
            Step::Head => Appender { step: Step::Receipt, seen: state.head, ..me },
            Step::Receipt => told.unwrap_or(Appender { step: Step::Inbox, ..me }),
            Step::Inbox => {
                // Staging takes its time, and the head may be followed meanwhile.
                if me.seen < state.head {
                    next.push(state.with(who, Appender { seen: state.head, ..me }));
                }
                let mut put = state.with(who, Appender { step: Step::Adopt, ..me });
                if inbox.is_none() {
                    put.batches[own] = Batch { inbox: Some(me.seen), durable: true, ..put.batches[own] };
                    next.push(put.with(who, listing(me.seen)));
                }
                // It was there before; or the answer was lost, and it was there when the client asked once more.
                return next.push(put);
            }
            Step::Adopt => match inbox {
                Some(first) => listing(if self.keeps(Step::Adopt) { first } else { me.seen }),
                None => told.unwrap_or(Appender { step: Step::Inbox, ..me }),
            },
            _ => return self.commit(state, who, own, next),
        };
        next.push(state.with(who, appender));
    }

    /// Up to where the batch is in the log.
    fn commit(&mut self, state: &State, who: usize, own: usize, next: &mut Vec<State>) {
        let (me, batches) = (state.appenders[who], &state.batches);
        let to = |held, step| state.with(who, me.holding(held, step));
        match me.step {
            Step::List => {
                if batches[own].version > 0 {
                    let held = only(own, Held::Unmarked(0));
                    assert_eq!(self.plan((held, from_fn(|batch| batch == own))), [false; 2]);
                    // Who adopted its entry cleans up; who staged it leaves that to its committer, dead or alive.
                    next.extend([to(NOTHING, Step::Ack), to(held, Step::Ack)]);
                }
                let taken = |batch: usize, over| batches[batch].inbox.filter(|_| !over || batches[batch].version == 0);
                let others = |over| from_fn(|batch| taken(batch, over).map_or(Held::Not, Held::Listed));
                for mut held in [others(false), others(true)] {
                    held[own] = me.held[own];
                    next.push(to(held, Step::Marks));
                }
            }
            Step::Marks => next.extend((0..2).filter_map(|batch| {
                let (mut held, Held::Listed(head)) = (me.held, me.held[batch]) else { return None };
                let marked = batches[batch].marked && self.keeps(Step::Marks);
                held[batch] = if marked { Held::Marked } else { Held::Unmarked(head) };
                let more = held.iter().any(|held| matches!(held, Held::Listed(_)));
                Some(to(held, if more { Step::Marks } else { Step::Scan }))
            })),
            Step::Scan => {
                let later = |batch: usize, head| batches[batch].version > head && self.keeps(Step::Scan);
                let found = from_fn(|batch| matches!(me.held[batch], Held::Unmarked(head) if later(batch, head)));
                let todo = self.plan((me.held, found));
                let forget = |held| if let Held::Unmarked(_) = held { Held::Unmarked(0) } else { held };
                next.push(match todo.contains(&true) {
                    true => state.with(who, Appender { step: Step::Put, seen: state.head, todo, ..me }),
                    false => to(me.held.map(forget), Step::Ack),
                });
            }
            Step::Put => {
                let mut new = to(me.held, Step::Scan);
                if state.head == me.seen || !self.keeps(Step::Put) {
                    new.put(me.seen + 1, me.todo);
                }
                next.push(new);
            }
            _ => self.clean(state, who, own, next),
        }
    }

    /// From the acknowledgement on: marks and deletes, entry by entry.
    fn clean(&self, state: &State, who: usize, own: usize, next: &mut Vec<State>) {
        let me = state.appenders[who];
        let to = |held| state.with(who, me.holding(held, if held == NOTHING { Step::End } else { Step::Mark }));
        if me.step == Step::Ack {
            let mut told = to(me.held);
            told.batches[own].acked = true;
            next.push(told);
        } else {
            next.extend((0..2).filter(|batch| me.held[*batch] != Held::Not).map(|batch| {
                let (marks, mut held) = (me.held[batch] != Held::Marked, me.held);
                held[batch] = if marks { Held::Marked } else { Held::Not };
                let mut new = to(held);
                match marks {
                    true => new.batches[batch].marked |= self.keeps(Step::Mark),
                    false => new.batches[batch].inbox = None,
                }
                new
            }));
        }
    }
}

/// Goes through all states, the nearest first; gives what is wrong with the first bad one, and the way there.
fn search(appenders: &'static [(usize, u8)], compactions: u8, without: Option<Step>) -> Option<String> {
    let (mut search, first) = (Search { appenders, compactions, without, plans: HashMap::new() }, State::default());
    // The states in the order met, each with the place of the one before it.
    let (mut states, mut met, mut next) = (vec![(first, 0_usize)], HashSet::from([first]), Vec::new());
    let (mut at, mut wrong) = (0, None);
    while wrong.is_none() && at < states.len() {
        let state = states[at].0;
        wrong = state.wrong();
        search.after(&state, &mut next);
        states.extend(next.drain(..).filter(|new| met.insert(*new)).map(|new| (new, at)));
        at += 1;
    }
    println!("{} states, {} plans: {appenders:?}, {compactions}, {without:?}", states.len(), search.plans.len());
    let back = successors(Some(at - 1), |at| (*at > 0).then(|| states[*at].1));
    let mut way: Vec<_> = back.map(|at| states[at].0.line()).collect();
    way.reverse();
    wrong.map(|wrong| format!("{wrong}:\n{}", way.join("\n")))
}

#[track_caller]
fn assert_safe(appenders: &'static [(usize, u8)], compactions: u8, without: Option<Step>) {
    assert_eq!(search(appenders, compactions, without), None);
}

#[test]
fn every_order_of_requests_is_safe() {
    assert_safe(&[(X, 1), (X, 1)], 1, None);
    match long() {
        true => assert_safe(&[(X, 1), (X, 1), (Y, 0)], 1, None),
        false => assert_safe(&[(X, 0), (X, 0), (Y, 0)], 1, None),
    }
}

#[test]
fn a_retry_that_asks_for_no_receipt_is_safe() {
    assert_safe(&[(X, 1), (X, 1)], 1, Some(Step::Receipt));
}

#[test]
fn without_a_rule_something_goes_wrong() {
    for rule in [Step::Adopt, Step::Marks, Step::Scan, Step::Put, Step::Mark] {
        let wrong = search(&[(X, 0), (X, 0), (Y, 0)], 0, Some(rule));
        println!("without the rule of {rule:?}, {}", wrong.unwrap());
    }
}
