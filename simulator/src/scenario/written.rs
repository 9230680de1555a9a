//! The shape of a scenario file as it is written, before anything is checked.

use serde::Deserialize;
use toml::{Spanned, Value};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    pub(super) name: Option<Spanned<String>>,
    pub(super) about: Option<String>,
    pub(super) seed: Option<Spanned<i64>>,
    pub(super) duration: Spanned<Value>,
    pub(super) sample: Option<Spanned<Value>>,
    pub(super) batch: Option<Spanned<Value>>,
    #[serde(default)]
    pub(super) agents: Vec<WrittenAgents>,
    #[serde(default)]
    pub(super) roles: Vec<WrittenRole>,
    #[serde(default)]
    pub(super) frameworks: Vec<WrittenFramework>,
    #[serde(default)]
    pub(super) events: Vec<WrittenEvent>,
}

/// What an operator does: exactly one of the verbs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenEvent {
    pub(super) at: Spanned<Value>,
    pub(super) drain: Option<Spanned<String>>,
    pub(super) deactivate: Option<Spanned<String>>,
    pub(super) activate: Option<Spanned<String>>,
    pub(super) grace: Option<Spanned<Value>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenAgents {
    pub(super) name: Spanned<String>,
    pub(super) count: Option<Spanned<i64>>,
    pub(super) resources: Spanned<Value>,
    pub(super) attributes: Option<Spanned<Value>>,
    pub(super) region: Option<Spanned<String>>,
    pub(super) zone: Option<Spanned<String>>,
    pub(super) joins_at: Option<Spanned<Value>>,
    pub(super) joins_over: Option<Spanned<Value>>,
    pub(super) failures: Option<WrittenFailures>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenFailures {
    pub(super) mean_between: Spanned<Value>,
    pub(super) mean_return: Spanned<Value>,
    #[serde(default)]
    pub(super) keeps_tasks: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenRole {
    pub(super) name: Spanned<String>,
    pub(super) weight: Option<Spanned<Value>>,
    pub(super) guarantee: Option<Spanned<Value>>,
    pub(super) limit: Option<Spanned<Value>>,
    pub(super) packing: Option<Spanned<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenFramework {
    pub(super) name: Spanned<String>,
    pub(super) tenant: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) roles: Vec<Spanned<String>>,
    pub(super) count: Option<Spanned<i64>>,
    pub(super) submitted_at: Option<Spanned<Value>>,
    pub(super) scheduler: Option<Spanned<String>>,
    pub(super) component: Option<Spanned<String>>,
    pub(super) refuse_for: Option<Spanned<Value>>,
    pub(super) workload: Option<WrittenWorkload>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenWorkload {
    pub(super) task: Option<Spanned<Value>>,
    pub(super) tasks: Option<Spanned<i64>>,
    pub(super) arrivals: Option<Spanned<Value>>,
    pub(super) duration: Option<Spanned<Value>>,
    pub(super) csv: Option<Spanned<String>>,
    pub(super) revocable: Option<Spanned<bool>>,
    pub(super) priority: Option<Spanned<i32>>,
}
