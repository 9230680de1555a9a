//! `tasks`: no-op tasks through one Wasm scheduler and one agent, as fast as they go.
//!
//! `per_second` is by the cluster's own clock, from the scheduler's first turn to its last; `wall_ms` is around the whole
//! `tepui framework submit --wait`. Then 20,000 more run, and the master's memory is told: before, after the first 10,000,
//! and after all 30,000. Ended tasks are kept up to a bound (1,000 of a framework), so it stays level.

use crate::cluster::Cluster;
use crate::row::{Row, say};
use crate::{Bench, Failure, machine};
use serde_json::Value;
use std::time::Instant;

/// One at a time: offer, accept, launch, end, and round again.
const SINGLE: u64 = 1_000;

pub(crate) fn measure(bench: &Bench, cluster: &Cluster) -> Result<Row, Failure> {
    let pid = cluster.master_pid()?;
    let rss = || machine::rss_kib(pid).map_or(Value::Null, Value::from);
    // Compiles both modules and starts the cell.
    flood(bench, cluster, ("warm-up", 1_000, 1_000))?;
    let before = rss();
    let begun = Instant::now();
    let ms = flood(bench, cluster, ("flood-1", 10_000, 1_000))?;
    let wall = begun.elapsed();
    let after = rss();
    flood(bench, cluster, ("flood-2", 20_000, 1_000))?;
    let after_more = rss();
    let single = flood(bench, cluster, ("single", SINGLE, 1))?;
    #[expect(clippy::cast_precision_loss, reason = "a few thousand milliseconds")]
    let (seconds, cycle_us) = (ms.max(1) as f64 / 1e3, (single * 1_000) as f64 / SINGLE as f64);
    let row = Row { per_second: Some(10_000.0 / seconds), ..Row::named("tasks") }
        .with("tasks", 10_000.into())
        .with("wall_ms", u64::try_from(wall.as_millis())?.into())
        .with("one_at_a_time_us", cycle_us.into())
        .with("rss_kib_before", before)
        .with("rss_kib_after", after)
        .with("rss_kib_after_30000", after_more);
    say(&format!("tasks: 10000 in {ms} ms, {wall:.2?} from outside"));
    Ok(row)
}

/// Milliseconds by the cluster's clock.
fn flood(bench: &Bench, cluster: &Cluster, what: (&str, u64, u64)) -> Result<u64, Failure> {
    let (name, tasks, in_flight) = what;
    let manifest = format!(
        "name = \"{name}\"\nroles = [\"*\"]\nscheduler = \"flood.wasm\"\n\n[modules]\nnoop = \"noop.wasm\"\n\n\
         [config]\ntasks = {tasks}\nin_flight = {in_flight}\n"
    );
    let modules = ["flood.wasm", "noop.wasm"];
    let ended = cluster.submit(bench, (name, &manifest), &modules, &["--wait"])?;
    let ended: Value = serde_json::from_slice(&ended)?;
    let message = ended.get("message").and_then(Value::as_str).unwrap_or_default();
    let report: Value = serde_json::from_str(message)?;
    let number = |key: &str| report.get(key).and_then(Value::as_u64);
    match (number("tasks"), number("failed"), number("ms")) {
        (Some(count), Some(0), Some(ms)) if count == tasks => Ok(ms),
        _ => Err(format!("the flood `{name}` went wrong: {message}").into()),
    }
}
