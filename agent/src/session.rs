//! The talk with masters: dial, say hello, carry messages, come back when it ends.
//!
//! One session at a time: the one before is closed before the next is dialled. Never looks into a message beyond
//! welcome and refusal. A master that cannot be reached is tried again, with jittered back-off.

use std::time::Duration;
use tepui_proto::control::{AgentMessage, AgentStream, MasterMessage, MasterStream};
use tepui_transport::{
    Backoff, CloseCode, Connection, Dialer, QuicReader, QuicWriter, StreamError,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::folders::Folders;
use crate::rooms::Event;
use crate::{hosting, logs};

/// Messages that may wait for the master. Reports beyond it are said again in the next session.
const MESSAGES: usize = 4_096;
/// Messages in one write, and to the loop at once.
const BATCH: usize = 256;
/// Streams of one connection that are served at once.
const STREAMS: usize = 4_096;
/// How long the first frame of a stream may take.
const FIRST_FRAME: Duration = Duration::from_secs(5);
/// How long the master may take to hang up after a goodbye.
const FAREWELL: Duration = Duration::from_millis(500);
/// How long a master may take to say why it ended a session.
const LAST_WORD: Duration = Duration::from_secs(2);
/// Bounds of the wait between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// Why a session ended.
#[derive(Debug)]
enum End {
    /// For now.
    Over(String),
    /// For good.
    Refused { code: String, message: String },
}

/// What keeps an agent in touch with a master.
#[derive(Debug)]
pub(crate) struct Sessions {
    pub(crate) dialer: Dialer,
    pub(crate) masters: Vec<String>,
    pub(crate) folders: Folders,
    pub(crate) inbox: mpsc::Sender<Event>,
    /// The connection to a master that has said welcome.
    pub(crate) link: watch::Sender<Option<Connection>>,
}

impl Sessions {
    /// Goes on until the loop stops, or a master refuses this agent for good.
    pub(crate) async fn keep(self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        for (id, master) in (0_u64..).zip(self.masters.iter().cycle()) {
            let end = match self.dial(master).await {
                Ok(connection) => {
                    let end = self.hold(id, &connection, &mut backoff).await;
                    self.link.send_replace(None);
                    if self.inbox.send(Event::SessionClosed { id }).await.is_err() {
                        return;
                    }
                    end
                }
                Err(why) => End::Over(why),
            };
            match end {
                End::Over(why) => tracing::info!(master, why, "not connected"),
                End::Refused { code, message } => {
                    // The loop may have stopped.
                    drop(self.inbox.send(Event::Refused { code, message }).await);
                    return;
                }
            }
            if self.inbox.is_closed() {
                return;
            }
            tokio::time::sleep(backoff.next(rand::random())).await;
        }
    }

    async fn dial(&self, master: &str) -> Result<Connection, String> {
        let addresses = tokio::net::lookup_host(master)
            .await
            .map_err(|error| format!("cannot look up `{master}`: {error}"))?;
        let mut last = format!("`{master}` has no address");
        for address in addresses {
            match self.dialer.dial(address).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = with_sources(&error),
            }
        }
        Err(last)
    }

    async fn hold(&self, id: u64, connection: &Connection, backoff: &mut Backoff) -> End {
        let end = self.talk(id, connection, backoff).await;
        match end {
            Ok(end) => {
                connection.close(CloseCode::Done, "");
                end
            }
            Err(error) => {
                connection.close(CloseCode::from(&error), "");
                let closed = connection
                    .close_reason()
                    .map(|reason| format!("; {reason}"))
                    .unwrap_or_default();
                End::Over(format!("{}{closed}", with_sources(&error)))
            }
        }
    }

    async fn talk(
        &self,
        id: u64,
        connection: &Connection,
        backoff: &mut Backoff,
    ) -> Result<End, StreamError> {
        let opened = tokio::time::timeout(FIRST_FRAME, connection.open()).await;
        let (mut writer, reader) = match opened {
            Ok(Ok(streams)) => streams,
            Ok(Err(error)) => return Ok(End::Over(error.to_string())),
            Err(_late) => return Ok(End::Over("the master lets no stream be opened".to_owned())),
        };
        writer.write(&AgentStream::Control).await?;
        let (control, messages) = mpsc::channel(MESSAGES);
        if self.inbox.send(Event::SessionOpened { id, control }).await.is_err() {
            return Ok(End::Over("the agent stops".to_owned()));
        }
        let reading = self.read(id, connection, reader, backoff);
        let writing = write(writer, messages);
        let serving = self.serve(connection);
        tokio::pin!(reading);
        tokio::select! {
            end = &mut reading => end,
            why = serving => Ok(End::Over(why)),
            written = writing => {
                written?;
                // All was said; a master that was told goodbye hangs up.
                match tokio::time::timeout(FAREWELL, reading).await {
                    Ok(end) => end,
                    Err(_late) => Ok(End::Over("closed from here".to_owned())),
                }
            }
        }
    }

    async fn read(
        &self,
        id: u64,
        connection: &Connection,
        mut reader: QuicReader,
        backoff: &mut Backoff,
    ) -> Result<End, StreamError> {
        while let Some(first) = reader.read::<MasterMessage>().await? {
            let mut messages = vec![first];
            while messages.len() < BATCH
                && let Some(message) = reader.pop()?
            {
                messages.push(message);
            }
            for message in &messages {
                match message {
                    MasterMessage::Welcome { .. } => {
                        tracing::info!(session = id, "a master has taken this agent in");
                        backoff.reset();
                        self.link.send_replace(Some(connection.clone()));
                    }
                    MasterMessage::Refused { code, message, retry: true } => {
                        return Ok(End::Over(format!("refused ({code}): {message}")));
                    }
                    MasterMessage::Refused { code, message, retry: false } => {
                        return Ok(End::Refused { code: code.clone(), message: message.clone() });
                    }
                    _ => {}
                }
            }
            if self.inbox.send(Event::MasterSaid { session: id, messages }).await.is_err() {
                return Ok(End::Over("the agent stops".to_owned()));
            }
        }
        // The reason comes with the end of the connection, which the master may put off to let frames out.
        match tokio::time::timeout(LAST_WORD, connection.closed()).await {
            Ok(reason) => Ok(End::Over(format!("the master ended the session: {reason}"))),
            Err(_late) => Ok(End::Over("the master ended the session".to_owned())),
        }
    }

    /// Serves the streams that the master opens. Says why it ended; those that are served end with it.
    async fn serve(&self, connection: &Connection) -> String {
        let mut streams = JoinSet::new();
        loop {
            let (writer, reader) = match connection.accept().await {
                Ok(stream) => stream,
                Err(error) => return error.to_string(),
            };
            while streams.try_join_next().is_some() {}
            if streams.len() >= STREAMS {
                // Dropping both halves refuses the stream.
                tracing::warn!("too many streams");
                continue;
            }
            streams.spawn(serve_stream(writer, reader, self.folders.clone(), self.inbox.clone()));
        }
    }
}

async fn serve_stream(
    writer: QuicWriter,
    mut reader: QuicReader,
    folders: Folders,
    inbox: mpsc::Sender<Event>,
) {
    match reader.read_within::<MasterStream>(FIRST_FRAME).await {
        Ok(Some(MasterStream::Scheduler(open))) => hosting::host(open, writer, reader, inbox).await,
        Ok(Some(MasterStream::Log(request))) => {
            if let Err(error) = logs::serve(request, writer, folders, inbox).await {
                tracing::debug!(%error, "a log stream broke");
            }
        }
        Ok(None) => {}
        Err(error) => tracing::debug!(%error, "a stream did not begin well"),
    }
}

async fn write(
    mut writer: QuicWriter,
    mut messages: mpsc::Receiver<AgentMessage>,
) -> Result<(), StreamError> {
    let mut batch = Vec::with_capacity(BATCH);
    while messages.recv_many(&mut batch, BATCH).await > 0 {
        writer.write_all(&batch).await?;
        batch.clear();
    }
    writer.finish().await
}

/// An error and what caused it, in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text.push_str(": ");
        text.push_str(&source.to_string());
        cause = source.source();
    }
    text
}
