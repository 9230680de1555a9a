//! What goes wrong, as a person reads it: one error type for every verb, its printed form, and the exit code.
//!
//! Never decides what to do about an error. Its one surprise: `code` keeps the master's stable code, so that a verb
//! can tell `framework-unknown` from the rest without reading words.

use crate::out;
use std::fmt::Display;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// How a verb that did not do its work ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 1: it failed.
    Failed,
    /// 2: it was used wrongly.
    Usage,
    /// 3: the cluster cannot be reached.
    Unreachable,
}

/// What is told to the person who typed the command.
#[derive(Clone, Debug)]
pub(crate) struct CliError {
    /// What could not be done, and why, without its causes.
    pub(crate) message: String,
    /// From the nearest to the deepest.
    pub(crate) causes: Vec<String>,
    /// What could be done.
    pub(crate) hint: Option<String>,
    /// How the process ends.
    pub(crate) exit: Exit,
    /// The master's stable code, if it is the master that refused.
    pub(crate) code: Option<String>,
}

impl CliError {
    /// It failed: exit code 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            exit: Exit::Failed,
            code: None,
        }
    }

    /// It was used wrongly: exit code 2.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, ..Self::failed(message) }
    }

    /// The cluster cannot be reached: exit code 3.
    pub(crate) fn unreachable(message: impl Into<String>) -> Self {
        Self { exit: Exit::Unreachable, ..Self::failed(message) }
    }

    /// A file or folder that could not be read or written.
    pub(crate) fn file(verb: &str, path: &Path, source: &dyn std::error::Error) -> Self {
        Self::failed(format!("cannot {verb} `{}`", path.display())).because(source)
    }

    /// Adds what could be done.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds a cause in words.
    #[must_use]
    pub(crate) fn cause(mut self, cause: impl Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Adds an error and all its sources as causes.
    #[must_use]
    pub(crate) fn because(mut self, source: &dyn std::error::Error) -> Self {
        let mut next = Some(source);
        while let Some(error) = next {
            let text = error.to_string();
            // Some libraries repeat their source in their own message.
            if self.causes.last().is_none_or(|last| !last.contains(&text)) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Says what was being done: `doing: message`.
    #[must_use]
    pub(crate) fn doing(mut self, doing: impl Display) -> Self {
        self.message = format!("{doing}: {}", self.message);
        self
    }

    /// Whether the master refused with this code.
    pub(crate) fn has_code(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// The form of `docs/OPERATING.md`, ending with a line feed.
    pub(crate) fn render(&self, colour: bool) -> String {
        let (red, blue, plain) =
            if colour { ("\x1b[1;31m", "\x1b[1;36m", "\x1b[0m") } else { ("", "", "") };
        let mut text = format!("{red}error{plain}: {}\n", self.message);
        for cause in &self.causes {
            text.push_str("  caused by: ");
            text.push_str(cause);
            text.push('\n');
        }
        if let Some(hint) = &self.hint {
            // A string takes what is written.
            let _written = writeln!(text, "{blue}hint{plain}: {hint}");
        }
        text
    }

    /// Prints it to standard error and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        // There is nobody left to tell if standard error is closed.
        let _written =
            std::io::stderr().write_all(self.render(out::stderr_is_terminal()).as_bytes());
        match self.exit {
            Exit::Failed => ExitCode::from(1),
            Exit::Usage => ExitCode::from(2),
            Exit::Unreachable => ExitCode::from(3),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_look_as_the_style_says() {
        let error = CliError::failed("it asks for 512 MiB of memory, and the limit is 256 MiB")
            .doing("cannot run `batch.wasm`")
            .cause("refused by agent `agent-17`")
            .hint("raise the limit with `--memory`");
        assert_eq!(
            error.render(false),
            "error: cannot run `batch.wasm`: it asks for 512 MiB of memory, and the limit is 256 MiB\n  \
             caused by: refused by agent `agent-17`\nhint: raise the limit with `--memory`\n"
        );
    }

    #[test]
    fn a_cause_that_repeats_its_source_is_told_once() {
        let source = std::io::Error::other("no such thing");
        let error = CliError::file("read", Path::new("x.wasm"), &source);
        assert_eq!(error.causes, ["no such thing"]);
    }
}
