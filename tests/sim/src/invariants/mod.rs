//! What must always be true, one file each.

pub mod books;
pub mod events;
pub mod finality;
pub mod launches;
pub mod replicas;
