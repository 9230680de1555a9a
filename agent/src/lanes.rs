//! Who comes next where few can be served at once: owners take turns, and of one owner the smallest comes first.
//!
//! Owns the order and the count of those that are served. Never knows what is done with them.

use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::FrameworkId;

/// Whose a module is; none for the master, who wants to know whether it compiles.
pub(crate) type Owner = Option<FrameworkId>;

/// Those that wait for one of a few places.
#[derive(Debug)]
pub(crate) struct Lane<K> {
    places: usize,
    busy: usize,
    /// By size, and then as they came.
    waiting: BTreeMap<Owner, BTreeSet<(u64, u64, K)>>,
    /// Who was served last.
    last: Owner,
    came: u64,
}

impl<K: Ord> Lane<K> {
    pub(crate) fn new(places: usize) -> Self {
        Self { places, busy: 0, waiting: BTreeMap::new(), last: None, came: 0 }
    }

    pub(crate) fn push(&mut self, owner: Owner, size: u64, key: K) {
        self.came += 1;
        self.waiting.entry(owner).or_default().insert((size, self.came, key));
    }

    /// The next to be served, if a place is free: of the next owner after the last one who may be.
    pub(crate) fn next(&mut self, may: impl Fn(Owner) -> bool) -> Option<(Owner, K)> {
        if self.busy >= self.places {
            return None;
        }
        let last = self.last;
        let after = self.waiting.keys().copied().filter(|owner| *owner > last);
        let around = self.waiting.keys().copied().filter(|owner| *owner <= last);
        let owner = after.chain(around).find(|owner| may(*owner))?;
        let theirs = self.waiting.get_mut(&owner)?;
        let (_size, _came, key) = theirs.pop_first()?;
        if theirs.is_empty() {
            self.waiting.remove(&owner);
        }
        self.last = owner;
        self.busy += 1;
        Some((owner, key))
    }

    /// One that was served is done.
    pub(crate) fn done(&mut self) {
        self.busy = self.busy.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "checks of the master have no owner")]
    fn owner(number: u64) -> Owner {
        Some(FrameworkId(number))
    }

    #[test]
    fn owners_take_turns_and_small_ones_come_first() {
        let mut lane = Lane::new(1);
        for (size, key) in [(30, "a"), (10, "b"), (20, "c"), (10, "d")] {
            lane.push(owner(1), size, key);
        }
        lane.push(owner(2), 99, "x");
        lane.push(None, 5, "check");
        let mut order = Vec::new();
        while let Some((_owner, key)) = lane.next(|_| true) {
            assert!(lane.next(|_| true).is_none(), "there is one place");
            lane.done();
            order.push(key);
        }
        assert_eq!(order, ["b", "x", "check", "d", "c", "a"]);
    }

    #[test]
    fn an_owner_who_may_not_be_served_holds_up_nobody() {
        let mut lane = Lane::new(2);
        lane.push(owner(1), 1, "a");
        lane.push(owner(2), 1, "b");
        assert_eq!(lane.next(|whose| whose != owner(1)), Some((owner(2), "b")));
        assert_eq!(lane.next(|whose| whose != owner(1)), None);
        assert_eq!(lane.next(|_| true), Some((owner(1), "a")));
    }
}
