//! Column claims: which path has which column, agreed on by all writers before a file uses it.
//!
//! A claim is an object `_columns/<id>.json`, put if absent, where `id` is the Parquet field id. Two writers that invent
//! columns at the same moment race for the next id; who loses reads the winner's claim and goes on from there, so that
//! every file of the table agrees on names, types and ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::columns::{ColumnType, column_name};
use crate::error::Result;
use crate::layout;
use crate::schema;
use crate::store::Store;

/// The first field id of a claimed column; those below are the log's own columns.
pub(crate) const FIRST_CLAIM: i32 = 100;

/// A path's column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The Parquet field id, never reused.
    pub id: i32,
    /// The keys from the event's root, as sent.
    pub path: Arc<[String]>,
    /// The column's name, unique in the log.
    pub name: String,
    /// The column's type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
}

/// All claims that this process knows of, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    by_id: BTreeMap<i32, Claim>,
}

impl Claims {
    /// Adds a claim that the store holds.
    pub fn insert(&mut self, claim: Claim) {
        self.by_id.insert(claim.id, claim);
    }

    /// Adds all claims of another set.
    pub fn merge(&mut self, other: &Self) {
        self.by_id.extend(other.by_id.iter().map(|(id, claim)| (*id, claim.clone())));
    }

    /// The claims by id.
    pub fn iter(&self) -> impl Iterator<Item = &Claim> {
        self.by_id.values()
    }

    /// Whether this claim is known.
    pub fn contains(&self, id: i32) -> bool {
        self.by_id.contains_key(&id)
    }

    /// The column that values of this type at this path go to: the one of the same type, or else a number's column for
    /// numbers and a text's for texts, into which the values are cast.
    pub fn find(&self, path: &[String], kind: ColumnType) -> Option<&Claim> {
        let of_path = || self.by_id.values().filter(|claim| *claim.path == *path);
        of_path().find(|claim| claim.kind == kind).or_else(|| of_path().find(|claim| claim.kind.is_kin_of(kind)))
    }

    /// The first id that is not known to be taken. Who fills the gaps in its knowledge learns of every lower claim before it
    /// makes one of its own, so that no name is given twice.
    fn next_id(&self) -> i32 {
        let mut next = FIRST_CLAIM;
        for id in self.by_id.keys().skip_while(|id| **id < FIRST_CLAIM) {
            if *id != next {
                break;
            }
            next += 1;
        }
        next
    }

    /// The claim to try next for a path: the next id, and the path's name or the first variant of it that is free.
    fn propose(&self, path: &Arc<[String]>, kind: ColumnType) -> Claim {
        let plain = column_name(path);
        let taken = |name: &str| schema::is_own(name) || self.by_id.values().any(|claim| claim.name == name);
        let typed = format!("{plain}_{}", kind.suffix());
        let numbered = (2..).map(|n| format!("{typed}_{n}"));
        let candidates = [plain, typed.clone()].into_iter().chain(numbered);
        let name = candidates.into_iter().find(|name| !taken(name)).unwrap_or(typed);
        Claim { id: self.next_id(), path: Arc::clone(path), name, kind }
    }
}

impl ColumnType {
    /// Whether values of the one type may be cast into a column of the other rather than get a column of their own.
    fn is_kin_of(self, other: Self) -> bool {
        let family = |kind| match kind {
            Self::Integer | Self::BigInt | Self::Double | Self::Decimal(..) => 0,
            Self::Date | Self::Timestamp => 1,
            Self::Boolean => 2,
            Self::Varchar => 3,
            Self::Json => 4,
        };
        family(self) == family(other)
    }
}

/// Finds or makes the claim for values of a type at a path; `known` learns of every claim met on the way.
///
/// # Errors
/// Any failure of the store.
pub(crate) async fn claim(store: &Store, known: &mut Claims, path: &Arc<[String]>, kind: ColumnType) -> Result<Claim> {
    loop {
        if let Some(claim) = known.find(path, kind) {
            return Ok(claim.clone());
        }
        let proposal = known.propose(path, kind);
        known.insert(store.put_or_read(&layout::claim(proposal.id), proposal).await?);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(keys: &[&str]) -> Arc<[String]> {
        keys.iter().map(|&key| key.to_owned()).collect()
    }

    #[tokio::test]
    async fn a_second_type_gets_a_column_of_its_own() {
        let (store, mut known) = (Store::memory(), Claims::default());
        let mut name = async |keys: &[&str], kind| claim(&store, &mut known, &path(keys), kind).await.unwrap().name;
        assert_eq!(name(&["a", "value"], ColumnType::Double).await, "a_value");
        assert_eq!(name(&["a", "value"], ColumnType::Varchar).await, "a_value_string");
        assert_eq!(name(&["a_value"], ColumnType::Double).await, "a_value_double");
        assert_eq!(name(&["a", "value"], ColumnType::Double).await, "a_value");
        assert_eq!(name(&["a", "value"], ColumnType::BigInt).await, "a_value", "a number goes where numbers go");
        assert_eq!(name(&["_row"], ColumnType::Double).await, "_row_double", "the log's own names are taken");
    }

    #[tokio::test]
    async fn a_claim_that_no_commit_has_yet_is_found() {
        let store = Store::memory();
        let (mut one, mut two) = (Claims::default(), Claims::default());
        claim(&store, &mut one, &path(&["x"]), ColumnType::Double).await.unwrap();
        let y = claim(&store, &mut two, &path(&["y"]), ColumnType::Double).await.unwrap();
        // A third knows of the second alone, because only that one was committed.
        let mut three = Claims::default();
        three.insert(y);
        let x = claim(&store, &mut three, &path(&["x"]), ColumnType::Varchar).await.unwrap();
        assert_eq!((x.id, x.name.as_str()), (FIRST_CLAIM + 2, "x_string"));
        let x = claim(&store, &mut three, &path(&["x"]), ColumnType::Double).await.unwrap();
        assert_eq!((x.id, x.name.as_str()), (FIRST_CLAIM, "x"));
    }

    #[tokio::test]
    async fn two_writers_agree() {
        let store = Store::memory();
        let (mut one, mut two) = (Claims::default(), Claims::default());
        let x = claim(&store, &mut one, &path(&["x"]), ColumnType::Double).await.unwrap();
        let y = claim(&store, &mut two, &path(&["y"]), ColumnType::Double).await.unwrap();
        let x_again = claim(&store, &mut two, &path(&["x"]), ColumnType::Double).await.unwrap();
        assert_eq!((x.id, y.id), (FIRST_CLAIM, FIRST_CLAIM + 1));
        assert_eq!(x, x_again);
    }
}
