//! What a function that takes another's place says of itself: the same as that one.

/// The methods, of scalar and of aggregate functions alike, that only hand on to the function in a field.
macro_rules! forwarded {
    ($inner:ident) => {
        fn name(&self) -> &str {
            self.$inner.name()
        }

        fn aliases(&self) -> &[String] {
            self.$inner.aliases()
        }

        fn return_type(
            &self,
            arguments: &[arrow::datatypes::DataType],
        ) -> datafusion::common::Result<arrow::datatypes::DataType> {
            self.$inner.return_type(arguments)
        }

        fn documentation(&self) -> Option<&datafusion::logical_expr::Documentation> {
            self.$inner.documentation()
        }
    };
}

pub(crate) use forwarded;
