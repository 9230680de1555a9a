//! What one sandbox may hold: the sum over all its memories and tables.
//!
//! Owns the count; never ends a guest itself. Its one surprise: it remembers that it refused something, because
//! what a guest does then (abort, panic, exit 1) does not show why.

use tepui_proto::limits;
use wasmtime::{Error, ResourceLimiter, Result};

/// Bytes that a table element is counted with.
const TABLE_ELEMENT_BYTES: usize = 8;

/// The bounds of one instance and what it holds.
#[derive(Debug)]
pub(crate) struct Limiter {
    limit: usize,
    /// Memories and tables, in bytes.
    held: usize,
    peak: usize,
    elements: usize,
    /// What was granted last, in case the growth fails after all.
    granted: usize,
    /// Whether memory was refused.
    pub(crate) refused_memory: bool,
    /// Whether table elements were refused.
    pub(crate) refused_table: bool,
}

impl Limiter {
    /// For so many bytes, but never more than [`limits::INSTANCE_MEMORY_BYTES_MAX`].
    pub(crate) fn new(memory_bytes: u64) -> Self {
        let limit = usize::try_from(memory_bytes.min(limits::INSTANCE_MEMORY_BYTES_MAX))
            .unwrap_or(usize::MAX);
        Self {
            limit,
            held: 0,
            peak: 0,
            elements: 0,
            granted: 0,
            refused_memory: false,
            refused_table: false,
        }
    }

    /// What is held now, in bytes.
    pub(crate) fn held(&self) -> u64 {
        self.held as u64
    }

    /// The most that was ever held, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.peak as u64
    }

    /// The limit, in bytes.
    pub(crate) fn limit(&self) -> u64 {
        self.limit as u64
    }

    fn take(&mut self, bytes: usize) -> bool {
        let Some(sum) = self.held.checked_add(bytes).filter(|sum| *sum <= self.limit) else {
            self.refused_memory = true;
            return false;
        };
        self.held = sum;
        self.peak = self.peak.max(sum);
        self.granted = bytes;
        true
    }

    fn give_back(&mut self) {
        self.held = self.held.saturating_sub(self.granted);
        self.granted = 0;
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        // Beyond the module's own maximum it is the module that refuses; the pool's slots count as a maximum too.
        if maximum
            .is_some_and(|most| desired > most && (most as u64) < limits::INSTANCE_MEMORY_BYTES_MAX)
        {
            return Ok(false);
        }
        Ok(self.take(desired.saturating_sub(current)))
    }

    fn memory_grow_failed(&mut self, _error: Error) -> Result<()> {
        self.refused_memory = true;
        self.give_back();
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool> {
        if maximum.is_some_and(|most| desired > most && most < limits::TABLE_ELEMENTS) {
            return Ok(false);
        }
        let more = desired.saturating_sub(current);
        if self.elements.saturating_add(more) > limits::TABLE_ELEMENTS {
            self.refused_table = true;
            return Ok(false);
        }
        let taken = self.take(more * TABLE_ELEMENT_BYTES);
        if taken {
            self.elements += more;
        }
        Ok(taken)
    }

    fn table_grow_failed(&mut self, _error: Error) -> Result<()> {
        self.refused_table = true;
        self.elements = self.elements.saturating_sub(self.granted / TABLE_ELEMENT_BYTES);
        self.give_back();
        Ok(())
    }

    fn instances(&self) -> usize {
        limits::INSTANCES
    }

    fn tables(&self) -> usize {
        limits::TABLES
    }

    fn memories(&self) -> usize {
        limits::MEMORIES
    }
}
