//! Where a capture stands, as the text that the log keeps for its lane.

use std::fmt;
use std::str::FromStr;

use pgwire_replication::Lsn;
use serde_json::Value;

/// How far the events of a slot are in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    /// In the first reading of the tables: `snapshot 0/16B3748 ["public","orders","17"]`.
    Snapshot {
        /// The place from which the slot has the changes.
        lsn: Lsn,
        /// The schema, the table and the key of the last row that is in the log; nothing before the first.
        last: Vec<String>,
    },
    /// In the changes: `0/16B3748`, or `0/16B3748 + 20000 of 0/16C0000`.
    Changes {
        /// Every transaction is in the log that ends there or before.
        lsn: Lsn,
        /// The transaction after it is there in part.
        part: Option<Part>,
    },
}

/// The beginning of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Where the transaction's commit is.
    pub(crate) commit: Lsn,
    /// So many of its changes are in the log.
    pub(crate) changes: u64,
}

impl Position {
    /// The end of a transaction.
    pub(crate) fn at(lsn: Lsn) -> Self {
        Self::Changes { lsn, part: None }
    }

    /// From where the server has to keep what it has.
    pub(crate) fn lsn(&self) -> Lsn {
        match self {
            Self::Snapshot { lsn, .. } | Self::Changes { lsn, .. } => *lsn,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot { lsn, last } => write!(f, "snapshot {lsn} {}", Value::from(last.clone())),
            Self::Changes { lsn, part: None } => lsn.fmt(f),
            Self::Changes { lsn, part: Some(Part { commit, changes }) } => write!(f, "{lsn} + {changes} of {commit}"),
        }
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is no position of a capture");
        let lsn = |text: &str| Lsn::parse(text).map_err(|_| wrong());
        if let Some((at, last)) = text.strip_prefix("snapshot ").and_then(|rest| rest.split_once(' ')) {
            let last = serde_json::from_str(last).map_err(|_| wrong())?;
            return Ok(Self::Snapshot { lsn: lsn(at)?, last });
        }
        let Some((at, part)) = text.split_once(" + ") else { return Ok(Self::at(lsn(text)?)) };
        let (changes, commit) = part.split_once(" of ").ok_or_else(wrong)?;
        let part = Part { commit: lsn(commit)?, changes: changes.parse().map_err(|_| wrong())? };
        Ok(Self::Changes { lsn: lsn(at)?, part: Some(part) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_its_text() {
        let (lsn, commit) = (Lsn(0x16_B374_D848), Lsn(0x17_0000_0000));
        let key = ["public", "a b\"c", "1", "ü\n"].map(str::to_owned).to_vec();
        let positions = [
            (Position::at(lsn), "16/B374D848"),
            (Position::Changes { lsn, part: Some(Part { commit, changes: 20_000 }) }, "16/B374D848 + 20000 of 17/0"),
            (Position::Snapshot { lsn, last: Vec::new() }, "snapshot 16/B374D848 []"),
            (Position::Snapshot { lsn, last: key }, r#"snapshot 16/B374D848 ["public","a b\"c","1","ü\n"]"#),
        ];
        for (position, text) in positions {
            assert_eq!(position.to_string(), text);
            assert_eq!(text.parse(), Ok(position));
        }
        for wrong in ["", "16", "16/B + 3", "snapshot 1/2 x", "snapshot 1/2"] {
            assert!(wrong.parse::<Position>().is_err(), "{wrong}");
        }
    }
}
