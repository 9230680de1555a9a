//! `cell-hop`: as `cell`, but in a real `tepui cell` at the other end of its Unix socket, one command at a time.

use crate::row::Row;
use crate::{Bench, Failure, commands};
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Instant;
use tepui_proto::cell::CellEvent;
use tepui_proto::frame::{self, Decoder};
use tepui_proto::{LaunchNumber, TaskState};

const WARM_UP: u64 = 2_000;
const SAMPLES: u64 = 10_000;

/// A cell, killed when this goes.
struct Cell {
    child: Child,
    stream: UnixStream,
    decoder: Decoder,
}

impl Drop for Cell {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

impl Cell {
    fn start(bench: &Bench) -> Result<Self, Failure> {
        let path = bench.dir().join("c.sock");
        let listener = UnixListener::bind(&path)?;
        let mut command = Command::new(&bench.tepui);
        command.arg("cell").arg("--socket").arg(&path).env_clear();
        // Its input stays open, as under an agent.
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let child = command.spawn()?;
        let (stream, _address) = listener.accept()?;
        Ok(Self { child, stream, decoder: Decoder::default() })
    }

    fn hear_end(&mut self) -> Result<(LaunchNumber, TaskState), Failure> {
        let mut bytes = [0; 4_096];
        loop {
            while let Some(event) = self.decoder.pop()? {
                if let CellEvent::Ended { launch, end } = event {
                    return Ok((launch, end.state));
                }
            }
            let count = self.stream.read(&mut bytes)?;
            if count == 0 {
                return Err("the cell has gone".into());
            }
            self.decoder.push(bytes.get(..count).unwrap_or_default());
        }
    }
}

pub(crate) fn measure(bench: &Bench) -> Result<Row, Failure> {
    let compiled = commands::compiled(bench)?;
    let mut cell = Cell::start(bench)?;
    let mut spans = Vec::new();
    for at in 1..=WARM_UP + SAMPLES {
        let asked = frame::encode(&commands::run_frame(at, &compiled))?;
        let begun = Instant::now();
        cell.stream.write_all(&asked)?;
        let end = cell.hear_end()?;
        let span = begun.elapsed();
        if end != (LaunchNumber(at), TaskState::Finished) {
            return Err(format!("the empty command ended as {end:?}").into());
        }
        if at > WARM_UP {
            spans.push(span);
        }
    }
    Ok(Row::of("cell-hop", spans))
}
