//! Sums of countable amounts over many agents. Never ports or items of sets: those have no sum, and no part in shares.

use std::collections::BTreeMap;
use tepui_proto::resources::Custom;
use tepui_proto::{Bundle, PoolKind, Resources, Scalars};

/// Countable amounts summed over agents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quantities {
    /// Thousandths of a core.
    pub cpu_milli: u128,
    /// Bytes.
    pub memory_bytes: u128,
    /// Bytes.
    pub disk_bytes: u128,
    /// Thousandths, by name.
    pub custom: BTreeMap<String, u128>,
}

impl Quantities {
    /// Adds what is countable of these.
    pub fn add(&mut self, more: &Resources) {
        self.change(more, u128::saturating_add);
    }

    /// Takes away what is countable of these.
    pub fn remove(&mut self, less: &Resources) {
        self.change(less, u128::saturating_sub);
    }

    /// Adds those pools of a bundle that `counts` names.
    pub fn add_pools(&mut self, bundle: &Bundle, counts: impl Fn(&PoolKind) -> bool) {
        for (kind, amount) in bundle.iter() {
            if counts(kind) {
                self.add(amount);
            }
        }
    }

    /// Takes away those pools of a bundle that `counts` names.
    pub fn remove_pools(&mut self, bundle: &Bundle, counts: impl Fn(&PoolKind) -> bool) {
        for (kind, amount) in bundle.iter() {
            if counts(kind) {
                self.remove(amount);
            }
        }
    }

    /// Adds another sum.
    pub fn add_all(&mut self, more: &Self) {
        self.cpu_milli = self.cpu_milli.saturating_add(more.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_add(more.memory_bytes);
        self.disk_bytes = self.disk_bytes.saturating_add(more.disk_bytes);
        for (name, amount) in &more.custom {
            let have = self.custom.entry(name.clone()).or_default();
            *have = have.saturating_add(*amount);
        }
    }

    /// Takes away another sum.
    pub fn remove_all(&mut self, less: &Self) {
        self.cpu_milli = self.cpu_milli.saturating_sub(less.cpu_milli);
        self.memory_bytes = self.memory_bytes.saturating_sub(less.memory_bytes);
        self.disk_bytes = self.disk_bytes.saturating_sub(less.disk_bytes);
        for (name, amount) in &less.custom {
            if let Some(have) = self.custom.get_mut(name) {
                *have = have.saturating_sub(*amount);
            }
        }
    }

    /// How much there is of a resource, by its name in the notation.
    pub fn of(&self, name: &str) -> u128 {
        match name {
            Scalars::CPUS => self.cpu_milli,
            Scalars::MEM => self.memory_bytes,
            Scalars::DISK => self.disk_bytes,
            _ => self.custom.get(name).copied().unwrap_or(0),
        }
    }

    /// What is missing to these, by name; names of which nothing is missing are left out.
    #[must_use]
    pub fn missing_to(&self, goal: &Scalars) -> Scalars {
        let mut missing = Scalars::default();
        for (name, amount) in goal.iter() {
            let left = u128::from(amount).saturating_sub(self.of(name));
            if left > 0 {
                missing.set(name, u64::try_from(left).unwrap_or(u64::MAX));
            }
        }
        missing
    }

    /// What is left up to these, by name; a name with nothing left stays, with zero.
    #[must_use]
    pub fn left_to(&self, limit: &Scalars) -> Scalars {
        let mut room = Scalars::default();
        for (name, amount) in limit.iter() {
            let left = u128::from(amount).saturating_sub(self.of(name));
            room.set(name, u64::try_from(left).unwrap_or(u64::MAX));
        }
        room
    }

    /// The first name of which there is more than the limit.
    pub fn exceeds<'a>(&self, limit: &'a Scalars) -> Option<&'a str> {
        limit
            .iter()
            .find(|(name, amount)| self.of(name) > u128::from(*amount))
            .map(|(name, _)| name)
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.cpu_milli == 0
            && self.memory_bytes == 0
            && self.disk_bytes == 0
            && self.custom.values().all(|amount| *amount == 0)
    }

    fn change(&mut self, by: &Resources, f: impl Fn(u128, u128) -> u128) {
        self.cpu_milli = f(self.cpu_milli, by.cpu_milli.into());
        self.memory_bytes = f(self.memory_bytes, by.memory_bytes.into());
        self.disk_bytes = f(self.disk_bytes, by.disk_bytes.into());
        for (name, amount) in &by.custom {
            if let Custom::Milli(milli) = amount {
                let have = self.custom.entry(name.clone()).or_default();
                *have = f(*have, (*milli).into());
            }
        }
        // A name of which nothing is left is no name.
        if !by.custom.is_empty() {
            self.custom.retain(|_, amount| *amount > 0);
        }
    }
}
