//! The HTTP interface of a cluster, for what the command line has no verb for.

use crate::PATIENCE;
use reqwest::{Client, Method};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// Between two tries to reach a master that is being started: a port on which nobody listens yet is no event that
/// could be waited for.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// An answer.
#[derive(Debug)]
pub struct Reply {
    /// HTTP's.
    pub status: u16,
    /// JSON; null if it is something else.
    pub body: Value,
}

fn client(tls: rustls::ClientConfig) -> Client {
    let http = Client::builder().tls_backend_preconfigured(tls).no_proxy().timeout(PATIENCE);
    http.build().unwrap()
}

/// Asks a cluster.
#[derive(Debug)]
pub struct Api {
    runtime: Runtime,
    tls: rustls::ClientConfig,
    http: Client,
    url: String,
    token: String,
}

impl Api {
    /// For the cluster of a context file.
    pub fn new(context: &Path) -> Self {
        let text = std::fs::read_to_string(context).unwrap();
        let context: toml::Table = toml::from_str(&text).unwrap();
        let word = |name: &str| context.get(name).unwrap().as_str().unwrap().to_owned();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(word("ca")).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        Self {
            runtime: runtime.worker_threads(1).enable_all().build().unwrap(),
            http: client(tls.clone()),
            tls,
            url: word("url"),
            token: word("token"),
        }
    }

    /// The runtime in which it asks, for tests that speak other protocols.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// `https://HOST:PORT`.
    pub fn url(&self) -> &str {
        self.url.trim_end_matches('/')
    }

    /// The host and port.
    pub fn address(&self) -> std::net::SocketAddr {
        self.url().trim_start_matches("https://").parse().unwrap()
    }

    /// How to speak TLS with this cluster.
    pub fn tls(&self) -> rustls::ClientConfig {
        self.tls.clone()
    }

    /// The token.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Somebody else with the token, and with an HTTP/2 connection of their own.
    pub fn another(&self) -> Client {
        let mut tls = self.tls.clone();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        client(tls)
    }

    /// `METHOD /v1PATH` with JSON as the body.
    ///
    /// # Errors
    /// When the master cannot be reached.
    pub fn ask(
        &self,
        method: &Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Reply, reqwest::Error> {
        let url = format!("{}/v1{path}", self.url.trim_end_matches('/'));
        let mut request = self.http.request(method.clone(), url).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.runtime.block_on(async {
            let answer = request.send().await?;
            let status = answer.status().as_u16();
            let bytes = answer.bytes().await?;
            Ok(Reply { status, body: serde_json::from_slice(&bytes).unwrap_or_default() })
        })
    }

    /// `GET`, which has to be answered with success.
    pub fn get(&self, path: &str) -> Value {
        let reply = self.ask(&Method::GET, path, None).unwrap();
        assert!((200..300).contains(&reply.status), "GET {path}: {reply:?}");
        reply.body
    }

    /// `POST`, whatever is answered.
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.ask(&Method::POST, path, Some(body)).unwrap()
    }

    /// Starts a run through the `run` framework and waits for the end of its first task.
    pub fn run(&self, request: &Value) -> Value {
        let started = self.post("/frameworks/run/http/runs", request);
        assert_eq!(started.status, 201, "{started:?}");
        let task = started.body.pointer("/tasks/0").and_then(Value::as_str).unwrap().to_owned();
        self.wait_final("run", &task)
    }

    /// Waits for the end of a task, through the end of the master if need be.
    pub fn wait_final(&self, framework: &str, task: &str) -> Value {
        let path = format!("/tasks/{framework}/{task}?wait=final&timeout_ms=10000");
        self.wait(&path, |view| {
            let state = view.get("state").and_then(Value::as_str).unwrap_or_default();
            ["finished", "failed", "killed", "error", "dropped", "lost", "gone"].contains(&state)
        })
    }

    /// Waits for the end of a framework, through the end of the master if need be.
    pub fn wait_ended(&self, framework: &str) -> Value {
        let path = format!("/frameworks/{framework}?wait=ended&timeout_ms=10000");
        self.wait(&path, |view| view.get("phase").and_then(Value::as_str) == Some("ended"))
    }

    /// Waits until so many agents are connected, through the end of the master if need be.
    pub fn wait_agents(&self, count: u64) {
        let path = format!("/cluster?agents={count}&timeout_ms=10000");
        self.wait(&path, |view| view.get("agents").and_then(Value::as_u64) >= Some(count));
    }

    /// Asks by long polls until the answer is as it should be.
    pub fn wait(&self, path: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let reply = self.ask(&Method::GET, path, None);
            if let Ok(reply) = &reply
                && reply.status == 200
                && is_it(&reply.body)
            {
                return reply.body.clone();
            }
            assert!(begun.elapsed() < PATIENCE, "GET {path}: waited in vain: {reply:?}");
            if reply.is_err() {
                self.runtime.block_on(async { tokio::time::sleep(TRY_AGAIN).await });
            }
        }
    }
}
