//! `tepui dev` starts all, ends all, and what it keeps is there again.

use rustix::process::Signal;
use serde_json::Value;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};
use tepui_e2e::{
    Cluster, Folder, PATIENCE, Program, Watched, children, command_line, guest, tepui_program,
};
use tepui_proto::limits;

#[test]
fn a_master_that_is_killed_comes_back_with_all_that_it_had() {
    let cluster = Cluster::start(2);
    let words = Folder::wordcount("words", &[b"so it is so".to_vec()], 4);
    let submit = ["framework", "submit", "--wait"].map(OsStr::new);
    let _ran = cluster.tepui(submit.into_iter().chain([words.written().as_os_str()])).good();
    let hello = guest("hello.wasm").display().to_string();
    for code in ["0", "3"] {
        let ran = cluster.tepui(["run", &hello, "--", "--exit", code]);
        assert_eq!(ran.code.to_string(), code, "{}", ran.stderr);
    }
    let look = || {
        let frameworks = cluster.json(&["framework", "ls"]);
        let lasting = ["id", "name", "roles", "phase", "success", "results", "tasks", "used"];
        let frameworks: Vec<Vec<Value>> = frameworks
            .as_array()
            .unwrap()
            .iter()
            .map(|view| lasting.iter().map(|name| view.get(name).unwrap().clone()).collect())
            .collect();
        (frameworks, cluster.json(&["task", "ls"]), cluster.json(&["blob", "ls"]))
    };
    let before = look();
    cluster.kill("master");
    let begun = Instant::now();
    cluster.api().wait_agents(2);
    let (took, silence) = (begun.elapsed(), Duration::from_millis(limits::AGENT_TIMEOUT_MS));
    assert!(
        took < silence,
        "agents took {took:?}: they were not told, and waited for the silence to end"
    );
    assert_eq!(look(), before);
    assert_eq!(cluster.blob("words", "result"), "words 4 distinct 3\n2 so\n1 is\n1 it\n");
    assert_eq!(cluster.tepui(["run", &hello, "--", "again"]).good().text(), "hello again\n");
}

/// A cluster that runs a shell script; the script tells the ids of the processes beside it, one a line.
fn dev(dir: &Path, rest: &str) -> Program {
    let script = format!("\"$0\" run \"$1\" >/dev/null && cat \"$2\"/*/pid && echo end && {rest}");
    let (tepui, hello) = (tepui_program(), guest("hello.wasm"));
    let dev = ["dev", "--agents", "2", "--dir"].map(OsStr::new);
    let command = ["--", "sh", "-c", &script].map(OsStr::new);
    let args = dev.into_iter().chain([dir.as_os_str()]).chain(command).chain([
        tepui.as_os_str(),
        hello.as_os_str(),
        dir.as_os_str(),
    ]);
    let program = Program::new(&tepui, args).without_env("TEPUI_CONTEXT");
    program.env("XDG_STATE_HOME", dir.join("state"))
}

#[test]
fn a_command_gets_a_cluster_and_gives_its_exit_code_and_nothing_is_left_running() {
    let folder = tempfile::tempdir().unwrap();
    let ran = dev(folder.path(), "exit 7").run();
    assert_eq!(ran.code, 7, "{}", ran.stderr);
    let text = ran.text();
    let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(pids.len(), 3, "{text}");
    for pid in pids {
        // An id that was given to another process since then would not name a part in this folder.
        let words = command_line(pid);
        let dir = folder.path().display().to_string();
        assert!(!words.iter().any(|word| word.starts_with(&dir)), "{pid} still runs: {words:?}");
    }
    assert!(
        !folder.path().join("context.toml").exists(),
        "a cluster that is gone is still told of"
    );
}

#[test]
fn a_cluster_ends_whole_whether_it_is_asked_to_or_killed() {
    for (signal, code) in [(Signal::TERM, 130), (Signal::KILL, 137)] {
        let folder = tempfile::tempdir().unwrap();
        let mut dev = dev(folder.path(), "exec sleep 600").spawn();
        let own = Watched::of(dev.id());
        let lines = BufReader::new(dev.stdout.take().unwrap()).lines().map_while(Result::ok);
        let pids: Vec<u32> =
            lines.take_while(|line| line != "end").map(|line| line.parse().unwrap()).collect();
        assert_eq!(pids.len(), 3);
        let cells = pids.iter().flat_map(|pid| children(*pid));
        let parts: Vec<Watched> = pids.iter().copied().chain(cells).map(Watched::of).collect();
        assert!(parts.len() > 3, "there is no cell");
        let command = children(dev.id()).into_iter().find(|pid| !pids.contains(pid));
        let command = command.and_then(Watched::find).unwrap();
        own.signal(signal);
        assert!(own.ended_within(PATIENCE));
        for part in parts {
            assert!(part.ended_within(PATIENCE), "{:?} goes on", command_line(part.pid));
        }
        if signal == Signal::KILL {
            // Nobody is left who could end the command, which is not a part of the cluster.
            command.signal(Signal::KILL);
        }
        assert!(command.ended_within(PATIENCE));
        let status = dev.wait().unwrap();
        let ended = status.code().unwrap_or(137);
        assert_eq!(ended, code);
    }
}
