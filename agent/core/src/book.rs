//! What an agent has written down: terms, launches, reports, and what the master says it has.
//!
//! [`Book::apply`] is the only writer, in life as in recovery. Its surprise: a task whose end is acknowledged leaves the
//! table at once; only its logs stay, for the [`KEPT_LOGS`] newest and in [`limits::KEPT_LOG_BYTES`] at the most.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tepui_proto::control::{Launch, Report, ReportBody};
use tepui_proto::{LaunchNumber, Life, ReportSeq, TaskKey, TaskStatus, Term, limits};

/// Ended tasks whose logs are kept, the newest: as many as the master keeps of one framework.
pub const KEPT_LOGS: usize = limits::ENDED_TASKS;

/// The first byte of every record and snapshot. Another number means another form.
const VERSION: u8 = 1;

/// Something that is written down. New kinds are added at the end; a kind is never changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A term was obeyed: lower ones no longer count.
    Term(Term),
    /// A launch was taken, and the mark with it.
    Launched(Box<Launch>),
    /// A launch that was killed before it came must not be started if it comes.
    Fenced(LaunchNumber),
    /// The master is to hear this.
    Reported(Report),
    /// The task wrote so much past its log limit.
    LogsCut {
        /// Whose.
        launch: LaunchNumber,
        /// Of standard output and standard error.
        dropped: (u64, u64),
    },
    /// The master has all reports up to this one.
    Acknowledged(ReportSeq),
    /// The master needs these tasks no longer.
    Forgotten(Vec<LaunchNumber>),
}

/// Why bytes are not a record or a snapshot of this version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Another version wrote it.
    #[error("version {0}; version {VERSION} is read here")]
    Version(u8),
    /// It cannot be read.
    #[error("it cannot be read")]
    Body,
}

impl Record {
    /// Whether orders must wait until it is on disk.
    pub fn needs_sync(&self) -> bool {
        !matches!(self, Self::Acknowledged(_) | Self::Forgotten(_))
    }

    /// The record as bytes, with its version.
    ///
    /// # Errors
    /// None that can happen to a record of a task within its limits.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        encode(self)
    }

    /// Reads what [`Record::encode`] wrote.
    ///
    /// # Errors
    /// Another version, or bytes that are not a record.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        decode(bytes)
    }
}

fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, RecordError> {
    let mut bytes = Vec::with_capacity(256);
    bytes.push(VERSION);
    postcard::to_extend(value, bytes).map_err(|_unreadable| RecordError::Body)
}

fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, RecordError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            Ok(_) | Err(_) => Err(RecordError::Body),
        },
        Some((version, _)) => Err(RecordError::Version(*version)),
        None => Err(RecordError::Body),
    }
}

/// A task as it is written down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Whose.
    pub key: TaskKey,
    /// What to run; none once it has ended, because the specification is the large part.
    pub launch: Option<Box<Launch>>,
    /// The latest.
    pub status: TaskStatus,
    /// Log bytes that were not kept.
    pub dropped: (u64, u64),
}

/// The logs of a task that has ended and was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLogs {
    /// Whose.
    pub launch: LaunchNumber,
    /// Log bytes that were not kept.
    pub dropped: (u64, u64),
    /// How large they are. Not written down: the files tell it after a restart.
    #[serde(skip)]
    pub bytes: u64,
}

/// Everything that outlives a crash.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Book {
    /// The storage that all of it belongs to.
    pub(crate) life: Life,
    /// The highest term obeyed.
    pub(crate) term: Term,
    /// The highest launch taken.
    pub(crate) mark: LaunchNumber,
    /// Above the mark, and never to be started.
    pub(crate) fenced: BTreeSet<LaunchNumber>,
    /// The last report that was made.
    pub(crate) last_report: ReportSeq,
    /// Not yet acknowledged.
    pub(crate) reports: BTreeMap<ReportSeq, Report>,
    /// Not ended, or their end is not acknowledged.
    pub(crate) tasks: BTreeMap<LaunchNumber, Task>,
    /// Ended, oldest first.
    pub(crate) kept: VecDeque<KeptLogs>,
    /// The sum of theirs.
    #[serde(skip)]
    pub(crate) kept_bytes: u64,
    /// What it may be, if this agent's disk is small.
    #[serde(skip)]
    pub(crate) kept_bytes_max: Option<u64>,
}

/// Everything that records up to some point add up to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot(pub(crate) Book);

impl Snapshot {
    /// The snapshot as bytes, with its version.
    ///
    /// # Errors
    /// None that can happen to the state of an agent.
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        encode(self)
    }

    /// Reads what [`Snapshot::encode`] wrote.
    ///
    /// # Errors
    /// Another version, or bytes that are not a snapshot.
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        decode(bytes)
    }
}

impl Book {
    /// Takes a record in. Adds to `gone` the tasks whose logs are no longer kept.
    pub(crate) fn apply(&mut self, record: &Record, gone: &mut Vec<LaunchNumber>) {
        match record {
            Record::Term(term) => self.term = self.term.max(*term),
            Record::Launched(launch) => self.on_launched(launch),
            Record::Fenced(launch) => {
                self.fenced.insert(*launch);
            }
            Record::Reported(report) => self.on_reported(report),
            Record::LogsCut { launch, dropped } => {
                if let Some(task) = self.tasks.get_mut(launch) {
                    task.dropped = *dropped;
                }
            }
            Record::Acknowledged(seq) => self.on_acknowledged(*seq, gone),
            Record::Forgotten(launches) => {
                for launch in launches {
                    self.on_ended_for_good(*launch, gone);
                }
            }
        }
    }

    fn on_launched(&mut self, launch: &Launch) {
        self.mark = self.mark.max(launch.number);
        let mark = self.mark;
        self.fenced.retain(|number| *number > mark);
        let status = TaskStatus {
            task: launch.key.task.clone(),
            agent: None,
            state: tepui_proto::TaskState::Starting,
            reason: tepui_proto::Reason::None,
            message: String::new(),
            exit_code: None,
            outputs: Vec::new(),
            usage: tepui_proto::Usage::default(),
            at: tepui_proto::Timestamp::default(),
        };
        let task = Task {
            key: launch.key.clone(),
            launch: Some(Box::new(launch.clone())),
            status,
            dropped: (0, 0),
        };
        self.tasks.insert(launch.number, task);
    }

    fn on_reported(&mut self, report: &Report) {
        self.last_report = self.last_report.max(report.seq);
        self.reports.insert(report.seq, report.clone());
        let ReportBody::Status(status) = &report.body else { return };
        // A task that is not in the table was killed before it came; it is here only to be reported.
        let task = self.tasks.entry(report.launch).or_insert_with(|| Task {
            key: report.key.clone(),
            launch: None,
            status: status.clone(),
            dropped: (0, 0),
        });
        task.status.clone_from(status);
        if status.state.is_final() {
            task.launch = None;
        }
    }

    fn on_acknowledged(&mut self, seq: ReportSeq, gone: &mut Vec<LaunchNumber>) {
        let later = self.reports.split_off(&seq.next());
        for report in std::mem::replace(&mut self.reports, later).into_values() {
            if matches!(report.body, ReportBody::Status(status) if status.state.is_final()) {
                self.on_ended_for_good(report.launch, gone);
            }
        }
    }

    /// The master has a task's end, if it has ended: of the task only the logs stay.
    fn on_ended_for_good(&mut self, launch: LaunchNumber, gone: &mut Vec<LaunchNumber>) {
        let has_ended = self.tasks.get(&launch).is_some_and(|task| task.status.state.is_final());
        let Some(task) = has_ended.then(|| self.tasks.remove(&launch)).flatten() else { return };
        let (out, err) = task.dropped;
        let bytes = task.status.usage.log_bytes.saturating_sub(out.saturating_add(err));
        self.kept.push_back(KeptLogs { launch, dropped: task.dropped, bytes });
        self.kept_bytes = self.kept_bytes.saturating_add(bytes);
        self.keep_within_bounds(gone);
    }

    /// How large kept logs are, as their files say.
    pub(crate) fn on_logs_found(
        &mut self,
        sizes: &BTreeMap<LaunchNumber, u64>,
        most: u64,
        gone: &mut Vec<LaunchNumber>,
    ) {
        for logs in &mut self.kept {
            logs.bytes = sizes.get(&logs.launch).copied().unwrap_or(0);
        }
        self.kept_bytes_max = Some(most);
        self.kept_bytes = self.kept.iter().map(|logs| logs.bytes).fold(0, u64::saturating_add);
        self.keep_within_bounds(gone);
    }

    fn keep_within_bounds(&mut self, gone: &mut Vec<LaunchNumber>) {
        let most = self.kept_bytes_max.unwrap_or(limits::KEPT_LOG_BYTES);
        while self.kept.len() > KEPT_LOGS || self.kept_bytes > most {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.kept_bytes = self.kept_bytes.saturating_sub(oldest.bytes);
            gone.push(oldest.launch);
        }
    }
}
