//! Turns: what waits for a scheduler becomes one batch of events, one turn in flight at a time.

use super::deadlines::Deadline;
use super::mind::{Beginning, InFlight};
use super::{Leader, Step};
use crate::effect::Effect;
use crate::state::{Class, Framework, Waiting};
use std::ops::Bound;
use tepui_proto::events::{AgentInfo, AttributeValue, Event, Offer, Start};
use tepui_proto::scheduler::{ToScheduler, TurnMark};
use tepui_proto::{
    AgentHandle, AgentId, DurationMs, FrameworkId, OfferId, RequestId, TaskId, TaskStatus,
    Timestamp, limits,
};
use xxhash_rust::xxh3::xxh3_64;

/// Tasks of one page.
const PAGE_TASKS: usize = 512;
/// Requests of one turn.
const TURN_REQUESTS: usize = 16;
/// Agents that are told to be lost in one turn.
const LOST_AGENTS: usize = 64;
/// Offers that one turn tells to be taken back.
const RESCINDED: usize = 16_384;
/// What offers and their agents may take of a turn before no more are told in it. One agent's may take as much again.
const SOFT_BYTES: usize = limits::TURN_BYTES / 4;
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
        if hosted.in_flight.is_some() || self.mind.resting.contains(&id) {
            return;
        }
        let (incarnation, has_answered) = (hosted.incarnation, hosted.has_answered);
        let mut events = Vec::new();
        let begun = self.push_beginning(id, &mut events);
        let mut seen = Vec::new();
        let mut requests = Vec::new();
        if begun && let Some(framework) = self.state.frameworks.get(&id) {
            seen = push_waiting(framework, &mut events);
            requests = self.push_soft(step.now, id, &mut events);
        }
        if events.is_empty() {
            return;
        }
        let Some(framework) = self.state.frameworks.get(&id) else { return };
        let mark =
            TurnMark { term: self.state.term(), incarnation, number: framework.turns.next() };
        let seed = seed(id, mark);
        let wait = if has_answered { limits::TURN_ANSWER_MS } else { limits::SCHEDULER_START_MS };
        let due = step.now.after(DurationMs(wait));
        self.mind.deadlines.set(due, Deadline::Answer(id, incarnation, mark.number));
        if let Some(hosted) = self.mind.framework(id).hosted.as_mut() {
            hosted.in_flight = Some(InFlight { mark, due, seen, requests });
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
            Beginning::TasksAfter(None) => Bound::Unbounded,
            Beginning::TasksAfter(Some(task)) => Bound::Excluded(task),
        };
        let (tasks, next) = page(framework, after);
        let last = next.is_none();
        if let Some(next) = next {
            hosted.beginning = Beginning::TasksAfter(Some(next));
        }
        events.push(Event::Tasks { tasks, last });
        last
    }

    /// What is the leader's and ends with its term: agents, offers, requests. Who was not told of many refusals is told of
    /// them before offers, which may lead to more; and of half as many as there may be before requests, too.
    fn push_soft(
        &mut self,
        now: Timestamp,
        id: FrameworkId,
        events: &mut Vec<Event>,
    ) -> Vec<RequestId> {
        let framework = self.state.frameworks.get(&id);
        let is_behind = framework.is_some_and(|framework| framework.is_behind());
        let untold = framework.map_or(0, |of| of.queue.count(Class::Refusals).entries);
        let mind = self.mind.framework(id);
        let lost = std::iter::from_fn(|| mind.lost_agents.pop_first());
        events.extend(lost.take(LOST_AGENTS).map(Event::AgentLost));
        let most = if is_behind { 0 } else { limits::TURN_OFFERS };
        let offers: Vec<OfferId> = mind.new_offers.iter().copied().take(most).collect();
        let mut told = Vec::with_capacity(offers.len());
        let mut agents = Vec::new();
        let (mut bytes, mut known) = (0, 0);
        for offer in offers {
            if bytes > SOFT_BYTES {
                // The rest comes with the next turn.
                break;
            }
            self.mind.framework(id).new_offers.remove(&offer);
            if let Some(offer) = self.tell_offer(now, id, offer, &mut agents) {
                bytes += offer_bytes(&offer);
                told.push(offer);
            }
            bytes += agents.get(known..).unwrap_or_default().iter().map(agent_bytes).sum::<usize>();
            known = agents.len();
        }
        let mind = self.mind.framework(id);
        if !agents.is_empty() {
            events.push(Event::Agents(agents));
        }
        if !mind.rescinded.is_empty() {
            let rest = mind.rescinded.split_off(mind.rescinded.len().min(RESCINDED));
            events.push(Event::Rescinded(std::mem::replace(&mut mind.rescinded, rest)));
        }
        if !mind.new_inverse.is_empty() {
            let rest = mind.new_inverse.split_off(mind.new_inverse.len().min(limits::TURN_OFFERS));
            events.push(Event::InverseOffers(std::mem::replace(&mut mind.new_inverse, rest)));
        }
        if !told.is_empty() {
            events.push(Event::Offers(told));
        }
        let most = if untold > limits::WAITING_REFUSALS / 2 { 0 } else { TURN_REQUESTS };
        let count = mind.new_requests.len().min(most);
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
        if mind.has_more() {
            self.mind.touched.insert(id);
        }
        requests
    }

    /// An offer as the scheduler is told of it, and its agent if it does not know that one.
    fn tell_offer(
        &mut self,
        now: Timestamp,
        id: FrameworkId,
        offer_id: OfferId,
        agents: &mut Vec<AgentInfo>,
    ) -> Option<Offer> {
        let framework = self.state.frameworks.get(&id)?;
        let offer = self.mind.offers.get_mut(offer_id)?;
        offer.told = Some((framework.turns.next(), now));
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
    let most = limits::TURN_EVENTS - TURN_REQUESTS - LOST_AGENTS - 8;
    let mut bytes = 0;
    let mut taken: Vec<(u64, &Waiting)> = Vec::new();
    for (seq, waiting) in framework.queue.iter() {
        bytes += waiting.weight();
        if taken.len() >= most || (bytes > WAITING_BYTES && !taken.is_empty()) {
            break;
        }
        taken.push((seq, waiting));
    }
    let seen = taken.iter().map(|(seq, _)| *seq).collect();
    taken.sort_by_key(|(seq, waiting)| (waiting.rank(), *seq));
    events.extend(taken.into_iter().map(|(_, waiting)| waiting.to_event()));
    seen
}

/// What an offer takes of a turn, about.
fn offer_bytes(offer: &Offer) -> usize {
    let pools = offer.pools.iter().map(|(kind, amount)| {
        let roles = kind.reserved_for.iter().map(|role| role.as_str().len());
        roles.sum::<usize>() + amount.weight() + limits::ITEM_BYTES
    });
    offer.resources.weight() + pools.sum::<usize>() + limits::ENTRY_BYTES
}

/// What an agent takes of a turn, about.
fn agent_bytes(agent: &AgentInfo) -> usize {
    let value = |value: &AttributeValue| match value {
        AttributeValue::Text(text) => text.len(),
        AttributeValue::Milli(_) => 0,
        AttributeValue::Ranges(ranges) => ranges.len() * limits::ENTRY_BYTES,
    };
    let attributes =
        agent.attributes.iter().map(|(name, of)| name.len() + value(of) + limits::ENTRY_BYTES);
    agent.id.len() + agent.hostname.len() + attributes.sum::<usize>() + limits::ENTRY_BYTES
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
