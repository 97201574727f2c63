//! The sums of many groups.

use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryArray, BooleanArray, Float64Array, UInt64Array};
use datafusion::common::Result;
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};

use super::number::ExactSum;
use super::reading::{Addend, Reading, Totals};
use super::rows::{Rows, States};

/// Its state is that of [`super::running::Running`].
pub(super) struct Groups {
    reading: Reading,
    addends: Vec<Addend>,
    /// For each addend, the sum of each group.
    sums: Vec<Vec<ExactSum>>,
    counts: Vec<u64>,
    /// Bytes that sums hold outside of themselves.
    heap: usize,
}

impl Groups {
    pub(super) fn new(reading: Reading) -> Self {
        let addends = reading.addends();
        Self { reading, sums: vec![Vec::new(); addends.len()], addends, counts: Vec::new(), heap: 0 }
    }

    fn grow(&mut self, groups: usize) {
        self.counts.resize(groups, 0);
        self.sums.iter_mut().for_each(|sums| sums.resize(groups, ExactSum::default()));
    }

    fn emit(&mut self, emit_to: EmitTo) -> (Vec<u64>, Vec<Vec<ExactSum>>) {
        let sums: Vec<_> = self.sums.iter_mut().map(|sums| emit_to.take_needed(sums)).collect();
        self.heap -= sums.iter().flatten().map(ExactSum::heap_bytes).sum::<usize>();
        (emit_to.take_needed(&mut self.counts), sums)
    }
}

fn state(counts: Vec<u64>, sums: Vec<Vec<ExactSum>>) -> Vec<ArrayRef> {
    let binary = |sums: Vec<ExactSum>| -> ArrayRef {
        Arc::new(BinaryArray::from_iter_values(sums.iter().map(ExactSum::to_bytes)))
    };
    let counts: ArrayRef = Arc::new(UInt64Array::from(counts));
    [counts].into_iter().chain(sums.into_iter().map(binary)).collect()
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        arguments: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total);
        let rows = Rows::new(arguments, filter)?;
        let mut count = |row: usize| {
            self.counts[groups[row]] += 1;
            groups[row]
        };
        // Rows are counted on their way into the first sum: a pass of its own takes a third of the time of a sum.
        let mut sums = self.addends.iter().zip(&mut self.sums);
        match sums.next() {
            Some((addend, sums)) => self.heap += rows.add(*addend, false, sums, count),
            None => rows.each(|row| _ = count(row)),
        }
        for (addend, sums) in sums {
            self.heap += rows.add(*addend, false, sums, |row| groups[row]);
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        let states = States::new(states, self.sums.len())?;
        states.each_count(|at, count| self.counts[groups[at]] += count);
        for (which, sums) in self.sums.iter_mut().enumerate() {
            states.each_sum(which, |at, other| self.heap += sums[groups[at]].merge(other))?;
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (counts, sums) = self.emit(emit_to);
        if self.reading == Reading::Count {
            return Ok(Arc::new(UInt64Array::from(counts)));
        }
        let read = counts.iter().enumerate().map(|(group, count)| {
            self.reading.of(&Totals { addends: &self.addends, count: *count, sum: |at: usize| &sums[at][group] })
        });
        Ok(Arc::new(read.collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (counts, sums) = self.emit(emit_to);
        Ok(state(counts, sums))
    }

    fn convert_to_state(&self, arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let rows = Rows::new(arguments, filter)?;
        let counts: Vec<_> = rows.counted().map(u64::from).collect();
        let sums = self.addends.iter().map(|addend| {
            let mut sums = vec![ExactSum::default(); counts.len()];
            rows.add(*addend, false, &mut sums, |row| row);
            sums
        });
        let sums = sums.collect();
        Ok(state(counts, sums))
    }

    fn size(&self) -> usize {
        let sums = self.sums.iter().map(Vec::capacity).sum::<usize>() * size_of::<ExactSum>();
        self.counts.capacity() * size_of::<u64>() + self.addends.capacity() * size_of::<Addend>() + sums + self.heap
    }
}
