//! lakebed.toml into a [`Config`]: its sections, the chosen target over them, and the pinned columns.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use lakebed_log::{ColumnType, column_name, schema};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::{CONFIG_FILE, Config};
use crate::document::{Document, kind_of};
use crate::error::{Error, Result};
use crate::keys::{self, CAPTURE};

/// The section of targets.
const TARGET: &str = "target";

/// The section whose keys are the user's.
const COLUMNS: &str = "columns";

/// The section whose sections are named as seeds, and have keys as their columns.
const SEEDS: &str = "seeds";

/// A key of a table, and its value, each with its place.
type Entry<'t, 'i> = (&'t Spanned<Cow<'i, str>>, &'t Spanned<DeValue<'i>>);

impl Config {
    /// Takes over what lakebed.toml says.
    pub(crate) fn read(&mut self, text: &str, file: &Path) -> Result<()> {
        let document = Document { text, file };
        let root = DeTable::parse(text).map_err(|error| {
            let at = error.span().map_or(text.len(), |span| span.start);
            let hint = "a line is a [section], key = \"text\", key = 1, or begins with #".to_owned();
            document.error(at, error.message().lines().collect::<Vec<_>>().join(", "), Some(hint))
        })?;
        let is_targets = |(name, _): &Entry<'_, '_>| name.get_ref() == TARGET;
        let (targets, sections): (Vec<_>, Vec<_>) = root.get_ref().iter().partition(is_targets);
        self.read_sections(&document, sections)?;
        self.read_targets(&document, targets)
    }

    /// Takes over what the chosen target says; the others are read as well, so that a mistake is told before it matters.
    fn read_targets(&mut self, document: &Document<'_>, targets: Vec<Entry<'_, '_>>) -> Result<()> {
        let (mut names, mut chosen) = (Vec::new(), None);
        for (section, value) in targets {
            let DeValue::Table(targets) = value.get_ref() else {
                let message = "'target' is a section: write [target.NAME.lake]".to_owned();
                return Err(document.error(section.span().start, message, None));
            };
            for (name, value) in targets {
                let DeValue::Table(target) = value.get_ref() else {
                    let message = format!("a target is a section: write [target.{}.lake]", name.get_ref());
                    return Err(document.error(name.span().start, message, None));
                };
                let mut with = Self { columns: BTreeMap::new(), seeds: BTreeMap::new(), ..self.clone() };
                with.read_sections(document, target.iter())?;
                if self.target.as_deref() == Some(name.get_ref()) {
                    with.columns = self.columns.clone().into_iter().chain(with.columns).collect();
                    let own = std::mem::replace(&mut with.seeds, self.seeds.clone());
                    own.into_iter().for_each(|(seed, pins)| with.seeds.entry(seed).or_default().extend(pins));
                    chosen = Some(with);
                }
                names.push(name.get_ref().to_string());
            }
        }
        match (chosen, &self.target) {
            (Some(chosen), _) => *self = chosen,
            (None, Some(target)) => {
                let (file, target) = (document.file.to_path_buf(), target.clone());
                return Err(Error::NoTarget { file, target, known: names });
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn read_sections<'t, 'i: 't>(
        &mut self,
        document: &Document<'_>,
        sections: impl IntoIterator<Item = Entry<'t, 'i>>,
    ) -> Result<()> {
        for (section, value) in sections {
            let (name, at) = (section.get_ref().as_ref(), section.span().start);
            let sections = || keys::all().map(|key| key.section).chain([COLUMNS, SEEDS, TARGET]);
            if !sections().any(|known| known == name) {
                return Err(document.unknown(at, format!("there is no section [{name}]"), name, sections()));
            }
            let DeValue::Table(table) = value.get_ref() else {
                return Err(document.error(at, format!("'{name}' is a section: write [{name}]"), None));
            };
            match name {
                COLUMNS => self.pin(document, table, &mut Vec::new())?,
                SEEDS => self.pin_seeds(document, table)?,
                CAPTURE => self.read_captures(document, table)?,
                _ => self.read_section(document, name, table)?,
            }
        }
        Ok(())
    }

    /// Takes over the sections of a table of captures, each of which has the same keys.
    fn read_captures(&mut self, document: &Document<'_>, captures: &DeTable<'_>) -> Result<()> {
        for named in named_sections(document, (CAPTURE, "capture"), captures) {
            let (capture, at, table) = named?;
            keys::check_capture(capture).map_err(|message| document.error(at, message, None))?;
            self.with_capture(capture, |config| config.read_section(document, CAPTURE, table))?;
        }
        Ok(())
    }

    /// Reads settings of one capture: while they are read it has no name.
    pub(crate) fn with_capture(&mut self, name: &str, read: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let capture = self.captures.remove(name).unwrap_or_default();
        self.captures.insert(String::new(), capture);
        read(self)?;
        let capture = self.captures.remove("").unwrap_or_default();
        self.captures.insert(name.to_owned(), capture);
        Ok(())
    }

    fn read_section(&mut self, document: &Document<'_>, section: &str, table: &DeTable<'_>) -> Result<()> {
        // What is set beside a preset goes before it, wherever it stands.
        let is_preset = |(key, _): &(&Spanned<Cow<'_, str>>, _)| key.get_ref() == "preset";
        let (presets, others): (Vec<_>, Vec<_>) = table.iter().partition(is_preset);
        for (written, value) in presets.into_iter().chain(others) {
            let name = written.get_ref().as_ref();
            let of_section = || keys::all().filter(|key| key.section == section);
            let Some(key) = of_section().find(|key| key.name == name) else {
                let message = format!("there is no key '{name}' in [{section}]");
                return Err(document.unknown(written.span().start, message, name, of_section().map(|key| key.name)));
            };
            let refused = |message: String, hint: String| document.error(value.span().start, message, Some(hint));
            let given = match value.get_ref() {
                DeValue::String(text) if !key.is_number() => text.to_string(),
                DeValue::Integer(number) if key.is_number() && number.radix() == 10 => number.as_str().replace('_', ""),
                other => {
                    let wanted = if key.is_number() { "a whole number" } else { "a text in quotes" };
                    let message = format!("[{section}] {name} is {wanted}, not {}", kind_of(other));
                    return Err(refused(message, key.description()));
                }
            };
            if let Some(elsewhere) = (key.secret)(&given) {
                let message = format!("a secret does not belong in {CONFIG_FILE}");
                return Err(refused(message, format!("set {elsewhere}")));
            }
            key.set(self, &given)
                .map_err(|message| refused(format!("[{section}] {name}: {message}"), key.description()))?;
        }
        Ok(())
    }

    /// Pins the types of seeds' columns, which are named as in the files.
    fn pin_seeds(&mut self, document: &Document<'_>, seeds: &DeTable<'_>) -> Result<()> {
        for named in named_sections(document, (SEEDS, "seed"), seeds) {
            let (seed, _, columns) = named?;
            let pins = self.seeds.entry(seed.to_owned()).or_default();
            for (key, value) in columns {
                let (column, at) = (key.get_ref().as_ref(), value.span().start);
                let DeValue::String(kind) = value.get_ref() else {
                    let message =
                        format!("the type of column '{column}' is a text in quotes, not {}", kind_of(value.get_ref()));
                    let hint = "a name with dots or blanks is written in quotes, too".to_owned();
                    return Err(document.error(at, message, Some(hint)));
                };
                pins.insert(column.to_owned(), type_of(document, (column, at), kind)?);
            }
        }
        Ok(())
    }

    /// Pins the types below `path`: `a.b = "…"`, `"a.b" = "…"` and `a_b = "…"` are the same column.
    fn pin(&mut self, document: &Document<'_>, table: &DeTable<'_>, path: &mut Vec<String>) -> Result<()> {
        for (key, value) in table {
            let depth = path.len();
            path.extend(key.get_ref().split('.').map(str::to_owned));
            match value.get_ref() {
                DeValue::Table(inner) => self.pin(document, inner, path)?,
                DeValue::String(kind) => self.pin_one(document, path, key, (value, kind))?,
                other => {
                    let message =
                        format!("the type of column '{}' is a text in quotes, not {}", path.join("."), kind_of(other));
                    return Err(document.error(value.span().start, message, None));
                }
            }
            path.truncate(depth);
        }
        Ok(())
    }

    fn pin_one<'i>(
        &mut self,
        document: &Document<'_>,
        path: &[String],
        key: &Spanned<Cow<'i, str>>,
        (value, kind): (&Spanned<DeValue<'i>>, &str),
    ) -> Result<()> {
        let name = column_name(path);
        let kind = type_of(document, (&name, value.span().start), kind)?;
        if schema::is_own(&name) {
            let message = format!("column '{name}' is the log's own, and its type is given");
            return Err(document.error(key.span().start, message, None));
        }
        match self.columns.insert(name.clone(), kind) {
            Some(_) => Err(document.error(key.span().start, format!("column '{name}' is pinned twice"), None)),
            None => Ok(()),
        }
    }
}

/// The sections `[of.NAME]`, each with its name and its place; one is called by this word.
fn named_sections<'t, 'i>(
    document: &Document<'_>,
    (of, word): (&str, &str),
    sections: &'t DeTable<'i>,
) -> impl Iterator<Item = Result<(&'t str, usize, &'t DeTable<'i>)>> {
    sections.iter().map(move |(name, value)| match (name.get_ref().as_ref(), name.span().start, value.get_ref()) {
        (name, at, DeValue::Table(table)) => Ok((name, at, table)),
        (name, at, _) => {
            let message = format!("a {word} is a section: write [{of}.NAME], and {name} in it");
            Err(document.error(at, message, None))
        }
    })
}

/// The type that a column is pinned to.
fn type_of(document: &Document<'_>, (column, at): (&str, usize), kind: &str) -> Result<ColumnType> {
    kind.parse().map_err(|error| document.error(at, format!("column '{column}': {error}"), None))
}
