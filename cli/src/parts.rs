//! `tepui master` and `tepui agent`: the cluster's own processes, from flags and a TOML file.
//!
//! Never keeps state of their own. Its one surprise: with `--with-parent` a part ends when its standard input does, and
//! leaves Ctrl-C to whoever started it, so nothing outlives `tepui dev`.

use crate::error::CliError;
use crate::settings::{Document, parse};
use crate::units::{parse_bundle, parse_cpus, parse_custom, parse_scalars, parse_size, parse_span};
use clap::Args;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tepui_agent::{AgentConfig, AttributeConfig, DomainConfig, ResourcesConfig};
use tepui_master::{AllocatorSettings as Settings, DriverError, MasterError};
use tepui_proto::{DurationMs, Scalars};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;

/// `tepui master`. A flag goes before the file.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MasterArgs {
    /// A TOML file with these settings, `_` for `-`: `dir = "…"`, `token_file = "…"`.
    #[arg(long)]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Where the log, the snapshots and the blobs are kept.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where people and tools reach it over HTTPS [default: 127.0.0.1:7420].
    #[arg(long)]
    http: Option<SocketAddr>,
    /// Where agents reach it over QUIC [default: 127.0.0.1:7421].
    #[arg(long)]
    quic: Option<SocketAddr>,
    /// Its certificate and key; made by `tepui cluster identity master` [default: DIR/identity.pem].
    #[arg(long)]
    identity: Option<PathBuf>,
    /// A file with the bearer token of the tenant `default` [default: DIR/token].
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// Disk that blobs and new work leave to the log, such as 1GiB [default: a twentieth, 256MiB to 2GiB].
    #[arg(long, value_name = "SIZE")]
    disk_reserve: Option<String>,
    /// Look at all that is free once in this time, such as 1s, instead of at what was freed as soon as it is.
    #[arg(long, value_name = "TIME")]
    allocation_interval: Option<String>,
    /// The least that is worth an offer, such as "cpus:0.1;mem:32"; may be given more than once, and any of them will do
    /// [default: cpus:0.01 or mem:32].
    #[arg(long, value_name = "AMOUNTS")]
    smallest_offer: Vec<String>,
    /// A resource that has no part in fair shares; may be given more than once.
    #[arg(long, value_name = "NAME")]
    excluded_from_shares: Vec<String>,
    /// Its region: agents of others are offered only to who asks for regions.
    #[arg(long)]
    region: Option<String>,
    /// End when standard input ends.
    #[arg(long, hide = true)]
    #[serde(skip)]
    with_parent: bool,
}

/// `tepui agent` with no verb. A flag goes before the file.
#[derive(Debug, Default, Args, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AgentArgs {
    /// A TOML file with these settings: `name = "…"`, `master = ["HOST:PORT"]`, `cpus = "3.5"`.
    #[arg(long)]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Unique in the cluster; that of its identity.
    #[arg(long)]
    name: Option<String>,
    /// Where its log, compiled modules and sandboxes are kept.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// A master's QUIC address as HOST:PORT; may be given for each of them.
    #[arg(long, value_name = "HOST:PORT")]
    master: Vec<String>,
    /// Its host's name, told to schedulers [default: its name].
    #[arg(long)]
    hostname: Option<String>,
    /// Its certificate and key; made by `tepui cluster identity agent` [default: DIR/identity.pem].
    #[arg(long)]
    identity: Option<PathBuf>,
    /// Cores to offer, such as 3.5 [default: all].
    #[arg(long)]
    cpus: Option<String>,
    /// Memory to offer, such as 8GiB [default: all but a tenth].
    #[arg(long)]
    memory: Option<String>,
    /// Disk to offer, such as 20GiB [default: 16GiB].
    #[arg(long)]
    disk: Option<String>,
    /// What is not for everyone: reserved for a role, revocable, disks that cannot be split; such as
    /// "cpus(web):2;mem(web):1024;cpus{rev}:2".
    #[arg(long)]
    reserved: Option<String>,
    /// What else to offer, under names of your own, such as "gpus:2;licences:{a,b}".
    #[arg(long)]
    custom: Option<String>,
    /// Ports to offer, as ranges of first and last; in the file alone.
    #[arg(skip)]
    ports: Vec<(u16, u16)>,
    /// What schedulers may ask for by name; in the file alone.
    #[arg(skip)]
    attributes: BTreeMap<String, AttributeConfig>,
    /// Where it stands: `region` and `zone`; in the file alone.
    #[arg(skip)]
    domain: Option<DomainConfig>,
    /// End when standard input ends.
    #[arg(long, hide = true)]
    #[serde(skip)]
    with_parent: bool,
}

/// Times between periodic cycles that make sense: the shortest is what a small cluster's cycle takes.
const INTERVALS_MS: RangeInclusive<u64> = 10..=3_600_000;
/// Memory that an agent leaves to the machine, as a part of all.
const MEMORY_KEPT_PART: u64 = 10;
/// Disk offered unless it is said: enough for sandboxes, far below what machines have.
const DISK_BYTES: u64 = 16 << 30;

/// Runs a master until it is asked to stop.
///
/// # Errors
/// When a setting is wrong, or the master cannot do its work.
pub(crate) async fn master(flags: MasterArgs) -> Result<(), CliError> {
    let file: MasterArgs = from_file(flags.config.as_deref())?;
    let with_parent = flags.with_parent;
    let allocator = allocator_settings(&flags, &file)?;
    let disk_reserve = flags.disk_reserve.or(file.disk_reserve);
    let disk_reserve = disk_reserve
        .map(|text| parse_size(&text))
        .transpose()
        .map_err(|words| CliError::usage(words).doing("`disk_reserve` cannot be read"))?;
    let dir = needed(flags.dir.or(file.dir), "dir", "master")?;
    let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
    let config = tepui_master::MasterConfig {
        http: flags.http.or(file.http).unwrap_or_else(|| loopback(7_420)),
        quic: flags.quic.or(file.quic).unwrap_or_else(|| loopback(7_421)),
        identity: flags.identity.or(file.identity).unwrap_or_else(|| dir.join("identity.pem")),
        token_file: flags.token_file.or(file.token_file).unwrap_or_else(|| dir.join("token")),
        dir,
        disk_reserve,
        allocator,
    };
    let ready = |addresses: tepui_master::Addresses| {
        let ready = Ready { url: format!("https://{}", addresses.http), quic: addresses.quic };
        // Whoever started it waits for this line; if nobody does, nothing is lost.
        let _told = crate::out::line(format_args!("ready {}", ready.to_json()));
    };
    let ended = tepui_master::run(config, ready, stop_signal(with_parent)?);
    ended.await.map_err(|error| ended_with("the master", code_of(&error), &error))
}

/// Why a part ended: the stable code, and the words.
fn ended_with(part: &str, code: &str, error: &dyn std::error::Error) -> CliError {
    CliError::failed(format!("{part} ended: {code}")).because(error)
}

/// The stable code of what ended a master.
fn code_of(error: &MasterError) -> &'static str {
    match error {
        MasterError::File { .. } | MasterError::NoToken(_) | MasterError::Reserve { .. } => {
            "master-io"
        }
        MasterError::Identity(_) | MasterError::NotMaster(_) => "identity",
        MasterError::Blobs(_) => "blob-store",
        MasterError::Driver(DriverError::Journal(error)) => error.code(),
        MasterError::Driver(DriverError::Entry { .. } | DriverError::Snapshot(_)) => {
            "journal-record"
        }
        MasterError::Driver(_) => "internal",
        MasterError::Listen(_) | MasterError::Http(_) => "endpoint",
    }
}

/// How the master's allocator works.
fn allocator_settings(flags: &MasterArgs, file: &MasterArgs) -> Result<Settings, CliError> {
    let wrong = |name: &str, words: String| {
        CliError::usage(words).doing(format!("`{name}` cannot be read"))
    };
    let interval = flags.allocation_interval.as_ref().or(file.allocation_interval.as_ref());
    let interval = interval.map(|text| {
        let ms = parse_span(text)?;
        if INTERVALS_MS.contains(&ms) {
            return Ok(DurationMs(ms));
        }
        Err(format!("an interval of {ms} ms; allowed are 10ms to 1h"))
    });
    let smallest =
        if flags.smallest_offer.is_empty() { &file.smallest_offer } else { &flags.smallest_offer };
    let smallest = smallest.iter().map(|text| {
        let amounts = parse_scalars(text)?;
        if amounts.is_empty() {
            return Err("it is empty; say the least amount of something".to_owned());
        }
        Ok(amounts)
    });
    let smallest: Vec<Scalars> =
        smallest.collect::<Result<_, _>>().map_err(|words| wrong("smallest_offer", words))?;
    let defaults = Settings::default();
    let excluded_from_shares = if flags.excluded_from_shares.is_empty() {
        &file.excluded_from_shares
    } else {
        &flags.excluded_from_shares
    };
    Ok(Settings {
        interval: interval
            .transpose()
            .map_err(|words: String| wrong("allocation_interval", words))?,
        excluded: excluded_from_shares.iter().cloned().collect(),
        smallest: if smallest.is_empty() { defaults.smallest } else { smallest },
        seed: defaults.seed,
        region: flags.region.clone().or_else(|| file.region.clone()),
    })
}

/// What a master says once it listens, as one line on standard output.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
pub(crate) struct Ready {
    /// `https://HOST:PORT`.
    pub(crate) url: String,
    /// For agents.
    pub(crate) quic: SocketAddr,
}

impl Ready {
    /// One line.
    pub(crate) fn to_json(&self) -> String {
        serde_json::json!({ "url": self.url, "quic": self.quic }).to_string()
    }

    /// From a line of a master's; none if it says something else.
    pub(crate) fn from_line(line: &str) -> Option<Self> {
        serde_json::from_str(line.trim().strip_prefix("ready ")?).ok()
    }
}

/// Runs an agent until it is asked to stop.
///
/// # Errors
/// When a setting is wrong, or the agent cannot do its work.
pub(crate) async fn agent(flags: AgentArgs) -> Result<(), CliError> {
    let file: AgentArgs = from_file(flags.config.as_deref())?;
    let with_parent = flags.with_parent;
    let dir = needed(flags.dir.or(file.dir), "dir", "agent")?;
    let masters = if flags.master.is_empty() { file.master } else { flags.master };
    let masters = needed((!masters.is_empty()).then_some(masters), "master", "agent")?;
    let amount = |name: &str, text: Option<String>, read: fn(&str) -> Result<u64, String>| {
        let wrong = |words| CliError::usage(words).doing(format!("`{name}` cannot be read"));
        text.map(|text| read(&text).map_err(wrong)).transpose()
    };
    let cpu_milli = amount("cpus", flags.cpus.or(file.cpus), parse_cpus)?;
    let cpu_milli = cpu_milli.unwrap_or_else(machine_cpu_milli);
    let memory_bytes = amount("memory", flags.memory.or(file.memory), parse_size)?;
    let memory_bytes = memory_bytes
        .unwrap_or_else(|| machine_memory_bytes() / MEMORY_KEPT_PART * (MEMORY_KEPT_PART - 1));
    let disk_bytes = amount("disk", flags.disk.or(file.disk), parse_size)?;
    let disk_bytes = disk_bytes.unwrap_or(DISK_BYTES);
    let reserved = flags.reserved.or(file.reserved).unwrap_or_default();
    let reserved = parse_bundle(&reserved)
        .map_err(|words| CliError::usage(words).doing("`reserved` cannot be read"))?;
    let custom = parse_custom(&flags.custom.or(file.custom).unwrap_or_default())
        .map_err(|words| CliError::usage(words).doing("`custom` cannot be read"))?;
    let executable = std::env::current_exe()
        .map_err(|error| CliError::failed("cannot find the program itself").because(&error))?;
    let config = AgentConfig {
        name: needed(flags.name.or(file.name), "name", "agent")?,
        dir,
        masters,
        identity: flags.identity.or(file.identity),
        resources: ResourcesConfig {
            cpu_milli,
            memory_bytes,
            disk_bytes,
            ports: file.ports,
            custom,
        },
        reserved,
        attributes: file.attributes,
        domain: file.domain,
        hostname: flags.hostname.or(file.hostname),
        executable,
    };
    // As a task: whoever is woken by a socket then goes on with the agent's loop; on the main thread each event would
    // wake another one twice.
    let ended = tokio::spawn(tepui_agent::run(config, stop_signal(with_parent)?)).await;
    ended
        .map_err(|error| ended_with("the agent", "internal", &error))?
        .map_err(|error| ended_with("the agent", error.code(), &error))
}

fn from_file<T: Default + serde::de::DeserializeOwned>(path: Option<&Path>) -> Result<T, CliError> {
    path.map_or_else(|| Ok(T::default()), |path| parse(&Document::read(path)?))
}

fn needed<T>(value: Option<T>, name: &str, part: &str) -> Result<T, CliError> {
    let lacks = || {
        CliError::usage(format!("`--{name}` is needed")).hint(format!(
            "give it, or put `{name} = …` into the file of `--config`; see `tepui {part} --help`"
        ))
    };
    value.ok_or_else(lacks)
}

/// Cores of this machine in thousandths.
pub(crate) fn machine_cpu_milli() -> u64 {
    std::thread::available_parallelism().map_or(1_000, |cores| cores.get() as u64 * 1_000)
}

/// Memory of this machine (`/proc/meminfo`).
pub(crate) fn machine_memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total
        .and_then(|rest| rest.trim().strip_suffix(" kB"))
        .and_then(|number| number.trim().parse::<u64>().ok());
    kib.map_or(1 << 30, |kib| kib << 10)
}

/// Ends when this process should: at SIGTERM; at Ctrl-C too, unless a parent sees to that; at the end of standard input
/// if a parent holds it.
///
/// # Errors
/// When signals cannot be listened to.
pub(crate) fn stop_signal(
    with_parent: bool,
) -> Result<impl Future<Output = ()> + Send + 'static, CliError> {
    let listen = |kind| {
        signal(kind).map_err(|error| CliError::failed("cannot listen to signals").because(&error))
    };
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let parent_gone = if with_parent { end_of_stdin() } else { Arc::default() };
    Ok(async move {
        let interrupted = async {
            loop {
                interrupt.recv().await;
                if !with_parent {
                    return;
                }
            }
        };
        tokio::select! {
            _ = terminate.recv() => {}
            () = interrupted => {}
            () = parent_gone.notified() => {}
        }
    })
}

/// Told once whoever holds the other end of standard input lets go.
///
/// A thread of its own reads, since one of the runtime's would keep the process from ending.
pub(crate) fn end_of_stdin() -> Arc<Notify> {
    let gone = Arc::new(Notify::new());
    let told = Arc::clone(&gone);
    std::thread::spawn(move || {
        // An error is an end as well.
        let _copied = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        told.notify_one();
    });
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_line_reads_back_and_nothing_else_does() {
        let ready = Ready {
            url: "https://127.0.0.1:1".to_owned(),
            quic: SocketAddr::from(([127, 0, 0, 1], 2)),
        };
        assert_eq!(Ready::from_line(&format!("ready {}\n", ready.to_json())), Some(ready));
        assert_eq!(Ready::from_line("hello"), None);
    }

    #[test]
    fn what_the_allocator_is_told_is_checked_and_a_flag_goes_before_the_file() {
        let file: MasterArgs = toml::from_str(
            "allocation_interval = \"2s\"\nsmallest_offer = [\"cpus:0.5;mem:64\"]\nexcluded_from_shares = [\"gpus\"]\nregion = \"eu\"",
        )
        .unwrap();
        let read = |flags: &MasterArgs| allocator_settings(flags, &file);
        let settings = read(&MasterArgs::default()).unwrap();
        assert_eq!(settings.interval, Some(DurationMs(2_000)));
        assert_eq!(settings.smallest, ["cpus:0.5;mem:64".parse().unwrap()]);
        assert_eq!((settings.excluded.len(), settings.region.as_deref()), (1, Some("eu")));
        let with = |interval: &str| MasterArgs {
            allocation_interval: Some(interval.to_owned()),
            ..MasterArgs::default()
        };
        assert_eq!(read(&with("500ms")).unwrap().interval, Some(DurationMs(500)));
        for wrong in ["0s", "2h", "soon"] {
            let words = read(&with(wrong)).unwrap_err().render(false);
            assert!(words.contains("allocation_interval") && words.contains("allowed"), "{words}");
        }
        for wrong in ["", "cpus", "cpus:-1"] {
            let flags =
                MasterArgs { smallest_offer: vec![wrong.to_owned()], ..MasterArgs::default() };
            let words = read(&flags).unwrap_err().render(false);
            assert!(words.contains("smallest_offer"), "{words}");
        }
        let plain = allocator_settings(&MasterArgs::default(), &MasterArgs::default()).unwrap();
        assert_eq!(plain, Settings::default());
    }

    #[test]
    fn a_settings_file_with_an_unknown_key_is_refused_with_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        std::fs::write(&path, "name = \"a\"\ncolour = 1\n").unwrap();
        let words = from_file::<AgentArgs>(Some(&path)).unwrap_err().render(false);
        assert!(words.contains("line 2") && words.contains("colour"), "{words}");
        std::fs::write(&path, "name = \"a\"\nmaster = [\"127.0.0.1:1\"]\ncpus = \"0.5\"\n")
            .unwrap();
        assert_eq!(from_file::<AgentArgs>(Some(&path)).unwrap().master.len(), 1);
    }
}
