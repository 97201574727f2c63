//! What the aggregates read off exact sums: which sums each of them needs, and its formula.
//!
//! Deviations from a mean are never summed up. They are read off whole numbers, `n·Σxy − Σx·Σy` without a rounding, so that
//! no mean, however large, costs a digit. What comes out has four roundings at most.

use super::dyadic::Dyadic;
use super::number::{ExactSum, Half};

/// What of a row is added to a sum. Numbers are those of an aggregate's arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Addend {
    Value(usize),
    /// One half of the product of two arguments.
    Product(Half, usize, usize),
}

impl Addend {
    /// The name of its sum in a state.
    pub(super) fn name(self) -> String {
        match self {
            Self::Value(argument) => format!("sum_{argument}"),
            Self::Product(Half::High, one, other) => format!("high_{one}_{other}"),
            Self::Product(Half::Low, one, other) => format!("low_{one}_{other}"),
        }
    }
}

/// Whether values are all there are, or some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Of {
    Population,
    Sample,
}

impl Of {
    /// What `n·Σxy − Σx·Σy` is divided by, if there are values enough.
    fn divisor(self, count: u64) -> Option<Dyadic> {
        let free = count.checked_sub(u64::from(self == Self::Sample)).filter(|free| *free > 0)?;
        Some(Dyadic::from(count).times(&free.into()))
    }
}

/// What is read off the sums of some rows. Of two arguments, `y` comes before `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reading {
    /// How many rows have all arguments.
    Count,
    Sum,
    /// Of one of the arguments. Two roundings: that of the sum, and that of its division by the count.
    Mean(usize),
    Variance(Of),
    Deviation(Of),
    Covariance(Of),
    Correlation,
    /// The square of the correlation.
    Determination,
    /// `Σ(x − mean of x)(y − mean of y)`, of two arguments or of one with itself.
    Scatter(usize, usize),
    Slope,
    Intercept,
}

/// The arguments of what has two.
const Y: usize = 0;
const X: usize = 1;

impl Reading {
    /// The sums it is read off.
    pub(super) fn addends(self) -> Vec<Addend> {
        let products = match self {
            Self::Count => return Vec::new(),
            Self::Sum => return vec![Addend::Value(0)],
            Self::Mean(argument) => return vec![Addend::Value(argument)],
            Self::Variance(_) | Self::Deviation(_) => vec![(0, 0)],
            Self::Covariance(_) => vec![(Y, X)],
            Self::Correlation | Self::Determination => vec![(Y, Y), (X, X), (Y, X)],
            Self::Scatter(one, other) => vec![(one, other)],
            Self::Slope | Self::Intercept => vec![(X, X), (Y, X)],
        };
        let is_used = |argument: &usize| products.iter().any(|(one, other)| one == argument || other == argument);
        let values = [Y, X].into_iter().filter(is_used).map(Addend::Value);
        let halves =
            |(one, other): &(usize, usize)| [Half::High, Half::Low].map(|half| Addend::Product(half, *one, *other));
        values.chain(products.iter().flat_map(halves)).collect()
    }

    /// What it comes to; without values enough, or by a division by zero, to nothing. A NaN or an infinity among the values
    /// gives NaN, except for a sum or a mean, where that is what they add up to. Where values are finite and a sum of their
    /// products is not, a variance or a covariance is what that sum is, and all else NaN.
    pub(super) fn of<'a, F: Fn(usize) -> &'a ExactSum>(self, totals: &Totals<'_, F>) -> Option<f64> {
        let count = totals.count;
        match self {
            Self::Count => Some(count as f64),
            Self::Sum => (count > 0).then(|| totals.value(0)),
            Self::Mean(argument) => (count > 0).then(|| totals.value(argument) / count as f64),
            Self::Variance(of) => Some(totals.scatter_over(0, 0, &of.divisor(count)?)),
            Self::Deviation(of) => Some(totals.scatter_over(0, 0, &of.divisor(count)?).sqrt()),
            Self::Covariance(of) => Some(totals.scatter_over(Y, X, &of.divisor(count)?)),
            Self::Scatter(one, other) => (count > 0).then(|| totals.scatter_over(one, other, &count.into())),
            Self::Correlation | Self::Determination | Self::Slope | Self::Intercept if count < 2 => None,
            Self::Correlation => totals.correlation().unwrap_or(Some(f64::NAN)),
            Self::Determination => totals.determination().unwrap_or(Some(f64::NAN)),
            Self::Slope => totals.slope().unwrap_or(Some(f64::NAN)),
            Self::Intercept => totals.intercept().unwrap_or(Some(f64::NAN)),
        }
    }
}

/// The sums of some rows.
pub(super) struct Totals<'a, F> {
    pub(super) addends: &'a [Addend],
    pub(super) count: u64,
    /// The sum of an addend, by the addend's place.
    pub(super) sum: F,
}

/// An exact number, or what there is in its place if that is none.
type Exactly = Result<Dyadic, f64>;

/// Nothing where a division is by zero.
type Quotient = Result<Option<f64>, f64>;

impl<'a, F: Fn(usize) -> &'a ExactSum> Totals<'_, F> {
    fn sum_of(&self, addend: Addend) -> Result<&'a ExactSum, f64> {
        let at = self.addends.iter().position(|each| *each == addend);
        at.map(&self.sum).ok_or(f64::NAN)
    }

    fn value(&self, argument: usize) -> f64 {
        self.sum_of(Addend::Value(argument)).map_or_else(|value| value, ExactSum::value)
    }

    fn exact(&self, argument: usize) -> Exactly {
        self.sum_of(Addend::Value(argument))?.exact().map_err(|_| f64::NAN)
    }

    fn product(&self, one: usize, other: usize) -> Exactly {
        let half = |half| self.sum_of(Addend::Product(half, one, other))?.exact();
        Ok(half(Half::High)?.plus(&half(Half::Low)?))
    }

    /// `n·Σxy − Σx·Σy`. Of squares too small for a double it may fall below zero: then it is zero.
    fn scatter(&self, one: usize, other: usize) -> Exactly {
        let means = self.exact(one)?.times(&self.exact(other)?);
        let scatter = self.product(one, other)?.times(&self.count.into()).minus(&means);
        Ok(if one == other && scatter.is_negative() { Dyadic::from(0) } else { scatter })
    }

    fn scatter_over(&self, one: usize, other: usize, divisor: &Dyadic) -> f64 {
        self.scatter(one, other).map_or_else(|value| value, |scatter| scatter.over(divisor))
    }

    fn correlation(&self) -> Quotient {
        let both = self.scatter(Y, X)?;
        let sign = if both.is_negative() { -1.0 } else { 1.0 };
        Ok(self.share(&both)?.map(|squared| sign * squared.sqrt()))
    }

    fn determination(&self) -> Quotient {
        self.share(&self.scatter(Y, X)?)
    }

    /// The square of what two arguments have in common by the product of what each has.
    fn share(&self, both: &Dyadic) -> Quotient {
        let each = self.scatter(Y, Y)?.times(&self.scatter(X, X)?);
        Ok((!each.is_zero()).then(|| both.times(both).over(&each).min(1.0)))
    }

    fn slope(&self) -> Quotient {
        let spread = self.scatter(X, X)?;
        let both = self.scatter(Y, X)?;
        Ok((!spread.is_zero()).then(|| both.over(&spread)))
    }

    /// `(Σy·Σx² − Σx·Σxy) / (n·Σx² − (Σx)²)`.
    fn intercept(&self) -> Quotient {
        let spread = self.scatter(X, X)?;
        let raised = self.exact(Y)?.times(&self.product(X, X)?);
        let at_zero = raised.minus(&self.exact(X)?.times(&self.product(Y, X)?));
        Ok((!spread.is_zero()).then(|| at_zero.over(&spread)))
    }
}
