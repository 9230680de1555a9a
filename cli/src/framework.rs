//! `tepui framework …`: submit a folder, list, show, follow, stop.
//!
//! Never changes a framework's files. Its one surprise: modules are checked by the cluster before the framework is
//! put there, so a refused module leaves nothing behind but a blob that is swept.

use crate::client::Client;
use crate::error::{CliError, Exit};
use crate::manifest::Manifest;
use crate::out::{self, Format};
use crate::run;
use crate::run::kind::{self, Kind};
use crate::units::shown_time;
use crate::upload::{Upload, hash_all, upload_all};
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use reqwest::Method;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tepui_proto::api::{EventView, FrameworkPhase, FrameworkSpec, FrameworkView};
use tepui_proto::names::check_name;
use tepui_proto::{Digest, limits};

/// How long one look at a framework waits for its end, so that progress is shown meanwhile.
const LOOK_MS: &str = "300";
/// Between two looks.
const LOOK_PAUSE: Duration = Duration::from_millis(10);
/// Before a master that cannot be reached is asked again, and how often: one that is killed is back within a minute.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
const UNREACHED_MOST: u32 = 120;

/// `tepui framework …`
#[derive(Debug, Subcommand)]
pub(crate) enum FrameworkCommand {
    /// Upload a folder with a `tepui.toml` and start its scheduler; a name that runs already is upgraded.
    Submit(SubmitArgs),
    /// List frameworks.
    Ls {
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Show one framework.
    Show {
        /// Its name.
        name: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// What happened to a framework.
    Events {
        /// Its name.
        name: String,
        /// Only what came after this number.
        #[arg(long)]
        after: Option<u64>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Stop a framework and its tasks.
    Stop {
        /// Its name.
        name: String,
    },
}

/// `tepui framework submit`
#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    /// The folder; it holds `tepui.toml`.
    dir: PathBuf,
    /// Wait until the framework has ended; exit code 1 unless it succeeded.
    #[arg(long)]
    wait: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Does what was asked.
///
/// # Errors
/// Whatever the cluster refuses.
pub(crate) async fn framework(client: &Client, command: FrameworkCommand) -> Result<(), CliError> {
    match command {
        FrameworkCommand::Submit(args) => submit(client, args).await,
        FrameworkCommand::Ls { output } => list(client, output).await,
        FrameworkCommand::Show { name, output } => {
            let view: FrameworkView = client.get(&["frameworks", checked(&name)?]).await?;
            out::thing(output, &view)
        }
        FrameworkCommand::Events { name, after, output } => {
            let after = after.map(|after| after.to_string());
            let query: Vec<(&str, &str)> =
                after.iter().map(|after| ("after", after.as_str())).collect();
            let events: Vec<EventView> =
                client.list(&["frameworks", checked(&name)?, "events"], &query).await?;
            out::listing(output, &events, &["SEQ", "AT", "KIND", "MESSAGE"], |event| {
                vec![
                    event.seq.to_string(),
                    shown_time(event.at),
                    event.kind.clone(),
                    event.message.clone(),
                ]
            })
        }
        FrameworkCommand::Stop { name } => {
            client.post(&["frameworks", checked(&name)?, "stop"]).await
        }
    }
}

async fn list(client: &Client, output: Format) -> Result<(), CliError> {
    let items: Vec<FrameworkView> = client.list(&["frameworks"], &[]).await?;
    let head = ["NAME", "PHASE", "ROLES", "TASKS", "TURNS", "SCHEDULER ON", "USED", "MESSAGE"];
    out::listing(output, &items, &head, |item| {
        vec![
            item.name.clone(),
            phase_word(item.phase).to_owned(),
            item.roles.join(","),
            counts(&item.tasks),
            item.turns.to_string(),
            item.scheduler_agent.clone().unwrap_or_else(|| "-".to_owned()),
            item.used.to_string(),
            item.message.clone(),
        ]
    })
}

/// A name that may stand in a path.
///
/// # Errors
/// Exit code 2 with what is allowed.
pub(crate) fn checked(name: &str) -> Result<&str, CliError> {
    check_name(name).map_err(|error| {
        CliError::usage(format!("`{name}` is not the name of a framework: {error}"))
    })?;
    Ok(name)
}

async fn submit(client: &Client, args: SubmitArgs) -> Result<(), CliError> {
    let manifest = Manifest::read(&args.dir)?;
    let name = manifest.name.clone();
    if name == run::FRAMEWORK {
        let taken = format!("`{name}` is the framework behind `tepui run`");
        return Err(CliError::usage(taken).hint("give yours another name"));
    }
    let view = submit_manifest(client, manifest)
        .await
        .map_err(|error| error.doing(format_args!("cannot submit `{name}`")))?;
    if !args.wait {
        return out::thing(args.output, &view);
    }
    let ended = wait_for_end(client, &name, view.id).await?;
    out::thing(args.output, &ended)?;
    if ended.success == Some(true) {
        return Ok(());
    }
    let failed = CliError::failed(format!("framework `{name}` did not succeed: {}", ended.message));
    Err(failed.hint(format!(
        "see what happened: `tepui framework events {name}`, `tepui task ls --framework {name}`"
    )))
}

async fn submit_manifest(client: &Client, manifest: Manifest) -> Result<FrameworkView, CliError> {
    // In one order for the digests that come back: the scheduler, the modules, the blobs.
    let mut paths = vec![manifest.scheduler.clone()];
    paths.extend(manifest.modules.values().chain(manifest.blobs.values()).cloned());
    let uploads = hash_all(paths).await?;
    for (upload, path) in
        uploads.iter().zip([&manifest.scheduler].into_iter().chain(manifest.modules.values()))
    {
        kind::check_size(upload.size_bytes, path)?;
    }
    upload_all(client, &uploads).await?;

    let mut digests = uploads.iter().map(|upload| upload.digest);
    let scheduler = digests.next().unwrap_or_default();
    check_module(client, scheduler, Kind::Scheduler)
        .await
        .map_err(|error| error.doing("its scheduler"))?;
    let mut modules = BTreeMap::new();
    for (name, digest) in manifest.modules.keys().zip(digests.by_ref()) {
        check_module(client, digest, Kind::Command)
            .await
            .map_err(|error| error.doing(format_args!("its module `{name}`")))?;
        modules.insert(name.clone(), named(digest));
    }
    let blobs = manifest.blobs.keys().cloned().zip(digests.map(named)).collect();
    let spec = FrameworkSpec {
        name: manifest.name,
        roles: manifest.roles,
        scheduler: named(scheduler),
        modules,
        blobs,
        config: manifest.config,
        cpu_milli: manifest.cpu_milli,
        memory_bytes: manifest.memory_bytes,
    };
    client.put(&["frameworks", &spec.name], &spec).await
}

/// `sha256:HEX`.
pub(crate) fn named(digest: Digest) -> String {
    format!("sha256:{digest}")
}

/// Asks the cluster whether it would run a module.
///
/// # Errors
/// What is wrong with the module; code `module-unknown` when it is not there.
pub(crate) async fn check_module(
    client: &Client,
    digest: Digest,
    kind: Kind,
) -> Result<(), CliError> {
    let request = client
        .request(Method::POST, &["modules", &digest.to_string(), "check"])
        .query(&[("kind", kind.as_str())]);
    client.send(request).await.map(drop)
}

/// Uploads a scheduler that this program brings along and submits it.
///
/// # Errors
/// Whatever the cluster refuses.
pub(crate) async fn submit_embedded(
    client: &Client,
    name: &str,
    scheduler: &'static [u8],
) -> Result<FrameworkView, CliError> {
    let upload = Upload::memory(scheduler);
    let digest = upload.digest;
    upload_all(client, &[upload]).await?;
    check_module(client, digest, Kind::Scheduler).await?;
    let roles = vec![name.to_owned()];
    let memory_bytes = Some(limits::SCHEDULER_MEMORY_BYTES);
    let spec = FrameworkSpec {
        name: name.to_owned(),
        roles,
        scheduler: named(digest),
        memory_bytes,
        ..FrameworkSpec::default()
    };
    client.put(&["frameworks", name], &spec).await
}

async fn wait_for_end(client: &Client, name: &str, id: u64) -> Result<FrameworkView, CliError> {
    let bar = out::spinner(&format!("{name}: submitted"));
    let waited = look_until_end(client, name, id, &bar).await;
    bar.finish_and_clear();
    waited
}

async fn look_until_end(
    client: &Client,
    name: &str,
    id: u64,
    bar: &ProgressBar,
) -> Result<FrameworkView, CliError> {
    let mut unreached = 0_u32;
    loop {
        let request = client
            .request(Method::GET, &["frameworks", name])
            .query(&[("wait", "ended"), ("timeout_ms", LOOK_MS)]);
        match client.json::<FrameworkView>(request).await {
            Ok(view) if view.id != id => {
                return Err(CliError::failed(format!(
                    "framework `{name}` was replaced by another of the same name"
                )));
            }
            Ok(view) if view.phase == FrameworkPhase::Ended => return Ok(view),
            Ok(view) if view.phase == FrameworkPhase::Held => return Err(held(name, &view)),
            Ok(view) => {
                unreached = 0;
                bar.set_message(format!(
                    "{name}: {} {}",
                    phase_word(view.phase),
                    counts(&view.tasks)
                ));
            }
            Err(error) if error.exit == Exit::Unreachable && unreached < UNREACHED_MOST => {
                unreached += 1;
                bar.set_message(format!("{name}: the cluster cannot be reached, trying again"));
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
        // A master that does not wait is not asked without end.
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

fn held(name: &str, view: &FrameworkView) -> CliError {
    let hint = format!(
        "see why: `tepui framework events {name}`; submit it again with another scheduler, or stop it"
    );
    CliError::failed(format!("framework `{name}` is held: {}", view.message)).hint(hint)
}

fn phase_word(phase: FrameworkPhase) -> &'static str {
    match phase {
        FrameworkPhase::Submitted => "submitted",
        FrameworkPhase::Running => "running",
        FrameworkPhase::Held => "held",
        FrameworkPhase::Stopping => "stopping",
        FrameworkPhase::Ended => "ended",
    }
}

fn counts(tasks: &BTreeMap<String, u64>) -> String {
    let some = tasks.iter().filter(|(_, count)| **count > 0);
    let text = some.map(|(state, count)| format!("{count} {state}")).collect::<Vec<_>>().join(", ");
    if text.is_empty() { "no tasks".to_owned() } else { text }
}
