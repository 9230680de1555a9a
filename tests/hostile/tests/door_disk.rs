//! A master on a small disk that others fill.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test ends at what it did not expect, and says what it could not do"
)]

use serde_json::Value;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;
use tepui_e2e::{Cluster, Folder, Ran};
use tepui_hostile::besieged;

/// A disk in memory; gone with its owner.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// None where mounting is not allowed.
    fn mounted(mebibytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(folder.path());
        mount.status().is_ok_and(|status| status.success()).then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // If it cannot be, the folder stays, and the next reboot removes it.
        drop(Command::new("umount").arg("-l").arg(self.0.path()).status());
    }
}

/// Writes until the disk has no more than so many bytes left.
fn fill(path: &Path, left: u64) {
    let mut file = File::create(path).unwrap();
    let chunk = vec![1; 1 << 16];
    loop {
        let disk = rustix::fs::statvfs(path).unwrap();
        if disk.f_bavail * disk.f_frsize <= left || file.write_all(&chunk).is_err() {
            return;
        }
    }
}

/// A cluster whose master is on this disk, of which it keeps so much.
fn on(disk: &SmallDisk, reserve: &str) -> Cluster {
    let settings = disk.path().join("master.toml");
    fs::write(&settings, format!("disk_reserve = \"{reserve}\"\n")).unwrap();
    let settings = settings.display().to_string();
    Cluster::start_prepared(1, &["--master-config", &settings], |dir| {
        fs::create_dir_all(dir).unwrap();
        fs::create_dir(disk.path().join("master")).unwrap();
        std::os::unix::fs::symlink(disk.path().join("master"), dir.join("master")).unwrap();
    })
}

fn assert_disk_full(ran: &Ran) {
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.stderr.contains("disk-full"), "{}", ran.stderr);
}

#[test]
fn a_disk_that_fills_up_costs_uploads_first_new_work_then_and_the_master_never() {
    let Some(disk) = SmallDisk::mounted(384) else {
        eprintln!("a small disk cannot be mounted here, so nothing was tried");
        return;
    };
    let cluster = on(&disk, "128MiB");
    let blob = cluster.scratch("blob");
    let put = |at: u8| {
        fs::write(&blob, vec![at; 32 << 20]).unwrap();
        cluster.tepui(["blob".as_ref(), "put".as_ref(), blob.as_os_str()])
    };
    // Uploads are refused while there is room for work.
    besieged(&cluster, 512 << 20, || {
        let refused = (0..20).map(put).find(|ran| ran.code != 0);
        assert_disk_full(&refused.expect("more was taken in than the disk has"));
    });
    // Somebody else fills what is left: new work is refused, and the rest goes on.
    let other = disk.path().join("other");
    fill(&other, 0);
    let folder = Folder::new("late", "fifteen.wasm").module("hello", "hello.wasm");
    assert_disk_full(&cluster.submit(folder.written()));
    assert_disk_full(&cluster.tepui(["run".as_ref(), tepui_e2e::guest("hello.wasm").as_os_str()]));
    let master = cluster.pid("master");
    // What it has to write down it writes down: these are entries of its log.
    for weight in ["2", "3", "4"] {
        let _set = cluster.tepui(["role", "set", "web", "--weight", weight]).good();
    }
    assert_eq!(cluster.json(&["agent", "ls"]).as_array().unwrap().len(), 1);
    assert_eq!(cluster.pid("master"), master);
    // It starts again on a full disk, and knows what it knew.
    cluster.kill("master");
    cluster.api().wait_agents(1);
    let role = cluster.json(&["role", "show", "web"]);
    assert!(role.to_string().contains('4'), "{role}");
    assert_disk_full(&put(99));
    // Once there is room again, all is as before.
    fs::remove_file(&other).unwrap();
    besieged(&cluster, 512 << 20, || {
        let _submitted = cluster.submit(folder.written()).good();
    });
}

#[test]
fn one_framework_s_outputs_fill_a_quarter_of_the_disk_and_others_have_theirs() {
    let Some(disk) = SmallDisk::mounted(128) else {
        eprintln!("a small disk cannot be mounted here, so nothing was tried");
        return;
    };
    let cluster = on(&disk, "32MiB");
    let (counter, source) = (tepui_e2e::guest("wordcount-task.wasm"), cluster.scratch("text"));
    fs::write(&source, "to be or not to be").unwrap();
    let words = ["--", "map", "out", "0:0:18:1:p0"];
    besieged(&cluster, 512 << 20, || {
        // Six times 7 MiB, each another file.
        let greedy = Folder::new("greedy", "hostile-scheduler.wasm")
            .module("task", "hostile-task.wasm")
            .config("tasks", 6)
            .config("args", "fill 660000%")
            .config("output", "fill");
        let _ran = cluster.submit(greedy.written()).good();
        let count = |view: &Value, state: &str| {
            view.pointer(&format!("/tasks/{state}")).and_then(Value::as_u64).unwrap_or(0)
        };
        let view = cluster.api().wait("/frameworks/greedy?wait=ended&timeout_ms=200", |view| {
            count(view, "finished") + count(view, "failed") == 6
        });
        // 32 MiB are a quarter, and have room for four.
        assert_eq!((count(&view, "finished"), count(&view, "failed")), (4, 2), "{view}");
        let listed = cluster.json(&["task", "ls", "--framework", "greedy"]);
        let refused = listed.as_array().unwrap().iter().filter(|task| {
            let message = task.get("message").and_then(Value::as_str).unwrap();
            message.contains("bytes in 5 outputs") && message.contains("may have 33554432")
        });
        assert_eq!(refused.count(), 2, "{listed}");
        // Somebody else's output is kept.
        let kept = cluster.scratch("kept");
        let (input, output) =
            (format!("{}=p0", source.display()), format!("out={}", kept.display()));
        let module = counter.display().to_string();
        let run = ["run", &module, "--input", &input, "--output", &output];
        let _ran = cluster.tepui(run.into_iter().chain(words)).good();
        assert!(fs::metadata(&kept).unwrap().len() > 0);
    });
    let used = rustix::fs::statvfs(disk.path()).unwrap();
    let used = (used.f_blocks - used.f_bfree) * used.f_frsize;
    assert!(used < 96 << 20, "{used} bytes of the disk are used");
}
