//! Refusals with a stable code. Each code has a paragraph in `docs/OPERATING.md`.

/// What was refused and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Stable.
    pub code: Code,
    /// For people.
    pub message: String,
}

impl Refusal {
    /// A refusal with this code.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// Stable codes of refusals.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Code { $($(#[$doc])* $name,)* }
        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
            /// The code as text.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }
        }
    };
}

codes! {
    /// There is no such framework.
    FrameworkUnknown = "framework-unknown",
    /// Its scheduler is held after a run of failures.
    FrameworkHeld = "framework-held",
    /// It is stopping or has ended.
    FrameworkEnded = "framework-ended",
    /// Its scheduler failed while it had the request.
    SchedulerFailed = "scheduler-failed",
    /// A field of the specification is not valid.
    InvalidSpec = "invalid-spec",
    /// There is no such task.
    TaskUnknown = "task-unknown",
    /// The cluster has no such module or blob.
    ModuleUnknown = "module-unknown",
    /// It is not a module of the kind that it should be.
    ModuleInvalid = "module-invalid",
    /// It imports what it may not.
    ModuleImports = "module-imports",
    /// It took too long or too much memory to compile.
    ModuleUncompilable = "module-uncompilable",
    /// No agent is there to compile it.
    NoAgents = "no-agents",
    /// No answer came in time.
    RequestTimeout = "request-timeout",
    /// Too many wait already.
    TooManyRequests = "too-many-requests",
    /// A bound of the cluster is reached; the message names it.
    LimitReached = "limit-reached",
    /// The scheduler answered with something that is not HTTP.
    InvalidResponse = "invalid-response",
    /// A role's name is not one.
    RoleInvalid = "role-invalid",
    /// A weight of zero, or one that is too large.
    WeightInvalid = "weight-invalid",
    /// Guarantees and limits that do not fit each other, the roles above, or the cluster.
    QuotaInvalid = "quota-invalid",
    /// A limit below what the role uses already.
    QuotaOverUsed = "quota-over-used",
    /// There is no such agent.
    AgentUnknown = "agent-unknown",
    /// The agent's mode does not allow it: drained ones may be made active, draining ones not.
    AgentModeInvalid = "agent-mode-invalid",
    /// The resources are not there, not free, or not reserved.
    ResourcesNotFree = "resources-not-free",
    /// A volume's name that is taken or unknown, or a form that volumes do not have.
    VolumeInvalid = "volume-invalid",
    /// Another master leads now.
    NotLeader = "not-leader",
}
