//! A machine: an agent core, its disk, and a cell that pretends to run what it is told.

use crate::job::Job;
use std::collections::BTreeMap;
use tepui_agent_core::{Agent, Profile, Record};
use tepui_master_core::ConnectionId;
use tepui_proto::events::AttributeValue;
use tepui_proto::scheduler::ToScheduler;
use tepui_proto::{FrameworkId, Incarnation, Life, Resources, Timestamp};

/// A scheduler's instance in the cell.
#[derive(Debug, Default)]
pub struct Instance {
    /// What it remembers.
    pub job: Job,
    /// The cell's copy of durable state.
    pub keys: BTreeMap<String, Vec<u8>>,
}

/// The machine.
#[derive(Debug)]
pub struct Machine {
    /// Its place among the others.
    pub number: usize,
    /// Counts its processes; what an earlier one was about to do does not happen.
    pub process: u64,
    /// The core, while the process lives.
    pub agent: Option<Agent>,
    /// What is on disk.
    pub disk: Vec<Record>,
    /// Which disk.
    pub life: Life,
    /// The connection that it has.
    pub connection: Option<ConnectionId>,
    /// Until then it reaches no master.
    pub cut_off_until: u64,
    /// Schedulers in its cell.
    pub instances: BTreeMap<(FrameworkId, Incarnation), Instance>,
    /// The deadline that is on the agenda.
    pub tick_at: Option<u64>,
}

impl Machine {
    /// A machine with an empty disk that has not started.
    pub fn new(number: usize) -> Self {
        Self {
            number,
            process: 0,
            agent: None,
            disk: Vec::new(),
            life: Life(number as u64 * 1_000 + 1),
            connection: None,
            cut_off_until: 0,
            instances: BTreeMap::new(),
            tick_at: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> String {
        format!("agent-{}", self.number)
    }

    fn rack(&self) -> String {
        format!("r{}", self.number % 5)
    }

    fn profile(&self) -> Profile {
        Profile {
            name: self.name(),
            life: self.life,
            hostname: self.name(),
            version: "sim".into(),
            resources: Resources { disk_bytes: 8 << 30, ..Resources::cpu_memory(2_000, 4 << 30) },
            pools: Vec::new(),
            attributes: vec![("rack".into(), AttributeValue::Text(self.rack()))],
            domain: None,
            max_tasks: tepui_proto::limits::CELL_INSTANCES,
        }
    }

    /// Starts a process from what is on disk. What it writes at once is on disk before anything else happens.
    pub fn start(&mut self, now: u64) -> tepui_agent_core::Effects {
        let (agent, effects) =
            Agent::recover(self.profile(), Timestamp(now), None, self.disk.clone());
        self.disk.extend(effects.records.iter().cloned());
        self.agent = Some(agent);
        effects
    }

    /// Ends the process, and everything that was in it.
    pub fn crash(&mut self, keeps_disk: bool) {
        self.process += 1;
        self.agent = None;
        self.connection = None;
        self.instances.clear();
        self.tick_at = None;
        if !keeps_disk {
            self.disk.clear();
            self.life = Life(self.life.0 + 1);
        }
    }

    /// Takes a page of durable state.
    pub fn take_page(
        &mut self,
        framework: FrameworkId,
        incarnation: Incarnation,
        frame: &ToScheduler,
    ) {
        if let (Some(instance), ToScheduler::State { pairs, .. }) =
            (self.instances.get_mut(&(framework, incarnation)), frame)
        {
            instance.keys.extend(pairs.iter().cloned());
        }
    }
}
