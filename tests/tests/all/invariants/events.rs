//! Events by a seed: few keys, many of them null, numbers that no rounded sum adds up, repeats, late ones, and fields
//! that appear on the way.

use std::fmt::{Display, Write};

use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The pinned columns: they are there before their first event.
pub(super) const SETTINGS: &str = r#"[project]
name = "shop"

[columns]
kind = "VARCHAR"
who = "VARCHAR"
n = "BIGINT"
x = "DOUBLE"
y = "DOUBLE"
price = "DECIMAL(18,2)"
flag = "BOOLEAN"
tags = "JSON"
path = "VARCHAR"
late = "INTEGER"
id = "VARCHAR"
seq = "BIGINT"
op = "VARCHAR"
city = "VARCHAR"
"#;

/// How often a row's id came before.
const REPEATS: f64 = 0.08;

/// The lines of batches.
pub(super) struct Events {
    dice: ChaCha8Rng,
    /// Ids and lines, in the order made.
    made: Vec<(String, String)>,
    repeats: f64,
}

impl Events {
    /// Events of which some come again, as they were or with other values.
    pub(super) fn new(seed: u64) -> Self {
        Self { dice: ChaCha8Rng::seed_from_u64(seed), made: Vec::new(), repeats: REPEATS }
    }

    /// Events that come once.
    pub(super) fn distinct(seed: u64) -> Self {
        Self { repeats: 0.0, ..Self::new(seed) }
    }

    /// So many batches: some are empty, some have no row that any model keeps, and from the middle on there are more
    /// fields.
    pub(super) fn batches(&mut self, count: usize) -> Vec<Vec<String>> {
        (0..count).map(|number| self.batch(number * 2 >= count)).collect()
    }

    fn batch(&mut self, widened: bool) -> Vec<String> {
        let (rows, only) = match self.dice.random_range(0..10) {
            0 => (0, None),
            1 => (self.dice.random_range(1..5), Some("noise")),
            2 => (self.dice.random_range(1..12), Some("change")),
            3 => (1, None),
            _ => (self.dice.random_range(5..50), None),
        };
        let mut lines: Vec<_> = (0..rows).map(|_| self.line(only, widened)).collect();
        if lines.is_empty() || self.dice.random_bool(0.2) {
            lines.push("no event".to_owned());
        }
        lines
    }

    fn line(&mut self, only: Option<&str>, widened: bool) -> String {
        let (mut id, mut copy) = (format!("e{:04}", self.made.len()), None);
        if self.dice.random_bool(self.repeats)
            && let Some((earlier, line)) = self.made.choose(&mut self.dice)
        {
            (id, copy) = (earlier.clone(), self.dice.random_bool(0.5).then(|| line.clone()));
        }
        let line = copy.unwrap_or_else(|| {
            let thrown = self.dice.random_range(0..100);
            let drawn =
                ["row", "change", "person", "noise"][[70, 88, 96, 100].iter().position(|to| thrown < *to).unwrap()];
            self.event(&id, only.unwrap_or(drawn), widened)
        });
        self.made.push((id, line.clone()));
        line
    }

    fn event(&mut self, id: &str, kind_of_event: &str, widened: bool) -> String {
        // Many at the same moment, in no order.
        let minutes = 10 * self.dice.random_range(0..300);
        let (day, hour, minute) = (1 + minutes / 1440, minutes / 60 % 24, minutes % 60);
        let time = format!("2026-11-{day:02}T{hour:02}:{minute:02}:00Z");
        let mut text = format!(r#"{{"event_id":"{id}","event_type":"{kind_of_event}","event_time":"{time}""#);
        let kind = self.one(0.2, &["k0", "k1", "k2", "k3", "dé", "void"]);
        self.text(&mut text, "kind", kind);
        // A group in which everything is null.
        let none = if kind == Some("void") { 1.0 } else { 0.15 };
        let who = self.one(none, &["a", "b", "c", "dé", "e f", ""]);
        self.text(&mut text, "who", who);
        let n = self.one(none, &[-5_i64, -1, 0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 11, 13, 17, 19, 1_000_000_000_000]);
        self.field(&mut text, "n", n);
        let x = self.one(none, &["1e16", "-1e16", "0.1", "1e-300", "-0.0", "0.0", "3.5", "1e300", "-1e300", "5e-324"]);
        self.field(&mut text, "x", x);
        let y = (!self.dice.random_bool(none)).then(|| f64::from(self.dice.random_range(-40..40)) / 4.0);
        self.field(&mut text, "y", y);
        let price = self.one(none, &["9999999999999999.99", "0.01", "-5.25", "12.34", "10.00", "10", "0", "12.345"]);
        self.field(&mut text, "price", price);
        let flag = self.one(none, &[true, false]);
        self.field(&mut text, "flag", flag);
        let tags = self.one(none, &[r#"["a","b"]"#, r#"["a","a"]"#, "[]", r#"[null,"c",1]"#, r#"["d"]"#]);
        self.field(&mut text, "tags", tags);
        let path = self.one(none, &["a", "a/b", "b/b/c", "", "c//a", "/"]);
        self.text(&mut text, "path", path);
        match kind_of_event {
            "change" => self.change(&mut text),
            "person" => {
                let city = self.one(0.1, &["rome", "oslo", "k1"]);
                self.text(&mut text, "city", city);
            }
            _ => {}
        }
        if widened {
            self.widened(&mut text);
        }
        text + "}"
    }

    /// A change of a row: sequence numbers that come late and twice, deletes of what never was.
    fn change(&mut self, text: &mut String) {
        let id = self.one(0.0, &["i0", "i1", "i2", "i3", "i4", "i5", "i6"]);
        self.text(text, "id", id);
        let seq = (!self.dice.random_bool(0.1)).then(|| self.dice.random_range(0..12));
        self.field(text, "seq", seq);
        let op = self.one(0.0, &["c", "u", "u", "d"]);
        self.text(text, "op", op);
    }

    /// Fields that no event had before the middle: a pinned one, ones that nobody pinned, and values that do not fit.
    fn widened(&mut self, text: &mut String) {
        let late = self.one(0.4, &[0, 1, 2, 3, 4]);
        self.field(text, "late", late);
        match self.dice.random_range(0..6) {
            0 => text.push_str(r#","note":"new","deep":{"er":"yes"}"#),
            1 => text.push_str(r#","note":7"#),
            2 => text.push_str(r#","surprise":true,"deep":{"list":[1,2]}"#),
            _ => {}
        }
    }

    fn one<T: Copy>(&mut self, none: f64, of: &[T]) -> Option<T> {
        if self.dice.random_bool(none) { None } else { of.choose(&mut self.dice).copied() }
    }

    /// What is none is null, or not there.
    fn field(&mut self, text: &mut String, name: &str, value: Option<impl Display>) {
        match value {
            Some(value) => write!(text, r#","{name}":{value}"#).unwrap(),
            None if self.dice.random_bool(0.5) => write!(text, r#","{name}":null"#).unwrap(),
            None => {}
        }
    }

    fn text(&mut self, text: &mut String, name: &str, value: Option<&str>) {
        self.field(text, name, value.map(|value| format!(r#""{value}""#)));
    }
}
