//! Tasks and modules that take what others need of their agent: slots, cores, compilers, descriptors.

#![expect(clippy::unwrap_used, reason = "helpers of tests stand outside of them here")]

use reqwest::Method;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tepui_e2e::{Cluster, guest};
use tepui_hostile::{besieged, hostile, instances};

/// More than the master of a small cluster ever takes.
const MASTER_BYTES: u64 = 400 << 20;
/// How long a small new module may take while large ones are compiled: its compiler shares two cores with theirs.
const COMPILED_WITHIN: Duration = Duration::from_secs(10);

/// One cluster after the other: what is measured is not to be disturbed by another test.
static ALONE: Mutex<()> = Mutex::new(());
/// Keys are never used twice.
static KEYS: AtomicUsize = AtomicUsize::new(0);

fn digest(cluster: &Cluster, path: &Path) -> String {
    let put = cluster.json(&["blob", "put", &path.display().to_string()]);
    let digest = put.pointer("/0/digest").and_then(Value::as_str).unwrap();
    format!("sha256:{}", digest.trim_start_matches("sha256:"))
}

/// So many instances of a thousandth of a core each.
fn begin(cluster: &Cluster, module: &str, args: &[&str], count: u64, wall_ms: u64) -> Vec<String> {
    let request = json!({
        "key": format!("k{}", KEYS.fetch_add(1, Ordering::Relaxed)), "module": module, "args": args,
        "cpu_milli": 1, "memory_bytes": 2 << 20, "wall_ms": wall_ms, "instances": count,
    });
    let started = cluster.api().post("/frameworks/run/http/runs", &request);
    assert_eq!(started.status, 201, "{started:?}");
    let tasks = started.body.get("tasks").and_then(Value::as_array).unwrap();
    tasks.iter().map(|task| task.as_str().unwrap().to_owned()).collect()
}

/// A component that spins in `run`, with so many memories beside.
fn component(memories: usize) -> Vec<u8> {
    let mut text = String::from("(component (core module $m (memory 1))");
    for _ in 0..memories {
        text.push_str("(core instance (instantiate $m))");
    }
    text.push_str(
        r#"(core module $r (func (export "run") (result i32) (loop (br 0)) unreachable))
        (core instance $i (instantiate $r))
        (func $run (result (result)) (canon lift (core func $i "run")))
        (instance $e (export "run" (func $run)))
        (export "wasi:cli/run@0.2.0" (instance $e)))"#,
    );
    wat::parse_str(text).unwrap()
}

#[test]
fn spinners_with_all_the_memories_they_may_have_leave_room_for_others() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start_with(1, &["--memory", "8GiB", "--cpus", "4"]);
    let large = cluster.scratch("large.wasm");
    std::fs::write(&large, component(64)).unwrap();
    besieged(&cluster, MASTER_BYTES, || {
        let refused = cluster.tepui(["run", &large.display().to_string()]);
        assert_eq!(refused.code, 1, "{refused:?}");
        let path = cluster.scratch("spins.wasm");
        std::fs::write(&path, component(4)).unwrap();
        // Once, so that it is accepted.
        let ran = cluster.tepui(["run", "--time", "10ms", &path.display().to_string()]);
        assert!(ran.stderr.contains("wall-time-exceeded"), "{ran:?}");
        let module = digest(&cluster, &path);
        // Not more: an unoptimised cell takes milliseconds to begin each, and a run of others comes after them.
        let tasks = begin(&cluster, &module, &[], 300, 6_000);
        for task in tasks {
            let ended = cluster.api().wait_final("run", &task);
            let reason = ended.get("reason").and_then(Value::as_str);
            assert_eq!(reason, Some("wall-time-exceeded"), "{ended}");
            // A thousandth of 6 s is 6 ms; a slice or two of debt, on a machine that is busy, come on top.
            let used = ended.pointer("/usage/cpu_us").and_then(Value::as_u64).unwrap();
            assert!(used < 30_000, "{ended}");
        }
    });
}

#[test]
fn hundreds_of_spinners_leave_a_scheduler_that_works_its_share() {
    const SPINNERS: u64 = 800;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start_with(1, &["--memory", "8GiB", "--cpus", "4"]);
    // Some 20 ms of work in each turn, one after the other.
    let _ran = cluster.submit(hostile("works", "works").written()).good();
    let turns = || {
        let view = cluster.api().get("/frameworks/works");
        view.get("turns").and_then(Value::as_u64).unwrap()
    };
    cluster
        .api()
        .wait("/frameworks/works", |view| view.get("turns").and_then(Value::as_u64) > Some(5));
    let before = instances(&cluster, "works");
    besieged(&cluster, MASTER_BYTES, || {
        let path = guest("bad-task.wasm");
        let words = ["run".as_ref(), path.as_os_str(), "--".as_ref(), "nonsense".as_ref()];
        let _known = cluster.tepui(words);
        let module = digest(&cluster, &path);
        let tasks = begin(&cluster, &module, &["loop"], SPINNERS, 60_000);
        cluster.api().wait("/frameworks/run", |view| {
            view.pointer("/tasks/running").and_then(Value::as_u64) >= Some(SPINNERS * 9 / 10)
        });
        let (begun, first) = (Instant::now(), turns());
        while begun.elapsed() < Duration::from_secs(5) {
            cluster.api().get("/frameworks/works?wait=ended&timeout_ms=500");
        }
        let done = turns() - first;
        // A tenth of a core is what it has booked: some 5 turns a second.
        assert!(done >= 10, "{done} turns in 5 s");
        let run = tasks.first().and_then(|task| task.trim_start_matches('r').split('-').next());
        let path = format!("/frameworks/run/http/runs/{}", run.unwrap());
        assert_eq!(cluster.api().ask(&Method::DELETE, &path, None).unwrap().status, 202);
        for task in &tasks {
            cluster.api().wait_final("run", task);
        }
    });
    assert_eq!(instances(&cluster, "works"), before, "its scheduler was begun anew");
}

#[test]
fn sleepers_that_fill_a_cell_are_the_only_ones_that_find_it_full() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start_with(1, &["--memory", "8GiB", "--cpus", "4"]);
    let path = guest("hostile-task.wasm");
    besieged(&cluster, MASTER_BYTES, || {
        let words =
            ["run".as_ref(), path.as_os_str(), "--".as_ref(), "sleep".as_ref(), "1".as_ref()];
        let _known = cluster.tepui(words).good();
        let module = digest(&cluster, &path);
        for task in begin(&cluster, &module, &["sleep", "4000"], 950, 60_000) {
            let ended = cluster.api().wait_final("run", &task);
            assert_eq!(ended.get("state").and_then(Value::as_str), Some("finished"), "{ended}");
        }
    });
}

#[test]
fn small_modules_do_not_wait_for_large_ones() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start(1);
    let large: Vec<_> = (0..4)
        .map(|number| {
            let path = cluster.scratch(&format!("large-{number}.wasm"));
            std::fs::write(&path, many_functions(number)).unwrap();
            path
        })
        .collect();
    besieged(&cluster, MASTER_BYTES, || {
        thread::scope(|scope| {
            let siege: Vec<_> = large
                .iter()
                .map(|path| scope.spawn(|| cluster.tepui(["run", &path.display().to_string()])))
                .collect();
            let mut count = 0_u32;
            while siege.iter().any(|run| !run.is_finished()) {
                let path = cluster.scratch(&format!("small-{count}.wasm"));
                let text = format!(
                    r#"(module (memory (export "memory") 1)
                    (func (export "_start") (drop (i32.const {count}))))"#
                );
                std::fs::write(&path, wat::parse_str(text).unwrap()).unwrap();
                let begun = Instant::now();
                let _ran = cluster.tepui(["run", &path.display().to_string()]).good();
                assert!(begun.elapsed() < COMPILED_WITHIN, "{count}: {:?}", begun.elapsed());
                count += 1;
            }
            for run in siege {
                let _ran = run.join().unwrap().good();
            }
            assert!(count > 0);
        });
    });
}

/// A module of about three megabytes.
fn many_functions(number: u32) -> Vec<u8> {
    let mut body = String::new();
    for step in 0..330 {
        write!(
            body,
            "(local.set $x (i32.add (i32.mul (local.get $x) (i32.const {})) (local.get $y)))",
            step * 977 + number
        )
        .unwrap();
    }
    let mut text = String::from("(module (memory (export \"memory\") 1)");
    for function in 0..900 {
        write!(
            text,
            "(func (export \"f{function}\") (param $x i32) (param $y i32) (result i32) {body} local.get $x)"
        )
        .unwrap();
    }
    text.push_str("(func (export \"_start\")))");
    let module = wat::parse_str(text).unwrap();
    assert!(module.len() > 2 << 20, "{} bytes", module.len());
    module
}

#[test]
fn a_cell_holds_nothing_of_its_agents_and_an_agents_folder_is_its_own() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let cluster = Cluster::start(1);
    let hello = guest("hello.wasm").display().to_string();
    let _ran = cluster.tepui(["run", &hello]).good();
    let folder = cluster.dir().join("agent-1");
    let mode = std::fs::metadata(&folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let open = |pid: u32| {
        let listed = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let links = listed.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        links.map(|link| link.display().to_string()).collect::<Vec<_>>()
    };
    let is_journal = |link: &String| link.contains("/journal-");
    // The agent has it open, so that what is looked for below is there to be inherited.
    assert!(open(cluster.pid("agent-1")).iter().any(is_journal));
    let cells = cluster.cells("agent-1");
    assert!(!cells.is_empty());
    for cell in cells {
        let held = open(cell);
        // Beside its standard error it has what it opened itself: compiled modules, and the logs of its tasks.
        let inside = format!("{}/", folder.display());
        let own = [folder.join("logs"), folder.join("modules")];
        let theirs = held.iter().filter(|link| {
            link.starts_with(&inside) && !own.iter().any(|own| Path::new(link).starts_with(own))
        });
        assert_eq!(theirs.collect::<Vec<_>>(), [""; 0], "{held:?}");
    }
}
