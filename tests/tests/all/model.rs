//! The combining commit, searched to its end: every order in which the requests of a few appenders can reach the store,
//! with deaths, lost answers and a compaction in between. In every state no batch is in the log twice, what was
//! acknowledged is in the log, and what is durable is in the log or waits in the inbox.
//!
//! What the next version holds is not modelled: the product's own [`commit::plan`] says it. The requests around it are
//! here once more, in the order of `append.rs` (to [`Step::Adopt`]) and `committing.rs` (from [`Step::List`] on): who
//! changes it there changes it here. `storms.rs` looks for the same rules in what real processes did. Where it depends
//! on the clock or on what a process happens to remember, the model goes every way:
//! - Who waits for its turn may list at any moment, or see that its batch is in the log and leave the rest to others.
//! - A committer may pass over an entry whose batch is in the log already, as it does at the first sighting.
//! - A scan knows the versions after each entry's head and none before, though a process may remember those too.
//! - After a put it scans again whatever the answer was, so a lost one is no step; one that was never done is a death.
//!
//! Data files and lanes are left out; and of receipts only the marked ones matter, so putting an empty one is no step.

use std::array::from_fn;
use std::collections::{BTreeMap, HashMap};
use std::fmt;

use lakebed_log::commit::{self, Decision, Found};
use lakebed_log::inbox::{ENTRY_FORMAT, InboxEntry, Receipt};
use lakebed_log::{BatchId, Claims, CommittedBatch, ContentHash};
use lakebed_tests::{long, states};
use serde_json::json;
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

const NOTHING: Each<Held> = [Held::Not; 2];

/// An appender: what it will do, how often it died, and what it knows of the head, is about to put and holds.
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
    fn write(&mut self, version: Version, todo: Each<bool>) {
        for (batch, todo) in self.batches.iter_mut().zip(todo) {
            let there = batch.version == version;
            self.twice |= todo && batch.version > 0 && !there;
            batch.version = if todo { version } else { batch.version * u8::from(!there) };
        }
        self.head = self.head.max(version);
    }
}

impl states::State for State {
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

/// Of each batch: its version, the head in its inbox entry, whether it is marked, whether it is acknowledged.
impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let steps = self.appenders.map(|appender| appender.step);
        let batches = self.batches.map(|batch| (batch.version, batch.inbox, batch.marked, batch.acked));
        write!(f, "{steps:?} head {} {batches:?}", self.head)
    }
}

/// Which batches the product puts next, by what is held of them and what a scan found.
fn planned(held: Each<Held>, found: Each<bool>) -> Each<bool> {
    let (lanes, claims) = (BTreeMap::new(), Claims::default());
    let (mut entries, mut lines) = (Vec::new(), Found::new());
    for (batch, held) in held.into_iter().enumerate() {
        // Of x it is this staging that was committed, of y another; which version has it makes no difference.
        let (staged, unit) = (Uuid::from_u128(1), Uuid::from_u128(if batch == X { 1 } else { 2 }));
        let (head, version) = match held {
            Held::Not => continue,
            Held::Listed(head) | Held::Unmarked(head) => (head, None),
            Held::Marked => (0, Some(1)),
        };
        let (id, content) = (BatchId::new(NAMES[batch]), ContentHash::of(NAMES[batch].as_bytes()));
        let receipt = Receipt { id, content, head: 0, version, unit: version.map(|_| unit) };
        let alone = json!({"id": NAMES[batch], "content": content, "rows": 1, "source": "model", "quarantined": 0});
        let entry: InboxEntry = serde_json::from_value(json!({
            "format": ENTRY_FORMAT, "unit": staged, "head": head, "batches": [alone],
            "files": [], "columns": [], "staged_at": "2026-11-01T00:00:00Z",
        }))
        .unwrap();
        if found[batch] {
            let mut alone = commit::plan(&[(entry.clone(), vec![None])], &Found::new(), &claims, &lanes, 0);
            lines.insert(entry.key(), (1, CommittedBatch { unit, ..alone.batches.remove(0) }));
        }
        entries.push((entry, vec![Some(receipt)]));
    }
    let plan = commit::plan(&entries, &lines, &claims, &lanes, 0);
    for (entry, receipts) in &entries {
        let decision = commit::decide(entry, receipts, &lines, &lanes);
        let told = matches!(decision, Decision::Done { .. } | Decision::Duplicate { .. });
        let put = plan.batches.iter().any(|batch| batch.key() == entry.key());
        assert!(told != put, "what is not put is in the log");
    }
    NAMES.map(|name| plan.batches.iter().any(|batch| batch.id.as_str() == name))
}

struct Search {
    /// The batch that each appender sends, and how often it may die and send it again.
    appenders: &'static [(usize, u8)],
    /// Versions without batches that may come in between.
    compactions: u8,
    /// The step whose rule is left out.
    without: Option<Step>,
    /// What the product said to what is held and found: it is asked once for each.
    plans: HashMap<(Each<Held>, Each<bool>), Each<bool>>,
}

impl Search {
    /// All states that one request, one death or a compaction leads to.
    fn after(&mut self, state: &State, next: &mut Vec<State>) {
        for (who, (own, deaths)) in self.appenders.iter().copied().enumerate() {
            let me = state.appenders[who];
            if !matches!(me.step, Step::Head | Step::End) && me.died < deaths {
                next.push(state.with(who, Appender { died: me.died + 1, ..Appender::default() }));
            }
            self.stage(state, who, own, next);
        }
        if state.head > 0 && state.compactions < self.compactions {
            next.push(State { head: state.head + 1, compactions: state.compactions + 1, ..*state });
        }
    }

    /// Up to where the batch is durable.
    fn stage(&mut self, state: &State, who: usize, own: usize, next: &mut Vec<State>) {
        let (me, Batch { inbox, marked, .. }) = (state.appenders[who], state.batches[own]);
        let told = (marked && self.without != Some(Step::Receipt)).then(|| me.holding(NOTHING, Step::Ack));
        let only = |held| from_fn(|batch| if batch == own { held } else { Held::Not });
        let listing = |head| me.holding(only(Held::Listed(head)), Step::List);
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
                Some(first) => listing(if self.without == Some(Step::Adopt) { me.seen } else { first }),
                None => {
                    // Its own put was done although the answer was lost, and somebody has committed the entry since.
                    next.extend(told.map(|_| state.with(who, listing(me.seen))));
                    told.unwrap_or(Appender { step: Step::Inbox, ..me })
                }
            },
            _ => return self.commit(state, who, own, next),
        };
        next.push(state.with(who, appender));
    }

    /// Up to where the batch is in the log.
    fn commit(&mut self, state: &State, who: usize, own: usize, next: &mut Vec<State>) {
        let (me, batches) = (state.appenders[who], &state.batches);
        let to_mark = |held| if let Held::Listed(_) | Held::Unmarked(_) = held { Held::Unmarked(0) } else { held };
        let to = |held, step| state.with(who, me.holding(held, step));
        match me.step {
            Step::List => {
                if batches[own].version > 0 {
                    // Who adopted its entry cleans up; who staged it leaves that to its committer, dead or alive.
                    next.extend([to(NOTHING, Step::Ack), to(me.held.map(to_mark), Step::Ack)]);
                }
                for all in [true, false] {
                    let entry = |batch: usize| batches[batch].inbox.filter(|_| all || batches[batch].version == 0);
                    let other = |batch| entry(batch).map_or(Held::Not, Held::Listed);
                    let held = from_fn(|batch| if batch == own { me.held[own] } else { other(batch) });
                    next.push(to(held, Step::Marks));
                }
            }
            Step::Marks => next.extend((0..NAMES.len()).filter_map(|batch| {
                let (mut held, Held::Listed(head)) = (me.held, me.held[batch]) else { return None };
                let marked = batches[batch].marked && self.without != Some(Step::Marks);
                held[batch] = if marked { Held::Marked } else { Held::Unmarked(head) };
                let more = held.iter().any(|held| matches!(held, Held::Listed(_)));
                Some(to(held, if more { Step::Marks } else { Step::Scan }))
            })),
            Step::Scan => {
                let scans = self.without != Some(Step::Scan);
                let later = |batch: usize, head: Version| scans && batches[batch].version > head;
                let found = from_fn(|batch| matches!(me.held[batch], Held::Unmarked(head) if later(batch, head)));
                let todo = *self.plans.entry((me.held, found)).or_insert_with(|| planned(me.held, found));
                next.push(match todo.contains(&true) {
                    true => state.with(who, Appender { step: Step::Put, seen: state.head, todo, ..me }),
                    false => to(me.held.map(to_mark), Step::Ack),
                });
            }
            Step::Put => {
                let mut put = to(me.held, Step::Scan);
                if state.head == me.seen || self.without == Some(Step::Put) {
                    put.write(me.seen + 1, me.todo);
                }
                next.push(put);
            }
            _ => self.clean(state, who, own, next),
        }
    }

    /// From the acknowledgement on: marks and deletes, entry by entry.
    fn clean(&self, state: &State, who: usize, own: usize, next: &mut Vec<State>) {
        let me = state.appenders[who];
        let step = |held: Each<Held>| if held == NOTHING { Step::End } else { Step::Mark };
        let to = |held| state.with(who, me.holding(held, step(held)));
        if me.step == Step::Ack {
            let mut told = to(me.held);
            told.batches[own].acked = true;
            next.push(told);
        } else {
            next.extend((0..NAMES.len()).filter(|batch| me.held[*batch] != Held::Not).map(|batch| {
                let (marks, mut held) = (me.held[batch] != Held::Marked, me.held);
                held[batch] = if marks { Held::Marked } else { Held::Not };
                let mut new = to(held);
                match marks {
                    true => new.batches[batch].marked |= self.without != Some(Step::Mark),
                    false => new.batches[batch].inbox = None,
                }
                new
            }));
        }
    }
}

/// Goes through all states; says what is wrong with the first bad one.
fn search(appenders: &'static [(usize, u8)], compactions: u8, without: Option<Step>) -> Option<&'static str> {
    let mut search = Search { appenders, compactions, without, plans: HashMap::new() };
    let what = format!("{appenders:?} {compactions} {without:?}");
    states::search(&what, State::default(), |state, next| search.after(state, next))
}

/// A few seconds for 280,000 states; in the long run, 4.7 million in less than a GB.
#[test]
fn every_order_of_requests_is_safe() {
    assert_eq!(search(&[(X, 1), (X, 1)], 1, None), None);
    assert_eq!(search(&[(X, 1), (Y, 0)], 1, None), None);
    let three: &[_] = if long() { &[(X, 1), (X, 1), (Y, 0)] } else { &[(X, 0), (X, 0), (Y, 0)] };
    assert_eq!(search(three, 1, None), None);
}

#[test]
fn a_retry_that_asks_for_no_receipt_is_safe() {
    assert_eq!(search(&[(X, 1), (X, 1)], 1, Some(Step::Receipt)), None);
}

#[test]
fn without_a_rule_something_goes_wrong() {
    for rule in [Step::Adopt, Step::Marks, Step::Scan, Step::Put, Step::Mark] {
        assert!(search(&[(X, 0), (X, 0), (Y, 0)], 0, Some(rule)).is_some(), "the rule of {rule:?} is needed");
    }
}
