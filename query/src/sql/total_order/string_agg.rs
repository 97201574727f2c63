//! `string_agg` that asks for no sorted input. DataFusion's own sorts the values of a group by itself and asks for sorted
//! input besides, so that two of them with two orders cannot be planned; with orders made total, few queries have one.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::functions_aggregate::string_agg::string_agg_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, Signature};

/// The aggregate that takes the place of DataFusion's.
pub(crate) fn string_agg() -> AggregateUDF {
    StringAgg { sorted: string_agg_udaf() }.into()
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct StringAgg {
    sorted: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for StringAgg {
    fn name(&self) -> &str {
        self.sorted.name()
    }

    fn signature(&self) -> &Signature {
        self.sorted.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.sorted.return_type(arguments)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.sorted.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.sorted.accumulator(args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.sorted.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.sorted.create_groups_accumulator(args)
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        AggregateOrderSensitivity::Beneficial
    }

    fn with_beneficial_ordering(self: Arc<Self>, _: bool) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(Some(self))
    }
}
