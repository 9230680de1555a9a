//! Settings of roles, changed by operators: checked against each other, the cluster, and what is used, all or nothing.
//!
//! A limit below what is offered takes offers back; weights that change take back all of them, as in Mesos, so that the
//! next offers are by the new shares. All are taken back once a second at the most: whoever changes one weight after the
//! other leaves the others time to use what they are offered.

use super::claims::check_name;
use super::deadlines::Deadline;
use super::offers::OpenOffer;
use super::{Leader, Step, reply};
use crate::effect::ReplyBody;
use crate::entry::EntryKind;
use crate::input::Ticket;
use crate::ledger::{is_charged, paths};
use crate::policy::{Policy, PolicyError, RolePolicy};
use crate::quantities::Quantities;
use crate::refusal::{Code, Refusal};
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::roles::RoleChange;
use tepui_proto::{DurationMs, OfferId, Role, Timestamp, limits, names};

/// Changes in one request.
const CHANGES: usize = 1_000;

impl Leader {
    pub(super) fn on_roles_changed(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        changes: &[RoleChange],
        force: bool,
    ) {
        let result = self.check_roles(changes, force);
        let answer = match result {
            Ok(policy) => {
                self.set_roles(step, &policy, changes);
                Ok(ReplyBody::Done)
            }
            Err(refusal) => Err(refusal),
        };
        reply(step.fx, ticket, answer);
    }

    /// The settings as they would be.
    fn check_roles(&self, changes: &[RoleChange], force: bool) -> Result<Policy, Refusal> {
        let refuse = |error: &PolicyError| Refusal::new(error.code(), error.to_string());
        if changes.len() > CHANGES {
            return Err(Refusal::new(
                Code::LimitReached,
                format!("{} roles in one request; at most {CHANGES}", changes.len()),
            ));
        }
        let mut policy = self.state.policy.clone();
        for change in changes {
            names::check_role(change.role.as_str()).map_err(|error| {
                let role = change.role.as_str().chars().take(64).collect::<String>();
                Refusal::new(Code::RoleInvalid, format!("`{}`: {error}", role.escape_debug()))
            })?;
            for amounts in [&change.guarantee, &change.limit].into_iter().flatten() {
                let (names, most) = (amounts.iter().count(), limits::QUOTA_NAMES);
                if names > most {
                    let message = format!("{names} resources in one setting; at most {most}");
                    return Err(Refusal::new(Code::QuotaInvalid, message));
                }
                for (name, _) in amounts.iter() {
                    check_name("a resource's name", name)
                        .map_err(|message| Refusal::new(Code::QuotaInvalid, message))?;
                }
            }
            let before = policy.role(&change.role).cloned().unwrap_or_default();
            policy.set(change.role.clone(), merged(before, change));
        }
        let bytes = policy.weight();
        if bytes > limits::ROLE_SETTINGS_BYTES && bytes > self.state.policy.weight() {
            let most = limits::ROLE_SETTINGS_BYTES;
            let message = format!("settings of all roles would take {bytes} bytes; at most {most}");
            return Err(Refusal::new(Code::LimitReached, message));
        }
        policy.check().map_err(|error| refuse(&error))?;
        if force {
            return Ok(policy);
        }
        if changes.iter().any(|change| change.guarantee.is_some()) {
            policy.check_cluster(&self.state.ledger).map_err(|error| refuse(&error))?;
        }
        let limited = changes.iter().filter(|change| change.limit.is_some());
        let limited: BTreeSet<Role> = limited.map(|change| change.role.clone()).collect();
        let offered = self.offered_below(&limited);
        for role in &limited {
            let used = self.used_beside(role, offered.get(role));
            policy.check_used(role, &used).map_err(|error| refuse(&error))?;
        }
        Ok(policy)
    }

    /// What is on offer to each of these roles and those below it; nothing is absent.
    fn offered_below<'a>(
        &'a self,
        roles: &'a BTreeSet<Role>,
    ) -> BTreeMap<&'a Role, Vec<&'a OpenOffer>> {
        let mut offered: BTreeMap<&Role, Vec<&OpenOffer>> = BTreeMap::new();
        for (_, offer) in self.mind.offers.iter() {
            for path in paths(offer.role.as_str()) {
                if let Some(role) = roles.get(path) {
                    offered.entry(role).or_default().push(offer);
                }
            }
        }
        offered
    }

    /// What counts against a role's quota without its offers, which can be taken back.
    pub(super) fn used_by(&self, role: &Role) -> Quantities {
        let roles = BTreeSet::from([role.clone()]);
        let offered = self.offered_below(&roles);
        self.used_beside(role, offered.get(role))
    }

    fn used_beside(&self, role: &Role, offered: Option<&Vec<&OpenOffer>>) -> Quantities {
        let mut used = self.state.ledger.consumed(role.as_str());
        for offer in offered.into_iter().flatten() {
            used.remove_pools(&offer.bundle, is_charged);
        }
        used
    }

    /// Sets what is not so already.
    fn set_roles(&mut self, step: &mut Step<'_>, policy: &Policy, changes: &[RoleChange]) {
        let (mut settings, mut limited) = (Vec::new(), BTreeSet::new());
        let mut is_shared_anew = false;
        for role in changes.iter().map(|change| &change.role) {
            let now = policy.role(role).cloned().unwrap_or_default();
            let before = self.state.policy.role(role).cloned().unwrap_or_default();
            if now == before {
                continue;
            }
            is_shared_anew |=
                now.weight_milli != before.weight_milli || now.guarantee != before.guarantee;
            if now.limit != before.limit {
                limited.insert(role.clone());
            }
            settings.push((role.clone(), now));
        }
        if settings.is_empty() {
            return;
        }
        self.propose(step, EntryKind::RolesSet(settings));
        self.mind.allocator.policy_changed();
        self.mind.all_dirty = true;
        if is_shared_anew {
            self.share_anew(step.now);
        }
        self.enforce_limits(&limited);
    }

    /// Takes back all offers, or will when it is time.
    pub(super) fn share_anew(&mut self, now: Timestamp) {
        if now < self.mind.shares_anew_at {
            return self.mind.deadlines.set(self.mind.shares_anew_at, Deadline::ShareAnew);
        }
        self.mind.shares_anew_at = now.after(DurationMs(limits::SHARE_ANEW_MS));
        for id in self.mind.offers.ids().collect::<Vec<_>>() {
            self.rescind(id);
        }
        self.mind.all_dirty = true;
    }

    /// Takes offers back until each of these roles holds no more than its limit, or has none.
    pub(super) fn enforce_limits(&mut self, roles: &BTreeSet<Role>) {
        let ids: Vec<OfferId> = self.mind.offers.ids().collect();
        for id in ids {
            if self.mind.offers.get(id).is_some_and(|offer| self.is_over(offer, roles)) {
                self.rescind(id);
            }
        }
    }

    /// Whether one of these roles that an offer counts for holds more than its limit.
    fn is_over(&self, offer: &OpenOffer, roles: &BTreeSet<Role>) -> bool {
        paths(offer.role.as_str()).filter_map(|path| roles.get(path)).any(|role| {
            let consumed = self.state.ledger.consumed(role.as_str());
            self.state.policy.check_used(role, &consumed).is_err()
        })
    }
}

fn merged(before: RolePolicy, change: &RoleChange) -> RolePolicy {
    RolePolicy {
        weight_milli: change.weight_milli.unwrap_or(before.weight_milli),
        guarantee: change.guarantee.clone().unwrap_or(before.guarantee),
        limit: change.limit.clone().unwrap_or(before.limit),
        packing: change.packing.or(before.packing),
    }
}
