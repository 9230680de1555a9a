//! `tepui explain …`: why a framework, or those in a role, are offered what they are.
//!
//! Never asks the master to look at agents: what is told is what came of the looks that offers were made by.

use crate::client::Client;
use crate::error::CliError;
use crate::framework::checked;
use crate::out::{self, Format};
use crate::role;
use clap::Subcommand;
use reqwest::Method;
use tepui_proto::api::{AskView, FrameworkExplanation, RoleExplanation, TallyView};

const HEAD: [&str; 6] = ["FRAMEWORK", "ROLE", "WANT", "REASON", "AGENTS", "WHAT IT MEANS"];

/// `tepui explain …`
#[derive(Debug, Subcommand)]
pub(crate) enum ExplainCommand {
    /// Why a framework is offered what it is: agents that it was considered for, and why they were left out.
    Framework {
        /// Its name.
        name: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// The same for all frameworks in a role and in those below it.
    Role {
        /// Its path, such as `acme/web`.
        role: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

/// Does what was asked.
///
/// # Errors
/// Whatever the cluster refuses.
pub(crate) async fn explain(client: &Client, command: ExplainCommand) -> Result<(), CliError> {
    match command {
        ExplainCommand::Framework { name, output } => {
            let path = ["explain", "framework", checked(&name)?];
            let view: FrameworkExplanation = client.get(&path).await?;
            if output == Format::Json {
                return out::json(&view);
            }
            print(view.agents, &view.roles)
        }
        ExplainCommand::Role { role, output } => {
            let request = client.request(Method::GET, &["explain", "role"]);
            let request = request.query(&[("role", role::checked(&role)?)]);
            let view: RoleExplanation = client.json(request).await?;
            if output == Format::Json {
                return out::json(&view);
            }
            role::print(output, std::slice::from_ref(&view.role))?;
            out::line("")?;
            print(view.agents, &view.frameworks)?;
            if view.left_out > 0 {
                out::note(format_args!("note: {} more frameworks are not shown", view.left_out));
            }
            Ok(())
        }
    }
}

fn print(agents: u64, asks: &[AskView]) -> Result<(), CliError> {
    let rows: Vec<Vec<String>> = asks.iter().flat_map(rows).collect();
    out::data(out::table(&HEAD, &rows).as_bytes())?;
    if asks.is_empty() {
        out::note("note: no framework is in it");
    }
    out::note(format_args!("note: the cluster knows {agents} agents"));
    Ok(())
}

/// What is to be said of one framework in one role: why it is not asking, or why agents were left out.
fn rows(ask: &AskView) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    let mut say = |want: &str, reason: &str, agents: &str, meaning: &str| {
        let cells = [&ask.framework, ask.role.as_str(), want, reason, agents, meaning];
        rows.push(cells.map(str::to_owned).to_vec());
    };
    if ask.last_until.is_some() {
        let meaning =
            "it declined offers or let them run out, so it is served after all others for a while";
        say("-", "served-last", "-", meaning);
    }
    let wants = ask.wants.as_deref().unwrap_or_default();
    match &ask.tally {
        None => say("-", &ask.state, "-", &ask.message),
        Some(tally) if wants.is_empty() => each(tally, |reason, agents, meaning| {
            say("-", reason, agents, meaning);
        }),
        Some(_) => {}
    }
    for want in wants {
        let name = format!("{}: {} of {}", want.want, want.count, want.each);
        match &want.tally {
            None if ask.tally.is_none() => {}
            None => say(&name, "on-offer", "-", "all of it is on offer to the framework"),
            Some(tally) => each(tally, |reason, agents, meaning| {
                say(&name, reason, agents, meaning);
            }),
        }
    }
    rows
}

fn each(tally: &TallyView, mut say: impl FnMut(&str, &str, &str)) {
    if tally.offered > 0 {
        say("offered", &tally.offered.to_string(), "something of them was offered");
    }
    for reason in &tally.reasons {
        say(&reason.code, &reason.agents.to_string(), &reason.message);
    }
    if tally.offered == 0 && tally.reasons.is_empty() {
        say("not-looked-at", "0", "no agent was looked at yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tepui_proto::api::{ReasonView, WantView};

    fn ask(state: &str, tally: Option<TallyView>) -> AskView {
        AskView {
            framework: "wc".to_owned(),
            role: "acme/web".to_owned(),
            state: state.to_owned(),
            message: "why".to_owned(),
            last_until: None,
            tally,
            wants: None,
        }
    }

    fn tally(code: &str) -> TallyView {
        let reason =
            ReasonView { code: code.to_owned(), agents: 3, message: "what it means".to_owned() };
        TallyView { since: 1, considered: 4, offered: 1, reasons: vec![reason] }
    }

    #[test]
    fn reasons_are_told_a_line_each() {
        let told = rows(&ask("asking", Some(tally("quota"))));
        let cells: Vec<(&str, &str)> =
            told.iter().map(|row| (row[3].as_str(), row[4].as_str())).collect();
        assert_eq!(cells, [("offered", "1"), ("quota", "3")]);
        assert_eq!(rows(&ask("suppressed", None))[0][3..], ["suppressed", "-", "why"]);
    }

    #[test]
    fn wants_are_told_one_by_one() {
        let mut told = ask("asking", Some(tally("held")));
        let want = |want, tally| WantView {
            want,
            count: 2,
            on_offer: 0,
            each: "cpus:1".to_owned(),
            tally,
        };
        told.wants = Some(vec![want(1, None), want(2, Some(tally("constraint")))]);
        let told = rows(&told);
        let cells: Vec<(&str, &str)> =
            told.iter().map(|row| (row[2].as_str(), row[3].as_str())).collect();
        let second = "2: 2 of cpus:1";
        assert_eq!(
            cells,
            [("1: 2 of cpus:1", "on-offer"), (second, "offered"), (second, "constraint")]
        );
    }
}
