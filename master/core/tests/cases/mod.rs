//! Cases of what the allocator offers: text files of steps, each followed by what must have been offered since.
//!
//! `parse` reads the format into typed steps, `world` and `sorter` drive the real ledger, policy and allocator through
//! them, `check` compares. All calls into the engine stand in `engine`. Its one surprise: every block runs once per
//! seed, since the order of agents is drawn, and what a case expects holds for every order.

pub(crate) mod bundles;
pub(crate) mod check;
pub(crate) mod engine;
pub(crate) mod holdings;
pub(crate) mod lines;
pub(crate) mod names;
pub(crate) mod parse;
pub(crate) mod run;
pub(crate) mod sorter;
pub(crate) mod step;
pub(crate) mod words;
pub(crate) mod world;

pub(crate) use run::{run_folder, run_text};
