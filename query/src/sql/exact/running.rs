//! The sums of one group, or of one window's frame.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::Accumulator;

use super::number::ExactSum;
use super::reading::{Addend, Reading, Totals};
use super::rows::{Rows, States};

/// Of all rows. Its state is their count and [`ExactSum::to_bytes`] of each sum.
#[derive(Debug)]
pub(super) struct Running {
    reading: Reading,
    addends: Vec<Addend>,
    sums: Vec<ExactSum>,
    count: u64,
}

impl Running {
    pub(super) fn new(reading: Reading) -> Self {
        let addends = reading.addends();
        Self { reading, sums: vec![ExactSum::default(); addends.len()], addends, count: 0 }
    }

    fn add(&mut self, rows: &Rows<'_>, away: bool) {
        for (addend, sum) in self.addends.iter().zip(&mut self.sums) {
            rows.add(*addend, away, std::slice::from_mut(sum), |_| 0);
        }
    }
}

impl Accumulator for Running {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let rows = Rows::new(arguments, None)?;
        self.count += rows.count() as u64;
        self.add(&rows, false);
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn retract_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let rows = Rows::new(arguments, None)?;
        self.count -= rows.count() as u64;
        self.add(&rows, true);
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sums = self.sums.iter().map(|sum| ScalarValue::Binary(Some(sum.to_bytes())));
        Ok([self.count.into()].into_iter().chain(sums).collect())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let states = States::new(states, self.sums.len())?;
        states.each_count(|_, count| self.count += count);
        for (at, sum) in self.sums.iter_mut().enumerate() {
            states.each_sum(at, |_, other| {
                sum.merge(other);
            })?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let (addends, count) = (self.addends.as_slice(), self.count);
        Ok(match self.reading {
            Reading::Count => ScalarValue::UInt64(Some(count)),
            reading => ScalarValue::Float64(reading.of(&Totals { addends, count, sum: |at| &self.sums[at] })),
        })
    }

    fn size(&self) -> usize {
        let sums = self.sums.iter().map(|sum| size_of::<ExactSum>() + sum.heap_bytes()).sum::<usize>();
        size_of_val(self) + self.addends.capacity() * size_of::<Addend>() + sums
    }
}

/// The most arguments that an aggregate here has.
const ARGUMENTS: usize = 2;

/// Of each row once; −0 is 0, and all NaNs are one. Its state is a list of values for each argument.
#[derive(Debug)]
pub(super) struct Distinct {
    reading: Reading,
    arguments: usize,
    /// How many rows are alike: the bits of their arguments, 0 for what is none.
    rows: HashMap<[u64; ARGUMENTS], u64>,
}

impl Distinct {
    pub(super) fn new(reading: Reading, arguments: usize) -> Self {
        Self { reading, arguments, rows: HashMap::new() }
    }

    fn take(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let rows = Rows::new(arguments, None)?;
        rows.each(|row| *self.rows.entry(key(&rows, row)).or_default() += 1);
        Ok(())
    }

    /// The arguments of the distinct rows.
    fn columns(&self) -> Vec<ArrayRef> {
        let column = |at: usize| Float64Array::from_iter_values(self.rows.keys().map(|row| f64::from_bits(row[at])));
        (0..self.arguments).map(|at| -> ArrayRef { Arc::new(column(at)) }).collect()
    }
}

fn key(rows: &Rows<'_>, row: usize) -> [u64; ARGUMENTS] {
    let mut key = [0; ARGUMENTS];
    for (bits, value) in key.iter_mut().zip(rows.at(row)) {
        *bits = if value.is_nan() { f64::NAN } else { value + 0.0 }.to_bits();
    }
    key
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        self.take(arguments)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn retract_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let rows = Rows::new(arguments, None)?;
        rows.each(|row| {
            let key = key(&rows, row);
            match self.rows.get_mut(&key) {
                Some(alike) if *alike > 1 => *alike -= 1,
                _ => {
                    self.rows.remove(&key);
                }
            }
        });
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let item = Arc::new(Field::new_list_field(DataType::Float64, true));
        let list = |values: ArrayRef| {
            let one = OffsetBuffer::from_lengths([values.len()]);
            Ok(ScalarValue::List(Arc::new(ListArray::try_new(item.clone(), one, values, None)?)))
        };
        self.columns().into_iter().map(list).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = states.iter().filter_map(|column| column.as_list_opt::<i32>()).collect::<Vec<_>>();
        if lists.len() != self.arguments {
            return exec_err!(
                "the state of a distinct aggregate is a list for each of its {} arguments",
                self.arguments
            );
        }
        for state in 0..lists.first().map_or(0, |list| list.len()) {
            let arguments = lists.iter().map(|list| list.value(state)).collect::<Vec<_>>();
            self.take(&arguments)?;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut all = Running::new(self.reading);
        all.update_batch(&self.columns())?;
        all.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.rows.capacity() * size_of::<([u64; ARGUMENTS], u64)>()
    }
}
