//! Reads the sources, for the tests in `tests/tidy.rs`: crates, files, links, codes.
//!
//! Never builds or runs anything but `cargo metadata` and `git`. Its one surprise: it reads Rust as text, line by line, so
//! what it looks for has to be written the way that rustfmt writes it.

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Why the sources could not be read.
#[derive(Debug)]
pub struct Unreadable(pub String);

/// A crate and what it declares to need.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Crates that it needs outside of tests.
    pub needs: BTreeSet<String>,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .map_or_else(PathBuf::new, Path::to_owned)
}

/// All crates of this workspace.
///
/// # Errors
/// When `cargo metadata` fails.
pub fn packages() -> Result<Vec<Package>, Unreadable> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
        .current_dir(root());
    let output = command.output().map_err(|error| Unreadable(error.to_string()))?;
    if !output.status.success() {
        return Err(Unreadable(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).map_err(|error| Unreadable(error.to_string()))?;
    let listed = metadata.get("packages").and_then(Value::as_array);
    Ok(listed.into_iter().flatten().filter_map(package).collect())
}

fn package(value: &Value) -> Option<Package> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let dependencies = value.get("dependencies").and_then(Value::as_array)?;
    // No kind is the usual one; `dev` is for tests, which may import anything.
    let needed =
        dependencies.iter().filter(|dependency| text(dependency, "kind").as_deref() != Some("dev"));
    let needs = needed.filter_map(|dependency| text(dependency, "name")).collect();
    let manifest = PathBuf::from(text(value, "manifest_path")?);
    Some(Package { name: text(value, "name")?, dir: manifest.parent()?.to_owned(), needs })
}

/// Files below a folder whose name ends so, without hidden folders and built ones. A folder that is not there has none.
pub fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            found.extend(files(&path, ending));
        } else if path.is_file() && name.ends_with(ending) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The text of a file; nothing if it is not there.
pub fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Rust files that a crate root reaches by `mod`.
pub fn reached(crate_root: &Path) -> BTreeSet<PathBuf> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![crate_root.to_owned()];
    while let Some(file) = waiting.pop() {
        waiting.extend(children(&file).into_iter().filter(|child| !reached.contains(child)));
        reached.insert(file);
    }
    reached
}

fn children(file: &Path) -> Vec<PathBuf> {
    let beside = file.parent().unwrap_or_else(|| Path::new("")).to_owned();
    let stem = file.file_stem().unwrap_or_default();
    let is_root =
        ["lib", "main", "mod", "build"].iter().any(|name| stem == *name) || beside.ends_with("bin");
    let below = if is_root { beside.clone() } else { beside.join(stem) };
    let (mut found, mut named) = (Vec::new(), None);
    for line in text(file).lines().map(str::trim) {
        if let Some(path) =
            line.strip_prefix("#[path = \"").and_then(|rest| rest.strip_suffix("\"]"))
        {
            named = Some(beside.join(path));
        } else if let Some(module) = module_of(line) {
            let places = [below.join(format!("{module}.rs")), below.join(module).join("mod.rs")];
            found.extend(named.take().into_iter().chain(places).find(|path| path.is_file()));
        }
    }
    found
}

/// `x` of `mod x;`, however visible.
fn module_of(line: &str) -> Option<&str> {
    let name = line.strip_suffix(';')?;
    let name = name
        .strip_prefix("pub(crate) ")
        .or_else(|| name.strip_prefix("pub(super) "))
        .unwrap_or(name);
    let name = name.strip_prefix("pub ").unwrap_or(name).strip_prefix("mod ")?;
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_').then_some(name)
}

/// Codes listed as `Name = "code",` inside of a macro of that name.
pub fn listed_codes(source: &str, macro_name: &str) -> BTreeSet<String> {
    let start = format!("{macro_name}! {{");
    let inside =
        source.lines().skip_while(|line| line.trim() != start).take_while(|line| *line != "}");
    inside.filter(|line| line.contains(" = \"")).flat_map(literals).collect()
}

/// Codes that stand where an error is made, or in a function `code`.
pub fn made_codes(source: &str) -> BTreeSet<String> {
    const MAKERS: &[&str] = &[
        "Failure::new(",
        "Failure::invalid(",
        "Failure::internal(",
        "Self::new(StatusCode",
        "Self::invalid(",
        "Self::internal(",
    ];
    let mut codes = BTreeSet::new();
    let mut in_code = false;
    for line in source.lines().take_while(|line| line.trim() != "mod tests {") {
        in_code = (in_code || line.contains("fn code(")) && line != "    }";
        if in_code || MAKERS.iter().any(|maker| line.contains(maker)) {
            codes.extend(literals(line).into_iter().filter(|literal| is_code(literal)));
        }
    }
    codes
}

fn is_code(literal: &str) -> bool {
    literal.len() > 2
        && literal
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn literals(line: &str) -> Vec<String> {
    line.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Targets of a page's links that are files.
pub fn links(page: &str) -> Vec<String> {
    let targets = page.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    let files = targets.filter(|target| {
        !target.contains("://") && !target.starts_with('#') && !target.starts_with("mailto:")
    });
    files
        .filter_map(|target| target.split('#').next())
        .filter(|target| !target.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_links_and_codes_are_found() {
        assert_eq!(module_of("pub(crate) mod x_y;"), Some("x_y"));
        assert_eq!(module_of("mod x {"), None);
        assert_eq!(module_of("modern;"), None);
        assert_eq!(links("[a](b.md#c), [d](https://e), [f](#g)"), ["b.md"]);
        assert_eq!(listed_codes("codes! {\n    A = \"a-b\",\n}\n", "codes").len(), 1);
        let made = "    fn code(&self) {\n        _ => \"x-y\",\n    }\n    Failure::invalid(\"z-z\", \"Words here\")\n    \"no\"";
        assert_eq!(made_codes(made).into_iter().collect::<Vec<_>>(), ["x-y", "z-z"]);
    }
}
