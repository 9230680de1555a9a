//! What an operator does while the scenario runs: each event names one agent, or a kind and with it all agents of that.

use super::check::{Checked, span};
use super::document::Document;
use super::written::WrittenEvent;
use super::{AgentKind, Event};
use tepui_proto::roles::AgentMode;
use tepui_proto::{DurationMs, limits};

/// Agents that all events together name; more would be a program.
const NAMED: usize = 1_000_000;

pub(super) fn events(
    document: &Document,
    written: &[WrittenEvent],
    kinds: &[AgentKind],
) -> Checked<Vec<Event>> {
    let mut events = Vec::new();
    let mut named = 0;
    for written in written {
        let event = event(document, written, kinds)?;
        named += event.agents.len();
        if named > NAMED {
            let what = format!("all events together name at most {NAMED} agents");
            return Err(document.wrong(Some(written.at.span()), what));
        }
        events.push(event);
    }
    Ok(events)
}

fn event(document: &Document, written: &WrittenEvent, kinds: &[AgentKind]) -> Checked<Event> {
    let wrong = |what: String| Err(document.wrong(Some(written.at.span()), what));
    let at_ms = span(document, Some(&written.at))?.unwrap_or(0);
    let grace = span(document, written.grace.as_ref())?;
    if let (Some(written), Some(ms)) = (&written.grace, grace)
        && ms > limits::KILL_GRACE_MS_MAX
    {
        let what = format!("a grace of {ms} ms; at most {}", limits::KILL_GRACE_MS_MAX);
        return Err(document.wrong(Some(written.span()), what));
    }
    let draining = AgentMode::Draining {
        grace: DurationMs(grace.unwrap_or(limits::KILL_GRACE_MS_MAX)),
        then_gone: false,
    };
    let (name, mode) = match (&written.drain, &written.deactivate, &written.activate) {
        (Some(name), None, None) => (name, draining),
        (None, Some(name), None) => (name, AgentMode::Inactive),
        (None, None, Some(name)) => (name, AgentMode::Active),
        _ => {
            return wrong("an event is one of `drain`, `deactivate` and `activate`, with the name of an agent or of a kind of agents".to_owned());
        }
    };
    if grace.is_some() && written.drain.is_none() {
        return wrong("`grace` goes with `drain`".to_owned());
    }
    let agents: Vec<String> = match kinds.iter().find(|kind| kind.name == *name.get_ref()) {
        Some(kind) => kind.names().collect(),
        None if is_agent(kinds, name.get_ref()) => vec![name.get_ref().clone()],
        None => Vec::new(),
    };
    if agents.is_empty() {
        let what = format!("there is no agent, and no kind of agents, named `{}`", name.get_ref());
        return Err(document.wrong(Some(name.span()), what));
    }
    Ok(Event { at_ms, agents, mode })
}

/// Whether a name is that of one of several agents of a kind.
fn is_agent(kinds: &[AgentKind], name: &str) -> bool {
    let Some((kind, number)) = name.rsplit_once('-') else { return false };
    let number: Option<u64> = number.parse().ok().filter(|n: &u64| n.to_string() == number);
    let has = |own: &AgentKind| {
        own.name == kind && own.count > 1 && number.is_some_and(|n| (1..=own.count).contains(&n))
    };
    kinds.iter().any(has)
}
