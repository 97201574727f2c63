//! `sum` and `avg` of doubles without a rounding on the way: the same bits for every order of rows, number of threads and
//! split into epochs. Under their own names, for every model and query; what is no double goes to DataFusion's own.

mod number;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Float64Array, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, EmitTo, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};

use self::number::ExactSum;

/// The aggregates that take the place of DataFusion's.
pub(crate) fn aggregates() -> [AggregateUDF; 2] {
    [(Reading::Sum, sum_udaf()), (Reading::Mean, avg_udaf())]
        .map(|(reading, inexact)| Exact { reading, inexact }.into())
}

/// What is read off a sum and a count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reading {
    Sum,
    /// Two roundings: that of the sum, and that of its division by the count.
    Mean,
}

impl Reading {
    /// Without a value there is neither.
    fn of(self, sum: &ExactSum, count: u64) -> Option<f64> {
        (count > 0).then(|| match self {
            Self::Sum => sum.value(),
            Self::Mean => sum.value() / count as f64,
        })
    }
}

/// An aggregate that is exact over doubles. Its state over them is their count and [`ExactSum::to_bytes`].
#[derive(Debug, PartialEq, Eq, Hash)]
struct Exact {
    reading: Reading,
    inexact: Arc<AggregateUDF>,
}

fn is_double(fields: &[FieldRef]) -> bool {
    fields.first().is_some_and(|field| *field.data_type() == DataType::Float64)
}

impl AggregateUDFImpl for Exact {
    fn name(&self) -> &str {
        self.inexact.name()
    }

    fn aliases(&self) -> &[String] {
        self.inexact.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inexact.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inexact.return_type(arguments)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if !is_double(args.input_fields) {
            return self.inexact.state_fields(args);
        }
        Ok(match args.is_distinct {
            true => {
                let item = Field::new_list_field(DataType::Float64, true);
                vec![Arc::new(Field::new_list(format_state_name(args.name, "values"), item, true))]
            }
            false => vec![
                Arc::new(Field::new(format_state_name(args.name, "count"), DataType::UInt64, true)),
                Arc::new(Field::new(format_state_name(args.name, "sum"), DataType::Binary, true)),
            ],
        })
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match (is_double(args.expr_fields), args.is_distinct) {
            (true, false) => Ok(Box::new(Running { reading: self.reading, sum: ExactSum::default(), count: 0 })),
            (true, true) => Ok(Box::new(Distinct { reading: self.reading, values: HashSet::new() })),
            _ => self.inexact.accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match is_double(args.expr_fields) && !args.is_distinct {
            true => self.accumulator(args),
            false => self.inexact.create_sliding_accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        match is_double(args.expr_fields) {
            true => !args.is_distinct,
            false => self.inexact.groups_accumulator_supported(args),
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match is_double(args.expr_fields) {
            true => Ok(Box::new(Groups { reading: self.reading, sums: Vec::new(), counts: Vec::new(), heap: 0 })),
            false => self.inexact.create_groups_accumulator(args),
        }
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inexact.inner().set_monotonicity(data_type)
    }
}

fn doubles(columns: &[ArrayRef]) -> Result<&Float64Array> {
    match columns {
        [values] if *values.data_type() == DataType::Float64 => Ok(values.as_primitive::<Float64Type>()),
        _ => exec_err!("an exact sum takes one column of doubles"),
    }
}

/// The counts and the sums of a state.
fn counts_and_sums(columns: &[ArrayRef]) -> Result<(&UInt64Array, &BinaryArray)> {
    match columns {
        [counts, sums] => Ok((counts.as_primitive::<UInt64Type>(), sums.as_binary::<i32>())),
        _ => exec_err!("the state of an exact sum is a count and a sum"),
    }
}

fn read_back(bytes: &[u8]) -> Result<ExactSum> {
    match ExactSum::from_bytes(bytes) {
        Some(sum) => Ok(sum),
        None => exec_err!("{} bytes are no exact sum", bytes.len()),
    }
}

/// One group, or one window's frame.
#[derive(Debug)]
struct Running {
    reading: Reading,
    sum: ExactSum,
    count: u64,
}

impl Accumulator for Running {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = doubles(values)?;
        self.count += (values.len() - values.null_count()) as u64;
        for value in values.iter().flatten() {
            self.sum.add(value);
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = doubles(values)?;
        self.count -= (values.len() - values.null_count()) as u64;
        values.iter().flatten().for_each(|value| self.sum.remove(value));
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![self.count.into(), ScalarValue::Binary(Some(self.sum.to_bytes()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let (counts, sums) = counts_and_sums(states)?;
        for (count, sum) in counts.iter().zip(sums).filter_map(|(count, sum)| count.zip(sum)) {
            self.count += count;
            self.sum.merge(&read_back(sum)?);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.reading.of(&self.sum, self.count)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sum.heap_bytes()
    }
}

/// Many groups.
struct Groups {
    reading: Reading,
    sums: Vec<ExactSum>,
    counts: Vec<u64>,
    /// Bytes that sums hold outside of themselves.
    heap: usize,
}

impl Groups {
    fn grow(&mut self, groups: usize) {
        self.sums.resize(groups, ExactSum::default());
        self.counts.resize(groups, 0);
    }

    fn emit(&mut self, emit_to: EmitTo) -> (Vec<ExactSum>, Vec<u64>) {
        let (sums, counts) = (emit_to.take_needed(&mut self.sums), emit_to.take_needed(&mut self.counts));
        self.heap -= sums.iter().map(ExactSum::heap_bytes).sum::<usize>();
        (sums, counts)
    }
}

impl GroupsAccumulator for Groups {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        let values = doubles(values)?;
        self.grow(total);
        let mut add = |group: usize, value: f64| {
            self.heap += self.sums[group].add(value);
            self.counts[group] += 1;
        };
        if filter.is_none() && values.null_count() == 0 {
            groups.iter().zip(values.values()).for_each(|(group, value)| add(*group, *value));
            return Ok(());
        }
        for (row, group) in groups.iter().enumerate() {
            let counts = filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
            if counts && values.is_valid(row) {
                add(*group, values.value(row));
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        let (counts, sums) = counts_and_sums(states)?;
        self.grow(total);
        for (group, state) in groups.iter().zip(counts.iter().zip(sums)) {
            if let (Some(count), Some(sum)) = state {
                self.counts[*group] += count;
                self.heap += self.sums[*group].merge(&read_back(sum)?);
            }
        }
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let (sums, counts) = self.emit(emit_to);
        let read = sums.iter().zip(counts).map(|(sum, count)| self.reading.of(sum, count));
        Ok(Arc::new(read.collect::<Float64Array>()))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (sums, counts) = self.emit(emit_to);
        let sums = BinaryArray::from_iter_values(sums.iter().map(ExactSum::to_bytes));
        Ok(vec![Arc::new(UInt64Array::from(counts)), Arc::new(sums)])
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = doubles(values)?;
        let counts = |row| filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row));
        let counted = (0..values.len()).map(|row| (values.is_valid(row) && counts(row)).then(|| values.value(row)));
        let (counts, sums): (Vec<u64>, Vec<ExactSum>) = counted
            .map(|value| {
                let mut sum = ExactSum::default();
                if let Some(value) = value {
                    sum.add(value);
                }
                (u64::from(value.is_some()), sum)
            })
            .unzip();
        let sums = BinaryArray::from_iter_values(sums.iter().map(ExactSum::to_bytes));
        Ok(vec![Arc::new(UInt64Array::from(counts)), Arc::new(sums)])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<ExactSum>() + self.counts.capacity() * size_of::<u64>() + self.heap
    }
}

/// Of each value once; −0 is 0, and all NaNs are one.
#[derive(Debug)]
struct Distinct {
    reading: Reading,
    values: HashSet<u64>,
}

impl Distinct {
    fn take(&mut self, values: &Float64Array) {
        let canonical = |value: f64| if value.is_nan() { f64::NAN } else { value + 0.0 };
        self.values.extend(values.iter().flatten().map(|value| canonical(value).to_bits()));
    }
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.take(doubles(values)?);
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = Float64Array::from_iter_values(self.values.iter().map(|bits| f64::from_bits(*bits)));
        let item = Arc::new(Field::new_list_field(DataType::Float64, true));
        let one = OffsetBuffer::from_lengths([values.len()]);
        let list = arrow::array::ListArray::try_new(item, one, Arc::new(values), None)?;
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [lists] = states else { return exec_err!("the state of a distinct sum is one list") };
        for values in lists.as_list::<i32>().iter().flatten() {
            self.take(doubles(&[values])?);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut sum = ExactSum::default();
        for bits in &self.values {
            sum.add(f64::from_bits(*bits));
        }
        Ok(ScalarValue::Float64(self.reading.of(&sum, self.values.len() as u64)))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.values.capacity() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests;
