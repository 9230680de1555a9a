//! Guarantees and limits at every level of the role tree: what is owed to whom, and what must be left for it.
//!
//! Reads the ledger's sums and the policy, moves nothing. Each role with a quota knows what its subtree still requires:
//! what its guarantee lacks, or its children's together, whichever is more, but never more than its limit leaves. The sum
//! over the topmost is the headroom that stays free. Its one surprise: a role below a guaranteed one serves its
//! ancestor's guarantee too, by the part that is not promised to siblings.

use super::order::Order;
use crate::ledger::Ledger;
use crate::policy::Policy;
use std::collections::BTreeMap;
use tepui_proto::{Role, Scalars};

#[derive(Debug, Default)]
struct Quota {
    guarantee: Scalars,
    limit: Scalars,
    /// The nearest role above that has a quota.
    above: Option<Role>,
    /// What the subtree still requires.
    required: Scalars,
    /// What the nearest roles below with a quota require together.
    below: Scalars,
}

/// All quotas, with what they require now.
#[derive(Debug, Default)]
pub(super) struct Quotas {
    by_role: BTreeMap<Role, Quota>,
    /// What is to stay free, over all roles.
    required: Scalars,
}

impl Quotas {
    /// Reads the policy anew.
    pub(super) fn new(policy: &Policy, ledger: &Ledger) -> Self {
        let mut quotas = Self::default();
        for (role, settings) in policy.roles() {
            if settings.guarantee.is_empty() && settings.limit.is_empty() {
                continue;
            }
            let quota = Quota {
                guarantee: settings.guarantee.clone(),
                limit: settings.limit.clone(),
                above: quotas.nearest_above(role.as_str()).cloned(),
                ..Quota::default()
            };
            quotas.by_role.insert(role.clone(), quota);
        }
        // A child stands after its parent, so from the last to the first each is settled before the one above it.
        let roles: Vec<Role> = quotas.by_role.keys().rev().cloned().collect();
        for role in roles {
            quotas.settle(&role, ledger);
        }
        quotas
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_role.is_empty()
    }

    /// Whether some guarantee is owed something.
    pub(super) fn is_owing(&self) -> bool {
        self.required.iter().any(|(_, amount)| amount > 0)
    }

    /// The nearest role above this one that has a quota.
    fn nearest_above(&self, role: &str) -> Option<&Role> {
        let mut path = role;
        while let Some((above, _)) = path.rsplit_once('/') {
            if let Some((role, _)) = self.by_role.get_key_value(above) {
                return Some(role);
            }
            path = above;
        }
        None
    }

    /// This role if it has a quota, or else the nearest above.
    fn nearest(&self, role: &str) -> Option<&Role> {
        let own = self.by_role.get_key_value(role).map(|(role, _)| role);
        own.or_else(|| self.nearest_above(role))
    }

    /// The quotas that bind a role, from the nearest up.
    fn chain(&self, role: &str) -> impl Iterator<Item = (&Role, &Quota)> {
        let mut next = self.nearest(role);
        std::iter::from_fn(move || {
            let (role, quota) = self.by_role.get_key_value(next?)?;
            next = quota.above.as_ref();
            Some((role, quota))
        })
    }

    /// Reads what a role and those above it hold now.
    pub(super) fn refresh(&mut self, role: &str, ledger: &Ledger) {
        let mut next = self.nearest(role).cloned();
        while let Some(role) = next {
            self.settle(&role, ledger);
            next = self.by_role.get(&role).and_then(|quota| quota.above.clone());
        }
    }

    /// Tells the tree of a role and those above it.
    pub(super) fn mark_path(&self, role: &str, ledger: &Ledger, order: &mut Order) {
        for (role, quota) in self.chain(role) {
            order.set_owed(role.as_str(), quota.is_owed(role, ledger));
        }
    }

    /// Tells the tree which roles are owed something.
    pub(super) fn mark(&self, ledger: &Ledger, order: &mut Order) {
        for (role, quota) in &self.by_role {
            order.set_owed(role.as_str(), quota.is_owed(role, ledger));
        }
    }

    /// Works out what one role requires, and passes the difference on.
    fn settle(&mut self, role: &Role, ledger: &Ledger) {
        let Some(quota) = self.by_role.get_mut(role) else { return };
        let consumed = ledger.consumed(role.as_str());
        let mut required = consumed.missing_to(&quota.guarantee);
        for (name, amount) in quota.below.iter() {
            if amount > required.get(name).unwrap_or(0) {
                required.set(name, amount);
            }
        }
        let room = consumed.left_to(&quota.limit);
        let required = cut(&required, &room);
        let before = std::mem::replace(&mut quota.required, required.clone());
        let above = quota.above.clone();
        let sum = match above.as_ref().and_then(|above| self.by_role.get_mut(above)) {
            Some(parent) => &mut parent.below,
            None => &mut self.required,
        };
        for (name, amount) in before.iter() {
            sum.set(name, sum.get(name).unwrap_or(0).saturating_sub(amount));
        }
        crate::policy::add(sum, &required);
    }

    /// What frameworks of a role may be given first, towards guarantees; an absent name is nothing.
    pub(super) fn owed(&self, role: &str, ledger: &Ledger) -> Scalars {
        let mut owed = Scalars::default();
        for (role, quota) in self.chain(role) {
            crate::policy::add(&mut owed, &quota.slack(role, ledger));
        }
        owed
    }

    /// How much more a role may hold, by the limits above it and its own; an absent name is without limit.
    pub(super) fn room(&self, role: &str, ledger: &Ledger) -> Scalars {
        self.tightest(role, ledger, |_, _| 0)
    }

    /// As `room`, without what is promised to roles below those limits: beyond what is owed to it, a role gets no more.
    pub(super) fn spare(&self, role: &str, ledger: &Ledger) -> Scalars {
        self.tightest(role, ledger, |quota, name| quota.below.get(name).unwrap_or(0))
    }

    fn tightest(
        &self,
        role: &str,
        ledger: &Ledger,
        promised: impl Fn(&Quota, &str) -> u64,
    ) -> Scalars {
        let mut room = Scalars::default();
        for (role, quota) in self.chain(role).filter(|(_, quota)| !quota.limit.is_empty()) {
            for (name, left) in ledger.consumed(role.as_str()).left_to(&quota.limit).iter() {
                let left = left.saturating_sub(promised(quota, name));
                if room.get(name).is_none_or(|other| left < other) {
                    room.set(name, left);
                }
            }
        }
        room
    }

    /// How much of what is idle no guarantee needs, for the names that some guarantee needs.
    pub(super) fn surplus(&self, idle: &crate::quantities::Quantities) -> Scalars {
        let mut surplus = Scalars::default();
        for (name, required) in self.required.iter().filter(|(_, required)| *required > 0) {
            let left = idle.of(name).saturating_sub(required.into());
            surplus.set(name, u64::try_from(left).unwrap_or(u64::MAX));
        }
        surplus
    }
}

impl Quota {
    fn is_owed(&self, role: &Role, ledger: &Ledger) -> bool {
        !self.slack(role, ledger).is_empty()
    }

    /// What the guarantee lacks beyond what is promised to roles below.
    fn slack(&self, role: &Role, ledger: &Ledger) -> Scalars {
        let mut slack = Scalars::default();
        for (name, amount) in ledger.consumed(role.as_str()).missing_to(&self.guarantee).iter() {
            let left = amount.saturating_sub(self.below.get(name).unwrap_or(0));
            if left > 0 {
                slack.set(name, left);
            }
        }
        slack
    }
}

/// At most so much, for the names that are bounded.
fn cut(amounts: &Scalars, most: &Scalars) -> Scalars {
    let mut cut = Scalars::default();
    for (name, amount) in amounts.iter() {
        let amount = most.get(name).map_or(amount, |most| amount.min(most));
        if amount > 0 {
            cut.set(name, amount);
        }
    }
    cut
}
