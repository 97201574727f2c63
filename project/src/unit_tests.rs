//! Unit tests of models: TOML files under `sql/tests`, a section each, read as the texts that they are made of.
//!
//! What is in these texts (events, rows, names of models) this room does not know. It knows where each of them is, so that whoever
//! reads them can say so.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::document::{Document, kind_of};
use crate::error::{Error, Result};

/// Where the files are, in a project's directory.
const FOLDER: &str = "sql/tests";

/// The keys of a test.
const KEYS: [&str; 4] = ["model", "now", "given", "expect"];

/// What a test looks like, for those who wrote another thing.
const SHAPE: &str = "a test is a section, [its_name], with model, given.TABLE and expect, each a text in quotes";

/// A text of a file, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The text.
    pub text: String,
    /// The line of its first line, from 1.
    pub line: usize,
}

/// A table whose rows a test gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenTable {
    /// `schema.name`.
    pub name: String,
    /// The line that names it, from 1.
    pub line: usize,
    /// Its rows: events, one a line, or CSV.
    pub rows: Written,
}

/// A unit test of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitTest {
    /// Its name, the only one in its file.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// The line that its section begins in, from 1.
    pub line: usize,
    /// The model, `schema.name`.
    pub model: Written,
    /// The time that `now()` gives.
    pub now: Option<Written>,
    /// What it reads, in the order of the lines.
    pub given: Vec<GivenTable>,
    /// The rows that it is to have, as CSV.
    pub expect: Written,
}

/// Reads the unit tests of a project, file by file and in the order in which they are written; none where there is no folder.
///
/// # Errors
/// [`Error::Config`] with the place for text that is no TOML, a name that is there twice, an unknown key, a missing or an empty one, and
/// for a file without a test; [`Error::File`] for what cannot be read.
pub fn unit_tests(directory: &Path) -> Result<Vec<UnitTest>> {
    let mut files = Vec::new();
    files_below(&directory.join(FOLDER), &mut files)?;
    files.sort();
    let mut tests = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).map_err(|source| Error::File { path: file.clone(), source })?;
        tests.extend(read(&Document { text: &text, file: &file })?);
    }
    Ok(tests)
}

/// The TOML files of a folder and of those in it.
fn files_below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let failed = |source| Error::File { path: folder.to_owned(), source };
    let entries = match std::fs::read_dir(folder) {
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            files_below(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    Ok(())
}

fn read(document: &Document<'_>) -> Result<Vec<UnitTest>> {
    let root = DeTable::parse(document.text).map_err(|error| {
        let at = error.span().map_or(document.text.len(), |span| span.start);
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        let hint = match message.contains("duplicate") {
            true => "two tests of a file have two names, and so have two tables of a test",
            false => SHAPE,
        };
        document.error(at, message, Some(hint.to_owned()))
    })?;
    let tests = root.get_ref().iter().map(|(name, value)| match value.get_ref() {
        DeValue::Table(keys) => read_test(document, name, keys),
        _ => {
            let message = format!("'{}' is in no test", name.get_ref());
            Err(document.error(name.span().start, message, Some(SHAPE.to_owned())))
        }
    });
    let mut tests = tests.collect::<Result<Vec<_>>>()?;
    if tests.is_empty() {
        return Err(document.error(0, "there is no test in this file".to_owned(), Some(SHAPE.to_owned())));
    }
    tests.sort_by_key(|test| test.line);
    Ok(tests)
}

fn read_test(document: &Document<'_>, name: &Spanned<Cow<'_, str>>, keys: &DeTable<'_>) -> Result<UnitTest> {
    let at = name.span().start;
    for key in keys.keys() {
        if !KEYS.contains(&key.get_ref().as_ref()) {
            let message = format!("a test has no key '{}'", key.get_ref());
            return Err(document.unknown(key.span().start, message, key.get_ref(), KEYS.into_iter()));
        }
    }
    let text = |key: &str| keys.get(key).map(|value| written(document, key, value)).transpose();
    let needed = |key: &str| {
        let missing = || document.error(at, format!("'{}' has no {key}", name.get_ref()), Some(SHAPE.to_owned()));
        text(key)?.ok_or_else(missing)
    };
    let mut given = Vec::new();
    if let Some((key, value)) = keys.get_key_value("given") {
        read_given(document, (key, value), &mut Vec::new(), &mut given)?;
    }
    given.sort_by_key(|table: &GivenTable| table.rows.line);
    Ok(UnitTest {
        name: name.get_ref().to_string(),
        file: document.file.to_owned(),
        line: line_at(document.text, at),
        model: needed("model")?,
        now: text("now")?,
        given,
        expect: needed("expect")?,
    })
}

/// The tables below `path`: `given.silver.orders` and `given."silver.orders"` are the same one.
fn read_given<'t>(
    document: &Document<'_>,
    (key, value): (&Spanned<Cow<'_, str>>, &Spanned<DeValue<'t>>),
    path: &mut Vec<String>,
    given: &mut Vec<GivenTable>,
) -> Result<()> {
    if let DeValue::Table(tables) = value.get_ref() {
        for (inner, value) in tables {
            path.push(inner.get_ref().to_string());
            read_given(document, (inner, value), path, given)?;
            path.pop();
        }
        return Ok(());
    }
    let (name, at) = (path.join("."), key.span().start);
    if name.is_empty() {
        let hint = "write given.bronze.events, or given.silver.NAME".to_owned();
        return Err(document.error(at, "what is given is rows of a table".to_owned(), Some(hint)));
    }
    if given.iter().any(|table| table.name == name) {
        let hint = "write all of its rows into one text".to_owned();
        return Err(document.error(at, format!("'{name}' is given twice"), Some(hint)));
    }
    let rows = written(document, &format!("given.{name}"), value)?;
    given.push(GivenTable { name, line: line_at(document.text, at), rows });
    Ok(())
}

/// A value that is a text, or, for people write it without quotes, a time.
fn written(document: &Document<'_>, key: &str, value: &Spanned<DeValue<'_>>) -> Result<Written> {
    let at = value.span().start;
    let text = match value.get_ref() {
        DeValue::String(text) => text.to_string(),
        DeValue::Datetime(time) if key == "now" => time.to_string(),
        other => {
            let hint = "rows go between ''' and ''', where nothing has to be escaped".to_owned();
            return Err(document.error(at, format!("{key} is a text, not {}", kind_of(other)), Some(hint)));
        }
    };
    // A line break right after the opening quotes is none of the text's.
    let opened = document.text.get(at..).unwrap_or_default();
    let opened = opened.strip_prefix("'''").or_else(|| opened.strip_prefix("\"\"\""));
    let begins_below = opened.is_some_and(|rest| rest.starts_with('\n') || rest.starts_with("\r\n"));
    Ok(Written { text, line: line_at(document.text, at) + usize::from(begins_below) })
}

/// The line of a place, from 1.
fn line_at(text: &str, at: usize) -> usize {
    text.get(..at).unwrap_or(text).matches('\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<UnitTest>> {
        read(&Document { text, file: Path::new("revenue.toml") })
    }

    #[test]
    fn a_test_is_texts_with_their_places() {
        let text = "# Two.\n[sums]\nmodel = \"gold.revenue\"\nnow = 2026-11-01T12:00:00Z\ngiven.bronze.events = '''\n\
                    {\"a\": \"\\n\"}\n'''\ngiven.\"silver.orders\" = \"\"\"id\n1\"\"\"\nexpect = '''\nday\n'''\n\n\
                    [\"and more\"]\nmodel = 'gold.a'\nexpect = 'n'\n";
        let tests = read_text(text).unwrap();
        assert_eq!(
            tests.iter().map(|test| (test.name.as_str(), test.line)).collect::<Vec<_>>(),
            [("sums", 2), ("and more", 14)]
        );
        let written = |text: &str, line| Written { text: text.to_owned(), line };
        let sums = &tests[0];
        assert_eq!(sums.model, written("gold.revenue", 3));
        assert_eq!(sums.now, Some(written("2026-11-01T12:00:00Z", 4)));
        let table = |name: &str, line, rows| GivenTable { name: name.to_owned(), line, rows };
        assert_eq!(
            sums.given,
            [
                table("bronze.events", 5, written("{\"a\": \"\\n\"}\n", 6)),
                table("silver.orders", 8, written("id\n1", 8)),
            ]
        );
        assert_eq!(sums.expect, written("day\n", 11));
        assert_eq!((&tests[1].now, tests[1].given.len()), (&None, 0));
    }

    #[test]
    fn what_is_no_test_is_told_with_its_line_and_what_to_write() {
        let whole = "[t]\nmodel = 'gold.a'\nexpect = 'n'\n";
        for (text, says, hint) in [
            ("", "revenue.toml:1:1: there is no test in this file", SHAPE),
            ("# Nothing yet.\n", "there is no test in this file", SHAPE),
            ("model = 'gold.a'\n", "revenue.toml:1:1: 'model' is in no test", SHAPE),
            ("[t]\nmodel = 'gold.a'\n", "revenue.toml:1:2: 't' has no expect", SHAPE),
            ("[t]\nexpect = 'n'\n", "'t' has no model", SHAPE),
            ("[t\n", "revenue.toml:1:", SHAPE),
            ("[t]\nmodel = 'gold.a'\nexpects = 'n'\n", "revenue.toml:3:1: a test has no key 'expects'", "'expect'"),
            ("[t]\nmodel = 7\n", "revenue.toml:2:9: model is a text, not a whole number", "'''"),
            (&format!("{whole}\n{whole}"), "revenue.toml:5:2: duplicate key", "two names"),
            (&format!("{whole}given = 'n'\n"), "what is given is rows of a table", "given.bronze.events"),
            (&format!("{whole}given.silver.a = ['n']\n"), "given.silver.a is a text, not a list", "'''"),
            (
                &format!("{whole}given.silver.a = 'n'\ngiven.'silver.a' = 'n'\n"),
                "'silver.a' is given twice",
                "one text",
            ),
        ] {
            let error = read_text(text).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert!(error.hint().unwrap().contains(hint), "{error}: {:?}", error.hint());
        }
    }

    #[test]
    fn files_are_read_at_any_depth_and_in_order() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(unit_tests(root.path()).unwrap(), []);
        for (file, name) in [("b.toml", "second"), ("a/deep/x.toml", "first"), ("notes.md", "none")] {
            let path = root.path().join(FOLDER).join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("[{name}]\nmodel = 'gold.a'\nexpect = 'n'\n")).unwrap();
        }
        let names: Vec<_> = unit_tests(root.path()).unwrap().into_iter().map(|test| test.name).collect();
        assert_eq!(names, ["first", "second"]);
    }
}
