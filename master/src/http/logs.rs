//! `/v1/tasks/FRAMEWORK/TASK/logs`: the agent's pieces as lines of JSON, one a piece, as they come.

use super::App;
use super::auth::tenant;
use super::error::Failure;
use super::extract::{Params, Segments};
use super::serving::Sender;
use crate::driver::View;
use crate::places::Place;
use crate::sessions::{LogReader, open_log};
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use serde::Deserialize;
use std::convert::Infallible;
use tepui_proto::LaunchNumber;
use tepui_proto::api::LogLine;
use tepui_proto::control::{LogChunk, LogRequest, LogStream};
use tepui_transport::Connection;

/// `?streams=stdout,stderr&offset=0&follow=true`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Separated by commas; both if there is none.
    #[serde(default)]
    streams: String,
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    follow: bool,
}

/// What was found out about a task's logs.
enum Source {
    NoTask,
    /// Its agent is not here, or it never got to one.
    Nowhere,
    At(Connection, LaunchNumber),
}

pub(super) async fn read(
    State(app): State<App>,
    Sender(guest): Sender,
    Segments((framework, task)): Segments<(String, String)>,
    Params(wanted): Params<Wanted>,
) -> Result<Response, Failure> {
    let streams = streams(&wanted.streams)?;
    let place = guest.take(&app.log_readers);
    let (in_framework, of_task) = (framework.clone(), task.clone());
    let look = move |view: &View<'_>| {
        if view.leader.task_view(&tenant(), &in_framework, &of_task).is_none() {
            return Source::NoTask;
        }
        let source = view.leader.log_source(&tenant(), &in_framework, &of_task);
        let found = source.and_then(|(id, launch)| Some((view.links.connection(id)?, launch)));
        found.map_or(Source::Nowhere, |(connection, launch)| Source::At(connection, launch))
    };
    let (connection, launch) = match app.driver.query(look).await? {
        Source::NoTask => return Err(Failure::unknown_task(&framework, &task)),
        Source::Nowhere => return Ok(missing("it never ran, or its agent is not connected")),
        Source::At(connection, launch) => (connection, launch),
    };
    let request = LogRequest { launch, streams, offset: wanted.offset, follow: wanted.follow };
    match open_log(&connection, request).await {
        Ok(reader) => Ok(lines(reader, place)),
        Err(error) => Ok(missing(&error.to_string())),
    }
}

fn streams(text: &str) -> Result<Vec<LogStream>, Failure> {
    text.split(',')
        .filter(|name| !name.is_empty())
        .map(|name| match name {
            "stdout" => Ok(LogStream::Stdout),
            "stderr" => Ok(LogStream::Stderr),
            _ => Err(Failure::invalid(
                "invalid-query",
                "`streams` takes `stdout` and `stderr`, separated by a comma",
            )),
        })
        .collect()
}

/// Logs that cannot be had are an answer, not an error: they may have been read in part before.
fn missing(why: &str) -> Response {
    response(Body::from(line(&LogLine::Missing(why.to_owned()))))
}

/// One line for each piece; the client's pace is the agent's, through the flow control of both.
fn lines(reader: LogReader, place: Place) -> Response {
    let lines = stream::unfold(Some((reader, place)), |state| async move {
        let (mut reader, place) = state?;
        let missing = |why: String| (line(&LogLine::Missing(why)), true);
        let (text, is_last) = match reader.next().await {
            Ok(Some(chunk)) => convert(chunk),
            Ok(None) => missing("the agent ended them early".to_owned()),
            Err(error) => missing(error.to_string()),
        };
        Some((Ok::<_, Infallible>(text), (!is_last).then_some((reader, place))))
    });
    response(Body::from_stream(lines))
}

/// A piece as a line, and whether it is the last.
fn convert(chunk: LogChunk) -> (String, bool) {
    match chunk {
        LogChunk::Bytes { stream: LogStream::Stdout, bytes, .. } => {
            (line(&LogLine::Stdout(STANDARD.encode(bytes))), false)
        }
        LogChunk::Bytes { stream: LogStream::Stderr, bytes, .. } => {
            (line(&LogLine::Stderr(STANDARD.encode(bytes))), false)
        }
        LogChunk::End { dropped: (stdout_dropped, stderr_dropped) } => {
            (line(&LogLine::End { stdout_dropped, stderr_dropped }), true)
        }
        LogChunk::Missing(why) => (line(&LogLine::Missing(why)), true),
    }
}

fn line(line: &LogLine) -> String {
    // Strings and numbers always serialise.
    let mut text = serde_json::to_string(line).unwrap_or_default();
    text.push('\n');
    text
}

fn response(body: Body) -> Response {
    ([(CONTENT_TYPE, "application/x-ndjson"), (CACHE_CONTROL, "no-store")], body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_named_or_refused() {
        assert!(streams("").unwrap().is_empty());
        assert_eq!(streams("stderr,stdout").unwrap(), [LogStream::Stderr, LogStream::Stdout]);
        assert_eq!(streams("stdin").unwrap_err().code(), "invalid-query");
    }

    #[test]
    fn a_piece_is_a_line_of_json() {
        let chunk =
            LogChunk::Bytes { stream: LogStream::Stdout, offset: 0, bytes: b"hi\n".to_vec() };
        assert_eq!(convert(chunk), ("{\"stdout\":\"aGkK\"}\n".to_owned(), false));
        let (text, is_last) = convert(LogChunk::End { dropped: (1, 0) });
        assert!(is_last && text.ends_with('\n'));
        assert_eq!(
            serde_json::from_str::<LogLine>(&text).unwrap(),
            LogLine::End { stdout_dropped: 1, stderr_dropped: 0 }
        );
    }
}
