//! A whole cell over a socket.

#![expect(clippy::unwrap_used, reason = "a test may fail loudly")]
#![expect(unreachable_pub, dead_code, reason = "not every test uses every fixture")]

mod common;

use common::{EMPTY, EXIT, Fixture, SPIN};
use tepui_cell::{run_cell, serve};
use tepui_proto::cell::{CellCommand, CellEvent};
use tepui_proto::frame::{self, Decoder};
use tepui_proto::{LaunchNumber, Reason, TaskState};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

struct Agent {
    stream: UnixStream,
    decoder: Decoder,
}

impl Agent {
    fn new(stream: UnixStream) -> Self {
        Self { stream, decoder: Decoder::default() }
    }

    async fn tell(&mut self, command: CellCommand) {
        self.stream.write_all(&frame::encode(&command).unwrap()).await.unwrap();
    }

    async fn hear(&mut self) -> CellEvent {
        loop {
            if let Some(event) = self.decoder.pop().unwrap() {
                return event;
            }
            let mut bytes = [0; 4096];
            let count = self.stream.read(&mut bytes).await.unwrap();
            assert!(count > 0, "the cell has gone");
            self.decoder.push(bytes.get(..count).unwrap());
        }
    }

    async fn hear_end(&mut self) -> (LaunchNumber, TaskState, Reason) {
        loop {
            if let CellEvent::Ended { launch, end } = self.hear().await {
                return (launch, end.state, end.reason);
            }
        }
    }
}

#[tokio::test]
async fn a_cell_runs_what_it_is_told_and_ends_with_its_socket() {
    let fixture = Fixture::new();
    let path = fixture.folder.path().join("cell.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let cell = tokio::spawn(async move { run_cell(&path).await });
    let mut agent = Agent::new(listener.accept().await.unwrap().0);
    let (empty, spin) = (fixture.module("empty", EMPTY), fixture.module("spin", SPIN));
    let exits = format!(
        r#"{EXIT} (memory (export "memory") 1) (func (export "_start") (call $exit (i32.const 3)))"#
    );
    let exits = fixture.module("exits", &exits);
    agent.tell(CellCommand::Run(Box::new(fixture.run(1, &spin)))).await;
    assert_eq!(agent.hear().await, CellEvent::Started(LaunchNumber(1)));
    for launch in 2..200 {
        agent.tell(CellCommand::Run(Box::new(fixture.run(launch, &empty)))).await;
        assert_eq!(
            agent.hear_end().await,
            (LaunchNumber(launch), TaskState::Finished, Reason::None)
        );
    }
    agent.tell(CellCommand::Run(Box::new(fixture.run(200, &exits)))).await;
    assert_eq!(
        agent.hear_end().await,
        (LaunchNumber(200), TaskState::Failed, Reason::ExitedNonzero)
    );
    let nowhere = fixture.folder.path().join("nowhere");
    agent.tell(CellCommand::Run(Box::new(fixture.run(201, &nowhere)))).await;
    assert_eq!(
        agent.hear_end().await,
        (LaunchNumber(201), TaskState::Dropped, Reason::AgentFailed)
    );
    agent.tell(CellCommand::Kill { launch: LaunchNumber(1), grace_ms: 1 }).await;
    assert_eq!(agent.hear_end().await, (LaunchNumber(1), TaskState::Killed, Reason::KillRequested));
    drop(agent);
    cell.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_cell_does_not_outlive_a_frame_that_it_cannot_read() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let cell = tokio::spawn(serve(theirs));
    let mut agent = Agent::new(ours);
    agent.stream.write_all(&[0xff; 16]).await.unwrap();
    assert!(cell.await.unwrap().is_err());
}
