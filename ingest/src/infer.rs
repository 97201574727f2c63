//! Which types the columns of some events have, as `[columns]` would pin them: the narrowest that takes every value of a sample.

use std::collections::HashMap;
use std::io::BufRead;
use std::path::Path;

use lakebed_log::{ColumnType, column_name};

use crate::error::Error;
use crate::fields;
use crate::frame::RawBatches;
use crate::json::{self, Entries, Json, Kind};
use crate::number::{Below, Number};
use crate::settings::Settings;
use crate::tables;
use crate::time;

/// A column of a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inferred {
    /// Its name.
    pub column: String,
    /// The narrowest type that takes all of its values.
    pub kind: ColumnType,
    /// How many events have a value.
    pub values: u64,
    /// The first value, as JSON.
    pub example: String,
}

/// What a sample came to.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Its columns but for the log's own, in the order in which they came.
    pub columns: Vec<Inferred>,
    /// How many events there were.
    pub events: u64,
    /// How many lines are no events.
    pub refused: u64,
}

/// Reads up to `most` events of a file (of stdin for `-`).
///
/// # Errors
/// As [`tables::open_any`], but for [`Error::NoId`]; and [`Error::Read`].
pub fn infer(path: &Path, settings: &Settings, most: u64) -> Result<Sample, Error> {
    let (reader, untyped): (Box<dyn BufRead + Send>, _) = match path == Path::new("-") {
        true => (crate::decompress::stdin(), false),
        false => (tables::open_sample(path, settings)?, tables::has_texts_alone(path)),
    };
    let mut columns = Columns { untyped, settings, places: HashMap::new(), seen: Vec::new() };
    let mut sample = Sample::default();
    'all: for raw in RawBatches::new(reader, settings) {
        for (text, flaw) in raw?.iter() {
            if sample.events + sample.refused >= most {
                break 'all;
            }
            match std::str::from_utf8(text).ok().filter(|_| flaw.is_none()).map(json::object) {
                Some(Ok(entries)) => {
                    sample.events += 1;
                    columns.add(&mut Vec::new(), entries);
                }
                _ => sample.refused += 1,
            }
        }
    }
    sample.columns = columns.seen.into_iter().map(Seen::into_inferred).collect();
    Ok(sample)
}

struct Columns<'s> {
    /// Texts may be numbers, times and booleans.
    untyped: bool,
    settings: &'s Settings,
    places: HashMap<String, usize>,
    seen: Vec<Seen>,
}

impl Columns<'_> {
    fn add(&mut self, path: &mut Vec<String>, entries: Entries<'_>) {
        for (key, value) in entries {
            let fields = &self.settings.fields;
            let is_own = path.is_empty() && fields::is_own(fields, &key, value);
            path.push(key.into_owned());
            let left_out = is_own || fields::is_unflattened(fields, path);
            match Kind::of(value) {
                _ if left_out => {}
                Kind::Null => {}
                Kind::Object if path.len() < self.settings.max_depth => {
                    // Cannot fail: the value was checked with the event around it.
                    self.add(path, json::object(value.get()).unwrap_or_default());
                }
                kind => self.add_value(&column_name(path), kind, value),
            }
            path.pop();
        }
    }

    fn add_value(&mut self, name: &str, kind: Kind, value: Json<'_>) {
        let place = match self.places.get(name) {
            Some(place) => *place,
            None => {
                self.places.insert(name.to_owned(), self.seen.len());
                let example = value.get().to_owned();
                self.seen.push(Seen { column: name.to_owned(), values: 0, example, kind: None });
                self.seen.len() - 1
            }
        };
        let narrowest = narrowest(kind, value, self.untyped);
        let seen = &mut self.seen[place];
        seen.values += 1;
        seen.kind = Some(seen.kind.map_or(narrowest, |kind| wider(kind, narrowest)));
    }
}

struct Seen {
    column: String,
    values: u64,
    example: String,
    kind: Option<ColumnType>,
}

impl Seen {
    fn into_inferred(self) -> Inferred {
        let Self { column, values, example, kind } = self;
        Inferred { column, values, example, kind: kind.unwrap_or(ColumnType::Varchar) }
    }
}

/// The narrowest type that takes a value.
fn narrowest(kind: Kind, value: Json<'_>, untyped: bool) -> ColumnType {
    let number = |text: &str| match Number::parse(text).and_then(|number| number.scaled(0, Below::Refuse)) {
        Some(whole) if i64::try_from(whole).is_ok() => ColumnType::BigInt,
        _ => ColumnType::Double,
    };
    match kind {
        Kind::Boolean => ColumnType::Boolean,
        Kind::Number => number(value.get()),
        Kind::Array | Kind::Object => ColumnType::Json,
        Kind::Null => ColumnType::Varchar,
        Kind::Text => {
            let text = json::string(value).text;
            match time::from_text(&text) {
                Some(_) if text.len() == 10 => ColumnType::Date,
                Some(_) => ColumnType::Timestamp,
                None if untyped && tables::is_json_number(&text) => number(&text),
                None if untyped && matches!(text.as_ref(), "true" | "false") => ColumnType::Boolean,
                None => ColumnType::Varchar,
            }
        }
    }
}

/// The narrowest type that takes the values of both.
fn wider(one: ColumnType, other: ColumnType) -> ColumnType {
    use ColumnType as T;
    match (one, other) {
        (one, other) if one == other => one,
        (T::BigInt | T::Double, T::BigInt | T::Double) => T::Double,
        (T::Date | T::Timestamp, T::Date | T::Timestamp) => T::Timestamp,
        (T::Json, _) | (_, T::Json) => T::Json,
        _ => T::Varchar,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inferred(name: &str, text: &str) -> Vec<(String, String, u64)> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        let sample = infer(&path, &Settings::default(), 100).unwrap();
        sample.columns.into_iter().map(|of| (of.column, of.kind.to_string(), of.values)).collect()
    }

    #[test]
    fn a_column_gets_the_narrowest_type_of_all_its_values() {
        let text = "{\"event_id\":\"a\",\"event_type\":\"t\",\"event_time\":0,\"source\":\"s\",\"n\":1,\"x\":1,\"user\":{\"since\":\"2024-05-01\",\"at\":\"2024-05-01T10:00:00Z\"},\"m\":1,\"l\":[1],\"b\":true,\"big\":9223372036854775808}\n\
                    {\"n\":2,\"x\":1.5,\"userSince\":\"2024-05-01 10:00:00\",\"m\":\"1\",\"l\":7,\"o\":null}\n";
        let of = |column: &str, kind: &str, values| (column.to_owned(), kind.to_owned(), values);
        assert_eq!(
            inferred("a.ndjson", text),
            [
                of("n", "BIGINT", 2),
                of("x", "DOUBLE", 2),
                of("user_since", "TIMESTAMP", 2),
                of("user_at", "TIMESTAMP", 1),
                of("m", "VARCHAR", 2),
                of("l", "JSON", 2),
                of("b", "BOOLEAN", 1),
                of("big", "DOUBLE", 1),
            ]
        );
    }

    #[test]
    fn the_texts_of_a_csv_are_looked_into() {
        let csv = "event_id,n,zip,day,ok\n1,5,00501,2024-05-01,true\n2,6,10001,2024-05-02,false\n";
        let of = |column: &str, kind: &str| (column.to_owned(), kind.to_owned(), 2);
        assert_eq!(
            inferred("a.csv", csv),
            [of("n", "BIGINT"), of("zip", "VARCHAR"), of("day", "DATE"), of("ok", "BOOLEAN")]
        );
    }
}
