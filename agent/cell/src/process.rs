//! Bounds that a child sets for itself before it does anything else.

use crate::disk::Shared;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;
use tepui_proto::limits;

/// How far threads that run tasks stand back; about a third of the time of one that does not, if both want all of it.
const TASKS_NICE: i32 = 5;
/// Likewise of compilers, which take all cores that they can have.
const COMPILER_NICE: i32 = 10;
/// How much later than the compiler gives up it would be stopped: one that gives up is told apart from one that is killed.
const COMPILER_GRACE_S: u64 = 2;

/// For any child of an agent, as the first thing that it does: closes whatever it was not given on purpose, which is no
/// more than standard input, output and error. An agent's log opens files that a child inherits.
pub fn close_inherited() {
    let listed = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = listed.filter_map(|entry| entry.file_name().to_str()?.parse::<RawFd>().ok());
    // Read whole before anything is closed: the reading has a descriptor of its own, which is gone by then.
    let inherited: Vec<RawFd> = numbers.filter(|number| *number > 2).collect();
    for number in inherited {
        if Path::new(&format!("/proc/self/fd/{number}")).symlink_metadata().is_ok() {
            #[expect(unsafe_code, reason = "a descriptor that nobody owns is closed by owning it")]
            // SAFETY: this process has only begun, has one thread, and has opened nothing yet that is still open.
            drop(unsafe { OwnedFd::from_raw_fd(number) });
        }
    }
}

/// For a cell: no core dumps, files for nobody else, and no more open files than its guests may hold in all. Says what
/// the guests may share.
pub(crate) fn bound_cell() -> Shared {
    let each = limits::OPEN_FILES as u64 + limits::TASK_FILES;
    let files = u64::from(limits::CELL_INSTANCES) * each + limits::CELL_FILES;
    lower(Resource::Nofile, files);
    lower(Resource::Core, 0);
    umask(Mode::from_raw_mode(0o077));
    let granted = getrlimit(Resource::Nofile).current.unwrap_or(files);
    let (open_files, sandboxes) = limits::share_open_files(granted);
    if sandboxes < limits::CELL_INSTANCES {
        tracing::warn!(
            granted,
            sandboxes,
            "this machine grants few open files, so fewer tasks fit"
        );
    }
    Shared::new(open_files, sandboxes)
}

/// For a thread that runs tasks: schedulers, and whoever else is on the machine, come first.
pub fn give_way() {
    stand_back(TASKS_NICE);
}

/// This thread, and those that it starts, come after others.
fn stand_back(nice: i32) {
    if let Err(error) = rustix::process::setpriority_process(None, nice) {
        tracing::warn!(%error, "cannot stand back for others");
    }
}

/// For the compiler: no more address space, CPU and disk than a module is worth.
pub(crate) fn bound_compiler() {
    lower(Resource::As, limits::COMPILE_MEMORY_BYTES);
    lower(Resource::Fsize, limits::COMPILED_BYTES);
    stand_back(COMPILER_NICE);
    bound_cpu(limits::COMPILE_CPU_MS / 1_000);
    lower(Resource::Core, 0);
    umask(Mode::from_raw_mode(0o077));
}

fn bound_cpu(seconds: u64) {
    let limit = Rlimit { current: Some(seconds), maximum: Some(seconds + COMPILER_GRACE_S) };
    if let Err(error) = setrlimit(Resource::Cpu, limit) {
        tracing::warn!(%error, "cannot set a limit");
    }
}

/// Sets both limits to at most this; raises the soft one up to the hard one if that is below.
fn lower(resource: Resource, most: u64) {
    let hard = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
    if let Err(error) = setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) }) {
        tracing::warn!(?resource, %error, "cannot set a limit");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::Command;

    /// Names the file that a child of this test is to write.
    const CHILD: &str = "TEPUI_TEST_CHILD_WRITES";

    #[test]
    fn a_compiler_that_writes_more_than_code_may_be_is_ended() {
        if let Some(path) = std::env::var_os(CHILD) {
            bound_compiler();
            let file = std::fs::File::create(path).unwrap();
            file.set_len(limits::COMPILED_BYTES).unwrap();
            // What comes of this is a signal.
            drop(file.set_len(limits::COMPILED_BYTES + 1));
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("code");
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args([
            "--exact",
            "process::tests::a_compiler_that_writes_more_than_code_may_be_is_ended",
        ]);
        let status = child.env(CHILD, &path).output().unwrap().status;
        assert_eq!(status.signal(), Some(rustix::process::Signal::XFSZ.as_raw()), "{status}");
        assert_eq!(path.metadata().unwrap().len(), limits::COMPILED_BYTES);
    }
}
