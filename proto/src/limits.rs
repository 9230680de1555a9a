//! Every bound, in one place, with its reason.
//!
//! A limit that a guest can hit has a code of its own in [`crate::tasks::Reason`] or in a refusal.

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The wire version of frames; a peer that speaks another is refused.
pub const WIRE_VERSION: u8 = 3;
/// One frame on any stream: a full turn (1 MiB of events) and its envelope.
pub const FRAME_BYTES: usize = 4 * MIB;
/// Launches of one frame: the largest record and its envelope fit as well.
pub const LAUNCH_FRAME_BYTES: usize = MIB;
/// Bytes of a blob that travel in one frame.
pub const BLOB_CHUNK_BYTES: usize = 256 * KIB;
/// One blob; larger results are split by their makers.
pub const BLOB_BYTES: u64 = 4 << 30;
/// One module: compile time and memory grow with it (a 26 MB Python took 6 s and 300 MiB).
pub const MODULE_BYTES: u64 = 32 << 20;

/// A name of a tenant, framework, module; a whole role path.
pub const NAME_BYTES: usize = 128;
/// A path inside a sandbox.
pub const PATH_BYTES: usize = 512;
/// A framework's name for a blob or a module.
pub const BLOB_NAME_BYTES: usize = 256;
/// Names of outputs that a framework keeps, newest last: all of them are told to each new instance in one frame.
pub const KEPT_OUTPUTS: usize = 4_096;
/// A task identifier that a scheduler chose.
pub const TASK_ID_BYTES: usize = 128;
/// Roles of one framework: each is a client of the allocator.
pub const ROLES: usize = 64;
/// Resources, attributes or scalars as a person writes them, all entries: one line of a command, read whole.
pub const NOTATION_BYTES: usize = 64 * KIB;
/// Entries of such a text: each is added to those before it, which costs as much as they are large.
pub const NOTATION_ENTRIES: usize = 1_024;
/// The name of a resource or an attribute: it stands in every offer.
pub const RESOURCE_NAME_BYTES: usize = 64;
/// An item of a set, or the text of an attribute: it stands in every offer.
pub const ITEM_BYTES: usize = 256;
/// Reservations within each other: each goes one level down the tree of roles.
pub const REFINEMENTS: usize = 16;
/// Pools that an agent says it has: each is looked at whenever it is offered.
pub const POOLS: usize = 1_000;
/// A manifest after parsing: settings in all.
pub const CONFIG_BYTES: usize = 64 * KIB;
/// Modules and blobs that a framework is submitted with.
pub const BUNDLE_ENTRIES: usize = 4_096;

/// A key of durable state.
pub const KEY_BYTES: usize = 256;
/// A value of durable state.
pub const VALUE_BYTES: usize = 64 * KIB;
/// All durable state of one framework, keys and values: it is copied to a cell at each start.
pub const STATE_BYTES: usize = 4 * MIB;
/// Keys of one framework: each costs more than its bytes.
pub const KEYS: usize = 65_536;
/// One page of durable state on its way to a cell.
pub const STATE_PAGE_BYTES: usize = 512 * KIB;

/// A task's record, all its text together: it stays in the master's memory while the task lives.
pub const TASK_BYTES: usize = 64 * KIB;
/// What a list's entry costs beside its text: an allocation, and its place in the list.
pub const ENTRY_BYTES: usize = 32;
/// Records of all live tasks of one framework, in the master's memory: 256 bytes for each of a million tasks.
pub const LIVE_TASK_BYTES: usize = 256 * MIB;
/// What all frameworks take of the master's memory, about: submissions, durable keys, tasks, waiting events, wants. Once
/// it is full, a framework may grow up to an equal share of it, and no further.
pub const ALL_STATE_BYTES: usize = 2_048 * MIB;
/// Records of the ended tasks that a framework keeps.
pub const ENDED_TASK_BYTES: usize = 4 * MIB;
/// Live tasks on one agent: as many as its cell has sandboxes. An agent that has so many, or as many as it says that it
/// can run, is not offered.
pub const AGENT_TASKS: usize = CELL_INSTANCES as usize;
/// Launches in one answer.
pub const LAUNCHES: usize = 1_000;
/// Calls in one answer.
pub const CALLS: usize = 4_096;
/// Steps of all acceptances of one answer: each may be refused, and the refusal is kept.
pub const OPERATIONS: usize = 4_096;
/// Reservations and volumes in one answer, made or undone: each is checked against those before it.
pub const CONVERSIONS: usize = 64;
/// Offers, tasks, roles and results that an answer names, over all its calls: each is looked up.
pub const NAMES: usize = 16_384;
/// Messages to tasks in one answer.
pub const SENDS: usize = 256;
/// Wants in all `want` calls of one answer: each is checked, and told to the allocator.
pub const TURN_WANTS: usize = 4_096;
/// Constraints of all those wants: each may be held against each agent.
pub const TURN_CONSTRAINTS: usize = 2_048;
/// One answer, encoded.
pub const ANSWER_BYTES: usize = MIB;
/// Events of one turn.
pub const TURN_EVENTS: usize = 256;
/// Events of one turn, encoded.
pub const TURN_BYTES: usize = MIB;
/// Offers of one turn.
pub const TURN_OFFERS: usize = 256;
/// Waiting updates of one framework beyond which only a task's latest is kept.
pub const WAITING_UPDATES: usize = 10_000;
/// Waiting updates of one framework, in bytes, beyond which only a task's latest is kept.
pub const WAITING_UPDATE_BYTES: usize = 8 * MIB;
/// What a framework's own calls have led to and it was not told yet: refusals, and tasks that were never launched. A
/// turn that could lead to more is refused.
pub const WAITING_REFUSALS: usize = 10_000;
/// Messages of tasks that wait for one framework; what comes beyond is dropped, and its events say so.
pub const WAITING_MESSAGES: usize = 10_000;
/// The same in bytes.
pub const WAITING_MESSAGE_BYTES: usize = 8 * MIB;
/// The text of a status, a refusal or a failure: it is kept until it was told, and has to fit a turn.
pub const TEXT_BYTES: usize = 1_024;
/// Timers of one framework.
pub const TIMERS: usize = 1_000;
/// Wants of one framework.
pub const WANTS: usize = 1_000;
/// A message between scheduler and task.
pub const MESSAGE_BYTES: usize = 16 * KIB;
/// Messages of one framework's tasks on one agent that the master has not committed yet: what others report there stands
/// behind them.
pub const AGENT_MESSAGE_BYTES: usize = 256 * KIB;
/// Messages that wait for one task, or from one task.
pub const MESSAGES_WAITING: usize = 64;
/// The body of a request to a framework, and of its response.
pub const HTTP_BODY_BYTES: usize = MIB;
/// Requests to one framework that wait for a turn or an answer.
pub const REQUESTS_WAITING: usize = 256;
/// Headers of a request or a response, together.
pub const HTTP_HEADER_BYTES: usize = 16 * KIB;
/// How long a request may wait for its response.
pub const REQUEST_TIMEOUT_MS: u64 = 30_000;

/// Connections to a master that have not shown the token: some hundred handshakes are a second of a core.
pub const STRANGERS: usize = 512;
/// Requests without the token on one connection; then it is cut.
pub const STRANGER_REQUESTS: u32 = 16;
/// Connections that have: each may hold some hundred KiB of buffers.
pub const CONNECTIONS: usize = 8_192;
/// Descriptors that those connections leave to journal, snapshots, blobs and QUIC, where the kernel grants so many.
pub const KEPT_DESCRIPTORS: usize = 1_024;
/// Requests at once on one HTTP/2 connection.
pub const CONNECTION_REQUESTS: u32 = 256;
/// Requests at once that are not answered to the last byte: a body of [`LARGE_BODY_BYTES`] for each is 256 MiB.
pub const REQUESTS: usize = 8_192;
/// Those of them that wait for something to happen, each of which looks again whenever anything does; the rest is for
/// requests that do not wait.
pub const WAITS: usize = 1_024;
/// How long a wait that lost its place to others is not answered: who asks again at once would be a flood.
pub const WAIT_MS_MIN: u64 = 1_000;
/// Those of them that wait for a scheduler's answer, all frameworks together.
pub const CALLS_OF_FRAMEWORKS: usize = 1_024;
/// From this size on a body counts among the [`LARGE_BODIES`].
pub const LARGE_BODY_BYTES: u64 = 32 << 10;
/// Large bodies in a master's memory, requests and answers together: some MiB each.
pub const LARGE_BODIES: usize = 128;
/// A page of a listing, about; it has at least one entry.
pub const PAGE_BYTES: usize = MIB;
/// Log readers at once: each holds a stream to an agent for as long as it likes.
pub const LOG_READERS: usize = 512;
/// Uploads of people at once, and of agents, each: a file and a MiB of memory.
pub const UPLOADS: usize = 64;
/// Uploads of one agent at once: a fraction of them all, so that a slow one leaves the most of them to others.
pub const AGENT_UPLOADS: usize = 16;
/// What a sender of a blob has to keep up, once it was slow for 10 s: a modem did not, every line since then does.
pub const UPLOAD_BYTES_PER_S: u64 = 8 << 10;
/// Outputs that one framework's tasks may store within the time for which a blob is kept unnamed: files of a disk.
pub const FRAMEWORK_OUTPUTS: u64 = 100_000;
/// The part of a master's disk that one framework's outputs may fill.
pub const FRAMEWORK_OUTPUTS_PART: u64 = 4;
/// Blobs that a cluster has: some hundred bytes of a master's memory and a file each.
pub const BLOBS: u64 = 1_000_000;
/// What a master's journal keeps of its disk at the least: some snapshots of a small state, and the log between them.
pub const DISK_RESERVE_MIN: u64 = 256 << 20;
/// What it keeps at the most, unless its settings say more.
pub const DISK_RESERVE_MAX: u64 = 2 << 30;
/// What of that is there as a file, so that nobody else on the machine can take it: the log between two snapshots,
/// and one of a small state.
pub const BALLAST_BYTES: u64 = 128 << 20;

/// Fuel of one turn: about 70 ms of work at 14 G/s.
pub const TURN_FUEL: u64 = 1_000_000_000;
/// CPU time of one turn: what counts is the tenant's work, and not who else is on the machine.
pub const TURN_WALL_MS: u64 = 1_000;
/// How long the leader waits for the first answer of an instance: its module may have to be fetched and compiled.
pub const SCHEDULER_START_MS: u64 = 120_000;
/// Wall time of one turn, after which its agent has failed: below what the leader waits for the answer.
pub const TURN_WAIT_MS: u64 = 4_000;
/// How long an agent may take to judge a module before another is asked: its compilers have others to serve.
pub const CHECK_MS: u64 = 140_000;
/// For how long a scheduler is not placed on an agent that failed it, if there is another; doubled with each time.
pub const AVOID_MS: u64 = 5_000;
/// The longest such time.
pub const AVOID_MS_MAX: u64 = 300_000;
/// How long the leader waits for an answer before it takes the scheduler for lost: a turn's wall time and the way.
pub const TURN_ANSWER_MS: u64 = 5_000;
/// Log text that a scheduler may write in one turn.
pub const TURN_LOG_BYTES: usize = 64 * KIB;
/// CPU of a scheduler, in thousandths, unless its manifest asks for more.
pub const SCHEDULER_CPU_MILLI: u64 = 100;
/// Memory of a scheduler, unless its manifest asks for more.
pub const SCHEDULER_MEMORY_BYTES: u64 = 64 << 20;
/// The most memory that a scheduler may ask for.
pub const SCHEDULER_MEMORY_BYTES_MAX: u64 = 256 << 20;
/// Of an agent's resources, the thousandths held back for schedulers.
pub const HELD_BACK_MILLI: u64 = 50;
/// Memory held back for schedulers, at the least (but never more than half of the agent).
pub const HELD_BACK_MEMORY_BYTES: u64 = 256 << 20;

/// Fuel of a task unless it says otherwise; some hours of a core.
pub const TASK_FUEL: u64 = 1_000_000_000_000_000;
/// The most fuel that a task may be given.
pub const TASK_FUEL_MAX: u64 = 1_000_000_000_000_000_000;
/// Wall time of a task unless it says otherwise: a day.
pub const TASK_WALL_MS: u64 = 86_400_000;
/// The longest wall time of a task: a year.
pub const TASK_WALL_MS_MAX: u64 = 31_536_000_000;
/// Bytes kept of standard output and of standard error, each, unless the task says otherwise.
pub const TASK_LOG_BYTES: u64 = 1 << 20;
/// The most log bytes that a task may keep, each.
pub const TASK_LOG_BYTES_MAX: u64 = 1 << 30;
/// The largest memory of one instance: `memory.copy` does not yield inside, so a slice is bounded by it.
pub const INSTANCE_MEMORY_BYTES_MAX: u64 = 256 << 20;
/// The least memory that a task can ask for: an empty Rust program needs 17 pages and its stack.
pub const TASK_MEMORY_BYTES_MIN: u64 = 1 << 20;
/// Table elements of one instance, all tables together.
pub const TABLE_ELEMENTS: usize = 100_000;
/// Core instances of one component: they cost a pool nothing but a count.
pub const INSTANCES: usize = 64;
/// Memories of one component. Every sandbox of a cell may have so many, so that none can use up another's.
pub const MEMORIES: usize = 4;
/// Tables of one component; likewise.
pub const TABLES: usize = 12;
/// WebAssembly stack.
pub const STACK_BYTES: usize = 512 * KIB;
/// What one host call may copy out of a component.
pub const HOSTCALL_BYTES: usize = MIB;
/// Handles of a component, and entries of its resource table (open files among them).
pub const HANDLES: usize = 4_096;
/// Files and folders that a task may hold open, unless its machine grants its cell too few.
pub const OPEN_FILES: usize = 256;
/// Fewer than that, and a cell takes fewer tasks instead.
pub const OPEN_FILES_MIN: usize = 8;
/// Open files of a cell beside those of its guests: the runtime, the socket, mapped modules.
pub const CELL_FILES: u64 = 1_024;
/// Open files of a task beside those that it opens: its folder, twice, and its logs.
pub const TASK_FILES: u64 = 4;
/// Of so many open files that a machine grants a cell: what each task may open, and how many tasks there may be.
pub fn share_open_files(granted: u64) -> (usize, u32) {
    let for_tasks = granted - CELL_FILES.min(granted / 4);
    let each = (for_tasks / u64::from(CELL_INSTANCES)).saturating_sub(TASK_FILES);
    let open_files = usize::try_from(each).unwrap_or(OPEN_FILES).clamp(OPEN_FILES_MIN, OPEN_FILES);
    let tasks = (for_tasks / (open_files as u64 + TASK_FILES)).max(1);
    (open_files, u32::try_from(tasks).map_or(CELL_INSTANCES, |tasks| tasks.min(CELL_INSTANCES)))
}
/// Random bytes per call.
pub const RANDOM_BYTES: u64 = 64 * 1024;
/// Fuel between two yields: under a millisecond of a core (a tight loop burns 1.3 G/s, most programs ten times that).
pub const FUEL_SLICE: u64 = 1_000_000;
/// What a file, a folder or a link counts on a task's disk beside its bytes: about what a file system takes for it.
pub const FILE_ENTRY_BYTES: u64 = 4 << 10;
/// Files, folders and links that count nothing, so that a task's disk may be the sum of its files.
pub const FREE_ENTRIES: u64 = 64;
/// Files, folders and links of a sandbox, however large its disk: the names of a folder are read at once.
pub const SANDBOX_ENTRIES: u64 = 65_536;
/// Folders of a component whose names are being read.
pub const FOLDERS_READ: usize = 4;
/// Of an agent's disk, what nothing of a task may take: its journal is the last that finds no room.
pub const DISK_RESERVE_BYTES: u64 = 256 << 20;
/// What nothing of a task may take of a disk of this size: a quarter of a small one.
pub const fn disk_reserve(disk_bytes: u64) -> u64 {
    if disk_bytes / 4 < DISK_RESERVE_BYTES { disk_bytes / 4 } else { DISK_RESERVE_BYTES }
}
/// Likewise of the files that its file system can hold.
pub const DISK_RESERVE_FILES: u64 = 1_024;
/// Logs of ended tasks that an agent keeps, all together.
pub const KEPT_LOG_BYTES: u64 = 1 << 30;
/// Grace between asking a task to stop and stopping it, unless it says otherwise.
pub const KILL_GRACE_MS: u64 = 3_000;
/// The longest grace.
pub const KILL_GRACE_MS_MAX: u64 = 3_600_000;
/// Sandboxes in one cell; the address space of the pool is bounded by it.
pub const CELL_INSTANCES: u32 = 1_000;
/// Schedulers in one cell.
pub const CELL_SCHEDULERS: u32 = 256;
/// Wall time of compiling one module, after which nothing is known of it.
pub const COMPILE_WALL_MS: u64 = 60_000;
/// CPU time of compiling one module, after which it is known to be too much.
pub const COMPILE_CPU_MS: u64 = 60_000;
/// Modules up to this size have a compiler that larger ones cannot hold up ...
pub const COMPILE_SHORT_BYTES: u64 = 1 << 20;
/// ... and this much wall time of it, before they wait with the larger ones.
pub const COMPILE_SHORT_MS: u64 = 5_000;
/// Address space of the child that compiles.
pub const COMPILE_MEMORY_BYTES: u64 = 4 << 30;
/// Compiled code of one module, on an agent's disk and mapped by a cell: several times that of a large one, and far
/// below what some hundred KiB that are made for it come to.
pub const COMPILED_BYTES: u64 = 256 << 20;

/// How long an offer stands before it is taken back.
pub const OFFER_TIMEOUT_MS: u64 = 10_000;
/// The filter of a decline that names none (Mesos: 5 s).
pub const REFUSE_MS: u64 = 5_000;
/// The longest filter (Mesos: 365 days).
pub const REFUSE_MS_MAX: u64 = 31_536_000_000;
/// Smallest offer, CPU (Mesos: 0.01) ...
pub const SMALLEST_CPU_MILLI: u64 = 10;
/// ... or memory (Mesos: 32 MB).
pub const SMALLEST_MEMORY_BYTES: u64 = 32 << 20;
/// How often the allocator looks at everything (Mesos: 1 s).
pub const ALLOCATION_INTERVAL_MS: u64 = 1_000;
/// Ended tasks that a framework keeps, newest last (Mesos: 1,000).
pub const ENDED_TASKS: usize = 1_000;
/// Ended tasks that the cluster keeps, all frameworks together.
pub const ENDED_TASKS_ALL: usize = 10_000;
/// Ended frameworks that the cluster keeps (Mesos: 50).
pub const ENDED_FRAMEWORKS: usize = 50;
/// How long an agent may be silent before its tasks are unreachable.
pub const AGENT_TIMEOUT_MS: u64 = 15_000;
/// `lost-after` unless a task says otherwise.
pub const LOST_AFTER_MS: u64 = 60_000;
/// A hostname, a version, a region or a zone that an agent says it has: it stands in every offer.
pub const HOST_BYTES: usize = 256;
/// Tasks of one page of a hello.
pub const HELLO_TASKS: usize = 4_096;
/// Pages of a hello: more tasks than an agent can have.
pub const HELLO_PAGES: usize = 16;
/// After how long an agent that is away, with nothing on it and nothing set for it, is forgotten: a week.
pub const AGENT_FORGOTTEN_MS: u64 = 604_800_000;
/// Tasks that change their state in one entry: with the longest texts it stays within a few MiB.
pub const MOVES: usize = 1_000;
/// Agents of one cluster.
pub const AGENTS: usize = 100_000;
/// Settings of all roles together, in the master's memory: some 10,000 roles with a limit each.
pub const ROLE_SETTINGS_BYTES: usize = 2 * MIB;
/// Resources that a guarantee or a limit names.
pub const QUOTA_NAMES: usize = 64;
/// Between two times that all offers are taken back because shares have changed.
pub const SHARE_ANEW_MS: u64 = 1_000;
/// After how long without an upgrade a framework's next one begins at once again, unless the last one had to wait for
/// longer than a quarter of this: then after four times as long.
pub const UPGRADES_FORGOTTEN_MS: u64 = 10_000;
/// Live tasks of one framework.
pub const LIVE_TASKS: usize = 1_000_000;
/// Frameworks of one cluster that have not ended.
pub const FRAMEWORKS: usize = 10_000;
/// First back-off of a scheduler that failed; doubles up to [`RESTART_BACKOFF_MS_MAX`].
pub const RESTART_BACKOFF_MS: u64 = 100;
/// Longest back-off of a scheduler that failed.
pub const RESTART_BACKOFF_MS_MAX: u64 = 30_000;
/// Failures in a row, with no committed turn between them, after which a framework is held.
pub const FAILURES_HELD: u32 = 8;
/// How long durable keys of an ended framework are kept.
pub const ENDED_STATE_MS: u64 = 3_600_000;
/// How long an unreferenced blob is kept.
pub const BLOB_GRACE_MS: u64 = 3_600_000;
/// Constraints of one want.
pub const CONSTRAINTS: usize = 64;
/// Bytes of a constraint's name, and of its operand.
pub const CONSTRAINT_BYTES: usize = 1_024;
/// Different regular expressions in all wants of one framework, and in one answer: each is compiled by the leader.
pub const PATTERNS: usize = 32;
/// The text of one regular expression.
pub const PATTERN_BYTES: usize = 256;
/// Size of a compiled regular expression: it takes some microseconds to make (Mesos: 4 KB for RE2's).
pub const PATTERN_COMPILED_BYTES: usize = 12 * KIB;
/// How long a scheduler is given no turn for each regular expression that it had compiled, times the number of those that
/// wait so: about one in so many milliseconds is made, some twenty times as long as it takes.
pub const PATTERN_REST_MS: u64 = 2;
/// After how long without any it is as if there had been none, and the others do not count.
pub const REST_FORGOTTEN_MS: u64 = 60_000;
/// A millisecond more for so many agents: it may be held against each.
pub const PATTERN_REST_AGENTS: u64 = 50;
/// A scheduler whose answer leads to more refusals than one turn tells waits a millisecond for so many of them, some ten
/// times as long as they take.
pub const REFUSALS_PER_REST_MS: u64 = 30;
/// The longest such wait.
pub const REST_MS_MAX: u64 = 600_000;
/// Refusals of one agent by one framework in one role, beyond which the one that ends first is forgotten.
pub const FILTERS: usize = 8;
/// How long a scheduler that has answered may keep an offer while others wait for one.
pub const KEPT_WHILE_OTHERS_WAIT_MS: u64 = 100;
/// How long a scheduler that has not answered yet may have an offer while others wait for one.
pub const TOLD_WHILE_OTHERS_WAIT_MS: u64 = 1_000;
/// Turns in a row that decline offers and launch nothing, before a framework is served after all others for a while.
pub const DECLINES_FREE: u32 = 3;
/// The longest time that a framework is served after all others without another strike.
pub const DEMOTION_MS_MAX: u64 = 600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_never_gives_out_more_files_than_its_machine_grants() {
        assert_eq!(share_open_files(1 << 20), (OPEN_FILES, CELL_INSTANCES));
        assert_eq!(share_open_files(u64::MAX), (OPEN_FILES, CELL_INSTANCES));
        for granted in [256, 1_024, 4_096, 20_000, 65_536, 524_288] {
            let (open_files, tasks) = share_open_files(granted);
            let given = (open_files as u64 + TASK_FILES) * u64::from(tasks);
            assert!(open_files >= OPEN_FILES_MIN && tasks >= 1, "{granted}");
            assert!(given <= granted - CELL_FILES.min(granted / 4), "{granted}: {given}");
        }
        assert_eq!(share_open_files(65_536), (60, CELL_INSTANCES));
        assert_eq!(share_open_files(4_096), (OPEN_FILES_MIN, 256));
    }
}
