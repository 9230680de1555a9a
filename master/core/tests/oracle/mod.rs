//! A second allocator, deliberately simple, over a flat list of who holds what; and random clusters to compare it with the
//! real one on.

pub(crate) mod amounts;
pub(crate) mod books;
pub(crate) mod cluster;
pub(crate) mod config;
pub(crate) mod cycle;
pub(crate) mod judge;
pub(crate) mod plans;
pub(crate) mod quota;
pub(crate) mod served;
pub(crate) mod shares;
pub(crate) mod steps;
pub(crate) mod tree;
pub(crate) mod units;
