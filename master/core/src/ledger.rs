//! The ledger: who holds what of each agent. The one module that moves resources.
//!
//! Per agent, `total + overdraft = free + offered + used`, where an agent that shrank below what is out has an
//! overdraft and nothing free of that resource. What is used belongs to the state, what is offered to the mind; free
//! is what follows. Its one surprise: what is held back for schedulers is an account of its own beside the offerable one.

use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::resources::Custom;
use tepui_proto::{AgentId, FrameworkId, Resources, Role, limits};

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

/// One pool of one agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// All that there is.
    pub total: Resources,
    /// Held by offers.
    pub offered: Resources,
    /// Held by tasks and schedulers.
    pub used: Resources,
    /// Neither; kept beside the others since the allocator reads it all the time.
    free: Resources,
}

impl Account {
    /// Neither offered nor used. Empty, resource by resource, while there is overdraft.
    pub fn free(&self) -> &Resources {
        &self.free
    }

    fn out(&self) -> Option<Resources> {
        self.offered.checked_add(&self.used)
    }

    fn balance(&mut self) -> Result<(), LedgerError> {
        self.free = self.total.saturating_sub(&self.out().ok_or(LedgerError::Short)?);
        Ok(())
    }

    /// What is out beyond the total.
    pub fn overdraft(&self) -> Resources {
        self.out().unwrap_or_default().saturating_sub(&self.total)
    }

    fn is_balanced(&self) -> bool {
        let Some(out) = self.out() else { return false };
        let left = self
            .total
            .checked_add(&Resources { ports: tepui_proto::PortSet::default(), ..self.overdraft() });
        let right =
            self.free.checked_add(&Resources { ports: tepui_proto::PortSet::default(), ..out });
        let scalars = |sum: &Resources| (sum.cpu_milli, sum.memory_bytes, sum.disk_bytes);
        left.as_ref().map(scalars) == right.as_ref().map(scalars)
            && !self.free.ports.overlaps(&self.offered.ports)
    }
}

/// An agent's two pools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// What is offered to frameworks.
    pub offerable: Account,
    /// What schedulers are placed on first.
    pub held_back: Account,
}

/// Countable amounts summed over agents. Ports and items of sets have no sum, and no part in shares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quantities {
    /// Thousandths of a core.
    pub cpu_milli: u128,
    /// Bytes.
    pub memory_bytes: u128,
    /// Bytes.
    pub disk_bytes: u128,
    /// Thousandths, by name.
    pub custom: BTreeMap<String, u128>,
}

impl Quantities {
    /// Adds what is countable of these.
    pub fn add(&mut self, more: &Resources) {
        self.change(more, u128::saturating_add);
    }

    /// Takes away what is countable of these.
    pub fn remove(&mut self, less: &Resources) {
        self.change(less, u128::saturating_sub);
    }

    fn change(&mut self, by: &Resources, f: impl Fn(u128, u128) -> u128) {
        self.cpu_milli = f(self.cpu_milli, by.cpu_milli.into());
        self.memory_bytes = f(self.memory_bytes, by.memory_bytes.into());
        self.disk_bytes = f(self.disk_bytes, by.disk_bytes.into());
        for (name, amount) in &by.custom {
            if let Custom::Milli(milli) = amount {
                let have = self.custom.entry(name.clone()).or_default();
                *have = f(*have, (*milli).into());
            }
        }
    }
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
    /// Offered and used, by role and framework.
    held: BTreeMap<Role, BTreeMap<FrameworkId, Quantities>>,
    /// Agents of which more is free than when this was last taken.
    freed: BTreeSet<AgentId>,
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

    /// Offered and used, by role and framework; who holds nothing may be absent.
    pub fn held(&self) -> &BTreeMap<Role, BTreeMap<FrameworkId, Quantities>> {
        &self.held
    }

    /// Agents of which more is free than when this was last asked.
    pub fn take_freed(&mut self) -> BTreeSet<AgentId> {
        std::mem::take(&mut self.freed)
    }

    /// Sets what an agent has; what is out stays out.
    pub fn set_total(&mut self, agent: AgentId, resources: &Resources) {
        let back = held_back(resources);
        let offerable = resources.saturating_sub(&back);
        let accounts = self.agents.entry(agent).or_default();
        for account in [&accounts.offerable, &accounts.held_back] {
            self.total.remove(&account.total);
        }
        accounts.offerable.total = offerable;
        accounts.held_back.total = back;
        for account in [&mut accounts.offerable, &mut accounts.held_back] {
            self.total.add(&account.total);
            // What is out was out before, so its sum is within range.
            let _in_range = account.balance();
        }
        self.freed.insert(agent);
    }

    /// Free becomes offered.
    ///
    /// # Errors
    /// Unless all of it is free.
    pub fn offer(
        &mut self,
        agent: AgentId,
        holder: Holder<'_>,
        resources: &Resources,
    ) -> Result<(), LedgerError> {
        let account = &mut self.agents.get_mut(&agent).ok_or(LedgerError::NoAgent)?.offerable;
        let free = account.free.checked_sub(resources).ok_or(LedgerError::Short)?;
        account.offered = account.offered.checked_add(resources).ok_or(LedgerError::Short)?;
        account.free = free;
        self.hold(holder, resources);
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
        resources: &Resources,
    ) -> Result<(), LedgerError> {
        let account = &mut self.agents.get_mut(&agent).ok_or(LedgerError::NoAgent)?.offerable;
        account.offered = account.offered.checked_sub(resources).ok_or(LedgerError::Short)?;
        account.balance()?;
        self.freed.insert(agent);
        self.let_go(holder, resources);
        Ok(())
    }

    /// Free becomes used. What was offered is taken back first, by whoever knows the offer.
    ///
    /// # Errors
    /// If a sum is over the range. An overdraft is not an error: the decision is committed, and the books follow.
    pub fn take(
        &mut self,
        agent: AgentId,
        holder: Holder<'_>,
        resources: &Resources,
        back: bool,
    ) -> Result<(), LedgerError> {
        let account = self.account(agent, back)?;
        account.used = account.used.checked_add(resources).ok_or(LedgerError::Short)?;
        account.balance()?;
        self.hold(holder, resources);
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
        resources: &Resources,
        back: bool,
    ) -> Result<(), LedgerError> {
        let account = self.account(agent, back)?;
        account.used = account.used.checked_sub(resources).ok_or(LedgerError::Short)?;
        account.balance()?;
        self.freed.insert(agent);
        self.let_go(holder, resources);
        Ok(())
    }

    fn hold(&mut self, holder: Holder<'_>, resources: &Resources) {
        if let Some(frameworks) = self.held.get_mut(holder.role) {
            frameworks.entry(holder.framework).or_default().add(resources);
            return;
        }
        let mut sum = Quantities::default();
        sum.add(resources);
        self.held.insert(holder.role.clone(), BTreeMap::from([(holder.framework, sum)]));
    }

    fn let_go(&mut self, holder: Holder<'_>, resources: &Resources) {
        let Some(frameworks) = self.held.get_mut(holder.role) else { return };
        let Some(sum) = frameworks.get_mut(&holder.framework) else { return };
        sum.remove(resources);
        if sum.cpu_milli == 0
            && sum.memory_bytes == 0
            && sum.disk_bytes == 0
            && sum.custom.values().all(|n| *n == 0)
        {
            frameworks.remove(&holder.framework);
            if frameworks.is_empty() {
                self.held.remove(holder.role);
            }
        }
    }

    fn account(&mut self, agent: AgentId, held_back: bool) -> Result<&mut Account, LedgerError> {
        let accounts = self.agents.get_mut(&agent).ok_or(LedgerError::NoAgent)?;
        Ok(if held_back { &mut accounts.held_back } else { &mut accounts.offerable })
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

    fn mib(n: u64) -> u64 {
        n << 20
    }

    #[test]
    fn resources_move_and_never_vanish() {
        let mut ledger = Ledger::default();
        ledger.set_total(A, &Resources::cpu_memory(4_000, mib(8_192)));
        let free = ledger.agent(A).unwrap().offerable.free().clone();
        assert_eq!(free, Resources::cpu_memory(3_800, mib(8_192) - mib(8_192) / 20));
        ledger.offer(A, holder(&role()), &free).unwrap();
        assert_eq!(
            ledger.offer(A, holder(&role()), &Resources::cpu_memory(1, 0)),
            Err(LedgerError::Short)
        );
        ledger.take_back(A, holder(&role()), &free).unwrap();
        ledger.take(A, holder(&role()), &Resources::cpu_memory(1_000, mib(64)), false).unwrap();
        ledger
            .give_back(A, holder(&role()), &Resources::cpu_memory(1_000, mib(64)), false)
            .unwrap();
        assert_eq!(ledger.agent(A).unwrap().offerable.free(), &free);
        assert_eq!(ledger.unbalanced(), None);
    }

    #[test]
    fn an_agent_that_shrinks_has_nothing_free_until_its_overdraft_is_paid() {
        let mut ledger = Ledger::default();
        ledger.set_total(A, &Resources::cpu_memory(4_000, mib(8_192)));
        ledger.take(A, holder(&role()), &Resources::cpu_memory(3_000, mib(64)), false).unwrap();
        ledger.set_total(A, &Resources::cpu_memory(2_000, mib(8_192)));
        let account = ledger.agent(A).unwrap().offerable.clone();
        assert_eq!((account.free().cpu_milli, account.overdraft().cpu_milli), (0, 1_200));
        assert_eq!(ledger.unbalanced(), None);
        ledger
            .give_back(A, holder(&role()), &Resources::cpu_memory(3_000, mib(64)), false)
            .unwrap();
        assert_eq!(ledger.agent(A).unwrap().offerable.free().cpu_milli, 1_800);
    }

    #[test]
    fn half_of_a_small_agent_is_left_for_tasks() {
        let total = Resources::cpu_memory(100, mib(128));
        assert_eq!(held_back(&total), Resources::cpu_memory(50, mib(64)));
    }
}
