//! Walks over the JSON text of one event and checks it on the way (RFC 8259), without taking anything apart that nobody asks for.
//!
//! Every method gives `None` for what is no JSON, and where it is in doubt: then the plain reader has the last word.

use crate::json::Kind;
use crate::raw_batch::is_blank;

/// Objects and arrays further down than this are left to the plain reader; what is in memory on the way down stays small.
pub(super) const DEEP: usize = 64;

/// The brackets of an object.
pub(super) const OBJECT: [u8; 2] = *b"{}";

/// Those of an array.
const ARRAY: [u8; 2] = *b"[]";

/// A place in a text.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Cursor<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text: text.as_bytes(), at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The bytes from a place on up to here, without the last ones.
    pub(super) fn since(&self, start: usize, without: usize) -> &'t [u8] {
        &self.text[start..self.at - without]
    }

    /// The byte here; a zero, which is no part of JSON, behind the end.
    #[inline]
    pub(super) fn peek(&self) -> u8 {
        self.text.get(self.at).copied().unwrap_or_default()
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Steps over one byte, if it is this one.
    #[inline]
    pub(super) fn take(&mut self, byte: u8) -> bool {
        let here = self.peek() == byte;
        self.at += usize::from(here);
        here
    }

    /// Steps over these bytes, if they are here.
    #[inline]
    pub(super) fn take_all(&mut self, bytes: &[u8]) -> bool {
        let here = self.text.get(self.at..).is_some_and(|text| begins(text, bytes));
        if here {
            self.at += bytes.len();
        }
        here
    }

    #[inline]
    pub(super) fn skip_blanks(&mut self) {
        while is_blank(self.peek()) {
            self.at += 1;
        }
    }

    /// Steps over a string; says whether there is an escape in it.
    #[inline]
    pub(super) fn string(&mut self) -> Option<bool> {
        if !self.take(b'"') {
            return None;
        }
        let mut escaped = false;
        loop {
            self.at = end_of_plain(self.text, self.at);
            match self.peek() {
                b'"' => {
                    self.at += 1;
                    return Some(escaped);
                }
                b'\\' => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return None,
            }
        }
    }

    fn escape(&mut self) -> Option<()> {
        match self.text.get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' => {
                let digits = self.text.get(self.at + 2..self.at + 6)?;
                digits.iter().all(u8::is_ascii_hexdigit).then_some(())?;
                self.at += 6;
            }
            _ => return None,
        }
        Some(())
    }

    /// Steps over a number and gives the double that is nearest to it; an infinite one, if it is out of range.
    #[inline]
    pub(super) fn number(&mut self) -> Option<f64> {
        let start = self.at;
        let negative = self.take(b'-');
        let (mut mantissa, whole) = self.digits(0);
        if whole == 0 || (whole > 1 && self.text[self.at - whole] == b'0') {
            return None;
        }
        let mut fraction = 0;
        if self.take(b'.') {
            (mantissa, fraction) = self.digits(mantissa);
            if fraction == 0 {
                return None;
            }
        }
        let plain = !matches!(self.peek(), b'e' | b'E');
        if !plain {
            self.at += 1;
            let _ = self.take(b'-') || self.take(b'+');
            if self.digits(0).1 == 0 {
                return None;
            }
        }
        // Both are exact as doubles, and so their quotient is the nearest double (Clinger, 1990).
        if plain && mantissa < 1 << 53 && whole + fraction <= MOST_DIGITS && fraction < POWERS.len() {
            let value = mantissa as f64 / POWERS[fraction];
            return Some(if negative { -value } else { value });
        }
        std::str::from_utf8(&self.text[start..self.at]).ok()?.parse().ok()
    }

    /// Steps over digits; gives the number that they continue, which has wrapped where they are too many, and how many they are.
    #[inline]
    fn digits(&mut self, mut number: u64) -> (u64, usize) {
        let start = self.at;
        while let digit @ b'0'..=b'9' = self.peek() {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            self.at += 1;
        }
        (number, self.at - start)
    }

    /// Steps over a value of any kind, at this depth.
    pub(super) fn value(&mut self, depth: usize) -> Option<Kind> {
        match self.peek() {
            b'"' => self.string().map(|_| Kind::Text),
            b'{' => self.between(OBJECT, depth).map(|()| Kind::Object),
            b'[' => self.between(ARRAY, depth).map(|()| Kind::Array),
            b't' => self.take_all(b"true").then_some(Kind::Boolean),
            b'f' => self.take_all(b"false").then_some(Kind::Boolean),
            b'n' => self.take_all(b"null").then_some(Kind::Null),
            _ => self.number().map(|_| Kind::Number),
        }
    }

    /// Steps over what is between brackets, at this depth: values, and before each of an object's a key.
    fn between(&mut self, brackets: [u8; 2], depth: usize) -> Option<()> {
        if depth >= DEEP {
            return None;
        }
        if self.opens_empty(brackets)? {
            return Some(());
        }
        loop {
            if brackets == OBJECT {
                self.string()?;
                self.colon()?;
            }
            self.value(depth + 1)?;
            if self.ends(brackets[1])? {
                return Some(());
            }
        }
    }

    /// Steps over an opening bracket and the blanks behind it, and over the closing one, if there is nothing between; says whether
    /// it was so.
    #[inline]
    pub(super) fn opens_empty(&mut self, [open, close]: [u8; 2]) -> Option<bool> {
        self.take(open).then_some(())?;
        self.skip_blanks();
        Some(self.take(close))
    }

    /// Steps over a colon and the blanks around it.
    #[inline]
    pub(super) fn colon(&mut self) -> Option<()> {
        self.skip_blanks();
        self.take(b':').then_some(())?;
        self.skip_blanks();
        Some(())
    }

    /// Behind an element: steps over the comma to the next one, or over this closing bracket; says whether it was that.
    #[inline]
    pub(super) fn ends(&mut self, bracket: u8) -> Option<bool> {
        self.skip_blanks();
        if self.take(b',') {
            self.skip_blanks();
            return Some(false);
        }
        self.take(bracket).then_some(true)
    }
}

/// Whether a text begins with a short one: two loads of each where a call would take longer.
#[inline]
fn begins(text: &[u8], with: &[u8]) -> bool {
    let Some(text) = text.get(..with.len()) else { return false };
    match with.len() {
        0..4 => text == with,
        4..8 => text.first_chunk::<4>() == with.first_chunk() && text.last_chunk::<4>() == with.last_chunk(),
        8..=16 => text.first_chunk::<8>() == with.first_chunk() && text.last_chunk::<8>() == with.last_chunk(),
        _ => text.first_chunk::<16>() == with.first_chunk() && text[16..] == with[16..],
    }
}

/// So many digits never wrap a `u64`.
const MOST_DIGITS: usize = 19;

/// The powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Where the first quote, backslash or control character from `at` on is; the end, if there is none. Eight bytes at a time:
/// the tricks are those of Mycroft's null byte search.
#[inline]
fn end_of_plain(text: &[u8], mut at: usize) -> usize {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    while let Some(&chunk) = text.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(chunk);
        let (quotes, backslashes) = (word ^ (ONES * 0x22), word ^ (ONES * 0x5C));
        // Each sets the high bit of the first byte that it looks for, and perhaps of later ones.
        let found = quotes.wrapping_sub(ONES) & !quotes
            | backslashes.wrapping_sub(ONES) & !backslashes
            | word.wrapping_sub(ONES * 0x20) & !word;
        if found & HIGHS != 0 {
            return at + (found & HIGHS).trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
    text[at..].iter().position(special).map_or(text.len(), |found| at + found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    fn kind(text: &str) -> Option<Kind> {
        let mut cursor = Cursor::new(text);
        let kind = cursor.value(0)?;
        cursor.is_at_end().then_some(kind)
    }

    #[test]
    fn numbers_are_the_nearest_doubles() {
        for text in
            ["0", "-0", "1", "-1.5", "51.50698554235746", "12.976278897497332", "1e22", "1E-3", "1e400", "0.1e+1"]
        {
            let value = Cursor::new(text).number().unwrap();
            assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        }
        for text in ["01", "-", "1.", ".5", "1e", "1e+", "+1", "-01", "00", "Infinity"] {
            assert!(kind(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_deep_is_left_to_the_plain_reader() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(kind(&nested(DEEP)), Some(Kind::Array));
        assert_eq!(kind(&nested(DEEP + 1)), None);
    }

    proptest! {
        #[test]
        fn it_takes_what_serde_json_takes(text in "[\\[\\]{}:, \"\\\\0-9.eE+\\-a-u\\x00-\\x1fä]{0,12}|-?[0-9]{1,25}(\\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?|\"[^\"]{0,20}\"") {
            let theirs = serde_json::from_str::<&RawValue>(&text).ok();
            // What has blanks around it, nobody hands on.
            prop_assume!(text.trim_matches([' ', '\t', '\n', '\r']) == text);
            prop_assert_eq!(kind(&text), theirs.map(|value| Kind::of(value.into())));
        }

        #[test]
        fn every_number_is_the_nearest_double(text in "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,24})?([eE][+-]?[0-9]{1,3})?") {
            let mut cursor = Cursor::new(&text);
            let value = cursor.number().unwrap();
            prop_assert!(cursor.is_at_end());
            prop_assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits());
        }

        #[test]
        fn plain_text_ends_at_the_first_special_byte(text in proptest::collection::vec(prop_oneof![8 => 0x20u8.., 1 => any::<u8>()], 0..40)) {
            let special = text.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)).unwrap_or(text.len());
            prop_assert_eq!(end_of_plain(&text, 0), special);
        }
    }
}
