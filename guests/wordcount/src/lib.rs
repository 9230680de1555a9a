//! Counts the words of all blobs named `in/…`, and completes with a blob `result`.
//!
//! It owns a plan (a function of the inputs and the settings) and, durably, one small record per step that was ever
//! begun; everything else is found again from these. A launch and the record of it are one turn, and a final update
//! comes once, so whatever dies, no step is done twice at a time and none is forgotten.
//!
//! Settings: `split_bytes` (1 MiB) of input a map, `task` (`task`) the module's name, `map_disk_mib`, `reduce_disk_mib`
//! (64). The result begins with a line `words N distinct M`; then `COUNT WORD`, most frequent first. The surprise: the
//! scheduler cannot read blobs, so its last message says how much was done, not what came out.

mod plan;

pub use plan::{FAN_IN, Piece, Plan, Step};

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tepui_sdk::{
    Blob, Cx, Offer, Remaining, Resources, Scheduler, Start, Task, TaskState, TaskStatus, Want,
};

/// Failures of a step's own doing after which the whole is given up.
const FAILURES: u32 = 5;
/// Attempts at a step, those included that failed through no fault of its own.
const ATTEMPTS: u32 = 100;
const MAPS: u32 = 0;
const MERGES: u32 = 1;

/// Where a step is. Absent from durable state it is as by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    phase: Phase,
    /// The next attempt, or the one that is on its way or done.
    attempt: u32,
    /// Attempts that failed by themselves.
    failures: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Phase {
    #[default]
    Waiting,
    Launched,
    Done,
}

/// The plan and how far it has come, as durable state has it.
#[derive(Default)]
pub struct WordCount {
    plan: Plan,
    parents: Vec<Option<usize>>,
    records: Vec<Record>,
    /// Inputs that each step still waits for.
    missing: Vec<usize>,
    /// Steps that could be launched now; maps come first.
    ready: BTreeSet<usize>,
    module: String,
    map_size: Resources,
    merge_size: Resources,
}

fn key(step: usize) -> String {
    format!("step/{step}")
}

impl WordCount {
    fn load(&mut self, cx: &Cx) {
        let split_bytes = split_bytes(cx);
        let inputs = cx
            .blobs()
            .iter()
            .filter(|blob| blob.name.starts_with("in/"))
            .cloned()
            .collect::<Vec<Blob>>();
        self.plan = Plan::new(inputs, split_bytes);
        self.parents = self.plan.parents();
        self.records = vec![Record::default(); self.plan.steps.len()];
        for name in cx.keys("step/") {
            let step = name.strip_prefix("step/").and_then(|step| step.parse::<usize>().ok());
            let record = step.and_then(|step| self.records.get_mut(step));
            if let Some((record, stored)) = record.zip(cx.get(&name)) {
                *record = stored;
            }
        }
        let records = &self.records;
        let is_missing =
            |step: &&usize| records.get(**step).is_none_or(|record| record.phase != Phase::Done);
        let missing = self.plan.steps.iter().map(|step| match step {
            Step::Map(_) => 0,
            Step::Merge(inputs) => inputs.iter().filter(is_missing).count(),
        });
        self.missing = missing.collect();
        let steps = self.records.iter().zip(&self.missing).enumerate();
        let ready =
            steps.filter(|(_, (record, missing))| record.phase == Phase::Waiting && **missing == 0);
        self.ready = ready.map(|(step, _)| step).collect();
        self.module = cx.config("task").unwrap_or("task").to_owned();
        let map_disk_mib = cx.setting("map_disk_mib").unwrap_or((split_bytes >> 17) + 16);
        let merge_disk_mib: u64 = cx.setting("reduce_disk_mib").unwrap_or(64);
        let size = Resources::cpu_memory(200, 64);
        self.map_size = Resources { disk_bytes: map_disk_mib << 20, ..size.clone() };
        self.merge_size = Resources { disk_bytes: merge_disk_mib << 20, ..size };
    }

    fn size(&self, step: usize) -> &Resources {
        if step < self.plan.maps { &self.map_size } else { &self.merge_size }
    }

    fn task(&self, step: usize) -> Option<Task> {
        let attempt = self.records.get(step)?.attempt;
        let (id, blob) = self.plan.names(step, attempt);
        let task = Task::command(id, self.module.as_str())
            .resources(self.size(step).clone())
            .output("out", blob);
        Some(match self.plan.steps.get(step)? {
            Step::Map(pieces) => {
                pieces.iter().enumerate().fold(task.args(["map", "out"]), |task, (at, piece)| {
                    let name =
                        self.plan.blobs.get(piece.blob).map_or("", |blob| blob.name.as_str());
                    let Piece { blob, first, length, last } = piece;
                    let task =
                        task.arg(format!("{blob}:{first}:{length}:{}:p{at}", u8::from(*last)));
                    task.input_range(format!("blob:{name}"), *first, *length, format!("p{at}"))
                })
            }
            Step::Merge(inputs) => {
                let verb = if step + 1 == self.plan.steps.len() { "final" } else { "reduce" };
                inputs.iter().enumerate().fold(task.args([verb, "out"]), |task, (at, input)| {
                    let attempt = self.records.get(*input).map_or(0, |record| record.attempt);
                    let (_, blob) = self.plan.names(*input, attempt);
                    task.arg(format!("p{at}")).input(format!("blob:{blob}"), format!("p{at}"))
                })
            }
        })
    }

    /// The first step that could be launched on what is left of an offer.
    fn next_fitting(&self, left: &Remaining) -> Option<usize> {
        let map = self.ready.first().copied().filter(|step| *step < self.plan.maps);
        let merge = self.ready.range(self.plan.maps..).next().copied();
        [map, merge].into_iter().flatten().find(|step| left.fits(self.size(*step)))
    }

    fn record(&mut self, cx: &mut Cx, step: usize, record: Record) {
        if let Some(place) = self.records.get_mut(step) {
            *place = record;
            cx.put(&key(step), &record);
        }
    }

    fn on_done(&mut self, cx: &mut Cx, step: usize, record: Record) {
        self.record(cx, step, Record { phase: Phase::Done, ..record });
        let Some(parent) = self.parents.get(step).copied().flatten() else { return };
        if let Some(missing) = self.missing.get_mut(parent) {
            *missing = missing.saturating_sub(1);
            if *missing == 0 {
                self.ready.insert(parent);
            }
        }
    }

    fn on_failed(&mut self, cx: &mut Cx, step: usize, record: Record, status: &TaskStatus) {
        let failures = record.failures + u32::from(is_own_fault(status));
        let next = Record { phase: Phase::Waiting, attempt: record.attempt + 1, failures };
        tepui_sdk::warn!("{} ended: {}", status.task, status.describe());
        self.record(cx, step, next);
        self.ready.insert(step);
        if failures >= FAILURES || next.attempt >= ATTEMPTS {
            let (attempts, task, why) = (next.attempt, &status.task, status.describe());
            cx.fail(format!(
                "given up after {attempts} attempts; the last, task `{task}`, ended: {why}"
            ));
        }
    }
}

fn split_bytes(cx: &Cx) -> u64 {
    cx.setting("split_bytes").filter(|bytes| *bytes > 0).unwrap_or(1 << 20)
}

/// Whether the task itself is to blame, rather than its machine, its neighbours, or an offer that ran out.
fn is_own_fault(status: &TaskStatus) -> bool {
    let machine = [
        "cell-died",
        "cell-full",
        "agent-restarted",
        "agent-replaced",
        "agent-unreachable",
        "agent-failed",
    ];
    matches!(status.state, TaskState::Failed | TaskState::Error | TaskState::Killed)
        && !machine.contains(&status.reason.as_str())
}

impl Scheduler for WordCount {
    fn on_start(&mut self, cx: &mut Cx, _start: &Start) {
        self.load(cx);
        let print = self.plan.fingerprint(split_bytes(cx));
        match cx.get::<u64>("plan") {
            None => {
                cx.put("plan", &print);
                tepui_sdk::info!("{} maps over {} blobs", self.plan.maps, self.plan.blobs.len());
            }
            Some(before) if before != print => {
                cx.fail("the inputs or `split_bytes` have changed since the count began; submit it under another name");
            }
            Some(_) => {}
        }
    }

    fn on_update(&mut self, cx: &mut Cx, status: TaskStatus) {
        let Some((step, attempt)) = self.plan.step_of(&status.task).filter(|_| status.is_final())
        else {
            return;
        };
        let Some(record) = self.records.get(step).copied() else { return };
        if record.phase != Phase::Launched || record.attempt != attempt {
            return;
        }
        if status.has_finished() {
            self.on_done(cx, step, record);
        } else {
            self.on_failed(cx, step, record, &status);
        }
    }

    fn on_offers(&mut self, cx: &mut Cx, offers: Vec<Offer>) {
        for offer in &offers {
            let mut left = Remaining::of(offer);
            while let Some(step) = self.next_fitting(&left).filter(|_| !cx.is_ending()) {
                let Some(task) = self.task(step).filter(|task| cx.has_room(task)) else { break };
                if !left.take(&task) {
                    break;
                }
                cx.accept(offer).launch(task).refuse_for(0);
                self.ready.remove(&step);
                let record = self.records.get(step).copied().unwrap_or_default();
                self.record(cx, step, Record { phase: Phase::Launched, ..record });
            }
        }
    }

    fn on_turn_end(&mut self, cx: &mut Cx) {
        if cx.is_ending() {
            return;
        }
        cx.decline_rest(0);
        if let Some(last) = self.records.last().filter(|last| last.phase == Phase::Done) {
            let (_, result) = self.plan.names(self.records.len().saturating_sub(1), last.attempt);
            let attempts: u32 = self.records.iter().map(|record| record.attempt + 1).sum();
            let bytes: u64 = self.plan.blobs.iter().map(|blob| blob.size_bytes).sum();
            let (blobs, steps) = (self.plan.blobs.len(), self.records.len());
            let message = format!(
                "counted {bytes} bytes of {blobs} blobs in {steps} steps with {attempts} tasks"
            );
            return cx.complete_with(message, vec![result]);
        }
        let count = |steps: usize| u32::try_from(steps).unwrap_or(u32::MAX);
        let maps = self.ready.range(..self.plan.maps).count();
        let role = cx.first_role().to_owned();
        let maps_wanted = Want::new(MAPS, role.as_str(), count(maps), self.map_size.clone());
        let merges_wanted =
            Want::new(MERGES, role, count(self.ready.len() - maps), self.merge_size.clone());
        let mut wants = vec![maps_wanted, merges_wanted];
        wants.retain(|want| want.count > 0);
        cx.want(wants);
    }
}

tepui_sdk::export!(WordCount);

#[cfg(test)]
mod tests;
