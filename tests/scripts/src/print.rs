//! Effects as a line each, for people who read stories.

use tepui_master_core::{Effect, Leader};
use tepui_proto::FrameworkId;
use tepui_proto::control::MasterMessage;
use tepui_proto::events::Event;
use tepui_proto::scheduler::ToScheduler;

/// None for what would only be noise.
pub(crate) fn print(order: &Effect, leader: &Leader) -> Option<String> {
    let name = |id: &FrameworkId| {
        leader.state().framework(*id).map_or_else(String::new, |f| f.submission.name.clone())
    };
    Some(match order {
        Effect::Send { connection, message } => {
            format!("to connection {}: {}", connection.0, message_line(message)?)
        }
        Effect::Close { connection, code } => format!("close connection {}: {code}", connection.0),
        Effect::OpenScheduler { connection, open, pages } => {
            let keys: usize = pages
                .iter()
                .map(
                    |page| {
                        if let ToScheduler::State { pairs, .. } = page { pairs.len() } else { 0 }
                    },
                )
                .sum();
            format!(
                "open scheduler {} #{} on connection {}, {keys} keys",
                open.name, open.incarnation, connection.0
            )
        }
        Effect::SendTurn { framework, turn: ToScheduler::Turn { mark, events, .. }, .. } => {
            let events: Vec<String> = events.iter().map(event_line).collect();
            format!(
                "turn {}.{} of {}: {}",
                mark.incarnation,
                mark.number,
                name(framework),
                events.join("; ")
            )
        }
        Effect::SendTurn { .. } => return None,
        Effect::CloseScheduler { framework, incarnation } => {
            format!("close scheduler {} #{incarnation}", name(framework))
        }
        Effect::Reply { result: Ok(_), .. } => "reply: ok".to_owned(),
        Effect::Reply { result: Err(refusal), .. } => {
            format!("reply: {}: {}", refusal.code.as_str(), refusal.message)
        }
        Effect::ForgetBlobs(digests) => format!("forget {} blobs", digests.len()),
    })
}

fn message_line(message: &MasterMessage) -> Option<String> {
    Some(match message {
        MasterMessage::Welcome { term, .. } => format!("welcome to term {term}"),
        MasterMessage::Refused { code, .. } => format!("refused: {code}"),
        MasterMessage::Launch { launches, .. } => {
            let lines: Vec<String> = launches
                .iter()
                .map(|launch| format!("{}={}", launch.number, launch.key.task))
                .collect();
            format!("launch {}", lines.join(" "))
        }
        MasterMessage::Kill { launch, key, grace, .. } => {
            format!("kill {launch}={} within {grace} ms", key.task)
        }
        MasterMessage::Acknowledge(seq) if seq.0 == 0 => return None,
        MasterMessage::Acknowledge(seq) => format!("acknowledge {seq}"),
        MasterMessage::Message { launch, .. } => format!("message for {launch}"),
        MasterMessage::CheckModule { .. } => "check a module".to_owned(),
        MasterMessage::Forget(launches) => format!("forget {launches:?}"),
    })
}

fn event_line(event: &Event) -> String {
    match event {
        Event::Started(start) => format!("started ({:?})", start.cause).to_lowercase(),
        Event::Tasks { tasks, .. } => {
            let tasks: Vec<String> = tasks
                .iter()
                .map(|status| format!("{} {}", status.task, status.state.as_str()))
                .collect();
            format!("tasks [{}]", tasks.join(", "))
        }
        Event::TaskUpdated(status) => {
            format!("{} {} ({})", status.task, status.state.as_str(), status.reason.code())
        }
        Event::Message(message) => format!("message from {}", message.task),
        Event::Timer(name) => format!("timer {name}"),
        Event::Refused(refusal) => format!("refused call {}: {}", refusal.index, refusal.code),
        Event::AgentLost(name) => format!("lost {name}"),
        Event::Agents(agents) => {
            let names: Vec<&str> = agents.iter().map(|agent| agent.id.as_str()).collect();
            format!("agents [{}]", names.join(", "))
        }
        Event::InverseOffers(offers) => {
            let agents: Vec<String> =
                offers.iter().map(|offer| format!("agent {}", offer.agent)).collect();
            format!("inverse offers [{}]", agents.join(", "))
        }
        Event::Rescinded(offers) => format!("rescinded {}", offers.len()),
        Event::Offers(offers) => {
            let lines: Vec<String> = offers
                .iter()
                .map(|offer| format!("{} on agent {}", offer.resources, offer.agent))
                .collect();
            format!("offers [{}]", lines.join(" | "))
        }
        Event::Request(request) => format!("request {}", request.path),
    }
}
