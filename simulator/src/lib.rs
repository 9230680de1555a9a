//! A cluster in virtual time: the real leader, virtual agents and tasks, native schedulers or tenants' own.
//!
//! Owns scenarios, the virtual world, and the report. Never reads a clock, and draws no chance but its seed's: the same
//! scenario and seed give the same report, byte for byte. Its one surprise: what decides is the code of the real master
//! and, for components, of the real cell; only agents and tasks are made up.

mod agents;
mod amounts;
mod chance;
mod html;
mod report;
mod scenario;
mod schedulers;
mod shipped;
mod simulation;
mod svg;
mod tally;
mod workload;

pub use report::{
    AgentsReport, AmountsReport, Ended, FrameworkReport, OffersReport, Problem, Quantiles, Report,
    RoleReport, RoleSamples, Samples, TasksReport, Totals,
};
pub use scenario::{Scenario, ScenarioError};
pub use simulation::{SimulateError, Submission, simulate};
