//! `tepui simulate`, as a person calls it.

use std::fs;
use std::path::Path;
use tepui_e2e::{Folder, Program, Ran, root, tepui_program};

fn simulate(args: &[&str]) -> Ran {
    let args = std::iter::once("simulate").chain(args.iter().copied());
    Program::new(tepui_program(), args).without_env("TEPUI_CONTEXT").run()
}

fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_component_as_submitted_runs_in_virtual_time() {
    let files: Vec<Vec<u8>> = (0..4).map(|at| format!("word {at} ").repeat(4_000).into()).collect();
    let folder = Folder::wordcount("wordcount", &files, 4 << 10);
    let text = fs::read_to_string(root().join("simulator/scenarios/wordcount.toml")).unwrap();
    let named = format!("component = {:?}", folder.written());
    let dir = tempfile::tempdir().unwrap();
    let (scenario, out) = (dir.path().join("words.toml"), dir.path().join("out"));
    fs::write(&scenario, text.replace("component = \"wordcount\"", &named)).unwrap();
    let args = [shown(&scenario), "--out", shown(&out), "-o", "json"];

    let first = simulate(&args).good();
    let report = first.json();
    let words = &report["frameworks"][0];
    assert_eq!((&words["name"], &words["ended"]), (&"wordcount".into(), &1.into()), "{words}");
    // 28,000 bytes a file and 4 KiB a map are at least 28 maps, then merges.
    assert!(words["tasks"]["finished"].as_u64().unwrap() > 28, "{words}");
    assert!(words["fuel"].as_u64().unwrap() > 0, "it ran in the sandbox: {words}");
    assert!(words["waiting_ms"]["count"].as_u64().unwrap() > 28, "{words}");
    assert_eq!(report["problems"], serde_json::json!([]));

    assert_eq!(fs::read(out.join("report.json")).unwrap(), first.stdout);
    let page = fs::read(out.join("report.html")).unwrap();
    assert_eq!(simulate(&args).good().stdout, first.stdout, "one seed, one report");
    assert_eq!(fs::read(out.join("report.html")).unwrap(), page);
}

#[test]
fn a_shipped_scenario_is_run_by_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let ran = simulate(&["drf-paper", "--seed", "7", "--out", shown(dir.path())]).good();
    let line = ran.text();
    assert!(
        line.starts_with("simulated drf-paper: 5 tasks on 1 agent, 2 roles at 66.7 % and 66.7 %"),
        "{line}"
    );
    assert!(
        line.trim_end().ends_with("in 10.0 virtual s (seed 7)") && line.lines().count() == 1,
        "{line}"
    );
}

#[test]
fn a_bad_scenario_is_told_with_its_file_its_line_and_what_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    fs::write(&path, "duration = \"1s\"\ncolour = 1\n").unwrap();
    let ran = simulate(&[shown(&path)]);
    assert_eq!(ran.code, 2);
    assert!(
        ran.stderr.contains("bad.toml`, line 2, ") && ran.stderr.contains("`frameworks`"),
        "{}",
        ran.stderr
    );
    let absent = simulate(&["no-such-scenario"]);
    assert_eq!(absent.code, 2);
    assert!(
        absent.stderr.contains("hint: ") && absent.stderr.contains("drf-paper"),
        "{}",
        absent.stderr
    );
}
