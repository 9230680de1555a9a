//! Data on standard output, words on standard error: tables, JSON, notes, progress.
//!
//! Never colours or animates anything that is not a terminal. Its one surprise: a reader that goes away (`| head`) is
//! no error.

use crate::error::CliError;
use crate::units::{shown_span, shown_time};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize as _, Serialize};
use std::fmt::Display;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::time::Duration;
use tepui_proto::Resources;
use tepui_proto::resources::{Bytes, Milli};

/// How a listing is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; the field names are those of the HTTP interface.
    Json,
}

/// Whether a person watches standard error.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Bytes to standard output, at once.
///
/// # Errors
/// When standard output cannot be written, unless its reader has gone.
pub(crate) fn data(bytes: &[u8]) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::failed("cannot write to standard output").because(&error))
        }
        _ => Ok(()),
    }
}

/// A line to standard output.
///
/// # Errors
/// As for [`data`].
pub(crate) fn line(text: impl Display) -> Result<(), CliError> {
    data(format!("{text}\n").as_bytes())
}

/// A line to standard error.
pub(crate) fn note(text: impl Display) {
    // Words are a courtesy: a closed standard error stops nothing.
    let _written = writeln!(io::stderr(), "{text}");
}

/// Pretty JSON to standard output.
///
/// # Errors
/// As for [`data`].
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CliError::failed("cannot print JSON").because(&error))?;
    line(text)
}

/// A listing: rows under a head, or an array.
///
/// # Errors
/// As for [`data`].
pub(crate) fn listing<T: Serialize>(
    format: Format,
    items: &[T],
    head: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) -> Result<(), CliError> {
    match format {
        Format::Json => json(items),
        Format::Table => {
            let rows = items.iter().map(row).collect::<Vec<_>>();
            data(table(head, &rows).as_bytes())
        }
    }
}

/// One thing: a line per field, or an object.
///
/// # Errors
/// As for [`data`].
pub(crate) fn thing<T: Serialize>(format: Format, item: &T) -> Result<(), CliError> {
    if format == Format::Json {
        return json(item);
    }
    let value = serde_json::to_value(item)
        .map_err(|error| CliError::failed("cannot print it").because(&error))?;
    let mut rows = Vec::new();
    flatten("", &value, &mut rows);
    data(table(&[], &rows).as_bytes())
}

/// Fields of fields become `a.b`; amounts and times are told as people write them; lists stay JSON on one line.
fn flatten(name: &str, value: &serde_json::Value, rows: &mut Vec<Vec<String>>) {
    match value {
        serde_json::Value::Object(fields) => {
            if let Ok(resources) = Resources::deserialize(value) {
                return rows.push(vec![name.to_owned(), resources.to_string()]);
            }
            for (field, inner) in fields {
                let path = if name.is_empty() { field.clone() } else { format!("{name}.{field}") };
                flatten(&path, inner, rows);
            }
        }
        serde_json::Value::Null => {}
        serde_json::Value::Array(items) if items.is_empty() => {}
        serde_json::Value::String(text) => rows.push(vec![name.to_owned(), text.clone()]),
        other => {
            let told = other.as_u64().and_then(|number| amount(name, number));
            let (name, text) = told.unwrap_or_else(|| (name.to_owned(), other.to_string()));
            rows.push(vec![name, text]);
        }
    }
}

/// How a field's name ends, and how its amount is shown.
type Unit = (&'static str, fn(u64) -> String);

/// An amount or a time by the end of its field's name, and the name without the unit.
fn amount(name: &str, number: u64) -> Option<(String, String)> {
    let field = name.rsplit('.').next().unwrap_or(name);
    if matches!(field, "at" | "start" | "since") || field.ends_with("_at") {
        return Some((name.to_owned(), shown_time(number)));
    }
    let units: [Unit; 4] = [
        ("_bytes", |bytes| Bytes(bytes).to_string()),
        ("_milli", |milli| Milli(milli).to_string()),
        ("_ms", shown_span),
        ("_us", |us| format!("{} ms", Milli(us))),
    ];
    let is_of = |unit: &str| field.ends_with(unit) || field.ends_with(&format!("{unit}_peak"));
    let (unit, shown) = units.into_iter().find(|(unit, _)| is_of(unit))?;
    Some((name.replacen(unit, "", 1), shown(number)))
}

/// Columns as wide as their widest cell, two spaces apart, nothing after the last.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head = head.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    let all = (!head.is_empty()).then_some(&head).into_iter().chain(rows);
    let mut widths: Vec<usize> = Vec::new();
    for row in all.clone() {
        for (at, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(at) {
                Some(widest) => *widest = (*widest).max(width),
                None => widths.push(width),
            }
        }
    }
    let mut text = String::new();
    for row in all {
        let cells = row.iter().zip(&widths).map(|(cell, width)| {
            format!("{}{:pad$}", printable(cell), "", pad = width - cell.chars().count())
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// What a guest wrote must not move the cursor of whoever reads a table.
fn printable(cell: &str) -> String {
    cell.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A bar over bytes, seen only on a terminal.
pub(crate) fn byte_bar(bytes: u64, what: &str) -> ProgressBar {
    if !stderr_is_terminal() || bytes == 0 {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes).with_message(what.to_owned());
    let style = ProgressStyle::with_template(
        "{msg} {wide_bar:.cyan} {binary_bytes}/{binary_total_bytes} {eta}",
    );
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// A spinner with words, seen only on a terminal.
pub(crate) fn spinner(what: &str) -> ProgressBar {
    if !stderr_is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner().with_message(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_lines_end_where_their_text_ends() {
        let rows = vec![
            vec!["a".to_owned(), "long cell".to_owned()],
            vec!["bcd".to_owned(), String::new()],
        ];
        assert_eq!(table(&["ID", "WHAT"], &rows), "ID   WHAT\na    long cell\nbcd\n");
    }

    #[test]
    fn control_characters_of_guests_do_not_reach_the_terminal() {
        assert_eq!(table(&[], &[vec!["\x1b[2Jx".to_owned()]]), "\u{fffd}[2Jx\n");
    }

    #[test]
    fn fields_of_fields_are_told_with_their_path() {
        let mut rows = Vec::new();
        flatten(
            "",
            &serde_json::json!({"id": "x", "used": {"cpu_milli": 5}, "none": null}),
            &mut rows,
        );
        assert_eq!(rows, [["id", "x"], ["used.cpu", "0.005"]]);
    }

    #[test]
    fn amounts_and_times_are_told_as_people_write_them() {
        let mut rows = Vec::new();
        let item = serde_json::json!({
            "at": 68_256_001_000_u64,
            "ended": Resources::cpu_memory(500, 64 << 20),
            "index": 7,
            "length_ms": 90_000,
            "usage": {"memory_bytes_peak": 2_048, "wall_us": 1_500},
        });
        flatten("", &item, &mut rows);
        let told = [
            ["at", "1972-03-01T00:00:01Z"],
            ["ended", "0.5 cpus, 64 MiB memory"],
            ["index", "7"],
            ["length", "90s"],
            ["usage.memory_peak", "2 KiB"],
            ["usage.wall", "1.5 ms"],
        ];
        assert_eq!(rows, told);
    }
}
