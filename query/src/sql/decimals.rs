//! Decimals beside doubles, texts and integers: what is written is compared as it is written, and no cast takes digits in secret.

use std::sync::Arc;

use arrow::compute::CastOptions;
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef};
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility, cast, lit,
};

/// A text that stands beside a decimal is the number that it says, with all its places. Gives whether anything changed.
pub(super) fn read_numbers(sides: &mut [&mut Expr], schema: &DFSchema) -> bool {
    if !sides.iter().any(|side| matches!(side.get_type(schema), Ok(DataType::Decimal128(..)))) {
        return false;
    }
    let mut changed = false;
    for side in sides {
        if let Expr::Literal(ScalarValue::Utf8(Some(text)), _) = &**side
            && let Some(number) = decimal_of(text)
        {
            **side = lit(number);
            changed = true;
        }
    }
    changed
}

/// Makes decimals and doubles that meet alike: a double that is written is the decimal that is written; and other ones meet as
/// doubles, where DataFusion makes decimals of 15 places of all. Gives whether anything changed.
pub(super) fn alike(sides: &mut [&mut Expr], schema: &DFSchema) -> bool {
    let kinds: Vec<DataType> = sides.iter().filter_map(|side| side.get_type(schema).ok()).collect();
    let (mut floats, mut room, mut is_written) = (0, None, true);
    for (side, kind) in sides.iter().zip(&kinds) {
        let decimal = match kind {
            DataType::Float32 | DataType::Float64 => {
                floats += 1;
                let decimal = written(side).map(|decimal| decimal.data_type());
                is_written &= decimal.is_some();
                decimal
            }
            kind => Some(kind.clone()),
        };
        if let Some(DataType::Decimal128(digits, scale)) = decimal {
            let (whole, places) = (i16::from(digits) - i16::from(scale), i16::from(scale));
            let (most_whole, most_places) = room.unwrap_or((whole, places));
            room = Some((whole.max(most_whole), places.max(most_places)));
        }
    }
    let is_decimal = |kind: &DataType| matches!(kind, DataType::Decimal128(..));
    if kinds.len() < sides.len() || floats == 0 || !kinds.iter().any(is_decimal) {
        return false;
    }
    let fits = room.is_some_and(|(whole, places)| whole + places <= i16::from(DECIMAL128_MAX_PRECISION));
    for (side, kind) in sides.iter_mut().zip(&kinds) {
        match written(side) {
            Some(decimal) if is_written && fits => **side = lit(decimal),
            _ if is_decimal(kind) && !(is_written && fits) => **side = cast(side.clone(), DataType::Float64),
            _ => {}
        }
    }
    true
}

/// A double that stands in a statement, as the decimal that was written.
fn written(side: &Expr) -> Option<ScalarValue> {
    let Expr::Literal(ScalarValue::Float64(Some(value)), _) = side else { return None };
    if !value.is_finite() {
        return None;
    }
    // The shortest text that is this double is what was written, up to the digits that a double keeps.
    decimal_of(&value.to_string())
}

/// A number without an exponent, with the places that it is written with.
fn decimal_of(text: &str) -> Option<ScalarValue> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number = format!("{whole}{fraction}").parse::<i128>().ok()?;
    let scale = i8::try_from(fraction.len()).ok()?;
    let digits = u8::try_from(number.unsigned_abs().to_string().len().max(fraction.len())).ok()?;
    (digits <= DECIMAL128_MAX_PRECISION).then_some(ScalarValue::Decimal128(Some(number), digits, scale))
}

/// Whether a cast makes one value of many: DataFusion compares what is in it with a value in its place.
pub(super) fn loses_digits(expr: &Expr, to: &DataType, schema: &DFSchema) -> bool {
    match (expr.get_type(schema), to) {
        (Ok(DataType::Decimal128(..)), to) if to.is_integer() => true,
        (Ok(DataType::Decimal128(_, scale)), DataType::Decimal128(_, fewer)) => *fewer < scale,
        _ => false,
    }
}

/// The name of [`Shortened`].
pub(crate) const SHORTENED: &str = "shortened";

/// A decimal with fewer places, as CAST and TRY_CAST give it, that no optimizer takes for another cast.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Shortened {
    to: DataType,
    or_null: bool,
    signature: Signature,
}

impl Shortened {
    pub(super) fn function(to: DataType, or_null: bool) -> ScalarUDF {
        ScalarUDF::from(Self { to, or_null, signature: Signature::any(1, Volatility::Immutable) })
    }
}

impl ScalarUDFImpl for Shortened {
    fn name(&self) -> &str {
        SHORTENED
    }

    /// As that of a cast.
    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(args.iter().map(|decimal| decimal.schema_name().to_string()).collect())
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.to.clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = self.or_null || args.arg_fields.iter().any(|field| field.is_nullable());
        Ok(Arc::new(Field::new(SHORTENED, self.to.clone(), nullable)))
    }

    fn is_strict(&self) -> bool {
        true
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [decimal] = arguments.args.as_slice() else { return exec_err!("{SHORTENED} takes one decimal") };
        let options = CastOptions { safe: self.or_null, ..CastOptions::default() };
        decimal.cast_to(&self.to, Some(&options))
    }
}
