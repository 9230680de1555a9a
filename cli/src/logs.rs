//! Logs of tasks, as they come: lines of JSON with base64 inside, told apart into standard output and error.
//!
//! Never keeps more than one line of a log. Its one surprise: it counts what it has given out, so a stream that breaks
//! is taken up where it stopped and no byte is told twice.

use crate::client::Client;
use crate::error::CliError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BytesMut};
use futures_util::StreamExt as _;
use reqwest::Method;
use tepui_proto::api::LogLine;
use tepui_proto::control::LogStream;
use tepui_proto::limits;

/// A chunk in base64 and its envelope.
const LINE_BYTES: usize = limits::BLOB_CHUNK_BYTES * 2;

/// How far the two logs of a task have been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Bytes of standard output.
    pub(crate) stdout: u64,
    /// Bytes of standard error.
    pub(crate) stderr: u64,
}

/// How a reading of logs ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogEnd {
    /// Everything was told; so many bytes were not kept.
    Complete {
        /// Of standard output.
        stdout_dropped: u64,
        /// Of standard error.
        stderr_dropped: u64,
    },
    /// There are no logs (yet), or the stream broke.
    Cut,
}

/// Which logs to read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The framework's name.
    pub(crate) framework: &'a str,
    /// The task's.
    pub(crate) task: &'a str,
    /// Whether to go on until the task has ended.
    pub(crate) follow: bool,
}

/// Reads both logs from where they were told to, in one stream if neither was begun, else one after the other.
///
/// # Errors
/// Refusals other than "not there", and what the sink fails with.
pub(crate) async fn read(
    client: &Client,
    wanted: Wanted<'_>,
    told: &mut Told,
    sink: &mut impl FnMut(LogStream, &[u8]) -> Result<(), CliError>,
) -> Result<LogEnd, CliError> {
    if *told == Told::default() {
        return read_streams(client, wanted, "stdout,stderr", told, sink).await;
    }
    let first = read_streams(client, wanted, "stdout", told, sink).await?;
    let second = read_streams(client, wanted, "stderr", told, sink).await?;
    Ok(match (first, second) {
        (LogEnd::Complete { stdout_dropped, .. }, LogEnd::Complete { stderr_dropped, .. }) => {
            LogEnd::Complete { stdout_dropped, stderr_dropped }
        }
        _ => LogEnd::Cut,
    })
}

async fn read_streams(
    client: &Client,
    wanted: Wanted<'_>,
    streams: &str,
    told: &mut Told,
    sink: &mut impl FnMut(LogStream, &[u8]) -> Result<(), CliError>,
) -> Result<LogEnd, CliError> {
    let offset = if streams == "stderr" { told.stderr } else { told.stdout }.to_string();
    let follow = wanted.follow.to_string();
    let query = [("streams", streams), ("offset", &offset), ("follow", &follow)];
    let request = client
        .request(Method::GET, &["tasks", wanted.framework, wanted.task, "logs"])
        .query(&query);
    let response = match client.send(request).await {
        Ok(response) => response,
        Err(error) if error.has_code("task-unknown") => return Ok(LogEnd::Cut),
        Err(error) => return Err(error),
    };
    let mut body = response.bytes_stream();
    let mut waiting = BytesMut::new();
    while let Some(piece) = body.next().await {
        let Ok(piece) = piece else { return Ok(LogEnd::Cut) };
        waiting.extend_from_slice(&piece);
        while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
            let line = waiting.split_to(end);
            waiting.advance(1);
            if let Some(end) = tell(&line, told, sink)? {
                return Ok(end);
            }
        }
        if waiting.len() > LINE_BYTES {
            return Err(CliError::failed(
                "the master's answer is not understood: a line of a log is too long",
            ));
        }
    }
    Ok(LogEnd::Cut)
}

fn tell(
    line: &[u8],
    told: &mut Told,
    sink: &mut impl FnMut(LogStream, &[u8]) -> Result<(), CliError>,
) -> Result<Option<LogEnd>, CliError> {
    if line.is_empty() {
        return Ok(None);
    }
    let garbled = |error: &dyn std::error::Error| {
        CliError::failed("the master's answer is not understood").because(error)
    };
    let line: LogLine = serde_json::from_slice(line).map_err(|error| garbled(&error))?;
    let (stream, text) = match line {
        LogLine::Stdout(text) => (LogStream::Stdout, text),
        LogLine::Stderr(text) => (LogStream::Stderr, text),
        LogLine::End { stdout_dropped, stderr_dropped } => {
            return Ok(Some(LogEnd::Complete { stdout_dropped, stderr_dropped }));
        }
        LogLine::Missing(_) => return Ok(Some(LogEnd::Cut)),
    };
    let bytes = STANDARD.decode(text).map_err(|error| garbled(&error))?;
    sink(stream, &bytes)?;
    match stream {
        LogStream::Stdout => told.stdout += bytes.len() as u64,
        LogStream::Stderr => told.stderr += bytes.len() as u64,
    }
    Ok(None)
}

/// Gives bytes out whole lines at a time, each with a prefix.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prefixed {
    prefix: String,
    rest: Vec<u8>,
}

impl Prefixed {
    /// An empty prefix passes bytes through as they come.
    pub(crate) fn new(prefix: String) -> Self {
        Self { prefix, rest: Vec::new() }
    }

    /// What can be printed now. A line that is longer than a chunk is cut.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.prefix.is_empty() {
            return bytes.to_vec();
        }
        self.rest.extend_from_slice(bytes);
        let whole = match self.rest.iter().rposition(|byte| *byte == b'\n') {
            Some(end) => end + 1,
            None if self.rest.len() > limits::BLOB_CHUNK_BYTES => self.rest.len(),
            None => 0,
        };
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        self.with_prefix(&lines)
    }

    /// What is left of a last line without its end.
    pub(crate) fn finish(&mut self) -> Vec<u8> {
        let rest = std::mem::take(&mut self.rest);
        self.with_prefix(&rest)
    }

    fn with_prefix(&self, lines: &[u8]) -> Vec<u8> {
        let mut text = Vec::with_capacity(lines.len() + self.prefix.len());
        for line in lines.split_inclusive(|byte| *byte == b'\n') {
            text.extend_from_slice(self.prefix.as_bytes());
            text.extend_from_slice(line.strip_suffix(b"\n").unwrap_or(line));
            text.push(b'\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_stand_before_whole_lines() {
        let mut log = Prefixed::new("[1] ".to_owned());
        assert_eq!(log.push(b"a"), b"");
        assert_eq!(log.push(b"b\nc\nd"), b"[1] ab\n[1] c\n");
        assert_eq!(log.finish(), b"[1] d\n");
        assert_eq!(log.finish(), b"");
        assert_eq!(Prefixed::default().push(b"x"), b"x");
    }

    #[test]
    fn what_was_told_is_counted_and_the_end_is_seen() {
        let (mut told, mut heard) = (Told::default(), Vec::new());
        let mut sink = |stream, bytes: &[u8]| {
            heard.push((stream, bytes.to_vec()));
            Ok(())
        };
        assert_eq!(tell(br#"{"stdout":"aGk="}"#, &mut told, &mut sink).unwrap(), None);
        let end = tell(br#"{"end":{"stdout_dropped":1,"stderr_dropped":0}}"#, &mut told, &mut sink)
            .unwrap();
        assert_eq!(end, Some(LogEnd::Complete { stdout_dropped: 1, stderr_dropped: 0 }));
        assert!(tell(b"nonsense", &mut told, &mut sink).is_err());
        assert_eq!((told.stdout, told.stderr), (2, 0));
        assert_eq!(heard, [(LogStream::Stdout, b"hi".to_vec())]);
    }
}
