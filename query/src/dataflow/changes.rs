//! What came and what went: two multisets of rows with the same columns.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::SchemaRef;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{HashMap, Result};

fn converter(columns: &SchemaRef) -> Result<RowConverter> {
    let fields = columns.fields().iter().map(|field| SortField::new(field.data_type().clone()));
    Ok(RowConverter::new(fields.collect())?)
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
        let converter = converter(columns)?;
        let (new, old) = (converter.convert_columns(added.columns())?, converter.convert_columns(gone.columns())?);
        // The last of the rows that are the same, and for each the one before it.
        let mut went: HashMap<_, Option<usize>> = HashMap::with_capacity(old.num_rows());
        let mut before = vec![None; old.num_rows()];
        for (at, row) in old.iter().enumerate() {
            before[at] = went.insert(row, Some(at)).flatten();
        }
        let pairs = new.iter().enumerate().filter_map(|(at, row)| {
            let last = went.get_mut(&row)?;
            let same = (*last)?;
            *last = before[same];
            Some((same, at))
        });
        Self::without((gone, added), pairs)
    }

    /// What leads from one state of things to another: the numbers of those that are there, ascending, and the row of each.
    ///
    /// # Errors
    /// As [`Self::cancelled`].
    pub(super) fn between((had, gone): (&[usize], RecordBatch), (has, added): (&[usize], RecordBatch)) -> Result<Self> {
        let converter = converter(gone.schema_ref())?;
        let rows = |batch: &RecordBatch| match batch.num_columns() {
            0 => Ok(None),
            _ => converter.convert_columns(batch.columns()).map(Some),
        };
        let (old, new) = (rows(&gone)?, rows(&added)?);
        let mut now = 0;
        let pairs = had.iter().enumerate().filter_map(|(before, thing)| {
            while has.get(now).is_some_and(|next| next < thing) {
                now += 1;
            }
            has.get(now).filter(|next| *next == thing)?;
            let same = old.as_ref().zip(new.as_ref()).is_none_or(|(old, new)| old.row(before) == new.row(now));
            same.then_some((before, now))
        });
        Self::without((gone, added), pairs)
    }

    /// Without pairs of rows, of which the first went and the second came.
    fn without((gone, added): (RecordBatch, RecordBatch), pairs: impl Iterator<Item = (usize, usize)>) -> Result<Self> {
        let (mut goes, mut comes) = (vec![true; gone.num_rows()], vec![true; added.num_rows()]);
        for (old, new) in pairs {
            (goes[old], comes[new]) = (false, false);
        }
        Ok(Self {
            added: vec![filter_record_batch(&added, &BooleanArray::from(comes))?],
            gone: vec![filter_record_batch(&gone, &BooleanArray::from(goes))?],
        })
    }
}
