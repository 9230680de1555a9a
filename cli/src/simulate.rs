//! `tepui simulate`: a scenario in virtual time, with the real leader and the tenants' own schedulers.
//!
//! Owns where the report goes. Never speaks to a cluster. Its one surprise: the folder of a component is read as by
//! `tepui framework submit`, so what is simulated is what would be submitted.

use crate::error::CliError;
use crate::framework::named;
use crate::manifest::{FILE, Manifest};
use crate::out::{self, Format};
use crate::upload::Upload;
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tepui_proto::api::FrameworkSpec;
use tepui_simulator::{Report, Scenario, ScenarioError, SimulateError, Submission, simulate};

/// `tepui simulate`
#[derive(Debug, Args)]
pub(crate) struct SimulateArgs {
    /// A scenario's file, or the name of one that is shipped: `drf-paper`, `edge-churn`, `fifty-thousand`,
    /// `lending`, `mixed-tenants`, `starvation`, `wordcount`.
    scenario: PathBuf,
    /// What decides every draw [default: that of the scenario].
    #[arg(long)]
    seed: Option<u64>,
    /// Where `report.json` and `report.html` are written [default: ./simulation-NAME].
    #[arg(long)]
    out: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Runs a scenario, writes the report, and prints one line or the report.
///
/// # Errors
/// Exit code 2 for a scenario that is wrong, with its file and line; 1 if it cannot be carried out or written.
pub(crate) fn run(args: SimulateArgs) -> Result<(), CliError> {
    let mut scenario = read(&args.scenario)?;
    scenario.seed = args.seed.unwrap_or(scenario.seed);
    let mut submissions = BTreeMap::new();
    for folder in scenario.components() {
        submissions.insert(folder.to_owned(), submission(folder)?);
    }
    let bar = out::spinner(&format!("simulating {}", scenario.name));
    let simulated = simulate(&scenario, &submissions);
    bar.finish_and_clear();
    let report = simulated.map_err(|error| refused(&scenario.name, &error))?;
    let dir = args.out.unwrap_or_else(|| PathBuf::from(format!("simulation-{}", scenario.name)));
    let text = write(&dir, &report)?;
    match args.output {
        Format::Json => out::data(text.as_bytes())?,
        Format::Table => out::line(report.line())?,
    }
    out::note(format_args!("see {}", dir.join("report.html").display()));
    Ok(())
}

/// A file, or a scenario that is shipped; a file that is there goes first.
fn read(path: &Path) -> Result<Scenario, CliError> {
    let wrong = |error: ScenarioError| {
        let wrong = CliError::usage(error.to_string());
        if error.place.is_some() {
            return wrong;
        }
        let names: Vec<String> =
            Scenario::shipped_names().map(|name| format!("`{name}`")).collect();
        wrong.hint(format!(
            "give a scenario's file, or the name of a shipped one: {}",
            names.join(", ")
        ))
    };
    let shipped = path.to_str().filter(|_| !path.is_file());
    let shipped = shipped.and_then(|name| Scenario::shipped(name, Path::new("")));
    shipped.unwrap_or_else(|| Scenario::read(path)).map_err(wrong)
}

/// A folder as `tepui framework submit` reads it.
fn submission(folder: &Path) -> Result<Submission, CliError> {
    let manifest = Manifest::read(folder)
        .map_err(|error| error.doing(format_args!("cannot read the {FILE} of a component")))?;
    let mut sizes = BTreeMap::new();
    let mut digest_of = |path: &PathBuf| -> Result<String, CliError> {
        let upload = Upload::file(path)?;
        sizes.insert(upload.digest, upload.size_bytes);
        Ok(named(upload.digest))
    };
    let mut all =
        |paths: &BTreeMap<String, PathBuf>| -> Result<BTreeMap<String, String>, CliError> {
            paths.iter().map(|(name, path)| Ok((name.clone(), digest_of(path)?))).collect()
        };
    let (modules, blobs) = (all(&manifest.modules)?, all(&manifest.blobs)?);
    let spec = FrameworkSpec {
        scheduler: digest_of(&manifest.scheduler)?,
        modules,
        blobs,
        name: manifest.name,
        roles: manifest.roles,
        config: manifest.config,
        cpu_milli: manifest.cpu_milli,
        memory_bytes: manifest.memory_bytes,
    };
    let scheduler = std::fs::read(&manifest.scheduler)
        .map_err(|error| CliError::file("read", &manifest.scheduler, &error))?;
    Ok(Submission { spec, scheduler, sizes })
}

fn refused(name: &str, error: &SimulateError) -> CliError {
    let failed = CliError::failed(format!("cannot simulate `{name}`: {error}"));
    match error {
        SimulateError::Component { .. } => {
            failed.hint("`component` is a folder as for `tepui framework submit`")
        }
        _ => failed,
    }
}

/// Both files; gives the text of `report.json`.
fn write(dir: &Path, report: &Report) -> Result<String, CliError> {
    std::fs::create_dir_all(dir).map_err(|error| CliError::file("make", dir, &error))?;
    let text = report
        .to_json()
        .map_err(|error| CliError::failed("cannot write the report").because(&error))?;
    for (name, content) in [("report.json", &text), ("report.html", &report.to_html())] {
        let path = dir.join(name);
        std::fs::write(&path, content).map_err(|error| CliError::file("write", &path, &error))?;
    }
    Ok(text)
}
