//! Reading a task's logs from the agent that has them.

use std::time::Duration;
use tepui_proto::control::{LogChunk, LogRequest, MasterStream};
use tepui_transport::session::{QuicReader, QuicWriter};
use tepui_transport::{Connection, ConnectionError, StreamError};

/// How long an agent may take to let a stream in.
const OPENING: Duration = Duration::from_secs(5);

/// Why logs cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("the agent cannot be reached")]
    Connection(#[from] ConnectionError),
    #[error("the stream of the logs broke")]
    Stream(#[from] StreamError),
    #[error("the agent has too many streams open")]
    Crowded,
}

/// Pieces of a log as they come. When it is dropped, the agent stops sending.
#[derive(Debug)]
pub(crate) struct LogReader {
    reader: QuicReader,
    /// Kept open for as long as someone reads.
    _writer: QuicWriter,
}

/// Asks for logs.
pub(crate) async fn open_log(
    connection: &Connection,
    request: LogRequest,
) -> Result<LogReader, LogError> {
    let opened = tokio::time::timeout(OPENING, connection.open()).await;
    let (mut writer, reader) = opened.map_err(|_elapsed| LogError::Crowded)??;
    writer.write(&MasterStream::Log(request)).await?;
    Ok(LogReader { reader, _writer: writer })
}

impl LogReader {
    /// The next piece; none if the agent has said all.
    pub(crate) async fn next(&mut self) -> Result<Option<LogChunk>, LogError> {
        Ok(self.reader.read().await?)
    }
}
