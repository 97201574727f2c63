//! Several sources of entries as one.

use std::io;

/// Something that is kept for a key, or, without a value, that nothing is kept any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) key: u128,
    pub(super) rest: &'a [u8],
    pub(super) value: Option<&'a [u8]>,
}

impl Entry<'_> {
    fn place(&self) -> (u128, &[u8]) {
        (self.key, self.rest)
    }
}

/// Entries ascending by key, each key once.
pub(super) trait Ascending {
    /// The next one, or `None` behind the last.
    fn head(&self) -> Option<Entry<'_>>;

    /// Goes on to the one behind it.
    ///
    /// # Errors
    /// What reading says.
    fn advance(&mut self) -> io::Result<()>;
}

impl<S: Ascending + ?Sized> Ascending for Box<S> {
    fn head(&self) -> Option<Entry<'_>> {
        (**self).head()
    }

    fn advance(&mut self) -> io::Result<()> {
        (**self).advance()
    }
}

/// Gives the entries of all sources to `take`, ascending, until it says `false`; of those for one key only that of the first
/// source that has it, which is why the newest comes first.
///
/// # Errors
/// What reading says, and what `take` says.
pub(super) fn merge<S: Ascending>(
    sources: &mut [S],
    mut take: impl FnMut(Entry<'_>) -> io::Result<bool>,
) -> io::Result<()> {
    let mut least = Vec::new();
    loop {
        least.clear();
        let mut found: Option<Entry<'_>> = None;
        for (number, source) in sources.iter().enumerate() {
            let Some(head) = source.head() else { continue };
            match found.map(|found| head.place().cmp(&found.place())) {
                Some(std::cmp::Ordering::Greater) => {}
                Some(std::cmp::Ordering::Equal) => least.push(number),
                _ => {
                    found = Some(head);
                    least.clear();
                    least.push(number);
                }
            }
        }
        match found {
            Some(entry) if take(entry)? => {}
            _ => return Ok(()),
        }
        for number in &least {
            sources[*number].advance()?;
        }
    }
}
