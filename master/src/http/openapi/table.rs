//! The table of routes. A route that is added to the router is added here.

/// How a route is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Put,
    Post,
    Patch,
    Delete,
    Any,
}

/// One route.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    /// Name and meaning.
    pub(super) query: &'static [(&'static str, &'static str)],
    /// What it takes: a shape, `bytes`, or nothing.
    pub(super) body: &'static str,
    /// What it answers: a shape, `bytes`, `text`, `lines`, or nothing.
    pub(super) answer: &'static str,
    /// Status and meaning.
    pub(super) good: &'static [(&'static str, &'static str)],
    /// Status and codes, beside [`ERRORS`].
    pub(super) bad: &'static [(&'static str, &'static str)],
}

/// What every route may answer.
pub(super) const ERRORS: &[(&str, &str)] = &[
    ("400", "invalid-path, invalid-query"),
    ("401", "unauthorized"),
    ("429", "too-many-requests"),
    ("503", "not-leader"),
];

const AFTER: (&str, &str) = ("after", "`next` of the page before");
const LIMIT: (&str, &str) = ("limit", "Entries of a page, 1 to 1000");
const PAGE: &[(&str, &str)] = &[AFTER, LIMIT];
const FOUND: &[(&str, &str)] = &[("200", "As it is now")];
const ACCEPTED: &[(&str, &str)] = &[("202", "It will be")];
const UNKNOWN_FRAMEWORK: &[(&str, &str)] = &[("404", "framework-unknown")];
const UNKNOWN_AGENT: &[(&str, &str)] = &[("404", "agent-unknown")];
const UNKNOWN_TASK: &[(&str, &str)] = &[("404", "framework-unknown, task-unknown")];
const WAIT: (&str, &str) = ("timeout_ms", "How long to wait; 30000 unless said, 300000 at most");

/// A `GET` without a body.
const fn get(
    path: &'static str,
    tag: &'static str,
    summary: &'static str,
    answer: &'static str,
) -> Route {
    Route {
        method: Method::Get,
        path,
        tag,
        summary,
        query: &[],
        body: "",
        answer,
        good: FOUND,
        bad: &[],
    }
}

/// Every route there is.
pub(super) const ROUTES: &[Route] = &[
    Route {
        query: &[("agents", "Waits until so many agents are connected"), WAIT],
        ..get("/v1/cluster", "cluster", "The cluster at a glance", "ClusterView")
    },
    Route { query: PAGE, ..get("/v1/blobs", "blobs", "Blobs by digest", "Page<BlobView>") },
    Route {
        method: Method::Put,
        body: "bytes",
        good: &[("200", "It is there already"), ("201", "It is on disk")],
        bad: &[
            ("400", "invalid-digest, digest-mismatch, upload-cut"),
            ("413", "blob-too-large"),
            ("500", "blob-store"),
        ],
        ..get("/v1/blobs/{digest}", "blobs", "Stores a blob under its SHA-256", "BlobView")
    },
    Route {
        bad: &[("404", "blob-unknown"), ("500", "blob-store")],
        ..get("/v1/blobs/{digest}", "blobs", "A blob's bytes", "bytes")
    },
    Route {
        method: Method::Post,
        query: &[("kind", "`scheduler` or `command`")],
        good: &[("200", "It can be used")],
        bad: &[
            ("404", "module-unknown"),
            ("422", "module-invalid, module-imports, module-too-large, module-uncompilable"),
            ("503", "no-agents"),
            ("504", "request-timeout"),
        ],
        ..get(
            "/v1/modules/{digest}/check",
            "modules",
            "Whether an uploaded module can be used",
            "Empty",
        )
    },
    Route {
        query: PAGE,
        ..get("/v1/frameworks", "frameworks", "Frameworks by name", "Page<FrameworkView>")
    },
    Route {
        method: Method::Put,
        body: "FrameworkSpec",
        good: &[("200", "It is upgraded"), ("201", "It is submitted")],
        bad: &[
            ("400", "invalid-spec, body-cut"),
            ("404", "module-unknown, blob-unknown"),
            ("409", "framework-ended, limit-reached"),
            ("413", "body-too-large"),
            ("422", "module-invalid, module-imports, module-too-large, module-uncompilable"),
            ("503", "no-agents, not-leader"),
            ("504", "request-timeout"),
        ],
        ..get(
            "/v1/frameworks/{name}",
            "frameworks",
            "Submits or upgrades a framework",
            "FrameworkView",
        )
    },
    Route {
        query: &[("wait", "`ended`: answers once it has ended"), WAIT],
        bad: UNKNOWN_FRAMEWORK,
        ..get("/v1/frameworks/{name}", "frameworks", "A framework", "FrameworkView")
    },
    Route {
        query: PAGE,
        bad: UNKNOWN_FRAMEWORK,
        ..get(
            "/v1/frameworks/{name}/events",
            "frameworks",
            "What happened to a framework",
            "Page<EventView>",
        )
    },
    Route {
        method: Method::Post,
        good: ACCEPTED,
        bad: UNKNOWN_FRAMEWORK,
        ..get("/v1/frameworks/{name}/stop", "frameworks", "Stops a framework and its tasks", "")
    },
    Route {
        query: PAGE,
        bad: UNKNOWN_FRAMEWORK,
        ..get("/v1/frameworks/{name}/blobs", "frameworks", "Named blobs and results", "Page<Blob>")
    },
    Route {
        method: Method::Any,
        body: "bytes",
        good: &[("default", "Whatever its scheduler answers")],
        bad: &[
            ("400", "invalid-header, body-cut"),
            ("404", "framework-unknown"),
            ("413", "body-too-large"),
            ("414", "path-too-long"),
            ("431", "headers-too-large"),
            ("502", "scheduler-failed, invalid-response"),
            ("503", "framework-held, not-leader"),
            ("504", "request-timeout"),
        ],
        ..get(
            "/v1/frameworks/{name}/http/{path}",
            "frameworks",
            "A framework's own address",
            "bytes",
        )
    },
    Route {
        query: &[("framework", "Of this one alone"), AFTER, LIMIT],
        bad: UNKNOWN_FRAMEWORK,
        ..get("/v1/tasks", "tasks", "Tasks, ended ones that are kept included", "Page<TaskView>")
    },
    Route {
        query: &[("wait", "`final`: answers once it has ended, launched or not yet"), WAIT],
        bad: UNKNOWN_TASK,
        ..get("/v1/tasks/{framework}/{task}", "tasks", "A task", "TaskView")
    },
    Route {
        method: Method::Post,
        good: ACCEPTED,
        bad: UNKNOWN_TASK,
        ..get("/v1/tasks/{framework}/{task}/kill", "tasks", "Stops a task", "")
    },
    Route {
        query: &[
            ("streams", "`stdout`, `stderr`, or both with a comma between; both unless said"),
            ("offset", "The first byte of each"),
            ("follow", "`true`: until the task has ended"),
        ],
        bad: UNKNOWN_TASK,
        ..get("/v1/tasks/{framework}/{task}/logs", "tasks", "A task's logs as they come", "lines")
    },
    Route { query: PAGE, ..get("/v1/agents", "agents", "Agents by name", "Page<AgentView>") },
    Route {
        query: &[("wait", "`drained`: answers once it is not draining any more"), WAIT],
        bad: UNKNOWN_AGENT,
        ..get("/v1/agents/{name}", "agents", "An agent", "AgentView")
    },
    Route {
        method: Method::Put,
        body: "AgentModeSpec",
        bad: &[
            ("400", "invalid-spec, body-cut"),
            ("404", "agent-unknown"),
            ("409", "agent-mode-invalid"),
            ("413", "body-too-large"),
        ],
        ..get(
            "/v1/agents/{name}/mode",
            "agents",
            "Offers an agent or not, drains it, gives it up",
            "AgentView",
        )
    },
    Route {
        method: Method::Put,
        body: "MaintenanceSpec",
        bad: &[
            ("400", "invalid-spec, body-cut"),
            ("404", "agent-unknown"),
            ("413", "body-too-large"),
        ],
        ..get(
            "/v1/agents/{name}/maintenance",
            "agents",
            "Says when an agent is to go down",
            "AgentView",
        )
    },
    Route {
        method: Method::Delete,
        bad: UNKNOWN_AGENT,
        ..get(
            "/v1/agents/{name}/maintenance",
            "agents",
            "Says that an agent is not to go down",
            "AgentView",
        )
    },
    Route {
        method: Method::Post,
        body: "AgentOperationSpec",
        bad: &[
            ("400", "invalid-spec, role-invalid, volume-invalid, body-cut"),
            ("404", "agent-unknown"),
            ("409", "resources-not-free, quota-over-used"),
            ("413", "body-too-large"),
        ],
        ..get(
            "/v1/agents/{name}/operations",
            "agents",
            "Reserves what is free, and makes volumes of it",
            "AgentView",
        )
    },
    Route { query: PAGE, ..get("/v1/roles", "roles", "Roles by name", "Page<RoleView>") },
    Route {
        method: Method::Patch,
        body: "RolesPatch",
        good: &[("200", "All of it is set")],
        bad: &[
            ("400", "invalid-spec, role-invalid, weight-invalid, quota-invalid, body-cut"),
            ("409", "quota-over-used, limit-reached"),
            ("413", "body-too-large"),
        ],
        ..get(
            "/v1/roles",
            "roles",
            "Changes roles' weights, guarantees, limits, packing: all or nothing",
            "Page<RoleView>",
        )
    },
    Route {
        bad: &[("400", "role-invalid"), ("404", "role-unknown")],
        ..get("/v1/roles/{role}", "roles", "A role; its path may have `/`", "RoleView")
    },
    Route {
        bad: UNKNOWN_FRAMEWORK,
        ..get(
            "/v1/explain/framework/{name}",
            "roles",
            "Why a framework is offered what it is",
            "FrameworkExplanation",
        )
    },
    Route {
        query: &[("role", "Its path")],
        bad: &[("400", "role-invalid, invalid-query"), ("404", "role-unknown")],
        ..get(
            "/v1/explain/role",
            "roles",
            "Why those in a role and below it are offered what they are",
            "RoleExplanation",
        )
    },
    get("/v1/openapi.json", "cluster", "This document", "Document"),
    get("/metrics", "cluster", "Figures for Prometheus", "text"),
];
