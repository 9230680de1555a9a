//! The tasks of `wordcount`, one program for both kinds.
//!
//! `map OUT PIECE…` counts pieces of blobs (`BLOB:FIRST:LENGTH:LAST:PATH`), `reduce OUT IN…` puts counts together, and
//! `final OUT IN…` does too and writes the result. Exit code 2 for a wrong command line, 1 for anything else.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::process::ExitCode;
use wordcount_task::{Piece, Tally};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [verb, out, inputs @ ..] = args.as_slice() else {
        eprintln!("usage: wordcount-task map OUT PIECE… | reduce OUT IN… | final OUT IN…");
        return ExitCode::from(2);
    };
    let done = match verb.as_str() {
        "map" => map(out, inputs),
        "reduce" => reduce(out, inputs, false),
        "final" => reduce(out, inputs, true),
        _ => {
            eprintln!("wordcount-task: `{verb}` is none of map, reduce, final");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wordcount-task: {error}");
            ExitCode::FAILURE
        }
    }
}

fn map(out: &str, pieces: &[String]) -> Result<(), String> {
    let mut tally = Tally::default();
    for text in pieces {
        let piece = Piece::parse(text).ok_or_else(|| format!("`{text}` is no piece"))?;
        let file = File::open(&piece.path)
            .map_err(|error| format!("cannot open `{}`: {error}", piece.path))?;
        tally
            .scan(&piece, file)
            .map_err(|error| format!("cannot count `{}`: {error}", piece.path))?;
    }
    let file = File::create(out).map_err(|error| format!("cannot create `{out}`: {error}"))?;
    tally.write(BufWriter::new(file)).map_err(|error| format!("cannot write `{out}`: {error}"))
}

fn reduce(out: &str, inputs: &[String], is_final: bool) -> Result<(), String> {
    let mut tally = Tally::default();
    for path in inputs {
        let file = File::open(path).map_err(|error| format!("cannot open `{path}`: {error}"))?;
        tally
            .read(BufReader::new(file))
            .map_err(|error| format!("cannot take in `{path}`: {error}"))?;
    }
    let file = File::create(out).map_err(|error| format!("cannot create `{out}`: {error}"))?;
    let file = BufWriter::new(file);
    if is_final {
        tally.write_result(file).map_err(|error| format!("cannot write the result: {error}"))
    } else {
        tally.write(file).map_err(|error| format!("cannot write `{out}`: {error}"))
    }
}
