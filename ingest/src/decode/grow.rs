//! The columns of a batch, as far as they have come: which they are, and their values day by day.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, NullBufferBuilder, StringArray, new_null_array};
use arrow::buffer::OffsetBuffer;
use lakebed_log::{Column, ColumnType, JsonKind, column_name};

use crate::decode::shape::{self, Field, Found, Shape};
use crate::fields;
use crate::json::{self, Entries, Json, Kind};
use crate::settings::Settings;
use crate::values::{Value, Values};

/// One column for each path and type, in order of first appearance.
#[derive(Debug)]
pub(super) struct Columns<'s> {
    settings: &'s Settings,
    /// The field and the type of each.
    columns: Vec<(usize, ColumnType)>,
    over_limit: u64,
    /// Values of paths that have no column and no field, which did not fit their type; by column name.
    misfits: BTreeMap<String, u64>,
}

/// The values of one day's events.
#[derive(Debug)]
pub(super) struct DayColumns {
    /// By column; of those that have a value.
    grown: Vec<Option<Grown>>,
    row: usize,
    /// How many rows there may be.
    room: usize,
}

impl DayColumns {
    /// None yet, with room for so many rows.
    pub(super) fn new(room: usize) -> Self {
        Self { grown: Vec::new(), row: 0, room }
    }

    /// The values of a column, made if there are none yet.
    #[inline]
    fn of(&mut self, column: usize, kind: ColumnType, length: usize) -> &mut Grown {
        if column >= self.grown.len() {
            self.grown.resize_with(column + 1, || None);
        }
        self.grown[column].get_or_insert_with(|| Grown::new(kind, self.room, length))
    }

    /// The arrays of all columns of the batch, which have these types.
    pub(super) fn finish(self, kinds: &[ColumnType]) -> Vec<ArrayRef> {
        let mut grown = self.grown.into_iter();
        let finished = |kind: &ColumnType| match grown.next().flatten() {
            Some(grown) => grown.finish(self.row),
            None => new_null_array(&kind.arrow(), self.row),
        };
        kinds.iter().map(finished).collect()
    }
}

#[derive(Debug)]
enum Grown {
    Texts(Texts),
    Values(Values),
}

/// The values of a column of texts.
#[derive(Debug)]
struct Texts {
    bytes: Vec<u8>,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

/// The most room that is made for texts before they come, in bytes.
const MOST_ROOM: usize = 64 << 10;

impl Texts {
    fn with_room(rows: usize, first: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        let bytes = Vec::with_capacity((rows * first + rows).min(MOST_ROOM));
        Self { bytes, offsets, nulls: NullBufferBuilder::new(rows) }
    }

    /// Puts a stretch of `all` into slot `row`.
    #[inline]
    fn put(&mut self, row: usize, all: &str, from: usize, to: usize) {
        self.fill(row);
        let (text, length) = (&all.as_bytes()[from..], to - from);
        // Most texts are short. Sixteen bytes of whatever follows are copied sooner than the right number of them.
        match text.first_chunk::<SHORT>() {
            Some(chunk) if length <= SHORT => {
                let end = self.bytes.len() + length;
                self.bytes.extend_from_slice(chunk);
                self.bytes.truncate(end);
            }
            _ => self.bytes.extend_from_slice(&text[..length]),
        }
        self.offsets.push(self.end());
        self.nulls.append_non_null();
    }

    #[inline]
    fn fill(&mut self, rows: usize) {
        let missing = (rows + 1).saturating_sub(self.offsets.len());
        if missing > 0 {
            self.offsets.extend(std::iter::repeat_n(self.end(), missing));
            self.nulls.append_n_nulls(missing);
        }
    }

    fn end(&self) -> i32 {
        // A batch has less than 2 GiB.
        self.bytes.len() as i32
    }

    fn finish(mut self, rows: usize) -> ArrayRef {
        self.fill(rows);
        let offsets = OffsetBuffer::new(self.offsets.into());
        Arc::new(StringArray::new(offsets, self.bytes.into(), self.nulls.finish()))
    }
}

const SHORT: usize = 16;

impl Grown {
    /// No values yet, with room for so many, where the first text is so long.
    fn new(kind: ColumnType, rows: usize, length: usize) -> Self {
        match kind {
            ColumnType::Varchar | ColumnType::Json => Self::Texts(Texts::with_room(rows, length)),
            _ => Self::Values(Values::with_room(kind, rows)),
        }
    }

    fn finish(self, rows: usize) -> ArrayRef {
        match self {
            Self::Texts(texts) => texts.finish(rows),
            Self::Values(values) => values.finish(rows),
        }
    }
}

/// So many keys are known before those of empty objects are no longer: they alone could be without end.
const MOST_EMPTY: usize = 4096;

/// A path below the event, from the outermost key.
type Path<'a> = Vec<Cow<'a, str>>;

impl<'s> Columns<'s> {
    pub(super) fn new(settings: &'s Settings) -> Self {
        Self { settings, columns: Vec::new(), over_limit: 0, misfits: BTreeMap::new() }
    }

    /// Adds what the shape has found in an event of a day with this text; gives the text that is the event's own source.
    pub(super) fn add<'t>(&mut self, day: &mut DayColumns, shape: &mut Shape<'_>, all: &'t str) -> Option<Json<'t>> {
        let mut source = None;
        let Shape { fields, found, .. } = shape;
        for found in found.iter() {
            let (field, text) = (&mut fields[found.field], &all[found.start..found.end]);
            if field.is_source && found.kind == Kind::Text {
                source = Some(Json::checked(text));
                continue;
            }
            if !field.is_flattened {
                continue;
            }
            let column_type = field.declared.unwrap_or_else(|| default_type(found.kind));
            if found.kind == Kind::Text && !found.escaped && column_type == ColumnType::Varchar {
                let row = day.row;
                if let Some(column) = self.column(field, found.field, column_type)
                    && let Grown::Texts(texts) = day.of(column, column_type, text.len())
                {
                    texts.put(row, all, found.start + 1, found.end - 1);
                }
                continue;
            }
            match value(column_type, found, text) {
                Some(value) => self.put(day, field, found.field, column_type, &value),
                None => field.misfits += 1,
            }
        }
        day.row += 1;
        source
    }

    /// Adds an event of a day that was read plainly, and has the shape know its keys from now on.
    pub(super) fn add_entries(&mut self, day: &mut DayColumns, shape: &mut Shape<'_>, entries: Entries<'_>) {
        self.add_object((day, shape), None, &mut Path::new(), entries);
        day.row += 1;
    }

    fn add_object<'a>(
        &mut self,
        (day, shape): (&mut DayColumns, &mut Shape<'_>),
        of: Option<usize>,
        path: &mut Path<'a>,
        entries: Entries<'a>,
    ) {
        // Below a path that is not known, there is none that is.
        let known = of.is_some() || path.is_empty();
        for (key, value) in entries {
            let field = if known { shape.child(of, &key) } else { None };
            path.push(key);
            if !fields::is_unflattened(&self.settings.fields, path) {
                self.add_value((day, shape), field, path, value);
            }
            path.pop();
        }
    }

    fn add_value<'a>(
        &mut self,
        (day, shape): (&mut DayColumns, &mut Shape<'_>),
        field: Option<usize>,
        path: &mut Path<'a>,
        json: Json<'a>,
    ) {
        let kind = Kind::of(json);
        if kind == Kind::Null {
            return;
        }
        let declared = match field {
            Some(field) => shape.fields[field].declared,
            None => self.settings.declared_at(path),
        };
        if kind == Kind::Object && !shape::keeps_objects(declared) && path.len() < self.settings.max_depth {
            // Cannot fail: the value was checked with the event around it. If it did, it would still be in `_doc`.
            let inner = json::object(json.get()).unwrap_or_default();
            if inner.is_empty() && field.is_none() && shape.fields.len() < MOST_EMPTY {
                shape.field(path, self.settings);
            }
            return self.add_object((day, shape), field, path, inner);
        }
        let column_type = declared.unwrap_or_else(|| default_type(kind));
        let Some(value) = Value::read(column_type, json) else {
            match field {
                Some(field) => shape.fields[field].misfits += 1,
                None => *self.misfits.entry(name(path)).or_default() += 1,
            }
            return;
        };
        match field {
            None if self.columns.len() >= self.settings.max_columns => self.over_limit += 1,
            _ => {
                let field = field.unwrap_or_else(|| shape.field(path, self.settings));
                self.put(day, &mut shape.fields[field], field, column_type, &value);
            }
        }
    }

    /// Puts a value into the field's column of this type.
    #[inline]
    fn put(&mut self, day: &mut DayColumns, field: &mut Field, at: usize, kind: ColumnType, value: &Value<'_>) {
        let Some(column) = self.column(field, at, kind) else { return };
        let row = day.row;
        let length = if let Value::Text(text) = value { text.len() } else { 0 };
        match (day.of(column, kind, length), value) {
            (Grown::Texts(texts), Value::Text(text)) => texts.put(row, text, 0, text.len()),
            (Grown::Values(values), value) => values.put(row, value),
            (texts, value) => debug_assert!(false, "{value:?} is no value of {texts:?}"),
        }
    }

    /// The field's column of this type, which is made if it is not there; where there are too many, that is counted.
    #[inline]
    fn column(&mut self, field: &mut Field, at: usize, kind: ColumnType) -> Option<usize> {
        let known = field.columns.iter().find(|(of, _)| *of == kind);
        match known {
            Some(&(_, column)) => Some(column),
            None if self.columns.len() >= self.settings.max_columns => {
                self.over_limit += 1;
                None
            }
            None => {
                field.columns.push((kind, self.columns.len()));
                self.columns.push((at, kind));
                Some(self.columns.len() - 1)
            }
        }
    }

    /// The columns of all events, how many values did not fit their type, by column name, and how many have no column because
    /// there are too many.
    pub(super) fn finish(self, shape: &Shape<'_>) -> (Vec<Column>, BTreeMap<String, u64>, u64) {
        let Self { columns, mut misfits, over_limit, .. } = self;
        for field in shape.fields.iter().filter(|field| field.misfits > 0) {
            *misfits.entry(column_name(&field.path)).or_default() += field.misfits;
        }
        let finished = |(field, kind): (usize, ColumnType)| {
            let path = shape.fields.get(field).map(|field| field.path.clone()).unwrap_or_default();
            Column { path, kind }
        };
        (columns.into_iter().map(finished).collect(), misfits, over_limit)
    }
}

fn default_type(kind: Kind) -> ColumnType {
    match kind {
        Kind::Array => JsonKind::Array.default_type(),
        Kind::Text => JsonKind::Text.default_type(),
        Kind::Number => JsonKind::Number.default_type(),
        Kind::Boolean => JsonKind::Boolean.default_type(),
        Kind::Object | Kind::Null => ColumnType::Json,
    }
}

/// [`Value::read`], by what is known of the value already.
#[inline]
fn value<'t>(column_type: ColumnType, found: &Found, text: &'t str) -> Option<Value<'t>> {
    match (column_type, found.kind) {
        (ColumnType::Double, Kind::Number) => found.number.is_finite().then_some(Value::Double(found.number)),
        (ColumnType::BigInt, Kind::Number) if is_short_integer(text) => text.parse().ok().map(Value::BigInt),
        (ColumnType::Integer, Kind::Number) if is_short_integer(text) => {
            text.parse::<i64>().ok()?.try_into().ok().map(Value::Integer)
        }
        _ => Value::read(column_type, Json::checked(text)),
    }
}

/// Whether a number is written as an integer that 64 bits hold.
fn is_short_integer(number: &str) -> bool {
    number.len() <= 18 && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
}

fn name(path: &Path<'_>) -> String {
    column_name(&path.iter().map(|key| key.clone().into_owned()).collect::<Vec<_>>())
}
