//! The bodies of requests and answers, and what is wrong with the former.
//!
//! It never touches state; every refusal has a stable code.

use serde::{Deserialize, Serialize};
use tepui_sdk::{Input, Limits, Output, Resources, Task};

/// Instances of one run: what one answer may launch.
pub const INSTANCES: u32 = 1_000;
/// Bytes of one request that is kept: a value of durable state holds 64 KiB, and so does a task's record.
pub const SPEC_BYTES: usize = 32 << 10;
/// Bytes of a key.
pub const KEY_BYTES: usize = 128;
const MEMORY_BYTES_MIN: u64 = 1 << 20;

/// `POST /runs`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// Chosen by the caller: the same key starts nothing twice.
    pub key: String,
    /// `sha256:HEX`.
    pub module: String,
    /// Arguments after the program's name.
    #[serde(default)]
    pub args: Vec<String>,
    /// Environment.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Of each instance, in thousandths of a core.
    pub cpu_milli: u64,
    /// Of each instance.
    pub memory_bytes: u64,
    /// Of each instance.
    #[serde(default)]
    pub disk_bytes: u64,
    /// All that an instance may burn.
    #[serde(default)]
    pub fuel: Option<u64>,
    /// How long an instance may run, in milliseconds.
    #[serde(default)]
    pub wall_ms: Option<u64>,
    /// Put into every sandbox.
    #[serde(default)]
    pub inputs: Vec<RunInput>,
    /// Kept from every sandbox; with several instances the blob's name gets `-` and the instance's number.
    #[serde(default)]
    pub outputs: Vec<RunOutput>,
    /// How many.
    #[serde(default = "one")]
    pub instances: u32,
}

fn one() -> u32 {
    1
}

/// A file that is there before the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunInput {
    /// `sha256:HEX`.
    pub source: String,
    /// Inside the sandbox.
    pub path: String,
}

/// A file that is kept after the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunOutput {
    /// Inside the sandbox.
    pub path: String,
    /// The framework's name for it.
    pub blob: String,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// HTTP's.
    #[serde(skip)]
    pub status: u16,
    /// Stable.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

/// Refuses.
pub fn refused(status: u16, code: &'static str, message: impl Into<String>) -> Refused {
    Refused { status, code, message: message.into() }
}

impl RunSpec {
    /// Reads and checks a request's body.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn read(body: &[u8]) -> Result<Self, Refused> {
        let invalid = |message: String| refused(400, "invalid-run", message);
        let spec: Self =
            serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))?;
        if spec.key.is_empty()
            || spec.key.len() > KEY_BYTES
            || !spec.key.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(invalid(format!(
                "`key` must be 1 to {KEY_BYTES} printable ASCII characters"
            )));
        }
        let sources = spec.inputs.iter().map(|input| ("the `source` of an input", &input.source));
        for (what, text) in [("`module`", &spec.module)].into_iter().chain(sources) {
            let hex = text.strip_prefix("sha256:").unwrap_or_default();
            if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                let text: String = text.chars().take(80).collect();
                return Err(invalid(format!(
                    "{what} is `{text}`, and must be `sha256:` with 64 digits"
                )));
            }
        }
        if spec.instances == 0 || spec.instances > INSTANCES {
            return Err(invalid(format!(
                "`instances` is {}, and must be 1 to {INSTANCES}",
                spec.instances
            )));
        }
        if spec.cpu_milli == 0 {
            return Err(invalid("`cpu_milli` is 0, and must be at least 1".to_owned()));
        }
        if spec.memory_bytes < MEMORY_BYTES_MIN {
            return Err(invalid(format!(
                "`memory_bytes` is {}, and must be at least 1 MiB",
                spec.memory_bytes
            )));
        }
        if body.len() > SPEC_BYTES {
            return Err(invalid(format!(
                "the run takes {} bytes, and at most {SPEC_BYTES} are kept",
                body.len()
            )));
        }
        Ok(spec)
    }

    /// What each instance needs.
    pub fn each(&self) -> Resources {
        let (cpu_milli, memory_bytes, disk_bytes) =
            (self.cpu_milli, self.memory_bytes, self.disk_bytes);
        Resources { cpu_milli, memory_bytes, disk_bytes, ..Resources::none() }
    }

    /// One instance's task.
    pub fn task(&self, run: u64, instance: usize, launch: u32) -> Task {
        let id = task_id(run, instance, launch);
        let mut task = Task::command(id, self.module.as_str()).resources(self.each());
        task.args.clone_from(&self.args);
        task.env.clone_from(&self.env);
        task.limits = Limits { fuel: self.fuel, wall_time: self.wall_ms, log_bytes: None };
        let inputs = self.inputs.iter();
        let whole = |input: &RunInput| Input {
            source: input.source.clone(),
            range: None,
            path: input.path.clone(),
        };
        task.inputs = inputs.map(whole).collect();
        let outputs = self.outputs.iter();
        task.outputs = outputs
            .map(|output| Output { path: output.path.clone(), blob: self.blob(output, instance) })
            .collect();
        if self.instances > 1 {
            task = task.env("TEPUI_INSTANCE", instance.to_string());
        }
        task
    }

    fn blob(&self, output: &RunOutput, instance: usize) -> String {
        if self.instances == 1 {
            output.blob.clone()
        } else {
            format!("{}-{instance}", output.blob)
        }
    }
}

/// The identifier of an instance's task; from the second launch on, which launch it is stands behind it.
pub fn task_id(run: u64, instance: usize, launch: u32) -> String {
    match launch {
        0 | 1 => format!("r{run}-{instance}"),
        launch => format!("r{run}-{instance}-{launch}"),
    }
}

/// The run, the instance, and its launch that a task's identifier names.
pub fn instance_of(task: &str) -> Option<(u64, usize, u32)> {
    let (run, rest) = task.strip_prefix('r')?.split_once('-')?;
    let (instance, launch) = rest.split_once('-').unwrap_or((rest, "1"));
    Some((run.parse().ok()?, instance.parse().ok()?, launch.parse().ok()?))
}

/// Identifiers of all tasks of a run.
pub fn task_ids(run: u64, instances: usize) -> Vec<String> {
    (0..instances).map(|instance| task_id(run, instance, 1)).collect()
}
