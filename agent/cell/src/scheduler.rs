//! One instance of a tenant's scheduler: events in, calls out, a turn at a time.
//!
//! Owns the instance, its copy of the durable state, and the limits of a turn. Never knows of sockets, so that the
//! simulator can drive it. Its one surprise: what a turn wrote is seen by `state.get` only in the next turn, because
//! only the next turn proves that the last one was committed.

use crate::bindings::framework::tepui::framework::{log, protocol, state, types};
use crate::bindings::framework::{Framework, FrameworkPre};
use crate::convert;
use crate::engine::{EngineError, engine_scheduler};
use crate::limiter::Limiter;
use crate::load::{self, LoadError};
use crate::outcome;
use crate::turn_log::{Stream, TurnLog};
use crate::wasi_virtual::{self, Seeded};
use crate::watch::{Watch, Watched};
use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::time::Instant;
use tepui_proto::calls::Call;
use tepui_proto::scheduler::{FromScheduler, Open, SchedulerFailure, TurnMark, TurnUsage};
use tepui_proto::{Event, Timestamp, TurnNumber, frame, limits};
use wasmtime::component::{Component, HasSelf, Linker, ResourceTable};
use wasmtime::{Engine, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};

/// What schedulers are run with.
pub struct SchedulerHost {
    engine: Engine,
    linker: Linker<State>,
}

impl std::fmt::Debug for SchedulerHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchedulerHost").finish_non_exhaustive()
    }
}

/// A compiled and linked scheduler; any number of instances may be made of it.
#[derive(Clone)]
pub struct SchedulerModule(FrameworkPre<State>);

impl std::fmt::Debug for SchedulerModule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchedulerModule").finish_non_exhaustive()
    }
}

impl SchedulerHost {
    /// Sets up the engine with its pool.
    ///
    /// # Errors
    /// If the pool's address space cannot be had.
    pub fn new() -> Result<Self, EngineError> {
        Self::with_engine(engine_scheduler()?)
    }

    pub(crate) fn with_engine(engine: Engine) -> Result<Self, EngineError> {
        let mut linker = Linker::new(&engine);
        wasi_virtual::add_to_linker(&mut linker)?;
        Framework::add_to_linker::<_, HasSelf<_>>(&mut linker, |state: &mut State| state)?;
        Ok(Self { engine, linker })
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Loads what this machine's own compiler child wrote.
    ///
    /// # Errors
    /// If it is not there, not of this version, or does not link.
    pub fn load(&self, compiled: &Path) -> Result<SchedulerModule, LoadError> {
        self.link(&load::component(&self.engine, compiled)?)
    }

    pub(crate) fn link(&self, component: &Component) -> Result<SchedulerModule, LoadError> {
        let pre =
            self.linker.instantiate_pre(component).map_err(|error| LoadError::link(&error))?;
        FrameworkPre::new(pre).map(SchedulerModule).map_err(|error| LoadError::link(&error))
    }
}

/// What one instance owns.
pub(crate) struct State {
    wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    limiter: Limiter,
    /// Durable state as of the last committed turn.
    pairs: BTreeMap<String, Vec<u8>>,
    log: TurnLog,
    pub(crate) now: Timestamp,
    pub(crate) chance: Seeded,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl types::Host for State {}
impl protocol::Host for State {}

impl state::Host for State {
    fn get(&mut self, key: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.pairs.get(&key).cloned())
    }

    fn keys(&mut self, prefix: String) -> wasmtime::Result<Vec<String>> {
        let from = self.pairs.range::<String, _>(&prefix..);
        Ok(from.map(|(key, _)| key).take_while(|key| key.starts_with(&prefix)).cloned().collect())
    }
}

impl log::Host for State {
    fn log(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.log.push(convert::level(level), message);
        Ok(())
    }
}

/// A live instance.
pub struct SchedulerInstance {
    module: SchedulerModule,
    open: Open,
    store: Store<State>,
    /// Made in the first turn, with its clock, its seed and its fuel.
    guest: Option<Framework>,
    last: Option<TurnNumber>,
    /// What the last turn wrote.
    writes: Vec<(String, Option<Vec<u8>>)>,
    log: TurnLog,
}

impl std::fmt::Debug for SchedulerInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SchedulerInstance")
            .field("open", &self.open)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

type Failure = (SchedulerFailure, String);

impl SchedulerInstance {
    /// An instance that has not begun; the guest's code first runs in the first turn.
    pub fn new(module: &SchedulerModule, open: Open, pairs: BTreeMap<String, Vec<u8>>) -> Self {
        let log = TurnLog::default();
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(log.sink(Stream::Out)).stderr(log.sink(Stream::Err));
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits::HANDLES);
        let state = State {
            wasi: wasi.build(),
            table,
            limiter: Limiter::new(open.memory_bytes.min(limits::SCHEDULER_MEMORY_BYTES_MAX)),
            pairs,
            log: log.clone(),
            now: Timestamp(0),
            chance: Seeded(0),
        };
        let mut store = Store::new(module.0.engine(), state);
        store.limiter(|state| &mut state.limiter);
        store.set_hostcall_fuel(limits::ANSWER_BYTES + limits::HOSTCALL_BYTES);
        store.set_max_component_handles(limits::HANDLES);
        Self {
            module: module.clone(),
            open,
            store,
            guest: None,
            last: None,
            writes: Vec::new(),
            log,
        }
    }

    /// One turn. After a [`FromScheduler::Failed`], or an answer with `dropped`, the instance must not be used again.
    /// Needs a tokio runtime with time.
    pub async fn turn(
        &mut self,
        mark: TurnMark,
        now: Timestamp,
        seed: u64,
        events: Vec<Event>,
    ) -> FromScheduler {
        match self.try_turn(mark, now, seed, events).await {
            Ok((calls, usage)) => {
                let memory_limit = self.store.data().limiter.limit();
                let dropped = usage.memory_bytes > memory_limit / 4 * 3;
                FromScheduler::Answer { mark, calls, usage, log: self.log.take(), dropped }
            }
            Err((failure, message)) => {
                FromScheduler::Failed { mark: Some(mark), failure, message, log: self.log.take() }
            }
        }
    }

    async fn try_turn(
        &mut self,
        mark: TurnMark,
        now: Timestamp,
        seed: u64,
        events: Vec<Event>,
    ) -> Result<(Vec<Call>, TurnUsage), Failure> {
        self.begin(mark, now, seed)?;
        let events: Vec<_> = events.into_iter().map(convert::event).collect();
        // A machine that is busy with others is not the tenant's failure, so its wall time is much longer.
        let wall_ms = self.open.turn_wall_ms.max(limits::TURN_WAIT_MS);
        let mut watch = Watch::new(Instant::now(), wall_ms).for_turn(self.open.turn_wall_ms);
        let (module, store, guest) = (&self.module, &mut self.store, &mut self.guest);
        let handle = async {
            let guest = match guest {
                Some(guest) => guest,
                none => none.insert(module.0.instantiate_async(&mut *store).await?),
            };
            guest.tepui_framework_scheduler().call_handle(&mut *store, now.0, &events).await
        };
        let watched = watch.over(pin!(handle)).await;
        let limiter = &self.store.data().limiter;
        let calls = match watched {
            Watched::Done(Ok(calls)) => calls,
            Watched::Done(Err(error)) => return Err(outcome::of_scheduler(&error, limiter)),
            Watched::TooMuch => {
                let message =
                    format!("the turn took more than {} ms of CPU", self.open.turn_wall_ms);
                return Err((SchedulerFailure::TooSlow, message));
            }
            Watched::TooLong => {
                let message = format!("its agent had no time for the turn within {wall_ms} ms");
                return Err((SchedulerFailure::Agent, message));
            }
            Watched::Killed | Watched::Panicked => {
                return Err((SchedulerFailure::Agent, "the cell failed under it".to_owned()));
            }
        };
        let usage = TurnUsage {
            fuel: self.open.turn_fuel.saturating_sub(self.store.get_fuel().unwrap_or(0)),
            cpu_us: u64::try_from(watch.cpu.as_micros()).unwrap_or(u64::MAX),
            memory_bytes: limiter.held(),
        };
        Ok((self.accept(calls)?, usage))
    }

    /// Checks the order of turns and sets the guest's clock, chance and fuel.
    fn begin(&mut self, mark: TurnMark, now: Timestamp, seed: u64) -> Result<(), Failure> {
        let agent = |message: String| (SchedulerFailure::Agent, message);
        if mark.term != self.open.term || mark.incarnation != self.open.incarnation {
            return Err(agent(format!("{mark:?} is not of this instance")));
        }
        if self.last.is_some_and(|last| mark.number != last.next()) {
            return Err(agent(format!("turn {} came out of order", mark.number)));
        }
        self.last = Some(mark.number);
        let state = self.store.data_mut();
        for (key, value) in self.writes.drain(..) {
            match value {
                Some(value) => state.pairs.insert(key, value),
                None => state.pairs.remove(&key),
            };
        }
        (state.now, state.chance) = (now, Seeded(seed));
        let fuelled = self
            .store
            .set_fuel(self.open.turn_fuel)
            .and_then(|()| self.store.fuel_async_yield_interval(Some(limits::FUEL_SLICE)));
        fuelled.map_err(|error| agent(format!("{error:#}")))
    }

    /// Checks the size of an answer, converts it, and remembers what it writes.
    fn accept(&mut self, calls: Vec<protocol::Call>) -> Result<Vec<Call>, Failure> {
        let too_large = |message: String| (SchedulerFailure::AnswerTooLarge, message);
        if calls.len() > limits::CALLS {
            return Err(too_large(format!(
                "{} calls in one answer; at most {} are allowed",
                calls.len(),
                limits::CALLS
            )));
        }
        let calls: Vec<Call> = calls.into_iter().map(convert::call).collect();
        let size = frame::encode(&calls).map_or(usize::MAX, |bytes| bytes.len());
        if size > limits::ANSWER_BYTES {
            return Err(too_large(format!("an answer has at most {} bytes", limits::ANSWER_BYTES)));
        }
        let writes = calls.iter().filter_map(|call| match call {
            Call::Put { key, value } => Some((key.clone(), value.clone())),
            _ => None,
        });
        self.writes = writes.collect();
        Ok(calls)
    }
}
