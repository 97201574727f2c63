//! An aggregate that is exact, under the name of the one that is not.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::{AggregateOrderSensitivity, format_state_name};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature,
};

use super::groups::Groups;
use super::reading::Reading;
use super::running::{Distinct, Running};
use super::wide::{self, Kinds};
use crate::sql::forwarded::forwarded;

/// Doubles, and the sums that DataFusion's own lets wrap; what is neither goes to that.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Exact {
    pub(super) reading: Reading,
    pub(super) inexact: Arc<AggregateUDF>,
}

/// What an aggregate is asked of.
enum Arguments {
    Doubles,
    /// What is added up in twice its bits.
    Narrow(Kinds),
    Others,
}

impl Exact {
    fn arguments(&self, fields: &[FieldRef], result: &FieldRef) -> Arguments {
        if fields.iter().all(|field| *field.data_type() == DataType::Float64) {
            return Arguments::Doubles;
        }
        let of = fields.first().filter(|_| self.reading == Reading::Sum).map(|field| field.data_type().clone());
        let kinds = of.and_then(|of| Some(Kinds { wide: wide::wide(&of)?, of, result: result.data_type().clone() }));
        kinds.map_or(Arguments::Others, Arguments::Narrow)
    }
}

/// The state of a distinct aggregate: the values of each argument.
fn lists(name: &str, arguments: &[FieldRef]) -> Vec<FieldRef> {
    let list = |(at, argument): (usize, &FieldRef)| {
        let item = Arc::new(Field::new_list_field(argument.data_type().clone(), true));
        Arc::new(Field::new_list(format_state_name(name, &format!("values_{at}")), item, true))
    };
    arguments.iter().enumerate().map(list).collect()
}

impl AggregateUDFImpl for Exact {
    forwarded!(inexact);

    fn signature(&self) -> &Signature {
        self.inexact.signature()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.inexact.coerce_types(arguments)
    }

    fn is_nullable(&self) -> bool {
        self.inexact.is_nullable()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inexact.default_value(data_type)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let named = |name: &str| format_state_name(args.name, name);
        match self.arguments(args.input_fields, &args.return_field) {
            Arguments::Others => return self.inexact.state_fields(args),
            _ if args.is_distinct => return Ok(lists(args.name, args.input_fields)),
            Arguments::Narrow(kinds) => return Ok(vec![Arc::new(Field::new(named("sum"), kinds.wide, true))]),
            Arguments::Doubles => {}
        }
        let count = Arc::new(Field::new(named("count"), DataType::UInt64, true));
        let addends = self.reading.addends().into_iter();
        let sums = addends.map(|addend| Arc::new(Field::new(named(&addend.name()), DataType::Binary, true)));
        Ok([count].into_iter().chain(sums).collect())
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match self.arguments(args.expr_fields, &args.return_field) {
            Arguments::Doubles if args.is_distinct => Ok(Box::new(Distinct::new(self.reading, args.expr_fields.len()))),
            Arguments::Doubles => Ok(Box::new(Running::new(self.reading))),
            Arguments::Narrow(kinds) => Ok(wide::accumulator(kinds, args.is_distinct)),
            Arguments::Others => self.inexact.accumulator(args),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match self.arguments(args.expr_fields, &args.return_field) {
            Arguments::Others => self.inexact.create_sliding_accumulator(args),
            Arguments::Doubles | Arguments::Narrow(_) => self.accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        match self.arguments(args.expr_fields, &args.return_field) {
            Arguments::Others => self.inexact.groups_accumulator_supported(args),
            Arguments::Doubles | Arguments::Narrow(_) => !args.is_distinct,
        }
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        match self.arguments(args.expr_fields, &args.return_field) {
            Arguments::Doubles => Ok(Box::new(Groups::new(self.reading))),
            Arguments::Narrow(kinds) => Ok(wide::groups(kinds)),
            Arguments::Others => self.inexact.create_groups_accumulator(args),
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
