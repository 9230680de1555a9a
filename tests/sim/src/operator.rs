//! Operators: they set quotas and weights, drain and deactivate agents, plan maintenance, reserve, and make volumes, as the
//! seed decides, until everything heals; then they undo all of it, as far as they are let.

use crate::wire::Event;
use crate::world::World;
use tepui_master_core::policy::RolePolicy;
use tepui_master_core::{Code, Entry, EntryKind, Input, Refusal, Ticket};
use tepui_proto::calls::{NewVolume, Reservation};
use tepui_proto::events::Unavailability;
use tepui_proto::roles::{AgentMode, AgentOperation, Packing, RoleChange};
use tepui_proto::{DurationMs, Reason, Resources, Role, Scalars, Timestamp};

/// Tickets from here on are operators'.
const TICKETS: u64 = 1 << 40;

/// How often they did what, and what came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acts {
    /// Settings of roles that were taken.
    pub roles: u64,
    /// Agents that were drained to the end.
    pub drained: u64,
    /// Reservations and volumes made and undone, by operators and by schedulers.
    pub conversions: u64,
    /// Plans for maintenance.
    pub maintenance: u64,
    /// Tasks that were stopped to serve a guarantee.
    pub preempted: u64,
    /// Requests that were refused.
    pub refused: u64,
}

impl Acts {
    /// Looks at what was committed.
    pub(crate) fn committed(&mut self, entry: &Entry) {
        match &entry.kind {
            EntryKind::RolesSet(_) => self.roles += 1,
            EntryKind::AgentModeSet { mode: AgentMode::Drained, .. } => self.drained += 1,
            EntryKind::Converted(_) => self.conversions += 1,
            EntryKind::TurnPooled(pooled) => self.conversions += pooled.conversions.len() as u64,
            EntryKind::MaintenanceSet { .. } => self.maintenance += 1,
            EntryKind::TasksMoved(changes) => {
                let reasons = changes.iter().map(|change| change.status.reason);
                self.preempted += reasons.filter(|r| *r == Reason::Preempted).count() as u64;
            }
            _ => {}
        }
    }

    /// What operators ask for may be refused, with one of these codes; what tenants ask for may not.
    pub(crate) fn refused(&mut self, ticket: Ticket, refusal: &Refusal) {
        let known = [
            Code::QuotaInvalid,
            Code::QuotaOverUsed,
            Code::AgentModeInvalid,
            Code::ResourcesNotFree,
            Code::VolumeInvalid,
            Code::AgentUnknown,
        ];
        assert!(
            ticket.0 >= TICKETS && known.contains(&refusal.code),
            "the simulation was refused: {refusal}"
        );
        self.refused += 1;
    }
}

/// What is left to be undone.
enum Undo {
    Mode,
    Maintenance,
    Operation(AgentOperation),
}

fn unchanged(role: Role) -> RoleChange {
    RoleChange { role, weight_milli: None, guarantee: None, limit: None, packing: None }
}

fn guarantee(role: Role, cpu_milli: u64) -> RoleChange {
    let mut cpus = Scalars::default();
    cpus.set(Scalars::CPUS, cpu_milli);
    RoleChange { guarantee: Some(cpus), ..unchanged(role) }
}

impl World {
    /// An operator does something, and will do more.
    pub(crate) fn operate(&mut self) {
        if self.now < self.setup.heal_at {
            let pause = self.chance.between(200, 2_000);
            self.agenda.at(self.now + pause, Event::Operator);
            let input = self.act();
            return self.master_input(input);
        }
        self.agenda.at(self.now + 500, Event::Operator);
        for input in self.undo() {
            self.master_input(input);
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.operator_tickets += 1;
        Ticket(TICKETS + self.operator_tickets)
    }

    fn role(&mut self) -> Role {
        let team = self.chance.between(0, 2);
        let is_deep = self.chance.in_a_million(300_000);
        Role(if is_deep { format!("team-{team}/job") } else { format!("team-{team}") })
    }

    fn act(&mut self) -> Input {
        let ticket = self.ticket();
        if self.operator_tickets == 1 {
            // The team of the large tasks is promised room for two.
            let changes = vec![guarantee(Role::from("team-0"), 2_700)];
            return Input::RolesChanged { ticket, changes, force: true };
        }
        let number = self.chance.between(0, self.setup.agents as u64 - 1);
        let agent = format!("agent-{number}");
        match self.chance.between(0, 9) {
            0..=3 => {
                let force = self.chance.in_a_million(300_000);
                let count = self.chance.between(1, 2);
                let changes = (0..count).map(|_| self.role_change()).collect();
                Input::RolesChanged { ticket, changes, force }
            }
            4 | 5 => {
                let grace = DurationMs(self.chance.between(0, 2_000));
                let mode = match self.chance.between(0, 5) {
                    0 | 1 => AgentMode::Draining { grace, then_gone: false },
                    2 => AgentMode::Inactive,
                    _ => AgentMode::Active,
                };
                Input::AgentModeRequested { ticket, agent, mode }
            }
            6 => {
                let start = Timestamp(self.now + self.chance.between(0, 60_000));
                let is_planned = self.chance.in_a_million(600_000);
                let unavailability = is_planned.then_some(Unavailability { start, length: None });
                Input::MaintenanceRequested { ticket, agent, unavailability }
            }
            _ => {
                let operation = self.operation();
                Input::OperationRequested { ticket, agent, operation }
            }
        }
    }

    fn role_change(&mut self) -> RoleChange {
        let role = self.role();
        let mut change = unchanged(role);
        let kind = self.chance.between(0, 5);
        let amount = self.chance.between(0, 16);
        let mut cpus = Scalars::default();
        if amount > 0 {
            cpus.set(Scalars::CPUS, amount * 250);
        }
        match kind {
            0..=2 => change.guarantee = Some(cpus),
            3 => change.limit = Some(cpus),
            4 => change.weight_milli = Some(amount * 250 + 1),
            _ => {
                change.packing = Some(match amount % 3 {
                    0 => Packing::Spread,
                    1 => Packing::Pack,
                    _ => Packing::Random,
                });
            }
        }
        change
    }

    fn operation(&mut self) -> AgentOperation {
        let role = self.role();
        let mebibytes = self.chance.between(1, 8) * 64;
        let cpu_milli = self.chance.between(0, 4) * 125;
        let resources = Resources {
            disk_bytes: mebibytes << 20,
            ..Resources::cpu_memory(cpu_milli, mebibytes << 20)
        };
        let id = format!("v{}", self.chance.between(0, 3));
        let shared = self.chance.in_a_million(300_000);
        match self.chance.between(0, 5) {
            0..=2 => AgentOperation::Reserve(Reservation { role, resources }),
            3 => AgentOperation::Unreserve(Reservation { role, resources }),
            4 => {
                let size_bytes = resources.disk_bytes;
                AgentOperation::CreateVolume(NewVolume { id, role, size_bytes, shared })
            }
            _ => AgentOperation::DestroyVolume(id),
        }
    }

    /// What undoes all that operators and schedulers have made.
    fn undo(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        if let Some(changes) = self.roles_to_undo() {
            inputs.push(Input::RolesChanged { ticket: self.ticket(), changes, force: true });
        }
        for (agent, undo) in self.agents_to_undo() {
            let ticket = self.ticket();
            inputs.push(match undo {
                Undo::Mode => Input::AgentModeRequested { ticket, agent, mode: AgentMode::Active },
                Undo::Maintenance => {
                    Input::MaintenanceRequested { ticket, agent, unavailability: None }
                }
                Undo::Operation(operation) => {
                    Input::OperationRequested { ticket, agent, operation }
                }
            });
        }
        inputs
    }

    /// Packing has no way back, and no need of one.
    fn roles_to_undo(&self) -> Option<Vec<RoleChange>> {
        let policy = self.master.leader.as_ref()?.state().policy();
        let is_bound = |policy: &RolePolicy| {
            let has_quota = !policy.guarantee.is_empty() || !policy.limit.is_empty();
            has_quota || policy.weight_milli != 1_000
        };
        if !policy.roles().any(|(_, policy)| is_bound(policy)) {
            return None;
        }
        let clear = |role: &Role| RoleChange {
            weight_milli: Some(1_000),
            guarantee: Some(Scalars::default()),
            limit: Some(Scalars::default()),
            ..unchanged(role.clone())
        };
        Some(policy.roles().map(|(role, _)| clear(role)).collect())
    }

    fn agents_to_undo(&self) -> Vec<(String, Undo)> {
        let Some(leader) = &self.master.leader else { return Vec::new() };
        let state = leader.state();
        let mut undo = Vec::new();
        for (id, _) in state.ledger().agents() {
            let Some((agent, made)) = state.agent(id).zip(state.provision(id)) else { continue };
            if !matches!(made.mode, AgentMode::Active | AgentMode::Draining { .. }) {
                undo.push((agent.name.clone(), Undo::Mode));
            }
            if made.unavailability.is_some() {
                undo.push((agent.name.clone(), Undo::Maintenance));
            }
            for (kind, amount) in made.made.pools() {
                let operation = match (&kind.disk.volume, kind.owner()) {
                    (Some(volume), _) => AgentOperation::DestroyVolume(volume.id.clone()),
                    (None, Some(role)) => {
                        let (role, resources) = (role.clone(), amount.clone());
                        AgentOperation::Unreserve(Reservation { role, resources })
                    }
                    (None, None) => continue,
                };
                undo.push((agent.name.clone(), Undo::Operation(operation)));
            }
        }
        undo
    }
}
