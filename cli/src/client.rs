//! Speaks `/v1` with a master: requests, refusals, pages.
//!
//! Never retries by itself; whoever asks knows whether that is safe. Its one surprise: only the cluster's own authority
//! is trusted, and no proxy of the environment is used, since a cluster's address is nobody's business but its own.

use crate::context::Context;
use crate::error::{CliError, Exit};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tepui_proto::api::{ApiError, Page};

/// How long a connection may take to stand.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to one cluster, shared by all requests of a verb.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    token: String,
}

impl Client {
    /// Makes a client; nothing is sent yet.
    ///
    /// # Errors
    /// When the context's certificate or address is no good.
    pub(crate) fn new(context: &Context) -> Result<Self, CliError> {
        let base = Url::parse(&context.url).map_err(|error| {
            CliError::usage(format!("`{}` is not the address of a cluster", context.url))
                .because(&error)
        })?;
        if base.scheme() != "https" {
            return Err(CliError::usage(format!(
                "`{base}` is not the address of a cluster: it has to begin with `https://`"
            )));
        }
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(&context.ca)?)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| CliError::failed("cannot set up HTTPS").because(&error))?;
        Ok(Self { http, base, token: context.token.clone() })
    }

    /// A request to `/v1/PATH…`; each part is one segment, encoded as needed.
    pub(crate) fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        self.http.request(method, url).bearer_auth(&self.token)
    }

    /// Sends a request and turns every refusal into an error.
    ///
    /// # Errors
    /// Exit code 3 when the master cannot be reached, otherwise what it said.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, CliError> {
        let response = request.send().await.map_err(|error| self.unreached(&error))?;
        if response.status().is_success() { Ok(response) } else { Err(refusal(response).await) }
    }

    /// Sends a request and reads JSON.
    ///
    /// # Errors
    /// As for [`Self::send`], and when the answer is not what it should be.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, CliError> {
        let response = self.send(request).await?;
        let bytes = response.bytes().await.map_err(|error| self.unreached(&error))?;
        serde_json::from_slice(&bytes).map_err(|error| {
            CliError::failed("the master's answer is not understood")
                .because(&error)
                .hint("see whether this `tepui` and the cluster are of the same version: `tepui --version`")
        })
    }

    /// `GET /v1/PATH…`.
    ///
    /// # Errors
    /// As for [`Self::json`].
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, CliError> {
        self.json(self.request(Method::GET, path)).await
    }

    /// `POST /v1/PATH…` without a body; the answer is not looked at.
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub(crate) async fn post(&self, path: &[&str]) -> Result<(), CliError> {
        self.send(self.request(Method::POST, path)).await.map(drop)
    }

    /// All pages of a listing.
    ///
    /// # Errors
    /// As for [`Self::json`].
    pub(crate) async fn list<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Vec<T>, CliError> {
        let mut items = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let mut words: Vec<(&str, &str)> = query.to_vec();
            if let Some(after) = &after {
                // It takes the place of the one that the listing began with.
                words.retain(|(name, _)| *name != "after");
                words.push(("after", after));
            }
            let request = self.request(Method::GET, path).query(&words);
            let page: Page<T> = self.json(request).await?;
            let empty = page.items.is_empty();
            items.extend(page.items);
            match page.next {
                Some(next) if !empty => after = Some(next),
                _ => return Ok(items),
            }
        }
    }

    /// `PUT /v1/PATH…` with JSON.
    ///
    /// # Errors
    /// As for [`Self::json`].
    pub(crate) async fn put<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &B,
    ) -> Result<T, CliError> {
        self.json(self.request(Method::PUT, path).json(body)).await
    }

    /// An error of the way to the master.
    pub(crate) fn unreached(&self, error: &reqwest::Error) -> CliError {
        let at = self.base.host_str().unwrap_or("?");
        let port = self.base.port_or_known_default().unwrap_or(0);
        let what = if error.is_timeout() { "does not answer in time" } else { "cannot be reached" };
        let told =
            CliError::unreachable(format!("the cluster at {at}:{port} {what}")).because(error);
        let is_stranger =
            told.causes.iter().any(|cause| cause.contains("invalid peer certificate"));
        told.hint(if is_stranger {
            "what answers there is not of the authority that `ca` in the context file names"
        } else {
            "see whether it runs: `tepui dev` starts one; `--context FILE` names another"
        })
    }
}

/// TLS that trusts one authority.
fn tls(ca: &Path) -> Result<ClientConfig, CliError> {
    let wrong = |source: &dyn std::error::Error| {
        CliError::usage(format!(
            "`{}` is not the certificate of a cluster's authority",
            ca.display()
        ))
        .because(source)
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).map_err(|error| wrong(&error))? {
        let certificate = certificate.map_err(|error| wrong(&error))?;
        roots.add(certificate).map_err(|error| wrong(&error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    // With HTTP/2 a verb's parallel requests share one handshake.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// What the master said, as an error.
async fn refusal(response: Response) -> CliError {
    let status = response.status();
    let body = response.bytes().await.unwrap_or_default();
    let Ok(said) = serde_json::from_slice::<ApiError>(&body) else {
        let text = String::from_utf8_lossy(&body)
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect::<String>();
        return blank_refusal(status, &text);
    };
    let mut error =
        CliError::failed(said.message).cause(format_args!("refused by the master: {}", said.code));
    error.hint = said.hint;
    if error.hint.is_none() && status == StatusCode::UNAUTHORIZED {
        error.hint =
            Some("the token stands in the context file; `--context FILE` names another".to_owned());
    }
    if said.code == "not-leader" {
        // It is stopping, and in a moment it is gone: whoever asks again after a lost connection asks again now.
        error.exit = Exit::Unreachable;
    }
    error.code = Some(said.code);
    error
}

fn blank_refusal(status: StatusCode, text: &str) -> CliError {
    let mut error = CliError::failed(format!("the master answered {status}"));
    if !text.is_empty() {
        error = error.cause(text);
    }
    // A HEAD has no body, so its status has to say what a code would.
    error.code = match status {
        StatusCode::NOT_FOUND => Some("not-found".to_owned()),
        _ => None,
    };
    error
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_context_without_a_certificate_is_refused_before_anything_is_sent() {
        let (name, url) = ("x".to_owned(), "https://127.0.0.1:1".to_owned());
        let ca = PathBuf::from("/nowhere/ca.pem");
        let context =
            Context { name, url, ca, token: String::new(), dir: None, pid: None, started: None };
        let error = Client::new(&context).unwrap_err();
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.message.contains("/nowhere/ca.pem"), "{}", error.message);
    }
}
