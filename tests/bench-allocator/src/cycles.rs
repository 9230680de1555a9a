//! Full cycles, one agent freed, and how the time grows.
//!
//! `plain-AxF` and `picky-AxF`: a full cycle over A agents of which all but one task's part is free, for F frameworks; between
//! two cycles everything is declined without a filter, which is not counted. Ratios are to the plain one of that size.
//! `freed-…`: after a full cycle one agent's offers are declined, and what was freed is looked at; both count.
//! `growth-plain-F`: the exponent of the time over the agents, fitted through the medians.

use crate::stage::Stage;
use crate::{naive, repeat};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;
use tepui_figures::{Failure, Row, say};

const AGENTS: [u32; 3] = [1_000, 10_000, 50_000];
const FRAMEWORKS: [usize; 3] = [1, 200, 2_000];
/// The load of which Mesos 1.8 tells.
const MESOS: (u32, usize) = (20_000, 2_000);
const SAMPLES: usize = 50;
const FREED: (u32, usize) = (50_000, 200);
const FREED_SAMPLES: usize = 5_000;

pub(crate) fn measure(is_asked: &impl Fn(&str) -> bool) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    // Median by kind, frameworks, agents.
    let mut medians: BTreeMap<(&str, usize, u32), f64> = BTreeMap::new();
    for (frameworks, agents) in sizes() {
        let size = format!("{}x{frameworks}", thousands(agents));
        for kind in ["plain", "picky"] {
            let name = format!("{kind}-{size}");
            if !is_asked(&name) || (kind == "picky" && (agents, frameworks) == MESOS) {
                continue;
            }
            let mut row = full(&name, agents, frameworks, kind == "picky")?;
            let median = row.median_us.unwrap_or(f64::NAN);
            medians.insert((kind, frameworks, agents), median);
            let plain = medians.get(&("plain", frameworks, agents));
            row.ratio = plain.map(|plain| median / plain);
            rows.push(row);
        }
    }
    for (name, is_picky) in [("freed-plain-50kx200", false), ("freed-picky-50kx200", true)] {
        if is_asked(name) {
            rows.push(freed(name, is_picky)?);
        }
    }
    for frameworks in FRAMEWORKS.into_iter().filter(|f| is_asked(&format!("growth-plain-{f}"))) {
        rows.extend(growth(frameworks, &medians));
    }
    if is_asked(naive::NAME) {
        let mut row = naive::measure()?;
        let plain = medians.get(&("plain", naive::FRAMEWORKS, naive::AGENTS));
        row.ratio = row.median_us.zip(plain).map(|(median, plain)| median / plain);
        rows.push(row);
    }
    Ok(rows)
}

fn sizes() -> impl Iterator<Item = (usize, u32)> {
    let grid = FRAMEWORKS.into_iter().flat_map(|f| AGENTS.into_iter().map(move |a| (f, a)));
    grid.chain([(MESOS.1, MESOS.0)])
}

fn thousands(agents: u32) -> String {
    format!("{}k", agents / 1_000)
}

fn full(name: &str, agents: u32, frameworks: usize, is_picky: bool) -> Result<Row, Failure> {
    let mut stage = Stage::new(agents, frameworks, is_picky)?;
    let mut grants = 0;
    let spans = repeat(SAMPLES, || {
        stage.give_back()?;
        let begun = Instant::now();
        stage.cycle();
        let span = begun.elapsed();
        grants = stage.grants.len();
        Ok(span)
    })?;
    // One picky framework alone can take one agent in twenty.
    if grants < agents as usize && frameworks > 1 {
        return Err(format!("{name}: {grants} grants, so not every agent was given out").into());
    }
    let row = Row::of(name, spans);
    let seconds = row.median_us.unwrap_or(f64::NAN) / 1e6;
    let per_second = Some(f64::from(agents) / seconds);
    Ok(Row { per_second, ..row }.with("grants", grants.into()))
}

fn freed(name: &str, is_picky: bool) -> Result<Row, Failure> {
    let mut stage = Stage::new(FREED.0, FREED.1, is_picky)?;
    stage.cycle();
    stage.ledger.take_freed();
    // What is on offer of each agent.
    let mut on_offer: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for grant in std::mem::take(&mut stage.grants) {
        on_offer.entry(grant.agent).or_default().push(grant);
    }
    let agents: Vec<_> = on_offer.keys().copied().collect();
    // A stride that meets every agent before it meets one again.
    let mut turn = agents.iter().copied().cycle().step_by(7_919);
    let spans = repeat(FREED_SAMPLES, || {
        let agent = turn.next().ok_or("no agent was given out")?;
        let old = on_offer.remove(&agent).unwrap_or_default();
        let begun = Instant::now();
        for grant in &old {
            stage.give_back_one(grant)?;
        }
        let new = stage.look_at_freed();
        let span = begun.elapsed();
        on_offer.insert(agent, black_box(new));
        Ok(span)
    })?;
    Ok(Row::of(name, spans))
}

/// The slope of the logarithms, by least squares.
fn growth(frameworks: usize, medians: &BTreeMap<(&str, usize, u32), f64>) -> Option<Row> {
    let mut points = Vec::new();
    for agents in AGENTS {
        let median = medians.get(&("plain", frameworks, agents))?;
        points.push((f64::from(agents).ln(), median.ln()));
    }
    let count = f64::from(u32::try_from(points.len()).ok()?);
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let below: f64 = points.iter().map(|point| (point.0 - x) * (point.0 - x)).sum();
    let exponent = (above / below * 1e3).round() / 1e3;
    let name = format!("growth-plain-{frameworks}");
    say(&format!("{name}: {exponent}"));
    Some(Row::named(name).with("exponent", exponent.into()))
}
