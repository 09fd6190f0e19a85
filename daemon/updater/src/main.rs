#![forbid(unsafe_code)]
mod bless;
mod bundle;
mod disk;
mod entries;
mod install;
mod keys;
mod medium;
mod record;
mod settle;
mod version;
fn main() {}
