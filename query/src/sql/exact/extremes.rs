//! `min` and `max` of floats by one order of them all: −∞ … −0, 0 … ∞, NaN. So `max` is NaN if there is one, and `min` is
//! NaN only if there is nothing else, as in DuckDB and PostgreSQL. All NaNs are one.
//!
//! DataFusion's own take a number that follows a NaN in its place. Here each float becomes the integer of the same rank,
//! and DataFusion's `min` or `max` of integers does the rest.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::expr::{AggregateFunctionParams, WindowFunctionParams};
use datafusion::logical_expr::function::{AccumulatorArgs, AggregateFunctionSimplification, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, Expr, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};

/// `min` or `max`; what is no float goes to DataFusion's own.
///
/// The optimizer has a function of floats apart from the rest, under a name that it does not know. By the name of `min` or
/// `max` it would read no file whose statistics are within the bounds so far, and NaN is in no statistics; by their
/// direction it would keep the first groups by an order in which a NaN may be the least.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Extreme {
    plain: Arc<AggregateUDF>,
    name: String,
    apart: bool,
}

impl Extreme {
    /// In place of `plain`, which is DataFusion's `min` or `max`.
    pub(super) fn new(plain: Arc<AggregateUDF>) -> Self {
        Self { name: plain.name().to_owned(), plain, apart: false }
    }

    /// What `make` makes of integers, for floats; `None` where there are none.
    fn ranked<A: ?Sized>(
        &self,
        args: &AccumulatorArgs,
        make: impl FnOnce(&AggregateUDF, AccumulatorArgs) -> Result<Box<A>>,
    ) -> Option<Result<Box<Ranked<A>>>> {
        let float = args.return_field.data_type().clone();
        if !float.is_floating() {
            return None;
        }
        let rank: FieldRef = Arc::new(Field::new(args.return_field.name(), DataType::Int64, true));
        let expr_fields = &[Arc::clone(&rank)];
        let args = AccumulatorArgs { return_field: rank, expr_fields, ..*args };
        Some(make(&self.plain, args).map(|ranks| Box::new(Ranked { float, ranks })))
    }
}

impl AggregateUDFImpl for Extreme {
    fn name(&self) -> &str {
        &self.name
    }

    fn schema_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.plain.schema_name(params)
    }

    fn human_display(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.plain.human_display(params)
    }

    fn display_name(&self, params: &AggregateFunctionParams) -> Result<String> {
        self.plain.display_name(params)
    }

    fn window_function_schema_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.plain.window_function_schema_name(params)
    }

    fn window_function_display_name(&self, params: &WindowFunctionParams) -> Result<String> {
        self.plain.window_function_display_name(params)
    }

    fn signature(&self) -> &Signature {
        self.plain.signature()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.plain.coerce_types(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.plain.return_type(arguments)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.plain.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match self.ranked(&args, AggregateUDF::accumulator) {
            Some(ranked) => Ok(ranked?),
            None => self.plain.accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match self.ranked(&args, AggregateUDF::create_sliding_accumulator) {
            Some(ranked) => Ok(ranked?),
            None => self.plain.create_sliding_accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.plain.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match self.ranked(&args, AggregateUDF::create_groups_accumulator) {
            Some(ranked) => Ok(ranked?),
            None => self.plain.create_groups_accumulator(args),
        }
    }

    fn simplify(&self) -> Option<AggregateFunctionSimplification> {
        if self.apart {
            return None;
        }
        let name = format!("{}_of_floats", self.name);
        let apart = Arc::new(AggregateUDF::from(Self { plain: Arc::clone(&self.plain), name, apart: true }));
        Some(Box::new(move |mut function, context| {
            if let [argument] = function.params.args.as_slice()
                && context.get_data_type(argument)?.is_floating()
            {
                function.func = Arc::clone(&apart);
            }
            Ok(Expr::AggregateFunction(function))
        }))
    }

    fn is_descending(&self) -> Option<bool> {
        self.plain.is_descending().filter(|_| !self.apart)
    }

    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        self.plain.value_from_stats(args).filter(|_| !args.return_type.is_floating())
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.plain.order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.plain.inner().set_monotonicity(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.plain.documentation()
    }
}

/// The rank of a double; its own inverse but for NaNs, which have one.
fn rank(value: f64) -> i64 {
    turned(if value.is_nan() { f64::NAN } else { value }.to_bits().cast_signed())
}

/// The more negative a double, the greater its bits without the sign.
fn turned(bits: i64) -> i64 {
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

fn value(rank: i64) -> f64 {
    f64::from_bits(turned(rank).cast_unsigned())
}

/// A column of floats as their ranks: every float is a double.
fn ranks(columns: &[ArrayRef]) -> Result<[ArrayRef; 1]> {
    let [floats] = columns else { return exec_err!("min and max take one column") };
    let doubles = cast(floats, &DataType::Float64)?;
    Ok([Arc::new(doubles.as_primitive::<Float64Type>().unary::<_, Int64Type>(rank))])
}

/// Takes floats of a type, and hands their ranks on.
#[derive(Debug)]
struct Ranked<A: ?Sized> {
    float: DataType,
    ranks: Box<A>,
}

impl<A: ?Sized> Ranked<A> {
    fn floats(&self, ranks: &ArrayRef) -> Result<ArrayRef> {
        let Some(ranks) = ranks.as_primitive_opt::<Int64Type>() else { return exec_err!("a rank is an integer") };
        let doubles: Float64Array = ranks.unary(value);
        Ok(cast(&doubles, &self.float)?)
    }

    fn float(&self, rank: &ScalarValue) -> Result<ScalarValue> {
        let ScalarValue::Int64(rank) = rank else { return exec_err!("a rank is an integer") };
        ScalarValue::Float64(rank.map(value)).cast_to(&self.float)
    }
}

impl Accumulator for Ranked<dyn Accumulator> {
    fn update_batch(&mut self, floats: &[ArrayRef]) -> Result<()> {
        self.ranks.update_batch(&ranks(floats)?)
    }

    fn supports_retract_batch(&self) -> bool {
        self.ranks.supports_retract_batch()
    }

    fn retract_batch(&mut self, floats: &[ArrayRef]) -> Result<()> {
        self.ranks.retract_batch(&ranks(floats)?)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.ranks.state()?.iter().map(|rank| self.float(rank)).collect()
    }

    fn merge_batch(&mut self, floats: &[ArrayRef]) -> Result<()> {
        self.ranks.merge_batch(&ranks(floats)?)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let rank = self.ranks.evaluate()?;
        self.float(&rank)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.ranks.size()
    }
}

impl GroupsAccumulator for Ranked<dyn GroupsAccumulator> {
    fn update_batch(
        &mut self,
        floats: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        total: usize,
    ) -> Result<()> {
        self.ranks.update_batch(&ranks(floats)?, groups, filter, total)
    }

    fn merge_batch(&mut self, floats: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.ranks.merge_batch(&ranks(floats)?, groups, total)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let ranks = self.ranks.evaluate(emit_to)?;
        self.floats(&ranks)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.ranks.state(emit_to)?.iter().map(|ranks| self.floats(ranks)).collect()
    }

    fn convert_to_state(&self, floats: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let states = self.ranks.convert_to_state(&ranks(floats)?, filter)?;
        states.iter().map(|ranks| self.floats(ranks)).collect()
    }

    fn size(&self) -> usize {
        self.ranks.size()
    }
}
