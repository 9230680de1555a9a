//! Logs of tasks, read from their files and sent to the leader, to their end or for as long as they grow.
//!
//! Never polls: who follows is woken when the cell says that a file has grown, and when its task has ended.

use std::io;
use tepui_proto::control::{LogChunk, LogRequest, LogStream};
use tepui_proto::{LaunchNumber, limits};
use tepui_transport::{QuicWriter, StreamError};
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::{mpsc, oneshot, watch};

use crate::folders::Folders;
use crate::rooms::Event;

/// What an empty list of streams stands for.
const BOTH: [LogStream; 2] = [LogStream::Stdout, LogStream::Stderr];

/// What is known of a task's logs. A change wakes who follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Growth {
    /// Sizes of standard output and standard error, as far as they were told.
    pub(crate) sizes: (u64, u64),
    /// Once the task has ended: bytes that were not kept.
    pub(crate) ended: Option<(u64, u64)>,
}

/// One log that is being read.
#[derive(Debug)]
struct Tail {
    stream: LogStream,
    file: Option<File>,
    offset: u64,
}

/// Answers one request.
pub(crate) async fn serve(
    request: LogRequest,
    mut writer: QuicWriter,
    folders: Folders,
    inbox: mpsc::Sender<Event>,
) -> Result<(), StreamError> {
    let (reply, answer) = oneshot::channel();
    if inbox.send(Event::LogWanted { launch: request.launch, reply }).await.is_err() {
        return Ok(());
    }
    let Ok(Some(mut growth)) = answer.await else {
        let missing = LogChunk::Missing("there are no logs of such a task here".to_owned());
        writer.write(&missing).await?;
        return writer.finish().await;
    };
    let wanted =
        if request.streams.is_empty() { BOTH.as_slice() } else { request.streams.as_slice() };
    let mut tails: Vec<Tail> = wanted
        .iter()
        .take(2)
        .map(|stream| Tail { stream: *stream, file: None, offset: request.offset })
        .collect();
    loop {
        // Seen before the files are read, so that nothing grows unseen.
        let seen = *growth.borrow_and_update();
        for tail in &mut tails {
            if let Err(error) = send_rest(tail, request.launch, &folders, &mut writer).await? {
                writer
                    .write(&LogChunk::Missing(format!("the logs cannot be read: {error}")))
                    .await?;
                return writer.finish().await;
            }
        }
        if seen.ended.is_some() || !request.follow {
            writer.write(&LogChunk::End { dropped: seen.ended.unwrap_or_default() }).await?;
            return writer.finish().await;
        }
        let gone = writer.get_ref().stopped();
        tokio::select! {
            changed = growth.changed() => if changed.is_err() {
                return Ok(());
            },
            // Nobody reads any more.
            _ = gone => return Ok(()),
        }
    }
}

/// Sends what the file holds beyond what was sent. The inner error is the file's.
async fn send_rest(
    tail: &mut Tail,
    launch: LaunchNumber,
    folders: &Folders,
    writer: &mut QuicWriter,
) -> Result<io::Result<()>, StreamError> {
    loop {
        let bytes = match read_next(tail, launch, folders).await {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(error)),
        };
        if bytes.is_empty() {
            return Ok(Ok(()));
        }
        let offset = tail.offset;
        tail.offset += bytes.len() as u64;
        writer.write(&LogChunk::Bytes { stream: tail.stream, offset, bytes }).await?;
    }
}

/// The next bytes; none at the end, or if there is no file yet.
async fn read_next(
    tail: &mut Tail,
    launch: LaunchNumber,
    folders: &Folders,
) -> io::Result<Vec<u8>> {
    if tail.file.is_none() {
        let mut file = match File::open(folders.log(launch, tail.stream)).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        file.seek(io::SeekFrom::Start(tail.offset)).await?;
        tail.file = Some(file);
    }
    let Some(file) = &mut tail.file else { return Ok(Vec::new()) };
    let mut bytes = Vec::new();
    file.take(limits::BLOB_CHUNK_BYTES as u64).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// Who follows which logs.
#[derive(Debug, Default)]
pub(crate) struct Followers(std::collections::BTreeMap<LaunchNumber, watch::Sender<Growth>>);

impl Followers {
    /// A view of logs that still grow.
    pub(crate) fn follow(&mut self, launch: LaunchNumber) -> watch::Receiver<Growth> {
        self.0.entry(launch).or_insert_with(|| watch::Sender::new(Growth::default())).subscribe()
    }

    /// A view of logs that grow no more.
    pub(crate) fn ended(dropped: (u64, u64)) -> watch::Receiver<Growth> {
        watch::Sender::new(Growth { sizes: (0, 0), ended: Some(dropped) }).subscribe()
    }

    pub(crate) fn on_grown(&mut self, launch: LaunchNumber, stream: LogStream, size: u64) {
        if let Some(sender) = self.0.get(&launch) {
            sender.send_modify(|growth| match stream {
                LogStream::Stdout => growth.sizes.0 = size,
                LogStream::Stderr => growth.sizes.1 = size,
            });
        }
    }

    pub(crate) fn on_ended(&mut self, launch: LaunchNumber, dropped: (u64, u64)) {
        if let Some(sender) = self.0.remove(&launch) {
            sender.send_modify(|growth| growth.ended = Some(dropped));
        }
    }
}
