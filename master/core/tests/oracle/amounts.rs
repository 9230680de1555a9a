//! Amounts of the few countable names that random clusters are made of, summed without any care for speed.

use tepui_master_core::quantities::Quantities;
use tepui_proto::resources::Custom;
use tepui_proto::{Resources, Scalars};

/// A countable resource that the operator named.
pub(crate) const GPUS: &str = "gpus";
/// All names.
pub(crate) const NAMES: [&str; 4] = [Scalars::CPUS, Scalars::MEM, Scalars::DISK, GPUS];

/// An amount of each name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Amounts(pub(crate) [u128; 4]);

/// A bound on each name; none is no bound.
pub(crate) type Bounds = [Option<u128>; 4];

impl Amounts {
    pub(crate) fn of(resources: &Resources) -> Self {
        let gpus = match resources.custom.get(GPUS) {
            Some(Custom::Milli(milli)) => *milli,
            _ => 0,
        };
        let Resources { cpu_milli, memory_bytes, disk_bytes, .. } = resources;
        Self([*cpu_milli, *memory_bytes, *disk_bytes, gpus].map(u128::from))
    }

    pub(crate) fn disk(bytes: u64) -> Self {
        Self([0, 0, bytes.into(), 0])
    }

    /// Each name of both, by `with`.
    pub(crate) fn zip(self, other: Self, with: impl Fn(u128, u128) -> u128) -> Self {
        let mut all = self;
        for (own, other) in all.0.iter_mut().zip(other.0) {
            *own = with(*own, other);
        }
        all
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        self.zip(other, |a, b| a + b)
    }

    pub(crate) fn less(self, other: Self) -> Self {
        self.zip(other, u128::saturating_sub)
    }

    pub(crate) fn most(self, other: Self) -> Self {
        self.zip(other, u128::max)
    }

    pub(crate) fn least(self, other: Self) -> Self {
        self.zip(other, u128::min)
    }

    /// At most these, for the names that are bounded.
    pub(crate) fn within(self, bounds: Bounds) -> Self {
        self.least(Self(bounds.map(|bound| bound.unwrap_or(u128::MAX))))
    }

    pub(crate) fn is_none(self) -> bool {
        self.0.iter().all(|amount| *amount == 0)
    }

    /// For `Share::dominant`.
    pub(crate) fn quantities(self) -> Quantities {
        let [cpu_milli, memory_bytes, disk_bytes, gpus] = self.0;
        let mut sum = Quantities { cpu_milli, memory_bytes, disk_bytes, ..Quantities::default() };
        if gpus > 0 {
            sum.custom.insert(GPUS.to_owned(), gpus);
        }
        sum
    }
}

/// What scalars say of each name.
pub(crate) fn bounds(scalars: &Scalars) -> Bounds {
    NAMES.map(|name| scalars.get(name).map(u128::from))
}

/// What scalars say of each name, where an absent name is nothing.
pub(crate) fn amounts(scalars: &Scalars) -> Amounts {
    Amounts(bounds(scalars).map(Option::unwrap_or_default))
}
