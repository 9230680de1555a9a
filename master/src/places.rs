//! Places that are few, shared out: whoever comes gets one, and if all are taken, somebody who has the most loses one.
//!
//! Owns the one rule by which this master shares what strangers, people and agents compete for: connections, requests,
//! waits, uploads. A bound alone would let the first who fills it shut out all others; here who fills it only ever
//! pushes out themself. Its one surprise: nobody is refused a place, they lose it later, so a holder has to watch
//! [`Place::lost`].

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

/// Who competes: first all of an address (or a framework, or an agent), then each of its connections.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Owner {
    group: String,
    member: u64,
}

impl Owner {
    /// One connection from an address. An IPv6 network of 64 bits is one address: each of its hosts can have them all.
    pub(crate) fn connection(address: IpAddr, connection: u64) -> Self {
        let group = match address.to_canonical() {
            IpAddr::V6(address) => {
                let network = address.to_bits() >> 64 << 64;
                Ipv6Addr::from_bits(network).to_string()
            }
            address @ IpAddr::V4(_) => address.to_string(),
        };
        Self { group, member: connection }
    }

    /// By a name alone.
    pub(crate) fn named(name: &str) -> Self {
        Self { group: name.to_owned(), member: 0 }
    }
}

/// The places of one kind. Clones are the same places.
#[derive(Clone)]
pub(crate) struct Places(Arc<Shared>);

struct Shared {
    most: usize,
    /// Held for a look-up at a time, never across an await.
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    count: usize,
    /// Rises with each place that is taken or touched: a lower one was idle for longer.
    next: u64,
    groups: BTreeMap<String, Group>,
}

#[derive(Default)]
struct Group {
    count: usize,
    members: BTreeMap<u64, BTreeMap<u64, CancellationToken>>,
}

impl fmt::Debug for Places {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Places").field("most", &self.0.most).finish_non_exhaustive()
    }
}

impl Places {
    /// So many.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Shared { most: most.max(1), taken: Mutex::default() }))
    }

    /// Takes one. If all are taken, the group that has the most loses the one that was idle for longest of the member
    /// that has the most.
    pub(crate) fn take(&self, owner: Owner) -> Place {
        self.take_with(owner, CancellationToken::new())
    }

    /// As [`Self::take`]; whoever loses it is told through `lost`, which may end more than this one place.
    pub(crate) fn take_with(&self, owner: Owner, lost: CancellationToken) -> Place {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.count >= self.0.most {
            taken.evict();
        }
        let number = taken.put(&owner, lost.clone());
        Place { places: self.clone(), owner, number: AtomicU64::new(number), lost }
    }

    /// How many are taken, and how many of them by this owner.
    pub(crate) fn crowd(&self, owner: &Owner) -> (usize, usize) {
        let taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let group = taken.groups.get(&owner.group);
        let own = group.and_then(|group| group.members.get(&owner.member));
        (taken.count, own.map_or(0, BTreeMap::len))
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner).count
    }
}

impl Taken {
    fn put(&mut self, owner: &Owner, lost: CancellationToken) -> u64 {
        let number = self.next;
        self.next += 1;
        let group = self.groups.entry(owner.group.clone()).or_default();
        group.members.entry(owner.member).or_default().insert(number, lost);
        group.count += 1;
        self.count += 1;
        number
    }

    fn remove(&mut self, owner: &Owner, number: u64) -> Option<CancellationToken> {
        let group = self.groups.get_mut(&owner.group)?;
        let member = group.members.get_mut(&owner.member)?;
        let lost = member.remove(&number)?;
        if member.is_empty() {
            group.members.remove(&owner.member);
        }
        group.count -= 1;
        self.count -= 1;
        if group.count == 0 {
            self.groups.remove(&owner.group);
        }
        Some(lost)
    }

    /// Looks at all that is taken; only while all places are.
    fn evict(&mut self) {
        // Where two have as many, the one that was idle for longest.
        let greediest = self.groups.iter().max_by_key(|(_, group)| {
            let oldest = group.members.values().map(oldest).min();
            (group.count, Reverse(oldest))
        });
        let Some((name, group)) = greediest else { return };
        let greediest =
            group.members.iter().max_by_key(|(_, places)| (places.len(), Reverse(oldest(places))));
        let Some((member, places)) = greediest else { return };
        let owner = Owner { group: name.clone(), member: *member };
        if let Some(lost) = oldest(places).and_then(|number| self.remove(&owner, number)) {
            lost.cancel();
        }
    }
}

fn oldest(places: &BTreeMap<u64, CancellationToken>) -> Option<u64> {
    places.keys().next().copied()
}

/// A place that is held until it is dropped or lost.
pub(crate) struct Place {
    places: Places,
    owner: Owner,
    number: AtomicU64,
    lost: CancellationToken,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").field("owner", &self.owner).finish_non_exhaustive()
    }
}

impl Place {
    /// Comes back once somebody else has it. May be cancelled.
    pub(crate) async fn lost(&self) {
        self.lost.cancelled().await;
    }

    /// Whether somebody else has it.
    pub(crate) fn is_lost(&self) -> bool {
        self.lost.is_cancelled()
    }

    /// Something has come of it: of all that its owner has, it is now the last that is lost.
    pub(crate) fn touch(&self) {
        let mut taken = self.places.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lost) = taken.remove(&self.owner, self.number.load(Ordering::Relaxed)) {
            self.number.store(taken.put(&self.owner, lost), Ordering::Relaxed);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.remove(&self.owner, self.number.load(Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(host: u8, connection: u64) -> Owner {
        Owner::connection(IpAddr::from([10, 0, 0, host]), connection)
    }

    #[test]
    fn who_has_the_most_pays_for_who_comes() {
        let places = Places::new(4);
        let greedy: Vec<Place> = (0..4).map(|_| places.take(owner(1, 1))).collect();
        let modest = places.take(owner(2, 1));
        let lost = |of: &[Place]| of.iter().filter(|place| place.lost.is_cancelled()).count();
        assert_eq!((lost(&greedy), lost(std::slice::from_ref(&modest)), places.count()), (1, 0, 4));
        // However many come after that from the same address, only it loses.
        let more: Vec<Place> = (0..100).map(|at| places.take(owner(1, at))).collect();
        assert!(!modest.lost.is_cancelled());
        assert_eq!(places.count(), 4);
        drop((greedy, more, modest));
        assert_eq!(places.count(), 0);
    }

    #[test]
    fn within_an_address_the_connection_that_has_the_most_pays() {
        let places = Places::new(4);
        let modest = places.take(owner(1, 1));
        let greedy: Vec<Place> = (0..3).map(|_| places.take(owner(1, 2))).collect();
        let newest = places.take(owner(1, 3));
        assert!(greedy[0].lost.is_cancelled());
        assert!(!modest.lost.is_cancelled() && !newest.lost.is_cancelled());
    }

    #[test]
    fn among_equals_the_name_does_not_count() {
        let places = Places::new(2);
        let (last, first) = (places.take(Owner::named("z")), places.take(Owner::named("a")));
        let (newest, _other) = (places.take(Owner::named("b")), places.take(Owner::named("c")));
        assert!(last.lost.is_cancelled() && first.lost.is_cancelled());
        assert!(!newest.lost.is_cancelled());
    }

    #[test]
    fn what_was_idle_for_longest_goes_first() {
        let places = Places::new(2);
        let slow = places.take(Owner::named("a"));
        let fast = places.take(Owner::named("a"));
        drop(places.take(Owner::named("b")));
        assert!(slow.lost.is_cancelled());
        let slow = places.take(Owner::named("a"));
        fast.touch();
        let _other = places.take(Owner::named("a"));
        assert!(slow.lost.is_cancelled() && !fast.lost.is_cancelled());
        // One that is lost is not got back.
        slow.touch();
        assert_eq!(places.count(), 2);
    }

    #[test]
    fn a_network_of_64_bits_is_one_address() {
        let host = |text: &str| Owner::connection(text.parse().unwrap(), 1);
        assert_eq!(host("2001:db8:0:1::1"), host("2001:db8:0:1:ffff::2"));
        assert_ne!(host("2001:db8:0:1::1"), host("2001:db8:0:2::1"));
        assert_eq!(host("::ffff:10.0.0.1"), host("10.0.0.1"));
    }
}
