//! Sums of integers, and of decimals that have no digits to spare, in twice their bits. None wraps on its way, whatever the order
//! of rows and whatever is taken away again; one that is too large in the end is an error.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, ListArray, PrimitiveArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{
    ArrowNativeTypeOp, DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, Decimal128Type, Decimal256Type,
    DecimalType, Field, Int64Type, UInt64Type, i256,
};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::rows::Counted;

/// Digits that a sum of decimals has more than they have, as long as there is room for them.
const MORE_DIGITS: u8 = 10;

/// The type in which values of a type are added up here; `None` for those of which DataFusion's own sums do not wrap.
pub(super) fn wide(narrow: &DataType) -> Option<DataType> {
    match narrow {
        DataType::Int64 | DataType::UInt64 => Some(DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0)),
        DataType::Decimal128(digits, scale) if digits + MORE_DIGITS > DECIMAL128_MAX_PRECISION => {
            Some(DataType::Decimal256(DECIMAL256_MAX_PRECISION, *scale))
        }
        _ => None,
    }
}

/// What sums of [`wide`] come to, in the type that SQL sees.
///
/// # Errors
/// For a sum that has no place in it.
pub(crate) fn narrowed(sums: &ArrayRef, narrow: &DataType) -> Result<ArrayRef> {
    match narrow {
        DataType::Int64 => all_narrowed::<Int64Type>(sums, narrow),
        DataType::UInt64 => all_narrowed::<UInt64Type>(sums, narrow),
        _ => all_narrowed::<Decimal128Type>(sums, narrow),
    }
}

fn all_narrowed<T: Widens>(sums: &ArrayRef, narrow: &DataType) -> Result<ArrayRef> {
    let sums = states::<T>(sums)?;
    let narrowed: PrimitiveArray<T> = sums.try_unary(|sum| match T::narrowed(sum) {
        Some(narrowed) => Ok(narrowed),
        None => too_large(narrow),
    })?;
    Ok(Arc::new(narrowed.with_data_type(narrow.clone())))
}

fn too_large<T>(narrow: &DataType) -> Result<T> {
    match narrow {
        DataType::Decimal128(..) => exec_err!("a sum has more than 38 digits: CAST what it adds up to DOUBLE"),
        _ => exec_err!("a sum is beyond the 64 bits of BIGINT: CAST what it adds up to DECIMAL(38, 0)"),
    }
}

/// A type whose values are added up in one of twice the bits.
trait Widens: ArrowPrimitiveType<Native: Hash + Eq> + Debug {
    type Wide: ArrowPrimitiveType;

    fn widened(value: Self::Native) -> Wide<Self>;

    /// `None` for what has no place in this type.
    fn narrowed(sum: Wide<Self>) -> Option<Self::Native>;
}

type Wide<T> = <<T as Widens>::Wide as ArrowPrimitiveType>::Native;

macro_rules! widens_to_128_bits {
    ($($narrow:ty),+) => {$(
        impl Widens for $narrow {
            type Wide = Decimal128Type;

            fn widened(value: Self::Native) -> i128 {
                value.into()
            }

            fn narrowed(sum: i128) -> Option<Self::Native> {
                sum.try_into().ok()
            }
        }
    )+};
}

widens_to_128_bits!(Int64Type, UInt64Type);

impl Widens for Decimal128Type {
    type Wide = Decimal256Type;

    fn widened(value: i128) -> i256 {
        i256::from_i128(value)
    }

    fn narrowed(sum: i256) -> Option<i128> {
        sum.to_i128().filter(|sum| Self::is_valid_decimal_precision(*sum, DECIMAL128_MAX_PRECISION))
    }
}

/// The sum of some rows, or of each of them once. `kinds` are of what is summed, of its sums inside, and of what they come to.
pub(super) fn accumulator(kinds: Kinds, distinct: bool) -> Box<dyn Accumulator> {
    match kinds.of {
        DataType::Int64 => of_rows::<Int64Type>(kinds, distinct),
        DataType::UInt64 => of_rows::<UInt64Type>(kinds, distinct),
        _ => of_rows::<Decimal128Type>(kinds, distinct),
    }
}

fn of_rows<T: Widens>(kinds: Kinds, distinct: bool) -> Box<dyn Accumulator> {
    let sum = Running::<T> { sum: Wide::<T>::default(), count: 0, kinds };
    match distinct {
        false => Box::new(sum),
        true => Box::new(Distinct { rows: HashMap::new(), sum }),
    }
}

/// The sums of many groups.
pub(super) fn groups(kinds: Kinds) -> Box<dyn GroupsAccumulator> {
    match kinds.of {
        DataType::Int64 => Box::new(Groups::<Int64Type>::new(kinds)),
        DataType::UInt64 => Box::new(Groups::<UInt64Type>::new(kinds)),
        _ => Box::new(Groups::<Decimal128Type>::new(kinds)),
    }
}

#[derive(Clone, Debug)]
pub(super) struct Kinds {
    pub(super) of: DataType,
    pub(super) wide: DataType,
    pub(super) result: DataType,
}

fn values<T: ArrowPrimitiveType>(column: &ArrayRef) -> Result<&PrimitiveArray<T>> {
    match column.as_primitive_opt::<T>() {
        Some(values) => Ok(values),
        None => exec_err!("a sum of {} is given {}", T::DATA_TYPE, column.data_type()),
    }
}

fn states<T: Widens>(column: &ArrayRef) -> Result<&PrimitiveArray<T::Wide>> {
    values::<T::Wide>(column)
}

fn only(columns: &[ArrayRef]) -> Result<&ArrayRef> {
    match columns {
        [column] => Ok(column),
        columns => exec_err!("a sum is of one column, not of {}", columns.len()),
    }
}

/// Its state is the sum, null before the first row.
#[derive(Debug)]
struct Running<T: Widens> {
    sum: Wide<T>,
    count: u64,
    kinds: Kinds,
}

impl<T: Widens> Running<T> {
    fn state(&self) -> Result<ScalarValue> {
        let sum = (self.count > 0).then_some(self.sum);
        ScalarValue::new_primitive::<T::Wide>(sum, &self.kinds.wide)
    }
}

impl<T: Widens> Accumulator for Running<T> {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let column = values::<T>(only(arguments)?)?;
        for value in column.iter().flatten() {
            self.sum = self.sum.add_wrapping(T::widened(value));
        }
        self.count += (column.len() - column.null_count()) as u64;
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn retract_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        let column = values::<T>(only(arguments)?)?;
        for value in column.iter().flatten() {
            self.sum = self.sum.sub_wrapping(T::widened(value));
        }
        self.count -= (column.len() - column.null_count()) as u64;
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![Running::state(self)?])
    }

    fn merge_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        for sum in states::<T>(only(columns)?)?.iter().flatten() {
            self.sum = self.sum.add_wrapping(sum);
            self.count += 1;
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = Running::state(self)?.to_array()?;
        ScalarValue::try_from_array(&narrowed(&sum, &self.kinds.result)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// Its state is a list of the values.
#[derive(Debug)]
struct Distinct<T: Widens> {
    /// How many rows have a value.
    rows: HashMap<T::Native, u64>,
    sum: Running<T>,
}

impl<T: Widens> Accumulator for Distinct<T> {
    fn update_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        for value in values::<T>(only(arguments)?)?.iter().flatten() {
            *self.rows.entry(value).or_default() += 1;
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn retract_batch(&mut self, arguments: &[ArrayRef]) -> Result<()> {
        for value in values::<T>(only(arguments)?)?.iter().flatten() {
            if let Some(alike) = self.rows.get_mut(&value) {
                *alike -= 1;
                if *alike == 0 {
                    self.rows.remove(&value);
                }
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values = PrimitiveArray::<T>::from_iter_values(self.rows.keys().copied());
        let values: ArrayRef = Arc::new(values.with_data_type(self.sum.kinds.of.clone()));
        let item = Arc::new(Field::new_list_field(self.sum.kinds.of.clone(), true));
        let list = ListArray::try_new(item, OffsetBuffer::from_lengths([values.len()]), values, None)?;
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn merge_batch(&mut self, columns: &[ArrayRef]) -> Result<()> {
        let Some(lists) = only(columns)?.as_list_opt::<i32>() else {
            return exec_err!("the state of a distinct sum is a list");
        };
        lists.iter().flatten().try_for_each(|list| self.update_batch(&[list]))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let add = |sum: Wide<T>, value: &T::Native| sum.add_wrapping(T::widened(*value));
        self.sum.sum = self.rows.keys().fold(Wide::<T>::default(), add);
        self.sum.count = self.rows.len() as u64;
        self.sum.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.rows.capacity() * size_of::<(T::Native, u64)>()
    }
}

/// Its state is that of [`Running`].
struct Groups<T: Widens> {
    sums: Vec<Wide<T>>,
    /// Which groups have a row.
    begun: Vec<bool>,
    kinds: Kinds,
}

impl<T: Widens> Groups<T> {
    fn new(kinds: Kinds) -> Self {
        Self { sums: Vec::new(), begun: Vec::new(), kinds }
    }

    fn grow(&mut self, groups: usize) {
        self.sums.resize(groups, Wide::<T>::default());
        self.begun.resize(groups, false);
    }

    fn add(&mut self, group: usize, sum: Wide<T>) {
        self.sums[group] = self.sums[group].add_wrapping(sum);
        self.begun[group] = true;
    }

    fn emit(&mut self, emit_to: EmitTo) -> ArrayRef {
        let sums = emit_to.take_needed(&mut self.sums);
        let begun = NullBuffer::from(emit_to.take_needed(&mut self.begun));
        self.states(sums, Some(begun))
    }

    fn states(&self, sums: Vec<Wide<T>>, known: Option<NullBuffer>) -> ArrayRef {
        let known = known.filter(|known| known.null_count() > 0);
        Arc::new(PrimitiveArray::<T::Wide>::new(sums.into(), known).with_data_type(self.kinds.wide.clone()))
    }
}

impl<T: Widens> GroupsAccumulator for Groups<T> {
    fn update_batch(
        &mut self,
        arguments: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.grow(total);
        let column = values::<T>(only(arguments)?)?;
        let values = column.values();
        Counted::new([column.nulls()], column.len(), filter).each(|row| self.add(groups[row], T::widened(values[row])));
        Ok(())
    }

    fn merge_batch(&mut self, columns: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        let column = states::<T>(only(columns)?)?;
        let sums = column.values();
        Counted::new([column.nulls()], column.len(), None).each(|row| self.add(groups[row], sums[row]));
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        narrowed(&self.emit(emit_to), &self.kinds.result)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.emit(emit_to)])
    }

    fn convert_to_state(&self, arguments: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let column = values::<T>(only(arguments)?)?;
        let counted = Counted::new([column.nulls()], column.len(), filter);
        let sums = column.values().iter().map(|value| T::widened(*value)).collect();
        Ok(vec![self.states(sums, counted.rows)])
    }

    fn size(&self) -> usize {
        self.sums.capacity() * size_of::<Wide<T>>() + self.begun.capacity()
    }
}
