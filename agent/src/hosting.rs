//! The stream of one hosted scheduler, between the leader and the loop.
//!
//! Owns the stream. Reads nothing from it until the loop says that the cell knows of the scheduler, so QUIC's own flow
//! control is what a scheduler that compiles for long waits in.

use tepui_agent_core::Input;
use tepui_proto::scheduler::{FromScheduler, Open, ToScheduler};
use tepui_transport::{QuicReader, QuicWriter};
use tokio::sync::{mpsc, oneshot};

use crate::rooms::Event;

/// Frames that may wait for the leader. A turn at a time is in flight, so a few are many.
const FRAMES: usize = 64;

/// The loop's end of a scheduler's stream. Dropping it ends the stream, after what was written.
#[derive(Debug)]
pub(crate) struct SchedulerStream {
    pub(crate) to_leader: mpsc::Sender<FromScheduler>,
    /// Taken to begin with reading.
    pub(crate) gate: Option<oneshot::Sender<()>>,
}

/// Carries frames until the loop lets go of the stream.
pub(crate) async fn host(
    open: Open,
    writer: QuicWriter,
    reader: QuicReader,
    inbox: mpsc::Sender<Event>,
) {
    let (to_leader, frames) = mpsc::channel(FRAMES);
    let (gate, opened) = oneshot::channel();
    let (framework, incarnation) = (open.framework, open.incarnation);
    let stream = SchedulerStream { to_leader, gate: Some(gate) };
    if inbox.send(Event::SchedulerStream { open: Box::new(open), stream }).await.is_err() {
        return;
    }
    let reading = async {
        // Without a gate the stream is about to end from this side.
        if opened.await.is_err() {
            return std::future::pending().await;
        }
        read(reader, |frame| Input::SchedulerFrame { framework, incarnation, frame }, &inbox).await;
    };
    let writing = write(writer, frames);
    tokio::pin!(writing);
    tokio::select! {
        () = &mut writing => return,
        () = reading => {}
    }
    if inbox.send(Event::Fact(Input::SchedulerStreamEnded { framework, incarnation })).await.is_ok()
    {
        writing.await;
    }
}

async fn read(
    mut reader: QuicReader,
    fact: impl Fn(ToScheduler) -> Input,
    inbox: &mpsc::Sender<Event>,
) {
    loop {
        match reader.read::<ToScheduler>().await {
            Ok(Some(frame)) => {
                if inbox.send(Event::Fact(fact(frame))).await.is_err() {
                    return;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "a scheduler's stream broke");
                return;
            }
        }
    }
}

async fn write(mut writer: QuicWriter, mut frames: mpsc::Receiver<FromScheduler>) {
    let mut batch = Vec::new();
    while frames.recv_many(&mut batch, FRAMES).await > 0 {
        if let Err(error) = writer.write_all(&batch).await {
            tracing::debug!(%error, "a scheduler's stream broke");
            // The reading side says so to the loop; what the loop still sends goes nowhere.
            while frames.recv().await.is_some() {}
            return;
        }
        batch.clear();
    }
    if let Err(error) = writer.finish().await {
        tracing::debug!(%error, "a scheduler's stream broke");
    }
}
