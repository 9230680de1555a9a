//! The one loop of an agent: take what waits, handle it, write it down once, carry it out.
//!
//! Owns the core, the journal and all that orders are carried out with. Its one surprise: what the orders of a batch
//! answer at once (a module that is known) is handled in the same turn, before anything new is looked at.

use std::collections::VecDeque;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tepui_agent_core::{Agent, Effect, Effects, Input, Logs, Profile, Record, Snapshot};
use tepui_journal::{Journal, JournalError, Recovered};
use tepui_proto::control::AgentMessage;
use tepui_proto::limits;
use tepui_transport::{CloseCode, Dialer, Identity, PeerIdentity, PeerRole};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep};

use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::config::AgentConfig;
use crate::error::AgentError;
use crate::fetch::Link;
use crate::folders::Folders;
use crate::janitor::Janitor;
use crate::life;
use crate::logs::Followers;
use crate::modules::Modules;
use crate::room::{self, Room};
use crate::rooms::{Event, Rooms};
use crate::session::Sessions;
use crate::transfers::Transfers;

/// Events that may wait for the loop.
const INBOX: usize = 4_096;
/// Events of one batch.
const BATCH: usize = 1_024;
/// The journal's growth after which a snapshot is taken: what a restart has to read at the most.
const SNAPSHOT_BYTES: u64 = 16 << 20;
/// Records that need no sync of their own and may wait for the next one.
const UNSYNCED: usize = 256;
/// The timer's span while there is nothing to wait for.
const IDLE: Duration = Duration::from_hours(1);
/// How long cells and the connection may take to end.
const FAREWELL: Duration = Duration::from_secs(2);

/// The loop's state.
#[derive(Debug)]
pub(crate) struct Driver {
    agent: Agent,
    journal: Journal,
    clock: Clock,
    inbox: mpsc::Receiver<Event>,
    rooms: Rooms,
    sessions: Sessions,
    effects: Effects,
    /// Facts that are not handled yet.
    facts: VecDeque<Input>,
    /// Encoded records that are not on disk yet.
    unsynced: Vec<Vec<u8>>,
}

impl Driver {
    /// Opens everything; nothing runs yet. To be called within a tokio runtime.
    pub(crate) fn open(config: AgentConfig) -> Result<Self, AgentError> {
        config.check()?;
        let folders = Folders::open(&config.dir)?;
        let dialer = dialer(&config, folders.root())?;
        let (life, journal_folder) = life::begin_or_resume(&folders)?;
        let (journal, recovered) = Journal::open(&journal_folder)?;
        let clock = Clock::start();
        let (mut agent, mut effects) = recover(&config, life, clock, recovered)?;
        let sizes = folders.sweep_logs(|launch| agent.logs(launch) != Logs::Unknown)?;
        let most = room::for_cache(folders.root(), limits::KEPT_LOG_BYTES);
        agent.on_logs_found(&sizes, most, &mut effects);
        let (sender, inbox) = mpsc::channel(INBOX);
        let (link_sender, link) = watch::channel(None);
        let link = Link(link);
        let executable: Arc<Path> = config.executable.as_path().into();
        let modules = Modules::open(&folders, &executable, link.clone(), sender.clone())?;
        let mut jobs = JoinSet::new();
        let (blobs, blobs_task) = Blobs::new(folders.blobs(), link.clone());
        jobs.spawn(blobs_task);
        let (janitor, janitor_task) = Janitor::new(folders.clone());
        jobs.spawn(janitor_task);
        let sessions = Sessions {
            dialer,
            masters: config.masters,
            folders: folders.clone(),
            inbox: sender.clone(),
            link: link_sender,
        };
        let rooms = Rooms {
            room: Room::new(folders.root()),
            folders,
            inbox: sender,
            link,
            modules,
            blobs,
            janitor,
            followers: Followers::default(),
            jobs,
            executable,
            making: Transfers::default(),
            storing: Transfers::default(),
            stores: std::collections::BTreeMap::new(),
            session: None,
            cells: std::collections::BTreeMap::new(),
            cell_tasks: JoinSet::new(),
            cells_started: 0,
            schedulers: std::collections::BTreeMap::new(),
        };
        let mut driver = Self {
            agent,
            journal,
            clock,
            inbox,
            rooms,
            sessions,
            effects,
            facts: VecDeque::new(),
            unsynced: Vec::new(),
        };
        // What recovery found out is on disk before anybody is told.
        driver.carry_out()?;
        Ok(driver)
    }

    /// Runs until `shutdown`.
    pub(crate) async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), AgentError> {
        let Self { agent, journal, clock, mut inbox, rooms, sessions, effects, facts, unsynced } =
            self;
        let dialer = sessions.dialer.clone();
        let mut keeper = JoinSet::new();
        keeper.spawn(sessions.keep());
        let snapshot_at = SNAPSHOT_BYTES;
        let mut turning =
            Turning { agent, journal, clock, rooms, effects, facts, unsynced, snapshot_at };
        let ended = turning.turn(&mut inbox, shutdown).await;
        turning.stop(inbox, keeper, &dialer).await;
        ended
    }

    fn carry_out(&mut self) -> Result<(), AgentError> {
        let Self { journal, rooms, .. } = self;
        carry_out(
            &mut self.effects,
            &mut self.unsynced,
            |records| Ok(journal.append(records).map(drop)?),
            |order| rooms.perform(order, &mut self.facts),
        )
    }
}

/// The loop while it runs: all of [`Driver`] that does not go elsewhere.
struct Turning {
    agent: Agent,
    journal: Journal,
    clock: Clock,
    rooms: Rooms,
    effects: Effects,
    facts: VecDeque<Input>,
    unsynced: Vec<Vec<u8>>,
    /// The journal's growth after which the next snapshot is taken.
    snapshot_at: u64,
}

/// When to take the next snapshot, after what became of the last, at which the journal had grown so much. Without room
/// there is none for now: all is in the log, and a restart has more to read.
fn next_snapshot(size: u64, taken: Result<(), JournalError>) -> Result<u64, JournalError> {
    match taken {
        Ok(()) => Ok(SNAPSHOT_BYTES),
        Err(error @ JournalError::Full { .. }) => {
            tracing::error!("no snapshot for now: {error}");
            Ok(size + SNAPSHOT_BYTES / 4)
        }
        Err(error) => Err(error),
    }
}

impl Turning {
    async fn turn(
        &mut self,
        inbox: &mut mpsc::Receiver<Event>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), AgentError> {
        let timer = tokio::time::sleep(IDLE);
        tokio::pin!(shutdown, timer);
        let mut looks = tokio::time::interval(room::LOOK);
        let mut events = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => return Ok(()),
                count = inbox.recv_many(&mut events, BATCH) => if count == 0 {
                    return Ok(());
                },
                () = &mut timer => self.facts.push_back(Input::Tick),
                _ = looks.tick() => {}
            }
            // Before anything else, so that a hello says what is so.
            if let Some(has_room) = self.rooms.room.change() {
                self.facts.push_back(Input::RoomChanged { has_room });
            }
            for event in events.drain(..) {
                self.take(event)?;
            }
            self.settle()?;
            self.rooms.reap();
            self.wind(timer.as_mut());
        }
    }

    fn take(&mut self, event: Event) -> Result<(), AgentError> {
        match event {
            Event::Refused { code, message } => Err(AgentError::Refused { code, message }),
            Event::LogWanted { launch, reply } => {
                let view = match self.agent.logs(launch) {
                    Logs::Unknown => None,
                    Logs::Growing => Some(self.rooms.followers.follow(launch)),
                    Logs::Ended { dropped } => Some(Followers::ended(dropped)),
                };
                // Who asked may have gone.
                drop(reply.send(view));
                Ok(())
            }
            other => {
                self.rooms.take(other, &mut self.facts);
                Ok(())
            }
        }
    }

    /// Handles facts until none is left: each round is one batch, with at most one sync.
    fn settle(&mut self) -> Result<(), AgentError> {
        // The timer is looked at last, so a loop that is never idle must not depend on it.
        if self.agent.next_deadline().is_some_and(|deadline| deadline <= self.clock.now()) {
            self.facts.push_back(Input::Tick);
        }
        while !self.facts.is_empty() {
            let now = self.clock.now();
            while let Some(fact) = self.facts.pop_front() {
                self.agent.handle(now, fact, &mut self.effects);
            }
            let Self { journal, rooms, facts, .. } = self;
            carry_out(
                &mut self.effects,
                &mut self.unsynced,
                |records| Ok(journal.append(records).map(drop)?),
                |order| rooms.perform(order, facts),
            )?;
        }
        let size = self.journal.size_since_snapshot();
        if size > self.snapshot_at {
            let last = self.journal.next_index().saturating_sub(1);
            let taken = self.journal.snapshot(last, &self.agent.snapshot().encode()?);
            self.snapshot_at = next_snapshot(size, taken)?;
        }
        Ok(())
    }

    /// Sets the timer to the core's deadline. A timer that rings too early does no harm, so it is only moved forward
    /// when it has rung or would ring too late.
    fn wind(&self, timer: Pin<&mut Sleep>) {
        let deadline = self
            .agent
            .next_deadline()
            .map_or_else(|| Instant::now() + IDLE, |deadline| self.clock.instant(deadline));
        if timer.is_elapsed() || timer.deadline() > deadline {
            timer.reset(deadline);
        }
    }

    async fn stop(
        mut self,
        mut inbox: mpsc::Receiver<Event>,
        mut keeper: JoinSet<()>,
        dialer: &Dialer,
    ) {
        if let Err(error) = self.journal.append(&self.unsynced) {
            tracing::error!(%error, "cannot write the last records");
        }
        if let Some((_id, control)) = self.rooms.session.take() {
            // A master that is told nothing finds out.
            drop(control.try_send(AgentMessage::Goodbye));
        } else {
            keeper.abort_all();
        }
        // Nothing is handled any more; whoever still has something to say is told so.
        inbox.close();
        while inbox.try_recv().is_ok() {}
        drop(inbox);
        // The end of its commands is the end of a cell, and of a scheduler's stream.
        self.rooms.cells.clear();
        self.rooms.schedulers.clear();
        let cells = async { while self.rooms.cell_tasks.join_next().await.is_some() {} };
        let session = async { while keeper.join_next().await.is_some() {} };
        let farewell = async { tokio::join!(cells, session) };
        if tokio::time::timeout(FAREWELL, farewell).await.is_err() {
            tracing::debug!("not all has ended by itself");
        }
        // Aborting what is left kills the children that it owns.
        keeper.shutdown().await;
        self.rooms.cell_tasks.shutdown().await;
        self.rooms.jobs.shutdown().await;
        dialer.close(CloseCode::Stopping);
        if tokio::time::timeout(FAREWELL, dialer.wait_idle()).await.is_err() {
            tracing::debug!("a master did not take leave");
        }
        self.rooms.folders.close();
    }
}

/// Writes down what must be before orders are carried out, with one sync at the most; then carries them out. If it cannot
/// be written, no order is carried out, now or later.
///
/// On the loop's own thread, on purpose: see the crate's introduction.
fn carry_out(
    effects: &mut Effects,
    unsynced: &mut Vec<Vec<u8>>,
    append: impl FnOnce(&[Vec<u8>]) -> Result<(), AgentError>,
    mut perform: impl FnMut(Effect),
) -> Result<(), AgentError> {
    let must_sync = effects.needs_sync();
    for record in effects.records.drain(..) {
        unsynced.push(record.encode()?);
    }
    if must_sync || unsynced.len() >= UNSYNCED {
        append(unsynced)?;
        unsynced.clear();
    }
    effects.orders.drain(..).for_each(&mut perform);
    effects.clear();
    Ok(())
}

fn dialer(config: &AgentConfig, root: &Path) -> Result<Dialer, AgentError> {
    let path = config.identity.clone().unwrap_or_else(|| root.join("identity.pem"));
    let identity = Identity::load(&path)?;
    let wanted = PeerIdentity { role: PeerRole::Agent, name: config.name.clone() };
    match identity.peer() {
        Ok(found) if found == wanted => Ok(tepui_transport::client(&identity)?),
        Ok(found) => {
            Err(AgentError::Name { found: found.to_string(), wanted: config.name.clone() })
        }
        Err(error) => {
            Err(AgentError::Name { found: error.to_string(), wanted: config.name.clone() })
        }
    }
}

fn recover(
    config: &AgentConfig,
    life: tepui_proto::Life,
    clock: Clock,
    recovered: Recovered,
) -> Result<(Agent, Effects), AgentError> {
    let profile = Profile {
        name: config.name.clone(),
        life,
        hostname: config.hostname.clone().unwrap_or_else(|| config.name.clone()),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        resources: config.resources(),
        pools: config.pools(),
        attributes: config.attributes(),
        domain: config.domain(),
        max_tasks: crate::max_tasks(),
    };
    let snapshot =
        recovered.snapshot.map(|(_index, bytes)| Snapshot::decode(&bytes)).transpose()?;
    let records = recovered
        .records
        .iter()
        .map(|(_index, bytes)| Record::decode(bytes))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Agent::recover(profile, clock.now(), snapshot, records))
}

#[cfg(test)]
mod tests;
