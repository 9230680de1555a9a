//! The frameworks of the world: what each is submitted as.

use crate::world::{SCHEDULER, TASK, World};
use std::collections::BTreeMap;
use tepui_master_core::{Input, Ticket};
use tepui_proto::Tenant;
use tepui_proto::api::FrameworkSpec;
use tepui_proto::control::ModuleKind;

pub(crate) fn name(job: u64) -> String {
    format!("job-{job:03}")
}

impl World {
    pub(crate) fn submit(&mut self, job: u64) {
        let mut config = BTreeMap::from([("tasks".to_owned(), self.setup.tasks.to_string())]);
        if job.is_multiple_of(2) {
            config.insert("wants".to_owned(), "yes".to_owned());
        }
        match job % 4 {
            // Large ones, that do not fit everywhere ...
            0 => config.insert("cpu-milli".to_owned(), "1250".to_owned()),
            // ... and some that make room for them.
            2 => config.insert("revocable".to_owned(), "yes".to_owned()),
            _ => None,
        };
        let spec = FrameworkSpec {
            name: name(job),
            roles: vec![format!("team-{}/job", job % 3)],
            scheduler: SCHEDULER.to_string(),
            modules: BTreeMap::from([("task".to_owned(), TASK.to_string())]),
            config,
            ..FrameworkSpec::default()
        };
        self.submitted = self.submitted.max(job + 1);
        let kinds = vec![(SCHEDULER, ModuleKind::Scheduler), (TASK, ModuleKind::CommandP1)];
        let tenant = Tenant::from("acme");
        self.master_input(Input::FrameworkSubmitted {
            ticket: Ticket(100 + job),
            tenant,
            spec: Box::new(spec),
            kinds,
        });
    }
}
