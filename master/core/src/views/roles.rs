//! Roles as people see them: what is set, what they hold, what is reserved for them.

use super::page;
use crate::allocator::Share;
use crate::leader::Leader;
use crate::ledger::RoleSums;
use crate::quantities::Quantities;
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::api::{Page, RoleView};
use tepui_proto::{Resources, Role, Scalars};

impl Leader {
    /// Roles by name, after this one: those that a framework is in, that hold something, or that something is set for.
    pub fn role_views(&self, after: Option<&str>, limit: usize) -> Page<RoleView> {
        let counts = self.frameworks_by_role();
        let held = self.state.ledger.roles().map(|(role, _)| role.as_str());
        let set = self.state.policy.roles().map(|(role, _)| role.as_str());
        let mut names: BTreeSet<&str> = held.chain(set).chain(counts.keys().copied()).collect();
        if let Some(after) = after {
            names.retain(|name| *name > after);
        }
        let view = |name| self.role_view_of(name, counts.get(name).copied().unwrap_or(0));
        page(names.into_iter().map(view), limit, |view| view.role.clone())
    }

    /// These roles, each if anybody is in it, it holds something, or something is set for it.
    pub fn views_of_roles(&self, roles: &[Role]) -> Vec<RoleView> {
        let counts = self.frameworks_by_role();
        let known = roles.iter().filter_map(|role| {
            let frameworks = counts.get(role.as_str()).copied().unwrap_or(0);
            let is_known = frameworks > 0
                || self.state.ledger.role(role.as_str()).is_some()
                || self.state.policy.role(role).is_some();
            is_known.then(|| self.role_view_of(role.as_str(), frameworks))
        });
        known.collect()
    }

    fn frameworks_by_role(&self) -> BTreeMap<&str, u64> {
        let mut counts = BTreeMap::new();
        let live = self.state.frameworks.values().filter(|framework| !framework.has_ended());
        for role in live.flat_map(|framework| &framework.submission.roles) {
            *counts.entry(role.as_str()).or_default() += 1;
        }
        counts
    }

    fn role_view_of(&self, role: &str, frameworks: u64) -> RoleView {
        let sums = self.state.ledger.role(role);
        let none = Quantities::default();
        let held = sums.map_or(&none, RoleSums::held);
        let total = self.state.ledger.total();
        let policy = self.state.policy.role(&Role::from(role)).cloned().unwrap_or_default();
        RoleView {
            role: role.to_owned(),
            weight_milli: policy.weight_milli,
            share_milli: Share::dominant(held, total, 1000, &BTreeSet::new()).milli(),
            frameworks,
            guarantee: policy.guarantee.to_string(),
            limit: policy.limit.to_string(),
            consumed: scalars(&self.state.ledger.consumed(role)).to_string(),
            reserved: scalars(sums.map_or(&none, RoleSums::reserved)).to_string(),
            packing: self.state.policy.packing(role),
            allocated: Resources {
                cpu_milli: amount(held.cpu_milli),
                memory_bytes: amount(held.memory_bytes),
                disk_bytes: amount(held.disk_bytes),
                ..Resources::default()
            },
        }
    }
}

/// Names of which there is something.
fn scalars(sum: &Quantities) -> Scalars {
    let known = [
        (Scalars::CPUS, sum.cpu_milli),
        (Scalars::MEM, sum.memory_bytes),
        (Scalars::DISK, sum.disk_bytes),
    ];
    let custom = sum.custom.iter().map(|(name, amount)| (name.as_str(), *amount));
    let mut scalars = Scalars::default();
    for (name, sum) in known.into_iter().chain(custom).filter(|(_, sum)| *sum > 0) {
        scalars.set(name, amount(sum));
    }
    scalars
}

/// What does not fit shows as the most that does.
pub(super) fn amount(sum: u128) -> u64 {
    u64::try_from(sum).unwrap_or(u64::MAX)
}
