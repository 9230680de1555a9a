//! The text of a scenario, and errors at places of it.

use serde::de::DeserializeOwned;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::{Spanned, Value};

/// The largest file that is read: a trace of a million tasks fits.
const FILE_BYTES: u64 = 64 << 20;

/// What is wrong with a scenario or its trace: the file, the place in it, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenarioError {
    /// The file.
    pub path: PathBuf,
    /// Line and column of the text, from 1; none if it is the file as a whole.
    pub place: Option<(usize, usize)>,
    /// What is wrong, and what is allowed.
    pub what: String,
}

impl std::error::Error for ScenarioError {}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.path.display())?;
        if let Some((line, column)) = self.place {
            write!(f, ", line {line}, column {column}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// A file and its text.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) path: PathBuf,
    text: String,
}

impl Document {
    pub(super) fn read(path: &Path) -> Result<Self, ScenarioError> {
        let wrong = |what: String| ScenarioError { path: path.to_owned(), place: None, what };
        let failed = |error: std::io::Error| wrong(format!("it cannot be read: {error}"));
        let size = std::fs::metadata(path).map_err(failed)?.len();
        if size > FILE_BYTES {
            return Err(wrong(format!(
                "it has {size} bytes, and at most {FILE_BYTES} are allowed"
            )));
        }
        Ok(Self::of(path, std::fs::read_to_string(path).map_err(failed)?))
    }

    pub(super) fn of(path: &Path, text: String) -> Self {
        Self { path: path.to_owned(), text }
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    /// What the document holds; unknown keys are the reader's to deny.
    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, ScenarioError> {
        toml::from_str(&self.text).map_err(|error| self.wrong(error.span(), error.message()))
    }

    /// The text of a value as it stands in the file, without quotes.
    pub(super) fn text<'a>(&'a self, value: &'a Spanned<Value>) -> &'a str {
        match value.get_ref() {
            Value::String(text) => text,
            _ => self.text.get(value.span()).unwrap_or_default(),
        }
    }

    /// An error at a place of the file.
    pub(super) fn wrong(&self, at: Option<Range<usize>>, what: impl Into<String>) -> ScenarioError {
        let before = at.and_then(|at| self.text.get(..at.start));
        let place = before.map(|before| {
            let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
            (before.matches('\n').count() + 1, column)
        });
        ScenarioError { path: self.path.clone(), place, what: what.into() }
    }

    /// A value as something else, or an error at its place.
    pub(super) fn read_value<T>(
        &self,
        value: &Spanned<Value>,
        read: impl FnOnce(&str) -> Result<T, String>,
    ) -> Result<T, ScenarioError> {
        read(self.text(value)).map_err(|what| self.wrong(Some(value.span()), what))
    }

    /// A whole number between two bounds.
    pub(super) fn count(
        &self,
        name: &str,
        value: &Spanned<i64>,
        bounds: (u64, u64),
    ) -> Result<u64, ScenarioError> {
        let (least, most) = bounds;
        let number = u64::try_from(*value.get_ref()).ok();
        number.filter(|number| (least..=most).contains(number)).ok_or_else(|| {
            let given = value.get_ref();
            let what = format!(
                "`{name} = {given}` is not allowed; it is a whole number from {least} to {most}"
            );
            self.wrong(Some(value.span()), what)
        })
    }
}
