//! What is wrong with a scenario is told with its file, its line, and what is allowed.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::BTreeMap;
use std::path::Path;
use tepui_simulator::{Scenario, SimulateError, simulate};

/// Lines 1 to 11; a framework that is whole.
const WHOLE: &str = "name = \"x\"\nduration = \"10s\"\n[[agents]]\nname = \"a\"\nresources = \"cpus:4;mem:2048\"\n\
                     [[frameworks]]\nname = \"f\"\nroles = [\"r\"]\nscheduler = \"wants\"\n[frameworks.workload]\n\
                     task = \"cpus:1;mem:64\"\n";
/// Lines 12 and 13.
const REST: &str = "tasks = 3\nduration = \"1s\"\n";

fn refusal(text: &str) -> String {
    Scenario::parse(Path::new("bad.toml"), text, Path::new("")).unwrap_err().to_string()
}

#[test]
fn a_whole_scenario_is_taken() {
    Scenario::parse(Path::new("good.toml"), &format!("{WHOLE}{REST}"), Path::new("")).unwrap();
}

#[test]
fn what_is_wrong_is_told_with_its_line_and_what_is_allowed() {
    for (from, to, line, told) in [
        ("duration = \"10s\"", "duration = \"10s\"\ncolour = 1", 3, "frameworks"),
        ("duration = \"10s\"", "duration = \"soon\"", 2, "until idle"),
        ("duration = \"10s\"", "duration = -10", 2, "until idle"),
        ("duration = \"10s\"", "duration = \"10s\"\nseed = -1", 3, "from 0"),
        ("cpus:4;mem:2048", "cpus:-4;mem:2048", 5, "cpus:8"),
        ("cpus:4;mem:2048", "mem:2048", 5, "cpus:8"),
        ("name = \"a\"", "name = \"a\"\ncount = -3", 5, "from 1"),
        ("name = \"a\"", "name = \"a\"\ncount = 0", 5, "from 1"),
        ("name = \"a\"", "name = \"../a\"", 4, "not allowed"),
        ("name = \"a\"", "name = \"a\"\nregion = \"here\"", 5, "`zone`"),
        (
            "name = \"a\"",
            "name = \"a\"\nfailures = { mean_between = \"0s\", mean_return = \"1s\" }",
            5,
            "above 0",
        ),
        ("roles = [\"r\"]", "roles = []", 7, "roles = [\"*\"]"),
        ("roles = [\"r\"]", "roles = [\"a//b\"]", 8, "not allowed"),
        ("\"wants\"", "\"lucky\"", 9, "decliner"),
        ("\"wants\"", "\"sitter\"", 7, "no `workload`"),
        ("scheduler = \"wants\"", "component = \"nowhere\"", 9, "tepui.toml"),
        ("mem:64", "mem:4096", 11, "256 MiB"),
        ("cpus:1;", "cpus:0;", 11, "cpus:0.001"),
        ("tasks = 3", "tasks = -3", 12, "from 1"),
        ("tasks = 3", "tasks = 3\narrivals = { poisson_per_s = -1.0 }", 13, "poisson_per_s = 0.5"),
        ("duration = \"1s\"", "duration = { normal = \"1s\" }", 13, "lognormal"),
        ("duration = \"1s\"", "duration = { uniform = [\"5s\", \"1s\"] }", 13, "uniform"),
        ("duration = \"1s\"", "duration = \"1s\"\ncsv = \"t.csv\"", 12, "not allowed"),
    ] {
        let text = format!("{WHOLE}{REST}").replacen(from, to, 1);
        // A trace leaves no room for the rest, whichever of it comes first.
        let line = if to.contains("csv") { 11 } else { line };
        let words = refusal(&text);
        assert!(words.starts_with(&format!("`bad.toml`, line {line}, ")), "{to}: {words}");
        assert!(words.contains(told), "{to}: {words}");
    }
}

#[test]
fn events_name_agents_that_are_there_and_do_one_thing() {
    for (event, line, told) in [
        ("at = \"1s\"\ndrain = \"b\"", 16, "named `b`"),
        ("at = \"1s\"\ndrain = \"a-2\"", 16, "named `a-2`"),
        ("at = \"1s\"", 15, "one of `drain`"),
        ("at = \"1s\"\ndrain = \"a\"\nactivate = \"a\"", 15, "one of `drain`"),
        ("at = \"1s\"\nactivate = \"a\"\ngrace = \"1s\"", 15, "goes with `drain`"),
        ("at = \"1s\"\ndrain = \"a\"\ngrace = \"9d\"", 17, "at most"),
        ("at = \"later\"\ndrain = \"a\"", 15, "`later`"),
    ] {
        let words = refusal(&format!("{WHOLE}{REST}[[events]]\n{event}\n"));
        assert!(words.starts_with(&format!("`bad.toml`, line {line}, ")), "{event}: {words}");
        assert!(words.contains(told), "{event}: {words}");
    }
}

#[test]
fn an_event_names_a_kind_or_one_of_its_agents_by_number() {
    let with = |name: &str| {
        let event = format!("[[events]]\nat = \"1s\"\ndeactivate = \"{name}\"\n");
        format!("{WHOLE}{REST}{event}").replacen("name = \"a\"", "name = \"a\"\ncount = 12", 1)
    };
    for good in ["a", "a-1", "a-12"] {
        Scenario::parse(Path::new("good.toml"), &with(good), Path::new("")).unwrap();
    }
    for bad in ["a-0", "a-13", "a-01", "a-", "b-1", "-1"] {
        assert!(refusal(&with(bad)).contains(&format!("named `{bad}`")), "{bad}");
    }
    let all = "[[events]]\nat = \"1s\"\ndrain = \"a\"\n".repeat(30);
    let text = format!("{WHOLE}{REST}{all}");
    let many = text.replacen("name = \"a\"", "name = \"a\"\ncount = 40000", 1);
    assert!(refusal(&many).contains("together name at most 1000000"));
}

#[test]
fn only_wants_are_lent_to() {
    let text = format!("{WHOLE}{REST}revocable = true\n");
    Scenario::parse(Path::new("good.toml"), &text, Path::new("")).unwrap();
    let words = refusal(&text.replace("\"wants\"", "\"coarse\""));
    assert!(words.contains("line 14") && words.contains("`wants`"), "{words}");
}

#[test]
fn an_event_that_the_leader_refuses_is_told_in_the_report() {
    let text = format!("{WHOLE}{REST}[[events]]\nat = \"1s\"\ndrain = \"a\"\n").replacen(
        "name = \"a\"",
        "name = \"a\"\njoins_at = \"5s\"",
        1,
    );
    let scenario = Scenario::parse(Path::new("x.toml"), &text, Path::new("")).unwrap();
    let report = simulate(&scenario, &BTreeMap::new()).unwrap();
    let lines: Vec<&str> = report.problems.iter().map(|problem| problem.line.as_str()).collect();
    assert!(lines.iter().any(|line| line.contains("an event for `a` was refused")), "{lines:?}");
}

#[test]
fn a_scenario_without_agents_or_frameworks_is_refused() {
    assert!(refusal("duration = \"1s\"\n").contains("[[agents]]"));
    let agents = "duration = \"1s\"\n[[agents]]\nname = \"a\"\nresources = \"cpus:1;mem:64\"\n";
    assert!(refusal(agents).contains("[[frameworks]]"));
}

#[test]
fn names_that_stand_twice_are_refused() {
    let twice = format!(
        "{WHOLE}{REST}[[frameworks]]\nname = \"f\"\nroles = [\"r\"]\nscheduler = \"sitter\"\n"
    );
    let words = refusal(&twice);
    assert!(words.contains("line 15") && words.contains("`f` stands twice"), "{words}");
}

#[test]
fn weights_are_above_zero_and_packings_are_known() {
    let with = |line: &str| refusal(&format!("{WHOLE}{REST}[[roles]]\nname = \"r\"\n{line}\n"));
    for line in ["weight = 0", "weight = -1", "weight = \"heavy\""] {
        let words = with(line);
        assert!(words.contains("line 16") && words.contains("above 0"), "{line}: {words}");
    }
    assert!(with("packing = \"tight\"").contains("`pack`"));
    assert!(with("limit = \"cpus:lots\"").contains("line 16"));
}

#[test]
fn an_absent_file_is_named() {
    let words = Scenario::read(Path::new("no/such.toml")).unwrap_err().to_string();
    assert!(words.contains("no/such.toml"), "{words}");
}

#[test]
fn a_bad_trace_is_told_with_its_own_line() {
    let dir = tempfile::tempdir().unwrap();
    let head = "arrival_s,duration_s,cpus,mem_mb\n";
    let text = WHOLE.replace("task = \"cpus:1;mem:64\"\n", "csv = \"trace.csv\"\n");
    let path = dir.path().join("s.toml");
    std::fs::write(&path, text).unwrap();
    let words = |trace: &str| {
        std::fs::write(dir.path().join("trace.csv"), trace).unwrap();
        Scenario::read(&path).unwrap_err().to_string()
    };
    for (trace, line, told) in [
        ("when,what\n".to_owned(), 1, "arrival_s,duration_s,cpus,mem_mb"),
        (format!("{head}0,1,1,64\n0,-1,1,64\n"), 3, "four numbers"),
        (format!("{head}0,1,1\n"), 2, "four numbers"),
        (format!("{head}0,1,1,4096\n"), 2, "256 MiB"),
        (format!("{head}0,0,1,64\n"), 2, "0.001 s"),
        (head.to_owned(), 1, "no task"),
    ] {
        let words = words(&trace);
        assert!(words.contains("trace.csv") && words.contains(&format!("line {line},")), "{words}");
        assert!(words.contains(told), "{words}");
    }
    std::fs::remove_file(dir.path().join("trace.csv")).unwrap();
    let words = Scenario::read(&path).unwrap_err().to_string();
    assert!(
        words.contains("s.toml") && words.contains("line 11") && words.contains("trace.csv"),
        "{words}"
    );
}

#[test]
fn settings_of_roles_that_do_not_hold_together_are_refused_by_the_leader() {
    let text = format!(
        "{WHOLE}{REST}[[roles]]\nname = \"r\"\nguarantee = \"cpus:2\"\nlimit = \"cpus:1\"\n"
    );
    let scenario = Scenario::parse(Path::new("x.toml"), &text, Path::new("")).unwrap();
    let error = simulate(&scenario, &BTreeMap::new()).unwrap_err();
    assert!(
        matches!(&error, SimulateError::Refused { why, .. } if why.contains("limit")),
        "{error}"
    );
}
