//! What people get wrong: refused with the place and what is allowed, in one form, and nothing stays behind.

use serde_json::{Value, json};
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use tepui_e2e::{Cluster, Folder, Program, Ran, guest, tepui_program};

/// `error: …`, then causes, then perhaps a hint; every line of it one of these.
pub(super) fn assert_refused(ran: &Ran, code: i32, words: &[&str]) {
    let told = &ran.stderr;
    assert_eq!(ran.code, code, "{told}");
    assert_eq!(ran.text(), "", "words belong to standard error");
    let mut lines = told.lines();
    assert!(lines.next().is_some_and(|line| line.starts_with("error: ")), "{told}");
    let known = |line: &str| line.starts_with("  caused by: ") || line.starts_with("hint: ");
    assert!(lines.all(known), "{told}");
    for word in words {
        assert!(told.contains(word), "`{word}` is not in: {told}");
    }
}

fn submit(cluster: &Cluster, dir: &Path) -> Ran {
    cluster.tepui([OsStr::new("framework"), OsStr::new("submit"), dir.as_os_str()])
}

#[test]
fn a_bad_module_is_refused_at_submit_with_a_hint_and_nothing_stays() {
    let cluster = Cluster::start(1);
    let forbidden = r#"(module (import "env" "system" (func)) (memory (export "memory") 1)
        (func (export "_start")))"#;
    let library = r#"(module (func (export "add")))"#;
    // A section that is skipped, so that only the size is wrong.
    let mut large = b"\0asm\x01\0\0\0\0".to_vec();
    large.extend([0x81, 0x80, 0x80, 0x10, 0]);
    large.resize(large.len() + (32 << 20), 0);
    let cases: [(&str, Vec<u8>, &str); 4] = [
        ("text", b"#!/bin/sh\necho no\n".to_vec(), "module-invalid"),
        ("library", wat::parse_str(library).unwrap(), "module-invalid"),
        ("forbidden", wat::parse_str(forbidden).unwrap(), "module-imports"),
        ("large", large, "32 MiB"),
    ];
    for (name, bytes, word) in cases {
        let folder = Folder::new(name, "fifteen.wasm").module("hello", "hello.wasm");
        let dir = folder.written().to_owned();
        for file in ["hello.wasm", "scheduler.wasm"] {
            let before = fs::read(dir.join(file)).unwrap();
            fs::write(dir.join(file), &bytes).unwrap();
            assert_refused(&submit(&cluster, &dir), 1, &[word, "hint: "]);
            fs::write(dir.join(file), before).unwrap();
        }
        fs::write(dir.join("hello.wasm"), &bytes).unwrap();
        let module = dir.join("hello.wasm").display().to_string();
        let ran = cluster.tepui(["run", &module]);
        assert_refused(&ran, 1, &["cannot run", "hint: "]);
    }
    // A command is no scheduler.
    let folder = Folder::new("swapped", "hello.wasm");
    assert_refused(
        &submit(&cluster, folder.written()),
        1,
        &["module-invalid", "a scheduler", "hint: "],
    );
    assert_eq!(cluster.json(&["framework", "ls"]), json!([]));
    assert_eq!(cluster.json(&["task", "ls"]), json!([]));
}

/// A small module that the compiler needs gibibytes for: many values that live through as many branches.
fn explosive() -> Vec<u8> {
    let (locals, branches) = (2_000, 20_000);
    let branch = |at: usize| {
        let (one, other) = (at % locals, (at * 7_919 + 1) % locals);
        format!(
            "local.get {other} if local.get {one} local.get {other} i32.add local.set {one} end\n"
        )
    };
    let body: String = (0..branches).map(branch).collect();
    let declared = "i32 ".repeat(locals);
    let text = format!(
        r#"(module (memory (export "memory") 1) (func (export "_start") (local {declared})
            loop {body} local.get 0 br_if 0 end))"#
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn a_module_that_is_too_much_for_the_compiler_is_refused_and_nobody_else_waits_for_it() {
    let cluster = Cluster::start(1);
    let path = cluster.scratch("explosive.wasm");
    fs::write(&path, explosive()).unwrap();
    let hello = guest("hello.wasm").display().to_string();
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| cluster.tepui([OsStr::new("run"), path.as_os_str()]));
        assert_eq!(cluster.tepui(["run", &hello]).good().text(), "hello\n");
        assert!(!refused.is_finished(), "it was over too soon to be a test");
        assert_refused(&refused.join().unwrap(), 1, &["cannot run", "module-uncompilable"]);
    });
    // The second time the verdict is known.
    let words = [OsStr::new("run"), path.as_os_str()];
    assert_refused(&cluster.tepui(words), 1, &["module-uncompilable"]);
    let tasks = cluster.json(&["task", "ls"]);
    assert_eq!(tasks.as_array().map(Vec::len), Some(1), "{tasks}");
}

#[test]
fn what_the_command_line_lets_through_the_master_refuses() {
    let cluster = Cluster::start(1);
    let large = cluster.scratch("large.wasm");
    fs::write(&large, vec![0; (32 << 20) + 1]).unwrap();
    let put = cluster.json(&["blob", "put", &large.display().to_string()]);
    let digest =
        put.pointer("/0/digest").and_then(Value::as_str).unwrap().trim_start_matches("sha256:");
    let refused = cluster.api().post(&format!("/modules/{digest}/check?kind=command"), &json!({}));
    let code = refused.body.get("code").and_then(Value::as_str);
    assert_eq!((refused.status, code), (422, Some("module-too-large")), "{refused:?}");
    let unknown = format!("/modules/{}/check?kind=command", "0".repeat(64));
    let refused = cluster.api().post(&unknown, &json!({}));
    let code = refused.body.get("code").and_then(Value::as_str);
    assert_eq!((refused.status, code), (404, Some("module-unknown")), "{refused:?}");
}

#[test]
fn a_bad_manifest_is_told_with_its_file_its_line_and_what_is_allowed() {
    let cluster = Cluster::start(1);
    let folder = Folder::new("wrong", "fifteen.wasm").module("hello", "hello.wasm");
    let dir = folder.written().to_owned();
    let head = "name = \"wrong\"\nroles = [\"*\"]\nscheduler = \"scheduler.wasm\"\n";
    for (rest, line, words) in [
        ("colour = 1\n", 4, ["colour", "modules"]),
        ("[modules]\nmap = \"gone.wasm\"\n", 5, ["gone.wasm", "hint: "]),
        ("[resources]\ncpus = -1\n", 5, ["-1", "0.5"]),
        ("[resources]\nmemory = \"-64MiB\"\n", 5, ["-64MiB", "1GiB"]),
        ("[resources]\nmemory = \"64MB\"\n", 5, ["64MB", "64MiB"]),
        ("[resources\n", 4, ["error: ", "tepui.toml"]),
    ] {
        fs::write(dir.join("tepui.toml"), format!("{head}{rest}")).unwrap();
        let ran = submit(&cluster, &dir);
        assert_refused(&ran, 2, &words);
        assert_refused(&ran, 2, &["tepui.toml", &format!("line {line}")]);
    }
    let empty = tempfile::tempdir().unwrap();
    assert_refused(&submit(&cluster, empty.path()), 2, &["tepui.toml"]);
    // The framework of `tepui run` is not replaced by accident.
    let run = Folder::new("run", "turn-100.wasm");
    assert_refused(&submit(&cluster, run.written()), 2, &["behind `tepui run`", "another name"]);
    assert_eq!(cluster.json(&["framework", "ls"]), json!([]));
    assert_eq!(cluster.json(&["blob", "ls"]), json!([]));
}

#[test]
fn exit_codes_say_who_is_to_blame() {
    let home = tempfile::tempdir().unwrap();
    let tepui = |words: &[&str]| {
        let program = Program::new(tepui_program(), words).without_env("TEPUI_CONTEXT");
        program.env("XDG_STATE_HOME", home.path()).run()
    };
    for words in [
        &["dance"][..],
        &["agent", "ls", "--colour"],
        &["run"],
        &["run", "x.wasm", "--cpus", "-1"],
        &["run", "x.wasm", "--memory", "64MB"],
        &["dev", "--custom", "cpus:2"],
        &["master", "--dir", "x", "--allocation-interval", "0s"],
        &["master", "--dir", "x", "--smallest-offer", "cpus"],
        &["agent", "--name", "a", "--dir", "x", "--master", "h:1", "--custom", "gpus(web):1"],
    ] {
        assert_eq!(tepui(words).code, 2, "{words:?}");
    }
    assert_refused(&tepui(&["agent", "ls"]), 3, &["no cluster", "hint: "]);
    assert_refused(&tepui(&["--context", "/nowhere", "agent", "ls"]), 2, &["/nowhere"]);

    // A context whose master is gone.
    let context = {
        let cluster = Cluster::start(1);
        let kept = home.path().join("kept");
        fs::create_dir(&kept).unwrap();
        let ca = kept.join("ca.pem");
        fs::copy(cluster.dir().join("authority/ca.pem"), &ca).unwrap();
        let text = fs::read_to_string(cluster.dir().join("context.toml")).unwrap();
        let mut table: toml::Table = toml::from_str(&text).unwrap();
        table.insert("ca".to_owned(), ca.display().to_string().into());
        let path = kept.join("context.toml");
        fs::write(&path, table.to_string()).unwrap();
        path.display().to_string()
    };
    assert_refused(&tepui(&["--context", &context, "agent", "ls"]), 3, &["hint: "]);
}
