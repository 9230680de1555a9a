//! `tepui run`: one module, run once or N times, as if it were a local program.
//!
//! Owns the request to the `run` framework, and starts that framework when the cluster has none. Never decides where
//! anything runs. Its one surprise: the request carries a key of its own, so it may be sent again after any failure
//! and still starts nothing twice.

pub(crate) mod follow;
pub(crate) mod kind;
mod later;
mod waiting;

use crate::blob::Target;
use crate::client::Client;
use crate::error::{CliError, Exit};
use crate::framework::{check_module, named, submit_embedded};
use crate::out;
use crate::units::{parse_cpus, parse_size, parse_span, shown_span};
use crate::upload::{Upload, hash_all, upload_all};
use clap::Args;
use follow::Signals;
use kind::Kind;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tepui_proto::names::check_sandbox_path;
use tepui_proto::resources::Bytes;
use tepui_proto::{Digest, limits};

/// The framework behind `tepui run`, and its role.
pub(crate) const FRAMEWORK: &str = "run";
/// Its scheduler, built from `guests/run` by this crate's build script.
const GUEST: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/run.wasm"));
/// How often a request is sent again: with the pauses between, about twenty seconds.
const ATTEMPTS: u32 = 45;

/// `tepui run`
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A WASI module or component, or `sha256:HEX` of one that the cluster has.
    module: PathBuf,
    /// Cores, such as 0.5.
    #[arg(long, default_value = "0.5", value_parser = task_cpus)]
    cpus: u64,
    /// Memory of the sandbox, such as 64MiB; 1MiB to 256MiB.
    #[arg(long, default_value = "64MiB", value_parser = task_memory)]
    memory: u64,
    /// Disk of the sandbox folder; none unless there are inputs or outputs.
    #[arg(long, value_parser = parse_size)]
    disk: Option<u64>,
    /// Fuel that it may burn in all.
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=limits::TASK_FUEL_MAX))]
    fuel: Option<u64>,
    /// How long it may run, such as 30s.
    #[arg(long, value_parser = task_time)]
    time: Option<u64>,
    /// A variable of its environment.
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = key_value)]
    env: Vec<(String, String)>,
    /// A local file, or `sha256:HEX`, that it finds under PATH.
    #[arg(long = "input", value_name = "SRC=PATH", value_parser = source_path)]
    inputs: Vec<(String, String)>,
    /// A file that it leaves under PATH, fetched to FILE once it has finished; to FILE.0, FILE.1… of several instances.
    #[arg(long = "output", value_name = "PATH=FILE", value_parser = key_value)]
    outputs: Vec<(String, String)>,
    /// How many to run.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    instances: u32,
    /// Its arguments.
    #[arg(last = true)]
    args: Vec<String>,
}

/// What the `run` framework is asked for.
#[derive(Clone, Debug, Serialize)]
struct RunRequest {
    key: String,
    module: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
    cpu_milli: u64,
    memory_bytes: u64,
    disk_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fuel: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    wall_ms: Option<u64>,
    inputs: Vec<RunInput>,
    outputs: Vec<RunOutput>,
    instances: u32,
}

#[derive(Clone, Debug, Serialize)]
struct RunInput {
    source: String,
    path: String,
}

#[derive(Clone, Debug, Serialize)]
struct RunOutput {
    path: String,
    blob: String,
}

/// What it answers.
#[derive(Clone, Debug, Deserialize)]
struct Started {
    tasks: Vec<String>,
}

/// Runs it and gives its exit code.
///
/// # Errors
/// Whatever the cluster refuses, and tasks that did not end by themselves.
pub(crate) async fn run(client: &Client, args: RunArgs) -> Result<ExitCode, CliError> {
    let shown = args.module.display().to_string();
    let doing = |error: CliError| match error.exit {
        Exit::Failed if !error.message.starts_with("cannot run") => {
            error.doing(format_args!("cannot run `{shown}`"))
        }
        _ => error,
    };
    // Before anything is sent: what cannot be written is found out too late once the run is over.
    for (_, file) in &args.outputs {
        let path = follow::numbered(Path::new(file), (args.instances > 1).then_some(0));
        let path = path.as_path();
        Target::find(path).map_err(|error| CliError::file("write", path, &error)).map_err(doing)?;
    }
    let module = provide_module(client, &args).await.map_err(doing)?;
    let inputs = provide_inputs(client, &args.inputs).await.map_err(doing)?;
    let request = request(&args, module, inputs)?;
    let mut signals = Signals::listen()?;
    let tasks = tokio::select! {
        tasks = start(client, &request) => tasks.map_err(doing)?,
        never = waiting::tell_start(client) => match never {},
        () = signals.recv() => {
            // It may have been taken on, and nobody knows under which number.
            out::note("note: the run was not taken on, as far as is known here; see `tepui task ls --framework run`");
            return Ok(ExitCode::from(follow::INTERRUPTED));
        }
    };
    let files: Vec<PathBuf> = args.outputs.iter().map(|(_, file)| PathBuf::from(file)).collect();
    follow::follow_all(client, &tasks, &files).await.map_err(doing)
}

/// Sees to it that the cluster has the module and would run it; one question when it knows it already.
async fn provide_module(client: &Client, args: &RunArgs) -> Result<Digest, CliError> {
    let given = args.module.to_str().filter(|text| text.starts_with("sha256:"));
    if let Some(text) = given {
        let parsed = text.parse::<Digest>();
        let digest = parsed.map_err(|error| CliError::usage(format!("`{text}`: {error}")))?;
        check_module(client, digest, Kind::Command).await?;
        return Ok(digest);
    }
    kind::check_magic(&args.module)?;
    let upload = Upload::file(&args.module)?;
    kind::check_size(upload.size_bytes, &args.module)?;
    match check_module(client, upload.digest, Kind::Command).await {
        Err(error) if error.has_code("module-unknown") => {
            let digest = upload.digest;
            upload_all(client, &[upload]).await?;
            check_module(client, digest, Kind::Command).await?;
            Ok(digest)
        }
        Err(error) => Err(error),
        Ok(()) => Ok(upload.digest),
    }
}

async fn provide_inputs(
    client: &Client,
    inputs: &[(String, String)],
) -> Result<Vec<RunInput>, CliError> {
    let is_digest = |source: &str| source.starts_with("sha256:");
    let files: Vec<PathBuf> = inputs
        .iter()
        .filter(|(source, _)| !is_digest(source))
        .map(|(source, _)| PathBuf::from(source))
        .collect();
    let uploads = if files.is_empty() { Vec::new() } else { hash_all(files).await? };
    upload_all(client, &uploads).await?;
    let mut digests = uploads.iter().map(|upload| named(upload.digest));
    let input = |(source, path): &(String, String)| {
        check_sandbox_path(path)
            .map_err(|error| CliError::usage(format!("`--input …={path}`: {error}")))?;
        let source =
            if is_digest(source) { source.clone() } else { digests.next().unwrap_or_default() };
        Ok::<_, CliError>(RunInput { source, path: path.clone() })
    };
    inputs.iter().map(input).collect()
}

fn request(args: &RunArgs, module: Digest, inputs: Vec<RunInput>) -> Result<RunRequest, CliError> {
    let key = format!("{:032x}", rand::random::<u128>());
    let mut outputs = Vec::with_capacity(args.outputs.len());
    for (at, (path, _)) in args.outputs.iter().enumerate() {
        check_sandbox_path(path)
            .map_err(|error| CliError::usage(format!("`--output {path}=…`: {error}")))?;
        // A framework's names are written once; the key makes them this run's own.
        outputs.push(RunOutput { path: path.clone(), blob: format!("{key}-{at}") });
    }
    let needs_disk = !inputs.is_empty() || !outputs.is_empty();
    let disk_bytes = args.disk.unwrap_or(if needs_disk { 64 << 20 } else { 0 });
    Ok(RunRequest {
        key,
        module: named(module),
        args: args.args.clone(),
        env: args.env.clone(),
        cpu_milli: args.cpus,
        memory_bytes: args.memory,
        disk_bytes,
        fuel: args.fuel,
        wall_ms: args.time,
        inputs,
        outputs,
        instances: args.instances,
    })
}

/// Asks for the run; brings the `run` framework up first if it is not there.
async fn start(client: &Client, request: &RunRequest) -> Result<Vec<String>, CliError> {
    let mut pause = Duration::from_millis(20);
    let mut last = None;
    for _ in 0..ATTEMPTS {
        let post =
            client.request(Method::POST, &["frameworks", FRAMEWORK, "http", "runs"]).json(request);
        let error = match client.json::<Started>(post).await {
            Ok(started) => return Ok(started.tasks),
            Err(error) => error,
        };
        match error.code.as_deref() {
            Some("framework-unknown" | "framework-ended" | "framework-held") => {
                let submitted = submit_embedded(client, FRAMEWORK, GUEST).await;
                // One that is stopping cannot be submitted until it has ended.
                if let Err(error) = submitted
                    && error.code.as_deref() != Some("framework-ended")
                {
                    return Err(error.doing("the `run` framework"));
                }
            }
            // The key makes it safe to ask again.
            Some("request-timeout" | "too-many-requests" | "scheduler-failed" | "not-leader") => {}
            None if error.exit == Exit::Unreachable && last.is_some() => {}
            // Nothing answered at all: say so at once.
            _ => return Err(error),
        }
        last = Some(error);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(500));
    }
    let gave_up = last.unwrap_or_else(|| CliError::failed("the `run` framework does not answer"));
    Err(gave_up.hint(format!("see what it does: `tepui framework events {FRAMEWORK}`")))
}

/// What a task may ask for is checked here, where it can be told by the flag's name.
fn task_cpus(text: &str) -> Result<u64, String> {
    match parse_cpus(text)? {
        0 => Err("a task needs 0.001 of a core at the least".to_owned()),
        milli => Ok(milli),
    }
}

fn task_memory(text: &str) -> Result<u64, String> {
    let (least, most) = (limits::TASK_MEMORY_BYTES_MIN, limits::INSTANCE_MEMORY_BYTES_MAX);
    let bytes = parse_size(text)?;
    if (least..=most).contains(&bytes) {
        return Ok(bytes);
    }
    Err(format!("a task may have {} to {} of memory", Bytes(least), Bytes(most)))
}

fn task_time(text: &str) -> Result<u64, String> {
    let ms = parse_span(text)?;
    if ms <= limits::TASK_WALL_MS_MAX {
        return Ok(ms);
    }
    Err(format!("a task may run for {} at the most", shown_span(limits::TASK_WALL_MS_MAX)))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| format!("`{text}` is not of the form A=B"))
}

/// The last `=` separates, since local names hold what they like.
fn source_path(text: &str) -> Result<(String, String), String> {
    let pair =
        text.rsplit_once('=').filter(|(source, path)| !source.is_empty() && !path.is_empty());
    pair.map(|(source, path)| (source.to_owned(), path.to_owned()))
        .ok_or_else(|| format!("`{text}` is not of the form SRC=PATH"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_split_where_they_should_be() {
        assert_eq!(key_value("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(key_value("A="), Ok(("A".to_owned(), String::new())));
        assert_eq!(source_path("a=b.txt=in.txt"), Ok(("a=b.txt".to_owned(), "in.txt".to_owned())));
        assert!(key_value("=x").is_err() && key_value("x").is_err() && source_path("x=").is_err());
    }

    #[test]
    fn what_a_task_cannot_have_is_refused_before_anything_is_sent() {
        assert_eq!(task_cpus("0.001"), Ok(1));
        assert!(task_cpus("0").unwrap_err().contains("0.001"));
        assert_eq!(task_memory("256MiB"), Ok(256 << 20));
        for bad in ["512KiB", "257MiB"] {
            let words = task_memory(bad).unwrap_err();
            assert!(words.contains("1 MiB") && words.contains("256 MiB"), "{words}");
        }
        assert_eq!(task_time("8760h"), Ok(limits::TASK_WALL_MS_MAX));
        assert!(task_time("8761h").unwrap_err().contains("8760h"));
    }

    #[test]
    fn the_embedded_scheduler_is_a_component() {
        assert_eq!(GUEST.get(..8), Some(&b"\0asm\x0d\0\x01\0"[..]));
    }
}
