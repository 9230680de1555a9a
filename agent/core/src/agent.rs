//! The agent: one `handle`, and its side of the talk with the master.
//!
//! Owns the session (which master is obeyed, what it was sent) and dispatches. Never touches a task or a scheduler
//! itself: `tasks` and `schedulers` do. Its one surprise: reports go out only to a master that has said welcome, and
//! those that were in the hello are not said twice.

use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::cell::{CellCommand, CellEvent};
use tepui_proto::control::{AgentMessage, Hello, MasterMessage, Report, ReportBody, TaskReport};
use tepui_proto::{
    DurationMs, FrameworkId, LaunchNumber, ReportSeq, TaskKey, Tenant, Term, Timestamp,
};

use crate::book::{Book, KeptLogs, Record, Snapshot, Task};
use crate::input::{Effect, Effects, Input, REPORTS_BYTES, report_bytes};
use crate::profile::Profile;
use crate::schedulers::Hosted;
use crate::tasks::Live;

/// What is known of a task's logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logs {
    /// No such task, or it ended so long ago that its logs are gone.
    Unknown,
    /// It has not ended.
    Growing,
    /// Nothing is added any more.
    Ended {
        /// Bytes that were not kept, of standard output and standard error.
        dropped: (u64, u64),
    },
}

/// The talk with one master, from its hello on.
#[derive(Clone, Debug)]
struct Session {
    /// The master that said welcome, and how often it wants to hear something; none before.
    welcome: Option<DurationMs>,
    /// The last report that it was sent.
    sent: ReportSeq,
    /// When it was last sent anything.
    heard: Timestamp,
    /// Whether it was told that there is room.
    told_room: bool,
}

/// The state of an agent and what it decides.
#[derive(Clone, Debug)]
pub struct Agent {
    profile: Profile,
    pub(crate) book: Book,
    session: Option<Session>,
    /// Whether the disk has room for more tasks.
    has_room: bool,
    /// What is known of tasks that have not ended, and need not outlive a crash: they end with it.
    pub(crate) live: BTreeMap<LaunchNumber, Live>,
    /// Cells that were started and are not known to have died.
    pub(crate) cells: BTreeSet<Tenant>,
    /// Schedulers whose streams are open.
    pub(crate) schedulers: BTreeMap<FrameworkId, Hosted>,
    /// Bytes of messages that wait for an acknowledgement, by framework.
    pub(crate) unheard: BTreeMap<FrameworkId, usize>,
    /// Tasks whose next message waits until fewer of their framework's do.
    pub(crate) blocked: BTreeMap<FrameworkId, BTreeSet<LaunchNumber>>,
}

impl Agent {
    /// An agent at the beginning of a life.
    pub fn new(profile: Profile) -> Self {
        let book = Book { life: profile.life, ..Book::default() };
        Self {
            profile,
            book,
            session: None,
            has_room: true,
            live: BTreeMap::new(),
            cells: BTreeSet::new(),
            schedulers: BTreeMap::new(),
            unheard: BTreeMap::new(),
            blocked: BTreeMap::new(),
        }
    }

    /// The agent that the snapshot and the records after it add up to. Tasks without a recorded end have ended as `lost`;
    /// the effects hold the records that say so, to be written down before anything else.
    ///
    /// A snapshot of another life counts for nothing.
    pub fn recover(
        profile: Profile,
        now: Timestamp,
        snapshot: Option<Snapshot>,
        records: impl IntoIterator<Item = Record>,
    ) -> (Self, Effects) {
        let mut agent = Self::new(profile);
        if let Some(Snapshot(book)) =
            snapshot.filter(|snapshot| snapshot.0.life == agent.profile.life)
        {
            agent.book = book;
        }
        let mut gone = Vec::new();
        for record in records {
            agent.book.apply(&record, &mut gone);
        }
        let mut effects = Effects::default();
        for launch in gone {
            effects.order(Effect::RemoveLogs(launch));
        }
        for report in agent.book.reports.values() {
            if let ReportBody::Message(data) = &report.body {
                *agent.unheard.entry(report.key.framework).or_default() += data.len();
            }
        }
        agent.end_recovered(now, &mut effects);
        (agent, effects)
    }

    /// Everything that must outlive a crash, as of now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.book.clone())
    }

    /// Takes one fact in. Adds what follows from it to `effects`.
    pub fn handle(&mut self, now: Timestamp, input: Input, effects: &mut Effects) {
        match input {
            Input::MasterConnected => self.on_connected(now, effects),
            Input::MasterDisconnected => self.on_disconnected(effects),
            Input::MasterSaid(message) => self.on_master_said(now, message, effects),
            Input::CellStarted(tenant) => {
                self.cells.insert(tenant);
            }
            Input::CellDied { tenant, message } => {
                self.on_cell_died(now, &tenant, &message, effects);
            }
            Input::CellSaid { tenant, event } => self.on_cell_said(now, &tenant, event, effects),
            Input::TaskPrepared { launch, result } => {
                self.on_prepared(now, launch, result, effects);
            }
            Input::OutputsStored { launch, result } => {
                self.on_outputs_stored(now, launch, result, effects);
            }
            Input::ModuleChecked { digest, kind, verdict } => {
                self.send(now, AgentMessage::ModuleChecked { digest, kind, verdict }, effects);
            }
            Input::RoomChanged { has_room } => {
                self.has_room = has_room;
                self.tell_room(now, effects);
            }
            Input::SchedulerOpened(open) => self.on_scheduler_opened(open, effects),
            Input::SchedulerPrepared { framework, incarnation, result } => {
                self.on_scheduler_prepared(framework, incarnation, result, effects);
            }
            Input::SchedulerFrame { framework, incarnation, frame } => {
                self.on_scheduler_frame(framework, incarnation, frame, effects);
            }
            Input::SchedulerStreamEnded { framework, incarnation } => {
                self.on_scheduler_stream_ended(framework, incarnation, effects);
            }
            Input::Tick => self.on_tick(now, effects),
        }
    }

    /// When to say [`Input::Tick`] at the latest.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let session = self.session.as_ref()?;
        session.welcome.map(|heartbeat| session.heard.after(heartbeat))
    }

    /// The whole truth, as it is told to a master.
    pub fn hello(&self) -> Hello {
        Hello {
            life: self.book.life,
            term: self.book.term,
            hostname: self.profile.hostname.clone(),
            version: self.profile.version.clone(),
            resources: self.profile.resources.clone(),
            pools: self.profile.pools.clone(),
            attributes: self.profile.attributes.clone(),
            domain: self.profile.domain.clone(),
            max_tasks: self.profile.max_tasks,
            has_room: self.has_room,
            launch_mark: self.book.mark,
            tasks: self
                .book
                .tasks
                .iter()
                .map(|(launch, task)| TaskReport {
                    launch: *launch,
                    key: task.key.clone(),
                    state: task.status.state,
                })
                .collect(),
            has_more_tasks: false,
            reports: self.reports_after(ReportSeq::default()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.profile.name
    }

    /// The highest term that it has obeyed.
    pub fn term(&self) -> Term {
        self.book.term
    }

    /// The highest launch that it has written down.
    pub fn launch_mark(&self) -> LaunchNumber {
        self.book.mark
    }

    /// Tasks that have not ended, or whose end is not acknowledged.
    pub fn tasks(&self) -> impl Iterator<Item = (LaunchNumber, &Task)> {
        self.book.tasks.iter().map(|(launch, task)| (*launch, task))
    }

    /// The logs of tasks whose end is acknowledged, oldest first.
    pub fn kept_logs(&self) -> impl Iterator<Item = KeptLogs> {
        self.book.kept.iter().copied()
    }

    /// What is known of a task's logs.
    pub fn logs(&self, launch: LaunchNumber) -> Logs {
        match self.book.tasks.get(&launch) {
            Some(task) if task.status.state.is_final() => Logs::Ended { dropped: task.dropped },
            Some(_) => Logs::Growing,
            None => match self.book.kept.iter().find(|logs| logs.launch == launch) {
                Some(logs) => Logs::Ended { dropped: logs.dropped },
                None => Logs::Unknown,
            },
        }
    }

    /// Takes in how large the logs are that were found at a start, and how large all that are kept may be together. The
    /// effects remove those that are too many.
    pub fn on_logs_found(
        &mut self,
        sizes: &BTreeMap<LaunchNumber, u64>,
        most: u64,
        effects: &mut Effects,
    ) {
        let mut gone = Vec::new();
        self.book.on_logs_found(sizes, most, &mut gone);
        for launch in gone {
            effects.order(Effect::RemoveLogs(launch));
        }
    }

    /// How many reports wait for an acknowledgement.
    pub fn waiting_reports(&self) -> usize {
        self.book.reports.len()
    }

    /// Reports above `seq`, as many as fit well into one frame.
    fn reports_after(&self, seq: ReportSeq) -> Vec<Report> {
        let mut bytes = 0;
        let waiting = self.book.reports.range(seq.next()..).map(|(_seq, report)| report);
        waiting
            .take_while(|report| {
                let is_first = bytes == 0;
                bytes += report_bytes(report);
                is_first || bytes <= REPORTS_BYTES
            })
            .cloned()
            .collect()
    }

    fn on_connected(&mut self, now: Timestamp, effects: &mut Effects) {
        let hello = self.hello();
        let sent = hello.reports.last().map_or_else(ReportSeq::default, |report| report.seq);
        let told_room = hello.has_room;
        self.session = Some(Session { welcome: None, sent, heard: now, told_room });
        for page in hello.into_pages() {
            effects.order(Effect::SendToMaster(page));
        }
    }

    fn on_disconnected(&mut self, effects: &mut Effects) {
        self.session = None;
        self.close_schedulers(effects);
    }

    fn on_master_said(&mut self, now: Timestamp, message: MasterMessage, effects: &mut Effects) {
        if self.session.is_none() {
            return;
        }
        match message {
            MasterMessage::Welcome { term, now: _, heartbeat } => {
                self.on_welcome(now, term, heartbeat, effects);
            }
            MasterMessage::Refused { .. } => {}
            MasterMessage::Launch { term, life, launches } => {
                if life == self.book.life && self.obey(term, effects) {
                    for launch in launches {
                        self.on_launch(now, launch, effects);
                    }
                }
            }
            MasterMessage::Kill { term, launch, key, grace } => {
                if self.obey(term, effects) {
                    self.on_kill(now, launch, &key, grace, effects);
                }
            }
            MasterMessage::Acknowledge(seq) => self.on_acknowledge(now, seq, effects),
            MasterMessage::Message { launch, data } => {
                self.on_message_for_task(launch, data, effects);
            }
            MasterMessage::CheckModule { digest, kind } => {
                effects.order(Effect::CheckModule { digest, kind });
            }
            MasterMessage::Forget(launches) => self.on_forget(launches, effects),
        }
    }

    fn on_welcome(
        &mut self,
        now: Timestamp,
        term: Term,
        heartbeat: DurationMs,
        effects: &mut Effects,
    ) {
        if !self.obey(term, effects) {
            effects.order(Effect::CloseSession { code: "term-old" });
            return;
        }
        let Some(session) = &mut self.session else { return };
        session.welcome = Some(DurationMs(heartbeat.0.max(1)));
        session.heard = now;
        let mut sent = session.sent;
        // What the hello had no room for, and what was written down since.
        loop {
            let reports = self.reports_after(sent);
            let Some(last) = reports.last() else { break };
            sent = last.seq;
            effects.order(Effect::SendToMaster(AgentMessage::Reports(reports)));
        }
        if let Some(session) = &mut self.session {
            session.sent = sent;
        }
        self.tell_room(now, effects);
    }

    /// Tells a master that has said welcome, unless it knows.
    fn tell_room(&mut self, now: Timestamp, effects: &mut Effects) {
        let has_room = self.has_room;
        if let Some(session) = &mut self.session
            && session.welcome.is_some()
            && session.told_room != has_room
        {
            session.told_room = has_room;
            self.send(now, AgentMessage::RoomChanged { has_room }, effects);
        }
    }

    /// Whether a leader of this term counts. A higher term than any before is written down: lower ones are void from now on.
    pub(crate) fn obey(&mut self, term: Term, effects: &mut Effects) -> bool {
        if term > self.book.term {
            self.record(Record::Term(term), effects);
        }
        term == self.book.term
    }

    fn on_acknowledge(&mut self, now: Timestamp, seq: ReportSeq, effects: &mut Effects) {
        let seq = seq.min(self.book.last_report);
        let mut heard = Vec::new();
        let mut frameworks = BTreeSet::new();
        for report in self.book.reports.range(..=seq).map(|(_seq, report)| report) {
            if let ReportBody::Message(data) = &report.body {
                heard.push(report.launch);
                frameworks.insert(report.key.framework);
                if let Some(bytes) = self.unheard.get_mut(&report.key.framework) {
                    *bytes = bytes.saturating_sub(data.len());
                }
            }
        }
        self.unheard.retain(|_, bytes| *bytes > 0);
        if self.book.reports.first_key_value().is_some_and(|(first, _report)| *first <= seq) {
            self.record(Record::Acknowledged(seq), effects);
        }
        for launch in heard {
            self.on_message_heard(now, launch, effects);
        }
        for framework in frameworks {
            self.unblock(now, framework, effects);
        }
    }

    fn on_forget(&mut self, launches: Vec<LaunchNumber>, effects: &mut Effects) {
        let known: Vec<LaunchNumber> = launches
            .into_iter()
            .filter(|launch| {
                self.book.tasks.get(launch).is_some_and(|task| task.status.state.is_final())
            })
            .collect();
        if !known.is_empty() {
            self.record(Record::Forgotten(known), effects);
        }
    }

    fn on_tick(&mut self, now: Timestamp, effects: &mut Effects) {
        if self.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.send(now, AgentMessage::Heartbeat, effects);
        }
    }

    fn on_cell_said(
        &mut self,
        now: Timestamp,
        tenant: &Tenant,
        event: CellEvent,
        effects: &mut Effects,
    ) {
        match event {
            CellEvent::Started(launch) => self.on_started(now, tenant, launch, effects),
            CellEvent::Ended { launch, end } => self.on_ended(now, tenant, launch, *end, effects),
            CellEvent::Logged { launch, stream, size } => {
                if self.live.get(&launch).is_some_and(|live| live.tenant == *tenant) {
                    effects.order(Effect::LogGrew { launch, stream, size });
                }
            }
            CellEvent::Message { launch, number, data } => {
                self.on_message_from_task(now, tenant, launch, (number, data), effects);
            }
            CellEvent::Scheduler { framework, incarnation, frame } => {
                self.on_scheduler_said(tenant, framework, incarnation, frame, effects);
            }
        }
    }

    /// Writes something down: the only way in which the book changes.
    pub(crate) fn record(&mut self, record: Record, effects: &mut Effects) {
        let mut gone = Vec::new();
        self.book.apply(&record, &mut gone);
        effects.records.push(record);
        for launch in gone {
            effects.order(Effect::RemoveLogs(launch));
        }
    }

    /// Writes a report down and sends it, if a master is there that has said welcome.
    pub(crate) fn report(
        &mut self,
        now: Timestamp,
        launch: LaunchNumber,
        key: TaskKey,
        body: ReportBody,
        effects: &mut Effects,
    ) {
        let report = Report { seq: self.book.last_report.next(), launch, key, body };
        self.record(Record::Reported(report.clone()), effects);
        if let Some(session) = &mut self.session
            && session.welcome.is_some()
        {
            session.sent = report.seq;
            session.heard = now;
            effects.report(report);
        }
    }

    fn send(&mut self, now: Timestamp, message: AgentMessage, effects: &mut Effects) {
        if let Some(session) = &mut self.session
            && session.welcome.is_some()
        {
            session.heard = now;
            effects.order(Effect::SendToMaster(message));
        }
    }

    /// A command for a tenant's cell, which is started if it is not there.
    pub(crate) fn tell_cell(
        &mut self,
        tenant: &Tenant,
        command: CellCommand,
        effects: &mut Effects,
    ) {
        if self.cells.insert(tenant.clone()) {
            effects.order(Effect::StartCell(tenant.clone()));
        }
        effects.order(Effect::ToCell { tenant: tenant.clone(), command });
    }
}
