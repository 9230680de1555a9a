//! Counts words, exactly, over blobs that are cut anywhere.
//!
//! A word is a longest run of ASCII letters, in lower case; every other byte separates. A blob is counted in pieces,
//! and a cut may go through a word. So a piece never decides about the runs at its two ends: it hands them on beside
//! its counts, as the ends of a [`Segment`], and where two segments of a blob meet their ends are put together.
//! Segments of a blob can be joined in any grouping, so maps and reduces may form any tree; a segment that reaches
//! from the first to the last byte of its blob is dissolved into counts. A word of any length comes out whole.
//!
//! The crate reads no file by itself, and never guesses: pieces that overlap, or are missing at the end, are errors.

mod file;
mod hash;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};

pub use file::CountsError;

/// A part of a blob, as it is named on the command line: `BLOB:FIRST:LENGTH:LAST:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which blob, by its place in the list of inputs.
    pub blob: u32,
    /// Its first byte in the blob.
    pub first: u64,
    /// How many bytes; at least one.
    pub length: u64,
    /// Whether it ends where the blob ends.
    pub last: bool,
    /// The file that holds these bytes and no others.
    pub path: String,
}

impl Piece {
    /// Reads what [`std::fmt::Display`] writes; none if it is something else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, ':');
        let blob = parts.next()?.parse().ok()?;
        let first: u64 = parts.next()?.parse().ok()?;
        let length = parts.next()?.parse().ok().filter(|length| *length > 0)?;
        first.checked_add(length)?;
        let last = file::flag(parts.next()?)?;
        Some(Self { blob, first, length, last, path: parts.next()?.to_owned() })
    }
}

impl std::fmt::Display for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}:{}:{}:{}:{}",
            self.blob,
            self.first,
            self.length,
            u8::from(self.last),
            self.path
        )
    }
}

/// What is known of a stretch of a blob beside its counts: the runs of letters at its ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which blob.
    pub blob: u32,
    /// Its first byte.
    pub first: u64,
    /// The byte after its last.
    pub end: u64,
    /// Whether the blob ends there.
    pub last: bool,
    /// The run at its beginning, or everything if [`Self::whole`].
    pub head: String,
    /// The run at its end, or nothing if [`Self::whole`].
    pub tail: String,
    /// Whether it is one run of letters from end to end.
    pub whole: bool,
}

/// Counts, and the segments whose ends are still open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    counts: HashMap<String, u64, hash::Fnv>,
    /// By blob and first byte.
    segments: BTreeMap<(u32, u64), Segment>,
}

impl Tally {
    /// Counts a piece. Reads in blocks, so a piece may be larger than memory.
    ///
    /// # Errors
    /// If reading fails, or the reader holds more or fewer bytes than the piece, or the piece overlaps another one.
    pub fn scan(&mut self, piece: &Piece, mut reader: impl Read) -> io::Result<()> {
        let mut scan = Scan { run: String::new(), head: None };
        let mut block = vec![0; 64 << 10];
        let mut read = 0_u64;
        loop {
            let bytes = match reader.read(&mut block) {
                Ok(0) => break,
                Ok(count) => block.get(..count).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            read += bytes.len() as u64;
            self.scan_bytes(&mut scan, bytes);
        }
        if read != piece.length {
            let text =
                format!("`{}` has {read} bytes, and {} were expected", piece.path, piece.length);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let whole = scan.head.is_none();
        let (head, tail) = match scan.head {
            Some(head) => (head, scan.run),
            None => (scan.run, String::new()),
        };
        let (blob, first, last) = (piece.blob, piece.first, piece.last);
        let segment = Segment { blob, first, end: first + piece.length, last, head, tail, whole };
        self.join(segment).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn scan_bytes(&mut self, scan: &mut Scan, bytes: &[u8]) {
        for byte in bytes {
            if byte.is_ascii_alphabetic() {
                scan.run.push(char::from(byte.to_ascii_lowercase()));
            } else if scan.head.is_none() {
                scan.head = Some(std::mem::take(&mut scan.run));
            } else if !scan.run.is_empty() {
                self.count(&scan.run, 1);
                scan.run.clear();
            }
        }
    }

    fn count(&mut self, word: &str, more: u64) {
        if word.is_empty() {
            return;
        }
        match self.counts.get_mut(word) {
            Some(count) => *count += more,
            None => {
                self.counts.insert(word.to_owned(), more);
            }
        }
    }

    /// Takes a segment in and joins it to its neighbours on both sides.
    fn join(&mut self, mut segment: Segment) -> Result<(), CountsError> {
        let key = (segment.blob, segment.first);
        let before = self.segments.range(..=key).next_back().filter(|(at, _)| at.0 == segment.blob);
        let before = before.map(|(at, left)| (*at, left.end));
        let after =
            self.segments.range(key..).next().map(|(at, _)| *at).filter(|at| at.0 == segment.blob);
        let meets_before = before.is_some_and(|(_, end)| end > segment.first);
        if meets_before || after.is_some_and(|at| at.1 < segment.end) {
            return Err(CountsError::Overlap { blob: segment.blob, first: segment.first });
        }
        if let Some(left) = before
            .filter(|(_, end)| *end == segment.first)
            .and_then(|(at, _)| self.segments.remove(&at))
        {
            segment = self.put_together(left, segment);
        }
        if let Some(right) =
            after.filter(|at| at.1 == segment.end).and_then(|at| self.segments.remove(&at))
        {
            segment = self.put_together(segment, right);
        }
        if segment.first == 0 && segment.last {
            self.count(&segment.head, 1);
            self.count(&segment.tail, 1);
        } else {
            self.segments.insert((segment.blob, segment.first), segment);
        }
        Ok(())
    }

    /// Two segments that meet. The run across the cut is counted if both its ends are inside.
    fn put_together(&mut self, left: Segment, right: Segment) -> Segment {
        let (blob, first, end, last) = (left.blob, left.first, right.end, right.last);
        let (head, tail, whole) = match (left.whole, right.whole) {
            (true, true) => (left.head + &right.head, String::new(), true),
            (true, false) => (left.head + &right.head, right.tail, false),
            (false, true) => (left.head, left.tail + &right.head, false),
            (false, false) => {
                self.count(&(left.tail + &right.head), 1);
                (left.head, right.tail, false)
            }
        };
        Segment { blob, first, end, last, head, tail, whole }
    }

    /// All words with their counts, most frequent first, then by word, once every blob is complete.
    ///
    /// # Errors
    /// If a piece is missing.
    pub fn ranking(&self) -> Result<Vec<(&str, u64)>, CountsError> {
        if let Some(open) = self.segments.values().next() {
            return Err(CountsError::Incomplete { blob: open.blob, end: open.end });
        }
        let mut ranking: Vec<(&str, u64)> =
            self.counts.iter().map(|(word, count)| (word.as_str(), *count)).collect();
        ranking.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        Ok(ranking)
    }
}

/// A piece on its way through [`Tally::scan`].
struct Scan {
    /// The run of letters that goes on.
    run: String,
    /// The run at the beginning, once it is over.
    head: Option<String>,
}

#[cfg(test)]
mod tests;
