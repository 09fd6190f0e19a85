//! The console at a real terminal (a pty), with stand-ins for the box's processes that speak the real messages.

mod deeds;
mod screens;
mod session;
mod stand_in;
mod trouble;
