//! `run-cold-shell`: the whole of `tepui run noop.wasm`, from the start of its process to its end, when the cluster knows the
//! module and the `run` framework runs.

use crate::cluster::Cluster;
use crate::row::Row;
use crate::{Bench, Failure};
use std::process::Stdio;
use std::time::Instant;

const WARM_UP: usize = 5;
const SAMPLES: usize = 100;

pub(crate) fn measure(bench: &Bench, cluster: &Cluster) -> Result<Row, Failure> {
    let module = bench.guest("noop.wasm").display().to_string();
    cluster.ask(&["run", &module])?;
    let mut spans = Vec::with_capacity(SAMPLES);
    for at in 0..WARM_UP + SAMPLES {
        let mut command = cluster.verb(&["run", &module]);
        command.stdout(Stdio::null()).stderr(Stdio::inherit());
        let begun = Instant::now();
        let status = command.status()?;
        let span = begun.elapsed();
        if !status.success() {
            return Err(format!("`tepui run`: {status}").into());
        }
        if at >= WARM_UP {
            spans.push(span);
        }
    }
    Ok(Row::of("run-cold-shell", spans))
}
