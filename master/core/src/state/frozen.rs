//! The state as it was at one index, to be written by another thread while the state goes on.
//!
//! What is large is shared: a framework is copied when it is changed before the frozen state is gone.

use super::{Framework, State, StateError};
use crate::ledger::Ledger;
use std::collections::BTreeSet;
use std::io;

/// Why a state was not written.
#[derive(Debug, thiserror::Error)]
pub enum FrozenError {
    /// The writer said so.
    #[error(transparent)]
    Write(io::Error),
    /// The serialiser failed.
    #[error(transparent)]
    State(StateError),
}

/// A state that does not change; only its snapshot can be had.
#[derive(Clone, Debug)]
pub struct Frozen(State);

impl State {
    /// As it is now. Takes time with the numbers of agents, blobs and live tasks, but not with what frameworks keep.
    pub fn freeze(&self) -> Frozen {
        // What is not written is not copied.
        Frozen(Self {
            version: self.version,
            term: self.term,
            now: self.now,
            bounds: self.bounds,
            frameworks: self.frameworks.clone(),
            names: self.names.clone(),
            agents: self.agents.clone(),
            agent_names: self.agent_names.clone(),
            blobs: self.blobs.clone(),
            modules: self.modules.clone(),
            ended_frameworks: self.ended_frameworks.clone(),
            last_framework: self.last_framework,
            last_agent: self.last_agent,
            digest: self.digest,
            policy: self.policy.clone(),
            provisions: self.provisions.clone(),
            pooled: self.pooled.clone(),
            ledger: Ledger::default(),
            retained: 0,
            retainers: BTreeSet::new(),
            bytes: 0,
        })
    }
}

impl Frozen {
    /// Writes it as a snapshot, bit by bit.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&self, writer: &mut impl io::Write) -> Result<(), FrozenError> {
        let mut kept = Kept { writer, failed: None };
        match (postcard::to_io(&self.0, &mut kept).map(drop), kept.failed) {
            (_, Some(error)) => Err(FrozenError::Write(error)),
            (Err(_unwritable), None) => Err(FrozenError::State(StateError::Body)),
            (Ok(()), None) => Ok(()),
        }
    }
}

/// Keeps the error that the serialiser does not pass on.
struct Kept<'a, W> {
    writer: &'a mut W,
    failed: Option<io::Error>,
}

impl<W: io::Write> io::Write for Kept<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes);
        written.map_err(|error| {
            let kind = error.kind();
            // Who is interrupted writes again.
            self.failed = Some(error).filter(|_| kind != io::ErrorKind::Interrupted);
            kind.into()
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A map to what is shared, written as if it were not.
pub(super) mod shared {
    use super::Framework;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use tepui_proto::FrameworkId;

    type Shared = BTreeMap<FrameworkId, Arc<Framework>>;

    pub(in super::super) fn serialize<S: Serializer>(
        map: &Shared,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_map(map.iter().map(|(id, framework)| (id, &**framework)))
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Shared, D::Error> {
        let map = BTreeMap::<FrameworkId, Framework>::deserialize(from)?;
        Ok(map.into_iter().map(|(id, framework)| (id, Arc::new(framework))).collect())
    }
}
