//! Runs files of cases, each block with several seeds, and says what failed where.

use super::parse::parse;
use super::step::{At, Block, Body};
use super::{sorter, world};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The order of agents is drawn; what a case expects holds for every order.
const SEEDS: std::ops::Range<u64> = 0..8;

/// Where a block failed, and how. Line 0 is nowhere in particular.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Failure {
    pub(crate) line: usize,
    pub(crate) what: String,
}

/// What became of some files.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// How many blocks there are, those included that could not be read.
    pub(crate) cases: usize,
    pub(crate) failed: usize,
    /// What failed, a paragraph each.
    pub(crate) failures: Vec<String>,
}

impl Report {
    /// One line.
    pub(crate) fn summary(&self) -> String {
        let Self { cases, failed, .. } = self;
        let seeds = SEEDS.count();
        format!("{cases} allocator cases with {seeds} seeds each, {failed} failed")
    }

    fn add(&mut self, other: Self) {
        self.cases += other.cases;
        self.failed += other.failed;
        self.failures.extend(other.failures);
    }
}

/// Runs every `*.txt` of a folder, in the order of their names.
pub(crate) fn run_folder(folder: &Path) -> Result<Report, String> {
    let failed = |e: std::io::Error| format!("cannot read `{}`: {e}", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    paths.sort();
    let mut report = Report::default();
    for path in paths {
        let text = std::fs::read_to_string(&path)
            .map_err(|e| format!("cannot read `{}`: {e}", path.display()))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        report.add(run_text(&name, &text));
    }
    if report.cases == 0 {
        return Err(format!("there are no cases in `{}`", folder.display()));
    }
    Ok(report)
}

/// Runs the cases of one file.
pub(crate) fn run_text(file: &str, text: &str) -> Report {
    let parsed = parse(text);
    let mut unread: Vec<&String> = parsed.errors.iter().map(|(case, _)| case).collect();
    unread.dedup();
    let mut report = Report {
        cases: parsed.blocks.len() + unread.len(),
        failed: unread.len(),
        failures: Vec::new(),
    };
    for (case, At { line, it }) in &parsed.errors {
        report.failures.push(format!("{file}:{line}: {case}: {it}"));
    }
    for block in &parsed.blocks {
        let failures = run_block(block);
        report.failed += usize::from(!failures.is_empty());
        for (Failure { line, what }, seeds) in failures {
            let line = line.max(block.line);
            let name = &block.name;
            report.failures.push(format!("{file}:{line}: {name} (seeds {seeds:?}): {what}"));
        }
    }
    report
}

/// The ways in which a block fails, and with which seeds.
fn run_block(block: &Block) -> BTreeMap<Failure, Vec<u64>> {
    let mut failures: BTreeMap<Failure, Vec<u64>> = BTreeMap::new();
    for seed in SEEDS {
        // One case that breaks something must not hide the others.
        let run = catch_unwind(AssertUnwindSafe(|| match &block.body {
            Body::Case(case) => world::run(case, seed),
            Body::Sorter(steps) => sorter::run(steps, seed),
        }));
        let what = "it panicked; the message stands above".to_owned();
        if let Err(failure) = run.unwrap_or(Err(Failure { line: 0, what })) {
            failures.entry(failure).or_default().push(seed);
        }
    }
    failures
}
