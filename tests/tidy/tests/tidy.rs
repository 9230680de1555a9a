//! What must be true of the sources, each a claim.
//!
//! A rule that is to change is changed here, in the same commit, with the reason in `docs/decisions/`.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use tepui_tidy::{Package, files, links, listed_codes, made_codes, packages, reached, root, text};

/// Which crates of this workspace a crate may import: the floors of `docs/ARCHITECTURE.md`.
const EDGES: &[(&str, &[&str])] = &[
    // Floor 0.
    ("tepui-proto", &[]),
    // Floor 1.
    ("tepui-master-core", &["tepui-proto"]),
    ("tepui-agent-core", &["tepui-proto"]),
    ("tepui-sdk", &[]),
    // Floor 2.
    ("tepui-transport", &["tepui-proto"]),
    ("tepui-journal", &[]),
    ("tepui-cell", &["tepui-proto"]),
    // Floor 3.
    ("tepui-master", &["tepui-proto", "tepui-transport", "tepui-journal", "tepui-master-core"]),
    ("tepui-agent", &["tepui-proto", "tepui-transport", "tepui-journal", "tepui-agent-core"]),
    ("tepui-simulator", &["tepui-proto", "tepui-master-core", "tepui-cell"]),
    // Floor 4.
    (
        "tepui",
        &[
            "tepui-proto",
            "tepui-transport",
            "tepui-master",
            "tepui-agent",
            "tepui-cell",
            "tepui-simulator",
        ],
    ),
    ("xtask", &[]),
];

/// Crates from elsewhere that have one home each.
const HOMES: &[(&str, &[&str])] = &[
    ("wasmtime", &["tepui-cell"]),
    ("wasmtime-wasi", &["tepui-cell"]),
    ("wiggle", &["tepui-cell"]),
    ("quinn", &["tepui-transport"]),
    ("quinn-proto", &["tepui-transport"]),
    ("raft-engine", &["tepui-journal"]),
    ("protobuf", &["tepui-journal"]),
    ("openraft", &["tepui-master"]),
    ("axum", &["tepui-master"]),
    ("object_store", &["tepui-master"]),
    ("wasmparser", &["tepui-master"]),
    ("clap", &["tepui"]),
    ("reqwest", &["tepui"]),
    ("indicatif", &["tepui"]),
    (
        "tokio",
        &[
            "tepui-transport",
            "tepui-cell",
            "tepui-master",
            "tepui-agent",
            "tepui-simulator",
            "tepui",
        ],
    ),
];

/// No I/O, no clock, no chance, no threads.
const CORES: &[&str] = &["tepui-proto", "tepui-master-core", "tepui-agent-core"];
/// All that a core may take from elsewhere.
const PURE: &[&str] =
    &["serde", "postcard", "thiserror", "xxhash-rust", "slotmap", "indexmap", "regex-lite"];
const MOST_LINES: usize = 500;

fn is_test(package: &Package) -> bool {
    package.dir.starts_with(root().join("tests"))
}

fn parts() -> Vec<Package> {
    packages().unwrap().into_iter().filter(|package| !is_test(package)).collect()
}

/// Folders of all crates, guests among them.
fn crate_dirs() -> Vec<std::path::PathBuf> {
    let guests = files(&root().join("guests"), "Cargo.toml");
    let guests = guests
        .iter()
        .filter_map(|manifest| manifest.parent())
        .filter(|dir| dir.join("src").is_dir());
    packages()
        .unwrap()
        .into_iter()
        .map(|package| package.dir)
        .chain(guests.map(Path::to_owned))
        .collect()
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[test]
fn imports_go_down_and_never_sideways() {
    let edges: BTreeMap<&str, &[&str]> = EDGES.iter().copied().collect();
    let packages = packages().unwrap();
    let own: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let mut wrong = Vec::new();
    for package in packages.iter().filter(|package| !is_test(package)) {
        let Some(allowed) = edges.get(package.name.as_str()) else {
            wrong.push(format!("{} is on no floor", package.name));
            continue;
        };
        let needs = package.needs.iter().filter(|need| own.contains(need.as_str()));
        wrong.extend(
            needs
                .filter(|need| !allowed.contains(&need.as_str()))
                .map(|need| format!("{} imports {need}", package.name)),
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_is_taken_from_elsewhere_stays_in_its_home() {
    let homes: BTreeMap<&str, &[&str]> = HOMES.iter().copied().collect();
    let mut wrong = Vec::new();
    for package in parts() {
        let strays = package.needs.iter().filter(|need| {
            homes.get(need.as_str()).is_some_and(|homes| !homes.contains(&package.name.as_str()))
        });
        wrong.extend(strays.map(|need| format!("{} uses {need}", package.name)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn cores_take_nothing_that_could_do_io() {
    let cores: Vec<Package> =
        parts().into_iter().filter(|package| CORES.contains(&package.name.as_str())).collect();
    assert_eq!(cores.len(), CORES.len());
    for core in cores {
        let strays: Vec<&String> = core
            .needs
            .iter()
            .filter(|need| !PURE.contains(&need.as_str()) && *need != "tepui-proto")
            .collect();
        assert!(strays.is_empty(), "{} uses {strays:?}", core.name);
    }
}

#[test]
fn every_crate_inherits_the_lints() {
    let lacking = crate_dirs()
        .into_iter()
        .filter(|dir| !text(&dir.join("Cargo.toml")).contains("[lints]\nworkspace = true"));
    let lacking: Vec<String> = lacking.map(|dir| shown(&dir)).collect();
    assert!(lacking.is_empty(), "{lacking:?}");
}

#[test]
fn no_built_wasm_is_in_git() {
    let listed = Command::new("git")
        .args(["ls-files", "--", "*.wasm", "*.cwasm"])
        .current_dir(root())
        .output()
        .unwrap();
    // Sources that were unpacked from an archive have no git, and nothing to check.
    if root().join(".git").exists() {
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "");
    }
}

#[test]
fn no_source_file_is_longer_than_can_be_read() {
    let mut long = Vec::new();
    for file in crate_dirs().iter().flat_map(|dir| files(&dir.join("src"), ".rs")) {
        let lines = text(&file).lines().count();
        if lines > MOST_LINES {
            long.push(format!("{}: {lines} lines", shown(&file)));
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn no_source_file_is_dead() {
    let mut dead = Vec::new();
    for dir in crate_dirs() {
        let src = dir.join("src");
        let all = files(&src, ".rs");
        let is_root = |path: &&std::path::PathBuf| path.parent() == Some(src.join("bin").as_path());
        let roots =
            [src.join("lib.rs"), src.join("main.rs")].into_iter().filter(|path| path.is_file());
        let live: BTreeSet<_> = roots
            .chain(all.iter().filter(is_root).cloned())
            .flat_map(|path| reached(&path))
            .collect();
        dead.extend(all.iter().filter(|path| !live.contains(*path)).map(|path| shown(path)));
    }
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn every_link_of_the_documents_leads_to_a_file() {
    let mut broken = Vec::new();
    for page in files(&root().join("docs"), ".md").into_iter().chain([root().join("README.md")]) {
        let folder = page.parent().unwrap().to_owned();
        let lost = links(&text(&page)).into_iter().filter(|target| !folder.join(target).exists());
        broken.extend(lost.map(|target| format!("{}: {target}", shown(&page))));
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// The number that a constant is set to.
fn version(file: &str, constant: &str) -> String {
    let source = text(&root().join(file));
    let declared = source.lines().find(|line| line.contains(&format!("const {constant}:")));
    let value = declared.and_then(|line| line.rsplit_once("= ")).map(|(_, value)| value);
    value.unwrap().trim_end_matches(';').to_owned()
}

#[test]
fn the_documents_tell_the_versions_that_are_written() {
    let wire = version("proto/src/limits.rs", "WIRE_VERSION");
    let entries = version("master/core/src/entry.rs", "ENTRY_VERSION");
    let snapshots = version("master/core/src/state/mod.rs", "SNAPSHOT_VERSION");
    let records = version("agent/core/src/book.rs", "VERSION");
    let told = |page: &str, words: &str| {
        let page = text(&root().join(page)).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(page.contains(words), "it should say: {words}");
    };
    told(
        "docs/OPERATING.md",
        &format!(
            "the wire ({wire}), entries ({entries}), snapshots ({snapshots}) and what agents write down ({records})"
        ),
    );
    told("docs/PROTOCOL.md", &format!("Frames carry {wire};"));
    told(
        "docs/PROTOCOL.md",
        &format!(
            "carry a version ({entries}), as do snapshots of its state ({snapshots}), and records and snapshots of an \
             agent's journal ({records});"
        ),
    );
}

#[test]
fn every_reason_of_a_task_has_a_paragraph() {
    let codes = listed_codes(&text(&root().join("proto/src/tasks.rs")), "reasons");
    assert!(codes.len() > 20, "{codes:?}");
    assert_told("docs/GUESTS.md", &codes);
}

#[test]
fn every_refusal_of_a_master_has_a_paragraph() {
    let mut codes = listed_codes(&text(&root().join("master/core/src/refusal.rs")), "codes");
    assert!(codes.len() > 10, "{codes:?}");
    codes.extend(
        files(&root().join("master/src"), ".rs").iter().flat_map(|file| made_codes(&text(file))),
    );
    assert_told("docs/OPERATING.md", &codes);
}

fn assert_told(page: &str, codes: &BTreeSet<String>) {
    let told = text(&root().join(page));
    let untold: Vec<&String> =
        codes.iter().filter(|code| !told.contains(&format!("`{code}`"))).collect();
    assert!(untold.is_empty(), "{page} does not tell of {untold:?}");
}
