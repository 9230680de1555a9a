//! Every way for a task to be a bad neighbour; the first argument chooses.
//!
//! `loop`, `memory`, `recurse`, `trap`, `log-flood`, `fds` never end well. `exit N`, `sleep MS`, `spin N` are the
//! well-behaved ones that tests measure them against: they end by themselves.

use std::hint::black_box;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let mode = args.next().unwrap_or_default();
    let number: u64 = args.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    match mode.as_str() {
        "loop" => spin(u64::MAX),
        "memory" => hog(),
        "recurse" => {
            black_box(recurse(black_box(1)));
        }
        "trap" => std::process::abort(),
        "log-flood" => flood(),
        "fds" => return hoard(),
        "exit" => return ExitCode::from(u8::try_from(number).unwrap_or(u8::MAX)),
        "sleep" => std::thread::sleep(Duration::from_millis(number)),
        "spin" => spin(number),
        _ => {
            eprintln!(
                "bad-task: `{mode}` is none of loop, memory, recurse, trap, log-flood, fds, exit, sleep, spin"
            );
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

/// About four units of fuel a round.
fn spin(rounds: u64) {
    let mut n = 0_u64;
    while black_box(n) < rounds {
        n += 1;
    }
}

fn hog() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(vec![1; 1 << 20]));
        black_box(&hoard);
    }
}

#[expect(unconditional_recursion, reason = "that is the point")]
fn recurse(depth: u64) -> u64 {
    recurse(black_box(depth + 1)) + black_box(depth)
}

/// Goes on when writing fails: a flood does not end because nobody wants it.
fn flood() {
    let line = [b'x'; 1_023];
    let mut out = std::io::stdout().lock();
    loop {
        let _ = out.write_all(&line);
        let _ = out.write_all(b"\n");
    }
}

/// Opens files until it may not, and says how many there were.
fn hoard() -> ExitCode {
    let mut files = Vec::new();
    loop {
        match std::fs::File::create(format!("file-{}", files.len())) {
            Ok(file) => files.push(file),
            Err(error) => {
                println!("{} files, then: {error}", files.len());
                return ExitCode::from(3);
            }
        }
    }
}
