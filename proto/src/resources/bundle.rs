//! Resources of one agent kept apart by kind: reserved for a role, revocable, on a disk of its own, in a volume.
//!
//! Owns the sums and differences of bundles, kind by kind; never moves an amount from one kind to another. Its one surprise:
//! a bundle of plain resources has no pools at all and costs what [`Resources`] cost.

use super::{NOTHING, Resources};
use crate::Role;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// A volume: disk that outlives the task that wrote to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VolumeKind {
    /// Its name, unique on its agent and within its role.
    pub id: String,
    /// The bytes of one copy, never zero, if several tasks may hold copies of it at once. The amount of such a pool is the
    /// number of copies times this.
    pub shared_bytes: Option<u64>,
}

/// What is special about a disk.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct DiskKind {
    /// The name of a disk that cannot be split, if it is one.
    pub whole: Option<String>,
    /// The volume that it is, if it is one.
    pub volume: Option<VolumeKind>,
}

/// What tells resources of one agent apart. The default is plain: anybody's, to be kept, on a disk that can be split.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct PoolKind {
    /// For whom it is reserved, outermost first: the last owns it. Empty if it is anybody's.
    pub reserved_for: Vec<Role>,
    /// Whether the agent may take it back at any time.
    pub revocable: bool,
    /// What is special about its disk.
    pub disk: DiskKind,
}

static PLAIN: PoolKind = PoolKind {
    reserved_for: Vec::new(),
    revocable: false,
    disk: DiskKind { whole: None, volume: None },
};

impl PoolKind {
    /// The default kind, to be borrowed.
    pub fn plain() -> &'static Self {
        &PLAIN
    }
    /// Whether it is the default kind.
    pub fn is_plain(&self) -> bool {
        *self == PLAIN
    }
    /// The role that owns it; nobody if it is not reserved.
    pub fn owner(&self) -> Option<&Role> {
        self.reserved_for.last()
    }
    /// Whether it is reserved for some role.
    pub fn is_reserved(&self) -> bool {
        !self.reserved_for.is_empty()
    }
    /// Whether it is a volume of which several copies may be held at once.
    pub fn is_shared(&self) -> bool {
        self.disk.volume.as_ref().is_some_and(|volume| volume.shared_bytes.is_some())
    }
    /// Whether it is a disk that cannot be split.
    pub fn is_whole(&self) -> bool {
        self.disk.whole.is_some()
    }

    /// Whether anyone may use it, and keep it: neither reserved, nor revocable, nor shared.
    pub fn is_open(&self) -> bool {
        !self.is_reserved() && !self.revocable && !self.is_shared()
    }
}

/// Resources by kind. No kind is there with nothing in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "Vec<(PoolKind, Resources)>", into = "Vec<(PoolKind, Resources)>")]
pub struct Bundle {
    plain: Resources,
    /// Never the default kind, never an empty pool.
    pools: BTreeMap<PoolKind, Resources>,
}

/// Two pools of one kind whose sum is over the range, or that hold the same port or item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two pools of one kind do not add up")]
pub struct UnsoundBundle;

impl From<Resources> for Bundle {
    fn from(plain: Resources) -> Self {
        Self { plain, pools: BTreeMap::new() }
    }
}

impl TryFrom<Vec<(PoolKind, Resources)>> for Bundle {
    type Error = UnsoundBundle;

    fn try_from(pools: Vec<(PoolKind, Resources)>) -> Result<Self, Self::Error> {
        let mut bundle = Self::default();
        for (kind, resources) in pools {
            bundle.add_pool(kind, resources).ok_or(UnsoundBundle)?;
        }
        Ok(bundle)
    }
}

impl From<Bundle> for Vec<(PoolKind, Resources)> {
    fn from(bundle: Bundle) -> Self {
        let plain = (!bundle.plain.is_empty()).then(|| (PLAIN.clone(), bundle.plain));
        plain.into_iter().chain(bundle.pools).collect()
    }
}

impl Bundle {
    /// Resources of one kind alone.
    #[must_use]
    pub fn of(kind: PoolKind, resources: Resources) -> Self {
        if kind.is_plain() {
            return Self::from(resources);
        }
        let mut pools = BTreeMap::new();
        if !resources.is_empty() {
            pools.insert(kind, resources);
        }
        Self { plain: Resources::default(), pools }
    }

    /// This bundle with these plain resources in place of its own.
    #[must_use]
    pub fn with_plain(&self, plain: Resources) -> Self {
        Self { plain, pools: self.pools.clone() }
    }

    /// Takes the plain resources out and leaves the rest.
    pub fn take_plain(&mut self) -> Resources {
        std::mem::take(&mut self.plain)
    }

    /// The plain resources.
    pub fn plain(&self) -> &Resources {
        &self.plain
    }

    /// All kinds but the plain one; none of them is empty.
    pub fn pools(&self) -> impl Iterator<Item = (&PoolKind, &Resources)> {
        self.pools.iter()
    }

    /// All kinds, the plain one first; none of them is empty.
    pub fn iter(&self) -> impl Iterator<Item = (&PoolKind, &Resources)> {
        let plain = (!self.plain.is_empty()).then_some((&PLAIN, &self.plain));
        plain.into_iter().chain(self.pools())
    }

    /// What there is of a kind, which may be nothing.
    pub fn get(&self, kind: &PoolKind) -> &Resources {
        if kind.is_plain() {
            return &self.plain;
        }
        self.pools.get(kind).unwrap_or(&NOTHING)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.pools.is_empty()
    }

    /// Whether there is nothing but plain resources.
    pub fn is_plain(&self) -> bool {
        self.pools.is_empty()
    }

    /// Whether all of `other` is in here, in the same kinds.
    pub fn contains(&self, other: &Self) -> bool {
        self.plain.contains(&other.plain)
            && other
                .pools
                .iter()
                .all(|(kind, want)| self.pools.get(kind).is_some_and(|have| have.contains(want)))
    }

    /// Adds resources of one kind. `None`, and nothing is added, if the sum is over the range or a port or an item of that
    /// kind is there already.
    #[must_use = "nothing is added if it is `None`"]
    pub fn add_pool(&mut self, kind: PoolKind, resources: Resources) -> Option<()> {
        if resources.is_empty() {
            return Some(());
        }
        if kind.is_plain() {
            self.plain = self.plain.checked_add(&resources)?;
            return Some(());
        }
        let sum = match self.pools.get(&kind) {
            Some(have) => have.checked_add(&resources)?,
            None => resources,
        };
        self.pools.insert(kind, sum);
        Some(())
    }

    /// What there is of a kind is this much from now on.
    pub fn set(&mut self, kind: &PoolKind, resources: Resources) {
        if kind.is_plain() {
            self.plain = resources;
        } else if resources.is_empty() {
            self.pools.remove(kind);
        } else if let Some(pool) = self.pools.get_mut(kind) {
            *pool = resources;
        } else {
            self.pools.insert(kind.clone(), resources);
        }
    }

    /// Both together; `None` if a sum is over the range, or a port or an item is in the same kind of both.
    #[must_use]
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        let plain = self.plain.checked_add(&other.plain)?;
        let mut sum = Self { plain, pools: self.pools.clone() };
        for (kind, more) in &other.pools {
            sum.add_pool(kind.clone(), more.clone())?;
        }
        Some(sum)
    }

    /// What is left without `other`; `None` unless all of `other` is in here, in the same kinds.
    #[must_use]
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        self.contains(other).then(|| self.saturating_sub(other))
    }

    /// What is left without whatever of `other` is in here, kind by kind.
    #[must_use]
    pub fn saturating_sub(&self, other: &Self) -> Self {
        let mut pools = self.pools.clone();
        for (kind, less) in &other.pools {
            let Some(left) = pools.get(kind).map(|have| have.saturating_sub(less)) else {
                continue;
            };
            if left.is_empty() {
                pools.remove(kind);
            } else {
                pools.insert(kind.clone(), left);
            }
        }
        Self { plain: self.plain.saturating_sub(&other.plain), pools }
    }

    /// The kinds that `keep` is true for, the plain one among them; it is not asked about kinds that are empty.
    #[must_use]
    pub fn retained(&self, mut keep: impl FnMut(&PoolKind, &Resources) -> bool) -> Self {
        let plain = if !self.plain.is_empty() && keep(&PLAIN, &self.plain) {
            self.plain.clone()
        } else {
            Resources::default()
        };
        let kept = self.pools.iter().filter(|(kind, resources)| keep(kind, resources));
        Self { plain, pools: kept.map(|(kind, pool)| (kind.clone(), pool.clone())).collect() }
    }

    /// The kinds of which the two do not have the same: as this one has them, and as the other does.
    #[must_use]
    pub fn differing(&self, other: &Self) -> (Self, Self) {
        let (mut own, mut others) = (Self::default(), Self::default());
        if self.plain != other.plain {
            own.plain.clone_from(&self.plain);
            others.plain.clone_from(&other.plain);
        }
        let (mut mine, mut theirs) = (self.pools.iter().peekable(), other.pools.iter().peekable());
        loop {
            // Both are in order of their kinds, so the lesser of the two is in one of them alone.
            let order = match (mine.peek(), theirs.peek()) {
                (None, None) => return (own, others),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((kind, _)), Some((other, _))) => kind.cmp(other),
            };
            let (a, b) = match order {
                Ordering::Less => (mine.next(), None),
                Ordering::Greater => (None, theirs.next()),
                Ordering::Equal => (mine.next(), theirs.next()),
            };
            if a != b {
                let pool = |(kind, pool): (&PoolKind, &Resources)| (kind.clone(), pool.clone());
                own.pools.extend(a.map(pool));
                others.pools.extend(b.map(pool));
            }
        }
    }

    /// All kinds together, as if they were plain; `None` if a sum is over the range, or a port or an item is in two kinds.
    #[must_use]
    pub fn flat(&self) -> Option<Resources> {
        self.pools.values().try_fold(self.plain.clone(), |sum, pool| sum.checked_add(pool))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(text: &str) -> Bundle {
        text.parse().unwrap()
    }

    #[test]
    fn kinds_do_not_help_each_other_out() {
        let all = bundle("cpus:2;cpus(web):1;cpus{rev}:4");
        assert!(all.contains(&bundle("cpus:2;cpus(web):1")));
        assert!(!all.contains(&bundle("cpus(web):2")));
        assert!(!all.contains(&bundle("cpus(ads):1")));
        assert_eq!(all.checked_sub(&bundle("cpus:3")), None);
        assert_eq!(all.saturating_sub(&bundle("cpus:3;cpus(ads):1")).to_string(), {
            "cpus{rev}:4;cpus(web):1"
        });
    }

    #[test]
    fn an_emptied_pool_is_gone() {
        let left = bundle("cpus:2;cpus(web):1").checked_sub(&bundle("cpus(web):1")).unwrap();
        assert!(left.is_plain());
        assert_eq!(left, Bundle::from(Resources::cpu_memory(2_000, 0)));
        assert!(Bundle::of(PoolKind::default(), Resources::default()).is_empty());
    }

    #[test]
    fn the_default_kind_is_never_a_pool() {
        let mut all = Bundle::of(PoolKind::default(), Resources::cpu_memory(1, 1));
        all.add_pool(PoolKind::default(), Resources::cpu_memory(1, 0)).unwrap();
        assert!(all.is_plain());
        assert_eq!(all.get(PoolKind::plain()), &Resources::cpu_memory(2, 1));
        assert_eq!(all.take_plain(), Resources::cpu_memory(2, 1));
        assert!(all.is_empty());
    }

    #[test]
    fn what_is_read_back_is_sound() {
        let pair = |cpu| (PoolKind::default(), Resources::cpu_memory(cpu, 0));
        let reserved = PoolKind { reserved_for: vec!["web".into()], ..PoolKind::default() };
        let odd = vec![pair(1), (reserved, Resources::default()), pair(2)];
        let bytes = postcard::to_stdvec(&odd).unwrap();
        let read: Bundle = postcard::from_bytes(&bytes).unwrap();
        assert_eq!(read, Bundle::from(Resources::cpu_memory(3, 0)));
        let bytes = postcard::to_stdvec(&vec![pair(1), pair(u64::MAX)]).unwrap();
        assert!(postcard::from_bytes::<Bundle>(&bytes).is_err(), "a sum over the range");
    }

    #[test]
    fn two_bundles_differ_in_kinds_of_which_they_have_not_the_same() {
        let (a, b) = (
            bundle("cpus:2;cpus(a):1;cpus(b):1;cpus(d):1"),
            bundle("cpus:2;cpus(b):2;cpus(c):1;cpus(d):1"),
        );
        assert_eq!(a.differing(&b), (bundle("cpus(a):1;cpus(b):1"), bundle("cpus(b):2;cpus(c):1")));
        assert_eq!(a.differing(&a), (Bundle::default(), Bundle::default()));
        let none = Bundle::default();
        assert_eq!(none.differing(&a), (Bundle::default(), a.clone()));
        assert_eq!(a.differing(&bundle("cpus:3")).1, bundle("cpus:3"));
    }

    #[test]
    fn only_what_is_kept_stays() {
        let all = bundle("cpus:2;cpus(web):1;cpus{rev}:4");
        assert_eq!(all.retained(|kind, _| !kind.revocable), bundle("cpus:2;cpus(web):1"));
        assert_eq!(all.retained(|kind, _| kind.is_reserved()), bundle("cpus(web):1"));
        assert_eq!(all.flat(), Some(Resources::cpu_memory(7_000, 0)));
        assert_eq!(bundle("ports:[1-2];ports(web):[2-3]").flat(), None, "one port in two kinds");
    }
}
