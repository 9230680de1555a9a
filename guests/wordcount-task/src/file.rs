//! A tally as a file between two tasks, and the result as a file for people. Lines of text, so that both can be read.
//!
//! `segment BLOB FIRST END LAST WHOLE HEAD TAIL` (an empty run is `-`), then `count N WORD` by word. The same tally is
//! always the same bytes.

use crate::{Segment, Tally};
use std::io::{self, BufRead, Write};

/// Why tallies could not be put together.
#[derive(Debug)]
pub enum CountsError {
    /// Reading failed.
    Read(io::Error),
    /// A line is not of the form.
    Line(String),
    /// A stretch of a blob came twice.
    Overlap {
        /// Which blob.
        blob: u32,
        /// Where.
        first: u64,
    },
    /// A stretch of a blob never came.
    Incomplete {
        /// Which blob.
        blob: u32,
        /// Where a stretch ends that is not the end of the blob, or does not begin where it does.
        end: u64,
    },
}

impl std::fmt::Display for CountsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Read(_) => f.write_str("counts cannot be read"),
            Self::Line(line) => write!(f, "`{line}` is no line of a counts file"),
            Self::Overlap { blob, first } => {
                write!(f, "input {blob} is counted twice from byte {first} on")
            }
            Self::Incomplete { blob, end } => {
                write!(f, "input {blob} is not complete around byte {end}")
            }
        }
    }
}

impl std::error::Error for CountsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Read(error) => Some(error),
            _ => None,
        }
    }
}

impl Tally {
    /// Writes it for the next task.
    ///
    /// # Errors
    /// If writing fails.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        for segment in self.segments.values() {
            let Segment { blob, first, end, last, head, tail, whole } = segment;
            let (last, whole) = (u8::from(*last), u8::from(*whole));
            writeln!(
                out,
                "segment {blob} {first} {end} {last} {whole} {} {}",
                dash(head),
                dash(tail)
            )?;
        }
        let mut counts: Vec<(&String, &u64)> = self.counts.iter().collect();
        counts.sort_unstable();
        for (word, count) in counts {
            writeln!(out, "count {count} {word}")?;
        }
        out.flush()
    }

    /// Adds what another task wrote.
    ///
    /// # Errors
    /// If it cannot be read, is of another form, or holds what is here already.
    pub fn read(&mut self, input: impl BufRead) -> Result<(), CountsError> {
        for line in input.lines() {
            let line = line.map_err(CountsError::Read)?;
            if let Some((count, word)) = count_of(&line) {
                self.count(word, count);
            } else if let Some(segment) = segment_of(&line) {
                self.join(segment)?;
            } else {
                return Err(CountsError::Line(line.chars().take(80).collect()));
            }
        }
        Ok(())
    }

    /// Writes the result: a line `words N distinct M`, then `COUNT WORD`, most frequent first, then by word.
    ///
    /// # Errors
    /// If a piece is missing, or writing fails.
    pub fn write_result(&self, mut out: impl Write) -> Result<(), CountsError> {
        let ranking = self.ranking()?;
        let words: u64 = ranking.iter().map(|(_, count)| count).sum();
        let mut write = || {
            writeln!(out, "words {words} distinct {}", ranking.len())?;
            ranking.iter().try_for_each(|(word, count)| writeln!(out, "{count} {word}"))?;
            out.flush()
        };
        write().map_err(CountsError::Read)
    }
}

fn dash(run: &str) -> &str {
    if run.is_empty() { "-" } else { run }
}

fn count_of(line: &str) -> Option<(u64, &str)> {
    let (count, word) = line.strip_prefix("count ")?.split_once(' ')?;
    let count = count.parse().ok()?;
    is_word(word).then_some((count, word))
}

fn segment_of(line: &str) -> Option<Segment> {
    let mut parts = line.strip_prefix("segment ")?.split(' ');
    let blob = parts.next()?.parse().ok()?;
    let first = parts.next()?.parse().ok()?;
    let end = parts.next()?.parse().ok().filter(|end| *end > first)?;
    let last = flag(parts.next()?)?;
    let whole = flag(parts.next()?)?;
    let head = run(parts.next()?)?;
    let tail = run(parts.next()?)?;
    parts.next().is_none().then_some(Segment { blob, first, end, last, head, tail, whole })
}

fn run(text: &str) -> Option<String> {
    if text == "-" {
        return Some(String::new());
    }
    is_word(text).then(|| text.to_owned())
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase())
}

pub(crate) fn flag(text: &str) -> Option<bool> {
    match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}
