//! What an agent stores is a fraction of what can be stored at once.

use crate::bad_peers::{Door, hello};
use serde_json::{Value, json};
use std::time::Duration;
use tepui_e2e::{Cluster, PATIENCE, guest};
use tepui_proto::control::{AgentMessage, AgentStream, BlobChunk, MasterMessage, ModuleVerdict};
use tepui_proto::{Digest, LaunchNumber, Resources, limits};
use tepui_transport::{Connection, QuicReader, QuicWriter};

/// More than a stream carries that nobody reads.
const BYTES: usize = 2 << 20;

/// The launch of a task that only this agent has room for.
async fn launched(writer: &mut QuicWriter, reader: &mut QuicReader) -> LaunchNumber {
    loop {
        match reader.read::<MasterMessage>().await.unwrap() {
            Some(MasterMessage::Launch { launches, .. }) => {
                return launches.first().unwrap().number;
            }
            // Whatever it is asked, it cannot tell.
            Some(MasterMessage::CheckModule { digest, kind }) => {
                let verdict = ModuleVerdict::Unknown("no".to_owned());
                let checked = AgentMessage::ModuleChecked { digest, kind, verdict };
                writer.write(&checked).await.unwrap();
            }
            Some(_) => {}
            None => panic!("the master has hung up"),
        }
    }
}

/// Begins to store a blob, and goes on for as long as the master reads.
async fn begin(connection: &Connection, launch: LaunchNumber) -> (QuicWriter, QuicReader) {
    let (mut writer, reader) = connection.open().await.unwrap();
    let (digest, size_bytes) = (Digest([9; 32]), 2 * BYTES as u64);
    writer.write(&AgentStream::Store { launch, digest, size_bytes }).await.unwrap();
    for _ in 0..BYTES / limits::BLOB_CHUNK_BYTES {
        writer.write(&BlobChunk::Bytes(vec![7; limits::BLOB_CHUNK_BYTES])).await.unwrap();
    }
    (writer, reader)
}

#[test]
fn an_agent_stores_so_many_outputs_at_once_and_others_are_not_held_up() {
    let cluster = Cluster::start(1);
    let module = guest("hello.wasm").display().to_string();
    let known = cluster.json(&["blob", "put", &module]);
    let digest = known.pointer("/0/digest").and_then(Value::as_str).unwrap().to_owned();
    let _ran = cluster.tepui(["run", &module]).good();
    let door = Door::of(&cluster);
    let runtime = cluster.api().runtime();
    let (dialer, connection, mut writer, mut reader) = runtime.block_on(async {
        let (dialer, connection) = door.enter().await;
        let (mut writer, reader) = connection.open().await.unwrap();
        writer.write(&AgentStream::Control).await.unwrap();
        writer.write(&hello(Resources::cpu_memory(1_000_000, 1 << 40))).await.unwrap();
        (dialer, connection, writer, reader)
    });
    cluster.api().wait_agents(2);
    let large = json!({
        "key": "large", "module": format!("sha256:{}", digest.trim_start_matches("sha256:")),
        "cpu_milli": 500_000, "memory_bytes": 1 << 20,
    });
    let started = cluster.api().post("/frameworks/run/http/runs", &large);
    assert_eq!(started.status, 201, "{started:?}");
    let launch = runtime.block_on(launched(&mut writer, &mut reader));
    let alive = runtime.spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_secs(2));
        loop {
            let _next = beat.tick().await;
            writer.write(&AgentMessage::Heartbeat).await.unwrap();
        }
    });
    let (mut stalled, late) = runtime.block_on(async {
        let mut stalled = Vec::new();
        for _ in 0..limits::AGENT_UPLOADS {
            stalled.push(tokio::time::timeout(PATIENCE, begin(&connection, launch)).await.unwrap());
        }
        let connection = connection.clone();
        (stalled, tokio::spawn(async move { begin(&connection, launch).await }))
    });
    // An agent that is not slow stores what it has; meanwhile nobody reads the one that is too many.
    let _quiet = cluster.tepui(["agent", "deactivate", "mallory"]).good();
    let (source, kept) = (cluster.scratch("source"), cluster.scratch("kept"));
    std::fs::write(&source, "to be or not to be").unwrap();
    let (input, output) = (format!("{}=p0", source.display()), format!("out={}", kept.display()));
    let counter = guest("wordcount-task.wasm").display().to_string();
    let run = ["run", &counter, "--input", &input, "--output", &output];
    let _ran = cluster.tepui(run.into_iter().chain(["--", "map", "out", "0:0:18:1:p0"])).good();
    assert!(!late.is_finished(), "it is read beside so many others");
    drop(stalled.pop());
    let late = runtime.block_on(async { tokio::time::timeout(PATIENCE, late).await });
    drop(late.unwrap().unwrap());
    alive.abort();
    drop((dialer, reader));
}
