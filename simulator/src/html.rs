//! `report.html`: one page with plots, for a screen that is light or dark, without anything from elsewhere.

#![expect(clippy::cast_precision_loss, reason = "a plot is as exact as a pixel")]

use crate::report::{
    Ended, FrameworkReport, Quantiles, Report, RoleSamples, Samples, plural, tenths,
};
use crate::svg::{self, Axis, COLOURS, Named, Row, escape, seconds};
use std::fmt::Write as _;
use tepui_proto::resources::{Bytes, Milli};

const STYLE: &str = include_str!("report.css");
/// Parts of the bars of offers.
const OFFERS: [&str; 5] = ["used", "declined", "expired", "withdrawn", "open at the end"];
/// Dots of a waiting time.
const QUANTILES: [&str; 4] = ["half wait at most", "9 of 10", "99 of 100", "the longest"];
/// Roles that get a plot of their own.
const PANELS: usize = 12;

impl Report {
    /// The report as a page of its own.
    pub fn to_html(&self) -> String {
        let title = format!("Simulation: {}", escape(&self.scenario));
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
             <title>{title}</title><style>{STYLE}</style></head><body><main><h1>{title}</h1>"
        );
        if !self.about.is_empty() {
            // A string takes what is written, here and below.
            let _written = write!(page, "<p>{}</p>", escape(&self.about));
        }
        let _written = write!(page, "<p class=\"sum\">{}</p>", escape(&self.line()));
        page.push_str(&self.facts());
        page.push_str(&self.utilisation());
        page.push_str(&self.share_panels());
        page.push_str(&self.waiting());
        page.push_str(&self.offers());
        page.push_str(&self.agents_over_time());
        page.push_str(&self.tables());
        page.push_str(&self.problems());
        page.push_str("<footer>Made by <code>tepui simulate</code>: the real leader, virtual agents and tasks, virtual time. The same scenario and seed give this page again, byte for byte; all numbers are in <code>report.json</code>.</footer></main></body></html>\n");
        page
    }

    fn facts(&self) -> String {
        let ended = match self.ended {
            Ended::Duration => "the scenario's time was over",
            Ended::Idle => "every framework that can end had ended",
            Ended::Quiet => "nothing moved for an hour, though some framework still waited",
        };
        let (agents, capacity) = (self.agents, self.agents.capacity);
        let facts = [
            (
                "Agents",
                format!(
                    "{}, {} at the end, {}",
                    agents.count,
                    agents.at_end,
                    plural(agents.failures, "failure")
                ),
            ),
            (
                "Offerable at the end",
                format!(
                    "{} CPUs, {} memory",
                    Milli(capacity.cpu_milli),
                    Bytes(capacity.memory_bytes)
                ),
            ),
            ("Virtual time", format!("{} s; {ended}", seconds(self.virtual_ms))),
            ("Turns", self.totals.turns.to_string()),
            (
                "Offers",
                format!("{} made, {} used", self.totals.offers.made, self.totals.offers.used),
            ),
            ("Seed", self.seed.to_string()),
        ];
        let items = facts.map(|(name, text)| format!("<dt>{name}</dt><dd>{}</dd>", escape(&text)));
        format!("<dl>{}</dl>", items.concat())
    }

    fn utilisation(&self) -> String {
        let samples = &self.samples;
        let order = self.largest_roles();
        let (cpus, bytes) = (&samples.capacity_cpu_milli, &samples.capacity_memory_bytes);
        let plots = [
            ("CPU used", stacked(samples, &order, |role| &role.used_cpu_milli, cpus)),
            ("Memory used", stacked(samples, &order, |role| &role.used_memory_bytes, bytes)),
            ("CPU on offer", stacked(samples, &order, |role| &role.offered_cpu_milli, cpus)),
        ];
        let mut keys: Vec<(usize, &str)> = plots
            .iter()
            .flat_map(|(_, rows)| rows.iter().map(|row| (row.colour, row.name.as_str())))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let figure = |(what, rows): &(&str, Vec<Row>)| {
            if rows.is_empty() {
                return String::new();
            }
            let axis = Axis { label: "% of offerable", most: ceiling(rows) };
            let plot = svg::areas(&format!("{what}, by role"), &samples.at_ms, rows, axis);
            format!("<figure><figcaption>{what}</figcaption>{plot}</figure>")
        };
        format!(
            "<section><h2>Utilisation by role over time</h2><p>How much of what the agents could offer was held by the tasks of each role, \
             one on top of the other; and below it what was held by offers that nobody had answered yet, which is of use to nobody meanwhile.</p>{}{}</section>",
            legend(keys.iter().map(|(colour, name)| key("c", *colour, name))),
            plots.iter().map(figure).collect::<String>()
        )
    }

    /// Roles by what they used on average, the largest first.
    fn largest_roles(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.roles.len()).collect();
        let share = |at: usize| self.roles.get(at).map_or(0, |role| role.share_mean_milli);
        order.sort_by_key(|at| (std::cmp::Reverse(share(*at)), *at));
        order
    }

    fn share_panels(&self) -> String {
        let samples = &self.samples;
        let order = self.largest_roles();
        // A role that only has children, or only holds offers, has nothing to show.
        let has_part = |role: &&RoleSamples| {
            role.share_milli.iter().chain(&role.entitlement_milli).any(|milli| *milli > 0)
        };
        let all: Vec<&RoleSamples> =
            order.iter().filter_map(|at| samples.roles.get(*at)).filter(has_part).collect();
        let shown = all.iter().take(PANELS).copied();
        let of_milli =
            |values: &[u64]| values.iter().map(|milli| *milli as f64 / 10.0).collect::<Vec<_>>();
        let most = samples
            .roles
            .iter()
            .flat_map(|role| role.share_milli.iter().chain(&role.entitlement_milli));
        let most = most.copied().max().unwrap_or_default().clamp(1, 1_000) as f64 / 10.0 * 1.05;
        let panel = |(place, role): (usize, &RoleSamples)| {
            let row = Row {
                name: role.role.clone(),
                colour: place.min(COLOURS - 1),
                values: of_milli(&role.share_milli),
            };
            let axis = Axis { label: "dominant share (%)", most: most.min(100.0) };
            let title = format!("Dominant share of role {} against its entitlement", role.role);
            let plot = svg::against(
                &title,
                &samples.at_ms,
                &row,
                &of_milli(&role.entitlement_milli),
                axis,
            );
            format!(
                "<figure class=\"panel\"><figcaption>{}</figcaption>{plot}</figure>",
                escape(&role.role)
            )
        };
        let panels: String = shown.enumerate().map(panel).collect();
        let more = all.len().saturating_sub(PANELS);
        let more = if more == 0 {
            String::new()
        } else {
            format!(
                "<p>{more} smaller roles are in the table below and in <code>report.json</code>.</p>"
            )
        };
        let keys = [
            "<span><i class=\"c0\"></i>dominant share of its tasks</span>".to_owned(),
            "<span><i class=\"dash\"></i>entitlement</span>".to_owned(),
        ];
        format!(
            "<section><h2>Share against entitlement</h2><p>The filled line is a role's dominant share: the largest part that its tasks held of any one resource. \
             The dashed line is what its weight gives it among the roles that used or wanted something at that moment, no less than its guarantee and no more than its limit. Below it for long while work waits: it is \
             short-changed. Above it: it uses what others left.</p>{}<div class=\"panels\">{panels}</div>{more}</section>",
            legend(keys.into_iter())
        )
    }

    fn waiting(&self) -> String {
        let row = |framework: &FrameworkReport| {
            let Quantiles { count, p50, p90, p99, max } = framework.waiting_ms?;
            Some(Named {
                name: framework.name.clone(),
                values: vec![p50, p90, p99, max],
                note: plural(count, "task"),
            })
        };
        let rows: Vec<Named> = self.frameworks.iter().filter_map(row).collect();
        let text = "<p>From a task's arrival until it first runs; for a component, whose arrivals nobody else knows, from its want until the launch. \
                    Tasks that never ran are not in it: the table below has how many still waited at the end, and for how long.</p>";
        if rows.is_empty() {
            return format!("<section><h2>Waiting time</h2>{text}<p>No task ran.</p></section>");
        }
        let plot =
            svg::dots("Quantiles of the waiting time of each framework's tasks", &QUANTILES, &rows);
        let keys = QUANTILES.iter().enumerate().map(|(at, name)| key("q", at, name));
        format!(
            "<section><h2>Waiting time by quantile</h2>{text}{}<figure>{plot}</figure></section>",
            legend(keys)
        )
    }

    fn offers(&self) -> String {
        let row = |framework: &FrameworkReport| {
            let offers = framework.offers;
            let values =
                vec![offers.used, offers.declined, offers.expired, offers.withdrawn, offers.open];
            Named { name: framework.name.clone(), values, note: format!("{} made", offers.made) }
        };
        let rows: Vec<Named> = self.frameworks.iter().map(row).collect();
        let plot = svg::bars("What became of the offers of each framework", &OFFERS, &rows);
        let keys = OFFERS.iter().enumerate().map(|(at, name)| key("p", at, name));
        format!(
            "<section><h2>Offers</h2><p>What became of the offers that each framework's schedulers were told of. Used: at least one task was launched on it. \
             Expired: nobody answered in time. Withdrawn: the agent, the scheduler or the framework was gone first.</p>{}<figure>{plot}</figure></section>",
            legend(keys)
        )
    }

    fn agents_over_time(&self) -> String {
        let agents = &self.samples.agents;
        let changes = agents.iter().skip(1).any(|count| Some(count) != agents.get(1));
        if !changes {
            return String::new();
        }
        let values = agents.iter().map(|count| *count as f64).collect();
        let axis = Axis { label: "agents", most: (self.agents.count as f64).max(1.0) };
        let row = Row { name: "agents".to_owned(), colour: 0, values };
        let plot = svg::line("Agents that were connected", &self.samples.at_ms, &row, axis);
        format!(
            "<section><h2>Agents</h2><p>How many were connected.</p><figure>{plot}</figure></section>"
        )
    }

    fn tables(&self) -> String {
        let mut roles = String::new();
        for role in &self.roles {
            let _written = write!(
                roles,
                "<tr><th>{}</th><td>{}</td><td>{} %</td><td>{} %</td><td>{} %</td><td>{}</td><td>{}</td></tr>",
                escape(&role.role),
                Milli(role.weight_milli),
                tenths(role.entitlement_mean_milli),
                tenths(role.share_mean_milli),
                tenths(role.share_milli),
                Milli(role.used.cpu_milli),
                Bytes(role.used.memory_bytes)
            );
        }
        let mut frameworks = String::new();
        for framework in &self.frameworks {
            let tasks = framework.tasks;
            let longest = tasks.longest_waiting_ms.map_or_else(|| "–".to_owned(), seconds);
            let arrived =
                tasks.arrived.map_or_else(|| "–".to_owned(), |arrived| arrived.to_string());
            let _written = write!(
                frameworks,
                "<tr><th>{}</th><td>{}</td><td>{}</td><td>{arrived}</td><td>{}</td><td>{}</td><td>{}</td><td>{longest}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                escape(&framework.name),
                framework.count,
                framework.scheduler,
                tasks.launched,
                tasks.running,
                tasks.waiting,
                tasks.finished,
                tasks.failed,
                tasks.killed,
                tasks.preempted,
                tasks.lost,
                framework.turns
            );
        }
        format!(
            "<section><h2>In numbers</h2><div class=\"wide\"><table><caption>Roles; shares are dominant ones</caption><thead><tr><th>role</th><th>weight</th><th>entitled, mean</th>\
             <th>share, mean</th><th>share at the end</th><th>CPUs at the end</th><th>memory at the end</th></tr></thead><tbody>{roles}</tbody></table></div>\
             <div class=\"wide\"><table><caption>Frameworks; tasks are counted by launches</caption><thead><tr><th>framework</th><th>count</th><th>scheduler</th><th>arrived</th><th>launched</th><th>running</th>\
             <th>waiting</th><th>longest (s)</th><th>finished</th><th>failed</th><th>killed</th><th>preempted</th><th>lost</th><th>turns</th></tr></thead><tbody>{frameworks}</tbody></table></div></section>"
        )
    }

    fn problems(&self) -> String {
        if self.problems.is_empty() {
            return String::new();
        }
        let items = self
            .problems
            .iter()
            .map(|problem| format!("<li>{} × {}</li>", problem.times, escape(&problem.line)));
        format!("<section><h2>What went wrong</h2><ul>{}</ul></section>", items.collect::<String>())
    }
}

/// A row for each of the largest roles that held anything, and one for the rest.
fn stacked(
    samples: &Samples,
    order: &[usize],
    of: fn(&RoleSamples) -> &Vec<u64>,
    whole: &[u64],
) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    let mut rest: Option<Row> = None;
    for (place, at) in order.iter().enumerate() {
        let Some(role) = samples.roles.get(*at) else { continue };
        let parts = of(role).iter().zip(whole);
        let values: Vec<f64> = parts.map(|(part, whole)| percent(*part, *whole)).collect();
        if place < COLOURS - 1 || order.len() == COLOURS {
            rows.push(Row { name: role.role.clone(), colour: place, values });
        } else if let Some(rest) = &mut rest {
            rest.values.iter_mut().zip(values).for_each(|(sum, more)| *sum += more);
        } else {
            let name = format!("{} other roles", order.len() - place);
            rest = Some(Row { name, colour: COLOURS - 1, values });
        }
    }
    rows.extend(rest);
    rows.retain(|row| row.values.iter().any(|value| *value > 0.0));
    rows
}

/// The end of an axis on which these fit on top of each other: all of it, unless less than half is needed.
fn ceiling(rows: &[Row]) -> f64 {
    let points = rows.first().map_or(0, |row| row.values.len());
    let sum = |at: usize| rows.iter().filter_map(|row| row.values.get(at)).sum::<f64>();
    let most = (0..points).map(sum).fold(0.0, f64::max);
    if most > 50.0 { 100.0 } else { (most * 1.1).max(1.0) }
}

fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

fn key(kind: &str, at: usize, name: &str) -> String {
    format!("<span><i class=\"{kind}{at}\"></i>{}</span>", escape(name))
}

fn legend(keys: impl Iterator<Item = String>) -> String {
    format!("<p class=\"legend\">{}</p>", keys.collect::<String>())
}
