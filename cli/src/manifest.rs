//! `tepui.toml`: what a framework's folder holds, checked before anything is sent.
//!
//! Never talks to a cluster. Its one surprise: amounts are read from the text of the file, not from what TOML makes of
//! it, so `cpus = 0.1` is exactly 100 thousandths.

use crate::error::CliError;
use crate::settings::{Document, parse};
use crate::units;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tepui_proto::limits;
use tepui_proto::names::{NameError, check_name, check_role};
use tepui_proto::resources::Bytes;
use toml::{Spanned, Value};

/// The name of the file.
pub(crate) const FILE: &str = "tepui.toml";

/// A framework's folder, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Unique within the tenant.
    pub(crate) name: String,
    /// At least one.
    pub(crate) roles: Vec<String>,
    /// The scheduler component.
    pub(crate) scheduler: PathBuf,
    /// Modules by name.
    pub(crate) modules: BTreeMap<String, PathBuf>,
    /// Blobs by name.
    pub(crate) blobs: BTreeMap<String, PathBuf>,
    /// Told to the scheduler.
    pub(crate) config: BTreeMap<String, String>,
    /// The scheduler's own share.
    pub(crate) cpu_milli: Option<u64>,
    /// The scheduler's own memory.
    pub(crate) memory_bytes: Option<u64>,
}

/// The file as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Spanned<String>,
    roles: Vec<Spanned<String>>,
    scheduler: Spanned<PathBuf>,
    #[serde(default)]
    modules: BTreeMap<String, Spanned<PathBuf>>,
    #[serde(default)]
    blobs: BTreeMap<String, Spanned<PathBuf>>,
    #[serde(default)]
    config: BTreeMap<String, Spanned<Value>>,
    #[serde(default)]
    resources: WrittenResources,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenResources {
    cpus: Option<Spanned<Value>>,
    memory: Option<Spanned<Value>>,
}

impl Manifest {
    /// Reads and checks `DIR/tepui.toml` and that the files which it names are there.
    ///
    /// # Errors
    /// Exit code 2, with the file, the line, and what is allowed.
    pub(crate) fn read(dir: &Path) -> Result<Self, CliError> {
        let document = Document::read(&dir.join(FILE))?;
        Self::check(dir, &document)
    }

    fn check(dir: &Path, document: &Document) -> Result<Self, CliError> {
        let written: Written = parse(document)?;
        check(document, "name", &written.name, check_name)?;
        for role in &written.roles {
            check(document, "role", role, check_role)?;
        }
        if written.roles.is_empty() {
            return Err(document.wrong(
                None,
                "`roles` is empty; at least one role is needed, such as `roles = [\"*\"]`",
            ));
        }
        let amount = |value: Option<Spanned<Value>>, read: fn(&str) -> Result<u64, String>| {
            value
                .map(|value| {
                    read(document.text(&value))
                        .map_err(|wrong| document.wrong(Some(value.span()), &wrong))
                })
                .transpose()
        };
        Ok(Self {
            scheduler: present(dir, document, "scheduler", written.scheduler)?,
            modules: all_present(dir, document, "module", written.modules)?,
            blobs: all_present(dir, document, "blob", written.blobs)?,
            config: settings(document, written.config)?,
            cpu_milli: amount(written.resources.cpus, units::parse_cpus)?,
            memory_bytes: amount(written.resources.memory, scheduler_memory)?,
            name: written.name.into_inner(),
            roles: written.roles.into_iter().map(Spanned::into_inner).collect(),
        })
    }
}

/// What a scheduler itself may have is told with its line.
fn scheduler_memory(text: &str) -> Result<u64, String> {
    let (least, most) = (limits::TASK_MEMORY_BYTES_MIN, limits::SCHEDULER_MEMORY_BYTES_MAX);
    let bytes = units::parse_size(text)?;
    if (least..=most).contains(&bytes) {
        return Ok(bytes);
    }
    Err(format!("a scheduler may have {} to {} of memory", Bytes(least), Bytes(most)))
}

fn check(
    document: &Document,
    what: &str,
    value: &Spanned<String>,
    allowed: impl Fn(&str) -> Result<(), NameError>,
) -> Result<(), CliError> {
    let refused = |error| {
        document.wrong(
            Some(value.span()),
            &format!("the {what} `{}` is not allowed: {error}", value.get_ref()),
        )
    };
    allowed(value.get_ref()).map_err(refused)
}

fn all_present(
    dir: &Path,
    document: &Document,
    what: &str,
    written: BTreeMap<String, Spanned<PathBuf>>,
) -> Result<BTreeMap<String, PathBuf>, CliError> {
    let mut found = BTreeMap::new();
    for (name, path) in written {
        // A name may have parts, as in `in/0001`.
        if let Err(error) = name.split('/').try_for_each(check_name) {
            return Err(document.wrong(
                Some(path.span()),
                &format!("the {what} name `{name}` is not allowed: {error}"),
            ));
        }
        let path = present(dir, document, &format!("{what} `{name}`"), path)?;
        found.insert(name, path);
    }
    Ok(found)
}

fn present(
    dir: &Path,
    document: &Document,
    what: &str,
    path: Spanned<PathBuf>,
) -> Result<PathBuf, CliError> {
    let span = path.span();
    let full = dir.join(path.into_inner());
    if full.is_file() {
        return Ok(full);
    }
    let wrong =
        document.wrong(Some(span), &format!("{what}: there is no file `{}`", full.display()));
    Err(wrong.hint("paths are relative to the folder of the manifest; build the modules first"))
}

fn settings(
    document: &Document,
    written: BTreeMap<String, Spanned<Value>>,
) -> Result<BTreeMap<String, String>, CliError> {
    let mut config = BTreeMap::new();
    for (key, value) in written {
        let text = match value.get_ref() {
            Value::String(text) => text.clone(),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => {
                document.text(&value).to_owned()
            }
            _ => {
                return Err(document.wrong(
                    Some(value.span()),
                    &format!("`config.{key}` may be a string, a number, `true` or `false`"),
                ));
            }
        };
        config.insert(key, text);
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Manifest, CliError> {
        let dir = tempfile::tempdir().unwrap();
        for name in ["s.wasm", "map.wasm"] {
            std::fs::write(dir.path().join(name), b"x").unwrap();
        }
        std::fs::write(dir.path().join(FILE), text).unwrap();
        Manifest::read(dir.path())
    }

    #[test]
    fn a_manifest_is_read_with_exact_amounts() {
        let manifest = read(
            "name = \"wc\"\nroles = [\"a/b\"]\nscheduler = \"s.wasm\"\n[modules]\nmap = \"map.wasm\"\n[blobs]\n\"in/1\" = \"map.wasm\"\n\
             [config]\nparts = 3\n[resources]\ncpus = 0.1\nmemory = \"64MiB\"\n",
        )
        .unwrap();
        assert_eq!((manifest.cpu_milli, manifest.memory_bytes), (Some(100), Some(64 << 20)));
        assert_eq!(manifest.config.get("parts").map(String::as_str), Some("3"));
        assert!(manifest.blobs.contains_key("in/1"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line_and_what_is_allowed() {
        let head = "name = \"wc\"\nroles = [\"*\"]\nscheduler = \"s.wasm\"\n";
        for (rest, line, told) in [
            ("colour = 1\n", 4, "modules"),
            ("[modules]\nmap = \"gone.wasm\"\n", 5, "gone.wasm"),
            ("[resources]\ncpus = -1\n", 5, "0.5"),
            ("[resources]\nmemory = -1\n", 5, "64MiB"),
            ("[resources]\nmemory = \"512MiB\"\n", 5, "256 MiB"),
            ("[config]\na = [1]\n", 5, "string"),
            ("[modules]\n\"../x\" = \"s.wasm\"\n", 5, "not allowed"),
        ] {
            let error = read(&format!("{head}{rest}")).unwrap_err();
            let words = error.render(false);
            assert!(words.contains(&format!("line {line}")), "{words}");
            assert!(words.contains(told) && words.contains(FILE), "{words}");
            assert_eq!(error.exit, crate::error::Exit::Usage);
        }
    }
}
