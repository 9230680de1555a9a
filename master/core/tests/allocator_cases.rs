//! The allocator offers what the cases say: every `*.txt` under `tests/cases/allocator`, or in the folder that
//! `TEPUI_ALLOCATOR_CASES` names. The format is described in that folder.

mod cases;

use cases::{run_folder, run_text};
use std::io::Write as _;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A relative path is one from the project's root.
fn folder() -> PathBuf {
    let named = std::env::var_os("TEPUI_ALLOCATOR_CASES");
    root().join(named.unwrap_or_else(|| "tests/cases/allocator".into()))
}

#[test]
fn allocator_cases() {
    let report = run_folder(&folder()).unwrap();
    let mut text = String::new();
    for failure in &report.failures {
        text.push_str(failure);
        text.push_str("\n\n");
    }
    text.push_str(&report.summary());
    // Past the harness, which keeps what a test prints to itself unless it fails.
    writeln!(std::io::stderr(), "{text}").unwrap();
    assert_eq!(report.failed, 0, "see above for the cases that failed");
}

/// What is wrong with a text of cases, as one.
fn failures(text: &str) -> String {
    run_text("a.txt", text).failures.join("\n")
}

#[test]
fn an_unknown_word_is_refused_with_its_line() {
    for (line, what) in [
        ("agnet A1 cpus:1", "unknown word `agnet`"),
        ("agent A1 cpus:1 caps=some", "unknown word `caps=some`"),
        ("agent A1 cpus:1{", "are not resources"),
        ("framework F1 roles=r caps=TELEPATHY", "unknown capability `TELEPATHY`"),
        ("framework F1 roles=r sleepy", "unknown word `sleepy`"),
        ("recover F1 A1 r all filtre=2", "unknown word `filtre=2`"),
        ("none whatever", "unknown word `whatever`"),
        ("order a,b", "unknown word `order`"),
        ("set speed=2", "unknown word `speed=2`"),
        ("tick soon", "`soon` is not a number"),
        ("weight r 0", "a weight is not zero"),
        ("share r", "`share` needs a share"),
    ] {
        let found = failures(&format!("# words\n\ncase Odd\n  {line}\ncase Good\n  none\n"));
        assert!(found.starts_with("a.txt:4: Odd: ") && found.contains(what), "{line}: {found}");
    }
    assert!(failures("none\n").starts_with("a.txt:1: : `none` stands before"));
    assert!(failures("sorter S\n  tick 1\n").starts_with("a.txt:2: S: unknown word `tick`"));
}

#[test]
fn a_case_that_cannot_be_read_counts_as_failed_and_the_others_run() {
    let report = run_text("a.txt", "case Odd\n  agnet A1\n  agnet A2\ncase Good\n  none\n");
    assert_eq!((report.cases, report.failed, report.failures.len()), (2, 1, 2));
}

#[test]
fn a_wrong_expectation_fails() {
    let begin = "case Wrong\n  agent A1 cpus:2;mem:1024\n  framework F1 roles=r\n";
    let right = "offer F1 r A1 cpus:2;mem:1024";
    assert_eq!(failures(&format!("{begin}{right}\n")), "");
    assert_eq!(failures(&format!("{begin}offer-total F1 r cpus:2;mem:1024\n")), "");
    assert_eq!(failures(&format!("{begin}offer-agents F1 1\nshare r 1\n")), "");
    for wrong in [
        "none",
        "offer F1 r A1 cpus:2;mem:1023",
        "offer F1 r A1 cpus:2",
        "offer F1 q A1 cpus:2;mem:1024",
        "offer F2 r A1 cpus:2;mem:1024",
        "offer F1 r A2 cpus:2;mem:1024",
        "offer-total F1 r cpus:1;mem:1024",
        "offer-total F2 r cpus:2;mem:1024",
        "offer-agents F1 2",
        "inverse F1 A1",
        "share r 0.5",
        "share r absent",
        "share q 1",
        "rounds 2 F1=2",
        "deactivate F2",
    ] {
        let found = failures(&format!("{begin}{wrong}\n"));
        assert!(found.starts_with("a.txt:4: Wrong (seeds ["), "{wrong}: {found}");
    }
    // Each offer is expected once, and none is left out.
    let found = failures(&format!("{begin}{right}\n{right}\n"));
    assert!(found.contains("expected:\n    offer F1 r A1") && found.contains("actual:"), "{found}");
    assert_ne!(failures("sorter Wrong\n  add a,b\n  order b,a\n"), "");
}

#[test]
fn a_folder_without_cases_is_an_error() {
    let error = run_folder(&root().join("master/core/src")).unwrap_err();
    assert!(error.starts_with("there are no cases in"), "{error}");
    assert!(run_folder(&root().join("no-such-folder")).is_err());
}
