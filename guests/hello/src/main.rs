//! Says what it was given: its arguments, the `TEPUI_` variables of its environment, and its standard input; then ends
//! with the code that `--exit N` names. The same source serves preview 1 and preview 2.

use std::io::{Read, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut code = 0;
    if let Some(at) = args.iter().position(|arg| arg == "--exit") {
        code = args.get(at + 1).and_then(|code| code.parse().ok()).unwrap_or(2);
    }
    match say(&args) {
        Ok(()) => ExitCode::from(code),
        Err(error) => {
            eprintln!("hello: {error}");
            ExitCode::from(74)
        }
    }
}

fn say(args: &[String]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "hello{}", args.iter().map(|arg| format!(" {arg}")).collect::<String>())?;
    let mut variables: Vec<(String, String)> =
        std::env::vars().filter(|(name, _)| name.starts_with("TEPUI_")).collect();
    variables.sort();
    for (name, value) in variables {
        writeln!(out, "{name}={value}")?;
    }
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input)?;
    out.write_all(&input)?;
    out.flush()
}
