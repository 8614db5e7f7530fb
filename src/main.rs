//! argv → app → exit code.

fn main() {}
