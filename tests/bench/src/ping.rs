//! `accept-to-final`: from an accepted offer to the terminal status, as a scheduler sees them, one task at a time.
//!
//! A guest has no clock but that of its turn, so this process takes the scheduler's place: it joins the cluster as an agent
//! of its own, over real QUIC with a certificate of the cluster's authority, and is the one that holds back enough for a
//! scheduler that asks for [`SCHEDULER_CPUS`]. It answers each turn at once and runs nothing else; tasks can only go to the real agent,
//! since the scheduler wants no other. The time begins before the answer with the acceptance is written, and ends when the
//! turn with the terminal status is read. Between them lie: QUIC, the master's commit (one sync), QUIC, the agent's record
//! (one sync), its cell, the run, the agent's report (one sync), QUIC, the master's commit (one sync), QUIC. What is not in
//! it is the turn of a Wasm scheduler, which `turn-100` and `cell-hop` tell; `tasks` has the whole round trip with it as
//! `one_at_a_time_us`, offers included.

use crate::cluster::{AGENT, Cluster};
use crate::row::Row;
use crate::{Bench, Failure};
use std::time::{Duration, Instant};
use tepui_proto::calls::{Acceptance, Call, Comparison, Constraint, Operation, Want};
use tepui_proto::control::{
    AgentMessage, AgentStream, Hello, MasterMessage, MasterStream, ModuleVerdict,
};
use tepui_proto::events::{Event, Offer};
use tepui_proto::scheduler::{FromScheduler, ToScheduler, TurnMark, TurnUsage};
use tepui_proto::{
    DurationMs, LaunchNumber, Life, OfferId, Resources, Role, TaskSpec, TaskState, Term,
};
use tepui_transport::{Authority, Connection, PeerRole, QuicReader, QuicWriter};

/// More than the real agent holds back for schedulers; a place there is preferred to one among the tasks.
const SCHEDULER_CPUS: u64 = 1;
/// A twentieth of it is held back for schedulers.
const OWN_CPU_MILLI: u64 = 2_000_000;
const OWN_MEMORY_BYTES: u64 = 4 << 30;
const NAME: &str = "bench";
const WARM_UP: usize = 200;
const SAMPLES: usize = 2_000;
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Longer than anything may take here.
const MOST: Duration = Duration::from_mins(2);

pub(crate) fn measure(bench: &Bench, cluster: &Cluster) -> Result<Row, Failure> {
    let authority = Authority::load(&cluster.authority())?;
    let identity = authority.issue(PeerRole::Agent, NAME, &[])?;
    let address = cluster.quic()?;
    // Two threads, as the processes of a cluster have: a heartbeat disturbs no sample.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let spans = runtime.block_on(async {
        let dialer = tepui_transport::client(&identity)?;
        let connection = dialer.dial(address).await?;
        let control = join(&connection).await?;
        let attending = tokio::spawn(attend(control));
        let manifest = format!(
            "name = \"ping\"\nroles = [\"*\"]\nscheduler = \"turn-100.wasm\"\n\n\
             [modules]\nnoop = \"noop.wasm\"\n\n[resources]\ncpus = \"{SCHEDULER_CPUS}\"\n"
        );
        let modules = ["turn-100.wasm", "noop.wasm"];
        tokio::task::block_in_place(|| cluster.submit(bench, ("ping", &manifest), &modules, &[]))?;
        let spans = tokio::time::timeout(MOST, host(&connection)).await??;
        attending.abort();
        Ok::<_, Failure>(spans)
    })?;
    cluster.ask(&["framework", "stop", "ping"])?;
    Ok(Row::of("accept-to-final", spans))
}

/// Says hello and waits for the welcome.
async fn join(connection: &Connection) -> Result<(QuicWriter, QuicReader), Failure> {
    let (mut writer, mut reader) = connection.open().await?;
    let hello = Hello {
        life: Life(1),
        term: Term(0),
        hostname: NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        resources: Resources::cpu_memory(OWN_CPU_MILLI, OWN_MEMORY_BYTES),
        pools: Vec::new(),
        attributes: Vec::new(),
        domain: None,
        max_tasks: tepui_proto::limits::CELL_INSTANCES,
        has_room: true,
        launch_mark: LaunchNumber(0),
        tasks: Vec::new(),
        has_more_tasks: false,
        reports: Vec::new(),
    };
    writer.write(&AgentStream::Control).await?;
    writer.write(&AgentMessage::Hello(Box::new(hello))).await?;
    loop {
        match reader.read().await? {
            Some(MasterMessage::Welcome { .. }) => return Ok((writer, reader)),
            Some(MasterMessage::Refused { code, message, .. }) => {
                return Err(format!("the master refuses the bench ({code}): {message}").into());
            }
            Some(_) => {}
            None => return Err("the master hung up".into()),
        }
    }
}

/// Keeps the session up. Modules are the real agent's business.
async fn attend((mut writer, mut reader): (QuicWriter, QuicReader)) -> Result<(), Failure> {
    let mut beat = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            message = reader.read() => match message? {
                Some(MasterMessage::CheckModule { digest, kind }) => {
                    let verdict = ModuleVerdict::Unknown("the bench compiles nothing".to_owned());
                    writer.write(&AgentMessage::ModuleChecked { digest, kind, verdict }).await?;
                }
                Some(_) => {}
                None => return Ok(()),
            },
            _ = beat.tick() => writer.write(&AgentMessage::Heartbeat).await?,
        }
    }
}

/// Takes the stream of the scheduler and plays it.
async fn host(connection: &Connection) -> Result<Vec<Duration>, Failure> {
    let (writer, mut reader) = connection.accept().await?;
    let Some(MasterStream::Scheduler(_)) = reader.read().await? else {
        return Err("the master opened another stream than that of the scheduler".into());
    };
    let mut player = Player { writer, reader, role: Role::default(), made: 0 };
    let mut spans = Vec::with_capacity(SAMPLES);
    for at in 0..WARM_UP + SAMPLES {
        let span = player.play().await?;
        if at >= WARM_UP {
            spans.push(span);
        }
    }
    Ok(spans)
}

/// A scheduler that is no guest.
struct Player {
    writer: QuicWriter,
    reader: QuicReader,
    role: Role,
    made: u64,
}

impl Player {
    /// One task from its offer to its end; the time is from the acceptance on.
    async fn play(&mut self) -> Result<Duration, Failure> {
        self.made += 1;
        let id = format!("t{}", self.made);
        loop {
            let (mark, events) = self.turn().await?;
            if let Some(offer) = offer_of(&events) {
                let begun = Instant::now();
                self.answer(mark, vec![accept(offer, &id)]).await?;
                return self.until_final(&id, begun).await;
            }
            // At the beginning, and not again: the end of a task states the want of the next.
            self.answer(mark, vec![Call::Want(Some(vec![want(&self.role)]))]).await?;
        }
    }

    async fn until_final(&mut self, id: &str, begun: Instant) -> Result<Duration, Failure> {
        loop {
            let (mark, events) = self.turn().await?;
            let ended = events.iter().find_map(|event| match event {
                Event::TaskUpdated(status) if status.task.as_str() == id => {
                    status.state.is_final().then_some(status.state)
                }
                _ => None,
            });
            let span = begun.elapsed();
            match ended {
                Some(TaskState::Finished) => {
                    let next = vec![Call::Want(Some(vec![want(&self.role)]))];
                    self.answer(mark, next).await?;
                    return Ok(span);
                }
                Some(state) => return Err(format!("task {id} ended as {state:?}").into()),
                None => self.answer(mark, Vec::new()).await?,
            }
        }
    }

    /// The next turn.
    async fn turn(&mut self) -> Result<(TurnMark, Vec<Event>), Failure> {
        loop {
            match self.reader.read().await? {
                Some(ToScheduler::Turn { mark, events, .. }) => {
                    for event in &events {
                        match event {
                            Event::Started(start) => {
                                self.role = start.roles.first().cloned().unwrap_or_default();
                            }
                            Event::Refused(refusal) => {
                                return Err(
                                    format!("a call was refused: {}", refusal.message).into()
                                );
                            }
                            _ => {}
                        }
                    }
                    return Ok((mark, events));
                }
                Some(ToScheduler::State { .. } | ToScheduler::Open(_)) => {}
                None => return Err("the master ended the scheduler".into()),
            }
        }
    }

    async fn answer(&mut self, mark: TurnMark, calls: Vec<Call>) -> Result<(), Failure> {
        let usage = TurnUsage::default();
        let answer = FromScheduler::Answer { mark, calls, usage, log: Vec::new(), dropped: false };
        Ok(self.writer.write(&answer).await?)
    }
}

fn offer_of(events: &[Event]) -> Option<OfferId> {
    let offers = events.iter().find_map(|event| match event {
        Event::Offers(offers) => Some(offers),
        _ => None,
    });
    offers.and_then(|offers: &Vec<Offer>| offers.first()).map(|offer| offer.id)
}

fn each() -> Resources {
    Resources::cpu_memory(100, 4 << 20)
}

fn want(role: &Role) -> Want {
    let there = Constraint {
        attribute: "@hostname".to_owned(),
        comparison: Comparison::Equals,
        operand: AGENT.to_owned(),
    };
    Want {
        id: 0,
        role: role.clone(),
        count: 1,
        each: each(),
        port_count: 0,
        revocable: false,
        constraints: vec![there],
    }
}

fn accept(offer: OfferId, id: &str) -> Call {
    Call::Accept(Acceptance {
        offers: vec![offer],
        operations: vec![Operation::Launch(TaskSpec::command(id, "noop", each()))],
        refuse_for: Some(DurationMs(0)),
    })
}
