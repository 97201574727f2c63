//! Aggregates that are the same bits for every order of rows, number of threads and split into epochs. Under the names of
//! DataFusion's own, for every model and query; what those do as well goes to them.
//!
//! - Sums of doubles, and what is read off them (means, variances, covariances, regressions), have no rounding on the way.
//! - Sums of integers and of long decimals do not wrap.
//! - `min` and `max` go by one order of all floats, in which NaN is the greatest.

mod dyadic;
mod extremes;
mod function;
mod groups;
mod number;
mod reading;
mod rows;
mod running;
mod wide;

use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::correlation::corr_udaf;
use datafusion::functions_aggregate::covariance::{covar_pop_udaf, covar_samp_udaf};
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::regr::{
    regr_avgx_udaf, regr_avgy_udaf, regr_count_udaf, regr_intercept_udaf, regr_r2_udaf, regr_slope_udaf, regr_sxx_udaf,
    regr_sxy_udaf, regr_syy_udaf,
};
use datafusion::functions_aggregate::stddev::{stddev_pop_udaf, stddev_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_aggregate::variance::{var_pop_udaf, var_samp_udaf};
use datafusion::logical_expr::AggregateUDF;

use self::extremes::Extreme;
use self::function::Exact;
pub(crate) use self::number::ExactSum;
use self::reading::{Of, Reading};
pub(crate) use self::wide::narrowed;

/// The aggregates that take the place of DataFusion's.
pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    let exact = [
        (Reading::Sum, sum_udaf()),
        (Reading::Mean(0), avg_udaf()),
        (Reading::Variance(Of::Sample), var_samp_udaf()),
        (Reading::Variance(Of::Population), var_pop_udaf()),
        (Reading::Deviation(Of::Sample), stddev_udaf()),
        (Reading::Deviation(Of::Population), stddev_pop_udaf()),
        (Reading::Covariance(Of::Sample), covar_samp_udaf()),
        (Reading::Covariance(Of::Population), covar_pop_udaf()),
        (Reading::Correlation, corr_udaf()),
        (Reading::Slope, regr_slope_udaf()),
        (Reading::Intercept, regr_intercept_udaf()),
        (Reading::Count, regr_count_udaf()),
        (Reading::Determination, regr_r2_udaf()),
        (Reading::Mean(0), regr_avgy_udaf()),
        (Reading::Mean(1), regr_avgx_udaf()),
        (Reading::Scatter(0, 0), regr_syy_udaf()),
        (Reading::Scatter(1, 1), regr_sxx_udaf()),
        (Reading::Scatter(0, 1), regr_sxy_udaf()),
    ];
    let exact = exact.map(|(reading, inexact)| AggregateUDF::from(Exact { reading, inexact }));
    let extremes = [min_udaf(), max_udaf()].map(|plain| AggregateUDF::from(Extreme::new(plain)));
    exact.into_iter().chain(extremes).collect()
}

/// Whether an aggregate, by the name that its function gives, is one of these: its states merge, in any order, to what
/// all the rows come to, whatever the type of its arguments.
pub(crate) fn merges(name: &str) -> bool {
    aggregates().iter().any(|aggregate| aggregate.name() == name)
}

#[cfg(test)]
mod tests;
