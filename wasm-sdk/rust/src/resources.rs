//! Amounts: what an offer holds, what a task needs, what is left when several tasks share an offer.
//!
//! Integers throughout; nothing wraps, nothing goes below zero.

use crate::{CustomAmount, CustomResource, Offer, PortRange, Resources, Task, ports};

/// Bytes in a MiB.
const MIB: u64 = 1 << 20;

impl Resources {
    /// Nothing.
    pub const fn none() -> Self {
        Self { cpu_milli: 0, memory_bytes: 0, disk_bytes: 0, ports: Vec::new(), custom: Vec::new() }
    }

    /// CPU in thousandths of a core, and memory in MiB.
    pub fn cpu_memory(cpu_milli: u64, memory_mib: u64) -> Self {
        Self { cpu_milli, memory_bytes: memory_mib.saturating_mul(MIB), ..Self::none() }
    }

    /// Whether all of `other` is in here.
    pub fn contains(&self, other: &Self) -> bool {
        self.cpu_milli >= other.cpu_milli
            && self.memory_bytes >= other.memory_bytes
            && self.disk_bytes >= other.disk_bytes
            && ports::contains(&self.ports, &other.ports)
            && other
                .custom
                .iter()
                .all(|want| self.custom.iter().any(|have| custom_contains(have, want)))
    }

    /// What is left without whatever of `other` is in here.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut custom = self.custom.clone();
        for less in &other.custom {
            for have in custom.iter_mut().filter(|have| have.name == less.name) {
                custom_minus(&mut have.amount, &less.amount);
            }
        }
        Self {
            cpu_milli: self.cpu_milli.saturating_sub(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
            disk_bytes: self.disk_bytes.saturating_sub(other.disk_bytes),
            ports: ports::minus(&self.ports, &other.ports),
            custom,
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        let mut custom = self.custom.clone();
        for more in &other.custom {
            match custom.iter_mut().find(|have| have.name == more.name) {
                Some(have) => custom_plus(&mut have.amount, &more.amount),
                None => custom.push(more.clone()),
            }
        }
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            disk_bytes: self.disk_bytes.saturating_add(other.disk_bytes),
            ports: ports::plus(&self.ports, &other.ports),
            custom,
        }
    }

    /// The lowest `count` ports of these, or all if there are fewer: for a task that needs ports, whichever they are.
    pub fn lowest_ports(&self, count: u32) -> Vec<PortRange> {
        ports::lowest(&self.ports, count)
    }
}

impl Default for Resources {
    fn default() -> Self {
        Self::none()
    }
}

impl AsRef<Self> for Resources {
    fn as_ref(&self) -> &Self {
        self
    }
}

impl AsRef<Resources> for Task {
    fn as_ref(&self) -> &Resources {
        &self.resources
    }
}

fn custom_contains(have: &CustomResource, want: &CustomResource) -> bool {
    have.name == want.name
        && match (&have.amount, &want.amount) {
            (CustomAmount::Milli(have), CustomAmount::Milli(want)) => have >= want,
            (CustomAmount::Items(have), CustomAmount::Items(want)) => {
                want.iter().all(|item| have.contains(item))
            }
            _ => false,
        }
}

fn custom_minus(have: &mut CustomAmount, less: &CustomAmount) {
    match (have, less) {
        (CustomAmount::Milli(have), CustomAmount::Milli(less)) => {
            *have = have.saturating_sub(*less);
        }
        (CustomAmount::Items(have), CustomAmount::Items(less)) => {
            have.retain(|item| !less.contains(item));
        }
        _ => {}
    }
}

fn custom_plus(have: &mut CustomAmount, more: &CustomAmount) {
    match (have, more) {
        (CustomAmount::Milli(have), CustomAmount::Milli(more)) => {
            *have = have.saturating_add(*more);
        }
        (CustomAmount::Items(have), CustomAmount::Items(more)) => {
            have.extend(more.iter().cloned());
            have.sort_unstable();
            have.dedup();
        }
        _ => {}
    }
}

impl Offer {
    /// Everything in it that an ordinary task may use: what is free and what is reserved, but nothing revocable.
    pub fn usable(&self) -> Resources {
        let reserved = self.pools.iter().filter(|pool| !pool.revocable);
        reserved.fold(self.resources.clone(), |sum, pool| sum.plus(&pool.resources))
    }

    /// Whether so much is in it: CPU in thousandths of a core, memory in MiB.
    pub fn has(&self, cpu_milli: u64, memory_mib: u64) -> bool {
        self.fits(&Resources::cpu_memory(cpu_milli, memory_mib))
    }

    /// Whether a task, or so many resources, fit into it.
    pub fn fits(&self, needed: &impl AsRef<Resources>) -> bool {
        if self.pools.is_empty() {
            return self.resources.contains(needed.as_ref());
        }
        self.usable().contains(needed.as_ref())
    }
}

/// What is left of an offer while several tasks are put on it.
///
/// ```
/// # use tepui_sdk::{Cx, Offer, Remaining, Task};
/// # fn fill(cx: &mut Cx, offer: &Offer, tasks: Vec<Task>) {
/// let mut left = Remaining::of(offer);
/// for task in tasks {
///     if left.take(&task) {
///         cx.accept(offer).launch(task);
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remaining {
    left: Resources,
}

impl Remaining {
    /// All of an offer.
    pub fn of(offer: &Offer) -> Self {
        Self { left: offer.usable() }
    }

    /// What is left.
    pub fn resources(&self) -> &Resources {
        &self.left
    }

    /// Whether so much is left.
    pub fn fits(&self, needed: &impl AsRef<Resources>) -> bool {
        self.left.contains(needed.as_ref())
    }

    /// Takes it if it is there, and tells whether it was.
    #[must_use]
    pub fn take(&mut self, needed: &impl AsRef<Resources>) -> bool {
        let needed = needed.as_ref();
        if !self.left.contains(needed) {
            return false;
        }
        self.left = self.left.minus(needed);
        true
    }
}
