//! Tasks that misbehave end, and the reason that is told is the right one. What their neighbours feel of it is in
//! `tests/neighbours.rs`.

use tepui_e2e::{Cluster, guest};

/// What the task is told to do, its limits, and the reason for its end.
const MODES: &[(&str, &[&str], &str)] = &[
    ("loop", &["--fuel", "50000000"], "out-of-fuel"),
    ("loop", &["--time", "500ms"], "wall-time-exceeded"),
    ("memory", &["--memory", "24MiB"], "out-of-memory"),
    ("recurse", &[], "stack-exhausted"),
    ("trap", &[], "trapped"),
    ("log-flood", &["--time", "500ms"], "wall-time-exceeded"),
    ("fds", &["--disk", "16MiB"], "too-many-handles"),
];

#[test]
fn every_bad_task_ends_with_the_reason_for_it_and_its_cell_goes_on() {
    let cluster = Cluster::start(1);
    let hello = guest("hello.wasm").display().to_string();
    let _first = cluster.tepui(["run", &hello]).good();
    let cells = cluster.cells("agent-1");
    for module in ["bad-task.wasm", "bad-task-p2.wasm"] {
        let module = guest(module).display().to_string();
        for (mode, limits, reason) in MODES {
            let words = ["run", &module].into_iter().chain(limits.iter().copied());
            let ran = cluster.tepui(words.chain(["--", mode]));
            let told = &ran.stderr;
            assert_eq!(ran.code, 1, "{mode}: {told}");
            assert!(told.contains("error: "), "{mode}: {told}");
            let cause = told.lines().find(|line| line.starts_with("  caused by: task `run/r"));
            let cause = cause.unwrap_or_else(|| panic!("{mode}: no cause: {told}"));
            assert!(cause.ends_with(&format!("failed on agent `agent-1`: {reason}")), "{told}");
        }
    }
    assert_eq!(cluster.cells("agent-1"), cells, "a bad task took its cell with it");
}

#[test]
fn a_flood_is_cut_and_the_cut_is_told() {
    let cluster = Cluster::start(1);
    let module = guest("bad-task.wasm").display().to_string();
    let ran = cluster.tepui(["run", &module, "--time", "500ms", "--", "log-flood"]);
    assert_eq!(ran.stdout.len(), 1 << 20);
    assert!(ran.stderr.contains("were over its log limit and not kept"), "{}", ran.stderr);
}

#[test]
fn a_table_over_the_limit_never_runs() {
    let cluster = Cluster::start(1);
    let grown = r#"(module (memory (export "memory") 1) (table 1 funcref)
        (func (export "_start")
            (if (i32.lt_s (table.grow (ref.null func) (i32.const 1000000)) (i32.const 0))
                (then unreachable))))"#;
    let declared = r#"(module (memory (export "memory") 1) (table 1000000 funcref)
        (func (export "_start")))"#;
    for (name, text) in [("grown.wasm", grown), ("declared.wasm", declared)] {
        let module = cluster.scratch(name);
        std::fs::write(&module, wat::parse_str(text).unwrap()).unwrap();
        let ran = cluster.tepui(["run", &module.display().to_string()]);
        assert_eq!(ran.code, 1, "{}", ran.stderr);
        assert!(ran.stderr.contains("too-many-table-elements"), "{name}: {}", ran.stderr);
    }
}
