//! Streams of a component's files: read and written on the guest's own thread, a bounded part at a time, so that their
//! work is charged to it; and paid for before they are written.

use crate::disk::Full;
use crate::link::{FileWork, TaskLink};
use bytes::Bytes;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

/// What is read or written at once.
const PART_BYTES: usize = 64 << 10;

/// Reads on from an offset.
pub(crate) struct FileInput {
    pub(crate) file: Arc<File>,
    pub(crate) position: u64,
}

#[async_trait]
impl Pollable for FileInput {
    async fn ready(&mut self) {
        // A guest that only reads burns next to no fuel; this is what makes it give way to others.
        tokio::task::coop::consume_budget().await;
    }
}

impl InputStream for FileInput {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let mut bytes = vec![0; size.min(PART_BYTES)];
        if bytes.is_empty() {
            return Ok(Bytes::new());
        }
        let count = self.file.read_at(&mut bytes, self.position).map_err(failed)?;
        if count == 0 {
            return Err(StreamError::Closed);
        }
        self.position += count as u64;
        bytes.truncate(count);
        Ok(bytes.into())
    }
}

/// Writes on from an offset, or always at the end.
pub(crate) struct FileOutput {
    file: Arc<File>,
    /// None for the end.
    position: Option<u64>,
    link: Arc<TaskLink>,
    /// Bytes that are paid for and not written.
    paid: usize,
    full: Option<Full>,
}

impl FileOutput {
    pub(crate) fn new(file: Arc<File>, position: Option<u64>, link: Arc<TaskLink>) -> Self {
        Self { file, position, link, paid: 0, full: None }
    }

    async fn pay(&mut self, bytes: usize) {
        let link = Arc::clone(&self.link);
        let _work = FileWork::begin(&link);
        match link.disk.take(bytes as u64, 0).await {
            Ok(()) => self.paid += bytes,
            Err(full) => self.full = Some(full),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let position = match self.position {
            Some(position) => position,
            None => self.file.metadata()?.len(),
        };
        self.file.write_all_at(bytes, position)?;
        if let Some(position) = &mut self.position {
            *position += bytes.len() as u64;
        }
        Ok(())
    }
}

#[async_trait]
impl Pollable for FileOutput {
    async fn ready(&mut self) {
        if self.paid == 0 && self.full.is_none() {
            self.pay(PART_BYTES).await;
        }
        tokio::task::coop::consume_budget().await;
    }
}

#[async_trait]
impl OutputStream for FileOutput {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let Some(rest) = self.paid.checked_sub(bytes.len()) else {
            return Err(StreamError::trap("more was written than `check-write` allows"));
        };
        self.paid = rest;
        self.put(&bytes).map_err(failed)
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        tokio::task::coop::consume_budget().await;
        if self.paid < bytes.len() {
            self.pay(bytes.len()).await;
        }
        self.check_write()?;
        self.write(bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        match self.full {
            None => Ok(self.paid),
            Some(Full::Task) => Err(StreamError::Trap(Full::Task.into())),
            Some(Full::Agent) => {
                // Another try may find room.
                self.full = None;
                Err(failed(std::io::Error::from_raw_os_error(NO_SPACE)))
            }
        }
    }
}

/// `ENOSPC`, which the guest is told as such.
const NO_SPACE: i32 = rustix::io::Errno::NOSPC.raw_os_error();

fn failed(error: std::io::Error) -> StreamError {
    StreamError::LastOperationFailed(error.into())
}
