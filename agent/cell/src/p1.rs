//! Commands as WASI preview 1 core modules.

use crate::limiter::Limiter;
use crate::link::TaskLink;
use crate::load::LoadError;
use crate::log::LogSink;
use crate::p1_files;
use std::sync::Arc;
use tepui_proto::cell::RunCommand;
use tepui_proto::control::LogStream;
use tepui_proto::limits;
use wasmtime::{Engine, InstancePre, Linker, Module, ModuleExport, Store};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{FsPerms, I32Exit, WasiCtxBuilder, WasiView};

/// Entries of the resource table beside open files: standard streams, preopened folders, streams of one call.
const TABLE_SPARE: usize = 16;

/// What one instance owns.
pub(crate) struct State {
    pub(crate) wasi: WasiP1Ctx,
    pub(crate) limiter: Limiter,
    pub(crate) link: Arc<TaskLink>,
}

/// A linked module.
pub(crate) struct Linked {
    pre: InstancePre<State>,
    start: ModuleExport,
}

/// What such a module may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    p1_files::linker_with_files(&mut linker)?;
    // wasmtime takes codes from 126 up for errors; here a code is the program's own.
    linker.allow_shadowing(true);
    linker.func_wrap(
        "wasi_snapshot_preview1",
        "proc_exit",
        |code: i32| -> wasmtime::Result<()> { Err(I32Exit(code).into()) },
    )?;
    linker.allow_shadowing(false);
    Ok(linker)
}

/// Links a module.
pub(crate) fn link(linker: &Linker<State>, module: &Module) -> Result<Linked, LoadError> {
    let pre = linker.instantiate_pre(module).map_err(|error| LoadError::link(&error))?;
    let start = module.get_export_index("_start").ok_or_else(|| {
        LoadError::Link("it exports no `_start`, so it is not a command".to_owned())
    })?;
    Ok(Linked { pre, start })
}

/// What both forms of WASI are given.
pub(crate) fn builder(
    run: &mut RunCommand,
    link: &Arc<TaskLink>,
) -> wasmtime::Result<WasiCtxBuilder> {
    let mut builder = WasiCtxBuilder::new();
    builder.args(&run.args).envs(&run.env).max_random_size(limits::RANDOM_BYTES);
    builder.stdout(LogSink { link: Arc::clone(link), stream: LogStream::Stdout });
    builder.stderr(LogSink { link: Arc::clone(link), stream: LogStream::Stderr });
    if !run.stdin.is_empty() {
        builder.stdin(MemoryInputPipe::new(std::mem::take(&mut run.stdin)));
    }
    if let Some(folder) = &run.sandbox {
        builder.preopened_dir(folder, ".", FsPerms::ReadWrite)?;
        builder.preopened_dir(folder, "/", FsPerms::ReadWrite)?;
    }
    Ok(builder)
}

/// A store for one run.
pub(crate) fn store(
    linked: &Linked,
    run: &mut RunCommand,
    link: &Arc<TaskLink>,
) -> wasmtime::Result<Store<State>> {
    let mut wasi = builder(run, link)?.build_p1();
    wasi.ctx().table.set_max_capacity(link.disk.open_files() + TABLE_SPARE);
    let limiter = Limiter::new(run.memory_bytes);
    // A program may read a file as large as its memory in one call; the host copies no more than that.
    let copied = usize::try_from(limiter.limit()).unwrap_or(usize::MAX).max(limits::HOSTCALL_BYTES);
    let mut store =
        Store::new(linked.pre.module().engine(), State { wasi, limiter, link: Arc::clone(link) });
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(copied);
    Ok(store)
}

/// Runs `_start`.
pub(crate) async fn call(linked: &Linked, store: &mut Store<State>) -> wasmtime::Result<()> {
    let instance = linked.pre.instantiate_async(&mut *store).await?;
    let start = instance
        .get_module_export(&mut *store, &linked.start)
        .and_then(wasmtime::Extern::into_func)
        .ok_or_else(|| wasmtime::format_err!("`_start` is not a function"))?;
    start.typed::<(), ()>(&*store)?.call_async(&mut *store, ()).await
}
