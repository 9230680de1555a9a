//! Turns: what waits for a scheduler becomes one batch of events, one turn in flight at a time.

use super::deadlines::Deadline;
use super::mind::{Beginning, InFlight};
use super::{Leader, Step};
use crate::effect::Effect;
use crate::state::{Framework, Waiting};
use std::ops::Bound;
use tepui_proto::events::{AgentInfo, Event, Offer, Start};
use tepui_proto::scheduler::{ToScheduler, TurnMark};
use tepui_proto::{
    AgentHandle, AgentId, DurationMs, FrameworkId, OfferId, RequestId, TaskId, TaskStatus, limits,
};
use xxhash_rust::xxh3::xxh3_64;

/// Tasks of one page.
const PAGE_TASKS: usize = 512;
/// Requests of one turn.
const TURN_REQUESTS: usize = 16;
/// What an event takes beside its text, when its size is estimated.
const EVENT_OVERHEAD: usize = 256;
/// What waiting events may take of a turn; the rest is for offers and requests.
const WAITING_BYTES: usize = limits::TURN_BYTES / 4;

impl Leader {
    /// Sends a turn to every scheduler that has something to be told and is not busy with one.
    pub(super) fn send_turns(&mut self, step: &mut Step<'_>) {
        let touched = std::mem::take(&mut self.mind.touched);
        for id in touched {
            self.send_turn(step, id);
        }
    }

    fn send_turn(&mut self, step: &mut Step<'_>, id: FrameworkId) {
        let Some(hosted) = self.mind.frameworks.get(&id).and_then(|mind| mind.hosted.as_ref())
        else {
            return;
        };
        if hosted.in_flight.is_some() {
            return;
        }
        let incarnation = hosted.incarnation;
        let mut events = Vec::new();
        let begun = self.push_beginning(id, &mut events);
        let mut seen = Vec::new();
        let mut requests = Vec::new();
        if begun && let Some(framework) = self.state.frameworks.get(&id) {
            seen = push_waiting(framework, &mut events);
            requests = self.push_soft(id, &mut events);
        }
        if events.is_empty() {
            return;
        }
        let Some(framework) = self.state.frameworks.get(&id) else { return };
        let mark =
            TurnMark { term: self.state.term(), incarnation, number: framework.turns.next() };
        let seed = seed(id, mark);
        self.mind.deadlines.set(
            step.now.after(DurationMs(limits::TURN_ANSWER_MS)),
            Deadline::Answer(id, mark.number),
        );
        if let Some(hosted) = self.mind.framework(id).hosted.as_mut() {
            hosted.in_flight = Some(InFlight { mark, seen, requests });
        }
        step.fx.orders.push(Effect::SendTurn {
            framework: id,
            incarnation,
            turn: ToScheduler::Turn { mark, now: step.now, seed, events },
        });
    }

    /// What a new instance is told first. False while more pages are to come.
    fn push_beginning(&mut self, id: FrameworkId, events: &mut Vec<Event>) -> bool {
        let Some(framework) = self.state.frameworks.get(&id) else { return false };
        let Some(hosted) = self.mind.frameworks.get_mut(&id).and_then(|mind| mind.hosted.as_mut())
        else {
            return false;
        };
        let after = match std::mem::replace(&mut hosted.beginning, Beginning::Done) {
            Beginning::Done => return true,
            Beginning::Start => {
                let cause = framework
                    .instance
                    .as_ref()
                    .map_or(framework.next_cause, |instance| instance.cause);
                events.push(Event::Started(Start {
                    cause,
                    framework: id,
                    roles: framework.submission.roles.clone(),
                    config: framework.submission.config.clone(),
                    blobs: framework.blob_list(),
                }));
                Bound::Unbounded
            }
            Beginning::TasksAfter(task) => Bound::Excluded(task),
        };
        let (tasks, next) = page(framework, after);
        let last = next.is_none();
        if let Some(next) = next {
            hosted.beginning = Beginning::TasksAfter(next);
        }
        events.push(Event::Tasks { tasks, last });
        last
    }

    /// What is the leader's and ends with its term: agents, offers, requests.
    fn push_soft(&mut self, id: FrameworkId, events: &mut Vec<Event>) -> Vec<RequestId> {
        let mind = self.mind.framework(id);
        events.extend(std::mem::take(&mut mind.lost_agents).into_iter().map(Event::AgentLost));
        let offers: Vec<OfferId> =
            mind.new_offers.iter().copied().take(limits::TURN_OFFERS).collect();
        let mut told = Vec::with_capacity(offers.len());
        let mut agents = Vec::new();
        for offer in offers {
            self.mind.framework(id).new_offers.remove(&offer);
            told.extend(self.tell_offer(id, offer, &mut agents));
        }
        let mind = self.mind.framework(id);
        if !agents.is_empty() {
            events.push(Event::Agents(agents));
        }
        if !mind.rescinded.is_empty() {
            events.push(Event::Rescinded(std::mem::take(&mut mind.rescinded)));
        }
        if !mind.new_inverse.is_empty() {
            events.push(Event::InverseOffers(std::mem::take(&mut mind.new_inverse)));
        }
        if !told.is_empty() {
            events.push(Event::Offers(told));
        }
        let count = mind.new_requests.len().min(TURN_REQUESTS);
        let mut bytes = 0;
        let mut requests = Vec::new();
        for _ in 0..count {
            let Some(request) = mind.new_requests.front() else { break };
            bytes += request.body.len() + limits::HTTP_HEADER_BYTES;
            if bytes > limits::TURN_BYTES / 2 && !requests.is_empty() {
                break;
            }
            if let Some(request) = mind.new_requests.pop_front() {
                requests.push(request.id);
                events.push(Event::Request(request));
            }
        }
        if !mind.new_requests.is_empty() || !mind.new_offers.is_empty() {
            self.mind.touched.insert(id);
        }
        requests
    }

    /// An offer as the scheduler is told of it, and its agent if it does not know that one.
    fn tell_offer(
        &mut self,
        id: FrameworkId,
        offer_id: OfferId,
        agents: &mut Vec<AgentInfo>,
    ) -> Option<Offer> {
        let framework = self.state.frameworks.get(&id)?;
        let offer = self.mind.offers.get_mut(offer_id)?;
        offer.told = true;
        let agent: AgentId = offer.agent;
        let role = framework.submission.roles.iter().position(|role| *role == offer.role)?;
        let told = Offer {
            id: offer_id,
            agent: AgentHandle(agent.0),
            role: u32::try_from(role).ok()?,
            want: offer.want.map(|(want, _)| want),
            resources: offer.bundle.plain().clone(),
            pools: offer
                .bundle
                .pools()
                .map(|(kind, amount)| (kind.clone(), amount.clone()))
                .collect(),
            expires: offer.expires,
        };
        let hosted = self.mind.frameworks.get_mut(&id).and_then(|mind| mind.hosted.as_mut())?;
        if hosted.told.insert(agent) {
            let when = self.state.provision(agent).and_then(|provision| provision.unavailability);
            agents.extend(self.state.agents.get(&agent).map(|record| record.info(agent, when)));
        }
        Some(told)
    }
}

/// The next page of tasks that have not ended, and where the one after it begins.
fn page(framework: &Framework, after: Bound<TaskId>) -> (Vec<TaskStatus>, Option<TaskId>) {
    let mut live =
        framework.tasks.range((after, Bound::Unbounded)).filter(|(_, task)| task.live.is_some());
    let tasks: Vec<TaskStatus> =
        live.by_ref().take(PAGE_TASKS).map(|(_, task)| task.status.clone()).collect();
    let more = live.next().is_some();
    let next = tasks.last().filter(|_| more).map(|status| status.task.clone());
    (tasks, next)
}

/// Waiting events, oldest first, then by kind; the order within a kind stays. Says which they are.
fn push_waiting(framework: &Framework, events: &mut Vec<Event>) -> Vec<u64> {
    // Beside them: agents lost, agents, rescinded, offers, requests.
    let most = limits::TURN_EVENTS - TURN_REQUESTS - 8;
    let mut bytes = 0;
    let mut taken: Vec<(u64, &Waiting)> = Vec::new();
    for (seq, waiting) in &framework.queue {
        bytes += EVENT_OVERHEAD + text_bytes(waiting);
        if taken.len() >= most || (bytes > WAITING_BYTES && !taken.is_empty()) {
            break;
        }
        taken.push((*seq, waiting));
    }
    let seen = taken.iter().map(|(seq, _)| *seq).collect();
    taken.sort_by_key(|(seq, waiting)| (waiting.rank(), *seq));
    events.extend(taken.into_iter().map(|(_, waiting)| waiting.to_event()));
    seen
}

fn text_bytes(waiting: &Waiting) -> usize {
    match waiting {
        Waiting::Update(status) => {
            let outputs: usize = status.outputs.iter().map(|blob| blob.name.len() + 48).sum();
            status.message.len() + status.task.as_str().len() + outputs
        }
        Waiting::Message(message) => message.data.len(),
        Waiting::Timer(name) => name.len(),
        Waiting::Refusal(refusal) => refusal.message.len(),
    }
}

/// The guest's only chance, the same for whoever replays the turn.
fn seed(framework: FrameworkId, mark: TurnMark) -> u64 {
    let mut bytes = [0; 24];
    for (place, number) in
        bytes.chunks_exact_mut(8).zip([framework.0, mark.incarnation.0, mark.number.0])
    {
        place.copy_from_slice(&number.to_le_bytes());
    }
    xxh3_64(&bytes)
}
