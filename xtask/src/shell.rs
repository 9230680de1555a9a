//! Running other programs, and ending them.
//!
//! Its one surprise is the nanny: cargo and the tests that it starts run in a process group of their own beneath a second
//! `xtask`, which ends the whole group when the first one is gone, however it went.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

/// The word that makes an `xtask` a nanny.
pub(crate) const NANNY: &str = "--nanny";
/// What `cargo run` tells this program and would tell the programs that it runs; build scripts that watch it would run
/// again each time.
const CARGOS: &[&str] = &[
    "CARGO",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "LD_LIBRARY_PATH",
];

/// What went wrong, for people.
#[derive(Clone, Debug)]
pub(crate) struct Failure(pub(crate) String);

impl Failure {
    /// A file that could not be used.
    pub(crate) fn file(verb: &str, path: &Path, error: &io::Error) -> Self {
        Self(format!("cannot {verb} `{}`: {error}", path.display()))
    }
}

/// Words to standard error.
pub(crate) fn say(text: &str) {
    // A closed standard error stops nothing.
    let _written = writeln!(io::stderr(), "{text}");
}

/// Data to standard output.
pub(crate) fn print(text: &str) {
    // Its reader may have gone.
    let _written = writeln!(io::stdout(), "{text}");
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// A program to run from the root.
#[derive(Debug)]
pub(crate) struct Program {
    name: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
}

/// Cargo with these words.
pub(crate) fn cargo(args: &[&str]) -> Program {
    // The one that runs this program, so that versions do not mix.
    let name = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut program = Program { name, args: Vec::new(), env: Vec::new() };
    program.args(args);
    program
}

/// A program that was built.
pub(crate) fn program(path: &Path) -> Program {
    Program { name: path.into(), args: Vec::new(), env: Vec::new() }
}

impl Program {
    /// Adds words.
    pub(crate) fn args(&mut self, args: &[&str]) -> &mut Self {
        self.args.extend(args.iter().map(OsString::from));
        self
    }

    /// Sets a variable.
    pub(crate) fn env(&mut self, name: &str, value: &Path) -> &mut Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// When it cannot be started or fails.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let (mut child, guard) = self.start(Stdio::inherit())?;
        let status = child.wait().map_err(|error| self.failed(&error.to_string()))?;
        drop(guard);
        if status.success() { Ok(()) } else { Err(self.failed(&status.to_string())) }
    }

    /// Runs it to its end, shows its standard output, and hands over each line of it; whether it succeeded.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn run_heard(&self, mut hear: impl FnMut(&str)) -> Result<bool, Failure> {
        let (mut child, guard) = self.start(Stdio::piped())?;
        let lines = child.stdout.take().map(|stdout| BufReader::new(stdout).split(b'\n'));
        for line in lines.into_iter().flatten().map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            print(&line);
            hear(&line);
        }
        let status = child.wait().map_err(|error| self.failed(&error.to_string()))?;
        drop(guard);
        Ok(status.success())
    }

    /// Starts it beneath a nanny; it is ended when the guard is dropped, or this process ends.
    fn start(&self, stdout: Stdio) -> Result<(Child, impl Sized), Failure> {
        say(&format!("$ {self}"));
        // This very program, also when a build has put another one in its place meanwhile.
        let mut command = bare(Path::new("/proc/self/exe"));
        command
            .arg(NANNY)
            .arg(&self.name)
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(root()).stdin(Stdio::piped()).stdout(stdout).process_group(0);
        let mut child = command.spawn().map_err(|error| self.failed(&error.to_string()))?;
        // Kept apart, since waiting closes it.
        let guard = child.stdin.take();
        Ok((child, guard))
    }

    fn failed(&self, why: &str) -> Failure {
        Failure(format!("`{self}`: {why}"))
    }
}

impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = Path::new(&self.name).file_name().unwrap_or_else(|| OsStr::new("?"));
        write!(f, "{}", name.display())?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", arg.display()))
    }
}

/// A command without what cargo told this one.
pub(crate) fn bare(program: &Path) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if CARGOS.iter().any(|told| name == *told)
            || name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_"))
        {
            command.env_remove(name);
        }
    }
    command
}

/// Runs a program in this process's group and ends the group when standard input ends.
pub(crate) fn nanny(program: &str, args: &[&str]) -> ExitCode {
    std::thread::spawn(|| {
        // An error is an end as well.
        let _copied = io::copy(&mut io::stdin().lock(), &mut io::sink());
        let script = format!("kill -s TERM -- -{}", std::process::id());
        // It ends this process too.
        let _killed = Command::new("sh").args(["-c", &script]).status();
    });
    match Command::new(program).args(args).stdin(Stdio::null()).status() {
        Ok(status) => {
            ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
        }
        Err(error) => {
            say(&format!("error: cannot start `{program}`: {error}"));
            ExitCode::from(127)
        }
    }
}
