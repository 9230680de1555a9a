//! The runs, in memory and in durable state, which say the same at the end of every turn.
//!
//! Durable keys: `run/N` the run, `got/N` how far its instances are, `key/KEY` the number, `next` the next number,
//! `keep/sha256:HEX/N` so that the cluster keeps what a run that waits will need. It is
//! bounded: of runs that have ended only the newest are kept, and those without what they were asked to do.

use crate::api::RunSpec;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use tepui_sdk::Cx;

/// Ended runs that are remembered.
pub const ENDED_RUNS: usize = 1_000;
/// Durable bytes of ended runs that are remembered, about.
const ENDED_BYTES: usize = 1 << 20;
/// Durable bytes of runs that have not ended; beyond this no run is taken on.
const ACTIVE_BYTES: usize = 2 << 20;

/// Where an instance is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Instance {
    /// To be launched; it was so often, and never began.
    Waiting(u32),
    /// Launched; which launch it is.
    Launched(u32),
    /// Launched, and asked to stop; which launch it is.
    Stopping(u32),
    /// Over.
    Ended(End),
}

/// How an instance ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The state's word.
    pub state: String,
    /// Which launch it was.
    pub launch: u32,
    /// If it had one.
    pub exit_code: Option<i32>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    key: String,
    /// Gone once it has ended.
    spec: Option<RunSpec>,
}

/// One run and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    key: String,
    /// What to do; none once it has ended.
    pub spec: Option<RunSpec>,
    /// By number.
    pub instances: Vec<Instance>,
    /// About what it takes in durable state.
    bytes: usize,
}

impl Run {
    fn new(key: String, spec: Option<RunSpec>, instances: Vec<Instance>) -> Self {
        let text = |spec: &RunSpec| {
            let env: usize =
                spec.env.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
            // Each source stands in a key as well.
            let inputs: usize = spec
                .inputs
                .iter()
                .map(|input| 2 * input.source.len() + input.path.len() + 20)
                .sum();
            let outputs: usize =
                spec.outputs.iter().map(|output| output.path.len() + output.blob.len() + 4).sum();
            256 + spec.args.iter().map(|arg| arg.len() + 2).sum::<usize>() + env + inputs + outputs
        };
        // An ended instance takes a word and a code.
        let bytes = 64 + 2 * key.len() + spec.as_ref().map_or(0, text) + 16 * instances.len();
        Self { key, spec, instances, bytes }
    }

    /// Durable keys that keep its module and its inputs in the cluster until it has ended.
    fn kept(&self, number: u64) -> Vec<String> {
        let Some(spec) = &self.spec else { return Vec::new() };
        let sources = spec.inputs.iter().map(|input| &input.source);
        let names = sources.chain([&spec.module]);
        let names = names.map(|name| format!("keep/{}/{number}", name.to_ascii_lowercase()));
        names.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Numbers of the instances that are to be launched, and how often they were.
    pub fn waiting(&self) -> impl Iterator<Item = (usize, u32)> {
        self.instances.iter().enumerate().filter_map(|(number, state)| match state {
            Instance::Waiting(launches) => Some((number, *launches)),
            _ => None,
        })
    }
}

/// All runs that are remembered.
#[derive(Debug, Default)]
pub struct Book {
    runs: BTreeMap<u64, Run>,
    ended: BTreeSet<u64>,
    waiting: BTreeSet<u64>,
    keys: BTreeMap<String, u64>,
    /// Runs whose instances have changed in this turn.
    changed: BTreeSet<u64>,
    active_bytes: usize,
    ended_bytes: usize,
}

impl Book {
    /// Reads it.
    pub fn load(cx: &Cx) -> Self {
        let mut book = Self::default();
        for name in cx.keys("run/") {
            let number = name.strip_prefix("run/").and_then(|number| number.parse().ok());
            let Some((number, stored)) = number.zip(cx.get::<Stored>(&name)) else { continue };
            let instances = cx.get(&format!("got/{number}")).unwrap_or_default();
            book.insert(number, Run::new(stored.key, stored.spec, instances));
        }
        book
    }

    fn insert(&mut self, number: u64, run: Run) {
        let (set, bytes) = match run.spec {
            Some(_) => (&mut self.waiting, &mut self.active_bytes),
            None => (&mut self.ended, &mut self.ended_bytes),
        };
        if run.spec.is_none() || run.waiting().next().is_some() {
            set.insert(number);
        }
        *bytes += run.bytes;
        self.keys.insert(run.key.clone(), number);
        self.runs.insert(number, run);
    }

    /// A run by its number.
    pub fn run(&self, number: u64) -> Option<&Run> {
        self.runs.get(&number)
    }

    /// The run that a key began.
    pub fn by_key(&self, key: &str) -> Option<(u64, &Run)> {
        let number = *self.keys.get(key)?;
        Some((number, self.runs.get(&number)?))
    }

    /// Instances that were asked to stop: run, instance and launch.
    pub fn stopping(&self) -> impl Iterator<Item = (u64, usize, u32)> {
        self.runs.iter().flat_map(|(number, run)| {
            run.instances.iter().enumerate().filter_map(|(instance, state)| match state {
                Instance::Stopping(launch) => Some((*number, instance, *launch)),
                _ => None,
            })
        })
    }

    /// Runs with instances that wait, oldest first.
    pub fn waiting(&self) -> impl Iterator<Item = u64> {
        self.waiting.iter().copied()
    }

    /// Records a new run and returns its number; none if there is no room for it.
    pub fn begin(&mut self, cx: &mut Cx, spec: RunSpec) -> Option<u64> {
        let instances = vec![Instance::Waiting(0); usize::try_from(spec.instances).ok()?];
        let run = Run::new(spec.key.clone(), Some(spec), instances);
        if self.active_bytes + run.bytes > ACTIVE_BYTES {
            return None;
        }
        let number = cx.add("next", 1);
        cx.put(&format!("key/{}", run.key), &number);
        cx.put(&format!("run/{number}"), &Stored { key: run.key.clone(), spec: run.spec.clone() });
        cx.put(&format!("got/{number}"), &run.instances);
        for name in run.kept(number) {
            cx.put(&name, &());
        }
        self.insert(number, run);
        Some(number)
    }

    /// Writes down what has changed: all instances of a run at once, since they are one value.
    pub fn write(&mut self, cx: &mut Cx) {
        for number in std::mem::take(&mut self.changed) {
            if let Some(run) = self.runs.get(&number) {
                cx.put(&format!("got/{number}"), &run.instances);
            }
        }
    }

    /// Records where an instance is now, until it is written at the end of the turn. An instance that has ended stays so.
    pub fn set(&mut self, cx: &mut Cx, number: u64, instance: usize, state: Instance) {
        let Some(run) = self.runs.get_mut(&number) else { return };
        let Some(place) = run.instances.get_mut(instance) else { return };
        if matches!(place, Instance::Ended(..)) {
            return;
        }
        *place = state;
        self.changed.insert(number);
        if run.waiting().next().is_none() {
            self.waiting.remove(&number);
        } else {
            self.waiting.insert(number);
        }
        if run.instances.iter().all(|state| matches!(state, Instance::Ended(..))) {
            self.end(cx, number);
        }
    }

    fn end(&mut self, cx: &mut Cx, number: u64) {
        let Some(run) = self.runs.remove(&number) else { return };
        self.active_bytes = self.active_bytes.saturating_sub(run.bytes);
        for name in run.kept(number) {
            cx.delete(&name);
        }
        cx.put(&format!("run/{number}"), &Stored { key: run.key.clone(), spec: None });
        self.insert(number, Run::new(run.key, None, run.instances));
        while self.ended.len() > ENDED_RUNS || self.ended_bytes > ENDED_BYTES {
            let Some(oldest) = self.ended.pop_first() else { break };
            self.forget(cx, oldest);
        }
    }

    fn forget(&mut self, cx: &mut Cx, number: u64) {
        let Some(run) = self.runs.remove(&number) else { return };
        self.ended_bytes = self.ended_bytes.saturating_sub(run.bytes);
        self.keys.remove(&run.key);
        for key in [format!("run/{number}"), format!("got/{number}"), format!("key/{}", run.key)] {
            cx.delete(&key);
        }
    }
}
