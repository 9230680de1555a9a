//! Invariants, one per file, as checks of books and grants.

pub(crate) mod balance;
pub(crate) mod even;
pub(crate) mod fairness;
pub(crate) mod grants;
pub(crate) mod guarantees;
pub(crate) mod rest;
pub(crate) mod tallies;
