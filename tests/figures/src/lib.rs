//! What all benches share: their words, lines of a result, and the machine that they were measured on.
//!
//! Never measures anything itself, and needs nothing of Tepui, so that a bench builds no more than what it measures.

pub mod machine;
pub mod program;
pub mod row;

pub use row::{Row, say};

/// Whatever went wrong: a bench has nobody who would handle it.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
