//! What differs, from the rows of both sides that stand by their keys: equal rows cancel each other out, and what is left of a key is told.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::interleave;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use super::{DiffCounts, HIDDEN};
use crate::error::Result;

/// The column that says what became of a row.
const CHANGE: &str = "change";

/// What became of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Added,
    Removed,
    Before,
    After,
}

impl Change {
    fn name(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// Where a row is, among the batches at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    batch: usize,
    row: usize,
}

/// Rows that are equal: one of them, and how many more of them the later side has, or the earlier one where it is negative.
#[derive(Clone, Copy)]
struct Equal {
    hash: [u8; 16],
    place: Place,
    more: i64,
}

/// What is left of a key once equal rows have cancelled each other out.
#[derive(Clone, Copy, Default)]
struct Left {
    before: Option<Place>,
    after: Option<Place>,
    /// One side has several rows: then it is no key of theirs, and none of them is another's successor.
    is_told: bool,
}

/// Merges rows that come sorted: the model's columns, then [`HIDDEN`]. It holds a batch, and up to three rows of others.
pub(super) struct Merge {
    schema: SchemaRef,
    batches: Vec<RecordBatch>,
    told: Vec<(Change, Place)>,
    key: Option<[u8; 16]>,
    equal: Option<Equal>,
    left: Left,
    counts: DiffCounts,
}

impl Merge {
    /// For rows with these columns.
    pub(super) fn of(columns: &Schema) -> Self {
        let mut change = CHANGE.to_owned();
        while columns.index_of(&change).is_ok() {
            change.insert(0, '_');
        }
        let plain = columns.fields().iter().map(|field| Field::new(field.name(), field.data_type().clone(), true));
        let fields = [Field::new(change, DataType::Utf8, false)].into_iter().chain(plain);
        Self {
            schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())),
            batches: Vec::new(),
            told: Vec::new(),
            key: None,
            equal: None,
            left: Left::default(),
            counts: DiffCounts::default(),
        }
    }

    pub(super) fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    pub(super) fn counts(&self) -> DiffCounts {
        self.counts
    }

    /// Takes the next rows, and gives those of which it is known by now that they differ.
    ///
    /// # Errors
    /// None for batches as they are said to be.
    pub(super) fn take(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        let hidden = batch.num_columns() - HIDDEN.len();
        let (keys, hashes) =
            (batch.column(hidden).as_fixed_size_binary(), batch.column(hidden + 1).as_fixed_size_binary());
        let sides = batch.column(hidden + 2).as_boolean();
        let at = self.batches.len();
        for row in 0..batch.num_rows() {
            let more = if sides.value(row) { 1 } else { -1 };
            self.row(
                bytes(keys.value(row)),
                Equal { hash: bytes(hashes.value(row)), place: Place { batch: at, row }, more },
            );
        }
        self.batches.push(batch);
        let told = self.tell()?;
        self.let_go();
        Ok(told)
    }

    /// Gives what is left.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn end(&mut self) -> Result<RecordBatch> {
        self.end_of_equal();
        self.end_of_key();
        self.tell()
    }

    fn row(&mut self, key: [u8; 16], row: Equal) {
        let is_of_key = self.key == Some(key);
        match &mut self.equal {
            Some(equal) if is_of_key && equal.hash == row.hash => equal.more += row.more,
            _ => {
                self.end_of_equal();
                if !is_of_key {
                    self.end_of_key();
                    self.key = Some(key);
                }
                self.equal = Some(row);
            }
        }
    }

    fn end_of_equal(&mut self) {
        let Some(Equal { place, more, .. }) = self.equal.take() else { return };
        for _ in 0..more.unsigned_abs() {
            self.left(place, more > 0);
        }
    }

    fn left(&mut self, place: Place, is_after: bool) {
        let of_side = if is_after { &mut self.left.after } else { &mut self.left.before };
        if !self.left.is_told && of_side.is_none() {
            *of_side = Some(place);
            return;
        }
        self.tell_apart();
        self.left.is_told = true;
        self.came_or_went(place, is_after);
    }

    fn end_of_key(&mut self) {
        if let Left { before: Some(before), after: Some(after), .. } = self.left {
            self.counts.changed += 1;
            self.told.extend([(Change::Before, before), (Change::After, after)]);
        } else {
            self.tell_apart();
        }
        self.left = Left::default();
    }

    /// Tells what is held of a key, each row by itself.
    fn tell_apart(&mut self) {
        for (place, is_after) in [(self.left.before.take(), false), (self.left.after.take(), true)] {
            if let Some(place) = place {
                self.came_or_went(place, is_after);
            }
        }
    }

    fn came_or_went(&mut self, place: Place, is_after: bool) {
        let (count, change) = match is_after {
            true => (&mut self.counts.added, Change::Added),
            false => (&mut self.counts.removed, Change::Removed),
        };
        *count += 1;
        self.told.push((change, place));
    }

    /// The rows that are to be told, as a batch.
    fn tell(&mut self) -> Result<RecordBatch> {
        let told = std::mem::take(&mut self.told);
        if told.is_empty() {
            return Ok(RecordBatch::new_empty(self.schema()));
        }
        let places: Vec<(usize, usize)> = told.iter().map(|(_, place)| (place.batch, place.row)).collect();
        let changes = StringArray::from_iter_values(told.iter().map(|(change, _)| change.name()));
        let mut columns: Vec<ArrayRef> = vec![Arc::new(changes)];
        for column in 0..self.schema.fields().len() - 1 {
            let of_batches: Vec<&dyn Array> = self.batches.iter().map(|batch| batch.column(column).as_ref()).collect();
            columns.push(interleave(&of_batches, &places)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(told.len()));
        Ok(RecordBatch::try_new_with_options(self.schema(), columns, &options)?)
    }

    /// Keeps of the batches what is still needed of them.
    fn let_go(&mut self) {
        let batches = std::mem::take(&mut self.batches);
        let equal = self.equal.as_mut().map(|equal| &mut equal.place);
        for place in [equal, self.left.before.as_mut(), self.left.after.as_mut()].into_iter().flatten() {
            let kept = batches[place.batch].slice(place.row, 1);
            *place = Place { batch: self.batches.len(), row: 0 };
            self.batches.push(kept);
        }
    }
}

fn bytes(hash: &[u8]) -> [u8; 16] {
    hash.try_into().unwrap_or_default()
}
