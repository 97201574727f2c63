//! The control objects of an append: the receipt that makes a batch idempotent for ever, and the inbox entry that makes
//! it durable before it is committed.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::batch::{BatchId, BatchKey, ContentHash, LaneStep};
use crate::claims::Claim;
use crate::files::StagedFile;

/// The format of [`InboxEntry`] that this build writes and reads.
pub const ENTRY_FORMAT: u32 = 1;

/// Says that a batch was sent, with which content, and once it is committed, at which version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The sender's id.
    pub id: BatchId,
    /// Hash of what was sent.
    pub content: ContentHash,
    /// The log's version before anybody could commit it: whatever was lost between its senders, its commit is after that.
    #[serde(default)]
    pub head: u64,
    /// The version that has it; none until its commit is known.
    pub version: Option<u64>,
    /// The staging that was committed, once it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Uuid>,
}

/// A staged batch: everything that a committer, whoever it is, needs to put it into the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InboxEntry {
    /// [`ENTRY_FORMAT`]; an entry of a later format is left for those who can read it.
    pub format: u32,
    /// Names this staging; another staging of the same batch has another one.
    pub unit: Uuid,
    /// The log's version when it was staged: the batch is in no version up to there, unless its receipt says so.
    pub head: u64,
    /// The sender's id.
    pub id: BatchId,
    /// Hash of what was sent.
    pub content: ContentHash,
    /// Where it came in.
    pub source: String,
    /// Events for the log.
    pub rows: u64,
    /// Events in quarantine.
    pub quarantined: u64,
    /// The quarantine file, relative to the table.
    pub quarantine: Option<String>,
    /// The data files.
    pub files: Vec<StagedFile>,
    /// The columns that the files use.
    pub columns: Vec<Claim>,
    /// The stretch of an ordered source that it is.
    pub lane: Option<LaneStep>,
    /// When it was staged.
    pub staged_at: DateTime<Utc>,
}

impl InboxEntry {
    /// The key of the batch's receipt and of this entry.
    pub fn key(&self) -> BatchKey {
        self.id.key()
    }
}
