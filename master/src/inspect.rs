//! Looks at a module's structure: what it is, what it imports, how much of everything it holds.
//!
//! Owns the allow-list of imports and the bounds on counts. Never compiles, never looks into a function's code, and never
//! works out what a type is made of: a few bytes of a component can ask for gibibytes of types, so that is left to the
//! agent's compiler, a child with bounds. What this needs grows with the bytes that are read, and with nothing else. Its
//! one surprise: a module that passes here may still not be valid.

mod imports;
#[cfg(test)]
mod tests;

use imports::Version;
use tepui_proto::control::ModuleKind;
use tepui_proto::limits;
use wasmparser::{
    BinaryReaderError, Encoding, ExternalKind, FunctionBody, Parser, Payload, TypeRef,
};

/// The interface that a scheduler exports.
const SCHEDULER: &str = "tepui:framework/scheduler";
/// The interface that a command component exports.
const RUN: &str = "wasi:cli/run";

/// Functions of all core modules together: a 26 MB Python has 16,000; compile time grows with each.
const FUNCTIONS: u64 = 200_000;
/// Types, likewise: each is kept while a module is loaded, compiled or not.
const TYPES: u64 = 100_000;
/// Globals, data and element segments, each: their set-up is part of every instantiation.
const SEGMENTS: u64 = 100_000;
/// Imports and exports at the top, each: the largest world of WASI 0.2 has 40.
const NAMES: u64 = 10_000;
/// Core modules and components within one component; dynamically linked Pythons have some dozens.
const NESTED: u64 = 128;
/// How deep components may hold components.
const DEPTH: usize = 16;
/// Locals of one function: register allocation grows faster than their number (engines stop at 50,000).
const LOCALS: u64 = 20_000;
/// Bytes of one function: it is compiled on one thread and cannot be split.
const FUNCTION_BYTES: usize = 4 << 20;

/// Why a module cannot be used. What is fixed about a digest, so it may be remembered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// More bytes than [`limits::MODULE_BYTES`].
    #[error("it has {0} bytes, and a module may have {max}", max = limits::MODULE_BYTES)]
    TooLarge(u64),
    /// Not WebAssembly, or damaged.
    #[error("it is not a WebAssembly module: {0}")]
    NotWasm(String),
    /// A core module without a `_start` function.
    #[error("it exports no function `_start`, so it is a library and not a program")]
    NoStart,
    /// A component that is neither scheduler nor command.
    #[error("it is a component that exports neither `{SCHEDULER}` nor `{RUN}`")]
    NoEntry,
    /// The right interface of a version that is not spoken here.
    #[error("it exports `{export}`, and version {spoken} is spoken here")]
    Version {
        /// With its version.
        export: String,
        /// What would do.
        spoken: &'static str,
    },
    /// It imports what it may not.
    #[error("it imports `{0}`, which is not offered to it")]
    Import(String),
    /// More of something than a module may hold.
    #[error("it has more than {max} {what}")]
    Count {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: u64,
    },
    /// A good module of another kind than the one that was asked for.
    #[error("it is {is}, and {wanted} is needed")]
    Kind {
        /// In words.
        is: &'static str,
        /// In words.
        wanted: &'static str,
    },
}

impl InspectError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => "module-too-large",
            Self::Import(_) => "module-imports",
            Self::NotWasm(_)
            | Self::NoStart
            | Self::NoEntry
            | Self::Version { .. }
            | Self::Count { .. }
            | Self::Kind { .. } => "module-invalid",
        }
    }

    /// What could be done.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::TooLarge(_) => {
                "strip debug information (`wasm-tools strip`), or move data into a blob"
            }
            Self::NotWasm(_) => {
                "build for `wasm32-wasip1` or `wasm32-wasip2`; text (`.wat`) is not taken"
            }
            Self::NoStart => "build a binary, not a library",
            Self::NoEntry => {
                "export `wasi:cli/run` for a task or `tepui:framework/scheduler` for a scheduler"
            }
            Self::Version { .. } => "build it with an SDK of this version",
            Self::Import(_) => {
                "tasks get WASI preview 1, or WASI 0.2 without HTTP; see docs/GUESTS.md for the list"
            }
            Self::Count { .. } => "split the program, or build it with less inlining",
            Self::Kind { .. } => "`scheduler` wants a scheduler component; `modules` want commands",
        }
    }
}

/// What a module is to be used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModuleUse {
    /// To decide.
    Scheduler,
    /// To be run as a task.
    Command,
}

impl ModuleUse {
    /// Whether a module of this kind will do.
    ///
    /// # Errors
    /// [`InspectError::Kind`].
    pub fn check(self, kind: ModuleKind) -> Result<ModuleKind, InspectError> {
        match (self, kind) {
            (Self::Scheduler, ModuleKind::Scheduler)
            | (Self::Command, ModuleKind::CommandP1 | ModuleKind::CommandP2) => Ok(kind),
            (Self::Scheduler, _) => {
                Err(InspectError::Kind { is: "a command", wanted: "a scheduler" })
            }
            (Self::Command, _) => {
                Err(InspectError::Kind { is: "a scheduler", wanted: "a command" })
            }
        }
    }
}

/// Says what a module is.
///
/// # Errors
/// What is wrong with its structure, its imports, or its size.
pub fn inspect(bytes: &[u8]) -> Result<ModuleKind, InspectError> {
    let size = bytes.len() as u64;
    if size > limits::MODULE_BYTES {
        return Err(InspectError::TooLarge(size));
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(InspectError::NotWasm("it does not begin with `\\0asm`".to_owned()));
    }
    let mut look = Look::default();
    for payload in Parser::new(0).parse_all(bytes) {
        look.take(&payload.map_err(not_wasm)?)?;
    }
    look.verdict()
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
fn not_wasm(error: BinaryReaderError) -> InspectError {
    InspectError::NotWasm(error.to_string())
}

/// What was seen so far.
#[derive(Debug, Default)]
struct Look {
    depth: usize,
    is_component: bool,
    has_start: bool,
    counts: Counts,
    /// Of the component itself; core imports are checked as they come.
    imports: Vec<String>,
    exports: Vec<String>,
}

#[derive(Debug, Default)]
struct Counts {
    functions: u64,
    types: u64,
    globals: u64,
    segments: u64,
    names: u64,
    nested: u64,
    stores: u64,
    /// Those that are there, of the functions that were said to be.
    bodies: u64,
}

fn count(total: &mut u64, more: u32, max: u64, what: &'static str) -> Result<(), InspectError> {
    *total = total.saturating_add(u64::from(more));
    if *total > max { Err(InspectError::Count { what, max }) } else { Ok(()) }
}

impl Look {
    fn take(&mut self, payload: &Payload<'_>) -> Result<(), InspectError> {
        let counts = &mut self.counts;
        match payload {
            Payload::Version { encoding, .. } => {
                if self.depth == 0 {
                    self.is_component = *encoding == Encoding::Component;
                }
                self.depth += 1;
                if self.depth > DEPTH {
                    return Err(InspectError::Count {
                        what: "levels of components",
                        max: DEPTH as u64,
                    });
                }
                Ok(())
            }
            Payload::End(_) => {
                self.depth = self.depth.saturating_sub(1);
                Ok(())
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                count(&mut counts.nested, 1, NESTED, "modules and components within it")
            }
            Payload::TypeSection(section) => {
                count(&mut counts.types, section.count(), TYPES, "types")
            }
            Payload::CoreTypeSection(section) => {
                count(&mut counts.types, section.count(), TYPES, "types")
            }
            Payload::ComponentTypeSection(section) => {
                count(&mut counts.types, section.count(), TYPES, "types")
            }
            Payload::FunctionSection(section) => {
                count(&mut counts.functions, section.count(), FUNCTIONS, "functions")
            }
            Payload::GlobalSection(section) => {
                count(&mut counts.globals, section.count(), SEGMENTS, "globals")
            }
            Payload::ElementSection(section) => {
                count(&mut counts.segments, section.count(), SEGMENTS, "segments")
            }
            Payload::DataSection(section) => {
                count(&mut counts.segments, section.count(), SEGMENTS, "segments")
            }
            Payload::TableSection(section) => stores(&mut counts.stores, section.count()),
            Payload::MemorySection(section) => stores(&mut counts.stores, section.count()),
            Payload::CodeSectionEntry(body) => {
                counts.bodies += 1;
                check_function(body)
            }
            Payload::UnknownSection { id, .. } => {
                Err(InspectError::NotWasm(format!("it has a section {id}, which is none")))
            }
            _ if self.depth == 1 => self.take_names(payload),
            _ => Ok(()),
        }
    }

    /// Imports and exports of the whole; what is inside of a component is its own affair.
    fn take_names(&mut self, payload: &Payload<'_>) -> Result<(), InspectError> {
        let names = &mut self.counts.names;
        match payload {
            Payload::ImportSection(section) => {
                count(names, section.count(), NAMES, "imports and exports")?;
                for import in section.clone().into_imports() {
                    let import = import.map_err(not_wasm)?;
                    let is_function = matches!(import.ty, TypeRef::Func(_));
                    if !is_function || !imports::is_core_allowed(import.module) {
                        return Err(InspectError::Import(shown(&format!(
                            "{}::{}",
                            import.module, import.name
                        ))));
                    }
                }
            }
            Payload::ExportSection(section) => {
                count(names, section.count(), NAMES, "imports and exports")?;
                for export in section.clone() {
                    let export = export.map_err(not_wasm)?;
                    self.has_start |= export.name == "_start" && export.kind == ExternalKind::Func;
                }
            }
            Payload::ComponentImportSection(section) => {
                count(names, section.count(), NAMES, "imports and exports")?;
                for import in section.clone() {
                    self.imports.push(shown(import.map_err(not_wasm)?.name.name));
                }
            }
            Payload::ComponentExportSection(section) => {
                count(names, section.count(), NAMES, "imports and exports")?;
                for export in section.clone() {
                    self.exports.push(shown(export.map_err(not_wasm)?.name.name));
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn verdict(self) -> Result<ModuleKind, InspectError> {
        if self.counts.bodies != self.counts.functions {
            let Counts { bodies, functions, .. } = self.counts;
            let what = format!("it names {functions} functions and holds {bodies}");
            return Err(InspectError::NotWasm(what));
        }
        if !self.is_component {
            return if self.has_start {
                Ok(ModuleKind::CommandP1)
            } else {
                Err(InspectError::NoStart)
            };
        }
        let kind = if let Some(export) = self.export(SCHEDULER) {
            imports::check_version(export, Version::TEPUI)?;
            ModuleKind::Scheduler
        } else if let Some(export) = self.export(RUN) {
            imports::check_version(export, Version::WASI)?;
            ModuleKind::CommandP2
        } else {
            return Err(InspectError::NoEntry);
        };
        match self.imports.into_iter().find(|name| !imports::is_allowed(kind, name)) {
            Some(name) => Err(InspectError::Import(name)),
            None => Ok(kind),
        }
    }

    fn export(&self, interface: &str) -> Option<&str> {
        self.exports.iter().map(String::as_str).find(|name| imports::interface(name) == interface)
    }
}

/// As many as one instance may have of either; the agent's pool holds no more.
fn stores(total: &mut u64, more: u32) -> Result<(), InspectError> {
    count(total, more, (limits::MEMORIES + limits::TABLES) as u64, "memories and tables")
}

fn check_function(body: &FunctionBody<'_>) -> Result<(), InspectError> {
    if body.range().len() > FUNCTION_BYTES {
        return Err(InspectError::Count {
            what: "bytes in one function",
            max: FUNCTION_BYTES as u64,
        });
    }
    let mut locals = 0;
    for run in body.get_locals_reader().map_err(not_wasm)? {
        let (more, _) = run.map_err(not_wasm)?;
        count(&mut locals, more, LOCALS, "locals in one function")?;
    }
    Ok(())
}

/// A name from a module, fit to be printed.
fn shown(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(limits::NAME_BYTES).collect()
}
