//! What is said of a model is said of its quarantine, too: nobody sees a row there, or a value, that the model would not have
//! shown if the check had let it pass.

use std::collections::BTreeSet;

use super::{Grant, Mask, On, RowPolicy, Rules};
use crate::models::row_checks::FAILED;
use crate::models::{LAYERS, TableName};

/// What stands for the checks that a row fails, where a value of the row is masked: they tell of that value.
const UNTOLD: &str = "NULL";

/// The model that a table is the quarantine of, if it is none itself.
pub(super) fn model_of<'t>(table: &TableName, known: &'t BTreeSet<TableName>) -> Option<&'t TableName> {
    known.iter().filter(|model| has_quarantine(model)).find(|model| model.quarantine() == *table)
}

fn has_quarantine(table: &TableName) -> bool {
    LAYERS.contains(&table.schema.as_str())
}

impl Rules {
    /// Says of the quarantines of some tables what is said of these. Whether they have one is asked of nobody: the lake may have one
    /// that the files have no more.
    pub(super) fn hold_for_quarantines(&mut self, known: &BTreeSet<TableName>) {
        let quarantine = |table: &TableName| {
            let quarantine = table.quarantine();
            (has_quarantine(table) && !known.contains(&quarantine)).then_some(quarantine)
        };
        let grants = self.grants.iter().filter_map(|grant| match &grant.on {
            On::Table(table) => Some(Grant { on: On::Table(quarantine(table)?), ..grant.clone() }),
            // It is a table of that schema itself.
            On::Schema(_) => None,
        });
        let grants: Vec<_> = grants.collect();
        let rows = self.rows.iter().filter_map(|of| Some(RowPolicy { table: quarantine(&of.table)?, ..of.clone() }));
        let rows: Vec<_> = rows.collect();
        let masks = self.masks.iter().filter_map(|mask| {
            let mask = Mask { table: quarantine(&mask.table)?, ..mask.clone() };
            let untold = Mask { column: FAILED.to_owned(), using: UNTOLD.to_owned(), ..mask.clone() };
            Some([mask, untold])
        });
        let masks: Vec<_> = masks.flatten().collect();
        self.following = grants.len() + rows.len() + masks.len();
        self.grants.extend(grants);
        self.rows.extend(rows);
        self.masks.extend(masks);
    }
}
