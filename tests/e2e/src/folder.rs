//! Folders of frameworks, as `tepui framework submit` takes them.

use crate::guest;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder with a `tepui.toml` that grows.
#[derive(Debug)]
pub struct Folder {
    dir: TempDir,
    head: String,
    modules: String,
    blobs: String,
    config: String,
}

impl Folder {
    /// Of a framework whose scheduler is a guest.
    pub fn new(name: &str, scheduler: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(guest(scheduler), dir.path().join("scheduler.wasm")).unwrap();
        let head =
            format!("name = \"{name}\"\nroles = [\"{name}\"]\nscheduler = \"scheduler.wasm\"\n");
        Self { dir, head, modules: String::new(), blobs: String::new(), config: String::new() }
    }

    /// `wordcount` over files.
    pub fn wordcount(name: &str, files: &[Vec<u8>], split_bytes: usize) -> Self {
        let folder = Self::new(name, "wordcount.wasm")
            .module("task", "wordcount-task.wasm")
            .config("split_bytes", split_bytes);
        files
            .iter()
            .enumerate()
            .fold(folder, |folder, (at, bytes)| folder.blob(&format!("in/{at:04}"), bytes))
    }

    /// With a guest as a module.
    #[must_use]
    pub fn module(mut self, name: &str, file: &str) -> Self {
        fs::copy(guest(file), self.dir.path().join(file)).unwrap();
        writeln!(self.modules, "{name} = \"{file}\"").unwrap();
        self
    }

    /// With a blob.
    #[must_use]
    pub fn blob(mut self, name: &str, bytes: &[u8]) -> Self {
        let file = format!("blob-{}", self.blobs.lines().count());
        fs::write(self.dir.path().join(&file), bytes).unwrap();
        writeln!(self.blobs, "\"{name}\" = \"{file}\"").unwrap();
        self
    }

    /// With a setting.
    #[must_use]
    pub fn config(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        writeln!(self.config, "{key} = \"{value}\"").unwrap();
        self
    }

    /// Any file of the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes the manifest and gives the folder.
    pub fn written(&self) -> &Path {
        let Self { head, modules, blobs, config, .. } = self;
        let text = format!("{head}\n[modules]\n{modules}\n[blobs]\n{blobs}\n[config]\n{config}");
        fs::write(self.file("tepui.toml"), text).unwrap();
        self.dir.path()
    }
}
