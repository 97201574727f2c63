//! The rows that an aggregate of doubles counts, and their way into its sums and out of their states.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{Float64Type, UInt64Type};
use datafusion::common::{Result, exec_err};

use super::number::ExactSum;
use super::reading::Addend;

/// Which rows of a batch an aggregate counts: those whose arguments are not null, if the filter says so.
pub(super) struct Counted {
    /// `None` for all.
    pub(super) rows: Option<NullBuffer>,
    all: usize,
}

impl Counted {
    /// Of `all` rows, by what is known of each argument.
    pub(super) fn new<'a>(
        known: impl IntoIterator<Item = Option<&'a NullBuffer>>,
        all: usize,
        filter: Option<&BooleanArray>,
    ) -> Self {
        let filtered = filter.map(|filter| match filter.nulls() {
            Some(known) => NullBuffer::new(filter.values() & known.inner()),
            None => NullBuffer::new(filter.values().clone()),
        });
        let rows = known.into_iter().fold(filtered, |rows, known| NullBuffer::union(rows.as_ref(), known));
        Self { rows: rows.filter(|rows| rows.null_count() > 0), all }
    }

    fn count(&self) -> usize {
        self.all - self.rows.as_ref().map_or(0, NullBuffer::null_count)
    }

    /// Calls with each row that counts.
    #[inline]
    pub(super) fn each(&self, call: impl FnMut(usize)) {
        match &self.rows {
            None => (0..self.all).for_each(call),
            Some(rows) => rows.inner().set_indices().for_each(call),
        }
    }
}

/// A batch of an aggregate's arguments.
pub(super) struct Rows<'a> {
    columns: Vec<&'a Float64Array>,
    counted: Counted,
}

impl<'a> Rows<'a> {
    /// # Errors
    /// Where a column is not one of doubles.
    pub(super) fn new(arguments: &'a [ArrayRef], filter: Option<&BooleanArray>) -> Result<Self> {
        let doubles = |column: &'a ArrayRef| match column.as_primitive_opt::<Float64Type>() {
            Some(doubles) => Ok(doubles),
            None => exec_err!("an exact aggregate takes doubles, not {}", column.data_type()),
        };
        let columns = arguments.iter().map(doubles).collect::<Result<Vec<_>>>()?;
        let all = columns.first().map_or(0, |column| column.len());
        let counted = Counted::new(columns.iter().map(|column| column.nulls()), all, filter);
        Ok(Self { columns, counted })
    }

    pub(super) fn count(&self) -> usize {
        self.counted.count()
    }

    /// Which of all rows count.
    pub(super) fn counted(&self) -> impl Iterator<Item = bool> {
        let Counted { rows, all } = &self.counted;
        (0..*all).map(|row| rows.as_ref().is_none_or(|rows| rows.is_valid(row)))
    }

    /// Calls with each row that counts.
    #[inline]
    pub(super) fn each(&self, call: impl FnMut(usize)) {
        self.counted.each(call);
    }

    /// The arguments of a row.
    pub(super) fn at(&self, row: usize) -> impl Iterator<Item = f64> {
        self.columns.iter().map(move |column| column.value(row))
    }

    /// Adds each row that counts to the sum at its place, or takes it away; gives the bytes that were newly allocated.
    #[inline]
    pub(super) fn add(
        &self,
        addend: Addend,
        away: bool,
        sums: &mut [ExactSum],
        mut place: impl FnMut(usize) -> usize,
    ) -> usize {
        let mut heap = 0;
        match addend {
            Addend::Value(argument) => {
                let values = self.columns[argument].values();
                self.each(|row| heap += sums[place(row)].add(values[row], away));
            }
            Addend::Product(half, one, other) => {
                let (one, other) = (self.columns[one].values(), self.columns[other].values());
                self.each(|row| heap += sums[place(row)].add_half(half, one[row], other[row], away));
            }
        }
        heap
    }
}

/// The counts and the sums of some states.
pub(super) struct States<'a> {
    counts: &'a UInt64Array,
    sums: Vec<&'a BinaryArray>,
}

impl<'a> States<'a> {
    /// # Errors
    /// Where these are not a column of counts and one for each of the sums.
    pub(super) fn new(columns: &'a [ArrayRef], sums: usize) -> Result<Self> {
        let (counts, binaries) = match columns {
            [counts, binaries @ ..] if binaries.len() == sums => (counts.as_primitive_opt::<UInt64Type>(), binaries),
            _ => (None, columns),
        };
        let binaries = binaries.iter().map(|column| column.as_binary_opt::<i32>()).collect::<Option<Vec<_>>>();
        match (counts, binaries) {
            (Some(counts), Some(sums)) => Ok(Self { counts, sums }),
            _ => exec_err!("the state of an exact aggregate is a count and {sums} sums"),
        }
    }

    /// Calls with each state that there is: its place and its count.
    pub(super) fn each_count(&self, mut call: impl FnMut(usize, u64)) {
        self.counts
            .iter()
            .enumerate()
            .filter_map(|(at, count)| Some((at, count?)))
            .for_each(|(at, count)| call(at, count));
    }

    /// Calls with one of the sums of each state: the state's place and the sum.
    ///
    /// # Errors
    /// Where bytes are no sum.
    pub(super) fn each_sum(&self, which: usize, mut call: impl FnMut(usize, &ExactSum)) -> Result<()> {
        for (at, bytes) in self.sums[which].iter().enumerate() {
            match bytes.map(|bytes| (bytes, ExactSum::from_bytes(bytes))) {
                Some((_, Some(sum))) => call(at, &sum),
                Some((bytes, None)) => return exec_err!("{} bytes are no exact sum", bytes.len()),
                None => {}
            }
        }
        Ok(())
    }
}
