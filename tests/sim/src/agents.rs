//! The agents' side of the world, and their cells'.

use crate::machine::Instance;
use crate::wire::{Down, Event, Up};
use crate::world::World;
use tepui_agent_core::{
    Effect as AgentEffect, Effects as AgentEffects, Input as AgentInput, Prepared,
};
use tepui_proto::cell::{CellCommand, CellEvent, CommandEnd};
use tepui_proto::control::ModuleVerdict;
use tepui_proto::scheduler::{FromScheduler, SchedulerFailure, ToScheduler, TurnUsage};
use tepui_proto::{
    Call, FrameworkId, Incarnation, LaunchNumber, Reason, TaskState, Tenant, Timestamp, Usage,
};

impl World {
    pub(crate) fn restart_agent(&mut self, agent: usize) {
        let effects = self.machines[agent].start(self.now);
        self.perform_for_agent(agent, effects);
        self.agenda.at(self.now + 1, Event::Dial(agent));
    }

    pub(crate) fn agent_hears(&mut self, agent: usize, down: Down) {
        let input = match down {
            Down::Message(message) => AgentInput::MasterSaid(message),
            Down::Open(open) => AgentInput::SchedulerOpened(open),
            Down::Scheduler(framework, incarnation, frame) => {
                AgentInput::SchedulerFrame { framework, incarnation, frame }
            }
            Down::StreamEnded(framework, incarnation) => {
                AgentInput::SchedulerStreamEnded { framework, incarnation }
            }
        };
        self.agent_input(agent, input);
    }

    pub(crate) fn agent_input(&mut self, agent: usize, input: AgentInput) {
        let dies = self.chance.in_a_million(self.faults().agent_dies);
        let before_sync = self.chance.in_a_million(500_000);
        let machine = &mut self.machines[agent];
        let Some(core) = machine.agent.as_mut() else { return };
        let mut effects = AgentEffects::default();
        core.handle(Timestamp(self.now), input, &mut effects);
        if dies {
            if !before_sync {
                machine.disk.extend(effects.records);
            }
            return self.kill_agent(agent);
        }
        machine.disk.extend(effects.records.iter().cloned());
        self.perform_for_agent(agent, effects);
    }

    pub(crate) fn kill_agent(&mut self, agent: usize) {
        self.agent_deaths += 1;
        let keeps_disk = !self.chance.in_a_million(200_000);
        let connection = self.machines[agent].connection;
        self.machines[agent].crash(keeps_disk);
        if let Some(connection) = connection {
            self.links.get_mut(&connection).expect("a link").agent_open = false;
            let silence = self.chance.between(1, 15_000);
            self.agenda.at(self.now + silence, Event::MasterSawClose(connection));
        }
        if self.chance.in_a_million(self.faults().stays_away) {
            return;
        }
        let pause = self.chance.between(100, 20_000);
        self.agenda.at(self.now + pause, Event::AgentRestart(agent));
    }

    pub(crate) fn perform_for_agent(&mut self, agent: usize, effects: AgentEffects) {
        for order in effects.orders {
            if self.machines[agent].agent.is_none() {
                return;
            }
            self.perform_agent_order(agent, order);
        }
        let machine = &mut self.machines[agent];
        let due = machine
            .agent
            .as_ref()
            .and_then(tepui_agent_core::Agent::next_deadline)
            .map(|at| at.0.max(self.now + 1));
        if let Some(due) = due.filter(|due| machine.tick_at.is_none_or(|at| *due < at)) {
            machine.tick_at = Some(due);
            self.agenda.at(due, Event::AgentTick(agent));
        }
    }

    pub(crate) fn perform_agent_order(&mut self, agent: usize, order: AgentEffect) {
        match order {
            AgentEffect::SendToMaster(message) => self.send_up(agent, Up::Message(message)),
            AgentEffect::CloseSession { .. } => {
                if let Some(connection) = self.machines[agent].connection {
                    self.break_link(connection);
                }
            }
            AgentEffect::StartCell(tenant) => {
                self.agent_input(agent, AgentInput::CellStarted(tenant));
            }
            AgentEffect::ToCell { command, .. } => self.cell_told(agent, command),
            AgentEffect::Prepare(launch) => {
                let path = |name: &str| format!("{name}-{}", launch.number);
                let prepared = Prepared {
                    compiled: path("module"),
                    sandbox: None,
                    stdout: path("out"),
                    stderr: path("err"),
                };
                self.agent_input(
                    agent,
                    AgentInput::TaskPrepared { launch: launch.number, result: Ok(prepared) },
                );
            }
            AgentEffect::StoreOutputs { launch, .. } => {
                self.agent_input(
                    agent,
                    AgentInput::OutputsStored { launch, result: Ok(Vec::new()) },
                );
            }
            AgentEffect::CheckModule { digest, kind } => {
                let verdict = ModuleVerdict::Good { compile_ms: 1 };
                self.agent_input(agent, AgentInput::ModuleChecked { digest, kind, verdict });
            }
            AgentEffect::PrepareScheduler(open) => {
                let (framework, incarnation) = (open.framework, open.incarnation);
                self.agent_input(
                    agent,
                    AgentInput::SchedulerPrepared {
                        framework,
                        incarnation,
                        result: Ok("scheduler".into()),
                    },
                );
            }
            AgentEffect::ToSchedulerStream { framework, incarnation, frame } => {
                self.send_up(agent, Up::Scheduler(framework, incarnation, frame));
            }
            AgentEffect::CloseSchedulerStream { framework, incarnation } => {
                self.send_up(agent, Up::StreamEnded(framework, incarnation));
            }
            AgentEffect::ReadSchedulerStream { .. }
            | AgentEffect::LogGrew { .. }
            | AgentEffect::EndLogs { .. }
            | AgentEffect::RemoveSandbox(_)
            | AgentEffect::RemoveLogs(_) => {}
        }
    }

    // ---- the cell's side

    pub(crate) fn cell_told(&mut self, agent: usize, command: CellCommand) {
        let process = self.machines[agent].process;
        match command {
            CellCommand::Run(run) => {
                let (begin, end) = (self.chance.between(0, 20), self.chance.between(20, 5_000));
                let told = self.chance.in_a_million(600_000);
                self.agenda.at(self.now + begin, Event::Started(agent, process, run.launch, told));
                self.agenda.at(self.now + end, Event::Ended(agent, process, run.launch));
            }
            CellCommand::Kill { launch, .. } => {
                self.agenda.at(self.now + 1, Event::Ended(agent, process, launch));
            }
            CellCommand::OpenScheduler { open, .. } => {
                self.machines[agent]
                    .instances
                    .insert((open.framework, open.incarnation), Instance::default());
            }
            CellCommand::CloseScheduler { framework, incarnation } => {
                self.machines[agent].instances.remove(&(framework, incarnation));
            }
            CellCommand::Scheduler { framework, incarnation, frame } => {
                self.scheduler_told(agent, framework, incarnation, frame);
            }
            CellCommand::Message { .. } | CellCommand::MessageStored { .. } => {}
        }
    }

    pub(crate) fn scheduler_told(
        &mut self,
        agent: usize,
        framework: FrameworkId,
        incarnation: Incarnation,
        frame: ToScheduler,
    ) {
        let traps = self.chance.in_a_million(self.faults().scheduler_traps);
        let took = self.chance.between(0, 30);
        let machine = &mut self.machines[agent];
        let ToScheduler::Turn { mark, seed, events, .. } = frame else {
            return machine.take_page(framework, incarnation, &frame);
        };
        let Some(instance) = machine.instances.get_mut(&(framework, incarnation)) else { return };
        let answer = if traps {
            machine.instances.remove(&(framework, incarnation));
            FromScheduler::Failed {
                mark: Some(mark),
                failure: SchedulerFailure::Trapped,
                message: "chance".into(),
                log: Vec::new(),
            }
        } else {
            let calls = instance.job.handle(seed, &events, &instance.keys);
            for call in &calls {
                if let Call::Put { key, value: Some(value) } = call {
                    instance.keys.insert(key.clone(), value.clone());
                }
            }
            FromScheduler::Answer {
                mark,
                calls,
                usage: TurnUsage::default(),
                log: Vec::new(),
                dropped: false,
            }
        };
        let process = machine.process;
        self.agenda.at(
            self.now + took,
            Event::TurnOver(agent, process, framework, incarnation, Box::new(answer)),
        );
    }

    /// Not every cell says so: a short command is told of by its end alone.
    pub(crate) fn task_started(
        &mut self,
        agent: usize,
        process: u64,
        launch: LaunchNumber,
        told: bool,
    ) {
        let machine = &self.machines[agent];
        let Some(core) = machine.agent.as_ref().filter(|_| machine.process == process) else {
            return;
        };
        let Some((_, task)) = core.tasks().find(|(number, _)| *number == launch) else { return };
        if task.status.state.is_final() {
            return;
        }
        let key = task.key.clone();
        self.launches.begun(&key);
        if !told {
            return;
        }
        let event = CellEvent::Started(launch);
        self.agent_input(agent, AgentInput::CellSaid { tenant: Tenant::from("acme"), event });
    }

    pub(crate) fn task_ended(&mut self, agent: usize, process: u64, launch: LaunchNumber) {
        if self.machines[agent].process != process {
            return;
        }
        let fails = self.chance.in_a_million(self.faults().task_fails);
        let (state, reason) = if fails {
            (TaskState::Failed, Reason::ExitedNonzero)
        } else {
            (TaskState::Finished, Reason::None)
        };
        let end = CommandEnd {
            state,
            reason,
            message: String::new(),
            exit_code: Some(i32::from(fails)),
            usage: Usage::default(),
            log_dropped: (0, 0),
        };
        let event = CellEvent::Ended { launch, end: Box::new(end) };
        self.agent_input(agent, AgentInput::CellSaid { tenant: Tenant::from("acme"), event });
    }
}
