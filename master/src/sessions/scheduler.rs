//! The stream of one hosted scheduler: everything it must know, then turns out and answers in.

use crate::driver::Driver;
use std::time::Duration;
use tepui_master_core::Input;
use tepui_proto::control::MasterStream;
use tepui_proto::scheduler::{FromScheduler, Open, ToScheduler};
use tepui_proto::{FrameworkId, Incarnation};
use tepui_transport::session::{QuicReader, QuicWriter};
use tepui_transport::{Connection, ConnectionError, StreamError};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

/// Turns that wait to be written. One is in flight at a time; the second place is for one that a slow stream holds up.
const TURNS: usize = 2;
/// How long an agent that hosts very many schedulers may take to let one more stream in.
const OPENING: Duration = Duration::from_secs(5);

/// Why a stream ended before its time.
#[derive(Debug, thiserror::Error)]
enum StreamEnd {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("the agent lets no more streams in")]
    Crowded,
}

/// The driver's end of it. When it is dropped, the stream ends, and nothing more is told of it.
#[derive(Debug)]
pub(crate) struct SchedulerStream {
    turns: mpsc::Sender<ToScheduler>,
    _alive: oneshot::Sender<()>,
}

impl SchedulerStream {
    /// Opens it, in a task of its own. Its end is told as an input.
    pub(crate) fn open(
        runtime: &Handle,
        connection: Connection,
        driver: Driver,
        open: Open,
        pages: Vec<ToScheduler>,
    ) -> Self {
        let (turns, waiting) = mpsc::channel(TURNS);
        let (alive, closed) = oneshot::channel();
        drop(runtime.spawn(async move {
            let (framework, incarnation, name) =
                (open.framework, open.incarnation, open.name.clone());
            let end = tokio::select! {
                end = serve(connection, &driver, open, pages, waiting) => end,
                // The leader wants it gone, so it does not want to hear of it.
                _ = closed => return,
            };
            if let Err(error) = end {
                tracing::warn!(
                    framework = name,
                    incarnation = incarnation.0,
                    "a scheduler's stream failed: {error}"
                );
            }
            driver.tell(Input::SchedulerStreamEnded { framework, incarnation }).await.ok();
        }));
        Self { turns, _alive: alive }
    }

    /// Sends a turn; false if it cannot be.
    pub(crate) fn send(&self, turn: ToScheduler) -> bool {
        self.turns.try_send(turn).is_ok()
    }
}

async fn serve(
    connection: Connection,
    driver: &Driver,
    open: Open,
    pages: Vec<ToScheduler>,
    turns: mpsc::Receiver<ToScheduler>,
) -> Result<(), StreamEnd> {
    let (framework, incarnation) = (open.framework, open.incarnation);
    let opened = tokio::time::timeout(OPENING, connection.open()).await;
    let (writer, reader) = opened.map_err(|_elapsed| StreamEnd::Crowded)??;
    // Beside each other: an answer must come through while a turn is being written.
    let end = tokio::select! {
        end = write(writer, open, pages, turns) => end,
        end = hear(reader, driver, framework, incarnation) => end,
    };
    Ok(end?)
}

async fn write(
    mut writer: QuicWriter,
    open: Open,
    pages: Vec<ToScheduler>,
    mut turns: mpsc::Receiver<ToScheduler>,
) -> Result<(), StreamError> {
    writer.write(&MasterStream::Scheduler(open)).await?;
    writer.write_all(&pages).await?;
    drop(pages);
    while let Some(turn) = turns.recv().await {
        writer.write(&turn).await?;
    }
    writer.finish().await
}

async fn hear(
    mut reader: QuicReader,
    driver: &Driver,
    framework: FrameworkId,
    incarnation: Incarnation,
) -> Result<(), StreamError> {
    while let Some(frame) = reader.read::<FromScheduler>().await? {
        if driver.tell(Input::SchedulerSaid { framework, incarnation, frame }).await.is_err() {
            break;
        }
    }
    Ok(())
}
