//! The one line that a person reads, and the report as text.

use super::{Report, RoleReport};
use std::fmt::Write as _;

/// Roles that the line names one by one.
const ROLES_TOLD: usize = 4;

impl Report {
    /// One line that a person can read.
    pub fn line(&self) -> String {
        let tasks = &self.totals.tasks;
        let (shown, word) =
            if tasks.running > 0 { (tasks.running, "") } else { (tasks.finished, " finished") };
        let mut line = format!(
            "simulated {}: {}{word} on {}, {}",
            self.scenario,
            plural(shown, "task"),
            plural(self.agents.count, "agent"),
            self.shares(),
        );
        let finished = if tasks.running > 0 { tasks.finished } else { 0 };
        let rest = [
            ("waiting", tasks.waiting),
            ("finished", finished),
            ("failed", tasks.failed),
            ("killed", tasks.killed),
            ("preempted", tasks.preempted),
            ("lost", tasks.lost),
        ];
        for (word, count) in rest.into_iter().filter(|(_, count)| *count > 0) {
            // A string takes what is written.
            let _written = write!(line, ", {count} {word}");
        }
        let Self { virtual_ms, seed, .. } = self;
        let _written = write!(line, ", in {} virtual s (seed {seed})", tenths(*virtual_ms / 100));
        line
    }

    /// `2 roles at 66.7 % and 66.7 %`: at the end if something runs then, or else on average.
    fn shares(&self) -> String {
        let at_end = self.totals.tasks.running > 0;
        let share =
            |role: &RoleReport| if at_end { role.share_milli } else { role.share_mean_milli };
        let mut shares: Vec<u64> = self.roles.iter().map(share).collect();
        let count = plural(shares.len() as u64, "role");
        let when = if at_end { "" } else { " on average" };
        let percent = |milli: &u64| format!("{} %", tenths(*milli));
        if shares.len() > ROLES_TOLD {
            let (least, most) = (shares.iter().min(), shares.iter().max());
            let (least, most) =
                (least.map_or_else(String::new, percent), most.map_or_else(String::new, percent));
            return format!("{count} at {least} to {most}{when}");
        }
        let last = shares.pop();
        let first = shares.iter().map(percent).collect::<Vec<_>>().join(", ");
        match last {
            Some(last) if first.is_empty() => format!("{count} at {}{when}", percent(&last)),
            Some(last) => format!("{count} at {first} and {}{when}", percent(&last)),
            None => count,
        }
    }

    /// The report as it stands in `report.json`.
    ///
    /// # Errors
    /// If the serialiser fails.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }
}

/// `1 task`, `2 tasks`.
pub(crate) fn plural(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// Tenths with one place.
pub(crate) fn tenths(tenths: u64) -> String {
    format!("{}.{}", tenths / 10, tenths % 10)
}
