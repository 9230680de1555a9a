//! A trace of tasks from a CSV file with the columns `arrival_s,duration_s,cpus,mem_mb`.

use super::document::{Document, ScenarioError};
use super::{TaskSize, check_task};
use crate::amounts::parse_milli;
use tepui_proto::Resources;

/// The first line of a trace.
const HEAD: [&str; 4] = ["arrival_s", "duration_s", "cpus", "mem_mb"];
const ALLOWED: &str =
    "a line has four numbers of at most three places: `arrival_s,duration_s,cpus,mem_mb`";
const MIB: u64 = 1 << 20;

/// A task of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Traced {
    /// After the framework was submitted.
    pub(crate) arrival_ms: u64,
    /// How long it runs.
    pub(crate) duration_ms: u64,
    /// What it needs.
    pub(crate) size: TaskSize,
}

/// Reads a trace; its tasks come in the order of their arrival.
pub(super) fn read(document: &Document, most: usize) -> Result<Vec<Traced>, ScenarioError> {
    let wrong = |line: usize, what: String| ScenarioError {
        path: document.path.clone(),
        place: Some((line, 1)),
        what,
    };
    let mut lines = document.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let head = lines.next().map(|(_, line)| line).unwrap_or_default();
    if head.split(',').map(str::trim).ne(HEAD) {
        return Err(wrong(
            1,
            format!("the first line is `{head}`, and should be `{}`", HEAD.join(",")),
        ));
    }
    let mut tasks = Vec::new();
    for (number, line) in lines.filter(|(_, line)| !line.is_empty()) {
        if tasks.len() == most {
            return Err(wrong(number, format!("a trace has at most {most} tasks")));
        }
        let fields =
            line.split(',').map(|field| parse_milli(field.trim())).collect::<Option<Vec<u64>>>();
        let Some([arrival_ms, duration_ms, cpu_milli, mem_milli]) = fields.as_deref() else {
            return Err(wrong(number, format!("`{line}` is not a task; {ALLOWED}")));
        };
        let memory = mem_milli.checked_mul(MIB).map_or(u64::MAX, |bytes| bytes / 1_000);
        let size = Resources::cpu_memory(*cpu_milli, memory);
        check_task(&size).map_err(|what| wrong(number, what))?;
        if *duration_ms == 0 {
            return Err(wrong(number, "a task runs for at least 0.001 s".to_owned()));
        }
        tasks.push(Traced {
            arrival_ms: *arrival_ms,
            duration_ms: *duration_ms,
            size: TaskSize(size),
        });
    }
    if tasks.is_empty() {
        return Err(wrong(1, "the trace has no task".to_owned()));
    }
    tasks.sort_by_key(|task| task.arrival_ms);
    Ok(tasks)
}
