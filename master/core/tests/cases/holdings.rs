//! Who holds what in the fixture: offered and never launched, or used from the start.
//!
//! Moves nothing itself: whatever changes here is asked of the engine first.

use super::engine::{Engine, Hold};
use std::collections::{BTreeMap, BTreeSet};
use tepui_proto::{AgentId, Bundle, FrameworkId};

/// What one framework holds of one agent in one role.
#[derive(Clone, Debug, Default)]
struct Held {
    offered: Bundle,
    used: Bundle,
}

/// Who holds what.
#[derive(Debug, Default)]
pub(crate) struct Holdings(BTreeMap<Hold, Held>);

type Done = Result<(), String>;

const OVER: &str = "more is held of one kind than can be counted, or a port twice";

impl Holdings {
    /// What a framework holds, wherever.
    pub(crate) fn of(&self, framework: FrameworkId) -> Vec<Hold> {
        self.0.keys().filter(|hold| hold.framework == framework).cloned().collect()
    }

    /// Who holds something of an agent.
    pub(crate) fn holders(&self, agent: AgentId) -> BTreeSet<FrameworkId> {
        let holds = self.0.keys().filter(|hold| hold.agent == agent);
        holds.map(|hold| hold.framework).collect()
    }

    /// Offered and used.
    pub(crate) fn all(&self, hold: &Hold) -> Result<Bundle, String> {
        let held = self.0.get(hold).cloned().unwrap_or_default();
        Ok(held.offered.checked_add(&held.used).ok_or(OVER)?)
    }

    /// The engine has offered it.
    pub(crate) fn note_offer(&mut self, hold: Hold, what: &Bundle) -> Done {
        let held = self.0.entry(hold).or_default();
        held.offered = held.offered.checked_add(what).ok_or(OVER)?;
        Ok(())
    }

    /// Used from the start.
    pub(crate) fn take(&mut self, engine: &mut Engine, hold: &Hold, what: &Bundle) -> Done {
        engine.take(hold, what)?;
        let held = self.0.entry(hold.clone()).or_default();
        held.used = held.used.checked_add(what).ok_or(OVER)?;
        self.forget_empty();
        Ok(())
    }

    /// Comes back: what is offered first, then what is used.
    pub(crate) fn recover(&mut self, engine: &mut Engine, hold: &Hold, what: &Bundle) -> Done {
        if what.is_empty() {
            return Ok(());
        }
        let held = self.0.get_mut(hold).ok_or("it holds nothing there in that role")?;
        let used = what.saturating_sub(&held.offered);
        let offered = what.saturating_sub(&used);
        let left = held.used.checked_sub(&used);
        let left = left.ok_or_else(|| format!("it does not hold {used} there in that role"))?;
        if !offered.is_empty() {
            engine.take_back(hold, &offered)?;
        }
        if !used.is_empty() {
            engine.give_back(hold, &used)?;
        }
        *held = Held { offered: held.offered.saturating_sub(&offered), used: left };
        self.forget_empty();
        Ok(())
    }

    /// All that is offered comes back; what is used stays.
    pub(crate) fn take_back_all(&mut self, engine: &mut Engine) -> Done {
        for (hold, held) in &mut self.0 {
            let offered = std::mem::take(&mut held.offered);
            if !offered.is_empty() {
                engine.take_back(hold, &offered)?;
            }
        }
        self.forget_empty();
        Ok(())
    }

    /// All that some hold comes back, because they or the agent are going.
    pub(crate) fn drop_if(&mut self, engine: &mut Engine, goes: impl Fn(&Hold) -> bool) -> Done {
        let holds: Vec<Hold> = self.0.keys().filter(|hold| goes(hold)).cloned().collect();
        for hold in holds {
            let all = self.all(&hold)?;
            self.recover(engine, &hold, &all)?;
        }
        Ok(())
    }

    /// What is held becomes something else, and stays held.
    pub(crate) fn convert(
        &mut self,
        engine: &mut Engine,
        hold: &Hold,
        from: &Bundle,
        to: &Bundle,
    ) -> Done {
        let held = self.0.get_mut(hold).ok_or("it holds nothing there in that role")?;
        let account = if held.offered.contains(from) {
            engine.convert_offered(hold, from, to)?;
            &mut held.offered
        } else if held.used.contains(from) {
            engine.convert_used(hold, from, to)?;
            &mut held.used
        } else {
            return Err(format!("it does not hold {from} there in that role"));
        };
        *account = account.saturating_sub(from).checked_add(to).ok_or(OVER)?;
        self.forget_empty();
        Ok(())
    }

    fn forget_empty(&mut self) {
        self.0.retain(|_, held| !held.offered.is_empty() || !held.used.is_empty());
    }
}
