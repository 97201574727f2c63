//! No store at all: the keys in Parquet files with bloom filters, as the log or a model's runs could keep them.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::{Array, FixedSizeBinaryArray, RecordBatch, UInt64Array};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::properties::WriterProperties;

use super::{Durability, Result, Store};
use crate::keys::Key;

/// Rows in a data page of a sorted file: what one hit has to decode.
const PAGE_ROWS: usize = 1024;

/// How the rows of one file are ordered. The files among themselves overlap: hashed keys have no locality.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As they came: a hit reads the whole key column of the file.
    AsAppended,
    /// By key: a hit reads the pages that can hold it.
    ByKey,
}

pub struct ParquetFiles {
    dir: PathBuf,
    order: Order,
    files: usize,
}

impl ParquetFiles {
    pub fn open(dir: &Path, order: Order) -> Result<Self> {
        let files = std::fs::read_dir(dir)?.count();
        Ok(Self { dir: dir.to_owned(), order, files })
    }

    fn path(&self, file: usize) -> PathBuf {
        self.dir.join(format!("{file:05}.parquet"))
    }

    fn count_in(&self, file: usize, keys: &[Key]) -> Result<usize> {
        let file = File::open(self.path(file))?;
        let options = ArrowReaderOptions::new().with_page_index_policy((self.order == Order::ByKey).into());
        let metadata = ArrowReaderMetadata::load(&file, options)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata);
        let bloom = builder.get_row_group_column_bloom_filter(0, 0)?.ok_or("a file without a bloom filter")?;
        let wanted: Vec<Key> = keys.iter().copied().filter(|key| bloom.check(&key.to_be_bytes()[..])).collect();
        if wanted.is_empty() {
            return Ok(0);
        }
        let projection = ProjectionMask::leaves(builder.parquet_schema(), [0]);
        let selection =
            (self.order == Order::ByKey).then(|| pages_that_can_hold(builder.metadata(), &wanted)).transpose()?;
        let mut builder = builder.with_projection(projection).with_batch_size(8192);
        if let Some(selection) = selection {
            builder = builder.with_row_selection(selection);
        }
        let wanted: HashSet<[u8; 16]> = wanted.iter().map(|key| key.to_be_bytes()).collect();
        let mut present = 0;
        for batch in builder.build()? {
            let batch = batch?;
            let column: &FixedSizeBinaryArray = batch.column(0).as_any().downcast_ref().ok_or("not a key column")?;
            present += (0..column.len()).filter(|&row| wanted.contains(column.value(row))).count();
        }
        Ok(present)
    }
}

/// The rows of the pages whose range holds one of `wanted`, which is sorted.
fn pages_that_can_hold(metadata: &ParquetMetaData, wanted: &[Key]) -> Result<RowSelection> {
    let index = &metadata.column_index().ok_or("a file without a column index")?[0][0];
    let pages = metadata.offset_index().ok_or("a file without an offset index")?[0][0].page_locations();
    let ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(index) = index else { return Err("keys are not binary".into()) };
    let rows = usize::try_from(metadata.row_group(0).num_rows())?;
    let mut selectors = Vec::with_capacity(pages.len());
    for (page, location) in pages.iter().enumerate() {
        let first = usize::try_from(location.first_row_index)?;
        let end = pages.get(page + 1).map_or(Ok(rows), |next| usize::try_from(next.first_row_index))?;
        let lowest = index.min_value(page).ok_or("a page of nulls")?;
        let highest = index.max_value(page).ok_or("a page of nulls")?;
        let candidate = wanted.partition_point(|key| key.to_be_bytes().as_slice() < lowest);
        let hit = wanted.get(candidate).is_some_and(|key| key.to_be_bytes().as_slice() <= highest);
        selectors.push(if hit { RowSelector::select(end - first) } else { RowSelector::skip(end - first) });
    }
    Ok(RowSelection::from(selectors))
}

impl Store for ParquetFiles {
    fn load_sorted(&mut self, entries: &[(Key, u64)]) -> Result<()> {
        for chunk in entries.chunks(100_000) {
            self.insert(chunk, Durability::Synced)?;
        }
        Ok(())
    }

    fn insert(&mut self, entries: &[(Key, u64)], durability: Durability) -> Result<()> {
        let mut entries = entries.to_vec();
        if self.order == Order::AsAppended {
            entries.sort_unstable_by_key(|(_, value)| *value);
        }
        let schema = Arc::new(Schema::new(vec![
            Field::new("key", DataType::FixedSizeBinary(16), false),
            Field::new("value", DataType::UInt64, false),
        ]));
        let keys = FixedSizeBinaryArray::try_from_iter(entries.iter().map(|(key, _)| key.to_be_bytes()))?;
        let values = UInt64Array::from_iter_values(entries.iter().map(|(_, value)| *value));
        let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(keys), Arc::new(values)])?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
            .set_dictionary_enabled(false)
            .set_data_page_row_count_limit(PAGE_ROWS)
            .set_write_batch_size(PAGE_ROWS)
            .set_column_bloom_filter_enabled("key".into(), true)
            .set_column_bloom_filter_fpp("key".into(), 0.01)
            .set_column_bloom_filter_max_ndv("key".into(), entries.len() as u64)
            .build();
        let file = File::create(self.path(self.files))?;
        let mut writer = ArrowWriter::try_new(file, schema, Some(properties))?;
        writer.write(&batch)?;
        let file = writer.into_inner()?;
        if durability == Durability::Synced {
            file.sync_all()?;
        }
        self.files += 1;
        Ok(())
    }

    fn remove(&mut self, _: &[Key]) -> Result<bool> {
        Ok(false)
    }

    fn count_present(&self, keys: &[Key]) -> Result<usize> {
        (0..self.files).map(|file| self.count_in(file, keys)).sum()
    }

    fn scan(&self, _: Key, _: usize) -> Result<Option<usize>> {
        Ok(None)
    }
}
