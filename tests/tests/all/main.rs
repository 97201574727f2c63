//! The product's tests, rooms together: one binary, a module a subject.

#[cfg(test)]
mod change_data;
#[cfg(test)]
mod contract;
#[cfg(test)]
mod crowds;
#[cfg(test)]
mod delta;
#[cfg(test)]
mod flat;
#[cfg(test)]
mod floors;
#[cfg(test)]
mod foreign_readers;
#[cfg(test)]
mod format;
#[cfg(test)]
mod grouped;
#[cfg(test)]
mod growth;
#[cfg(test)]
mod invariants;
#[cfg(test)]
mod kept_right;
#[cfg(test)]
mod kept_tables;
#[cfg(test)]
mod model;
#[cfg(test)]
mod models;
#[cfg(test)]
mod pipeline;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod postgres_rights;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod replays;
#[cfg(test)]
mod row_checks;
#[cfg(test)]
mod storms;
#[cfg(test)]
mod structure;
#[cfg(test)]
mod travels;
#[cfg(test)]
mod unit_model;
