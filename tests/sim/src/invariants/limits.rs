//! No offer and no launch raises a role above its limit, at any level; what is above may only fall.
//!
//! Its one surprise: schedulers count as used by their framework's first role and are placed without an offer, so they
//! may raise a role; all that is beside them may not.

use std::collections::BTreeMap;
use tepui_master_core::Leader;
use tepui_master_core::quantities::Quantities;
use tepui_proto::{Role, Term};

/// What roles held at the last look, beside schedulers, by resource.
#[derive(Debug, Default)]
pub struct Limits {
    term: Term,
    held: BTreeMap<(Role, String), u128>,
}

impl Limits {
    /// Compares with the last look.
    pub fn check(&mut self, leader: &Leader) {
        let state = leader.state();
        if state.term() != self.term {
            self.term = state.term();
            self.held.clear();
        }
        let before = std::mem::take(&mut self.held);
        for (role, policy) in state.policy().roles() {
            let consumed = state.ledger().consumed(role.as_str());
            let schedulers = schedulers(leader, role);
            for (name, limit) in policy.limit.iter() {
                let (all, part) = (consumed.of(name), schedulers.of(name));
                let beside = all.saturating_sub(part);
                let key = (role.clone(), name.to_owned());
                let before = before.get(&key);
                assert!(
                    all <= u128::from(limit) || before.is_none_or(|before| beside <= *before),
                    "`{role}` was raised from {before:?} to {beside} of {name} (and {part} of schedulers'), over its \
                     limit of {limit}"
                );
                // A limit that begins, or begins anew, is compared from then on.
                self.held.insert(key, beside);
            }
        }
    }
}

/// What the schedulers of a subtree hold.
fn schedulers(leader: &Leader, role: &Role) -> Quantities {
    let mut sum = Quantities::default();
    for (_, framework) in leader.state().frameworks() {
        let first = framework.submission.roles.first().map_or("", Role::as_str);
        let rest = first.strip_prefix(role.as_str());
        let is_below = rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if let Some(instance) = framework.instance.as_ref().filter(|_| is_below) {
            sum.add(&instance.resources);
        }
    }
    sum
}
