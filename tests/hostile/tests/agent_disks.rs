//! Tasks that fill their agent's disk, in every way there is; and what stays of them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests stand outside of them here"
)]

use serde_json::{Value, json};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use tepui_e2e::{Cluster, guest};
use tepui_hostile::besieged;

/// More than the master of a small cluster ever takes.
const MASTER_BYTES: u64 = 400 << 20;
const MIB: u64 = 1 << 20;
const FORMS: [&str; 2] = ["hostile-task.wasm", "hostile-task-p2.wasm"];

/// One cluster after the other: what is measured is not to be disturbed by another test.
static ALONE: Mutex<()> = Mutex::new(());
/// Keys are never used twice.
static KEYS: AtomicUsize = AtomicUsize::new(0);

fn known(cluster: &Cluster, file: &str) -> String {
    let path = guest(file).display().to_string();
    let _known = cluster.tepui(["run", &path, "--", "sleep", "0"]).good();
    let put = cluster.json(&["blob", "put", &path]);
    let digest = put.pointer("/0/digest").and_then(Value::as_str).unwrap();
    format!("sha256:{}", digest.trim_start_matches("sha256:"))
}

fn request(module: &str, disk_bytes: u64, args: &[&str]) -> Value {
    json!({
        "key": format!("k{}", KEYS.fetch_add(1, Ordering::Relaxed)), "module": module, "args": args,
        "cpu_milli": 500, "memory_bytes": 32 * MIB, "disk_bytes": disk_bytes, "wall_ms": 60_000,
    })
}

fn told<'a>(ended: &'a Value, what: &str) -> &'a str {
    ended.get(what).and_then(Value::as_str).unwrap_or_default()
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

/// Asks for small runs until it is so: each run is the time that passes.
fn wait_until(cluster: &Cluster, what: &str, is_so: impl Fn() -> bool) {
    let hello = guest("hello.wasm").display().to_string();
    for _ in 0..500 {
        if is_so() {
            return;
        }
        let _ran = cluster.tepui(["run", &hello]).good();
    }
    panic!("waited in vain until {what}");
}

#[test]
fn a_folder_of_any_depth_ends_neither_an_agent_nor_its_next_start() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start(1);
    let agent = cluster.dir().join("agent-1");
    let (sandboxes, trash) = (agent.join("sandboxes"), agent.join("trash"));
    besieged(&cluster, MASTER_BYTES, || {
        for form in FORMS {
            let module = known(&cluster, form);
            let ended = cluster.api().run(&request(&module, 256 * MIB, &["deep", "5000"]));
            assert_eq!(told(&ended, "state"), "finished", "{ended}");
        }
        wait_until(&cluster, "the folders are gone", || is_empty(&sandboxes));
    });
    // Now one is there while the agent ends.
    let module = known(&cluster, FORMS[0]);
    let request = request(&module, 256 * MIB, &["deep", "5000", "60000"]);
    let started = cluster.api().post("/frameworks/run/http/runs", &request);
    assert_eq!(started.status, 201, "{started:?}");
    let task = started.body.pointer("/tasks/0").and_then(Value::as_str).unwrap().to_owned();
    // The two before it have said so as well.
    wait_until(&cluster, "it is as deep as it will be", || logged(&agent, "deep: 5000") == 3);
    cluster.kill("agent-1");
    cluster.api().wait_agents(1);
    let ended = cluster.api().wait_final("run", &task);
    assert_eq!(told(&ended, "reason"), "agent-restarted", "{ended}");
    wait_until(&cluster, "what it left is gone", || is_empty(&sandboxes) && is_empty(&trash));
}

/// How many logs of an agent hold these words.
fn logged(agent: &Path, words: &str) -> usize {
    let logs = std::fs::read_dir(agent.join("logs")).unwrap();
    // One that goes meanwhile does not hold them.
    let texts = logs.filter_map(|log| std::fs::read_to_string(log.unwrap().path()).ok());
    texts.filter(|text| text.contains(words)).count()
}

#[test]
fn a_task_is_ended_when_it_holds_more_than_its_disk_however_it_does_that() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start(1);
    let sandboxes = cluster.dir().join("agent-1/sandboxes");
    besieged(&cluster, MASTER_BYTES, || {
        for form in FORMS {
            let module = known(&cluster, form);
            for (disk, args) in [
                (16 * MIB, ["many-files", "20000"]),
                (16 * MIB, ["fill", ""]),
                (16 * MIB, ["unlinked", ""]),
                (16 * MIB, ["sparse", "1000000000"]),
                (16 * MIB, ["deep", "20000"]),
            ] {
                let ended = cluster.api().run(&request(&module, disk, &args));
                assert_eq!(told(&ended, "reason"), "disk-exceeded", "{form} {args:?}: {ended}");
            }
            // What is no more than its disk is left alone, however often it is written.
            let ended = cluster.api().run(&request(&module, 2 * MIB, &["rewrite", "64"]));
            assert_eq!(told(&ended, "state"), "finished", "{form}: {ended}");
            let ended = cluster.api().run(&request(&module, 2 * MIB, &["fill", "2097152"]));
            assert_eq!(told(&ended, "state"), "finished", "{form}: {ended}");
        }
        wait_until(&cluster, "the folders are gone", || is_empty(&sandboxes));
    });
}

/// A small disk in the place of an agent's folder.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where mounting is not allowed.
    fn under(cluster: &Cluster, agent: &str, size: &str) -> Option<Self> {
        let (folder, beside) = (cluster.dir().join(agent), cluster.scratch("beside"));
        let options = format!("size={size},mode=0700");
        std::fs::create_dir(&beside).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&beside)
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            return None;
        }
        let copied = Command::new("cp").arg("-a").arg(folder.join(".")).arg(&beside).status();
        assert!(copied.unwrap().success());
        let moved = Command::new("mount").arg("--bind").args([&beside, &folder]).status();
        assert!(moved.unwrap().success());
        Self::unmount(&beside);
        Some(Self(folder))
    }

    fn unmount(path: &Path) {
        let done = Command::new("umount").arg("-l").arg(path).status();
        assert!(done.is_ok_and(|status| status.success()), "{} stays mounted", path.display());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Self::unmount(&self.0);
    }
}

/// Runs a task that writes to its log, well below what it may, while somebody else fills the disk; and makes room again.
fn logs_on_a_full_disk(cluster: &Cluster, module: &str) -> Value {
    let drips = request(module, 0, &["drip", "800000"]);
    let started = cluster.api().post("/frameworks/run/http/runs", &drips);
    assert_eq!(started.status, 201, "{started:?}");
    let task = started.body.pointer("/tasks/0").and_then(Value::as_str).unwrap().to_owned();
    cluster.api().wait(&format!("/tasks/run/{task}"), |view| told(view, "state") == "running");
    let other = cluster.dir().join("agent-1/other");
    let mut file = std::fs::File::create(&other).unwrap();
    while file.write_all(&[1; 4_096]).is_ok() {}
    let ended = cluster.api().wait_final("run", &task);
    std::fs::remove_file(&other).unwrap();
    ended
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that is not run says so")]
fn a_full_disk_stops_the_tasks_that_fill_it_and_never_their_agent() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start(1);
    let module = known(&cluster, FORMS[0]);
    let Some(_disk) = SmallDisk::under(&cluster, "agent-1", "256m") else {
        eprintln!("skipped: this machine lets nobody mount a small disk");
        return;
    };
    cluster.kill("agent-1");
    cluster.api().wait_agents(1);
    // Each may have far more than there is.
    let mut attack = request(&module, 1 << 30, &["fill", "", ""]);
    attack["instances"] = json!(4);
    // Its scheduler begins anew, since its agent did.
    let mut started = cluster.api().post("/frameworks/run/http/runs", &attack);
    while started.status == 502 {
        started = cluster.api().post("/frameworks/run/http/runs", &attack);
    }
    assert_eq!(started.status, 201, "{started:?}");
    // It serves, so it is the one that was started last.
    let agent = cluster.pid("agent-1");
    let tasks = started.body.get("tasks").and_then(Value::as_array).unwrap();
    for task in tasks {
        let ended = cluster.api().wait_final("run", task.as_str().unwrap());
        // They were told that the disk is full; or there was no room any more to begin.
        let reason = told(&ended, "reason");
        assert!(["exited-nonzero", "agent-failed"].contains(&reason), "{ended}");
    }
    // Logs of tasks that ask for no disk find the same end, and it is not told as theirs.
    let mut flood = request(&module, 0, &["log", "1048576"]);
    flood["instances"] = json!(400);
    let started = cluster.api().post("/frameworks/run/http/runs", &flood);
    assert_eq!(started.status, 201, "{started:?}");
    let tasks = started.body.get("tasks").and_then(Value::as_array).unwrap();
    for task in tasks {
        let _ended = cluster.api().wait_final("run", task.as_str().unwrap());
    }
    assert_eq!(cluster.pid("agent-1"), agent, "the agent ended");
    // Whose log finds no room is told of that, and not that it wrote too much.
    let ended = logs_on_a_full_disk(&cluster, &module);
    let message = told(&ended, "message");
    assert!(message.contains("of its logs are lost: its agent's disk is full"), "{ended}");
    assert_eq!(told(&ended, "state"), "finished", "{ended}");
    assert_eq!(cluster.pid("agent-1"), agent, "the agent ended");
    let hello = guest("hello.wasm").display().to_string();
    let is_served = (0..100).any(|_| cluster.tepui(["run", &hello]).code == 0);
    assert!(is_served, "there is room again, and nobody is served");
}
