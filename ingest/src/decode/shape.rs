//! The shape of a batch's events: which keys they have, in which order, and what becomes of the values there.
//!
//! Most events have the keys that the one before them had, in the same order. So each key remembers which one came after it, and
//! where that one comes again, comparing its bytes is all that is to be done: no key is looked up, nothing is taken apart.
//! What an event brings is noted in a list, and only when all of it was read and checked is the list given to the columns.
//!
//! Keys get here with their first column, so that there are never many; an event that has something at another key is read
//! plainly.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use lakebed_log::ColumnType;
use lakebed_project::{Path, Place, Places};

use crate::decode::cursor::{Cursor, DEEP, OBJECT};
use crate::fields::{self, SOURCE};
use crate::json::{Json, Kind};
use crate::settings::Settings;

const NONE: usize = usize::MAX;

/// The keys of the events of one batch.
#[derive(Debug)]
pub(super) struct Shape<'s> {
    nodes: Vec<Node>,
    pub(super) fields: Vec<Field>,
    /// Where required fields may be, and where the present event has a value there.
    places: Vec<(&'s Path, Option<Range<usize>>)>,
    /// What the present event has beside them.
    pub(super) found: Vec<Found>,
    /// Counts events, from 1.
    event: u32,
    /// A required field is where nobody looks on the way: all events are read plainly.
    is_plain: bool,
}

/// An object at one path.
#[derive(Debug, Default)]
struct Node {
    /// The key that came first.
    first: usize,
    /// Its keys' fields.
    keys: HashMap<Box<[u8]>, usize>,
}

/// What is at one path.
#[derive(Debug)]
pub(super) struct Field {
    /// The key as it is written, and its colon; empty, where it is not written so but with escapes.
    quoted: Box<[u8]>,
    /// The field that came after it.
    next: usize,
    /// The last event that had it.
    seen: u32,
    /// The object here, if some path leads through it.
    into: usize,
    /// Which of the places it is.
    place: Option<usize>,
    /// An object here is not taken apart but kept as text.
    opaque: bool,
    /// Its values are flattened; else they are in a column of the log's own, or in none at all.
    pub(super) is_flattened: bool,
    /// A text here is the event's source, and in no other column.
    pub(super) is_source: bool,
    pub(super) path: Arc<[String]>,
    pub(super) declared: Option<ColumnType>,
    /// Its columns by type.
    pub(super) columns: Vec<(ColumnType, usize)>,
    /// How many values did not fit their type.
    pub(super) misfits: u64,
}

/// A value of the present event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) field: usize,
    pub(super) kind: Kind,
    /// Where it is in the event's text.
    pub(super) start: usize,
    pub(super) end: usize,
    /// Of a number: the nearest double.
    pub(super) number: f64,
    /// Of a text: whether there is an escape in it.
    pub(super) escaped: bool,
}

impl<'s> Shape<'s> {
    pub(super) fn new(settings: &'s Settings) -> Self {
        let mut shape = Self {
            nodes: vec![Node { first: NONE, ..Node::default() }],
            fields: Vec::new(),
            places: Vec::new(),
            found: Vec::new(),
            event: 0,
            is_plain: false,
        };
        let config = &settings.fields;
        let all = config.id.iter().chain([&config.event_type, &config.event_time]);
        for path in all.flat_map(paths_of).chain(&config.unflattened) {
            if !shape.places.iter().any(|(known, _)| *known == path) {
                shape.places.push((path, None));
            }
        }
        for path in shape.places.iter().map(|(path, _)| *path).collect::<Vec<_>>() {
            shape.field(path, settings);
        }
        shape.field(&[SOURCE], settings);
        let hidden = |field: &Field| field.into != NONE && (field.opaque || !field.is_flattened);
        shape.is_plain = shape.fields.iter().any(hidden);
        shape
    }

    /// The field of a path, made if it is not there yet.
    pub(super) fn field<K: AsRef<str>>(&mut self, path: &[K], settings: &Settings) -> usize {
        let (mut node, mut field) = (0, NONE);
        for length in 1..=path.len() {
            if field != NONE {
                node = self.node_below(field);
            }
            let key = path[length - 1].as_ref().as_bytes();
            field = match self.nodes[node].keys.get(key) {
                Some(&known) => known,
                None => {
                    let made = self.new_field(&path[..length], settings);
                    self.nodes[node].keys.insert(key.into(), self.fields.len());
                    self.fields.push(made);
                    self.fields.len() - 1
                }
            };
        }
        field
    }

    fn node_below(&mut self, field: usize) -> usize {
        if self.fields[field].into == NONE {
            self.fields[field].into = self.nodes.len();
            self.nodes.push(Node { first: NONE, ..Node::default() });
        }
        self.fields[field].into
    }

    fn new_field<K: AsRef<str>>(&self, path: &[K], settings: &Settings) -> Field {
        let path: Vec<String> = path.iter().map(|key| key.as_ref().to_owned()).collect();
        let key = path.last().map(String::as_str).unwrap_or_default();
        let declared = settings.declared_at(&path);
        let is_own = path.len() == 1 && fields::is_own(&settings.fields, key, Json::checked("null"));
        Field {
            quoted: quoted(key),
            next: NONE,
            seen: 0,
            into: NONE,
            place: self.places.iter().position(|(place, _)| **place == path),
            opaque: keeps_objects(declared) || path.len() >= settings.max_depth,
            is_flattened: !is_own && !fields::is_unflattened(&settings.fields, &path),
            is_source: path.len() == 1 && key == SOURCE,
            path: path.into(),
            declared,
            columns: Vec::new(),
            misfits: 0,
        }
    }

    /// The field of a key in the object at another one, or in the event itself.
    pub(super) fn child(&self, of: Option<usize>, key: &str) -> Option<usize> {
        let node = of.map_or(0, |of| self.fields[of].into);
        self.nodes.get(node)?.keys.get(key.as_bytes()).copied()
    }

    /// The value of the present event at one of the places.
    pub(super) fn at<'t>(&self, path: &Path, text: &'t str) -> Option<Json<'t>> {
        // The path is nearly always the very one, and need not be compared key by key.
        let is = |place: &Path| std::ptr::eq(place, path) || place == path;
        let range = self.places.iter().find(|(place, _)| is(place))?.1.clone()?;
        text.get(range).map(Json::checked)
    }

    /// Reads an event and notes what it has. `None` where it is no JSON object, and where it is one that has to be read plainly:
    /// with a key that is not known, that is there twice, or that is written with an escape.
    pub(super) fn read(&mut self, text: &str) -> Option<()> {
        if self.is_plain {
            return None;
        }
        self.event += 1;
        self.found.clear();
        self.places.iter_mut().for_each(|(_, range)| *range = None);
        let mut cursor = Cursor::new(text);
        self.object(0, &mut cursor, 0)?;
        cursor.is_at_end().then_some(())
    }

    fn object(&mut self, node: usize, cursor: &mut Cursor<'_>, depth: usize) -> Option<()> {
        if cursor.opens_empty(OBJECT)? {
            return Some(());
        }
        let mut previous = NONE;
        loop {
            match self.key(node, previous, cursor)? {
                Some(field) => {
                    if std::mem::replace(&mut self.fields[field].seen, self.event) == self.event {
                        return None;
                    }
                    previous = field;
                    self.value(field, cursor, depth)?;
                }
                // Nothing comes of a null, whatever the key is.
                None if cursor.take_all(b"null") => {}
                None => return None,
            }
            if cursor.ends(b'}')? {
                return Some(());
            }
        }
    }

    /// Steps over a key and its colon; gives its field, if it is known.
    #[inline]
    fn key(&mut self, node: usize, previous: usize, cursor: &mut Cursor<'_>) -> Option<Option<usize>> {
        let guess = self.fields.get(previous).map_or(self.nodes[node].first, |field| field.next);
        if let Some(field) = self.fields.get(guess)
            && !field.quoted.is_empty()
            && cursor.take_all(&field.quoted)
        {
            cursor.skip_blanks();
            return Some(Some(guess));
        }
        let start = cursor.at() + 1;
        if cursor.string()? {
            return None;
        }
        let field = self.nodes[node].keys.get(cursor.since(start, 1)).copied();
        cursor.colon()?;
        if let Some(field) = field {
            match self.fields.get_mut(previous) {
                Some(previous) => previous.next = field,
                None => self.nodes[node].first = field,
            }
        }
        Some(field)
    }

    #[inline]
    fn value(&mut self, at: usize, cursor: &mut Cursor<'_>, depth: usize) -> Option<()> {
        let Field { is_flattened, is_source, place, opaque, into, .. } = self.fields[at];
        let start = cursor.at();
        let (mut number, mut escaped) = (0.0, false);
        let kind = match cursor.peek() {
            b'"' => {
                escaped = cursor.string()?;
                Kind::Text
            }
            b'{' if !opaque && is_flattened => {
                match into {
                    NONE => cursor.opens_empty(OBJECT)?.then_some(())?,
                    // What is this deep has no more columns than the settings allow, but may be deep all the same.
                    node if depth < DEEP => self.object(node, cursor, depth + 1)?,
                    _ => return None,
                }
                self.note_place(place, start, cursor);
                return Some(());
            }
            b'-' | b'0'..=b'9' => {
                number = cursor.number()?;
                Kind::Number
            }
            _ => cursor.value(depth + 1)?,
        };
        if kind == Kind::Null {
            return Some(());
        }
        self.note_place(place, start, cursor);
        if is_flattened || is_source {
            self.found.push(Found { field: at, kind, start, end: cursor.at(), number, escaped });
        }
        Some(())
    }

    #[inline]
    fn note_place(&mut self, place: Option<usize>, start: usize, cursor: &Cursor<'_>) {
        if let Some(place) = place {
            self.places[place].1 = Some(start..cursor.at());
        }
    }
}

fn quoted(key: &str) -> Box<[u8]> {
    match key.bytes().any(|byte| matches!(byte, b'"' | b'\\' | 0..0x20)) {
        true => Box::default(),
        false => format!("\"{key}\":").into_bytes().into(),
    }
}

/// Whether a column of this type takes whole objects.
pub(super) fn keeps_objects(declared: Option<ColumnType>) -> bool {
    matches!(declared, Some(ColumnType::Varchar | ColumnType::Json))
}

/// The paths within events among some places.
fn paths_of(places: &Places) -> impl Iterator<Item = &Path> {
    places.0.iter().flat_map(|place| match place {
        Place::Path(path) => vec![path],
        Place::ContentHash(values) => values.iter().flatten().collect(),
        Place::Header(_) | Place::Arrival => Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_like_the_first_are_read_along_its_keys() {
        let settings = Settings::default();
        let mut shape = Shape::new(&settings);
        let first =
            r#"{"event_id":"1","event_type":"t","event_time":"2024-05-01","source":"s","a":{"b":1,"c":[1]},"d":null}"#;
        assert!(shape.read(first).is_none());
        for path in [&["a", "b"], &["a", "c"]] {
            shape.field(path, &settings);
        }
        for like in [
            first,
            r#"{ "e" : null , "a" : { "c" : "x" } , "event_id" : "\n" , "event_time" : 0 , "event_type" : "t" }"#,
            r#"{"event_id":null,"event_type":"t","a":null}"#,
            "{}",
        ] {
            assert!(shape.read(like).is_some(), "{like}");
        }
        for unlike in [
            r#"{"e":1}"#,
            r#"{"a":{"b":1,"b":1}}"#,
            r#"{"\u0061":1}"#,
            r#"{"a":{"d":1}}"#,
            r#"{"a":01}"#,
            "[]",
            "{} ",
            "{",
        ] {
            assert!(shape.read(unlike).is_none(), "{unlike}");
        }
    }
}
