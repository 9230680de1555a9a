//! A tenant who attacks its agent with what a task may do; the first argument chooses how, the second how much, and the
//! third for how many milliseconds it stays when it is done.
//!
//! What an attack got through is said on standard output, in a line at its end; one that is stopped says nothing.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let mode = args.next().unwrap_or_default();
    let much: u64 = args.next().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX);
    let stays: u64 = args.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    let done = match mode.as_str() {
        "deep" => deep(much),
        "many-files" => many_files(much),
        "fill" => fill(File::create("fill"), much),
        "unlinked" => unlinked(much),
        "sparse" => sparse(much),
        "rewrite" => rewrite(much),
        "list" => list(much),
        "read" => read(much),
        "log" => log(much, 32 << 10, 0),
        "drip" => log(much, 4 << 10, 20),
        "spin" => spin(much),
        "tell" => tell(much),
        "sleep" => {
            sleep(Duration::from_millis(much));
            Ok(much)
        }
        _ => {
            eprintln!("hostile-task: `{mode}` is no attack");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(much) => {
            println!("{mode}: {much}");
            sleep(Duration::from_millis(stays));
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("{mode}: {error}");
            ExitCode::from(3)
        }
    }
}

/// A folder in a folder in a folder. Each new one is put around those before, so no path is long.
fn deep(levels: u64) -> std::io::Result<u64> {
    fs::create_dir("inner")?;
    for _ in 0..levels {
        fs::create_dir("outer")?;
        fs::rename("inner", "outer/d")?;
        fs::rename("outer", "inner")?;
    }
    Ok(levels)
}

fn many_files(count: u64) -> std::io::Result<u64> {
    for number in 0..count {
        drop(File::create(format!("f{number}"))?);
    }
    Ok(count)
}

fn fill(file: std::io::Result<File>, bytes: u64) -> std::io::Result<u64> {
    // Other files for other numbers, so that none is another one's copy.
    let part = vec![bytes.to_le_bytes()[0]; 1 << 20];
    let (mut file, mut done) = (file?, 0);
    while done < bytes {
        done += file.write(&part)? as u64;
    }
    Ok(done)
}

/// Bytes that no walk through the folder finds.
fn unlinked(bytes: u64) -> std::io::Result<u64> {
    let file = File::create("gone")?;
    fs::remove_file("gone")?;
    fill(Ok(file), bytes)
}

/// A file that says that it is large.
fn sparse(bytes: u64) -> std::io::Result<u64> {
    File::create("sparse")?.set_len(bytes)?;
    Ok(bytes)
}

/// The same megabyte again and again: no attack on the disk, and not to be taken for one.
fn rewrite(times: u64) -> std::io::Result<u64> {
    let (mut file, part) = (File::create("again")?, vec![7; 1 << 20]);
    for _ in 0..times {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&part)?;
    }
    Ok(times)
}

/// So many files, and then their names again and again.
fn list(count: u64) -> std::io::Result<u64> {
    many_files(count)?;
    loop {
        black_box(fs::read_dir(".")?.count());
    }
}

/// One file again and again.
fn read(bytes: u64) -> std::io::Result<u64> {
    fill(File::create("read"), bytes)?;
    let (mut file, mut part) = (File::open("read")?, vec![0; 1 << 20]);
    loop {
        file.seek(SeekFrom::Start(0))?;
        while file.read(&mut part)? > 0 {}
        black_box(&part);
    }
}

/// So many bytes on standard output, so many at once, with a pause of so many milliseconds after each.
fn log(bytes: u64, part: usize, pause: u64) -> std::io::Result<u64> {
    let (mut out, part, mut done) = (std::io::stdout().lock(), vec![b'x'; part], 0);
    while done < bytes {
        out.write_all(&part)?;
        done += part.len() as u64;
        sleep(Duration::from_millis(pause));
    }
    Ok(done)
}

/// So many messages to its scheduler, each as large as may be, one after the other.
#[cfg(target_env = "p2")]
fn tell(count: u64) -> std::io::Result<u64> {
    let message = vec![7; 16 << 10];
    for _ in 0..count {
        context::send(&message).map_err(std::io::Error::other)?;
    }
    Ok(count)
}

/// Only components have somebody to tell.
#[cfg(not(target_env = "p2"))]
fn tell(_count: u64) -> std::io::Result<u64> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(target_env = "p2")]
mod context {
    wit_bindgen::generate!({ path: "../../wasm-sdk/wit", world: "task" });

    pub(crate) use tepui::framework::task_context::send;
}

fn spin(rounds: u64) -> std::io::Result<u64> {
    let mut n = 0_u64;
    while black_box(n) < rounds {
        n += 1;
    }
    Ok(n)
}
