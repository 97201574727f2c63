//! One module a command; each of them calls the rooms below and says what came of it.

pub(crate) mod capture;
pub(crate) mod demo;
pub(crate) mod diff;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod generate;
pub(crate) mod ingest;
pub(crate) mod init;
pub(crate) mod lineage;
pub(crate) mod log;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod quarantine;
pub(crate) mod query;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod test;
pub(crate) mod token;
pub(crate) mod user;
pub(crate) mod verify;
pub(crate) mod why;
