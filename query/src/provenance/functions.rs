//! The functions by which plans carry along what their rows come from.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::expr::{AggregateFunction, WindowFunction};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, TypeSignature, Volatility, WindowFunctionDefinition,
};
use roaring::RoaringTreemap;

use super::origins::Origins;

impl Origins {
    /// What a row comes from that is made of rows of these origins; a side that is not there is null.
    pub(super) fn together_of(&self, of: Vec<Expr>) -> Expr {
        ScalarUDF::from(Together::new(self.clone())).call(of)
    }

    /// A number that no other row has, for what one comes from.
    pub(super) fn told_apart(&self, origin: Expr) -> Expr {
        ScalarUDF::from(ToldApart::new(self.clone())).call(vec![origin])
    }

    /// What a group comes from: its rows. Where some of them count, these alone.
    pub(super) fn gathered(&self, origin: Expr, counts: Option<Expr>) -> Expr {
        let args = [origin].into_iter().chain(counts).collect();
        Expr::AggregateFunction(AggregateFunction::new_udf(self.gathering(), args, false, None, Vec::new(), None))
    }

    /// What the rows of all groups together come from that count.
    pub(super) fn gathered_of(&self, origin: Expr, counts: Option<Expr>) -> Expr {
        let filter = counts.map(Box::new);
        let gathering = AggregateFunction::new_udf(self.gathering(), vec![origin], false, filter, Vec::new(), None);
        Expr::AggregateFunction(gathering)
    }

    /// What each row of a partition comes from where it hangs on all of it.
    pub(super) fn gathered_over(&self, origin: Expr, keys: Vec<Expr>) -> Expr {
        let mut over = WindowFunction::new(WindowFunctionDefinition::AggregateUDF(self.gathering()), vec![origin]);
        over.params.partition_by = keys;
        Expr::WindowFunction(Box::new(over))
    }

    fn gathering(&self) -> Arc<AggregateUDF> {
        Arc::new(AggregateUDF::from(Gathered::new(self.clone())))
    }
}

/// `together(origin, …)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Together {
    origins: Origins,
    signature: Signature,
}

impl Together {
    fn new(origins: Origins) -> Self {
        Self { origins, signature: Signature::variadic(vec![DataType::Int64], Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Together {
    fn name(&self) -> &str {
        "together"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let sides: Vec<&Int64Array> = arrays.iter().map(|array| array.as_primitive()).collect();
        let rows = sides.first().map_or(0, |side| side.len());
        let (mut graph, mut of) = (self.origins.graph(), Vec::with_capacity(sides.len()));
        let together = (0..rows).map(|row| {
            of.clear();
            of.extend(sides.iter().filter(|side| side.is_valid(row)).map(|side| side.value(row)));
            graph.together(&of)
        });
        Ok(ColumnarValue::Array(Arc::new(together.collect::<Int64Array>())))
    }
}

/// `told_apart(origin)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ToldApart {
    origins: Origins,
    signature: Signature,
}

impl ToldApart {
    fn new(origins: Origins) -> Self {
        Self { origins, signature: Signature::exact(vec![DataType::Int64], Volatility::Volatile) }
    }
}

impl ScalarUDFImpl for ToldApart {
    fn name(&self) -> &str {
        "told_apart"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = arguments.number_rows;
        let [origin] = arguments.args.as_slice() else { return exec_err!("told_apart takes one origin") };
        let origin = origin.to_array(rows)?;
        let mut graph = self.origins.graph();
        let numbers = origin.as_primitive::<Int64Type>().iter().map(|origin| graph.node(origin.as_slice()));
        Ok(ColumnarValue::Array(Arc::new(Int64Array::from_iter_values(numbers))))
    }
}

/// `gathered(origin)`, or `gathered(origin, counts)`.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Gathered {
    origins: Origins,
    signature: Signature,
}

impl Gathered {
    fn new(origins: Origins) -> Self {
        let signatures = vec![
            TypeSignature::Exact(vec![DataType::Int64]),
            TypeSignature::Exact(vec![DataType::Int64, DataType::Boolean]),
        ];
        Self { origins, signature: Signature::one_of(signatures, Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Gathered {
    fn name(&self) -> &str {
        "gathered"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name: &str| Arc::new(Field::new(format_state_name(args.name, name), DataType::Int64, true));
        Ok(vec![field("counting"), field("others")])
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let (counting, others) = (Vec::new(), Vec::new());
        Ok(Box::new(Gathering { origins: self.origins.clone(), counting, others }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Insensitive
    }
}

/// The origins of one group's rows.
#[derive(Debug)]
struct Gathering {
    origins: Origins,
    counting: Vec<i64>,
    /// Of rows that are left out of every aggregate: they count where no other row says that there is such a group.
    others: Vec<i64>,
}

impl Accumulator for Gathering {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let [origins, counts @ ..] = values else { return exec_err!("gathered takes origins") };
        let counts = counts.first().map(|counts| counts.as_boolean());
        let is_true = |counts: &BooleanArray, row: usize| counts.is_valid(row) && counts.value(row);
        for (row, origin) in origins.as_primitive::<Int64Type>().iter().enumerate() {
            match counts.is_none_or(|counts| is_true(counts, row)) {
                true => self.counting.extend(origin),
                false => self.others.extend(origin),
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [counting, others] = states else { return exec_err!("gathered has two states") };
        self.counting.extend(counting.as_primitive::<Int64Type>().iter().flatten());
        self.others.extend(others.as_primitive::<Int64Type>().iter().flatten());
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut graph = self.origins.graph();
        Ok(vec![graph.together(&self.counting).into(), graph.together(&self.others).into()])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let which = if self.counting.is_empty() { &self.others } else { &self.counting };
        Ok(self.origins.graph().together(which).into())
    }

    fn size(&self) -> usize {
        size_of_val(self) + (self.counting.capacity() + self.others.capacity()) * size_of::<i64>()
    }
}

/// `is_among(offset)`: whether an event is one of those.
pub(super) fn is_among(offsets: Arc<RoaringTreemap>, offset: Expr) -> Expr {
    let signature = Signature::exact(vec![DataType::Int64], Volatility::Immutable);
    ScalarUDF::from(OfEvents { name: "is_among", of: Asked::Among(offsets), signature }).call(vec![offset])
}

/// `version_of(offset)`: the version that brought an event. Of each version its number and the offset after its last event, ascending.
pub(super) fn version_of(bounds: Arc<Vec<(u64, u64)>>, offset: Expr) -> Expr {
    let signature = Signature::exact(vec![DataType::Int64], Volatility::Immutable);
    ScalarUDF::from(OfEvents { name: "version_of", of: Asked::Version(bounds), signature }).call(vec![offset])
}

/// What is asked of an event's offset.
#[derive(Debug, PartialEq)]
enum Asked {
    Among(Arc<RoaringTreemap>),
    Version(Arc<Vec<(u64, u64)>>),
}

#[derive(Debug, PartialEq)]
struct OfEvents {
    name: &'static str,
    of: Asked,
    signature: Signature,
}

impl Eq for OfEvents {}

impl std::hash::Hash for OfEvents {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for OfEvents {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.of {
            Asked::Among(_) => DataType::Boolean,
            Asked::Version(_) => DataType::Int64,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [offsets] = arrays.as_slice() else { return exec_err!("{} takes one offset", self.name) };
        let offsets = offsets.as_primitive::<Int64Type>().iter();
        let offsets = offsets.map(|offset| offset.and_then(|offset| u64::try_from(offset).ok()));
        let answers: ArrayRef = match &self.of {
            Asked::Among(among) => {
                let is_among = |offset: Option<u64>| Some(offset.is_some_and(|offset| among.contains(offset)));
                Arc::new(offsets.map(is_among).collect::<BooleanArray>())
            }
            Asked::Version(bounds) => {
                let version = |offset: u64| {
                    let at = bounds.partition_point(|(_, end)| *end <= offset);
                    bounds.get(at).and_then(|(version, _)| i64::try_from(*version).ok())
                };
                Arc::new(offsets.map(|offset| offset.and_then(version)).collect::<Int64Array>())
            }
        };
        Ok(ColumnarValue::Array(answers))
    }
}
