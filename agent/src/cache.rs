//! Compiled modules that are kept, and which of them go when they are too many bytes.
//!
//! Owns the table, never a file. What nobody has asked for in an hour goes first, since its owner may be gone. After that
//! the owner who keeps the most loses something, so that whoever has many modules evicts their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::lanes::Owner;
use crate::modules::Key;

/// What nobody has asked for in that time is let go of before what is in use.
const IDLE: Duration = Duration::from_hours(1);

#[derive(Debug)]
struct Kept {
    path: Arc<str>,
    size: u64,
    /// When it was last asked for, in uses of the table; 0 if it was found at the start.
    used: u64,
    used_at: Instant,
    /// Whoever asked for it first. None while only the master did, or nobody since the start.
    owner: Owner,
}

/// What one owner keeps.
#[derive(Debug, Default)]
struct Share {
    bytes: u64,
    /// By use: what was not used for longest comes first.
    keys: BTreeSet<(u64, Key)>,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Cache {
    kept: BTreeMap<Key, Kept>,
    shares: BTreeMap<Owner, Share>,
    bytes: u64,
    /// What may be kept.
    most: u64,
    uses: u64,
    begun: Instant,
}

impl Cache {
    pub(crate) fn new(most: u64, now: Instant) -> Self {
        let (kept, shares) = (BTreeMap::new(), BTreeMap::new());
        Self { kept, shares, bytes: 0, most, uses: 0, begun: now }
    }

    /// Takes in what was there before the agent began. Nobody is known to own it.
    pub(crate) fn add_found(&mut self, key: Key, path: Arc<str>, size: u64) {
        let used_at = self.begun;
        self.insert(key, Kept { path, size, used: 0, used_at, owner: None });
    }

    /// Takes in what was just made. Says which files are to go for it: never its own.
    pub(crate) fn add(
        &mut self,
        (key, owner): (Key, Owner),
        path: Arc<str>,
        size: u64,
        now: Instant,
    ) -> Vec<Arc<str>> {
        self.uses += 1;
        self.insert(key, Kept { path, size, used: self.uses, used_at: now, owner });
        let mut gone = Vec::new();
        while self.bytes > self.most
            && let Some(key) = self.next_to_go(now)
            && let Some(kept) = self.remove(key)
        {
            gone.push(kept.path);
        }
        gone
    }

    /// A module that is here, and its size. It has been used, and is theirs who ask if it was nobody's.
    pub(crate) fn find(
        &mut self,
        (key, owner): (Key, Owner),
        now: Instant,
    ) -> Option<(Arc<str>, u64)> {
        let mut kept = self.remove(key)?;
        self.uses += 1;
        (kept.used, kept.used_at) = (self.uses, now);
        kept.owner = kept.owner.or(owner);
        let found = (Arc::clone(&kept.path), kept.size);
        self.insert(key, kept);
        Some(found)
    }

    /// What was not asked for in a long time, or else of the owner who keeps the most what was not used for longest. Passes
    /// over what was used last of all.
    fn next_to_go(&self, now: Instant) -> Option<Key> {
        let first =
            |share: &Share| share.keys.first().filter(|(used, _)| *used < self.uses).copied();
        let oldest = self.shares.values().filter_map(first).min();
        let is_idle = |key: &Key| {
            let kept = self.kept.get(key);
            kept.is_some_and(|kept| now.saturating_duration_since(kept.used_at) > IDLE)
        };
        if let Some((_, key)) = oldest.filter(|(_, key)| is_idle(key)) {
            return Some(key);
        }
        let shares = self.shares.values().filter_map(|share| Some((share.bytes, first(share)?.1)));
        shares.max_by_key(|(bytes, _)| *bytes).map(|(_, key)| key)
    }

    fn insert(&mut self, key: Key, kept: Kept) {
        self.remove(key);
        self.bytes = self.bytes.saturating_add(kept.size);
        let share = self.shares.entry(kept.owner).or_default();
        share.bytes = share.bytes.saturating_add(kept.size);
        share.keys.insert((kept.used, key));
        self.kept.insert(key, kept);
    }

    fn remove(&mut self, key: Key) -> Option<Kept> {
        let kept = self.kept.remove(&key)?;
        self.bytes = self.bytes.saturating_sub(kept.size);
        if let Some(share) = self.shares.get_mut(&kept.owner) {
            share.bytes = share.bytes.saturating_sub(kept.size);
            share.keys.remove(&(kept.used, key));
            if share.keys.is_empty() {
                self.shares.remove(&kept.owner);
            }
        }
        Some(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tepui_proto::control::ModuleKind;
    use tepui_proto::{Digest, FrameworkId};

    const NOBODY: Owner = None;
    const MANY: Owner = Some(FrameworkId(1));
    const FEW: Owner = Some(FrameworkId(2));

    fn key(number: u8) -> Key {
        (Digest([number; 32]), ModuleKind::CommandP1)
    }

    /// Adds one of a tenth of what may be kept. Says which go.
    fn add(cache: &mut Cache, owner: Owner, number: u8) -> Vec<Arc<str>> {
        let now = cache.begun;
        cache.add((key(number), owner), number.to_string().into(), 10, now)
    }

    fn find(cache: &mut Cache, owner: Owner, number: u8) -> bool {
        let now = cache.begun;
        cache.find((key(number), owner), now).is_some()
    }

    fn has(cache: &Cache, number: u8) -> bool {
        cache.kept.contains_key(&key(number))
    }

    #[test]
    fn who_has_many_modules_evicts_their_own() {
        let mut cache = Cache::new(100, Instant::now());
        for number in 0..3 {
            assert!(add(&mut cache, FEW, number).is_empty());
        }
        for number in 10..110 {
            let gone = add(&mut cache, MANY, number);
            let own = (number >= 17).then(|| Arc::from((number - 7).to_string()));
            assert_eq!(gone, Vec::from_iter(own), "the one of theirs that was used least lately");
        }
        assert!((0..3).all(|number| has(&cache, number)));
        assert!(find(&mut cache, MANY, 103));
        assert_eq!(add(&mut cache, MANY, 200), [Arc::from("104")], "103 was just used");
        assert_eq!((cache.bytes, cache.kept.len()), (100, 10));
    }

    #[test]
    fn what_was_found_at_the_start_is_one_owners_until_somebody_asks() {
        let mut cache = Cache::new(100, Instant::now());
        for number in 0..10 {
            cache.add_found(key(number), number.to_string().into(), 10);
        }
        assert!(find(&mut cache, FEW, 0));
        assert!(find(&mut cache, MANY, 0), "and it stays theirs who asked first");
        assert_eq!(cache.kept[&key(0)].owner, FEW);
        for number in 10..14 {
            assert_eq!(add(&mut cache, MANY, number), [Arc::from((number - 9).to_string())]);
        }
        assert_eq!(cache.shares[&NOBODY].bytes, 50);
        assert!(has(&cache, 0));
    }

    #[test]
    fn what_was_just_made_stays_however_large_it_is() {
        let mut cache = Cache::new(100, Instant::now());
        add(&mut cache, FEW, 1);
        let now = cache.begun;
        assert_eq!(cache.add((key(2), MANY), "2".into(), 1_000, now), [Arc::from("1")]);
        assert!(has(&cache, 2));
        assert_eq!(add(&mut cache, FEW, 3), [Arc::from("2")]);
    }
    #[test]
    fn what_owners_who_are_gone_have_left_goes_before_what_is_in_use() {
        let mut cache = Cache::new(100, Instant::now());
        for number in 0..6 {
            let dead = Some(FrameworkId(100 + u64::from(number) / 2));
            assert!(add(&mut cache, dead, number).is_empty());
        }
        let later = cache.begun + IDLE * 2;
        // One framework that lives, and uses as much as there is room for.
        for number in 10..20 {
            let gone = cache.add((key(number), MANY), number.to_string().into(), 10, later);
            let left = (number >= 14).then(|| Arc::from((number - 14).to_string()));
            assert_eq!(gone, Vec::from_iter(left));
        }
        assert!((10..20).all(|number| has(&cache, number)));
    }
}
