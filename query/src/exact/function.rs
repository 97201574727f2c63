//! An aggregate that is exact over doubles, under the name of the one that is not.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF, SetMonotonicity,
    Signature,
};

use super::groups::Groups;
use super::reading::Reading;
use super::running::{Distinct, Running};

/// What is no double goes to DataFusion's own.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Exact {
    pub(super) reading: Reading,
    pub(super) inexact: Arc<AggregateUDF>,
}

fn are_doubles(arguments: &[FieldRef]) -> bool {
    arguments.iter().all(|argument| *argument.data_type() == DataType::Float64)
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

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inexact.coerce_types(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.inexact.return_type(arguments)
    }

    fn is_nullable(&self) -> bool {
        self.inexact.is_nullable()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inexact.default_value(data_type)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        if !are_doubles(args.input_fields) {
            return self.inexact.state_fields(args);
        }
        let named = |name: &str| format_state_name(args.name, name);
        if args.is_distinct {
            let item = Arc::new(Field::new_list_field(DataType::Float64, true));
            let list = |at| Arc::new(Field::new_list(named(&format!("values_{at}")), Arc::clone(&item), true));
            return Ok((0..args.input_fields.len()).map(list).collect());
        }
        let count = Arc::new(Field::new(named("count"), DataType::UInt64, true));
        let addends = self.reading.addends().into_iter();
        let sums = addends.map(|addend| Arc::new(Field::new(named(&addend.name()), DataType::Binary, true)));
        Ok([count].into_iter().chain(sums).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match (are_doubles(args.expr_fields), args.is_distinct) {
            (true, false) => Ok(Box::new(Running::new(self.reading))),
            (true, true) => Ok(Box::new(Distinct::new(self.reading, args.expr_fields.len()))),
            _ => self.inexact.accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match are_doubles(args.expr_fields) {
            true => self.accumulator(args),
            false => self.inexact.create_sliding_accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        match are_doubles(args.expr_fields) {
            true => !args.is_distinct,
            false => self.inexact.groups_accumulator_supported(args),
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match are_doubles(args.expr_fields) {
            true => Ok(Box::new(Groups::new(self.reading))),
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

    fn documentation(&self) -> Option<&Documentation> {
        self.inexact.documentation()
    }
}
