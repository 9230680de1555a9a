//! Loaded modules by path, a bounded number of them.
//!
//! Its one surprise: an entry is made before its module is loaded, so that a thousand tasks of one module that
//! arrive together load it once.

use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// Modules of one kind that a cell keeps ready.
const ENTRIES: usize = 128;

/// A module that is there or about to be.
pub(crate) type Slot<T> = Arc<OnceCell<T>>;

/// Modules by path; the one that was not asked for the longest goes first.
#[derive(Debug)]
pub(crate) struct Cache<T> {
    slots: HashMap<String, (u64, Slot<T>)>,
    clock: u64,
}

impl<T> Default for Cache<T> {
    fn default() -> Self {
        Self { slots: HashMap::new(), clock: 0 }
    }
}

impl<T> Cache<T> {
    /// The slot of a path; the caller fills it if it is empty.
    pub(crate) fn slot(&mut self, path: &str) -> Slot<T> {
        self.clock += 1;
        if let Some((used, slot)) = self.slots.get_mut(path) {
            *used = self.clock;
            return Arc::clone(slot);
        }
        if self.slots.len() >= ENTRIES {
            let oldest =
                self.slots.iter().min_by_key(|(_, (used, _))| *used).map(|(path, _)| path.clone());
            oldest.and_then(|path| self.slots.remove(&path));
        }
        let slot = Slot::default();
        self.slots.insert(path.to_owned(), (self.clock, Arc::clone(&slot)));
        slot
    }
}
