//! Bounds that a child sets for itself before it does anything else.

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit, umask};
use tepui_proto::limits;

/// Open files of a cell beside those of its guests: the runtime, the socket, mapped modules.
const OWN_FILES: u64 = 1_024;
/// Cores that the compiler may use at once within its deadline.
const COMPILER_CORES: u64 = 4;

/// For a cell: no core dumps, files for nobody else, and no more open files than its guests may hold in all.
pub(crate) fn bound_cell() {
    let files = u64::from(limits::CELL_INSTANCES) * limits::OPEN_FILES as u64 + OWN_FILES;
    lower(Resource::Nofile, files);
    lower(Resource::Core, 0);
    umask(Mode::from_raw_mode(0o077));
}

/// For the compiler: no more address space and CPU than a module is worth.
pub(crate) fn bound_compiler() {
    lower(Resource::As, limits::COMPILE_MEMORY_BYTES);
    lower(Resource::Cpu, limits::COMPILE_WALL_MS / 1_000 * COMPILER_CORES);
    lower(Resource::Core, 0);
    umask(Mode::from_raw_mode(0o077));
}

/// Sets both limits to at most this; raises the soft one up to the hard one if that is below.
fn lower(resource: Resource, most: u64) {
    let hard = getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
    if let Err(error) = setrlimit(resource, Rlimit { current: Some(hard), maximum: Some(hard) }) {
        tracing::warn!(?resource, %error, "cannot set a limit");
    }
}
