//! TOML files that people write, with the file, the line and the column of whatever is wrong in them.
//!
//! Never fills in defaults.

use crate::error::CliError;
use serde::de::DeserializeOwned;
use std::ops::Range;
use std::path::{Path, PathBuf};
use tepui_proto::resources::Bytes;
use toml::{Spanned, Value};

/// The largest file that is read; a manifest with [`tepui_proto::limits::BUNDLE_ENTRIES`] entries fits well.
const FILE_BYTES: u64 = 4 << 20;

/// A file and its text.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    /// Exit code 2 when it cannot be read, is too large or is not UTF-8.
    pub(crate) fn read(path: &Path) -> Result<Self, CliError> {
        let wrong = |error: std::io::Error| {
            CliError::usage(format!("cannot read `{}`", path.display())).because(&error)
        };
        let size = std::fs::metadata(path).map_err(wrong)?.len();
        if size > FILE_BYTES {
            return Err(CliError::usage(format!(
                "`{}` has {}, and at most {} are allowed",
                path.display(),
                Bytes(size),
                Bytes(FILE_BYTES)
            )));
        }
        let text = std::fs::read_to_string(path).map_err(wrong)?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// The text of a value, without quotes.
    pub(crate) fn text(&self, value: &Spanned<Value>) -> &str {
        if let Value::String(text) = value.get_ref() {
            // A string has no exactness to lose, and may have escapes.
            let raw = self.text.get(value.span()).unwrap_or_default();
            return raw
                .get(1..raw.len().saturating_sub(1))
                .filter(|inner| *inner == text.as_str())
                .unwrap_or(raw);
        }
        self.text.get(value.span()).unwrap_or_default()
    }

    /// An error at a place of the file.
    pub(crate) fn wrong(&self, at: Option<Range<usize>>, what: &str) -> CliError {
        let path = self.path.display();
        let Some(before) = at.and_then(|at| self.text.get(..at.start)) else {
            return CliError::usage(format!("`{path}`: {what}"));
        };
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        CliError::usage(format!("`{path}`, line {line}, column {column}: {what}"))
    }
}

/// Reads what the document holds; unknown keys are the reader's to deny.
///
/// # Errors
/// Exit code 2, with the place and what is allowed there.
pub(crate) fn parse<T: DeserializeOwned>(document: &Document) -> Result<T, CliError> {
    toml::from_str(&document.text).map_err(|error| document.wrong(error.span(), error.message()))
}
