//! Does nothing, which is what is measured.

fn main() {}
