//! A `_delta_log` entry: the Delta actions of one version, and in its commit info the record that the lake lives by.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use deltalake::kernel::{Action, Add, CommitInfo, DomainMetadata};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::batch::{BatchId, BatchKey, ContentHash};
use crate::claims::Claims;
use crate::error::{Error, Result};
use crate::files::{DataFile, StagedFile};
use crate::schema;

/// The Delta writer feature that keeps writers out which know nothing of offsets; readers ignore it.
pub const WRITER_FEATURE: &str = "lakebedLog";

/// The prefix of the `domainMetadata` that holds a lane's position.
const LANE: &str = "lakebed.lane.";
/// The Add tag that holds the offset of the file's row 0.
const BASE: &str = "lakebed.base";
/// The key of our record in the commit info.
const RECORD: &str = "lakebed";

/// What every commit says about itself, beside its Delta actions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// Names this very attempt, so that a writer whose answer was lost knows its own entry.
    pub attempt: Uuid,
    /// The offset after the last event: the log as of this version is the rows below it.
    pub next_offset: u64,
    /// The last version, up to this one, that carries a `metaData` action.
    pub metadata_version: u64,
    /// The batches that this version brought, empty ones too.
    pub batches: Vec<CommittedBatch>,
}

/// A batch's line in the commit record: what was sent = what is in the log + what is in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittedBatch {
    /// The sender's id.
    pub id: BatchId,
    /// Hash of what was sent.
    pub content: ContentHash,
    /// The staging that was committed: another staging of the same batch finds that it was not its own.
    pub unit: Uuid,
    /// Where it came in.
    pub source: String,
    /// Offset of its row 0.
    pub base: u64,
    /// Events in the log.
    pub rows: u64,
    /// Events in quarantine.
    pub quarantined: u64,
    /// The quarantine file, relative to the table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantine: Option<String>,
}

impl CommittedBatch {
    /// The key of its receipt.
    pub fn key(&self) -> BatchKey {
        self.id.key()
    }
}

/// One version of the log, read or to be written.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The version's time: Delta's in-commit timestamp.
    pub time: DateTime<Utc>,
    /// The record.
    pub record: CommitRecord,
    /// The columns of the table from here on, where they changed.
    pub claims: Option<Claims>,
    /// Data files that this version adds.
    pub added: Vec<DataFile>,
    /// Paths of data files that it removes.
    pub removed: Vec<String>,
    /// Lanes that it moves, with their new positions.
    pub lanes: BTreeMap<String, String>,
}

/// What only version 0 and a schema change need.
#[derive(Clone, Debug)]
pub struct Table {
    /// Delta's table id, for ever the same.
    pub id: Uuid,
    /// When the table was made.
    pub created: DateTime<Utc>,
}

impl Entry {
    /// The entry as newline-delimited JSON. `table` is given where `claims` is; version 0 carries the protocol too.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where an action cannot be spelled as JSON.
    pub fn encode(&self, version: u64, table: &Table) -> Result<Vec<u8>> {
        let mut actions = vec![json!({"commitInfo": self.commit_info()})];
        if version == 0 {
            let features = ["appendOnly", "inCommitTimestamp", "domainMetadata", WRITER_FEATURE];
            actions
                .push(json!({"protocol": {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": features}}));
        }
        if let Some(claims) = &self.claims {
            actions.push(json!({"metaData": metadata(claims, table)}));
        }
        let unspeakable = |error: serde_json::Error| Error::Corrupt {
            path: crate::layout::commit(version),
            reason: error.to_string(),
        };
        for (lane, position) in &self.lanes {
            let domain =
                DomainMetadata { domain: format!("{LANE}{lane}"), configuration: position.clone(), removed: false };
            actions.push(serde_json::to_value(Action::DomainMetadata(domain)).map_err(unspeakable)?);
        }
        for file in &self.added {
            actions.push(serde_json::to_value(Action::Add(add(file, self.time))).map_err(unspeakable)?);
        }
        let mut bytes = Vec::new();
        for action in actions {
            serde_json::to_writer(&mut bytes, &action).map_err(unspeakable)?;
            bytes.push(b'\n');
        }
        Ok(bytes)
    }

    fn commit_info(&self) -> CommitInfo {
        let millis = self.time.timestamp_millis();
        CommitInfo {
            timestamp: Some(millis),
            in_commit_timestamp: Some(millis),
            operation: Some(
                if self.added.is_empty() && self.claims.is_some() { "SET TBLPROPERTIES" } else { "WRITE" }.to_owned(),
            ),
            operation_parameters: Some(HashMap::from([("mode".to_owned(), json!("Append"))])),
            is_blind_append: Some(true),
            engine_info: Some(concat!("lakebed/", env!("CARGO_PKG_VERSION")).to_owned()),
            info: HashMap::from([
                ("txnId".to_owned(), json!(self.record.attempt)),
                (RECORD.to_owned(), json!(self.record)),
            ]),
            ..CommitInfo::default()
        }
    }

    /// Reads an entry that lakebed wrote.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where it is no JSON, or another writer's.
    pub fn decode(path: &Path, bytes: &[u8]) -> Result<Self> {
        let corrupt = |reason: String| Error::Corrupt { path: path.clone(), reason };
        let mut found: Option<(CommitInfo, CommitRecord)> = None;
        let (mut claims, mut added, mut removed, mut lanes) = (None, Vec::new(), Vec::new(), BTreeMap::new());
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let mut action: Value = serde_json::from_slice(line).map_err(|error| corrupt(error.to_string()))?;
            if let Some(metadata) = action.get("metaData") {
                let text = metadata["schemaString"].as_str().unwrap_or_default();
                let schema = serde_json::from_str(text).map_err(|error| corrupt(error.to_string()))?;
                claims = Some(schema::claims_of_delta(&schema).map_err(|error| corrupt(error.to_string()))?);
            } else if action.get("protocol").is_none() {
                match serde_json::from_value(action.take()).map_err(|error| corrupt(error.to_string()))? {
                    Action::CommitInfo(info) => {
                        let record = info.info.get(RECORD).cloned().unwrap_or_default();
                        let record = serde_json::from_value(record)
                            .map_err(|_| corrupt("it is a commit of another writer than lakebed".to_owned()))?;
                        found = Some((info, record));
                    }
                    Action::Add(add) => added.push(data_file(add).map_err(corrupt)?),
                    Action::Remove(remove) => removed.push(remove.path),
                    Action::DomainMetadata(domain) => {
                        let lane = domain.domain.strip_prefix(LANE);
                        lanes.extend(lane.map(|lane| (lane.to_owned(), domain.configuration)));
                    }
                    _ => {}
                }
            }
        }
        let (info, record) = found.ok_or_else(|| corrupt("it has no commit info".to_owned()))?;
        let millis = info.in_commit_timestamp.or(info.timestamp).unwrap_or_default();
        let time = DateTime::from_timestamp_millis(millis).ok_or_else(|| corrupt(format!("its time is {millis}")))?;
        Ok(Self { time, record, claims, added, removed, lanes })
    }
}

fn metadata(claims: &Claims, table: &Table) -> Value {
    json!({
        "id": table.id,
        "name": "bronze.events",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema::to_delta(claims).to_string(),
        "partitionColumns": [schema::EVENT_DATE],
        "createdTime": table.created.timestamp_millis(),
        "configuration": {
            "delta.appendOnly": "true",
            "delta.enableInCommitTimestamps": "true",
            "delta.enableExpiredLogCleanup": "false",
            "delta.dataSkippingStatsColumns": schema::EVENT_TIME,
        },
    })
}

fn add(file: &DataFile, time: DateTime<Utc>) -> Add {
    let staged = &file.staged;
    Add {
        path: staged.path.clone(),
        partition_values: HashMap::from([(schema::EVENT_DATE.to_owned(), Some(staged.event_date.to_string()))]),
        size: i64::try_from(staged.bytes).unwrap_or(i64::MAX),
        modification_time: time.timestamp_millis(),
        data_change: true,
        stats: Some(staged.delta_stats().to_string()),
        tags: Some(HashMap::from([(BASE.to_owned(), Some(file.base.to_string()))])),
        ..Add::default()
    }
}

fn data_file(add: Add) -> Result<DataFile, String> {
    let tag = add.tags.as_ref().and_then(|tags| tags.get(BASE)).and_then(Option::as_deref);
    let base = tag.and_then(|base| base.parse().ok()).ok_or_else(|| format!("'{}' has no offset", add.path))?;
    let date = add.partition_values.get(schema::EVENT_DATE).and_then(Option::as_deref);
    let event_date = date.and_then(|date| date.parse().ok()).ok_or_else(|| format!("'{}' has no day", add.path))?;
    let stats = add.stats.as_deref().unwrap_or("{}");
    let bytes = u64::try_from(add.size).unwrap_or_default();
    let staged = StagedFile::from_delta(add.path, event_date, bytes, stats).map_err(|error| error.to_string())?;
    Ok(DataFile { base, staged })
}
