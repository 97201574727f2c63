//! The decisions of the combining commit, as pure functions: the I/O around them is in [`crate::append`] and
//! [`crate::committing`].
//!
//! The protocol, in the words of its model: an appender reads the head, puts its receipt and its inbox entry if absent,
//! lists the inbox, reads the receipts of what it lists, scans every commit since each entry's head, and puts the next
//! version with all that is left. What keeps a batch from being committed twice is the scan; what makes a retry cheap
//! for ever is the receipt; what keeps an answer from being guessed is that a lost one is looked up.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::batch::{BatchId, BatchKey, ContentHash};
use crate::claims::Claims;
use crate::entry::CommittedBatch;
use crate::files::{DataFile, Offsets};
use crate::inbox::{InboxEntry, Receipt, StagedBatch, Waiting};

/// What becomes of what an appender staged: all of it together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is in no version: commit it, with whatever else waits.
    Append,
    /// Some of its batches are in the log and others are not, which no lakebed brings about: nobody touches it.
    Torn,
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

/// Decides about one waiting entry.
///
/// `receipts`, those of its batches, were read after the inbox was listed; `found` holds every batch committed since the entry's
/// head; `lanes` is where the lanes stand now, counting what this commit has already taken up.
pub fn decide(
    entry: &InboxEntry,
    receipts: &[Option<Receipt>],
    found: &Found,
    lanes: &BTreeMap<String, String>,
) -> Decision {
    let batches = entry.batches.iter().zip(receipts);
    let ended: Vec<_> =
        batches.filter_map(|(batch, receipt)| ended(entry.unit, batch, receipt.as_ref(), found)).collect();
    let is_whole = ended.len() == entry.batches.len();
    match ended.into_iter().reduce(|first, next| if let Decision::Done { .. } = first { next } else { first }) {
        Some(decision) if is_whole => return decision,
        Some(_) => return Decision::Torn,
        None => {}
    }
    let Some(step) = &entry.lane else { return Decision::Append };
    let stands = lanes.get(&step.lane);
    if stands == step.from.as_ref() { Decision::Append } else { Decision::OutOfLane { stands: stands.cloned() } }
}

/// What has become of a batch, if that is settled; `unit` is the staging that asks.
fn ended(unit: Uuid, batch: &StagedBatch, receipt: Option<&Receipt>, found: &Found) -> Option<Decision> {
    if let Some(receipt) = receipt {
        if receipt.content != batch.content {
            return Some(Decision::Conflict { theirs: receipt.content });
        }
        if let Some(version) = receipt.version {
            return Some(settled(receipt.unit == Some(unit), version));
        }
    }
    let (version, committed) = found.get(&batch.key())?;
    Some(match committed.content == batch.content {
        true => settled(committed.unit == unit, *version),
        false => Decision::Conflict { theirs: committed.content },
    })
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
    entries: &[Waiting],
    found: &Found,
    table: &Claims,
    lanes: &BTreeMap<String, String>,
    next_offset: u64,
) -> Plan {
    let mut plan = Plan { next_offset, ..Plan::default() };
    let mut standing = lanes.clone();
    // By their batches: no two entries have one of them, and if they had, it would be in the log once nevertheless.
    let mut taken: BTreeSet<&BatchId> = BTreeSet::new();
    loop {
        let before = taken.len();
        for (entry, receipts) in entries {
            let is_taken = entry.batches.iter().any(|batch| taken.contains(&batch.id));
            if !is_taken && decide(entry, receipts, found, &standing) == Decision::Append {
                taken.extend(entry.batches.iter().map(|batch| &batch.id));
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
        let offsets = Offsets::Base(self.next_offset);
        self.files.extend(entry.files.iter().map(|staged| DataFile { offsets, staged: staged.clone() }));
        for claim in entry.columns.iter().filter(|claim| !table.contains(claim.id)) {
            self.new_columns.insert(claim.clone());
        }
        self.lanes.extend(entry.lane.iter().map(|step| (step.lane.clone(), step.to.clone())));
        for batch in &entry.batches {
            self.batches.push(CommittedBatch {
                id: batch.id.clone(),
                content: batch.content,
                unit: entry.unit,
                source: batch.source.clone(),
                base: self.next_offset,
                rows: batch.rows,
                quarantined: batch.quarantined,
                quarantine: batch.quarantine.clone(),
            });
            self.next_offset += batch.rows;
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::batch::LaneStep;
    use crate::inbox::ENTRY_FORMAT;

    fn staged(id: &str, content: &str) -> StagedBatch {
        StagedBatch {
            id: BatchId::new(id),
            content: ContentHash::of(content.as_bytes()),
            source: "test".to_owned(),
            rows: 10,
            quarantined: 0,
            quarantine: None,
        }
    }

    fn entry(id: &str, content: &str, lane: Option<(Option<&str>, &str)>) -> InboxEntry {
        InboxEntry {
            format: ENTRY_FORMAT,
            unit: Uuid::new_v4(),
            head: 0,
            batches: vec![staged(id, content)],
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
        let (unit, StagedBatch { id, content, .. }) = (version.map(|_| entry.unit), entry.batches[0].clone());
        Receipt { id, content, head: entry.head, version, unit }
    }

    fn committed(entry: &InboxEntry) -> Found {
        let plan = plan(&[(entry.clone(), vec![None])], &Found::new(), &Claims::default(), &BTreeMap::new(), 0);
        Found::from([(entry.key(), (7, plan.batches[0].clone()))])
    }

    #[test]
    fn a_receipt_with_a_version_ends_a_retry() {
        let (first, again) = (entry("x", "one", None), entry("x", "one", None));
        let decide = |entry, receipt| decide(entry, &[Some(receipt)], &Found::new(), &BTreeMap::new());
        assert_eq!(decide(&first, receipt(&first, None)), Decision::Append);
        assert_eq!(decide(&first, receipt(&first, Some(3))), Decision::Done { version: 3 });
        assert_eq!(decide(&again, receipt(&first, Some(3))), Decision::Duplicate { version: 3 });
    }

    #[test]
    fn what_a_scan_finds_is_not_committed_again() {
        let (first, again, other) = (entry("x", "one", None), entry("x", "one", None), entry("x", "two", None));
        let decide = |entry| decide(entry, &[None], &committed(&first), &BTreeMap::new());
        assert_eq!(decide(&first), Decision::Done { version: 7 });
        assert_eq!(decide(&again), Decision::Duplicate { version: 7 });
        assert_eq!(decide(&other), Decision::Conflict { theirs: first.batches[0].content });
    }

    #[test]
    fn offsets_are_dense_over_a_combined_commit() {
        let entries = [entry("a", "1", None), entry("b", "2", None), entry("c", "3", None)];
        let held: Vec<_> = entries.iter().map(|entry| (entry.clone(), vec![Some(receipt(entry, None))])).collect();
        let plan = plan(&held, &committed(&entries[1]), &Claims::default(), &BTreeMap::new(), 100);
        let placed: Vec<_> = plan.batches.iter().map(|batch| (batch.id.as_str(), batch.base)).collect();
        assert_eq!((placed, plan.next_offset), (vec![("a", 100), ("c", 110)], 120));
    }

    #[test]
    fn a_unit_comes_whole_or_not_at_all() {
        let unit = InboxEntry { batches: vec![staged("a", "1"), staged("b", "2")], ..entry("a", "1", None) };
        let decide = |receipts: [Option<Receipt>; 2], found: &Found| decide(&unit, &receipts, found, &BTreeMap::new());
        let of = |key: usize, version| {
            let StagedBatch { id, content, .. } = unit.batches[key].clone();
            Some(Receipt { id, content, head: 0, version, unit: Some(unit.unit) })
        };
        assert_eq!(decide([None, of(1, None)], &Found::new()), Decision::Append);
        assert_eq!(decide([of(0, Some(3)), of(1, Some(3))], &Found::new()), Decision::Done { version: 3 });
        assert_eq!(decide([of(0, Some(3)), of(1, None)], &Found::new()), Decision::Torn);
        let plan = plan(&[(unit.clone(), vec![None, None])], &Found::new(), &Claims::default(), &BTreeMap::new(), 7);
        let placed: Vec<_> = plan.batches.iter().map(|batch| (batch.id.as_str(), batch.base, batch.unit)).collect();
        assert_eq!((placed, plan.next_offset), (vec![("a", 7, unit.unit), ("b", 17, unit.unit)], 27));
        let twice = [(unit.clone(), vec![None, None]), (entry("b", "2", None), vec![None])];
        let once = super::plan(&twice, &Found::new(), &Claims::default(), &BTreeMap::new(), 7);
        assert_eq!((once.batches.len(), once.next_offset), (2, 27), "a batch of two entries is there once");
        let mut found: Found = plan.batches.into_iter().map(|batch| (batch.key(), (5, batch))).collect();
        assert_eq!(decide([None, None], &found), Decision::Done { version: 5 });
        found.remove(&unit.batches[0].key());
        assert_eq!(decide([None, None], &found), Decision::Torn);
    }

    #[test]
    fn a_lane_is_walked_in_order_within_one_commit() {
        let entries = [
            entry("late", "3", Some((Some("2"), "3"))),
            entry("first", "1", Some((None, "1"))),
            entry("next", "2", Some((Some("1"), "2"))),
        ];
        let held: Vec<_> = entries.iter().map(|entry| (entry.clone(), vec![None])).collect();
        let plan = plan(&held, &Found::new(), &Claims::default(), &BTreeMap::new(), 0);
        let order: Vec<_> = plan.batches.iter().map(|batch| batch.id.as_str().to_owned()).collect();
        assert_eq!(order, ["first", "next", "late"]);
        assert_eq!(plan.lanes["l"], "3");

        let stale = entry("stale", "1", Some((Some("0"), "1")));
        let lanes = BTreeMap::from([("l".to_owned(), "3".to_owned())]);
        let stands = Some("3".to_owned());
        assert_eq!(decide(&stale, &[None], &Found::new(), &lanes), Decision::OutOfLane { stands });
    }
}
