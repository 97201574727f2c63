//! The decisions of the combining commit, as pure functions: the I/O around them is in [`crate::append`] and
//! [`crate::committing`].
//!
//! The protocol, in the words of its model: an appender reads the head, puts its receipt and its inbox entry if absent,
//! lists the inbox, reads the receipts of what it lists, scans every commit since each entry's head, and puts the next
//! version with all that is left. What keeps a batch from being committed twice is the scan; what makes a retry cheap
//! for ever is the receipt; what keeps an answer from being guessed is that a lost one is looked up.

use std::collections::{BTreeMap, BTreeSet};

use crate::batch::{BatchKey, ContentHash};
use crate::claims::Claims;
use crate::entry::CommittedBatch;
use crate::files::{DataFile, Offsets};
use crate::inbox::{InboxEntry, Receipt};

/// What an appender does next about its own batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is in no version: commit it, with whatever else waits.
    Append,
    /// This very staging is in the log.
    Done {
        /// The version that has it.
        version: u64,
    },
    /// Another staging of the same batch is in the log.
    Duplicate {
        /// The version that has it.
        version: u64,
    },
    /// The same id stands for other content.
    Conflict {
        /// Hash of what the log or its receipt has.
        theirs: ContentHash,
    },
    /// Its lane does not stand where the batch starts.
    OutOfLane {
        /// Where the lane stands.
        stands: Option<String>,
    },
}

/// Where a scan found batches: by key, the version and the line of its commit record.
pub type Found = BTreeMap<BatchKey, (u64, CommittedBatch)>;

/// Decides about one waiting batch.
///
/// `receipt` was read after the inbox was listed; `found` holds every batch committed since the entry's head; `lanes` is
/// where the lanes stand now, counting what this commit has already taken up.
pub fn decide(
    entry: &InboxEntry,
    receipt: Option<&Receipt>,
    found: &Found,
    lanes: &BTreeMap<String, String>,
) -> Decision {
    if let Some(receipt) = receipt {
        if receipt.content != entry.content {
            return Decision::Conflict { theirs: receipt.content };
        }
        if let Some(version) = receipt.version {
            return settled(receipt.unit == Some(entry.unit), version);
        }
    }
    if let Some((version, committed)) = found.get(&entry.key()) {
        if committed.content != entry.content {
            return Decision::Conflict { theirs: committed.content };
        }
        return settled(committed.unit == entry.unit, *version);
    }
    let Some(step) = &entry.lane else { return Decision::Append };
    let stands = lanes.get(&step.lane);
    if stands == step.from.as_ref() { Decision::Append } else { Decision::OutOfLane { stands: stands.cloned() } }
}

fn settled(own: bool, version: u64) -> Decision {
    if own { Decision::Done { version } } else { Decision::Duplicate { version } }
}

/// What the next version will hold.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The batches, in the order of their offsets.
    pub batches: Vec<CommittedBatch>,
    /// Their files, with offsets.
    pub files: Vec<DataFile>,
    /// The columns that they need and the table does not have yet.
    pub new_columns: Claims,
    /// The lanes that they move.
    pub lanes: BTreeMap<String, String>,
    /// The offset after the last of them.
    pub next_offset: u64,
}

/// Takes up every entry that is decided [`Decision::Append`], and gives out the offsets from `next_offset` on.
///
/// Batches of one lane follow each other within one commit, so the entries are gone through until none moves any more.
pub fn plan(
    entries: &[(InboxEntry, Option<Receipt>)],
    found: &Found,
    table: &Claims,
    lanes: &BTreeMap<String, String>,
    next_offset: u64,
) -> Plan {
    let mut plan = Plan { next_offset, ..Plan::default() };
    let mut standing = lanes.clone();
    let mut taken = BTreeSet::new();
    loop {
        let before = taken.len();
        for (at, (entry, receipt)) in entries.iter().enumerate() {
            let append = decide(entry, receipt.as_ref(), found, &standing) == Decision::Append;
            if append && taken.insert(at) {
                plan.take(entry, table);
                standing.extend(entry.lane.iter().map(|step| (step.lane.clone(), step.to.clone())));
            }
        }
        if taken.len() == before {
            return plan;
        }
    }
}

impl Plan {
    fn take(&mut self, entry: &InboxEntry, table: &Claims) {
        let base = self.next_offset;
        self.next_offset += entry.rows;
        self.files
            .extend(entry.files.iter().map(|staged| DataFile { offsets: Offsets::Base(base), staged: staged.clone() }));
        for claim in entry.columns.iter().filter(|claim| !table.contains(claim.id)) {
            self.new_columns.insert(claim.clone());
        }
        self.lanes.extend(entry.lane.iter().map(|step| (step.lane.clone(), step.to.clone())));
        self.batches.push(CommittedBatch {
            id: entry.id.clone(),
            content: entry.content,
            unit: entry.unit,
            source: entry.source.clone(),
            base,
            rows: entry.rows,
            quarantined: entry.quarantined,
            quarantine: entry.quarantine.clone(),
        });
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::batch::{BatchId, LaneStep};
    use crate::inbox::ENTRY_FORMAT;

    fn entry(id: &str, content: &str, lane: Option<(Option<&str>, &str)>) -> InboxEntry {
        InboxEntry {
            format: ENTRY_FORMAT,
            unit: Uuid::new_v4(),
            head: 0,
            id: BatchId::new(id),
            content: ContentHash::of(content.as_bytes()),
            source: "test".to_owned(),
            rows: 10,
            quarantined: 0,
            quarantine: None,
            files: Vec::new(),
            columns: Vec::new(),
            lane: lane.map(|(from, to)| LaneStep {
                lane: "l".into(),
                from: from.map(str::to_owned),
                to: to.to_owned(),
            }),
            staged_at: DateTime::UNIX_EPOCH,
        }
    }

    fn receipt(entry: &InboxEntry, version: Option<u64>) -> Receipt {
        let unit = version.map(|_| entry.unit);
        Receipt { id: entry.id.clone(), content: entry.content, head: entry.head, version, unit }
    }

    fn committed(entry: &InboxEntry) -> Found {
        let plan = plan(&[(entry.clone(), None)], &Found::new(), &Claims::default(), &BTreeMap::new(), 0);
        Found::from([(entry.key(), (7, plan.batches[0].clone()))])
    }

    #[test]
    fn a_receipt_with_a_version_ends_a_retry() {
        let (first, again) = (entry("x", "one", None), entry("x", "one", None));
        let decide = |entry, receipt| decide(entry, Some(&receipt), &Found::new(), &BTreeMap::new());
        assert_eq!(decide(&first, receipt(&first, None)), Decision::Append);
        assert_eq!(decide(&first, receipt(&first, Some(3))), Decision::Done { version: 3 });
        assert_eq!(decide(&again, receipt(&first, Some(3))), Decision::Duplicate { version: 3 });
    }

    #[test]
    fn what_a_scan_finds_is_not_committed_again() {
        let (first, again, other) = (entry("x", "one", None), entry("x", "one", None), entry("x", "two", None));
        let decide = |entry| decide(entry, None, &committed(&first), &BTreeMap::new());
        assert_eq!(decide(&first), Decision::Done { version: 7 });
        assert_eq!(decide(&again), Decision::Duplicate { version: 7 });
        assert_eq!(decide(&other), Decision::Conflict { theirs: first.content });
    }

    #[test]
    fn offsets_are_dense_over_a_combined_commit() {
        let entries = [entry("a", "1", None), entry("b", "2", None), entry("c", "3", None)];
        let held: Vec<_> = entries.iter().map(|entry| (entry.clone(), Some(receipt(entry, None)))).collect();
        let plan = plan(&held, &committed(&entries[1]), &Claims::default(), &BTreeMap::new(), 100);
        let placed: Vec<_> = plan.batches.iter().map(|batch| (batch.id.as_str(), batch.base)).collect();
        assert_eq!((placed, plan.next_offset), (vec![("a", 100), ("c", 110)], 120));
    }

    #[test]
    fn a_lane_is_walked_in_order_within_one_commit() {
        let entries = [
            entry("late", "3", Some((Some("2"), "3"))),
            entry("first", "1", Some((None, "1"))),
            entry("next", "2", Some((Some("1"), "2"))),
        ];
        let held: Vec<_> = entries.iter().map(|entry| (entry.clone(), None)).collect();
        let plan = plan(&held, &Found::new(), &Claims::default(), &BTreeMap::new(), 0);
        let order: Vec<_> = plan.batches.iter().map(|batch| batch.id.as_str().to_owned()).collect();
        assert_eq!(order, ["first", "next", "late"]);
        assert_eq!(plan.lanes["l"], "3");

        let stale = entry("stale", "1", Some((Some("0"), "1")));
        let lanes = BTreeMap::from([("l".to_owned(), "3".to_owned())]);
        let stands = Some("3".to_owned());
        assert_eq!(decide(&stale, None, &Found::new(), &lanes), Decision::OutOfLane { stands });
    }
}
