//! Durable state as a turn sees it: what the cluster committed, under what the turn itself has written.
//!
//! It never writes anywhere; the turn's writes leave as calls when the turn ends.

use std::collections::{BTreeMap, BTreeSet};

/// Why a value could not be read as the type that was asked for, or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateError {
    pub(crate) key: String,
    pub(crate) source: postcard::Error,
}

impl std::fmt::Display for StateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the value of the state key `{}` is not of the type that was asked for", self.key)
    }
}

impl std::error::Error for StateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Where committed state is read.
#[derive(Debug)]
pub(crate) enum Committed {
    /// From the cluster, through the component's imports.
    Host,
    /// From a copy, in tests.
    #[cfg(not(target_family = "wasm"))]
    Copy(BTreeMap<String, Vec<u8>>),
}

/// Committed state and this turn's writes over it.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) committed: Committed,
    writes: BTreeMap<String, Option<Vec<u8>>>,
}

impl Store {
    pub(crate) fn new(committed: Committed) -> Self {
        Self { committed, writes: BTreeMap::new() }
    }

    pub(crate) fn read(&self, key: &str) -> Option<Vec<u8>> {
        if let Some(written) = self.writes.get(key) {
            return written.clone();
        }
        match &self.committed {
            Committed::Host => crate::bindings::tepui::framework::state::get(key),
            #[cfg(not(target_family = "wasm"))]
            Committed::Copy(pairs) => pairs.get(key).cloned(),
        }
    }

    pub(crate) fn write(&mut self, key: &str, value: Option<Vec<u8>>) {
        self.writes.insert(key.to_owned(), value);
    }

    /// In order, without those that this turn deleted.
    pub(crate) fn keys(&self, prefix: &str) -> Vec<String> {
        let mut keys: BTreeSet<String> = match &self.committed {
            Committed::Host => {
                crate::bindings::tepui::framework::state::keys(prefix).into_iter().collect()
            }
            #[cfg(not(target_family = "wasm"))]
            Committed::Copy(pairs) => {
                pairs.keys().filter(|key| key.starts_with(prefix)).cloned().collect()
            }
        };
        for (key, value) in self.writes.iter().filter(|(key, _)| key.starts_with(prefix)) {
            match value {
                Some(_) => keys.insert(key.clone()),
                None => keys.remove(key),
            };
        }
        keys.into_iter().collect()
    }

    /// One write per key, the last one, in the order of keys.
    pub(crate) fn take_writes(&mut self) -> BTreeMap<String, Option<Vec<u8>>> {
        std::mem::take(&mut self.writes)
    }
}
