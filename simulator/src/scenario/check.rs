//! From what is written to what is meant; each refusal names its place and what is allowed there.

use super::document::{Document, ScenarioError};
use super::events::events;
use super::written::{
    Written, WrittenAgents, WrittenFailures, WrittenFramework, WrittenRole, WrittenWorkload,
};
use super::{
    AgentKind, Arrivals, Failures, FrameworkKind, RoleSetting, Scenario, SchedulerKind, Spread,
    TaskSize, Until, Workload, check_task, trace,
};
use crate::amounts::{
    parse_attributes, parse_bundle, parse_milli, parse_resources, parse_scalars, parse_span,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use tepui_proto::events::FaultDomain;
use tepui_proto::names::{NameError, check_name, check_role};
use tepui_proto::roles::Packing;
use tepui_proto::{Resources, Role, Tenant, limits};
use toml::{Spanned, Value};

pub(super) type Checked<T> = Result<T, ScenarioError>;

/// The longest simulation: ten years.
const LONGEST_MS: u64 = 315_360_000_000;
/// The seed of a scenario that names none.
const SEED: u64 = 1;
const SAMPLE_MS: u64 = 1_000;
/// The most tasks of one framework, all together.
const TASKS: u64 = limits::LIVE_TASKS as u64;

pub(super) fn scenario(document: &Document, folder: &Path) -> Checked<Scenario> {
    let written: Written = document.parse()?;
    let stem = document.path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let name = match &written.name {
        Some(name) => named(document, "name", name, check_name)?,
        None => stem.unwrap_or_default(),
    };
    let until = document.read_value(&written.duration, |text| match text {
        "until idle" => Ok(Until::Idle),
        text => parse_span(text)
            .ok()
            .filter(|ms| (1..=LONGEST_MS).contains(ms))
            .map(Until::Time)
            .ok_or_else(|| format!("`{text}` is not a duration; allowed are `until idle` and a time such as `30s`, `10m` or `7d`")),
    })?;
    let seed = written.seed.as_ref().map(|seed| document.count("seed", seed, (0, u64::MAX)));
    let agents = each(&written.agents, |kind| agents(document, kind))?;
    let scenario = Scenario {
        name,
        about: written.about.unwrap_or_default().trim().to_owned(),
        seed: seed.transpose()?.unwrap_or(SEED),
        until,
        sample_ms: span(document, written.sample.as_ref())?.unwrap_or(SAMPLE_MS).max(1),
        batch_ms: span(document, written.batch.as_ref())?.unwrap_or(1).max(1),
        events: events(document, &written.events, &agents)?,
        agents,
        roles: each(&written.roles, |setting| role(document, setting))?,
        frameworks: each(&written.frameworks, |kind| framework(document, folder, kind))?,
    };
    alone(document, "agents", written.agents.iter().map(|kind| &kind.name))?;
    alone(document, "role", written.roles.iter().map(|setting| &setting.name))?;
    alone(document, "framework", written.frameworks.iter().map(|kind| &kind.name))?;
    check_whole(document, &scenario)?;
    Ok(scenario)
}

/// Refuses a name that stands twice.
fn alone<'a>(
    document: &Document,
    what: &str,
    mut names: impl Iterator<Item = &'a Spanned<String>>,
) -> Checked<()> {
    let mut seen = BTreeSet::new();
    match names.find(|name| !seen.insert(name.get_ref().as_str())) {
        Some(twice) => {
            let told = format!("the {what} `{}` stands twice", twice.get_ref());
            Err(document.wrong(Some(twice.span()), told))
        }
        None => Ok(()),
    }
}

fn each<W, T>(written: &[W], check: impl FnMut(&W) -> Checked<T>) -> Checked<Vec<T>> {
    written.iter().map(check).collect()
}

/// What no single part can tell.
fn check_whole(document: &Document, scenario: &Scenario) -> Checked<()> {
    let wrong = |what: String| Err(document.wrong(None, what));
    if scenario.agents.is_empty() {
        return wrong("there is no `[[agents]]`; at least one kind of agent is needed".to_owned());
    }
    if scenario.frameworks.is_empty() {
        return wrong("there is no `[[frameworks]]`; at least one framework is needed".to_owned());
    }
    let agents: u64 = scenario.agents.iter().map(|kind| kind.count).sum();
    if agents > limits::AGENTS as u64 {
        return wrong(format!("{agents} agents; a cluster has at most {}", limits::AGENTS));
    }
    let frameworks: u64 = scenario.frameworks.iter().map(|kind| kind.count).sum();
    if frameworks > limits::FRAMEWORKS as u64 {
        return wrong(format!(
            "{frameworks} frameworks; a cluster has at most {}",
            limits::FRAMEWORKS
        ));
    }
    let is_component =
        |kind: &&FrameworkKind| matches!(kind.scheduler, SchedulerKind::Component(_));
    let components: u64 =
        scenario.frameworks.iter().filter(is_component).map(|kind| kind.count).sum();
    if components > u64::from(limits::CELL_SCHEDULERS) {
        return wrong(format!(
            "{components} components; at most {} run in one sandbox",
            limits::CELL_SCHEDULERS
        ));
    }
    Ok(())
}

fn agents(document: &Document, written: &WrittenAgents) -> Checked<AgentKind> {
    let domain = match (&written.region, &written.zone) {
        (None, None) => None,
        (Some(region), Some(zone)) => {
            Some(FaultDomain { region: region.get_ref().clone(), zone: zone.get_ref().clone() })
        }
        (Some(lone), None) | (None, Some(lone)) => {
            let what = "`region` and `zone` go together";
            return Err(document.wrong(Some(lone.span()), what));
        }
    };
    let resources = document.read_value(&written.resources, parse_bundle)?;
    let plain = resources.plain();
    if plain.cpu_milli == 0 || plain.memory_bytes == 0 {
        let what = "an agent needs `cpus` and `mem`, such as `cpus:8;mem:16384`";
        return Err(document.wrong(Some(written.resources.span()), what));
    }
    let attributes = written.attributes.as_ref();
    let attributes =
        attributes.map(|text| document.read_value(text, parse_attributes)).transpose()?;
    Ok(AgentKind {
        name: named(document, "name", &written.name, check_name)?,
        count: count(document, "count", written.count.as_ref(), limits::AGENTS as u64)?,
        resources,
        attributes: attributes.unwrap_or_default(),
        domain,
        joins_at_ms: span(document, written.joins_at.as_ref())?.unwrap_or(0),
        joins_over_ms: span(document, written.joins_over.as_ref())?.unwrap_or(0),
        failures: written
            .failures
            .as_ref()
            .map(|written| failures(document, written))
            .transpose()?,
    })
}

fn failures(document: &Document, written: &WrittenFailures) -> Checked<Failures> {
    let mean = |value: &Spanned<Value>| {
        document.read_value(value, |text| match parse_span(text)? {
            0 => Err("a mean time is above 0, such as `1h`".to_owned()),
            ms => Ok(ms),
        })
    };
    Ok(Failures {
        mean_between_ms: mean(&written.mean_between)?,
        mean_return_ms: mean(&written.mean_return)?,
        keeps_tasks: written.keeps_tasks,
    })
}

fn role(document: &Document, written: &WrittenRole) -> Checked<RoleSetting> {
    let amount = |value: &Option<Spanned<Value>>| {
        value.as_ref().map(|value| document.read_value(value, parse_scalars)).transpose()
    };
    let weight = written.weight.as_ref().map(|value| {
        document.read_value(value, |text| {
            let weight = parse_milli(text).filter(|milli| *milli > 0);
            weight.ok_or_else(|| {
                format!("`{text}` is not a weight; it is a number above 0, such as `2` or `0.5`")
            })
        })
    });
    let packing = written.packing.as_ref().map(|packing| match packing.get_ref().as_str() {
        "spread" => Ok(Packing::Spread),
        "pack" => Ok(Packing::Pack),
        "random" => Ok(Packing::Random),
        other => Err(document.wrong(
            Some(packing.span()),
            format!("`{other}` is not a packing; allowed are `spread`, `pack` and `random`"),
        )),
    });
    Ok(RoleSetting {
        role: Role(named(document, "name", &written.name, check_role)?),
        weight_milli: weight.transpose()?.unwrap_or(1_000),
        guarantee: amount(&written.guarantee)?,
        limit: amount(&written.limit)?,
        packing: packing.transpose()?,
    })
}

fn framework(
    document: &Document,
    folder: &Path,
    written: &WrittenFramework,
) -> Checked<FrameworkKind> {
    let at = written.name.span();
    let scheduler = scheduler(document, folder, written)?;
    let is_component = matches!(scheduler, SchedulerKind::Component(_));
    if written.roles.is_empty() && !is_component {
        return Err(document.wrong(
            Some(at),
            "`roles` is empty; at least one role is needed, such as `roles = [\"*\"]`",
        ));
    }
    let roles =
        written.roles.iter().map(|role| named(document, "role", role, check_role).map(Role));
    let workload = match (&scheduler, &written.workload) {
        (SchedulerKind::Sitter | SchedulerKind::Decliner, Some(_)) => {
            let what = format!("a `{}` runs nothing, so it has no `workload`", scheduler.word());
            return Err(document.wrong(Some(at), what));
        }
        (SchedulerKind::Sitter | SchedulerKind::Decliner, None) => Workload::Tasks(Spread::Forever),
        (_, Some(written)) => workload(document, folder, is_component, written)?,
        (_, None) => {
            return Err(
                document.wrong(Some(at), "it has no `[frameworks.workload]`: say what it runs")
            );
        }
    };
    let (is_revocable, priority) = standing(document, &scheduler, written.workload.as_ref())?;
    Ok(FrameworkKind {
        is_revocable,
        priority,
        name: named(document, "name", &written.name, check_name)?,
        tenant: Tenant(written.tenant.as_ref().map_or_else(
            || Ok("default".to_owned()),
            |tenant| named(document, "tenant", tenant, check_name),
        )?),
        roles: roles.collect::<Checked<_>>()?,
        count: count(document, "count", written.count.as_ref(), limits::FRAMEWORKS as u64)?,
        submitted_at_ms: span(document, written.submitted_at.as_ref())?.unwrap_or(0),
        refuse_ms: span(document, written.refuse_for.as_ref())?.unwrap_or(limits::REFUSE_MS),
        scheduler,
        workload,
    })
}

/// Whether tasks are revocable, and their priority.
fn standing(
    document: &Document,
    scheduler: &SchedulerKind,
    workload: Option<&WrittenWorkload>,
) -> Checked<(bool, i32)> {
    let Some(workload) = workload else { return Ok((false, 0)) };
    if let Some(revocable) = workload.revocable.as_ref().filter(|flag| *flag.get_ref())
        && *scheduler != SchedulerKind::Wants
    {
        let what =
            "only tasks of a `wants` scheduler are `revocable` here: what is lent is lent to wants";
        return Err(document.wrong(Some(revocable.span()), what));
    }
    if let (Some(priority), SchedulerKind::Component(_)) = (&workload.priority, scheduler) {
        let what = "a component says itself what `priority` its tasks have";
        return Err(document.wrong(Some(priority.span()), what));
    }
    Ok((
        workload.revocable.as_ref().is_some_and(|flag| *flag.get_ref()),
        workload.priority.as_ref().map_or(0, |priority| *priority.get_ref()),
    ))
}

fn scheduler(
    document: &Document,
    folder: &Path,
    written: &WrittenFramework,
) -> Checked<SchedulerKind> {
    match (&written.scheduler, &written.component) {
        (Some(word), None) => match word.get_ref().as_str() {
            "wants" => Ok(SchedulerKind::Wants),
            "coarse" => Ok(SchedulerKind::Coarse),
            "sitter" => Ok(SchedulerKind::Sitter),
            "decliner" => Ok(SchedulerKind::Decliner),
            other => Err(document.wrong(
                Some(word.span()),
                format!("`{other}` is not a scheduler; allowed are `wants`, `coarse`, `sitter`, `decliner`, or a `component` instead"),
            )),
        },
        (None, Some(path)) => {
            let dir = folder.join(path.get_ref());
            if dir.join("tepui.toml").is_file() {
                return Ok(SchedulerKind::Component(dir));
            }
            let what = format!("there is no `tepui.toml` in `{}`; `component` is a folder that could be submitted", dir.display());
            Err(document.wrong(Some(path.span()), what))
        }
        _ => Err(document.wrong(
            Some(written.name.span()),
            "it needs either a `scheduler` (`wants`, `coarse`, `sitter`, `decliner`) or a `component`",
        )),
    }
}

fn workload(
    document: &Document,
    folder: &Path,
    is_component: bool,
    written: &WrittenWorkload,
) -> Checked<Workload> {
    let spans = [
        written.task.as_ref().map(|value| ("task", value.span())),
        written.tasks.as_ref().map(|value| ("tasks", value.span())),
        written.arrivals.as_ref().map(|value| ("arrivals", value.span())),
        written.duration.as_ref().map(|value| ("duration", value.span())),
        written.csv.as_ref().map(|value| ("csv", value.span())),
    ];
    let given = spans.iter().flatten();
    let only = |allowed: &str, why: &str| match given.clone().find(|(name, _)| *name != allowed) {
        Some((name, at)) => {
            Err(document.wrong(Some(at.clone()), format!("`{name}` is not allowed here: {why}")))
        }
        None => Ok(()),
    };
    if is_component {
        only(
            "duration",
            "a component decides what it runs, and only the `duration` of its tasks is given",
        )?;
    } else if let Some(csv) = &written.csv {
        only("csv", "a trace has it all")?;
        let path = folder.join(csv.get_ref());
        let read = Document::read(&path)
            .map_err(|error| document.wrong(Some(csv.span()), error.to_string()))?;
        return Ok(Workload::Trace(Arc::new(trace::read(&read, limits::LIVE_TASKS)?)));
    }
    let whole =
        |what: &str| document.wrong(None, format!("a `[frameworks.workload]` has no `{what}`"));
    let duration = written.duration.as_ref().ok_or_else(|| whole("duration"))?;
    let duration = spread(document, duration)?;
    if is_component {
        return Ok(Workload::Tasks(duration));
    }
    let size = written.task.as_ref().ok_or_else(|| whole("task"))?;
    let size: Resources = document.read_value(size, |text| {
        let size = parse_resources(text)?;
        check_task(&size).map(|()| size)
    })?;
    let tasks = written.tasks.as_ref().ok_or_else(|| whole("tasks"))?;
    let tasks = document.count("tasks", tasks, (1, TASKS))?;
    let arrivals = written.arrivals.as_ref().map(|value| arrivals(document, value)).transpose()?;
    Ok(Workload::Steady {
        size: TaskSize(size),
        tasks,
        arrivals: arrivals.unwrap_or(Arrivals::AtOnce),
        duration,
    })
}

/// The only key of an inline table such as `{ every = "1s" }`, and its value as text.
fn entry(value: &Spanned<Value>) -> Option<(String, Vec<String>)> {
    let Value::Table(table) = value.get_ref() else { return None };
    let mut entries = table.iter();
    let (key, inner) = entries.next().filter(|_| table.len() == 1)?;
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let values = match inner {
        Value::Array(items) => items.iter().map(text).collect(),
        single => vec![text(single)],
    };
    Some((key.clone(), values))
}

fn arrivals(document: &Document, value: &Spanned<Value>) -> Checked<Arrivals> {
    let wrong = || {
        let what = "`arrivals` is `\"at once\"`, `{ every = \"2s\" }` or `{ poisson_per_s = 0.5 }`";
        document.wrong(Some(value.span()), what)
    };
    if value.get_ref().as_str() == Some("at once") {
        return Ok(Arrivals::AtOnce);
    }
    let (key, values) = entry(value).ok_or_else(wrong)?;
    match (key.as_str(), values.as_slice()) {
        ("every", [every]) => {
            parse_span(every).ok().filter(|ms| *ms > 0).map(Arrivals::EveryMs).ok_or_else(wrong)
        }
        ("poisson_per_s", [rate]) => {
            parse_milli(rate).filter(|milli| *milli > 0).map(Arrivals::Poisson).ok_or_else(wrong)
        }
        _ => Err(wrong()),
    }
}

fn spread(document: &Document, value: &Spanned<Value>) -> Checked<Spread> {
    let wrong = || {
        let what = "a `duration` is `\"forever\"`, `\"30s\"`, `{ uniform = [\"10s\", \"20s\"] }`, `{ exponential = \"30s\" }` \
                    or `{ lognormal = [\"30s\", 1.5] }` (median, and deviation of the logarithm)";
        document.wrong(Some(value.span()), what)
    };
    let time = |text: &str| {
        parse_span(text).ok().filter(|ms| (1..=LONGEST_MS).contains(ms)).ok_or_else(wrong)
    };
    match value.get_ref().as_str() {
        Some("forever") => return Ok(Spread::Forever),
        Some(text) => return time(text).map(Spread::Fixed),
        None => {}
    }
    let (key, values) = entry(value).ok_or_else(wrong)?;
    match (key.as_str(), values.as_slice()) {
        ("fixed", [fixed]) => time(fixed).map(Spread::Fixed),
        ("exponential", [mean]) => time(mean).map(Spread::Exponential),
        ("uniform", [low, high]) => {
            let (low, high) = (time(low)?, time(high)?);
            if low <= high { Ok(Spread::Uniform(low, high)) } else { Err(wrong()) }
        }
        ("lognormal", [median, sigma]) => {
            let sigma = parse_milli(sigma).filter(|milli| *milli <= 10_000).ok_or_else(wrong)?;
            Ok(Spread::Lognormal(time(median)?, sigma))
        }
        _ => Err(wrong()),
    }
}

pub(super) fn span(document: &Document, value: Option<&Spanned<Value>>) -> Checked<Option<u64>> {
    let read = |text: &str| {
        let ms = parse_span(text)?;
        if ms <= LONGEST_MS { Ok(ms) } else { Err(format!("`{text}` is longer than ten years")) }
    };
    value.map(|value| document.read_value(value, read)).transpose()
}

fn count(document: &Document, name: &str, value: Option<&Spanned<i64>>, most: u64) -> Checked<u64> {
    value.map_or(Ok(1), |value| document.count(name, value, (1, most)))
}

fn named(
    document: &Document,
    what: &str,
    value: &Spanned<String>,
    allowed: impl Fn(&str) -> Result<(), NameError>,
) -> Checked<String> {
    let text = value.get_ref();
    allowed(text).map(|()| text.clone()).map_err(|error| {
        document.wrong(Some(value.span()), format!("the {what} `{text}` is not allowed: {error}"))
    })
}
