//! The keys of lakebed.toml: each is one entry here, which says how it is written, what it is where it is not set, what it means,
//! and where it goes in a [`Config`]. What reads the file and the environment, refuses values, and documents the keys goes by it.

mod capture;
mod input;
mod output;
#[cfg(test)]
mod page;
mod serving;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use crate::config::Config;
pub(crate) use capture::{CAPTURE, check_name as check_capture};

/// A key of lakebed.toml: `[section] name` there, `LAKEBED_SECTION_NAME` in the environment.
pub(crate) struct Key {
    pub(crate) section: &'static str,
    pub(crate) name: &'static str,
    /// The text that sets it to what it is where it is not set; `None` where no text does, and [`Self::means`] says what it is.
    pub(crate) default: Option<&'static str>,
    /// A clause about what it sets, without a full stop.
    pub(crate) means: &'static str,
    /// Where a value of it belongs that is a secret: a file that is in a repository is no place for it.
    pub(crate) secret: fn(&str) -> Option<&'static str>,
    pub(crate) set: Set,
}

/// How a key is written, and where its value goes.
pub(crate) enum Set {
    /// A text; what does not fit is refused in one sentence.
    Text(fn(&mut Config, &str) -> Result<(), String>),
    /// Any text but an empty one.
    Some(fn(&mut Config, &str)),
    /// "on" or "off".
    Switch(fn(&mut Config, bool)),
    /// An address, or "off".
    Address(fn(&mut Config, Option<SocketAddr>)),
    /// A whole number.
    Number(RangeInclusive<usize>, fn(&mut Config, usize)),
    /// A time in whole seconds.
    Seconds(fn(&mut Config, Duration)),
}

impl Key {
    const fn new(section: &'static str, name: &'static str, means: &'static str, set: Set) -> Self {
        Self { section, name, default: None, means, secret: |_| None, set }
    }

    /// The same key with a default that can be written.
    const fn by_default(self, text: &'static str) -> Self {
        Self { default: Some(text), ..self }
    }

    /// The same key for what is a secret, or may be one.
    const fn secret(self, elsewhere: fn(&str) -> Option<&'static str>) -> Self {
        Self { secret: elsewhere, ..self }
    }

    /// Whether the file has a number there, and no text.
    pub(crate) fn is_number(&self) -> bool {
        matches!(self.set, Set::Number(..) | Set::Seconds(_))
    }

    /// The variable that sets it; of a capture's key that of the capture `NAME`.
    pub(crate) fn variable(&self) -> String {
        match self.section {
            CAPTURE => self.variable_of_capture("NAME"),
            section => format!("LAKEBED_{}_{}", section.to_ascii_uppercase(), self.name.to_ascii_uppercase()),
        }
    }

    /// The variable that sets a capture's key.
    pub(crate) fn variable_of_capture(&self, capture: &str) -> String {
        format!("LAKEBED_CAPTURE_{}_{}", capture.to_ascii_uppercase(), self.name.to_ascii_uppercase())
    }

    /// What it means, and what it is where it is not set: for who wrote something that does not fit.
    pub(crate) fn description(&self) -> String {
        let Self { name, means, .. } = self;
        match self.default {
            None | Some("") => format!("{name}: {means}"),
            Some(default) => format!("{name}: {means} ({default} where it is not set)"),
        }
    }

    /// Sets it from its text; the error says in one sentence what does not fit.
    pub(crate) fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        match &self.set {
            Set::Text(set) => set(config, text)?,
            Set::Some(_) if text.is_empty() => return Err("leave it out rather than empty".to_owned()),
            Set::Some(set) => set(config, text),
            Set::Switch(set) => set(config, switch(text)?),
            Set::Address(set) => set(config, address(text)?),
            Set::Number(range, set) => set(config, number(text, range)?),
            Set::Seconds(set) => set(config, Duration::from_secs(number(text, &(1..=1 << 32))? as u64)),
        }
        Ok(())
    }
}

/// Every key, by section.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> + Clone {
    input::KEYS.iter().chain(capture::KEYS).chain(output::KEYS).chain(serving::KEYS)
}

/// The keys of each capture.
pub(crate) fn of_captures() -> impl Iterator<Item = &'static Key> + Clone {
    capture::KEYS.iter()
}

fn switch(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("'{text}' is neither \"on\" nor \"off\"")),
    }
}

fn number(text: &str, range: &RangeInclusive<usize>) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| format!("'{text}' is not a whole number from {} to {}", range.start(), range.end()))
}

fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    let address =
        text.parse().map_err(|_| format!("'{text}' is neither an address such as 127.0.0.1:8080 nor \"off\""));
    address.map(Some)
}
