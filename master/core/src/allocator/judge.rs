//! The verdict on one client at one agent: what it could take, or why it is left out, and for how long that stands.
//!
//! Decides nothing about order. What is free only shrinks while an agent is looked at, and so do quotas' room and headroom;
//! so who is left out once is left out of the whole look, except where a part could come to be that he has not refused:
//! other ports for a unit, another disk that cannot be split.

use super::Settings;
use super::candidate::{self, Allowance, Asker, Free};
use super::clients::Client;
use super::explain::Reason;
use super::marks::Stands;
use super::order::ClientKey;
use super::quotas::Quotas;
use super::refusals::{Clock, Refusals};
use super::visit::Visit;
use crate::ledger::Ledger;
use crate::quantities::Quantities;
use std::borrow::Cow;
use std::collections::BTreeSet;
use tepui_proto::{Bundle, PoolKind, Role, Scalars};

/// What a framework could take of an agent.
pub(super) enum Take {
    /// All of this.
    Whole(Bundle),
    /// Up to so many units of its want at this place, out of this.
    Units { at: usize, most: u32, from: Bundle },
}

/// Why a client is left out, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeftOut {
    pub(super) reason: Reason,
    pub(super) stands: Stands,
}

impl From<Reason> for LeftOut {
    fn from(reason: Reason) -> Self {
        Self { reason, stands: Stands::Look }
    }
}

/// What a verdict depends on beside client and agent.
pub(super) struct Judge<'a> {
    pub(super) settings: &'a Settings,
    pub(super) quotas: &'a Quotas,
    pub(super) ledger: &'a Ledger,
    pub(super) refusals: &'a Refusals,
    pub(super) closed: &'a Quantities,
    pub(super) clock: Clock,
    pub(super) is_owed_pass: bool,
    pub(super) taken: Option<&'a BTreeSet<PoolKind>>,
    /// Whether verdicts on wants are counted.
    pub(super) counts: bool,
}

impl Judge<'_> {
    pub(super) fn judge(
        &self,
        visit: &Visit<'_>,
        role: &Role,
        (key, client): (ClientKey, &mut Client),
        free: &Free,
    ) -> Result<Take, LeftOut> {
        let asked = self.check(visit, role, (key, &mut *client), free);
        let available =
            asked.inspect_err(|left_out| self.see_all(visit, client, left_out.reason))?;
        let allowance = self.allowance(role);
        if client.wants.is_some() {
            return self.judge_wants(visit, role, (key, client), &available, &allowance);
        }
        // Of what cannot be split another part may fit once this one is taken.
        let stands = if free.bundle().is_plain() { Stands::Look } else { Stands::Once };
        let left_out = |reason| LeftOut { reason, stands };
        let have = if allowance.is_unbounded() { Scalars::default() } else { amounts(&available) };
        let whole = candidate::candidate(&available, role, &allowance).map_err(left_out)?;
        let smallest = client.smallest.as_ref().unwrap_or(&self.settings.smallest);
        if !candidate::is_worth_offering(&whole, smallest) {
            // It was worth offering before quotas were asked.
            return Err(left_out(allowance.reason(&have)));
        }
        if self.is_hidden(visit, key, &whole) {
            return Err(left_out(Reason::Filter));
        }
        Ok(Take::Whole(whole.into_owned()))
    }

    /// What is available to a client, whatever quotas say.
    fn check<'f>(
        &self,
        visit: &Visit<'_>,
        role: &Role,
        (key, client): (ClientKey, &mut Client),
        free: &'f Free,
    ) -> Result<Cow<'f, Bundle>, LeftOut> {
        self.check_accepts(visit, role, client)?;
        // What is refused hides all that lies within it, whatever of it there is to offer.
        if free.bundle().is_plain() && self.is_hidden(visit, key, free.bundle()) {
            return Err(Reason::Filter.into());
        }
        Self::check_constraints(visit, client)?;
        let none = BTreeSet::new();
        let taken = self.taken.unwrap_or(&none);
        let revocable = client.wants.iter().flatten().any(|wanted| wanted.want.revocable);
        let accepts =
            super::Accepts { revocable: client.accepts.revocable || revocable, ..client.accepts };
        let available = free.available(Asker { role, accepts, taken })?;
        let smallest = client.smallest.as_ref().unwrap_or(&self.settings.smallest);
        if !candidate::is_worth_offering(&available, smallest) {
            return Err(Reason::SmallestOffer.into());
        }
        Ok(available)
    }

    fn is_hidden(&self, visit: &Visit<'_>, key: ClientKey, candidate: &Bundle) -> bool {
        self.refusals.hide(key, visit.agent, candidate, self.clock)
    }

    /// Whether the agent meets the constraints of any want.
    fn check_constraints(visit: &Visit<'_>, client: &mut Client) -> Result<(), LeftOut> {
        let Some(wants) = &mut client.wants else { return Ok(()) };
        let mut is_by_host = false;
        let mut asking = wants.iter_mut().filter(|wanted| wanted.left() > 0);
        let meets = asking.any(|wanted| {
            is_by_host |= wanted.constraints.is_by_host();
            wanted.constraints.are_met(visit.site, visit.class)
        });
        if meets {
            return Ok(());
        }
        let stands = if is_by_host { Stands::Look } else { Stands::Class };
        Err(LeftOut { reason: Reason::Constraint, stands })
    }

    fn check_accepts(&self, visit: &Visit<'_>, role: &Role, client: &Client) -> Result<(), Reason> {
        let accepts = client.accepts;
        let too_old =
            !visit.site.takes_many_roles && (accepts.many_roles || role.as_str().contains('/'));
        let elsewhere = self.settings.is_elsewhere(visit.site) && !accepts.other_regions;
        if too_old || elsewhere || (visit.has_gpus && !accepts.gpus) {
            return Err(Reason::NotAccepted);
        }
        Ok(())
    }

    fn allowance(&self, role: &Role) -> Allowance {
        if self.quotas.is_empty() {
            return Allowance::default();
        }
        let mut idle = self.ledger.idle().clone();
        idle.remove_all(self.closed);
        Allowance {
            owed: self.is_owed_pass.then(|| self.quotas.owed(role.as_str(), self.ledger)),
            room: self.quotas.room(role.as_str(), self.ledger),
            spare: self.quotas.spare(role.as_str(), self.ledger),
            surplus: self.quotas.surplus(&idle),
        }
    }

    /// The first want of which at least one unit can be had here.
    fn judge_wants(
        &self,
        visit: &Visit<'_>,
        role: &Role,
        (key, client): (ClientKey, &mut Client),
        available: &Bundle,
        allowance: &Allowance,
    ) -> Result<Take, LeftOut> {
        let cut = candidate::candidate(available, role, allowance);
        // Revocable units may be lent of what is held for guarantees: preemption gets it back.
        let lent = Allowance { owed: None, surplus: Scalars::default(), ..allowance.clone() };
        let mut left_out = LeftOut::from(Reason::Held);
        let wants = client.wants.iter_mut().flatten().enumerate();
        for (at, wanted) in wants.filter(|(_, wanted)| wanted.left() > 0) {
            if wanted.want.revocable && self.is_owed_pass {
                continue;
            }
            let lends = wanted.want.revocable && !allowance.surplus.is_empty();
            let lent = lends.then(|| candidate::candidate(available, role, &lent));
            let cut = lent.as_ref().unwrap_or(&cut);
            let verdict = if !wanted.constraints.are_met(visit.site, visit.class) {
                Err(Reason::Constraint)
            } else if wanted.fitting(available) == 0 {
                Err(wanted.missing(available))
            } else {
                cut.as_ref().map_err(|reason| *reason).and_then(|from| {
                    let most = wanted.fitting(from);
                    let one = if most > 0 { wanted.cut(from, 1) } else { None };
                    let one =
                        one.ok_or_else(|| allowance.reason(&Scalars::of(&wanted.want.each)))?;
                    if !allowance.is_served_by(&one) {
                        return Err(Reason::Quota);
                    }
                    // Who has refused one unit is not asked about two.
                    let is_hidden = self.is_hidden(visit, key, &one);
                    if is_hidden {
                        Err(Reason::Filter)
                    } else {
                        Ok((most, from.clone().into_owned()))
                    }
                })
            };
            if let (true, Err(reason)) = (self.counts, &verdict) {
                wanted.see(visit.look, Some(*reason));
            }
            match verdict {
                Ok((most, from)) => return Ok(Take::Units { at, most, from }),
                Err(reason) => {
                    left_out.reason = reason;
                    // Of other ports it may not have refused a unit.
                    if reason == Reason::Filter || !available.is_plain() {
                        left_out.stands = Stands::Once;
                    }
                }
            }
        }
        Err(left_out)
    }

    fn see_all(&self, visit: &Visit<'_>, client: &mut Client, reason: Reason) {
        if self.counts {
            for wanted in client.wants.iter_mut().flatten().filter(|wanted| wanted.left() > 0) {
                wanted.see(visit.look, Some(reason));
            }
        }
    }
}

/// What there is of each name, all kinds together.
fn amounts(bundle: &Bundle) -> Scalars {
    bundle.flat().map(|flat| Scalars::of(&flat)).unwrap_or_default()
}
