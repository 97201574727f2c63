//! What brings a table of a sink from the rows that it holds to those of an image: decided from the two alone.

use std::ops::Range;

use roaring::RoaringTreemap;

use super::{Image, TableImage, Watermark};
use crate::hash::TableHash;
use crate::rows::Rows;

/// What a sink holds of one model.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) watermark: Watermark,
    /// The rows that it holds are those at these addresses …
    pub(crate) addresses: Range<u64>,
    /// … but for these.
    pub(crate) deleted: RoaringTreemap,
}

impl Held {
    /// Whether it says of its rows what the image says.
    fn has_rows_of(&self, table: &TableImage) -> bool {
        self.watermark.rows == table.rows.count() && self.watermark.content_hash == table.content_hash
    }

    /// Whether its rows become those of the image by these that go and these that come. Addresses alone do not say so: another
    /// lake, or the same one made anew, gives the same to other rows.
    pub(crate) fn becomes(&self, table: &TableImage, gone: TableHash, added: TableHash) -> bool {
        self.watermark.content_hash.without(gone).add(added) == table.content_hash
    }
}

/// What brings a table up to its image.
#[derive(Debug, PartialEq)]
pub(crate) enum Change {
    /// The table holds its rows already.
    Nothing,
    /// The same rows at other addresses.
    Relabel,
    /// The table has rows that are gone, and lacks the last ones.
    Difference { gone: RoaringTreemap, added: Rows },
    /// The table is another one, or most of its rows have gone.
    Rebuild,
}

impl Change {
    /// What brings the table from what is held, if anything is, to its image.
    pub(crate) fn of(table: &TableImage, held: Option<&Held>) -> Self {
        let Some(held) = held.filter(|held| held.watermark.fingerprint == table.fingerprint) else {
            return Self::Rebuild;
        };
        let rows = &table.rows;
        if held.addresses.start == rows.addresses.start && held.addresses.end <= rows.addresses.end {
            let mut gone = rows.deleted.as_ref() - &held.deleted;
            gone.remove_range(..held.addresses.start);
            gone.remove_range(held.addresses.end..);
            // What was deleted stays so, or the table was made by another lake.
            let same_lake = held.deleted.is_subset(&rows.deleted);
            let added = rows.since(held.addresses.end);
            match (gone.len(), added.count()) {
                _ if !same_lake => {}
                (0, 0) if held.has_rows_of(table) => return Self::Nothing,
                (0, 0) => return Self::Rebuild,
                (gone, _) if gone > rows.count() / 2 + 1000 => return Self::Rebuild,
                _ => return Self::Difference { gone, added },
            }
        }
        // A table of rows whose hash is that of no rows is not one to trust a hash about.
        if held.has_rows_of(table) && table.content_hash != TableHash::EMPTY { Self::Relabel } else { Self::Rebuild }
    }

    /// How many rows are written or deleted, of a table with so many.
    pub(crate) fn rows(&self, all: u64) -> u64 {
        match self {
            Self::Nothing | Self::Relabel => 0,
            Self::Difference { gone, added } => gone.len() + added.count(),
            Self::Rebuild => all,
        }
    }
}

/// The version that is published already, if it leaves nothing to publish: its tables are those of the image, or of a
/// later state of the same lake. The time of a version grows with it in one lake, so a lower version with a later time is
/// of another lake, made where the first one was, and is published.
pub(crate) fn superseding(image: &Image, published: &[Watermark]) -> Option<u64> {
    let Image { version, as_of, tables, .. } = image;
    let newest = published.iter().map(|watermark| watermark.version).max()?;
    let newest_as_of = published.iter().map(|watermark| watermark.as_of).max()?;
    let is_published = |table: &TableImage| {
        let model = table.model();
        published.iter().any(|watermark| {
            watermark.model == model
                && watermark.fingerprint == table.fingerprint
                && watermark.rows == table.rows.count()
                && watermark.content_hash == table.content_hash
        })
    };
    let same = || tables.len() == published.len() && tables.iter().all(is_published);
    let later = *version < newest && *as_of < newest_as_of;
    (*version <= newest && (later || same())).then_some(newest)
}
