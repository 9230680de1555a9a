//! Schedulers that the leader hosts here: one instance per framework, from its stream's beginning to its end.
//!
//! Nothing of it is written down: an instance's memory is a cache, and a stream that ends ends its instance. Frames are
//! read from a stream only once the cell knows of the scheduler, so nothing has to wait here.

use tepui_proto::cell::CellCommand;
use tepui_proto::scheduler::{FromScheduler, Open, SchedulerFailure, ToScheduler};
use tepui_proto::{FrameworkId, Incarnation, Tenant};

use crate::agent::Agent;
use crate::input::{Effect, Effects};

/// A scheduler whose stream is open.
#[derive(Clone, Debug)]
pub(crate) struct Hosted {
    open: Open,
    /// Whether its cell knows of it.
    is_in_cell: bool,
}

impl Agent {
    pub(crate) fn on_scheduler_opened(&mut self, open: Open, effects: &mut Effects) {
        let (framework, incarnation) = (open.framework, open.incarnation);
        let is_stale = !self.obey(open.term, effects)
            || self
                .schedulers
                .get(&framework)
                .is_some_and(|hosted| hosted.open.incarnation >= incarnation);
        if is_stale {
            effects.order(Effect::CloseSchedulerStream { framework, incarnation });
            return;
        }
        if let Some(older) = self.schedulers.remove(&framework) {
            self.close(&older, effects);
        }
        effects.order(Effect::PrepareScheduler(Box::new(open.clone())));
        self.schedulers.insert(framework, Hosted { open, is_in_cell: false });
    }

    pub(crate) fn on_scheduler_prepared(
        &mut self,
        framework: FrameworkId,
        incarnation: Incarnation,
        result: Result<String, (SchedulerFailure, String)>,
        effects: &mut Effects,
    ) {
        let Some(hosted) = self.schedulers.get_mut(&framework) else { return };
        if hosted.open.incarnation != incarnation || hosted.is_in_cell {
            return;
        }
        match result {
            Ok(compiled) => {
                hosted.is_in_cell = true;
                let open = hosted.open.clone();
                self.tell_cell(
                    &open.tenant.clone(),
                    CellCommand::OpenScheduler { open, compiled },
                    effects,
                );
                effects.order(Effect::ReadSchedulerStream { framework, incarnation });
            }
            Err((failure, message)) => self.fail(framework, failure, message, effects),
        }
    }

    pub(crate) fn on_scheduler_frame(
        &mut self,
        framework: FrameworkId,
        incarnation: Incarnation,
        frame: ToScheduler,
        effects: &mut Effects,
    ) {
        let Some(hosted) = self.schedulers.get(&framework) else { return };
        if hosted.open.incarnation == incarnation && hosted.is_in_cell {
            let tenant = hosted.open.tenant.clone();
            self.tell_cell(
                &tenant,
                CellCommand::Scheduler { framework, incarnation, frame },
                effects,
            );
        }
    }

    pub(crate) fn on_scheduler_said(
        &mut self,
        tenant: &Tenant,
        framework: FrameworkId,
        incarnation: Incarnation,
        frame: FromScheduler,
        effects: &mut Effects,
    ) {
        let Some(hosted) = self.schedulers.get(&framework) else { return };
        // A cell speaks for the schedulers of its own tenant only.
        if hosted.open.incarnation != incarnation || hosted.open.tenant != *tenant {
            return;
        }
        let is_over = matches!(frame, FromScheduler::Failed { .. });
        effects.order(Effect::ToSchedulerStream { framework, incarnation, frame });
        if is_over {
            self.schedulers.remove(&framework);
            effects.order(Effect::CloseSchedulerStream { framework, incarnation });
        }
    }

    pub(crate) fn on_scheduler_stream_ended(
        &mut self,
        framework: FrameworkId,
        incarnation: Incarnation,
        effects: &mut Effects,
    ) {
        if self
            .schedulers
            .get(&framework)
            .is_some_and(|hosted| hosted.open.incarnation == incarnation)
            && let Some(hosted) = self.schedulers.remove(&framework)
        {
            self.close(&hosted, effects);
        }
    }

    /// The connection is gone, and every stream with it.
    pub(crate) fn close_schedulers(&mut self, effects: &mut Effects) {
        for hosted in std::mem::take(&mut self.schedulers).into_values() {
            self.close(&hosted, effects);
        }
    }

    pub(crate) fn fail_schedulers_of(
        &mut self,
        tenant: &Tenant,
        message: &str,
        effects: &mut Effects,
    ) {
        let theirs = |hosted: &&Hosted| hosted.open.tenant == *tenant && hosted.is_in_cell;
        let failed: Vec<FrameworkId> =
            self.schedulers.values().filter(theirs).map(|hosted| hosted.open.framework).collect();
        for framework in failed {
            self.fail(framework, SchedulerFailure::CellDied, message.to_owned(), effects);
        }
    }

    fn fail(
        &mut self,
        framework: FrameworkId,
        failure: SchedulerFailure,
        message: String,
        effects: &mut Effects,
    ) {
        let Some(hosted) = self.schedulers.remove(&framework) else { return };
        let incarnation = hosted.open.incarnation;
        let frame = FromScheduler::Failed { mark: None, failure, message, log: Vec::new() };
        effects.order(Effect::ToSchedulerStream { framework, incarnation, frame });
        effects.order(Effect::CloseSchedulerStream { framework, incarnation });
    }

    fn close(&mut self, hosted: &Hosted, effects: &mut Effects) {
        let (framework, incarnation) = (hosted.open.framework, hosted.open.incarnation);
        if hosted.is_in_cell && self.cells.contains(&hosted.open.tenant) {
            self.tell_cell(
                &hosted.open.tenant,
                CellCommand::CloseScheduler { framework, incarnation },
                effects,
            );
        }
        effects.order(Effect::CloseSchedulerStream { framework, incarnation });
    }
}
