//! `tepui task …`: list, show, logs, kill.

use crate::client::Client;
use crate::error::CliError;
use crate::framework::checked;
use crate::logs::{self, LogEnd, Told, Wanted};
use crate::out::{self, Format};
use clap::Subcommand;
use std::io::Write as _;
use std::time::Duration;
use tepui_proto::api::TaskView;
use tepui_proto::control::LogStream;

/// Before a log stream that broke is taken up again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// `tepui task …`
#[derive(Debug, Subcommand)]
pub(crate) enum TaskCommand {
    /// List tasks.
    Ls {
        /// Only those of this framework.
        #[arg(long)]
        framework: Option<String>,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Show one task.
    Show {
        /// `FRAMEWORK/ID`.
        id: String,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// What a task wrote: its standard output to standard output, its standard error to standard error.
    Logs {
        /// `FRAMEWORK/ID`.
        id: String,
        /// Go on until the task has ended.
        #[arg(short, long)]
        follow: bool,
    },
    /// Stop a task.
    Kill {
        /// `FRAMEWORK/ID`.
        id: String,
    },
}

/// Does what was asked.
///
/// # Errors
/// Whatever the cluster refuses.
pub(crate) async fn task(client: &Client, command: TaskCommand) -> Result<(), CliError> {
    match command {
        TaskCommand::Ls { framework, output } => list(client, framework.as_deref(), output).await,
        TaskCommand::Show { id, output } => {
            let (framework, task) = parts(&id)?;
            let view: TaskView = client.get(&["tasks", framework, task]).await?;
            out::thing(output, &view)
        }
        TaskCommand::Logs { id, follow } => print_logs(client, &id, follow).await,
        TaskCommand::Kill { id } => {
            let (framework, task) = parts(&id)?;
            client.post(&["tasks", framework, task, "kill"]).await
        }
    }
}

async fn list(client: &Client, framework: Option<&str>, output: Format) -> Result<(), CliError> {
    let query: Vec<(&str, &str)> =
        framework.map(checked).transpose()?.into_iter().map(|name| ("framework", name)).collect();
    let items: Vec<TaskView> = client.list(&["tasks"], &query).await?;
    let head = ["ID", "STATE", "REASON", "AGENT", "ROLE", "RESOURCES", "EXIT", "MESSAGE"];
    out::listing(output, &items, &head, |item| {
        vec![
            item.id.clone(),
            item.state.as_str().to_owned(),
            item.reason.clone(),
            item.agent.clone().unwrap_or_else(|| "-".to_owned()),
            item.role.clone(),
            item.resources.to_string(),
            item.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string()),
            item.message.clone(),
        ]
    })
}

fn parts(id: &str) -> Result<(&str, &str), CliError> {
    let wrong = || {
        CliError::usage(format!("`{id}` is not a task: it has the form FRAMEWORK/ID"))
            .hint("see `tepui task ls`")
    };
    let (framework, task) =
        id.split_once('/').filter(|(_, task)| !task.is_empty()).ok_or_else(wrong)?;
    Ok((checked(framework)?, task))
}

async fn print_logs(client: &Client, id: &str, follow: bool) -> Result<(), CliError> {
    let (framework, task) = parts(id)?;
    // A task that is not there is an error here; `logs::read` takes it for one that is to come.
    let mut view: TaskView = client.get(&["tasks", framework, task]).await?;
    let mut told = Told::default();
    loop {
        match logs::read(client, Wanted { framework, task, follow }, &mut told, &mut to_streams)
            .await?
        {
            LogEnd::Complete { stdout_dropped, stderr_dropped } => {
                tell_dropped(id, stdout_dropped + stderr_dropped);
                return Ok(());
            }
            LogEnd::Cut if follow && !view.state.is_final() => {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            LogEnd::Cut => {
                let lost =
                    CliError::failed(format!("the logs of `{id}` cannot be read to their end"));
                return Err(lost.hint(format!(
                    "they stay with the agent that ran it: `tepui task show {id}`"
                )));
            }
        }
        view = client.get(&["tasks", framework, task]).await?;
    }
}

/// Says that a task wrote more than was kept.
pub(crate) fn tell_dropped(id: &str, bytes: u64) {
    if bytes > 0 {
        out::note(format_args!(
            "note: {} that `{id}` wrote were over its log limit and not kept",
            tepui_proto::resources::Bytes(bytes)
        ));
    }
}

/// Standard output to standard output, standard error to standard error.
///
/// # Errors
/// When standard output cannot be written.
pub(crate) fn to_streams(stream: LogStream, bytes: &[u8]) -> Result<(), CliError> {
    match stream {
        LogStream::Stdout => out::data(bytes),
        LogStream::Stderr => {
            // A closed standard error stops nothing.
            let _written = std::io::stderr().write_all(bytes);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_named_with_its_framework() {
        assert_eq!(parts("run/r1-0").unwrap(), ("run", "r1-0"));
        assert_eq!(parts("wc/map/1").unwrap(), ("wc", "map/1"));
        for bad in ["run", "run/", "/x", "a b/x"] {
            assert!(parts(bad).is_err(), "{bad}");
        }
    }
}
