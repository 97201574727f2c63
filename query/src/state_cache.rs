//! The local state cache: which keys a model has seen, by version of the model. Rebuildable, never the truth.
