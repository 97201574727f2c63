//! A `_delta_log` entry: the Delta actions of one version, and in its commit info the record that the lake lives by.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use chrono::{DateTime, NaiveDate, Utc};
use deltalake::kernel::{Action, Add, CommitInfo, DomainMetadata, Remove};
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::batch::{BatchId, BatchKey, ContentHash};
use crate::claims::Claims;
use crate::error::{Error, Result};
use crate::files::{DataFile, Offsets, StagedFile};
use crate::schema;

/// The Delta writer feature that keeps writers out which know nothing of offsets; readers ignore it.
pub const WRITER_FEATURE: &str = "lakebedLog";

/// The prefix of the `domainMetadata` that holds a lane's position.
const LANE: &str = "lakebed.lane.";
/// The Add tag that holds the offset of the file's row 0.
const BASE: &str = "lakebed.base";
/// The Add tags of a file of several batches: the offset of its unit's first event, and its smallest and largest place there,
/// `first-last`. Who knows nothing of units finds no offset, and reads no wrong one.
const UNIT: &str = "lakebed.unit";
const PLACES: &str = "lakebed.places";
/// The Add tag of a compacted file: its smallest and largest offset, `first-last`.
const STORED: &str = "lakebed.offsets";
/// What a version with files of units requires.
pub const UNITS: &str = "units";
/// What every version of a log without partitions requires.
pub const UNPARTITIONED: &str = "unpartitioned";
/// What this build knows of what versions require.
pub const KNOWN: [&str; 2] = [UNITS, UNPARTITIONED];

/// The key of our record in the commit info.
const RECORD: &str = "lakebed";

/// What every commit says about itself, beside its Delta actions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitRecord {
    /// Names this very attempt, for whoever looks into the log; batches are known by their ids, and stagings by their `unit`.
    pub attempt: Uuid,
    /// The offset after the last event: the log as of this version is the rows below it.
    pub next_offset: u64,
    /// The last version, up to this one, that carries a `metaData` action.
    pub metadata_version: u64,
    /// The batches that this version brought, empty ones too.
    pub batches: Vec<CommittedBatch>,
    /// What a reader must know to read the log from this version on: this build knows [`KNOWN`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<String>,
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
    /// Data files that it removes: what a compaction put into those that it adds.
    pub removed: Vec<RemovedFile>,
    /// Lanes that it moves, with their new positions.
    pub lanes: BTreeMap<String, String>,
}

impl Entry {
    /// Events that it brought.
    pub fn events(&self) -> u64 {
        self.record.batches.iter().map(|batch| batch.rows).sum()
    }

    /// Events that came with it and could not be read.
    pub fn quarantined(&self) -> u64 {
        self.record.batches.iter().map(|batch| batch.quarantined).sum()
    }

    /// Bytes of the data files that it adds.
    pub fn bytes(&self) -> u64 {
        self.added.iter().map(|file| file.staged.bytes).sum()
    }
}

/// A data file that is no longer part of the table. Its object stays until a vacuum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedFile {
    /// Relative to the table's root.
    pub path: String,
    /// The partition.
    pub event_date: Option<NaiveDate>,
    /// Size of the object.
    pub bytes: u64,
    /// When it was removed.
    pub at: DateTime<Utc>,
}

/// What only version 0 and a schema change need.
#[derive(Clone, Debug)]
pub struct Table {
    /// Delta's table id, for ever the same.
    pub id: Uuid,
    /// When the table was made.
    pub created: DateTime<Utc>,
    /// What its files are partitioned by.
    pub partition_by: PartitionBy,
}

/// What the data files of a log are partitioned by. It is settled when the log is made, and stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PartitionBy {
    /// The day of their events: a file has events of one day, which is in its path and not in the file.
    #[default]
    EventDate,
    /// Nothing: a file has the events of a unit, whatever their days, and a column `event_date`.
    Nothing,
}

impl PartitionBy {
    /// What a reader must know of a log that is partitioned so.
    pub(crate) fn requires(self) -> Vec<String> {
        match self {
            Self::EventDate => Vec::new(),
            Self::Nothing => vec![UNPARTITIONED.to_owned()],
        }
    }

    /// Delta's `partitionColumns`.
    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::EventDate => &[schema::EVENT_DATE],
            Self::Nothing => &[],
        }
    }
}

impl fmt::Display for PartitionBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EventDate => schema::EVENT_DATE,
            Self::Nothing => "none",
        })
    }
}

impl Entry {
    /// The entry as newline-delimited JSON. `table` is given where `claims` is; version 0 carries the protocol too.
    ///
    /// # Errors
    /// [`Error::Corrupt`] where an action cannot be spelled as JSON.
    pub fn encode(&self, version: u64, table: &Table) -> Result<Vec<u8>> {
        let mut actions = vec![json!({"commitInfo": self.commit_info()})];
        if version == 0 {
            actions.push(json!({"protocol": protocol()}));
        }
        if let Some(claims) = &self.claims {
            actions.push(json!({"metaData": metadata(claims, table)}));
        }
        let unspeakable = |error: serde_json::Error| Error::Corrupt {
            path: crate::layout::commit(version),
            reason: error.to_string(),
        };
        for (lane, position) in &self.lanes {
            actions.push(serde_json::to_value(self::lane(lane, position)).map_err(unspeakable)?);
        }
        for file in &self.removed {
            actions.push(serde_json::to_value(Action::Remove(remove(file))).map_err(unspeakable)?);
        }
        for file in &self.added {
            let add = Add { data_change: self.brings_events(), ..add(file, self.time) };
            actions.push(serde_json::to_value(Action::Add(add)).map_err(unspeakable)?);
        }
        let mut bytes = Vec::new();
        for action in actions {
            serde_json::to_writer(&mut bytes, &action).map_err(unspeakable)?;
            bytes.push(b'\n');
        }
        Ok(bytes)
    }

    /// Whether its files hold events that were not in the log before; those of a compaction do not.
    fn brings_events(&self) -> bool {
        self.removed.is_empty()
    }

    fn commit_info(&self) -> CommitInfo {
        let millis = self.time.timestamp_millis();
        let (operation, parameters) = match self.brings_events() {
            true => ("WRITE", HashMap::from([("mode".to_owned(), json!("Append"))])),
            false => ("OPTIMIZE", HashMap::new()),
        };
        CommitInfo {
            timestamp: Some(millis),
            in_commit_timestamp: Some(millis),
            operation: Some(operation.to_owned()),
            operation_parameters: Some(parameters),
            is_blind_append: Some(self.brings_events()),
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
                        let record: CommitRecord = record;
                        if let Some(unknown) = record.requires.iter().find(|name| !KNOWN.contains(&name.as_str())) {
                            return Err(corrupt(format!(
                                "it needs a lakebed that knows of '{unknown}': install a newer one"
                            )));
                        }
                        found = Some((info, record));
                    }
                    Action::Add(add) => added.push(data_file(add).map_err(corrupt)?),
                    Action::Remove(remove) => removed.push(removed_file(remove).map_err(corrupt)?),
                    Action::DomainMetadata(domain) => {
                        lanes.extend(lane_of(&domain.domain, &domain.configuration));
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

/// What a reader and a writer of the table must know.
pub(crate) fn protocol() -> Value {
    // Columns that are never null are an invariant to Spark, which reads no table that has one and does not say so.
    let features = ["appendOnly", "invariants", "inCommitTimestamp", "domainMetadata", WRITER_FEATURE];
    json!({"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": features})
}

/// The action that moves a lane.
pub(crate) fn lane(lane: &str, position: &str) -> Action {
    let (domain, configuration) = (format!("{LANE}{lane}"), position.to_owned());
    Action::DomainMetadata(DomainMetadata { domain, configuration, removed: false })
}

/// The lane and its position behind a `domainMetadata`, if it is one of a lane.
pub(crate) fn lane_of(domain: &str, position: &str) -> Option<(String, String)> {
    domain.strip_prefix(LANE).map(|lane| (lane.to_owned(), position.to_owned()))
}

pub(crate) fn metadata(claims: &Claims, table: &Table) -> Value {
    json!({
        "id": table.id,
        "name": "bronze.events",
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema::to_delta(claims).to_string(),
        "partitionColumns": table.partition_by.columns(),
        "createdTime": table.created.timestamp_millis(),
        "configuration": {
            "delta.appendOnly": "true",
            "delta.enableInCommitTimestamps": "true",
            "delta.enableExpiredLogCleanup": "false",
            // Versions are kept for ever, and Spark travels no further back than this.
            "delta.deletedFileRetentionDuration": "interval 36500 days",
            "delta.dataSkippingStatsColumns": schema::EVENT_TIME,
        },
    })
}

/// The Add action of a file.
pub(crate) fn add(file: &DataFile, time: DateTime<Utc>) -> Add {
    let staged = &file.staged;
    let range = |(first, last): (u64, u64)| format!("{first}-{last}");
    let tags = match (file.offsets, staged.places) {
        (Offsets::Base(base), None) => vec![(BASE, base.to_string())],
        (Offsets::Base(base), Some(places)) => vec![(UNIT, base.to_string()), (PLACES, range(places))],
        (Offsets::Stored(first, last), _) => vec![(STORED, range((first, last)))],
    };
    Add {
        path: staged.path.clone(),
        partition_values: partition(staged.event_date),
        size: signed(staged.bytes),
        modification_time: time.timestamp_millis(),
        data_change: true,
        stats: Some(file.delta_stats().to_string()),
        tags: Some(tags.into_iter().map(|(tag, value)| (tag.to_owned(), Some(value))).collect()),
        ..Add::default()
    }
}

/// The Remove action of a file.
pub(crate) fn remove(file: &RemovedFile) -> Remove {
    Remove {
        path: file.path.clone(),
        data_change: false,
        deletion_timestamp: Some(file.at.timestamp_millis()),
        extended_file_metadata: Some(true),
        partition_values: Some(partition(file.event_date)),
        size: Some(signed(file.bytes)),
        ..Remove::default()
    }
}

fn partition(date: Option<NaiveDate>) -> HashMap<String, Option<String>> {
    date.map(|date| (schema::EVENT_DATE.to_owned(), Some(date.to_string()))).into_iter().collect()
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// The file behind an Add; the error says what it lacks.
pub(crate) fn data_file(add: Add) -> Result<DataFile, String> {
    let tag = |name: &str| add.tags.as_ref().and_then(|tags| tags.get(name)).and_then(Option::as_deref);
    let number = |name: &str| tag(name)?.parse().ok();
    let range = |name: &str| {
        let (first, last) = tag(name)?.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    };
    let base = number(BASE).map(|base| (Offsets::Base(base), None));
    let unit = || Some((Offsets::Base(number(UNIT)?), Some(range(PLACES)?)));
    let stored = || range(STORED).map(|(first, last)| (Offsets::Stored(first, last), None));
    let (offsets, places) =
        base.or_else(unit).or_else(stored).ok_or_else(|| format!("'{}' has no offset", add.path))?;
    let event_date = day(&add.partition_values, &add.path)?;
    let stats = add.stats.as_deref().ok_or_else(|| format!("'{}' has no statistics", add.path))?;
    let bytes = u64::try_from(add.size).unwrap_or_default();
    let staged = StagedFile::from_delta(add.path, event_date, bytes, stats)?;
    Ok(DataFile { offsets, staged: StagedFile { places, ..staged } })
}

pub(crate) fn removed_file(remove: Remove) -> Result<RemovedFile, String> {
    let event_date = remove.partition_values.as_ref().map_or(Ok(None), |values| day(values, &remove.path))?;
    let at = remove.deletion_timestamp.and_then(DateTime::from_timestamp_millis).unwrap_or_default();
    let bytes = remove.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
    Ok(RemovedFile { path: remove.path, event_date, bytes, at })
}

/// The day of a file's partition, if its table has any.
fn day(partition: &HashMap<String, Option<String>>, path: &str) -> Result<Option<NaiveDate>, String> {
    let Some(day) = partition.get(schema::EVENT_DATE) else { return Ok(None) };
    let day = day.as_deref().and_then(|day| day.parse().ok());
    day.map(Some).ok_or_else(|| format!("'{path}' has no day"))
}
