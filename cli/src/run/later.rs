//! Tasks of a run that the cluster does not know: not yet, or not any more.

use super::FRAMEWORK;
use super::waiting::{Shown, run_of};
use crate::client::Client;
use tepui_proto::api::TaskView;
use tepui_proto::{Resources, TaskState, Usage};

/// What becomes, or became, of a task that is not there.
pub(super) enum Later {
    Comes,
    Never,
    /// It ended so long ago, or so many have since, that only its framework knows.
    Ended(Box<TaskView>),
}

/// What its framework says of it.
pub(super) async fn later(client: &Client, task: &str) -> Later {
    let Some(run) = run_of(task) else { return Later::Never };
    match Shown::get(client, run).await {
        Ok(shown) if shown.is_under_way(task) => Later::Comes,
        Ok(shown) => {
            let end =
                shown.end(task).and_then(|(state, exit_code)| forgotten(task, state, exit_code));
            end.map_or(Later::Never, |view| Later::Ended(Box::new(view)))
        }
        Err(error) if error.has_code("run-unknown") => Later::Never,
        // Its scheduler may be on its way to another agent.
        Err(_) => Later::Comes,
    }
}

/// All that can be said of a task that ran and is forgotten; none if it never ran.
fn forgotten(task: &str, state: &str, exit_code: Option<i32>) -> Option<TaskView> {
    let state = [TaskState::Finished, TaskState::Failed]
        .into_iter()
        .find(|known| known.as_str() == state)?;
    Some(TaskView {
        id: format!("{FRAMEWORK}/{task}"),
        framework: FRAMEWORK.to_owned(),
        task: task.to_owned(),
        name: String::new(),
        role: String::new(),
        agent: None,
        state,
        reason: "forgotten".to_owned(),
        message: "so many tasks ended after it that only its exit code is known".to_owned(),
        exit_code,
        resources: Resources::default(),
        outputs: Vec::new(),
        usage: Usage::default(),
        at: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_task_that_ran_and_is_forgotten_the_exit_code_is_known() {
        let view = forgotten("r1-0", "failed", Some(7)).unwrap();
        assert_eq!((view.id.as_str(), view.state), ("run/r1-0", TaskState::Failed));
        assert_eq!(view.exit_code, Some(7));
        assert!(forgotten("r1-0", "finished", Some(0)).is_some());
        // It may never have begun.
        assert!(forgotten("r1-0", "killed", None).is_none());
    }
}
