//! The ledger: who holds what of each agent. The one module that moves resources.
//!
//! Per agent and kind, `total + overdraft = free + offered + used`, where an agent that shrank below what is out has an
//! overdraft and nothing free of that resource. What is used belongs to the state, what is offered to the mind; free
//! is what follows. Its one surprise: what is held back for schedulers is an account of its own beside the offerable one.

mod account;
mod sums;

pub use account::Account;
use account::Part;
pub use sums::{Held, RoleSums};
pub(crate) use sums::{is_charged, paths};

use crate::quantities::Quantities;
use std::collections::{BTreeMap, BTreeSet};
use sums::Sums;
use tepui_proto::{AgentId, Bundle, FrameworkId, PoolKind, Resources, Role, limits};

/// Why resources were not moved. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The agent is not in the ledger.
    #[error("the agent is not in the ledger")]
    NoAgent,
    /// Not so much is there.
    #[error("the agent does not have so much")]
    Short,
}

/// An agent's two pools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// What is offered to frameworks.
    pub offerable: Account,
    /// What schedulers are placed on first.
    pub held_back: Account,
}

/// Who holds resources.
#[derive(Clone, Copy, Debug)]
pub struct Holder<'a> {
    /// In which role.
    pub role: &'a Role,
    /// Which framework.
    pub framework: FrameworkId,
}

/// The ledger.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    agents: BTreeMap<AgentId, Accounts>,
    /// All agents together, what is held back included.
    total: Quantities,
    /// Free of all agents together, of what can be offered, is not reserved, and is not revocable.
    idle: Quantities,
    sums: Sums,
    /// Agents of which more is free than when this was last taken.
    freed: BTreeSet<AgentId>,
    /// Rises with every change of the total.
    version: u64,
}

/// The share of an agent that is held back for schedulers: [`limits::HELD_BACK_MILLI`], and at least
/// [`limits::HELD_BACK_MEMORY_BYTES`] and two schedulers' CPU, but never more than half.
#[must_use]
pub fn held_back(total: &Resources) -> Resources {
    let part = |amount: u64, least: u64| {
        let share = u128::from(amount) * u128::from(limits::HELD_BACK_MILLI) / 1000;
        u64::try_from(share).unwrap_or(amount).max(least).min(amount / 2)
    };
    Resources::cpu_memory(
        part(total.cpu_milli, 2 * limits::SCHEDULER_CPU_MILLI),
        part(total.memory_bytes, limits::HELD_BACK_MEMORY_BYTES),
    )
}

impl Ledger {
    /// The accounts of an agent.
    pub fn agent(&self, agent: AgentId) -> Option<&Accounts> {
        self.agents.get(&agent)
    }

    /// All agents, in order.
    pub fn agents(&self) -> impl Iterator<Item = (AgentId, &Accounts)> {
        self.agents.iter().map(|(id, accounts)| (*id, accounts))
    }

    /// All agents together, what is held back included.
    pub fn total(&self) -> &Quantities {
        &self.total
    }

    /// Rises with every change of the total.
    pub fn total_version(&self) -> u64 {
        self.version
    }

    /// What could be offered to anyone, of all agents together.
    pub fn idle(&self) -> &Quantities {
        &self.idle
    }

    /// What a role's subtree holds; a role of which nothing is held or reserved may be absent.
    pub fn role(&self, path: &str) -> Option<&RoleSums> {
        self.sums.role(path)
    }

    /// All roles of which something is held or reserved.
    pub fn roles(&self) -> impl Iterator<Item = (&Role, &RoleSums)> {
        self.sums.roles()
    }

    /// What counts against a role's guarantee and limit.
    pub fn consumed(&self, path: &str) -> Quantities {
        self.sums.role(path).map(RoleSums::consumed).unwrap_or_default()
    }

    /// Agents of which more is free than when this was last asked.
    pub fn take_freed(&mut self) -> BTreeSet<AgentId> {
        std::mem::take(&mut self.freed)
    }

    /// Roles, and frameworks in them, whose sums have moved since this was last asked.
    pub fn take_moved(&mut self) -> BTreeMap<Role, BTreeSet<FrameworkId>> {
        self.sums.take_moved()
    }

    /// Sets what an agent has, and holds a share of it back; what is out stays out.
    pub fn set_total(&mut self, agent: AgentId, all: &Bundle) {
        let back = held_back(all.plain());
        let offerable = all.with_plain(all.plain().saturating_sub(&back));
        self.set_accounts(agent, offerable, Bundle::from(back));
    }

    /// Sets what of an agent can be offered, and holds nothing back; what is out stays out.
    pub fn set_offerable(&mut self, agent: AgentId, all: &Bundle) {
        self.set_accounts(agent, all.clone(), Bundle::default());
    }

    /// Sets what of an agent can be offered, and what is held back of it; what is out stays out.
    pub fn set_agent(&mut self, agent: AgentId, offerable: Bundle, held_back: Resources) {
        self.set_accounts(agent, offerable, Bundle::from(held_back));
    }

    fn set_accounts(&mut self, agent: AgentId, offerable: Bundle, held_back: Bundle) {
        let known = self.agents.get(&agent);
        if known.is_some_and(|a| a.offerable.total == offerable && a.held_back.total == held_back) {
            return;
        }
        self.change(agent, |accounts| {
            accounts.offerable.total = offerable;
            accounts.held_back.total = held_back;
            // What is out was out before, so its sum is within range.
            let _in_range = accounts.offerable.balance();
            let _in_range = accounts.held_back.balance();
        });
        self.freed.insert(agent);
    }

    /// Forgets an agent. What was held of it must have been given back before.
    pub fn remove_agent(&mut self, agent: AgentId) {
        self.change(agent, |accounts| *accounts = Accounts::default());
        self.agents.remove(&agent);
        self.freed.remove(&agent);
    }

    /// Changes an agent's totals, and all sums over agents by as much.
    fn change(&mut self, agent: AgentId, change: impl FnOnce(&mut Accounts)) {
        let accounts = self.agents.entry(agent).or_default();
        let before = accounts.offerable.total.clone();
        let held_back = accounts.held_back.total.plain().clone();
        self.idle.remove_pools(accounts.offerable.free(), PoolKind::is_open);
        change(accounts);
        self.idle.add_pools(accounts.offerable.free(), PoolKind::is_open);
        let (gone, new) = before.differing(&accounts.offerable.total);
        self.sums.reserve(&gone, false);
        self.sums.reserve(&new, true);
        self.total.remove_pools(&gone, |_| true);
        self.total.add_pools(&new, |_| true);
        self.total.remove(&held_back);
        self.total.add(accounts.held_back.total.plain());
        self.version += 1;
    }

    /// Free becomes offered.
    ///
    /// # Errors
    /// Unless all of it is free.
    pub fn offer(
        &mut self,
        agent: AgentId,
        holder: Holder<'_>,
        bundle: &Bundle,
    ) -> Result<(), LedgerError> {
        let accounts = self.agents.get(&agent).ok_or(LedgerError::NoAgent)?;
        if !accounts.offerable.free().contains(bundle) {
            return Err(LedgerError::Short);
        }
        self.settle(agent, false, bundle, |account| account.put(Part::Offered, bundle))?;
        self.sums.hold(agent, holder, bundle);
        Ok(())
    }

    /// Offered becomes free, or covers overdraft.
    ///
    /// # Errors
    /// Unless all of it is offered.
    pub fn take_back(
        &mut self,
        agent: AgentId,
        holder: Holder<'_>,
        bundle: &Bundle,
    ) -> Result<(), LedgerError> {
        self.free(agent, false, holder, (Part::Offered, bundle))
    }

    /// Free becomes used. What was offered is taken back first, by whoever knows the offer.
    ///
    /// # Errors
    /// If a sum is over the range. An overdraft is not an error: the decision is committed, and the books follow.
    pub fn take(
        &mut self,
        agent: AgentId,
        holder: Holder<'_>,
        bundle: &Bundle,
        back: bool,
    ) -> Result<(), LedgerError> {
        self.settle(agent, back, bundle, |account| account.put(Part::Used, bundle))?;
        self.sums.hold(agent, holder, bundle);
        Ok(())
    }

    /// Used becomes free, or covers overdraft.
    ///
    /// # Errors
    /// Unless all of it is used.
    pub fn give_back(
        &mut self,
        agent: AgentId,
        holder: Holder<'_>,
        bundle: &Bundle,
        back: bool,
    ) -> Result<(), LedgerError> {
        self.free(agent, back, holder, (Part::Used, bundle))
    }

    /// What a part of an account holds becomes free, or covers overdraft.
    fn free(
        &mut self,
        agent: AgentId,
        back: bool,
        holder: Holder<'_>,
        (part, bundle): (Part, &Bundle),
    ) -> Result<(), LedgerError> {
        self.settle(agent, back, bundle, |account| account.take(part, bundle))?;
        self.freed.insert(agent);
        self.sums.let_go(agent, holder, bundle);
        Ok(())
    }

    /// What is free becomes something else: reserved, no longer reserved, a volume.
    ///
    /// # Errors
    /// Unless all of `from` is free.
    pub fn convert(
        &mut self,
        agent: AgentId,
        from: &Bundle,
        to: &Bundle,
    ) -> Result<(), LedgerError> {
        let accounts = self.agents.get(&agent).ok_or(LedgerError::NoAgent)?;
        let account = &accounts.offerable;
        if !account.free().contains(from) {
            return Err(LedgerError::Short);
        }
        let total = account.total.checked_sub(from).ok_or(LedgerError::Short)?;
        let total = total.checked_add(to).ok_or(LedgerError::Short)?;
        let held_back = accounts.held_back.total.clone();
        self.set_accounts(agent, total, held_back);
        Ok(())
    }

    /// What is offered becomes something else, and stays offered.
    ///
    /// # Errors
    /// Unless all of `from` is offered to the holder.
    pub fn convert_offered(
        &mut self,
        agent: AgentId,
        holder: Holder<'_>,
        from: &Bundle,
        to: &Bundle,
    ) -> Result<(), LedgerError> {
        let accounts = self.agents.get(&agent).ok_or(LedgerError::NoAgent)?;
        let account = &accounts.offerable;
        let swapped = |bundle: &Bundle| bundle.checked_sub(from)?.checked_add(to);
        let total = swapped(&account.total).ok_or(LedgerError::Short)?;
        let offered = swapped(&account.offered).ok_or(LedgerError::Short)?;
        let _in_range = offered.checked_add(&account.used).ok_or(LedgerError::Short)?;
        self.change(agent, |accounts| {
            accounts.offerable.total = total;
            accounts.offerable.offered = offered;
            let _in_range = accounts.offerable.balance();
        });
        self.freed.insert(agent);
        self.sums.let_go(agent, holder, from);
        self.sums.hold(agent, holder, to);
        Ok(())
    }

    /// Changes what is out of one account by this much, and keeps what is idle in step.
    fn settle(
        &mut self,
        agent: AgentId,
        held_back: bool,
        bundle: &Bundle,
        change: impl FnOnce(&mut Account) -> Result<(), LedgerError>,
    ) -> Result<(), LedgerError> {
        let accounts = self.agents.get_mut(&agent).ok_or(LedgerError::NoAgent)?;
        if held_back {
            return change(&mut accounts.held_back);
        }
        let account = &mut accounts.offerable;
        let open = || bundle.iter().map(|(kind, _)| kind).filter(|kind| kind.is_open());
        open().for_each(|kind| self.idle.remove(account.free().get(kind)));
        let result = change(account);
        open().for_each(|kind| self.idle.add(account.free().get(kind)));
        result
    }

    /// The first agent whose books do not balance.
    pub fn unbalanced(&self) -> Option<AgentId> {
        let bad = |accounts: &Accounts| {
            !accounts.offerable.is_balanced() || !accounts.held_back.is_balanced()
        };
        self.agents.iter().find(|(_, accounts)| bad(accounts)).map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: AgentId = AgentId(1);

    fn role() -> Role {
        Role::from("web")
    }

    fn holder(role: &Role) -> Holder<'_> {
        Holder { role, framework: FrameworkId(1) }
    }

    fn amount(cpu_milli: u64, mebibytes: u64) -> Bundle {
        Bundle::from(Resources::cpu_memory(cpu_milli, mib(mebibytes)))
    }

    fn mib(n: u64) -> u64 {
        n << 20
    }

    #[test]
    fn resources_move_and_never_vanish() {
        let mut ledger = Ledger::default();
        ledger.set_total(A, &amount(4_000, 8_192));
        let free = ledger.agent(A).unwrap().offerable.free().clone();
        assert_eq!(free.plain(), &Resources::cpu_memory(3_800, mib(8_192) - mib(8_192) / 20));
        ledger.offer(A, holder(&role()), &free).unwrap();
        assert_eq!(ledger.offer(A, holder(&role()), &amount(1, 0)), Err(LedgerError::Short));
        ledger.take_back(A, holder(&role()), &free).unwrap();
        ledger.take(A, holder(&role()), &amount(1_000, 64), false).unwrap();
        ledger.give_back(A, holder(&role()), &amount(1_000, 64), false).unwrap();
        assert_eq!(ledger.agent(A).unwrap().offerable.free(), &free);
        assert_eq!(ledger.unbalanced(), None);
    }

    #[test]
    fn an_agent_that_shrinks_has_nothing_free_until_its_overdraft_is_paid() {
        let mut ledger = Ledger::default();
        ledger.set_total(A, &amount(4_000, 8_192));
        ledger.take(A, holder(&role()), &amount(3_000, 64), false).unwrap();
        ledger.set_total(A, &amount(2_000, 8_192));
        let account = ledger.agent(A).unwrap().offerable.clone();
        assert_eq!(
            (account.free().plain().cpu_milli, account.overdraft().plain().cpu_milli),
            (0, 1_200)
        );
        assert_eq!(ledger.unbalanced(), None);
        ledger.give_back(A, holder(&role()), &amount(3_000, 64), false).unwrap();
        assert_eq!(ledger.agent(A).unwrap().offerable.free().plain().cpu_milli, 1_800);
    }

    #[test]
    fn half_of_a_small_agent_is_left_for_tasks() {
        let total = Resources::cpu_memory(100, mib(128));
        assert_eq!(held_back(&total), Resources::cpu_memory(50, mib(64)));
    }
}
