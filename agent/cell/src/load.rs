//! Compiled modules, back from disk.
//!
//! Owns the one unsafe step of the cell. Never loads what this machine did not compile itself: the paths come from
//! the agent, whose own child wrote them and nobody else may. Its one surprise: a module whose first table or memory
//! is larger than the pool's slots fails here rather than when it is instantiated.

use std::path::Path;
use tepui_proto::{Reason, TaskState};
use wasmtime::component::Component;
use wasmtime::{Engine, Module};

/// Why a compiled module cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Its first memory is larger than any may be.
    #[error("{0}")]
    Memory(String),
    /// Its first table is larger than any may be.
    #[error("{0}")]
    Table(String),
    /// It imports what it may not, or lacks an export.
    #[error("{0}")]
    Link(String),
    /// The file is not there, or is not one of this version's.
    #[error("the compiled module cannot be loaded: {0}")]
    File(String),
}

impl LoadError {
    /// How a task ends that cannot be loaded.
    pub(crate) fn state_and_reason(&self) -> (TaskState, Reason) {
        match self {
            Self::Memory(_) => (TaskState::Failed, Reason::OutOfMemory),
            Self::Table(_) => (TaskState::Failed, Reason::TooManyTableElements),
            Self::Link(_) => (TaskState::Error, Reason::ModuleImports),
            Self::File(_) => (TaskState::Dropped, Reason::AgentFailed),
        }
    }

    pub(crate) fn link(error: &wasmtime::Error) -> Self {
        Self::Link(format!("{error:#}"))
    }

    /// The pool tells only in words what does not fit.
    fn file(error: &wasmtime::Error) -> Self {
        let text = format!("{error:#}");
        if text.contains("minimum element size") {
            Self::Table(text)
        } else if text.contains("minimum byte size") {
            Self::Memory(text)
        } else {
            Self::File(text)
        }
    }
}

/// Maps a compiled core module.
pub(crate) fn module(engine: &Engine, path: &Path) -> Result<Module, LoadError> {
    #[expect(unsafe_code, reason = "wasmtime cannot check compiled code")]
    // SAFETY: the file was written by this machine's own compiler child and renamed into place; nobody changes it
    // afterwards, and guests see only their sandbox folders.
    let module = unsafe { Module::deserialize_file(engine, path) };
    module.map_err(|error| LoadError::file(&error))
}

/// Maps a compiled component.
pub(crate) fn component(engine: &Engine, path: &Path) -> Result<Component, LoadError> {
    #[expect(unsafe_code, reason = "wasmtime cannot check compiled code")]
    // SAFETY: as for `module`.
    let component = unsafe { Component::deserialize_file(engine, path) };
    component.map_err(|error| LoadError::file(&error))
}
