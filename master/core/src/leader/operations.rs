//! Reservations and volumes: what of an agent's resources becomes what, asked for by operators and schedulers alike.
//!
//! Plans only: the entry that says `from` and `to` is what moves them. A reservation is undone by who may hold it; what
//! the agent's operator reserved when it started stays reserved.

use super::answers::Draft;
use super::launches::Pool;
use super::{Leader, Step, reply};
use crate::allocator::is_at_or_below;
use crate::effect::ReplyBody;
use crate::entry::{Conversion, EntryKind};
use crate::input::Ticket;
use crate::refusal::{Code, Refusal};
use tepui_proto::calls::{NewVolume, Operation, Reservation};
use tepui_proto::resources::bundle::VolumeKind;
use tepui_proto::roles::AgentOperation;
use tepui_proto::{AgentId, Bundle, PoolKind, Resources, Role, Scalars, names};

impl Leader {
    pub(super) fn on_operation_requested(
        &mut self,
        step: &mut Step<'_>,
        ticket: Ticket,
        agent: &str,
        operation: &AgentOperation,
    ) {
        let planned = self.agent_named(agent).and_then(|id| self.plan_free(id, operation));
        let answer = planned.map(|conversion| {
            let agent = conversion.agent;
            self.propose(step, EntryKind::Converted(conversion));
            self.mind.dirty.insert(agent);
            ReplyBody::Done
        });
        reply(step.fx, ticket, answer);
    }

    /// What an operator's operation does to what is free.
    fn plan_free(&self, agent: AgentId, operation: &AgentOperation) -> Result<Conversion, Refusal> {
        let accounts = self.state.ledger.agent(agent);
        let free = accounts.map(|accounts| accounts.offerable.free().clone()).unwrap_or_default();
        let operation = match operation.clone() {
            AgentOperation::Reserve(reservation) => {
                self.check_room(&reservation)?;
                Operation::Reserve(reservation)
            }
            AgentOperation::Unreserve(reservation) => Operation::Unreserve(reservation),
            AgentOperation::CreateVolume(volume) => Operation::CreateVolume(volume),
            AgentOperation::DestroyVolume(id) => Operation::DestroyVolume(id),
        };
        self.plan(agent, &free, &operation, None)
    }

    /// What is reserved counts against the role's limits, used or not.
    fn check_room(&self, reservation: &Reservation) -> Result<(), Refusal> {
        for (role, _) in self.state.policy.roles() {
            if is_at_or_below(reservation.role.as_str(), role.as_str()) {
                let mut consumed = self.state.ledger.consumed(role.as_str());
                consumed.add(&reservation.resources);
                let checked = self.state.policy.check_used(role, &consumed);
                checked.map_err(|error| Refusal::new(error.code(), error.to_string()))?;
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
        let left = pool.left.checked_sub(&conversion.from);
        let left = left.and_then(|left| left.checked_add(&conversion.to));
        pool.left = left.ok_or_else(|| not_free("the offers do not hold it"))?;
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
                let (from, to) = destroy_volume(have, id)?;
                let accounts = self.state.ledger.agent(agent);
                let used = |kind: &PoolKind| {
                    accounts.is_some_and(|a| !a.offerable.used.get(kind).is_empty())
                };
                if from.pools().any(|(kind, _)| kind.is_shared() && used(kind)) {
                    return Err(not_free("the volume is in use"));
                }
                (from, to)
            }
            Operation::Launch(_) | Operation::LaunchGroup(_) => {
                return Err(not_free("a launch converts nothing"));
            }
        };
        Ok(Conversion { agent, from, to })
    }

    /// Whether this was reserved by an operation, in the state or in this turn.
    fn was_made(&self, agent: AgentId, bundle: &Bundle, draft: Option<&Draft>) -> bool {
        let mut made = self.state.provision(agent).map(|p| p.made.clone()).unwrap_or_default();
        let turn = draft.into_iter().flat_map(|draft| &draft.conversions);
        for conversion in turn.filter(|conversion| conversion.agent == agent) {
            made = made.saturating_sub(&conversion.from);
            made = made.checked_add(&conversion.to).unwrap_or(made);
        }
        made.contains(bundle)
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
