//! What a scheduler says in one turn: its `log` calls and the lines of its standard output and error.

use bytes::Bytes;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tepui_proto::limits;
use tepui_proto::scheduler::Level;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// A text without a line's end is cut into lines of this length.
const LINE_BYTES: usize = 4 << 10;
/// What one write may hand over.
const WRITE_BYTES: usize = 16 << 10;
/// Counted for each line beside its text, so that empty ones are bounded too.
const LINE_COST: usize = 16;

#[derive(Debug, Default)]
struct Lines {
    kept: Vec<(Level, String)>,
    bytes: usize,
    /// Begun lines of standard output and standard error.
    begun: [Vec<u8>; 2],
}

impl Lines {
    fn push(&mut self, level: Level, mut text: String) {
        let room = limits::TURN_LOG_BYTES.saturating_sub(self.bytes + LINE_COST);
        if room == 0 {
            return;
        }
        text.truncate(text.floor_char_boundary(room));
        self.bytes += text.len() + LINE_COST;
        self.kept.push((level, text));
    }

    fn end_line(&mut self, stream: Stream) {
        let line = std::mem::take(self.begun_line(stream));
        self.push(stream.level(), String::from_utf8_lossy(&line).into_owned());
    }

    fn begun_line(&mut self, stream: Stream) -> &mut Vec<u8> {
        let [out, err] = &mut self.begun;
        match stream {
            Stream::Out => out,
            Stream::Err => err,
        }
    }
}

/// Which of the two standard streams.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stream {
    Out,
    Err,
}

impl Stream {
    fn level(self) -> Level {
        match self {
            Self::Out => Level::Info,
            Self::Err => Level::Warn,
        }
    }
}

/// The log of the turn that runs. Shared with the guest's streams, which wasmtime owns.
#[derive(Clone, Debug, Default)]
pub(crate) struct TurnLog(Arc<Mutex<Lines>>);

impl TurnLog {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line; what is over the limit of a turn is dropped.
    pub(crate) fn push(&self, level: Level, text: String) {
        self.lines().push(level, text);
    }

    /// Ends the turn's log and begins the next.
    pub(crate) fn take(&self) -> Vec<(Level, String)> {
        let mut lines = self.lines();
        for stream in [Stream::Out, Stream::Err] {
            if !lines.begun_line(stream).is_empty() {
                lines.end_line(stream);
            }
        }
        lines.bytes = 0;
        std::mem::take(&mut lines.kept)
    }

    /// One of the guest's standard streams.
    pub(crate) fn sink(&self, stream: Stream) -> LineSink {
        LineSink { log: self.clone(), stream }
    }
}

/// A standard stream whose lines go to the turn's log.
#[derive(Clone, Debug)]
pub(crate) struct LineSink {
    log: TurnLog,
    stream: Stream,
}

impl LineSink {
    fn write_bytes(&self, bytes: &[u8]) {
        let mut lines = self.log.lines();
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, ends) =
                piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            lines.begun_line(self.stream).extend_from_slice(text);
            if ends || lines.begun_line(self.stream).len() >= LINE_BYTES {
                lines.end_line(self.stream);
            }
        }
    }
}

impl IsTerminal for LineSink {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineSink {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for LineSink {
    async fn ready(&mut self) {
        tokio::task::coop::consume_budget().await;
    }
}

impl OutputStream for LineSink {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write_bytes(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

impl AsyncWrite for LineSink {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.write_bytes(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
