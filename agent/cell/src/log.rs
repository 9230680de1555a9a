//! A command's standard output and error: files that are cut at a limit, and the streams that guests see.
//!
//! Owns the files and how much of them is announced. Never fails a guest's write: what is over the limit is counted and
//! dropped, and what cannot be written is counted apart. Its one surprise: a file is made when the first byte comes, so a silent
//! command costs none.

use crate::disk::{Disk, Full};
use crate::link::{FileWork, Outgoing, TaskLink};
use bytes::Bytes;
use std::fs::File;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tepui_proto::control::LogStream;
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

/// What a guest may hand over in one write.
const WRITE_BYTES: usize = 64 << 10;

/// One log.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: String,
    limit: u64,
    file: Mutex<Option<File>>,
    /// All that the guest wrote.
    written: AtomicU64,
    /// What of it is in the file.
    kept: AtomicU64,
    /// What of it should be, and is not: the disk is full, or broken.
    lost: AtomicU64,
    /// What of that the agent was told.
    told: AtomicU64,
    /// Whether an announcement is on its way.
    on_its_way: AtomicBool,
}

impl LogFile {
    pub(crate) fn new(path: String, limit: u64) -> Self {
        Self {
            path,
            limit,
            file: Mutex::new(None),
            written: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            told: AtomicU64::new(0),
            on_its_way: AtomicBool::new(false),
        }
    }

    /// Takes all bytes and keeps what fits. Says whether the file has grown.
    fn append(&self, bytes: &[u8], disk: &Disk) -> bool {
        let before = self.written.fetch_add(bytes.len() as u64, Ordering::AcqRel);
        let room = usize::try_from(self.limit.saturating_sub(before)).unwrap_or(usize::MAX);
        let Some(fits) = bytes.get(..bytes.len().min(room)).filter(|fits| !fits.is_empty()) else {
            return false;
        };
        let count = fits.len() as u64;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let written = match disk.take_for_log(self.kept.load(Ordering::Acquire), count) {
            Ok(()) => Self::write(&mut file, &self.path, fits),
            // As for what is over the limit.
            Err(Full::Task) => return false,
            Err(full @ Full::Agent) => Err(io::Error::other(full)),
        };
        match written {
            Ok(()) => {
                self.kept.fetch_add(count, Ordering::AcqRel);
                true
            }
            Err(error) => {
                // Said once: a guest decides how often this happens.
                if self.lost.fetch_add(count, Ordering::AcqRel) == 0 {
                    tracing::warn!(path = self.path, %error, "cannot write a log");
                }
                false
            }
        }
    }

    fn write(file: &mut Option<File>, path: &str, bytes: &[u8]) -> io::Result<()> {
        let file = match file {
            Some(file) => file,
            none => none.insert(File::create(path)?),
        };
        file.write_all(bytes)
    }

    /// The size to tell; growth from now on needs another announcement.
    pub(crate) fn announce(&self) -> u64 {
        self.on_its_way.store(false, Ordering::Release);
        let size = self.kept.load(Ordering::Acquire);
        self.told.fetch_max(size, Ordering::AcqRel);
        size
    }

    /// Whether the agent does not know of its size and is not about to.
    pub(crate) fn is_untold(&self) -> bool {
        let size = self.kept.load(Ordering::Acquire);
        size > self.told.load(Ordering::Acquire) && !self.on_its_way.load(Ordering::Acquire)
    }

    /// All that was written.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// What of it is over the limit.
    pub(crate) fn dropped(&self) -> u64 {
        self.written().saturating_sub(self.kept.load(Ordering::Acquire)).saturating_sub(self.lost())
    }

    /// What of it is within the limit and could not be written.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Acquire)
    }
}

/// One of a command's logs, as the guest's stream.
#[derive(Clone, Debug)]
pub(crate) struct LogSink {
    pub(crate) link: Arc<TaskLink>,
    pub(crate) stream: LogStream,
}

impl LogSink {
    fn take(&self, bytes: &[u8]) {
        let log = self.link.log(self.stream);
        if log.append(bytes, &self.link.disk) && !log.on_its_way.swap(true, Ordering::AcqRel) {
            self.link.tell_started();
            let grown = Outgoing::Grown(Arc::clone(&self.link), self.stream);
            // If the queue is full, the next write or the end of the command tells it.
            if self.link.outbox.try_send(grown).is_err() {
                log.on_its_way.store(false, Ordering::Release);
            }
        }
    }
}

impl IsTerminal for LogSink {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LogSink {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for LogSink {
    async fn ready(&mut self) {
        let kept = self.link.log(self.stream).kept.load(Ordering::Acquire);
        {
            let _work = FileWork::begin(&self.link);
            self.link.disk.make_room_for_log(kept, WRITE_BYTES as u64).await;
        }
        // A guest that only writes burns next to no fuel; this is what makes it give way to others.
        tokio::task::coop::consume_budget().await;
    }
}

impl OutputStream for LogSink {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.take(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES)
    }
}

impl AsyncWrite for LogSink {
    fn poll_write(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.take(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
