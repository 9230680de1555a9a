//! Commands as `wasi:cli/command` components.

use crate::bindings::task::Task;
use crate::limiter::Limiter;
use crate::link::TaskLink;
use crate::load::LoadError;
use crate::p1;
use crate::p2_files;
use crate::task_context::Identity;
use std::sync::Arc;
use tepui_proto::cell::RunCommand;
use tepui_proto::limits;
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::{I32Exit, WasiCtx, WasiCtxView, WasiView};

/// What one instance owns.
pub(crate) struct State {
    wasi: WasiCtx,
    table: ResourceTable,
    pub(crate) limiter: Limiter,
    pub(crate) link: Arc<TaskLink>,
    pub(crate) identity: Identity,
    /// Messages sent so far.
    pub(crate) sent: u64,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

/// A linked component.
pub(crate) type Linked = CommandPre<State>;

/// What such a component may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    p2_files::add_to_linker(&mut linker)?;
    Task::add_to_linker::<_, HasSelf<_>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Links a component.
pub(crate) fn link(linker: &Linker<State>, component: &Component) -> Result<Linked, LoadError> {
    let pre = linker.instantiate_pre(component).map_err(|error| LoadError::link(&error))?;
    CommandPre::new(pre).map_err(|error| LoadError::link(&error))
}

/// A store for one run.
pub(crate) fn store(
    linked: &Linked,
    run: &mut RunCommand,
    link: &Arc<TaskLink>,
) -> wasmtime::Result<Store<State>> {
    let wasi = p1::builder(run, link)?.build();
    let mut table = ResourceTable::new();
    table.set_max_capacity(limits::HANDLES);
    let state = State {
        wasi,
        table,
        limiter: Limiter::new(run.memory_bytes),
        link: Arc::clone(link),
        identity: Identity::of(run),
        sent: 0,
    };
    let mut store = Store::new(linked.engine(), state);
    store.limiter(|state| &mut state.limiter);
    store.set_hostcall_fuel(limits::HOSTCALL_BYTES);
    store.set_max_component_handles(limits::HANDLES);
    Ok(store)
}

/// Runs `wasi:cli/run`.
pub(crate) async fn call(linked: &Linked, store: &mut Store<State>) -> wasmtime::Result<()> {
    let command = linked.instantiate_async(&mut *store).await?;
    match command.wasi_cli_run().call_run(&mut *store).await? {
        Ok(()) => Ok(()),
        Err(()) => Err(I32Exit(1).into()),
    }
}
