//! The plain decoder's columns: flattens events into typed ones, one for each path and type.
//!
//! Objects join paths; everything else is a value. A column is made for the first value that fits its type, so a null,
//! an empty object and a value that does not fit make none.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::ArrayRef;
use lakebed_log::{Column, ColumnType, JsonKind, column_name};

use crate::fields;
use crate::json::{self, Entries, Json, Kind};
use crate::settings::Settings;
use crate::values::{Value, Values};

/// The columns of a batch, as far as they have come.
#[derive(Debug)]
pub(super) struct Flattener<'s> {
    settings: &'s Settings,
    /// The paths that lead to columns, as a tree; the first is the event itself.
    nodes: Vec<Node>,
    columns: Vec<Growing>,
    row: usize,
    misfits: BTreeMap<String, u64>,
    over_limit: u64,
}

/// One place in the tree of paths. There are none but those with a column at or below them.
#[derive(Debug, Default)]
struct Node {
    children: HashMap<String, usize>,
    declared: Option<ColumnType>,
    /// Its columns by type, as places in `Flattener::columns`.
    columns: Vec<(ColumnType, usize)>,
}

#[derive(Debug)]
struct Growing {
    path: Arc<[String]>,
    kind: ColumnType,
    values: Values,
}

/// What came of all events.
#[derive(Debug)]
pub(super) struct Flattened {
    pub(super) columns: Vec<(Column, ArrayRef)>,
    /// How many values did not fit the type of their column, by its name.
    pub(super) misfits: BTreeMap<String, u64>,
    /// How many values found no column because there were too many.
    pub(super) over_limit: u64,
}

/// A path below the event, from the outermost key.
type Path<'a> = Vec<Cow<'a, str>>;

impl<'s> Flattener<'s> {
    pub(super) fn new(settings: &'s Settings) -> Self {
        let root = Node::default();
        Self { settings, nodes: vec![root], columns: Vec::new(), row: 0, misfits: BTreeMap::new(), over_limit: 0 }
    }

    /// Adds the next event's values.
    pub(super) fn add(&mut self, entries: Entries<'_>) {
        self.add_object(Some(0), &mut Path::new(), entries);
        self.row += 1;
    }

    /// The columns of all events.
    pub(super) fn finish(self) -> Flattened {
        let rows = self.row;
        let finished = |Growing { path, kind, values }| (Column { path, kind }, values.finish(rows));
        let columns = self.columns.into_iter().map(finished).collect();
        Flattened { columns, misfits: self.misfits, over_limit: self.over_limit }
    }

    fn add_object<'a>(&mut self, node: Option<usize>, path: &mut Path<'a>, entries: Entries<'a>) {
        for (key, value) in entries {
            let node = node.and_then(|node| self.nodes[node].children.get(key.as_ref()).copied());
            path.push(key);
            if !fields::is_unflattened(&self.settings.fields, path) {
                self.add_value(node, path, value);
            }
            path.pop();
        }
    }

    fn add_value<'a>(&mut self, node: Option<usize>, path: &mut Path<'a>, value: Json<'a>) {
        let kind = match Kind::of(value) {
            Kind::Null => return,
            Kind::Object => None,
            Kind::Array => Some(JsonKind::Array),
            Kind::Text => Some(JsonKind::Text),
            Kind::Number => Some(JsonKind::Number),
            Kind::Boolean => Some(JsonKind::Boolean),
        };
        let declared = match node {
            Some(node) => self.nodes[node].declared,
            None => self.settings.declared_at(path),
        };
        let takes_objects = matches!(declared, Some(ColumnType::Varchar | ColumnType::Json));
        if kind.is_none() && !takes_objects && path.len() < self.settings.max_depth {
            // Cannot fail: the value was checked with the event around it. If it did, it would still be in `_doc`.
            return self.add_object(node, path, json::object(value.get()).unwrap_or_default());
        }
        let column_type = declared.unwrap_or(kind.map_or(ColumnType::Json, JsonKind::default_type));
        let Some(value) = Value::read(column_type, value) else {
            *self.misfits.entry(column_name(&owned(path))).or_default() += 1;
            return;
        };
        match self.column(node, path, column_type) {
            Some(column) => self.columns[column].values.put(self.row, &value),
            None => self.over_limit += 1,
        }
    }

    /// The column of a path and type, made if it is not there yet; `None` if there are too many.
    fn column(&mut self, node: Option<usize>, path: &Path<'_>, kind: ColumnType) -> Option<usize> {
        let known = |node: usize| self.nodes[node].columns.iter().find(|(of, _)| *of == kind);
        if let Some(&(_, column)) = node.and_then(known) {
            return Some(column);
        }
        if self.columns.len() >= self.settings.max_columns {
            return None;
        }
        let node = self.node(path);
        let column = self.columns.len();
        self.nodes[node].columns.push((kind, column));
        self.columns.push(Growing { path: owned(path).into(), kind, values: Values::of(kind) });
        Some(column)
    }

    /// The place of a path in the tree, made if it is not there yet.
    fn node(&mut self, path: &Path<'_>) -> usize {
        let mut node = 0;
        for length in 1..=path.len() {
            let key = path[length - 1].as_ref();
            node = match self.nodes[node].children.get(key) {
                Some(&child) => child,
                None => {
                    let declared = self.settings.declared_at(&path[..length]);
                    let child = self.nodes.len();
                    self.nodes[node].children.insert(key.to_owned(), child);
                    self.nodes.push(Node { declared, ..Node::default() });
                    child
                }
            };
        }
        node
    }
}

fn owned(path: &[Cow<'_, str>]) -> Vec<String> {
    path.iter().map(|key| key.clone().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;
    use arrow::util::display::array_value_to_string;

    use super::*;

    fn flatten(settings: &Settings, events: &[&str]) -> Flattened {
        let mut flattener = Flattener::new(settings);
        for event in events {
            flattener.add(json::object(event).unwrap());
        }
        flattener.finish()
    }

    fn declared(types: &[(&str, &str)]) -> Settings {
        let declared = types.iter().map(|&(name, text)| (name.to_owned(), text.parse().unwrap())).collect();
        Settings { declared, ..Settings::default() }
    }

    /// `path TYPE: value, -, value`
    fn shown(flattened: &Flattened) -> Vec<String> {
        let show = |(column, values): &(Column, ArrayRef)| {
            let value = |row| match values.is_null(row) {
                true => "-".to_owned(),
                false => array_value_to_string(values, row).unwrap(),
            };
            let values = (0..values.len()).map(value).collect::<Vec<_>>().join(", ");
            format!("{} {}: {values}", column.path.join("."), column.kind)
        };
        flattened.columns.iter().map(show).collect()
    }

    #[test]
    fn paths_are_joined_and_columns_come_in_order_of_appearance() {
        let events = [
            r#"{"userAgent":{"os":{"name":"x"},"bot":false},"n":1}"#,
            r#"{"n":2.5,"late":"y","tags":["a", 1]}"#,
            r#"{"userAgent":{"bot":true}}"#,
        ];
        let flattened = flatten(&Settings::default(), &events);
        assert_eq!(
            shown(&flattened),
            [
                "userAgent.os.name VARCHAR: x, -, -",
                "userAgent.bot BOOLEAN: false, -, true",
                "n DOUBLE: 1.0, 2.5, -",
                "late VARCHAR: -, y, -",
                "tags JSON: -, [\"a\", 1], -",
            ]
        );
    }

    #[test]
    fn a_second_kind_of_value_gets_a_column_of_its_own() {
        let events = [r#"{"v":1}"#, r#"{"v":"one"}"#, r#"{"v":{"w":true}}"#, r#"{"v":[]}"#, r#"{"v":null}"#];
        let flattened = flatten(&Settings::default(), &events);
        assert_eq!(
            shown(&flattened),
            [
                "v DOUBLE: 1.0, -, -, -, -",
                "v VARCHAR: -, one, -, -, -",
                "v.w BOOLEAN: -, -, true, -, -",
                "v JSON: -, -, -, [], -",
            ]
        );
        assert!(flattened.misfits.is_empty());
    }

    #[test]
    fn nulls_and_empty_objects_make_no_column() {
        let flattened = flatten(&Settings::default(), &[r#"{"a":null,"b":{},"c":{"d":{"e":null}}}"#]);
        assert!(flattened.columns.is_empty() && flattened.misfits.is_empty());
    }

    #[test]
    fn pinned_types_hold_and_misfits_are_counted_by_name() {
        let settings =
            declared(&[("price", "DECIMAL(10,2)"), ("user_id", "BIGINT"), ("raw", "JSON"), ("note", "VARCHAR")]);
        let events = [
            r#"{"price":1.10,"user":{"id":7},"raw":{"a": 1},"note":{"b": 2}}"#,
            r#"{"price":"x","userId":8,"raw":"t","note":5}"#,
            r#"{"price":0.001,"user":{"id":1.5},"raw":null,"note":true}"#,
            r#"{"price":{"amount":3}}"#,
        ];
        let flattened = flatten(&settings, &events);
        assert_eq!(
            shown(&flattened),
            [
                "price DECIMAL(10,2): 1.10, -, -, -",
                "user.id BIGINT: 7, -, -, -",
                "raw JSON: {\"a\": 1}, \"t\", -, -",
                "note VARCHAR: {\"b\": 2}, 5, true, -",
                "userId BIGINT: -, 8, -, -",
                "price.amount DOUBLE: -, -, -, 3.0",
            ]
        );
        assert_eq!(flattened.misfits, [("price".to_owned(), 2), ("user_id".to_owned(), 1)].into());
    }

    #[test]
    fn an_object_too_far_down_is_json_text() {
        let settings = Settings { max_depth: 2, ..declared(&[("a_c", "BIGINT")]) };
        let flattened = flatten(&settings, &[r#"{"a":{"b":{"x": [1]},"c":{"y":1},"d":1}}"#]);
        assert_eq!(shown(&flattened), ["a.b JSON: {\"x\": [1]}", "a.d DOUBLE: 1.0"]);
        assert_eq!(flattened.misfits, [("a_c".to_owned(), 1)].into());
        let flat = Settings { max_depth: 1, ..Settings::default() };
        assert_eq!(shown(&flatten(&flat, &[r#"{"a":{}}"#])), ["a JSON: {}"]);
    }

    #[test]
    fn columns_over_the_limit_are_left_out_and_counted() {
        let settings = Settings { max_columns: 2, ..Settings::default() };
        let flattened = flatten(&settings, &[r#"{"a":1,"b":{"c":2},"d":3}"#, r#"{"d":4,"b":{"c":5,"e":6},"a":"x"}"#]);
        assert_eq!(shown(&flattened), ["a DOUBLE: 1.0, -", "b.c DOUBLE: 2.0, 5.0"]);
        assert_eq!(flattened.over_limit, 4);
    }

    #[test]
    fn of_a_repeated_key_nothing_of_the_first_value_is_left() {
        let flattened = flatten(&Settings::default(), &[r#"{"a":{"x":1},"b":1,"a":{"y":2},"b":"2"}"#]);
        assert_eq!(shown(&flattened), ["a.y DOUBLE: 2.0", "b VARCHAR: 2"]);
    }

    #[test]
    fn keys_keep_their_spelling_in_the_path() {
        let flattened = flatten(&Settings::default(), &[r#"{"a.b":1,"a":{"b":2},"":3,"\u0061B":4}"#]);
        let paths = flattened.columns.iter().map(|(column, _)| column.path.to_vec()).collect::<Vec<_>>();
        assert_eq!(paths, [vec!["a.b"], vec!["a", "b"], vec![""], vec!["aB"]]);
    }
}
