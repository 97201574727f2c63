//! Looking for the last number that holds, where all up to one do and none after it.

/// A search under way. Whoever looks asks about one number after the other, and says what it found:
///
/// ```
/// # use lakebed_log::search::Search;
/// let mut search = Search::from(3);
/// while let Some(number) = search.next() {
///     search.learn(number <= 41);
/// }
/// assert_eq!(search.last(), 41);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Search {
    last: u64,
    /// How far on it looks while every number has held.
    step: u64,
    failing: Option<u64>,
}

impl Search {
    /// From a number that holds on: by steps that double, then by halving, so that about 2·log2(distance) are asked about.
    pub fn from(number: u64) -> Self {
        Self { last: number, step: 1, failing: None }
    }

    /// From a number that holds on, below one that does not: by halving.
    pub fn between(number: u64, failing: u64) -> Self {
        Self { failing: Some(failing), ..Self::from(number) }
    }

    /// The number to ask about next; `None` once the last one is found.
    pub fn next(&self) -> Option<u64> {
        match self.failing {
            None => Some(self.last + self.step),
            Some(failing) => (failing - self.last > 1).then(|| self.last + (failing - self.last) / 2),
        }
    }

    /// Takes in whether the number that is asked about holds.
    pub fn learn(&mut self, holds: bool) {
        let Some(asked) = self.next() else { return };
        match holds {
            true => (self.last, self.step) = (asked, self.step * 2),
            false => self.failing = Some(asked),
        }
    }

    /// The last number that is known to hold.
    pub fn last(&self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(mut search: Search, last: u64) -> (u64, u32) {
        let mut asked = 0;
        while let Some(number) = search.next() {
            search.learn(number <= last);
            asked += 1;
        }
        (search.last(), asked)
    }

    #[test]
    fn every_last_number_is_found_from_every_one_before_it_with_few_questions() {
        for last in 0..70 {
            for from in 0..=last {
                let (number, asked) = found(Search::from(from), last);
                let most = 2 * (last - from + 1).ilog2() + 2;
                assert!(number == last && asked <= most, "{number} after {asked} questions for {last} from {from}");
                let (number, asked) = found(Search::between(from, 71), last);
                assert!(number == last && asked <= 7, "{number} after {asked} questions for {last} from {from}");
            }
        }
    }
}
