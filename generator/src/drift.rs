//! How the shape of events changes along the feed, when it is asked to.

/// From this event on there are fields that were not there before.
const NEW_FIELDS: u64 = 500;
/// From this event on some values are of another JSON kind.
const CHANGED_KINDS: u64 = 1_500;
/// From this event on there are objects and arrays several levels down.
const NESTING: u64 = 2_500;

/// Which changes one event shows. `Default` is the shape that never changes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Drift {
    /// `consent`, `page.language` and `engagement.rage_clicks` are there, and `schema_version` is 2.
    pub(crate) new_fields: bool,
    /// The price, if there is one, is text.
    pub(crate) price_as_text: bool,
    /// The experiment is an object.
    pub(crate) experiment_as_object: bool,
    /// `properties.attribution` is there.
    pub(crate) nesting: bool,
}

impl Drift {
    /// The changes of event number `position` of the feed; `id` decides which events have a value of another kind.
    pub(crate) fn at(position: u64, id: u128) -> Self {
        let changed = position >= CHANGED_KINDS;
        Self {
            new_fields: position >= NEW_FIELDS,
            price_as_text: changed && id.is_multiple_of(4),
            experiment_as_object: changed && id % 8 == 1,
            nesting: position >= NESTING,
        }
    }
}
