//! Claims about whole simulations.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::BTreeMap;
use std::path::Path;
use tepui_simulator::{Ended, FrameworkReport, Report, Scenario, simulate};

fn run(scenario: &Scenario) -> Report {
    simulate(scenario, &BTreeMap::new()).unwrap()
}

fn shipped(name: &str) -> Scenario {
    Scenario::shipped(name, Path::new("")).unwrap().unwrap()
}

fn parse(text: &str) -> Scenario {
    Scenario::parse(Path::new("test.toml"), text, Path::new("")).unwrap()
}

fn framework<'a>(report: &'a Report, name: &str) -> &'a FrameworkReport {
    report.frameworks.iter().find(|framework| framework.name == name).unwrap()
}

#[test]
fn the_example_of_the_paper_ends_at_three_and_two_tasks() {
    let report = run(&shipped("drf-paper"));
    let running = |name| framework(&report, name).tasks.running;
    assert_eq!((running("a"), running("b")), (3, 2), "{}", report.line());
    let shares: Vec<u64> = report.roles.iter().map(|role| role.share_milli).collect();
    assert_eq!(shares, [667, 667]);
    assert_eq!(report.ended, Ended::Duration);
    assert!(report.line().contains("2 roles at 66.7 % and 66.7 %"), "{}", report.line());
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}
