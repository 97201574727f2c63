//! The log, as operators look at it and look after it.

use chrono::TimeDelta;
use clap::{Args, Subcommand};
use lakebed_log::maintenance::{LEAST_RETENTION, MOST_RETENTION};

/// Ways to look at the log.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// List its versions
    Show(LogShowArguments),
    /// Commit what waits in the inbox, and finish what dead writers left there
    Recover,
    /// Put small data files together, write a checkpoint, and fold the runs of models; no version, reader or refresh notices
    Compact,
    /// Delete files that no version and no epoch needs any more
    Vacuum(LogVacuumArguments),
}

#[derive(Args, Debug)]
pub(crate) struct LogShowArguments {
    /// So many of the newest
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) last: u64,
    /// Count the lake's objects by kind instead
    #[arg(long)]
    pub(crate) objects: bool,
}

#[derive(Args, Debug)]
pub(crate) struct LogVacuumArguments {
    /// Keep what was in use within this time, such as 7d or 12h; from an hour to 30 days
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = retention)]
    pub(crate) retain: TimeDelta,
}

/// A time in days or hours, not below what a writer may take.
fn retention(text: &str) -> Result<TimeDelta, String> {
    let (number, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let number: i64 = number.parse().map_err(|_| format!("'{text}' is not a time such as 7d or 12h"))?;
    let time = match unit {
        "d" => TimeDelta::try_days(number),
        "h" => TimeDelta::try_hours(number),
        _ => return Err(format!("'{text}' is not a time such as 7d or 12h")),
    };
    time.filter(|time| (LEAST_RETENTION..=MOST_RETENTION).contains(time)).ok_or_else(|| {
        "a vacuum keeps an hour at least, for a writer may still be about to name its files, and 30 days at most"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_is_an_hour_at_least() {
        assert_eq!(retention("7d"), Ok(TimeDelta::days(7)));
        assert_eq!(retention("1h"), Ok(TimeDelta::hours(1)));
        for wrong in ["0h", "", "d", "7", "7w", "-1d", "31d", "9999999999999999d", "1ä"] {
            assert!(retention(wrong).is_err(), "{wrong}");
        }
    }
}
