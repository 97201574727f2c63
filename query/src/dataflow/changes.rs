//! What came and what went: two multisets of rows with the same columns.

use std::collections::HashMap;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion::common::Result;

/// Whether rows of these columns can be compared, and kept as bytes.
pub(super) fn comparable(columns: &SchemaRef) -> bool {
    let fields: Vec<_> = columns.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
    RowConverter::supports_fields(&fields)
}

/// Rows that came and rows that went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    /// Rows that were not there before.
    pub(crate) added: Vec<RecordBatch>,
    /// Rows that are there no more.
    pub(crate) gone: Vec<RecordBatch>,
}

impl Changes {
    /// How many rows came and went.
    pub(crate) fn rows(&self) -> usize {
        self.added.iter().chain(&self.gone).map(RecordBatch::num_rows).sum()
    }

    /// Without rows that both came and went: what is left has at most one batch each.
    ///
    /// # Errors
    /// For columns of a type that rows cannot be compared by.
    pub(crate) fn cancelled(self, columns: &SchemaRef) -> Result<Self> {
        if self.gone.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(Self { added: self.added, gone: Vec::new() });
        }
        let (added, gone) = (concat_batches(columns, &self.added)?, concat_batches(columns, &self.gone)?);
        if added.num_rows() == 0 || columns.fields().is_empty() {
            let both = added.num_rows().min(gone.num_rows());
            let rest = |batch: &RecordBatch| batch.slice(both, batch.num_rows() - both);
            return Ok(Self { added: vec![rest(&added)], gone: vec![rest(&gone)] });
        }
        let fields = columns.fields().iter().map(|field| SortField::new(field.data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let (new, old) = (converter.convert_columns(added.columns())?, converter.convert_columns(gone.columns())?);
        let mut went: HashMap<_, Vec<usize>> = HashMap::new();
        for (at, row) in old.iter().enumerate() {
            went.entry(row).or_default().push(at);
        }
        let mut goes = vec![true; gone.num_rows()];
        let comes = new.iter().map(|row| match went.get_mut(&row).and_then(Vec::pop) {
            Some(same) => {
                goes[same] = false;
                Some(false)
            }
            None => Some(true),
        });
        let comes: BooleanArray = comes.collect();
        Ok(Self {
            added: vec![filter_record_batch(&added, &comes)?],
            gone: vec![filter_record_batch(&gone, &BooleanArray::from(goes))?],
        })
    }
}
