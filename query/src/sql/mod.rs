//! What SQL means here, where DataFusion means another thing: a statement is put right on its way from its text to its rows, and
//! what is not answered is refused before it is planned.
//!
//! In the order of that way: [`unsupported`] and [`expansion`] look at the statement, [`grammar`] changes it; [`coercions`] decides
//! types, with [`arrows`] and [`decimals`]; [`set_comparisons`], [`one_zero`], [`integers`] and [`total_order`] are rules of the analyzer; [`conditions`] and
//! [`projections`] see to it that nothing is computed of rows that the statement leaves out; [`exact`], [`rounding`] and [`lengths`]
//! are functions under the names of DataFusion's.

mod arrows;
pub(crate) mod coercions;
pub(crate) mod conditions;
pub(crate) mod decimals;
pub(crate) mod exact;
pub(crate) mod expansion;
pub(crate) mod forwarded;
pub(crate) mod grammar;
pub(crate) mod integers;
pub(crate) mod lengths;
pub(crate) mod one_zero;
pub(crate) mod projections;
pub(crate) mod rounding;
pub(crate) mod set_comparisons;
#[cfg(test)]
pub(crate) mod shown;
pub(crate) mod total_order;
pub(crate) mod unsupported;
