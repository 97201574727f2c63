//! The database of the state cache: where it is, how it is set up, and which of its errors are the machine's.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use fjall::compaction::Leveled;
use fjall::{Database, Keyspace, KeyspaceCreateOptions};

/// The database's directory in the cache's. Another layout of the entries or of the keys' hash gets another number.
pub(super) const DATABASE: &str = "format-3";
const DATABASE_OF_ANY_FORMAT: &str = "format-";

/// Blocks of tables kept in memory.
const MEMORY_BYTES: u64 = 64 << 20;

/// So many commits lie side by side before they are merged with what is older. Keys are hashes, so that each merge rewrites
/// most of the tables that it meets: what matters is how seldom one comes.
const COMMITS_APART: u8 = 24;

/// About what one table holds.
const TABLE_BYTES: u64 = 16 << 20;

pub(super) fn open_database(path: &Path) -> fjall::Result<(Database, Keyspace)> {
    let database = Database::builder(path).cache_size(MEMORY_BYTES).open()?;
    let merging = Leveled::default().with_l0_threshold(COMMITS_APART).with_table_target_size(TABLE_BYTES);
    let keys = database
        .keyspace("keys", || KeyspaceCreateOptions::default().compaction_strategy(Arc::new(merging.clone())))?;
    Ok((database, keys))
}

/// Whether an error is the machine's, which a new database would meet as well.
pub(super) fn is_outer(error: &fjall::Error) -> bool {
    let (fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error))) = error else { return false };
    matches!(
        error.kind(),
        ErrorKind::PermissionDenied | ErrorKind::StorageFull | ErrorKind::ReadOnlyFilesystem | ErrorKind::QuotaExceeded
    ) || error.raw_os_error().is_some_and(|code| [TOO_MANY_FILES, TOO_MANY_FILES_IN_SYSTEM].contains(&code))
}

/// EMFILE and ENFILE, which have no [`ErrorKind`].
const TOO_MANY_FILES: i32 = 24;
const TOO_MANY_FILES_IN_SYSTEM: i32 = 23;

pub(super) fn delete_other_formats(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let foreign = name.to_str().is_some_and(|name| name.starts_with(DATABASE_OF_ANY_FORMAT) && name != DATABASE);
        if foreign {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
