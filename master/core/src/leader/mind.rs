//! The mind: what a leader knows beside the state. It dies with the term and can always be begun anew.

use super::deadlines::Deadlines;
use super::offers::Offers;
use super::submit::Pending;
use super::upkeep::Inverse;
use crate::allocator::{Allocator, Settings};
use crate::input::{ConnectionId, Ticket};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tepui_proto::api::EventView;
use tepui_proto::control::ModuleKind;
use tepui_proto::events::{InverseOffer, Request};
use tepui_proto::scheduler::TurnMark;
use tepui_proto::{
    AgentId, Digest, DurationMs, FrameworkId, Incarnation, OfferId, RequestId, TaskId, TaskKey,
    Timestamp, limits,
};

/// How long agents may take to find a new leader before their tasks are unreachable.
pub(super) const RETURN_AFTER_FAILOVER: DurationMs = DurationMs(30_000);
/// How long an agent may be without a connection (which itself ends after 15 s of silence) before its tasks are
/// unreachable: a restart and a reconnection fit well in.
pub(super) const RETURN_AFTER_LOSS: DurationMs = DurationMs(5_000);
/// Bytes of one note.
const NOTE_BYTES: usize = 4 * limits::TEXT_BYTES;
/// Notes that are kept per framework, in number and in bytes.
const NOTES: usize = 256;
const NOTES_BYTES: usize = 64 << 10;

/// A session of one life of an agent.
#[derive(Debug)]
pub(crate) struct Session {
    pub(super) connection: ConnectionId,
    pub(super) heard: Timestamp,
    /// How many tasks the agent can run at once.
    pub(super) max_tasks: usize,
    /// Whether its disk has room for more of them.
    pub(super) has_room: bool,
}

/// A turn that was sent and not yet answered.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) mark: TurnMark,
    /// When it is late.
    pub(super) due: Timestamp,
    pub(super) seen: Vec<u64>,
    pub(super) requests: Vec<RequestId>,
}

/// What a scheduler that has just begun is still to be told.
#[derive(Debug)]
pub(super) enum Beginning {
    /// `started`, and the first page of tasks.
    Start,
    /// The page of tasks after this one; none is the first.
    TasksAfter(Option<TaskId>),
    /// All is told.
    Done,
}

/// A scheduler that runs on an agent.
#[derive(Debug)]
pub(super) struct Hosted {
    pub(super) incarnation: Incarnation,
    pub(super) agent: AgentId,
    pub(super) beginning: Beginning,
    pub(super) in_flight: Option<InFlight>,
    /// Whether it has answered a turn; before, its module may have to be compiled.
    pub(super) has_answered: bool,
    /// Agents that it was told of.
    pub(super) told: BTreeSet<AgentId>,
}

/// What the mind knows of a framework.
#[derive(Debug, Default)]
pub(super) struct FrameworkMind {
    pub(super) hosted: Option<Hosted>,
    /// Not before.
    pub(super) restart_at: Timestamp,
    /// How often it was upgraded again, and until when the next upgrade is one more.
    pub(super) upgrades: u32,
    pub(super) upgrades_forgotten_at: Timestamp,
    /// Agents that have failed its scheduler: until when they are avoided, and for how long they were.
    pub(super) avoid: BTreeMap<AgentId, (Timestamp, u64)>,
    /// Offers that it was not told of yet.
    pub(super) new_offers: BTreeSet<OfferId>,
    pub(super) rescinded: Vec<OfferId>,
    /// Inverse offers that it was not told of yet.
    pub(super) new_inverse: Vec<InverseOffer>,
    /// Offers in a row that it let run out or declined.
    pub(super) strikes: u32,
    /// When the last of them was; all of one instant are one.
    pub(super) struck_at: Timestamp,
    /// Until then it is served after all others.
    pub(super) demoted_until: Timestamp,
    /// Until when it rested last: see [`super::Leader::rest`].
    pub(super) rested: Option<Timestamp>,
    pub(super) lost_agents: BTreeSet<String>,
    /// Requests that it was not told of yet.
    pub(super) new_requests: VecDeque<Request>,
    /// Requests that it was told of and has not answered.
    pub(super) open_requests: BTreeSet<RequestId>,
    notes: VecDeque<EventView>,
    notes_bytes: usize,
    last_note: u64,
}

/// Somebody who waits for a framework's response.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) framework: FrameworkId,
    pub(super) ticket: Ticket,
    pub(super) until: Timestamp,
}

/// Who waits for an agent's verdict on a module.
#[derive(Debug, Default)]
pub(super) struct Check {
    pub(super) tickets: Vec<Ticket>,
    pub(super) submissions: Vec<Pending>,
    /// The agent that was asked.
    pub(super) agent: Option<AgentId>,
    /// Agents that could not tell.
    pub(super) tried: BTreeSet<AgentId>,
}

/// The mind.
#[derive(Debug)]
pub(crate) struct Mind {
    pub(super) sessions: BTreeMap<AgentId, Session>,
    pub(super) connections: BTreeMap<ConnectionId, AgentId>,
    pub(super) frameworks: BTreeMap<FrameworkId, FrameworkMind>,
    /// Frameworks that may have something to be told.
    pub(super) touched: BTreeSet<FrameworkId>,
    /// Frameworks that need a place for their scheduler.
    pub(super) unplaced: BTreeSet<FrameworkId>,
    /// Whether all that have no place are to be tried again, since an agent is there that was not.
    pub(super) has_new_place: bool,
    /// Frameworks whose schedulers an agent runs; never none.
    pub(super) hosting: BTreeMap<AgentId, BTreeSet<FrameworkId>>,
    pub(super) stopping: BTreeSet<FrameworkId>,
    /// Frameworks whose schedulers take turns and can be offered something.
    pub(super) active: BTreeSet<FrameworkId>,
    pub(super) offers: Offers,
    /// Who asks for what, who refused what, and in which order all are served.
    pub(super) allocator: Allocator,
    /// Frameworks of which the allocator does not know yet what they ask for now.
    pub(super) asking: BTreeSet<FrameworkId>,
    /// Agents to be looked at by the allocator.
    pub(super) dirty: BTreeSet<AgentId>,
    /// All of them are.
    pub(super) all_dirty: bool,
    /// Agents that are draining, or are to go down.
    pub(super) upkeep: BTreeSet<AgentId>,
    /// Inverse offers that are out.
    pub(super) inverse: Inverse,
    /// Tasks that were stopped to serve a guarantee, and have not ended.
    pub(super) preempted: BTreeSet<TaskKey>,
    /// Not before.
    pub(super) preempt_at: Timestamp,
    /// Which of those that are owed something comes first then.
    pub(super) preempt_next: usize,
    /// Whether everything is to be looked at before long, and when that was last done.
    pub(super) looks_soon: bool,
    pub(super) looked_at: Timestamp,
    /// When the next periodic cycle is due, where there are any.
    pub(super) next_cycle: Timestamp,
    pub(super) callers: BTreeMap<RequestId, Caller>,
    pub(super) checks: BTreeMap<(Digest, ModuleKind), Check>,
    pub(super) deadlines: Deadlines,
    /// What all frameworks may take of memory before each has no more than an equal share.
    pub(super) state_bytes: usize,
    /// When the first refusal of an agent by a framework runs out, where one stands.
    pub(super) filters: BTreeMap<(FrameworkId, AgentId), Timestamp>,
    /// All offers are not taken back before that because shares have changed.
    pub(super) shares_anew_at: Timestamp,
    /// When kept offers are looked at next.
    pub(super) kept_at: Option<Timestamp>,
    /// And after which.
    pub(super) kept_after: OfferId,
    /// Where the stops of tasks go on: of frameworks that stop, after which task.
    pub(super) stops: BTreeMap<FrameworkId, Option<TaskId>>,
    /// Tasks that were moved since this settling began.
    pub(super) moved: usize,
    /// Schedulers that are given no turn and no offers for a while: see [`super::Leader::rest`].
    pub(super) resting: BTreeSet<FrameworkId>,
}

impl Default for Mind {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl Mind {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            sessions: BTreeMap::new(),
            connections: BTreeMap::new(),
            frameworks: BTreeMap::new(),
            touched: BTreeSet::new(),
            unplaced: BTreeSet::new(),
            has_new_place: false,
            hosting: BTreeMap::new(),
            stopping: BTreeSet::new(),
            active: BTreeSet::new(),
            offers: Offers::default(),
            allocator: Allocator::new(settings),
            asking: BTreeSet::new(),
            dirty: BTreeSet::new(),
            all_dirty: false,
            upkeep: BTreeSet::new(),
            inverse: Inverse::default(),
            preempted: BTreeSet::new(),
            preempt_at: Timestamp(0),
            preempt_next: 0,
            looks_soon: false,
            looked_at: Timestamp(0),
            next_cycle: Timestamp(0),
            callers: BTreeMap::new(),
            checks: BTreeMap::new(),
            deadlines: Deadlines::default(),
            state_bytes: limits::ALL_STATE_BYTES,
            filters: BTreeMap::new(),
            shares_anew_at: Timestamp(0),
            kept_at: None,
            kept_after: OfferId::default(),
            stops: BTreeMap::new(),
            moved: 0,
            resting: BTreeSet::new(),
        }
    }

    pub(super) fn framework(&mut self, id: FrameworkId) -> &mut FrameworkMind {
        self.frameworks.entry(id).or_default()
    }

    pub(super) fn connection(&self, agent: AgentId) -> Option<ConnectionId> {
        self.sessions.get(&agent).map(|session| session.connection)
    }
}

fn note_bytes(note: Option<&EventView>) -> usize {
    note.map_or(0, |note| note.kind.len() + note.message.len() + limits::ENTRY_BYTES)
}

impl FrameworkMind {
    /// Keeps a line for people; the oldest go.
    pub(super) fn note(&mut self, now: Timestamp, kind: &str, message: &str) {
        // Rises over masters too, since they share the clock.
        self.last_note = now.0.max(self.last_note + 1);
        let mut message = message.to_owned();
        message.truncate(message.floor_char_boundary(NOTE_BYTES));
        self.notes.push_back(EventView {
            seq: self.last_note,
            at: now.0,
            kind: kind.to_owned(),
            message,
        });
        self.notes_bytes += note_bytes(self.notes.back());
        while self.notes.len() > NOTES || self.notes_bytes > NOTES_BYTES {
            self.notes_bytes -= note_bytes(self.notes.pop_front().as_ref());
        }
    }

    /// Agents that its scheduler is not to be placed on, if there is another. Those that are so no more are forgotten.
    pub(super) fn avoided(&mut self, now: Timestamp) -> BTreeSet<AgentId> {
        let long_ago = DurationMs(2 * limits::AVOID_MS_MAX);
        self.avoid.retain(|_, (until, _)| until.after(long_ago) > now);
        let avoided = self.avoid.iter().filter(|(_, (until, _))| *until > now);
        avoided.map(|(agent, _)| *agent).collect()
    }

    /// Whether there is more to tell than one turn has room for.
    pub(super) fn has_more(&self) -> bool {
        !(self.new_requests.is_empty()
            && self.new_offers.is_empty()
            && self.rescinded.is_empty()
            && self.new_inverse.is_empty()
            && self.lost_agents.is_empty())
    }

    pub(crate) fn notes(&self) -> impl Iterator<Item = &EventView> {
        self.notes.iter()
    }
}

impl super::Leader {
    pub(super) fn note(
        &mut self,
        now: Timestamp,
        framework: FrameworkId,
        kind: &str,
        message: &str,
    ) {
        self.mind.framework(framework).note(now, kind, message);
    }

    pub(crate) fn notes(&self, framework: FrameworkId) -> impl Iterator<Item = &EventView> {
        self.mind.frameworks.get(&framework).into_iter().flat_map(FrameworkMind::notes)
    }

    pub(crate) fn is_connected(&self, agent: AgentId) -> bool {
        self.mind.sessions.contains_key(&agent)
    }

    /// The connection of an agent that is here.
    pub fn connection_of(&self, agent: AgentId) -> Option<ConnectionId> {
        self.mind.connection(agent)
    }

    /// Who asks for what, and what came of it.
    pub(crate) fn allocator(&self) -> &Allocator {
        &self.mind.allocator
    }

    /// Whether a framework's scheduler takes turns and can be offered something.
    pub(crate) fn is_asking(&self, framework: FrameworkId) -> bool {
        self.mind.active.contains(&framework)
    }

    /// Units of a want that are on offer.
    pub(crate) fn units_on_offer(&self, framework: FrameworkId, want: u32) -> u64 {
        let ids = self.mind.offers.of_framework(framework);
        let wants = ids.filter_map(|id| self.mind.offers.get(id)?.want);
        wants.filter(|(id, _)| *id == want).map(|(_, units)| u64::from(units)).sum()
    }

    pub(crate) fn connected_agents(&self) -> usize {
        self.mind.sessions.len()
    }

    pub(crate) fn open_offers(&self, framework: FrameworkId) -> usize {
        self.mind.offers.of_framework(framework).count()
    }
}
