//! `portcullis-control`: starts what the library holds.

fn main() {}
