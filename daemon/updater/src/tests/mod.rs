//! Decisions against a disk in memory that can lose its power, lie, or be full.

mod losing;
mod make;
mod power_cuts;
mod refusals;
mod trials;
