//! One agent's connection, from its first stream to its end.

use super::links::{self, Link};
use super::{Hub, blobs};
use crate::driver::{Command, Stopped};
use std::sync::Arc;
use std::time::Duration;
use tepui_master_core::{ConnectionId, Input};
use tepui_proto::control::{AgentMessage, AgentStream, Hello};
use tepui_proto::limits;
use tepui_transport::session::{QuicReader, QuicWriter};
use tepui_transport::{CloseCode, CloseReason, Connection, ConnectionError, StreamError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How long an agent may take for each of its first frames.
pub(super) const FIRST_FRAME: Duration = Duration::from_secs(5);

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
enum SessionEnd {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error(transparent)]
    Closed(#[from] CloseReason),
    #[error("it said nothing for {} s", FIRST_FRAME.as_secs())]
    Silent,
    #[error("{0}")]
    Unexpected(&'static str),
    #[error("it ended its control stream")]
    Done,
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl SessionEnd {
    fn close_code(&self) -> CloseCode {
        match self {
            Self::Stream(error) => error.into(),
            Self::Closed(_) | Self::Done => CloseCode::Done,
            Self::Silent => CloseCode::StreamSilent,
            Self::Unexpected(_) => CloseCode::Unexpected,
            Self::Stopped(_) => CloseCode::Stopping,
        }
    }
}

impl From<ConnectionError> for SessionEnd {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Closed(reason) => Self::Closed(reason),
            ConnectionError::Frame(error) => Self::Stream(error.into()),
            ConnectionError::Datagram { .. } => Self::Unexpected("a datagram that does not fit"),
        }
    }
}

/// Attends to one connection until it ends, and says that it has.
pub(super) async fn attend(connection: Connection, id: ConnectionId, hub: Hub) {
    let agent = connection.peer().name.clone();
    let Err(end) = Box::pin(session(&connection, id, &hub)).await;
    let code = end.close_code();
    match &end {
        SessionEnd::Closed(_) | SessionEnd::Done | SessionEnd::Stopped(_) => {
            tracing::info!(agent, connection = id.0, "a session ended: {end}");
        }
        SessionEnd::Stream(_) | SessionEnd::Silent | SessionEnd::Unexpected(_) => {
            tracing::warn!(agent, connection = id.0, code = code.code(), cause = ?end, "a session failed: {end}");
        }
    }
    connection.close(code, &end.to_string());
    // If nobody listens any more, the master stops.
    hub.driver.tell(Input::AgentDisconnected(id)).await.ok();
}

async fn session(
    connection: &Connection,
    id: ConnectionId,
    hub: &Hub,
) -> Result<std::convert::Infallible, SessionEnd> {
    let (writer, mut reader, hello) = greet(connection).await?;
    let agent = connection.peer().name.clone();
    tracing::info!(agent, connection = id.0, from = %connection.remote_address(), "an agent said hello");
    let (link, outbound) = Link::new(connection.clone());
    let input = Input::AgentConnected { connection: id, name: agent, hello };
    hub.driver.send(Command::Connected { connection: id, link, input }).await?;
    tokio::select! {
        end = hear(&mut reader, id, hub) => end,
        end = links::write(connection, writer, outbound) => {
            end?;
            // Nothing more is to be said, so its reason is known to the peer.
            Err(connection.closed().await.into())
        }
        end = streams(connection, hub) => end,
        end = datagrams(connection, id, hub) => end,
    }
}

/// The control stream, which an agent opens first, and its hello.
async fn greet(
    connection: &Connection,
) -> Result<(QuicWriter, QuicReader, Box<Hello>), SessionEnd> {
    let Ok(accepted) = tokio::time::timeout(FIRST_FRAME, connection.accept()).await else {
        return Err(SessionEnd::Silent);
    };
    let (writer, mut reader) = accepted?;
    match reader.read_within(FIRST_FRAME).await? {
        Some(AgentStream::Control) => {}
        Some(_) => {
            return Err(SessionEnd::Unexpected("its first stream is not the control stream"));
        }
        None => return Err(SessionEnd::Done),
    }
    match reader.read_within(FIRST_FRAME).await? {
        Some(AgentMessage::Hello(mut hello)) => {
            join_pages(&mut reader, &mut hello).await?;
            Ok((writer, reader, hello))
        }
        Some(_) => Err(SessionEnd::Unexpected("its first message is not a hello")),
        None => Err(SessionEnd::Done),
    }
}

/// The rest of a hello that has more tasks than fit a frame; so many pages, and no more.
async fn join_pages(reader: &mut QuicReader, hello: &mut Hello) -> Result<(), SessionEnd> {
    for _ in 0..limits::HELLO_PAGES {
        if !hello.has_more_tasks {
            return Ok(());
        }
        match reader.read_within(FIRST_FRAME).await? {
            Some(AgentMessage::HelloTasks { tasks, has_more }) => {
                hello.tasks.extend(tasks);
                hello.has_more_tasks = has_more;
            }
            Some(_) => return Err(SessionEnd::Unexpected("its hello has no end")),
            None => return Err(SessionEnd::Done),
        }
    }
    if hello.has_more_tasks {
        return Err(SessionEnd::Unexpected("its hello has too many pages"));
    }
    Ok(())
}

/// The control stream. A driver that is busy makes the agent wait, through the flow control of its stream.
async fn hear(
    reader: &mut QuicReader,
    id: ConnectionId,
    hub: &Hub,
) -> Result<std::convert::Infallible, SessionEnd> {
    while let Some(message) = reader.read().await? {
        let input = match message {
            AgentMessage::Hello(_) | AgentMessage::HelloTasks { .. } => {
                return Err(SessionEnd::Unexpected("a second hello"));
            }
            AgentMessage::Reports(reports) => Input::Reported { connection: id, reports },
            AgentMessage::ModuleChecked { digest, kind, verdict } => {
                Input::ModuleChecked { connection: id, digest, kind, verdict }
            }
            AgentMessage::Heartbeat => Input::AgentHeard(id),
            AgentMessage::RoomChanged { has_room } => {
                Input::AgentRoomChanged { connection: id, has_room }
            }
            AgentMessage::Goodbye => Input::AgentSaidGoodbye(id),
        };
        hub.driver.tell(input).await?;
    }
    Err(SessionEnd::Done)
}

/// Streams that the agent opens: blobs, each in a task of its own. QUIC bounds how many there may be.
async fn streams(
    connection: &Connection,
    hub: &Hub,
) -> Result<std::convert::Infallible, SessionEnd> {
    let mut tasks: JoinSet<Result<(), StreamError>> = JoinSet::new();
    let stores = Arc::new(Semaphore::new(limits::AGENT_UPLOADS));
    loop {
        tokio::select! {
            accepted = connection.accept() => {
                let (writer, reader) = accepted?;
                let (agent, stores) = (connection.peer().name.clone(), Arc::clone(&stores));
                tasks.spawn(blobs::serve(writer, reader, agent, stores, hub.clone()));
            }
            Some(ended) = tasks.join_next() => match ended {
                // A stream that was broken off, by whichever side, is its own affair; bad frames are not.
                Ok(Ok(()) | Err(StreamError::Io(_))) => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(error) => tracing::error!("a stream failed: {error}"),
            },
        }
    }
}

/// Heartbeats may come as datagrams too; what else comes that way is passed over.
async fn datagrams(
    connection: &Connection,
    id: ConnectionId,
    hub: &Hub,
) -> Result<std::convert::Infallible, SessionEnd> {
    loop {
        match connection.read_datagram().await {
            Ok(AgentMessage::Heartbeat) => hub.driver.tell(Input::AgentHeard(id)).await?,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
