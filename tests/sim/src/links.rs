//! The wire's part of the world: sends, breaks, dials.

use crate::wire::{Down, Event, Link, Up};
use crate::world::World;
use tepui_agent_core::Input as AgentInput;
use tepui_master_core::ConnectionId;
use tepui_proto::control::AgentMessage;

impl World {
    pub(crate) fn send_down(&mut self, connection: ConnectionId, down: Down) {
        let delay = self.chance.between(0, 5);
        let (lost, doubled) = self.mishap(matches!(down, Down::Message(_)));
        let Some(link) = self
            .links
            .get_mut(&connection)
            .filter(|link| link.master_open && !link.broken && !link.deaf)
        else {
            return;
        };
        if lost {
            link.broken = true;
            return self.break_link(connection);
        }
        link.last_down = link.last_down.max(self.now + delay);
        let at = link.last_down;
        if doubled {
            self.agenda.at(at, Event::Down(connection, down.clone()));
        }
        self.agenda.at(at, Event::Down(connection, down));
    }

    pub(crate) fn send_up(&mut self, agent: usize, up: Up) {
        let Some(connection) = self.machines[agent].connection else { return };
        if self.chance.in_a_million(self.faults().partitioned) {
            self.cut_off(agent, connection);
        }
        let delay = self.chance.between(0, 5);
        let (lost, doubled) = self.mishap(matches!(up, Up::Message(AgentMessage::Reports(_))));
        let Some(link) = self.links.get_mut(&connection).filter(|link| !link.broken) else {
            return;
        };
        if lost {
            link.broken = true;
            return self.break_link(connection);
        }
        link.last_up = link.last_up.max(self.now + delay);
        let at = link.last_up;
        if doubled {
            self.agenda.at(at, Event::Up(connection, up.clone()));
        }
        self.agenda.at(at, Event::Up(connection, up));
    }

    /// Nothing passes between an agent and the master any more, or only what the agent says; either end notices when it has
    /// heard nothing for as long as a connection may be idle.
    fn cut_off(&mut self, agent: usize, connection: ConnectionId) {
        const IDLE_MS: u64 = 15_000;
        self.partitions += 1;
        self.machines[agent].cut_off_until = self.now + self.chance.between(5_000, 120_000);
        let one_way = self.chance.in_a_million(500_000);
        if let Some(link) = self.links.get_mut(&connection) {
            link.deaf = one_way;
            link.broken |= !one_way;
        }
        self.agenda.at(self.now + IDLE_MS, Event::AgentSawClose(connection));
        self.agenda.at(self.now + IDLE_MS + 5, Event::MasterSawClose(connection));
    }

    pub(crate) fn mishap(&mut self, may_double: bool) -> (bool, bool) {
        let faults = self.faults();
        (
            self.chance.in_a_million(faults.lost),
            may_double && self.chance.in_a_million(faults.doubled),
        )
    }

    /// Both ends learn of it, each in its own time.
    pub(crate) fn break_link(&mut self, connection: ConnectionId) {
        let (first, second) = (self.chance.between(1, 2_000), self.chance.between(1, 2_000));
        self.agenda.at(self.now + first, Event::MasterSawClose(connection));
        self.agenda.at(self.now + second, Event::AgentSawClose(connection));
    }

    pub(crate) fn dial(&mut self, agent: usize) {
        let machine = &mut self.machines[agent];
        if machine.agent.is_none() || machine.connection.is_some() {
            return;
        }
        if machine.cut_off_until > self.now {
            return self.agenda.at(machine.cut_off_until, Event::Dial(agent));
        }
        if self.master.leader.is_none() {
            let backoff = self.chance.between(50, 500);
            return self.agenda.at(self.now + backoff, Event::Dial(agent));
        }
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        let process = machine.process;
        machine.connection = Some(connection);
        let link = Link {
            agent,
            process,
            broken: false,
            deaf: false,
            agent_open: true,
            master_open: true,
            last_up: self.now,
            last_down: self.now,
        };
        self.links.insert(connection, link);
        self.agent_input(agent, AgentInput::MasterConnected);
    }

    pub(crate) fn agent_saw_close(&mut self, connection: ConnectionId) {
        let link = self.links.get_mut(&connection).expect("a link");
        let agent = link.agent;
        if !std::mem::take(&mut link.agent_open)
            || self.machines[agent].connection != Some(connection)
        {
            return;
        }
        self.machines[agent].connection = None;
        self.agent_input(agent, AgentInput::MasterDisconnected);
        let backoff = self.chance.between(10, 300);
        self.agenda.at(self.now + backoff, Event::Dial(agent));
    }
}
