//! What the fake cluster does with an answer: the checks of the real one, and panics where the real one would refuse
//! the whole turn.

use super::FakeCluster;
use crate::wire::protocol::{Acceptance, Operation, Write};
use crate::{Call, Event, Offer, Outcome, Refusal, Resources, Task, TaskState};

/// The filter of an answer that names none.
const REFUSE_MS: u64 = 5_000;
const CALLS: usize = 4_096;
const LAUNCHES: usize = 1_000;
const KEY_BYTES: usize = 256;
const VALUE_BYTES: usize = 64 << 10;
const STATE_BYTES: usize = 4 << 20;

impl FakeCluster {
    pub(super) fn apply(&mut self, calls: Vec<Call>) {
        check(&calls);
        for (at, call) in calls.into_iter().enumerate() {
            self.carry_out(at, call);
        }
        assert!(
            self.state_bytes() <= STATE_BYTES,
            "durable state has {} bytes",
            self.state_bytes()
        );
    }

    fn carry_out(&mut self, at: usize, call: Call) {
        match call {
            Call::Accept(acceptance) => self.accept(at, acceptance),
            Call::Decline(decline) => {
                for id in decline.offers {
                    self.give_back(at, id, decline.refuse_for);
                }
            }
            Call::Want(wants) => {
                self.wants = wants;
                self.forget_filters();
            }
            Call::Suppress(_) => self.suppressed = true,
            Call::Revive(_) => {
                self.suppressed = false;
                self.forget_filters();
            }
            Call::Kill(kill) => {
                if self.live().contains(&kill.task.as_str()) {
                    self.end_task(&kill.task, TaskState::Killed, "kill-requested", None);
                } else if let Some(ended) = self.status_of(&kill.task) {
                    // Its last word is told again.
                    self.waiting.push(Event::TaskUpdated(ended));
                } else {
                    self.refuse(at, "task-unknown", &kill.task);
                }
            }
            Call::Reconcile(tasks) => {
                for id in tasks {
                    self.waiting.extend(self.status_of(&id).map(Event::TaskUpdated));
                }
            }
            Call::SetTimer(timer) => self.push_timer(timer),
            Call::CancelTimer(name) => {
                self.timers.remove(&name);
            }
            Call::Respond(response) => {
                self.responses.insert(response.id, response);
            }
            Call::Put(Write { key, value }) => self.write(key, value),
            Call::Complete(outcome) => self.complete(outcome),
            Call::Send(_) | Call::AcceptInverse(_) | Call::DeclineInverse(_) => {}
        }
    }

    fn forget_filters(&mut self) {
        for agent in self.agents.values_mut() {
            agent.refused_until = 0;
        }
    }

    fn refuse(&mut self, at: usize, code: &str, message: &str) {
        self.refusals.push(format!("{code}: {message}"));
        let index = u32::try_from(at).unwrap_or(u32::MAX);
        let (code, message) = (code.to_owned(), message.to_owned());
        self.waiting.push(Event::Refused(Refusal { turn: self.turns, index, code, message }));
    }

    fn give_back(&mut self, at: usize, id: u64, refuse_for: Option<u64>) {
        match self.take_back(id) {
            Some(offer) => self.filter(&offer, refuse_for),
            None => self.refuse(at, "invalid-offer", &id.to_string()),
        }
    }

    fn filter(&mut self, offer: &Offer, refuse_for: Option<u64>) {
        let until = self.now + refuse_for.unwrap_or(REFUSE_MS);
        if let Some(agent) = self.agents.values_mut().find(|agent| agent.info.handle == offer.agent)
        {
            agent.refused_until = until;
        }
    }

    fn accept(&mut self, at: usize, acceptance: Acceptance) {
        let tasks: Vec<Task> = acceptance.operations.into_iter().flat_map(tasks_of).collect();
        let is_held = acceptance.offers.iter().all(|id| self.offers.contains_key(id));
        let held: Vec<Offer> =
            acceptance.offers.iter().filter_map(|id| self.take_back(*id)).collect();
        let agent = held.first().and_then(|offer| self.name_of(offer.agent));
        let Some(agent) = agent.filter(|_| is_held) else {
            if tasks.is_empty() {
                self.refuse(at, "invalid-offer", &format!("{:?}", acceptance.offers));
            }
            for task in tasks {
                self.refuse_task(&task, TaskState::Dropped, "invalid-offer");
            }
            return;
        };
        let mut left = held.iter().fold(Resources::none(), |sum, offer| sum.plus(&offer.usable()));
        for task in tasks {
            self.launch(task, &agent, held.first().and_then(|offer| offer.want), &mut left);
        }
        if let Some(offer) = held.first() {
            self.filter(offer, acceptance.refuse_for);
        }
    }

    fn name_of(&self, handle: u32) -> Option<String> {
        self.agents
            .values()
            .find(|agent| agent.info.handle == handle)
            .map(|agent| agent.info.id.clone())
    }

    fn launch(&mut self, task: Task, agent: &str, want: Option<u32>, left: &mut Resources) {
        if self.tasks.contains_key(&task.id) {
            return self.refuse_task(&task, TaskState::Error, "duplicate-task");
        }
        if !left.contains(&task.resources) {
            return self.refuse_task(&task, TaskState::Error, "exceeds-offer");
        }
        *left = left.minus(&task.resources);
        if let Some(agent) = self.agents.get_mut(agent) {
            agent.free = agent.free.minus(&task.resources);
        }
        let wants = self.wants.iter_mut().flatten();
        if let Some(want) = wants.into_iter().find(|stated| Some(stated.id) == want) {
            want.count = want.count.saturating_sub(1);
        }
        self.begin_task(task, agent);
    }

    fn write(&mut self, key: String, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.state.insert(key, value),
            None => self.state.remove(&key),
        };
    }

    fn complete(&mut self, outcome: Outcome) {
        for name in &outcome.results {
            assert!(
                self.blobs.contains_key(name),
                "the result `{name}` is no blob of the framework"
            );
        }
        self.outcome = Some(outcome);
        for id in self.live().into_iter().map(str::to_owned).collect::<Vec<_>>() {
            self.end_task(&id, TaskState::Killed, "framework-ended", None);
        }
    }
}

fn tasks_of(operation: Operation) -> Vec<Task> {
    match operation {
        Operation::Launch(task) => vec![task],
        Operation::LaunchGroup(tasks) => tasks,
        _ => Vec::new(),
    }
}

/// The bounds for which a whole turn is refused.
fn check(calls: &[Call]) {
    assert!(calls.len() <= CALLS, "an answer of {} calls; {CALLS} are allowed", calls.len());
    let mut launches = 0;
    for (at, call) in calls.iter().enumerate() {
        match call {
            Call::Accept(acceptance) => {
                launches += acceptance.operations.iter().cloned().flat_map(tasks_of).count();
            }
            Call::Put(write) => {
                assert!(write.key.len() <= KEY_BYTES, "the key `{}` is too long", write.key);
                let bytes = write.value.as_ref().map_or(0, Vec::len);
                assert!(bytes <= VALUE_BYTES, "the value of `{}` has {bytes} bytes", write.key);
            }
            Call::Complete(_) => {
                assert!(launches == 0, "a turn that ends the framework launches {launches} tasks");
                assert!(at + 1 == calls.len(), "the end of the framework is not the last call");
            }
            _ => {}
        }
    }
    assert!(launches <= LAUNCHES, "an answer of {launches} launches; {LAUNCHES} are allowed");
}
