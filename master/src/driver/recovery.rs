//! From what is on disk to a state. Never guesses: what cannot be read stops the master.

use super::DriverError;
use std::path::Path;
use tepui_journal::{Journal, Recovered};
use tepui_master_core::{Entry, State};

/// A state and the journal that continues it.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) state: State,
    pub(super) journal: Journal,
    /// Of the last entry; 0 if there is none.
    pub(super) index: u64,
}

/// Opens a journal and plays it.
pub(super) fn recover(folder: &Path) -> Result<Recovery, DriverError> {
    let (journal, Recovered { snapshot, records, next_index }) = Journal::open(folder)?;
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
