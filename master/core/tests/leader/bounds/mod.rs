//! What one tenant, one task or one agent can make the leader do, keep, write or send is bounded.

mod agents;
mod capacity;
mod history;
mod meter;
mod offers;
mod pages;
mod patterns;
mod records;
mod share;
mod submissions;
mod turns;
mod waiting;

use crate::stage::Stage;
use tepui_proto::FrameworkId;

/// Why the last answer was refused whole, if it was.
pub(crate) fn refused_whole(stage: &Stage, framework: FrameworkId) -> Option<String> {
    let framework = stage.leader.state().framework(framework).unwrap();
    let message = framework.message.strip_prefix("a turn was refused whole: ");
    message.map(str::to_owned)
}
