//! The ways to agents, as the driver has them: a queue each, emptied by a writer of its own.
//!
//! What waits is bounded by what the leader keeps anyway: a launch once, a kill for each launch, the last
//! acknowledgement. Messages to tasks may be lost, and are where too many wait; nobody's connection ends for them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tepui_master_core::ConnectionId;
use tepui_proto::LaunchNumber;
use tepui_proto::control::MasterMessage;
use tepui_transport::session::QuicWriter;
use tepui_transport::{CloseCode, Connection, StreamError};
use tokio::sync::Notify;

/// Messages to tasks that wait for one agent ...
const TASK_MESSAGES: usize = 1_024;
/// ... and their bytes.
const TASK_MESSAGE_BYTES: usize = 4 << 20;
/// Messages that wait for one agent, whatever they are: more than it can owe, so it does not read.
const WAITING: usize = 65_536;
/// Messages that leave in one write ...
const TOGETHER: usize = 256;
/// ... and after how many bytes of launches and messages to tasks no more are put to them.
const TOGETHER_BYTES: usize = 4 << 20;
/// How long a peer has to read the last words before its connection is closed.
const LINGER: Duration = Duration::from_secs(1);

/// What waits for one agent.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<MasterMessage>,
    /// How many were taken from the front so far: the place of a message is its number less this.
    taken: u64,
    /// The number of the waiting kill of a launch.
    kills: BTreeMap<LaunchNumber, u64>,
    /// The number of the waiting acknowledgement.
    acknowledgement: Option<u64>,
    /// Messages to tasks, and their bytes.
    to_tasks: (usize, usize),
    /// The last word, after which nothing is taken in.
    close: Option<CloseCode>,
    /// Whether the driver has let go of the link.
    is_over: bool,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pushed {
    Waits,
    /// It was for a task, and too many wait.
    Lost,
    /// The agent does not read.
    Full,
}

impl Queue {
    fn push(&mut self, message: MasterMessage) -> Pushed {
        if self.close.is_some() {
            return Pushed::Waits;
        }
        let number = self.taken + self.waiting.len() as u64;
        match &message {
            MasterMessage::Kill { launch, .. } => {
                if let Some(earlier) = self.kills.get(launch).copied() {
                    return self.replace(earlier, message);
                }
                self.kills.insert(*launch, number);
            }
            MasterMessage::Acknowledge(_) => {
                if let Some(earlier) = self.acknowledgement {
                    return self.replace(earlier, message);
                }
                self.acknowledgement = Some(number);
            }
            MasterMessage::Message { data, .. } => {
                let (count, bytes) = self.to_tasks;
                if count >= TASK_MESSAGES || bytes + data.len() > TASK_MESSAGE_BYTES {
                    return Pushed::Lost;
                }
                self.to_tasks = (count + 1, bytes + data.len());
            }
            MasterMessage::Welcome { .. }
            | MasterMessage::Refused { .. }
            | MasterMessage::Launch { .. }
            | MasterMessage::CheckModule { .. }
            | MasterMessage::Forget(_) => {}
        }
        if self.waiting.len() >= WAITING {
            return Pushed::Full;
        }
        self.waiting.push_back(message);
        Pushed::Waits
    }

    /// The newer of two messages stands in the place of the older; of two kills, the one with less grace counts.
    fn replace(&mut self, number: u64, message: MasterMessage) -> Pushed {
        let place = usize::try_from(number - self.taken).ok();
        let Some(old) = place.and_then(|place| self.waiting.get_mut(place)) else {
            return Pushed::Waits;
        };
        let is_milder = match (&*old, &message) {
            (MasterMessage::Kill { grace: old, .. }, MasterMessage::Kill { grace, .. }) => {
                grace > old
            }
            _ => false,
        };
        if !is_milder {
            *old = message;
        }
        Pushed::Waits
    }

    /// Takes the next messages, as many as leave in one write; none if nothing waits.
    fn take(&mut self, messages: &mut Vec<MasterMessage>) {
        let mut bytes = 0;
        while messages.len() < TOGETHER
            && bytes < TOGETHER_BYTES
            && let Some(message) = self.waiting.pop_front()
        {
            self.taken += 1;
            match &message {
                MasterMessage::Kill { launch, .. } => {
                    self.kills.remove(launch);
                }
                MasterMessage::Acknowledge(_) => self.acknowledgement = None,
                MasterMessage::Message { data, .. } => {
                    self.to_tasks.0 -= 1;
                    self.to_tasks.1 -= data.len();
                    bytes += data.len();
                }
                MasterMessage::Launch { launches, .. } => {
                    bytes +=
                        launches.iter().map(tepui_proto::control::Launch::weight).sum::<usize>();
                }
                MasterMessage::Welcome { .. }
                | MasterMessage::Refused { .. }
                | MasterMessage::CheckModule { .. }
                | MasterMessage::Forget(_) => {}
            }
            messages.push(message);
        }
    }
}

/// A queue that its writer waits for.
#[derive(Debug, Default)]
pub(super) struct Outbound {
    queue: Mutex<Queue>,
    filled: Notify,
}

impl Outbound {
    /// Nothing panics while it is held, and a queue is never left half changed.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way to one agent.
#[derive(Debug)]
pub(crate) struct Link {
    connection: Connection,
    outbound: Arc<Outbound>,
}

impl Link {
    /// A link, and what its writer empties.
    pub(super) fn new(connection: Connection) -> (Self, Arc<Outbound>) {
        let outbound = Arc::new(Outbound::default());
        (Self { connection, outbound: Arc::clone(&outbound) }, outbound)
    }

    fn tell(&self, message: MasterMessage) {
        let pushed = self.outbound.queue().push(message);
        match pushed {
            Pushed::Waits => self.outbound.filled.notify_one(),
            Pushed::Lost => {
                tracing::debug!(agent = %self.connection.peer(), "a message to a task is lost: too many wait");
            }
            Pushed::Full => {
                tracing::warn!(agent = %self.connection.peer(), "closed: it does not read what it is sent");
                self.connection.close(CloseCode::StreamLost, "too many messages wait to be read");
            }
        }
    }

    fn close(&self, code: CloseCode) {
        let mut queue = self.outbound.queue();
        queue.close = queue.close.or(Some(code));
        drop(queue);
        self.outbound.filled.notify_one();
    }
}

/// All ways to agents.
#[derive(Debug, Default)]
pub(crate) struct Links {
    links: BTreeMap<ConnectionId, Link>,
}

impl Links {
    pub(crate) fn insert(&mut self, connection: ConnectionId, link: Link) {
        self.links.insert(connection, link);
    }

    pub(crate) fn remove(&mut self, connection: ConnectionId) {
        self.links.remove(&connection);
    }

    /// Agents that have said hello and are connected.
    pub(crate) fn count(&self) -> usize {
        self.links.len()
    }

    pub(crate) fn connection(&self, connection: ConnectionId) -> Option<Connection> {
        self.links.get(&connection).map(|link| link.connection.clone())
    }

    /// Sends a message; a connection that is gone is passed over.
    pub(crate) fn send(&self, connection: ConnectionId, message: MasterMessage) {
        if let Some(link) = self.links.get(&connection) {
            link.tell(message);
        }
    }

    /// Closes a connection after what was sent before.
    pub(crate) fn close(&mut self, connection: ConnectionId, code: &str) {
        if let Some(link) = self.links.remove(&connection) {
            link.close(close_code(code));
        }
    }

    /// Closes all at once.
    pub(crate) fn close_all(&mut self, code: CloseCode) {
        for link in std::mem::take(&mut self.links).into_values() {
            link.connection.close(code, "");
        }
    }
}

/// The wire's word for the leader's; a code that the wire has no number for was said as a refusal before.
fn close_code(code: &str) -> CloseCode {
    match code {
        "session-replaced" => CloseCode::Superseded,
        "silent" => CloseCode::StreamSilent,
        _ => CloseCode::ALL
            .iter()
            .copied()
            .find(|known| known.code() == code)
            .unwrap_or(CloseCode::Refused),
    }
}

/// Writes what is told, as much as waits in one go, until it is told to close or its link is gone.
pub(super) async fn write(
    connection: &Connection,
    mut writer: QuicWriter,
    outbound: Arc<Outbound>,
) -> Result<(), StreamError> {
    let mut messages = Vec::with_capacity(TOGETHER);
    loop {
        let (close, is_over) = {
            let mut queue = outbound.queue();
            queue.take(&mut messages);
            // Only once all that was said before is written.
            (queue.close.filter(|_| queue.waiting.is_empty()), queue.is_over)
        };
        if !messages.is_empty() {
            writer.write_all(&messages).await?;
            messages.clear();
        } else if close.is_none() {
            // The driver has let go of the link, so nothing more is to be said.
            if is_over {
                return Ok(());
            }
            outbound.filled.notified().await;
        }
        if let Some(code) = close {
            writer.finish().await?;
            // A peer that was refused closes once it has read why; others wait for the code, which comes after that.
            drop(tokio::time::timeout(LINGER, connection.closed()).await);
            connection.close(code, "");
            return Ok(());
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.outbound.queue().is_over = true;
        self.outbound.filled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tepui_proto::{DurationMs, FrameworkId, ReportSeq, TaskKey, Term};

    fn kill(launch: u64, ms: u64) -> MasterMessage {
        MasterMessage::Kill {
            term: Term(1),
            launch: LaunchNumber(launch),
            key: TaskKey { framework: FrameworkId(1), task: "t".into() },
            grace: DurationMs(ms),
        }
    }

    fn message(bytes: usize) -> MasterMessage {
        MasterMessage::Message { launch: LaunchNumber(1), data: vec![0; bytes] }
    }

    fn taken(queue: &mut Queue) -> Vec<MasterMessage> {
        let mut all = Vec::new();
        loop {
            let mut some = Vec::new();
            queue.take(&mut some);
            if some.is_empty() {
                return all;
            }
            all.extend(some);
        }
    }

    #[test]
    fn a_launch_has_one_kill_waiting_that_with_the_least_grace() {
        let mut queue = Queue::default();
        for round in 0..5_000 {
            assert_eq!(queue.push(kill(7, 10_000 - round)), Pushed::Waits);
            assert_eq!(queue.push(kill(8, round)), Pushed::Waits);
        }
        assert_eq!(taken(&mut queue), [kill(7, 5_001), kill(8, 0)]);
        // What was taken is not there to be replaced any more.
        assert_eq!(queue.push(kill(7, 3)), Pushed::Waits);
        assert_eq!(taken(&mut queue), [kill(7, 3)]);
    }

    #[test]
    fn the_last_acknowledgement_is_the_one_that_counts() {
        let mut queue = Queue::default();
        for seq in 0..5_000 {
            queue.push(MasterMessage::Acknowledge(ReportSeq(seq)));
        }
        assert_eq!(taken(&mut queue), [MasterMessage::Acknowledge(ReportSeq(4_999))]);
    }

    #[test]
    fn messages_to_tasks_are_lost_beyond_a_bound_and_nothing_else_is() {
        let mut queue = Queue::default();
        let pushed: Vec<Pushed> = (0..TASK_MESSAGES + 5).map(|_| queue.push(message(1))).collect();
        assert_eq!(pushed.iter().filter(|pushed| **pushed == Pushed::Lost).count(), 5);
        assert_eq!(queue.push(kill(1, 1)), Pushed::Waits);
        assert_eq!(taken(&mut queue).len(), TASK_MESSAGES + 1);
        assert_eq!(queue.push(message(TASK_MESSAGE_BYTES)), Pushed::Waits, "there is room again");
        assert_eq!(queue.push(message(1)), Pushed::Lost, "but not for so many bytes");
    }
}
