//! The settings of wasmtime, one profile for commands and one for schedulers.
//!
//! What is compiled and what loads it must agree on every setting that shapes code, so both go through
//! [`config`]; only the allocator differs, because the child that compiles has too little address space for a pool.
//! Its one surprise: fuel is on and epochs are off, although epochs are cheaper to check: one of them is enough to
//! end a guest that spins, and fuel is also what budgets and bills.

use tepui_proto::limits;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, OperatorCost, PoolingAllocationConfig};

/// Bytes of a memory that are cleared by writing rather than by giving pages back: cheaper for small programs.
const KEPT_MEMORY_BYTES: usize = 128 << 10;
/// Likewise of a table: there are many more of them.
const KEPT_TABLE_BYTES: usize = 16 << 10;
/// Fuel of growing a memory by a page, which the kernel has to clear.
const GROW_PAGE_FUEL: u8 = 100;
/// Room for the host's own frames on a guest's stack.
const HOST_STACK_BYTES: usize = 512 << 10;
/// Behind each memory; bounds are checked in the code, so it only has to catch small offsets.
const GUARD_BYTES: u64 = 64 << 10;

/// Whom an engine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Tasks.
    Command,
    /// Schedulers: every result is the same on every machine.
    Scheduler,
}

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
#[error("the sandbox cannot be set up: {0}")]
pub struct EngineError(pub(crate) String);

impl From<wasmtime::Error> for EngineError {
    fn from(error: wasmtime::Error) -> Self {
        Self(format!("{error:#}"))
    }
}

/// The engine that runs commands, with its pool.
///
/// # Errors
/// If the address space for the pool cannot be had.
pub fn engine_command() -> Result<Engine, EngineError> {
    pooled(Profile::Command, limits::CELL_INSTANCES)
}

/// The engine that runs schedulers, with its pool.
///
/// # Errors
/// If the address space for the pool cannot be had.
pub fn engine_scheduler() -> Result<Engine, EngineError> {
    pooled(Profile::Scheduler, limits::CELL_SCHEDULERS)
}

/// The engine that compiles for a profile; it takes memory only as it needs it.
pub(crate) fn engine_compiling(profile: Profile) -> Result<Engine, EngineError> {
    Ok(Engine::new(&config(profile))?)
}

fn pooled(profile: Profile, sandboxes: u32) -> Result<Engine, EngineError> {
    let mut config = config(profile);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(sandboxes)));
    Ok(Engine::new(&config)?)
}

/// Everything that shapes code, and the stacks.
fn config(profile: Profile) -> Config {
    let mut config = Config::new();
    let mut cost = OperatorCost::new();
    cost.variable.memory_grow_per_page = GROW_PAGE_FUEL;
    config
        .consume_fuel(true)
        .operator_cost(cost)
        .epoch_interruption(false)
        .max_wasm_stack(limits::STACK_BYTES)
        .async_stack_size(limits::STACK_BYTES + HOST_STACK_BYTES)
        .memory_reservation(limits::INSTANCE_MEMORY_BYTES_MAX)
        .memory_guard_size(GUARD_BYTES)
        .memory_init_cow(true)
        .wasm_memory64(false)
        .wasm_relaxed_simd(false)
        .wasm_backtrace_max_frames(None)
        .concurrency_support(false);
    if profile == Profile::Scheduler {
        config.cranelift_nan_canonicalization(true);
    }
    config
}

fn pool(sandboxes: u32) -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    let each = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let (instances, memories, tables) =
        (each(limits::INSTANCES), each(limits::MEMORIES), each(limits::TABLES));
    let memory = usize::try_from(limits::INSTANCE_MEMORY_BYTES_MAX).unwrap_or(usize::MAX);
    // Whatever the others have, there is as much as one may have: address space is all that it costs.
    pool.total_core_instances(sandboxes.saturating_mul(instances))
        .total_component_instances(sandboxes)
        .total_memories(sandboxes.saturating_mul(memories))
        .total_tables(sandboxes.saturating_mul(tables))
        .total_stacks(sandboxes)
        .max_core_instances_per_component(instances)
        .max_memories_per_component(memories)
        .max_tables_per_component(tables)
        .max_memories_per_module(memories)
        .max_tables_per_module(tables)
        .max_memory_size(memory)
        .table_elements(limits::TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEPT_MEMORY_BYTES)
        .table_keep_resident(KEPT_TABLE_BYTES);
    pool
}
