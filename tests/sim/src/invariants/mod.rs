//! What must always be true, one file each.

pub mod books;
pub mod drained;
pub mod events;
pub mod finality;
pub mod launches;
pub mod limits;
pub mod pools;
pub mod replicas;

use tepui_master_core::entry::Turn;
use tepui_master_core::{Entry, EntryKind};

/// The turn that an entry commits, if it does.
pub(crate) fn turn(entry: &Entry) -> Option<&Turn> {
    match &entry.kind {
        EntryKind::TurnCommitted(turn) => Some(turn),
        EntryKind::TurnPooled(pooled) => Some(&pooled.turn),
        _ => None,
    }
}
