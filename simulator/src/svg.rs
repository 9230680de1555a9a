//! Plots as inline SVG: axes with ticks, areas, lines, bars, dots. Colours come from the page's style, by class.
//!
//! Never looks into a report. Coordinates are in units of the drawing, rounded to a tenth.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a plot is as exact as a pixel"
)]

use std::fmt::Write as _;

/// Colours that the page's style has.
pub(crate) const COLOURS: usize = 8;

/// Text that is safe within HTML and within quotes.
pub(crate) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            c if c.is_control() && c != '\n' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// A line or an area: a name, a colour, a value per point.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) colour: usize,
    pub(crate) values: Vec<f64>,
}

/// How an axis is labelled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Axis {
    /// What is shown, with its unit.
    pub(crate) label: &'static str,
    /// At the end of the axis.
    pub(crate) most: f64,
}

/// Where a plot's own area lies in its drawing.
#[derive(Clone, Copy, Debug)]
struct Frame {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Frame {
    fn x(self, part: f64) -> f64 {
        self.left + part.clamp(0.0, 1.0) * (self.width - self.left - self.right)
    }

    fn y(self, part: f64) -> f64 {
        self.height - self.bottom - part.clamp(0.0, 1.0) * (self.height - self.top - self.bottom)
    }

    fn open(self, title: &str) -> String {
        let (width, height, title) = (self.width, self.height, escape(title));
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>"
        )
    }
}

/// A span of virtual time and the unit that it is told in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) until_ms: u64,
    label: &'static str,
    unit_ms: f64,
}

impl Times {
    /// From the beginning to then.
    pub(crate) fn until(until_ms: u64) -> Self {
        let (label, unit_ms) = match until_ms {
            0..180_000 => ("virtual time (s)", 1_000.0),
            180_000..10_800_000 => ("virtual time (min)", 60_000.0),
            10_800_000..259_200_000 => ("virtual time (h)", 3_600_000.0),
            _ => ("virtual time (d)", 86_400_000.0),
        };
        Self { until_ms: until_ms.max(1), label, unit_ms }
    }

    fn part(self, at_ms: u64) -> f64 {
        at_ms as f64 / self.until_ms as f64
    }
}

/// Round steps, about so many of them, up to a bound.
fn ticks(most: f64, about: f64) -> Vec<f64> {
    if most.is_nan() || most <= 0.0 {
        return vec![0.0];
    }
    let rough = most / about;
    let magnitude = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude);
    let step = step.into_iter().find(|step| *step >= rough).unwrap_or(rough);
    let count = (most / step + 1e-9).floor() as usize;
    (0..=count).map(|at| at as f64 * step).collect()
}

/// A number without places that say nothing.
fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn axes(svg: &mut String, frame: Frame, times: Times, axis: Axis) {
    for tick in ticks(axis.most, 5.0) {
        let y = frame.y(tick / axis.most);
        // A string takes what is written, here and below.
        let _written = write!(
            svg,
            "<line class=\"grid\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            frame.x(0.0),
            frame.x(1.0),
            frame.left - 6.0,
            y + 4.0,
            number(tick)
        );
    }
    let span = times.until_ms as f64 / times.unit_ms;
    let bottom = frame.y(0.0);
    let about = if frame.width > 500.0 { 8.0 } else { 4.0 };
    for tick in ticks(span, about) {
        let x = frame.x(tick / span);
        let _written = write!(
            svg,
            "<line class=\"axis\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom:.1}\" y2=\"{:.1}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 4.0,
            bottom + 17.0,
            number(tick)
        );
    }
    let (middle, low) = (f64::midpoint(frame.x(0.0), frame.x(1.0)), frame.height - 4.0);
    let _written = write!(
        svg,
        "<line class=\"axis\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{bottom:.1}\" y2=\"{bottom:.1}\"/><text class=\"label\" x=\"{middle:.1}\" y=\"{low:.1}\" text-anchor=\"middle\">{}</text>\
         <text class=\"label\" transform=\"translate(12 {:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
        frame.x(0.0),
        frame.x(1.0),
        times.label,
        f64::midpoint(frame.y(0.0), frame.y(1.0)),
        axis.label
    );
}

fn point(out: &mut String, x: f64, y: f64) {
    let _written = write!(out, "{}{x:.1} {y:.1}", if out.is_empty() { "M" } else { "L" });
}

/// Areas on top of each other, in the order of the rows.
pub(crate) fn areas(title: &str, at_ms: &[u64], rows: &[Row], axis: Axis) -> String {
    let times = Times::until(at_ms.last().copied().unwrap_or_default());
    let frame =
        Frame { width: 900.0, height: 270.0, left: 54.0, right: 14.0, top: 12.0, bottom: 42.0 };
    let mut svg = frame.open(title);
    axes(&mut svg, frame, times, axis);
    let mut floor = vec![0.0; at_ms.len()];
    for row in rows {
        let ceiling: Vec<f64> = floor.iter().zip(&row.values).map(|(low, own)| low + own).collect();
        let mut path = String::new();
        for (at, value) in at_ms.iter().zip(&ceiling) {
            point(&mut path, frame.x(times.part(*at)), frame.y(value / axis.most));
        }
        for (at, value) in at_ms.iter().zip(&floor).rev() {
            point(&mut path, frame.x(times.part(*at)), frame.y(value / axis.most));
        }
        let _written = write!(
            svg,
            "<path class=\"area c{}\" d=\"{path}Z\"><title>{}</title></path>",
            row.colour % COLOURS,
            escape(&row.name)
        );
        floor = ceiling;
    }
    svg + "</svg>"
}

/// A line with a filled area below it, and dashed beside it what it is compared with.
pub(crate) fn against(
    title: &str,
    at_ms: &[u64],
    row: &Row,
    compared: &[f64],
    axis: Axis,
) -> String {
    let times = Times::until(at_ms.last().copied().unwrap_or_default());
    let frame =
        Frame { width: 440.0, height: 190.0, left: 54.0, right: 12.0, top: 12.0, bottom: 42.0 };
    let mut svg = frame.open(title);
    axes(&mut svg, frame, times, axis);
    let line = |values: &[f64]| {
        let mut path = String::new();
        for (at, value) in at_ms.iter().zip(values) {
            point(&mut path, frame.x(times.part(*at)), frame.y(value / axis.most));
        }
        path
    };
    let (own, other) = (line(&row.values), line(compared));
    let (first, last) = (frame.x(0.0), frame.x(1.0));
    let (bottom, colour) = (frame.y(0.0), row.colour % COLOURS);
    let _written = write!(
        svg,
        "<path class=\"under c{colour}\" d=\"{own}L{last:.1} {bottom:.1}L{first:.1} {bottom:.1}Z\"/>\
         <path class=\"line c{colour}\" d=\"{own}\"/><path class=\"dashed\" d=\"{other}\"/></svg>"
    );
    svg
}

/// One line over time.
pub(crate) fn line(title: &str, at_ms: &[u64], row: &Row, axis: Axis) -> String {
    let times = Times::until(at_ms.last().copied().unwrap_or_default());
    let frame =
        Frame { width: 900.0, height: 150.0, left: 54.0, right: 14.0, top: 12.0, bottom: 42.0 };
    let mut svg = frame.open(title);
    axes(&mut svg, frame, times, axis);
    let mut path = String::new();
    for (at, value) in at_ms.iter().zip(&row.values) {
        point(&mut path, frame.x(times.part(*at)), frame.y(value / axis.most));
    }
    let _written =
        write!(svg, "<path class=\"line c{}\" d=\"{path}\"/></svg>", row.colour % COLOURS);
    svg
}

/// A row of a plot whose rows have names.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) values: Vec<u64>,
    /// Told at the end of the row.
    pub(crate) note: String,
}

const ROW: f64 = 28.0;
const NAMES: f64 = 170.0;

/// Bars whose parts add up to the whole of their row; a colour per part.
pub(crate) fn bars(title: &str, parts: &[&str], rows: &[Named]) -> String {
    let height = 46.0 + ROW * rows.len() as f64;
    let frame = Frame { width: 900.0, height, left: NAMES, right: 150.0, top: 6.0, bottom: 40.0 };
    let mut svg = frame.open(title);
    for tick in [0.0, 25.0, 50.0, 75.0, 100.0] {
        let x = frame.x(tick / 100.0);
        let _written = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>",
            frame.top,
            height - 40.0,
            height - 24.0
        );
    }
    for (at, row) in rows.iter().enumerate() {
        let y = frame.top + ROW * at as f64;
        named(&mut svg, frame, y, row);
        let sum: u64 = row.values.iter().sum();
        let mut before = 0;
        for (colour, value) in row.values.iter().enumerate().filter(|(_, value)| **value > 0) {
            let (from, to) = (
                frame.x(before as f64 / sum as f64),
                frame.x((before + value) as f64 / sum as f64),
            );
            let what = parts.get(colour).copied().unwrap_or_default();
            let _written = write!(
                svg,
                "<rect class=\"bar p{colour}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\"><title>{}: {value} {what}</title></rect>",
                y + 5.0,
                (to - from).max(0.5),
                ROW - 10.0,
                escape(&row.name)
            );
            before += value;
        }
    }
    label(&mut svg, frame, "part of the offers made (%)");
    svg + "</svg>"
}

/// Four dots a row, on a scale of times where each step is ten times the one before.
pub(crate) fn dots(title: &str, parts: &[&str], rows: &[Named]) -> String {
    let height = 46.0 + ROW * rows.len() as f64;
    let frame = Frame { width: 900.0, height, left: NAMES, right: 150.0, top: 6.0, bottom: 40.0 };
    let mut svg = frame.open(title);
    let most = rows.iter().flat_map(|row| &row.values).copied().max().unwrap_or_default().max(100);
    let decades = (most as f64).log10().ceil();
    // Below ten milliseconds everything is at once.
    let part = |ms: u64| ((ms.max(10) as f64).log10() - 1.0) / (decades - 1.0);
    for decade in 1..=(decades as u32) {
        let ms = 10_u64.saturating_pow(decade);
        let x = frame.x(part(ms));
        let _written = write!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            frame.top,
            height - 40.0,
            height - 24.0,
            seconds(ms)
        );
    }
    for (at, row) in rows.iter().enumerate() {
        let y = frame.top + ROW * at as f64;
        named(&mut svg, frame, y, row);
        let middle = y + ROW / 2.0;
        if let Some((first, last)) = row.values.first().zip(row.values.last()) {
            let _written = write!(
                svg,
                "<line class=\"span\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>",
                frame.x(part(*first)),
                frame.x(part(*last))
            );
        }
        for (colour, value) in row.values.iter().enumerate() {
            let what = parts.get(colour).copied().unwrap_or_default();
            let _written = write!(
                svg,
                "<circle class=\"dot q{colour}\" cx=\"{:.1}\" cy=\"{middle:.1}\" r=\"6\"><title>{}: {what} {} s</title></circle>",
                frame.x(part(*value)),
                escape(&row.name),
                seconds(*value)
            );
        }
    }
    label(&mut svg, frame, "waiting time (s), each step ten times the one before");
    svg + "</svg>"
}

/// Milliseconds as seconds.
pub(crate) fn seconds(ms: u64) -> String {
    let text = format!("{}.{:03}", ms / 1_000, ms % 1_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn named(svg: &mut String, frame: Frame, y: f64, row: &Named) {
    let baseline = y + ROW / 2.0 + 4.0;
    let mut short: String = row.name.chars().take(24).collect();
    if short.len() < row.name.len() {
        short.push('…');
    }
    let _written = write!(
        svg,
        "<text class=\"name\" x=\"{:.1}\" y=\"{baseline:.1}\" text-anchor=\"end\">{}</text><text class=\"tick\" x=\"{:.1}\" y=\"{baseline:.1}\">{}</text>",
        frame.left - 10.0,
        escape(&short),
        frame.x(1.0) + 10.0,
        escape(&row.note)
    );
}

fn label(svg: &mut String, frame: Frame, text: &str) {
    let middle = f64::midpoint(frame.x(0.0), frame.x(1.0));
    let _written = write!(
        svg,
        "<text class=\"label\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{text}</text>",
        frame.height - 6.0
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_stay_within_the_axis() {
        assert_eq!(ticks(100.0, 5.0), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(ticks(10.0, 8.0), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(ticks(0.0, 4.0), [0.0]);
    }

    #[test]
    fn names_cannot_leave_their_place() {
        assert_eq!(escape("<script>\"&\u{1b}"), "&lt;script&gt;&quot;&amp;\u{fffd}");
    }
}
