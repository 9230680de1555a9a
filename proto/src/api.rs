//! The shapes of `/v1`, the HTTP interface for people and tools. Field names are stable.
//!
//! Amounts are integers: `cpu_milli` in thousandths of a core, `*_bytes` in bytes, `*_ms` in milliseconds; `at` in
//! milliseconds since the Unix epoch.

mod operators;

pub use operators::*;

use crate::tasks::{Blob, Usage};
use crate::{Resources, TaskState};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A refusal. `code` is stable and has a paragraph in `docs/OPERATING.md`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// Stable.
    pub code: String,
    /// For people.
    pub message: String,
    /// What could be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What a framework is submitted with: `PUT /v1/frameworks/NAME`. Modules and blobs are uploaded before.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameworkSpec {
    /// Unique within the tenant.
    pub name: String,
    /// At least one.
    pub roles: Vec<String>,
    /// The SHA-256 of the scheduler component.
    pub scheduler: String,
    /// SHA-256 by name.
    #[serde(default)]
    pub modules: BTreeMap<String, String>,
    /// SHA-256 by name.
    #[serde(default)]
    pub blobs: BTreeMap<String, String>,
    /// Told to the scheduler as they are.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    /// The scheduler's own share; none is the default.
    #[serde(default)]
    pub cpu_milli: Option<u64>,
    /// The scheduler's own memory; none is the default.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
}

/// Where a framework is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FrameworkPhase {
    /// Accepted; its scheduler has not begun.
    Submitted,
    /// Its scheduler takes turns.
    Running,
    /// Its scheduler failed too often; its tasks run on.
    Held,
    /// No more offers; its tasks are being stopped.
    Stopping,
    /// Over.
    Ended,
}

/// A framework, `GET /v1/frameworks` and `/v1/frameworks/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameworkView {
    /// The counter.
    pub id: u64,
    /// The tenant's name for it.
    pub name: String,
    /// Whose.
    pub tenant: String,
    /// Its roles.
    pub roles: Vec<String>,
    /// Where it is in its life.
    pub phase: FrameworkPhase,
    /// Why, for people.
    pub message: String,
    /// Whether it did what it was for; once it has ended.
    pub success: Option<bool>,
    /// Named results that outlive it.
    pub results: Vec<Blob>,
    /// Instances of its scheduler so far.
    pub incarnation: u64,
    /// Committed turns.
    pub turns: u64,
    /// Fuel of its scheduler.
    pub scheduler_fuel: u64,
    /// The agent that runs its scheduler.
    pub scheduler_agent: Option<String>,
    /// Failures since the last committed turn.
    pub failures: u32,
    /// How many tasks in which state, retained ended ones included.
    pub tasks: BTreeMap<String, u64>,
    /// What its tasks use.
    pub used: Resources,
    /// Offers that are out.
    pub offers: u64,
    /// When it was submitted.
    pub submitted_at: u64,
    /// When it ended.
    pub ended_at: Option<u64>,
}

/// A task, `GET /v1/tasks` and `/v1/tasks/FRAMEWORK/ID`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskView {
    /// `FRAMEWORK/ID`.
    pub id: String,
    /// The framework's name.
    pub framework: String,
    /// The scheduler's name for it.
    pub task: String,
    /// For people.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Where it runs or ran.
    pub agent: Option<String>,
    /// Where it is in its life.
    pub state: TaskState,
    /// Stable.
    pub reason: String,
    /// For people.
    pub message: String,
    /// If it ended by itself.
    pub exit_code: Option<i32>,
    /// What it holds.
    pub resources: Resources,
    /// What was kept.
    pub outputs: Vec<Blob>,
    /// What it used.
    pub usage: Usage,
    /// Of the last change.
    pub at: u64,
}

/// An agent, `GET /v1/agents` and `/v1/agents/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentView {
    /// Its name.
    pub id: String,
    /// Its host.
    pub hostname: String,
    /// `connected`, `away` for a moment, or `unreachable`.
    pub state: String,
    /// All it has.
    pub total: Resources,
    /// Held back for schedulers, and not offered.
    pub held_back: Resources,
    /// Neither offered nor used.
    pub free: Resources,
    /// On offer.
    pub offered: Resources,
    /// Held by tasks and schedulers.
    pub used: Resources,
    /// Live tasks.
    pub tasks: u64,
    /// How many it can run at once, as it said itself; with so many it is not offered. None while it is not connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tasks: Option<u64>,
    /// Whether its disk has room for more, as it said itself; without any it is not offered. None while it is not
    /// connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has_room: Option<bool>,
    /// Schedulers.
    pub schedulers: u64,
    /// Tepui's version there.
    pub version: String,
    /// `active`, `inactive`, `draining`, `drained`, or `gone`.
    pub mode: String,
    /// When it is to go down, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailability: Option<MaintenanceSpec>,
    /// What it has beside what anyone may use: reservations, volumes, revocable resources, whole disks, as text in the
    /// notation, such as `cpus(web):2;cpus{rev}:4`. Empty: nothing.
    #[serde(default)]
    pub pools: String,
    /// Of that, what is neither offered nor used.
    #[serde(default)]
    pub free_pools: String,
}

/// A blob, `GET /v1/blobs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobView {
    /// SHA-256.
    pub digest: String,
    /// How many bytes.
    pub size_bytes: u64,
}

/// Something that happened to a framework, `GET /v1/frameworks/NAME/events`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Rises.
    pub seq: u64,
    /// When.
    pub at: u64,
    /// What sort.
    pub kind: String,
    /// For people.
    pub message: String,
}

/// A page of a listing. `next` continues it, as `?after=`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// In order of their names.
    pub items: Vec<T>,
    /// Where the next page begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A piece of a log, one JSON object a line of `GET /v1/tasks/FRAMEWORK/ID/logs?follow=true&streams=stdout,stderr&offset=0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLine {
    /// Bytes, base64.
    Stdout(String),
    /// Bytes, base64.
    Stderr(String),
    /// The logs are over; bytes past the limit were dropped so often from each.
    End {
        /// Of standard output.
        stdout_dropped: u64,
        /// Of standard error.
        stderr_dropped: u64,
    },
    /// The logs cannot be had.
    Missing(String),
}

/// `GET /v1/cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterView {
    /// Tepui's version.
    pub version: String,
    /// The leader's term.
    pub term: u64,
    /// Agents that are connected.
    pub agents: u64,
    /// Index of the last committed entry.
    pub index: u64,
    /// The state's digest, in hexadecimal.
    pub digest: String,
}
