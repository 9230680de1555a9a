//! What goes wrong, as clients see it: a status and an [`ApiError`]. The one place where a code gets its status.

use crate::blobs::BlobError;
use crate::driver::Stopped;
use crate::inspect::InspectError;
use crate::inspector::ModuleError;
use crate::room::DiskFull;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tepui_master_core::{Code, Refusal};
use tepui_proto::api::ApiError;

/// A refusal on its way to a client.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    error: ApiError,
}

impl Failure {
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            error: ApiError { code: code.to_owned(), message: message.into(), hint: None },
        }
    }

    /// With what could be done about it.
    pub(crate) fn hint(mut self, hint: &str) -> Self {
        self.error.hint = Some(hint.to_owned());
        self
    }

    /// With the place in the request that it is about.
    pub(crate) fn within(mut self, field: &str) -> Self {
        self.error.message = format!("`{field}`: {}", self.error.message);
        self
    }

    /// Something in the request cannot be understood.
    pub(crate) fn invalid(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// A body with more bytes than `max`.
    pub(crate) fn body_too_large(max: usize) -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "body-too-large",
            format!("a body may have {max} bytes here"),
        )
    }

    /// More of something than is served at once.
    pub(crate) fn too_many(what: &str) -> Self {
        let message = format!("as many {what} as may be are being served");
        Self::new(StatusCode::TOO_MANY_REQUESTS, Code::TooManyRequests.as_str(), message)
            .hint("try again later")
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "the cluster's token is needed, and none or another came")
            .hint("send `Authorization: Bearer TOKEN`; the token is in the file `token` of the cluster's folder")
    }

    pub(crate) fn unknown_blob(digest: impl std::fmt::Display) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "blob-unknown",
            format!("there is no blob sha256:{digest}"),
        )
    }

    pub(crate) fn unknown_framework(name: &str) -> Self {
        Refusal::new(Code::FrameworkUnknown, format!("there is no framework `{name}`")).into()
    }

    pub(crate) fn unknown_task(framework: &str, task: &str) -> Self {
        Refusal::new(Code::TaskUnknown, format!("there is no task `{framework}/{task}`")).into()
    }

    pub(crate) fn unknown_agent(name: &str) -> Self {
        Refusal::new(Code::AgentUnknown, format!("there is no agent `{name}`")).into()
    }

    pub(crate) fn unknown_role(role: &str) -> Self {
        let message = format!("nobody is in the role `{role}`, and nothing is set for it");
        Self::new(StatusCode::NOT_FOUND, "role-unknown", message)
            .hint("`tepui role ls` shows those that are")
    }

    /// This side failed; the log says how.
    pub(crate) fn internal(error: &(dyn std::error::Error + 'static), code: &str) -> Self {
        tracing::error!(cause = ?error, code, "a request failed: {error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, error.to_string())
    }

    /// The stable code.
    #[cfg(test)]
    pub(crate) fn code(&self) -> &str {
        &self.error.code
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.error)).into_response()
    }
}

/// The status of a code. No wildcard: a new code must be given one.
fn status(code: Code) -> StatusCode {
    match code {
        Code::FrameworkUnknown | Code::TaskUnknown | Code::ModuleUnknown | Code::AgentUnknown => {
            StatusCode::NOT_FOUND
        }
        Code::FrameworkHeld | Code::NoAgents | Code::NotLeader => StatusCode::SERVICE_UNAVAILABLE,
        Code::FrameworkEnded
        | Code::LimitReached
        | Code::QuotaOverUsed
        | Code::AgentModeInvalid
        | Code::ResourcesNotFree => StatusCode::CONFLICT,
        Code::SchedulerFailed | Code::InvalidResponse => StatusCode::BAD_GATEWAY,
        Code::InvalidSpec
        | Code::RoleInvalid
        | Code::WeightInvalid
        | Code::QuotaInvalid
        | Code::VolumeInvalid => StatusCode::BAD_REQUEST,
        Code::ModuleInvalid | Code::ModuleImports | Code::ModuleUncompilable => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        Code::RequestTimeout => StatusCode::GATEWAY_TIMEOUT,
        Code::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
    }
}

/// What an operator could do about a code.
fn hint(code: Code) -> Option<&'static str> {
    match code {
        Code::RoleInvalid => Some(
            "a role is `*`, or names of letters, digits, `-`, `_` and `.` with `/` between them",
        ),
        Code::WeightInvalid => Some("a weight is from 0.001 to 1000000"),
        Code::QuotaInvalid => Some(
            "`tepui role ls` shows what stands; children's guarantees and limits have to fit into \
             their parents', and `--force` promises more than the cluster has",
        ),
        Code::QuotaOverUsed => Some(
            "`--force` sets it all the same: offers are taken back, tasks run on; or stop some first: `tepui task ls`",
        ),
        Code::AgentUnknown => Some("`tepui agent ls` shows those that are"),
        Code::AgentModeInvalid => {
            Some("`tepui agent show NAME` says its mode; a drain's grace is at most an hour")
        }
        Code::ResourcesNotFree | Code::VolumeInvalid => Some(
            "`tepui agent show NAME` says what is free, and `free_pools` what of it is not for everyone",
        ),
        _ => None,
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let failure = Self::new(status(refusal.code), refusal.code.as_str(), refusal.message);
        hint(refusal.code).into_iter().fold(failure, Self::hint)
    }
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Self {
        Refusal::from(stopped).into()
    }
}

impl From<BlobError> for Failure {
    fn from(error: BlobError) -> Self {
        match &error {
            BlobError::Unknown(digest) => Self::unknown_blob(digest),
            BlobError::DigestMismatch { .. } => Self::invalid(error.code(), error.to_string())
                .hint("the name of a blob is the SHA-256 of its bytes; perhaps the file changed meanwhile"),
            BlobError::TooLarge { .. } => {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, error.code(), error.to_string()).hint("split it")
            }
            BlobError::Source(_) => Self::invalid(error.code(), error.to_string()),
            BlobError::TooSlow => {
                Self::new(StatusCode::REQUEST_TIMEOUT, error.code(), error.to_string())
            }
            BlobError::TooMany => Self::too_many("blobs"),
            BlobError::DiskFull(full) => (*full).into(),
            BlobError::Store(_) | BlobError::Read(_) => Self::internal(&error, error.code()),
        }
    }
}

impl From<DiskFull> for Failure {
    fn from(full: DiskFull) -> Self {
        Self::new(StatusCode::INSUFFICIENT_STORAGE, full.code(), full.to_string()).hint(
            "what is there goes on and can be read; blobs that nothing refers to are swept after an hour",
        )
    }
}

impl From<InspectError> for Failure {
    fn from(error: InspectError) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.code(), error.to_string())
            .hint(error.hint())
    }
}

impl From<ModuleError> for Failure {
    fn from(error: ModuleError) -> Self {
        match error {
            ModuleError::Unknown(_) => {
                Self::from(Refusal::new(Code::ModuleUnknown, error.to_string()))
                    .hint("upload it first: PUT /v1/blobs/SHA256")
            }
            ModuleError::Unfit { ref source, .. } => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, source.code(), error.to_string())
                    .hint(source.hint())
            }
            ModuleError::Blob(error) => error.into(),
            ModuleError::Look(_) => Self::internal(&error, "internal"),
            ModuleError::Stopped(stopped) => stopped.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_is_an_error_to_clients() {
        let mut codes = BTreeSet::new();
        for code in Code::ALL {
            let failure = Failure::from(Refusal::new(*code, "why"));
            assert!(
                failure.status().is_client_error() || failure.status().is_server_error(),
                "{code:?}"
            );
            assert!(codes.insert(failure.code().to_owned()), "{code:?}");
        }
    }

    #[test]
    fn what_an_operator_gets_wrong_comes_with_a_hint() {
        let refused = [
            (Code::RoleInvalid, 400),
            (Code::WeightInvalid, 400),
            (Code::QuotaInvalid, 400),
            (Code::QuotaOverUsed, 409),
            (Code::AgentUnknown, 404),
            (Code::AgentModeInvalid, 409),
            (Code::ResourcesNotFree, 409),
            (Code::VolumeInvalid, 400),
        ];
        for (code, status) in refused {
            let failure = Failure::from(Refusal::new(code, "why"));
            assert_eq!(failure.status().as_u16(), status, "{code:?}");
            assert!(failure.error.hint.is_some(), "{code:?}");
        }
    }

    #[test]
    fn what_the_client_did_is_not_blamed_on_the_server() {
        let mismatch = BlobError::TooLarge { max: 1 };
        assert_eq!(Failure::from(mismatch).status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(Failure::from(InspectError::NoStart).status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(Failure::from(Stopped).status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
