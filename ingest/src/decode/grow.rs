//! The columns of a batch, as far as they have come.

use std::borrow::Cow;
use std::collections::BTreeMap;

use lakebed_log::{Column, ColumnType, JsonKind, column_name};

use crate::decode::shape::{self, Field, Found, Role, Shape};
use crate::fields;
use crate::json::{self, Entries, Json, Kind};
use crate::settings::Settings;
use crate::values::{Value, Values};

/// One column for each path and type, in order of first appearance.
#[derive(Debug)]
pub(super) struct Columns<'s> {
    settings: &'s Settings,
    columns: Vec<Growing>,
    row: usize,
    /// How many rows there may be.
    rows: usize,
    over_limit: u64,
    /// Values of paths that have no column and no field, which did not fit their type; by column name.
    misfits: BTreeMap<String, u64>,
}

#[derive(Debug)]
struct Growing {
    /// Of its path.
    field: usize,
    kind: ColumnType,
    values: Values,
}

/// So many keys are known before those of empty objects are no longer: they alone could be without end.
const MOST_EMPTY: usize = 4096;

/// A path below the event, from the outermost key.
type Path<'a> = Vec<Cow<'a, str>>;

impl<'s> Columns<'s> {
    pub(super) fn new(settings: &'s Settings, rows: usize) -> Self {
        Self { settings, columns: Vec::new(), row: 0, rows, over_limit: 0, misfits: BTreeMap::new() }
    }

    /// Adds what the shape has found in an event with this text; gives the text that is the event's own source.
    pub(super) fn add<'t>(&mut self, shape: &mut Shape, text: &'t str) -> Option<Json<'t>> {
        let mut source = None;
        let Shape { fields, found, .. } = shape;
        for found in found.iter() {
            let (field, text) = (&mut fields[found.field], &text[found.start..found.end]);
            if field.role == Role::Source && found.kind == Kind::Text {
                source = Some(Json::checked(text));
                continue;
            }
            let column_type = field.declared.unwrap_or_else(|| default_type(found.kind));
            match value(column_type, found, text) {
                Some(value) => self.put(field, found.field, column_type, &value),
                None => field.misfits += 1,
            }
        }
        self.row += 1;
        source
    }

    /// Adds an event that was read plainly, and has the shape know its keys from now on.
    pub(super) fn add_entries(&mut self, shape: &mut Shape, entries: Entries<'_>) {
        self.add_object(shape, None, &mut Path::new(), entries);
        self.row += 1;
    }

    fn add_object<'a>(&mut self, shape: &mut Shape, of: Option<usize>, path: &mut Path<'a>, entries: Entries<'a>) {
        // Below a path that is not known, there is none that is.
        let known = of.is_some() || path.is_empty();
        for (key, value) in entries {
            let field = if known { shape.child(of, &key) } else { None };
            path.push(key);
            if !fields::is_unflattened(&self.settings.fields, path) {
                self.add_value(shape, field, path, value);
            }
            path.pop();
        }
    }

    fn add_value<'a>(&mut self, shape: &mut Shape, field: Option<usize>, path: &mut Path<'a>, json: Json<'a>) {
        let kind = Kind::of(json);
        if kind == Kind::Null {
            return;
        }
        let declared = match field {
            Some(field) => shape.fields[field].declared,
            None => shape::declared(path, self.settings),
        };
        if kind == Kind::Object && !shape::keeps_objects(declared) && path.len() < self.settings.max_depth {
            // Cannot fail: the value was checked with the event around it. If it did, it would still be in `_doc`.
            let inner = json::object(json.get()).unwrap_or_default();
            if inner.is_empty() && field.is_none() && shape.fields.len() < MOST_EMPTY {
                shape.field(path, self.settings);
            }
            return self.add_object(shape, field, path, inner);
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
                self.put(&mut shape.fields[field], field, column_type, &value);
            }
        }
    }

    /// Puts a value into the field's column of this type, which is made if it is not there and there are not too many.
    #[inline]
    fn put(&mut self, field: &mut Field, at: usize, kind: ColumnType, value: &Value<'_>) {
        let known = field.columns.iter().find(|(of, _)| *of == kind);
        let column = match known {
            Some(&(_, column)) => column,
            None if self.columns.len() >= self.settings.max_columns => {
                self.over_limit += 1;
                return;
            }
            None => {
                field.columns.push((kind, self.columns.len()));
                let values = Values::with_room(kind, self.rows - self.row, value);
                self.columns.push(Growing { field: at, kind, values });
                self.columns.len() - 1
            }
        };
        self.columns[column].values.put(self.row, value);
    }

    /// The columns of all events, how many values did not fit their type, by column name, and how many have no column because
    /// there are too many.
    pub(super) fn finish(self, shape: &Shape) -> (Vec<Column>, BTreeMap<String, u64>, u64) {
        let Self { columns, row, mut misfits, over_limit, .. } = self;
        for field in shape.fields.iter().filter(|field| field.misfits > 0) {
            *misfits.entry(column_name(&field.path)).or_default() += field.misfits;
        }
        let finished = |Growing { field, kind, values }| {
            let path = shape.fields.get(field).map(|field| field.path.clone()).unwrap_or_default();
            Column { path, kind, values: values.finish(row) }
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
        (ColumnType::Varchar, Kind::Text) if !found.escaped => {
            Some(Value::Text(Cow::Borrowed(&text[1..text.len() - 1])))
        }
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
