//! Units of several batches, searched to their end: every order in which the requests of one who sends two batches as a unit, of
//! others who send one of the two alone, and of a committer can reach the store, with deaths and lost answers. In every state no
//! batch is in the log twice, what was acknowledged is in the log, what is durable is in the log or waits in the inbox, and of a
//! unit that waits either all is in the log or nothing.
//!
//! The steps are those of `unit.rs` and `append.rs`; what a committer does is here as coarse as the rules allow, for `model.rs` goes
//! into it: it lists, then reads the receipts one by one, then scans and puts, and what it holds of a unit is decided by the product's
//! own [`commit::decide`].

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use lakebed_log::commit::{self, Decision, Found};
use lakebed_log::inbox::{ENTRY_FORMAT, InboxEntry, Receipt};
use lakebed_log::{BatchId, Claims, ContentHash};
use lakebed_tests::states;
use serde_json::json;
use uuid::Uuid;

/// The batches of the unit.
const NAMES: [&str; 2] = ["x", "y"];
const UNIT: Uuid = Uuid::from_u128(1);

/// A version of the log; 0 stands for none.
type Version = u8;

/// What a sender does next, and the rule that it keeps there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Step {
    #[default]
    Begin,
    /// The receipts of a unit's batches name it, and were put by its sender.
    Receipts(u8),
    /// Where the place is void, a receipt says whether the unit was there before.
    Announce,
    /// Who comes alone looks at the place of the unit that the receipt names, …
    Look,
    /// … and makes it void where it is empty, …
    Void,
    /// … and then reads the receipt once more.
    Inbox,
    List,
    /// The receipts are read after the list.
    Marks(u8),
    Put,
    Ack,
    /// The receipts are marked before the entry goes.
    Mark(u8),
    Delete,
    End,
}

/// The inbox at the place of the unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Place {
    #[default]
    Empty,
    Entry(Version),
    Void,
}

/// What a receipt says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Said {
    #[default]
    Absent,
    /// That the batch is to come, in the unit or alone.
    ToCome(bool),
    Version(Version),
}

/// A sender: of the unit, or of one of its batches.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Sender {
    step: Step,
    died: u8,
    /// The head when it began, and the version that it acknowledges.
    seen: Version,
    /// What it is about to commit: of the unit, and of its batch alone, the heads in the entries.
    unit: Option<Version>,
    alone: Option<Version>,
    /// Whether the receipts that it read name a version.
    marked: [Version; 2],
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct State {
    senders: [Sender; 3],
    /// The version that has each batch.
    log: [Version; 2],
    receipts: [Said; 2],
    place: Place,
    /// The entries of batches that come alone, with their heads.
    inbox: [Option<Version>; 2],
    head: Version,
    acked: [bool; 2],
    durable: [bool; 2],
    /// The unit is in the log, with its files.
    unit_is_in: bool,
    wrong: Option<&'static str>,
}

/// Who sends what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Unit,
    Alone(usize),
}

struct Search {
    roles: &'static [Role],
    deaths: u8,
    without: Option<Step>,
}

impl State {
    fn with(mut self, who: usize, sender: Sender) -> Self {
        self.senders[who] = sender;
        self
    }

    /// Puts batches into the next version.
    fn put(&mut self, batches: &[usize]) -> Version {
        self.head += 1;
        for batch in batches {
            if self.log[*batch] > 0 {
                self.wrong = Some("a batch is in the log twice");
            }
            self.log[*batch] = self.head;
        }
        self.head
    }
}

impl states::State for State {
    fn wrong(&self) -> Option<&'static str> {
        let missing = |of: &[bool; 2], waits: &dyn Fn(usize) -> bool| {
            (0..2).any(|batch| of[batch] && self.log[batch] == 0 && !waits(batch))
        };
        let waits = |batch: usize| self.inbox[batch].is_some() || matches!(self.place, Place::Entry(_));
        let is_torn = matches!(self.place, Place::Entry(_)) && (self.log[0] > 0) != (self.log[1] > 0);
        self.wrong
            .or(missing(&self.acked, &|_| false).then_some("an acknowledged batch is not in the log"))
            .or(missing(&self.durable, &waits).then_some("a durable batch is lost"))
            .or(is_torn.then_some("a unit is torn"))
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { senders, log, receipts, place, inbox, .. } = self;
        write!(f, "{:?} {log:?} {receipts:?} {place:?} {inbox:?}", senders.map(|sender| sender.step))
    }
}

/// What the product decides about the unit's entry, by the receipts that were read and what a scan finds after its head.
fn decided(marked: [Version; 2], found: [Version; 2]) -> Decision {
    let contents = NAMES.map(|name| ContentHash::of(name.as_bytes()));
    let batch =
        |at: usize| json!({"id": NAMES[at], "content": contents[at], "rows": 1, "source": "model", "quarantined": 0});
    let entry: InboxEntry = serde_json::from_value(json!({
        "format": ENTRY_FORMAT, "unit": UNIT, "head": 0, "batches": [batch(0), batch(1)],
        "files": [], "columns": [], "staged_at": "2026-11-01T00:00:00Z",
    }))
    .unwrap();
    let none = BTreeMap::new();
    let plan = commit::plan(&[(entry.clone(), vec![None, None])], &Found::new(), &Claims::default(), &none, 0);
    let found = plan.batches.into_iter().zip(found).filter(|(_, version)| *version > 0);
    let found: Found = found.map(|(batch, version)| (batch.key(), (u64::from(version), batch))).collect();
    let receipt = |at: usize| {
        let version = (marked[at] > 0).then_some(u64::from(marked[at]));
        Some(Receipt { id: BatchId::new(NAMES[at]), content: contents[at], head: 0, version, unit: Some(UNIT) })
    };
    commit::decide(&entry, &[receipt(0), receipt(1)], &found, &none)
}

impl Search {
    fn after(&self, state: &State, next: &mut Vec<State>) {
        for (who, role) in self.roles.iter().enumerate() {
            let me = state.senders[who];
            if !matches!(me.step, Step::Begin | Step::End) && me.died < self.deaths {
                next.push(state.with(who, Sender { died: me.died + 1, ..Sender::default() }));
            }
            match role {
                Role::Unit => self.unit(state, who, next),
                Role::Alone(batch) => self.alone(state, who, *batch, next),
            }
        }
    }

    /// The sender of the unit, up to where it is durable. Where it is not to be, the batches would be sent alone, which is
    /// another's part here.
    fn unit(&self, state: &State, who: usize, next: &mut Vec<State>) {
        let me = state.senders[who];
        let to = |step| state.with(who, Sender { step, ..me });
        match me.step {
            Step::Begin if state.receipts == [Said::Absent; 2] => {
                next.push(state.with(who, Sender { step: Step::Receipts(0), seen: state.head, ..me }));
            }
            Step::Begin => next.push(to(Step::End)),
            Step::Receipts(batch) => {
                let at = usize::from(batch);
                let following = if batch == 0 { Step::Receipts(1) } else { Step::Announce };
                match state.receipts[at] {
                    Said::Absent => {
                        let mut put = to(following);
                        put.receipts[at] = Said::ToCome(self.without != Some(Step::Receipts(0)));
                        next.push(put);
                    }
                    // Only its own, whose answer was lost, would name it; and without the rule nobody looks.
                    _ if self.without == Some(Step::Receipts(0)) => next.push(to(following)),
                    _ => next.push(to(Step::End)),
                }
            }
            Step::Announce => {
                let there = state.with(who, Sender { step: Step::List, unit: Some(me.seen), ..me });
                match state.place {
                    Place::Empty => {
                        let mut put = there;
                        (put.place, put.durable) = (Place::Entry(me.seen), [true; 2]);
                        // The answer may be lost: then it is put again, or found.
                        next.extend([put, put.with(who, me)]);
                    }
                    Place::Entry(_) => next.push(there),
                    // Void, and a receipt is read after that: the unit may have been there, and be committed, which it then says, and cleaned up.
                    Place::Void
                        if matches!(state.receipts[0], Said::Version(_))
                            && state.unit_is_in
                            && self.without != Some(Step::Announce) =>
                    {
                        next.push(there);
                    }
                    Place::Void => {
                        let mut discarded = to(Step::End);
                        if state.unit_is_in {
                            discarded.wrong = Some("files that a version names are deleted");
                        }
                        next.push(discarded);
                    }
                }
            }
            _ => self.commit(state, who, &[0, 1], next),
        }
    }

    /// The sender of a batch alone, up to where it is durable.
    fn alone(&self, state: &State, who: usize, own: usize, next: &mut Vec<State>) {
        let me = state.senders[who];
        let to = |step| state.with(who, Sender { step, ..me });
        match me.step {
            Step::Begin => match state.receipts[own] {
                Said::Absent => {
                    let mut put = state.with(who, Sender { step: Step::Inbox, seen: state.head, ..me });
                    put.receipts[own] = Said::ToCome(false);
                    next.push(put);
                }
                Said::ToCome(in_unit) => {
                    let step = if in_unit { Step::Look } else { Step::Inbox };
                    next.push(state.with(who, Sender { step, seen: state.head, ..me }));
                }
                Said::Version(version) => next.push(state.with(who, Sender { step: Step::Ack, seen: version, ..me })),
            },
            Step::Look => next.push(match state.place {
                Place::Empty if self.without == Some(Step::Void) => to(Step::Inbox),
                Place::Empty => to(Step::Void),
                Place::Void => to(Step::Inbox),
                Place::Entry(head) => state.with(who, Sender { step: Step::List, unit: Some(head), ..me }),
            }),
            Step::Void => {
                let mut put = to(Step::Begin);
                if state.place == Place::Empty {
                    put.place = Place::Void;
                }
                next.push(put);
            }
            Step::Inbox => {
                let mut put = *state;
                let head = *put.inbox[own].get_or_insert(me.seen);
                put.durable[own] = true;
                next.push(put.with(who, Sender { step: Step::List, alone: Some(head), ..me }));
            }
            _ => self.commit(state, who, &[own], next),
        }
    }

    /// From the list on: it commits its own, and whatever else it lists.
    fn commit(&self, state: &State, who: usize, own: &[usize], next: &mut Vec<State>) {
        let me = state.senders[who];
        let to = |step| state.with(who, Sender { step, ..me });
        match me.step {
            Step::List => {
                let listed = if let Place::Entry(head) = state.place { Some(head) } else { None };
                let [own, ..] = own else { return };
                let (unit, alone) = (me.unit.or(listed), me.alone.or(state.inbox[*own]));
                for unit in HashSet::from([unit, me.unit]) {
                    for alone in HashSet::from([alone, me.alone]) {
                        next.push(state.with(who, Sender { step: Step::Marks(0), unit, alone, ..me }));
                    }
                }
            }
            Step::Marks(batch) => {
                let mut read = me;
                read.step = if batch == 0 { Step::Marks(1) } else { Step::Put };
                if let (Said::Version(version), false) =
                    (state.receipts[usize::from(batch)], self.without == Some(Step::Marks(0)))
                {
                    read.marked[usize::from(batch)] = version;
                }
                next.push(state.with(who, read));
            }
            Step::Put => {
                let found = |batch: usize, head: Version| if state.log[batch] > head { state.log[batch] } else { 0 };
                let mut put = to(Step::Ack);
                let mut batches = Vec::new();
                if let Some(head) = me.unit {
                    match decided(me.marked, [found(0, head), found(1, head)]) {
                        Decision::Append => {
                            batches.extend([0, 1]);
                            put.unit_is_in = true;
                        }
                        Decision::Torn => put.wrong = Some("a committer holds a unit that is torn"),
                        _ => {}
                    }
                }
                if let (Some(head), [own]) = (me.alone, own)
                    && me.marked[*own] == 0
                    && found(*own, head) == 0
                {
                    batches.push(*own);
                }
                if !batches.is_empty() {
                    let version = put.put(&batches);
                    // The answer was lost: it looks, and finds.
                    let again = put.with(who, Sender { step: Step::Marks(0), marked: [0; 2], ..me });
                    next.push(again);
                    put.senders[who].seen = version;
                }
                next.push(put);
            }
            Step::Ack => {
                let mut told = to(Step::Mark(0));
                for batch in own {
                    told.acked[*batch] = true;
                }
                next.push(told);
            }
            Step::Mark(batch) => {
                let at = usize::from(batch);
                let mut marked = to(if batch == 0 { Step::Mark(1) } else { Step::Delete });
                let holds = me.unit.is_some() || me.alone.is_some() && own == [at];
                if holds && state.log[at] > 0 && self.without != Some(Step::Mark(0)) {
                    marked.receipts[at] = Said::Version(state.log[at]);
                }
                next.push(marked);
            }
            Step::Delete => {
                let mut deleted = to(Step::End);
                if me.unit.is_some() && matches!(state.place, Place::Entry(_)) {
                    deleted.place = Place::Empty;
                }
                if let (Some(_), [own]) = (me.alone, own) {
                    deleted.inbox[*own] = None;
                }
                next.push(deleted);
            }
            _ => {}
        }
    }
}

/// Goes through all states; says what is wrong with the first bad one.
fn search(roles: &'static [Role], deaths: u8, without: Option<Step>) -> Option<&'static str> {
    let search = Search { roles, deaths, without };
    let what = format!("{roles:?} {deaths} {without:?}");
    states::search(&what, State::default(), |state, next| search.after(state, next))
}

const ONE_OF_EACH: &[Role] = &[Role::Unit, Role::Alone(0)];
const EVERYBODY: &[Role] = &[Role::Unit, Role::Alone(0), Role::Alone(1)];
const TWICE: &[Role] = &[Role::Unit, Role::Alone(0), Role::Alone(0)];

#[test]
fn every_order_of_requests_is_safe() {
    assert_eq!(search(ONE_OF_EACH, 1, None), None);
    assert_eq!(search(EVERYBODY, 0, None), None);
    assert_eq!(search(TWICE, 0, None), None);
}

#[test]
fn without_a_rule_something_goes_wrong() {
    for rule in [Step::Receipts(0), Step::Announce, Step::Void, Step::Marks(0), Step::Mark(0)] {
        assert!(search(EVERYBODY, 0, Some(rule)).is_some(), "the rule of {rule:?} is needed");
    }
}
