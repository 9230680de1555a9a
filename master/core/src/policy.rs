//! What operators set for roles: weight, guarantee, limit, packing. Part of the state; checked before it gets here.
//!
//! Guarantee and limit stand at any level of the tree: a limit binds the whole subtree, and children's guarantees fit
//! into their parent's (see [`Policy::check`]). A role that is not here weighs 1, and has neither.

use crate::ledger::Ledger;
use crate::quantities::Quantities;
use crate::refusal::Code;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tepui_proto::roles::Packing;
use tepui_proto::{Role, Scalars, limits};

/// What is set for one role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolePolicy {
    /// Divides the share of the role's subtree; in thousandths, at least 1.
    pub weight_milli: u64,
    /// Held for the subtree, whoever else waits.
    pub guarantee: Scalars,
    /// The subtree never holds more; an absent name is without limit.
    pub limit: Scalars,
    /// In which order its frameworks are shown agents; none is the next ancestor's.
    pub packing: Option<Packing>,
}

impl Default for RolePolicy {
    fn default() -> Self {
        Self {
            weight_milli: 1000,
            guarantee: Scalars::default(),
            limit: Scalars::default(),
            packing: None,
        }
    }
}

/// Why settings of roles are refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A weight of zero.
    #[error("a weight of zero for `{0}`; at least 0.001")]
    Weight(Role),
    /// A weight over the range.
    #[error("a weight of more than {MOST} for `{0}`", MOST = WEIGHT_MILLI_MAX / 1000)]
    WeightTooLarge(Role),
    /// More is guaranteed than allowed.
    #[error("`{role}` would be guaranteed more {name} than its limit")]
    GuaranteeOverLimit {
        /// Whose.
        role: Role,
        /// Of what.
        name: String,
    },
    /// A guarantee does not fit into the parent's.
    #[error("the guarantees below `{role}` come to more {name} than its own")]
    GuaranteesDoNotFit {
        /// The parent.
        role: Role,
        /// Of what.
        name: String,
    },
    /// A child's limit is above its ancestor's.
    #[error("the limit of `{role}` on {name} is above that of `{above}`")]
    LimitOverAncestor {
        /// The child.
        role: Role,
        /// Of what.
        name: String,
        /// The ancestor.
        above: Role,
    },
    /// A child is guaranteed more than its ancestor may hold.
    #[error("`{role}` would be guaranteed more {name} than the limit of `{above}`")]
    GuaranteeOverAncestor {
        /// The child.
        role: Role,
        /// Of what.
        name: String,
        /// The ancestor.
        above: Role,
    },
    /// The guarantees of all roles come to more than the cluster has.
    #[error("all guarantees come to more {0} than the cluster has")]
    OverCluster(String),
    /// The role holds more than the limit already.
    #[error("`{role}` holds more {name} than that limit")]
    OverUsed {
        /// Whose.
        role: Role,
        /// Of what.
        name: String,
    },
}

impl PolicyError {
    /// The refusal's stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Weight(_) | Self::WeightTooLarge(_) => Code::WeightInvalid,
            Self::OverUsed { .. } => Code::QuotaOverUsed,
            Self::GuaranteeOverLimit { .. }
            | Self::GuaranteesDoNotFit { .. }
            | Self::LimitOverAncestor { .. }
            | Self::GuaranteeOverAncestor { .. }
            | Self::OverCluster(_) => Code::QuotaInvalid,
        }
    }
}

/// The greatest weight, in thousandths: beside the bounds on what agents claim, shares stay within their range.
pub const WEIGHT_MILLI_MAX: u64 = 1_000_000_000;

/// All roles' settings.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    roles: BTreeMap<Role, RolePolicy>,
}

impl Policy {
    /// What is set for a role.
    pub fn role(&self, role: &Role) -> Option<&RolePolicy> {
        self.roles.get(role)
    }

    /// All roles that have settings, in order.
    pub fn roles(&self) -> impl Iterator<Item = (&Role, &RolePolicy)> {
        self.roles.iter()
    }

    /// Sets a role. Settings that are all as if absent are forgotten.
    pub fn set(&mut self, role: Role, policy: RolePolicy) {
        if policy == RolePolicy::default() {
            self.roles.remove(&role);
        } else {
            self.roles.insert(role, policy);
        }
    }

    /// What all settings take, about.
    pub fn weight(&self) -> usize {
        let of = |scalars: &Scalars| -> usize {
            scalars.iter().map(|(name, _)| name.len() + limits::ENTRY_BYTES).sum()
        };
        let roles = self.roles.iter().map(|(role, policy)| {
            role.as_str().len()
                + 2 * limits::ENTRY_BYTES
                + of(&policy.guarantee)
                + of(&policy.limit)
        });
        roles.sum()
    }

    /// The weight of a role's subtree, in thousandths.
    pub fn weight_milli(&self, path: &str) -> u64 {
        self.roles.get(path).map_or(1000, |policy| policy.weight_milli)
    }

    /// The order of agents for a role: its own, or the next ancestor's.
    pub fn packing(&self, role: &str) -> Packing {
        let mut path = role;
        loop {
            if let Some(packing) = self.roles.get(path).and_then(|policy| policy.packing) {
                return packing;
            }
            let Some((above, _)) = path.rsplit_once('/') else { return Packing::Random };
            path = above;
        }
    }

    /// Whether some role has a guarantee or a limit.
    pub fn has_quota(&self) -> bool {
        self.roles.values().any(|p| !p.guarantee.is_empty() || !p.limit.is_empty())
    }

    /// Whether some role has a guarantee.
    pub fn has_guarantee(&self) -> bool {
        self.roles.values().any(|policy| !policy.guarantee.is_empty())
    }

    /// Whether some role's frameworks want agents in an order of their own.
    pub fn has_packing(&self) -> bool {
        self.roles.values().any(|policy| policy.packing.is_some_and(|p| p != Packing::Random))
    }

    /// Whether all settings hold together: weights in range, guarantees within limits, children within their parents.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), PolicyError> {
        // What is guaranteed below a role, and has to fit into its guarantee, or into its limit if it has none.
        let mut below: BTreeMap<&Role, BTreeMap<&str, u128>> = BTreeMap::new();
        for (role, policy) in &self.roles {
            check_alone(role, policy)?;
            self.check_limit(role, policy)?;
            if policy.guarantee.is_empty() {
                continue;
            }
            let mut has_parent = !role.as_str().contains('/');
            for (above, settings) in self.above(role) {
                let sum = below.entry(above).or_default();
                for (name, amount) in policy.guarantee.iter() {
                    *sum.entry(name).or_default() += u128::from(amount);
                }
                // A guarantee between them counts for those above it.
                if !settings.guarantee.is_empty() {
                    has_parent = true;
                    break;
                }
            }
            if !has_parent {
                let role =
                    Role::from(role.as_str().rsplit_once('/').map_or("", |(above, _)| above));
                let name = first_name(&policy.guarantee);
                return Err(PolicyError::GuaranteesDoNotFit { role, name });
            }
        }
        for (role, sum) in below {
            let Some(own) = self.roles.get(role) else { continue };
            for (name, amount) in sum {
                let most = if own.guarantee.is_empty() {
                    own.limit.get(name)
                } else {
                    Some(own.guarantee.get(name).unwrap_or(0))
                };
                if most.is_some_and(|most| amount > most.into()) {
                    let (role, name) = (role.clone(), name.to_owned());
                    return Err(PolicyError::GuaranteesDoNotFit { role, name });
                }
            }
        }
        Ok(())
    }

    /// The roles above this one that have settings, the nearest first.
    fn above(&self, role: &Role) -> impl Iterator<Item = (&Role, &RolePolicy)> {
        let ends: Vec<usize> = role.as_str().match_indices('/').map(|(at, _)| at).collect();
        let paths = ends.into_iter().rev().filter_map(|end| role.as_str().get(..end));
        let paths: Vec<&str> = paths.collect();
        let found: Vec<_> =
            paths.into_iter().filter_map(|path| self.roles.get_key_value(path)).collect();
        found.into_iter()
    }

    fn check_limit(&self, role: &Role, policy: &RolePolicy) -> Result<(), PolicyError> {
        if policy.limit.is_empty() && policy.guarantee.is_empty() {
            return Ok(());
        }
        let mut path = role.as_str();
        while let Some((above, _)) = path.rsplit_once('/') {
            path = above;
            let Some((parent, settings)) = self.roles.get_key_value(above) else { continue };
            for (name, most) in settings.limit.iter() {
                let over = |scalars: &Scalars| scalars.get(name).is_some_and(|have| have > most);
                let which = || (role.clone(), name.to_owned(), parent.clone());
                if over(&policy.limit) {
                    let (role, name, above) = which();
                    return Err(PolicyError::LimitOverAncestor { role, name, above });
                }
                if over(&policy.guarantee) {
                    let (role, name, above) = which();
                    return Err(PolicyError::GuaranteeOverAncestor { role, name, above });
                }
            }
        }
        Ok(())
    }

    /// Whether the guarantees of all top-level roles fit into what the cluster has.
    ///
    /// # Errors
    /// With the resource of which there is too little.
    pub fn check_cluster(&self, ledger: &Ledger) -> Result<(), PolicyError> {
        let mut sum: BTreeMap<&str, u128> = BTreeMap::new();
        for (_, policy) in self.roles.iter().filter(|(role, _)| !role.as_str().contains('/')) {
            for (name, amount) in policy.guarantee.iter() {
                *sum.entry(name).or_default() += u128::from(amount);
            }
        }
        let over = sum.into_iter().find(|(name, amount)| *amount > ledger.total().of(name));
        over.map_or(Ok(()), |(name, _)| Err(PolicyError::OverCluster(name.to_owned())))
    }

    /// Whether so much is within a role's limit.
    ///
    /// # Errors
    /// With the resource of which it is more.
    pub fn check_used(&self, role: &Role, used: &Quantities) -> Result<(), PolicyError> {
        let Some(policy) = self.roles.get(role) else { return Ok(()) };
        let over = used.exceeds(&policy.limit).map(str::to_owned);
        over.map_or(Ok(()), |name| Err(PolicyError::OverUsed { role: role.clone(), name }))
    }
}

fn check_alone(role: &Role, policy: &RolePolicy) -> Result<(), PolicyError> {
    if policy.weight_milli == 0 {
        return Err(PolicyError::Weight(role.clone()));
    }
    if policy.weight_milli > WEIGHT_MILLI_MAX {
        return Err(PolicyError::WeightTooLarge(role.clone()));
    }
    let over = policy
        .guarantee
        .iter()
        .find(|(name, amount)| policy.limit.get(name).is_some_and(|most| *amount > most));
    over.map_or(Ok(()), |(name, _)| {
        Err(PolicyError::GuaranteeOverLimit { role: role.clone(), name: name.to_owned() })
    })
}

fn first_name(scalars: &Scalars) -> String {
    scalars.iter().next().map_or_else(String::new, |(name, _)| name.to_owned())
}

/// Adds amounts by name; a sum stays at the end of the range.
pub(crate) fn add(into: &mut Scalars, more: &Scalars) {
    for (name, amount) in more.iter() {
        into.set(name, into.get(name).unwrap_or(0).saturating_add(amount));
    }
}
