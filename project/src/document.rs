//! lakebed.toml as text: a place in it for every message.

use std::path::Path;

use toml::de::DeValue;

use crate::error::Error;

/// A lakebed.toml and where it is, for messages that name a place in it.
pub(crate) struct Document<'t> {
    pub(crate) text: &'t str,
    pub(crate) file: &'t Path,
}

impl Document<'_> {
    pub(crate) fn error(&self, at: usize, message: String, hint: Option<String>) -> Error {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.chars().rev().take_while(|letter| *letter != '\n').count() + 1;
        Error::Config { file: self.file.to_path_buf(), line, column, message, hint }
    }

    pub(crate) fn unknown<'k>(
        &self,
        at: usize,
        message: String,
        name: &str,
        known: impl Iterator<Item = &'k str>,
    ) -> Error {
        let mut known: Vec<&str> = known.collect();
        known.dedup();
        let nearest = known.iter().max_by(|a, b| strsim::jaro(a, name).total_cmp(&strsim::jaro(b, name)));
        let hint = match nearest {
            Some(nearest) if strsim::jaro(nearest, name) > 0.7 => format!("did you mean '{nearest}'?"),
            _ => format!("there are {}", known.join(", ")),
        };
        self.error(at, message, Some(hint))
    }
}

/// A value's kind in plain words.
pub(crate) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
