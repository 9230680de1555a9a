//! A native scheduler: runs so many tasks to success, each tried until it finishes. Its memory can be dropped at any turn.

use crate::chance::Chance;
use std::collections::BTreeMap;
use tepui_proto::calls::{Acceptance, Operation, Outcome, Want};
use tepui_proto::events::{Event, Offer, Start};
use tepui_proto::{Call, DurationMs, Resources, Role, TaskId, TaskSpec, TaskState, TaskStatus};

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
}

/// What each task needs.
pub fn task_size() -> Resources {
    Resources::cpu_memory(250, 64 << 20)
}

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
            let each = task_size();
            let count = self.pending();
            let want = Want {
                id: 1,
                role: self.role.clone(),
                count,
                each,
                port_count: 0,
                revocable: false,
                constraints: vec![],
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
        let mut left = offer.resources.clone();
        let mut operations = Vec::new();
        let pending: Vec<(u32, u32)> = self
            .steps
            .iter()
            .filter_map(|(task, step)| {
                if let Step::Pending(attempt) = step { Some((*task, *attempt)) } else { None }
            })
            .collect();
        for (task, attempt) in pending.into_iter().take(8) {
            let Some(rest) = left.checked_sub(&task_size()) else { break };
            left = rest;
            let id = TaskId(format!("{task}-{attempt}"));
            operations.push(Operation::Launch(TaskSpec {
                id,
                ..TaskSpec::command("", "task", task_size())
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
}
