//! Who comes next where few can be served at once: owners take turns, and of one owner the smallest comes first.
//!
//! Owns the order and the count of those that are served. Never knows what is done with them. What several owners wait
//! for is served once, in the turn of whoever comes first.

use std::collections::btree_map::Entry;
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
    /// The size of each that waits, and as which it came for whom.
    keys: BTreeMap<K, (u64, BTreeMap<Owner, u64>)>,
    /// Who was served last.
    last: Owner,
    came: u64,
}

impl<K: Ord + Copy> Lane<K> {
    pub(crate) fn new(places: usize) -> Self {
        Self {
            places,
            busy: 0,
            waiting: BTreeMap::new(),
            keys: BTreeMap::new(),
            last: None,
            came: 0,
        }
    }

    /// One more that waits, or one more who waits for it.
    pub(crate) fn push(&mut self, owner: Owner, size: u64, key: K) {
        self.came += 1;
        let (size, came_for) = self.keys.entry(key).or_insert_with(|| (size, BTreeMap::new()));
        if let Entry::Vacant(place) = came_for.entry(owner) {
            place.insert(self.came);
            self.waiting.entry(owner).or_default().insert((*size, self.came, key));
        }
    }

    /// If it waits here, it does for this owner too.
    pub(crate) fn join(&mut self, owner: Owner, key: K) {
        if let Some((size, _)) = self.keys.get(&key) {
            self.push(owner, *size, key);
        }
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
        let (_size, _came, key) = *self.waiting.get(&owner)?.first()?;
        self.take_out(key);
        self.last = owner;
        self.busy += 1;
        Some((owner, key))
    }

    /// It waits no more, for anybody.
    fn take_out(&mut self, key: K) {
        let Some((size, came_for)) = self.keys.remove(&key) else { return };
        for (owner, came) in came_for {
            if let Some(theirs) = self.waiting.get_mut(&owner) {
                theirs.remove(&(size, came, key));
                if theirs.is_empty() {
                    self.waiting.remove(&owner);
                }
            }
        }
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

    #[test]
    fn what_two_owners_wait_for_is_served_once_in_the_turn_that_comes_first() {
        let mut lane = Lane::new(1);
        for (size, key) in [(1, "a"), (2, "b"), (9, "shared")] {
            lane.push(owner(1), size, key);
        }
        lane.join(owner(2), "shared");
        lane.join(owner(2), "shared");
        lane.join(owner(2), "elsewhere");
        lane.push(owner(2), 10, "x");
        let mut order = Vec::new();
        while let Some(next) = lane.next(|_| true) {
            lane.done();
            order.push(next);
        }
        let turns = [(owner(1), "a"), (owner(2), "shared"), (owner(1), "b"), (owner(2), "x")];
        assert_eq!(order, turns, "the first owner's entry of it took no place");
        assert!(lane.keys.is_empty() && lane.waiting.is_empty());
    }
}
