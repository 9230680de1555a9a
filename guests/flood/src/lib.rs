//! As many tasks as fast as offers allow, for the bench: keeps a bounded number in flight, retries none, and completes
//! with a message that is one JSON object.
//!
//! Settings: `tasks` (10000), `module` (`noop`), `in_flight` (1000), `cpu_milli` (10), `memory_bytes` (4 MiB) of each
//! task. The surprise: time counts from the framework's first turn, so offers on their way count too.

use serde::{Deserialize, Serialize};
use tepui_sdk::{Cx, Offer, Remaining, Resources, Scheduler, Start, Task, TaskStatus, Want};

/// The one key.
const KEY: &str = "flood";

/// All that must last.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Count {
    begun_ms: u64,
    launched: u64,
    ended: u64,
    failed: u64,
}

/// Counts in memory what durable state counts too.
pub struct Flood {
    count: Count,
    tasks: u64,
    in_flight: u64,
    module: String,
    each: Resources,
}

impl Default for Flood {
    fn default() -> Self {
        let each = Resources { cpu_milli: 10, memory_bytes: 4 << 20, ..Resources::none() };
        Self {
            count: Count::default(),
            tasks: 10_000,
            in_flight: 1_000,
            module: "noop".to_owned(),
            each,
        }
    }
}

impl Flood {
    fn open(&self) -> u64 {
        let flying = self.count.launched.saturating_sub(self.count.ended);
        self.in_flight.saturating_sub(flying).min(self.tasks.saturating_sub(self.count.launched))
    }
}

impl Scheduler for Flood {
    fn on_start(&mut self, cx: &mut Cx, _start: &Start) {
        self.tasks = cx.setting("tasks").unwrap_or(self.tasks);
        self.in_flight = cx.setting("in_flight").unwrap_or(self.in_flight).max(1);
        self.each.cpu_milli = cx.setting("cpu_milli").unwrap_or(self.each.cpu_milli);
        self.each.memory_bytes = cx.setting("memory_bytes").unwrap_or(self.each.memory_bytes);
        if let Some(module) = cx.config("module") {
            module.clone_into(&mut self.module);
        }
        self.count = cx.get(KEY).unwrap_or(Count { begun_ms: cx.now_ms(), ..Count::default() });
    }

    fn on_update(&mut self, _cx: &mut Cx, status: TaskStatus) {
        if status.is_final() {
            self.count.ended += 1;
            self.count.failed += u64::from(!status.has_finished());
        }
    }

    fn on_offers(&mut self, cx: &mut Cx, offers: Vec<Offer>) {
        for offer in &offers {
            let mut left = Remaining::of(offer);
            while self.open() > 0 && left.fits(&self.each) {
                let id = format!("t{}", self.count.launched);
                let task = Task::command(id, self.module.as_str()).resources(self.each.clone());
                if !cx.has_room(&task) || !left.take(&self.each) {
                    return;
                }
                cx.accept(offer).launch(task).refuse_for(0);
                self.count.launched += 1;
            }
        }
    }

    fn on_turn_end(&mut self, cx: &mut Cx) {
        cx.decline_rest(0);
        cx.put(KEY, &self.count);
        let Count { begun_ms, ended, failed, .. } = self.count;
        if ended >= self.tasks {
            let ms = cx.now_ms().saturating_sub(begun_ms);
            let report = serde_json::json!({ "tasks": ended, "failed": failed, "ms": ms });
            return if failed == 0 {
                cx.complete(report.to_string())
            } else {
                cx.fail(report.to_string())
            };
        }
        let count = u32::try_from(self.open()).unwrap_or(u32::MAX);
        let want = Want::new(0, cx.first_role(), count, self.each.clone());
        cx.want(if count == 0 { Vec::new() } else { vec![want] });
    }
}

tepui_sdk::export!(Flood);
