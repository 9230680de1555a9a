//! Reservations and volumes: what of an agent's resources becomes what, asked for by operators and schedulers alike.
//!
//! Plans only: the entry that says `from` and `to` is what moves them. A reservation is undone by who may hold it; what
//! the agent's operator reserved when it started stays reserved. Its one surprise: for an operator, offers of the agent are
//! taken back where what is free is not enough, as in Mesos.

use super::answers::Draft;
use super::launches::Pool;
use super::{Leader, Step, reply};
use crate::allocator::is_at_or_below;
use crate::effect::ReplyBody;
use crate::entry::{Conversion, EntryKind};
use crate::input::Ticket;
use crate::ledger::{is_charged, paths};
use crate::policy::PolicyError;
use crate::refusal::{Code, Refusal};
use tepui_proto::calls::{NewVolume, Operation, Reservation};
use tepui_proto::resources::bundle::VolumeKind;
use tepui_proto::roles::AgentOperation;
use tepui_proto::{AgentId, Bundle, PoolKind, Resources, Role, Scalars, limits, names};

impl Leader {
    pub(super) fn on_operation_requested(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        agent: &str,
        operation: &AgentOperation,
    ) {
        let planned = self.agent_named(agent).and_then(|id| self.plan_operators(id, operation));
        let answer = planned.map(|(conversion, needs_offers)| {
            let agent = conversion.agent;
            if needs_offers {
                self.rescind_agent(agent);
            }
            let reserved = conversion.to.pools().filter_map(|(kind, _)| kind.owner().cloned());
            let reserved: Vec<Role> = reserved.collect();
            self.propose(step, EntryKind::Converted(conversion));
            let above = reserved.iter().flat_map(|role| paths(role.as_str())).map(Role::from);
            self.enforce_limits(&above.collect());
            self.mind.dirty.insert(agent);
            ReplyBody::Done
        });
        reply(step.fx, ticket, answer);
    }

    /// What an operator's operation does to what is free, or else to what is free once offers are taken back; which of
    /// the two is the second part.
    fn plan_operators(
        &self,
        agent: AgentId,
        operation: &AgentOperation,
    ) -> Result<(Conversion, bool), Refusal> {
        let operation = match operation.clone() {
            AgentOperation::Reserve(reservation) => Operation::Reserve(reservation),
            AgentOperation::Unreserve(reservation) => Operation::Unreserve(reservation),
            AgentOperation::CreateVolume(volume) => Operation::CreateVolume(volume),
            AgentOperation::DestroyVolume(id) => Operation::DestroyVolume(id),
        };
        let account = self.state.ledger.agent(agent).map(|accounts| &accounts.offerable);
        let account = account.cloned().unwrap_or_default();
        let (conversion, needs_offers) = match self.plan(agent, account.free(), &operation, None) {
            // Copies of a shared volume may be on offer though it is free.
            Ok(conversion) => {
                let is_destroyed = matches!(operation, Operation::DestroyVolume(_));
                let is_offered = |kind: &PoolKind| !account.offered.get(kind).is_empty();
                let needs = conversion.from.pools().any(|(kind, _)| is_offered(kind));
                (conversion, needs && is_destroyed)
            }
            Err(refusal) if account.offered.is_empty() => return Err(refusal),
            Err(refusal) => {
                let unused = account.total.saturating_sub(&account.used);
                let planned = self.plan(agent, &unused, &operation, None);
                (planned.map_err(|_also| refusal)?, true)
            }
        };
        self.check_limits(&conversion, None)?;
        Ok((conversion, needs_offers))
    }

    /// What is reserved counts against limits, used or not: at each role that it did not count for before. With an
    /// acceptance: its turn so far, and what it has left.
    fn check_limits(
        &self,
        conversion: &Conversion,
        asker: Option<(&Draft, &Pool)>,
    ) -> Result<(), Refusal> {
        for (role, policy) in self.state.policy.roles().filter(|(_, p)| !p.limit.is_empty()) {
            let is_below = |of: &Role| is_at_or_below(of.as_str(), role.as_str());
            let is_reserved = |kind: &PoolKind| kind.owner().is_some_and(is_below);
            let has_offers = asker.is_some_and(|(_, pool)| is_below(&pool.offer.role));
            let counts = |kind: &PoolKind| is_reserved(kind) || (has_offers && is_charged(kind));
            let is_new = conversion.from.iter().any(|(kind, _)| !counts(kind));
            if !is_new || !conversion.to.pools().any(|(kind, _)| is_reserved(kind)) {
                continue;
            }
            let mut held = match asker {
                // What other offers hold can be taken back.
                None => self.used_by(role),
                Some(_) => self.state.ledger.consumed(role.as_str()),
            };
            let (draft, pool) = asker.unzip();
            for before in draft.into_iter().flat_map(|draft| &draft.conversions) {
                held.add_pools(&before.to, is_reserved);
                held.remove_pools(&before.from, is_reserved);
            }
            let launches = draft.into_iter().flat_map(|draft| &draft.turn.launches);
            for launch in launches.filter(|launch| is_below(&launch.role)) {
                let pooled = draft.and_then(|draft| draft.held.get(&launch.spec.id));
                let plain = pooled.map_or(&launch.spec.resources, Bundle::plain);
                held.add(plain);
            }
            if let Some(pool) = pool.filter(|_| has_offers) {
                held.add(pool.left.plain());
            }
            held.add_pools(&conversion.to, is_reserved);
            if let Some(name) = held.exceeds(&policy.limit) {
                let (role, name) = (role.clone(), name.to_owned());
                let error = PolicyError::OverUsed { role, name };
                return Err(Refusal::new(error.code(), error.to_string()));
            }
        }
        Ok(())
    }

    /// What a scheduler's operation does to what its offers hold.
    pub(super) fn convert_pool(
        &self,
        draft: &mut Draft,
        pool: &mut Pool,
        operation: &Operation,
    ) -> Result<(), Refusal> {
        let agent = pool.offer.agent;
        let conversion =
            self.plan(agent, &pool.left, operation, Some((&pool.offer.role, draft)))?;
        self.check_limits(&conversion, Some((draft, pool)))?;
        let left = pool.left.checked_sub(&conversion.from);
        let left = left.and_then(|left| left.checked_add(&conversion.to));
        pool.left = left.ok_or_else(|| not_free("the offers do not hold it"))?;
        self.note_made(draft, &conversion);
        draft.conversions.push(conversion);
        Ok(())
    }

    /// What an operation makes of what. With an asker: the offers' role, and what this turn has converted before.
    fn plan(
        &self,
        agent: AgentId,
        have: &Bundle,
        operation: &Operation,
        asker: Option<(&Role, &Draft)>,
    ) -> Result<Conversion, Refusal> {
        let (from, to) = match operation {
            Operation::Reserve(reservation) => {
                check_role(&reservation.role, asker.map(|(role, _)| role))?;
                reserve(have, reservation)?
            }
            Operation::Unreserve(reservation) => {
                check_role(&reservation.role, asker.map(|(role, _)| role))?;
                let (from, to) = unreserve(have, reservation)?;
                if !self.was_made(agent, &from, asker.map(|(_, draft)| draft)) {
                    return Err(not_free("the agent's operator reserved it when it started"));
                }
                (from, to)
            }
            Operation::CreateVolume(volume) => {
                check_role(&volume.role, asker.map(|(role, _)| role))?;
                self.check_volume(agent, volume, asker.map(|(_, draft)| draft))?;
                create_volume(have, volume)?
            }
            Operation::DestroyVolume(id) => {
                names::check_name(id).map_err(|error| invalid(&error.to_string()))?;
                let (from, to) = destroy_volume(have, id)?;
                for (kind, _) in from.pools() {
                    if let Some((own, owner)) = asker.map(|(role, _)| role).zip(kind.owner()) {
                        check_role(owner, Some(own))?;
                    }
                    // The offers of the one who asks are closed already.
                    let account = self.state.ledger.agent(agent).map(|a| &a.offerable);
                    let is_out = account.is_some_and(|account| {
                        let is_offered = !account.offered.get(kind).is_empty();
                        !account.used.get(kind).is_empty() || (asker.is_some() && is_offered)
                    });
                    if kind.is_shared() && is_out {
                        return Err(not_free("the volume is in use"));
                    }
                }
                (from, to)
            }
            Operation::Launch(_) | Operation::LaunchGroup(_) => {
                return Err(not_free("a launch converts nothing"));
            }
        };
        self.check_pools(agent, &to, asker.map(|(_, draft)| draft))?;
        Ok(Conversion { agent, from, to })
    }

    /// An agent has so many pools and no more, since offers carry all of them: made, declared, and of this turn.
    fn check_pools(
        &self,
        agent: AgentId,
        to: &Bundle,
        draft: Option<&Draft>,
    ) -> Result<(), Refusal> {
        if to.pools().any(|(kind, _)| kind.reserved_for.len() > limits::REFINEMENTS) {
            let message = format!("a pool of more than {} roles", limits::REFINEMENTS);
            return Err(Refusal::new(Code::LimitReached, message));
        }
        let account = self.state.ledger.agent(agent).map(|accounts| &accounts.offerable);
        let known = |kind: &PoolKind| account.is_some_and(|have| !have.total.get(kind).is_empty());
        let new = to.pools().filter(|(kind, _)| !known(kind)).count();
        let in_turn = draft.map_or(0, |draft| draft.conversions.len());
        let have = account.map_or(0, |have| have.total.pools().count());
        if new > 0 && have + in_turn + new > limits::POOLS {
            let message = format!("the agent has {have} pools; at most {}", limits::POOLS);
            return Err(Refusal::new(Code::LimitReached, message));
        }
        Ok(())
    }

    /// Whether this was reserved by an operation, in the state or in this turn.
    fn was_made(&self, agent: AgentId, bundle: &Bundle, draft: Option<&Draft>) -> bool {
        let in_turn = draft.and_then(|draft| draft.made.get(&agent));
        let made = in_turn.or_else(|| self.state.provision(agent).map(|p| &p.made));
        made.map_or_else(|| bundle.is_empty(), |made| made.contains(bundle))
    }

    /// Remembers what is made of an agent once a conversion is carried out.
    fn note_made(&self, draft: &mut Draft, conversion: &Conversion) {
        let stored = || self.state.provision(conversion.agent).map(|p| p.made.clone());
        let made = draft.made.remove(&conversion.agent).or_else(stored).unwrap_or_default();
        let made = made.saturating_sub(&conversion.from);
        let made = made.checked_add(&conversion.to).unwrap_or(made);
        draft.made.insert(conversion.agent, made);
    }

    fn check_volume(
        &self,
        agent: AgentId,
        volume: &NewVolume,
        draft: Option<&Draft>,
    ) -> Result<(), Refusal> {
        names::check_name(&volume.id).map_err(|error| invalid(&error.to_string()))?;
        if volume.size_bytes == 0 {
            return Err(invalid("a volume of no size"));
        }
        let is_same =
            |kind: &PoolKind| kind.disk.volume.as_ref().is_some_and(|known| known.id == volume.id);
        let total = self.state.ledger.agent(agent).map(|accounts| &accounts.offerable.total);
        let known = total.is_some_and(|total| total.pools().any(|(kind, _)| is_same(kind)));
        let turn = draft.into_iter().flat_map(|draft| &draft.conversions);
        let mut turn = turn.filter(|conversion| conversion.agent == agent);
        if known || turn.any(|c| c.to.pools().any(|(kind, _)| is_same(kind))) {
            return Err(invalid(&format!("there is a volume `{}` on that agent", volume.id)));
        }
        Ok(())
    }
}

fn not_free(message: &str) -> Refusal {
    Refusal::new(Code::ResourcesNotFree, message)
}

fn invalid(message: &str) -> Refusal {
    Refusal::new(Code::VolumeInvalid, message)
}

/// A scheduler reserves for the role of its offers, or one below.
fn check_role(role: &Role, own: Option<&Role>) -> Result<(), Refusal> {
    names::check_role(role.as_str())
        .map_err(|error| Refusal::new(Code::RoleInvalid, format!("a role's name: {error}")))?;
    if role.as_str() == "*" {
        return Err(Refusal::new(Code::RoleInvalid, "nothing is reserved for everyone"));
    }
    if own.is_some_and(|own| !is_at_or_below(role.as_str(), own.as_str())) {
        return Err(Refusal::new(
            Code::RoleInvalid,
            format!("`{role}` is not the role of the offers, nor one below"),
        ));
    }
    Ok(())
}

/// From what anyone may use, or else from a reservation for a role above.
fn reserve(have: &Bundle, reservation: &Reservation) -> Result<(Bundle, Bundle), Refusal> {
    let Reservation { role, resources } = reservation;
    if Scalars::of(resources).is_empty()
        && resources.ports.is_empty()
        && resources.custom.is_empty()
    {
        return Err(not_free("nothing is to be reserved"));
    }
    let is_above = |kind: &PoolKind| {
        !kind.revocable
            && !kind.is_whole()
            && kind.disk.volume.is_none()
            && kind
                .owner()
                .is_none_or(|owner| owner != role && is_at_or_below(role.as_str(), owner.as_str()))
    };
    let mut kinds =
        have.iter().filter(|(kind, amount)| is_above(kind) && amount.contains(resources));
    let Some((kind, _)) = kinds.next() else {
        return Err(not_free(&format!("there is not so much to be reserved for `{role}`")));
    };
    let mut reserved = kind.clone();
    reserved.reserved_for.push(role.clone());
    Ok((Bundle::of(kind.clone(), resources.clone()), Bundle::of(reserved, resources.clone())))
}

fn unreserve(have: &Bundle, reservation: &Reservation) -> Result<(Bundle, Bundle), Refusal> {
    let Reservation { role, resources } = reservation;
    let is_meant = |kind: &PoolKind| {
        kind.owner() == Some(role) && !kind.is_whole() && kind.disk.volume.is_none()
    };
    let mut kinds =
        have.iter().filter(|(kind, amount)| is_meant(kind) && amount.contains(resources));
    let Some((kind, _)) = kinds.next() else {
        return Err(not_free(&format!("there is not so much free that is reserved for `{role}`")));
    };
    let mut freed = kind.clone();
    freed.reserved_for.pop();
    Ok((Bundle::of(kind.clone(), resources.clone()), Bundle::of(freed, resources.clone())))
}

fn disk(bytes: u64) -> Resources {
    Resources { disk_bytes: bytes, ..Resources::default() }
}

fn create_volume(have: &Bundle, volume: &NewVolume) -> Result<(Bundle, Bundle), Refusal> {
    let is_meant = |kind: &PoolKind| {
        kind.owner() == Some(&volume.role) && !kind.revocable && kind.disk.volume.is_none()
    };
    // A disk that cannot be split becomes one volume, whole.
    let fits = |kind: &PoolKind, amount: &Resources| {
        if kind.is_whole() {
            amount.disk_bytes == volume.size_bytes
        } else {
            amount.disk_bytes >= volume.size_bytes
        }
    };
    let mut kinds = have.iter().filter(|(kind, amount)| is_meant(kind) && fits(kind, amount));
    let Some((kind, _)) = kinds.next() else {
        let message =
            format!("there is not so much disk free that is reserved for `{}`", volume.role);
        return Err(not_free(&message));
    };
    let mut made = kind.clone();
    let shared_bytes = volume.shared.then_some(volume.size_bytes);
    made.disk.volume = Some(VolumeKind { id: volume.id.clone(), shared_bytes });
    let amount = disk(volume.size_bytes);
    Ok((Bundle::of(kind.clone(), amount.clone()), Bundle::of(made, amount)))
}

fn destroy_volume(have: &Bundle, id: &str) -> Result<(Bundle, Bundle), Refusal> {
    let is_meant =
        |kind: &PoolKind| kind.disk.volume.as_ref().is_some_and(|volume| volume.id == id);
    let Some((kind, amount)) = have.pools().find(|(kind, _)| is_meant(kind)) else {
        return Err(invalid(&format!("there is no volume `{}` free here", id.escape_debug())));
    };
    let mut freed = kind.clone();
    freed.disk.volume = None;
    Ok((Bundle::of(kind.clone(), amount.clone()), Bundle::of(freed, amount.clone())))
}
