//! How many transfers each framework may have at once, so that slow ones of one are not waited for by another.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use tepui_proto::FrameworkId;
use tokio::sync::Semaphore;

/// Transfers of one framework and one direction at once.
const EACH: usize = 8;
/// Frameworks that are remembered before those without a transfer are forgotten.
const SWEEP: usize = 64;

/// Transfers in one direction.
#[derive(Debug, Default)]
pub(crate) struct Transfers(BTreeMap<FrameworkId, Weak<Semaphore>>);

impl Transfers {
    /// Where a transfer of this framework waits for its turn.
    pub(crate) fn of(&mut self, framework: FrameworkId) -> Arc<Semaphore> {
        if let Some(known) = self.0.get(&framework).and_then(Weak::upgrade) {
            return known;
        }
        if self.0.len() >= SWEEP {
            self.0.retain(|_framework, known| known.strong_count() > 0);
        }
        let new = Arc::new(Semaphore::new(EACH));
        self.0.insert(framework, Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_framework_has_so_many_and_another_its_own() {
        let mut transfers = Transfers::default();
        let first = transfers.of(FrameworkId(1));
        let held = (0..EACH).map(|_| first.try_acquire().unwrap()).collect::<Vec<_>>();
        assert!(transfers.of(FrameworkId(1)).try_acquire().is_err());
        assert!(transfers.of(FrameworkId(2)).try_acquire().is_ok());
        drop(held);
        drop(first);
        assert!(transfers.of(FrameworkId(1)).try_acquire().is_ok());
    }
}
