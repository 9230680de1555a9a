//! Why a run does not begin, told once it has waited for a while.
//!
//! Never ends anything and never fails: what cannot be asked is not told. Its one surprise: a run that waits has a want of
//! its own number, so what came of the allocator's looks is told of this run alone.

use super::FRAMEWORK;
use crate::client::Client;
use crate::error::CliError;
use crate::out;
use crate::units::parse_bundle;
use serde::Deserialize;
use std::convert::Infallible;
use std::time::Duration;
use tepui_proto::api::{AgentView, FrameworkExplanation, FrameworkView};

/// How long a run may wait before anything is said of it.
const FIRST: Duration = Duration::from_secs(5);
/// Between two looks after that; only what is new is said.
const NEXT: Duration = Duration::from_secs(15);

/// A run as its framework has it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Shown {
    tasks: Vec<ShownTask>,
}

#[derive(Clone, Debug, Deserialize)]
struct ShownTask {
    task: String,
    state: String,
    exit_code: Option<i32>,
}

impl ShownTask {
    fn is_waiting(&self) -> bool {
        self.state == "waiting"
    }

    fn is_under_way(&self) -> bool {
        self.is_waiting() || self.state == "launched"
    }
}

impl Shown {
    /// Asks for it.
    ///
    /// # Errors
    /// When there is no such run any more, or its framework cannot be asked now.
    pub(super) async fn get(client: &Client, run: &str) -> Result<Self, CliError> {
        client.get(&["frameworks", FRAMEWORK, "http", "runs", run]).await
    }

    /// The task that stands for an instance now.
    pub(super) fn task(&self, instance: usize) -> Option<String> {
        self.tasks.get(instance).map(|shown| shown.task.clone())
    }

    /// How a task ended, in its framework's word for it, and with which exit code; none if it did not.
    pub(super) fn end(&self, task: &str) -> Option<(&str, Option<i32>)> {
        let shown = self.tasks.iter().find(|shown| shown.task == task)?;
        (!shown.is_under_way()).then_some((&shown.state, shown.exit_code))
    }

    /// Whether a task waits or runs.
    pub(super) fn is_under_way(&self, task: &str) -> bool {
        self.tasks.iter().any(|shown| shown.task == task && shown.is_under_way())
    }

    /// Whether none of its tasks waits or runs.
    pub(super) fn is_over(&self) -> bool {
        !self.tasks.iter().any(ShownTask::is_under_way)
    }
}

/// `7` of `r7-0`.
pub(super) fn run_of(task: &str) -> Option<&str> {
    task.strip_prefix('r')?.split('-').next()
}

/// Says on standard error that a run waits, and why, for as long as some of it does.
pub(super) async fn tell(client: &Client, tasks: &[String]) {
    let Some(run) = tasks.first().and_then(|task| run_of(task)) else { return };
    let mut said = String::new();
    tokio::time::sleep(FIRST).await;
    loop {
        if let Ok(shown) = Shown::get(client, run).await {
            let waiting = shown.tasks.iter().filter(|task| task.is_waiting()).count();
            if waiting == 0 {
                return;
            }
            let path = ["explain", "framework", FRAMEWORK];
            let why = client.get::<FrameworkExplanation>(&path).await;
            let told = why.map(|why| words(run, &why)).unwrap_or_default();
            if !told.is_empty() && told != said {
                say(waiting, tasks.len(), &told, said.is_empty());
                said = told;
            }
        }
        tokio::time::sleep(NEXT).await;
    }
}

/// Says on standard error why the `run` framework does not take a run on, for as long as it does not.
pub(super) async fn tell_start(client: &Client) -> Infallible {
    let mut said = String::new();
    tokio::time::sleep(FIRST).await;
    loop {
        let agents = client.list::<AgentView>(&["agents"], &[]).await;
        let view = client.get::<FrameworkView>(&["frameworks", FRAMEWORK]).await;
        let Ok((view, agents)) = view.and_then(|view| Ok((view, agents?))) else {
            tokio::time::sleep(NEXT).await;
            continue;
        };
        let told = not_started(&view, &agents);
        if told != said {
            out::note(format_args!("note: the run is not taken on yet: {told}"));
            said = told;
        }
        tokio::time::sleep(NEXT).await;
    }
}

/// Why a framework does not answer.
fn not_started(view: &FrameworkView, agents: &[AgentView]) -> String {
    let here = agents.iter().filter(|agent| agent.state == "connected").count();
    if here == 0 {
        return format!("of {} agents none is connected; see `tepui agent ls`", agents.len());
    }
    match &view.scheduler_agent {
        Some(agent) => format!("its scheduler is on agent `{agent}`, and has not answered"),
        None if view.message.is_empty() => "its scheduler is on no agent yet".to_owned(),
        None => format!("its scheduler is on no agent: {}", view.message),
    }
}

fn say(waiting: usize, all: usize, words: &str, is_first: bool) {
    if all == 1 {
        out::note(format_args!("note: the run waits {words}"));
    } else {
        out::note(format_args!("note: {waiting} of {all} instances wait {words}"));
    }
    if is_first {
        out::note(format_args!(
            "hint: it begins once there is room, and Ctrl-C stops it; see `tepui agent ls --free` and `tepui explain framework {FRAMEWORK}`"
        ));
    }
}

/// What a run waits for, and why agents were left out.
fn words(run: &str, why: &FrameworkExplanation) -> String {
    let Some(ask) = why.roles.first() else { return String::new() };
    let number = run.parse::<u32>().ok();
    let wants = ask.wants.as_deref().unwrap_or_default();
    let Some(want) = wants.iter().find(|want| Some(want.want) == number) else {
        // The framework states the wants of some hundred runs at a time, or takes no turns now.
        let others = wants.len();
        return match ask.state.as_str() {
            "asking" | "on-offer" => format!("behind other runs: {others} of them wait for room"),
            _ => format!("for its framework: {}", ask.message),
        };
    };
    let each = parse_bundle(&want.each);
    let each = each.map_or_else(|_| want.each.clone(), |each| each.plain().to_string());
    let reasons = want.tally.iter().flat_map(|tally| &tally.reasons);
    let reasons: Vec<String> =
        reasons.map(|reason| format!("{} (`{}`)", reason.message, reason.code)).collect();
    if reasons.is_empty() {
        return format!("for {each} on one agent");
    }
    format!("for {each} on one agent; why agents are left out: {}", reasons.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tepui_proto::api::{AskView, ReasonView, TallyView, WantView};

    fn explained(state: &str, reasons: Vec<ReasonView>) -> FrameworkExplanation {
        let tally = TallyView { since: 1, considered: 2, offered: 0, reasons };
        let want = WantView {
            want: 7,
            count: 1,
            on_offer: 0,
            each: "cpus:5;mem:64".to_owned(),
            tally: Some(tally),
        };
        let ask = AskView {
            framework: FRAMEWORK.to_owned(),
            role: FRAMEWORK.to_owned(),
            state: state.to_owned(),
            message: "it begins".to_owned(),
            last_until: None,
            tally: None,
            wants: Some(vec![want]),
        };
        FrameworkExplanation { framework: FRAMEWORK.to_owned(), agents: 2, roles: vec![ask] }
    }

    #[test]
    fn a_run_that_fits_nowhere_is_told_why() {
        let message = "too little CPU is free there".to_owned();
        let reason = ReasonView { code: "no-cpus".to_owned(), agents: 2, message };
        let why = explained("asking", vec![reason]);
        assert_eq!(
            words("7", &why),
            "for 5 cpus, 64 MiB memory on one agent; why agents are left out: too little CPU is free there (`no-cpus`)"
        );
        assert_eq!(words("8", &why), "behind other runs: 1 of them wait for room");
        let why = explained("inactive", Vec::new());
        assert_eq!(words("7", &why), "for 5 cpus, 64 MiB memory on one agent");
        assert_eq!(words("8", &why), "for its framework: it begins");
    }

    #[test]
    fn a_run_is_over_once_none_of_its_tasks_waits_or_runs() {
        let shown = |first: &str| -> Shown {
            serde_json::from_value(serde_json::json!({
                "run": 7,
                "tasks": [
                    { "task": "r7-0", "state": first, "exit_code": null },
                    { "task": "r7-1", "state": "killed", "exit_code": null },
                ],
            }))
            .unwrap()
        };
        assert!(shown("killed").is_over());
        for state in ["waiting", "launched"] {
            let shown = shown(state);
            assert!(!shown.is_over() && shown.is_under_way("r7-0") && !shown.is_under_way("r7-1"));
        }
        assert_eq!((run_of("r7-0"), run_of("x")), (Some("7"), None));
    }
}
