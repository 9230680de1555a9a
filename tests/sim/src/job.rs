//! A native scheduler: runs so many tasks to success, each tried until it finishes. Its memory can be dropped at any turn.

use crate::chance::Chance;
use std::collections::BTreeMap;
use tepui_proto::calls::{
    Acceptance, Comparison, Constraint, NewVolume, Operation, Outcome, Reservation, Want,
};
use tepui_proto::events::{Event, Offer, Start};
use tepui_proto::{
    Call, DurationMs, PoolKind, Resources, Role, TaskId, TaskSpec, TaskState, TaskStatus,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Pending(u32),
    Launched(u32),
    Done,
}

/// The scheduler, as an instance remembers it.
#[derive(Debug, Default)]
pub struct Job {
    steps: BTreeMap<u32, Step>,
    role: Role,
    states_wants: bool,
    is_revocable: bool,
    cpu_milli: u64,
}

/// What each task needs, if its job says nothing else.
const CPU_MILLI: u64 = 250;

impl Job {
    /// One turn.
    pub fn handle(
        &mut self,
        seed: u64,
        events: &[Event],
        keys: &BTreeMap<String, Vec<u8>>,
    ) -> Vec<Call> {
        let mut chance = Chance::new(seed);
        let mut calls = Vec::new();
        let mut needs_more = false;
        for event in events {
            match event {
                Event::Started(start) => {
                    self.on_started(start, keys);
                    needs_more = true;
                }
                Event::TaskUpdated(status) => needs_more |= self.on_update(status, &mut calls),
                Event::Offers(offers) => {
                    for offer in offers {
                        self.on_offer(offer, &mut chance, &mut calls);
                    }
                }
                Event::InverseOffers(offers) => {
                    let offers = offers.iter().map(|offer| offer.id).collect();
                    let refuse_for = Some(DurationMs(chance.between(0, 2_000)));
                    calls.push(if chance.in_a_million(500_000) {
                        Call::AcceptInverse(offers)
                    } else {
                        Call::DeclineInverse { offers, refuse_for }
                    });
                }
                _ => {}
            }
        }
        if !self.steps.is_empty() && self.steps.values().all(|step| *step == Step::Done) {
            let outcome = Outcome {
                success: true,
                message: "all tasks have finished".into(),
                results: Vec::new(),
            };
            return [calls, vec![Call::Complete(outcome)]].concat();
        }
        if self.states_wants && needs_more {
            // After this turn's launches, which lower the old count.
            let each = self.task_size();
            let count = self.pending();
            // Four agents of five will do.
            let elsewhere = Constraint {
                attribute: "rack".into(),
                comparison: Comparison::Differs,
                operand: "r0".into(),
            };
            let want = Want {
                id: 1,
                role: self.role.clone(),
                count,
                each,
                port_count: 0,
                revocable: self.is_revocable,
                constraints: vec![elsewhere],
            };
            calls.push(Call::Want(Some(vec![want])));
        }
        calls
    }

    fn pending(&self) -> u32 {
        let pending = self.steps.values().filter(|step| matches!(step, Step::Pending(_))).count();
        u32::try_from(pending).unwrap_or(u32::MAX)
    }

    fn on_started(&mut self, start: &Start, keys: &BTreeMap<String, Vec<u8>>) {
        let setting = |name: &str| {
            start.config.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        };
        let tasks: u32 = setting("tasks").and_then(|text| text.parse().ok()).unwrap_or(0);
        self.states_wants = setting("wants").is_some();
        self.is_revocable = setting("revocable").is_some();
        let cpu_milli = setting("cpu-milli").and_then(|text| text.parse().ok());
        self.cpu_milli = cpu_milli.unwrap_or(CPU_MILLI);
        self.role = start.roles.first().cloned().unwrap_or_default();
        for task in 0..tasks {
            let step = match keys.get(&task.to_string()).map(Vec::as_slice) {
                None => Step::Pending(0),
                Some([0, attempt]) => Step::Pending(u32::from(*attempt)),
                Some([1, attempt]) => Step::Launched(u32::from(*attempt)),
                Some(_) => Step::Done,
            };
            self.steps.insert(task, step);
        }
    }

    fn set(&mut self, task: u32, step: Step, calls: &mut Vec<Call>) {
        let small = |attempt: u32| u8::try_from(attempt % 250).unwrap_or(0);
        let value = match step {
            Step::Pending(attempt) => vec![0, small(attempt)],
            Step::Launched(attempt) => vec![1, small(attempt)],
            Step::Done => vec![2],
        };
        self.steps.insert(task, step);
        calls.push(Call::Put { key: task.to_string(), value: Some(value) });
    }

    /// Whether a task has to be launched again.
    fn on_update(&mut self, status: &TaskStatus, calls: &mut Vec<Call>) -> bool {
        if !status.state.is_final() {
            return false;
        }
        let parts = status
            .task
            .as_str()
            .split_once('-')
            .and_then(|(task, attempt)| Some((task.parse().ok()?, attempt.parse().ok()?)));
        let Some((task, attempt)) = parts else { return false };
        if self.steps.get(&task) != Some(&Step::Launched(attempt)) {
            return false;
        }
        let next = if status.state == TaskState::Finished {
            Step::Done
        } else {
            Step::Pending(attempt + 1)
        };
        self.set(task, next, calls);
        next != Step::Done
    }

    fn on_offer(&mut self, offer: &Offer, chance: &mut Chance, calls: &mut Vec<Call>) {
        if chance.in_a_million(20_000) {
            // Sat on until it expires.
            return;
        }
        let mut left = self.usable(offer);
        let mut operations = self.conversions(offer, chance);
        let pending: Vec<(u32, u32)> = self
            .steps
            .iter()
            .filter_map(|(task, step)| {
                if let Step::Pending(attempt) = step { Some((*task, *attempt)) } else { None }
            })
            .collect();
        for (task, attempt) in pending.into_iter().take(8) {
            let Some(rest) = left.checked_sub(&self.task_size()) else { break };
            left = rest;
            let id = TaskId(format!("{task}-{attempt}"));
            operations.push(Operation::Launch(TaskSpec {
                id,
                priority: i32::try_from(task % 3).unwrap_or(0),
                unsupported: self.asks_for(),
                ..TaskSpec::command("", "task", self.task_size())
            }));
            self.set(task, Step::Launched(attempt), calls);
        }
        let refuse_for = Some(DurationMs(chance.between(0, 2_000)));
        if operations.is_empty() {
            calls.push(Call::Decline { offers: vec![offer.id], refuse_for });
        } else {
            calls.push(Call::Accept(Acceptance { offers: vec![offer.id], operations, refuse_for }));
        }
    }

    fn task_size(&self) -> Resources {
        Resources::cpu_memory(self.cpu_milli, 64 << 20)
    }

    fn asks_for(&self) -> Vec<String> {
        if self.is_revocable { vec![TaskSpec::REVOCABLE.to_owned()] } else { Vec::new() }
    }

    /// What of an offer its tasks may use.
    fn usable(&self, offer: &Offer) -> Resources {
        let may_use = |kind: &PoolKind| {
            let is_meant = if self.is_revocable { !kind.is_reserved() } else { !kind.revocable };
            is_meant && kind.disk.volume.is_none()
        };
        let pools = offer.pools.iter().filter(|(kind, _)| may_use(kind));
        pools.fold(offer.resources.clone(), |sum, (_, amount)| {
            sum.checked_add(amount).unwrap_or_default()
        })
    }

    /// Now and then it reserves some of an offer, makes a volume of reserved disk, or undoes that. Some of it is
    /// refused, and none of it takes away what its tasks may use.
    fn conversions(&self, offer: &Offer, chance: &mut Chance) -> Vec<Operation> {
        if self.is_revocable || !chance.in_a_million(100_000) {
            return Vec::new();
        }
        let role = self.role.clone();
        let resources = Resources { disk_bytes: 64 << 20, ..self.task_size() };
        let reservation = Reservation { role: role.clone(), resources };
        let mut operations = vec![Operation::Reserve(reservation)];
        for (kind, amount) in &offer.pools {
            let is_own = kind.owner() == Some(&role);
            match &kind.disk.volume {
                Some(volume) => operations.push(Operation::DestroyVolume(volume.id.clone())),
                None if is_own && chance.in_a_million(500_000) => {
                    let (id, size_bytes) = (format!("job-{}", offer.agent.0), amount.disk_bytes);
                    let volume = NewVolume { id, role: role.clone(), size_bytes, shared: false };
                    operations.push(Operation::CreateVolume(volume));
                }
                None => {
                    let owner = kind.owner().cloned().unwrap_or_default();
                    let reservation = Reservation { role: owner, resources: amount.clone() };
                    operations.push(Operation::Unreserve(reservation));
                }
            }
        }
        operations
    }
}
