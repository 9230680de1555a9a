//! `raw` and `cell`: an empty command, by wasmtime alone and as a cell runs it.
//!
//! Both use the cell's own engine: the same pool, the same fuel, the same code. `raw` is what cannot be avoided: a WASI
//! context, a store, an instance, `_start`, and all of it dropped. `cell` is from the bytes of a `Run` frame to the bytes of
//! its `Ended` frame, without a socket.

use crate::row::Row;
use crate::{Bench, Failure};
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;
use tepui_cell::{CommandHost, TaskLink, compile, engine_command, run_command};
use tepui_proto::cell::{CellCommand, CellEvent, RunCommand};
use tepui_proto::control::ModuleKind;
use tepui_proto::frame::{self, Decoder};
use tepui_proto::{FrameworkId, LaunchNumber, TaskState, limits};
use tokio::sync::mpsc;
use wasmtime::{InstancePre, Linker, Module, Store};
use wasmtime_wasi::WasiCtxBuilder;
use wasmtime_wasi::p1::{self, WasiP1Ctx};

const WARM_UP: usize = 2_000;
const SAMPLES: usize = 20_000;

pub(crate) fn raw(bench: &Bench) -> Result<Row, Failure> {
    let engine = engine_command()?;
    let module = Module::new(&engine, std::fs::read(bench.guest("noop.wasm"))?)?;
    let mut linker: Linker<WasiP1Ctx> = Linker::new(&engine);
    p1::add_to_linker_async(&mut linker, |context| context)?;
    let pre = linker.instantiate_pre(&module)?;
    runtime()?.block_on(async {
        let mut spans = Vec::with_capacity(SAMPLES);
        for at in 0..WARM_UP + SAMPLES {
            let begun = Instant::now();
            run_raw(&pre).await?;
            if at >= WARM_UP {
                spans.push(begun.elapsed());
            }
        }
        Ok(Row::of("raw", spans))
    })
}

async fn run_raw(pre: &InstancePre<WasiP1Ctx>) -> Result<(), Failure> {
    let context = WasiCtxBuilder::new().arg("noop").build_p1();
    let mut store = Store::new(pre.module().engine(), context);
    store.set_fuel(limits::TASK_FUEL)?;
    store.fuel_async_yield_interval(Some(limits::FUEL_SLICE))?;
    let instance = pre.instantiate_async(&mut store).await?;
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start")?;
    start.call_async(&mut store, ()).await?;
    Ok(())
}

pub(crate) fn cell(bench: &Bench) -> Result<Row, Failure> {
    let compiled = compiled(bench)?;
    let host = CommandHost::new()?;
    let module = host.load(ModuleKind::CommandP1, &compiled)?;
    let asked = frame::encode(&run_frame(1, &compiled))?;
    runtime()?.block_on(async {
        let (outbox, mut told) = mpsc::channel(64);
        let shared = std::sync::Arc::default();
        let mut decoder = Decoder::default();
        let mut bytes = Vec::with_capacity(4_096);
        let mut spans = Vec::with_capacity(SAMPLES);
        for at in 0..WARM_UP + SAMPLES {
            let begun = Instant::now();
            decoder.push(&asked);
            let Some(CellCommand::Run(mut run)) = decoder.pop()? else {
                return Err("a frame was lost".into());
            };
            let launch = run.launch;
            let link = TaskLink::new(&mut run, outbox.clone(), &shared);
            let end = run_command(&module, *run, &link).await;
            let state = end.state;
            while let Ok(outgoing) = told.try_recv() {
                frame::encode_into(&outgoing.into_event(), &mut bytes)?;
            }
            frame::encode_into(&CellEvent::Ended { launch, end: Box::new(end) }, &mut bytes)?;
            black_box(bytes.as_slice());
            bytes.clear();
            drop(link);
            let span = begun.elapsed();
            if state != TaskState::Finished {
                return Err(format!("the empty command ended as {state:?}").into());
            }
            if at >= WARM_UP {
                spans.push(span);
            }
        }
        Ok(Row::of("cell", spans))
    })
}

/// The empty command, compiled as an agent's compiler child does.
pub(crate) fn compiled(bench: &Bench) -> Result<std::path::PathBuf, Failure> {
    let path = bench.dir().join("noop.cwasm");
    let wasm = std::fs::read(bench.guest("noop.wasm"))?;
    std::fs::write(&path, compile(ModuleKind::CommandP1, &wasm)?)?;
    Ok(path)
}

/// What an agent sends for it.
pub(crate) fn run_frame(launch: u64, compiled: &Path) -> CellCommand {
    let text = |path: &Path| path.display().to_string();
    let folder = compiled.parent().unwrap_or_else(|| Path::new("."));
    CellCommand::Run(Box::new(RunCommand {
        launch: LaunchNumber(launch),
        task: "bench/noop".to_owned(),
        framework: FrameworkId(1),
        agent: "agent-1".to_owned(),
        compiled: text(compiled),
        kind: ModuleKind::CommandP1,
        args: vec!["noop".to_owned()],
        env: Vec::new(),
        stdin: Vec::new(),
        sandbox: None,
        stdout: text(&folder.join("stdout")),
        stderr: text(&folder.join("stderr")),
        log_bytes: limits::TASK_LOG_BYTES,
        cpu_milli: 1_000,
        memory_bytes: 4 << 20,
        disk_bytes: 0,
        fuel: limits::TASK_FUEL,
        wall_ms: limits::TASK_WALL_MS,
    }))
}

/// One thread: what is measured is work, not how threads wake each other.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}
