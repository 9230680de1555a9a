//! `/v1/frameworks/NAME/http/…`: a request to a framework becomes an event of its scheduler, and its answer a response.
//!
//! Never passes on who asks: the token stays here. What a scheduler answers is not trusted: it is checked before it
//! becomes HTTP, and it can set no header that is about the connection.

use super::App;
use super::auth::tenant;
use super::error::Failure;
use super::extract::{Segments, bytes};
use super::frameworks::unexpected;
use super::serving::{Sender, Sent};
use crate::places::Owner;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use serde::Deserialize;
use std::time::Duration;
use tepui_master_core::{Code, Input, Refusal, ReplyBody};
use tepui_proto::ids::RequestId;
use tepui_proto::{calls, events, limits};

/// The leader gives up first, and says why.
const ANSWER: Duration = Duration::from_millis(limits::REQUEST_TIMEOUT_MS + 2_000);
/// A path with its query.
const PATH_BYTES: usize = 8 << 10;
/// Headers that are about the connection, or about who asks; neither is passed on, in either direction.
const KEPT_BACK: &[&str] = &[
    "authorization",
    "connection",
    "content-length",
    "date",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The framework's name; what follows it is read from the address as it was sent.
#[derive(Debug, Deserialize)]
pub(super) struct Target {
    name: String,
}

pub(super) async fn call(
    State(app): State<App>,
    Segments(target): Segments<Target>,
    Sender(guest): Sender,
    request: Request,
) -> Result<Response, Failure> {
    let (parts, body) = request.into_parts();
    if parts.method != Method::GET && parts.method != Method::HEAD {
        app.room.check_work()?;
    }
    let sent = Sent { body, large: app.large.clone(), owner: guest.owner() };
    let request = events::Request {
        id: RequestId(0),
        method: parts.method.as_str().to_owned(),
        path: path(&parts.uri)?,
        headers: headers(&parts.headers)?,
        body: bytes(sent, limits::HTTP_BODY_BYTES).await?,
    };
    let place = app.calls.take(Owner::named(&target.name));
    let input = |ticket| Input::RequestReceived {
        ticket,
        tenant: tenant(),
        framework: target.name,
        request: Box::new(request),
    };
    let answer = tokio::select! {
        answer = app.driver.ask(ANSWER, input) => answer,
        () = place.lost() => return Err(Failure::too_many("requests to this framework")),
    };
    match answer? {
        ReplyBody::Response(answer) => response(answer),
        ReplyBody::Done | ReplyBody::Framework { .. } => Err(unexpected()),
    }
}

/// What follows `/v1/frameworks/NAME/http`, with the query; `/` if nothing does.
fn path(uri: &Uri) -> Result<String, Failure> {
    let mut path = format!("/{}", uri.path().splitn(6, '/').nth(5).unwrap_or_default());
    if let Some(query) = uri.query() {
        path.push('?');
        path.push_str(query);
    }
    if path.len() > PATH_BYTES {
        return Err(Failure::new(
            StatusCode::URI_TOO_LONG,
            "path-too-long",
            format!("a path may have {PATH_BYTES} bytes"),
        ));
    }
    Ok(path)
}

/// Names are in lower case already: that is how they are kept.
fn headers(sent: &HeaderMap) -> Result<Vec<(String, String)>, Failure> {
    let mut headers = Vec::new();
    let mut size = 0;
    for (name, value) in sent.iter().filter(|(name, _)| !KEPT_BACK.contains(&name.as_str())) {
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else {
            return Err(Failure::invalid(
                "invalid-header",
                format!("the header `{name}` is not UTF-8"),
            ));
        };
        size += name.as_str().len() + value.len();
        headers.push((name.as_str().to_owned(), value.to_owned()));
    }
    if size > limits::HTTP_HEADER_BYTES {
        let message = format!("headers may have {} bytes", limits::HTTP_HEADER_BYTES);
        return Err(Failure::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "headers-too-large",
            message,
        ));
    }
    Ok(headers)
}

fn response(answer: calls::Response) -> Result<Response, Failure> {
    let refused = |what: String| Failure::from(Refusal::new(Code::InvalidResponse, what));
    let status = StatusCode::from_u16(answer.status)
        .ok()
        .filter(|status| (200..600).contains(&status.as_u16()));
    let status = status.ok_or_else(|| {
        refused(format!("the scheduler answered with the status {}", answer.status))
    })?;
    let mut size = 0;
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = status;
    for (name, value) in answer.headers {
        size += name.len() + value.len();
        let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
        else {
            return Err(refused("the scheduler answered with a header that is none".to_owned()));
        };
        if !KEPT_BACK.contains(&name.as_str()) {
            response.headers_mut().append(name, value);
        }
    }
    if size > limits::HTTP_HEADER_BYTES {
        return Err(refused(format!(
            "the scheduler answered with more than {} bytes of headers",
            limits::HTTP_HEADER_BYTES
        )));
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, name: &str, value: &str) -> calls::Response {
        calls::Response {
            id: RequestId(1),
            status,
            headers: vec![(name.to_owned(), value.to_owned())],
            body: vec![1],
        }
    }

    #[test]
    fn a_framework_sees_its_own_part_of_the_path() {
        let paths = [
            ("", "/"),
            ("/", "/"),
            ("/runs", "/runs"),
            ("/a%2Fb/?x=1&y", "/a%2Fb/?x=1&y"),
            ("?q", "/?q"),
        ];
        for (sent, seen) in paths {
            let uri: Uri = format!("/v1/frameworks/run/http{sent}").parse().unwrap();
            assert_eq!(path(&uri).unwrap(), seen);
        }
        let long = format!("/v1/frameworks/run/http/{}", "a".repeat(PATH_BYTES));
        assert_eq!(path(&long.parse().unwrap()).unwrap_err().code(), "path-too-long");
    }

    #[test]
    fn the_token_is_not_passed_on() {
        let mut sent = HeaderMap::new();
        sent.insert("authorization", HeaderValue::from_static("Bearer secret"));
        sent.insert("x-kept", HeaderValue::from_static("1"));
        assert_eq!(headers(&sent).unwrap(), [("x-kept".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn an_answer_that_is_not_http_is_refused() {
        assert_eq!(response(answer(201, "x-a", "1")).unwrap().status(), StatusCode::CREATED);
        for bad in [
            answer(100, "x-a", "1"),
            answer(600, "x-a", "1"),
            answer(200, "x a", "1"),
            answer(200, "x-a", "1\r\n"),
        ] {
            assert_eq!(response(bad).unwrap_err().code(), "invalid-response");
        }
        let smuggled = response(answer(200, "Transfer-Encoding", "chunked")).unwrap();
        assert!(smuggled.headers().is_empty());
    }
}
