//! A cell: the process that holds one tenant's sandboxes, and the one place that knows wasmtime.
//!
//! Owns the engines and their settings, the limits of guests and how they are enforced, and the conversion between
//! the guests' words (WIT) and the wire's. Never talks to a network, never decides where or when something runs,
//! and never loads compiled code that this machine did not make itself. Its one surprise: a command's fuel budgets
//! it, but its share of a core is measured time, because a unit of fuel costs more or less with the program.

mod bindings;
mod cache;
pub mod command;
pub mod compile;
mod convert;
mod cpu;
mod disk;
pub mod engine;
mod file_streams;
mod limiter;
pub mod link;
mod load;
mod log;
mod measure;
mod outcome;
mod p1;
mod p1_files;
mod p2;
mod p2_files;
mod process;
pub mod scheduler;
mod serve;
mod task_context;
mod turn_log;
mod wasi_virtual;
mod watch;

pub use command::{CommandHost, CommandModule, run_command};
pub use compile::{CompileError, compile, compile_main};
pub use disk::Shared;
pub use engine::{EngineError, engine_command, engine_scheduler};
pub use link::{Outbox, Outgoing, TaskLink};
pub use load::LoadError;
pub use process::{close_inherited, give_way};
pub use scheduler::{SchedulerHost, SchedulerInstance, SchedulerModule};
pub use serve::{CellError, run_cell, serve};
