//! The name of every object of a lake. Nobody else formats a path.

use chrono::{DateTime, NaiveDate, NaiveDateTime, Utc};
use object_store::path::Path;
use uuid::Uuid;

use crate::batch::BatchKey;

/// The lake's identity and format number.
pub fn lake() -> Path {
    Path::from("lake.json")
}

/// The Delta table's root, below the lake's.
pub const TABLE: &str = "events";

/// The Delta table, as the lake sees it.
pub fn table() -> Path {
    Path::from(TABLE)
}

/// The partition column of the log, and the directory level it makes.
pub const PARTITION: &str = "event_date";

/// Where the data files of a table without partitions are.
const WHOLE: &str = "data";

/// The Delta log entry of a version.
pub fn commit(version: u64) -> Path {
    Path::from(format!("{TABLE}/_delta_log/{version:020}.json"))
}

/// The checkpoint of a version.
pub fn checkpoint(version: u64) -> Path {
    Path::from(format!("{TABLE}/_delta_log/{version:020}.checkpoint.parquet"))
}

/// Delta's pointer to the newest checkpoint.
pub fn last_checkpoint() -> Path {
    Path::from(format!("{TABLE}/_delta_log/_last_checkpoint"))
}

/// Where the tokens are that may write to the lake.
pub fn tokens() -> Path {
    Path::from("tokens")
}

/// A token, by the hash of its secret.
pub fn token(hash: &str) -> Path {
    tokens().join(format!("{hash}.json"))
}

/// A column claim; `id` is the Parquet field id.
pub fn claim(id: i32) -> Path {
    Path::from(format!("{TABLE}/_columns/{id:08}.json"))
}

/// A batch's receipt, spread over 256 prefixes.
pub fn receipt(key: &BatchKey) -> Path {
    let key = key.as_str();
    Path::from(format!("{TABLE}/_receipts/{}/{key}.json", key.get(..2).unwrap_or(key)))
}

/// Where staged batches wait to be committed.
pub fn inbox() -> Path {
    Path::from(format!("{TABLE}/_inbox"))
}

/// The inbox entry of a batch, or of a unit of several.
pub fn inbox_entry(key: &BatchKey) -> Path {
    Path::from(format!("{TABLE}/_inbox/{key}.json"))
}

/// A new data file of a day, or of a table without partitions, as the table's root sees it (the path that an Add names).
pub fn data_file(event_date: Option<NaiveDate>, unit: Uuid) -> String {
    let directory = event_date.map_or_else(|| WHOLE.to_owned(), |date| format!("{PARTITION}={date}"));
    format!("{directory}/{}.parquet", unit.simple())
}

/// Whether a directory of the table's root has data files in it.
pub(crate) fn has_data_files(directory: &str) -> bool {
    directory == WHOLE || directory.starts_with(PARTITION)
}

/// A path that the Delta table names, as the lake sees it.
pub fn in_table(path: &str) -> Path {
    Path::from(format!("{TABLE}/{path}"))
}

/// The refused events of a batch, as the table's root sees it.
pub fn quarantine(file: Uuid) -> String {
    format!("_quarantine/{}.parquet", file.simple())
}

/// An empty object that is put to learn the store's time.
pub fn probe() -> Path {
    Path::from(format!("{TABLE}/_probe"))
}

/// An object that is put to find out what a store can do, and deleted.
pub fn trial(trial: Uuid) -> Path {
    Path::from(format!("_trial-{}", trial.simple()))
}

/// Where the epoch manifests are: the lake's own, or those of a replay.
pub fn epochs(replay: Option<&str>) -> Path {
    match replay {
        Some(name) => Path::from(format!("{REPLAYS}/{name}/epochs")),
        None => Path::from("epochs"),
    }
}

/// One epoch's manifest.
pub fn epoch(replay: Option<&str>, number: u64) -> Path {
    epochs(replay).join(format!("{number:020}.json"))
}

/// Where those of the lake's own are that stay when old ones are thinned.
pub fn landmarks() -> Path {
    Path::from(LANDMARKS)
}

const LANDMARKS: &str = "landmarks";

/// When the epoch of a landmark was put, as its name says it.
const PUT: &str = "%Y%m%dT%H%M%SZ";

/// An epoch that stays, and when it was put: its age decides for how long.
pub fn landmark(number: u64, put: DateTime<Utc>) -> Path {
    landmarks().join(format!("{number:020}-{}.json", put.format(PUT)))
}

/// The number of an epoch or a landmark, and of a landmark when it was put; `None` for what is neither.
pub fn epoch_of(path: &Path) -> Option<(u64, Option<DateTime<Utc>>)> {
    let name = path.filename()?.strip_suffix(".json")?;
    let Some((number, put)) = name.split_once('-') else { return Some((name.parse().ok()?, None)) };
    let put = NaiveDateTime::parse_from_str(put, PUT).ok()?;
    Some((number.parse().ok()?, Some(put.and_utc())))
}

/// Where the epochs of replays are, each under its name.
pub const REPLAYS: &str = "replays";

/// Where all replays are.
pub fn replays() -> Path {
    Path::from(REPLAYS)
}

/// Where the runs of all models are.
pub fn models() -> Path {
    Path::from("models")
}

/// A new run of a model's stored form.
pub fn run(model: &str, fingerprint: &str, run: Uuid) -> Path {
    Path::from(format!("models/{model}/{fingerprint}/{}.parquet", run.simple()))
}

/// A new set of rows that are gone from a model's stored form.
pub fn deletion(model: &str, fingerprint: &str, deletion: Uuid) -> Path {
    Path::from(format!("models/{model}/{fingerprint}/{}.deleted", deletion.simple()))
}

/// The path of an object that another object of the lake names: it is spelled as a path already, whatever letters a model's name has.
pub fn stored(path: &str) -> Path {
    Path::parse(path).unwrap_or_else(|_| Path::from(path))
}

/// Where what is published for attaching lies, for a lake on local disk.
pub const PUBLISHED: &str = "published";

/// Where the Delta tables of models are, where nothing else is set.
pub const DELTA: &str = "delta";

/// What [`kind_of`] calls what is in the inbox.
pub const INBOX_ENTRY: &str = "inbox entry";

/// What an object of a lake is for, in one word or two; the lake's own table of contents.
pub fn kind_of(path: &Path) -> &'static str {
    let path = path.as_ref();
    let in_table = path.strip_prefix(TABLE).and_then(|path| path.strip_prefix('/'));
    let begins = |start: &str| in_table.is_some_and(|path| path.starts_with(start));
    match path {
        _ if begins("_delta_log/") && path.ends_with(".json") => "commit",
        _ if begins("_delta_log/") => "checkpoint",
        _ if begins("_columns/") => "column claim",
        _ if begins("_receipts/") => "receipt",
        _ if begins("_inbox/") => INBOX_ENTRY,
        _ if begins("_quarantine/") => "quarantine file",
        _ if begins(PARTITION) || begins("data/") => "data file",
        _ if path.starts_with("epochs/") || path.starts_with(LANDMARKS) => "epoch",
        _ if path.starts_with(REPLAYS) => "epoch of a replay",
        _ if path.starts_with("models/") => "model run",
        _ if path.starts_with(PUBLISHED) => "published file",
        _ if path.strip_prefix(DELTA).is_some_and(|path| path.starts_with('/')) => "delta table",
        _ if path.starts_with("tokens/") => "token",
        _ if path == lake().as_ref() => "identity",
        _ if path == probe().as_ref() => "probe",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_epoch_is_called_says_which_it_is() {
        let put = DateTime::from_timestamp(1_795_000_000, 0).unwrap();
        assert_eq!(epoch_of(&epoch(None, 42)), Some((42, None)));
        assert_eq!(epoch_of(&epoch(Some("r"), 7)), Some((7, None)));
        assert_eq!(epoch_of(&landmark(42, put)), Some((42, Some(put))));
        for other in ["epochs/x.json", "epochs/1", "landmarks/1-2.json"] {
            assert_eq!(epoch_of(&Path::from(other)), None, "{other}");
        }
    }
}
