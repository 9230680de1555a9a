//! From wasmtime's errors to the reasons that people and schedulers are told.
//!
//! Its one surprise: a refusal that the limiter remembers outweighs what the guest did afterwards, since an abort
//! after a failed allocation looks like any other trap.

use crate::limiter::Limiter;
use tepui_proto::scheduler::SchedulerFailure;
use tepui_proto::{Reason, TaskState};
use wasmtime::{Error, PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::{I32Exit, ResourceTableError};

/// Words for people are cut here; a panic's own text is in the guest's log.
const MESSAGE_BYTES: usize = 512;
/// What wasmtime says of two limits that it has no type for.
const HANDLES: &str = "store handle limit exceeded";
const COPIED: &str = "fuel allocated for hostcalls has been exhausted";

/// How a guest's code ended, apart from what it used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) state: TaskState,
    pub(crate) reason: Reason,
    pub(crate) message: String,
    pub(crate) exit_code: Option<i32>,
}

impl Outcome {
    pub(crate) fn new(state: TaskState, reason: Reason, message: impl Into<String>) -> Self {
        Self { state, reason, message: message.into(), exit_code: None }
    }
}

/// What a command's own end means.
pub(crate) fn of_command(result: Result<(), Error>, limiter: &Limiter) -> Outcome {
    let Err(error) = result else { return exited(0, limiter) };
    if let Some(I32Exit(code)) = error.downcast_ref::<I32Exit>() {
        return exited(*code, limiter);
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Outcome::new(
            TaskState::Dropped,
            Reason::CellFull,
            "the cell has no room for another sandbox",
        );
    }
    let reason = match trap_reason(&error) {
        Reason::Trapped => refusal(limiter).unwrap_or(Reason::Trapped),
        other => other,
    };
    Outcome::new(TaskState::Failed, reason, words(&error, reason, limiter))
}

fn exited(code: i32, limiter: &Limiter) -> Outcome {
    if code == 0 {
        return Outcome {
            exit_code: Some(0),
            ..Outcome::new(TaskState::Finished, Reason::None, "")
        };
    }
    let reason = refusal(limiter).unwrap_or(Reason::ExitedNonzero);
    let message = match reason {
        Reason::OutOfMemory => memory_words(limiter),
        _ => format!("it exited with code {code}"),
    };
    Outcome { exit_code: Some(code), ..Outcome::new(TaskState::Failed, reason, message) }
}

/// What a scheduler's failure is called.
pub(crate) fn of_scheduler(error: &Error, limiter: &Limiter) -> (SchedulerFailure, String) {
    if error.is::<PoolConcurrencyLimitError>() {
        return (SchedulerFailure::Agent, "the cell has no room for another scheduler".to_owned());
    }
    let reason = match trap_reason(error) {
        Reason::Trapped => refusal(limiter).unwrap_or(Reason::Trapped),
        other => other,
    };
    let failure = match reason {
        // All that a scheduler hands over is its answer.
        Reason::Trapped if says(error, COPIED) => SchedulerFailure::AnswerTooLarge,
        Reason::OutOfFuel => SchedulerFailure::OutOfFuel,
        Reason::OutOfMemory => SchedulerFailure::OutOfMemory,
        Reason::StackExhausted => SchedulerFailure::StackExhausted,
        _ => SchedulerFailure::Trapped,
    };
    (failure, words(error, reason, limiter))
}

fn trap_reason(error: &Error) -> Reason {
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Reason::OutOfFuel,
        Some(Trap::StackOverflow) => Reason::StackExhausted,
        _ if matches!(error.downcast_ref(), Some(ResourceTableError::Full)) => {
            Reason::TooManyHandles
        }
        _ if says(error, HANDLES) => Reason::TooManyHandles,
        _ => Reason::Trapped,
    }
}

fn says(error: &Error, words: &str) -> bool {
    error.chain().any(|cause| cause.to_string().contains(words))
}

fn refusal(limiter: &Limiter) -> Option<Reason> {
    match (limiter.refused_memory, limiter.refused_table) {
        (true, _) => Some(Reason::OutOfMemory),
        (false, true) => Some(Reason::TooManyTableElements),
        (false, false) => None,
    }
}

fn memory_words(limiter: &Limiter) -> String {
    let limit = tepui_proto::resources::Bytes(limiter.limit());
    format!("it asked for more memory than its {limit}")
}

fn words(error: &Error, reason: Reason, limiter: &Limiter) -> String {
    match reason {
        Reason::OutOfMemory => memory_words(limiter),
        Reason::TooManyHandles => "it holds too many open files or handles".to_owned(),
        _ => cut(format!("{error:#}")),
    }
}

/// Cuts a text at a character's edge.
pub(crate) fn cut(mut text: String) -> String {
    let end = text.floor_char_boundary(MESSAGE_BYTES);
    text.truncate(end);
    text
}
