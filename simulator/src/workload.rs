//! What a framework has to run: when each task comes, what it needs, and how long it runs.
//!
//! Never says where anything runs. Its one surprise: the duration of a task follows from its number or its name, not from
//! the order in which tasks begin, so that two schedulers can be compared over the very same tasks.

use crate::chance::{Chance, mean, mean_of_rate, number_of, of_milli};
use crate::scenario::{Arrivals, Spread, Workload};
use std::collections::BTreeMap;
use std::sync::Arc;
use tepui_proto::Resources;

/// Tells the stream of arrivals from those of durations.
const ARRIVALS: u64 = 0xa881_7a15;

/// Tasks as they come.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    seed: u64,
    workload: Workload,
    chance: Chance,
    /// How many have come.
    taken: u64,
    /// When the next one comes; none once all have.
    next_at: Option<u64>,
    begins_at: u64,
    /// The sizes that there are.
    sizes: Vec<Resources>,
    /// Of a trace: which size each task has.
    size_of: Arc<Vec<u32>>,
}

/// A task that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Counts the framework's tasks.
    pub(crate) number: u32,
    /// When, in virtual milliseconds.
    pub(crate) at: u64,
    /// Its place among [`Source::sizes`].
    pub(crate) size: u32,
}

impl Source {
    /// The tasks of one framework that is submitted then.
    pub(crate) fn new(workload: &Workload, seed: u64, begins_at: u64) -> Self {
        let (sizes, size_of) = match workload {
            Workload::Tasks(_) => (Vec::new(), Vec::new()),
            Workload::Steady { size, .. } => (vec![size.0.clone()], Vec::new()),
            Workload::Trace(tasks) => {
                let mut places: BTreeMap<&Resources, u32> = BTreeMap::new();
                for task in tasks.iter() {
                    places.insert(&task.size.0, 0);
                }
                for (at, place) in (0..).zip(places.values_mut()) {
                    *place = at;
                }
                let place = |size| places.get(size).copied().unwrap_or_default();
                let size_of = tasks.iter().map(|task| place(&task.size.0)).collect();
                (places.into_keys().cloned().collect(), size_of)
            }
        };
        let mut source = Self {
            seed,
            workload: workload.clone(),
            chance: Chance::new(seed, ARRIVALS),
            taken: 0,
            next_at: None,
            begins_at,
            sizes,
            size_of: Arc::new(size_of),
        };
        source.next_at = source.following(begins_at);
        source
    }

    /// The sizes that there are.
    pub(crate) fn sizes(&self) -> &[Resources] {
        &self.sizes
    }

    /// When the next task comes.
    pub(crate) fn next_at(&self) -> Option<u64> {
        self.next_at
    }

    /// How many have come.
    pub(crate) fn arrived(&self) -> u64 {
        self.taken
    }

    /// The next task that has come by now.
    pub(crate) fn take_due(&mut self, now: u64) -> Option<Arrival> {
        let at = self.next_at.filter(|at| *at <= now)?;
        let number = u32::try_from(self.taken).ok()?;
        let size = usize::try_from(number).ok().and_then(|at| self.size_of.get(at)).copied();
        self.taken += 1;
        self.next_at = self.following(at);
        Some(Arrival { number, at, size: size.unwrap_or_default() })
    }

    /// When the task after so many comes, if the last one came then.
    fn following(&mut self, last: u64) -> Option<u64> {
        match &self.workload {
            Workload::Tasks(_) => None,
            Workload::Trace(tasks) => {
                let next = usize::try_from(self.taken).ok().and_then(|at| tasks.get(at))?;
                Some(self.begins_at.saturating_add(next.arrival_ms))
            }
            Workload::Steady { tasks, .. } if self.taken >= *tasks => None,
            Workload::Steady { arrivals, .. } => match arrivals {
                Arrivals::AtOnce => Some(self.begins_at),
                Arrivals::EveryMs(_) if self.taken == 0 => Some(self.begins_at),
                Arrivals::EveryMs(every) => Some(last.saturating_add(*every)),
                Arrivals::Poisson(per_kilosecond) => {
                    let gap = self.chance.exponential(mean_of_rate(*per_kilosecond));
                    Some(last.saturating_add(gap))
                }
            },
        }
    }

    /// How long the task of that number runs; none is for ever.
    pub(crate) fn duration_of(&self, number: u32) -> Option<u64> {
        match &self.workload {
            Workload::Trace(tasks) => usize::try_from(number)
                .ok()
                .and_then(|at| tasks.get(at))
                .map(|task| task.duration_ms),
            Workload::Tasks(spread) | Workload::Steady { duration: spread, .. } => {
                draw(*spread, &mut Chance::new(self.seed, u64::from(number)))
            }
        }
    }
}

/// How long a component's task of that name runs; none is for ever.
pub(crate) fn duration_of_named(workload: &Workload, seed: u64, task: &str) -> Option<u64> {
    match workload {
        Workload::Tasks(spread) => draw(*spread, &mut Chance::new(seed, number_of(task))),
        _ => None,
    }
}

fn draw(spread: Spread, chance: &mut Chance) -> Option<u64> {
    match spread {
        Spread::Forever => None,
        Spread::Fixed(ms) => Some(ms),
        Spread::Uniform(low, high) => Some(chance.uniform(low, high)),
        Spread::Exponential(mean_ms) => Some(chance.exponential(mean(mean_ms))),
        Spread::Lognormal(median_ms, sigma_milli) => {
            Some(chance.lognormal(median_ms, of_milli(sigma_milli)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::TaskSize;

    fn steady(arrivals: Arrivals) -> Workload {
        let size = TaskSize(Resources::cpu_memory(100, 1 << 20));
        Workload::Steady { size, tasks: 3, arrivals, duration: Spread::Exponential(1_000) }
    }

    fn arrivals(source: &mut Source) -> Vec<u64> {
        std::iter::from_fn(|| source.take_due(u64::MAX)).map(|task| task.at).collect()
    }

    #[test]
    fn tasks_come_when_the_scenario_says() {
        let all = |how| arrivals(&mut Source::new(&steady(how), 1, 50));
        assert_eq!(all(Arrivals::AtOnce), [50, 50, 50]);
        assert_eq!(all(Arrivals::EveryMs(10)), [50, 60, 70]);
        assert_eq!(all(Arrivals::Poisson(500)), all(Arrivals::Poisson(500)));
    }

    #[test]
    fn a_duration_is_that_of_the_task_however_often_it_is_asked_for() {
        let source = Source::new(&steady(Arrivals::AtOnce), 9, 0);
        assert_eq!(source.duration_of(2), source.duration_of(2));
        assert_ne!(source.duration_of(1), source.duration_of(2));
    }
}
