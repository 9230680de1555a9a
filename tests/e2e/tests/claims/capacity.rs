//! What an agent can take on is what it is given.

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use tepui_e2e::{Cluster, guest};
use tepui_proto::limits;

/// Open files for an agent, and for its cell.
const FILES: u64 = 700;

/// From now on, whatever `tepui dev` starts has no more open files than that.
fn grant(cluster: &Cluster, files: u64) {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", cluster.pid("agent-1"))).unwrap();
    let (_name, rest) = stat.rsplit_once(')').unwrap();
    let parent: i32 = rest.split_whitespace().nth(1).unwrap().parse().unwrap();
    let limit = Rlimit { current: Some(files), maximum: Some(files) };
    prlimit(Pid::from_raw(parent), Resource::Nofile, limit).unwrap();
}

#[test]
fn an_agent_that_is_granted_few_open_files_is_given_no_more_tasks_than_it_can_run() {
    let cluster = Cluster::start(1);
    grant(&cluster, FILES);
    cluster.kill("agent-1");
    cluster.api().wait_agents(1);
    let (_files, tasks) = limits::share_open_files(FILES);
    assert!(tasks < 50);
    let few = |view: &Value| view.get("max_tasks").and_then(Value::as_u64) == Some(tasks.into());
    cluster.api().wait("/agents/agent-1", few);
    // One more than it can run waits for a place.
    let module = guest("bad-task.wasm").display().to_string();
    let put = cluster.json(&["blob", "put", &module]);
    let digest = put.pointer("/0/digest").and_then(Value::as_str).unwrap();
    let _known = cluster.tepui(["run", &module, "--", "sleep", "0"]).good();
    let sleepers = json!({
        "key": "sleepers", "module": format!("sha256:{}", digest.trim_start_matches("sha256:")),
        "args": ["sleep", "3000"], "cpu_milli": 10, "memory_bytes": 4 << 20, "instances": tasks,
    });
    let started = cluster.api().post("/frameworks/run/http/runs", &sleepers);
    assert_eq!(started.status, 201, "{started:?}");
    let full = |view: &Value| view.get("tasks").and_then(Value::as_u64) == Some(tasks.into());
    cluster.api().wait("/agents/agent-1", full);
    let _ran = cluster.tepui(["run", &module, "--", "sleep", "0"]).good();
}

/// A small disk in the place of an agent's folder.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// None where mounting is not allowed.
    fn under(cluster: &Cluster, agent: &str, size: &str) -> Option<Self> {
        let (folder, beside) = (cluster.dir().join(agent), cluster.scratch("beside"));
        std::fs::create_dir(&beside).unwrap();
        let options = format!("size={size},mode=0700");
        let done = |command: &mut Command| command.status().is_ok_and(|status| status.success());
        if !done(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&beside))
        {
            return None;
        }
        assert!(done(Command::new("cp").arg("-a").arg(folder.join(".")).arg(&beside)));
        assert!(done(Command::new("mount").arg("--bind").args([&beside, &folder])));
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

#[test]
#[expect(clippy::print_stderr, reason = "a test that is not run says so")]
fn an_agent_whose_disk_is_full_is_not_offered_until_it_has_room_again() {
    let cluster = Cluster::start(1);
    let module = guest("hello.wasm").display().to_string();
    let put = cluster.json(&["blob", "put", &module]);
    let digest = put.pointer("/0/digest").and_then(Value::as_str).unwrap();
    let _known = cluster.tepui(["run", &module]).good();
    let Some(disk) = SmallDisk::under(&cluster, "agent-1", "256m") else {
        eprintln!("skipped: this machine lets nobody mount a small disk");
        return;
    };
    cluster.kill("agent-1");
    let waste = disk.0.join("waste");
    // A quarter of the disk is its journal's.
    std::fs::write(&waste, vec![7; 220 << 20]).unwrap();
    let room = |has_room: bool| {
        move |view: &Value| view.get("has_room").and_then(Value::as_bool) == Some(has_room)
    };
    cluster.api().wait("/agents/agent-1", room(false));
    let run = json!({
        "key": "waits", "module": format!("sha256:{}", digest.trim_start_matches("sha256:")),
        "cpu_milli": 10, "memory_bytes": 4 << 20,
    });
    // Its scheduler begins anew, since its agent did.
    let mut started = cluster.api().post("/frameworks/run/http/runs", &run);
    while [502, 503].contains(&started.status) {
        started = cluster.api().post("/frameworks/run/http/runs", &run);
    }
    assert_eq!(started.status, 201, "{started:?}");
    cluster.api().wait("/explain/framework/run", |told| told.to_string().contains("\"full\""));
    std::fs::remove_file(&waste).unwrap();
    let task = started.body.pointer("/tasks/0").and_then(Value::as_str).unwrap();
    let ended = cluster.api().wait_final("run", task);
    assert_eq!(ended.get("state").and_then(Value::as_str), Some("finished"), "{ended}");
    cluster.api().wait("/agents/agent-1", room(true));
}
