//! The states of a group's aggregates: as bytes, as the rows that they come to, and with what went taken away.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, Int64Array, PrimitiveArray};
use arrow::compute::kernels::cmp::eq;
use arrow::compute::nullif;
use arrow::datatypes::{ArrowNativeTypeOp, DataType, Decimal128Type, Decimal256Type, FieldRef, Int64Type, UInt64Type};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::{EmitTo, GroupsAccumulator};
use datafusion::physical_expr::GroupsAccumulatorAdapter;
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;

use crate::sql::exact::{ExactSum, narrowed};

/// An aggregate over the columns of a batch.
#[derive(Clone, Debug)]
pub(super) struct Aggregate {
    pub(super) function: Arc<AggregateFunctionExpr>,
    /// The columns with its arguments.
    pub(super) arguments: Range<usize>,
    /// The column that says which rows count.
    pub(super) filter: Option<usize>,
    /// Of equal arguments in a group only the first counts.
    pub(super) distinct: bool,
}

impl Aggregate {
    /// What groups come to where it is read off their state as it is.
    fn off_its_state(&self, state: &ArrayRef) -> Option<Result<ArrayRef>> {
        let as_it_is = ["bit_and", "bit_or", "bit_xor", "bool_and", "bool_or", "count", "max", "min", "sum"];
        let (name, field) = (self.function.fun().name(), self.function.field());
        match as_it_is.contains(&name) {
            true if state.data_type() == field.data_type() => Some(Ok(Arc::clone(state))),
            true if name == "sum" => Some(narrowed(state, field.data_type())),
            _ => None,
        }
    }

    pub(super) fn accumulator(&self) -> Result<Box<dyn GroupsAccumulator>> {
        if self.function.groups_accumulator_supported() {
            return self.function.create_groups_accumulator();
        }
        let function = Arc::clone(&self.function);
        Ok(Box::new(GroupsAccumulatorAdapter::new(move || function.create_accumulator())))
    }
}

/// One accumulator for each aggregate.
pub(super) fn accumulators(aggregates: &[Aggregate]) -> Result<Vec<Box<dyn GroupsAccumulator>>> {
    aggregates.iter().map(Aggregate::accumulator).collect()
}

/// What the states of `count` groups come to, a column for each aggregate.
pub(super) fn outputs(aggregates: &[Aggregate], states: &[Vec<ArrayRef>], count: usize) -> Result<Vec<ArrayRef>> {
    let everyone: Vec<usize> = (0..count).collect();
    let output = |(aggregate, states): (&Aggregate, &Vec<ArrayRef>)| {
        if let [state] = states.as_slice()
            && let Some(output) = aggregate.off_its_state(state)
        {
            return output;
        }
        let mut accumulator = aggregate.accumulator()?;
        accumulator.merge_batch(states, &everyone, count)?;
        accumulator.evaluate(EmitTo::All)
    };
    aggregates.iter().zip(states).map(output).collect()
}

/// The states of a group's aggregates as bytes, with some counts before them. They are kept by one build for itself, see
/// [`crate::state_cache`].
#[derive(Debug)]
pub(super) struct StateCodec {
    converter: RowConverter,
    counts: usize,
    /// How many columns the state of each aggregate has.
    widths: Vec<usize>,
}

impl StateCodec {
    pub(super) fn new(aggregates: &[Aggregate], counts: usize) -> Result<Self> {
        let fields =
            aggregates.iter().map(|aggregate| aggregate.function.state_fields()).collect::<Result<Vec<_>>>()?;
        let kinds = fields.iter().flatten().map(|field: &FieldRef| field.data_type().clone());
        let kinds = std::iter::repeat_n(DataType::Int64, counts).chain(kinds).map(SortField::new);
        let widths = fields.iter().map(Vec::len).collect();
        Ok(Self { converter: RowConverter::new(kinds.collect())?, counts, widths })
    }

    /// The states of some groups, by their place; `groups` is how many these are.
    pub(super) fn encode(&self, counts: &[ArrayRef], states: &[Vec<ArrayRef>], groups: usize) -> Result<Encoded> {
        let columns: Vec<ArrayRef> = counts.iter().chain(states.iter().flatten()).cloned().collect();
        Ok(match columns.is_empty() {
            true => Encoded::Empty(groups),
            false => Encoded::Rows(self.converter.convert_columns(&columns)?),
        })
    }

    /// The counts, and the states of each aggregate.
    pub(super) fn decode<'a>(
        &self,
        rows: impl Iterator<Item = &'a Vec<u8>>,
    ) -> Result<(Vec<ArrayRef>, Vec<Vec<ArrayRef>>)> {
        let parser = self.converter.parser();
        let width = self.counts + self.widths.iter().sum::<usize>();
        let mut columns = match width {
            0 => Vec::new(),
            _ => self.converter.convert_rows(rows.map(|row| parser.parse(row)))?,
        };
        if columns.len() != width {
            return exec_err!("a state of {width} columns has {}", columns.len());
        }
        let states = self.of_aggregates(&columns[self.counts..]);
        columns.truncate(self.counts);
        Ok((columns, states))
    }

    /// The columns of states, by the aggregates that they are of.
    pub(super) fn of_aggregates(&self, columns: &[ArrayRef]) -> Vec<Vec<ArrayRef>> {
        let mut columns = columns.iter().cloned();
        self.widths.iter().map(|width| columns.by_ref().take(*width).collect()).collect()
    }
}

/// States as bytes, one after the other.
#[derive(Debug)]
pub(super) enum Encoded {
    /// Of groups without any aggregate, so many.
    Empty(usize),
    Rows(Rows),
}

impl Encoded {
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let (empty, rows) = match self {
            Self::Empty(groups) => (*groups, None),
            Self::Rows(rows) => (0, Some(rows)),
        };
        let rows = rows.into_iter().flat_map(|rows| rows.iter().map(|row| row.data()));
        std::iter::repeat_n(&[][..], empty).chain(rows)
    }
}

/// Whether what went can be taken away from the state of an aggregate.
pub(super) fn subtracts(aggregate: &Aggregate) -> bool {
    let known = |kind: &DataType| {
        matches!(kind, DataType::Int64 | DataType::UInt64 | DataType::Decimal128(..) | DataType::Decimal256(..))
    };
    let fields = aggregate.function.state_fields().unwrap_or_default();
    let kinds: Vec<&DataType> = fields.iter().map(|field| field.data_type()).collect();
    match (aggregate.function.fun().name(), kinds.as_slice()) {
        _ if aggregate.distinct => false,
        ("count", [DataType::Int64]) => true,
        ("sum", [sum]) => known(sum),
        // An exact one: how many values, and sums of them. A single number may as well be the greatest that there was.
        ("regr_count", [DataType::UInt64]) => true,
        (_, [DataType::UInt64, DataType::Binary, sums @ ..]) if sums.iter().all(|sum| **sum == DataType::Binary) => {
            true
        }
        ("avg", [DataType::UInt64, sum]) => known(sum),
        _ => false,
    }
}

/// Whether the state of an aggregate does not say by itself whether a value is left in it.
pub(super) fn needs_count(aggregate: &Aggregate) -> bool {
    aggregate.function.fun().name() == "sum" && aggregate.function.state_fields().is_ok_and(|fields| fields.len() == 1)
}

/// States without what went; `left` is how many values each group still has, where the state does not say it.
pub(super) fn subtract(states: &[ArrayRef], gone: &[ArrayRef], left: Option<&Int64Array>) -> Result<Vec<ArrayRef>> {
    let rest = states.iter().zip(gone).map(|(state, gone)| difference(state, gone)).collect::<Result<Vec<_>>>()?;
    let zeros = match (left, rest.as_slice()) {
        (Some(left), _) => eq(left, &Int64Array::new_scalar(0))?,
        (None, [counts, sums]) if *sums.data_type() != DataType::Binary => {
            eq(counts.as_primitive::<UInt64Type>(), &arrow::array::UInt64Array::new_scalar(0))?
        }
        _ => return Ok(rest),
    };
    // A count of nothing is null as well: DataFusion takes it for one of something otherwise, and divides by it.
    Ok(rest.iter().map(|column| nullif(column, &zeros)).collect::<Result<_, _>>()?)
}

fn difference(left: &ArrayRef, right: &ArrayRef) -> Result<ArrayRef> {
    Ok(match left.data_type() {
        DataType::Int64 => wrapping::<Int64Type>(left, right),
        DataType::UInt64 => wrapping::<UInt64Type>(left, right),
        DataType::Decimal128(..) => wrapping::<Decimal128Type>(left, right),
        DataType::Decimal256(..) => wrapping::<Decimal256Type>(left, right),
        DataType::Binary => {
            let mut rest = Vec::with_capacity(left.len());
            for (left, right) in left.as_binary::<i32>().iter().zip(right.as_binary::<i32>()) {
                let read = |bytes: Option<&[u8]>| bytes.map_or(Some(ExactSum::default()), ExactSum::from_bytes);
                let (Some(mut sum), Some(gone)) = (read(left), read(right)) else {
                    return exec_err!("the state of an exact sum cannot be read");
                };
                sum.merge(&gone.negated());
                rest.push(sum.to_bytes());
            }
            Arc::new(BinaryArray::from_iter_values(rest))
        }
        kind => return exec_err!("nothing is taken away from a state of type {kind}"),
    })
}

/// Null is nothing.
fn wrapping<T: ArrowPrimitiveType>(left: &ArrayRef, right: &ArrayRef) -> ArrayRef {
    let nothing = T::Native::default();
    let pairs = left.as_primitive::<T>().iter().zip(right.as_primitive::<T>());
    let rest = pairs.map(|(left, right)| left.unwrap_or(nothing).sub_wrapping(right.unwrap_or(nothing)));
    Arc::new(PrimitiveArray::<T>::from_iter_values(rest).with_data_type(left.data_type().clone()))
}
