//! WASI as a scheduler sees it: time stands still at the turn's `now`, chance comes from the turn's seed.
//!
//! Owns what makes a turn repeatable. No files, no network, no environment. Its one surprise: to sleep is to go on
//! at once, since within a turn no time passes.

use crate::scheduler::State;
use tepui_proto::limits;
use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime::{Result, bail};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::{clocks, random};
use wasmtime_wasi::p2::{DynPollable, Pollable, subscribe};

/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;

/// A stream of numbers from a seed (`SplitMix64`, Steele, Lea and Flood 2014).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        if length > limits::RANDOM_BYTES {
            bail!("at most {} random bytes a call", limits::RANDOM_BYTES);
        }
        let length = usize::try_from(length)?;
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// All of WASI preview 2, with clocks and chance replaced.
pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    clocks::wall_clock::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    clocks::monotonic_clock::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    random::random::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    random::insecure::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    random::insecure_seed::add_to_linker::<State, HasSelf<State>>(linker, |state| state)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl clocks::wall_clock::Host for State {
    fn now(&mut self) -> Result<clocks::wall_clock::Datetime> {
        let nanoseconds = u32::try_from(self.now.0 % 1_000 * MS)?;
        Ok(clocks::wall_clock::Datetime { seconds: self.now.0 / 1_000, nanoseconds })
    }

    fn resolution(&mut self) -> Result<clocks::wall_clock::Datetime> {
        Ok(clocks::wall_clock::Datetime { seconds: 0, nanoseconds: u32::try_from(MS)? })
    }
}

/// Ready at once.
struct Now;

#[async_trait]
impl Pollable for Now {
    async fn ready(&mut self) {
        // A guest that sleeps in a loop must give way like any other.
        tokio::task::coop::consume_budget().await;
    }
}

impl clocks::monotonic_clock::Host for State {
    fn now(&mut self) -> Result<u64> {
        Ok(self.now.0.saturating_mul(MS))
    }

    fn resolution(&mut self) -> Result<u64> {
        Ok(MS)
    }

    fn subscribe_instant(&mut self, _when: u64) -> Result<Resource<DynPollable>> {
        let now = self.table.push(Now)?;
        subscribe(&mut self.table, now)
    }

    fn subscribe_duration(&mut self, _span: u64) -> Result<Resource<DynPollable>> {
        let now = self.table.push(Now)?;
        subscribe(&mut self.table, now)
    }
}

impl random::random::Host for State {
    fn get_random_bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        self.chance.bytes(length)
    }

    fn get_random_u64(&mut self) -> Result<u64> {
        Ok(self.chance.next())
    }
}

impl random::insecure::Host for State {
    fn get_insecure_random_bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        self.chance.bytes(length)
    }

    fn get_insecure_random_u64(&mut self) -> Result<u64> {
        Ok(self.chance.next())
    }
}

impl random::insecure_seed::Host for State {
    fn insecure_seed(&mut self) -> Result<(u64, u64)> {
        Ok((self.chance.next(), self.chance.next()))
    }
}
