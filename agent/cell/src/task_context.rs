//! `tepui:framework/task-context`: what a task may know and do beyond WASI.

use crate::bindings::task::tepui::framework::{task_context, types};
use crate::link::Outgoing;
use crate::p2::State;
use std::time::Duration;
use tepui_proto::cell::{CellEvent, RunCommand};
use tepui_proto::limits;
use wasmtime::Result;

/// Who a task is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    task: String,
    framework: String,
    agent: String,
    cpu_milli: u64,
    memory_bytes: u64,
    disk_bytes: u64,
}

impl Identity {
    pub(crate) fn of(run: &RunCommand) -> Self {
        let task = run.task.split_once('/').map_or(run.task.as_str(), |(_framework, task)| task);
        Self {
            task: task.to_owned(),
            framework: run.framework.to_string(),
            agent: run.agent.clone(),
            cpu_milli: run.cpu_milli,
            memory_bytes: run.memory_bytes,
            disk_bytes: run.disk_bytes,
        }
    }
}

impl types::Host for State {}

impl task_context::Host for State {
    async fn whoami(&mut self) -> Result<task_context::Identity> {
        let identity = self.identity.clone();
        Ok(task_context::Identity {
            task: identity.task,
            framework: identity.framework,
            agent: identity.agent,
            resources: types::Resources {
                cpu_milli: identity.cpu_milli,
                memory_bytes: identity.memory_bytes,
                disk_bytes: identity.disk_bytes,
                ports: Vec::new(),
                custom: Vec::new(),
            },
        })
    }

    async fn send(&mut self, data: Vec<u8>) -> Result<Result<(), String>> {
        if data.len() > limits::MESSAGE_BYTES {
            return Ok(Err(format!("a message has at most {} bytes", limits::MESSAGE_BYTES)));
        }
        self.sent += 1;
        let number = self.sent;
        self.link.tell_started();
        let message = CellEvent::Message { launch: self.link.launch, number, data };
        if self.link.outbox.send(Outgoing::Event(message)).await.is_err() {
            return Ok(Err("the agent is gone".to_owned()));
        }
        loop {
            let changed = self.link.changed.notified();
            if self.link.stored() >= number {
                return Ok(Ok(()));
            }
            changed.await;
        }
    }

    async fn receive(&mut self, wait: Option<u64>) -> Result<Option<Vec<u8>>> {
        let link = &self.link;
        let next = async {
            loop {
                let changed = link.changed.notified();
                if let Some(data) = link.next_message() {
                    return data;
                }
                changed.await;
            }
        };
        match wait {
            None => Ok(Some(next.await)),
            Some(ms) => Ok(tokio::time::timeout(Duration::from_millis(ms), next).await.ok()),
        }
    }
}
