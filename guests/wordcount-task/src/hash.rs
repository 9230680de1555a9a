//! A hash without chance in it: the same input burns the same fuel in every run.

use std::hash::{BuildHasherDefault, Hasher};

/// Makes [`FnvHasher`]s.
pub(crate) type Fnv = BuildHasherDefault<FnvHasher>;

/// Fowler, Noll and Vo's, 64 bits, variant 1a. A tenant who makes its own words collide slows only itself.
pub(crate) struct FnvHasher(u64);

impl Default for FnvHasher {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for FnvHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
