//! The version that a reader asks for, and times as people write them.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, NaiveDateTime, SecondsFormat, Utc};

/// The version that a reader asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// A version of the log.
    Version(u64),
    /// The newest version at or before a time.
    Time(DateTime<Utc>),
}

/// As it is written: `42`, `2026-11-23T18:30:00.000Z`.
impl fmt::Display for AsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "{version}"),
            Self::Time(time) => f.write_str(&time_text(*time)),
        }
    }
}

/// A text that is neither a version nor a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither a version nor a time; write 42, 2026-11-23 or 2026-11-23T18:30:00Z")]
pub struct InvalidAsOf(String);

impl FromStr for AsOf {
    type Err = InvalidAsOf;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Ok(version) = text.parse() {
            return Ok(Self::Version(version));
        }
        let midnight = || text.parse::<NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0));
        let local =
            || ["%F %T%.f", "%FT%T%.f"].iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
        let zoned = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()).ok();
        let time = zoned.or_else(|| local().or_else(midnight).map(|time| time.and_utc()));
        time.map(Self::Time).ok_or_else(|| InvalidAsOf(text.to_owned()))
    }
}

/// A time as people read and write it here.
pub fn time_text(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_or_a_time() {
        assert_eq!("42".parse(), Ok(AsOf::Version(42)));
        let noon = AsOf::Time("2026-11-23T12:00:00Z".parse().unwrap());
        for text in ["2026-11-23T12:00:00Z", "2026-11-23 12:00:00", "2026-11-23T13:00:00+01:00"] {
            assert_eq!(text.parse(), Ok(noon), "{text}");
        }
        assert_eq!("2026-11-23".parse(), Ok(AsOf::Time("2026-11-23T00:00:00Z".parse().unwrap())));
        assert!("yesterday".parse::<AsOf>().is_err());
        for as_of in [AsOf::Version(42), noon] {
            assert_eq!(as_of.to_string().parse(), Ok(as_of));
        }
    }
}
