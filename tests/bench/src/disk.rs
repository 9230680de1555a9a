//! `sync`: one append of an entry's size and one `fdatasync`, in a file beside the cluster's own.

use crate::row::Row;
use crate::{Bench, Failure};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Instant;

/// An entry of the log with one launch has about so many.
const BYTES: usize = 300;
const WARM_UP: usize = 200;
const SAMPLES: usize = 2_000;

pub(crate) fn measure(bench: &Bench) -> Result<Row, Failure> {
    let path = bench.dir().join("sync");
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = [0x5a; BYTES];
    let mut spans = Vec::with_capacity(SAMPLES);
    for at in 0..WARM_UP + SAMPLES {
        let begun = Instant::now();
        file.write_all(&bytes)?;
        file.sync_data()?;
        if at >= WARM_UP {
            spans.push(begun.elapsed());
        }
    }
    Ok(Row::of("sync", spans))
}
