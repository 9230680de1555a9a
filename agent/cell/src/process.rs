//! Bounds that a child sets for itself before it does anything else.

use crate::disk::Shared;
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;
use tepui_proto::limits;

/// Open files of a cell beside those of its guests: the runtime, the socket, mapped modules.
const OWN_FILES: u64 = 1_024;
/// Open files of a task beside those that it opens: its folder, twice, and its logs.
const TASK_FILES: u64 = 4;
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
    let each = limits::OPEN_FILES as u64 + TASK_FILES;
    let files = u64::from(limits::CELL_INSTANCES) * each + OWN_FILES;
    lower(Resource::Nofile, files);
    lower(Resource::Core, 0);
    umask(Mode::from_raw_mode(0o077));
    let granted = getrlimit(Resource::Nofile).current.unwrap_or(files);
    let (open_files, sandboxes) = share_out(granted);
    if sandboxes < limits::CELL_INSTANCES {
        tracing::warn!(
            granted,
            sandboxes,
            "this machine grants few open files, so fewer tasks fit"
        );
    }
    Shared::new(open_files, sandboxes)
}

/// Of so many open files: what each task may open, and how many tasks there may be.
fn share_out(granted: u64) -> (usize, u32) {
    let for_tasks = granted - OWN_FILES.min(granted / 4);
    let each = (for_tasks / u64::from(limits::CELL_INSTANCES)).saturating_sub(TASK_FILES);
    let (least, most) = (limits::OPEN_FILES_MIN, limits::OPEN_FILES);
    let open_files = usize::try_from(each).unwrap_or(most).clamp(least, most);
    let sandboxes = (for_tasks / (open_files as u64 + TASK_FILES)).max(1);
    let most = limits::CELL_INSTANCES;
    (open_files, u32::try_from(sandboxes).map_or(most, |sandboxes| sandboxes.min(most)))
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

/// For the compiler: no more address space and CPU than a module is worth.
pub(crate) fn bound_compiler() {
    lower(Resource::As, limits::COMPILE_MEMORY_BYTES);
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

    #[test]
    fn a_cell_never_gives_out_more_files_than_its_machine_grants() {
        assert_eq!(share_out(1 << 20), (limits::OPEN_FILES, limits::CELL_INSTANCES));
        for granted in [256, 1_024, 4_096, 20_000, 65_536, 524_288] {
            let (open_files, sandboxes) = share_out(granted);
            let given = (open_files as u64 + TASK_FILES) * u64::from(sandboxes);
            assert!(open_files >= limits::OPEN_FILES_MIN && sandboxes >= 1, "{granted}");
            assert!(given <= granted - OWN_FILES.min(granted / 4), "{granted}: {given}");
        }
        assert_eq!(share_out(65_536), (60, limits::CELL_INSTANCES));
    }
}
