//! What must always be true, one file each.

pub mod books;
pub mod drained;
pub mod events;
pub mod finality;
pub mod launches;
pub mod limits;
pub mod pools;
pub mod replicas;
