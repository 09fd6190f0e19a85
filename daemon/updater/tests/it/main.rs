//! `portcullis-updater` as a process. As root: it mounts, and asks the kernel who speaks.

mod lab;
mod sticks;
mod updates;
