//! What roles and frameworks hold, summed over agents and kept as it moves. Never looked up by summing.
//!
//! A role's sums are those of its subtree. Its one surprise: a shared volume counts once for each holder that has it,
//! however many copies it holds.

use super::Holder;
use crate::quantities::Quantities;
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::{AgentId, Bundle, FrameworkId, PoolKind, Resources, Role};

/// What one role or one framework in it holds.
#[derive(Clone, Debug, Default)]
pub struct Held {
    sum: Quantities,
    /// Copies of shared volumes.
    copies: BTreeMap<(AgentId, PoolKind), u64>,
}

impl Held {
    /// Offered and used, of every kind.
    pub fn sum(&self) -> &Quantities {
        &self.sum
    }

    fn add(&mut self, agent: AgentId, bundle: &Bundle) {
        self.sum.add_pools(bundle, |kind| !kind.is_shared());
        for (kind, amount, copies, once) in shared(bundle) {
            debug_assert!(!amount.is_empty(), "pools of a bundle are never empty");
            let have = self.copies.entry((agent, kind.clone())).or_default();
            if *have == 0 {
                self.sum.add(&once);
            }
            *have = have.saturating_add(copies);
        }
    }

    fn remove(&mut self, agent: AgentId, bundle: &Bundle) {
        self.sum.remove_pools(bundle, |kind| !kind.is_shared());
        for (kind, _, copies, once) in shared(bundle) {
            let key = (agent, kind.clone());
            let Some(have) = self.copies.get_mut(&key) else { continue };
            *have = have.saturating_sub(copies);
            if *have == 0 {
                self.copies.remove(&key);
                self.sum.remove(&once);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.sum.is_empty() && self.copies.is_empty()
    }
}

/// Shared volumes of a bundle: kind, amount, how many copies, and what one is.
fn shared(bundle: &Bundle) -> impl Iterator<Item = (&PoolKind, &Resources, u64, Resources)> {
    bundle.pools().filter_map(|(kind, amount)| {
        let once = kind.disk.volume.as_ref()?.shared_bytes?;
        let copies = amount.disk_bytes.checked_div(once).unwrap_or(0);
        Some((kind, amount, copies, Resources { disk_bytes: once, ..Resources::default() }))
    })
}

/// What a role's subtree holds and what is reserved for it.
#[derive(Clone, Debug, Default)]
pub struct RoleSums {
    /// Offered and used in the subtree.
    held: Held,
    /// Of that, in this very role.
    own: Held,
    frameworks: BTreeMap<FrameworkId, Held>,
    /// Offered and used in the subtree, neither reserved nor revocable.
    charged: Quantities,
    /// Reserved for the subtree on any agent, used or not.
    reserved: Quantities,
}

impl RoleSums {
    /// Offered and used in the subtree.
    pub fn held(&self) -> &Quantities {
        &self.held.sum
    }

    /// Offered and used in this very role.
    pub fn own(&self) -> &Quantities {
        &self.own.sum
    }

    /// Offered and used in this very role, by framework.
    pub fn frameworks(&self) -> impl Iterator<Item = (FrameworkId, &Quantities)> {
        self.frameworks.iter().map(|(id, held)| (*id, &held.sum))
    }

    /// What one framework holds in this very role.
    pub fn framework(&self, id: FrameworkId) -> Option<&Quantities> {
        self.frameworks.get(&id).map(|held| &held.sum)
    }

    /// Reserved for the subtree on any agent, used or not.
    pub fn reserved(&self) -> &Quantities {
        &self.reserved
    }

    /// What counts against guarantee and limit: reservations, used or not, and what is held of the rest.
    pub fn consumed(&self) -> Quantities {
        let mut sum = self.charged.clone();
        sum.add_all(&self.reserved);
        sum
    }

    fn is_empty(&self) -> bool {
        self.held.is_empty() && self.frameworks.is_empty() && self.reserved.is_empty()
    }
}

/// Sums by role.
#[derive(Clone, Debug, Default)]
pub(super) struct Sums {
    roles: BTreeMap<Role, RoleSums>,
    /// Roles and frameworks whose sums have moved since this was last taken.
    moved: BTreeMap<Role, BTreeSet<FrameworkId>>,
}

/// What is charged to a quota.
pub(crate) fn is_charged(kind: &PoolKind) -> bool {
    !kind.is_reserved() && !kind.revocable
}

impl Sums {
    pub(super) fn role(&self, path: &str) -> Option<&RoleSums> {
        self.roles.get(path)
    }

    pub(super) fn roles(&self) -> impl Iterator<Item = (&Role, &RoleSums)> {
        self.roles.iter()
    }

    pub(super) fn take_moved(&mut self) -> BTreeMap<Role, BTreeSet<FrameworkId>> {
        std::mem::take(&mut self.moved)
    }

    pub(super) fn hold(&mut self, agent: AgentId, holder: Holder<'_>, bundle: &Bundle) {
        for path in paths(holder.role.as_str()) {
            with(&mut self.roles, path, |sums| {
                sums.held.add(agent, bundle);
                sums.charged.add_pools(bundle, is_charged);
                if path == holder.role.as_str() {
                    sums.own.add(agent, bundle);
                    sums.frameworks.entry(holder.framework).or_default().add(agent, bundle);
                }
            });
        }
        self.mark(holder);
    }

    pub(super) fn let_go(&mut self, agent: AgentId, holder: Holder<'_>, bundle: &Bundle) {
        for path in paths(holder.role.as_str()) {
            let Some(sums) = self.roles.get_mut(path) else { continue };
            sums.held.remove(agent, bundle);
            sums.charged.remove_pools(bundle, is_charged);
            if path == holder.role.as_str() {
                sums.own.remove(agent, bundle);
                if let Some(held) = sums.frameworks.get_mut(&holder.framework) {
                    held.remove(agent, bundle);
                    if held.is_empty() {
                        sums.frameworks.remove(&holder.framework);
                    }
                }
            }
            if sums.is_empty() {
                self.roles.remove(path);
            }
        }
        self.mark(holder);
    }

    /// Counts an agent's reservations, or takes them out again.
    pub(super) fn reserve(&mut self, total: &Bundle, counts: bool) {
        for (kind, amount) in total.pools() {
            let Some(owner) = kind.owner() else { continue };
            let amount = match kind.disk.volume.as_ref().and_then(|volume| volume.shared_bytes) {
                Some(once) => Resources { disk_bytes: once, ..Resources::default() },
                None => amount.clone(),
            };
            for path in paths(owner.as_str()) {
                if counts {
                    with(&mut self.roles, path, |sums| sums.reserved.add(&amount));
                    continue;
                }
                let Some(sums) = self.roles.get_mut(path) else { continue };
                sums.reserved.remove(&amount);
                if sums.is_empty() {
                    self.roles.remove(path);
                }
            }
            self.moved.entry(owner.clone()).or_default();
        }
    }

    fn mark(&mut self, holder: Holder<'_>) {
        match self.moved.get_mut(holder.role) {
            Some(frameworks) => {
                frameworks.insert(holder.framework);
            }
            None => {
                self.moved.insert(holder.role.clone(), BTreeSet::from([holder.framework]));
            }
        }
    }
}

/// Changes a role's sums; a role that was not here begins.
fn with(roles: &mut BTreeMap<Role, RoleSums>, path: &str, change: impl FnOnce(&mut RoleSums)) {
    if let Some(sums) = roles.get_mut(path) {
        return change(sums);
    }
    let mut sums = RoleSums::default();
    change(&mut sums);
    roles.insert(Role::from(path), sums);
}

/// `a/b/c` is `a`, `a/b`, `a/b/c`.
pub(crate) fn paths(role: &str) -> impl Iterator<Item = &str> {
    let ends = role.match_indices('/').map(|(at, _)| at).chain([role.len()]);
    ends.filter_map(move |end| role.get(..end))
}
