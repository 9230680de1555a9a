//! The virtual wire: connections with ordered delivery each way, which take time, break, and repeat themselves.

use std::collections::BTreeMap;
use tepui_master_core::ConnectionId;
use tepui_proto::control::{AgentMessage, MasterMessage};
use tepui_proto::scheduler::{FromScheduler, Open, ToScheduler};
use tepui_proto::{FrameworkId, Incarnation, LaunchNumber};

/// From an agent to the master.
#[derive(Clone, Debug)]
pub enum Up {
    /// On the control stream.
    Message(AgentMessage),
    /// On a scheduler's stream.
    Scheduler(FrameworkId, Incarnation, FromScheduler),
    /// A scheduler's stream has ended.
    StreamEnded(FrameworkId, Incarnation),
}

/// From the master to an agent.
#[derive(Clone, Debug)]
pub enum Down {
    /// On the control stream.
    Message(MasterMessage),
    /// A scheduler's stream begins.
    Open(Open),
    /// On a scheduler's stream.
    Scheduler(FrameworkId, Incarnation, ToScheduler),
    /// A scheduler's stream has ended.
    StreamEnded(FrameworkId, Incarnation),
}

/// What is to happen at some time.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message arrives.
    Up(ConnectionId, Up),
    /// A message arrives.
    Down(ConnectionId, Down),
    /// The master sees that a connection is gone.
    MasterSawClose(ConnectionId),
    /// The agent sees that a connection is gone.
    AgentSawClose(ConnectionId),
    /// An agent dials.
    Dial(usize),
    /// An agent's deadline.
    AgentTick(usize),
    /// An agent comes up again.
    AgentRestart(usize),
    /// A command begins to run, in a process of the agent's that still lives; whether its cell says so.
    Started(usize, u64, LaunchNumber, bool),
    /// A command ends.
    Ended(usize, u64, LaunchNumber),
    /// A scheduler's turn is over.
    TurnOver(usize, u64, FrameworkId, Incarnation, Box<FromScheduler>),
    /// The master comes up again.
    MasterRestart,
    /// An operator does something.
    Operator,
}

/// A connection as both ends see it.
#[expect(clippy::struct_excessive_bools, reason = "each is one thing that happens to a connection")]
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// Which agent dialled.
    pub agent: usize,
    /// Which process of that agent.
    pub process: u64,
    /// Something on it was lost: nothing that is sent from then on arrives.
    pub broken: bool,
    /// What the master says is lost from now on, and what the agent says arrives.
    pub deaf: bool,
    /// Whether the agent still has it.
    pub agent_open: bool,
    /// Whether the master still has it.
    pub master_open: bool,
    /// The last delivery each way; the next is not before it.
    pub last_up: u64,
    /// Likewise.
    pub last_down: u64,
}

/// All that is to happen, in order.
#[derive(Debug, Default)]
pub struct Agenda {
    events: BTreeMap<(u64, u64), Event>,
    count: u64,
}

impl Agenda {
    /// Something will happen then.
    pub fn at(&mut self, time: u64, event: Event) {
        self.count += 1;
        self.events.insert((time, self.count), event);
    }

    /// The next time at which something happens.
    pub fn next_time(&self) -> Option<u64> {
        self.events.first_key_value().map(|((time, _), _)| *time)
    }

    /// What happens next.
    pub fn pop(&mut self) -> Option<Event> {
        self.events.pop_first().map(|(_, event)| event)
    }
}
