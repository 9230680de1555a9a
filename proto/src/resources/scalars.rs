//! Amounts by name, where a name that is absent is not zero: limits, guarantees, smallest offers.
//!
//! Never holds ports, sets, or kinds. Its one surprise: the unit goes by the name, bytes for memory and disk, thousandths
//! for everything else.

use super::grammar::{self, EntryProblem, Mib, NotationError};
use super::notation::{PORTS, Parts};
use super::{Custom, Milli, Resources};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Amounts by name: [`Self::MEM`] and [`Self::DISK`] in bytes, all others in thousandths. An absent name is not zero.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scalars(BTreeMap<String, u64>);

impl Scalars {
    /// CPU, in thousandths of a core.
    pub const CPUS: &'static str = "cpus";
    /// Memory, in bytes.
    pub const MEM: &'static str = "mem";
    /// Disk, in bytes.
    pub const DISK: &'static str = "disk";

    /// All that is countable in these resources and not zero.
    #[must_use]
    pub fn of(resources: &Resources) -> Self {
        let known = [
            (Self::CPUS, resources.cpu_milli),
            (Self::MEM, resources.memory_bytes),
            (Self::DISK, resources.disk_bytes),
        ];
        let custom = resources.custom.iter().filter_map(|(name, amount)| match amount {
            Custom::Milli(milli) => Some((name.as_str(), *milli)),
            Custom::Items(_) => None,
        });
        let all = known.into_iter().chain(custom).filter(|(_, amount)| *amount > 0);
        Self(all.map(|(name, amount)| (name.to_owned(), amount)).collect())
    }

    /// The amount by this name, if there is one.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Sets the amount by this name, which may be zero.
    pub fn set(&mut self, name: &str, amount: u64) {
        self.0.insert(name.to_owned(), amount);
    }

    /// All names and their amounts, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn is_bytes(name: &str) -> bool {
    matches!(name, Scalars::MEM | Scalars::DISK)
}

impl FromStr for Scalars {
    type Err = NotationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut scalars = Self::default();
        grammar::each_entry(text, |entry| {
            let parts = Parts::of(entry)?;
            if parts.roles.is_some() || parts.flags.is_some() {
                return Err(EntryProblem::NotPlain);
            }
            let amount = match parts.name {
                PORTS => return Err(EntryProblem::Number),
                name if is_bytes(name) => grammar::mib(parts.value)?,
                _ => grammar::milli(parts.value)?,
            };
            let sum = scalars.0.entry(parts.name.to_owned()).or_default();
            *sum = sum.checked_add(amount).ok_or(EntryProblem::Large)?;
            Ok(())
        })?;
        Ok(scalars)
    }
}

impl fmt::Display for Scalars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, amount)) in self.iter().enumerate() {
            if place > 0 {
                f.write_str(";")?;
            }
            if is_bytes(name) {
                write!(f, "{name}:{}", Mib(amount))?;
            } else {
                write!(f, "{name}:{}", Milli(amount))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bundle;

    #[test]
    fn zero_is_not_absent() {
        let limit: Scalars = "gpus:0;mem:0.5;cpus:1.25".parse().unwrap();
        assert_eq!(limit.get("gpus"), Some(0));
        assert_eq!(limit.get(Scalars::MEM), Some(1 << 19));
        assert_eq!(limit.get(Scalars::DISK), None);
        assert_eq!(limit.to_string(), "cpus:1.25;gpus:0;mem:0.5");
    }

    #[test]
    fn only_scalars_are_scalars() {
        for text in ["ports:[1-2]", "ports:1", "bugs:{a}", "cpus(a):1", "cpus{rev}:1", "cpus:[1]"] {
            assert!(text.parse::<Scalars>().is_err(), "{text}");
        }
        let all: Bundle = "cpus:2;disk:1;gpus:1;bugs:{a};ports:[1-2]".parse().unwrap();
        assert_eq!(Scalars::of(all.plain()).to_string(), "cpus:2;disk:1;gpus:1");
    }

    #[test]
    fn sums_over_the_range_are_named() {
        let error = "a:18446744073709551;a:18446744073709551".parse::<Scalars>().unwrap_err();
        assert!(matches!(error, NotationError::Entry { problem: EntryProblem::Large, .. }));
    }
}
