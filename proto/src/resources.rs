//! Amounts of things, exact: CPU in thousandths of a core, memory and disk in bytes, ports as sets, the rest as named.
//!
//! Sums and differences are checked; nothing wraps, nothing goes below zero. The modules below own the rest: sets of ports,
//! bundles of several kinds, scalars by name, and the notation in which a person writes them.

pub mod attributes;
pub mod bundle;
pub mod grammar;
mod notation;
pub mod ports;
pub mod scalars;

use crate::limits;
pub use attributes::Attributes;
pub use bundle::{Bundle, DiskKind, PoolKind, VolumeKind};
pub use grammar::{EntryProblem, NotationError};
pub use ports::{PortRange, PortSet};
pub use scalars::Scalars;

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// An amount of a resource that the operator named.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Custom {
    /// Thousandths of a countable thing.
    Milli(u64),
    /// Items of a set.
    Items(BTreeSet<String>),
}

/// What an agent has, an offer holds, or a task uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    /// Bytes.
    pub memory_bytes: u64,
    /// Bytes.
    pub disk_bytes: u64,
    /// Which ports.
    pub ports: PortSet,
    /// By name; an absent name is none. No entry is empty.
    pub custom: BTreeMap<String, Custom>,
}

/// Nothing, to be borrowed.
pub(crate) static NOTHING: Resources = Resources {
    cpu_milli: 0,
    memory_bytes: 0,
    disk_bytes: 0,
    ports: PortSet::NONE,
    custom: BTreeMap::new(),
};

impl Resources {
    /// What ports and named resources take in memory and on the wire, about.
    pub fn weight(&self) -> usize {
        let items = |amount: &Custom| match amount {
            Custom::Milli(_) => 0,
            Custom::Items(items) => items.iter().map(|item| item.len() + limits::ENTRY_BYTES).sum(),
        };
        let named = self
            .custom
            .iter()
            .map(|(name, amount)| name.len() + limits::ENTRY_BYTES + items(amount));
        self.ports.ranges().len() * limits::ENTRY_BYTES + named.sum::<usize>()
    }

    /// Scalars of both; ports and items of this one, since the same port of two agents is two.
    #[must_use]
    pub fn plus_scalars(&self, other: &Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
            ..self.clone()
        }
    }

    /// Takes scalars away again.
    #[must_use]
    pub fn minus_scalars(&self, other: &Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
            disk_bytes: self.disk_bytes.saturating_sub(other.disk_bytes),
            ..self.clone()
        }
    }

    /// CPU and memory alone.
    #[must_use]
    pub fn cpu_memory(cpu_milli: u64, memory_bytes: u64) -> Self {
        Self { cpu_milli, memory_bytes, ..Self::default() }
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.cpu_milli == 0
            && self.memory_bytes == 0
            && self.disk_bytes == 0
            && self.ports.is_empty()
            && self.custom.is_empty()
    }

    /// Whether all of `other` is in here.
    pub fn contains(&self, other: &Self) -> bool {
        self.cpu_milli >= other.cpu_milli
            && self.memory_bytes >= other.memory_bytes
            && self.disk_bytes >= other.disk_bytes
            && self.ports.contains(&other.ports)
            && other.custom.iter().all(|(name, want)| {
                self.custom.get(name).is_some_and(|have| custom_contains(have, want))
            })
    }

    /// Both together; `None` if a sum is over the range, or a port or an item is in both.
    #[must_use]
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        if self.ports.overlaps(&other.ports) {
            return None;
        }
        let mut custom = self.custom.clone();
        for (name, more) in &other.custom {
            let sum = match custom.get(name) {
                Some(have) => custom_add(have, more)?,
                None => more.clone(),
            };
            custom.insert(name.clone(), sum);
        }
        Some(Self {
            cpu_milli: self.cpu_milli.checked_add(other.cpu_milli)?,
            memory_bytes: self.memory_bytes.checked_add(other.memory_bytes)?,
            disk_bytes: self.disk_bytes.checked_add(other.disk_bytes)?,
            ports: self.ports.union(&other.ports),
            custom,
        })
    }

    /// What is left without `other`; `None` unless all of `other` is in here.
    #[must_use]
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        if !self.contains(other) {
            return None;
        }
        Some(self.saturating_sub(other))
    }

    /// What is left without whatever of `other` is in here.
    #[must_use]
    pub fn saturating_sub(&self, other: &Self) -> Self {
        let mut custom = self.custom.clone();
        for (name, less) in &other.custom {
            if let Some(left) = custom.get(name).and_then(|have| custom_minus(have, less)) {
                custom.insert(name.clone(), left);
            } else {
                custom.remove(name);
            }
        }
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
            disk_bytes: self.disk_bytes.saturating_sub(other.disk_bytes),
            ports: self.ports.minus(&other.ports),
            custom,
        }
    }

    /// How often `each` fits in here, at most `most`; ports and items are not counted, since they differ.
    pub fn times(&self, each: &Self, most: u32) -> u32 {
        let fit = |have: u64, want: u64| {
            have.checked_div(want).map_or(most, |n| u32::try_from(n).unwrap_or(u32::MAX))
        };
        let scalars = fit(self.cpu_milli, each.cpu_milli)
            .min(fit(self.memory_bytes, each.memory_bytes))
            .min(fit(self.disk_bytes, each.disk_bytes));
        let custom = each.custom.iter().map(|(name, want)| match (self.custom.get(name), want) {
            (Some(Custom::Milli(have)), Custom::Milli(want)) => fit(*have, *want),
            (Some(have), want) => u32::from(custom_contains(have, want)),
            (None, _) => 0,
        });
        custom.fold(scalars, u32::min).min(most)
    }

    /// `each` so many times; `None` if a product is over the range. Ports are left out: they are chosen, not multiplied.
    #[must_use]
    pub fn scaled(each: &Self, count: u32) -> Option<Self> {
        let n = u64::from(count);
        let mut custom = BTreeMap::new();
        for (name, amount) in &each.custom {
            let amount = match amount {
                Custom::Milli(milli) => Custom::Milli(milli.checked_mul(n)?),
                Custom::Items(items) => Custom::Items(items.clone()),
            };
            custom.insert(name.clone(), amount);
        }
        Some(Self {
            cpu_milli: each.cpu_milli.checked_mul(n)?,
            memory_bytes: each.memory_bytes.checked_mul(n)?,
            disk_bytes: each.disk_bytes.checked_mul(n)?,
            ports: PortSet::default(),
            custom,
        })
    }
}

fn custom_contains(have: &Custom, want: &Custom) -> bool {
    match (have, want) {
        (Custom::Milli(have), Custom::Milli(want)) => have >= want,
        (Custom::Items(have), Custom::Items(want)) => have.is_superset(want),
        _ => false,
    }
}

fn custom_add(have: &Custom, more: &Custom) -> Option<Custom> {
    match (have, more) {
        (Custom::Milli(a), Custom::Milli(b)) => a.checked_add(*b).map(Custom::Milli),
        (Custom::Items(a), Custom::Items(b)) if a.is_disjoint(b) => {
            Some(Custom::Items(a.union(b).cloned().collect()))
        }
        _ => None,
    }
}

/// `None` if nothing is left.
fn custom_minus(have: &Custom, less: &Custom) -> Option<Custom> {
    match (have, less) {
        (Custom::Milli(a), Custom::Milli(b)) => {
            a.checked_sub(*b).filter(|left| *left > 0).map(Custom::Milli)
        }
        (Custom::Items(a), Custom::Items(b)) => {
            let left: BTreeSet<String> = a.difference(b).cloned().collect();
            (!left.is_empty()).then_some(Custom::Items(left))
        }
        (have, _) => Some(have.clone()),
    }
}

impl fmt::Display for Resources {
    /// `1.5 cpus, 64 MiB memory, 0 B disk`, leaving out what is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.cpu_milli > 0 {
            parts.push(format!("{} cpus", Milli(self.cpu_milli)));
        }
        if self.memory_bytes > 0 {
            parts.push(format!("{} memory", Bytes(self.memory_bytes)));
        }
        if self.disk_bytes > 0 {
            parts.push(format!("{} disk", Bytes(self.disk_bytes)));
        }
        if !self.ports.is_empty() {
            let ports: Vec<String> = self
                .ports
                .ranges()
                .iter()
                .map(|range| format!("{}-{}", range.first, range.last))
                .collect();
            parts.push(format!("ports {}", ports.join(" ")));
        }
        for (name, amount) in &self.custom {
            parts.push(match amount {
                Custom::Milli(milli) => format!("{} {name}", Milli(*milli)),
                Custom::Items(items) => {
                    let items: Vec<&str> = items.iter().map(String::as_str).collect();
                    format!("{name} {{{}}}", items.join(", "))
                }
            });
        }
        f.write_str(if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }.as_str())
    }
}

/// Thousandths, as a person writes them: `0.5`, `2`.
#[derive(Clone, Copy, Debug)]
pub struct Milli(pub u64);

impl fmt::Display for Milli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1000, self.0 % 1000);
        if part == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{part:03}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

/// Bytes, as a person writes them: `64 MiB`, `1.5 GiB`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [("GiB", 1u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
        for (name, unit) in units {
            if self.0 >= unit {
                let tenths = u128::from(self.0) * 10 / u128::from(unit);
                return match tenths % 10 {
                    0 => write!(f, "{} {name}", tenths / 10),
                    tenth => write!(f, "{}.{tenth} {name}", tenths / 10),
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u16, last: u16) -> PortSet {
        PortSet::from(vec![PortRange { first, last }])
    }

    #[test]
    fn what_is_taken_away_comes_back_with_a_sum() {
        let all = Resources { ports: range(1, 9), ..Resources::cpu_memory(2_000, 1 << 30) };
        let part = Resources { ports: range(2, 3), ..Resources::cpu_memory(500, 1 << 20) };
        let left = all.checked_sub(&part).unwrap();
        assert_eq!(left.checked_add(&part), Some(all.clone()));
        assert_eq!(left.checked_sub(&all), None);
        assert_eq!(all.checked_add(&all), None, "a port cannot be there twice");
    }

    #[test]
    fn sums_over_the_range_are_refused() {
        let most = Resources::cpu_memory(u64::MAX, 1);
        assert_eq!(most.checked_add(&Resources::cpu_memory(1, 0)), None);
        assert_eq!(Resources::scaled(&most, 2), None);
    }

    #[test]
    fn amounts_print_as_people_write_them() {
        assert_eq!(Resources::cpu_memory(1_500, 64 << 20).to_string(), "1.5 cpus, 64 MiB memory");
        assert_eq!(Bytes(1_610_612_736).to_string(), "1.5 GiB");
    }
}
