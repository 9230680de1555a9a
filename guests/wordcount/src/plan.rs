//! What is to be done: a pure function of the inputs and the settings, so every instance finds the same plan.
//!
//! Blobs are cut into pieces of at most `split_bytes`; neighbouring pieces are packed into one map up to that size.
//! Maps are merged in groups, in as many levels as it takes, and the last merge writes the result.

use tepui_sdk::Blob;

/// Pieces of one map: its record must stay well under 64 KiB.
const PIECES: usize = 128;
/// Inputs of one merge.
pub const FAN_IN: usize = 64;

/// A part of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// The blob's place in [`Plan::blobs`].
    pub blob: usize,
    /// Its first byte.
    pub first: u64,
    /// How many bytes; at least one.
    pub length: u64,
    /// Whether the blob ends with it.
    pub last: bool,
}

/// One task, whatever attempts it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Counts pieces.
    Map(Vec<Piece>),
    /// Puts together what these steps have written.
    Merge(Vec<usize>),
}

/// All steps; the last one is the last merge.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// The inputs.
    pub blobs: Vec<Blob>,
    /// Maps first.
    pub steps: Vec<Step>,
    /// How many of them are maps.
    pub maps: usize,
}

impl Plan {
    /// Over these blobs, in the order of their names.
    pub fn new(mut blobs: Vec<Blob>, split_bytes: u64) -> Self {
        blobs.sort_by(|a, b| a.name.cmp(&b.name));
        let mut steps = pack(cut(&blobs, split_bytes.max(1)), split_bytes);
        let maps = steps.len();
        let mut level: Vec<usize> = (0..maps).collect();
        while level.len() > FAN_IN {
            let begin = steps.len();
            steps.extend(level.chunks(FAN_IN).map(|group| Step::Merge(group.to_vec())));
            level = (begin..steps.len()).collect();
        }
        steps.push(Step::Merge(level));
        Self { blobs, steps, maps }
    }

    /// Differs for plans that differ, as good as surely (FNV-1a: it must be the same in every build).
    pub fn fingerprint(&self, split_bytes: u64) -> u64 {
        let blobs = self
            .blobs
            .iter()
            .map(|blob| format!("{} {} {}\n", blob.name, blob.digest, blob.size_bytes));
        let text = blobs.fold(format!("{split_bytes}\n"), |text, line| text + &line);
        let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
    }

    /// The merge that waits for each step; none waits for the last.
    pub fn parents(&self) -> Vec<Option<usize>> {
        let mut parents = vec![None; self.steps.len()];
        for (at, step) in self.steps.iter().enumerate() {
            let Step::Merge(inputs) = step else { continue };
            for input in inputs {
                parents[*input] = Some(at);
            }
        }
        parents
    }

    /// The name of an attempt at a step: of its task, and of the blob that it writes.
    pub fn names(&self, step: usize, attempt: u32) -> (String, String) {
        if step < self.maps {
            return (format!("map-{step}-{attempt}"), format!("map/{step}.{attempt}"));
        }
        let n = step - self.maps;
        let blob = match attempt {
            _ if step + 1 < self.steps.len() => format!("reduce/{n}.{attempt}"),
            0 => "result".to_owned(),
            _ => format!("result.{attempt}"),
        };
        (format!("reduce-{n}-{attempt}"), blob)
    }

    /// The step and attempt that a task's identifier names.
    pub fn step_of(&self, task: &str) -> Option<(usize, u32)> {
        let (rest, attempt) = task.rsplit_once('-')?;
        let (kind, n) = rest.split_once('-')?;
        let n: usize = n.parse().ok()?;
        let step = match kind {
            "map" if n < self.maps => n,
            "reduce" => self.maps.checked_add(n)?,
            _ => return None,
        };
        (step < self.steps.len()).then_some((step, attempt.parse().ok()?))
    }
}

fn cut(blobs: &[Blob], split_bytes: u64) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for (blob, bytes) in blobs.iter().map(|blob| blob.size_bytes).enumerate() {
        let mut first = 0;
        while first < bytes {
            let length = split_bytes.min(bytes - first);
            pieces.push(Piece { blob, first, length, last: first + length == bytes });
            first += length;
        }
    }
    pieces
}

fn pack(pieces: Vec<Piece>, split_bytes: u64) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut pack, mut bytes) = (Vec::new(), 0);
    for piece in pieces {
        if !pack.is_empty() && (pack.len() == PIECES || bytes + piece.length > split_bytes) {
            steps.push(Step::Map(std::mem::take(&mut pack)));
            bytes = 0;
        }
        bytes += piece.length;
        pack.push(piece);
    }
    if !pack.is_empty() {
        steps.push(Step::Map(pack));
    }
    steps
}
