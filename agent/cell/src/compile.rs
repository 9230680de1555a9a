//! From a tenant's WebAssembly to code for this machine.
//!
//! Owns the verdict on a module: whether it compiles, and whether what it imports is there. Never runs any of it.
//! [`compile_main`] is the whole of the child `tepui compile`, which bounds itself before it reads a byte; its
//! deadline is the agent's business.

use crate::command::CommandHost;
use crate::disk;
use crate::engine::{EngineError, Profile, engine_compiling};
use crate::load::LoadError;
use crate::process;
use crate::scheduler::SchedulerHost;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use tepui_proto::control::ModuleKind;
use tepui_proto::limits;
use wasmtime::component::Component;
use wasmtime::{Engine, Module, ResourcesRequired};

/// The first eight bytes of a core module.
const CORE: &[u8] = b"\0asm\x01\0\0\0";
/// The first eight bytes of a component.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Why a module is refused.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// It is not WebAssembly, not valid, or of the wrong kind.
    #[error("{0}")]
    Invalid(String),
    /// It imports what it may not.
    #[error("{0}")]
    Imports(String),
    /// It is larger than [`limits::MODULE_BYTES`].
    #[error("the module has {0} bytes, and at most {max} are allowed", max = limits::MODULE_BYTES)]
    TooLarge(u64),
    /// The compiler cannot do it.
    #[error("{0}")]
    Uncompilable(String),
    /// Its code is larger than [`limits::COMPILED_BYTES`].
    #[error("its compiled code has more than {max} bytes", max = limits::COMPILED_BYTES)]
    CodeTooLarge,
    /// Not the module's fault.
    #[error("cannot compile here")]
    Engine(#[from] EngineError),
    /// Not the module's fault: a file could not be read or written.
    #[error("cannot compile here: {0}")]
    Io(#[from] io::Error),
}

impl CompileError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "module-invalid",
            Self::Imports(_) => "module-imports",
            Self::TooLarge(_) => "module-too-large",
            Self::Uncompilable(_) | Self::CodeTooLarge => "module-uncompilable",
            Self::Engine(_) | Self::Io(_) => "agent-failed",
        }
    }
}

/// Compiles and links a module. The result is for this machine and this version only.
///
/// # Errors
/// Says what is wrong with the module, or what this machine lacks.
pub fn compile(kind: ModuleKind, wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
    let size = wasm.len() as u64;
    if size > limits::MODULE_BYTES {
        return Err(CompileError::TooLarge(size));
    }
    check_form(kind, wasm)?;
    let host_of_commands = || CommandHost::with_engine(engine_compiling(Profile::Command)?);
    let code = match kind {
        ModuleKind::CommandP1 => {
            let host = host_of_commands()?;
            let module = compile_module(host.engine(), wasm)?;
            check_stores(Some(module.resources_required()))?;
            host.link_module(&module).map_err(|error| link_error(&error))?;
            module.serialize()
        }
        ModuleKind::CommandP2 => {
            let host = host_of_commands()?;
            let component = compile_component(host.engine(), wasm)?;
            check_stores(component.resources_required())?;
            host.link_component(&component).map_err(|error| link_error(&error))?;
            component.serialize()
        }
        ModuleKind::Scheduler => {
            let host = SchedulerHost::with_engine(engine_compiling(Profile::Scheduler)?)?;
            let component = compile_component(host.engine(), wasm)?;
            check_stores(component.resources_required())?;
            host.link(&component).map_err(|error| link_error(&error))?;
            component.serialize()
        }
    };
    let code = code.map_err(|error| CompileError::Uncompilable(format!("{error:#}")))?;
    if code.len() as u64 > limits::COMPILED_BYTES {
        return Err(CompileError::CodeTooLarge);
    }
    Ok(code)
}

/// The child `tepui compile`: bounds itself, compiles, and leaves either the whole output file or none. On failure
/// it prints one line of JSON, `{"code","message"}`, to standard output.
pub fn compile_main(kind: ModuleKind, input: &Path, output: &Path) -> ExitCode {
    process::bound_compiler();
    match compile_file(kind, input, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let verdict = serde_json::json!({ "code": error.code(), "message": error.to_string() });
            // Without a reader there is nobody to tell.
            drop(writeln!(io::stdout(), "{verdict}"));
            ExitCode::FAILURE
        }
    }
}

fn compile_file(kind: ModuleKind, input: &Path, output: &Path) -> Result<(), CompileError> {
    let size = std::fs::metadata(input)?.len();
    if size > limits::MODULE_BYTES {
        return Err(CompileError::TooLarge(size));
    }
    let compiled = compile(kind, &std::fs::read(input)?)?;
    // What is kept for the agent's journal is not for compiled modules.
    let room = disk::room(output.parent().unwrap_or_else(|| Path::new(".")));
    if compiled.len() as u64 > room {
        return Err(io::Error::from(io::ErrorKind::StorageFull).into());
    }
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = output.with_file_name(name);
    let written = std::fs::write(&part, compiled).and_then(|()| std::fs::rename(&part, output));
    if written.is_err() {
        // The failure that is told is the first one.
        drop(std::fs::remove_file(&part));
    }
    // The file's own bound, where the signal that comes with it is not heeded.
    written.map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => CompileError::CodeTooLarge,
        _ => error.into(),
    })
}

/// A pool has so many for each of its sandboxes, and no more.
fn check_stores(needed: Option<ResourcesRequired>) -> Result<(), CompileError> {
    let Some(needed) = needed else {
        return Err(CompileError::Invalid("it imports modules or instances".to_owned()));
    };
    for (what, has, most) in [
        ("memories", needed.num_memories, limits::MEMORIES),
        ("tables", needed.num_tables, limits::TABLES),
    ] {
        if has as usize > most {
            return Err(CompileError::Invalid(format!(
                "it has {has} {what}, and at most {most} are allowed"
            )));
        }
    }
    Ok(())
}

fn check_form(kind: ModuleKind, wasm: &[u8]) -> Result<(), CompileError> {
    let (is, wanted) = (form_of(wasm), wanted_form(kind));
    match is {
        None => Err(CompileError::Invalid("it is not WebAssembly".to_owned())),
        Some(is) if is != wanted => {
            Err(CompileError::Invalid(format!("it is a {is}, and a {wanted} is needed")))
        }
        Some(_) => Ok(()),
    }
}

fn form_of(wasm: &[u8]) -> Option<&'static str> {
    if wasm.starts_with(CORE) {
        Some("core module")
    } else if wasm.starts_with(COMPONENT) {
        Some("component")
    } else {
        None
    }
}

fn wanted_form(kind: ModuleKind) -> &'static str {
    match kind {
        ModuleKind::CommandP1 => "core module",
        ModuleKind::CommandP2 | ModuleKind::Scheduler => "component",
    }
}

fn compile_module(engine: &Engine, wasm: &[u8]) -> Result<Module, CompileError> {
    Module::from_binary(engine, wasm).map_err(|error| build_error(&error))
}

fn compile_component(engine: &Engine, wasm: &[u8]) -> Result<Component, CompileError> {
    Component::from_binary(engine, wasm).map_err(|error| build_error(&error))
}

/// Errors of the validator name an offset; those of the code generator do not.
fn build_error(error: &wasmtime::Error) -> CompileError {
    let text = format!("{error:#}");
    if text.contains("(at offset") {
        CompileError::Invalid(text)
    } else {
        CompileError::Uncompilable(text)
    }
}

/// Errors of linking name an import or an export.
fn link_error(error: &LoadError) -> CompileError {
    let text = error.to_string();
    if text.contains("import") { CompileError::Imports(text) } else { CompileError::Invalid(text) }
}
