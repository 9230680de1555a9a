//! The scenarios that are part of the program, by name.

use crate::scenario::{Scenario, ScenarioError};
use std::path::Path;

/// Name and text of each.
const SHIPPED: [(&str, &str); 7] = [
    ("drf-paper", include_str!("../scenarios/drf-paper.toml")),
    ("edge-churn", include_str!("../scenarios/edge-churn.toml")),
    ("fifty-thousand", include_str!("../scenarios/fifty-thousand.toml")),
    ("lending", include_str!("../scenarios/lending.toml")),
    ("mixed-tenants", include_str!("../scenarios/mixed-tenants.toml")),
    ("starvation", include_str!("../scenarios/starvation.toml")),
    ("wordcount", include_str!("../scenarios/wordcount.toml")),
];

impl Scenario {
    /// The shipped scenario of that name, if there is one; its paths are relative to a folder.
    pub fn shipped(name: &str, folder: &Path) -> Option<Result<Self, ScenarioError>> {
        let (_, text) = SHIPPED.into_iter().find(|(shipped, _)| *shipped == name)?;
        Some(Self::parse(Path::new(&format!("{name}.toml")), text, folder))
    }

    /// The names of all shipped scenarios, in order.
    pub fn shipped_names() -> impl Iterator<Item = &'static str> {
        SHIPPED.into_iter().map(|(name, _)| name)
    }
}
