//! A digest of the state that is kept as it changes: the wrapping sum of a hash per object.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

/// The sum. The order of objects does not matter; each is taken away as it was added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StateDigest(u128);

impl StateDigest {
    pub(super) fn add<T: Serialize>(&mut self, object: &T) {
        self.0 = self.0.wrapping_add(hash(object));
    }

    pub(super) fn remove<T: Serialize>(&mut self, object: &T) {
        self.0 = self.0.wrapping_sub(hash(object));
    }

    /// For another object that is looked at in parts.
    pub(super) fn of<T: Serialize>(objects: impl IntoIterator<Item = T>) -> Self {
        let mut sum = Self::default();
        objects.into_iter().for_each(|object| sum.add(&object));
        sum
    }

    pub(super) fn sum(self) -> u128 {
        self.0
    }
}

/// Zero where the serialiser fails, which for these plain objects it does not; adding and removing stay each other's
/// inverse all the same.
fn hash<T: Serialize>(object: &T) -> u128 {
    let mut buffer = [0u8; 512];
    match postcard::to_slice(object, &mut buffer) {
        Ok(bytes) => xxh3_128(bytes),
        Err(_) => postcard::to_stdvec(object).map_or(0, |bytes| xxh3_128(&bytes)),
    }
}
