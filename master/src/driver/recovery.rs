//! From what is on disk to a state. Never guesses: what cannot be read stops the master.

use super::DriverError;
use std::path::Path;
use std::sync::Arc;
use tepui_journal::{Journal, Recovered, Room};
use tepui_master_core::{Entry, State};

/// A state and the journal that continues it.
#[derive(Debug)]
pub(crate) struct Recovery<L = Journal> {
    pub(super) state: State,
    pub(super) journal: L,
    /// Of the last entry; 0 if there is none.
    pub(super) index: u64,
}

impl Recovery {
    /// The room on the journal's disk.
    pub(crate) fn room(&self) -> &Arc<Room> {
        self.journal.room()
    }
}

/// Opens a journal, which keeps so many bytes of its disk for itself, and plays it.
pub(crate) fn recover(folder: &Path, ballast_bytes: u64) -> Result<Recovery, DriverError> {
    let (journal, Recovered { snapshot, records, next_index }) =
        Journal::open_with(folder, ballast_bytes)?;
    let mut state = match &snapshot {
        Some((_, bytes)) => State::decode(bytes).map_err(DriverError::Snapshot)?,
        None => State::new(),
    };
    let entries = records.len();
    for (index, record) in records {
        let entry =
            Entry::decode(&record).map_err(|source| DriverError::Entry { index, source })?;
        state.apply(&entry);
    }
    let index = next_index.saturating_sub(1);
    let snapshot = snapshot.map_or(0, |(index, _)| index);
    tracing::info!(index, snapshot, entries, term = state.term().0, "the state is back");
    Ok(Recovery { state, journal, index })
}
