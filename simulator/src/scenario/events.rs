//! What an operator does while the scenario runs: each event names one agent, or a kind and with it all agents of that.

use super::check::{Checked, span};
use super::document::Document;
use super::written::WrittenEvent;
use super::{AgentKind, Event};
use tepui_proto::roles::AgentMode;
use tepui_proto::{DurationMs, limits};

/// Events of a scenario; more would be a program.
const EVENTS: usize = 10_000;

pub(super) fn events(
    document: &Document,
    written: &[WrittenEvent],
    kinds: &[AgentKind],
) -> Checked<Vec<Event>> {
    if written.len() > EVENTS {
        return Err(document.wrong(None, format!("{} events; at most {EVENTS}", written.len())));
    }
    written.iter().map(|written| event(document, written, kinds)).collect()
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
    let is_kind = kinds.iter().find(|kind| kind.name == *name.get_ref());
    let agents: Vec<String> = match is_kind {
        Some(kind) => kind.names().collect(),
        None => {
            kinds.iter().flat_map(AgentKind::names).filter(|own| own == name.get_ref()).collect()
        }
    };
    if agents.is_empty() {
        let what = format!("there is no agent, and no kind of agents, named `{}`", name.get_ref());
        return Err(document.wrong(Some(name.span()), what));
    }
    Ok(Event { at_ms, agents, mode })
}
