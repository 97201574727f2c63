//! Compaction: many small data files become few large ones, with each row's offset written into them. No version, reader or
//! refresh notices: a version is an offset bound, and the offsets stay.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::datatypes::{Int64Type, SchemaRef};
use bytes::Bytes;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use uuid::Uuid;

use crate::claims::Claims;
use crate::encoding::{self, Span};
use crate::entry::{CommitRecord, Entry, RemovedFile};
use crate::error::{Error, Result};
use crate::files::{DataFile, Offsets};
use crate::layout;
use crate::log::Log;
use crate::schema;

/// How many rows are read and written at once.
const ROWS: usize = 8192;

/// Rows of a row group: what a query that prunes reads at least.
const ROWS_A_GROUP: usize = 1 << 17;

/// Which files are compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// Bytes that a compacted file has about; a file of half that size is left as it is.
    pub target_bytes: u64,
    /// A day with fewer small files than this is left as it is, unless a patient compaction makes a whole one of them. At least 2.
    pub least_files: usize,
    /// Whether small files that are not tiny wait until a whole one comes of all small ones, and are not written again whenever
    /// enough tiny ones have come.
    pub is_patient: bool,
}

impl Default for Compaction {
    fn default() -> Self {
        Self { target_bytes: 128 << 20, least_files: 2, is_patient: false }
    }
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Files that were put together, and their bytes.
    pub before: (u64, u64),
    /// Files that came of it, and their bytes.
    pub after: (u64, u64),
}

impl Log {
    /// Puts small files of a day together, one commit for each file that comes of it.
    ///
    /// Killed at any point, it leaves the log as it was but for an object that nobody names, which a vacuum takes. Of two
    /// at once one wins each group, and the other's work is thrown away.
    ///
    /// # Errors
    /// Any failure of the store.
    pub async fn compact(&self, compaction: &Compaction, at: DateTime<Utc>) -> Result<Compacted> {
        let since = Instant::now();
        let snapshot = self.snapshot().await?;
        let mut compacted = Compacted::default();
        for group in groups(&snapshot.files, compaction) {
            let Some(file) = self.rewrite(&group, &snapshot.claims).await? else { continue };
            // A vacuum counts from here on how long ago the files were replaced.
            let replaced_at = at + TimeDelta::from_std(since.elapsed()).unwrap_or_default();
            if self.replace(&group, &file, replaced_at).await? {
                compacted.before.0 += group.len() as u64;
                compacted.before.1 += group.iter().map(|file| file.staged.bytes).sum::<u64>();
                compacted.after.0 += 1;
                compacted.after.1 += file.staged.bytes;
            } else {
                self.store.delete(&layout::in_table(&file.staged.path)).await?;
            }
        }
        Ok(compacted)
    }

    /// Writes the file that the group becomes; `None` where another compaction has taken the group and a vacuum its files.
    async fn rewrite(&self, group: &[Arc<DataFile>], claims: &Arc<Claims>) -> Result<Option<DataFile>> {
        let mut inputs = Vec::with_capacity(group.len());
        for file in group {
            match self.store.get(&layout::in_table(&file.staged.path)).await? {
                Some(bytes) => inputs.push((Arc::clone(file), bytes)),
                None => return Ok(None),
            }
        }
        let claims = Arc::clone(claims);
        let (file, parquet) = tokio::task::spawn_blocking(move || merge(&inputs, &claims)).await??;
        self.store.put(&layout::in_table(&file.staged.path), parquet).await?;
        Ok(Some(file))
    }

    /// Commits the file in place of the group, if every file of the group is still active.
    async fn replace(&self, group: &[Arc<DataFile>], file: &DataFile, at: DateTime<Utc>) -> Result<bool> {
        let mut head = self.head.lock().await;
        loop {
            self.follow(&mut head).await?;
            let mut history = self.history.lock().await;
            history.follow(&self.store).await?;
            let output = file.staged.path.as_str();
            if history.active().contains_key(output) || history.removed_at(output).is_some() {
                return Ok(true);
            }
            if !group.iter().all(|file| history.active().contains_key(&file.staged.path)) {
                return Ok(false);
            }
            drop(history);
            // Nobody names it yet, so a vacuum may have taken it while this machine slept.
            if !self.store.exists(&layout::in_table(output)).await? {
                return Ok(false);
            }
            let time = head.next_time(at);
            let removed = group.iter().map(|file| RemovedFile {
                path: file.staged.path.clone(),
                event_date: file.staged.event_date,
                bytes: file.staged.bytes,
                at: time,
            });
            let entry = Entry {
                time,
                record: CommitRecord {
                    attempt: Uuid::now_v7(),
                    next_offset: head.next_offset,
                    metadata_version: head.metadata_version,
                    batches: Vec::new(),
                    requires: self.partition_by.requires(),
                },
                claims: None,
                added: vec![file.clone()],
                removed: removed.collect(),
                lanes: BTreeMap::new(),
            };
            self.put_next(&mut head, entry).await?;
        }
    }
}

/// A file of less than this part of the target is tiny.
const TINY: u64 = 32;

/// The files to put together: of each day the small ones in the order of their offsets, cut where the target is reached.
fn groups(files: &[Arc<DataFile>], compaction: &Compaction) -> Vec<Vec<Arc<DataFile>>> {
    let mut days: BTreeMap<Option<NaiveDate>, Vec<Arc<DataFile>>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.staged.bytes < compaction.target_bytes / 2) {
        days.entry(file.staged.event_date).or_default().push(Arc::clone(file));
    }
    days.into_values().flat_map(|day| groups_of(day, compaction)).collect()
}

/// The groups of a day's small files.
fn groups_of(mut day: Vec<Arc<DataFile>>, compaction: &Compaction) -> Vec<Vec<Arc<DataFile>>> {
    let Compaction { target_bytes, least_files, is_patient } = *compaction;
    day.sort_by_key(|file| file.offset_range());
    let makes_a_whole = day.iter().map(|file| file.staged.bytes).sum::<u64>() >= target_bytes / 2;
    // A stretch of tiny files ends where one lies between that waits, so that offsets stay in order when all come together.
    let waits = |file: &Arc<DataFile>| is_patient && !makes_a_whole && file.staged.bytes >= target_bytes / TINY;
    let least = if is_patient && makes_a_whole { 2 } else { least_files.max(2) };
    let mut groups = Vec::new();
    for stretch in day.split(waits).filter(|stretch| stretch.len() >= least) {
        let (mut group, mut bytes) = (Vec::new(), 0);
        for file in stretch {
            bytes += file.staged.bytes;
            group.push(Arc::clone(file));
            if bytes >= target_bytes {
                groups.push(std::mem::take(&mut group));
                bytes = 0;
            }
        }
        groups.push(group);
    }
    groups.retain(|group| group.len() > 1);
    groups
}

/// One Parquet file with the rows of all, in the order of their offsets, and these in a column.
fn merge(inputs: &[(Arc<DataFile>, Bytes)], claims: &Claims) -> Result<(DataFile, Vec<u8>)> {
    let mut readers = Vec::with_capacity(inputs.len());
    let mut names = BTreeSet::new();
    for (file, bytes) in inputs {
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone())?.with_batch_size(ROWS);
        names.extend(reader.schema().fields().iter().map(|field| field.name().clone()));
        readers.push((file, reader));
    }
    names.remove(schema::PLACE);
    let known = |name: &String| schema::is_own(name) || claims.iter().any(|claim| claim.name == *name);
    if let Some(unknown) = names.iter().find(|name| !known(name)) {
        let path = inputs.first().map(|(file, _)| layout::in_table(&file.staged.path)).unwrap_or_default();
        return Err(Error::Corrupt { path, reason: format!("nobody has claimed its column '{unknown}'") });
    }
    let event_date = inputs.first().and_then(|(file, _)| file.staged.event_date);
    let used = claims.iter().filter(|claim| names.contains(&claim.name));
    let columns = schema::compacted(used, encoding::partition_of(event_date));
    let (mut writer, mut span) = (None, Span::default());
    for (file, reader) in readers {
        for batch in reader.build()? {
            let batch = conform(&batch?, file, &columns)?;
            span.take(&batch, schema::OFFSET);
            let writer = match &mut writer {
                Some(writer) => writer,
                None => writer.insert(writer_like(&batch)?),
            };
            writer.write(&batch)?;
        }
    }
    let writer = writer.map_or_else(|| writer_like(&RecordBatch::new_empty(columns)), Ok)?;
    let parquet = writer.into_inner()?;
    let (first, last) = span.numbers;
    let staged = span.staged(event_date, parquet.len());
    Ok((DataFile { offsets: Offsets::Stored(first, last), staged }, parquet))
}

/// The writer of a compacted file, whose first rows are these.
fn writer_like(first: &RecordBatch) -> Result<ArrowWriter<Vec<u8>>> {
    let properties = encoding::properties(usize::MAX, first).into_builder();
    let properties = properties.set_max_row_group_row_count(Some(ROWS_A_GROUP)).build();
    Ok(ArrowWriter::try_new(Vec::new(), first.schema(), Some(properties))?)
}

/// The rows with the columns of the compacted file: what the file lacks is null, and the offset is computed or taken over.
fn conform(batch: &RecordBatch, file: &DataFile, columns: &SchemaRef) -> Result<RecordBatch> {
    let offset = || -> Result<ArrayRef> {
        let (numbers, base) = file.numbers();
        let Some(base) = base else { return Ok(batch[numbers].clone()) };
        let base = i64::try_from(base).unwrap_or(i64::MAX);
        Ok(Arc::new(encoding::moved(batch[numbers].as_primitive::<Int64Type>(), base)?))
    };
    let column = |field: &arrow::datatypes::FieldRef| match batch.column_by_name(field.name()) {
        _ if field.name() == schema::OFFSET => offset(),
        Some(values) if values.data_type() == field.data_type() => Ok(Arc::clone(values)),
        Some(values) => Err(Error::Arrow(arrow::error::ArrowError::SchemaError(format!(
            "column '{}' is {} in a file and {} by its claim",
            field.name(),
            values.data_type(),
            field.data_type()
        )))),
        None => Ok(new_null_array(field.data_type(), batch.num_rows())),
    };
    let values = columns.fields().iter().map(column).collect::<Result<Vec<_>>>()?;
    Ok(RecordBatch::try_new(Arc::clone(columns), values)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::StagedFile;

    /// How many files of these sizes, in MB, are put together, by group.
    fn together(sizes: &[u64], compaction: &Compaction) -> Vec<usize> {
        let file = |(number, size): (usize, &u64)| {
            let staged = StagedFile {
                path: number.to_string(),
                event_date: Some(NaiveDate::default()),
                bytes: size << 20,
                rows: 1,
                row_range: (0, 0),
                places: None,
                time_range: (0, 0),
            };
            Arc::new(DataFile { offsets: Offsets::Base(number as u64), staged })
        };
        let files: Vec<_> = sizes.iter().enumerate().map(file).collect();
        groups(&files, compaction).iter().map(Vec::len).collect()
    }

    #[test]
    fn what_is_asked_for_is_done_at_once() {
        let all = Compaction::default();
        assert_eq!(together(&[1, 30, 70], &all), [2]);
        assert!(together(&[1], &all).is_empty());
        assert_eq!(together(&[60, 60, 60, 60, 1], &all), [3, 2]);
    }

    #[test]
    fn upkeep_does_not_write_larger_files_again_for_tiny_ones() {
        let patient = Compaction { least_files: 4, is_patient: true, ..Compaction::default() };
        assert!(together(&[1, 1, 1], &patient).is_empty());
        assert_eq!(together(&[1, 1, 1, 1], &patient), [4]);
        assert!(together(&[4, 4, 4, 20, 1, 1, 1], &patient).is_empty(), "the larger ones wait for each other");
        assert_eq!(together(&[4, 4, 4, 20, 1, 1, 1, 1], &patient), [4], "and the tiny ones do not take them along");
        assert!(together(&[1, 1, 4, 1, 1], &patient).is_empty(), "one that waits lies between them");
        assert_eq!(together(&[30, 34], &patient), [2], "until they make a whole file");
        assert_eq!(together(&[30, 33, 1], &patient), [3]);
        assert!(together(&[70, 1], &patient).is_empty());
    }
}
